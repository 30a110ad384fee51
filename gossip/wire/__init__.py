"""Messages to bytes and back; nothing a stranger sends costs more than its own length."""

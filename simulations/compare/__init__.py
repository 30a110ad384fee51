"""Algorithms side by side: equal tokens, equal data, one process, no sockets."""

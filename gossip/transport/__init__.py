"""Moving messages between peers; the only network input and output."""

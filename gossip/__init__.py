"""The protocol: no clock, no thread, no global randomness; sockets only in transport."""

"""WHERE a key lives: consistent hashing."""

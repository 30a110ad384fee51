"""Many peers: virtual swarms from one seed, and real processes on this machine."""

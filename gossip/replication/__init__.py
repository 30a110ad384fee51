"""HOW MANY copies there are, and who reads which shard."""

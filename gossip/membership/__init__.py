"""WHO is here: SWIM membership over lattice records."""

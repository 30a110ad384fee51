"""How a swap crosses: offer, pull, reply, pull, done. Pure machines."""

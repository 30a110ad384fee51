"""One seed for a whole world: every part that draws gets a generator of its own, by name.

A part's draws then never depend on what the others drew: adding a peer or a fault leaves the
random numbers of all others as they were.
"""

from __future__ import annotations

import hashlib
import random


def derive(seed: int, *names: object) -> int:
    """A 64-bit seed for the part with these names; the same in every process.

    Not ``hash()``, which differs between processes (PYTHONHASHSEED).
    """
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def generator(seed: int, *names: object) -> random.Random:
    """A generator for the part with these names."""
    return random.Random(derive(seed, *names))

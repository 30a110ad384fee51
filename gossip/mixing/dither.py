"""Where the random rounding of a code comes from: the exchange it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, TypeAlias

from gossip.messages import Transfer

SEED_BYTES: Final = 4

Seeds: TypeAlias = Callable[[int], int]
"""From the index of a chunk to the seed of its rounding."""


def seeds_of(transfer: Transfer) -> Seeds:
    """The seeds, of 32 bits, of a blob's chunks.

    They follow from what both sides and a simulator know of the blob, so nothing is added to the
    wire and a run can be repeated; each blob, and each chunk of it, draws on its own.
    """
    (initiator, boot, seq), leg = transfer
    blob = f"{initiator} {boot} {seq} {int(leg)}"

    def seed(chunk: int) -> int:
        text = f"{blob} {chunk}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=SEED_BYTES).digest(), "little")

    return seed

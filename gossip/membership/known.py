"""What a peer may know from the start: a whole swarm in steady state, shared by all that do.

A simulation of thousands of peers does not begin with thousands of joins. It begins with everyone
knowing everyone, in one lineage, and the common knowledge is kept once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gossip.membership.account import Accounts
from gossip.membership.ground import Ground
from gossip.membership.rings import Around
from gossip.messages import NO_LINEAGE, PeerId, Phase, Progress, Record


@dataclass(frozen=True, slots=True)
class Known:
    """Everyone's records and accounts; never changed by those who stand on it."""

    ground: Ground
    accounts: Accounts
    lineage: bytes

    @staticmethod
    def of(records: Sequence[Record], observers: int, lineage: bytes = NO_LINEAGE) -> Known:
        """A swarm of these members, none with a sample yet: all of one lineage, or of none."""
        progress = [_starting(record.peer, record.boot, lineage) for record in records]
        return Known(Ground.of(records, observers // 2, Around()), Accounts.of(progress), lineage)


def _starting(peer: PeerId, boot: int, lineage: bytes) -> Progress:
    phase = Phase.TRAINING if lineage else Phase.JOINING
    return Progress(peer, boot, 1, 0, lineage, phase)

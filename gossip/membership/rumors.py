"""News: claims on their way through the swarm, each sent a bounded number of times.

SWIM's infection-style dissemination (Das et al., DSN 2002, section 4.1) along the watch graph: a
claim is sent to each watch neighbor in turn, least-sent first, so what is new is never starved by
what is old, and at most factor ceil(log10(N + 1)) times. A newer claim about the same subject
takes the place of the older one.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import Generic, TypeVar

from gossip.messages import Evidence, PeerId, Progress, Record, Rumors

CLAIMS_PER_MESSAGE = 512
"""Most records, and most progress items, that ride on one message (about 70 KB together)."""

Claim = TypeVar("Claim")


def transmissions(factor: int, members: int) -> int:
    """How often one peer sends one claim at most in a group of ``members``, itself included."""
    return factor * math.ceil(math.log10(members + 1))


class RumorQueue(Generic[Claim]):
    """One claim a subject and how often it was sent; least-sent first, then the oldest.

    Invariant: a subject is in exactly one of the buckets, the one numbered by its sends.
    """

    def __init__(self) -> None:
        self._by_sends: list[dict[PeerId, Claim]] = []
        self.sends: dict[PeerId, int] = {}
        """How often each claim was sent; to be read."""

    def __len__(self) -> int:
        return len(self.sends)

    def push(self, subject: PeerId, claim: Claim) -> None:
        """Make this the news about its subject, not sent yet."""
        if subject in self.sends:
            del self._by_sends[self.sends[subject]][subject]
        self._place(subject, claim, 0)

    def take(self, limit: int, sends_max: int) -> list[Claim]:
        """Up to ``limit`` claims to send now; each is counted as sent, and dropped at the most."""
        chosen: list[tuple[PeerId, int]] = []
        for sends, bucket in enumerate(self._by_sends):
            chosen += [(subject, sends) for subject in islice(bucket, limit - len(chosen))]
        claims: list[Claim] = []
        for subject, sends in chosen:
            claim = self._by_sends[sends].pop(subject)
            del self.sends[subject]
            claims.append(claim)
            if sends + 1 < sends_max:
                self._place(subject, claim, sends + 1)
        return claims

    def _place(self, subject: PeerId, claim: Claim, sends: int) -> None:
        while len(self._by_sends) <= sends:
            self._by_sends.append({})
        self._by_sends[sends][subject] = claim
        self.sends[subject] = sends


class News:
    """What this peer has to pass on: records with what they stand on, and progress."""

    def __init__(self, factor: int) -> None:
        self._factor = factor
        self.records: RumorQueue[tuple[Record, Evidence | None]] = RumorQueue()
        self.progress: RumorQueue[Progress] = RumorQueue()

    def __len__(self) -> int:
        return len(self.records) + len(self.progress)

    def add_record(self, record: Record, evidence: Evidence | None = None) -> None:
        """A claim that won here is news about its subject."""
        self.records.push(record.peer, (record, evidence))

    def add_progress(self, progress: Progress) -> None:
        """An account that won here is news about its peer."""
        self.progress.push(progress.peer, progress)

    def take(self, members: int, neighbors: int) -> Rumors:
        """What to send along with one message; counts it as sent.

        In a group of ``members``, once to each of ``neighbors``; to few neighbors several times.
        """
        sends_max = transmissions(self._factor, members)
        sends_max = min(sends_max, max(neighbors, self._factor))
        told = self.records.take(CLAIMS_PER_MESSAGE, sends_max)
        return Rumors(
            tuple([record for record, _ in told]),
            tuple(self.progress.take(CLAIMS_PER_MESSAGE, sends_max)),
            tuple([evidence for _, evidence in told if evidence is not None]),
        )

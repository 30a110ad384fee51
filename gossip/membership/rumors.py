"""News: claims on their way through the swarm, each sent a bounded number of times.

SWIM's infection-style dissemination (Das et al., DSN 2002, section 4.1) along the watch graph: a
claim is sent to each watch neighbor in turn, least-sent first, so what is new is never starved by
what is old, and at most factor ceil(log10(N + 1)) times, or, where some only dial out, once to each
neighbor. A newer claim about the same subject takes the place of the older one.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import Final, Generic, TypeVar

from gossip.messages import Evidence, PeerId, Progress, Record, Rumors, Status

CLAIMS_PER_MESSAGE: Final = 512
"""Most records, and most progress items, that ride on one message (about 70 KB together)."""

Claim = TypeVar("Claim")


def transmissions(factor: int, members: int) -> int:
    """How often one peer sends one claim at most in a group of ``members``, itself included."""
    return factor * math.ceil(math.log10(members + 1))


class RumorQueue(Generic[Claim]):
    """One claim a subject and how often it was sent; least-sent first, then the oldest.

    Invariant: ``_by_sends[n]`` holds the claims sent n times, each subject in one of them, and
    ``count`` is how many there are.
    """

    __slots__ = ("_by_sends", "count")

    def __init__(self) -> None:
        self._by_sends: dict[int, dict[PeerId, Claim]] = {}
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def push(self, subject: PeerId, claim: Claim) -> None:
        """Make this the news about its subject, not sent yet."""
        for bucket in self._by_sends.values():
            if subject in bucket:
                del bucket[subject]
                self.count -= 1
        unsent = self._by_sends.get(0)
        if unsent is None:
            self._by_sends[0] = {subject: claim}
        else:
            unsent[subject] = claim
        self.count += 1

    def take(self, limit: int, sends_max: int, copies: int = 1) -> list[Claim]:
        """Up to ``limit`` claims to send to so many peers now; each is counted as sent to all of
        them, and dropped at the most. So is, unsent, what has been sent as often as is enough by
        now: with fewer neighbors that is less."""
        claims: list[Claim] = []
        before, after = self._by_sends, dict[int, dict[PeerId, Claim]]()
        room = limit
        for sends in sorted(before):
            bucket = before[sends]
            if sends >= sends_max:
                break
            going = bucket
            if room < len(bucket):  # what was sent less went first
                going = {peer: bucket[peer] for peer in islice(bucket, max(0, room))}
                staying = {peer: bucket[peer] for peer in bucket if peer not in going}
                after[sends] = staying | after.get(sends, {})
            room -= len(bucket)
            claims += going.values()
            if going and sends + copies < sends_max:
                after[sends + copies] = going
        self._by_sends = after
        self.count = sum([len(bucket) for bucket in after.values()])
        return claims


class News:
    """What this peer has to pass on: records with what they stand on, and progress."""

    __slots__ = ("_factor", "is_urgent", "progress", "records")

    def __init__(self, factor: int) -> None:
        self._factor = factor
        self.is_urgent = False
        """Whether a verdict came since that was last asked: it is not to wait for its round."""
        self.records: RumorQueue[tuple[Record, Evidence | None]] = RumorQueue()
        self.progress: RumorQueue[Progress] = RumorQueue()

    def __len__(self) -> int:
        return self.records.count + self.progress.count

    def add_record(self, record: Record, evidence: Evidence | None = None) -> None:
        """A claim that won here is news about its subject."""
        self.records.push(record.peer, (record, evidence))
        if record.status is Status.DOWN:
            self.is_urgent = True

    def add_progress(self, progress: Progress) -> None:
        """An account that won here is news about its peer."""
        self.progress.push(progress.peer, progress)

    def take(self, members: int, neighbors: int, hidden: int, copies: int) -> Rumors:
        """What to send to ``copies`` peers now; counts it as sent to all of them.

        In a group of ``members``, once to each of ``neighbors``, as far as ``transmissions``
        allow; to few neighbors several times. Neighbors that cannot be dialed (``hidden``) have
        nobody else to hear it from: where there are some, each neighbor is told.
        """
        rounds = math.ceil(max(neighbors, self._factor) / copies)
        most = rounds if hidden else transmissions(self._factor, members) // copies
        sends_max = copies * max(1, min(rounds, most))
        self.is_urgent = False
        told = self.records.take(CLAIMS_PER_MESSAGE, sends_max, copies)
        return Rumors(
            tuple([record for record, _ in told]),
            tuple(self.progress.take(CLAIMS_PER_MESSAGE, sends_max, copies)),
            tuple([evidence for _, evidence in told if evidence is not None]),
        )

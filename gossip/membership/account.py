"""What every peer trained, so that progress is the swarm's and a restart loses no sample.

One entry for each (peer, boot) ever heard of; ``merge_progress`` says which claim wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from gossip.membership.records import merge_progress
from gossip.messages import NO_LINEAGE, PeerId, Progress

Entry: TypeAlias = tuple[PeerId, int]
"""A peer in one of its boots."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """Accounts that many peers of one process share; never changed."""

    entries: dict[Entry, Progress] = field(default_factory=dict)
    newest: dict[PeerId, Progress] = field(default_factory=dict)
    totals: dict[bytes, int] = field(default_factory=dict)
    any_lineage: bool = False

    @staticmethod
    def of(progress: Iterable[Progress]) -> Accounts:
        """What an account that heard all this holds."""
        account = Account(1 << 62)
        for each in progress:
            account.put(each)
        return account.shared()


class Account:
    """The accounts one peer knows: its own changes over a shared ground."""

    __slots__ = (
        "_count",
        "_entries",
        "_entries_max",
        "_ground",
        "_newest",
        "_totals",
        "any_lineage",
    )

    def __init__(self, entries_max: int, ground: Accounts | None = None) -> None:
        self._entries_max = entries_max
        self._ground = ground or Accounts()
        self._entries: dict[Entry, Progress] = {}
        self._newest: dict[PeerId, Progress] = {}
        self._totals = dict(self._ground.totals)
        self._count = len(self._ground.entries)
        self.any_lineage = self._ground.any_lineage
        """Whether anybody was ever heard to have a model."""

    def _get(self, key: Entry) -> Progress | None:
        return self._entries.get(key) or self._ground.entries.get(key)

    def of(self, peer: PeerId, boot: int) -> Progress | None:
        """The account of one boot of a peer."""
        return self._get((peer, boot))

    def has_room(self, progress: Progress) -> bool:
        """Whether this entry can be taken."""
        known = self._get((progress.peer, progress.boot)) is not None
        return known or self._count < self._entries_max

    def put(self, progress: Progress) -> bool:
        """Merge one entry; True when it won. For others' entries, ask for room first."""
        key = (progress.peer, progress.boot)
        before = self._get(key)
        if before is not None:
            if before is progress or merge_progress(before, progress) == before:
                return False
            self._add(before.lineage, -before.samples)
        else:
            self._count += 1
        self._entries[key] = progress
        self.any_lineage = self.any_lineage or progress.lineage != NO_LINEAGE
        self._add(progress.lineage, progress.samples)
        newest = self.newest(progress.peer)
        if newest is None or progress.boot >= newest.boot:
            self._newest[progress.peer] = progress
        return True

    def _add(self, lineage: bytes, samples: int) -> None:
        total = self._totals.get(lineage, 0) + samples
        if total:
            self._totals[lineage] = total
        else:
            self._totals.pop(lineage, None)

    def newest(self, peer: PeerId) -> Progress | None:
        """The account of the peer's newest boot."""
        return self._newest.get(peer) or self._ground.newest.get(peer)

    def total(self, lineage: bytes) -> int:
        """Samples trained on under one lineage, by all peers in all boots; 0 for no lineage."""
        return 0 if lineage == NO_LINEAGE else self._totals.get(lineage, 0)

    def all(self, most: int | None = None) -> tuple[Progress, ...]:
        """Every entry, sorted by peer, then boot; if only so many, those of the newest boots."""
        entries = self._ground.entries | self._entries
        keys = sorted(entries)
        if most is not None and len(keys) > most:
            newest = [key for key in keys if self.newest(key[0]) is entries[key]]
            keys = sorted((newest + [key for key in keys if key not in newest])[:most])
        return tuple(entries[key] for key in keys)

    def shared(self) -> Accounts:
        """All of it as a ground for others; it must not be changed afterwards."""
        ground = self._ground
        return Accounts(
            ground.entries | self._entries,
            ground.newest | self._newest,
            dict(self._totals),
            self.any_lineage,
        )

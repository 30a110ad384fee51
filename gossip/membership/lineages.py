"""Who belongs to which lineage, and when to change sides (gossip/README.md, rule 8). Pure."""

from __future__ import annotations

from gossip.membership.swim import Swim
from gossip.messages import NO_LINEAGE, PeerId, Phase, Seconds


class Lineages:
    """What the members' gossiped progress says about lineages; holds no state of its own."""

    __slots__ = ("_swim",)

    def __init__(self, swim: Swim) -> None:
        self._swim = swim

    def of(self, peer: PeerId) -> bytes:
        """The lineage a member says it belongs to."""
        progress = self._swim.progress_of(peer)
        return NO_LINEAGE if progress is None else progress.lineage

    def phase(self, peer: PeerId) -> Phase:
        """Where a member says it stands."""
        progress = self._swim.progress_of(peer)
        return Phase.JOINING if progress is None else progress.phase

    def live(self, lineage: bytes) -> list[PeerId]:
        """Live members of a lineage, without me, sorted."""
        return self._select(self._swim.live(), lineage)

    def reachable(self, lineage: bytes) -> list[PeerId]:
        """Members of a lineage that answer, without me, sorted."""
        return self._select(self._swim.reachable(), lineage)

    def nobody_has_one(self) -> bool:
        """Whether no live member has a model."""
        return all(self.of(peer) == NO_LINEAGE for peer in self._swim.live())

    def better_than(self, mine: bytes) -> bytes:
        """The reachable lineage that should replace ``mine``, or NO_LINEAGE.

        More samples win, then the lower id; anything is better than having none.
        """
        seen = {self.of(peer): None for peer in self._swim.reachable()}
        foreign = [each for each in seen if each not in (NO_LINEAGE, mine)]
        if not foreign:
            return NO_LINEAGE
        best = min(foreign, key=self._standing)
        if mine != NO_LINEAGE and self._standing(mine) < self._standing(best):
            return NO_LINEAGE
        return best

    def share(self, peer: PeerId, now: Seconds) -> float:
        """A member's share of the data beside others', by its capacity; none for one that went
        and came back too often lately."""
        record = self._swim.record(peer)
        if record is None or (peer != self._swim.me.peer and not self._swim.is_steady(peer, now)):
            return 0.0
        return record.capacity

    def _standing(self, lineage: bytes) -> tuple[int, bytes]:
        return (-self._swim.samples_total(lineage), lineage)

    def _select(self, peers: list[PeerId], lineage: bytes) -> list[PeerId]:
        return [peer for peer in peers if lineage != NO_LINEAGE and self.of(peer) == lineage]

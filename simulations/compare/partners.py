"""Who meets whom in a round, as rows."""

from __future__ import annotations

import random
from enum import Enum

from gossip.messages import PeerId
from gossip.topology.schedule import (
    exponential_neighbors,
    least_recent_matching,
    matching,
    one_peer_exponential,
)


class Meeting(Enum):
    """NEIGHBORS: of the neighbors in the exponential graph whom one met longest ago, as real peers
    choose (but for every sixteenth swap). RECENT: the same of all. RANDOM: a fresh random matching
    each round. EXPONENTIAL: the one-peer exponential graph, agreed on. RING: left and right
    neighbor in turn; of an odd number one rests each round, the next one the round after."""

    NEIGHBORS = "neighbors"
    RECENT = "recent"
    RANDOM = "random"
    EXPONENTIAL = "exponential"
    RING = "ring"


def groups_of(peers: int, size: int, rng: random.Random) -> list[list[int]]:
    """A random partition into groups of ``size``; what is left over joins no group if alone."""
    shuffled = list(range(peers))
    rng.shuffle(shuffled)
    groups = [sorted(shuffled[start : start + size]) for start in range(0, peers, size)]
    return [group for group in groups if len(group) > 1]


class Meetings:
    """The pairs of one round after another."""

    def __init__(self, peers: int, meeting: Meeting, rng: random.Random) -> None:
        self._names = [PeerId(f"{peer:016x}") for peer in range(peers)]
        self._meeting = meeting
        self._rng = rng
        self._round = 0
        self._met: dict[tuple[PeerId, PeerId], int] = {}
        self._neighbors = {
            me: exponential_neighbors([name for name in self._names if name != me], me)
            for me in self._names
        }

    def next(self) -> list[tuple[int, int]]:
        """The next round's; the first of each pair opens the swap (drawn, so that roles mix)."""
        pairs = [(int(a, 16), int(b, 16)) for a, b in self._pairs()]
        self._round += 1
        return [pair if self._rng.random() < 0.5 else (pair[1], pair[0]) for pair in pairs]

    def forget(self, pair: tuple[int, int]) -> None:
        """The pair did not come to swap: it has still not met, and is among the next to."""
        first, second = (self._names[row] for row in pair)
        self._met.pop((first, second), None)
        self._met.pop((second, first), None)

    def _pairs(self) -> list[tuple[PeerId, PeerId]]:
        match self._meeting:
            case Meeting.NEIGHBORS:
                return list(
                    least_recent_matching(
                        self._names, self._met, self._round, self._rng, self._neighbors
                    )
                )
            case Meeting.RECENT:
                return list(least_recent_matching(self._names, self._met, self._round, self._rng))
            case Meeting.RANDOM:
                return list(matching(self._names, self._rng))
            case Meeting.EXPONENTIAL:
                met = [
                    (name, one_peer_exponential(self._names, name, self._round))
                    for name in self._names
                ]
                return [(a, b) for a, b in met if b is not None and a < b]
            case Meeting.RING:
                return self._ring()

    def _ring(self) -> list[tuple[PeerId, PeerId]]:
        names, count = self._names, len(self._names)
        start = self._round % (count if count % 2 else 2)
        places = range(start, start + count - 1, 2)
        return [(names[place % count], names[(place + 1) % count]) for place in places]

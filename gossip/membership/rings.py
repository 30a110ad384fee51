"""Who watches whom: every member has a place on several rings, and watches its neighbors there.

On each ring members stand in the order of a hash of their own, so the neighbors of a peer are
random, known to everyone who knows the members, and the same seen from either side. A few rings
make an expander: news that goes to all neighbors reaches everybody in a few hops, whoever is down.
Whoever asks walks outward from a place: members that cannot be dialed are passed by, since two of
them could never link, and are watched by the first that can on either side.

Source: the K-ring monitoring topology of Suresh et al., "Stable and consistent membership at scale
with Rapid", USENIX ATC 2018, section 4.1.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Container, Iterable
from functools import lru_cache
from typing import Final

from gossip.messages import PeerId

RINGS_MAX: Final = 8
"""One 64-byte hash gives a member's places on all of them."""

REMEMBERED_MAX: Final = 1 << 16
"""Answers kept in one memory of who stands around whom."""

_CIRCLE: Final = (1 << 64) - 1
_PERSON: Final = b"gossip-rings-1"


@lru_cache(maxsize=1 << 18)
def places(peer: PeerId) -> tuple[int, ...]:
    """Where a member stands on each ring, 0 .. 2^64 - 1."""
    digest = hashlib.blake2b(peer.encode(), digest_size=8 * RINGS_MAX, person=_PERSON).digest()
    return tuple(int.from_bytes(digest[at : at + 8], "big") for at in range(0, len(digest), 8))


class Ring:
    """Some members in the order of one ring. Invariant: ``places`` rises, ``peers`` beside it."""

    __slots__ = ("_ahead", "_behind", "number", "peers", "places")

    def __init__(self, number: int, peers: Iterable[PeerId] = ()) -> None:
        self.number = number
        standing = sorted((places(peer)[number], peer) for peer in peers)
        self.places = [place for place, _ in standing]
        self.peers = [peer for _, peer in standing]
        self._ahead: dict[int, tuple[int, PeerId] | None] = {}
        self._behind: dict[int, tuple[int, PeerId] | None] = {}

    def add(self, peer: PeerId) -> None:
        """A member takes its place."""
        place = places(peer)[self.number]
        at = bisect_left(self.places, place)
        self.places.insert(at, place)
        self.peers.insert(at, peer)
        self._forget()

    def remove(self, peer: PeerId) -> None:
        """A member leaves its place."""
        at = bisect_left(self.places, places(peer)[self.number])
        while self.peers[at] != peer:  # another may stand on the very same place
            at += 1
        del self.places[at], self.peers[at]
        self._forget()

    def _forget(self) -> None:
        self._ahead.clear()
        self._behind.clear()

    def next_to(self, place: int, clockwise: bool) -> tuple[int, PeerId] | None:
        """The same as ``walk`` with nobody skipped; remembered, as many ask for the same."""
        known = self._ahead if clockwise else self._behind
        if place not in known:
            known[place] = self.walk(place, clockwise, ())
        return known[place]

    def walk(
        self, place: int, clockwise: bool, skipped: Container[PeerId]
    ) -> tuple[int, PeerId] | None:
        """The distance and name of the next member from a place, not counting who stands there
        or is ``skipped``; None when there is none."""
        count = len(self.peers)
        if not count:
            return None
        at = bisect_right(self.places, place) if clockwise else bisect_left(self.places, place) - 1
        step = 1 if clockwise else -1
        for _ in range(count):
            at = at % count
            peer, there = self.peers[at], self.places[at]
            if there != place and peer not in skipped:
                return ((there - place if clockwise else place - there) & _CIRCLE), peer
            at += step
        return None


class Around:
    """Who stands around whom, as found by any of those that stand on one ground.

    They hear the same claims at about the same time, so most ask what another has asked just now.
    ``change`` tells their sets of members apart: the exclusive or of the first places of all who
    came and went since. It is no proof against peers that choose their ids: it is for simulations.
    """

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[tuple[int, PeerId], list[PeerId]] = {}

    def get(self, change: int, peer: PeerId) -> list[PeerId] | None:
        """Not to be changed by the reader."""
        return self._found.get((change, peer))

    def put(self, change: int, peer: PeerId, found: list[PeerId]) -> None:
        """Remember one; so many are an age of news."""
        if len(self._found) >= REMEMBERED_MAX:
            self._found.clear()
        self._found[change, peer] = found


class Standing:
    """A changing set of members on all rings: a shared ground, less who is gone, plus who joined.

    ``ground`` is never changed, so many peers of one process may stand on the same one, and share
    a memory of who stands around whom. Where another has asked already, those who joined need no
    places here: they take them when they are first asked about (``_seated``).
    """

    __slots__ = ("_around", "_change", "_coming", "_gone", "_ground", "_joined")

    def __init__(self, ground: tuple[Ring, ...], around: Around | None = None) -> None:
        assert 1 <= len(ground) <= RINGS_MAX
        self._ground = ground
        self._around = around
        self._change = 0
        self._joined: tuple[Ring, ...] = ()
        # Who joined and has no place yet.
        self._coming: dict[PeerId, None] = {}
        self._gone: dict[PeerId, None] = {}

    def add(self, peer: PeerId, in_ground: bool) -> None:
        """A member is here (again)."""
        self._change ^= places(peer)[0]
        if in_ground:
            self._gone.pop(peer, None)
        else:
            self._coming[peer] = None

    def remove(self, peer: PeerId, in_ground: bool) -> None:
        """A member is gone."""
        self._change ^= places(peer)[0]
        if in_ground:
            self._gone[peer] = None
        elif peer in self._coming:
            del self._coming[peer]
        else:
            for ring in self._joined:
                ring.remove(peer)

    @property
    def gone_count(self) -> int:
        """How many of the ground are gone."""
        return len(self._gone)

    def _seated(self) -> tuple[Ring, ...]:
        """Who joined, on rings of their own."""
        if not self._joined:
            self._joined = tuple(Ring(ring.number) for ring in self._ground)
        for peer in self._coming:
            for ring in self._joined:
                ring.add(peer)
        self._coming.clear()
        return self._joined

    def around(self, peer: PeerId, passed: Collection[PeerId], wants_passed: bool) -> list[PeerId]:
        """The neighbors of a peer on all rings, both ways, in ring order, each once.

        Members in ``passed`` are passed by until one is found that is not; on the way they are
        taken along if they are wanted.
        """
        if self._around is None or passed:
            return self._find_around(peer, passed, wants_passed)
        found = self._around.get(self._change, peer)
        if found is None:
            found = self._find_around(peer, passed, wants_passed)
            self._around.put(self._change, peer, found)
        return list(found)

    def _find_around(
        self, peer: PeerId, passed: Collection[PeerId], wants_passed: bool
    ) -> list[PeerId]:
        found: dict[PeerId, None] = {}
        standing = places(peer)
        for ground, joined in zip(self._ground, self._seated(), strict=True):
            for clockwise in (True, False):
                place, walked = standing[ground.number], 0
                while walked <= _CIRCLE:
                    here = ground.next_to(place, clockwise)
                    if here is not None and here[1] in self._gone:
                        here = ground.walk(place, clockwise, self._gone)
                    new = joined.walk(place, clockwise, ()) if joined.peers else None
                    nearest = here if new is None or (here is not None and here < new) else new
                    if nearest is None or nearest[1] == peer:
                        break
                    distance, neighbor = nearest
                    walked += distance
                    if neighbor not in passed:
                        found[neighbor] = None
                        break
                    if wants_passed:
                        found[neighbor] = None
                    place = (place + distance if clockwise else place - distance) & _CIRCLE
        found.pop(peer, None)
        return list(found)

    def is_between(self, peer: PeerId, neighbors: list[PeerId], place_of: PeerId) -> bool:
        """Whether ``peer`` stands nearer to ``place_of`` than one of its neighbors does, on some
        ring and side: then it would be one itself."""
        return _is_between(peer, tuple(neighbors), place_of, len(self._ground))


@lru_cache(maxsize=1 << 16)
def _is_between(peer: PeerId, neighbors: tuple[PeerId, ...], place_of: PeerId, rings: int) -> bool:
    """See ``Standing``. Remembered: a claim that waits is weighed again and again."""
    there, mine = places(peer), places(place_of)
    others = [places(each) for each in neighbors]
    for number in range(rings):
        ahead = (there[number] - mine[number]) & _CIRCLE
        behind = (mine[number] - there[number]) & _CIRCLE
        if all(ahead < (each[number] - mine[number]) & _CIRCLE for each in others):
            return True
        if all(behind < (mine[number] - each[number]) & _CIRCLE for each in others):
            return True
    return False

"""What is true about each peer of a world, whatever the peers believe."""

from __future__ import annotations

from dataclasses import dataclass, field

from gossip.messages import PeerId, Record, Seconds
from simulations.simulated_peer import SimulatedPeer

Version = tuple[int, int]
"""Boot and incarnation."""

NEVER: Version = (-1, -1)


@dataclass(slots=True)
class Subject:
    """One peer in all its lives.

    ``issued`` is the largest version of itself it ever made known, ``ended`` the largest that a
    life had which is over; ``records`` are those it was seen with, ``alike`` others that were
    compared with them, by ``id``, and say the same; ``held_down`` are the versions that
    some peer holds down, ``doubted_at_s`` when each was first suspected by anybody;
    ``cut_off`` those that were held down first when their subject could not be heard;
    ``bade_farewell`` says that this life sent a word of its leave to somebody.
    ``spoken`` are the versions of itself that the present or last life made known, ``ends`` when
    lives that made one known were over: since then that version is silent.
    """

    life: SimulatedPeer
    issued: Version = NEVER
    ended: Version = NEVER
    ended_at_s: Seconds = 0.0
    doubted: bool = False
    bade_farewell: bool = False
    records: dict[Version, Record] = field(default_factory=dict)
    alike: dict[int, Record] = field(default_factory=dict)
    held_down: dict[Version, None] = field(default_factory=dict)
    cut_off: dict[Version, None] = field(default_factory=dict)
    doubted_at_s: dict[Version, Seconds] = field(default_factory=dict)
    spoken: dict[Version, None] = field(default_factory=dict)
    ends: dict[Version, tuple[Seconds, ...]] = field(default_factory=dict)

    def silent_since(self, version: Version, doubted_at_s: Seconds) -> Seconds:
        """When the life ended whose version was doubted then. Without its disk a peer comes back in
        a version that it had before: the doubt is of the last life that was over by then."""
        ends = self.ends.get(version, (self.ended_at_s,))
        return max((each for each in ends if each <= doubted_at_s), default=ends[0])

    def issue(self, record: Record) -> None:
        """It made a record of itself known."""
        version = (record.boot, record.incarnation)
        self.issued = max(self.issued, version)
        self.records.setdefault(version, record)
        self.spoken[version] = None


class Truth:
    """Subjects by id."""

    def __init__(self) -> None:
        self.subjects: dict[PeerId, Subject] = {}

    def began(self, life: SimulatedPeer) -> Subject:
        """A life began."""
        subject = self.subjects.get(life.me.peer)
        if subject is None:
            subject = self.subjects[life.me.peer] = Subject(life)
        subject.life = life
        subject.bade_farewell = False
        subject.spoken.clear()
        subject.issue(life.me)
        return subject

    def ended(self, life: SimulatedPeer, now: Seconds) -> None:
        """A life ended: whatever is said about it from now on is right."""
        subject = self.subjects[life.me.peer]
        subject.ended = subject.issued
        subject.ended_at_s = now
        for version in subject.spoken:
            subject.ends[version] = (*subject.ends.get(version, ()), now)
        subject.doubted = False

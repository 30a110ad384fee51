"""What must be true once nothing has gone wrong for a while.

    M8, M23  everybody that runs is alive, in its own newest version, in everybody's eyes
    M10      who ended without a farewell is down, or forgotten
    M19      who left is left, or forgotten; or down, if no word of it came to anybody who is here
    M22      news of a new life reaches everybody within ceil(log2 N) + 3 rounds (measured)
    M25      with nothing new, nobody gossips
    M26      messages a second and peer stay within the bound, whatever N
    M27      nobody knows more peers than there ever were

Looking at all pairs costs N squared, so with many peers only some look at all others; and a look
begins with the pair that failed the last time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gossip.messages import PeerId, Record, Seconds, Status
from simulations.rules import BrokenRule
from simulations.simulated_peer import SimulatedPeer
from simulations.truth import Subject, Truth
from simulations.world import World

OBSERVERS_MAX = 200
"""So many look at all others; they are spread evenly over all numbers."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One peer sees another otherwise than it is."""

    rule: str
    observer: SimulatedPeer
    text: str

    def broken(self, now: Seconds) -> BrokenRule:
        """As an error."""
        text = f"{self.observer.name} {self.text}"
        return BrokenRule(text, self.rule, now, self.observer.me.peer)


class Agreement:
    """Whether all that run see all others as they are."""

    def __init__(self, world: World, truth: Truth) -> None:
        self._world = world
        self._truth = truth
        self._last: tuple[SimulatedPeer, PeerId] | None = None

    def first_disagreement(self) -> Disagreement | None:
        """The first that is found, or None."""
        if self._last is not None:
            observer, peer = self._last
            if observer.running and observer in self._observers():
                found = self._look(observer, peer, self._truth.subjects[peer])
                if found is not None:
                    return found
        expected = [(subject, *shown(subject)) for subject in self._truth.subjects.values()]
        for observer in self._observers():
            swim = observer.core.swim
            for subject, peer, is_shown in expected:
                if swim.record(peer) is is_shown:
                    continue  # the very record that it should be: nearly all are
                found = self._look(observer, peer, subject)
                if found is not None:
                    self._last = (observer, peer)
                    return found
            live = swim.live_count()
            if live >= len(self._truth.subjects):
                text = f"knows {live} others, {len(self._truth.subjects)} peers ever were"
                return Disagreement("M27", observer, text)
        return None

    def all_disagreements(self) -> Iterator[Disagreement]:
        """Every one of the peers that look."""
        for observer in self._observers():
            for peer, subject in self._truth.subjects.items():
                found = self._look(observer, peer, subject)
                if found is not None:
                    yield found

    def _look(self, observer: SimulatedPeer, peer: PeerId, subject: Subject) -> Disagreement | None:
        """What is wrong with one peer's view of another, if anything is."""
        found = disagreement(observer, peer, subject)
        if found is None:
            return None
        if subject.life.running:
            return None if self._cannot_meet(observer, subject.life) else found
        if found.rule != "M19":
            return found
        if not subject.bade_farewell and subject.life.core.swim.live_count():
            return found  # there was somebody to tell, and it told nobody
        held = [each.core.swim.record(peer) for each in self._observers()]
        lost = all(each is None or each.status is Status.DOWN for each in held)
        return None if lost else found  # nobody who is here can know that it was a farewell

    def _cannot_meet(self, one: SimulatedPeer, other: SimulatedPeer) -> bool:
        """Whether two that only dial out have nobody whom both could dial: neither can know. Or one
        of them could dial nobody at all, as all that it ever heard of are gone."""
        if self._is_lost(one) or self._is_lost(other):
            return True
        if not (one.only_dials_out and other.only_dials_out):
            return False
        return all(life.only_dials_out or life.leaving for life in self._world.running)

    def _is_lost(self, life: SimulatedPeer) -> bool:
        """Whether it only dials out, and of those that it knows and could dial none runs any more:
        a real peer says then that it is alone."""
        if not life.only_dials_out:
            return False
        known = [
            subject.life.running
            for peer, subject in self._truth.subjects.items()
            if not subject.life.only_dials_out and life.core.swim.record(peer) is not None
        ]
        return bool(known) and not any(known)

    def _observers(self) -> list[SimulatedPeer]:
        lives = [life for life in self._world.running if not life.leaving]
        every = -(-len(lives) // OBSERVERS_MAX) or 1
        return lives[::every]


def shown(subject: Subject) -> tuple[PeerId, Record | None]:
    """Who it is, and its own record if it runs: whoever holds that very object is right."""
    there = subject.life
    wanted = there.running and not there.leaving
    return there.me.peer, there.core.swim.me if wanted else None


def disagreement(observer: SimulatedPeer, peer: PeerId, subject: Subject) -> Disagreement | None:
    """What is wrong with what one peer holds of another, if anything is."""
    there = subject.life
    held = observer.core.swim.record(peer)
    name = there.name
    if there.running:
        if there.leaving or there is observer:
            return None
        me = there.core.swim.me
        if held is None:
            return Disagreement("M23", observer, f"does not know {name}, which runs")
        if held.key != me.key:
            text = f"holds {name} to be {held.key}, it is {me.key}"
            return Disagreement("M8" if held.boot < me.boot else "M23", observer, text)
        return None
    if held is None or held.status is Status.LEFT:
        return None
    if there.departed:
        return Disagreement("M19", observer, f"holds {name} to be {held.key}, it left")
    if held.status is not Status.DOWN:
        return Disagreement("M10", observer, f"holds {name} to be {held.key}, it is gone")
    return None

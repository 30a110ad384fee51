"""How soon it is known that a peer is gone, seen from outside.

That one is gone is measured twice: from its end until each that was there holds it down, and until
99 % of them do (T99), once for each lost life. The first hides a host that is known late among
many that are known soon; the second is what is judged.

Who ends without knowing is waited for no longer, so that peers that crash meanwhile cannot keep a
life from ever being known. A life whose peer comes back before is no longer lost, and not measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from gossip.messages import PeerId, Record, Seconds, Status
from simulations.figures import Figures
from simulations.simulated_peer import SimulatedPeer
from simulations.truth import Subject
from simulations.world import World

KNOWN_SHARE: Final = 0.99
"""So many of those that were there have to know it."""


@dataclass(slots=True)
class Loss:
    """One life that is lost: ``missing`` are those that were there and do not know it yet, by id,
    ``known`` how many do."""

    life: SimulatedPeer
    ended_at_s: Seconds
    missing: set[PeerId]
    known: int = 0

    def is_known(self) -> bool:
        """Whether enough know it; those that are gone meanwhile do not count."""
        there = self.known + len(self.missing)
        return self.known >= max(1, math.ceil(KNOWN_SHARE * there))


class Measuring:
    """Writes into the figures what lives learn of each other. A loss costs as much as there are
    peers, once; each claim nothing that grows."""

    def __init__(self, world: World, figures: Figures) -> None:
        self._world = world
        self._figures = figures
        self._losses: dict[PeerId, Loss] = {}

    def began(self, life: SimulatedPeer) -> None:
        """A life began: it is not lost any more, if it was."""
        if self._losses.pop(life.me.peer, None) is not None:
            self._count()

    def ended(self, life: SimulatedPeer) -> None:
        """A life ended, and will learn nothing more; if it was lost, others have to learn of it."""
        now, peer = self._world.now, life.me.peer
        for loss in list(self._losses.values()):
            if peer in loss.missing:
                loss.missing.discard(peer)
                self._settle(loss)
        if life.crashed:
            there = [each for each in self._world.running if each.started_at < now]
            missing = {each.me.peer for each in there if not _knows(each.told.get(peer), life)}
            self._losses[peer] = Loss(life, now, missing)
            self._count()

    def changed(
        self, life: SimulatedPeer, subject: Subject, record: Record, told: Record | None
    ) -> None:
        """A claim won; ``told`` is what was held before."""
        if record.status is not Status.ALIVE and not subject.life.running:
            self._learned(life, record)
            self._measure_pair(life, subject, record, told)

    def _learned(self, life: SimulatedPeer, record: Record) -> None:
        loss = self._losses.get(record.peer)
        if loss is None or not _knows(record, loss.life) or life.me.peer not in loss.missing:
            return
        loss.missing.discard(life.me.peer)
        if not loss.known:
            self._figures.first_verdict.add(self._world.now - loss.ended_at_s)
        loss.known += 1
        self._settle(loss)

    def _settle(self, loss: Loss) -> None:
        if not loss.is_known():
            return
        after_s = self._world.now - loss.ended_at_s
        self._figures.known.add(after_s)
        self._figures.known_of[loss.life.only_dials_out].add(after_s)
        del self._losses[loss.life.me.peer]
        self._count()

    def _count(self) -> None:
        self._figures.not_known = len(self._losses)

    def _measure_pair(
        self, life: SimulatedPeer, subject: Subject, record: Record, told: Record | None
    ) -> None:
        if (record.boot, record.incarnation) != subject.ended or not subject.ended_at_s:
            return
        if not subject.life.crashed:
            return
        after_s = self._world.now - subject.ended_at_s
        if not subject.doubted:
            subject.doubted = True
            self._figures.first_doubt.add(after_s)
        known = told is not None and told.status >= Status.DOWN and told.boot == record.boot
        if record.status >= Status.DOWN and not known and life.started_at < subject.ended_at_s:
            self._figures.detection.add(after_s)


def _knows(record: Record | None, lost: SimulatedPeer) -> bool:
    """Whether who holds this record knows that the life is over."""
    return record is not None and record.status >= Status.DOWN and record.boot == lost.me.boot

"""How news gets about: from the first peer that hears a claim until each other one does (M22).

News is that somebody came, refuted what was said of it, left, or is down. Its subject is not
counted, nor who was not there yet, or did not run or hear all the while since. Who never hears of
it is what the calm looks for (M10, M19, M23). Peers behind a split count like any other.
"""

from __future__ import annotations

from gossip.messages import PeerId, Record, Seconds, Status
from simulations.figures import Figures, News
from simulations.simulated_peer import SimulatedPeer
from simulations.truth import Subject
from simulations.world import World


class Spreading:
    """Writes into the figures how long news takes; nothing here costs more the more peers are."""

    def __init__(self, world: World, figures: Figures) -> None:
        self._world = world
        self._figures = figures
        # Of each subject, when each of its claims was first heard.
        self._first_at_s: dict[PeerId, dict[tuple[int, int, int], Seconds]] = {}

    def began(self, life: SimulatedPeer) -> None:
        """What was said of its lives before may be said again, where it lost its disk."""
        self._first_at_s.pop(life.me.peer, None)

    def heard(
        self,
        life: SimulatedPeer,
        subject: Subject,
        record: Record,
        told: Record | None,
        deaf_at_s: Seconds,
    ) -> None:
        """A claim won; ``told`` is what was held before, ``deaf_at_s`` when this peer last could
        hear nothing."""
        news = _news_of(life, subject, record, told)
        if news is None:
            return
        now = self._world.now
        first_at_s = self._first_at_s.setdefault(record.peer, {}).setdefault(record.key, now)
        there_since_s = max(life.started_at, life.well_since, deaf_at_s)
        if there_since_s < first_at_s < now and life.unwell_since is None:
            self._figures.news[news].add(now - first_at_s)


def _news_of(
    life: SimulatedPeer, subject: Subject, record: Record, told: Record | None
) -> News | None:
    """What this claim tells one that was told another (None: it began with what all knew); None:
    nothing new, or nothing that is true."""
    if told is not None and told.key >= record.key:
        return None
    if record.status is Status.ALIVE:
        if record.incarnation:
            return News.REFUTED
        return News.CAME if subject.life.started_at > life.started_at else None
    if record.status is Status.SUSPECT:
        return None
    if record.status is Status.LEFT:
        return News.LEFT
    is_gone = not subject.life.running or record.key[:2] <= subject.ended
    return News.DOWN if is_gone else None

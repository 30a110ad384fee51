"""The rules of membership that must hold after every step, seen from outside.

Numbers are those of the invariants in gossip/README.md and the research they come from. Seen are
inputs, effects and ``core.swim``'s public views, and what the world knows to be true; each step
costs as much as it has effects, never as much as there are peers.

    M2   a claim that was told never falls
    M4   nobody shows a (boot, incarnation) that its subject has not issued, or a peer nobody knows
    M5   nobody comes back from down or left without a larger (boot, incarnation)
    M6   equal keys, equal records
    M7   a peer's own record is never down, left only when asked to leave; its version never falls
    M11  no peer that runs is held down (by more than the scenario allows)
    M12  with a live link, or a frozen process at its end, nobody is accused before ``busy_max_s``
    M14  a peer that accuses everybody gets nobody held down
    M16  nobody is held down sooner than the least suspicion after the first doubt
    M17  a peer that was starved gives no verdict on evidence older than that
    M18  what arrived is heard before timers
    M19  who left is never suspected
    M20  health stays within 0 and 7
    M21  one peer tells one claim a bounded number of times (``telling``)
    M24  no peer is held down because a split heals
    M29  nobody dials a peer that only dials out
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from gossip.machine import (
    Dial,
    Effect,
    Input,
    LinkCause,
    LinkLost,
    MemberChanged,
    Send,
    Tell,
    Woke,
)
from gossip.membership.jury import CREDIT_S
from gossip.messages import NO_RUMORS, Ack, Gossip, PeerId, Ping, Record, Seconds, Status
from simulations.figures import Figures
from simulations.measuring import Measuring
from simulations.rules import BrokenRule
from simulations.simulated_peer import Doubt, SimulatedPeer
from simulations.splits import Split, Splits
from simulations.spreading import Spreading
from simulations.telling import Telling
from simulations.truth import Subject, Truth
from simulations.world import World

SMALL: Final = 4
"""Below so many peers that can be dialed, and so watch others, one accuser is enough."""

HEALTH_MAX: Final = 7
SLOWEST_CLOCK: Final = 0.9
"""Seconds that a clock shows in one; slower than any that scenarios set."""

RUMOR_BEARERS: Final = (Gossip, Ping, Ack)
"""Messages that pass claims on."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the guard may let pass.

    false_downs       so many verdicts about running peers (None: any number).
    busy_max_s        a peer that does not answer over a live link is left alone so long.
    suspicion_min_s   no verdict comes sooner after the doubt; but a doubt may count from
    credit_s          before it is told.
    starved_s         rests shorter than this need no compensation.
    ignored           rules that are counted and do not stop a run.
    """

    false_downs: int | None = 0
    busy_max_s: Seconds = 120.0
    suspicion_min_s: Seconds = 5.3
    credit_s: Seconds = CREDIT_S
    starved_s: Seconds = 6.0
    ignored: tuple[str, ...] = ()


class Guard:
    """Takes each step of each core; raises BrokenRule. See the module.

    With ``keep_going`` it raises nothing: ``broken`` counts by rule, ``first`` is the first.
    """

    def __init__(
        self, world: World, limits: Limits, figures: Figures, keep_going: bool = False
    ) -> None:
        self.truth = Truth()
        self.figures = figures
        self.broken: dict[str, int] = {}
        self.first: BrokenRule | None = None
        self._keep_going = keep_going
        self._world = world
        self._limits = limits
        self._splits = Splits()
        self._telling = Telling(world, self.truth)
        self._measuring = Measuring(world, figures)
        self._spreading = Spreading(world, figures)
        self._deaf: dict[PeerId, None] = {}
        self._deaf_at_s: dict[PeerId, Seconds] = {}
        self._health_shown: bool | None = None
        self._watching = 0

    # What happens to processes and paths.

    def began(self, life: SimulatedPeer) -> None:
        """See Check."""
        before = self.truth.subjects.get(life.me.peer)
        if before is not None and life.me.boot > 1:  # it kept its disk
            # Not above all that was ever issued: the life before may have lost its disk, and have
            # ended before it heard of the lives that were before it.
            last = before.life.core.swim.me.boot
            assert life.me.boot > last, "M7 is the world's here"
        self.truth.began(life)
        self._measuring.began(life)
        self._spreading.began(life)
        self._watching += not life.only_dials_out
        self.figures.dial_out += life.only_dials_out

    def ended(self, life: SimulatedPeer) -> None:
        """See Check."""
        self.truth.ended(life, self._world.now)
        self._measuring.ended(life)
        self._watching -= not life.only_dials_out

    def split(self) -> None:
        """See Check. Remember who stands where, for when it has healed."""
        sides = {peer: port.sides for peer, port in self._world.network.ports.items()}
        lone = [life.me.peer for life in self._world.running if not life.core.swim.live()]
        self._splits.began(sides, self._world.now, frozenset(lone))

    def healed(self) -> None:
        """See Check."""
        self._splits.healed(self._world.now)

    # Steps.

    def look(self, life: SimulatedPeer, happened: Input, effects: list[Effect]) -> None:
        """See Check."""
        if self._world.network.ever_deaf:
            self._look_for_deafness(life)
        late = type(happened) is Woke and bool(life.inbox)
        if not effects and not late:
            return
        try:
            if late:
                self._broken("M18", life, f"acts on timers while {len(life.inbox)} inputs wait")
            self._look(life, happened, effects)
        except BrokenRule as wrong:
            if wrong is self.first and not self._keep_going:
                raise  # it was counted already
            self.note(wrong)

    def _look_for_deafness(self, life: SimulatedPeer) -> None:
        """Remember when it last could hear nothing: until its first step that followed, at most."""
        peer = life.me.peer
        is_deaf = self._world.network.is_deaf(peer)
        if is_deaf or peer in self._deaf:
            self._deaf_at_s[peer] = self._world.now
        if is_deaf:
            self._deaf[peer] = None
        else:
            self._deaf.pop(peer, None)

    def note(self, wrong: BrokenRule) -> None:
        """Count a broken rule, and raise it unless to keep going."""
        self.broken[wrong.rule] = self.broken.get(wrong.rule, 0) + 1
        if wrong.rule in self._limits.ignored:
            return
        self.first = self.first or wrong
        if not self._keep_going:
            raise wrong

    def _look(self, life: SimulatedPeer, happened: Input, effects: list[Effect]) -> None:
        me = life.core.swim.me
        if me is not life.issued:
            self._look_at_self(life, me)
        if life.leaving:
            self._look_for_farewell(me, effects)
        counted: Send | None = None
        for effect in effects:
            if type(effect) is Send:
                message = effect.message
                if counted is not None and counted.message is message:
                    continue
                if not isinstance(message, RUMOR_BEARERS):
                    continue
                if message.rumors is not NO_RUMORS:
                    copies = 1
                    if type(happened) is Woke:  # no answer, so it matters not whom it goes to
                        counted, copies = effect, _copies(effect, effects)
                    excess = self._telling.excess(life, happened, effect.to, message.rumors, copies)
                    if excess:
                        self._broken("M21", life, excess)
            elif isinstance(effect, Tell) and isinstance(effect.report, MemberChanged):
                try:
                    self._changed(life, happened, effect.report.record)
                except BrokenRule as wrong:
                    self.note(wrong)
                    life.told[effect.report.record.peer] = effect.report.record
            elif type(effect) is Dial:
                self._look_at_dial(life, effect)
        if type(happened) is Woke and self._health_shown is not False:
            self._look_at_health(life)

    def _look_at_dial(self, life: SimulatedPeer, dial: Dial) -> None:
        subject = None if dial.peer is None else self.truth.subjects.get(dial.peer)
        if not dial.control_address or (subject is not None and subject.life.only_dials_out):
            self._broken("M29", life, f"dials {dial.peer}, which only dials out")

    def _look_at_self(self, life: SimulatedPeer, me: Record) -> None:
        before, life.issued = life.issued, me
        if (me.boot, me.incarnation) < (before.boot, before.incarnation):
            self._broken("M7", life, f"its own version fell from {before.key} to {me.key}")
        if me.status is Status.DOWN or (me.status is Status.LEFT and not life.leaving):
            self._broken("M7", life, f"holds itself {me.status.name.lower()}")
        self.truth.subjects[life.me.peer].issue(me)

    def _look_for_farewell(self, me: Record, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Gossip):
                left = me.status is Status.LEFT and me in effect.message.rumors.records
                self.truth.subjects[me.peer].bade_farewell |= left

    def _look_at_health(self, life: SimulatedPeer) -> None:
        health = getattr(life.core.swim, "health", None)  # a puppet has none
        self._health_shown = health is not None
        if health is not None and not 0 <= int(health) <= HEALTH_MAX:
            self._broken("M20", life, f"its health is {health}")

    # One claim that won.

    def _changed(self, life: SimulatedPeer, happened: Input, record: Record) -> None:
        subject = self.truth.subjects.get(record.peer)
        version = (record.boot, record.incarnation)
        if subject is None or version > subject.issued:
            self._broken("M4", life, f"shows {record.key} of {record.peer}, never issued")
        known = subject.records.get(version)
        if known is not None and id(record) not in subject.alike:
            if replace(known, status=record.status) != record:
                self._broken("M6", life, f"shows {record}, issued was {known}")
            subject.alike[id(record)] = record
        told = life.told.get(record.peer)
        if told is not None:
            self._compare(life, told, record)
        held = life.core.swim.record(record.peer)
        if held is not record and held is not None and held.key < record.key:
            self._broken("M2", life, f"told {record.key} of {record.peer}, holds {held.key}")
        if record.status is Status.SUSPECT:
            subject.doubted_at_s.setdefault(version, self._world.now)
            self._suspected(life, happened, subject, record)
        elif record.status is Status.DOWN:
            self._held_down(life, happened, subject, record)
        self._measuring.changed(life, subject, record, told)
        deaf_at_s = self._deaf_at_s.get(life.me.peer, -math.inf)
        self._spreading.heard(life, subject, record, told, deaf_at_s)
        life.told[record.peer] = record
        if record.status is Status.SUSPECT:
            life.doubts[record.peer] = Doubt(version, self._world.now, life.rested_s)
        else:
            life.doubts.pop(record.peer, None)

    def _compare(self, life: SimulatedPeer, before: Record, after: Record) -> None:
        same = (before.boot, before.incarnation) == (after.boot, after.incarnation)
        failed = before.boot == after.boot and after.status in (Status.SUSPECT, Status.DOWN)
        if before.status is Status.LEFT and failed:
            self._broken("M19", life, _step_of(before, after))
        if same and before.status >= Status.DOWN and after.status < Status.DOWN:
            self._broken("M5", life, _step_of(before, after))
        if after.key < before.key:
            self._broken("M2", life, _step_of(before, after))

    def _suspected(
        self, life: SimulatedPeer, happened: Input, subject: Subject, record: Record
    ) -> None:
        """M12: is the accusation its own, though the link said otherwise?"""
        there = subject.life
        own = type(happened) is Woke
        if isinstance(happened, LinkLost):
            own = happened.cause in (LinkCause.CLOSED, LinkCause.FROZEN)  # the others are reasons
        if not own or not there.running or (record.boot, record.incarnation) <= subject.ended:
            return
        quiet_since = there.unwell_since
        if quiet_since is not None and self._world.now - quiet_since >= self._limits.busy_max_s:
            return
        late = isinstance(happened, LinkLost)  # it may have rested, and the link be back since
        if record.peer in life.port.visitors and not late:
            self._broken("M12", life, f"accuses {record.peer} over the link that it opened")
        link = life.port.outgoing.get(record.peer)  # of others' links nobody else is told
        frozen = link is not None and link.told[-1:] == [LinkCause.FROZEN]
        if link is not None and (link.up or frozen):
            how = "over a live link" if link.up else "though it is only frozen"
            self._broken("M12", life, f"accuses {record.peer} {how}")

    def _held_down(
        self, life: SimulatedPeer, happened: Input, subject: Subject, record: Record
    ) -> None:
        version = (record.boot, record.incarnation)
        if type(happened) is Woke and version not in subject.held_down:
            self._came_too_soon(life, subject, record)
        subject.held_down[version] = None
        there = subject.life
        ended = not there.running or version <= subject.ended
        if version == subject.ended:
            self._had_no_time(life, subject, record)
        # One accuser is enough in a group so small, and this one is right, wherever it is heard.
        few = min(self._watching, life.core.swim.live_count() + 1) < SMALL  # one may just be back
        rightly = few and self._is_cut_off(life, there)
        if rightly or self._is_cut_off_from_all(there) or self._could_not_come(there, life):
            subject.cut_off[version] = None
        if ended or there.leaving or version in subject.cut_off or self._is_excused(life, there):
            return
        self.figures.false_downs += 1
        self.figures.falsely_down[(there.name, record.incarnation)] = None
        limit = self._limits.false_downs
        if limit is None or self.figures.false_downs <= limit:
            return
        rule = "M11"
        if self._splits.healed_lately(self._world.now):
            rule = "M24"
        elif self._world.network.ever_deaf:
            rule = "M14"
        self._broken(rule, life, f"holds {there.name} ({record.peer}) down, which runs")

    def _is_excused(self, life: SimulatedPeer, there: SimulatedPeer) -> bool:
        """Whether the two could not hear of each other, or one of them hears nothing at all."""
        now = self._world.now
        if self._is_deaf(life) or self._is_deaf(there):
            return True
        since = there.unwell_since
        if since is not None and now - since >= self._limits.busy_max_s:
            return True
        if self._splits.ever and life.well_since == now:
            return True  # it reads what was said while it rested, across a split as like as not
        return any(self._comes_of(split, life, there) for split in self._splits.recent(now))

    def _is_deaf(self, life: SimulatedPeer) -> bool:
        """Whether it hears nothing, or did until just now, as one that was held up: then it has
        not been told yet what it has to refute."""
        if self._world.network.is_deaf(life.me.peer):
            return True
        last_at_s = self._deaf_at_s.get(life.me.peer, -math.inf)
        return self._world.now - last_at_s < self._limits.starved_s

    def _is_cut_off(self, life: SimulatedPeer, there: SimulatedPeer) -> bool:
        """Whether one was told that nothing gets through to the other."""
        link = life.port.outgoing.get(there.me.peer)
        if link is not None:
            return LinkCause.SILENT in link.told
        return there.only_dials_out and there.me.peer not in life.port.visitors

    def _is_cut_off_from_all(self, there: SimulatedPeer) -> bool:
        """Whether nobody can hear it: nobody can dial it, and it has no link to anybody who is
        here, nor, if it stood still until just now, a way to one. Others may have come that it
        does not know."""
        if not there.only_dials_out:
            return False
        stood_still = there.frozen_since is not None
        stood_still |= self._world.now - there.well_since < self._limits.starved_s
        network, port = self._world.network, there.port
        for link in port.outgoing.values():
            life = link.to.life
            if life is None or not life.running:
                continue
            if link.up or (stood_still and network.is_open(port, link.to)):
                return False
        return True

    def _could_not_come(self, there: SimulatedPeer, life: SimulatedPeer) -> bool:
        """Whether one that only dials out was held up, or until just now, and whoever judges it
        has no link that it opened: one of the two is new, or came to stand nearer."""
        if not there.only_dials_out or there.me.peer in life.port.visitors:
            return False
        held_up = there.unwell_since is not None
        return held_up or self._world.now - there.well_since < self._limits.starved_s

    def _comes_of(self, split: Split, life: SimulatedPeer, there: SimulatedPeer) -> bool:
        """Whether one that runs may be held down because of this split."""
        lately_s = split.healed_at_s - self._limits.starved_s
        if there.unwell_since is not None or max(there.well_since, life.well_since) >= lately_s:
            return True  # rightly held down beyond the split, and not heard of in time to object
        link = life.port.outgoing.get(there.me.peer)
        unmet = link is None or not link.up or there.me.peer not in life.told
        is_new = life.started_at > split.began_at_s or life.me.peer in split.lone
        if is_new and unmet:
            return True  # a newcomer believes whoever welcomes it, from either side
        links = (link, there.port.outgoing.get(life.me.peer))
        linked = any(each is not None and each.up for each in links)
        return split.excuses(life.me.peer, there.me.peer, linked, self._world.now)

    def _had_no_time(self, life: SimulatedPeer, subject: Subject, record: Record) -> None:
        """M16: whoever is doubted has a while to refute."""
        now, limits = self._world.now, self._limits
        doubted_s = now - subject.doubted_at_s.get((record.boot, record.incarnation), now)
        if doubted_s < SLOWEST_CLOCK * (limits.suspicion_min_s - limits.credit_s):
            text = f"holds {record.peer} down {doubted_s:.2f} s after the first doubt"
            self._broken("M16", life, text)

    def _came_too_soon(self, life: SimulatedPeer, subject: Subject, record: Record) -> None:
        """M17: time in which a peer did not run is no time in which others were silent.

        Only the first verdict on a version is looked at, as later ones may come from others' word;
        and only one about a peer that is gone, whose silence began with the end of the life that
        had this version, be it the last or not; or before, when a split had come between the two,
        though it healed while this peer rested.
        """
        doubt = life.doubts.get(record.peer)
        if doubt is None or life.clock is not None or subject.life.running:
            return
        version = (record.boot, record.incarnation)
        silent_at_s = subject.silent_since(version, doubt.at_s)
        for at_s in (silent_at_s, doubt.at_s):
            if self._splits.divided(life.me.peer, record.peer, at_s):
                silent_at_s = min(silent_at_s, doubt.at_s)
        rested_s = life.rested_s - doubt.rested_s
        active_s = self._world.now - silent_at_s - rested_s
        same = doubt.version == version
        least_s = self._limits.suspicion_min_s - self._limits.starved_s / 2
        if same and rested_s >= self._limits.starved_s and active_s < least_s:
            self._broken("M17", life, f"holds {record.peer} down after {active_s:.2f} s awake")

    def _broken(self, rule: str, life: SimulatedPeer, text: str) -> NoReturn:
        raise BrokenRule(f"{life.name} {text}", rule, self._world.now, life.me.peer)


def _copies(sent: Send, effects: list[Effect]) -> int:
    """To how many this very message goes."""
    copies = 0
    for effect in effects:
        copies += type(effect) is Send and effect.message is sent.message
    return copies


def _step_of(before: Record, after: Record) -> str:
    return f"{after.peer} goes from {before.key} to {after.key}"

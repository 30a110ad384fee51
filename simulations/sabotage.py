"""Deliberate bugs, each a small change to the production classes in memory: do the checks bite?

A bug is a function that says what to put in the place of what; its docstring says what is broken.
``bug`` enters it with a small scenario in which it shows and the rules that may notice it. It is
at work only inside ``with SABOTAGE[name].at_work():``; afterwards everything is as before. Those
around splits stand in ``sabotage_splits``.
``simulations.self_test`` tries them all.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import gossip.membership.alone as alone_module
import gossip.membership.swim as swim_module
from gossip.config import MembershipConfig
from gossip.machine import Dial, Effect, LinkCause, MemberChanged, Send, Tell, Woke
from gossip.membership.claims import Claims
from gossip.membership.health import Health
from gossip.membership.jury import Jury
from gossip.membership.myself import Myself
from gossip.membership.roster import Roster
from gossip.membership.rounds import Rounds, _Tick
from gossip.membership.rumors import RumorQueue
from gossip.membership.sightings import OF_CAUSE, Witness
from gossip.membership.swim import Swim
from gossip.membership.sync import Pace, Sync
from gossip.membership.verdicts import Verdicts, Weight, evidence_for
from gossip.membership.view import View
from gossip.membership.watch import Watch
from gossip.messages import (
    Gossip,
    Hello,
    PeerId,
    PingReq,
    Record,
    Rumors,
    Seconds,
    Status,
    Vouch,
)
from simulations import sabotage_splits
from simulations.bugs import SABOTAGE, Bug, Replacement, bug
from simulations.simulated_peer import SimulatedPeer
from simulations.small_scenarios import (
    ACCUSER,
    ALONE,
    BACK,
    CRASH,
    FAR,
    FAREWELL,
    GONE,
    HELD,
    HIDDEN,
    LOSSY,
    NEWS,
    QUIET,
    RESTS,
    SPLIT,
)
from simulations.world import World

__all__ = ["SABOTAGE", "Bug", "sabotage_splits"]

# Records.


@bug(BACK, "M2", "M5", "M23")
def resurrection() -> list[Replacement]:
    """An older claim that a member is alive wins over what is held of it when it is down."""
    learn = Claims.learn

    def learn_all(
        self: Claims, sender: PeerId, rumors: Rumors, why: str, now: Seconds, spread: bool = True
    ) -> list[Effect]:
        effects, view = learn(self, sender, rumors, why, now, spread), self._view
        for record in rumors.records:
            held = view.roster.get(record.peer)
            if held is None or held.status < Status.DOWN or record.status is not Status.ALIVE:
                continue
            if record.peer not in (sender, view.roster.me.peer) and record.key < held.key:
                view.roster._put(record, held)
                effects.append(Tell(MemberChanged(record, why)))
                effects += view._is_here(held, False, record, now)
        return effects

    return [(Claims, "learn", learn_all)]


@bug(BACK, "M2", "M5", "M21", "M23")
def lost_tombstone() -> list[Replacement]:
    """Who is down is forgotten at once, and learned anew from whoever has not heard of it."""
    is_gone = View._is_gone

    def forget_at_once(self: View, was_live: bool, record: Record, now: Seconds) -> list[Effect]:
        effects = is_gone(self, was_live, record, now)
        self.tombstones.set(record.peer, now)
        return effects

    return [(View, "_is_gone", forget_at_once)]


@bug(SPLIT, "M11", "M23", "M24")
def no_refutation() -> list[Replacement]:
    """A peer that hears something wrong about itself says nothing."""
    return [(View, "refute", lambda *_: [])]


@bug(SPLIT, "M23", "M24")
def refuting_without_rising() -> list[Replacement]:
    """A refutation repeats the incarnation that was accused."""
    return [(Myself, "rise_above", lambda *_: True)]


@bug(GONE, "M4")
def accuser_raises_incarnation() -> list[Replacement]:
    """An accusation is of an incarnation that its subject never had."""
    hold_trial = Jury._hold_trial

    def hold_another(
        self: Jury, suspect: Record, accuser: PeerId, why: str, now: Seconds, doubts: bool
    ) -> list[Effect]:
        later = replace(suspect, incarnation=suspect.incarnation + 1)
        return hold_trial(self, later, accuser, why, now, doubts)

    return [(Jury, "_hold_trial", hold_another)]


@bug(BACK, "M6")
def same_key_another_record() -> list[Replacement]:
    """A peer greets with another host than its record of that key has."""
    hello = Rounds.hello

    def hello_from_elsewhere(self: Rounds) -> Hello:
        said = hello(self)
        return replace(said, record=replace(said.record, host="elsewhere"))

    return [(Rounds, "hello", hello_from_elsewhere)]


@bug(BACK, "M8", "M23")
def old_boot_kept() -> list[Replacement]:
    """A peer that lost its disk does not rise above the boots it had before."""
    rise_above = Myself.rise_above

    def rise_in_this_boot(self: Myself, boot: int, incarnation: int) -> bool:
        return boot > self.record.boot or rise_above(self, boot, incarnation)

    return [
        (Myself, "rise_above", rise_in_this_boot),
        (Myself, "contradicted_by_progress", lambda *_: False),
    ]


@bug(BACK, "M4")
def made_up_member() -> list[Replacement]:
    """A newcomer is also told of a peer that never was."""
    everything = View.everything

    def more_than_everything(self: View) -> Rumors:
        told = everything(self)
        nobody = replace(self.roster.me, peer=PeerId("00" * 8))
        return replace(told, records=(*told.records, nobody))

    return [(View, "everything", more_than_everything)]


@bug(FAREWELL, "M7")
def leave_announced_as_down() -> list[Replacement]:
    """A peer that leaves says that it is down."""

    def leave(self: Myself) -> None:
        self._roster.put(replace(self.record, status=Status.DOWN))

    return [(Myself, "leave", leave)]


@bug(FAREWELL, "M10", "M19", "M23")
def leave_without_a_word() -> list[Replacement]:
    """A peer that leaves tells nobody."""

    def leave(self: Swim, now: Seconds) -> list[Effect]:
        del now
        self._myself.leave()
        return []

    return [(Swim, "leave", leave)]


# Silence, doubt, verdict.


@bug(RESTS, "M18")
def timers_before_inbox() -> list[Replacement]:
    """A peer that goes on after a rest acts on its timers before it hears what arrived."""
    resume = World._resume

    def resume_late(self: World, life: SimulatedPeer) -> None:
        if life.running and life.resumes_at is not None and life.resumes_at <= self.now:
            life.feed(Woke())
        resume(self, life)

    return [(World, "_resume", resume_late)]


@bug(ACCUSER, "M14")
def quorum_of_one() -> list[Replacement]:
    """One observer's word is enough to bury a member."""
    return [(MembershipConfig, "quorum", lambda *_: 1)]


@bug(ACCUSER, "M14")
def evidence_not_checked() -> list[Replacement]:
    """Whoever says that a member is down is believed."""
    return [(Verdicts, "weigh", lambda *_: Weight.ENOUGH)]


@bug(FAR, "M14")
def repetitions_counted() -> list[Replacement]:
    """An accuser that repeats itself counts again each time."""
    weigh, times = Verdicts.weigh, Counter[tuple[PeerId, PeerId]]()

    def weigh_repeatedly(
        self: Verdicts,
        record: Record,
        accusers: Iterable[PeerId],
        now: Seconds,
        told_doubted: bool = False,
    ) -> Weight:
        key = (self.roster.me.peer, record.peer)
        times[key] += 1
        return weigh(self, record, [*accusers] * times[key], now, told_doubted)

    return [(Verdicts, "weigh", weigh_repeatedly)]


@bug(RESTS, "M12")
def busy_ignored() -> list[Replacement]:
    """A live link does not speak for a peer that gives no answer."""
    return [(Jury, "_is_excused", lambda *_: False)]


@bug(RESTS, "M12")
def frozen_is_silent() -> list[Replacement]:
    """A process that stands still is taken for a host that is gone."""
    causes = {**OF_CAUSE, LinkCause.FROZEN: Witness.SILENT}
    return [(swim_module, "OF_CAUSE", causes)]


@bug(HELD, "M17")
def no_starvation_compensation() -> list[Replacement]:
    """Time in which this peer itself was starved counts against the others."""

    def note_input(self: Swim, now: Seconds) -> None:
        self._last_input_at = max(now, self._last_input_at)

    return [(Swim, "_note_input", note_input)]


@bug(GONE, "M16")
def suspicion_too_short() -> list[Replacement]:
    """A suspect has a fifth of a second to refute."""
    return [(MembershipConfig, "suspicion_s", lambda *_: 0.2)]


@bug(GONE, "M16")
def no_trial() -> list[Replacement]:
    """Whoever is accused is down at once."""

    def judge(
        self: Jury, suspect: Record, accuser: PeerId, why: str, now: Seconds, doubts: bool
    ) -> list[Effect]:
        down = replace(suspect, status=Status.DOWN)
        return self._view.take(down, why, now, evidence=evidence_for(down, [accuser], doubts))

    return [(Jury, "_hold_trial", judge)]


@bug(ACCUSER, "M20")
def health_unbounded() -> list[Replacement]:
    """Distrust of one's own judgement grows without end."""

    def worse(self: Health, by: int = 1) -> None:
        self.score += by

    return [(Health, "worse", worse)]


@bug(GONE, "M10")
def vouching_unasked() -> list[Replacement]:
    """A fellow vouches for every member it knows without asking it."""

    def vouch(self: Jury, sender: PeerId, asked: PingReq, now: Seconds) -> list[Effect]:
        del now
        record = self._view.roster.get(asked.subject)
        if record is None:
            return []
        vouched = Vouch(asked.probe, record.peer, record.boot, record.incarnation)
        return [Send(sender, vouched)]

    return [(Jury, "hear_ping_req", vouch)]


# News, comparisons, traffic.


@bug(GONE, "M21", "M25")
def news_never_dropped() -> list[Replacement]:
    """What was new once is sent for ever."""
    take = RumorQueue.take

    def take_again(self: RumorQueue[Any], limit: int, sends_max: int, copies: int) -> list[Any]:
        del sends_max
        return take(self, limit, 1 << 30, copies)

    return [(RumorQueue, "take", take_again)]


@bug(BACK, "M21")
def news_told_thrice() -> list[Replacement]:
    """What is new is told three times as often as it should."""
    take = RumorQueue.take

    def take_thrice(self: RumorQueue[Any], limit: int, sends_max: int, copies: int) -> list[Any]:
        return take(self, limit, 3 * sends_max, copies)

    return [(RumorQueue, "take", take_thrice)]


@bug(GONE, "M10", "M23")
def gossip_to_nobody() -> list[Replacement]:
    """News is dropped instead of sent."""
    take = RumorQueue.take

    def drop(self: RumorQueue[Any], limit: int, sends_max: int, copies: int) -> list[Any]:
        take(self, limit, sends_max, copies)
        return []

    return [(RumorQueue, "take", drop)]


@bug(NEWS, "M22")
def news_after_a_rest() -> list[Replacement]:
    """What is new is told to some, and to others not before four seconds later."""
    gossip = Rounds._gossip

    def gossip_and_rest(self: Rounds, now: Seconds) -> list[Effect]:
        told = gossip(self, now)
        if told:
            self.ticks.set(_Tick.GOSSIP, now + 4.0)
        return told

    return [(Rounds, "_gossip", gossip_and_rest)]


@bug(QUIET, "M25")
def empty_gossip() -> list[Replacement]:
    """Gossip is sent though there is no news."""
    probe_silent = Rounds._probe_silent

    def probe_and_gossip(self: Rounds, now: Seconds) -> list[Effect]:
        effects = probe_silent(self, now)
        return effects + [Send(each, Gossip(Rumors())) for each in self._view.watch.in_turn(1)]

    return [(Rounds, "_probe_silent", probe_and_gossip)]


@bug(LOSSY, "M10", "M23")
def comparisons_find_nothing() -> list[Replacement]:
    """Two peers that compare their records never find a difference."""
    return [(Sync, "diff", lambda *_: None)]


@bug(SPLIT, "M23")
def no_knocks() -> list[Replacement]:
    """Nobody greets those that are down, so a split lasts for ever."""
    return [(Rounds, "_knock", lambda *_: [])]


@bug(QUIET, "M26")
def everybody_watches_everybody() -> list[Replacement]:
    """Each peer probes all others, so traffic grows with the swarm."""

    def neighbors(self: Roster, peer: PeerId) -> list[PeerId]:
        return [each for each in [*self.live, self.me.peer] if each != peer]

    return [(Roster, "neighbors", neighbors)]


@bug(SPLIT, "M26")
def comparisons_without_rest() -> list[Replacement]:
    """Peers compare their records twice a second, though nothing has changed."""
    return [(Pace, "next_s", lambda *_: 0.5)]


@bug(HIDDEN, "M29")
def addresses_do_not_matter() -> list[Replacement]:
    """Peers that told no address are dialed."""

    def dial(self: Watch, peer: PeerId) -> list[Effect]:
        self._links[peer] = None
        return [Dial(peer, "", "")]

    return [(Watch, "dial", dial)]


@bug(HIDDEN, "M10", "M11", "M23")
def hidden_peers_wait_to_be_dialed() -> list[Replacement]:
    """Who told no address dials nobody but its contacts."""
    dial = Watch.dial

    def dial_if_dialable(self: Watch, peer: PeerId) -> list[Effect]:
        return dial(self, peer) if self._roster.me.control_address else []

    return [(Watch, "dial", dial_if_dialable)]


@bug(ALONE, "M10")
def nobody_stands_in() -> list[Replacement]:
    """Who only dials out never judges, though all that watched it are lost."""
    return [(alone_module, "_is_lost", lambda *_: False)]


_SALTS = itertools.count()


@bug(CRASH, "M28")
def hash_order() -> list[Replacement]:
    """Neighbors are gone through in the order of a set, which differs between processes."""
    neighbors, salt = Roster.neighbors, next(_SALTS)

    def shuffled(self: Roster, peer: PeerId) -> list[PeerId]:
        return sorted(neighbors(self, peer), key=lambda each: hash((salt, each)))

    return [(Roster, "neighbors", shuffled)]

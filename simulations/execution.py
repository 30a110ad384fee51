"""One scenario under one seed, from beginning to end."""

from __future__ import annotations

import gc
import math
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from gossip.config import Config, MembershipConfig
from gossip.messages import Seconds
from simulations.calm import Agreement
from simulations.faults import Faults
from simulations.figures import Figures
from simulations.guard import Guard, Limits
from simulations.rules import BrokenRule
from simulations.scenario import Expected, FaultKind, Limit, Scenario, Start
from simulations.world import Plan, World

LOOK_EVERY_S = 1.0
"""How often it is looked whether all agree, once the calm has begun."""

COLLECT_EVERY = 100_000
"""Garbage is looked for after so many new objects: frames and effects hold no cycles."""

LARGE = 1_000
"""With so many peers it is not looked for at all, as that takes longer the more they know."""

BUGS = (AssertionError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a core raises only when it is wrong: nothing that a neighbor sends may make it raise."""


@dataclass(slots=True)
class Outcome:
    """What came of one run. ``broken`` says which rule was broken, empty when all is well.

    ``dropped`` counts the frames and links that bad paths took, by the kind of fault.
    ``ended_at_s`` is where it stopped, in virtual time; ``interrupted`` when somebody stopped it.
    """

    scenario: str
    seed: int
    peers: int
    figures: Figures
    injected: dict[FaultKind, int] = field(default_factory=dict)
    dropped: dict[FaultKind, int] = field(default_factory=dict)
    broken: str = ""
    rule: str = ""
    broken_rules: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False
    ended_at_s: Seconds = 0.0
    events: int = 0
    frames: int = 0
    lost_frames: int = 0
    randomly_lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    delayed: int = 0
    wall_s: float = 0.0
    transcript: list[str] = field(default_factory=list)
    traceback: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing was broken."""
        return not self.broken and not self.interrupted

    @property
    def events_per_s(self) -> float:
        """Of wall time."""
        return self.events / self.wall_s if self.wall_s else math.nan


def config_of(membership: MembershipConfig | None = None) -> Config:
    """Membership only: nobody founds a lineage, so nobody asks for a model."""
    base = membership if membership is not None else MembershipConfig()
    return Config(run="simulation", membership=replace(base, found_after_s=math.inf))


def limits_of(scenario: Scenario, config: Config, ignored: tuple[str, ...] = ()) -> Limits:
    """What the guard may let pass, from the scenario and the settings of the protocol."""
    membership = config.membership
    return Limits(
        false_downs=scenario.expect.false_downs,
        busy_max_s=membership.busy_max_s,
        suspicion_min_s=membership.suspicion_min_s,
        starved_s=2 * membership.probe_interval_s + 2.0,
        ignored=ignored,
    )


@dataclass(frozen=True, slots=True)
class Manner:
    """How to run: what to leave out, what to keep, and which rules do not stop it.

    ``disabled`` faults never happen; ``lines`` keeps a transcript; with ``keep_going`` broken
    rules are counted and the run goes on, as it does for the ``ignored`` ones anyway.
    """

    disabled: tuple[FaultKind, ...] = ()
    lines: bool = False
    keep_going: bool = False
    ignored: tuple[str, ...] = ()


USUAL = Manner()


class Execution:
    """Runs a scenario; ``outcome`` can be read at any time."""

    def __init__(self, scenario: Scenario, seed: int, manner: Manner = USUAL) -> None:
        self.scenario = scenario
        self.figures = Figures()
        config = config_of()
        plan = Plan(
            seed,
            config=config,
            conditions=scenario.conditions,
            trainers=False,
            dial_out_share=scenario.dial_out_share,
            lines=manner.lines,
        )
        self.world = World(plan)
        limits = limits_of(scenario, config, manner.ignored)
        self.guard = Guard(self.world, limits, self.figures, manner.keep_going)
        self.world.watch(self.guard)
        self.faults = Faults(self.world, scenario, manner.disabled)
        self._agreement = Agreement(self.world, self.guard.truth)
        self._wall_s = 0.0
        self._interrupted = False
        self._traceback = ""

    def run(self) -> Outcome:
        """To the end, to the first broken rule, or until Ctrl-C."""
        began = time.perf_counter()
        try:
            with _seldom_collecting(never=self.scenario.peers >= LARGE):
                self._run()
        except BrokenRule as wrong:
            self.guard.first = self.guard.first or wrong
        except BUGS as wrong:
            self._traceback = traceback.format_exc()
            text = f"{type(wrong).__name__}: {wrong}"
            bug = BrokenRule(text, "bug", self.world.now)
            self.guard.first = self.guard.first or bug
        except KeyboardInterrupt:
            self._interrupted = True
        self._wall_s = time.perf_counter() - began
        return self.outcome

    @property
    def outcome(self) -> Outcome:
        """What has come of it so far."""
        world, first = self.world, self.guard.first
        return Outcome(
            scenario=self.scenario.name,
            seed=world.plan.seed,
            peers=self.scenario.peers,
            figures=self.figures,
            injected=dict(self.faults.injected),
            dropped=self.faults.dropped,
            broken="" if first is None else str(first),
            rule="" if first is None else first.rule,
            broken_rules=dict(self.guard.broken),
            interrupted=self._interrupted,
            ended_at_s=world.now,
            events=world.events,
            frames=world.network.frames,
            lost_frames=world.network.lost_frames,
            randomly_lost=world.network.randomly_lost,
            duplicated=world.network.duplicated,
            reordered=world.network.reordered,
            delayed=world.network.delayed,
            wall_s=self._wall_s,
            transcript=world.transcript.lines,
            traceback=self._traceback,
        )

    def _run(self) -> None:
        scenario, world = self.scenario, self.world
        if scenario.start is Start.ACQUAINTED:
            world.start_acquainted(scenario.peers)
        else:
            world.start_together(scenario.peers)
        world.call(scenario.calm_at_s, world.calm)
        gc.freeze()  # what a world begins with stays: it need not be looked through again
        for second in self._seconds(scenario.seconds - scenario.quiet_s):
            world.run(second)
            if second >= scenario.calm_at_s and math.isinf(self.figures.agreed_s):
                self._look_for_agreement()
        self._measure_quiet()
        self._judge()

    def _seconds(self, until_s: Seconds) -> Iterator[Seconds]:
        at_s = LOOK_EVERY_S
        while at_s < until_s:
            yield at_s
            at_s += LOOK_EVERY_S
        yield until_s

    def _look_for_agreement(self) -> None:
        if self._agreement.first_disagreement() is None:
            self.figures.agreed_s = self.world.now - self.scenario.calm_at_s

    def _measure_quiet(self) -> None:
        """The last seconds: what a swarm costs in which nothing happens."""
        world, figures = self.world, self.figures
        meter = world.meter
        sent, sent_bytes = meter.sent, meter.sent_bytes
        gossip = meter.sent_of("Gossip")
        world.run(self.scenario.seconds)
        peer_seconds = world.running_count * self.scenario.quiet_s
        if peer_seconds:
            figures.idle_bytes_per_s = (meter.sent_bytes - sent_bytes) / peer_seconds
            figures.idle_messages_per_s = (meter.sent - sent) / peer_seconds
            figures.idle_gossip_messages = meter.sent_of("Gossip") - gossip
        if math.isinf(figures.agreed_s):
            self._look_for_agreement()
        lived = [(life, world.now - life.started_at) for life in world.running]
        rates = [life.control_bytes / lived_s for life, lived_s in lived if lived_s > 0]
        figures.worst_bytes_per_s = max(rates, default=math.nan)
        figures.control_bytes_per_s = sum(rates) / len(rates) if rates else math.nan

    @property
    def _idle_conditions(self) -> list[str]:
        """Conditions that were declared and never hit a frame."""
        declared, network = self.scenario.conditions, self.world.network
        counts = (
            ("loss", declared.loss, network.randomly_lost),
            ("duplication", declared.duplication, network.duplicated),
            ("reordering", declared.reordering, network.reordered),
            ("tail_share", declared.tail_share, network.delayed),
        )
        return [name for name, share, count in counts if share and not count]

    def _judge(self) -> None:
        scenario = self.scenario
        found = self._agreement.first_disagreement()
        if found is not None:
            self.guard.note(found.broken(self.world.now))
        if scenario.every_fault and self.faults.missing:
            names = ", ".join(self.faults.missing)
            self.guard.note(BrokenRule(f"declared, but never happened: {names}", "non-vacuity"))
        if scenario.every_fault and self.faults.harmless:
            names = ", ".join(self.faults.harmless)
            self.guard.note(BrokenRule(f"happened, but dropped nothing: {names}", "non-vacuity"))
        if scenario.every_fault and self._idle_conditions:
            names = ", ".join(self._idle_conditions)
            self.guard.note(BrokenRule(f"declared, but hit no frame: {names}", "non-vacuity"))
        if scenario.every_fault and scenario.dial_out_share and not self.figures.dial_out:
            self.guard.note(BrokenRule("no peer there was that only dials out", "non-vacuity"))
        round_s = self.world.plan.config.membership.gossip_interval_s
        expect = scenario.expect
        if not scenario.quiet_s:  # nothing was measured
            expect = replace(expect, idle_bytes_per_s=None)
        for wrong in judge(self.figures, expect, scenario.peers, round_s):
            self.guard.note(wrong)


def judge(figures: Figures, expect: Expected, peers: int, round_s: Seconds) -> Iterator[BrokenRule]:
    """Compare what was measured with what was expected of so many peers."""
    kinds = {"": figures.known}
    if figures.dial_out:  # each by itself: one must not hide behind the other
        of = figures.known_of
        kinds = {" of those that only dial out": of[True], " of the others": of[False]}
    known = [
        ("M10", name + which, kind.quantile_s(share), bound(limit, peers))
        for which, kind in kinds.items()
        for name, share, limit in (
            ("detect_p50_s", 0.5, expect.detect_p50_s),
            ("detect_p99_s", 0.99, expect.detect_p99_s),
        )
    ]
    extra = expect.rounds_over_log2
    rounds_max = None if extra is None else math.ceil(math.log2(peers)) + extra
    bounds = [
        *known,
        ("M22", "dissemination_rounds", figures.rounds(round_s), rounds_max),
        ("M23", "agree_s", figures.agreed_s, bound(expect.agree_s, peers)),
        ("M26", "idle_bytes_per_s", figures.idle_bytes_per_s, expect.idle_bytes_per_s),
        ("M26", "messages_per_s", figures.idle_messages_per_s, expect.messages_per_s),
        ("M25", "gossip_messages", figures.idle_gossip_messages, expect.gossip_messages),
        ("M11", "false_downs", figures.false_downs, expect.false_downs),
    ]
    for rule, name, measured, limit in bounds:
        if limit is not None and not measured <= limit:
            yield BrokenRule(f"{name} is {measured:g}, expected at most {limit:g}", rule)


def bound(limit: float | Limit | None, peers: int) -> float | None:
    """A limit for so many peers."""
    return limit.at(peers) if isinstance(limit, Limit) else limit


@contextmanager
def _seldom_collecting(never: bool) -> Iterator[None]:
    before = gc.get_threshold()
    if never:
        gc.collect()  # an earlier world, if there was one
    gc.set_threshold(0 if never else COLLECT_EVERY, 50, 1000)
    try:
        yield
    finally:
        if never:
            gc.freeze()  # what is unfrozen is old, and so is not looked through at once
        gc.set_threshold(*before)
        gc.unfreeze()

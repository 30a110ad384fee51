"""One life of one simulated peer: the production core, its body, and a trainer in virtual time.

It does what a real peer's two threads do: carries out the core's byte effects, and runs the
optimizer hook every step. Time, the network and all dice come from the world (``Surroundings``).
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, assert_never

from gossip.config import Config, Layout
from gossip.core import Core
from gossip.machine import (
    Applied,
    Apply,
    Asked,
    Compute,
    Computed,
    Departed,
    Dial,
    Effect,
    Finalised,
    Finish,
    Hangup,
    Input,
    OneSided,
    Persist,
    Received,
    Release,
    Replace,
    Report,
    Reserve,
    Send,
    SwapClosed,
    Tell,
)
from gossip.membership.known import Known
from gossip.messages import Chunk, ExchangeId, Message, Outcome, PeerId, Phase, Record, Seconds
from gossip.replication.placement import owned
from simulations.clock import Clock
from simulations.network import Port
from simulations.seeds import generator
from simulations.workload import Body


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast trainers and computations are, in virtual time.

    step_s          one training step of an average peer.
    speed_spread    each life is slower or faster by up to this share, drawn once.
    compute_s       making a code takes this long (least, most).
    """

    step_s: float = 0.02
    speed_spread: float = 0.3
    compute_s: tuple[float, float] = (0.0002, 0.002)

    def __post_init__(self) -> None:
        assert self.step_s > 0, "a step takes time"
        assert 0 <= self.speed_spread < 1, "speed_spread is a share"


class Surroundings(ABC):
    """What a simulated peer asks of its world. ``watched``: whether ``witness`` wants to know."""

    now: Seconds
    watched: bool

    @abstractmethod
    def later(self, life: SimulatedPeer, delay_s: Seconds, happened: Input) -> None:
        """Feed an input of the peer's own after a while."""

    @abstractmethod
    def send(self, life: SimulatedPeer, to: PeerId, message: Message, payload: bytes) -> None:
        """Hand a frame to the network."""

    @abstractmethod
    def dial(self, life: SimulatedPeer, effect: Dial) -> None:
        """Open a link."""

    @abstractmethod
    def hang_up(self, life: SimulatedPeer, peer: PeerId) -> None:
        """Close a link."""

    @abstractmethod
    def witness(
        self, life: SimulatedPeer, happened: Input, effects: list[Effect], now: Seconds
    ) -> None:
        """Called after each step of the core, before its effects are carried out."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A chunk and its payload."""

    received: Received
    payload: bytes = b""


CoreMaker: TypeAlias = Callable[
    [Record, Layout, Config, random.Random, Seconds, Known | None], Core
]


@dataclass(frozen=True, slots=True)
class Birth:
    """The beginning of one life: all it takes to repeat it."""

    number: int
    me: Record
    config: Config
    pace: Pace
    seed: int
    started_at: Seconds
    make_core: CoreMaker = Core
    known: Known | None = None

    def dice(self, part: str) -> random.Random:
        """The generator of one part of this life, always the same."""
        return generator(self.seed, "peer", self.number, self.me.boot, part)


class Doubt(NamedTuple):
    """A suspicion that a peer told its owner of: which life, when, and its own rests until then."""

    version: tuple[int, int]
    at_s: Seconds
    rested_s: Seconds


class SimulatedPeer:
    """See the module. ``name`` is short and readable: the peer's number and its boot.

    ``resumes_at`` is set while no thread of it runs (its inbox is kept), ``frozen_since`` when
    the library's threads stand still as well; ``rested_s`` sums up such times that are over
    and ``well_since`` is when the last one was.
    ``issued`` is the last record of its own that a check has seen, ``told`` what it last told its
    owner about others, ``doubts`` since when it suspects them, ``passed_on`` how often it told
    others of each claim, by the number that a check gave it. ``kept`` are the addresses on disk.
    """

    __slots__ = (
        "_dice",
        "_placed_for",
        "_step_s",
        "_world",
        "birth",
        "body",
        "clock",
        "closed_swaps",
        "control_bytes",
        "core",
        "crashed",
        "departed",
        "doubts",
        "finalised",
        "frozen_since",
        "inbox",
        "issued",
        "kept",
        "leaving",
        "me",
        "name",
        "number",
        "one_sided",
        "passed_on",
        "port",
        "reports",
        "rested_s",
        "resumes_at",
        "running",
        "shards",
        "steps",
        "told",
        "training",
        "unwell_since",
        "wakes_at",
        "well_since",
    )

    def __init__(self, birth: Birth, body: Body, port: Port, world: Surroundings) -> None:
        self.birth = birth
        self.number = birth.number
        self.me = birth.me
        self.name = f"p{birth.number}#{birth.me.boot}"
        self.body = body
        self.port = port
        self.core = self.fresh_core()
        self.clock: Clock | None = None
        self.running = True
        self.crashed = False
        self.resumes_at: Seconds | None = None
        self.frozen_since: Seconds | None = None
        self.unwell_since: Seconds | None = None
        self.rested_s: Seconds = 0.0
        self.well_since: Seconds = -math.inf
        self.leaving = False
        self.issued = birth.me
        self.kept: tuple[str, ...] = ()
        self.told: dict[PeerId, Record] = {}
        self.doubts: dict[PeerId, Doubt] = {}
        self.passed_on = array("H")
        self.inbox: deque[Input | Sent] = deque()
        self.wakes_at: Seconds = math.inf
        self.control_bytes = 0.0
        self.steps = 0
        self.training = True
        self.closed_swaps: list[tuple[Seconds, SwapClosed]] = []
        self.one_sided: list[ExchangeId] = []
        self.reports: dict[str, int] = {}
        self.finalised: Finalised | None = None
        self.departed = False
        self.shards: tuple[int, ...] = ()
        self._world = world
        self._dice: random.Random | None = None
        self._step_s = 0.0
        self._placed_for: tuple[tuple[PeerId, float], ...] = ()

    @property
    def started_at(self) -> Seconds:
        """When the process began."""
        return self.birth.started_at

    @property
    def only_dials_out(self) -> bool:
        """Whether nobody can open a link to this peer."""
        return not self.me.control_address

    @property
    def dice(self) -> random.Random:
        """The trainer's generator, made when first needed."""
        if self._dice is None:
            self._dice = self.birth.dice("trainer")
            spread, pace = self.birth.pace.speed_spread, self.birth.pace
            self._step_s = pace.step_s * (1 + self._dice.uniform(-spread, spread))
        return self._dice

    def local(self, now: Seconds) -> Seconds:
        """What this peer's clock shows."""
        return now if self.clock is None else self.clock.local(now)

    # The core and its effects.

    def fresh_core(self) -> Core:
        """A core as this life began with."""
        birth = self.birth
        rng = birth.dice("core")
        return birth.make_core(
            self.me, self.body.layout, birth.config, rng, birth.started_at, birth.known
        )

    def feed(self, happened: Input) -> None:
        """Give the core one input and carry out what it asks for, in order."""
        world = self._world
        now = world.now if self.clock is None else self.clock.local(world.now)
        effects = self.core.handle(happened, now)
        if world.watched:
            world.witness(self, happened, effects, now)
        if not effects:
            return
        answers: list[Input] = []
        self.carry_out(effects, answers)
        at = 0
        while at < len(answers):
            effects = self.core.handle(answers[at], now)
            if world.watched:
                world.witness(self, answers[at], effects, now)
            self.carry_out(effects, answers)
            at += 1

    def carry_out(self, effects: Sequence[Effect], answers: list[Input]) -> None:
        """Do what the core asks for; what follows at once is added to ``answers``."""
        for effect in effects:
            if type(effect) is Send:
                message = effect.message
                if type(message) is not Chunk:
                    self._world.send(self, effect.to, message, b"")
                    continue
                found = self.body.payload(message)
                if found is not None:
                    self._world.send(self, effect.to, found[1], found[0])
                continue
            answer = self._carry_out(effect)
            if answer is not None:
                answers.append(answer)

    def hear(self, sent: Sent) -> None:
        """A frame arrived. A chunk is checked and stored before the core hears of it."""
        sender, message = sent.received.sender, sent.received.message
        if not isinstance(message, Chunk) or self.body.store(sender, message, sent.payload):
            self.feed(sent.received)

    def _carry_out(self, effect: Effect) -> Input | None:
        """Do it; the input that follows at once, if any."""
        match effect:
            case Tell(report):
                self._take_report(report)
            case Reserve():
                return self.body.reserve(effect)
            case Release(transfer):
                self.body.release(transfer)
            case Compute():
                self._compute(effect)
            case Apply():
                if not self.body.queue(effect) and not effect.undo:
                    return Applied(effect.transfer.exchange, False)
            case Replace():
                if not self.body.queue(effect):
                    return Applied(effect.transfer.exchange, False)
            case Dial():
                self._world.dial(self, effect)
            case Hangup(peer):
                self._world.hang_up(self, peer)
            case Persist(contacts):
                self.kept = contacts
            case Send():
                pass  # done where effects are gone through
            case _:
                assert_never(effect)
        return None

    def _compute(self, effect: Compute) -> None:
        """Made now, ready a little later: what the trainer does meanwhile is not in it."""
        computed: Computed = self.body.compute(effect)
        self._world.later(self, self.dice.uniform(*self.birth.pace.compute_s), computed)

    def _take_report(self, report: Report) -> None:
        name = type(report).__name__
        self.reports[name] = self.reports.get(name, 0) + 1
        match report:
            case SwapClosed():
                self.closed_swaps.append((self._world.now, report))
            case OneSided(exchange):
                self.one_sided.append(exchange)
            case Finalised():
                self.finalised = report
            case Departed():
                self.departed = True
            case _:
                pass

    # The trainer.

    def step(self) -> Seconds:
        """One training step and the hook after it; how long until the next one.

        Without a model to train, or once told to finish, only the hook runs.
        """
        if self.training and self.core.phase is Phase.TRAINING:
            self._place_shards()
            self.steps += 1
            self._feed_all(self.body.step(self.shards))
        else:
            self._feed_all(self.body.rest())
        factor = self.dice.uniform(0.9, 1.1)  # before _step_s: the dice are made with it
        return self._step_s * factor

    def finish(self, together: bool) -> None:
        """The trainer's last publish, then finalise; the hook goes on applying."""
        if self.training and self.core.phase is Phase.TRAINING:
            self._feed_all(self.body.publish_now())
        self.training = False
        self.feed(Asked(Finish(together)))

    def _feed_all(self, news: Sequence[Input]) -> None:
        for happened in news:
            self.feed(happened)

    def swaps_applied(self, since_s: Seconds = 0.0) -> int:
        """Swaps that moved both sides and were closed here from ``since_s`` on."""
        return sum(
            at_s >= since_s and closed.outcome is Outcome.APPLIED
            for at_s, closed in self.closed_swaps
        )

    def _place_shards(self) -> None:
        shares = self.core.shares(self._world.now)
        if shares != self._placed_for:
            self._placed_for = shares
            self.shards = owned(self.body.shards, shares, self.me.peer)

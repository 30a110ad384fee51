"""One life of one simulated peer: the production core, its body, and a trainer in virtual time.

It does what a real peer's two threads do: carries out the core's byte effects, and runs the
optimizer hook every step. Time, the network and all dice come from the world (``Surroundings``).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

from gossip.config import Config
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
from gossip.messages import Chunk, ExchangeId, Message, Outcome, PeerId, Phase, Record, Seconds
from gossip.replication.placement import owned
from simulations.transcript import Entry
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


class Surroundings(Protocol):
    """What a simulated peer asks of its world."""

    @property
    def now(self) -> Seconds:
        """Virtual time."""
        ...

    def later(self, life: SimulatedPeer, delay_s: Seconds, happened: Input) -> None:
        """Feed an input of the peer's own after a while."""
        ...

    def send(self, life: SimulatedPeer, to: PeerId, sent: Sent) -> None:
        """Hand a frame to the network."""
        ...

    def dial(self, life: SimulatedPeer, effect: Dial) -> None:
        """Open a link."""
        ...

    def hang_up(self, life: SimulatedPeer, peer: PeerId) -> None:
        """Close a link."""
        ...

    def witness(self, life: SimulatedPeer, entry: Entry) -> None:
        """Called after each step of the core, before its effects are carried out."""
        ...


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame: the message, and the payload if it is a chunk."""

    received: Received
    payload: bytes = b""

    @property
    def bulk_bytes(self) -> int:
        """Size on the bulk plane; 0 for control messages."""
        message = self.received.message
        return message.length_bytes if isinstance(message, Chunk) else 0


class SimulatedPeer:
    """See the module. ``name`` is short and readable: the peer's number and its boot."""

    def __init__(
        self,
        number: int,
        me: Record,
        body: Body,
        config: Config,
        pace: Pace,
        rng_of: Callable[[str], random.Random],
        world: Surroundings,
    ) -> None:
        self.number = number
        self.me = me
        self.name = f"p{number}#{me.boot}"
        self.body = body
        self.config = config
        self.pace = pace
        self.started_at = world.now
        self._rng_of = rng_of
        self.core = self.fresh_core()
        self.running = True
        self.crashed = False
        self.resumes_at: Seconds | None = None
        self.inbox: deque[Input | Sent] = deque()
        self.wakes_at: Seconds | None = None
        self.steps = 0
        self.training = True
        self.closed_swaps: list[tuple[Seconds, SwapClosed]] = []
        self.one_sided: list[ExchangeId] = []
        self.reports: dict[str, int] = {}
        self.finalised: Finalised | None = None
        self.departed = False
        self.shards: tuple[int, ...] = ()
        self._world = world
        self._dice = rng_of("trainer")
        spread = pace.speed_spread
        self._step_s = pace.step_s * (1 + self._dice.uniform(-spread, spread))
        self._placed_for: tuple[PeerId, ...] = ()

    # The core and its effects.

    def fresh_core(self) -> Core:
        """A core as this life began with."""
        rng = self._rng_of("core")
        return Core(self.me, self.body.layout, self.config, rng, self.started_at)

    def feed(self, happened: Input) -> None:
        """Give the core one input and carry out what it asks for, in order."""
        waiting: deque[Input] = deque([happened])
        while waiting:
            heard = waiting.popleft()
            effects = self.core.handle(heard, self._world.now)
            self._world.witness(self, Entry(self._world.now, heard, tuple(effects)))
            for effect in effects:
                answer = self._carry_out(effect)
                if answer is not None:
                    waiting.append(answer)

    def hear(self, sent: Sent) -> None:
        """A frame arrived. A chunk is checked and stored before the core hears of it."""
        sender, message = sent.received.sender, sent.received.message
        if not isinstance(message, Chunk) or self.body.store(sender, message, sent.payload):
            self.feed(sent.received)

    def _carry_out(self, effect: Effect) -> Input | None:
        """Do it; the input that follows at once, if any."""
        match effect:
            case Send():
                self._send(effect.to, effect.message)
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
            case Tell(report):
                self._take_report(report)
            case Persist():
                pass
            case _:
                assert_never(effect)
        return None

    def _send(self, to: PeerId, message: Message) -> None:
        if not isinstance(message, Chunk):
            self._world.send(self, to, Sent(Received(self.me.peer, message)))
            return
        found = self.body.payload(message)
        if found is not None:
            payload, chunk = found
            self._world.send(self, to, Sent(Received(self.me.peer, chunk), payload))

    def _compute(self, effect: Compute) -> None:
        """Made now, ready a little later: what the trainer does meanwhile is not in it."""
        computed: Computed = self.body.compute(effect)
        self._world.later(self, self._dice.uniform(*self.pace.compute_s), computed)

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
        return self._step_s * self._dice.uniform(0.9, 1.1)

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
        members = tuple(self.core.training_members())
        if members != self._placed_for:
            self._placed_for = members
            weighted = [(peer, 1.0) for peer in members]
            self.shards = owned(self.body.shards, weighted, self.me.peer)

"""A swarm in virtual time: N production cores, one event queue, one seed, one process.

Events are ordered by (time, timers last, counter), so a peer's inbox comes before its timers and
equal times are told apart by the order in which they were asked for. Nothing here reads a clock,
a global generator or an order that differs between processes: the same calls give the same
transcript.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from gossip.config import Config
from gossip.machine import (
    Asked,
    Dial,
    DialFailed,
    Input,
    Join,
    Leave,
    LinkCause,
    LinkLost,
    LinkUp,
    Woke,
)
from gossip.messages import PeerId, Record, Seconds, Status
from gossip.mixing.outer import OuterStep
from peers.hook import Cadence
from peers.tasks.task import Task
from simulations.checks import Watch
from simulations.network import Conditions, Network
from simulations.seeds import derive, generator
from simulations.simulated_peer import Pace, Sent, SimulatedPeer
from simulations.transcript import Entry, Transcript
from simulations.workload import Body, HollowBody, TensorBody

WAKES_AT_ONCE_MAX = 100
"""A core that asks to be woken more often than this without time passing spins."""

START_DELAY_S = 0.001
"""A process needs a moment between its birth and its first words."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a world is made of.

    With a ``task`` peers carry its model and train it; without one they are hollow and trade
    blobs of ``vector_bytes`` by reference. ``model_seed`` None: each peer starts from a model of
    its own, so that adoption can be seen. ``lines`` keeps a transcript, ``journals`` every entry.
    """

    seed: int
    task: Task | None = None
    config: Config = field(default_factory=Config)
    conditions: Conditions = field(default_factory=Conditions)
    pace: Pace = field(default_factory=Pace)
    cadence: Cadence = field(default_factory=lambda: Cadence(swap_every=4))
    outer: OuterStep = field(default_factory=OuterStep)
    model_seed: int | None = None
    vector_bytes: int = 100_000_000
    lines: bool = False
    journals: bool = False


class World:
    """See the module. Peers are numbered from 0; ``current`` is each one's latest life."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.transcript = Transcript()
        self.network = Network(plan.conditions, generator(plan.seed, "network"))
        self.lives: list[SimulatedPeer] = []
        self.current: dict[int, SimulatedPeer] = {}
        self.journals: dict[str, list[Entry]] = {}
        self.events = 0
        self._now: Seconds = 0.0
        self._queue: list[tuple[Seconds, int, int, Callable[[], None]]] = []
        self._counter = 0
        self._by_peer: dict[PeerId, SimulatedPeer] = {}
        self._by_address: dict[str, PeerId] = {}
        self._watch = Watch()
        self._wakes_at_once = 0

    # Time.

    @property
    def now(self) -> Seconds:
        """Virtual time in seconds since the world began."""
        return self._now

    def at(self, when_s: Seconds, act: Callable[[], None], timer: bool = False) -> None:
        """Do something at a time that has not passed yet."""
        assert when_s >= self._now, "the past is over"
        self._counter += 1
        heapq.heappush(self._queue, (when_s, int(timer), self._counter, act))

    def run(self, until_s: Seconds, stop: Callable[[], bool] = lambda: False) -> bool:
        """Go on until a time, or until ``stop`` says so after an event; whether it did."""
        while self._queue and self._queue[0][0] <= until_s:
            when_s, _, _, act = heapq.heappop(self._queue)
            self._wakes_at_once = 0 if when_s > self._now else self._wakes_at_once
            self._now = when_s
            self.events += 1
            act()
            if stop():
                return True
        self._now = until_s
        return False

    # Peers.

    @property
    def running(self) -> list[SimulatedPeer]:
        """The lives that go on, by number."""
        return [self.current[n] for n in sorted(self.current) if self.current[n].running]

    def start(self, number: int, contacts: Sequence[int] = ()) -> SimulatedPeer:
        """A process begins now: the first life of this peer, or the next one after its end.

        ``contacts`` are peers' numbers; with none it founds a lineage.
        """
        before = self.current.get(number)
        assert before is None or not before.running, f"peer {number} is running"
        boot = 1 if before is None else before.me.boot + 1
        me = self._record(number, boot)
        seed = self.plan.seed
        life = SimulatedPeer(
            number,
            me,
            self._body(number, boot),
            self.plan.config,
            self.plan.pace,
            lambda part: generator(seed, "peer", number, boot, part),
            self,
        )
        self.lives.append(life)
        self.current[number] = self._by_peer[me.peer] = life
        self._by_address[me.control_address] = me.peer
        self._remark(f"{life.name} ({me.peer}) starts")
        addresses = tuple(self._record(other, 1).control_address for other in contacts)
        self.later(life, START_DELAY_S, Asked(Join(addresses)))
        self.at(self._now + START_DELAY_S, partial(self._step, life))
        self._reconnect(me.peer)
        return life

    def start_together(self, count: int) -> None:
        """Peer 0 founds; the others join through it."""
        for number in range(count):
            self.start(number, () if number == 0 else (0,))

    def _record(self, number: int, boot: int) -> Record:
        peer = PeerId(f"{derive(self.plan.seed, 'id', number):016x}")
        host = f"10.0.{number // 250}.{number % 250 + 1}"
        return Record(peer, boot, 0, Status.ALIVE, f"{host}:4100", f"{host}:4101", host)

    def _body(self, number: int, boot: int) -> Body:
        plan, fragments = self.plan, self.plan.config.exchange.fragments
        if plan.task is None:
            return HollowBody(plan.vector_bytes, fragments, plan.cadence)
        own_seed = derive(plan.seed, "model", number, boot) % (1 << 31)
        model_seed = own_seed if plan.model_seed is None else plan.model_seed
        order_seed = derive(plan.seed, "order")
        return TensorBody(plan.task, model_seed, order_seed, plan.outer, fragments, plan.cadence)

    # Faults and wishes.

    def crash(self, number: int) -> None:
        """The process is gone at once; its host lives and refuses connections."""
        life = self.current[number]
        self._remark(f"{life.name} crashes")
        life.crashed = True
        self._end(life)

    def pause(self, number: int, for_s: Seconds) -> None:
        """The whole process stands still (SIGSTOP); its inbox is kept."""
        life = self.current[number]
        self._remark(f"{life.name} pauses for {for_s:g} s")
        life.resumes_at = self._now + for_s
        silent_s = self.plan.conditions.silent_s
        if for_s > silent_s:
            for dialer in self.network.dialers(life.me.peer):
                self.at(self._now + silent_s, partial(self._lose, dialer, life.me.peer))
        self.at(self._now + for_s, partial(self._resume, life))

    def leave(self, number: int) -> None:
        """The owner asks for a polite leave; the process ends when the core has departed."""
        life = self.current[number]
        self._remark(f"{life.name} is asked to leave")
        life.training = False
        life.feed(Asked(Leave()))
        self._after(life)

    def finish(self, numbers: Sequence[int] | None = None, together: bool = True) -> None:
        """Ask these peers (default: all that run) to finalise."""
        for life in self.running:
            if numbers is None or life.number in numbers:
                self._remark(f"{life.name} is asked to finish")
                life.finish(together)
                self._after(life)

    def cut(self, a: int, b: int, for_s: Seconds) -> None:
        """Nothing passes between two peers for a while."""
        one, other = self.current[a].me.peer, self.current[b].me.peer
        self._remark(f"{a} and {b} are cut for {for_s:g} s")
        self.network.cut(one, other)
        self._notice_cuts()
        self.at(self._now + for_s, partial(self._mend, one, other))

    def split(self, sides: Sequence[Sequence[int]]) -> None:
        """Nothing passes between the sides until ``heal``."""
        self._remark(f"split into {[list(side) for side in sides]}")
        peers = [[self.current[number].me.peer for number in side] for side in sides]
        self.network.split(peers)
        self._notice_cuts()

    def heal(self) -> None:
        """The split is over; lost links come up again."""
        self._remark("the split heals")
        self.network.heal()
        for peer in list(self._by_peer):
            self._reconnect(peer)

    # Surroundings of each peer.

    def later(self, life: SimulatedPeer, delay_s: Seconds, happened: Input) -> None:
        """See Surroundings."""
        self.at(self._now + delay_s, partial(self._deliver, life, happened))

    def send(self, life: SimulatedPeer, to: PeerId, sent: Sent) -> None:
        """See Surroundings. What finds no process is lost."""
        peer = life.me.peer
        for arrives_at in self.network.arrivals(peer, to, sent.bulk_bytes, self._now):
            self.at(arrives_at, partial(self._arrive, to, sent))

    def dial(self, life: SimulatedPeer, effect: Dial) -> None:
        """See Surroundings: LinkUp after a round trip, or word of the failure."""
        to = effect.peer or self._by_address.get(effect.control_address)
        if to is not None and effect.peer is not None:
            self.network.want(life.me.peer, to)
        delay_s = 0.0 if to is None else 2 * self.network.latency_s(life.me.peer, to)
        delay_s = delay_s or self.plan.conditions.latency_s[1]
        if to is not None and self.network.is_cut(life.me.peer, to):
            delay_s = self.plan.conditions.silent_s
        contact = effect.control_address if effect.peer is None else None
        self.at(self._now + delay_s, partial(self._dialed, life, to, contact))

    def hang_up(self, life: SimulatedPeer, peer: PeerId) -> None:
        """See Surroundings."""
        self.network.hang_up(life.me.peer, peer)

    def witness(self, life: SimulatedPeer, entry: Entry) -> None:
        """See Surroundings: transcript, journal and checks."""
        if self.plan.lines:
            self.transcript.note(life.name, entry)
        if self.plan.journals:
            self.journals.setdefault(life.name, []).append(entry)
        self._watch.look(life, entry.happened, entry.effects)

    # Events.

    def _arrive(self, to: PeerId, sent: Sent) -> None:
        life = self._by_peer.get(to)
        if life is not None and not self.network.is_cut(to, sent.received.sender):
            self._deliver(life, sent)

    def _deliver(self, life: SimulatedPeer, item: Input | Sent) -> None:
        if not life.running:
            return
        if life.resumes_at is not None:
            life.inbox.append(item)
            return
        if isinstance(item, Sent):
            life.hear(item)
        else:
            life.feed(item)
        self._after(life)

    def _after(self, life: SimulatedPeer) -> None:
        """The core was fed: see to its next deadline, and to its end."""
        if life.departed and life.running:
            self._remark(f"{life.name} has left")
            self._end(life)
            return
        due_at = max(life.core.deadline(), self._now)
        if due_at != float("inf") and (life.wakes_at is None or due_at < life.wakes_at):
            life.wakes_at = due_at
            self.at(due_at, partial(self._wake, life, due_at), timer=True)

    def _wake(self, life: SimulatedPeer, due_at: Seconds) -> None:
        if not life.running or life.wakes_at != due_at:
            return
        life.wakes_at = None
        if life.resumes_at is not None:
            return
        self._wakes_at_once += 1
        assert self._wakes_at_once <= WAKES_AT_ONCE_MAX * len(self.lives), "a core spins"
        if life.core.deadline() <= self._now:
            life.feed(Woke())
        self._after(life)

    def _step(self, life: SimulatedPeer) -> None:
        if not life.running:
            return
        if life.resumes_at is not None:
            self.at(life.resumes_at, partial(self._step, life), timer=True)
            return
        delay_s = life.step()
        self._after(life)
        self.at(self._now + delay_s, partial(self._step, life))

    def _resume(self, life: SimulatedPeer) -> None:
        if not life.running or life.resumes_at is None or life.resumes_at > self._now:
            return
        life.resumes_at = None
        while life.inbox:
            self._deliver(life, life.inbox.popleft())
        self._after(life)
        self._reconnect(life.me.peer)

    def _end(self, life: SimulatedPeer) -> None:
        life.running = False
        peer = life.me.peer
        self.network.forget(peer)
        for dialer in self.network.dialers(peer):
            if not self.network.is_up(dialer, peer):
                continue
            self.network.set_up(dialer, peer, False)
            there = self._by_peer[dialer]
            latency_s = self.network.latency_s(dialer, peer)
            # The kernel closes the connection, the redial finds nobody.
            self.later(there, latency_s, LinkLost(peer, LinkCause.CLOSED))
            self.later(there, 3 * latency_s, LinkLost(peer, LinkCause.REFUSED))

    def _dialed(self, life: SimulatedPeer, to: PeerId | None, contact: str | None) -> None:
        """The handshake of a dial is over, well or badly."""
        if not life.running:
            return
        me = life.me.peer
        there = None if to is None else self._by_peer.get(to)
        cut = to is not None and self.network.is_cut(me, to)
        cause = LinkCause.SILENT if cut else LinkCause.REFUSED
        if to is None or there is None or not there.running or cut:
            if contact is not None:
                self._deliver(life, DialFailed(contact, cause))
            elif to is not None and self.network.is_wanted(me, to):
                self._deliver(life, LinkLost(to, cause))
            return
        if contact is not None:
            self.network.want(me, to)
        if not self.network.is_wanted(me, to):
            return
        if there.resumes_at is not None:
            return  # accepted by the kernel, silent: comes up when the process goes on
        was_up = self.network.is_up(me, to)
        self.network.set_up(me, to, True)
        if contact is not None or not was_up:
            self._deliver(life, LinkUp(to))

    def _reconnect(self, peer: PeerId) -> None:
        """Whoever keeps a lost link to this peer finds it again; transports redial for ever."""
        for dialer in self.network.dialers(peer):
            if not self.network.is_up(dialer, peer) and not self.network.is_cut(dialer, peer):
                delay_s = 2 * self.network.latency_s(dialer, peer) + START_DELAY_S
                self.at(self._now + delay_s, partial(self._redial, dialer, peer))

    def _redial(self, dialer: PeerId, peer: PeerId) -> None:
        life = self._by_peer[dialer]
        lost = self.network.is_wanted(dialer, peer) and not self.network.is_up(dialer, peer)
        there = self._by_peer[peer]
        if life.running and lost and there.running and not self.network.is_cut(dialer, peer):
            self.network.set_up(dialer, peer, True)
            self._deliver(life, LinkUp(peer))

    def _lose(self, dialer: PeerId, peer: PeerId) -> None:
        """No sign for so long that the dialer's transport gives up the link."""
        there = self._by_peer[peer]
        still = self.network.is_cut(dialer, peer) or there.resumes_at is not None
        if still and self.network.is_up(dialer, peer):
            self.network.set_up(dialer, peer, False)
            self._deliver(self._by_peer[dialer], LinkLost(peer, LinkCause.SILENT))

    def _notice_cuts(self) -> None:
        silent_at = self._now + self.plan.conditions.silent_s
        for dialer, peer in self.network.pairs():
            if self.network.is_cut(dialer, peer):
                self.at(silent_at, partial(self._lose, dialer, peer))

    def _mend(self, a: PeerId, b: PeerId) -> None:
        self.network.mend(a, b)
        self._reconnect(a)
        self._reconnect(b)

    def _remark(self, text: str) -> None:
        if self.plan.lines:
            self.transcript.remark(self._now, text)

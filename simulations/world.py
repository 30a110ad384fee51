"""A swarm in virtual time: N production cores, one event queue, one seed, one process.

Events are ordered by (time, timers last, counter), so a peer's inbox comes before its timers and
equal times are told apart by the order in which they were asked for. Nothing here reads a clock,
a global generator or an order that differs between processes: the same calls give the same
transcript.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from gossip.machine import Asked, Dial, Effect, Finish, Input, Join, Leave, Woke
from gossip.membership.known import Known
from gossip.messages import Chunk, Message, PeerId, Seconds
from simulations.agenda import Agenda
from simulations.births import first_record, make_body
from simulations.checks import Watch
from simulations.clock import Clock
from simulations.network import Link, LinkState, Network, Port, Waiting
from simulations.plan import Check
from simulations.plan import Plan as Plan
from simulations.seeds import generator
from simulations.simulated_peer import Birth, Sent, SimulatedPeer, Surroundings
from simulations.traffic import Meter
from simulations.transcript import Entry, Transcript
from simulations.wiring import Wiring

WAKES_AT_ONCE_MAX: Final = 100
"""A core that asks to be woken more often than this without time passing spins."""

START_DELAY_S: Final = 0.001
"""A process needs a moment between its birth and its first words."""

SLOTS_PER_S: Final = 512.0
"""Events of two milliseconds are sorted at a time: hundreds, when there are thousands of peers."""

_FRAME: Final = 0
_WAKE: Final = 1
_CALL: Final = 2
_WOKE: Final = Woke()
_TIMER: Final = 1 << 60
"""Added to an event's number: timers come after everything else of the same time."""


class World(Surroundings):
    """See the module. Peers are numbered from 0; ``current`` is each one's latest life."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.transcript = Transcript()
        self.network = Network(plan.conditions, plan.seed, generator(plan.seed, "network"))
        self.wiring = Wiring(self.network, self)
        self.meter = Meter(plan.config.run)
        self.lives: list[SimulatedPeer] = []
        self.current: dict[int, SimulatedPeer] = {}
        self.journals: dict[str, list[Entry]] = {}
        self.running_count = 0
        self.events = 0
        self.checks: list[Check] = [Watch()] if plan.trainers else []
        self.now: Seconds = 0.0
        self._agenda = Agenda(SLOTS_PER_S)
        self._counter = 0
        self._by_address: dict[str, Port] = {}
        self.watched = bool(self.checks) or plan.lines or plan.journals
        self._plain = plan.conditions.is_plain
        self._jitter_s = plan.conditions.jitter_s
        self._wakes_at_once = 0
        self._woke_at: Seconds = 0.0

    def watch(self, check: Check) -> None:
        """Have this one look at every step from now on."""
        self.checks.append(check)
        self.watched = True

    # Time.

    def at(self, when_s: Seconds, act: Callable[[], None]) -> None:
        """Do something at a time that has not passed yet."""
        self.call(when_s, act)

    def call(self, when_s: Seconds, function: Callable[..., None], *arguments: Any) -> None:
        """The same with arguments."""
        assert when_s >= self.now, "the past is over"
        self._counter += 1
        self._agenda.push((when_s, self._counter, _CALL, function, arguments))

    def run(self, until_s: Seconds, stop: Callable[[], bool] | None = None) -> bool:
        """Go on until a time, or until ``stop`` says so after an event; whether it did."""
        agenda = self._agenda
        while agenda.near or agenda.next_slot():
            event = agenda.near.pop()
            when_s, _, kind, who, what = event
            if when_s > until_s:
                agenda.push(event)
                break
            self.now = when_s
            self.events += 1
            if kind == _FRAME:
                life: SimulatedPeer = who
                if life.running:
                    if life.resumes_at is None:
                        life.feed(what)
                        self._after(life)
                    else:
                        life.inbox.append(what)
            elif kind == _WAKE:
                woken: SimulatedPeer = who
                if woken.wakes_at == what:
                    self._wake(woken)
            else:
                who(*what)
            if stop is not None and stop():
                return True
        self.now = max(self.now, until_s)
        return False

    # Peers.

    @property
    def running(self) -> list[SimulatedPeer]:
        """The lives that go on, by number."""
        return [self.current[n] for n in sorted(self.current) if self.current[n].running]

    def start(self, number: int, contacts: Sequence[int] = (), disk: bool = True) -> SimulatedPeer:
        """A process begins now: the first life of this peer, or the next one after its end.

        ``contacts`` are numbers, beside what is on its disk; with none it founds a lineage. Without
        its ``disk`` it does not know that it lived before, and begins again with boot 1.
        """
        life = self._begin(number, disk)
        told = (first_record(self.plan, other, 1).control_address for other in contacts)
        named, kept = tuple(filter(None, told)), life.kept if contacts else ()
        if named or kept or self.plan.trainers:
            self.later(life, START_DELAY_S, Asked(Join(named, kept)))
        if self.plan.trainers:
            self.call(self.now + START_DELAY_S, self._step, life)
        self.wiring.started(life)
        return life

    def start_together(self, count: int) -> None:
        """Peer 0 founds; the others join through it."""
        for number in range(count):
            self.start(number, () if number == 0 else (0,))

    def start_acquainted(self, count: int) -> None:
        """So many peers that all know each other, as if they had been here for long."""
        assert not self.plan.trainers, "trainers need a lineage: start them together"
        records = [first_record(self.plan, number, 1) for number in range(count)]
        known = Known.of(records, self.plan.config.membership.observers)
        for life in [self._begin(number, disk=True, known=known) for number in range(count)]:
            self._after(life)

    def _begin(self, number: int, disk: bool, known: Known | None = None) -> SimulatedPeer:
        before = self.current.get(number)
        assert before is None or not before.running, f"peer {number} is running"
        # As the wall clock would see to it, it is also above a boot that this life rose to.
        boot, kept = (before.core.swim.me.boot + 1, before.kept) if before and disk else (1, ())
        me = first_record(self.plan, number, boot)
        plan, port, make_core = self.plan, self.network.port(me.peer), self.plan.make_core
        birth = Birth(number, me, plan.config, plan.pace, plan.seed, self.now, make_core, known)
        life = SimulatedPeer(birth, make_body(plan, number, boot), port, self)
        life.kept = kept
        self.lives.append(life)
        self.running_count += 1
        self.current[number] = port.life = life
        self._by_address[me.control_address] = port
        self.remark(f"{life.name} ({me.peer}) starts")
        for check in self.checks:
            check.began(life)
        return life

    # Faults and wishes.

    def crash(self, number: int) -> None:
        """The process is gone at once; its host lives and refuses connections."""
        self._fall(number, host_lost=False)

    def lose_host(self, number: int) -> None:
        """The process is gone with its host, which answers nobody; ``start`` brings both back."""
        self._fall(number, host_lost=True)

    def freeze(self, number: int, for_s: Seconds) -> None:
        """The whole process stands still (SIGSTOP), the library's threads included."""
        life = self.current[number]
        self.remark(f"{life.name} freezes for {for_s:g} s")
        if life.frozen_since is None:
            life.frozen_since = self.now
            self.wiring.frozen(life)
        self._rest(life, for_s)

    def stall(self, number: int, for_s: Seconds) -> None:
        """The peer's thread is starved; links stay up, the inbox is kept, timers are late."""
        life = self.current[number]
        self.remark(f"{life.name} stalls for {for_s:g} s")
        self._rest(life, for_s)

    def set_clock_rate(self, number: int, rate: float) -> None:
        """From now on this peer's clock runs at so many times the world's pace."""
        life = self.current[number]
        self.remark(f"the clock of {life.name} runs at {rate:g}")
        if life.clock is None:
            life.clock = Clock(self.now)
        life.clock.set_rate(self.now, rate)
        life.wakes_at = math.inf
        self._after(life)

    def leave(self, number: int) -> None:
        """The owner asks for a polite leave; the process ends when the core has departed."""
        life = self.current[number]
        self.remark(f"{life.name} is asked to leave")
        life.training = False
        life.leaving = True
        self.deliver(life, Asked(Leave()))

    def finish(self, numbers: Sequence[int] | None = None, together: bool = True) -> None:
        """Ask these peers (default: all that run) to finalise."""
        for life in self.running:
            if numbers is None or life.number in numbers:
                self.remark(f"{life.name} is asked to finish")
                if life.resumes_at is None:
                    life.finish(together)
                    self._after(life)
                else:
                    life.training = False
                    life.inbox.append(Asked(Finish(together)))

    def cut(self, a: int, b: int, for_s: Seconds, both_ways: bool = True) -> None:
        """Nothing passes from one peer to another for a while, nor back if ``both_ways``."""
        one, other = self.current[a].me.peer, self.current[b].me.peer
        self.remark(f"{a} and {b} are cut for {for_s:g} s{'' if both_ways else ', one way'}")
        ways = [(one, other), (other, one)] if both_ways else [(one, other)]
        for way in ways:
            self.network.cut(*way)
        self.wiring.notice_cuts(self.network.between(one, other))
        self.call(self.now + for_s, self._mend, ways)

    def split(self, sides: Sequence[Sequence[int]], one_way: bool = False) -> None:
        """Nothing passes between the sides until ``heal``; see ``Network.split``."""
        sizes = [len(side) for side in sides]
        self.remark(f"split into {[list(s) for s in sides] if sum(sizes) < 50 else sizes}")
        self.network.split([[self.current[n].me.peer for n in each] for each in sides], one_way)
        self.wiring.notice_cuts(self.network.links())
        for check in self.checks:
            check.split()

    def heal(self) -> None:
        """The split is over; lost links come up again."""
        self.remark("the split heals")
        self.network.heal()
        self.wiring.notice_mends(self.network.links())
        for check in self.checks:
            check.healed()

    def calm(self) -> None:
        """From now on every frame arrives, once and at about the same pace."""
        self.remark("nothing is lost any more")
        self.network.conditions = calmer = self.network.conditions.calmer
        self._plain = calmer.is_plain

    # Surroundings of each peer.

    def later(self, life: SimulatedPeer, delay_s: Seconds, happened: Input) -> None:
        """See Surroundings."""
        self.call(self.now + delay_s, self.deliver, life, happened)

    def send(self, life: SimulatedPeer, to: PeerId, message: Message, payload: bytes) -> None:
        """See Surroundings. What finds no link and no process is lost."""
        network, port = self.network, life.port
        received = port.frame(message)
        item: Waiting = received
        if type(message) is Chunk:
            item = Sent(received, payload)
        else:
            life.control_bytes += self.meter.count(port.peer, message)
        network.frames += 1
        link = port.outgoing.get(to)
        if link is None or not link.up:
            link = self._way_back(port, to, link, item)
            if link is None:
                return
        if self._plain and not (network.impaired or link.unseen) and item is received:
            there = link.there if link.here is life else link.here
            arrives_at = self.now + link.latency_s + network.random() * self._jitter_s
            self._counter += 1
            self._agenda.push((arrives_at, self._counter, _FRAME, there, item))
        else:
            self.transmit(life, link, item)

    def _way_back(self, port: Port, to: PeerId, link: Link | None, item: Waiting) -> Link | None:
        """The link that the other one dialed; without it the frame waits or is lost."""
        back = port.incoming.get(to)
        if back is not None and back.up:
            return back
        dialing = link is not None and link.state is LinkState.DIALING
        if link is None or not dialing or not self.wiring.wait(link, item):
            self.network.lost_frames += 1
        return None

    def transmit(self, life: SimulatedPeer, link: Link, item: Waiting) -> None:
        """Put a frame on a link that is up."""
        network, leaves_at = self.network, self.now
        there = link.there if link.here is life else link.here
        assert there is not None, "a link that is up has two ends"
        if isinstance(item, Sent):
            message = item.received.message
            assert isinstance(message, Chunk), "only chunks have a payload"
            leaves_at = network.leaves_at(life.port, message.length_bytes, self.now)
        elif not math.isinf(network.conditions.bytes_per_s):
            frame_bytes = self.meter.exact_bytes(life.me.peer, item.message)
            leaves_at = network.control_leaves_at(life.port, frame_bytes, self.now)
        if network.impaired and not network.passes(life.port, there.port):
            network.lost_frames += 1
            return
        arrivals = network.arrivals(link.latency_s, leaves_at)
        network.lost_frames += not arrivals
        if arrivals and link.unseen and link.here is life:
            self.wiring.visits(link, arrivals[0])
        for arrives_at in arrivals:
            if isinstance(item, Sent):
                self.call(arrives_at, self.deliver, there, item)
                continue
            self._counter += 1
            self._agenda.push((arrives_at, self._counter, _FRAME, there, item))

    def dial(self, life: SimulatedPeer, effect: Dial) -> None:
        """See Surroundings: LinkUp after a round trip, or word of the failure."""
        if effect.peer is None:
            contact = effect.control_address
            self.wiring.dial_contact(life, self._by_address.get(contact), contact)
        else:
            self.wiring.dial(life, self.network.port(effect.peer))

    def hang_up(self, life: SimulatedPeer, peer: PeerId) -> None:
        """See Surroundings."""
        self.wiring.hang_up(life, peer)

    def witness(
        self, life: SimulatedPeer, happened: Input, effects: list[Effect], now: Seconds
    ) -> None:
        """See Surroundings: transcript, journal and checks."""
        if self.plan.lines:
            self.transcript.note(life.name, Entry(now, happened, tuple(effects)))
        if self.plan.journals:
            self.journals.setdefault(life.name, []).append(Entry(now, happened, tuple(effects)))
        for check in self.checks:
            check.look(life, happened, effects)

    def deliver(self, life: SimulatedPeer, item: Input | Sent) -> None:
        """Let a peer hear something now, or when it goes on."""
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

    def remark(self, text: str) -> None:
        """Note a fault or another thing that no core heard."""
        if self.plan.lines:
            self.transcript.remark(self.now, text)

    # Events.

    def _after(self, life: SimulatedPeer) -> None:
        """The core was fed: see to its next deadline, and to its end."""
        due_at = life.core.deadline()
        if life.clock is not None:
            due_at = life.clock.world(due_at)
        if due_at < life.wakes_at:
            due_at = max(due_at, self.now)
            life.wakes_at = due_at
            self._counter += 1
            self._agenda.push((due_at, self._counter + _TIMER, _WAKE, life, due_at))
        if life.departed and life.running:
            self.remark(f"{life.name} has left")
            self._end(life, host_lost=False)

    def _wake(self, life: SimulatedPeer) -> None:
        life.wakes_at = math.inf
        if not life.running or life.resumes_at is not None:
            return
        if self.now == self._woke_at:
            self._wakes_at_once += 1
            assert self._wakes_at_once <= WAKES_AT_ONCE_MAX * len(self.lives), "a core spins"
        else:
            self._wakes_at_once, self._woke_at = 0, self.now
        if life.core.deadline() <= life.local(self.now):
            life.feed(_WOKE)
        self._after(life)

    def _step(self, life: SimulatedPeer) -> None:
        if not life.running:
            return
        if life.resumes_at is not None:
            self.call(life.resumes_at, self._step, life)
            return
        delay_s = life.step()
        self._after(life)
        self.call(self.now + delay_s, self._step, life)

    def _rest(self, life: SimulatedPeer, for_s: Seconds) -> None:
        until_s = self.now + for_s
        life.resumes_at = max(until_s, life.resumes_at or 0.0)
        if life.unwell_since is None:
            life.unwell_since = self.now
        self.call(until_s, self._resume, life)

    def _resume(self, life: SimulatedPeer) -> None:
        if not life.running or life.resumes_at is None or life.resumes_at > self.now:
            return
        if life.unwell_since is not None:
            life.rested_s += self.now - life.unwell_since
            life.well_since = self.now
        life.resumes_at = life.unwell_since = None
        was_frozen, life.frozen_since = life.frozen_since is not None, None
        while life.inbox and life.resumes_at is None:
            self.deliver(life, life.inbox.popleft())
        self._after(life)
        if was_frozen and life.running:
            self.wiring.thawed(life)

    def _fall(self, number: int, host_lost: bool) -> None:
        life = self.current[number]
        self.remark(f"{life.name} {'and its host are lost' if host_lost else 'crashes'}")
        life.crashed = True
        self._end(life, host_lost)

    def _end(self, life: SimulatedPeer, host_lost: bool) -> None:
        life.running = False
        self.running_count -= 1
        life.inbox.clear()
        self.wiring.ended(life, host_lost)
        for check in self.checks:
            check.ended(life)

    def _mend(self, ways: Sequence[tuple[PeerId, PeerId]]) -> None:
        for way in ways:
            self.network.mend(*way)
        self.wiring.notice_mends(self.network.between(*ways[0]))

"""The I/O thread of one peer: feeds the core, and does what it asks for.

It owns the sockets, the clock, the blobs and the journal. It never touches theta, and reads phi
only under its locks. Everything received is fed before timers, so that a peer that was starved
hears its neighbors out before it suspects any of them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from gossip.core import Core
from gossip.machine import (
    Applied,
    Apply,
    Compute,
    Departed,
    Dial,
    DialFailed,
    Effect,
    Fault,
    Hangup,
    Input,
    LineageChanged,
    LinkLost,
    LinkUp,
    MemberChanged,
    Persist,
    Reach,
    ReachChanged,
    Received,
    Release,
    Replace,
    Report,
    Reserve,
    Send,
    Tell,
    Woke,
)
from gossip.messages import Chunk, PeerId, Phase, Record, Status
from gossip.transport.transport import (
    Arrived,
    ChunkArrived,
    DialRefused,
    Event,
    Junk,
    LinkClosed,
    LinkOpened,
    Transport,
)
from peers.desk import Desk
from peers.hook import Hook
from peers.journal import Journal
from peers.mailbox import Mailbox, Replacement

POLL_MAX_S = 0.5
NOT_FOLLOWED = "its model is far apart from mine where nearly all others are near: left aside"
VIEW_EVERY_S = 0.05
"""Other threads see what changed within this; in a large swarm, members a little later."""

CHANGED_SHARE, UNCHANGED_SHARE = 0.05, 0.01
"""Looking at all members costs at most this share of the time, after a change and without one: what
they say of their lineages is told to nobody, and a share of the data grows with time."""

MEMBERS_EVERY_S = 3.0
"""They are looked at so often whatever it costs."""


@dataclass(frozen=True, slots=True)
class Census:
    """How many others a peer sees in each state.

    Live ones by its private verdict: ``alive`` it gets through to, ``busy`` are there but do not
    answer, ``lost`` it does not get through to. ``down`` are those the group has given up.
    """

    alive: int = 0
    busy: int = 0
    lost: int = 0
    down: int = 0

    @staticmethod
    def of(me: PeerId, records: Iterable[Record], reaches: Mapping[PeerId, Reach]) -> Census:
        """Count the records, without ``me`` and those that have left."""
        others = [each for each in records if each.peer != me]
        live = [each.peer for each in others if each.status < Status.DOWN]
        counts = Counter(reaches.get(peer, Reach.OPEN) for peer in live)
        down = sum(each.status is Status.DOWN for each in others)
        return Census(counts[Reach.OPEN], counts[Reach.BUSY], counts[Reach.LOST], down)


@dataclass(frozen=True, slots=True)
class Glance:
    """What the I/O thread last knew, for other threads to read."""

    phase: Phase = Phase.JOINING
    lineage: bytes = b""
    samples_total: int = 0
    members: tuple[Record, ...] = ()
    mates: tuple[PeerId, ...] = ()
    shares: tuple[tuple[PeerId, float], ...] = ()
    census: Census = Census()
    unsettled_swaps: int = 0
    sent_bytes: int = 0
    bulk_sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(slots=True)
class Outbox:
    """What the daemon tells its owner: ``report`` for each report, ``link`` for each link that
    was opened or lost, ``contacts`` to keep."""

    report: Callable[[Report], None] = lambda _: None
    link: Callable[[LinkOpened | LinkClosed], None] = lambda _: None
    contacts: Callable[[tuple[str, ...]], None] = lambda _: None
    crashed: Callable[[BaseException], None] = lambda _: None


@dataclass(slots=True)
class Daemon:
    """See the module. ``run`` is the thread; ``stop`` may be called from any other."""

    core: Core
    transport: Transport
    desk: Desk
    mailbox: Mailbox
    hook: Hook
    journal: Journal | None = None
    outbox: Outbox = field(default_factory=Outbox)
    clock: Callable[[], float] = time.monotonic
    view: Glance = field(default_factory=Glance)
    faults: Counter[str] = field(default_factory=Counter)
    departed: threading.Event = field(default_factory=threading.Event)
    _inbox: deque[Input] = field(default_factory=deque)
    _reaches: dict[PeerId, Reach] = field(default_factory=dict)
    _stopping: bool = False
    _view_at_s: float = 0.0
    _view_is_old: bool = True
    _members_are_old: bool = True
    _members_at_s: float = -MEMBERS_EVERY_S
    _members_cost_s: float = 0.0

    def stop(self) -> None:
        """Let ``run`` return soon, and say nothing more to anybody."""
        self._stopping = True
        self.transport.wake()

    def run(self) -> None:
        """Serve until stopped. An error here is our bug: it is told to the owner and re-raised."""
        try:
            while not self._stopping:
                self._turn()
        except BaseException as bug:
            self.outbox.crashed(bug)
            raise
        finally:
            self.transport.close()
            if self.journal is not None:
                self.journal.close()

    def _turn(self) -> None:
        due_s = self.core.deadline()
        if self._members_are_old:
            due_s = min(due_s, self._members_due_s())
        wait_s = min(max(0.0, due_s - self.clock()), POLL_MAX_S)
        for event in self.transport.poll(wait_s):
            self._take(event)
            self._drain()
        for happened in self.mailbox.news():
            self._inbox.append(happened)
        self._drain()
        if self.clock() >= self.core.deadline():
            self._inbox.append(Woke())
            self._drain()
        if self._view_is_old or self.clock() >= min(self._view_at_s, self._members_due_s()):
            self._look()

    def _take(self, event: Event) -> None:
        match event:
            case Arrived(sender, message):
                self._inbox.append(Received(sender, message))
            case ChunkArrived(sender, chunk, payload):
                if self.desk.store(sender, chunk, payload):
                    stored = Chunk(chunk.transfer, chunk.offset_bytes, chunk.length_bytes)
                    self._inbox.append(Received(sender, stored))
                elif self.desk.expects(chunk.transfer):
                    self._fault(Fault(sender, "chunk", "damaged, misplaced, or not theirs"))
                # else a late chunk of a transfer that is over: nobody's fault
            case LinkOpened(peer):
                self.outbox.link(event)
                self._inbox.append(LinkUp(peer))
            case LinkClosed(peer, cause):
                self.outbox.link(event)
                self._inbox.append(LinkLost(peer, cause))
            case DialRefused(address, cause):
                self._inbox.append(DialFailed(address, cause))
            case Junk(peer, kind, detail):
                self._fault(Fault(peer, kind, detail))
            case _:
                assert_never(event)

    def _drain(self) -> None:
        while self._inbox:
            happened = self._inbox.popleft()
            now = self.clock()
            effects = self.core.handle(happened, now)
            if self.journal is not None:
                self.journal.note(now, happened, effects)
            for effect in effects:
                self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send(to, message):
                self._send(to, message)
            case Reserve():
                answer = self.desk.reserve(effect)
                if answer is not None:
                    self._inbox.append(answer)
            case Release(transfer):
                self.desk.release(transfer)
            case Compute():
                self._inbox.append(self.desk.compute(effect))
            case Apply():
                self._apply(effect)
            case Replace():
                self._replace(effect)
            case Dial(peer, control_address, bulk_address):
                greeting = self.core.hello() if peer is None else None
                self.transport.dial(peer, control_address, bulk_address, greeting)
            case Hangup(peer):
                self.transport.hang_up(peer)
            case Persist(contacts):
                self.outbox.contacts(contacts)
            case Tell(report):
                self._tell(report)
            case _:
                assert_never(effect)

    def _send(self, to: PeerId, message: object) -> None:
        if not isinstance(message, Chunk):
            self.transport.send(to, message)  # type: ignore[arg-type] # narrowed by Send's type
            return
        found = self.desk.payload(message)
        if found is not None:
            view, chunk = found
            self.transport.send_chunk(to, chunk, view)

    def _apply(self, effect: Apply) -> None:
        work = None if self.hook.is_closed else self.desk.correction(effect)
        if work is not None:
            if not (work.followed or work.undo):
                self._fault(Fault(effect.partner, "apart", NOT_FOLLOWED))
            self.mailbox.to_hook(work)
        elif not effect.undo:
            self._inbox.append(Applied(effect.transfer.exchange, applied=False))

    def _replace(self, effect: Replace) -> None:
        snapshot_N = None if self.hook.is_closed else self.desk.snapshot_of(effect)
        if snapshot_N is None:
            self._inbox.append(Applied(effect.transfer.exchange, applied=False))
        else:
            self.mailbox.to_hook(Replacement(effect.transfer.exchange, snapshot_N))

    def _tell(self, report: Report) -> None:
        if isinstance(report, Fault):
            self._fault(report)
            return
        self._view_is_old = True
        if isinstance(report, MemberChanged | ReachChanged | LineageChanged):
            self._members_are_old = True
        match report:
            case Departed():
                self.departed.set()
            case ReachChanged(peer, reach):
                self._reaches[peer] = reach
            case MemberChanged(record) if record.status >= Status.DOWN:
                self._reaches.pop(record.peer, None)  # if it comes back, it is judged anew
            case _:
                pass
        self.outbox.report(report)

    def _fault(self, fault: Fault) -> None:
        self.faults[fault.kind] += 1
        self.outbox.report(fault)

    def _look(self) -> None:
        now = self.clock()
        self._view_is_old = False
        self._view_at_s = now + VIEW_EVERY_S
        view = self._look_at_members(now) if now >= self._members_due_s() else self.view
        counters = self.transport.counters
        self.view = replace(
            view,
            phase=self.core.phase,
            lineage=self.core.lineage,
            samples_total=self.core.samples_total,
            unsettled_swaps=self.core.unsettled_swaps,
            sent_bytes=counters.sent_bytes,
            bulk_sent_bytes=counters.bulk_sent_bytes,
            received_bytes=counters.received_bytes,
        )

    def _members_due_s(self) -> float:
        """When all members may be looked at again."""
        share = CHANGED_SHARE if self._members_are_old else UNCHANGED_SHARE
        pause_s = max(VIEW_EVERY_S, self._members_cost_s / share)
        return self._members_at_s + min(pause_s, MEMBERS_EVERY_S)

    def _look_at_members(self, now: float) -> Glance:
        self._members_are_old = False
        self._members_at_s = now
        records = tuple(self.core.swim.records())
        shares = self.core.shares(now)
        seen = replace(
            self.view,
            members=records,
            mates=tuple(peer for peer, _ in shares),
            shares=shares,
            census=Census.of(self.core.swim.me.peer, records, self._reaches),
        )
        self._members_cost_s = self.clock() - now
        return seen

"""What the I/O thread spends on letting other threads see the members of a large swarm."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import torch

from gossip.config import Config, Layout
from gossip.core import Core
from gossip.machine import Apply, Input, PhaseChanged
from gossip.membership.known import Known
from gossip.membership.swim import Swim
from gossip.messages import (
    Blob,
    ExchangeId,
    Gossip,
    Leg,
    PeerId,
    Phase,
    Ping,
    Progress,
    Record,
    Rumors,
    Status,
    Transfer,
)
from gossip.transport.transport import Arrived, Event
from peers.daemon import MEMBERS_EVERY_S, VIEW_EVERY_S, Daemon
from peers.mailbox import Correction

LINEAGE = b"lineage!"


def record(number: int, boot: int = 1) -> Record:
    """The numbered peer, alive."""
    name = PeerId(f"{number:016x}")
    return Record(name, boot, 0, Status.ALIVE, f"10.0.{number // 250}.{number % 250}:1", "")


class _Watched:
    """The membership, but that looks at all its records are counted and take time."""

    def __init__(self, swim: Swim, records: Callable[[], list[Record]]) -> None:
        self._swim = swim
        self.records = records

    def __getattr__(self, name: str) -> Any:
        return getattr(self._swim, name)


@dataclass
class Bench:
    """A daemon among ``size`` others in a time of its own, which a look at all members takes
    ``cost_s`` of."""

    size: int
    cost_s: float
    now: float = 0.0
    looks: list[float] = field(default_factory=list)
    events: deque[Event] = field(default_factory=deque)
    waits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = Config()
        everyone = [record(number) for number in range(self.size + 1)]
        known = Known.of(everyone, config.membership.observers, LINEAGE)
        layout, rng = Layout(b"layout-of-16-byt"), random.Random(1)
        core = Core(everyone[0], layout, config, rng, self.now, known)
        self._records = core.swim.records
        core.swim = cast(Swim, _Watched(core.swim, self.look))
        transport: Any = SimpleNamespace(
            poll=self.poll,
            counters=SimpleNamespace(sent_bytes=0, bulk_sent_bytes=0, received_bytes=0),
            send=lambda *_: None,
            dial=lambda *_: None,
            hang_up=lambda *_: None,
        )
        mailbox: Any = SimpleNamespace(news=list[Input])
        self.daemon = Daemon(core, transport, cast(Any, None), mailbox, cast(Any, None))
        self.daemon.clock = lambda: self.now

    def look(self) -> list[Record]:
        """What the core is asked for."""
        self.looks.append(self.now)
        self.now += self.cost_s
        return self._records()

    def poll(self, wait_s: float) -> list[Event]:
        """Wait as told, unless something is there."""
        self.waits.append(wait_s)
        if self.events:
            self.now += 1e-3
            return [self.events.popleft()]
        self.now += max(wait_s, 1e-4)
        return []

    def run(self, until_s: float) -> None:
        """Turn, as the thread does."""
        while self.now < until_s:
            self.daemon._turn()

    def restarted(self, number: int, boot: int) -> None:
        """Let a member be heard to be in a new life."""
        self.events.append(
            Arrived(record(1).peer, Gossip(Rumors((replace(record(number), boot=boot),))))
        )


def test_a_large_swarm_is_looked_at_for_a_small_share_of_the_time() -> None:
    """Whether members change a hundred times a second or not at all."""
    for changing, share in ((True, 0.06), (False, 0.015)):
        bench = Bench(300, cost_s=0.03)
        bench.run(1.0)
        bench.looks.clear()
        began_s = bench.now
        while bench.now < began_s + 20.0:
            if changing:
                bench.restarted(7, boot=2 + len(bench.waits))
            bench.daemon._turn()

        spent_s = len(bench.looks) * bench.cost_s
        assert spent_s <= share * (bench.now - began_s)
        pauses = [b - a for a, b in zip(bench.looks, bench.looks[1:], strict=False)]
        assert max(pauses) <= MEMBERS_EVERY_S + 0.6  # the longest poll


def test_a_report_that_is_not_about_members_costs_no_look_at_them() -> None:
    """Nothing of theirs can have changed."""
    bench = Bench(300, cost_s=0.03)
    bench.run(1.0)
    bench.looks.clear()
    for _ in range(50):
        bench.daemon._tell(PhaseChanged(Phase.TRAINING))
        bench.events.append(Arrived(record(1).peer, Ping(1, 1)))
        bench.daemon._turn()

    assert [] == bench.looks


def test_a_change_is_seen_soon_in_a_small_swarm() -> None:
    """Within the time promised, though nothing else happens; both times of two in a row."""
    bench = Bench(3, cost_s=1e-5)
    bench.run(1.0)
    for boot in (2, 3):
        bench.restarted(3, boot)
        bench.run(bench.now + VIEW_EVERY_S + 5e-3)
        assert boot == next(
            each.boot for each in bench.daemon.view.members if each.peer == record(3).peer
        )
    census = bench.daemon.view.census
    assert 3 == census.alive + census.busy + census.lost
    assert tuple(record(number).peer for number in range(4)) == bench.daemon.view.mates
    assert [1.0] * 4 == [share for _, share in bench.daemon.view.shares]


def test_who_is_not_followed_is_counted_among_the_faults() -> None:
    """And the hook hears of the swap all the same, so that it ends; an undo is none of its own."""
    daemon, done = Bench(3, cost_s=0.0).daemon, []
    exchange = ExchangeId(record(1).peer, 1, 1)
    there, blob = Transfer(exchange, Leg.CORRECTION), Blob(b"", 0, 1)
    daemon.hook = cast(Any, SimpleNamespace(is_closed=False))
    daemon.mailbox = cast(Any, SimpleNamespace(to_hook=done.append))
    for followed, undo in ((True, False), (False, False), (False, True)):
        work = Correction(exchange, 0, torch.zeros(1), 0.5, undo, followed=followed)
        daemon.desk = cast(Any, SimpleNamespace(correction=lambda _, work=work: work))
        daemon._do(Apply(there, 0, blob, "int8", 0.5, undo, partner=record(1).peer))
        assert done[-1] is work
    assert dict(daemon.faults) == {"apart": 1}


def test_what_nobody_reports_is_seen_too() -> None:
    """A member that changes sides only says so in its account."""
    bench = Bench(3, cost_s=1e-5)
    bench.run(1.0)
    away = Progress(record(3).peer, 1, 9, 0, b"other", Phase.TRAINING)
    bench.events.append(Arrived(record(1).peer, Gossip(Rumors((), (away,)))))
    bench.run(bench.now + 1.0)

    assert record(3).peer not in bench.daemon.view.mates

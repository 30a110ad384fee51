"""``python -m simulations.overhead``: what the world itself costs, under a core that does nothing.

Every peer pings its eight neighbors every two seconds and each ping is answered, as membership
does at rest; the core that does it takes as little as Python can. What is left is the world's:
the queue, links, the fate of frames and their counting. Times are of this machine's
processor, so that neighbors on a shared one disturb them less.
"""

from __future__ import annotations

import gc
import json
import random
import resource
import sys
import time
from collections.abc import Sequence
from typing import cast

from gossip.config import Config, Layout
from gossip.core import Core
from gossip.machine import Effect, Input, Received, Send, Woke
from gossip.membership.known import Known
from gossip.messages import Ack, PeerId, Ping, Record, Seconds
from peers.cli import Parser
from peers.cli.flags import count, positive
from simulations.conditions import WAN
from simulations.plan import Plan
from simulations.world import World

INTERVAL_S = 2.0
STRIDES = (1, 2, 4, 7)
"""Whom each peer dials, by the distance of their numbers; twice as many are its neighbors."""

_PING, _ACK = Ping(1, 1), Ack(1, 1, 0)


class Idle:
    """The least a member does."""

    __slots__ = ("_at", "_due_at", "neighbors", "swim")

    def __init__(
        self,
        me: Record,
        layout: Layout,
        config: Config,
        rng: random.Random,
        now: Seconds,
        known: Known | None,
    ) -> None:
        del layout, config, known
        self.swim = IdleSwim(me)
        self.neighbors: list[PeerId] = []
        self._at = 0
        self._due_at = now + rng.random() * INTERVAL_S / (2 * len(STRIDES))

    def handle(self, happened: Input, now: Seconds) -> list[Effect]:
        """Answer a ping, or ping the next neighbor."""
        if isinstance(happened, Received):
            if type(happened.message) is Ping:
                return [Send(happened.sender, _ACK)]
        elif isinstance(happened, Woke):
            self._due_at = now + INTERVAL_S / (2 * len(STRIDES))
            if self.neighbors:
                self._at = (self._at + 1) % len(self.neighbors)
                return [Send(self.neighbors[self._at], _PING)]
        return []

    def deadline(self) -> Seconds:
        """When to ping again."""
        return self._due_at


class IdleSwim:
    """Knows nobody."""

    __slots__ = ("me",)

    def __init__(self, me: Record) -> None:
        self.me = me


def idle_world(peers: int, seed: int = 1) -> World:
    """Everybody linked to its neighbors on a ring."""
    make_core = cast("type[Core]", Idle)
    world = World(Plan(seed, conditions=WAN, trainers=False, make_core=make_core))
    world.start_acquainted(peers)
    lives = [world.current[number] for number in range(peers)]
    for number, life in enumerate(lives):
        there = [lives[(number + stride) % peers] for stride in STRIDES]
        back = [lives[(number - stride) % peers] for stride in STRIDES]
        for other in there:
            world.wiring.dial(life, other.port)
        cast(Idle, life.core).neighbors = [other.me.peer for other in (*there, *back)]
    world.run(1.0)
    return world


def main(arguments: Sequence[str]) -> int:
    """Measure and print one line of JSON."""
    parser = Parser(prog="python -m simulations.overhead", description="The world's own cost.")
    parser.add_argument("--peers", type=count, default=100, help="(default: 100)")
    parser.add_argument("--seconds", type=positive, default=60.0, help="virtual (default: 60)")
    flags = parser.parse_args(arguments)
    world = idle_world(flags.peers)
    core = cast(Idle, world.current[0].core)
    gc.collect()
    gc.freeze()
    frames, events = world.network.frames, world.events
    began = time.process_time()
    world.run(world.now + flags.seconds)
    cpu_s = time.process_time() - began
    frames, events = world.network.frames - frames, world.events - events
    core_s = core_seconds(core, frames)
    found = {
        "peers": flags.peers,
        "frames": frames,
        "events": events,
        "cpu_s": round(cpu_s, 3),
        "events_per_s": round(events / cpu_s),
        "frame_us": round(cpu_s / frames * 1e6, 2),
        "core_us": round(core_s / frames * 1e6, 2),
        "overhead_us": round((cpu_s - core_s) / frames * 1e6, 2),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def core_seconds(core: Idle, frames: int) -> float:
    """What so many frames, and half as many wakes, cost in the core alone (warm)."""
    ping, woke, tries = Received(core.swim.me.peer, _PING), Woke(), 100_000
    began = time.process_time()
    for _ in range(tries):
        core.handle(ping, 0.0)
    for _ in range(tries):
        core.handle(woke, 0.0)
    per_pair_s = (time.process_time() - began) / tries
    return frames / 2 * per_pair_s


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A core that does what a test tells it to, to try the simulated world and its checks."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import cast

from gossip.config import Config, Layout
from gossip.core import Core
from gossip.machine import Effect, Input
from gossip.membership.known import Known
from gossip.messages import PeerId, Record, Seconds
from simulations.conditions import Conditions
from simulations.plan import Plan
from simulations.simulated_peer import SimulatedPeer
from simulations.world import World


class PuppetSwim:
    def __init__(self, me: Record, known: Known | None) -> None:
        self.me = me
        records = {} if known is None else known.ground.records
        self.records = {peer: each for peer, each in records.items() if peer != me.peer}

    def record(self, peer: PeerId) -> Record | None:
        return self.me if peer == self.me.peer else self.records.get(peer)

    def live(self) -> list[PeerId]:
        return list(self.records)

    def live_count(self) -> int:
        return len(self.records)


class Puppet:
    """Writes down what it hears and answers as told; it never does anything by itself."""

    def __init__(
        self,
        me: Record,
        layout: Layout,
        config: Config,
        rng: random.Random,
        now: Seconds,
        known: Known | None,
    ) -> None:
        self.swim = PuppetSwim(me, known)
        self.heard: list[tuple[Seconds, Input]] = []
        self.answer: Callable[[Input], list[Effect]] = lambda _: []
        self.wakes_at: Seconds = math.inf

    def handle(self, happened: Input, now: Seconds) -> list[Effect]:
        self.heard.append((now, happened))
        if now >= self.wakes_at:
            self.wakes_at = math.inf
        return self.answer(happened)

    def deadline(self) -> Seconds:
        return self.wakes_at


def puppet_world(
    peers: int,
    conditions: Conditions | None = None,
    seed: int = 1,
    dial_out_share: float = 0.0,
) -> World:
    """Puppets that all know each other, in a world without any other check."""
    plan = Plan(
        seed,
        conditions=conditions or Conditions(latency_s=(0.01, 0.01), jitter_s=0.0),
        trainers=False,
        dial_out_share=dial_out_share,
        make_core=cast("type[Core]", Puppet),
    )
    world = World(plan)
    world.start_acquainted(peers)
    return world


def puppet(life: SimulatedPeer) -> Puppet:
    """The puppet of a life."""
    return cast(Puppet, life.core)

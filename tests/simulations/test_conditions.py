"""What a limited uplink does to control frames."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossip.errors import UsageError
from gossip.machine import Effect, Input, Received
from gossip.messages import Gossip, Rumors
from gossip.wire.frames import encode_control, run_digest
from simulations.conditions import LAN, Conditions
from simulations.execution import Execution, config_of
from simulations.scenario import Scenario, parse
from simulations.simulated_peer import SimulatedPeer
from simulations.traffic import framing_bytes
from simulations.world import Plan, World

SMALL = 'summary = "s"\npeers = 3\nseconds = 20\ncalm_s = 10\nquiet_s = 5\n'


class Heard:
    """When each gossip was heard."""

    def __init__(self, world: World) -> None:
        self.at_s: list[float] = []
        self._world = world
        world.watch(self)

    def look(self, life: SimulatedPeer, happened: Input, effects: list[Effect]) -> None:
        """See Check."""
        del life, effects
        if isinstance(happened, Received) and type(happened.message) is Gossip:
            self.at_s.append(self._world.now)

    def began(self, life: SimulatedPeer) -> None:
        """See Check."""

    def ended(self, life: SimulatedPeer) -> None:
        """See Check."""

    def split(self) -> None:
        """See Check."""

    def healed(self) -> None:
        """See Check."""


def burst(conditions: Conditions, calm: bool = False) -> tuple[list[float], int]:
    """A hundred frames of many sizes over one link at once: when each was heard, after how many
    seconds, and the bytes of all."""
    world = World(Plan(1, config=config_of(), conditions=conditions, trainers=False))
    world.start_acquainted(2)
    world.run(5.0)
    if calm:
        world.calm()
    one, other = world.running
    heard, sent_at_s, all_bytes = Heard(world), world.now, 0
    for number in range(100):
        message = Gossip(Rumors((one.core.swim.me,) * (1 + number % 7)))
        frame_bytes = len(encode_control(run_digest("simulation"), one.me.peer, message))
        all_bytes += frame_bytes + framing_bytes(frame_bytes)
        world.send(one, other.me.peer, message, b"")
    world.run(sent_at_s + 60.0)
    return [at_s - sent_at_s for at_s in heard.at_s], all_bytes


@pytest.mark.parametrize("calm", [False, True])
def test_control_frames_pay_for_a_limited_uplink(calm: bool) -> None:
    """N bytes take N / bytes_per_s at least, and little more; also when nothing else goes wrong."""
    after_s, all_bytes = burst(replace(LAN, bytes_per_s=2_000.0), calm)

    assert 100 == len(after_s)
    assert all_bytes / 2_000.0 > 10.0
    assert all_bytes / 2_000.0 <= max(after_s) < all_bytes / 2_000.0 + 0.5
    assert min(after_s) < 0.5


def test_without_a_limit_they_come_at_once() -> None:
    """As ever."""
    after_s, _ = burst(LAN)

    assert 100 == len(after_s)
    assert max(after_s) < 0.1


def test_a_swarm_keeps_every_rule_over_slow_uplinks() -> None:
    """Ten times what it says at rest; and it is another run than without a limit."""
    limited = replace(LAN, bytes_per_s=2_500.0)
    scenario = Scenario("mine", "", 12, 60.0, 30.0, conditions=limited)
    slow, free = (Execution(replace(scenario, conditions=each), 1).run() for each in (limited, LAN))

    assert slow.ok, slow.broken
    assert free.ok, free.broken
    assert slow.events != free.events


def test_an_uplink_that_carries_nothing_is_refused() -> None:
    """With its key."""
    with pytest.raises(UsageError, match="conditions: bytes_per_s must be above 0"):
        parse(SMALL + "[conditions]\nbytes_per_s = 0", "mine")

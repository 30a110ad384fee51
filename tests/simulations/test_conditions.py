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
from tests.simulations.worlds import SMALL


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


def test_a_tail_holds_back_so_many_frames_and_no_others() -> None:
    """A tenth of them, by up to five seconds; in the calm none."""
    tail = replace(LAN, tail_share=0.1, tail_s=5.0)
    after_s, _ = burst(tail)

    assert 3 <= sum(each > 0.1 for each in after_s) <= 20
    assert 1.0 < max(after_s) < 5.1
    assert max(burst(tail, calm=True)[0]) < 0.1


def test_a_tail_is_counted_and_must_hit_a_frame() -> None:
    """As every condition that is declared."""
    scenario = Scenario("mine", "", 6, 60.0, 30.0, conditions=LAN)
    often, never = (
        Execution(replace(scenario, conditions=replace(LAN, tail_share=share, tail_s=1.0)), 1).run()
        for share in (0.05, 1e-12)
    )

    assert often.ok, often.broken
    assert often.delayed > 10
    assert "hit no frame: tail_share" in never.broken


def test_a_swarm_keeps_every_rule_over_slow_uplinks() -> None:
    """Ten times what it says at rest; and it is another run than without a limit."""
    limited = replace(LAN, bytes_per_s=2_500.0)
    scenario = Scenario("mine", "", 12, 60.0, 30.0, conditions=limited)
    slow, free = (Execution(replace(scenario, conditions=each), 1).run() for each in (limited, LAN))

    assert slow.ok, slow.broken
    assert free.ok, free.broken
    assert slow.events != free.events


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("bytes_per_s = 0", "bytes_per_s must be above 0"),
        ("tail_share = 1.5\ntail_s = 1", "tail_share is a share"),
        ("tail_share = 0.5\ntail_s = -1", "tail_s must not be negative"),
        ("tail_share = 0.5", "give both of tail_share and tail_s"),
    ],
)
def test_wrong_conditions_are_refused(text: str, complaint: str) -> None:
    """With their keys."""
    with pytest.raises(UsageError, match=f"conditions: {complaint}"):
        parse(f"{SMALL}[conditions]\n{text}", "mine")

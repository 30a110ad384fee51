"""What the tests of the simulated world share: small plans, and ways to bring them to an end."""

from __future__ import annotations

from gossip.config import Config, ExchangeConfig, MembershipConfig
from gossip.messages import PeerId, Record, Status
from peers.hook import Cadence
from peers.tasks.line import LineTask
from simulations import checks
from simulations.conditions import Conditions
from simulations.simulated_peer import Pace, SimulatedPeer
from simulations.world import Plan, World

SMALL = 'summary = "s"\npeers = 3\nseconds = 20\ncalm_s = 10\nquiet_s = 5\n'
"""A scenario file as short as can be."""

TOLERANCE = {"fp32": 0.02, "bf16": 0.03, "int8": 0.05, "wrap8": 0.03, "wrap4": 0.05}
"""How near the known answer (weights up to 3) the worst peer must come: int8 codes of whole
anchors are off by up to 3/254 each time, bf16 ones by 3/512. Wrap-around codes have no such floor,
but where a lossy network makes swaps rare and the time between them uneven, blocks wrap now and
then, and are left for the next swap."""


def brisk(codec: str = "fp32", reply_codec: str = "") -> Config:
    """Retries that fit a network of milliseconds, and down members greeted often."""
    return Config(
        exchange=ExchangeConfig(
            codec=codec,
            reply_codec=reply_codec or codec,
            retry_s=0.05,
            park_after_s=0.5,
            withdraw_after_s=2.0,
            forget_after_s=20.0,
        ),
        membership=MembershipConfig(probe_down_interval_s=2.0, sync_interval_s=5.0),
    )


def line_plan(
    seed: int,
    codec: str = "fp32",
    loss: float = 0.0,
    lines: bool = False,
    journals: bool = False,
    step_s: float = 0.05,
    shards: int = 8,
    reply_codec: str = "",
) -> Plan:
    """Peers that learn ``line``, each from a model of its own, over a network of some quality."""
    return Plan(
        seed,
        LineTask(shards=shards),
        brisk(codec, reply_codec),
        Conditions(loss=loss, duplication=loss / 3, jitter_s=0.003),
        Pace(step_s),
        Cadence(swap_every=4),
        lines=lines,
        journals=journals,
    )


def finish(world: World) -> bool:
    """All that run finalise together, then settle what is open; whether all got there in time."""
    world.finish()
    finalised = world.run(
        world.now + 60.0, lambda: all(life.finalised is not None for life in world.running)
    )
    calm = world.run(
        world.now + 60.0, lambda: all(life.core.unsettled_swaps == 0 for life in world.running)
    )
    return finalised and calm


def check_sums(world: World) -> None:
    """Anchors match ledgers, and what did not cancel was counted."""
    checks.check_ledgers(world.lives)
    checks.check_conservation(world.lives)


def record_of(life: SimulatedPeer, peer: PeerId) -> Record:
    """What one peer holds about another."""
    record = life.core.swim.record(peer)
    assert record is not None, f"{life.name} never heard of {peer}"
    return record


def holds_down(life: SimulatedPeer, peer: PeerId) -> bool:
    """Whether one peer holds another to be down."""
    return record_of(life, peer).status is Status.DOWN


def all_adopted(world: World, lives: list[SimulatedPeer]) -> bool:
    """Whether these all belong to one lineage."""
    lineages = [life.core.lineage for life in lives]
    return lineages[0] != b"" and all(lineage == lineages[0] for lineage in lineages)

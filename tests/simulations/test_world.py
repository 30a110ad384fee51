"""A swarm in virtual time: faults, late joiners, lineages that meet, and the end of a run."""

from __future__ import annotations

import math
import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simulations
from gossip.config import Config, ExchangeConfig
from gossip.messages import Chunk, Message, PeerId, Phase, Status
from peers.hook import Cadence
from simulations import checks
from simulations.conditions import WAN, Conditions
from simulations.execution import config_of
from simulations.simulated_peer import SimulatedPeer
from simulations.splits import HEAL_GRACE_S
from simulations.workload import SHAPES
from simulations.world import Plan, World
from tests.simulations.worlds import (
    TOLERANCE,
    all_adopted,
    brisk,
    check_sums,
    finish,
    holds_down,
    line_plan,
    record_of,
)


def samples_known(world: World, number: int) -> int:
    """How many samples the founder knows this peer to have trained on."""
    peer = world.current[number].me.peer
    progress = world.current[0].core.swim.progress_of(peer)
    return 0 if progress is None else progress.samples


@settings(max_examples=4)
@given(crashed=st.integers(0, 3), seed=st.integers(0, 2**32))
def test_the_others_go_on_when_any_one_peer_crashes(crashed: int, seed: int) -> None:
    """The founder included: survivors swap on, hold it down, take its shards and finish."""
    world = World(line_plan(seed))
    world.start_together(4)
    world.run(3.0)
    gone = world.current[crashed]
    world.crash(crashed)
    crashed_at = world.now
    noticed = world.run(
        crashed_at + 15.0,
        lambda: all(holds_down(life, gone.me.peer) for life in world.running),
    )
    world.run(world.now + 1.0)

    assert noticed
    survivors = world.running
    assert len(survivors) == 3
    for life in survivors:
        # Not only after the verdict: nobody waited for it.
        assert life.swaps_applied(crashed_at) - life.swaps_applied(crashed_at + 3.0) > 0
        assert life.swaps_applied(crashed_at + 3.0) > 0
    owned = sorted(shard for life in survivors for shard in life.shards)
    assert list(range(8)) == owned
    assert finish(world)
    check_sums(world)


def test_a_crashed_peer_has_shards_before_and_none_after() -> None:
    """What the test above calls moved was really the crashed peer's before."""
    world = World(line_plan(4))
    world.start_together(4)
    world.run(3.0)

    before = {life.number: life.shards for life in world.running}

    assert list(range(8)) == sorted(shard for shards in before.values() for shard in shards)
    assert max(len(shards) for shards in before.values()) < 8


@settings(max_examples=3)
@given(seed=st.integers(0, 2**32), loss=st.sampled_from((0.0, 0.2)))
def test_a_late_joiner_adopts_and_its_samples_count(seed: int, loss: float) -> None:
    """It takes the lineage and the model of the others, and adds to the swarm's samples."""
    # So many shards that three others cannot hold all of them (slack 1.25): some are the joiner's.
    world = World(line_plan(seed, loss=loss, shards=32))
    world.start_together(3)
    world.run(5.0)
    late = world.start(3, contacts=(1,))
    joined = world.run(world.now + 10.0, lambda: late.core.phase is Phase.TRAINING)

    assert joined
    assert all_adopted(world, world.lives)
    # Adopted, not just begun: its own first model is far from theirs.
    assert checks.worst_error([late]) < checks.worst_error(world.lives[:3]) + 0.5
    world.run(world.now + 10.0)
    mine = samples_known(world, late.number)
    assert mine > 0
    theirs = sum(samples_known(world, number) for number in range(3))
    assert mine + theirs == world.current[0].core.samples_total
    assert finish(world)
    check_sums(world)


class Metered(World):
    """A world that counts what is handed to the network as bulk."""

    offered_bytes = 0

    def send(self, life: SimulatedPeer, to: PeerId, message: Message, payload: bytes) -> None:
        """See Surroundings."""
        self.offered_bytes += message.length_bytes if isinstance(message, Chunk) else 0
        super().send(life, to, message, payload)


@pytest.mark.parametrize(
    "link_bytes_per_s, upload_bytes_per_s, codecs",
    [
        (500_000, math.inf, ()),
        (500_000, math.inf, ("int8", "int8")),
        (500_000, 400_000, ()),
        (100_000, math.inf, ()),
        (100_000, math.inf, ("int8", "int8")),
    ],
)
def test_a_slow_link_carries_a_large_model_once(
    link_bytes_per_s: float, upload_bytes_per_s: float, codecs: tuple[str, ...]
) -> None:
    """30 MB at 0.5 MB/s, or ten seconds a chunk: two peers adopt it from one at the same time.

    The swaps that follow cross on both legs at the pace of the link, and nothing is sent twice.
    """
    limits = ExchangeConfig(*codecs, upload_bytes_per_s=upload_bytes_per_s)
    conditions = Conditions(bytes_per_s=link_bytes_per_s)
    plan = Plan(5, config=Config(exchange=limits), conditions=conditions, vector_bytes=30_000_000)
    world = Metered(plan)
    world.start_together(3)
    floor_bytes = 2 * plan.vector_bytes
    rate = min(link_bytes_per_s, upload_bytes_per_s)

    assert world.run(1.1 * floor_bytes / rate, lambda: all_training(world))
    assert world.offered_bytes <= 1.1 * floor_bytes
    adopted_at, before_bytes = world.now, world.offered_bytes
    swap_bytes = 2 * plan.vector_bytes * SHAPES[limits.codec][0]
    world.run(adopted_at + 4 * swap_bytes / rate)
    swaps = sum(life.swaps_applied(adopted_at) for life in world.lives) / 2
    assert swaps >= 3
    assert world.offered_bytes - before_bytes <= 1.1 * (swaps + 1) * swap_bytes


@pytest.mark.parametrize("seed", range(2))
def test_a_slow_link_that_loses_frames_carries_swaps(seed: int) -> None:
    """One frame in twenty, large ones included, which is worse than TCP ever is."""
    plan = Plan(
        seed,
        conditions=Conditions(bytes_per_s=500_000, loss=0.05),
        vector_bytes=30_000_000,
    )
    world = Metered(plan)
    world.start_together(3)
    assert world.run(400.0, lambda: all_training(world))
    adopted_at, before_bytes = world.now, world.offered_bytes
    world.run(adopted_at + 300.0)

    swaps = sum(life.swaps_applied(adopted_at) for life in world.lives) / 2
    swap_bytes = 2 * plan.vector_bytes * SHAPES[plan.config.exchange.codec][0]
    assert swaps >= 10
    assert world.offered_bytes - before_bytes <= 1.2 * (swaps + 1) * swap_bytes


def all_training(world: World) -> bool:
    """Whether everybody has adopted the model."""
    return all(life.core.phase is Phase.TRAINING for life in world.lives)


@settings(max_examples=3)
@given(seed=st.integers(0, 2**32))
def test_the_lineage_with_fewer_samples_adopts_the_other(seed: int) -> None:
    """Two swarms of one run meet through a newcomer that knows both; nothing is mixed across.

    Watch (simulations/checks.py) would stop the world at the first correction that is.
    """
    world = World(line_plan(seed))
    for number, contacts in enumerate(((), (0,), (0,))):
        world.start(number, contacts)
    world.run(6.0)
    world.start(3)
    world.start(4, contacts=(3,))
    world.run(8.0)
    older, younger = world.current[0].core.lineage, world.current[3].core.lineage
    assert older != younger
    world.start(5, contacts=(0, 3))

    met = world.run(40.0, lambda: all_adopted(world, world.lives))

    assert met
    assert {older} == {life.core.lineage for life in world.lives}
    assert world.current[0].reports["LineageChanged"] == 1
    assert world.current[3].reports["LineageChanged"] == 2
    assert finish(world)
    check_sums(world)


@settings(max_examples=4)
@given(seed=st.integers(0, 2**32), peers=st.integers(2, 5), loss=st.sampled_from((0.0, 0.2)))
def test_a_start_without_a_founder_ends_in_one_lineage(seed: int, peers: int, loss: float) -> None:
    """Everybody knows only everybody else; one lineage survives and everybody trains in it."""
    world = World(line_plan(seed, loss=loss))
    for number in range(peers):
        world.start(number, [other for other in range(peers) if other != number])

    agreed = world.run(30.0, lambda: all_adopted(world, world.lives))

    assert agreed
    world.run(world.now + 5.0)
    assert all_adopted(world, world.lives)
    assert all(life.core.phase is Phase.TRAINING for life in world.lives)
    assert all(life.swaps_applied() > 0 for life in world.lives)
    assert finish(world)
    check_sums(world)


@settings(max_examples=3)
@given(seed=st.integers(0, 2**32), codec=st.sampled_from(("fp32", "int8")))
def test_everybody_finalises_and_agrees(seed: int, codec: str) -> None:
    """finalise() ends for all, in time, after enough swaps, with little left between them."""
    world = World(line_plan(seed, codec))
    world.start_together(5)
    world.run(2.0)
    before = checks.spread(world.lives)

    assert finish(world)

    for life in world.lives:
        assert life.finalised is not None
        assert life.finalised.agreed
        assert life.finalised.swaps >= 6  # ceil(log2 5) + 3
        assert life.core.phase is Phase.FINISHED
    assert checks.spread(world.lives) < max(before / 8, TOLERANCE[codec])


def test_a_restarted_peer_comes_back_in_a_larger_boot() -> None:
    """Its new life adopts the lineage again and is alive in everybody's eyes."""
    world = World(line_plan(8))
    world.start_together(3)
    world.run(3.0)
    world.crash(0)
    world.run(4.0)
    again = world.start(0, contacts=(2,))

    back = world.run(30.0, lambda: all_adopted(world, world.running))

    assert back
    world.run(world.now + 10.0)
    assert again.me.boot == 2
    for number in (1, 2):
        record = record_of(world.current[number], again.me.peer)
        assert record.boot == 2
        assert record.status is Status.ALIVE
    assert again.swaps_applied() > 0
    assert finish(world)
    check_sums(world)


def test_a_peer_that_leaves_is_told_apart_from_one_that_crashed() -> None:
    """A polite leave ends the process, is known as such, and leaves no sum open."""
    world = World(line_plan(9))
    world.start_together(4)
    world.run(3.0)
    leaver = world.current[2]
    world.leave(2)
    gone = world.run(world.now + 5.0, lambda: not leaver.running)
    world.run(world.now + 3.0)

    assert gone
    assert leaver.departed
    assert leaver.one_sided == []
    for life in world.running:
        assert record_of(life, leaver.me.peer).status is Status.LEFT
    assert finish(world)
    check_sums(world)


def test_a_frozen_peer_comes_back_and_its_inbox_was_kept() -> None:
    """A stall longer than the suspicion: whatever was said about it meanwhile, it is back."""
    world = World(line_plan(10))
    world.start_together(4)
    world.run(3.0)
    world.freeze(1, 9.0)
    world.run(11.9)
    stalled_steps = world.current[1].steps
    world.run(25.0)

    paused = world.current[1]
    assert stalled_steps < 100
    assert paused.swaps_applied(13.0) > 0
    for life in world.running:
        assert len(life.core.swim.live()) == 3
    assert finish(world)
    check_sums(world)


def test_a_split_heals_into_one_swarm() -> None:
    """Each side holds the other down, trains on, and both find each other again."""
    world = World(line_plan(11))
    world.start_together(4)
    world.run(3.0)
    world.split([(0, 1), (2, 3)])
    world.run(15.0)
    assert holds_down(world.current[0], world.current[2].me.peer)
    assert world.current[0].swaps_applied(10.0) > 0
    assert world.current[3].swaps_applied(10.0) > 0
    world.heal()
    world.run(40.0)

    for life in world.running:
        assert len(life.core.swim.live()) == 3
    assert finish(world)
    check_sums(world)


def test_many_hollow_peers_trade_large_vectors_by_reference() -> None:
    """Forty peers with 40 MB each, in next to no memory: everybody joins and swaps."""
    plan = Plan(
        12,
        config=replace(brisk("int8"), run="hollow"),
        conditions=Conditions(bytes_per_s=1e9),
        cadence=Cadence(swap_every=50),
        vector_bytes=40_000_000,
    )
    world = World(plan)
    world.start_together(40)
    world.run(4.0)

    assert all_adopted(world, world.lives)
    assert all(life.swaps_applied() > 0 for life in world.lives)


def test_links_that_break_in_mid_swap_leave_no_sum_open() -> None:
    """Cuts of all lengths under loss: refunds and one-sided corrections happen and are booked."""
    worlds = [after_cuts(seed) for seed in (2, 4, 5)]

    for world in worlds:
        checks.check_ledgers(world.lives)
    assert sum(checks.check_conservation(world.lives) for world in worlds) > 0
    assert sum(refunds(world) for world in worlds) > 0


def after_cuts(seed: int) -> World:
    """Three peers that were cut from each other again and again, and then came to rest."""
    plan = line_plan(seed, loss=0.1)
    exchange = replace(plan.config.exchange, forget_after_s=1.0)
    rough = replace(
        plan,
        config=replace(plan.config, exchange=exchange),
        conditions=replace(
            plan.conditions,
            silent_s=0.1,
            connect_s=0.1,
            latency_s=(0.01, 0.05),
            redial_s=(0.01, 0.05),
        ),
    )
    world = World(rough)
    world.start_together(3)
    world.run(3.0)
    for turn in range(40):
        world.cut(turn % 3, (turn + 1) % 3, for_s=(0.15, 0.3, 3.0)[turn % 4 % 3])
        world.run(world.now + 0.25)
    world.run(world.now + 5.0)
    assert finish(world)
    return world


def refunds(world: World) -> int:
    """Corrections that were taken back: booked twice on one side."""
    found = 0
    for _, body in checks.bodies(world.lives):
        exchanges = [(entry.exchange, entry.start) for entry in body.ledger.corrections]
        found += len(exchanges) - len(set(exchanges))
    return found


def test_the_example_in_the_readme_runs(tmp_path: Path) -> None:
    """What the folder's README shows is true; it ends with an assertion of its own."""
    text = (Path(simulations.__file__).parent / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block is not None
    example = tmp_path / "example.py"
    example.write_text(block.group(1), encoding="utf-8")

    runpy.run_path(str(example))


@pytest.mark.parametrize("broken", ["sign", "twice"])
def test_conservation_notices_a_wrong_correction(broken: str) -> None:
    """The checks are worth something: a peer that moves wrongly is found out."""
    world = World(line_plan(13))
    world.start_together(2)
    world.run(2.0)
    (_, body), _ = checks.bodies(world.lives)
    entry = body.ledger.corrections[-1]
    factor = -1.0 if broken == "sign" else 2.0
    body.ledger.corrections[-1] = entry._replace(amount_n=entry.amount_n * factor)

    assert finish(world)

    with pytest.raises(checks.BrokenRule):
        checks.check_conservation(world.lives)
    with pytest.raises(checks.BrokenRule):
        checks.check_ledgers(world.lives)


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_newcomer_gives_up_a_verdict_that_a_split_left_its_welcomer(seed: int) -> None:
    """It takes over what its welcomer holds, which has not heard of the heal; the refutation that
    mends the welcomer mends it too, though another split begins at once."""
    world = World(Plan(seed, config=config_of(), conditions=WAN, trainers=False))
    world.start_acquainted(8)
    world.run(2.0)
    world.split([range(4), range(4, 8)])
    world.run(42.0)
    world.heal()
    newcomer, others = world.start(8, (0,)), [world.current[number] for number in (0, 1, 4, 5)]

    def holds_some_down() -> bool:
        known = [life for life in others if newcomer.core.swim.record(life.me.peer)]
        return any(holds_down(newcomer, life.me.peer) for life in known)

    assert world.run(43.0, holds_some_down)
    world.split([(0, 1, 4, 5, 8), (2, 3, 6, 7)])
    assert world.run(world.now + HEAL_GRACE_S, lambda: not holds_some_down())

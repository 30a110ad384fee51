"""Many membership machines over a lossy virtual network keep the promises to the group."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.config import MembershipConfig
from gossip.machine import LinkCause
from gossip.messages import PeerId, Phase, Status
from tests.gossip.membership.claims import peer
from tests.gossip.membership.network import Network, swarm

SEEDS = st.integers(0, 10_000)
LOSSES = st.floats(0.0, 0.2)
CONFIG = MembershipConfig()

KNOWN_WITHIN_S = CONFIG.sync_interval_s + CONFIG.join_retry_s + 5
"""All know all: gossip takes about a second, the sync repairs what it lost."""


def down_within_s(size: int) -> float:
    """Every peer walks its list of the others; then the doubt; then the news, or the next sync."""
    probed_s = 3 * CONFIG.probe_interval_s + CONFIG.probe_timeout_s
    rounds_s = CONFIG.gossip_interval_s * (math.ceil(math.log2(size)) + 8)
    return probed_s + 2 * CONFIG.suspicion_s(size) + rounds_s


@settings(max_examples=8)
@given(st.integers(2, 16), SEEDS, LOSSES)
def test_all_learn_of_all_and_nobody_is_falsely_down(size: int, seed: int, loss: float) -> None:
    """Whatever the loss up to a fifth, through whichever contact each joined."""
    network = swarm(size, seed, loss)

    def known() -> bool:
        return all(size - 1 == len(swim.live()) for swim in network.swims.values())

    assert network.run_until(known, KNOWN_WITHIN_S)

    network.run(20)

    assert known()
    assert [] == network.changes(Status.DOWN)
    assert [] == network.faults()


@settings(max_examples=8)
@given(st.integers(3, 16), SEEDS, LOSSES, st.sampled_from([None, *LinkCause]))
def test_a_crashed_peer_is_down_everywhere_in_time(
    size: int, seed: int, loss: float, cause: LinkCause | None
) -> None:
    """Nobody else is called down meanwhile, and never before the doubt has run."""
    network = swarm(size, seed, loss)
    network.run(5)
    victim = peer(seed % size)
    network.crash(victim, cause)

    def buried() -> bool:
        return all(status == Status.DOWN for status in network.statuses(victim))

    assert network.run_until(buried, down_within_s(size))
    assert {victim} == {claim.peer for _, _, claim in network.changes(Status.DOWN)}
    doubted_at = {
        claim.key[:2]: at
        for at, _, claim in reversed(network.changes(Status.SUSPECT))
        if claim.peer == victim
    }
    for at, _, claim in network.changes(Status.DOWN):
        assert at >= doubted_at[claim.key[:2]] + CONFIG.suspicion_min_s


@settings(max_examples=8)
@given(st.integers(3, 12), SEEDS, LOSSES)
def test_a_peer_that_leaves_is_never_reported_down(size: int, seed: int, loss: float) -> None:
    """The farewell reaches everybody, directly or as a rumor."""
    network = swarm(size, seed, loss)
    network.run(5)
    leaver = peer(seed % size)
    network.leave(leaver)

    def gone() -> bool:
        return all(status == Status.LEFT for status in network.statuses(leaver))

    assert network.run_until(gone, 4)

    network.run(15)

    assert gone()
    assert [] == network.changes(Status.DOWN)


@pytest.mark.parametrize("boot", [2, 1, 0])
def test_a_restarted_peer_comes_back_whatever_it_remembers(boot: int) -> None:
    """With a larger boot at once; with an old one it is told, and rises above it (M8)."""
    network = swarm(6, 3)
    network.run(5)
    victim = peer(2)
    network.crash(victim, LinkCause.CLOSED)
    network.run(down_within_s(6))
    network.start(2, 0, boot=boot)

    assert network.run_until(network.agreed, 20)
    assert {victim} == {claim.peer for _, _, claim in network.changes(Status.DOWN)}


def test_all_restarting_at_once_without_memory_find_each_other_again() -> None:
    """No member keeps the others down for ever after a mass restart."""
    network = swarm(8, 5, loss=0.1)
    network.run(5)
    for number in range(8):
        network.crash(peer(number), LinkCause.CLOSED)
        network.start(number, (number + 1) % 8, boot=1)
        network.run(1)

    assert network.run_until(network.agreed, 40)


@pytest.mark.parametrize("seed", range(3))
def test_a_split_heals_by_itself(seed: int) -> None:
    """Each half calls the other down and goes on; afterwards all are alive everywhere."""
    network = swarm(10, seed)
    network.run(5)
    network.split = lambda a, b: (a < peer(5)) != (b < peer(5))
    network.run(30)

    assert all(4 == len(swim.live()) for swim in network.swims.values())

    network.split = lambda _a, _b: False

    assert network.run_until(network.agreed, 2 * CONFIG.probe_down_interval_s + 15)


@pytest.mark.parametrize("frozen_s", [4.0, 20.0])
def test_a_peer_that_was_frozen_accuses_nobody_falsely(frozen_s: float) -> None:
    """It hears first and judges later, so the others stay alive in its view and everywhere."""
    network = swarm(8, 1)
    network.run(5.03)
    victim = peer(3)
    network.frozen[victim] = network.now + frozen_s
    network.run(frozen_s + 15)

    assert {victim} >= {claim.peer for _, _, claim in network.changes(Status.DOWN)}
    assert [] == [by for _, by, _ in network.changes(Status.SUSPECT) if by == victim]
    assert network.agreed()


def test_a_quiet_group_costs_one_ping_and_one_ack_an_interval() -> None:
    """No gossip without news, and one sync now and then."""
    size, minutes = 10, 2
    network = swarm(size, 7)
    network.run(60)
    network.sent.clear()
    network.run(minutes * 60)

    probes = size * minutes * 60 / CONFIG.probe_interval_s
    assert probes == pytest.approx(network.sent["Ping"], rel=0.02)
    assert network.sent["Ping"] == pytest.approx(network.sent["Ack"], rel=0.02)
    syncs = 2 * size * minutes * 60 / CONFIG.sync_interval_s
    assert syncs == pytest.approx(network.sent["Sync"], rel=0.1)
    assert {"Ping", "Ack", "Sync"} == set(network.sent)


def test_the_same_seed_gives_the_same_effects_under_any_hash_seed() -> None:
    """A run can be replayed; nothing depends on the order of a set or on a string's hash."""
    program = (
        "from tests.gossip.membership.network import swarm\n"
        "network = swarm(7, 11, 0.1)\n"
        "network.run(10)\n"
        "network.crash(sorted(network.swims)[2])\n"
        "network.run(10)\n"
        "print(network.transcript())\n"
    )
    transcripts = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[3],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("0", "1", "4321")
    ]

    assert 1 == len(dict.fromkeys(transcripts))
    assert 65 == len(transcripts[0])


def test_another_seed_gives_other_effects() -> None:
    """The transcript really depends on what happened."""

    def transcript(seed: int) -> str:
        network = Network(seed)
        network.start(0)
        network.start(1, 0)
        network.run(5)
        return network.transcript()

    assert transcript(1) == transcript(1)
    assert transcript(1) != transcript(2)


def test_samples_are_counted_once_over_peers_boots_and_restarts() -> None:
    """A crash loses no sample that was told, and nobody counts one twice."""
    network = swarm(4, 2)
    network.run(5)

    def publish(who: PeerId, samples: int) -> None:
        network.swims[who].publish(samples, b"L", Phase.TRAINING, network.now)

    for number in range(4):
        publish(peer(number), 100 + number)
    network.run(20)
    network.crash(peer(1), LinkCause.CLOSED)
    network.start(1, 0, boot=1)
    network.run(5)
    publish(peer(1), 50)
    network.run(25)

    assert [456] * 4 == [swim.samples_total(b"L") for swim in network.swims.values()]

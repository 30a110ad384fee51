"""Many membership machines over a lossy virtual network keep the promises to the group.

After every step the network checks M2, M4, M5, M6 and M7, and that nobody spins.
"""

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
from gossip.membership.jury import CREDIT_S
from gossip.messages import PeerId, Phase, Status
from tests.gossip.membership.claims import peer
from tests.gossip.membership.network import Network, swarm

SEEDS = st.integers(0, 10_000)
LOSSES = st.floats(0.0, 0.05)
GONE = st.sampled_from([LinkCause.REFUSED, LinkCause.SILENT])
CONFIG = MembershipConfig()

KNOWN_WITHIN_S = 2 * CONFIG.sync_interval_s + CONFIG.join_retry_s + 5
"""All know all: gossip takes about a second, the comparison repairs what it lost."""

LINK_LOST_S = 5.0 + 3.0
"""Until the transport has told that a host is gone."""


def down_within_s(size: int) -> float:
    """The link is lost, the probe fails, the doubt runs (at most its full time), the news goes."""
    probed_s = 2 * CONFIG.probe_interval_s + 2.5 * CONFIG.probe_timeout_max_s
    doubt_s = CONFIG.suspicion_max_factor * CONFIG.suspicion_s(size)
    return LINK_LOST_S + probed_s + doubt_s + 5.0


@settings(max_examples=8)
@given(st.integers(2, 16), SEEDS, LOSSES, st.sampled_from([3, 5, 10_000]))
def test_all_learn_of_all_and_nobody_is_falsely_down(
    size: int, seed: int, loss: float, undialable_every: int
) -> None:
    """M11: with loss up to a twentieth, through whichever contact each joined, and with some
    that only dial out."""
    network = swarm(size, seed, loss, undialable_every=undialable_every)

    assert network.run_until(network.agreed, KNOWN_WITHIN_S)

    network.run(60)

    assert network.agreed()
    assert [] == network.changes(Status.DOWN)
    assert [] == network.faults()


@settings(max_examples=8)
@given(st.integers(3, 16), SEEDS, LOSSES, GONE, st.sampled_from([3, 10_000]))
def test_a_crashed_peer_is_down_everywhere_in_time(
    size: int, seed: int, loss: float, cause: LinkCause, undialable_every: int
) -> None:
    """M10; nobody else is called down meanwhile, and never before the doubt has run (M16), which
    may have begun with words that were lost just before the crash."""
    network = swarm(size, seed, loss, undialable_every=undialable_every)
    network.run_until(network.agreed, KNOWN_WITHIN_S)
    crashed_at, victim = network.now, peer(seed % size)
    network.crash(victim, cause)

    def buried() -> bool:
        return all(status == Status.DOWN for status in network.statuses(victim))

    assert network.run_until(buried, down_within_s(size))
    assert {victim} == {claim.peer for _, _, claim in network.changes(Status.DOWN)}
    for at, _, _ in network.changes(Status.DOWN):
        assert at >= crashed_at + CONFIG.suspicion_min_s - CREDIT_S


def test_a_crash_is_found_in_ten_seconds_when_the_process_is_refused() -> None:
    """M10: the usual case, in a group of 100 of which each watches eight at most."""
    network = Network(3)
    network.acquaint(100)
    network.run(5)
    crashed_at, victim = network.now, peer(7)
    observers = dict.fromkeys(network.swims[peer(1)].observers(victim))
    network.crash(victim)

    def buried() -> bool:
        return all(status == Status.DOWN for status in network.statuses(victim))

    assert network.run_until(buried, 12.0), network.now - crashed_at
    accusers = {by for _, by, _ in network.changes(Status.SUSPECT)}
    assert accusers <= observers.keys()


@settings(max_examples=6)
@given(st.integers(3, 12), SEEDS, LOSSES)
def test_a_peer_that_leaves_is_never_reported_down(size: int, seed: int, loss: float) -> None:
    """M19: the farewell reaches everybody, directly or as a rumor."""
    network = swarm(size, seed, loss)
    network.run_until(network.agreed, KNOWN_WITHIN_S)
    leaver = peer(seed % size)
    network.leave(leaver)

    def gone() -> bool:
        return all(status == Status.LEFT for status in network.statuses(leaver))

    assert network.run_until(gone, 4)

    network.run(30)

    assert gone()
    assert [] == network.changes(Status.DOWN)


@pytest.mark.parametrize("boot", [2, 1, 0])
@pytest.mark.parametrize("away_s", [0.0, 30.0])
def test_a_restarted_peer_comes_back_whatever_it_remembers(boot: int, away_s: float) -> None:
    """M8: with a larger boot at once; with an old one it is told, and rises above it; whether it
    was called down in between or not."""
    network = swarm(6, 3)
    network.run(5)
    victim = peer(2)
    network.crash(victim)
    network.run(away_s)
    network.start(2, 0, boot=boot)

    assert network.run_until(network.agreed, 20)
    network.run(20)
    assert network.agreed()
    assert {victim} >= {claim.peer for _, _, claim in network.changes(Status.DOWN)}


@settings(max_examples=4)
@given(SEEDS, st.floats(0.0, 0.3))
def test_all_restarting_at_once_without_memory_find_each_other_again(
    seed: int, loss: float
) -> None:
    """M8: no member keeps the others down for ever after a mass restart."""
    network = swarm(8, seed, loss)
    network.run(5)
    for number in range(8):
        network.crash(peer(number))
        network.start(number, (number + 1) % 8, boot=1)
        network.run(1)
    network.loss = 0.0

    assert network.run_until(network.agreed, 60)


@pytest.mark.parametrize(
    "size, side", [(10, 5), (10, 1), (9, 3), (4, 2), (2, 1), (24, 12), (24, 8)]
)
def test_a_split_heals_by_itself_and_kills_nobody(size: int, side: int) -> None:
    """M23, M24: each side calls the other down and goes on; afterwards all are alive everywhere,
    and nobody who was alive somewhere is called down on the way."""
    network = swarm(size, size + side)
    network.run(5)
    network.cut(lambda a, b: (a < peer(side)) != (b < peer(side)))
    network.run(100)

    sides = [side - 1] * side + [size - side - 1] * (size - side)
    seen = [len(network.swims[peer(number)].live()) for number in range(size)]
    assert sides == seen

    network.told.clear()
    network.heal()

    assert network.run_until(network.agreed, 2 * CONFIG.probe_down_interval_s + 15)
    network.run(60)
    assert network.agreed()
    assert [] == network.changes(Status.DOWN)


def test_a_split_too_short_for_a_verdict_kills_nobody() -> None:
    """M11: the doubt is longer than that."""
    network = swarm(10, 4)
    network.run(5)
    network.cut(lambda a, b: (a < peer(5)) != (b < peer(5)))
    network.run(CONFIG.suspicion_min_s)
    network.heal()
    network.run(60)

    assert network.agreed()
    assert [] == network.changes(Status.DOWN)


@pytest.mark.parametrize("frozen_s", [4.0, 20.0, 100.0])
def test_a_frozen_peer_is_not_called_down_and_accuses_nobody_when_it_thaws(frozen_s: float) -> None:
    """M12, M17: its kernel still accepts; it hears first and judges later."""
    network = swarm(8, 1)
    network.run(5.03)
    victim = peer(3)
    network.freeze(victim, frozen_s)
    network.run(frozen_s + 30)

    assert [] == network.changes(Status.DOWN)
    assert [] == network.changes(Status.SUSPECT)
    assert network.agreed()


def test_a_peer_frozen_for_too_long_is_down_and_comes_back() -> None:
    """M12: busy_max ends it; thawed, it refutes."""
    network = swarm(8, 1)
    network.run(5.03)
    network.freeze(peer(3), CONFIG.busy_max_s + 60)
    network.run(CONFIG.busy_max_s + 50)
    assert {Status.DOWN} == set(network.statuses(peer(3)))

    assert network.run_until(network.agreed, 60)
    assert {peer(3)} == {claim.peer for _, _, claim in network.changes(Status.DOWN)}


def test_a_clock_that_jumps_accuses_nobody() -> None:
    """M17: a machine that slept an hour, with its peers alive and its links as they were."""
    network = swarm(6, 2)
    network.run(5)
    sleeper = network.swims[peer(2)]
    network.frozen[peer(2)] = network.now + 3600.0
    network.deaf = lambda who: who == peer(2)
    for number in (0, 1, 3, 4, 5):
        network.frozen[peer(number)] = network.now + 3600.0
    network.run(3600.0)
    network.deaf = lambda _who: False
    network.run(60)

    assert network.agreed()
    assert [] == network.changes(Status.DOWN)
    assert 7 > sleeper.health


def test_a_deaf_peer_buries_nobody_but_in_its_own_view() -> None:
    """M14: it accuses everybody, since it drops all it is sent; what it says is refuted."""
    network = swarm(8, 6)
    network.run(5)
    deaf = peer(3)
    network.deaf = lambda who: who == deaf
    for other in list(network._dialed[deaf]):
        network._lose(deaf, other, LinkCause.SILENT)
    network.run(120)

    assert [] == [by for _, by, claim in network.changes(Status.DOWN) if claim.peer != deaf != by]

    network.deaf = lambda _who: False
    assert network.run_until(network.agreed, 2 * CONFIG.probe_down_interval_s + 15)


@pytest.mark.parametrize("size", [16, 100])
def test_an_update_reaches_everybody_within_a_few_rounds(size: int) -> None:
    """M22: ceil(log2 N) + 3 gossip rounds without faults; M21: each claim so many times a peer."""
    network = Network(1)
    network.acquaint(size)
    network.run(3)
    network.sent.clear()
    news = network.swims[peer(5)]
    network._do(peer(5), lambda swim: swim.publish(0, b"L", Phase.FINISHED, network.now) or [])

    def known() -> bool:
        told = [swim.progress_of(news.me.peer) for swim in network.swims.values()]
        return all(each is not None and each.phase == Phase.FINISHED for each in told)

    rounds = math.ceil(math.log2(size)) + 3
    assert network.run_until(known, rounds * CONFIG.gossip_interval_s)
    network.run(20)
    assert network.sent["Gossip"] <= size * CONFIG.observers


def per_peer_s(size: int) -> float:
    """Messages a peer sends each second in a quiet group."""
    network = Network(1)
    network.acquaint(size)
    network.run(10)
    network.sent.clear()
    network.run(60)
    assert {"Ping", "Ack", "Digest"} == set(network.sent)
    return network.sent.total() / size / 60


def test_a_quiet_group_costs_the_same_whatever_its_size() -> None:
    """M25, M26: one sign of life an interval and watched pair, and a digest now and then."""
    small, large = per_peer_s(40), per_peer_s(120)

    assert small == pytest.approx(large, rel=0.1)
    assert large <= 2 * CONFIG.observers / CONFIG.probe_interval_s + 1 / CONFIG.sync_interval_s


def test_a_group_of_ten_pings_each_pair_once_an_interval() -> None:
    """M25: no gossip without news."""
    size, minutes = 9, 2
    network = swarm(size, 7)
    network.run(60)
    network.sent.clear()
    network.run(minutes * 60)

    pairs = size * (size - 1) / 2
    assert network.sent["Ping"] <= pairs * minutes * 60 / (0.75 * CONFIG.probe_interval_s)
    assert network.sent["Ping"] >= pairs * minutes * 60 / (1.3 * CONFIG.probe_interval_s)
    assert network.sent["Ping"] == pytest.approx(network.sent["Ack"], rel=0.02)
    digests = size * minutes * 60 / CONFIG.sync_interval_s
    assert digests == pytest.approx(network.sent["Digest"], rel=0.15)
    assert {"Ping", "Ack", "Digest"} == set(network.sent)


def test_memory_is_that_of_the_members_however_many_came_and_went() -> None:
    """M27: tombstones end, and with them everything that was kept of a peer."""
    config = MembershipConfig(tombstone_s=30.0, sync_interval_s=5.0)
    network = swarm(4, 9, config=config)
    for number in range(10, 50):
        network.start(number, number % 4)
        network.run(2)
        if number % 2:
            network.leave(peer(number))
        else:
            network.crash(peer(number))
    network.run(150)

    assert 4 == len(network.swims)
    for swim in network.swims.values():
        view, rounds = swim._view, swim._rounds
        kept = [
            view.sightings.seen,
            view.suspicions.open,
            view.verdicts.open,
            view.verdicts._evidence,
            view.watch._links,
            view.prober.open,
            view.prober._sent,
            view.trips._estimates,
            view._noticed_at,
            view._reach,
            view.owed,
            rounds._strangers,
            rounds._beside,
            rounds._contacts._answers_at,
            swim.records(),
        ]
        assert [] == [each for each in kept if len(each) > 4]
        assert 0 == len(view.news)


@settings(max_examples=6)
@given(SEEDS, st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=12))
def test_whatever_comes_and_goes_those_that_stay_agree_in_the_end(
    seed: int, steps: list[tuple[int, int]]
) -> None:
    """M2 to M7 and M23: joins, crashes, farewells and freezes a few seconds apart."""
    network = swarm(5, seed, 0.02)
    network.run_until(network.agreed, KNOWN_WITHIN_S)
    lives: dict[int, int] = dict.fromkeys(range(5), 1)
    for number, kind in steps:
        who = peer(number)
        if who not in network.swims:
            lives[number] = lives.get(number, 0) + 1
            network.start(number, 0, boot=lives[number])
        elif kind == 0 and len(network.swims) > 2 and number:
            network.leave(who)
        elif kind == 1 and len(network.swims) > 2 and number:
            network.crash(who, LinkCause.SILENT)
        elif kind == 2:
            network.freeze(who, 10.0)
        network.run(3)

    assert network.run_until(network.agreed, 2 * CONFIG.probe_down_interval_s + down_within_s(9))


def test_the_same_seed_gives_the_same_effects_under_any_hash_seed() -> None:
    """M28: a run can be replayed; nothing depends on the order of a set or on a string's hash."""
    program = (
        "from tests.gossip.membership.network import swarm\n"
        "network = swarm(12, 11, 0.1)\n"
        "network.run(10)\n"
        "network.crash(sorted(network.swims)[2])\n"
        "network.run(20)\n"
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
        for seed in ("0", "4321")
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
        network._do(who, lambda swim: swim.wake(network.now))

    for number in range(4):
        publish(peer(number), 100 + number)
    network.run(20)
    network.crash(peer(1))
    network.start(1, 0, boot=1)
    network.run(5)
    publish(peer(1), 50)
    network.run(25)

    assert [456] * 4 == [swim.samples_total(b"L") for swim in network.swims.values()]

"""Real peers behind a proxy: a slow and stalling network, a one-way cut, a split that heals.

Two swarms live through their stories at the same time; each test reads a part of one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.proxy import Path as NetworkPath
from tests.lab.proxy import Proxy
from tests.lab.swarm import LIMIT_S, Line, Swarm
from tests.simulations.local_runs import wait_until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="needs SYNs that are left unanswered"),
]

SLOW = NetworkPath(latency_s=0.08, bytes_per_s=20e6 / 8, stall_every_s=10.0)
ONE_WAY_S = 8.0
SPLIT_S = 30.0
WATCHED_S = 10.0
"""After the heal, on: from a lost probe to a verdict it is 7 to 8 s among so few."""
CROSSINGS = 6
"""Of the path by one swap, as who began it sees it: Offer, Want, chunks, Reply, Want, chunks."""
PEERS = 4
HALVES = ((0, 1), (2, 3))
SLOW_WORDS = ("digits", "--pace", "20", "--every", "10", "--seconds", "25", "--fragments", "4")
ALONE = 0.6
"""No peer of this task becomes as accurate by itself: it sees some of the ten digits only."""
SPLIT_WORDS = ("line", "-o", "shards=32", "--pace", "20", "--every", "4")


@dataclass(frozen=True)
class Stories:
    """Two swarms, and when (as ``time.time`` tells it) what was done to them."""

    slow: Swarm
    stalls: int
    cut_at_s: float
    mended_at_s: float
    split: Swarm
    split_at_s: float
    healed_at_s: float
    over_at_s: float


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stories]:
    """Both from start to end."""
    with ExitStack() as stack:
        slow_proxy = stack.enter_context(Proxy(SLOW))
        proxy = stack.enter_context(Proxy())
        slow = stack.enter_context(_swarm(tmp_path_factory, "slow", SLOW_WORDS, slow_proxy))
        split = stack.enter_context(_swarm(tmp_path_factory, "split", SPLIT_WORDS, proxy))
        split.start()
        slow.start()

        split.until_swapped(3, range(PEERS))
        split_at_s = time.time()
        proxy.split(*([split.ids[each] for each in half] for half in HALVES))

        slow.until_swapped(1, range(PEERS))
        cut_at_s = time.time()
        slow_proxy.hold(slow.ids[0], slow.ids[1])
        slow_proxy.shut(slow.ids[:2])
        slow.until_later(cut_at_s + ONE_WAY_S, 2)
        mended_at_s = time.time()
        slow_proxy.heal()

        split.until_later(split_at_s + SPLIT_S)
        healed_at_s = time.time()
        proxy.heal()
        wait_until(lambda: _is_whole(split, healed_at_s), "the halves mix again", LIMIT_S)
        for number in range(PEERS):
            split.until_later(healed_at_s + WATCHED_S, number)
        over_at_s = time.time()
        split.stop()
        slow.until_ended()
        yield Stories(
            slow,
            slow_proxy.stalls,
            cut_at_s,
            mended_at_s,
            split,
            split_at_s,
            healed_at_s,
            over_at_s,
        )


def _swarm(factory: pytest.TempPathFactory, name: str, words: Sequence[str], proxy: Proxy) -> Swarm:
    folder: Path = factory.mktemp(name)
    return Swarm(folder, words, PEERS, proxy)


def _is_whole(swarm: Swarm, since_s: float) -> bool:
    """Whether each peer has swapped across the halves, and sees all others alive."""
    whole = {"alive": 3, "busy": 0, "lost": 0, "down": 0}
    return all(
        swarm.census(number) == whole and across(swarm.swaps(number, since_s), number)
        for number in range(PEERS)
    )


def across(swaps: list[Line], number: int) -> list[Line]:
    """Those of a peer's swaps that crossed between the halves."""
    (own,) = (half for half in HALVES if number in half)
    return [each for each in swaps if each["partner"] not in own]


def test_a_run_over_a_slow_and_stalling_network_finishes(stories: Stories) -> None:
    """80 ms each way, 20 Mbit/s, stalls of up to three seconds, and a cut: all swap and finish."""
    assert stories.stalls > 0
    for number in range(PEERS):
        assert 0 == stories.slow.peers[number].returncode, stories.slow.peers[number].last_words()
        (result,) = stories.slow.lines(number, "result")
        assert result["swaps"] > 3
        assert result["samples"] > 0
        assert result["figures"]["accuracy"] > ALONE


def test_a_swap_takes_as_long_as_the_path_makes_it(stories: Stories) -> None:
    """The proxy is in the way of what peers say to each other, in both directions."""
    for number in range(PEERS):
        swaps = stories.slow.swaps(number)
        took_s = [each["duration_s"] for each in swaps if each["role"] == "initiator"]
        assert took_s
        assert min(took_s) > 0.99 * CROSSINGS * SLOW.latency_s


def test_nobody_is_called_down_over_a_slow_network_or_a_one_way_cut(stories: Stories) -> None:
    """The other peers are witnesses that both ends of the cut pair live."""
    assert [] == stories.slow.verdicts("down")


def test_a_pair_that_was_cut_one_way_swaps_again(stories: Stories) -> None:
    """Whom nothing reaches any more has lost its link; it comes back by itself."""
    slow, mended_at_s = stories.slow, stories.mended_at_s
    lost = slow.losses(1, 0, stories.cut_at_s)
    assert lost
    assert lost[0]["unix_s"] < mended_at_s
    opened = slow.lines(1, "link_opened", since_s=mended_at_s)
    assert slow.ids[0] in {each["peer"] for each in opened}
    assert {1} <= {each["partner"] for each in slow.swaps(0, mended_at_s)}


def test_both_halves_of_a_split_train_and_swap_on(stories: Stories) -> None:
    """Nobody waits for the other half, and nothing crosses; both to the end of the split."""
    swarm, until_s = stories.split, stories.healed_at_s
    for number in range(PEERS):
        statuses = swarm.lines(number, "status", since_s=stories.split_at_s)
        during = [each for each in statuses if each["unix_s"] < until_s]
        middle = len(during) // 2
        for what in ("step", "samples"):
            assert during[0][what] < during[middle][what] < during[-1][what]
        swaps = swarm.swaps(number, stories.split_at_s + 5.0)
        during_split = [each for each in swaps if each["unix_s"] < until_s]
        assert [each for each in during_split if each["unix_s"] > until_s - SPLIT_S / 2]
        assert [] == across(during_split, number)


def test_the_other_half_is_lost_in_silence(stories: Stories) -> None:
    """No refusal: whatever was reached, nobody answers; each of them is told with its cause."""
    swarm = stories.split
    for number in range(PEERS):
        closed = swarm.lines(number, "link_closed", since_s=stories.split_at_s)
        during = [each for each in closed if each["unix_s"] < stories.healed_at_s]
        others = {swarm.ids[each] for half in HALVES if number not in half for each in half}
        last = {each["peer"]: each["cause"] for each in during}
        assert dict.fromkeys(others, "silent") == last
        assert "refused" not in [each["cause"] for each in during]


def test_nobody_is_called_down_after_the_heal(stories: Stories) -> None:
    """The halves had called each other down, and with the heal that is over: nobody takes over such
    a claim any more, old or new, and all that were down are alive again to everybody."""
    swarm, healed_at_s = stories.split, stories.healed_at_s
    down = {(by, about) for by, about, _ in swarm.verdicts("down", stories.split_at_s)}
    assert {by for by, _ in down} == set(range(PEERS))  # the story did happen
    late = swarm.verdicts("down", healed_at_s)
    assert [] == [each for each in late if each[2]["unix_s"] < stories.over_at_s]
    assert down <= {(by, about) for by, about, _ in swarm.verdicts("alive", healed_at_s)}
    for number in range(PEERS):
        statuses = swarm.lines(number, "status", since_s=healed_at_s)
        last = [each for each in statuses if each["unix_s"] < stories.over_at_s][-1]
        assert last["unix_s"] > healed_at_s + WATCHED_S - 1.0
        assert (3, 0) == (last["census"]["alive"], last["census"]["down"])


def test_after_the_split_the_halves_mix_again(stories: Stories) -> None:
    """Each with somebody of the other half, again and again, while all train on."""
    swarm = stories.split
    for number in range(PEERS):
        crossed = across(swarm.swaps(number, stories.healed_at_s), number)
        assert len(crossed) > 1
        steps = [
            each["step"] for each in swarm.lines(number, "status", since_s=stories.healed_at_s)
        ]
        assert steps[0] < steps[-1]

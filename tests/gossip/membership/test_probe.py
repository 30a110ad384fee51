"""Every member is probed in turn, and a sign of life closes its probe."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from gossip.membership.probe import Prober
from tests.gossip.membership.claims import peer


@given(st.integers(1, 12), st.integers(0, 1000))
def test_each_pass_probes_every_member_once(members: int, seed: int) -> None:
    """Round-robin: no member waits longer than 2 N - 1 probes."""
    live = [peer(number) for number in range(members)]
    prober = Prober(random.Random(seed), 0.5)
    for _ in range(3):
        assert live == sorted(prober.next_target(live) for _ in live)


def test_passes_differ_in_order() -> None:
    """The list is shuffled again after each pass."""
    live = [peer(number) for number in range(12)]
    prober = Prober(random.Random(1), 0.5)
    first, second = ([prober.next_target(live) for _ in live] for _ in range(2))

    assert first != second


@given(st.integers(0, 1000))
def test_a_newcomer_is_probed_within_the_pass_under_way(seed: int) -> None:
    """And a member that went is not probed any more."""
    live = [peer(number) for number in range(6)]
    prober = Prober(random.Random(seed), 0.5)
    seen = [prober.next_target(live), prober.next_target(live)]
    gone = next(each for each in live if each not in seen)
    prober.add(peer(9))
    prober.forget(gone)
    rest = [prober.next_target(live) for _ in range(4)]

    assert sorted([*live, peer(9)]) == sorted([*seen, *rest, gone])


def test_a_silent_member_is_due_at_the_time_out() -> None:
    """Once."""
    prober = Prober(random.Random(1), 0.5)
    prober.start(peer(2), 10.0)

    assert 10.5 == prober.deadline()
    assert [] == prober.due(10.4)
    assert [peer(2)] == prober.due(10.5)
    assert [] == prober.due(11.0)


def test_any_sign_of_life_closes_the_probe() -> None:
    """No other message than an Ack is needed to see that a peer is there."""
    prober = Prober(random.Random(1), 0.5)
    prober.start(peer(2), 10.0)
    prober.heard(peer(2))

    assert [] == prober.due(11.0)


def test_a_second_probe_does_not_put_off_the_time_out_of_the_first() -> None:
    """Else a lost link that flaps would hide a silent peer."""
    prober = Prober(random.Random(1), 0.5)
    assert [1, 2] == [prober.start(peer(2), 10.0), prober.start(peer(2), 10.4)]

    assert [peer(2)] == prober.due(10.5)


def test_voided_probes_accuse_nobody() -> None:
    """A starved peer heard nobody."""
    prober = Prober(random.Random(1), 0.5)
    prober.start(peer(2), 10.0)
    prober.void()

    assert [] == prober.due(99.0)

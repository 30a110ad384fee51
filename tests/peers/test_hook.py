"""The hook: cadence, order, and what it tells the core."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from gossip.errors import UsageError
from gossip.machine import Applied, Input, Submitted
from gossip.messages import ExchangeId, PeerId
from gossip.mixing.flat import FlatModel
from gossip.mixing.replica import Replica
from peers.hook import AUTO, Cadence, Clip, Hook
from peers.mailbox import Correction, Mailbox, Replacement

TICK_S = 0.0625
"""Exact in binary; far below what makes the hook tell its count between swaps."""

EXCHANGE = ExchangeId(PeerId("0" * 16), 1, 1)


class Desk:
    """A hook with its surroundings, and a clock that ticks once a look."""

    def __init__(self, cadence: Cadence, clip: Clip | None = None, idle_s: float = 0.0) -> None:
        self.parameter = nn.Parameter(torch.zeros(256))
        self.replica = Replica(FlatModel([("p", self.parameter)]), measures=clip is not None)
        self.mailbox = Mailbox()
        ticks = itertools.count()
        self.idle_s = 0.0
        self._idle_s = idle_s
        self.hook = Hook(
            self.replica,
            self.mailbox,
            cadence,
            lambda: next(ticks) * TICK_S + self.idle_s,
            clip,
        )

    def step(self, change: float, samples: int = 8) -> list[Input]:
        """Train by adding a constant; return what the core is told."""
        with torch.no_grad():
            self.parameter.add_(change)
        self.idle_s += self._idle_s
        self.hook.after_step(samples)
        return list(self.mailbox.news())


def test_a_swap_is_due_every_so_many_steps_and_after_the_publish() -> None:
    """Submitted comes with the cadence, counts samples, and phi has followed theta by then."""
    desk = Desk(Cadence(swap_every=3))
    assert [] == desk.step(1.0) + desk.step(1.0)
    assert [Submitted(24, swap_due=True)] == desk.step(1.0)
    assert torch.equal(torch.full((256,), 3.0), desk.replica.phi_N)


def test_corrections_move_theta_and_phi_before_the_publish() -> None:
    """A queued correction is applied in the next hook and answered."""
    desk = Desk(Cadence(swap_every=100))
    c_n = desk.replica.take_n(0).fill_(2.0)
    desk.mailbox.to_hook(Correction(EXCHANGE, 0, c_n, 0.5, undo=False))
    assert [Applied(EXCHANGE, applied=True)] == desk.step(1.0)
    assert torch.equal(torch.full((256,), 2.0), desk.parameter.detach())
    assert torch.equal(torch.full((256,), 1.0), desk.replica.phi_N)


def test_who_is_not_followed_moves_nothing_and_is_answered() -> None:
    """The swap ends as any other; nor does its refund move anything."""
    desk = Desk(Cadence(swap_every=100))
    for undo, answers in ((False, [Applied(EXCHANGE, applied=True)]), (True, [])):
        c_n = desk.replica.take_n(0).fill_(2.0)
        desk.mailbox.to_hook(Correction(EXCHANGE, 0, c_n, 0.5, undo=undo, followed=False))
        assert answers == desk.step(0.0)
    assert 0.0 == float(desk.parameter.detach().abs().max())
    assert 0.0 == float(desk.replica.phi_N.abs().max())


def test_a_refund_is_not_answered() -> None:
    """Undo moves back without a word."""
    desk = Desk(Cadence(swap_every=100))
    c_n = desk.replica.take_n(0).fill_(2.0)
    desk.mailbox.to_hook(Correction(EXCHANGE, 0, c_n, -0.5, undo=True))
    assert [] == desk.step(0.0)
    assert -1.0 == float(desk.parameter.detach()[0])


def test_an_adoption_sets_theta_and_phi() -> None:
    """The snapshot replaces both at once."""
    desk = Desk(Cadence())
    desk.mailbox.to_hook(Replacement(EXCHANGE, torch.full((256,), 7.0)))
    assert desk.hook.apply_queued()
    assert 7.0 == float(desk.parameter.detach()[0]) == float(desk.replica.phi_N[0])
    assert [Applied(EXCHANGE, applied=True)] == list(desk.mailbox.news())


def test_a_closed_hook_refuses_what_was_queued() -> None:
    """The core must hear that a correction will never be applied."""
    desk = Desk(Cadence())
    desk.mailbox.to_hook(Correction(EXCHANGE, 0, desk.replica.take_n(0), 0.5, undo=False))
    desk.hook.close()
    assert [Applied(EXCHANGE, applied=False)] == list(desk.mailbox.news())
    assert desk.hook.is_closed


def test_stalls_and_gaps_are_metered() -> None:
    """Every look at the clock is one tick: a hook call takes one."""
    desk = Desk(Cadence())
    desk.step(0.0)
    desk.step(0.0)
    assert TICK_S == desk.hook.meter.longest_stall_s
    assert 2 * TICK_S == desk.hook.meter.total_stall_s
    assert 2 * TICK_S == desk.hook.meter.longest_gap_s


def test_the_sample_count_is_told_between_rare_swaps() -> None:
    """The swarm's progress does not wait for the next swap."""
    desk = Desk(Cadence(swap_every=1000))
    told = [each for _ in range(20) for each in desk.step(0.0)]
    assert 3 <= len(told) <= 10
    assert all(isinstance(each, Submitted) and not each.swap_due for each in told)


def test_a_cadence_below_one_step_is_refused() -> None:
    """The error says what is allowed."""
    with pytest.raises(UsageError, match="at least 1"):
        Cadence(swap_every=-1)
    with pytest.raises(UsageError, match="0 "):
        Cadence(publish_every=-1)
    with pytest.raises(UsageError, match="0 "):
        Cadence(early_steps=-1)


@pytest.mark.parametrize(
    ("every", "early", "due"),
    [
        (4, 8, [2, 4, 6, 8, 12, 16, 20, 24]),
        (3, 6, [2, 3, 5, 6, 9, 12, 15, 18, 21, 24]),
        (8, 0, [8, 16, 24]),
    ],
)
def test_early_swaps_are_twice_as_many(every: int, early: int, due: list[int]) -> None:
    """For so many steps; then as often as was said."""
    cadence = Cadence(every, early_steps=early)
    assert due == [step for step in range(1, 25) if cadence.swap_due(step)]


def test_a_peer_that_idles_publishes_the_rest_once() -> None:
    """Steps since the last publish reach phi before the hook stops running."""
    desk = Desk(Cadence(swap_every=100))
    desk.step(3.0)
    assert 0.0 == float(desk.replica.phi_N[0])
    desk.hook.publish_rest()
    assert 3.0 == float(desk.replica.phi_N[0])
    with torch.no_grad():
        desk.parameter.add_(1.0)
    desk.hook.publish_rest()
    assert 3.0 == float(desk.replica.phi_N[0]), "no step was taken in between"


def test_auto_swaps_at_every_step_that_leaves_time_for_it() -> None:
    """A hook of one tick between steps of a thousand is cheap: every step swaps. Between steps of
    three it is not: swaps become rarer, and what they cost stays near the share allowed."""
    cheap = Desk(Cadence(AUTO), idle_s=1_000 * TICK_S)
    assert all(Submitted(8 * (step + 1), swap_due=True) in cheap.step(1.0) for step in range(20))

    dear = Desk(Cadence(AUTO), idle_s=3 * TICK_S)
    swaps = sum(
        isinstance(each, Submitted) and each.swap_due for _ in range(400) for each in dear.step(1.0)
    )
    assert 0 < swaps < 100


def test_a_peer_says_how_large_a_correction_it_will_take() -> None:
    """Nothing is known before the first publish; then kappa times the usual update, over the
    weight that is applied. Ones added to 256 elements are an update of norm 16."""
    desk = Desk(Cadence(swap_every=2), Clip(kappa=1.5, weight=0.5, fragments=4))
    (first,) = [each for _ in range(2) for each in desk.step(0.5)]
    assert isinstance(first, Submitted)
    assert first.clip_bound == pytest.approx(1.5 * 16 / 0.5 * 2)

    c_n = desk.replica.take_n(0).fill_(100.0)
    desk.mailbox.to_hook(Correction(EXCHANGE, 0, c_n, 0.5, undo=False))
    told = [each for _ in range(2) for each in desk.step(0.5)]
    (second,) = [each for each in told if isinstance(each, Submitted)]
    assert second.clip_bound == pytest.approx(first.clip_bound), "what others did is not my update"


def test_a_hook_without_a_clip_takes_any_correction() -> None:
    """And measures nothing."""
    desk = Desk(Cadence(swap_every=1))
    (news,) = desk.step(1.0)
    assert isinstance(news, Submitted)
    assert math.isinf(news.clip_bound)
    assert math.isnan(desk.replica.update_norm)

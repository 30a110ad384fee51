"""The learning rate while others share the model; between steps it stays the user's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import StepLR

from gossip.config import Config, ExchangeConfig
from gossip.errors import UsageError
from peers.peer import join
from peers.rate import RateRule, RateScale, rate_factor
from peers.settings import PeerConfig


def a_parameter() -> nn.Parameter:
    """One weight with a gradient."""
    weight = nn.Parameter(torch.ones(4))
    weight.grad = torch.full((4,), 0.5)
    return weight


def seen_by(optimizer: Optimizer) -> list[float]:
    """The rates that the optimizer's own steps see, as they are taken."""
    seen: list[float] = []
    optimizer.register_step_pre_hook(
        lambda optimizer, _args, _kwargs: seen.append(float(optimizer.param_groups[0]["lr"]))
    )
    return seen


def test_steps_are_larger_among_others_and_the_rate_stays_the_users() -> None:
    """A scheduler halves its own value; what the steps use is a multiple of that, from two peers
    on, and the step itself is larger by as much."""
    weight, twin = a_parameter(), a_parameter()
    optimizer, plain = (AdamW([each], lr=0.01, weight_decay=0.0) for each in (weight, twin))
    peers = 1
    scale = RateScale(optimizer, lambda: peers)
    seen = seen_by(optimizer)
    schedule = StepLR(optimizer, 1, gamma=0.5)
    for count in (1, 2, 8):
        peers = count
        own = optimizer.param_groups[0]["lr"]
        optimizer.step()
        assert optimizer.param_groups[0]["lr"] == own
        schedule.step()
    assert seen == [0.01, rate_factor(optimizer, 2) * 0.005, rate_factor(optimizer, 8) * 0.0025]
    plain.param_groups[0]["lr"] = 0.01
    plain.step()
    for rate in seen[1:]:
        plain.param_groups[0]["lr"] = rate
        plain.step()
    torch.testing.assert_close(weight, twin)

    scale.remove()
    scale.remove()
    optimizer.step()
    assert seen[-1] == optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("peers", "factor"), [(1, 1), (2, 4), (8, 4), (12, 4), (16, 3), (24, 2), (48, 1), (1000, 1)]
)
def test_the_rule_is_what_the_comparison_found(peers: int, factor: float) -> None:
    """Four times a lone machine's rate from two peers on, 48 / N beyond twelve, never less than
    that machine's own."""
    assert rate_factor(AdamW([a_parameter()]), peers) == factor


def test_alone_and_under_sgd_nothing_is_scaled() -> None:
    """One peer is a machine alone; SGD's steps are as large as its gradients."""
    optimizer = AdamW([a_parameter()], lr=0.01)
    assert rate_factor(optimizer, 1) == 1.0
    assert rate_factor(optimizer, 2) > 1.0
    factors = [rate_factor(optimizer, peers) for peers in range(2, 200)]
    assert factors == sorted(factors, reverse=True)
    assert min(factors) == 1.0
    assert rate_factor(SGD([a_parameter()], lr=0.1), 8) == 1.0


def test_a_step_that_fails_does_not_compound_the_scale() -> None:
    """The next step begins from the user's own rate."""
    optimizer = AdamW([a_parameter()], lr=0.01)
    scale = RateScale(optimizer, lambda: 4)
    seen = seen_by(optimizer)

    def fails() -> float:
        raise ArithmeticError("a closure of the user's")

    with pytest.raises(ArithmeticError):
        optimizer.step(fails)
    optimizer.step()
    assert seen[0] == seen[1] == rate_factor(optimizer, 4) * 0.01
    assert optimizer.param_groups[0]["lr"] == 0.01
    scale.remove()


def test_rates_kept_as_tensors_are_scaled_too() -> None:
    """Capturable optimizers hold the rate in a tensor, which must not be changed in place."""
    own = torch.tensor(0.01)
    optimizer = AdamW([a_parameter()], lr=own, foreach=False)
    RateScale(optimizer, lambda: 2)
    seen = seen_by(optimizer)
    optimizer.step()
    assert seen == [pytest.approx(rate_factor(optimizer, 2) * 0.01)]
    assert optimizer.param_groups[0]["lr"] is own
    assert float(own) == pytest.approx(0.01)


@pytest.mark.parametrize("rule", RateRule)
def test_a_peer_alone_steps_at_its_own_rate_under_either_rule(rule: RateRule) -> None:
    """And nothing of it is left when it has gone."""
    model = nn.Linear(4, 1)
    optimizer = AdamW(model.parameters(), lr=0.01)
    seen = seen_by(optimizer)
    with join(model, optimizer, settings=PeerConfig(rate=rule, listen="127.0.0.1:0")):
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    optimizer.step()
    assert seen == [0.01, 0.01]


def test_a_clip_bound_needs_offers_that_are_not_learned_from_it() -> None:
    """Told before anything runs, and what to take instead."""
    wraps = Config(exchange=ExchangeConfig(codec="wrap4", reply_codec="int4"))
    PeerConfig(protocol=wraps)
    with pytest.raises(UsageError, match="offer int8"):
        PeerConfig(protocol=wraps, clip=1.0)

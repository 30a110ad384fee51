"""Swapping the inner optimizer's momentum beside the parameters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gossip.errors import UsageError
from peers.tasks.digits import DigitsTask
from peers.tasks.line import LineTask
from simulations.compare.baselines import PeriodicAverage
from simulations.compare.conditions import Conditions
from simulations.compare.feed import Feed, Split
from simulations.compare.field import Field, Method, Schedule
from simulations.compare.inner import InnerSettings, make_inner
from simulations.compare.registry import make_method, read_spec
from simulations.compare.stack import Stack

TASK = DigitsTask(hidden=(16, 12), batch=8)


def run(method: Method, inner: str, peers: int, steps: int) -> Field:
    """So many steps on digits, each peer on labels of its own."""
    stack = Stack(TASK, peers, 0)
    optimizer = make_inner(stack, InnerSettings(inner, 0.05))
    feed = Feed(TASK, peers, Split.DISJOINT, 0)
    field = Field(stack, optimizer, feed, Schedule(steps), peers, 0, Conditions())
    method.start(field)
    for step in range(steps):
        method.advance(field, step)
    return field


def momentum_of(field: Field) -> Tensor:
    """There is one."""
    m_PM = field.inner.momentum_PM
    assert m_PM is not None
    return m_PM


@pytest.mark.parametrize("inner", ["sgd", "muon"])
@pytest.mark.parametrize(("codecs", "apart"), [("fp32+fp32", 1e-6), ("wrap8+int8", 0.02)])
def test_a_pair_leaves_with_the_mean_of_its_momenta(inner: str, codecs: str, apart: float) -> None:
    """Nothing is made or lost, in exact codecs and in short ones; and its bytes are counted."""
    alone = run(PeriodicAverage(1_000), inner, 2, 1)
    together = run(make_method(read_spec(f"gossip:momentum={codecs}"), 2), inner, 2, 1)
    plain = run(make_method(read_spec("gossip"), 2), inner, 2, 1)
    before_PM, after_PM = momentum_of(alone), momentum_of(together)
    torch.testing.assert_close(after_PM.mean(dim=0), before_PM.mean(dim=0), rtol=1e-5, atol=1e-7)
    left, right = after_PM
    assert float((left - right).norm()) <= apart * float((before_PM[0] - before_PM[1]).norm())
    bits = 64 if codecs.startswith("fp32") else 16
    extra_bytes = together.traffic.sent_bytes - plain.traffic.sent_bytes
    assert 2 * extra_bytes == pytest.approx(after_PM.shape[1] * bits / 8, rel=0.05)


def test_peers_with_labels_of_their_own_learn_more_when_they_mix_momentum() -> None:
    """Forty steps of Muon: what the momentum of one peer alone points at is its own labels."""
    losses = []
    for text in ("gossip", "gossip:momentum=wrap8+int8"):
        field = run(make_method(read_spec(text), 4), "muon", 4, 40)
        losses.append(TASK.evaluate(field.stack.load(field.stack.theta_PN.mean(dim=0)))["loss"])
    assert losses[1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("text", "inner", "what"),
    [
        ("gossip:momentum=wrap8+int8", "adamw", "no momentum to mix"),
        ("gossip:momentum=fp32+fp32,offer=int8,clip=2", "sgd", "knows no momentum"),
        ("gossip:momentum=true", "muon", r"should look like momentum=wrap8\+int8"),
    ],
)
def test_what_cannot_be_mixed_is_refused(text: str, inner: str, what: str) -> None:
    """Before anything is trained."""
    with pytest.raises(UsageError, match=what):
        run(make_method(read_spec(text), 2), inner, 2, 1)


def test_a_model_without_hidden_matrices_has_no_momentum_of_muons() -> None:
    """It is AdamW's then."""
    assert make_inner(Stack(LineTask(), 2, 0), InnerSettings("muon", 0.1)).momentum_PM is None

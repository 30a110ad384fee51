"""The outer step against torch's own optimizer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.errors import UsageError
from gossip.mixing.outer import OuterStep, outer_step_


@settings(max_examples=40, deadline=None)
@given(
    a=st.sampled_from([0.0, 0.3, 0.8]), b=st.sampled_from([0.5, 0.7, 1.0]), seed=st.integers(0, 999)
)
def test_outer_steps_equal_nesterov_sgd_on_minus_delta(a: float, b: float, seed: int) -> None:
    """Five steps of torch.optim.SGD(lr=b, momentum=a, nesterov=True) on the gradient -delta."""
    generator = torch.Generator().manual_seed(seed)
    phi_n = torch.randn(256, generator=generator)
    m_n = torch.zeros(256) if a > 0 else None
    reference_n = torch.nn.Parameter(phi_n.clone())
    optimizer = torch.optim.SGD([reference_n], lr=b, momentum=a, nesterov=a > 0)
    for _ in range(5):
        delta_n = torch.randn(256, generator=generator)
        theta_n = phi_n + delta_n
        outer_step_(OuterStep(a, b), theta_n, phi_n, m_n)
        reference_n.grad = -delta_n
        optimizer.step()
        # torch's buffer lacks the factor b that ours carries; the steps are the same.
        assert torch.allclose(reference_n, phi_n, atol=1e-5)
        assert torch.equal(theta_n, phi_n)


@pytest.mark.parametrize("a, b", [(1.0, 0.5), (-0.1, 0.5), (0.5, 0.0), (0.5, 1.5)])
def test_knobs_outside_their_range_are_refused(a: float, b: float) -> None:
    """One line says which knob and why."""
    with pytest.raises(UsageError, match="outer"):
        OuterStep(a, b)


def test_only_no_momentum_and_full_rate_is_plain() -> None:
    """The default is plain averaging."""
    assert OuterStep().plain
    assert not OuterStep(0.0, 0.7).plain
    assert not OuterStep(0.8, 1.0).plain

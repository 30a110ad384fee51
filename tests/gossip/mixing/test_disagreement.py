"""Disagreement: known values, and its halving under random swaps."""

from __future__ import annotations

import math

import pytest
import torch

from gossip.mixing.disagreement import disagreement, ratio


def test_disagreement_of_known_vectors() -> None:
    """Two peers one apart around 2: 0.5 / 2, whatever the length."""
    one_N, two_N = torch.full((300_000,), 1.5), torch.full((300_000,), 2.5)
    assert 0.25 == pytest.approx(disagreement([one_N, two_N]))
    assert 0.0 == disagreement([one_N, one_N, one_N])


def test_agreement_on_zero_is_agreement() -> None:
    """No division by zero; opposite vectors are infinitely far for their mean."""
    zero_N, one_N = torch.zeros(256), torch.ones(256)
    assert 0.0 == disagreement([zero_N, zero_N])
    assert math.inf == disagreement([one_N, -one_N])
    assert 0.0 == ratio(0.0, 0.0)

"""Disagreement: known values, and its halving under random swaps."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from gossip.mixing.disagreement import disagreement, ratio, sample_slices


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


@pytest.mark.parametrize("elements", [1, 256, 100_000, 1 << 18])
def test_all_of_a_short_vector_is_measured(elements: int) -> None:
    """In pieces that neither overlap nor leave anything out."""
    parts = list(sample_slices(elements))

    assert 0 == parts[0].start
    assert elements == parts[-1].stop
    assert all(a.stop == b.start for a, b in itertools.pairwise(parts))


@pytest.mark.parametrize("elements", [(1 << 18) + 256, 50_000_000])
def test_of_a_long_vector_both_ends_and_much_between_are_measured(elements: int) -> None:
    """As many elements whatever its length, in order, none twice."""
    parts = list(sample_slices(elements))

    assert 1 << 18 == sum(part.stop - part.start for part in parts)
    assert 0 == parts[0].start
    assert elements == parts[-1].stop
    assert all(a.stop <= b.start for a, b in itertools.pairwise(parts))

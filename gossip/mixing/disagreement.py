"""How far peers are from agreeing, relative to the size of what they agree on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

PIECE_ELEMENTS: Final = 1 << 18
"""1 MiB of fp32: what fits a core's cache."""


SAMPLE_ELEMENTS: Final = 1 << 12
SAMPLES: Final = 64
"""A vector of more than 2^18 elements is measured at so many places; a shorter one, throughout."""


def disagreement(vectors: Sequence[Tensor]) -> float:
    """Root mean square distance of the vectors from their mean, over the norm of the mean.

    Takes flat vectors of one length. Zero mean: 0 when all are zero, else infinite.
    """
    assert vectors, "no vectors"
    spread, size = 0.0, 0.0
    for start in range(0, vectors[0].numel(), PIECE_ELEMENTS):
        part_PN = torch.stack([vector[start : start + PIECE_ELEMENTS] for vector in vectors])
        part_PN = part_PN.double()
        mean_N = part_PN.mean(dim=0)
        size += float(mean_N.square().sum())
        spread += float((part_PN - mean_N).square().sum()) / len(vectors)
    return ratio(math.sqrt(spread), math.sqrt(size))


def ratio(distance: float, size: float) -> float:
    """``distance / size``, with 0/0 = 0: what agrees on zero agrees."""
    if size == 0:
        return 0.0 if distance == 0 else math.inf
    return distance / size


def sample_slices(elements: int) -> Iterator[slice]:
    """Evenly spaced pieces of a long vector, the first and the last included; all of a short one,
    in pieces that fit a cache."""
    if elements <= SAMPLES * SAMPLE_ELEMENTS:
        for start in range(0, elements, PIECE_ELEMENTS):
            yield slice(start, min(start + PIECE_ELEMENTS, elements))
        return
    for index in range(SAMPLES):
        start = (elements - SAMPLE_ELEMENTS) * index // (SAMPLES - 1)
        yield slice(start, start + SAMPLE_ELEMENTS)


def squared_norm(values_n: Tensor) -> float:
    """Sum of squares, accumulated in fp64 so that large finite values do not overflow."""
    return float(torch.linalg.vector_norm(values_n, dtype=torch.float64)) ** 2

"""Labelled samples held out and cut into shards, evenly, by label, or by a Dirichlet draw.

The same numbers on every machine: everything follows from the labels and a fixed seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

from gossip.errors import UsageError


def dirichlet_alpha(task: str, skew: str) -> float:
    """ALPHA of ``dirichlet:ALPHA``. Raises UsageError if that is not what ``skew`` says."""
    kind, _, text = skew.partition(":")
    try:
        alpha = float(text)
    except ValueError:
        alpha = 0.0
    if kind != "dirichlet" or not 0.001 <= alpha <= 1000.0:
        raise UsageError(
            f"task {task}: skew={skew!r} should be label, none or dirichlet:ALPHA "
            "with ALPHA 0.001 to 1000"
        )
    return alpha


def check_skew(task: str, skew: str) -> None:
    """Raise UsageError unless ``skew`` is label, none or dirichlet:ALPHA."""
    if skew not in ("label", "none"):
        dirichlet_alpha(task, skew)


def hold_out(
    labels: Sequence[int], classes: int, held_out: int, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sample numbers to train on (sorted by label, shuffled within) and held out.

    Stratified: each label gives its share of ``held_out``, by largest remainder.
    """
    by_label: list[list[int]] = [[] for _ in range(classes)]
    for number, label in enumerate(labels):
        by_label[label].append(number)
    taken = shares([float(len(numbers)) for numbers in by_label], held_out)
    rng = random.Random(seed)
    kept: list[int] = []
    held: list[int] = []
    for numbers, count in zip(by_label, taken, strict=True):
        rng.shuffle(numbers)
        held += numbers[:count]
        kept += numbers[count:]
    return tuple(kept), tuple(held)


def cut(
    task: str, skew: str, kept: Sequence[int], labels: Sequence[int], shards: int, seed: int
) -> tuple[tuple[int, ...], ...]:
    """The numbers ``kept`` (sorted by label) cut into shards: a partition, none empty."""
    numbers = list(kept)
    rng = random.Random(seed)
    if skew not in ("label", "none"):
        return _by_dirichlet(numbers, labels, dirichlet_alpha(task, skew), shards, rng)
    if skew == "none":
        rng.shuffle(numbers)
    ends = [len(numbers) * place // shards for place in range(shards + 1)]
    return tuple(tuple(numbers[a:b]) for a, b in pairwise(ends))


def _by_dirichlet(
    kept: list[int], labels: Sequence[int], alpha: float, shards: int, rng: random.Random
) -> tuple[tuple[int, ...], ...]:
    """Each label's samples are spread over the shards by one Dirichlet(alpha) draw.

    Source: Hsu, Qi and Brown, "Measuring the effects of non-identical data distribution for
    federated visual classification", 2019.
    """
    parts: list[list[int]] = [[] for _ in range(shards)]
    for label in range(max(labels) + 1):
        numbers = [number for number in kept if labels[number] == label]
        # A Dirichlet draw is a gamma draw, scaled; the floor keeps tiny alphas from all zeros.
        drawn = [max(rng.gammavariate(alpha, 1.0), 1e-300) for _ in range(shards)]
        for shard, count in enumerate(shares(drawn, len(numbers))):
            parts[shard] += numbers[:count]
            numbers = numbers[count:]
    for part in parts:
        if not part:  # nobody trains on nothing: take one from the fullest
            part.append(max(parts, key=len).pop())
    return tuple(tuple(part) for part in parts)


def shares(sizes: Sequence[float], total: int) -> list[int]:
    """``total`` divided in proportion to ``sizes``, by largest remainder."""
    whole = sum(sizes)
    exact = [size / whole * total for size in sizes]
    parts = [int(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda place: parts[place] - exact[place])
    for place in by_remainder[: total - sum(parts)]:
        parts[place] += 1
    return parts

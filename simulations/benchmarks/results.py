"""Figures with their spread, and how they are printed."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

EXIT_WRONG_RESULT = 1
EXIT_CANNOT = 64


class WrongResult(Exception):
    """What was measured did not do what it should have done, so its time means nothing."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing: never a single number without its range."""

    median: float
    smallest: float
    largest: float
    count: int

    @staticmethod
    def of(values: Iterable[float]) -> Spread:
        """The spread of at least one value."""
        kept = list(values)
        return Spread(statistics.median(kept), min(kept), max(kept), len(kept))

    def text(self, unit: str, factor: float = 1.0, digits: int = 3) -> str:
        """``median (smallest-largest) unit``, each times ``factor``."""
        middle, low, high = (
            f"{each * factor:.{digits}f}" for each in (self.median, self.smallest, self.largest)
        )
        return f"{middle} ({low}-{high}) {unit}".rstrip()


def machine() -> dict[str, Any]:
    """What the figures depend on; no name that tells whose machine it is."""
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_1min": round(os.getloadavg()[0], 2),
    }


def as_json(figures: Mapping[str, Any]) -> str:
    """One JSON object on one line; a Spread becomes an object of its fields."""
    return json.dumps(figures, default=_plain)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """``ours / theirs`` repeat by repeat: both were measured within the same second or two."""
    return Spread.of(mine / other for mine, other in zip(ours, theirs, strict=True))


def _plain(value: object) -> Any:
    if isinstance(value, Spread):
        return asdict(value)
    raise TypeError(f"not a figure: {value!r}")

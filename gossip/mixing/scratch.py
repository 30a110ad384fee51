"""Memory that is taken once and used again, as fresh memory is slower than any computation."""

from __future__ import annotations

import torch
from torch import Tensor


class Scratch:
    """The memory of one thread's computations: kept, and grown only when one needs more."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def take(self, use: str, elements: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """So many elements for one use: the same memory at every call."""
        kept = self._kept.get(use)
        if kept is None or kept.numel() < elements:
            self._kept[use] = kept = torch.empty(elements, dtype=dtype)
        return kept[:elements]

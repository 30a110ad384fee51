"""torch's Muon on the matrices of hidden layers and AdamW on everything else, as one optimizer.

Muon takes matrices only, so every user pairs it with another; a peer hooks into one optimizer, and
schedulers set the rate of one. ``param_groups`` are those of both, so both follow a scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer

from gossip.errors import UsageError

MOMENTUM: Final = 0.9
"""Of Muon; .98 was worse and .8 no better in comparisons of peers that swap."""
BETAS: Final = (0.9, 0.99)


class MuonAndAdamW(Optimizer):
    """``hidden``: matrices for Muon. ``rest``: all other parameters; no more can be added. Raises
    ValueError, as torch's own do, for hidden parameters that are no matrices or a rate below 0,
    and UsageError where torch has no Muon.

    Muon's updates are scaled to the root mean square of AdamW's (Liu et al., "Muon is scalable for
    LLM training", 2025), so one rate suits both where gradients are averaged (DDP). Peers that swap
    want twice that for the matrices alone: at twice the rate embeddings drift apart. So
    ``rest_lr``, without which the rest learns at ``lr`` too.
    """

    def __init__(
        self,
        hidden: Iterable[Parameter],
        rest: Iterable[Parameter],
        lr: float,
        decay: float = 0.01,
        rest_lr: float | None = None,
    ) -> None:
        try:
            from torch.optim import Muon  # since torch 2.9; everything else works with older ones
        except ImportError as missing:
            raise UsageError(
                f"Muon needs torch 2.9, this is {torch.__version__}; use inner=adamw"
            ) from missing
        muon = Muon(
            hidden,
            lr=lr,
            weight_decay=decay,
            momentum=MOMENTUM,
            adjust_lr_fn="match_rms_adamw",
        )
        rest_lr = lr if rest_lr is None else rest_lr
        adamw = AdamW(rest, lr=rest_lr, betas=BETAS, weight_decay=decay)
        groups = [*muon.param_groups, *adamw.param_groups]
        super().__init__([{"params": group["params"]} for group in groups], {"lr": lr})
        self.param_groups = groups
        self._parts = (muon, adamw)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both. Returns what ``closure`` returned, which is called once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        muon, adamw = self._parts
        muon.step()  # type: ignore[no-untyped-call]  # torch has no type for it
        adamw.step()
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Only while it is made. Raises UsageError later: whose would the new parameters be?"""
        if hasattr(self, "_parts"):
            raise UsageError("no parameters can be added to Muon and AdamW together")
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        """For copies: torch's own leaves out what it does not know."""
        return {**super().__getstate__(), "_parts": self._parts}

    def state_dict(self) -> dict[str, Any]:
        """Both states, Muon's first."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what ``state_dict`` gave. Raises KeyError or ValueError for another's."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self._parts for group in part.param_groups]

"""How much faster peers that swap may learn than one alone: a factor on the learning rate.

Many models that take noisy steps and are averaged all the time stay closer to the good way than
each would alone, so each may take larger steps. Measured with ``gossip compare`` at equal samples
(simulations/compare/README.md, "Learning rate"): the best rate of 2 to 8 peers under AdamW, and of
8 under Muon, was about GOSSIP_FACTOR times what one machine wants that trains alone with a single
peer's batch, and lower for 16, each of which takes but a sixteenth of the steps; under SGD with
momentum it was that machine's own. That is one transformer on one text: on digits AdamW wanted far
more among peers.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from torch.optim import ASGD, LBFGS, SGD, Optimizer, Rprop

GOSSIP_FACTOR: Final = 4.0
FALLING_FROM_PEERS: Final = 12
"""Beyond so many the factor falls as 1 / N: at 16 it is 3, where 2 and 2.8 did equally well."""


UNSCALED: Final = (SGD, ASGD, LBFGS, Rprop)


class RateRule(Enum):
    """KEEP: the rate is the user's own, as set. GOSSIP: ``rate_factor`` times that while others
    share the model."""

    KEEP = "keep"
    GOSSIP = "gossip"


def rate_factor(optimizer: Optimizer, peers: int) -> float:
    """What to multiply a rate with that is right for one machine alone, when ``peers`` swap.

    For those that normalize their steps, as AdamW and Muon (the ones measured) do: most of a small
    batch's step is noise then. SGD moves by the gradient's own size, which averaging does not
    change.
    """
    if peers < 2 or isinstance(optimizer, UNSCALED):
        return 1.0
    return max(1.0, GOSSIP_FACTOR * min(1.0, FALLING_FROM_PEERS / peers))


class RateScale:
    """Scales the rate of an optimizer during each of its steps, and puts it back after it.

    So LR schedulers, which set and read the rate between steps, see their own values only. A step
    that raises leaves the scaled rate behind until the next step begins, or ``remove``.
    """

    def __init__(self, optimizer: Optimizer, peers: Callable[[], int]) -> None:
        self._optimizer = optimizer
        self._peers = peers
        self._own: list[Any] = []
        before = optimizer.register_step_pre_hook(self._before)
        after = optimizer.register_step_post_hook(self._after)
        self._handles = (before, after)

    def remove(self) -> None:
        """The rate is the user's own again; harmless twice."""
        self._restore()
        for handle in self._handles:
            handle.remove()

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        del args, kwargs
        self._restore()
        factor = rate_factor(optimizer, self._peers())
        self._own = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        del optimizer, args, kwargs
        self._restore()

    def _restore(self) -> None:
        for group, own in zip(self._optimizer.param_groups, self._own, strict=False):
            group["lr"] = own
        self._own = []

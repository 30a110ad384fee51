"""Bounds on what a neighbor can do: clipping for swaps, robust means for several pulled models.

With one partner at a time there is no majority to ask, so a swap's influence is bounded by how far
the peer itself moves (self-clipping: He, Karimireddy and Jaggi, "Byzantine-robust decentralized
learning via ClippedGossip", 2022). With several models at hand, the outer ones of each coordinate
are cut (Yin et al., "Byzantine-robust distributed learning", ICML 2018), or only the models nearest
to the own one are averaged (Farhadkhani et al., "Robust collaborative learning with linear gradient
overhead" (MoNNA), ICML 2023). None of this stops peers that collude in small consistent lies, nor
one person with many identities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gossip.codecs import WRAP_CODECS
from gossip.errors import CodeError, UsageError
from gossip.mixing.correction import clip_factor

UPDATE_DECAY = 0.9
"""Of the running mean of a peer's own update norms, per publish."""


def check_clip(kappa: float, offer_codec: str) -> None:
    """Raise UsageError for a bound that makes no sense, or not beside this codec of offers."""
    SelfClip(kappa)
    if kappa > 0 and offer_codec in WRAP_CODECS:
        raise UsageError(
            f"a clip bound is against neighbors that may lie, and {offer_codec} does not go with "
            "it: what they say of their distance sets its steps; offer int8 (replies may still be "
            "int4)"
        )


@dataclass(slots=True)
class SelfClip:
    """No correction moves a peer by more than ``kappa`` times its own usual update.

    0 clips nothing. Without attackers kappa = 2 cost 0.1 % of loss and 1 cost 1 % on a text, and
    far more where peers hold other labels each: their corrections are long for good reason.
    """

    kappa: float
    _usual: float = 0.0

    def __post_init__(self) -> None:
        if not (self.kappa >= 0 and math.isfinite(self.kappa)):
            raise UsageError(f"kappa must be at least 0 and finite, not {self.kappa}")

    def note(self, update_norm: float) -> None:
        """The peer moved so far by itself between two publishes; what is not finite is left out."""
        if math.isfinite(update_norm):
            decayed = UPDATE_DECAY * self._usual + (1 - UPDATE_DECAY) * update_norm
            self._usual = decayed if self._usual > 0 else update_norm

    @property
    def bound(self) -> float:
        """The largest norm of a weighted correction; infinite while nothing is known, or off."""
        return self.kappa * self._usual if self.kappa > 0 and self._usual > 0 else math.inf

    def factor(self, c_N: Tensor, weight: float) -> float:
        """At most 1, such that ``weight * factor * norm(c)`` is within the bound. Raises CodeError
        when c is not finite."""
        norm = weight * float(torch.linalg.vector_norm(c_N, dtype=torch.float64))
        return clip_factor(norm, self.bound)


def trimmed_mean_N(own_N: Tensor, others_PN: Tensor, cut: int) -> Tensor:
    """The mean of own and others in each coordinate, without its ``cut`` largest and smallest.

    Raises CodeError on other shapes or values that are not finite, UsageError when nothing is left.
    """
    models_PN = _together(own_N, others_PN)
    if not 0 <= 2 * cut < models_PN.shape[0]:
        raise UsageError(f"cutting {cut} on both sides leaves nothing of {models_PN.shape[0]}")
    sorted_PN = models_PN.sort(dim=0).values
    return sorted_PN[cut : models_PN.shape[0] - cut].mean(dim=0)


def nearest_mean_N(own_N: Tensor, others_PN: Tensor, liars: int) -> Tensor:
    """The mean of the n - ``liars`` models nearest to the own one, of n with the own.

    Raises CodeError on other shapes or values that are not finite, UsageError when nobody is left.
    """
    models_PN = _together(own_N, others_PN)
    keep = models_PN.shape[0] - liars
    if not 0 <= liars < models_PN.shape[0]:
        raise UsageError(f"{liars} liars leave nobody of {models_PN.shape[0]}")
    distance_P = torch.linalg.vector_norm(models_PN - own_N, dim=1, dtype=torch.float64)
    return models_PN[distance_P.argsort(stable=True)[:keep]].mean(dim=0)


def _together(own_N: Tensor, others_PN: Tensor) -> Tensor:
    if others_PN.dim() != 2 or others_PN.shape[1:] != own_N.shape:
        raise CodeError("models of another length")
    if not bool(others_PN.isfinite().all()):
        raise CodeError("a model that is not finite")
    return torch.cat([own_N[None], others_PN])

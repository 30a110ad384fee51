"""Inner optimizers of P peers at once: the formulas of torch's own, on stacked flat tensors.

Held against torch.optim step by step in the tests. Shape letters as in ``stack``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from gossip.errors import UsageError
from simulations.compare.stack import Part, Stack

INNER_NAMES: Final = ("sgd", "adamw", "muon")

NEWTON_SCHULZ: Final = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration (Jordan et al., "Muon", 2024; torch's defaults)."""
NEWTON_SCHULZ_STEPS: Final = 5
MUON_RMS: Final = 0.2
"""An orthogonalized update is scaled to this root mean square, so that one rate suits Muon's
matrices and AdamW's rest (Liu et al., "Muon is scalable for LLM training", 2025)."""


@dataclass(frozen=True, slots=True)
class InnerSettings:
    """What an inner optimizer is made of; ``beta1`` is Muon's and SGD's momentum too. ``rest``: the
    rate of what is no hidden matrix, as a share of Muon's."""

    name: str = "adamw"
    rate: float = 3e-3
    beta1: float = 0.9
    beta2: float = 0.99
    decay: float = 0.01
    epsilon: float = 1e-8
    rest: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in INNER_NAMES:
            known = ", ".join(INNER_NAMES)
            raise UsageError(f"unknown inner optimizer {self.name!r}; known are {known}")
        if not self.rate > 0:
            raise UsageError(f"the learning rate must be above 0, not {self.rate}")
        if not 0 < self.rest <= 1:
            raise UsageError("muon: rest is a share of its rate, above 0 and at most 1")


def read_inner(text: str) -> tuple[str, float]:
    """An inner optimizer as typed: its name, and ``rest`` as in ``muon:rest=0.5``. Raises
    UsageError."""
    name, colon, option = text.partition(":")
    key, _, share = option.partition("=")
    if not colon:
        rest = 1.0
    elif (name, key) != ("muon", "rest"):
        raise _wrong(text)
    else:
        try:
            rest = float(share)
        except ValueError:
            raise _wrong(text) from None
    InnerSettings(name, rest=rest)  # raises for a name that is not known or no share
    return name, rest


def inner_named(text: str) -> str:
    """The one way to write an inner optimizer, whichever way it was typed: what decides a run must
    not have two names. Raises UsageError."""
    name, rest = read_inner(text)
    share = f"{rest:g}"
    return name if share == "1" else f"{name}:rest={share}"


def _wrong(text: str) -> UsageError:
    return UsageError(f"inner optimizer {text!r} should look like muon or muon:rest=0.5")


class Inner(Protocol):
    """Takes local steps."""

    @property
    def momentum_PM(self) -> Tensor | None:
        """What a method may mix besides parameters, whole blocks of 256; None where that would do
        harm: AdamW divides by second moments, which are zero where a peer saw no gradient yet."""
        ...

    def step_(self, rows: Tensor | None, scale: float) -> None:
        """One step of the chosen peers (None: all) with ``scale`` times the rate."""
        ...

    def reset_(self, row: int) -> None:
        """Forget one peer's state (a newcomer took its place)."""
        ...


class Sgd:
    """torch.optim.SGD with momentum (dampening 0, no Nesterov)."""

    def __init__(self, stack: Stack, settings: InnerSettings) -> None:
        self._stack = stack
        self._settings = settings
        self._m_PN = torch.zeros_like(stack.theta_PN)

    @property
    def momentum_PM(self) -> Tensor:
        """See Inner."""
        return self._m_PN

    def step_(self, rows: Tensor | None, scale: float) -> None:
        """See Inner."""
        rate = self._settings.rate * scale
        theta_PN, grad_PN, m_PN = _chosen(
            rows, self._stack.theta_PN, self._stack.grad_PN, self._m_PN
        )
        # Fused: one pass over memory instead of four, in half the time. (Without momentum torch
        # leaves m alone; nobody asks for that here.)
        sgd(
            [theta_PN],
            [grad_PN],
            [m_PN],
            fused=True,
            lr=rate,
            momentum=self._settings.beta1,
            weight_decay=self._settings.decay,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        _store(rows, (self._stack.theta_PN, theta_PN), (self._m_PN, m_PN))

    def reset_(self, row: int) -> None:
        """See Inner."""
        self._m_PN[row].zero_()


class AdamW:
    """torch.optim.AdamW; each peer counts its own steps for the bias correction."""

    def __init__(self, stack: Stack, settings: InnerSettings) -> None:
        self._stack = stack
        self._settings = settings
        self._m_PN = torch.zeros_like(stack.theta_PN)
        self._v_PN = torch.zeros_like(stack.theta_PN)
        self._steps_P1 = torch.zeros(stack.peers, 1)

    @property
    def momentum_PM(self) -> None:
        """See Inner."""
        return None

    def step_(self, rows: Tensor | None, scale: float) -> None:
        """See Inner."""
        s = self._settings
        rate = s.rate * scale
        theta_PN, grad_PN, m_PN, v_PN, steps_P1 = _chosen(
            rows, self._stack.theta_PN, self._stack.grad_PN, self._m_PN, self._v_PN, self._steps_P1
        )
        steps_P1.add_(1)
        m_PN.lerp_(grad_PN, 1 - s.beta1)
        v_PN.mul_(s.beta2).addcmul_(grad_PN, grad_PN, value=1 - s.beta2)
        theta_PN.mul_(1 - rate * s.decay)
        second_P1 = (1 - s.beta2**steps_P1).sqrt()
        denominator_PN = v_PN.sqrt().div_(second_P1).add_(s.epsilon)
        theta_PN.sub_(rate / (1 - s.beta1**steps_P1) * m_PN / denominator_PN)
        _store(
            rows,
            (self._stack.theta_PN, theta_PN),
            (self._m_PN, m_PN),
            (self._v_PN, v_PN),
            (self._steps_P1, steps_P1),
        )

    def reset_(self, row: int) -> None:
        """See Inner."""
        for state in (self._m_PN, self._v_PN, self._steps_P1):
            state[row].zero_()


class Muon:
    """torch.optim.Muon on the matrices of hidden layers, AdamW(.9, .99) on everything else.

    Hidden: two-dimensional, and neither an embedding nor the last layer (Jordan et al., 2024).
    """

    def __init__(self, stack: Stack, settings: InnerSettings) -> None:
        self._stack = stack
        self._settings = settings
        self._m_PN = torch.zeros_like(stack.theta_PN)
        rest = InnerSettings(
            "adamw",
            settings.rate * settings.rest,
            beta1=0.9,
            beta2=settings.beta2,
            decay=settings.decay,
        )
        self._rest = AdamW(stack, rest)
        self._hidden = hidden_matrices(stack)

    @property
    def momentum_PM(self) -> Tensor | None:
        """Muon's own; from the first to the last hidden matrix, with a few zeros between."""
        if not self._hidden:
            return None
        return self._m_PN[:, self._hidden[0].start : self._hidden[-1].end]

    def step_(self, rows: Tensor | None, scale: float) -> None:
        """See Inner."""
        s = self._settings
        rate = s.rate * scale
        before = [self._stack.view_P(self._stack.theta_PN, part).clone() for part in self._hidden]
        self._rest.step_(rows, scale)
        for part, before_Pmn in zip(self._hidden, before, strict=True):
            theta_Pmn = self._stack.view_P(self._stack.theta_PN, part)
            theta_Pmn.copy_(before_Pmn)
            theta, grad, m = _chosen(
                rows,
                theta_Pmn,
                self._stack.view_P(self._stack.grad_PN, part),
                self._stack.view_P(self._m_PN, part),
            )
            m.lerp_(grad, 1 - s.beta1)
            update = orthogonal(grad.lerp(m, s.beta1))
            theta.mul_(1 - rate * s.decay)
            theta.sub_(update, alpha=rate * MUON_RMS * math.sqrt(max(part.shape)))
            _store(rows, (theta_Pmn, theta), (self._stack.view_P(self._m_PN, part), m))

    def reset_(self, row: int) -> None:
        """See Inner."""
        self._m_PN[row].zero_()
        self._rest.reset_(row)


def make_inner(stack: Stack, settings: InnerSettings) -> Inner:
    """The optimizer that the settings name, for all peers of the stack."""
    match settings.name:
        case "sgd":
            return Sgd(stack, settings)
        case "muon":
            return Muon(stack, settings)
        case _:
            return AdamW(stack, settings)


def hidden_matrices(stack: Stack) -> list[Part]:
    """The tensors Muon is made for."""
    linear = [
        f"{name}.weight".lstrip(".")
        for name, module in stack.model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    return [part for part in stack.parts if part.name in linear[:-1]]


def orthogonal(update_Pmn: Tensor) -> Tensor:
    """Each matrix with its singular values pulled close to one, by Newton-Schulz iterations."""
    a, b, c = NEWTON_SCHULZ
    x = update_Pmn.mT if update_Pmn.shape[-2] > update_Pmn.shape[-1] else update_Pmn
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    flipped = update_Pmn.shape[-2] > update_Pmn.shape[-1]
    result: Tensor = x.mT if flipped else x
    return result


def _chosen(rows: Tensor | None, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The rows of each tensor: the tensors themselves when all are meant, else copies."""
    return tensors if rows is None else tuple(tensor[rows] for tensor in tensors)


def _store(rows: Tensor | None, *pairs: tuple[Tensor, Tensor]) -> None:
    """Write the chosen rows back."""
    if rows is not None:
        for whole, part in pairs:
            whole[rows] = part

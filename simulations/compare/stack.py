"""P copies of one model as one stacked flat tensor, and their gradients.

Shape letters: P peers, N elements of one flat vector (each tensor padded to whole blocks of 256,
as ``gossip.mixing.flat`` does), S samples of a batch.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from gossip.errors import UsageError
from gossip.mixing.flat import padded
from peers.tasks.task import Batch, Task
from simulations.compare.feed import Batches, stacked
from simulations.compare.traced import Flat, Recordings, traced

TRACE_AFTER: Final = 100
"""Calls with the same shapes before one is recorded: as long as recording takes."""
AGREEMENT: Final = 1e-4
"""Largest distance of recorded gradients from those taken one by one, over the latter's norm."""

_RECORDINGS: Final = Recordings()
"""Of all stacks of this process: a comparison makes one for each of hundreds of runs."""


class Form(Enum):
    """How the gradients of P models are taken: as P models, by ``vmap``, by a recording of that.

    TRACED falls back to STACKED for losses that cannot be recorded, those with dropout among them.
    """

    ONE_BY_ONE = auto()
    STACKED = auto()
    TRACED = auto()


@dataclass(frozen=True, slots=True)
class Part:
    """One parameter tensor and its place in the flat vector."""

    name: str
    shape: tuple[int, ...]
    start: int
    elements: int

    @property
    def end(self) -> int:
        """Of its place, padding included."""
        return self.start + padded(self.elements)


class _Loss(nn.Module):
    """The task's loss as a module's forward, so that ``functional_call`` may set its parameters."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._task = task

    def forward(self, *batch: Tensor) -> Tensor:
        """The scalar to minimize."""
        return self._task.loss(self.model, batch)


class Stack:
    """See the module. Raises UsageError for models with float buffers (they are not compared)."""

    def __init__(self, task: Task, peers: int, model_seed: int) -> None:
        self.task = task
        self.model = task.model(model_seed)
        if any(buffer.is_floating_point() for buffer in self.model.buffers()):
            raise UsageError("compare: models with float buffers (batch norm) are not supported")
        self.parts: list[Part] = []
        start = 0
        for name, parameter in self.model.named_parameters():
            self.parts.append(Part(name, tuple(parameter.shape), start, parameter.numel()))
            start += padded(parameter.numel())
        self.elements = start
        self.parameters = sum(part.elements for part in self.parts)
        self.theta_PN = torch.zeros(peers, start)
        self.grad_PN = torch.zeros(peers, start)
        # Kept, as both are only ever written to: to look them up at every step would take as long
        # as some of a small model's operations.
        self._thetas, self._grads = self._views(self.theta_PN), self._views(self.grad_PN)
        for theta_P, parameter in zip(self._thetas, self.model.parameters(), strict=True):
            theta_P.copy_(parameter.detach())
        self._kind = repr((task, self.parts))  # once: it is asked for at every step
        self._loss = _Loss(task, self.model)
        self._vmapped = vmap(grad_and_value(self._loss_of), randomness="different")
        self._form: Form | None = None
        self._trace_after = TRACE_AFTER
        self._trusted: dict[Hashable, bool] = {}

    @property
    def peers(self) -> int:
        """How many copies there are."""
        return self.theta_PN.shape[0]

    def use(self, form: Form) -> None:
        """Take this form from now on, instead of trying which is faster."""
        self._form = form
        self._trace_after = 0

    def view_P(self, flat_PN: Tensor, part: Part) -> Tensor:
        """One tensor of all peers, shaped [P, *shape], sharing the flat tensor's memory."""
        end = part.start + part.elements
        return flat_PN[:, part.start : end].view(flat_PN.shape[0], *part.shape)

    def gradients(self, batches: Sequence[Batch], chosen: Sequence[int] | None = None) -> Tensor:
        """Fill ``grad_PN`` of the chosen peers (default: all) from one batch each; losses_P.

        The first call with several peers tries one by one and stacked, and keeps the faster; from
        stacked it goes on to traced for shapes that come often.
        """
        rows = list(range(self.peers)) if chosen is None else list(chosen)
        if len(rows) < 2:
            return self._one_by_one(batches, rows)
        if self._form is None:
            self._form = self._faster(batches, rows)
        match self._form:
            case Form.ONE_BY_ONE:
                return self._one_by_one(batches, rows)
            case Form.STACKED:
                return self._all_at_once(batches, rows, self._filled)
            case Form.TRACED:
                return self._all_at_once(batches, rows, self._recorded(batches, rows))

    def load(self, flat_N: Tensor) -> nn.Module:
        """The model with these parameters (the one model of this stack, overwritten)."""
        with torch.no_grad():
            for part, parameter in zip(self.parts, self.model.parameters(), strict=True):
                parameter.copy_(flat_N[part.start : part.start + part.elements].view(part.shape))
        return self.model

    def _faster(self, batches: Sequence[Batch], rows: Sequence[int]) -> Form:
        seconds: dict[Form, float] = {}
        forms: dict[Form, Callable[[], Tensor]] = {
            Form.ONE_BY_ONE: lambda: self._one_by_one(batches, rows),
            Form.TRACED: lambda: self._all_at_once(batches, rows, self._filled),
        }
        with warnings.catch_warnings():
            # torch warns that some operation is slow when stacked: that is what is measured here.
            warnings.simplefilter("ignore", UserWarning)
            for take in forms.values():
                take()  # the first call allocates
        for form, take in forms.items():
            began_s = time.perf_counter()
            take()
            seconds[form] = time.perf_counter() - began_s
        return min(seconds, key=lambda form: seconds[form])

    def _loss_of(self, values: dict[str, Tensor], batch: Batch) -> Tensor:
        loss: Tensor = functional_call(self._loss, values, batch)
        return loss

    def _one_by_one(self, batches: Sequence[Batch], rows: Sequence[int]) -> Tensor:
        losses = torch.zeros(len(rows))
        for place, row in enumerate(rows):
            leaves = {
                f"model.{part.name}": self.view_P(self.theta_PN, part)[row]
                .detach()
                .requires_grad_()
                for part in self.parts
            }
            loss = self._loss_of(leaves, batches[place])
            grads = torch.autograd.grad(loss, list(leaves.values()))
            for part, grad in zip(self.parts, grads, strict=True):
                self.view_P(self.grad_PN, part)[row].copy_(grad)
            losses[place] = loss.detach()
        return losses

    def _all_at_once(self, batches: Sequence[Batch], rows: Sequence[int], fill: Flat) -> Tensor:
        """Gradients by ``fill``, which writes those of the chosen peers and returns the losses."""
        inputs = self._inputs(batches, rows)
        if len(rows) == self.peers:
            (losses_P,) = fill(*inputs, *self._grads)
        else:
            grad_PN = torch.zeros(len(rows), self.elements)
            (losses_P,) = fill(*inputs, *self._views(grad_PN))
            self.grad_PN[list(rows)] = grad_PN
        return losses_P.detach()

    def _inputs(self, batches: Sequence[Batch], rows: Sequence[int]) -> list[Tensor]:
        """The chosen peers' parameters, tensor by tensor, and then their batches, all stacked."""
        whole = len(rows) == self.peers
        thetas = self._thetas if whole else self._views(self.theta_PN[list(rows)])
        if not isinstance(batches, Batches):
            batches = stacked(batches)
        return [*thetas, *batches.columns]

    def _views(self, flat_PN: Tensor) -> list[Tensor]:
        return [self.view_P(flat_PN, part) for part in self.parts]

    def _stacked(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Gradients of all parameters and the losses, by ``vmap``; ``inputs`` as above."""
        names = [f"model.{part.name}" for part in self.parts]
        values = dict(zip(names, inputs, strict=False))
        grads, losses_P = self._vmapped(values, inputs[len(names) :])
        return *(grads[name] for name in names), losses_P

    def _filled(self, *inputs: Tensor) -> tuple[Tensor]:
        """The same, with gradients written to the last tensors, and the losses alone returned."""
        places = inputs[len(inputs) - len(self.parts) :]
        *grads, losses_P = self._stacked(*inputs[: -len(self.parts)])
        for place, grad_P in zip(places, grads, strict=True):
            place.copy_(grad_P)
        return (losses_P,)

    def _recorded(self, batches: Sequence[Batch], rows: Sequence[int]) -> Flat:
        """The recording for these shapes, once there is one that this stack trusts; else vmap."""
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in batches[0])
        key = (self._kind, len(rows), shapes)
        recording = _RECORDINGS.get(key, self._trace_after, lambda: self._record(batches, rows))
        if recording is None:
            return self._filled
        if key not in self._trusted:
            self._trusted[key] = self._agrees(recording, batches, rows)
        return recording if self._trusted[key] else self._filled

    def _record(self, batches: Sequence[Batch], rows: Sequence[int]) -> Flat | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # as in _faster
            into = self._views(self.grad_PN[: len(rows)])
            return traced(self._stacked, self._inputs(batches, rows), into)

    def _agrees(self, recording: Flat, batches: Sequence[Batch], rows: Sequence[int]) -> bool:
        """Whether the recording gives what one by one does, on other values than were recorded."""
        others = batches[::-1]
        losses_P = self._all_at_once(others, rows, recording)
        found_PN = self.grad_PN[list(rows)]
        expected_P = self._one_by_one(others, rows)
        expected_PN = self.grad_PN[list(rows)]
        distance, norm = (found_PN - expected_PN).norm(), expected_PN.norm()
        return bool(distance <= AGREEMENT * norm) and torch.allclose(
            losses_P, expected_P, rtol=AGREEMENT, atol=AGREEMENT
        )

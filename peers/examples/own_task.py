"""A task of your own, in one file: `gossip run peers/examples/own_task.py:task`.

It learns the sine function; shard number i holds one slice of the circle, so a peer alone knows
only its own slices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

SHARD_SAMPLES = 256


@dataclass(frozen=True)
class Sine:
    """See ``peers.tasks.task.Task`` for what each attribute means."""

    name: str = "sine"
    shards: int = 12
    batch_samples: int = 32

    def model(self, seed: int) -> nn.Module:
        """One hidden layer."""
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))

    def optimizer(self, model: nn.Module) -> Optimizer:
        """Any torch optimizer will do."""
        return AdamW(model.parameters(), lr=3e-3)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Mean squared error."""
        x_SF, y_S1 = batch
        return nn.functional.mse_loss(model(x_SF), y_S1)

    def shard(self, index: int) -> tuple[Tensor, ...]:
        """Angles of one slice, as points on the circle, and the sine of twice the angle."""
        generator = torch.Generator().manual_seed(index)
        turn_S = (index + torch.rand(SHARD_SAMPLES, generator=generator)) / self.shards
        return _samples(turn_S * math.tau)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The loss on the whole circle."""
        with torch.no_grad():
            return {"loss": float(self.loss(model, _samples(torch.linspace(0, math.tau, 720))))}

    def describe(self) -> str:
        """One line for the head of a run."""
        return f"sin 2a on the circle; {self.shards} slices of {SHARD_SAMPLES} samples"


def _samples(angle_S: Tensor) -> tuple[Tensor, ...]:
    x_SF = torch.stack([angle_S.cos(), angle_S.sin()], dim=1)
    return x_SF, (2 * angle_S).sin().unsqueeze(1)


task = Sine()

"""A task: which model is trained, how, and on what; nothing about peers or networks.

Shards are the unit in which samples are placed on peers. A task must answer the same question
the same way on every machine: the model of a seed, and the samples of a shard.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from torch import Tensor, nn
from torch.optim import Optimizer

Batch: TypeAlias = tuple[Tensor, ...]
"""Tensors that belong together; dimension 0 counts samples and is the same in all of them."""


class Task(Protocol):
    """What `gossip run` needs to know. Any object of this shape is a task; see ``digits.py``.

    shards          how many shards the samples are cut into; they are numbered from 0.
    batch_samples   how many samples one training step takes.
    """

    @property
    def name(self) -> str:
        """A short name, for tables and logs."""
        ...

    @property
    def shards(self) -> int:
        """How many shards there are; at least 1."""
        ...

    @property
    def batch_samples(self) -> int:
        """Samples a step; at least 1."""
        ...

    def model(self, seed: int) -> nn.Module:
        """A new model on the CPU. The same seed gives the same parameters everywhere."""
        ...

    def optimizer(self, model: nn.Module) -> Optimizer:
        """A new optimizer for this model's parameters."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The scalar to minimize. ``batch`` is on the model's device."""
        ...

    def shard(self, index: int) -> Batch:
        """All samples of one shard, on the CPU. They are read, never written."""
        ...

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Figures on held-out samples, "loss" among them. The model is left as it was."""
        ...

    def describe(self) -> str:
        """One line on the data, the split and the settings, for the head of a run."""
        ...


REQUIRED = (
    *("name", "shards", "batch_samples", "model", "optimizer", "loss", "shard", "evaluate"),
    "describe",
)
"""The names above: what an object of the user's is checked for before it is trusted to run."""

"""``line``: linear regression whose answer is known, for tests and first steps.

y = x·w + b without noise, so the minimum is exact and shared by all shards, and plain SGD walks
all the way to it. Each shard sees its own features at full range and the others at a tenth of it:
a peer alone learns the features it hardly sees a hundred times more slowly than a swarm does.

Shapes: S samples, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from gossip.errors import UsageError
from peers.tasks.task import Batch

TRUE_WEIGHTS = (2.0, -3.0, 0.5, 1.25)
TRUE_BIAS = 0.75
SHARD_SAMPLES = 64
FAINT_RANGE = 0.1  # of a feature that a shard hardly sees

_HELD_OUT_SEED = 1_000_003  # no shard has this number


@dataclass(frozen=True, slots=True)
class LineTask:
    """Linear regression with a known answer. ``shards``, ``batch`` and ``lr`` are options.

    ``lr`` must stay below 2 / max |(x, 1)|^2 = 2 / (F + 1), so that no batch can diverge.
    """

    shards: int = 8
    batch: int = 16
    lr: float = 0.35

    def __post_init__(self) -> None:
        if self.shards < 1 or self.batch < 1:
            raise UsageError("task line: shards and batch must be at least 1")
        if not 0 < self.lr < 2 / (len(TRUE_WEIGHTS) + 1):
            raise UsageError("task line: lr must be above 0 and below 0.4")

    @property
    def name(self) -> str:
        """See Task."""
        return "line"

    @property
    def batch_samples(self) -> int:
        """See Task."""
        return self.batch

    def model(self, seed: int) -> nn.Module:
        """One linear layer, F + 1 parameters."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Linear(len(TRUE_WEIGHTS), 1)

    def optimizer(self, model: nn.Module) -> Optimizer:
        """Plain SGD."""
        return SGD(model.parameters(), lr=self.lr)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Half the mean squared error."""
        x_SF, y_S = batch
        predicted_S: Tensor = model(x_SF).squeeze(1)
        return 0.5 * (predicted_S - y_S).square().mean()

    def shard(self, index: int) -> Batch:
        """x_SF and y_S of one shard: every F-th shard sees the same feature well, the rest faintly.

        With fewer shards than features each sees several well, so that all together see all.
        """
        kinds = min(self.shards, len(TRUE_WEIGHTS))
        ranges_F = torch.full((len(TRUE_WEIGHTS),), FAINT_RANGE)
        ranges_F[index % kinds :: kinds] = 1.0
        return _samples(index, ranges_F)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """``loss`` at full range; ``error``: the largest distance of a parameter to the truth."""
        x_SF, y_S = _samples(_HELD_OUT_SEED, torch.ones(len(TRUE_WEIGHTS)))
        first = next(model.parameters())
        with torch.no_grad():
            batch = (x_SF.to(first), y_S.to(first))
            loss = float(self.loss(model, batch))
            found_N = torch.cat([p.detach().flatten() for p in model.parameters()]).double().cpu()
        truth_N = torch.tensor([*TRUE_WEIGHTS, TRUE_BIAS], dtype=torch.float64)
        return {"loss": loss, "error": float((found_N - truth_N).abs().max())}

    def describe(self) -> str:
        """See Task."""
        return (
            f"line: y = x·w + b, {len(TRUE_WEIGHTS)} features, no noise; {self.shards} shards of "
            f"{SHARD_SAMPLES} samples, each sees its own feature well; batch {self.batch}, "
            f"SGD lr {self.lr}"
        )


def _samples(seed: int, ranges_F: Tensor) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x_SF = torch.rand(SHARD_SAMPLES, len(TRUE_WEIGHTS), generator=generator)
    x_SF = (2.0 * x_SF - 1.0) * ranges_F
    return x_SF, x_SF @ torch.tensor(TRUE_WEIGHTS) + TRUE_BIAS

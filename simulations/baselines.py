"""What a swarm is measured against: each peer alone, one machine with everything, DDP's bytes.

The baselines train in this process, with the same task, loader and initial model as the peers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from peers.loading import ShardLoader
from peers.runner import order_seed
from peers.tasks.task import Task

FP32_BYTES = 4
CHECK_EVERY_STEPS = 50


def train_plainly(
    task: Task, run: str, seed: int, shards: Sequence[int], steps: int, check: Callable[[], None]
) -> nn.Module:
    """A model after so many steps of ordinary training on these shards.

    ``run`` and ``seed`` are those of the swarm: they decide the order of samples and the initial
    model. ``check`` is called now and then, and ends the training by raising.
    """
    model = task.model(seed)
    optimizer = task.optimizer(model)
    loader = ShardLoader(task, order_seed(run))
    loader.set_shards(shards)
    for step in range(steps):
        if step % CHECK_EVERY_STEPS == 0:
            check()
        batch = loader.next_batch()
        if batch is None:
            break  # a peer without shards learns nothing by itself
        optimizer.zero_grad()
        task.loss(model, batch).backward()  # type: ignore[no-untyped-call] # torch has no type
        optimizer.step()
    return model


def ddp_bytes(parameters: int, steps: int, peers: int) -> int:
    """What one of ``peers`` peers sends in ``steps`` steps of DDP with fp32 gradients.

    A ring all-reduce sends 2 (N - 1) / N of the vector per peer: Patarasuk and Yuan, "Bandwidth
    optimal all-reduce algorithms for clusters of workstations", 2009.
    """
    return round(2 * (peers - 1) / peers * FP32_BYTES * parameters * steps)

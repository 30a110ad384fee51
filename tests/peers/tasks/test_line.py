"""The line task has the answer it promises, and needs all shards to find it soon."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from peers.loading import ShardLoader
from peers.tasks.line import FAINT_RANGE, TRUE_BIAS, TRUE_WEIGHTS, LineTask


def train(task: LineTask, shards: list[int], steps: int) -> dict[str, float]:
    """Figures after so many steps of one peer on these shards."""
    model = task.model(0)
    optimizer = task.optimizer(model)
    loader = ShardLoader(task, 0)
    loader.set_shards(shards)
    for _ in range(steps):
        batch = loader.next_batch()
        assert batch is not None
        optimizer.zero_grad()
        loss = task.loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    return task.evaluate(model)


@pytest.mark.parametrize("shards", [1, 3, 8, 13])
def test_all_shards_together_lead_to_the_known_answer(shards: int) -> None:
    """Plain SGD reaches it to float precision, however many shards there are."""
    task = LineTask(shards=shards)

    figures = train(task, list(range(shards)), 1_500)
    assert figures["error"] < 1e-4
    assert figures["loss"] < 1e-8


def test_a_peer_alone_with_one_shard_is_far_behind() -> None:
    """In the same 300 steps it has hardly moved along the features it does not see."""
    task = LineTask()

    assert train(task, [0], 300)["error"] > 100 * train(task, list(range(8)), 300)["error"]


def test_the_truth_has_no_error() -> None:
    """The known answer scores zero on both figures, up to rounding."""
    task = LineTask()
    model = task.model(0)
    assert isinstance(model, nn.Linear)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([TRUE_WEIGHTS]))
        model.bias.fill_(TRUE_BIAS)

    figures = task.evaluate(model)
    assert figures["error"] == 0.0
    assert figures["loss"] < 1e-12


def test_a_shard_is_the_same_each_time_and_differs_from_the_others() -> None:
    """Peers on different machines read the same samples."""
    task = LineTask()
    first, again, other = task.shard(3), task.shard(3), task.shard(7)

    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_a_shard_sees_its_own_feature_at_full_range_only() -> None:
    """The others stay within a tenth."""
    x_SF, _ = LineTask().shard(2)
    widest_F: Tensor = x_SF.abs().amax(dim=0)

    assert widest_F[2] > 0.9
    assert max(widest_F[[0, 1, 3]].tolist()) <= FAINT_RANGE


def test_the_model_follows_from_its_seed_and_leaves_the_global_generator_alone() -> None:
    """The same seed gives the same parameters, wherever the caller's own draws stand."""
    task = LineTask()
    before = torch.get_rng_state()
    first, again, other = (task.model(seed).state_dict() for seed in (1, 1, 2))

    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first["weight"], again["weight"])
    assert not torch.equal(first["weight"], other["weight"])
    assert "line:" in task.describe()

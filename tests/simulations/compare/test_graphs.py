"""Operations recorded once and made cheaper give what they gave."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload

from peers.tasks.digits import DigitsTask
from peers.tasks.line import LineTask
from peers.tasks.recommender import RecommenderTask
from peers.tasks.task import Task
from simulations.compare.feed import Feed, Split, stacked, stream_seed
from simulations.compare.graphs import _VECTOR, _done
from simulations.compare.stack import Form, Stack
from simulations.compare.traced import Flat, traced


def operations(recording: Flat, *inputs: Tensor) -> list[str]:
    """What a recording makes torch do, by name, in its order."""
    return [str(operation) for operation in _done(recording, inputs, {})]


def by_long_names(recording: Flat) -> list[str]:
    """The operations that a recording calls as such, not by what Python calls them."""
    graph: Any = recording
    targets = [call.target for call in graph.graph.nodes if call.op == "call_function"]
    return [str(target) for target in targets if isinstance(target, OpOverload)]


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [0, 2]])
@pytest.mark.parametrize("task", [LineTask(), DigitsTask(hidden=(9,), batch=6), RecommenderTask()])
def test_recorded_gradients_are_those_of_vmap_to_the_bit(task: Task, rows: list[int]) -> None:
    """For all peers and for some, so that a run does not depend on what was recorded before it;
    the other rows are left alone, and there is nothing between one tensor and the next."""
    stack, feed = Stack(task, 4, 0), Feed(task, 4, Split.SHARED, 0)
    stack.theta_PN += 0.05 * torch.randn(stack.theta_PN.shape)
    for step in range(3):
        found = []
        for form in (Form.STACKED, Form.TRACED):
            stack.use(form)
            stack.grad_PN.fill_(0.0)
            losses_P = stack.gradients(feed.batches(rows, [step] * len(rows)), rows)
            found.append((losses_P, stack.grad_PN.clone()))
        assert all(torch.equal(mine, its) for mine, its in zip(*found, strict=True))
    for part in stack.parts:
        stack.view_P(stack.grad_PN, part)[rows] = 0.0
    assert not stack.grad_PN.any()


def test_the_operations_themselves_write_where_gradients_belong() -> None:
    """Nothing is copied."""
    stack = Stack(DigitsTask(), 3, 0)
    batches = Feed(stack.task, 3, Split.SHARED, 0).batches(range(3), [0] * 3)
    inputs, into = stack._inputs(batches, range(3)), stack._views(stack.grad_PN)
    recording = traced(stack._stacked, inputs, into)
    assert recording is not None
    called = operations(recording, *inputs, *into)
    assert not any("copy_" in name for name in called)
    assert called.count("aten.bmm.out") == called.count("aten.sum.IntList_out") == 3
    assert set(by_long_names(recording)) == {
        "aten._to_copy.default",
        "aten.threshold_backward.grad_input",
    }


RESULTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "an input": lambda x, _y: x,
    "a constant": lambda _x, _y: torch.arange(36.0).view(4, 3, 3),
    "a product": lambda x, y: x @ y,
    "a product transposed": lambda x, y: (x @ y).mT,
    "a product read again": lambda x, y: (x @ y) - (x @ y).sum(1, keepdim=True),
    "a sum in another shape": lambda x, y: (x * y).sum(1).view(4, 3, 1) * torch.ones(3),
    "a view that strides forbid": lambda x, y: (x.reshape(2, 6, 3) @ y[:2]).view(4, 3, 3),
    "of its own operand": lambda x, y: (x + y).relu() * 0.5 + 1.0,
    "twice the same operand": lambda x, y: (x + y) * (x + y),
    "an operand with a view": lambda x, y: (x @ y).relu() * (x @ y).mT,
    "an operand that is spread": lambda x, y: x.sum(1, keepdim=True) * y,
    "a view of a view": lambda x, y: (x @ y).view(4, 9).view(4, 3, 3),
    "turned over and over": lambda x, _y: x.mT.transpose(0, 1).mT.transpose(0, 1).transpose(0, 2),
    "double precision": lambda x, y: x.double() @ y.double(),
}


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("read", ["once", "twice", "in another shape"])
def test_whatever_a_result_is_it_is_written_where_it_belongs(name: str, read: str) -> None:
    """Into memory with gaps; and the inputs are left as they were."""

    def function(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        result = RESULTS[name](x, y)
        other = result if read == "twice" else y + 1.0
        return result, other, result.reshape(2, 18).sum() if read == "in another shape" else x.sum()

    inputs = torch.randn(4, 3, 3), torch.randn(4, 3, 3)
    rooms = [torch.full((4, 20), 7.0) for _ in range(2)]
    into = [room[:, 1:10].view(4, 3, 3) for room in rooms]
    recording = traced(function, inputs, into)
    assert recording is not None
    for _ in range(2):
        others = torch.randn(4, 3, 3), torch.randn(4, 3, 3)
        kept = [each.clone() for each in others]
        (last,) = recording(*others, *into)
        *expected, expected_last = function(*kept)
        torch.testing.assert_close(last, expected_last)
        for mine, its, room in zip(into, expected, rooms, strict=True):
            assert torch.equal(mine, its.float())
            assert bool((room[:, [0, *range(10, 20)]] == 7.0).all())
        assert all(torch.equal(mine, its) for mine, its in zip(others, kept, strict=True))


def test_what_is_the_same_is_computed_once_and_constants_never() -> None:
    """Two products of the same, and one with a range that no input changes."""
    x = torch.randn(2, 3, 3)
    recording = traced(lambda x: ((x @ x) + (x @ x) * torch.arange(3.0),), [x])
    assert recording is not None
    called = operations(recording, x)
    assert called.count("aten.bmm.default") == 1
    assert not any("arange" in name for name in called)


def test_what_is_returned_may_be_written_to() -> None:
    """It is nothing that the recording needs again."""
    recording = traced(lambda x: (torch.zeros(3), torch.ones_like(x)), [torch.randn(3)])
    assert recording is not None
    for _ in range(2):
        zeros, ones = recording(torch.randn(3))
        assert (zeros.tolist(), ones.tolist()) == ([0.0] * 3, [1.0] * 3)
        for each in (zeros, ones):
            each.add_(5.0)


@pytest.mark.parametrize("classes", [1, 2, 7, 8, 10, 15, 16, 17])
@pytest.mark.parametrize("samples", [1, 6, 8, 16, 20, 32, 48])
def test_short_rows_of_log_softmax_are_turned_where_the_bits_are_the_same(
    classes: int, samples: int
) -> None:
    """Forward and backward, and of sums over the results, which depend on their order in memory."""
    forward, backward = torch.ops.aten._log_softmax, torch.ops.aten._log_softmax_backward_data

    def function(scores: Tensor, grads: Tensor) -> tuple[Tensor, ...]:
        logs = forward(scores, 2, False)
        found = backward(grads, logs, 2, torch.float32)
        return logs, found, *(each.sum(dim) for each in (logs, found) for dim in (0, 1, 2, (1, 2)))

    def inputs() -> tuple[Tensor, Tensor]:
        places = torch.randint(classes, (5, samples, 1))
        hit = torch.zeros(5, samples, classes).scatter(2, places, -1 / samples)
        return 4 * torch.randn(hit.shape), hit

    recording: Any = traced(function, inputs())
    calls = [each for each in recording.graph.nodes if "log_softmax" in str(each.target)]
    turned = 1 < classes < _VECTOR and samples % _VECTOR == 0
    assert [dim for each in calls for dim in each.args if dim in (1, 2)] == [2 - turned] * 2
    for _ in range(20):
        others = inputs()
        for mine, its in zip(recording(*others), function(*others), strict=True):
            assert torch.equal(mine, its)
            assert mine.stride() == its.stride()


def test_relu_makes_no_copy_and_treats_every_number_alike() -> None:
    """What is no number stays so."""
    inputs = torch.tensor([-math.inf, -2.0, -0.0, 0.0, 3.0, math.inf, math.nan] * 9)
    recording = traced(lambda x: ((x + 0.0).relu(),), [inputs], [torch.empty(63)])
    assert recording is not None
    found = torch.empty(63)
    assert operations(recording, inputs, found) == ["aten.add.Tensor", "aten.clamp_min.out"]
    assert torch.equal(found.view(torch.int32), (inputs + 0.0).relu().view(torch.int32))


def test_what_is_random_is_drawn_each_time() -> None:
    """Neither merged nor kept."""
    recording = traced(lambda x: (x + torch.rand(3), x + torch.rand(3)), [torch.zeros(3)])
    assert recording is not None
    drawn = [*recording(torch.zeros(3)), *recording(torch.zeros(3))]
    assert len({tuple(each.tolist()) for each in drawn}) == 4


def test_times_one_is_left_out_where_it_changes_nothing() -> None:
    """Integers times 1.0 become numbers with a fraction."""
    times = torch.ops.aten.mul.Scalar
    inputs = torch.arange(3), torch.rand(3)
    recording = traced(lambda x, y: (times(x, 1.0), times(y, 1).add(times(y, 2))), inputs)
    assert recording is not None
    whole, halves = recording(*inputs)
    assert whole.dtype == torch.float32
    assert torch.equal(halves, inputs[1] + 2 * inputs[1])
    assert operations(recording, *inputs).count("aten.mul.Scalar") == 2
    assert by_long_names(recording) == ["aten.mul.Scalar"] * 2  # torch.mul takes another way


def test_what_values_decide_is_recorded_as_it_is() -> None:
    """How many are above 0 is not known without them; the calls before that have short names."""
    inputs = torch.tensor([-1.0, 2.0, 3.0])
    recording = traced(lambda x: ((x + 1.0)[x > 0.0].neg(),), [inputs])
    assert recording is not None
    assert recording(-inputs)[0].tolist() == [-2.0]
    assert by_long_names(recording)
    assert "aten.add.Tensor" not in by_long_names(recording)


def test_samples_are_drawn_as_they_always_were() -> None:
    """Of the shards a peer owns, by torch's generator under the seed of the stream: figures on disk
    were made with these."""
    task = DigitsTask(shards=3)
    batches = Feed(task, 3, Split.DISJOINT, 5).batches([2, 1], [7, 0])
    assert len(batches) == 2
    for batch, peer, step in zip(batches, [2, 1], [7, 0], strict=True):
        generator = torch.Generator().manual_seed(stream_seed(5, "batch", peer, step))
        images_SP, labels_S = task.shard(peer)
        drawn_S = torch.randint(len(labels_S), (task.batch,), generator=generator)
        assert torch.equal(batch[0], images_SP[drawn_S])
        assert torch.equal(batch[1], labels_S[drawn_S])


def test_batches_are_a_sequence() -> None:
    """Of as many as peers; cut and turned around it is a list of them, one by one."""
    batches = stacked([(torch.full((2,), float(peer)),) for peer in range(3)])
    assert [float(batch[0][0]) for batch in batches] == [0.0, 1.0, 2.0]
    assert [float(batch[0][0]) for batch in batches[::-1]] == [2.0, 1.0, 0.0]
    assert float(batches[-1][0][0]) == 2.0
    with pytest.raises(IndexError):
        batches[3]

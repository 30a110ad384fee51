"""Replaying recorded operations gives what one by one gives, and is worth it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from peers.tasks.digits import DigitsTask
from peers.tasks.line import LineTask
from peers.tasks.recommender import RecommenderTask
from peers.tasks.task import Batch, Task
from peers.tasks.text import TextTask
from simulations.benchmarks.stacking import measured
from simulations.compare.feed import Column, Feed, Split
from simulations.compare.stack import Form, Stack
from simulations.compare.traced import Recordings, traced


def gradients(task: Task, form: Form, peers: int, rows: list[int]) -> tuple[Tensor, Tensor]:
    """Losses and gradients of two calls, the second on other parameters and batches."""
    stack, feed = Stack(task, peers, 0), Feed(task, peers, Split.SHARED, 0)
    generator = torch.Generator().manual_seed(3)
    stack.use(form)
    for step in range(2):
        stack.theta_PN += 0.05 * torch.randn(stack.theta_PN.shape, generator=generator)
        losses_P = stack.gradients(feed.batches(rows, [step] * len(rows)), rows)
    return losses_P, stack.grad_PN


@settings(deadline=None, max_examples=12)
@given(
    hidden=st.lists(st.integers(1, 20), max_size=3),
    batch=st.integers(1, 9),
    peers=st.integers(2, 6),
    data=st.data(),
)
def test_a_recording_gives_what_one_by_one_gives(
    hidden: list[int], batch: int, peers: int, data: st.DataObject
) -> None:
    """For every shape, and for some of the peers as for all."""
    rows = sorted(data.draw(st.sets(st.integers(0, peers - 1), min_size=2)))
    task = DigitsTask(hidden=tuple(hidden), batch=batch)
    expected = gradients(task, Form.ONE_BY_ONE, peers, rows)
    found = gradients(task, Form.TRACED, peers, rows)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "task",
    [LineTask(), DigitsTask(net="cnn", batch=4), TextTask(width=8, layers=1, heads=2, context=8)],
)
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_other_models_are_recorded_too(task: Task) -> None:
    """Convolutions and attention included."""
    expected = gradients(task, Form.ONE_BY_ONE, 3, [0, 1, 2])
    found = gradients(task, Form.TRACED, 3, [0, 1, 2])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_shape_that_was_recorded_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without vmap; another shape needs it again."""
    monkeypatch.setattr("simulations.compare.stack._RECORDINGS", Recordings())
    task = DigitsTask(hidden=(7,), batch=5)
    stack, feed = Stack(task, 4, 0), Feed(task, 4, Split.SHARED, 0)
    stack.use(Form.TRACED)
    stack.gradients(feed.batches(range(4), [0] * 4))

    def refuse(*inputs: Tensor) -> tuple[Tensor, ...]:
        raise AssertionError("vmap was asked")

    monkeypatch.setattr(stack, "_stacked", refuse)
    stack.gradients(feed.batches(range(4), [1] * 4))
    with pytest.raises(AssertionError, match="vmap was asked"):
        stack.gradients(feed.batches([0, 2], [1] * 2), [0, 2])


@dataclass(frozen=True)
class Counting(LineTask):
    """A line whose loss depends on how often it was asked: no recording can know that."""

    calls: list[int] = field(default_factory=list, repr=False, compare=False)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Twice the loss at every other call."""
        self.calls.append(1)
        predicted_S = model(batch[0]).squeeze(1)
        return (predicted_S - batch[1]).square().mean() * (1 + len(self.calls) % 2)


def test_a_recording_that_disagrees_is_not_used() -> None:
    """The loss as it is now, not as it was when recorded."""
    task = Counting()
    stack, feed = Stack(task, 3, 0), Feed(task, 3, Split.SHARED, 0)
    stack.use(Form.TRACED)
    batches = feed.batches(range(3), [0] * 3)
    first, second, third = (float(stack.gradients(batches).sum()) for _ in range(3))
    assert max(first, second) == pytest.approx(2 * min(first, second))
    assert third == pytest.approx(first)


def test_recordings_are_made_once_they_come_often() -> None:
    """After two times without; other keys count for themselves; no second try after None."""
    recordings, made = Recordings(), []

    def record() -> None:
        made.append(1)

    for _ in range(5):
        assert recordings.get("a", 2, record) is None
    recordings.get("b", 2, record)
    assert len(made) == 1


def test_what_depends_on_values_is_not_recorded() -> None:
    """A branch on a tensor."""
    assert traced(lambda x: (x if bool(x.sum() > 0) else -x,), [torch.ones(2)]) is None


@pytest.mark.parametrize("task", [DigitsTask(shards=3), TextTask(shards=5, context=8)])
def test_many_batches_are_those_of_one_at_a_time(task: Task) -> None:
    """Each peer's own, at its own step, from shards that own their memory and from views; all of
    them samples of the peer's shards."""
    feed = Feed(task, 3, Split.DISJOINT, 1)
    for peer, batch in zip([2, 0, 1], feed.batches([2, 0, 1], [5, 0, 9]), strict=True):
        for mine, alone in zip(batch, feed.batch(peer, [0, 9, 5][peer]), strict=True):
            assert torch.equal(mine, alone)
        if task.name == "digits":
            (owned_SP, _), wanted_SP = task.shard(peer), batch[0]
            assert bool((wanted_SP[:, None] == owned_SP).all(dim=2).any(dim=1).all())


@given(cuts=st.lists(st.integers(0, 12), min_size=1, max_size=4), gap=st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_samples_are_found_by_number_in_whatever_holds_them(cuts: list[int], gap: int) -> None:
    """Shards that are neighbors in one tensor, windows that overlap, and others: views stay views,
    and neighbors become one."""
    memory_S2 = torch.arange(2 * (13 + gap * len(cuts))).view(-1, 2)
    edges = [0, *sorted(cuts), 12]
    shards = [
        memory_S2[1 + start + index * gap : 1 + stop + index * gap]
        for index, (start, stop) in enumerate(pairwise(edges))
    ]
    column, every_S = Column(shards), torch.arange(12).flip(0)
    assert torch.equal(column.rows(every_S), torch.cat(shards).flip(0))
    assert {each.untyped_storage().data_ptr() for each in column.tensors} == {memory_S2.data_ptr()}
    assert len(column.tensors) == 1 or gap > 0


@pytest.mark.timed
@pytest.mark.parametrize(
    ("task", "gradients", "steps"),
    [(DigitsTask(), 3.5, 3.0), (LineTask(), 8.0, 5.0), (RecommenderTask(), 5.0, 5.0)],
)
def test_32_small_peers_together_are_several_times_as_fast(
    task: Task, gradients: float, steps: float
) -> None:
    """In CPU time of one thread, measured in turns; the benchmark's own figures are higher."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        figures = measured(task, 32, 12)
    finally:
        torch.set_num_threads(threads)
    assert figures.gradients_ratio >= gradients
    assert figures.steps_ratio >= steps

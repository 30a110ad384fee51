"""The loader hands out what the peer owns, each sample once a pass, in a repeatable order."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer

from gossip.errors import UsageError
from peers.loading import ShardLoader
from peers.tasks.digits import DigitsTask
from peers.tasks.task import Batch

SIZES = (5, 3, 0, 8)


@dataclass(frozen=True)
class Numbered:
    """A task whose sample ``100 * shard + place`` says where it comes from."""

    name: str = "numbered"
    shards: int = len(SIZES)
    batch_samples: int = 4

    def model(self, seed: int) -> nn.Module:
        raise NotImplementedError

    def optimizer(self, model: nn.Module) -> Optimizer:
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        raise NotImplementedError

    def shard(self, index: int) -> Batch:
        numbers_S = torch.arange(SIZES[index]) + 100 * index
        return numbers_S, numbers_S.double().unsqueeze(1)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        raise NotImplementedError

    def describe(self) -> str:
        return "numbers"


def draw(loader: ShardLoader, batches: int) -> list[int]:
    """The samples of so many batches, in order."""
    drawn: list[int] = []
    for _ in range(batches):
        batch = loader.next_batch()
        assert batch is not None
        assert batch[0].tolist() == batch[1].squeeze(1).tolist()
        drawn += batch[0].tolist()
    return drawn


def loader_of(*shards: int, seed: int = 0) -> ShardLoader:
    """A loader that owns these shards."""
    loader = ShardLoader(Numbered(), seed)
    loader.set_shards(shards)
    return loader


def test_a_peer_that_owns_nothing_trains_on_nothing() -> None:
    """No shard, or only an empty one: no batch, no sample counted."""
    loader = ShardLoader(Numbered(), 0)

    assert loader.next_batch() is None
    loader.set_shards([2])
    assert loader.next_batch() is None
    assert loader.samples == 0


def test_each_pass_hands_out_each_owned_sample_once() -> None:
    """Three passes over 5 + 3 + 0 + 8 samples: sixteen different ones, three times."""
    loader = loader_of(0, 1, 2, 3)
    everything = [100 * shard + place for shard, size in enumerate(SIZES) for place in range(size)]

    for _ in range(3):
        assert everything == sorted(draw(loader, 4))
    assert loader.samples == 48


def test_a_batch_mixes_the_owned_shards_in_proportion() -> None:
    """Over many passes each quarter of a pass holds its share of every shard."""
    loader = loader_of(0, 3)
    for _ in range(30):
        drawn = draw(loader, 13)  # four passes

    assert Counter(number // 100 for number in drawn)[0] == pytest.approx(52 * 5 / 13, abs=4)


def test_passes_differ_and_seeds_differ() -> None:
    """A pass is a new order; another seed is another order."""
    loader = loader_of(3)
    first, second = draw(loader, 2), draw(loader, 2)

    assert sorted(first) == sorted(second)
    assert first != second
    assert first != draw(loader_of(3, seed=1), 2)


@given(seed=st.integers(0, 99), batches=st.integers(1, 12))
def test_the_same_seed_gives_the_same_batches(seed: int, batches: int) -> None:
    """A run can be repeated, in whatever order the shards were named."""
    assert draw(loader_of(0, 1, 3, seed=seed), batches) == draw(
        loader_of(3, 0, 1, seed=seed), batches
    )


@given(first=st.integers(1, 6), seed=st.integers(0, 99))
def test_a_gained_shard_leaves_the_order_of_the_others_alone(first: int, seed: int) -> None:
    """The samples of shard 3 come in the same order with and without a change beside it."""
    alone = draw(loader_of(3, seed=seed), 20)
    loader = loader_of(3, seed=seed)
    drawn = draw(loader, first)
    loader.set_shards([0, 3])
    drawn += draw(loader, 6)
    loader.set_shards([3])
    drawn += draw(loader, 2)

    of_three = [number for number in drawn if number // 100 == 3]
    assert alone[: len(of_three)] == of_three


def test_a_lost_shard_is_gone_at_the_next_batch_and_its_passes_go_on_when_it_returns() -> None:
    """Nothing of a lost shard is handed out; when it comes back it starts a new pass."""
    loader = loader_of(0, 3)
    first_pass = [number for number in draw(loader_of(3), 2) if number // 100 == 3]
    draw(loader, 4)
    loader.set_shards([0])

    assert {number // 100 for number in draw(loader, 5)} == {0}
    assert loader.shards == (0,)
    loader.set_shards([3])
    returned = draw(loader, 2)
    assert set(returned) == set(range(300, 308))
    assert first_pass != returned


def test_a_gained_shard_starts_beside_the_others_and_does_not_flood_the_batches() -> None:
    """After a thousand samples a new shard of equal weight takes its share, not everything."""
    loader = loader_of(3)
    draw(loader, 250)
    loader.set_shards([0, 3])

    drawn = draw(loader, 13)
    assert Counter(number // 100 for number in drawn)[0] == pytest.approx(20, abs=5)


def test_shards_may_be_set_from_another_thread_while_batches_are_drawn() -> None:
    """Every batch comes from one of the two sets, never from a mixture in between."""
    loader = loader_of(0, 1)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            loader.set_shards([3])
            loader.set_shards([0, 1])

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for _ in range(500):
            owned = {number // 100 for number in draw(loader, 1)}
            assert owned <= {0, 1} or owned == {3}
    finally:
        stop.set()
        changing.join(timeout=10)
    assert not changing.is_alive()


def test_a_batch_larger_than_all_samples_wraps_into_the_next_pass() -> None:
    """Batches are always full."""
    loader = loader_of(1)

    assert Counter({100: 4, 101: 4, 102: 4}) == Counter(draw(loader, 3))


@pytest.mark.parametrize("wrong", [[0, 0], [4], [-1]])
def test_a_shard_listed_twice_or_unknown_is_our_own_bug(wrong: list[int]) -> None:
    """The plan comes from our own placement, so a wrong one stops the peer."""
    with pytest.raises(AssertionError):
        ShardLoader(Numbered(), 0).set_shards(wrong)


@pytest.mark.parametrize(
    "part",
    [
        (),
        [torch.zeros(3)],
        (torch.zeros(3), torch.zeros(2)),
        (torch.tensor(1.0),),
        (torch.zeros(3), [1, 2, 3]),
    ],
)
def test_a_task_with_a_shard_of_the_wrong_shape_is_named(part: object) -> None:
    """The message names the task and the shard."""

    class Wrong(Numbered):
        def shard(self, index: int) -> Batch:
            return part  # type: ignore[return-value]  # wrong on purpose

    loader = ShardLoader(Wrong(), 0)
    loader.set_shards([1])

    with pytest.raises(UsageError, match=r"task numbered: shard\(1\) must be"):
        loader.next_batch()


def test_digits_come_in_batches_of_the_task() -> None:
    """The real task gives images and labels of one batch size."""
    loader = ShardLoader(DigitsTask(), 7)
    loader.set_shards([0, 1, 19])
    batch = loader.next_batch()

    assert batch is not None
    assert [(32, 64), (32,)] == [tuple(tensor.shape) for tensor in batch]

"""The digits task: a fixed split of real images, shards as skewed as asked, a model that learns."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from gossip.errors import UsageError
from gossip.messages import PeerId
from gossip.replication.placement import owned
from gossip.topology.schedule import matching
from peers.loading import ShardLoader
from peers.tasks import digits
from peers.tasks.digits import DigitsTask, cuts, split

SKEWS = ["label", "none", "dirichlet:0.1", "dirichlet:100", "dirichlet:0.001"]


def labels_of(task: DigitsTask, shard: int) -> list[int]:
    """The labels in one shard."""
    return [int(label) for label in task.shard(shard)[1].tolist()]


def test_the_split_is_fixed_and_stratified() -> None:
    """1,437 and 360 images, disjoint, each digit held out in its share; the same for everybody."""
    kept, held_out = split()
    labels_S = digits._images()[1]
    counts = Counter(labels_S[torch.tensor(held_out)].tolist())

    assert (1437, 360) == (len(kept), len(held_out))
    assert list(range(1797)) == sorted([*kept, *held_out])
    assert set(counts.values()) <= {35, 36, 37}
    assert (825, 1464, 957, 335, 464) == held_out[:5]


@pytest.mark.parametrize("skew", SKEWS)
@pytest.mark.parametrize("shards", [1, 7, 20])
def test_shards_are_a_partition_of_the_training_images(skew: str, shards: int) -> None:
    """Every training image is in exactly one shard, no shard is empty, none is held out."""
    cut = cuts(skew, shards)

    assert shards == len(cut)
    assert min(len(shard) for shard in cut) > 0
    assert sorted(split()[0]) == sorted(number for shard in cut for number in shard)


def test_label_skew_leaves_one_or_two_digits_to_a_shard() -> None:
    """Twenty shards, ten digits."""
    task = DigitsTask()
    kinds = [len(set(labels_of(task, shard))) for shard in range(20)]

    assert set(kinds) <= {1, 2}
    assert [71, 72] == sorted({len(labels_of(task, shard)) for shard in range(20)})


def test_without_skew_a_shard_has_nearly_all_digits() -> None:
    """Seventy images drawn at random miss a digit only rarely."""
    task = DigitsTask(skew="none")

    assert all(len(set(labels_of(task, shard))) >= 8 for shard in range(20))


def test_a_smaller_alpha_is_more_skewed() -> None:
    """The most frequent digit's share of a shard grows as alpha falls."""

    def share(alpha: str) -> float:
        task = DigitsTask(skew=f"dirichlet:{alpha}")
        shares = []
        for shard in range(20):
            counts = Counter(labels_of(task, shard))
            shares.append(max(counts.values()) / sum(counts.values()))
        return sum(shares) / len(shares)

    assert share("0.05") > share("0.5") + 0.1 > share("100") + 0.2


def test_images_are_scaled_and_labels_are_digits() -> None:
    """fp32 from -1 to 1, 64 pixels; int64 from 0 to 9."""
    images_SP, labels_S = DigitsTask(skew="none", shards=1).shard(0)

    assert (torch.float32, torch.int64) == (images_SP.dtype, labels_S.dtype)
    assert (1437, 64) == tuple(images_SP.shape)
    assert (-1.0, 1.0) == (float(images_SP.min()), float(images_SP.max()))
    assert (0, 9) == (int(labels_S.min()), int(labels_S.max()))


@pytest.mark.parametrize("net, parameters", [("mlp", 17_226), ("cnn", 9_930)])
def test_the_model_follows_from_its_seed(net: str, parameters: int) -> None:
    """Same seed, same parameters; and as many as the docstring says."""
    task = DigitsTask(net=net)
    first, again = task.model(5), task.model(5)

    assert parameters == sum(p.numel() for p in first.parameters())
    pairs = zip(first.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_evaluate_leaves_the_model_as_it_was() -> None:
    """Mode, parameters and gradients are untouched."""
    task = DigitsTask()
    model = task.model(0).train()
    before = [p.detach().clone() for p in model.parameters()]
    figures = task.evaluate(model)

    assert {"loss", "accuracy"} == set(figures)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def train(task: DigitsTask, parts: Sequence[Sequence[int]], steps: int, every: int) -> list[float]:
    """Accuracy of each peer; with ``every`` they average in pairs, and five times at the end."""
    rng = random.Random(0)
    models = [task.model(0) for _ in parts]
    optimizers = [task.optimizer(model) for model in models]
    loaders = [ShardLoader(task, seed) for seed in range(len(parts))]
    for loader, part in zip(loaders, parts, strict=True):
        loader.set_shards(part)
    for step in range(1, steps + 1):
        for model, optimizer, loader in zip(models, optimizers, loaders, strict=True):
            batch = loader.next_batch()
            assert batch is not None
            optimizer.zero_grad()
            loss = task.loss(model, batch)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
        if every and step % every == 0:
            mix(models, rng)
    for _ in range(5 if every else 0):
        mix(models, rng)
    return [task.evaluate(model)["accuracy"] for model in models]


def mix(models: Sequence[nn.Module], rng: random.Random) -> None:
    """One round of plain averaging in random pairs."""
    names = [PeerId(str(place)) for place in range(len(models))]
    with torch.no_grad():
        for a, b in matching(names, rng):
            pair = zip(models[int(a)].parameters(), models[int(b)].parameters(), strict=True)
            for mine, theirs in pair:
                mean = (mine + theirs) / 2
                mine.copy_(mean)
                theirs.copy_(mean)


def test_swapping_peers_learn_digits_they_never_saw_and_peers_alone_do_not() -> None:
    """Why the demo works: four peers, label-skewed shards, 1,000 steps, pairs every 32."""
    task = DigitsTask()
    rng = random.Random(2)
    members = [(PeerId(f"{rng.getrandbits(64):016x}"), 1.0) for _ in range(4)]
    parts = [owned(task.shards, members, peer) for peer, _ in members]

    alone = train(task, parts, 300, every=0)
    together = train(task, parts, 1_000, every=32)
    assert sum(alone) / 4 < 0.65
    assert min(together) > 0.93


def test_one_machine_with_all_images_reaches_what_peers_are_compared_with() -> None:
    """0.95 and better at the default settings with a batch four times as large."""
    task = DigitsTask(batch=128)

    assert train(task, [range(20)], 600, every=0)[0] > 0.95


def test_without_scikit_learn_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The images come with an extra; the error names it."""
    digits._images.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)

    with pytest.raises(UsageError, match=r'pip install "gossip-trainer\[demo\]"'):
        DigitsTask().shard(0)


def test_describe_names_split_skew_batch_and_step() -> None:
    """What the demo prints at its head, on one line."""
    text = DigitsTask().describe()

    assert "1437 images to train on, 360 held out" in text
    assert "skew label, 20 shards, batch 32" in text
    assert "\n" not in text

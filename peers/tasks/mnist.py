"""``mnist``: handwritten digits of 28 x 28 pixels from two IDX files, and a small network.

The files are the user's (MNIST, Fashion-MNIST, or any other of unsigned bytes): ``images`` in three
dimensions, ``labels`` in one. A tenth, the same for everybody, is held out, stratified by label.

Shapes: S samples, P pixels, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from gossip.errors import UsageError
from peers.tasks.cutting import check_skew, cut, hold_out
from peers.tasks.idx import read_idx
from peers.tasks.task import Batch

HELD_OUT_SHARE: Final = 0.1
CLASSES_MAX: Final = 256
_SPLIT_SEED: Final = 60_000  # fixed: every peer on every machine must hold out the same images
_SKEW_SEED: Final = 60_001


@dataclass(frozen=True, slots=True)
class MnistTask:
    """Images by label; every field is an option.

    images, labels   the IDX files, plain or .gz.
    skew             ``label`` (sorted by label), ``none`` (shuffled) or ``dirichlet:ALPHA``.
    shards           how many shards.
    batch            samples a step.
    hidden           widths of the hidden layers.
    lr, momentum     of SGD.
    """

    images: str = ""
    labels: str = ""
    skew: str = "label"
    shards: int = 40
    batch: int = 32
    hidden: tuple[int, ...] = (128,)
    lr: float = 0.05
    momentum: float = 0.9

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        _require(1 <= self.shards <= 5000, "shards must be 1 to 5000")
        _require(self.batch >= 1, "batch must be at least 1")
        _require(all(width >= 1 for width in self.hidden), "hidden must be widths of at least 1")
        _require(0 < self.lr < 10, "lr must be above 0 and below 10")
        _require(0 <= self.momentum < 1, "momentum must be at least 0 and below 1")
        check_skew("mnist", self.skew)

    @property
    def name(self) -> str:
        """See Task."""
        return "mnist"

    @property
    def batch_samples(self) -> int:
        """See Task."""
        return self.batch

    def model(self, seed: int) -> nn.Module:
        """A perceptron, about 102,000 parameters for MNIST at the default settings."""
        images_SP, labels_S = self._data()
        widths = [images_SP.shape[1], *self.hidden]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = []
            for width, wide in pairwise(widths):
                layers += [nn.Linear(width, wide), nn.ReLU()]
            return nn.Sequential(*layers, nn.Linear(widths[-1], int(labels_S.max()) + 1))

    def optimizer(self, model: nn.Module) -> Optimizer:
        """SGD with momentum."""
        return SGD(model.parameters(), lr=self.lr, momentum=self.momentum)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross entropy."""
        images_SP, labels_S = batch
        return nn.functional.cross_entropy(model(images_SP), labels_S)

    def shard(self, index: int) -> Batch:
        """images_SP (fp32, -1 to 1) and labels_S (int64) of one shard."""
        images_SP, labels_S = self._data()
        kept, _ = _split(self.images, self.labels)
        _require(self.shards <= len(kept), f"{self.shards} shards of {len(kept)} images")
        chosen = cut("mnist", self.skew, kept, labels_S.tolist(), self.shards, _SKEW_SEED)
        chosen_S = torch.tensor(chosen[index])
        return images_SP[chosen_S], labels_S[chosen_S]

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """``loss`` and ``accuracy`` on the held-out images."""
        images_SP, labels_S = self._data()
        first = next(model.parameters())
        chosen_S = torch.tensor(_split(self.images, self.labels)[1])
        batch = images_SP[chosen_S].to(first), labels_S[chosen_S].to(first.device)
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                scores_SC: Tensor = model(batch[0])
                loss = nn.functional.cross_entropy(scores_SC, batch[1])
                accuracy = (scores_SC.argmax(dim=1) == batch[1]).float().mean()
        finally:
            model.train(was_training)
        return {"loss": float(loss), "accuracy": float(accuracy)}

    def describe(self) -> str:
        """See Task."""
        kept, held_out = _split(self.images, self.labels)
        return (
            f"mnist: {len(kept)} images to train on, {len(held_out)} held out (fixed, stratified); "
            f"skew {self.skew}, {self.shards} shards, batch {self.batch}; "
            f"mlp {','.join(map(str, self.hidden))}, SGD lr {self.lr} momentum {self.momentum}"
        )

    def _data(self) -> Batch:
        return _read(self.images, self.labels)


@lru_cache(maxsize=2)
def _read(images: str, labels: str) -> Batch:
    """images_SP, scaled to -1 .. 1, and labels_S. Raises UsageError for files that do not fit."""
    _require(images != "" and labels != "", "give its files: images=PATH and labels=PATH")
    pixels_SHW, labels_S = read_idx(Path(images), 3), read_idx(Path(labels), 1)
    _require(
        pixels_SHW.shape[0] == labels_S.shape[0],
        f"{images} holds {pixels_SHW.shape[0]} images, {labels} {labels_S.shape[0]} labels",
    )
    _require(pixels_SHW.shape[0] >= 20, f"{images} holds fewer than 20 images")
    return pixels_SHW.flatten(1).float().div_(127.5).sub_(1.0), labels_S.to(torch.int64)


@lru_cache(maxsize=2)
def _split(images: str, labels: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    _, labels_S = _read(images, labels)
    held_out = round(HELD_OUT_SHARE * labels_S.shape[0])
    return hold_out(labels_S.tolist(), CLASSES_MAX, held_out, _SPLIT_SEED)


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise UsageError(f"task mnist: {text}")

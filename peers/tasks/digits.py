"""``digits``: 1,797 real handwritten digits of 8 x 8 pixels, and a small network.

The images are those of scikit-learn (UCI "Optical Recognition of Handwritten Digits", test
part). 360 of them, the same ones for everybody, are held out; the other 1,437 are cut into
shards. With ``skew=label`` they are cut in order of their labels, so that a shard knows one or
two digits and a peer alone never sees some of them at all.

Shapes: S samples, P = 64 pixels, C = 10 classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from gossip.errors import UsageError
from peers.tasks.cutting import check_skew, cut, hold_out
from peers.tasks.task import Batch

CLASSES = 10
PIXELS = 64
SIDE = 8
HELD_OUT = 360
_SPLIT_SEED = 1797  # fixed: every peer on every machine must hold out the same images
_SKEW_SEED = 1798


@dataclass(frozen=True, slots=True)
class DigitsTask:
    """Handwritten digits; every field is an option.

    skew       how samples are cut into shards: ``label`` (sorted by digit), ``none`` (shuffled)
               or ``dirichlet:ALPHA`` (each digit spread by a Dirichlet draw; small is skewed).
    shards     how many shards.
    batch      samples a step.
    net        ``mlp`` with the layers of ``hidden``, or ``cnn``.
    lr         step size of SGD; the default suits peers that mix and the large batch alike.
    momentum   of SGD.
    """

    skew: str = "label"
    shards: int = 20
    batch: int = 32
    net: str = "mlp"
    hidden: tuple[int, ...] = (128, 64)
    lr: float = 0.05
    momentum: float = 0.9

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        _require(1 <= self.shards <= 500, "shards must be 1 to 500")
        _require(self.batch >= 1, "batch must be at least 1")
        _require(self.net in ("mlp", "cnn"), "net must be mlp or cnn")
        _require(all(width >= 1 for width in self.hidden), "hidden must be widths of at least 1")
        _require(0 < self.lr < 10, "lr must be above 0 and below 10")
        _require(0 <= self.momentum < 1, "momentum must be at least 0 and below 1")
        check_skew("digits", self.skew)

    @property
    def name(self) -> str:
        """See Task."""
        return "digits"

    @property
    def batch_samples(self) -> int:
        """See Task."""
        return self.batch

    def model(self, seed: int) -> nn.Module:
        """A network of about 17,000 (mlp) or 10,000 (cnn) parameters at the default settings."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _cnn() if self.net == "cnn" else _mlp(self.hidden)

    def optimizer(self, model: nn.Module) -> Optimizer:
        """SGD with momentum."""
        return SGD(model.parameters(), lr=self.lr, momentum=self.momentum)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross entropy."""
        images_SP, labels_S = batch
        return nn.functional.cross_entropy(model(images_SP), labels_S)

    def shard(self, index: int) -> Batch:
        """images_SP (fp32, -1 to 1) and labels_S (int64) of one shard."""
        images_SP, labels_S = _images()
        chosen_S = torch.tensor(cuts(self.skew, self.shards)[index])
        return images_SP[chosen_S], labels_S[chosen_S]

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """``loss`` and ``accuracy`` on the held-out images."""
        images_SP, labels_S = _images()
        first = next(model.parameters())
        chosen_S = torch.tensor(split()[1])
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
        kept, held_out = split()
        shape = self.net if self.net == "cnn" else f"mlp {','.join(map(str, self.hidden))}"
        return (
            f"digits: {len(kept)} images to train on, {len(held_out)} held out (fixed, stratified);"
            f" skew {self.skew}, {self.shards} shards, batch {self.batch}; {shape}, "
            f"SGD lr {self.lr} momentum {self.momentum}"
        )


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise UsageError(f"task digits: {text}")


def _mlp(hidden: tuple[int, ...]) -> nn.Module:
    layers: list[nn.Module] = []
    width = PIXELS
    for wide in hidden:
        layers += [nn.Linear(width, wide), nn.ReLU()]
        width = wide
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, SIDE, SIDE)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (SIDE // 2) ** 2, CLASSES),
    )


@lru_cache(maxsize=1)
def _images() -> Batch:
    """All images_SP, scaled to -1 .. 1, and labels_S. Raises UsageError without scikit-learn."""
    try:
        from sklearn.datasets import load_digits  # an extra: a peer with another task lacks it
    except ImportError as error:
        raise UsageError(
            'task digits needs scikit-learn: pip install "gossip-trainer[demo]"'
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    images_SP = torch.tensor(pixels.tolist(), dtype=torch.float32).sub_(8.0).div_(8.0)
    return images_SP, torch.tensor(labels.tolist(), dtype=torch.int64)


@lru_cache(maxsize=1)
def split() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Image numbers to train on (sorted by label, shuffled within) and held out."""
    _, labels_S = _images()
    return hold_out(labels_S.tolist(), CLASSES, HELD_OUT, _SPLIT_SEED)


@lru_cache(maxsize=8)
def cuts(skew: str, shards: int) -> tuple[tuple[int, ...], ...]:
    """Image numbers of each shard: a partition of the 1,437, none empty."""
    _, labels_S = _images()
    return cut("digits", skew, split()[0], labels_S.tolist(), shards, _SKEW_SEED)

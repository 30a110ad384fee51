"""``recommender``: ratings of items by users, predicted by matrix factorization with biases.

The ratings are those of a file (see ``ratings``: MovieLens and the like), or a small generated set.
One in ten is held out, the same ones for everybody. Shards are disjoint groups of users, in the
order of their ids: a peer knows what its own users rated, and learns what an item is like to
others only from the peers it swaps with.

Shapes: S samples, K factors, U users, I items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import AdamW, Optimizer

from gossip.errors import UsageError
from peers.tasks.ratings import HELD_OUT_ONE_IN, Ratings, cut_by_user, made_ratings, read_ratings
from peers.tasks.task import Batch

INIT_STD: Final = 0.1
"""Of all factors at the start: their products hardly matter, but differ enough to grow."""
EVALUATED_AT_ONCE: Final = 65_536


@dataclass(frozen=True, slots=True)
class RecommenderTask:
    """Matrix factorization; every field is an option.

    file     the ratings; empty: a generated set of 6,000 by 200 users of 100 items.
    factors  of each user and each item.
    shards   groups of users; there must be at least as many users.
    batch    ratings a step.
    lr       step size of AdamW; the default suits ratings that differ by a few units.
    decay    weight decay of AdamW, for all but the mean.
    """

    file: str = ""
    factors: int = 8
    shards: int = 40
    batch: int = 64
    lr: float = 0.01
    decay: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        _require(self.factors >= 1, "factors must be at least 1")
        _require(self.shards >= 1, "shards must be at least 1")
        _require(self.batch >= 1, "batch must be at least 1")
        _require(0 < self.lr < 10, "lr must be above 0 and below 10")
        _require(0 <= self.decay < 10, "decay must be at least 0 and below 10")

    @property
    def name(self) -> str:
        """See Task."""
        return "recommender"

    @property
    def batch_samples(self) -> int:
        """See Task."""
        return self.batch

    def model(self, seed: int) -> nn.Module:
        """(U + I)(K + 1) + 1 parameters, 2,701 for the generated set at the default settings."""
        ratings = self._ratings()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Factorization(len(ratings.users), len(ratings.items), self.factors, ratings.mean)

    def optimizer(self, model: nn.Module) -> Optimizer:
        """AdamW. The mean does not decay: nothing speaks for ratings around zero."""
        named = dict(model.named_parameters())
        mean = named.pop("mean")
        groups: list[dict[str, Any]] = [
            {"params": list(named.values())},
            {"params": [mean], "weight_decay": 0.0},
        ]
        return AdamW(groups, lr=self.lr, betas=(0.9, 0.99), weight_decay=self.decay)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error, in squared units of the ratings."""
        users_S, items_S, ratings_S = batch
        return mse_loss(model(users_S, items_S), ratings_S)

    def shard(self, index: int) -> Batch:
        """users_S and items_S (numbers, int64) and ratings_S (fp32) of one group of users."""
        ratings = self._ratings()
        edges = cut_by_user(ratings.user_ends, self.shards)
        start, stop = edges[index], edges[index + 1]
        return tuple(column_S[start:stop] for column_S in ratings.kept)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """``loss`` (mean squared error) and ``rmse``, its root, on the held-out ratings."""
        held_out = self._ratings().held_out
        samples = held_out[0].shape[0]
        first = next(model.parameters())
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                total = 0.0
                for start in range(0, samples, EVALUATED_AT_ONCE):
                    part = [column_S[start : start + EVALUATED_AT_ONCE] for column_S in held_out]
                    users_S, items_S = (column_S.to(first.device) for column_S in part[:2])
                    loss = self.loss(model, (users_S, items_S, part[2].to(first)))
                    total += float(loss) * part[2].numel()
        finally:
            model.train(was_training)
        error = total / samples
        return {"loss": error, "rmse": math.sqrt(error)}

    def describe(self) -> str:
        """See Task."""
        ratings = self._ratings()
        what = Path(self.file).name if self.file else "generated"
        kept, held_out = (part[0].numel() for part in (ratings.kept, ratings.held_out))
        return (
            f"recommender: {what}, {len(ratings.users):,} users and {len(ratings.items):,} items, "
            f"{kept:,} ratings to train on, {held_out:,} held out (fixed, one in "
            f"{HELD_OUT_ONE_IN}); {self.shards} shards of whole users; {self.factors} factors, "
            f"batch {self.batch}, AdamW lr {self.lr} decay {self.decay}"
        )

    def _ratings(self) -> Ratings:
        ratings = _read(self.file)
        users = len(ratings.user_ends)
        _require(
            self.shards <= users,
            f"{self.shards} shards of {users} users; set shards to at most {users}",
        )
        return ratings


class Factorization(nn.Module):
    """A rating is the mean, a bias of the user, one of the item, and the product of their factors.

    Koren, Bell and Volinsky, "Matrix factorization techniques for recommender systems", 2009. Row
    n of each table belongs to the n-th user or item in the order of ids. Gradients are dense: a
    swap is about all parameters anyway.
    """

    def __init__(self, users: int, items: int, factors: int, mean: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor([mean]))
        self.user_biases = nn.Embedding(users, 1)
        self.item_biases = nn.Embedding(items, 1)
        self.user_factors = nn.Embedding(users, factors)
        self.item_factors = nn.Embedding(items, factors)
        for biases in (self.user_biases, self.item_biases):
            nn.init.zeros_(biases.weight)
        for vectors in (self.user_factors, self.item_factors):
            nn.init.normal_(vectors.weight, std=INIT_STD)

    def forward(self, users_S: Tensor, items_S: Tensor) -> Tensor:
        """Predicted ratings, [S]."""
        biases_S1: Tensor = self.user_biases(users_S) + self.item_biases(items_S)
        products_SK: Tensor = self.user_factors(users_S) * self.item_factors(items_S)
        return self.mean + biases_S1.squeeze(1) + products_SK.sum(dim=1)


@lru_cache(maxsize=2)
def _read(file: str) -> Ratings:
    """The ratings of a file, or the generated ones. Raises UsageError; see ``ratings``."""
    try:
        return read_ratings(Path(file)) if file else made_ratings()
    except UsageError as wrong:
        raise UsageError(f"task recommender: {wrong}") from wrong


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise UsageError(f"task recommender: {text}")

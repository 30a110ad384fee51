"""Which samples each peer sees at each step: the same for every method under one seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import Enum

import torch
from torch import Tensor

from peers.tasks.task import Batch, Task


class Split(Enum):
    """How the task's shards are spread over peers.

    SHARED: everybody draws from all of them. DISJOINT: each peer owns a run of neighboring shards
    (ranges of a text, labels of a sorted set): what peers with private data have.
    """

    SHARED = "shared"
    DISJOINT = "disjoint"


class Feed:
    """Draws batches with replacement from each peer's shards, by seed, peer and step alone."""

    def __init__(self, task: Task, peers: int, split: Split, seed: int) -> None:
        self._shards: list[Batch] = [task.shard(index) for index in range(task.shards)]
        self._owned = [owned_shards(task.shards, peers, peer, split) for peer in range(peers)]
        self._batch = task.batch_samples
        self._seed = seed
        sizes = [shard[0].shape[0] for shard in self._shards]
        self._edges = [torch.tensor([0, *(sizes[i] for i in own)]).cumsum(0) for own in self._owned]

    def batch(self, peer: int, step: int) -> Batch:
        """What ``peer`` trains on at its local ``step``."""
        edges = self._edges[peer]
        generator = torch.Generator().manual_seed(stream_seed(self._seed, "batch", peer, step))
        drawn_S = torch.randint(int(edges[-1]), (self._batch,), generator=generator)
        place_S = torch.searchsorted(edges, drawn_S, right=True) - 1
        rows: list[list[Tensor]] = []
        for drawn, place in zip(drawn_S.tolist(), place_S.tolist(), strict=True):
            shard = self._shards[self._owned[peer][place]]
            row = drawn - int(edges[place])
            rows.append([tensor[row] for tensor in shard])
        return tuple(torch.stack(column) for column in zip(*rows, strict=True))

    def union(self, step: int) -> Batch:
        """What all peers see at this step, as one batch."""
        batches = [self.batch(peer, step) for peer in range(len(self._owned))]
        return tuple(torch.cat(column) for column in zip(*batches, strict=True))


def owned_shards(shards: int, peers: int, peer: int, split: Split) -> Sequence[int]:
    """The shards a peer draws from; with fewer shards than peers some share one."""
    if split is Split.SHARED:
        return range(shards)
    if shards < peers:
        return [peer % shards]
    return range(shards * peer // peers, shards * (peer + 1) // peers)


def stream_seed(*parts: object) -> int:
    """A seed for one purpose, independent of every other."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")

"""Which samples each peer sees at each step: the same for every method under one seed."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from enum import Enum
from itertools import accumulate, pairwise

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
        shards: list[Batch] = [task.shard(index) for index in range(task.shards)]
        self._batch = task.batch_samples
        self._seed = seed
        owned = [owned_shards(task.shards, peers, peer, split) for peer in range(peers)]
        sizes = [shard[0].shape[0] for shard in shards]
        self._first = [sum(sizes[: own[0]]) for own in owned]
        self._samples = [sum(sizes[index] for index in own) for own in owned]
        self._columns = [Column(column) for column in zip(*shards, strict=True)]

    def batch(self, peer: int, step: int) -> Batch:
        """What ``peer`` trains on at its local ``step``."""
        return self.batches([peer], [step])[0]

    def batches(self, peers: Sequence[int], steps: Sequence[int]) -> list[Batch]:
        """What each of these peers trains on at its own local step, looked up at once."""
        generator = torch.Generator()
        drawn: list[Tensor] = []
        for peer, step in zip(peers, steps, strict=True):
            generator.manual_seed(stream_seed(self._seed, "batch", peer, step))
            drawn_S = torch.randint(self._samples[peer], (self._batch,), generator=generator)
            drawn.append(drawn_S.add_(self._first[peer]))
        if not drawn:
            return []
        found = [column.rows(torch.cat(drawn)) for column in self._columns]
        columns = [torch.split(rows, self._batch) for rows in found]
        return list(zip(*columns, strict=True))

    def union(self, step: int) -> Batch:
        """What all peers see at this step, as one batch."""
        peers = range(len(self._samples))
        batches = self.batches(peers, [step] * len(peers))
        return tuple(torch.cat(column) for column in zip(*batches, strict=True))


class Column:
    """One tensor of all shards, one after another, of which samples are taken by number.

    Shards that are views (the windows of a text overlap, a file may be mapped) stay views: a copy
    could be far larger than what they show. Neighbors in one tensor are one view of it, as looking
    up sample by sample is slow.
    """

    def __init__(self, shards: Sequence[Tensor]) -> None:
        if all(shard.nbytes == shard.untyped_storage().nbytes() for shard in shards):
            self.tensors = [torch.cat(list(shards))]
        elif all(_follows(after, before) for before, after in pairwise(shards)):
            shape = (sum(shard.shape[0] for shard in shards), *shards[0].shape[1:])
            self.tensors = [shards[0].as_strided(shape, shards[0].stride())]
        else:
            self.tensors = list(shards)
        sizes = [shard.shape[0] for shard in self.tensors]
        self._firsts = list(accumulate(sizes, initial=0))[:-1]

    def rows(self, drawn_S: Tensor) -> Tensor:
        """The samples of these numbers, in their order."""
        if len(self.tensors) == 1:
            return self.tensors[0][drawn_S]
        rows: list[Tensor] = []
        for drawn in drawn_S.tolist():
            place = bisect_right(self._firsts, drawn) - 1
            rows.append(self.tensors[place][drawn - self._firsts[place]])
        return torch.stack(rows)


def _follows(after: Tensor, before: Tensor) -> bool:
    """Whether one view begins in memory where the other's samples end, and looks at it alike."""
    end = before.storage_offset() + before.shape[0] * before.stride(0)
    return (
        after.untyped_storage().data_ptr() == before.untyped_storage().data_ptr()
        and after.storage_offset() == end
        and (after.dtype, after.stride(), after.shape[1:])
        == (before.dtype, before.stride(), before.shape[1:])
    )


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

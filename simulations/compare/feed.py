"""Which samples each peer sees at each step: the same for every method under one seed."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from enum import Enum
from itertools import accumulate, pairwise
from typing import overload

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


class Batches(Sequence[Batch]):
    """One batch for each of several peers, kept stacked: ``columns`` are shaped [P, S, ...].

    Taking it apart, peer by peer, and stacking that again would take longer than to look it up.
    """

    def __init__(self, columns: Sequence[Tensor], peers: int) -> None:
        self.columns = columns
        self._peers = peers

    def __len__(self) -> int:
        return self._peers

    @overload
    def __getitem__(self, place: int) -> Batch: ...
    @overload
    def __getitem__(self, place: slice) -> list[Batch]: ...
    def __getitem__(self, place: int | slice) -> Batch | list[Batch]:
        """The batch of one peer, or of several one by one."""
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(self._peers))]
        if not -self._peers <= place < self._peers:
            raise IndexError(place)
        return tuple(column[place] for column in self.columns)


def stacked(batches: Sequence[Batch]) -> Batches:
    """Batches of equal shapes, stacked."""
    return Batches([torch.stack(parts) for parts in zip(*batches, strict=True)], len(batches))


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

    def batches(self, peers: Sequence[int], steps: Sequence[int]) -> Batches:
        """What each of these peers trains on at its own local step, looked up at once."""
        generator = torch.Generator()
        drawn_PS = torch.empty(len(peers), self._batch, dtype=torch.int64)
        for drawn_S, peer, step in zip(drawn_PS.unbind(), peers, steps, strict=True):
            generator.manual_seed(stream_seed(self._seed, "batch", peer, step))
            first = self._first[peer]
            drawn_S.random_(first, first + self._samples[peer], generator=generator)
        found = [column.rows(drawn_PS.view(-1)) for column in self._columns]
        shape = drawn_PS.shape
        return Batches([rows.view(*shape, *rows.shape[1:]) for rows in found], len(peers))

    def union(self, step: int) -> Batch:
        """What all peers see at this step, as one batch."""
        peers = range(len(self._samples))
        together = self.batches(peers, [step] * len(peers))
        return tuple(column.flatten(0, 1) for column in together.columns)


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
            return self.tensors[0].index_select(0, drawn_S)
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

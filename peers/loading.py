"""Endless batches from the shards a peer owns right now.

Every shard is read in passes; the order within a pass follows from (seed, shard, pass) alone.
Each sample of a pass has a key in [0, 1); the shards' passes run side by side and the sample with
the smallest key comes next, so that batches mix all owned shards in proportion to their sizes and
gaining or losing one shard leaves the order of the others as it is.

A peer that owns nothing trains on nothing: ``next_batch`` is None, and the trainer only mixes
until shards come. Training on shards of others instead would count samples twice.
"""

from __future__ import annotations

import heapq
import random
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from gossip.errors import UsageError
from peers.tasks.task import Batch, Task


class _Stream:
    """One shard's samples, pass after pass."""

    def __init__(self, seed: int, shard: int, size: int, passes: int, origin: float) -> None:
        self._seed = seed
        self._shard = shard
        self._size = size
        self._origin = origin - passes  # pass p has keys origin + (p - first pass) + [0, 1)
        self.passes = passes
        self._order: list[tuple[float, int]] = []

    def next(self) -> tuple[float, int]:
        """Key and place in the shard of the next sample; begins the next pass when one ends."""
        if not self._order:
            rng = random.Random(f"{self._seed}/{self._shard}/{self.passes}")
            base = self._origin + self.passes
            keys = [(base + rng.random(), place) for place in range(self._size)]
            self._order = sorted(keys, reverse=True)
            self.passes += 1
        return self._order.pop()


class ShardLoader:
    """Batches of ``task.batch_samples`` samples, for one trainer's thread.

    ``set_shards`` may be called from any thread. Everything else belongs to the thread that
    trains. Owned shards are held in memory once, side by side.

    samples   how many samples were handed out since the start.
    """

    def __init__(self, task: Task, seed: int) -> None:
        self._task = task
        self._seed = seed
        self._lock = threading.Lock()
        self._wanted: tuple[int, ...] = ()  # guarded by the lock
        self._owned: tuple[int, ...] = ()
        self._streams: dict[int, _Stream] = {}
        self._starts: dict[int, int] = {}  # of each shard in the tensors below
        self._sizes: dict[int, int] = {}
        self._tensors: Batch = ()
        self._next: list[tuple[float, int, int]] = []  # heap of (key, shard, place in shard)
        self._passes: dict[int, int] = {}  # begun so far, of shards not owned now
        self._frontier = 0.0
        self.samples = 0

    @property
    def shards(self) -> tuple[int, ...]:
        """The shards that the last batch came from, in rising order."""
        return self._owned

    def set_shards(self, indices: Sequence[int]) -> None:
        """Own these shards from the next batch on; ids are those of the task, in any order."""
        wanted = tuple(sorted(indices))
        assert len(set(wanted)) == len(wanted), "a shard is listed twice"
        assert not wanted or (wanted[0] >= 0 and wanted[-1] < self._task.shards), "no such shard"
        with self._lock:
            self._wanted = wanted

    def next_batch(self) -> Batch | None:
        """The next batch, on the CPU; None while this peer owns no sample.

        Reads shards that are new here from the task first. Raises UsageError when the task's
        shard is not a tuple of tensors of equal length.
        """
        with self._lock:
            wanted = self._wanted
        if wanted != self._owned:
            self._change(wanted)
        if not self._next:
            return None
        rows = []
        for _ in range(self._task.batch_samples):
            key, shard, place = self._next[0]
            rows.append(self._starts[shard] + place)
            self._frontier = key
            heapq.heapreplace(self._next, (*self._following(shard),))
        chosen_S = torch.tensor(rows)
        self.samples += len(rows)
        return tuple(tensor.index_select(0, chosen_S) for tensor in self._tensors)

    def _following(self, shard: int) -> tuple[float, int, int]:
        key, place = self._streams[shard].next()
        return key, shard, place

    def _change(self, wanted: tuple[int, ...]) -> None:
        """Bring tensors and streams from ``_owned`` to ``wanted``; kept shards go on in place."""
        parts = {shard: self._part(shard) for shard in wanted}
        columns = [parts[shard] for shard in wanted if parts[shard][0].shape[0] > 0]
        self._tensors = tuple(torch.cat(column) for column in zip(*columns, strict=True))
        for shard in self._owned:
            if shard not in parts and shard in self._streams:
                self._passes[shard] = self._streams.pop(shard).passes
        self._next = [entry for entry in self._next if entry[1] in parts]
        heapq.heapify(self._next)
        start = 0
        self._starts, self._sizes = {}, {}
        for shard in wanted:
            size = parts[shard][0].shape[0]
            self._starts[shard], self._sizes[shard] = start, size
            start += size
            if size and shard not in self._streams:
                passes = self._passes.pop(shard, 0)
                self._streams[shard] = _Stream(self._seed, shard, size, passes, self._frontier)
                heapq.heappush(self._next, self._following(shard))
        self._owned = wanted

    def _part(self, shard: int) -> Batch:
        """A shard's tensors: those at hand, or the task's."""
        if shard in self._streams:
            start, size = self._starts[shard], self._sizes[shard]
            return tuple(tensor.narrow(0, start, size) for tensor in self._tensors)
        part = self._task.shard(shard)
        if not _is_batch(part):
            raise UsageError(
                f"task {self._task.name}: shard({shard}) must be a tuple of tensors "
                "with the same number of samples in dimension 0"
            )
        return part


def _is_batch(part: object) -> bool:
    """Whether it is a tuple of tensors that agree about the number of samples."""
    if not isinstance(part, tuple) or not part:
        return False
    if not all(isinstance(tensor, Tensor) and tensor.dim() > 0 for tensor in part):
        return False
    return len({tensor.shape[0] for tensor in part}) == 1

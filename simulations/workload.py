"""What a simulated peer carries besides its core: tensors to train, or only their sizes.

``Body`` is what a driver needs to carry out the core's byte effects and to be the optimizer hook.
``TensorBody`` does it with the production desk, replica and hook; ``HollowBody`` trades blobs by
reference, so that hundreds of peers with 100 MB vectors fit in little memory.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from gossip.codecs import OFFER_CODECS, REPLY_CODECS, WRAP_CODECS, make_codec, make_wrap_codec
from gossip.config import ExchangeConfig, Layout
from gossip.machine import Applied, Apply, Compute, Computed, Input, Replace, Reserve, Submitted
from gossip.messages import Blob, Chunk, ExchangeId, PeerId, Transfer
from gossip.mixing.flat import FlatModel
from gossip.mixing.ledger import ExactLedger
from gossip.mixing.outer import OuterStep
from gossip.mixing.replica import Replica
from peers.desk import Desk
from peers.hook import Cadence, Hook
from peers.loading import ShardLoader
from peers.mailbox import Mailbox, Replacement
from peers.tasks.task import Batch, Task

HOLLOW_BATCH_SAMPLES = 32
_SAMPLE_ELEMENTS = 1 << 20


def _shape(codec: str) -> tuple[float, int]:
    made = make_wrap_codec(codec) if codec in WRAP_CODECS else make_codec(codec)
    return made.code_bytes(_SAMPLE_ELEMENTS) / (4 * _SAMPLE_ELEMENTS), made.chunk_bytes


SHAPES = {codec: _shape(codec) for codec in (*OFFER_CODECS, *REPLY_CODECS)}
"""Length of a code, in shares of the fp32 vector, and of its chunks in bytes."""


class Body(Protocol):
    """The bytes of one peer. ``layout`` is what its core compares with others'; ``shards`` is into
    how many the samples are cut (0: nobody owns any)."""

    layout: Layout
    shards: int

    def reserve(self, effect: Reserve) -> Input | None:
        """Make room; an answer for the core when the announced size cannot be right."""
        ...

    def store(self, sender: PeerId, chunk: Chunk, payload: bytes) -> bool:
        """Take a chunk; False when it is damaged or was not reserved."""
        ...

    def payload(self, chunk: Chunk) -> tuple[bytes, Chunk] | None:
        """A copy of the bytes a chunk stands for, and the chunk with their digest."""
        ...

    def compute(self, effect: Compute) -> Computed:
        """Make a code, a correction or a snapshot."""
        ...

    def release(self, transfer: Transfer) -> None:
        """Let go of a blob."""
        ...

    def queue(self, effect: Apply | Replace) -> bool:
        """Decode and leave it for the hook; False when it cannot be applied."""
        ...

    def step(self, shards: Sequence[int]) -> list[Input]:
        """One optimizer step on a batch of these shards, if any, and the hook after it.

        Returns the news for the core.
        """
        ...

    def rest(self) -> list[Input]:
        """The hook without a step, as while joining and finishing; news for the core."""
        ...

    def publish_now(self) -> list[Input]:
        """Let the anchor follow the model at once, as before finalise; news for the core."""
        ...


class TensorBody:
    """A task's model and optimizer under the production desk, replica, hook and loader."""

    def __init__(
        self,
        task: Task,
        model_seed: int,
        order_seed: int,
        outer: OuterStep,
        exchange: ExchangeConfig,
        cadence: Cadence,
    ) -> None:
        self.task = task
        self.shards = task.shards
        self.model = task.model(model_seed)
        self.optimizer = task.optimizer(self.model)
        flat = FlatModel.from_module(self.model)
        self.layout = flat.layout
        self.ledger = ExactLedger(flat.elements)
        self.replica = Replica(flat, outer, exchange.fragments, self.ledger)
        self._desk = Desk(self.replica, config=exchange)
        self._loader = ShardLoader(task, order_seed)
        self._mailbox = Mailbox()
        self._hook = Hook(self.replica, self._mailbox, cadence, clock=lambda: 0.0)

    def reserve(self, effect: Reserve) -> Input | None:
        """See Body."""
        return self._desk.reserve(effect)

    def store(self, sender: PeerId, chunk: Chunk, payload: bytes) -> bool:
        """See Body."""
        # A bytearray, as a received frame is: torch warns about views of memory it may not write.
        return self._desk.store(sender, chunk, memoryview(bytearray(payload)))

    def payload(self, chunk: Chunk) -> tuple[bytes, Chunk] | None:
        """See Body."""
        found = self._desk.payload(chunk)
        return None if found is None else (bytes(found[0]), found[1])

    def compute(self, effect: Compute) -> Computed:
        """See Body."""
        return self._desk.compute(effect)

    def release(self, transfer: Transfer) -> None:
        """See Body."""
        self._desk.release(transfer)

    def queue(self, effect: Apply | Replace) -> bool:
        """See Body."""
        if isinstance(effect, Replace):
            snapshot_N = self._desk.snapshot_of(effect)
            if snapshot_N is None:
                return False
            self._mailbox.to_hook(Replacement(effect.transfer.exchange, snapshot_N))
            return True
        work = self._desk.correction(effect)
        if work is None:
            return False
        self._mailbox.to_hook(work)
        return True

    def step(self, shards: Sequence[int]) -> list[Input]:
        """See Body."""
        self._loader.set_shards(shards)
        batch = self._loader.next_batch()
        if batch is not None:
            train_step(self.task, self.model, self.optimizer, batch)
        # Without shards the steps go on, on nothing: what was trained before is still published.
        self._hook.after_step(self.task.batch_samples if batch is not None else 0)
        return list(self._mailbox.news())

    def rest(self) -> list[Input]:
        """See Body."""
        self._hook.apply_queued()
        return list(self._mailbox.news())

    def publish_now(self) -> list[Input]:
        """See Body."""
        self._hook.publish_now()
        return list(self._mailbox.news())

    def theta_N(self) -> Tensor:
        """A copy of all live parameters."""
        theta_N = torch.empty(self.replica.model.elements)
        self.replica.model.gather_(theta_N)
        return theta_N


def train_step(
    task: Task, model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: Batch
) -> None:
    """One plain training step."""
    optimizer.zero_grad()
    loss = task.loss(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
    optimizer.step()


class HollowBody:
    """Blobs by reference: sizes and made-up digests, no tensors.

    A vector of ``vector_bytes`` in fp32; codes are as long as their codec would make them.
    """

    def __init__(self, vector_bytes: int, fragments: int, cadence: Cadence) -> None:
        self.shards = 0
        self.layout = Layout(vector_bytes.to_bytes(16, "big"))
        self._vector_bytes = vector_bytes
        self._fragments = fragments
        self._cadence = cadence
        self._steps = 0
        self._queue: deque[tuple[ExchangeId, bool]] = deque()
        self._held: dict[Transfer, Blob] = {}

    def reserve(self, effect: Reserve) -> Input | None:
        """See Body."""
        self._held[effect.transfer] = effect.blob
        return None

    def store(self, sender: PeerId, chunk: Chunk, payload: bytes) -> bool:
        """See Body."""
        del sender, payload
        return chunk.transfer in self._held

    def payload(self, chunk: Chunk) -> tuple[bytes, Chunk] | None:
        """See Body."""
        return (b"", chunk) if chunk.transfer in self._held else None

    def compute(self, effect: Compute) -> Computed:
        """See Body."""
        whole = self._vector_bytes // (1 if effect.fragment < 0 else self._fragments)
        share, chunk_bytes = SHAPES[effect.reply_codec or effect.codec]
        size_bytes = max(1, int(whole * share))
        digest = hashlib.blake2b(repr(effect.transfer).encode(), digest_size=16).digest()
        blob = Blob(digest, size_bytes, chunk_bytes)
        self._held[effect.transfer] = blob
        return Computed(effect.transfer, blob)

    def release(self, transfer: Transfer) -> None:
        """See Body."""
        self._held.pop(transfer, None)

    def queue(self, effect: Apply | Replace) -> bool:
        """See Body."""
        undo = isinstance(effect, Apply) and effect.undo
        self._queue.append((effect.transfer.exchange, undo))
        return True

    def step(self, shards: Sequence[int]) -> list[Input]:
        """See Body."""
        del shards
        self._steps += 1
        answers = self.rest()
        if self._cadence.swap_due(self._steps):
            answers.append(Submitted(self._steps * HOLLOW_BATCH_SAMPLES, swap_due=True))
        return answers

    def rest(self) -> list[Input]:
        """See Body."""
        answers: list[Input] = [
            Applied(exchange, applied=True) for exchange, undo in self._queue if not undo
        ]
        self._queue.clear()
        return answers

    def publish_now(self) -> list[Input]:
        """See Body; there is nothing to publish."""
        return self.rest()


class NoBody:
    """Nothing to carry: a member that neither trains nor swaps. All such peers may share one."""

    def __init__(self) -> None:
        self.shards = 0
        self.layout = Layout(bytes(16))

    def reserve(self, effect: Reserve) -> Input | None:
        """See Body."""
        del effect
        return None

    def store(self, sender: PeerId, chunk: Chunk, payload: bytes) -> bool:
        """See Body."""
        del sender, chunk, payload
        return False

    def payload(self, chunk: Chunk) -> tuple[bytes, Chunk] | None:
        """See Body."""
        del chunk
        return None

    def compute(self, effect: Compute) -> Computed:
        """See Body; there is nothing to make anything of."""
        return Computed(effect.transfer, None)

    def release(self, transfer: Transfer) -> None:
        """See Body."""

    def queue(self, effect: Apply | Replace) -> bool:
        """See Body."""
        del effect
        return False

    def step(self, shards: Sequence[int]) -> list[Input]:
        """See Body."""
        del shards
        return []

    def rest(self) -> list[Input]:
        """See Body."""
        return []

    def publish_now(self) -> list[Input]:
        """See Body."""
        return []

"""Two desks and what passes between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gossip.machine import Apply, Compute, Reserve
from gossip.messages import Blob, Chunk, ExchangeId, Leg, PeerId, Transfer
from gossip.mixing.flat import FlatModel
from gossip.mixing.replica import Replica
from peers.desk import Desk

A = PeerId("0" * 16)
STRANGER = PeerId("f" * 16)
EXCHANGE = ExchangeId(A, 1, 1)
CODE = Transfer(EXCHANGE, Leg.CODE)
CORRECTION = Transfer(EXCHANGE, Leg.CORRECTION)
SNAPSHOT = Transfer(EXCHANGE, Leg.SNAPSHOT)
ELEMENTS = 300_000
"""More than one fp32 chunk."""


def corrected_n(desk: Desk, apply: Apply) -> Tensor | None:
    """By how much the hook is to move, before the weight; None where it is not to."""
    work = desk.correction(apply)
    return None if work is None else work.c_n


def a_replica(seed: int) -> Replica:
    """A replica of one parameter."""
    torch.manual_seed(seed)
    return Replica(FlatModel.from_module(nn.ParameterList([nn.Parameter(torch.randn(ELEMENTS))])))


def copy_blob(source: Desk, target: Desk, transfer: Transfer, blob: Blob) -> bool:
    """Carry all chunks across; whether each was taken."""
    taken = []
    for offset in range(0, blob.size_bytes, blob.chunk_bytes):
        length = min(blob.chunk_bytes, blob.size_bytes - offset)
        found = source.payload(Chunk(transfer, offset, length))
        assert found is not None
        view, chunk = found
        taken.append(target.store(A, chunk, memoryview(bytearray(view))))
    return all(taken)


def reserve(transfer: Transfer, blob: Blob, reply_codec: str) -> Reserve:
    """An fp32 code of fragment 0 from A."""
    return Reserve(transfer, blob, 0, "fp32", reply_codec, source=A)


def offer(desk: Desk, codec: str) -> Blob:
    """The initiator's code."""
    blob = desk.compute(Compute(CODE, 0, codec)).blob
    assert blob is not None
    return blob

"""What the tests of mixing share: small replicas, and a swap with no network between."""

from __future__ import annotations

import math

import torch
from torch import nn

from gossip.codecs import make_codec
from gossip.mixing.flat import FlatModel
from gossip.mixing.ledger import ExactLedger
from gossip.mixing.outer import OuterStep
from gossip.mixing.replica import Replica


def dyadic_n(elements: int, seed: int) -> torch.Tensor:
    """Multiples of 1/64 below 16: sums and halves of few of them are exact in fp32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-1024, 1024, (elements,), generator=generator) / 64


def replica_of(
    values_N: torch.Tensor, outer: OuterStep | None = None, fragments: int = 1
) -> tuple[Replica, ExactLedger]:
    """A replica of one vector parameter, with an exact ledger."""
    model = nn.ParameterDict({"w": nn.Parameter(values_N.clone())})
    flat = FlatModel.from_module(model)
    ledger = ExactLedger(flat.elements)
    return Replica(flat, outer or OuterStep(), fragments, ledger), ledger


def theta_N(replica: Replica) -> torch.Tensor:
    """A copy of the live parameters as a flat vector."""
    out_N = torch.empty(replica.model.elements)
    replica.model.gather_(out_N)
    return out_N


def swap(
    one: Replica,
    two: Replica,
    codec: str = "fp32",
    reply_codec: str = "fp32",
    fragment: int = 0,
    clip_bound: float = math.inf,
) -> torch.Tensor:
    """One whole swap, w = 1/2: ``one`` offers, ``two`` replies, both apply. Returns c."""
    elements = one.elements(fragment)
    offer, reply = make_codec(codec), make_codec(reply_codec)
    code = memoryview(bytearray(offer.code_bytes(elements)))
    one.encode_fragment(fragment, offer, code)
    correction = memoryview(bytearray(reply.code_bytes(elements)))
    two.make_correction(fragment, offer, code, reply, correction, clip_bound)
    c_n = torch.empty(elements)
    two.decode_correction(fragment, reply, correction, c_n)
    two.apply_correction(fragment, c_n, -0.5, "swap")
    one.apply_correction(fragment, c_n, 0.5, "swap")
    return c_n

"""Codecs work in the memory they are given: fresh memory is slower to come by than any of them.

What torch allocates is counted by its profiler, also what is freed at once; compiled loops have
arrays of one block at most.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from gossip.codecs import (
    OFFER_CODECS,
    REPLY_CODECS,
    STEP_ELEMENTS,
    WrapCodec,
    chunk_spans,
    kernels,
    make_codec,
    make_wrap_codec,
)
from gossip.codecs.wrap import WRAP_BITS

ELEMENTS = 1 << 22
"""16 MiB of fp32, in chunks of 1 MiB."""
FRESH_BYTES_MAX = ELEMENTS * 4 // 4
SEED = 5

WRAPS = {f"wrap{bits}" for bits in WRAP_BITS}
DENSE = ("fp32", "bf16")
COMPILED = ("int8", "int4", "int2", *sorted(WRAPS))
WASTEFUL = ("sign", "topk8")
"""On torch alone, with tensors for what is between values and code: for links so slow that it does
not matter (decision 0009). So are all but DENSE where numba is not installed."""

needs_loops = pytest.mark.skipif(
    not kernels.AVAILABLE, reason="numba is not installed: on torch alone codecs make tensors"
)


def fresh_bytes(work: Callable[[], None]) -> int:
    """All that torch allocates meanwhile, whether or not it is freed."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    return sum(max(0, event.self_cpu_memory_usage) for event in seen.events() or ())


class Trip:
    """A codec, and all the memory that a vector's way through it needs."""

    def __init__(self, name: str) -> None:
        generator = torch.Generator().manual_seed(1)
        self._codec = make_wrap_codec(name) if name in WRAPS else make_codec(name)
        self._x_N = torch.randn(ELEMENTS, generator=generator)
        self._own_N = self._x_N + 1e-3 * torch.randn(ELEMENTS, generator=generator)
        self._out_N = torch.empty(ELEMENTS)
        self._code_S = torch.zeros(self._codec.code_bytes(ELEMENTS), dtype=torch.uint8)
        self._step_B = torch.full((ELEMENTS // STEP_ELEMENTS,), 1e-3)
        self._wrapped_B = torch.zeros(ELEMENTS // STEP_ELEMENTS, dtype=torch.bool)

    def encode(self, seed: int | None = None) -> None:
        """All chunks."""
        for part, span in chunk_spans(self._codec, ELEMENTS):
            if isinstance(self._codec, WrapCodec):
                step_B = self._step_B[blocks_of(part)]
                self._codec.encode(self._x_N[part], step_B, self._code_S[span], seed)
            else:
                self._codec.encode(self._x_N[part], self._code_S[span], seed)

    def decode(self) -> None:
        """All chunks."""
        for part, span in chunk_spans(self._codec, ELEMENTS):
            code_S, out_N = self._code_S[span], self._out_N[part]
            if isinstance(self._codec, WrapCodec):
                wrapped_B = self._wrapped_B[blocks_of(part)]
                self._codec.decode(code_S, self._own_N[part], out_N, wrapped_B)
            else:
                self._codec.decode(code_S, out_N)


def blocks_of(part: slice) -> slice:
    """The blocks of 64 in a part of a vector."""
    return slice(part.start // STEP_ELEMENTS, part.stop // STEP_ELEMENTS)


def test_every_codec_is_in_one_of_these_lists() -> None:
    """A new one says whether it makes tensors of its own."""
    assert sorted({*OFFER_CODECS, *REPLY_CODECS}) == sorted([*DENSE, *COMPILED, *WASTEFUL])


@pytest.mark.parametrize("name", [*DENSE, *(pytest.param(n, marks=needs_loops) for n in COMPILED)])
def test_a_vector_is_coded_and_read_without_fresh_memory(name: str) -> None:
    """The first time a codec makes its scratch, at most; with both kinds of rounding."""
    trip = Trip(name)
    assert fresh_bytes(trip.encode) <= FRESH_BYTES_MAX
    assert fresh_bytes(trip.decode) <= FRESH_BYTES_MAX
    again = (trip.encode, lambda: trip.encode(SEED), trip.decode)
    assert max(fresh_bytes(work) for work in again) <= FRESH_BYTES_MAX // 64


def in_place_(x_N: torch.Tensor, out_N: torch.Tensor) -> None:
    """Twice the values, in the memory given."""
    out_N.copy_(x_N).mul_(2)


def with_a_copy_(x_N: torch.Tensor, out_N: torch.Tensor) -> None:
    """The same by way of a tensor between."""
    out_N.copy_(x_N * 2)


def test_what_is_freed_at_once_is_counted() -> None:
    """The test above could fail: of codecs that make tensors all are seen."""
    x_N, y_N = torch.ones(ELEMENTS), torch.empty(ELEMENTS)
    assert fresh_bytes(lambda: in_place_(x_N, y_N)) < 1_000
    assert fresh_bytes(lambda: with_a_copy_(x_N, y_N)) >= 4 * ELEMENTS
    assert fresh_bytes(Trip("sign").encode) > FRESH_BYTES_MAX

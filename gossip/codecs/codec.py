"""What a codec is: a flat fp32 vector to bytes and back, chunk by self-contained chunk.

Shape letters: N elements of the vector, B blocks of 256, S bytes of code. Numbers are little
endian, as on every machine torch runs on. A codec object owns scratch memory, so it belongs to
one thread; ``gossip.codecs.make_codec`` gives each thread its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, Protocol, TypeAlias

import torch
from torch import Tensor

from gossip.errors import CodeError

BLOCK_ELEMENTS: Final = 256
"""Elements that share one scale; every vector and chunk is a multiple of it."""

Buffer: TypeAlias = memoryview | bytearray | Tensor
"""Writable bytes: a view, a bytearray, or a contiguous uint8 tensor on the host."""


class Cut(Protocol):
    """How a code cuts a vector: ``chunk_elements`` is what one full chunk covers (a multiple of
    256), ``chunk_bytes`` its code (at most 1 MiB, a multiple of 4). Only the last chunk of a vector
    may be shorter.
    """

    @property
    def chunk_elements(self) -> int:
        """Elements of a full chunk."""
        ...

    @property
    def chunk_bytes(self) -> int:
        """Code bytes of a full chunk."""
        ...

    def code_bytes(self, elements: int) -> int:
        """Code bytes of a vector of ``elements``, all chunks together."""
        ...


class Codec(Cut, Protocol):
    """One way to write fp32 vectors as bytes."""

    @property
    def name(self) -> str:
        """As announced in an Offer."""
        ...

    @property
    def carries_mask(self) -> bool:
        """Whether a code can say which blocks were not compared (``skip_B``, ``skipped``)."""
        ...

    def encode(
        self,
        values_N: Tensor,
        out: Buffer,
        seed: int | None = None,
        skip_B: Tensor | None = None,
    ) -> None:
        """Write the code of one chunk into ``out``, exactly ``code_bytes(N)`` long.

        With a ``seed`` (32 bits count) rounding is stochastic where levels are even, else to
        nearest. ``skip_B`` marks blocks of 64 that could not be compared: they are coded as zeros,
        and a codec with larger blocks skips each that holds one. Raises CodeError when a value is
        not finite or too large; ``out`` is then undefined.
        """
        ...

    def skipped(self, code: Buffer, elements: int) -> Tensor:
        """The marks of one chunk of ``elements``, a bool per block of 64. Raises CodeError on a
        wrong length."""
        ...

    def decode(self, code: Buffer, out_N: Tensor) -> None:
        """Read one chunk of N elements into ``out_N``.

        Raises CodeError on a wrong length or values that are not finite; ``out_N`` is then
        undefined. Never allocates in proportion to what the bytes claim.
        """
        ...

    def in_place(self, code: Buffer, elements: int) -> Tensor | None:
        """The values of one chunk where they lie, for a code that is the values themselves.

        None for any other codec. They are read or written through the tensor without a copy, and
        unchecked: whoever reads them asks ``check_finite``. Raises CodeError on a wrong length.
        """
        ...


def as_bytes_S(buffer: Buffer) -> Tensor:
    """The same memory as a uint8 tensor, copying nothing. Raises CodeError when it is empty."""
    if isinstance(buffer, Tensor):
        return buffer
    if len(buffer) == 0:
        raise CodeError("an empty code")
    return torch.frombuffer(buffer, dtype=torch.uint8)


def check_length(code_S: Tensor, expected_bytes: int, codec: str) -> None:
    """Raise CodeError unless the code is exactly as long as its elements ask for."""
    if code_S.numel() != expected_bytes:
        raise CodeError(f"a {codec} code of {code_S.numel()} bytes, {expected_bytes} expected")


def check_magnitude(values: Tensor, limit: float, codec: str) -> None:
    """Raise CodeError unless all values are finite and within ``limit``; one read, no memory."""
    low, high = torch.aminmax(values)
    largest = max(-float(low), float(high))
    # A NaN makes both ends NaN, and every comparison with it false.
    if not (math.isfinite(largest) and largest <= limit):
        raise CodeError(f"{codec}: a value is not finite or beyond {limit:.3g}")


def check_finite(values: Tensor, codec: str) -> None:
    """Raise CodeError unless all values are finite; one read, no memory.

    A sum is finite only if every term is, and is several times faster than a look at each term.
    Finite terms may still overflow their sum, so one that is not finite is looked at again.
    """
    if not math.isfinite(float(torch.sum(values))):
        check_magnitude(values, torch.finfo(values.dtype).max, codec)


def check_elements(elements: int) -> None:
    """Assert what our own side must hold: whole blocks only."""
    assert elements > 0, "an empty vector"
    assert elements % BLOCK_ELEMENTS == 0, f"{elements} is no multiple of {BLOCK_ELEMENTS}"


def chunk_spans(codec: Cut, elements: int) -> Iterator[tuple[slice, slice]]:
    """Cut a vector of ``elements`` into chunks: the element slice and the byte slice of each."""
    for index in range(chunk_count(codec, elements)):
        yield chunk_span(codec, elements, index)


def chunk_span(codec: Cut, elements: int, index: int) -> tuple[slice, slice]:
    """Element slice and byte slice of chunk ``index`` of a vector of ``elements``."""
    check_elements(elements)
    start = index * codec.chunk_elements
    stop = min(start + codec.chunk_elements, elements)
    assert 0 <= start < stop, f"chunk {index} lies outside a vector of {elements}"
    start_bytes = index * codec.chunk_bytes
    return slice(start, stop), slice(start_bytes, start_bytes + codec.code_bytes(stop - start))


def chunk_count(codec: Cut, elements: int) -> int:
    """How many chunks a vector of ``elements`` has."""
    return -(-elements // codec.chunk_elements)


def decode_vector(codec: Codec, code: Buffer, out_N: Tensor) -> None:
    """Read a whole code, chunk by chunk. Raises CodeError as ``Codec.decode`` does."""
    code_S = as_bytes_S(code)
    check_length(code_S, codec.code_bytes(out_N.numel()), codec.name)
    for elements, span in chunk_spans(codec, out_N.numel()):
        codec.decode(code_S[span], out_N[elements])

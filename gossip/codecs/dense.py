"""fp32 and bf16: every value as it is, or rounded to its upper half."""

from __future__ import annotations

import torch
from torch import Tensor

from gossip.codecs.blocks import SMALL_ELEMENTS
from gossip.codecs.codec import (
    Buffer,
    as_bytes_S,
    check_elements,
    check_finite,
    check_length,
)
from gossip.messages import CHUNK_BYTES_MAX


class DenseCodec:
    """Values one after the other in ``dtype``; a chunk is 1 MiB. Holds no scratch."""

    carries_mask = False

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        self.name = name
        self.chunk_bytes = CHUNK_BYTES_MAX
        self.chunk_elements = CHUNK_BYTES_MAX // dtype.itemsize
        self._dtype = dtype

    def code_bytes(self, elements: int) -> int:
        """Bytes of the code of ``elements`` values."""
        return elements * self._dtype.itemsize

    def encode(
        self,
        values_N: Tensor,
        out: Buffer,
        seed: int | None = None,
        skip_B: Tensor | None = None,
    ) -> None:
        """See Codec.encode. Always to nearest even; what would round to infinity is too large."""
        del seed
        assert skip_B is None, f"{self.name} carries no marks"
        check_elements(values_N.numel())
        out_S = as_bytes_S(out)
        assert out_S.numel() == self.code_bytes(values_N.numel()), "out has a wrong length"
        code_N = out_S.view(self._dtype)
        code_N.copy_(values_N)
        check_finite(code_N, self.name)  # after the copy: it is in cache now

    def decode(self, code: Buffer, out_N: Tensor) -> None:
        """See Codec.decode. Exact."""
        check_elements(out_N.numel())
        code_S = as_bytes_S(code)
        check_length(code_S, self.code_bytes(out_N.numel()), self.name)
        code_N = code_S.view(self._dtype)
        check_finite(code_N, self.name)
        out_N.copy_(code_N)

    def skipped(self, code: Buffer, elements: int) -> Tensor:
        """See Codec.skipped: none."""
        check_length(as_bytes_S(code), self.code_bytes(elements), self.name)
        return torch.zeros(elements // SMALL_ELEMENTS, dtype=torch.bool)

    def in_place(self, code: Buffer, elements: int) -> Tensor | None:
        """See Codec.in_place: for fp32."""
        if self._dtype is not torch.float32:
            return None
        code_S = as_bytes_S(code)
        check_length(code_S, self.code_bytes(elements), self.name)
        return code_S.view(torch.float32)

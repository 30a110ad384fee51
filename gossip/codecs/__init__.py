"""Vector <-> bytes: the codecs a swap may use, by name."""

from __future__ import annotations

from typing import Final

import torch

from gossip.codecs.codec import (
    BLOCK_ELEMENTS,
    Buffer,
    Codec,
    chunk_count,
    chunk_span,
    chunk_spans,
    decode_vector,
)
from gossip.codecs.dense import DenseCodec
from gossip.codecs.int8 import Int8Codec
from gossip.errors import UsageError
from gossip.messages import CHUNK_BYTES_MAX, SNAPSHOT_CODEC

CODEC_NAMES: Final = ("fp32", "bf16", "int8")
"""All that ``make_codec`` knows, from most to fewest bytes."""


def make_codec(name: str) -> Codec:
    """A fresh codec with scratch of its own, for one thread. Raises UsageError on other names."""
    match name:
        case "fp32":
            return DenseCodec(name, torch.float32)
        case "bf16":
            return DenseCodec(name, torch.bfloat16)
        case "int8":
            return Int8Codec()
    raise UsageError(f"unknown codec {name!r}; known are {', '.join(CODEC_NAMES)}")


__all__ = [
    "BLOCK_ELEMENTS",
    "CHUNK_BYTES_MAX",
    "CODEC_NAMES",
    "SNAPSHOT_CODEC",
    "Buffer",
    "Codec",
    "chunk_count",
    "chunk_span",
    "chunk_spans",
    "decode_vector",
    "make_codec",
]

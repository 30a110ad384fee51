"""Vector <-> bytes: the codecs a swap may use, by name."""

from __future__ import annotations

from typing import Final, TypeAlias

import torch

from gossip.codecs import kernels
from gossip.codecs.blocks import SMALL_ELEMENTS
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
from gossip.codecs.small import PACKINGS, SmallCodec
from gossip.codecs.wrap import WrapCodec
from gossip.errors import UsageError
from gossip.messages import CHUNK_BYTES_MAX, SNAPSHOT_CODEC

STEP_ELEMENTS: Final = SMALL_ELEMENTS
"""Elements that share one step of a wrap-around code, and one mark in a reply."""

WRAP_CODECS: Final = ("wrap8", "wrap4", "wrap3")
"""For the offer, between peers that know how far they differ; see ``wrap``."""

OFFER_CODECS: Final = ("fp32", "bf16", "int8", *WRAP_CODECS)
REPLY_CODECS: Final = ("fp32", "bf16", "int8", *PACKINGS)
CODEC_NAMES: Final = ("fp32", "bf16", "int8")
"""Those that fit both legs, from most to fewest bytes."""

OfferCodec: TypeAlias = Codec | WrapCodec


def make_codec(name: str) -> Codec:
    """A fresh codec with scratch of its own, for one thread. Raises UsageError on other names.

    The first one in a process may take seconds: it compiles the loops, once per machine.
    """
    kernels.warm_up()
    if name in PACKINGS:
        return SmallCodec(PACKINGS[name]())
    match name:
        case "fp32":
            return DenseCodec(name, torch.float32)
        case "bf16":
            return DenseCodec(name, torch.bfloat16)
        case "int8":
            return Int8Codec()
    raise UsageError(f"unknown codec {name!r}; known are {', '.join(REPLY_CODECS)}")


def make_wrap_codec(name: str) -> WrapCodec:
    """A wrap-around codec. Raises UsageError on other names."""
    if name not in WRAP_CODECS:
        raise UsageError(f"unknown wrap-around codec {name!r}; known are {', '.join(WRAP_CODECS)}")
    kernels.warm_up()
    return WrapCodec(int(name.removeprefix("wrap")))


def check_pair(offer: str, reply: str) -> None:
    """Raise UsageError unless the two codecs fit the two legs of a swap, and each other."""
    if offer in PACKINGS:
        raise UsageError(
            f"{offer} is for differences: in offers it would code the weights themselves and cost "
            "several percent of loss; use it for replies, with offers in wrap4 or int8"
        )
    if offer not in OFFER_CODECS:
        raise UsageError(f"unknown codec {offer!r} for offers; known are {', '.join(OFFER_CODECS)}")
    if reply not in REPLY_CODECS:
        raise UsageError(
            f"unknown codec {reply!r} for replies; known are {', '.join(REPLY_CODECS)}"
        )
    if offer in WRAP_CODECS and reply in ("fp32", "bf16"):
        raise UsageError(
            f"{offer} needs a reply that can say which blocks could not be read; {reply} cannot: "
            "use int8 or int4"
        )


__all__ = [
    "BLOCK_ELEMENTS",
    "OFFER_CODECS",
    "REPLY_CODECS",
    "STEP_ELEMENTS",
    "WRAP_CODECS",
    "CHUNK_BYTES_MAX",
    "CODEC_NAMES",
    "SNAPSHOT_CODEC",
    "Buffer",
    "Codec",
    "OfferCodec",
    "WrapCodec",
    "check_pair",
    "chunk_count",
    "chunk_span",
    "chunk_spans",
    "decode_vector",
    "make_codec",
    "make_wrap_codec",
]

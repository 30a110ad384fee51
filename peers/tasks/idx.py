"""IDX files, as MNIST comes in: read strictly, plain or compressed with gzip.

Format: two zero bytes, a type byte (8: unsigned bytes, the only one read), the number of
dimensions, each dimension as four bytes (big endian), then the values, the last dimension fastest.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from gossip.errors import UsageError

UNSIGNED_BYTE: Final = 8
VALUES_MAX: Final = 1 << 30
"""No file is read beyond so many bytes, whatever it claims or unpacks to."""


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The values (uint8) of a file that must have so many dimensions, none of them zero.

    Raises UsageError, with the file's name and what is wrong, for anything else.
    """
    raw = _read(path)
    head = 4 + 4 * dimensions
    if len(raw) < head or raw[:2] != b"\0\0":
        raise UsageError(f"{path} is not an IDX file")
    if raw[2] != UNSIGNED_BYTE or raw[3] != dimensions:
        raise UsageError(
            f"{path} holds values of type {raw[2]} in {raw[3]} dimensions, "
            f"not unsigned bytes in {dimensions}"
        )
    shape = [int.from_bytes(raw[at : at + 4], "big") for at in range(4, head, 4)]
    if math.prod(shape) == 0 or len(raw) - head != math.prod(shape):
        raise UsageError(
            f"{path} says {' x '.join(map(str, shape))} values and holds {len(raw) - head}"
        )
    return torch.frombuffer(bytearray(raw[head:]), dtype=torch.uint8).view(shape)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            raw = file.read(VALUES_MAX + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as wrong:
        raise UsageError(f"{path} is damaged: {wrong}") from wrong
    except OSError as wrong:
        raise UsageError(f"{path} cannot be read: {wrong.strerror}") from wrong
    if len(raw) > VALUES_MAX:
        raise UsageError(f"{path} holds more than {VALUES_MAX} bytes")
    return bytes(raw)

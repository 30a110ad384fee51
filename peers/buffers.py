"""Memory for codes, given back and handed out again: fresh memory is slower than any copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gossip.messages import Transfer

BUFFERS_MAX: Final = 4


@dataclass(slots=True)
class Buffers:
    """A few buffers of the sizes in use; one still being sent is not handed out again."""

    buffers: list[tuple[bytearray, Transfer | None]] = field(default_factory=list)

    def take(self, size_bytes: int, is_busy: Callable[[Transfer], bool]) -> bytearray:
        """One of this size; ``is_busy`` tells whether the bytes of a transfer are still in use."""
        for index, (buffer, last) in enumerate(self.buffers):
            if len(buffer) == size_bytes and (last is None or not is_busy(last)):
                del self.buffers[index]
                return buffer
        return bytearray(size_bytes)

    def give(self, buffer: bytearray, last: Transfer) -> None:
        """Take one back, which ``last`` may still be sending."""
        self.buffers.append((buffer, last))
        del self.buffers[:-BUFFERS_MAX]

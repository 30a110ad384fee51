"""How many bytes of control messages were sent, by kind of message.

Encoding every frame would cost more than simulating it. So each kind's first messages are encoded
as they would be for the wire, and every so many after them, fewer and fewer; the others are taken
to be as long as the mean of those. Not counted: ZMTP's own pings (about 10 bytes a second and
link), TCP and IP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from gossip.messages import Message, PeerId
from gossip.wire.frames import ControlMessage, encode_control, run_digest

ENCODED_FIRST: Final = 100
"""Messages of a kind that are all encoded."""

ENCODED_EVERY: Final = 32
"""One in so many after them."""

ENCODED_WELL: Final = 1 << 16
ENCODED_SELDOM: Final = 256
"""One in so many once so many were sent: by then 2,000 of the kind have been encoded."""


@dataclass(slots=True)
class Kind:
    """One kind of message: how many were sent, how many of them encoded, to how many bytes."""

    sent: int = 0
    encoded: int = 0
    encoded_bytes: int = 0
    mean_bytes: float = 0.0

    @property
    def sent_bytes(self) -> float:
        """All of them, by the mean."""
        return self.sent * self.mean_bytes


def framing_bytes(frame_bytes: int) -> int:
    """What ZMTP adds to a frame of this size."""
    return 2 if frame_bytes < 256 else 9


class Meter:
    """Counts what is handed to the network as control messages."""

    def __init__(self, run: str) -> None:
        self.kinds: dict[type[Message], Kind] = {}
        self._run = run_digest(run)
        self._measured: tuple[Message | None, int] = (None, 0)

    def count(self, sender: PeerId, message: Message) -> float:
        """Count one message; returns its bytes, or what they are likely to be."""
        kind = self.kinds.get(type(message))
        if kind is None:
            kind = self.kinds[type(message)] = Kind()
        sent = kind.sent = kind.sent + 1
        every = ENCODED_EVERY if sent <= ENCODED_WELL else ENCODED_SELDOM
        if sent <= ENCODED_FIRST or not sent % every:
            kind.encoded += 1
            kind.encoded_bytes += self._encoded_bytes(sender, message)
            kind.mean_bytes = kind.encoded_bytes / kind.encoded
        return kind.mean_bytes

    def exact_bytes(self, sender: PeerId, message: Message) -> int:
        """Bytes of one message, of which nothing is counted; the last one is remembered."""
        last, known_bytes = self._measured
        if last is message:
            return known_bytes
        exact = self._encoded_bytes(sender, message)
        self._measured = (message, exact)
        return exact

    def _encoded_bytes(self, sender: PeerId, message: Message) -> int:
        frame_bytes = len(encode_control(self._run, sender, cast(ControlMessage, message)))
        return frame_bytes + framing_bytes(frame_bytes)

    @property
    def sent(self) -> int:
        """Messages of all kinds."""
        return sum(kind.sent for kind in self.kinds.values())

    @property
    def sent_bytes(self) -> float:
        """Bytes of all kinds."""
        return sum(kind.sent_bytes for kind in self.kinds.values())

    def sent_of(self, name: str) -> int:
        """Messages of the kind with this class name."""
        return sum(kind.sent for each, kind in self.kinds.items() if each.__name__ == name)

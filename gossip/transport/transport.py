"""What every transport offers, and what it reports.

One thread calls everything but ``wake``. Nothing blocks but ``poll``. Sending is best effort:
a message may be lost, repeated or late, never altered.
Control messages and bulk chunks travel on planes of their own, so that the first never queue
behind the second.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from gossip.machine import LinkCause
from gossip.messages import Chunk, Message, PeerId, Transfer
from gossip.transport.lines import Plane


@dataclass(frozen=True, slots=True)
class Arrived:
    """A control message."""

    sender: PeerId
    message: Message


@dataclass(frozen=True, slots=True)
class ChunkArrived:
    """A chunk and its bytes, whose digest nobody has checked yet.

    ``payload`` is borrowed: read it, and copy what you keep, before the next ``poll``.
    """

    sender: PeerId
    chunk: Chunk
    payload: memoryview


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A dialed link can carry messages (again), or one opened by a peer that cannot be dialed."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """A dialed link is lost; it is redialed until ``hang_up``.

    CLOSED: it was up, and what a fresh dial finds comes next: LinkOpened, or why not. REFUSED: the
    host says nobody listens. SILENT: no answer. FROZEN: accepted by the kernel, but the process
    does not shake hands. Each is told once; another one only when the cause has changed, as
    when a frozen process is killed. Only the control plane is judged. Of a peer that cannot be
    dialed only CLOSED is told: there is no fresh dial, it will come by itself.
    """

    peer: PeerId
    cause: LinkCause


@dataclass(frozen=True, slots=True)
class DialRefused:
    """A contact cannot be reached; once per ``dial`` and change of cause."""

    address: str
    cause: LinkCause


@dataclass(frozen=True, slots=True)
class Junk:
    """Something a neighbor or stranger (None) sent was dropped and counted.

    ``kind``: magic, version, run, length, shape (see FrameError), sender (not who the link
    belongs to), handshake (not ZMTP, wrong key, or hung up before its end), address (one that
    cannot be dialed, or a name that cannot be resolved), self (this peer's own frames came back).
    Two are nobody's fault, but have to be seen: bulk (control is up, the bulk port stays out of
    reach) and descriptors (this process may open no more files); they come once each time.
    """

    peer: PeerId | None
    kind: str
    detail: str


Event: TypeAlias = Arrived | ChunkArrived | LinkOpened | LinkClosed | DialRefused | Junk


HANDSHAKE_BYTES = 144
"""One side of a ZMTP 3.1 NULL handshake: greeting 64, READY with socket type and routing id."""

CURVE_HANDSHAKE_BYTES = 470
"""The same under CURVE, the mean of both sides (about 600 dialing, 340 listening)."""

CURVE_FRAME_BYTES = 33
"""What CURVE adds to a frame: command name 8, nonce 8, flags 1, authenticator 16."""


@dataclass(slots=True)
class Counters:
    """What one transport moved since it was opened. Bytes are whole frames as on the wire.

    Counted: header, body, payload, 2 or 9 bytes of ZMTP framing each (more under ``curve``), and
    an estimate per handshake. Not counted: ZMTP pings (about 20 bytes a second and link, each
    way), TCP and IP headers. Sent means queued. ``dropped`` and ``oversized`` count messages that
    ``send`` and ``send_chunk`` did not take; ``faults`` counts Junk by kind.
    """

    curve: bool = False
    control_sent_bytes: int = 0
    control_received_bytes: int = 0
    bulk_sent_bytes: int = 0
    bulk_received_bytes: int = 0
    dropped: int = 0
    oversized: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def sent_bytes(self) -> int:
        """Both planes."""
        return self.control_sent_bytes + self.bulk_sent_bytes

    @property
    def received_bytes(self) -> int:
        """Both planes."""
        return self.control_received_bytes + self.bulk_received_bytes

    def sent(self, plane: Plane, *frames_bytes: int) -> None:
        """Count one message of frames of these sizes."""
        if plane is Plane.CONTROL:
            self.control_sent_bytes += self._on_wire_bytes(frames_bytes)
        else:
            self.bulk_sent_bytes += self._on_wire_bytes(frames_bytes)

    def received(self, plane: Plane, *frames_bytes: int) -> None:
        """Count one message of frames of these sizes."""
        if plane is Plane.CONTROL:
            self.control_received_bytes += self._on_wire_bytes(frames_bytes)
        else:
            self.bulk_received_bytes += self._on_wire_bytes(frames_bytes)

    def shook_hands(self, plane: Plane) -> None:
        """Count one handshake, both ways."""
        handshake_bytes = CURVE_HANDSHAKE_BYTES if self.curve else HANDSHAKE_BYTES
        if plane is Plane.CONTROL:
            self.control_sent_bytes += handshake_bytes
            self.control_received_bytes += handshake_bytes
        else:
            self.bulk_sent_bytes += handshake_bytes
            self.bulk_received_bytes += handshake_bytes

    def _on_wire_bytes(self, frames_bytes: tuple[int, ...]) -> int:
        total_bytes = 0
        for size in frames_bytes:
            size += CURVE_FRAME_BYTES if self.curve else 0
            total_bytes += size + (2 if size < 256 else 9)
        return total_bytes


class Transport(Protocol):
    """Moves messages; see the module's contract.

    ``control_address`` and ``bulk_address`` are this peer's, as others can dial them; empty when
    nobody can, and others reach it over the links that it opens.
    """

    control_address: str
    bulk_address: str
    counters: Counters

    def dial(
        self,
        peer: PeerId | None,
        control_address: str,
        bulk_address: str,
        greeting: Message | None,
    ) -> None:
        """Open a link and keep it; once open, another call only sends ``greeting`` again.

        ``peer`` None is a contact: whoever answers there. Its id is known with its first valid
        message (LinkOpened), and from then on ``send`` reaches it by that link. A greeting waits
        for the link, the latest one replacing those before. Never raises: an address that cannot
        be dialed is reported as Junk and DialRefused or LinkClosed.
        """
        ...

    def hang_up(self, peer: PeerId) -> None:
        """Close all links to ``peer`` and forget the way back to it; unknown peers are ignored."""
        ...

    def send(self, to: PeerId, message: Message) -> bool:
        """Queue a control message. False when there is no way to ``to`` or its queue is full
        (counted as dropped), or the message is over the frame limit (counted as oversized)."""
        ...

    def send_chunk(self, to: PeerId, chunk: Chunk, payload: memoryview) -> bool:
        """Queue a chunk without copying ``payload``, whose bytes must not change as long as
        ``busy(chunk.transfer)``. False as for ``send``; then nothing is held. What is queued for
        one peer is bounded in bytes, so that little lies ahead of a later chunk. A chunk that is
        still being sent is not queued a second time: on a slow link it is only late."""
        ...

    def busy(self, transfer: Transfer) -> bool:
        """Whether bytes given to ``send_chunk`` for this transfer are still being sent."""
        ...

    def poll(self, timeout_s: float) -> list[Event]:
        """Wait for events up to ``timeout_s`` (inf: until one comes) and return them.

        Control comes before bulk, and one call takes a few MiB of bulk at most."""
        ...

    def wake(self) -> None:
        """Make a present or the next ``poll`` return at once; from any thread, also after
        ``close``."""
        ...

    def close(self) -> None:
        """Send what is queued on the control plane for a moment, then close everything."""
        ...

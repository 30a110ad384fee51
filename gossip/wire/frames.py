"""Messages and journal records as bytes, and strictly back; the only importer of msgpack.

Every frame starts with the same header (big-endian, 27 bytes):

    magic 4 | version 2 | run digest 8 | sender 8 | plane 1 | body length 4

On the control plane one frame is header and MessagePack body. On the bulk plane a message is two
frames: header and Chunk, then the payload itself, which is never copied into MessagePack.
All limits are checked before anything is allocated, and decoding allocates no more than
``DECODE_FACTOR`` times the frame's own length: lists are entered one by one as the expected type
asks for them, so a length that is only claimed costs nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, BinaryIO, TypeAlias, cast

import msgpack

from gossip.errors import FrameError
from gossip.messages import CHUNK_BYTES_MAX as CHUNK_BYTES_MAX
from gossip.messages import (
    PEER_ID_FORM,
    Adopt,
    Busy,
    Chunk,
    Done,
    Gone,
    MembershipMessage,
    Offer,
    PeerId,
    Reply,
    Snapshot,
    Want,
)
from gossip.wire.plain import BYTES_MAX, TEXT_CHARS_MAX, shape_of

MAGIC = b"GSP1"
VERSION = 3
"""Raised whenever a message changes; peers of different versions do not talk."""

CONTROL_FRAME_BYTES_MAX = 4 << 20
"""Largest control frame: about 50,000 records."""

CHUNK_HEADER_BYTES_MAX = 1024
"""Header and Chunk together stay far below this."""

RECORD_BYTES_MAX = 8 << 20
"""Largest journal record: one control message and what it rode in."""

PACKED_FIRST_BYTES = 1024
"""Room that is made for a message before its size is known: most are shorter."""

DECODE_FACTOR = 64
"""Objects decoded from a frame weigh at most this many times its bytes (a Segment of four bytes
on the wire is a named tuple of about 180)."""

HEADER = struct.Struct(">4sH8s8sBI")
_LENGTH = struct.Struct(">I")
_CONTROL, _BULK = 0, 1

ControlMessage: TypeAlias = (
    MembershipMessage | Offer | Reply | Done | Busy | Gone | Adopt | Snapshot | Want
)
"""Every message but Chunk, which has the bulk plane to itself."""


class _BodySource:
    """Reads a MessagePack body, one scalar or list header at a time."""

    def __init__(self, body: bytes | memoryview) -> None:
        self._end = len(body)
        self._unpacker = msgpack.Unpacker(
            raw=False,
            max_buffer_size=max(1, len(body)),
            read_size=max(1, len(body)),
            max_array_len=0,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=4 * TEXT_CHARS_MAX,
            max_bin_len=BYTES_MAX,
        )
        self._unpacker.feed(body)

    def scalar(self) -> object:
        """The next value; raises FrameError when there is none, or it is a list or too long."""
        try:
            value: object = self._unpacker.unpack()
        except (ValueError, msgpack.UnpackException) as wrong:
            raise FrameError(f"not a value: {type(wrong).__name__}") from wrong
        return value

    def items(self) -> int:
        """Enter the next list; raises FrameError when it is none or longer than what is left."""
        try:
            items = int(self._unpacker.read_array_header())
        except (ValueError, msgpack.UnpackException) as wrong:
            raise FrameError(f"not a list: {type(wrong).__name__}") from wrong
        if items > self._end - self._unpacker.tell():
            raise FrameError("a list longer than its frame", "length")
        return items

    def end(self) -> None:
        """Raises FrameError when bytes are left over."""
        if self._unpacker.tell() != self._end:
            raise FrameError("bytes after the end of the message", "length")


def run_digest(name: str) -> bytes:
    """The eight bytes by which frames of different runs are told apart."""
    return blake2b(name.encode(), digest_size=8).digest()


def encode_control(run: bytes, sender: PeerId, message: ControlMessage) -> bytes:
    """One control frame. Raises FrameError (length) when it would be over the limit."""
    frame = _frame(run, sender, _CONTROL, _body(ControlMessage, message))
    if len(frame) > CONTROL_FRAME_BYTES_MAX:
        raise FrameError(f"a control frame of {len(frame)} bytes", "length")
    return frame


def decode_control(run: bytes, raw: bytes | memoryview) -> tuple[PeerId, ControlMessage]:
    """Sender and message of a control frame; raises FrameError, and nothing else."""
    sender, body = _open(run, raw, _CONTROL, CONTROL_FRAME_BYTES_MAX)
    return sender, cast(ControlMessage, _value(ControlMessage, body))


def encode_chunk_header(run: bytes, sender: PeerId, chunk: Chunk) -> bytes:
    """First frame of a bulk message; the payload follows as a frame of its own."""
    return _frame(run, sender, _BULK, _body(Chunk, chunk))


def decode_chunk(
    run: bytes, header_frame: bytes | memoryview, payload_bytes: int
) -> tuple[PeerId, Chunk]:
    """Sender and Chunk of a bulk message whose payload frame has ``payload_bytes``.

    Raises FrameError, and nothing else; kind length when payload and Chunk disagree.
    """
    sender, body = _open(run, header_frame, _BULK, CHUNK_HEADER_BYTES_MAX)
    chunk = cast(Chunk, _value(Chunk, body))
    if payload_bytes != chunk.length_bytes or payload_bytes > CHUNK_BYTES_MAX:
        raise FrameError(f"{payload_bytes} bytes, announced {chunk.length_bytes}", "length")
    return sender, chunk


def pack(kind: Any, value: Any) -> bytes:
    """A journal record: length (4 bytes, big-endian) and MessagePack body.

    ``kind`` is the type hint both sides agree on, such as ``tuple[float, Input]``; unions in it
    are tagged with the class name. Raises FrameError when the record is over the limit.
    """
    body = _body(kind, value)
    if len(body) > RECORD_BYTES_MAX:
        raise FrameError(f"a record of {len(body)} bytes", "length")
    return _LENGTH.pack(len(body)) + body


def unpack_stream(kind: Any, file: BinaryIO) -> Iterator[Any]:
    """Records of ``file`` from where it stands, each of type ``kind``.

    A record cut off at the end of the file ends the stream quietly: that is how a killed writer
    leaves it. Raises FrameError for a record that is none.
    """
    while True:
        head = file.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return
        (length_bytes,) = _LENGTH.unpack(head)
        if length_bytes > RECORD_BYTES_MAX:
            raise FrameError(f"a record of {length_bytes} bytes", "length")
        body = file.read(length_bytes)
        if len(body) < length_bytes:
            return
        yield _value(kind, body)


def _frame(run: bytes, sender: PeerId, plane: int, body: bytes) -> bytes:
    assert PEER_ID_FORM.fullmatch(sender), f"{sender!r} is no peer id"
    return HEADER.pack(MAGIC, VERSION, run, bytes.fromhex(sender), plane, len(body)) + body


def _open(
    run: bytes, raw: bytes | memoryview, plane: int, limit_bytes: int
) -> tuple[PeerId, memoryview]:
    """Sender and body of a frame whose header is ours; raises FrameError."""
    if not HEADER.size <= len(raw) <= limit_bytes:
        raise FrameError(f"a frame of {len(raw)} bytes", "length")
    magic, version, their_run, sender, their_plane, body_bytes = HEADER.unpack_from(raw)
    if magic != MAGIC:
        raise FrameError("not a frame of this protocol", "magic")
    if version != VERSION:
        raise FrameError(f"protocol version {version}, ours is {VERSION}", "version")
    if their_run != run:
        raise FrameError("a frame of another run", "run")
    if their_plane != plane:
        raise FrameError(f"a frame of plane {their_plane} on plane {plane}")
    if body_bytes != len(raw) - HEADER.size:
        raise FrameError(f"announced {body_bytes} bytes of body", "length")
    return PeerId(sender.hex()), memoryview(raw)[HEADER.size :]


def _body(kind: Any, value: Any) -> bytes:
    try:
        plain = shape_of(kind).write(value)
        body = msgpack.packb(plain, use_bin_type=True, buf_size=PACKED_FIRST_BYTES)
    except UnicodeEncodeError as wrong:  # text with lone surrogates: no peer could read it
        raise FrameError("text that is not Unicode") from wrong
    return cast(bytes, body)


def _value(kind: Any, body: bytes | memoryview) -> Any:
    source = _BodySource(body)
    value = shape_of(kind).read(source)
    source.end()
    return value

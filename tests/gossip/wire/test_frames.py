"""Messages and journal records as bytes."""

from __future__ import annotations

import io
import struct
import tracemalloc
import typing

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.errors import FrameError
from gossip.machine import Input, Submitted, Woke
from gossip.messages import (
    Chunk,
    ExchangeId,
    Gone,
    Gossip,
    Leg,
    Message,
    PeerId,
    Record,
    RefusalReason,
    Refused,
    Rumors,
    Segment,
    Status,
    Transfer,
)
from gossip.wire import frames
from tests.lab import strategies

ME = PeerId("00000000000000a1")
RUN = frames.run_digest("digits")
GONE = Gone(ExchangeId(ME, 1, 2))
CHUNK = Chunk(Transfer(ExchangeId(ME, 1, 2), Leg.CODE), 0, 1000, b"digest")
ENTRY = tuple[float, Input]


def frame(body: bytes) -> bytes:
    """A control frame with a true header around any body."""
    header = (frames.MAGIC, frames.VERSION, RUN, bytes.fromhex(ME), 0, len(body))
    return frames.HEADER.pack(*header) + body


def fault_of(raw: bytes) -> str:
    """The kind of fault a control frame is refused for."""
    with pytest.raises(FrameError) as caught:
        frames.decode_control(RUN, raw)
    return caught.value.kind


def test_control_carries_every_message_but_chunk() -> None:
    """A new message cannot be forgotten here."""
    control = set(typing.get_args(frames.ControlMessage))

    assert set(typing.get_args(Message)) == control | {Chunk}


@given(strategies.peer_ids(), strategies.messages())
def test_every_message_survives_its_frame(sender: PeerId, message: Message) -> None:
    """M9: decode(encode(m)) is m, on the plane where m belongs."""
    if isinstance(message, Chunk):
        size = abs(message.length_bytes) % (frames.CHUNK_BYTES_MAX + 1)
        chunk = Chunk(message.transfer, message.offset_bytes, size, message.digest)
        header = frames.encode_chunk_header(RUN, sender, chunk)
        assert (sender, chunk) == frames.decode_chunk(RUN, memoryview(header), size)
    else:
        raw = frames.encode_control(RUN, sender, message)
        assert (sender, message) == frames.decode_control(RUN, memoryview(raw))


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_decoded_or_refused_with_one_error(noise: bytes, headed: bool) -> None:
    """M9: with and without a true header in front."""
    raw = frame(noise) if headed else noise
    for decode in (
        lambda: frames.decode_control(RUN, raw),
        lambda: frames.decode_chunk(RUN, raw, 10),
        lambda: list(frames.unpack_stream(ENTRY, io.BytesIO(raw))),
    ):
        try:
            decode()
        except FrameError as wrong:
            assert wrong.kind in ("magic", "version", "run", "length", "shape")


@given(strategies.messages(), st.data())
def test_a_frame_with_damaged_bytes_is_decoded_or_refused(
    message: Message, draw: st.DataObject
) -> None:
    """M9: near misses raise nothing but FrameError either."""
    if isinstance(message, Chunk):
        return
    raw = bytearray(frames.encode_control(RUN, ME, message))
    for _ in range(draw.draw(st.integers(1, 4))):
        raw[draw.draw(st.integers(0, len(raw) - 1))] = draw.draw(st.integers(0, 255))
    try:
        frames.decode_control(RUN, bytes(raw))
    except FrameError as wrong:
        assert wrong.kind


@given(strategies.messages(), st.data())
def test_a_message_cut_short_is_refused(message: Message, draw: st.DataObject) -> None:
    """M9: wherever it ends, under a header that says so."""
    if isinstance(message, Chunk):
        return
    body = frames.encode_control(RUN, ME, message)[frames.HEADER.size :]
    assert fault_of(frame(body[: draw.draw(st.integers(0, len(body) - 1))])) in ("shape", "length")


def test_faults_are_told_apart() -> None:
    """Each check has a kind of its own, so that they are counted apart."""
    good = frames.encode_control(RUN, ME, GONE)

    assert fault_of(b"HTTP" + good[4:]) == "magic"
    assert fault_of(good[:4] + b"\xff\xff" + good[6:]) == "version"
    assert fault_of(frames.encode_control(frames.run_digest("other"), ME, GONE)) == "run"
    assert fault_of(good[:-1]) == "length"
    assert fault_of(good + b"\0") == "length"
    assert fault_of(good[:10]) == "length"
    assert fault_of(b"") == "length"
    assert fault_of(frame(msgpack.packb(["Gone"]))) == "shape"
    assert fault_of(frame(msgpack.packb(["Gone", [ME, 1, 2]]) + b"\0")) == "length"
    assert fault_of(frame(b"\x92\xa6Gossip\x93\xdc\x01\x00" + bytes(50))) == "length"
    assert fault_of(frames.encode_chunk_header(RUN, ME, CHUNK)) == "shape"


def test_a_chunk_must_be_as_long_as_its_payload_and_no_longer_than_the_limit() -> None:
    """The payload frame's real size decides."""
    header = frames.encode_chunk_header(RUN, ME, CHUNK)
    huge = Chunk(CHUNK.transfer, 0, frames.CHUNK_BYTES_MAX + 1)

    assert (ME, CHUNK) == frames.decode_chunk(RUN, header, 1000)
    with pytest.raises(FrameError, match="announced 1000"):
        frames.decode_chunk(RUN, header, 999)
    with pytest.raises(FrameError) as caught:
        frames.decode_chunk(
            RUN, frames.encode_chunk_header(RUN, ME, huge), frames.CHUNK_BYTES_MAX + 1
        )
    assert caught.value.kind == "length"


def test_a_message_over_the_frame_limit_is_not_encoded() -> None:
    """What no peer would accept is not sent."""
    address = "x" * 4000
    record = Record(ME, 1, 0, Status.ALIVE, address, address)

    with pytest.raises(FrameError) as caught:
        frames.encode_control(RUN, ME, Gossip(Rumors((record,) * 1000)))
    assert caught.value.kind == "length"


NESTED = b"\xdd\x00\x03\x0d\x40"  # a list said to hold 200,000 items, opened again inside itself
BOMBS = {
    "nested lists": NESTED * 800,
    "nested lists as a name": b"\x92" + NESTED * 800,
    "lists as fields": b"\x92\xa6Gossip" + NESTED * 800,
    "endless list": b"\x92\xa6Gossip\x93\xdd\xff\xff\xff\xff",
    "endless text": b"\x92\xdb\xff\xff\xff\xff",
    "endless bytes": b"\x92\xc6\xff\xff\xff\xff",
    "endless map": b"\xdf\xff\xff\xff\xff",
    "endless extension": b"\x92\xc9\xff\xff\xff\xff\x01",
    "many empty lists": b"\x92\xa6Gossip\x93\xdd\x00\x03\x0d\x40" + b"\x90" * 200_000 + b"\x90",
    "longest true message": frames.encode_control(
        RUN, ME, Refused(RefusalReason.LAYOUT, "", (Segment("", (), ""),) * 40_000)
    )[frames.HEADER.size :],
}


@pytest.mark.parametrize("name", BOMBS)
def test_decoding_never_allocates_more_than_a_multiple_of_the_frame(name: str) -> None:
    """M9: lengths that are claimed but not delivered cost nothing."""
    raw = frame(BOMBS[name])
    tracemalloc.start()
    try:
        frames.decode_control(RUN, raw)
    except FrameError as wrong:
        assert wrong.kind in ("shape", "length")
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert peak_bytes <= frames.DECODE_FACTOR * len(raw) + (64 << 10)


@given(st.lists(st.tuples(st.floats(allow_nan=False), strategies.inputs()), max_size=5))
def test_a_journal_is_read_as_it_was_written(entries: list[tuple[float, Input]]) -> None:
    """Records of any input, one after the other."""
    file = io.BytesIO(b"".join(frames.pack(ENTRY, entry) for entry in entries))

    assert entries == list(frames.unpack_stream(ENTRY, file))


def test_a_record_cut_off_at_the_end_ends_the_journal() -> None:
    """A killed peer's journal is read up to its last whole record."""
    first, last = frames.pack(ENTRY, (0, Woke())), frames.pack(ENTRY, (1.5, Submitted(9, True)))
    for kept in range(len(last)):
        file = io.BytesIO(first + last[:kept])
        assert [(0.0, Woke())] == list(frames.unpack_stream(ENTRY, file))


def test_a_record_that_is_none_is_refused() -> None:
    """A damaged journal is not replayed as if it were whole."""
    for raw in (struct.pack(">I", 3) + b"abc", struct.pack(">I", frames.RECORD_BYTES_MAX + 1)):
        with pytest.raises(FrameError):
            list(frames.unpack_stream(ENTRY, io.BytesIO(raw)))

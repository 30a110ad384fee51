"""The sending end: first come, first served, within the budget, each chunk once."""

from __future__ import annotations

import math

from gossip.exchange.uploads import QUEUED_CHUNKS_MAX, Uploads
from gossip.messages import CHUNK_BYTES_MAX, Blob, Leg, Transfer, Want
from tests.lab.expect import sent
from tests.lab.pair import HIGH, LOW, STRANGER, Bench, chunks

MEBIBYTE = CHUNK_BYTES_MAX
CODE_LEG = Transfer(Bench().mine, Leg.CODE)
OTHER_LEG = Transfer(Bench().theirs, Leg.CORRECTION)
BLOB = Blob(b"b" * 16, 4 * MEBIBYTE - 7, MEBIBYTE)


def all_of(transfer: Transfer, blob: Blob) -> Want:
    """A Want for everything."""
    return Want(transfer, 0, blob.size_bytes)


def test_without_a_limit_everything_asked_for_goes_at_once() -> None:
    """Chunks in order, the last one shorter."""
    uploads = Uploads(math.inf, 0.0)
    assert uploads.serve(HIGH, all_of(CODE_LEG, BLOB), BLOB)

    assert chunks(CODE_LEG, BLOB) == sent(uploads.pump(0.0), HIGH)
    assert math.inf == uploads.deadline()


def test_the_budget_spreads_chunks_over_time() -> None:
    """One burst, then one chunk whenever the deadline comes: four chunks in about three seconds."""
    uploads, now, times = Uploads(float(MEBIBYTE), 10.0), 10.0, []
    uploads.serve(HIGH, all_of(CODE_LEG, BLOB), BLOB)
    while True:
        times += [now] * len(uploads.pump(now))
        if math.isinf(uploads.deadline()):
            break
        assert uploads.deadline() > now
        now = uploads.deadline()

    assert [0, 1, 2, 3] == [round(at - 10.0, 3) for at in times]


def test_those_who_ask_are_served_in_turn_of_asking() -> None:
    """Whose Want came first gets its chunks first."""
    uploads = Uploads(math.inf, 0.0)
    uploads.serve(HIGH, Want(CODE_LEG, MEBIBYTE, MEBIBYTE), BLOB)
    uploads.serve(STRANGER, Want(OTHER_LEG, 0, MEBIBYTE), BLOB)
    uploads.serve(HIGH, Want(CODE_LEG, 0, MEBIBYTE), BLOB)

    effects = uploads.pump(0.0)
    assert [1 * MEBIBYTE, 0] == [chunk.offset_bytes for chunk in sent(effects, HIGH)]
    assert [OTHER_LEG] == [chunk.transfer for chunk in sent(effects, STRANGER)]
    assert [HIGH, STRANGER, HIGH] == [effect.to for effect in effects]


def test_a_chunk_waits_at_most_once_for_each_asker() -> None:
    """An impatient receiver does not make the queue longer; after it went it may be asked again."""
    uploads = Uploads(1.0, 0.0)
    small = Blob(b"b" * 16, 1000, 256)
    uploads.pump(0.0)
    for _ in range(3):
        uploads.serve(HIGH, all_of(CODE_LEG, small), small)
        uploads.serve(LOW, all_of(CODE_LEG, small), small)
    assert 8 == len(uploads.pump(0.0))
    uploads.serve(HIGH, all_of(CODE_LEG, small), small)
    assert 4 == len(uploads.pump(0.0))


def test_a_want_outside_the_blob_is_not_served() -> None:
    """Not beyond its end, not before its start, not from the middle of a chunk, not nothing."""
    uploads = Uploads(math.inf, 0.0)
    size = BLOB.size_bytes
    for start, length in [(0, size + 1), (-MEBIBYTE, MEBIBYTE), (1, 5), (0, 0), (0, -1), (size, 1)]:
        assert not uploads.serve(HIGH, Want(CODE_LEG, start, length), BLOB)
    assert [] == uploads.pump(0.0)


def test_what_was_released_is_not_sent() -> None:
    """Its bytes are gone; others in the queue go on."""
    uploads = Uploads(1.0, 0.0)
    uploads.serve(HIGH, all_of(CODE_LEG, BLOB), BLOB)
    uploads.serve(HIGH, Want(OTHER_LEG, 0, MEBIBYTE), BLOB)

    uploads.forget(CODE_LEG)
    assert [OTHER_LEG] == [chunk.transfer for chunk in sent(uploads.pump(0.0))]
    uploads.forget(CODE_LEG)
    assert math.inf == uploads.deadline()


def test_the_queue_is_bounded() -> None:
    """A Want beyond it is forgotten, not refused: it is no fault to ask."""
    uploads = Uploads(1.0, 0.0)
    huge = Blob(b"b" * 16, 2 * QUEUED_CHUNKS_MAX * 256, 256)

    assert uploads.serve(HIGH, all_of(CODE_LEG, huge), huge)
    assert QUEUED_CHUNKS_MAX == len(uploads._queue) == len(uploads._queued)

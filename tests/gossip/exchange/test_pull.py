"""The receiving end of a blob: every byte once, never more than the window asked for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.exchange.pull import CHUNK_BYTES_MIN, WINDOW_S, Pull, is_sane
from gossip.messages import CHUNK_BYTES_MAX, Blob, Chunk, Leg, Transfer, Want
from tests.lab.pair import CODE, LINEAGE, Bench, chunks

TRANSFER = Transfer(Bench().mine, Leg.CODE)
SIZES = st.integers(1, 6000)
WINDOWS = st.integers(1, 4000)


def blob(size_bytes: int, chunk_bytes: int = 256) -> Blob:
    """A blob of this size."""
    return Blob(b"b" * 16, size_bytes, chunk_bytes)


def asked_chunks(wants: list[Want], of: Blob) -> list[Chunk]:
    """The chunks that wants ask for; each want must be made of whole chunks of the blob."""
    by_start = {chunk.offset_bytes: chunk for chunk in chunks(TRANSFER, of)}
    found = []
    for want in wants:
        stop = want.offset_bytes + want.length_bytes
        inside = [start for start in by_start if want.offset_bytes <= start < stop]
        assert want.length_bytes == sum(by_start[start].length_bytes for start in inside) > 0
        found += [by_start[start] for start in inside]
    return found


def spans(wants: list[Want]) -> list[tuple[int, int]]:
    """Offset and length of each."""
    return [(want.offset_bytes, want.length_bytes) for want in wants]


@given(size=SIZES, window=WINDOWS)
def test_without_loss_each_chunk_is_asked_for_once(size: int, window: int) -> None:
    """In order, never more outstanding than the window, and then it is complete."""
    whole = blob(size)
    pull = Pull(TRANSFER, whole, window)
    outstanding = asked_chunks(pull.ask(), whole)
    seen = []
    while outstanding:
        assert len(outstanding) <= max(1, window // 256)
        chunk = outstanding.pop(0)
        seen.append(chunk)
        assert pull.take(chunk) is True
        outstanding += asked_chunks(pull.ask(), whole)

    assert chunks(TRANSFER, whole) == seen
    assert pull.is_complete
    assert size == pull.arrived_bytes
    assert [] == pull.ask() == pull.ask_again()


@given(size=SIZES, window=WINDOWS, seed=st.integers(0, 1 << 32))
def test_with_loss_repetition_and_reordering_it_completes_all_the_same(
    size: int, window: int, seed: int
) -> None:
    """Asking again after silence is enough; each chunk counts once."""
    whole = blob(size)
    pull = Pull(TRANSFER, whole, window)
    rng = random.Random(seed)
    flying, rounds = asked_chunks(pull.ask(), whole), 0
    while not pull.is_complete:
        if not flying:
            rounds += 1
            assert rounds < 2000
            again = asked_chunks(pull.ask_again(), whole)
            assert 0 < len(again) <= max(1, window // 256)
            flying += again
        chunk = flying.pop(rng.randrange(len(flying)))
        fate = rng.random()
        if fate < 0.3:
            continue
        if fate < 0.5:
            flying.append(chunk)
        if pull.take(chunk):
            flying += asked_chunks(pull.ask(), whole)

    assert size == pull.arrived_bytes


def test_only_what_is_missing_is_asked_for_again() -> None:
    """The first of it at first; once that has come the rest, as runs of chunks."""
    pull = Pull(TRANSFER, blob(2560), 2560)
    pull.ask()
    for index in (0, 3, 4, 9):
        pull.take(Chunk(TRANSFER, index * 256, 256))

    assert [(256, 256)] == spans(pull.ask_again())
    pull.take(Chunk(TRANSFER, 5 * 256, 256))  # only slow: no sign that anything was lost
    assert [(256, 256)] == spans(pull.ask_again())
    pull.take(Chunk(TRANSFER, 256, 256))
    assert [(512, 256), (1536, 768)] == spans(pull.ask_again())
    assert [(512, 256)] == spans(pull.ask_again())


def test_a_chunk_counts_once_and_only_if_it_is_one() -> None:
    """True, then False; None for what is no chunk of this blob."""
    pull = Pull(TRANSFER, blob(600), 600)

    assert pull.take(Chunk(TRANSFER, 512, 88)) is True
    assert pull.take(Chunk(TRANSFER, 512, 88)) is False
    for offset, length in [(512, 256), (0, 88), (1, 256), (768, 0), (-256, 256), (1 << 70, 256)]:
        assert pull.take(Chunk(TRANSFER, offset, length)) is None
    assert 88 == pull.arrived_bytes


def test_a_chunk_nobody_asked_for_is_taken_and_the_rest_still_comes() -> None:
    """A holder that is ahead of us does no harm."""
    whole = blob(2560)
    pull = Pull(TRANSFER, whole, 256)
    asked_chunks(pull.ask(), whole)
    for chunk in chunks(TRANSFER, whole)[5:]:
        pull.take(chunk)
    for _ in range(40):
        for chunk in asked_chunks(pull.ask_again(), whole):
            pull.take(chunk)

    assert pull.is_complete


def widths(chunk_s: float, window_max_bytes: int, count: int) -> list[int]:
    """Chunks outstanding after each arrival, one every ``chunk_s``; the window starts at four."""
    whole = blob(256 * 1000)
    pull = Pull(TRANSFER, whole, 4 * 256)
    flying = asked_chunks(pull.ask(), whole)
    found = []
    for index in range(count):
        pull.take(flying.pop(0))
        pull.widen(index * chunk_s, window_max_bytes)
        flying += asked_chunks(pull.ask(), whole)
        found.append(len(flying))
    return found


def test_the_window_widens_only_on_a_fast_link() -> None:
    """Up to its limit where a window takes a moment, not at all where it takes longer."""
    assert max(widths(WINDOW_S / 1000, 64 * 256, 300)) in (63, 64)
    assert 4 >= max(widths(WINDOW_S / 3, 64 * 256, 300))
    assert 4 >= max(widths(WINDOW_S / 1000, 0, 300))
    # What is asked for in advance is never much more than arrives in two of those moments.
    assert max(widths(WINDOW_S / 10, 64 * 256, 300)) <= 20


def test_silence_narrows_the_window_down_to_where_it_began() -> None:
    """By half each time; then no more is asked again than was asked at first."""
    whole = blob(256 * 1000)
    pull = Pull(TRANSFER, whole, 4 * 256)
    flying = asked_chunks(pull.ask(), whole)
    for _ in range(40):
        pull.take(flying.pop(0))
        pull.widen(0.0, 16 * 256)
        flying += asked_chunks(pull.ask(), whole)

    asked = []
    for _ in range(4):
        first, *_ = asked_chunks(pull.ask_again(), whole)
        pull.take(first)
        asked.append(len(asked_chunks(pull.ask_again(), whole)))
        pull.take(Chunk(TRANSFER, first.offset_bytes + 256, 256))

    assert [4, 4, 4, 4] == asked


@pytest.mark.parametrize(
    "whole, sane",
    [
        (CODE, True),
        (blob(1), True),
        (blob(1000), True),
        (blob(1001), False),
        (blob(0), False),
        (blob(-1), False),
        (blob(700, CHUNK_BYTES_MIN - 1), False),
        (blob(700, CHUNK_BYTES_MAX), True),
        (blob(700, CHUNK_BYTES_MAX + 1), False),
        (CODE._replace(digest=LINEAGE), False),
    ],
)
def test_a_blob_is_sane_within_its_limits(whole: Blob, sane: bool) -> None:
    """Sixteen bytes of digest, at most so many bytes, in chunks of 256 B to 1 MiB."""
    assert sane == is_sane(whole, 1000)

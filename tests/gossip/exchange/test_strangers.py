"""Any well-typed message from anybody: nothing raises, nothing is reserved beyond the cap."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.exchange.adoption import Adoption, Donations
from gossip.exchange.patience import STALL_STRETCH_MAX
from gossip.exchange.swaps import SwapMessage
from gossip.exchange.table import State
from gossip.exchange.uploads import QUEUED_CHUNKS_MAX, Uploads
from gossip.machine import Reserve, Role
from gossip.messages import (
    Adopt,
    Blob,
    Chunk,
    ExchangeId,
    Leg,
    Offer,
    Reply,
    Snapshot,
    Transfer,
    Want,
)
from tests.gossip.exchange.test_table import STATES
from tests.lab import strategies
from tests.lab.expect import every
from tests.lab.pair import BOOT, EIGHT_BITS, HIGH, LINEAGE, LOW, STRANGER, Bench

CONFIG = replace(EIGHT_BITS, fragments=2, blob_bytes_max=1 << 20)
PEERS = st.sampled_from([LOW, HIGH, STRANGER])
EXCHANGES = st.builds(ExchangeId, PEERS, st.integers(BOOT - 1, BOOT + 1), st.integers(0, 3))
TRANSFERS = st.builds(Transfer, EXCHANGES, st.sampled_from(Leg))
SIZES = st.sampled_from([-1, 0, 1, 255, 256, 600, 700, 1 << 20, (1 << 20) + 1, 1 << 62])
BLOBS = st.builds(Blob, st.sampled_from([b"", b"c" * 16]), SIZES, SIZES)
FRAGMENTS = st.integers(-1, 2)
CODECS = st.sampled_from(["int8", "fp32", ""])
NUMBERS = st.sampled_from([0.0, 0.5, 0.51, -1.0, float("nan"), float("inf")])
PLAUSIBLE = st.one_of(
    st.builds(
        Offer,
        EXCHANGES,
        st.just(LINEAGE),
        FRAGMENTS,
        BLOBS,
        CODECS,
        CODECS,
        NUMBERS,
    ),
    st.builds(Reply, EXCHANGES, FRAGMENTS, BLOBS, CODECS, NUMBERS),
    st.builds(Want, TRANSFERS, SIZES, SIZES),
    st.builds(Chunk, TRANSFERS, SIZES, SIZES),
)
MESSAGES: st.SearchStrategy[SwapMessage] = st.one_of(PLAUSIBLE, strategies.of(SwapMessage))
STARTS = [(role, state) for role, states in STATES.items() for state in states]


@pytest.mark.parametrize("role, state", STARTS)
@given(said=st.lists(st.tuples(PEERS, MESSAGES), max_size=12))
def test_no_message_raises_or_costs_more_than_the_cap(
    role: Role, state: State, said: list[tuple[str, SwapMessage]]
) -> None:
    """Partner or stranger, honest or not, in any state."""
    initiates = role is Role.INITIATOR
    bench = Bench.initiator(state, CONFIG) if initiates else Bench.responder(state, CONFIG)
    effects = []
    for sender, message in said:
        if sender != bench.me:
            effects += bench.hear(message, sender)

    assert all(each.blob.size_bytes <= CONFIG.blob_bytes_max for each in every(Reserve, effects))
    assert bench.swaps.unsettled_count <= CONFIG.fragments + CONFIG.parked_max


@given(said=st.lists(st.tuples(PEERS, MESSAGES), max_size=12), wait_s=st.floats(0, 100))
def test_after_any_conversation_the_fragments_come_free(
    said: list[tuple[str, SwapMessage]], wait_s: float
) -> None:
    """Nothing strangers say holds a fragment for ever, once they stop: a pull of which nothing has
    come is given a little more than the usual wait, for what it asked for may be on a slow link,
    and no pull more than the longest (decision 0011)."""
    bench = Bench(config=CONFIG)
    for sender, message in said:
        if sender != bench.me:
            bench.hear(message, sender)
    bench.wait(wait_s)
    bench.wait(STALL_STRETCH_MAX * CONFIG.withdraw_after_s)

    states = {swap.state for swap in bench.swaps._book.open.values()}
    assert states <= {State.CORRECTING}  # that one waits for our own driver


ADOPTION_MESSAGES = st.one_of(
    st.builds(Snapshot, EXCHANGES, st.sampled_from([LINEAGE, b""]), BLOBS, CODECS),
    st.builds(Chunk, st.builds(Transfer, EXCHANGES, st.just(Leg.SNAPSHOT)), SIZES, SIZES),
    strategies.of(Snapshot),
)


@given(said=st.lists(st.tuples(PEERS, ADOPTION_MESSAGES), max_size=12))
def test_no_snapshot_raises_or_costs_more_than_the_cap(
    said: list[tuple[str, Snapshot | Chunk]],
) -> None:
    """The newcomer's side."""
    adoption = Adoption(CONFIG)
    effects = adoption.start(HIGH, ExchangeId(LOW, BOOT, 1), LINEAGE, 0.0)
    for sender, message in said:
        if isinstance(message, Snapshot):
            effects += adoption.hear_snapshot(sender, message, 1.0)
        else:
            effects += adoption.hear_chunk(sender, message, 1.0)

    assert all(each.blob.size_bytes <= CONFIG.blob_bytes_max for each in every(Reserve, effects))


@given(said=st.lists(st.tuples(PEERS, st.builds(Adopt, EXCHANGES, st.just(LINEAGE))), max_size=20))
def test_no_crowd_of_newcomers_gets_more_donations_than_the_limit(
    said: list[tuple[str, Adopt]],
) -> None:
    """The member's side."""
    donations = Donations(CONFIG, Uploads(1e6, 0.0))
    for sender, message in said:
        donations.hear_adopt(sender, message, LINEAGE, 0.0)

    assert len(donations._donations) <= CONFIG.donations_max


def test_a_flood_of_wants_is_bounded() -> None:
    """What is beyond the queue is forgotten; its owner asks again."""
    rng = random.Random(0)
    uploads = Uploads(1.0, 0.0)
    blob = Blob(b"c" * 16, 1 << 30, 1 << 16)
    for _ in range(50):
        exchange = ExchangeId(HIGH, BOOT, rng.randrange(1, 9))
        uploads.serve(HIGH, Want(Transfer(exchange, Leg.CODE), 0, 1 << 30), blob)

    assert len(uploads._queue) <= QUEUED_CHUNKS_MAX

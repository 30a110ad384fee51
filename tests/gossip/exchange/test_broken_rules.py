"""What a neighbor that breaks the rules of a swap achieves: a fault is counted, nothing else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gossip.exchange.table import State
from gossip.machine import (
    Apply,
    Fault,
    Reserve,
    Role,
)
from gossip.messages import (
    Blob,
    Busy,
    BusyReason,
    Chunk,
    Done,
    ExchangeId,
    Gone,
    Leg,
    Offer,
    Outcome,
    Reply,
    Transfer,
    Want,
)
from tests.lab.expect import every, only, sent, told
from tests.lab.pair import (
    BOOT,
    HIGH,
    LOW,
    STRANGER,
    Bench,
    done_of,
    offer_of,
    reply_of,
)

BAD_BLOBS = [
    Blob(b"short", 700, 256),
    Blob(b"c" * 16, 0, 256),
    Blob(b"c" * 16, -1, 256),
    Blob(b"c" * 16, (1 << 34) + 1, 1 << 20),
    Blob(b"c" * 16, 700, 0),
    Blob(b"c" * 16, 700, 255),
    Blob(b"c" * 16, 700, (1 << 20) + 1),
]
OFFER = offer_of(ExchangeId(HIGH, BOOT, 1))
BAD_OFFERS = [
    *(replace(OFFER, code=blob) for blob in BAD_BLOBS),
    replace(OFFER, fragment=1),
    replace(OFFER, fragment=-1),
    replace(OFFER, clip_bound=math.nan),
    replace(OFFER, clip_bound=-1.0),
    replace(OFFER, exchange=ExchangeId(STRANGER, BOOT, 1)),
    replace(OFFER, exchange=ExchangeId(HIGH, BOOT, 0)),
]
REPLY = reply_of(ExchangeId(LOW, BOOT, 1))
BAD_REPLIES = [
    *(replace(REPLY, correction=blob) for blob in BAD_BLOBS),
    replace(REPLY, fragment=1),
    *(replace(REPLY, weight=weight) for weight in (0.0, -0.5, 0.51, math.nan, math.inf)),
    *(replace(REPLY, clip=clip) for clip in (-0.1, 1.01, math.nan, math.inf)),
    replace(REPLY, codec="bf16"),
]


@pytest.mark.parametrize("offer", BAD_OFFERS, ids=str)
def test_an_offer_out_of_range_is_a_fault(offer: Offer) -> None:
    """It is counted, answered by Gone, and costs nothing."""
    b = Bench()

    effects = b.hear(offer)

    assert "offer" == only(Fault, told(effects)).kind
    assert [Gone(offer.exchange)] == sent(effects)
    assert [] == every(Reserve, effects)
    assert 0 == b.swaps.unsettled_count


@pytest.mark.parametrize("reply", BAD_REPLIES, ids=str)
def test_a_reply_out_of_range_is_refused(reply: Reply) -> None:
    """B hears Done(refused) and takes its move back."""
    a = Bench.initiator(State.OFFERED)

    effects = a.hear(reply)

    assert "reply" == only(Fault, told(effects)).kind
    assert [Done(a.mine, Outcome.REFUSED)] == sent(effects)
    assert [] == every(Reserve, effects)


@pytest.mark.parametrize("offset, length", [(0, 255), (1, 256), (768, 10), (-256, 256), (512, 256)])
def test_a_chunk_that_is_none_of_the_blob_is_a_fault(offset: int, length: int) -> None:
    """The pull goes on as if nothing had come."""
    b = Bench.responder(State.PULLING)

    effects = b.hear(Chunk(Transfer(b.theirs, Leg.CODE), offset, length))

    assert "chunk" == only(Fault, told(effects)).kind
    assert State.PULLING is b.state(b.theirs)


@pytest.mark.parametrize("offset, length", [(0, 701), (-256, 256), (1, 256), (0, 0), (768, 1)])
def test_a_want_outside_the_blob_is_a_fault(offset: int, length: int) -> None:
    """Nothing is sent."""
    a = Bench.initiator(State.OFFERED)

    effects = a.hear(Want(Transfer(a.mine, Leg.CODE), offset, length))

    assert "want" == only(Fault, told(effects)).kind
    assert [] == sent(effects)


def test_a_stranger_cannot_touch_a_swap() -> None:
    """Every message about it, from anybody else, is without effect on its state."""
    for role, state in [(Role.INITIATOR, State.OFFERED), (Role.RESPONDER, State.REPLIED)]:
        mine = role is Role.INITIATOR
        bench = Bench.initiator(state) if mine else Bench.responder(state)
        exchange = bench.mine if mine else bench.theirs
        for message in (
            reply_of(exchange),
            offer_of(exchange),
            done_of(exchange),
            done_of(exchange, Outcome.REFUSED),
            Busy(exchange, BusyReason.LIMIT),
            Gone(exchange),
            Want(Transfer(exchange, Leg.CODE), 0, 256),
            Want(Transfer(exchange, Leg.CORRECTION), 0, 256),
            Chunk(Transfer(exchange, Leg.CODE), 0, 256),
        ):
            effects = bench.hear(message, STRANGER)
            assert [] == every(Apply, effects) == every(Reserve, effects)
            assert set(every(Gone, sent(effects))) <= {Gone(exchange)}
            assert [] == every(Chunk, sent(effects))
            assert state is bench.state(exchange)

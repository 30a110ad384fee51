"""How long one side of a swap waits for the other, and what it says when it gives up."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gossip.exchange.table import State
from gossip.machine import (
    AnchorNotFinite,
    Apply,
    Fault,
    OneSided,
    Send,
    SwapClosed,
)
from gossip.messages import (
    Blob,
    Chunk,
    Done,
    ExchangeId,
    Gone,
    Leg,
    Outcome,
    Transfer,
    Want,
)
from tests.lab.expect import every, only, sent, told
from tests.lab.pair import (
    BOOT,
    CODE,
    CORRECTION,
    EIGHT_BITS,
    HIGH,
    Bench,
    done_of,
    offer_of,
    reply_of,
)


@pytest.mark.parametrize("leaves", [True, False])
def test_an_offer_taken_back_is_said_aloud(leaves: bool) -> None:
    """B may have moved already: it hears a refusal, and drops or refunds its side."""
    a, b = Bench.initiator(State.OFFERED), Bench.responder(State.REPLIED)

    effects = a.swaps.cancel(a.now, keep_moved=True) if leaves else a.wait(10.0)

    assert [Done(a.mine, Outcome.REFUSED)] == every(Done, sent(effects, HIGH))
    refund = only(Apply, b.hear(done_of(b.theirs, Outcome.REFUSED)))
    assert refund.undo
    assert refund.signed_weight == 0.5


def test_a_code_of_mine_that_cannot_be_made_is_nobody_elses_fault() -> None:
    """Told as what it is; a code of the partner that is broken remains its fault."""
    mine, theirs = Bench.initiator(State.ENCODING), Bench.responder(State.PULLING)

    effects = mine.computed(mine.mine, Leg.CODE, None)

    assert [AnchorNotFinite(0)] == every(AnchorNotFinite, told(effects))
    assert [] == every(Fault, told(effects))
    assert "code" == only(Fault, told(theirs.computed(theirs.theirs, Leg.CODE, None))).kind


def test_wants_alone_hold_an_offer_for_a_bounded_time() -> None:
    """Served three times over (or a few chunks more), it is withdrawn like any other: after eight
    of the gaps between them."""
    a = Bench.initiator(State.OFFERED)
    wants = 0
    while a.state(a.mine) is State.OFFERED:
        a.hear(Want(Transfer(a.mine, Leg.CODE), 0, 256))
        a.wait(5.0)
        wants += 1
        assert wants <= 12 + 8

    assert 12 < wants


def test_who_pulls_on_is_waited_for_again() -> None:
    """A comes back before B's own hook ran: B does not park, and serves A to the end."""
    b = Bench.responder(State.REPLIED)
    b.swaps.link_lost(b.partner, b.now)
    b.hear(Want(Transfer(b.theirs, Leg.CORRECTION), 0, 600))

    b.applied(b.theirs)

    assert State.REPLIED is b.state(b.theirs)


def test_a_correction_may_take_as_long_as_any_pull() -> None:
    """Once A asks for a short one, B waits for ten seconds between Wants, not for three."""
    b = Bench.responder(State.REPLIED)
    b.applied(b.theirs)
    b.hear(Want(Transfer(b.theirs, Leg.CORRECTION), 0, 256))

    b.wait(9.9)
    assert State.REPLIED is b.state(b.theirs)
    b.wait(0.2)
    assert State.PARKED is b.state(b.theirs)


LONG = Blob(b"c" * 16, 3 << 20, 1 << 20)


def test_a_long_chunk_is_not_asked_for_again_while_it_may_be_on_its_way() -> None:
    """Nobody knows the pace of the link yet: on the slowest, 1 MiB takes half a minute."""
    b = Bench()
    b.hear(offer_of(b.theirs, code=LONG))

    assert [] == every(Want, sent(b.wait(29.9)))
    assert [Want(Transfer(b.theirs, Leg.CODE), 0, 1 << 20)] == every(Want, sent(b.wait(0.2)))


def test_a_holder_waits_while_its_chunk_may_be_on_a_slow_link() -> None:
    """Ten seconds a chunk: the offer stands until the next Want, and no longer than a minute
    without one."""
    a = Bench()
    a.start()
    a.computed(a.mine, Leg.CODE, LONG)
    for index in range(3):
        a.hear(Want(Transfer(a.mine, Leg.CODE), index << 20, 1 << 20))
        a.wait(10.5)

    assert State.OFFERED is a.state(a.mine)
    a.wait(60.0)
    assert a.swaps.is_free(0)


def test_the_pace_of_a_partner_is_remembered_for_its_next_blob() -> None:
    """Two seconds a chunk: it is asked for again after four times that, not after thirty."""
    b = Bench()
    b.hear(offer_of(b.theirs, code=LONG))
    for index in range(3):
        b.wait(2.0)
        b.hear(Chunk(Transfer(b.theirs, Leg.CODE), index << 20, 1 << 20))
    b.hear(Done(b.theirs, Outcome.REFUSED))
    theirs = b.theirs._replace(seq=b.theirs.seq + 1)
    b.hear(offer_of(theirs, code=LONG))

    assert math.isclose(8.0, b.swaps.deadline() - b.now)


def test_a_want_for_a_few_bytes_is_repeated_as_often_as_any_message() -> None:
    """No link is so slow that they are still on their way: a frame was lost."""
    b = Bench.responder(State.PULLING)

    effects = b.wait(9.9)

    assert [Want(Transfer(b.theirs, Leg.CODE), 0, 256)] * 19 == every(Want, sent(effects))


def test_a_reply_without_an_answer_frees_its_fragment_and_settles_later() -> None:
    """The trainer goes on swapping; the outcome comes when the link is back."""
    b = Bench.responder(State.REPLIED)
    b.applied(b.theirs)
    b.wait(b.config.park_after_s)
    assert State.PARKED is b.state(b.theirs)
    assert b.swaps.is_free(0)
    b.start()

    assert [Send(HIGH, reply_of(b.theirs))] == b.swaps.link_up(HIGH, b.now)
    effects = b.hear(done_of(b.theirs))
    assert Outcome.APPLIED is only(SwapClosed, told(effects)).outcome
    assert not b.swaps.is_free(0)


def test_a_fragment_is_not_parked_before_the_hook_has_moved_it() -> None:
    """Rule 1: the next swap must see the anchor that this one moved."""
    b = Bench.responder(State.REPLIED)

    b.swaps.link_lost(HIGH, b.now)
    b.wait(b.config.park_after_s)
    assert State.REPLIED is b.state(b.theirs)
    assert not b.swaps.is_free(0)

    b.applied(b.theirs)
    assert State.PARKED is b.state(b.theirs)
    assert b.swaps.is_free(0)


def test_a_parked_correction_is_not_served_any_more() -> None:
    """A refuses then, and B takes its move back: both are even, and nobody waits."""
    b = Bench.responder(State.PARKED)
    want = Want(Transfer(b.theirs, Leg.CORRECTION), 0, 600)
    assert [Gone(b.theirs)] == sent(b.hear(want), HIGH)

    a = Bench.initiator(State.PULLING)
    assert [Done(a.mine, Outcome.REFUSED)] == sent(a.hear(Gone(a.mine)))


def test_a_parked_reply_is_counted_in_the_end() -> None:
    """A minute without an outcome: one-sided, once."""
    b = Bench.responder(State.PARKED)

    effects = b.wait(b.config.forget_after_s)

    assert OneSided(b.theirs, HIGH) == only(OneSided, told(effects))
    assert [] == every(Apply, effects)
    assert [] == b.wait(1000.0)


def test_too_many_parked_replies_count_the_oldest() -> None:
    """Memory is bounded by parked_max."""
    b = Bench(config=replace(EIGHT_BITS, parked_max=2))
    effects = []
    for seq in (1, 2, 3):
        exchange = ExchangeId(HIGH, BOOT, seq)
        b.hear(offer_of(exchange))
        b.receive(exchange, Leg.CODE, CODE)
        b.computed(exchange, Leg.CORRECTION, CORRECTION)
        b.applied(exchange)
        effects += b.swaps.link_lost(HIGH, b.now)

    assert ExchangeId(HIGH, BOOT, 1) == only(OneSided, told(effects)).exchange
    assert 2 == b.swaps.unsettled_count


# What the hook and the owner may do to it.

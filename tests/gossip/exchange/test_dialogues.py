"""Swaps as dialogues: who says what, and what becomes of each rule of gossip/README.md."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from gossip.exchange.swap import Footing
from gossip.exchange.table import State
from gossip.machine import (
    Apply,
    Compute,
    Computed,
    OneSided,
    Release,
    Reserve,
    Role,
    Send,
    SwapClosed,
)
from gossip.messages import (
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
from tests.gossip.exchange.model import World
from tests.lab.expect import every, only, sent, told
from tests.lab.pair import (
    BOOT,
    CODE,
    CORRECTION,
    EIGHT_BITS,
    HIGH,
    LINEAGE,
    LOW,
    STRANGER,
    Bench,
    done_of,
    offer_of,
    reply_of,
)


def test_an_initiator_says_offer_want_done() -> None:
    """The whole swap as A lives it."""
    a = Bench()
    code, correction = Transfer(a.mine, Leg.CODE), Transfer(a.mine, Leg.CORRECTION)

    assert [Compute(code, 0, "int8")] == a.start()
    assert [Send(HIGH, Offer(a.mine, LINEAGE, 0, CODE, "int8", "int8", math.inf))] == (
        a.computed(a.mine, Leg.CODE, CODE)
    )
    assert [Chunk(code, 256, 256)] == sent(a.hear(Want(code, 256, 256)), HIGH)
    assert [
        Reserve(correction, CORRECTION, 0, "int8", "int8", source=HIGH),
        Send(HIGH, Want(correction, 0, 600)),
    ] == a.hear(reply_of(a.mine))
    assert [Apply(correction, 0, CORRECTION, "int8", 0.5, partner=HIGH)] == (
        a.receive(a.mine, Leg.CORRECTION, CORRECTION)
    )
    a.now += 1.0
    ended = a.applied(a.mine)
    assert [Done(a.mine, Outcome.APPLIED)] == sent(ended, HIGH)
    assert [Release(code), Release(correction)] == every(Release, ended)
    assert [SwapClosed(a.mine, HIGH, Role.INITIATOR, 0, Outcome.APPLIED, "applied", 1.0)] == told(
        ended
    )


def test_an_offer_names_the_codec_its_code_was_made_in() -> None:
    """The driver may take another than it was asked for: B has to read that one."""
    a = Bench(config=replace(EIGHT_BITS, codec="wrap4", reply_codec="int4"))
    code = Transfer(a.mine, Leg.CODE)

    assert [Compute(code, 0, "wrap4")] == a.start()
    offered = a.swaps.computed(Computed(code, CODE, "int8"), a.now)

    assert [Send(HIGH, Offer(a.mine, LINEAGE, 0, CODE, "int8", "int4", math.inf))] == offered
    assert offered == a.wait(a.config.retry_s), "and so does its repetition"


def test_a_responder_says_want_reply_and_keeps_its_move() -> None:
    """The whole swap as B lives it."""
    b = Bench()
    code, correction = Transfer(b.theirs, Leg.CODE), Transfer(b.theirs, Leg.CORRECTION)

    first = b.hear(offer_of(b.theirs))
    assert CODE == only(Reserve, first).blob
    assert [Want(code, 0, 700)] == sent(first, HIGH)
    answer = Compute(correction, 0, "int8", CODE, "int8")
    assert [answer] == b.receive(b.theirs, Leg.CODE, CODE)
    assert [
        Release(code),
        Send(HIGH, Reply(b.theirs, 0, CORRECTION, "int8", 0.5)),
        Apply(correction, 0, CORRECTION, "int8", -0.5, partner=HIGH),
    ] == b.computed(b.theirs, Leg.CORRECTION, CORRECTION)
    assert 3 == len(sent(b.hear(Want(correction, 0, 600)), HIGH))
    assert [] == b.applied(b.theirs)
    ended = b.hear(done_of(b.theirs))
    assert Outcome.APPLIED is only(SwapClosed, told(ended)).outcome
    assert [] == every(Apply, ended)


def test_a_refused_correction_is_queued_back() -> None:
    """B takes the same amount back, marked as one that no exchange waits for."""
    b = Bench.responder(State.REPLIED)
    b.applied(b.theirs)

    refund = only(Apply, b.hear(done_of(b.theirs, Outcome.REFUSED)))

    assert 0.5 == refund.signed_weight
    assert refund.undo
    assert CORRECTION == refund.blob


def test_an_initiator_that_cannot_apply_says_refused() -> None:
    """Bad bytes show in the hook's answer."""
    a = Bench.initiator(State.APPLYING)

    assert [Done(a.mine, Outcome.REFUSED)] == sent(a.applied(a.mine, ok=False))


# Rule 2: crossing offers.


@pytest.mark.parametrize("low_starts_first", [True, False])
@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
@pytest.mark.parametrize("lost", [None, 0, 1])
def test_crossing_offers_end_in_one_swap(
    low_starts_first: bool, order: tuple[int, int], lost: int | None
) -> None:
    """Whoever began, whichever offer arrives first or not at all: one swap, both sides moved."""
    world = World(replace(EIGHT_BITS, codec="exact", reply_codec="exact"), 2)
    low, high = (world.lives[peer] for peer in world.ids)
    for life, other in [(low, high), (high, low)][:: 1 if low_starts_first else -1]:
        life.start(other.life.peer, 0)
    for life in (low, high):
        life.compute(fails=False)
        life.answer()
    offers = [flight for flight in world.flights if isinstance(flight.message, Offer)]
    assert 2 == len(offers)
    world.flights.clear()
    for index in order:
        if index != lost:
            world.lives[offers[index].to].hear(offers[index])
    world.heal()

    closed = [
        (closed.exchange, closed.role)
        for life in (low, high)
        for tally in life.tallies.values()
        for closed in tally.closed
        if closed.outcome is Outcome.APPLIED
    ]
    assert 2 == len(closed)
    assert closed[0][0] == closed[1][0]
    if lost is None:
        assert low.life.peer == closed[0][0].initiator


def test_the_lower_id_lets_a_crossing_offer_pass_by() -> None:
    """Its own offer is on the way and wins: nothing to answer."""
    low = Bench.initiator(State.OFFERED)

    assert [] == low.hear(offer_of(low.theirs))
    assert State.OFFERED is low.state(low.mine)


def test_the_higher_id_withdraws_its_own_and_takes_the_other() -> None:
    """And would refuse a Reply to the offer it withdrew."""
    high = Bench(me=HIGH, partner=LOW)
    high.start()
    high.computed(high.mine, Leg.CODE, CODE)

    effects = high.hear(offer_of(high.theirs))

    assert "withdrawn" == only(SwapClosed, told(effects)).why
    assert State.PULLING is high.state(high.theirs)
    assert [Done(high.mine, Outcome.REFUSED)] == sent(high.hear(reply_of(high.mine)))


def test_an_offer_that_was_not_sent_yet_gives_way_to_any() -> None:
    """While my code is in the making, the partner's offer is taken, whoever is lower."""
    low = Bench.initiator(State.ENCODING)

    low.hear(offer_of(low.theirs))

    assert State.PULLING is low.state(low.theirs)
    late = low.computed(low.mine, Leg.CODE, CODE)
    assert [Release(Transfer(low.mine, Leg.CODE))] == late


# Busy.


def test_a_held_fragment_is_busy_and_another_is_not() -> None:
    """Rule 1: one open swap per fragment, in either role."""
    bench = Bench.initiator(State.PULLING, replace(EIGHT_BITS, fragments=2))
    other = ExchangeId(STRANGER, 1, 1)

    busy = bench.hear(offer_of(other), STRANGER)
    taken = bench.hear(offer_of(other._replace(seq=2), fragment=1), STRANGER)

    assert [Busy(other, BusyReason.FRAGMENT_OPEN)] == sent(busy, STRANGER)
    assert 1 == len(every(Reserve, taken))


@pytest.mark.parametrize("reason", list(BusyReason))
def test_a_peer_that_declines_says_why(reason: BusyReason) -> None:
    """Not adopted yet, leaving, ...: nothing is reserved."""
    bench = Bench()

    effects = bench.swaps.hear(HIGH, offer_of(bench.theirs), Footing(LINEAGE, reason), bench.now)

    assert [Send(HIGH, Busy(bench.theirs, reason))] == effects


def test_a_foreign_lineage_is_declined() -> None:
    """Rule 8: no peer averages with a foreign lineage."""
    bench = Bench()

    effects = bench.hear(offer_of(bench.theirs, lineage=b"foreign!"))

    assert [Busy(bench.theirs, BusyReason.FOREIGN_LINEAGE)] == sent(effects)


# Rule 3: repeated, late, lost, forgotten.


def test_an_offer_is_repeated_until_it_is_withdrawn() -> None:
    """Every half second; after ten seconds without any answer it is over."""
    a = Bench.initiator(State.OFFERED)

    effects = a.wait(a.config.withdraw_after_s)

    assert 19 <= len(every(Offer, sent(effects))) <= 20
    assert [Done(a.mine, Outcome.REFUSED)] == every(Done, sent(effects))  # B may have moved
    assert Outcome.REFUSED is only(SwapClosed, told(effects)).outcome
    assert [Done(a.mine, Outcome.REFUSED)] == sent(a.hear(reply_of(a.mine)))


def test_a_repeated_offer_is_answered_by_the_same_reply() -> None:
    """B moved once; saying it again moves nothing."""
    b = Bench.responder(State.REPLIED)

    assert [Send(HIGH, reply_of(b.theirs))] == b.hear(offer_of(b.theirs))


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_repeated_reply_is_answered_with_the_recorded_outcome(outcome: Outcome) -> None:
    """The Done may have been lost; it is said again, as it was, as often as asked."""
    a = Bench.initiator(State.APPLYING)
    a.applied(a.mine, ok=outcome is Outcome.APPLIED)

    for _ in range(3):
        assert [Done(a.mine, outcome)] == sent(a.hear(reply_of(a.mine)), HIGH)


def test_an_outcome_is_told_to_the_partner_only() -> None:
    """Somebody else who asks is told that there is nothing."""
    a = Bench.initiator(State.APPLYING)
    a.applied(a.mine)

    assert [Gone(a.mine)] == sent(a.hear(reply_of(a.mine), STRANGER), STRANGER)


def test_an_evicted_outcome_is_gone() -> None:
    """Memory is bounded: what is no longer known is said so, and B counts it."""
    a = Bench.initiator(State.APPLYING, replace(EIGHT_BITS, outcomes_kept=2))
    a.applied(a.mine)
    for seq in (2, 3):
        assert [Done(a.mine, Outcome.APPLIED)] == sent(a.hear(reply_of(a.mine)))
        a.start()
        a.computed(a.mine._replace(seq=seq), Leg.CODE, None)

    assert [Gone(a.mine)] == sent(a.hear(reply_of(a.mine)))


def test_an_outcome_of_an_earlier_life_is_gone() -> None:
    """The same number in another boot is another exchange."""
    a = Bench.initiator(State.APPLYING)
    a.applied(a.mine)
    earlier = a.mine._replace(boot=BOOT - 1)

    assert [Gone(earlier)] == sent(a.hear(reply_of(earlier)))


def test_a_repeated_reply_does_not_start_a_second_pull() -> None:
    """While A is pulling or applying the correction, its Reply is no news."""
    for state in (State.PULLING, State.APPLYING):
        a = Bench.initiator(state)
        assert [] == a.hear(reply_of(a.mine))


@pytest.mark.parametrize("seq, boot", [(5, BOOT), (4, BOOT), (9, BOOT - 1)])
def test_an_old_exchange_id_gets_gone(seq: int, boot: int) -> None:
    """What was seen, skipped, or of an earlier life never comes back as a new offer."""
    b = Bench.responder(State.CORRECTING)
    b.swaps.link_lost(HIGH, b.now)
    b.hear(offer_of(ExchangeId(HIGH, BOOT, 5)))
    b.swaps.link_lost(HIGH, b.now)
    old = ExchangeId(HIGH, boot, seq)

    effects = b.hear(offer_of(old))

    assert [Send(HIGH, Gone(old))] == effects


def test_a_declined_offer_is_never_taken_later() -> None:
    """Its Busy may be lost, but A must not wait for what B forgot."""
    bench = Bench.initiator(State.PULLING)
    other = ExchangeId(STRANGER, 1, 1)
    bench.hear(offer_of(other), STRANGER)
    bench.swaps.cancel(bench.now, keep_moved=False)
    assert bench.swaps.is_free(0)

    assert [Gone(other)] == sent(bench.hear(offer_of(other), STRANGER))


def test_a_new_life_starts_over_with_low_numbers() -> None:
    """A higher boot beats any sequence number."""
    b = Bench.responder(State.PULLING)
    b.swaps.link_lost(HIGH, b.now)
    reborn = ExchangeId(HIGH, BOOT + 1, 1)

    b.hear(offer_of(reborn))

    assert State.PULLING is b.state(reborn)


def test_a_lost_chunk_is_asked_for_again() -> None:
    """Only the missing one, after silence."""
    b = Bench.responder(State.PULLING)
    transfer = Transfer(b.theirs, Leg.CODE)
    b.hear(Chunk(transfer, 0, 256))
    b.hear(Chunk(transfer, 512, 188))

    assert [Want(transfer, 256, 256)] == sent(b.wait(b.config.retry_s))


def test_a_wanted_blob_that_is_gone_ends_the_pull() -> None:
    """A never serves an offer that it withdrew; B drops it without having moved."""
    a = Bench.initiator(State.OFFERED)
    a.swaps.link_lost(HIGH, a.now)
    want = Want(Transfer(a.mine, Leg.CODE), 0, 256)
    assert [Done(a.mine, Outcome.REFUSED)] == sent(a.hear(want))

    b = Bench.responder(State.PULLING)
    effects = b.hear(done_of(b.theirs, Outcome.REFUSED))
    assert None is only(SwapClosed, told(effects)).outcome


# Parking.


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_hook_that_fails_after_the_outcome_is_counted_if_the_other_moved(
    outcome: Outcome,
) -> None:
    """A applied and B cannot: one-sided, said once. A refused and B cannot: even."""
    b = Bench.responder(State.REPLIED)
    b.hear(done_of(b.theirs, outcome))

    effects = b.applied(b.theirs, ok=False)

    stands = outcome is Outcome.APPLIED
    assert stands == bool(every(OneSided, told(effects)))
    expected = None if stands else Outcome.REFUSED
    assert expected is only(SwapClosed, told(effects)).outcome


def test_a_leaving_responder_keeps_waiting_for_what_it_moved_for() -> None:
    """``keep_moved``: open pulls end, corrections that moved still want their outcome."""
    config = replace(EIGHT_BITS, fragments=2)
    b = Bench.responder(State.REPLIED, config)
    second = b.theirs._replace(seq=2)
    b.hear(offer_of(second, fragment=1))

    effects = b.swaps.cancel(b.now, keep_moved=True)

    assert [Gone(second)] == sent(effects)
    assert State.REPLIED is b.state(b.theirs)


def test_a_new_life_of_the_partner_ends_the_exchanges_of_the_old_one_only() -> None:
    """With the new boot known, its own new offers go on."""
    b = Bench(config=replace(EIGHT_BITS, fragments=2))
    old, new = b.theirs, b.theirs._replace(boot=BOOT + 1)
    b.hear(offer_of(old))
    b.hear(offer_of(new, fragment=1))

    b.swaps.partner_down(HIGH, b.now, boot=BOOT + 1)

    assert None is b.state(old)
    assert State.PULLING is b.state(new)

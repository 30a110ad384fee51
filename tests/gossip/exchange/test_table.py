"""The state table: complete, every row alive, and its laws row by row."""

from __future__ import annotations

import pytest

from gossip.exchange.actions import STEPS
from gossip.exchange.table import TABLE, Action, Event, State
from gossip.machine import Apply, Effect, OneSided, Role, Send, SwapClosed
from gossip.messages import BusyReason, Done, ExchangeId, Gone, Leg, Outcome
from tests.lab.expect import every, only, sent, told
from tests.lab.pair import CODE, CORRECTION, Bench, done_of, offer_of, reply_of

A, B = Role.INITIATOR, Role.RESPONDER
STATES = {
    A: (State.ENCODING, State.OFFERED, State.PULLING, State.APPLYING),
    B: (State.PULLING, State.CORRECTING, State.REPLIED, State.SETTLING, State.PARKED),
}

NO_BLOB = "no Compute of this side is under way, or its failure came too late to matter"
NO_REPLY_YET = "only a responder that moved replies, and A hears that in OFFERED"
NOT_B = "only an initiator is told this"
NOT_A = "only a responder is told this"
NO_CHUNKS = "chunks count in PULLING only"
NO_APPLY = "the hook was not asked, or has answered"
NO_TIMER = "nothing is awaited from the partner, so no timer of this exchange runs"
REPEATED = "a repetition: it was heard when it mattered"
COMMITTED = "only the hook's answer counts now"
MOVED = "the outcome decides, not a Busy or a broken code"
EVEN = "even with the partner already; only this side's hook is missing"
STILL_WANTED = "the fragment is free; the outcome may come over the next link"
EARLY = "A cannot have applied what was not made yet: a lie or another life's word"

IGNORED: dict[tuple[Role, State], dict[Event, str]] = {
    (A, State.ENCODING): {
        Event.OFFER: NOT_A,
        Event.REPLY: NO_REPLY_YET,
        Event.BUSY: "nothing was sent yet",
        Event.GONE: "nothing was sent yet",
        Event.DONE_APPLIED: NOT_A,
        Event.DONE_REFUSED: NOT_A,
        Event.ARRIVED: NO_CHUNKS,
        Event.APPLIED: NO_APPLY,
        Event.NOT_APPLIED: NO_APPLY,
        Event.SILENCE: NO_TIMER,
        Event.STALLED: NO_TIMER,
    },
    (A, State.OFFERED): {
        Event.MADE: NO_BLOB,
        Event.OFFER: NOT_A,
        Event.DONE_APPLIED: NOT_A,
        Event.DONE_REFUSED: NOT_A,
        Event.ARRIVED: NO_CHUNKS,
        Event.APPLIED: NO_APPLY,
        Event.NOT_APPLIED: NO_APPLY,
    },
    (A, State.PULLING): {
        Event.MADE: NO_BLOB,
        Event.OFFER: NOT_A,
        Event.REPLY: REPEATED,
        Event.BUSY: "B replied, so a Busy is a lie or very late",
        Event.DONE_APPLIED: NOT_A,
        Event.DONE_REFUSED: NOT_A,
        Event.APPLIED: NO_APPLY,
        Event.NOT_APPLIED: NO_APPLY,
    },
    (A, State.APPLYING): {
        Event.MADE: NO_BLOB,
        Event.BROKEN: NO_BLOB,
        Event.OFFER: NOT_A,
        Event.REPLY: REPEATED,
        Event.BUSY: COMMITTED,
        Event.GONE: COMMITTED,
        Event.DONE_APPLIED: NOT_A,
        Event.DONE_REFUSED: NOT_A,
        Event.ARRIVED: NO_CHUNKS,
        Event.SILENCE: NO_TIMER,
        Event.STALLED: NO_TIMER,
        Event.LINK_LOST: COMMITTED,
        Event.PARTNER_DOWN: COMMITTED,
        Event.CANCEL: COMMITTED,
    },
    (B, State.PULLING): {
        Event.MADE: NO_BLOB,
        Event.OFFER: REPEATED,
        Event.REPLY: NOT_B,
        Event.BUSY: NOT_B,
        Event.DONE_APPLIED: EARLY,
        Event.APPLIED: NO_APPLY,
        Event.NOT_APPLIED: NO_APPLY,
    },
    (B, State.CORRECTING): {
        Event.OFFER: REPEATED,
        Event.REPLY: NOT_B,
        Event.BUSY: NOT_B,
        Event.DONE_APPLIED: EARLY,
        Event.ARRIVED: NO_CHUNKS,
        Event.APPLIED: NO_APPLY,
        Event.NOT_APPLIED: NO_APPLY,
        Event.SILENCE: NO_TIMER,
        Event.STALLED: NO_TIMER,
    },
    (B, State.REPLIED): {
        Event.MADE: NO_BLOB,
        Event.BROKEN: MOVED,
        Event.REPLY: NOT_B,
        Event.BUSY: NOT_B,
        Event.ARRIVED: NO_CHUNKS,
    },
    (B, State.SETTLING): {
        Event.MADE: NO_BLOB,
        Event.BROKEN: NO_BLOB,
        Event.OFFER: REPEATED,
        Event.REPLY: NOT_B,
        Event.BUSY: NOT_B,
        Event.GONE: EVEN,
        Event.DONE_APPLIED: REPEATED,
        Event.DONE_REFUSED: REPEATED,
        Event.ARRIVED: NO_CHUNKS,
        Event.SILENCE: NO_TIMER,
        Event.STALLED: NO_TIMER,
        Event.LINK_LOST: EVEN,
        Event.PARTNER_DOWN: EVEN,
        Event.CANCEL: EVEN,
    },
    (B, State.PARKED): {
        Event.MADE: NO_BLOB,
        Event.BROKEN: MOVED,
        Event.REPLY: NOT_B,
        Event.BUSY: NOT_B,
        Event.ARRIVED: NO_CHUNKS,
        Event.APPLIED: NO_APPLY,
        Event.NOT_APPLIED: NO_APPLY,
        Event.LINK_LOST: STILL_WANTED,
    },
}


def exchange_of(bench: Bench, role: Role) -> ExchangeId:
    """The exchange a bench of this role was set up with."""
    return bench.mine if role is A else bench.theirs


def bench_in(role: Role, state: State) -> Bench:
    """A side in one state."""
    return Bench.initiator(state) if role is A else Bench.responder(state)


def happen(bench: Bench, role: Role, event: Event) -> list[Effect]:
    """Let the real inputs cause an event."""
    exchange, swaps, now = exchange_of(bench, role), bench.swaps, bench.now
    swap = bench.swap(exchange)
    assert swap is not None
    leg = Leg.CODE if swap.state in (State.ENCODING, State.OFFERED) or role is B else Leg.CORRECTION
    if swap.state is State.CORRECTING:
        leg = Leg.CORRECTION
    match event:
        case Event.MADE:
            return bench.computed(exchange, leg, CODE if leg is Leg.CODE else CORRECTION)
        case Event.BROKEN if swap.state is State.OFFERED:
            return bench.hear(reply_of(exchange, weight=0.75))
        case Event.BROKEN:
            return bench.computed(exchange, leg, None)
        case Event.OFFER:
            return bench.hear(offer_of(exchange))
        case Event.REPLY:
            return bench.hear(reply_of(exchange))
        case Event.GONE:
            return bench.hear(Gone(exchange))
        case Event.DONE_APPLIED | Event.DONE_REFUSED:
            refused = event is Event.DONE_REFUSED
            return bench.hear(done_of(exchange, Outcome.REFUSED if refused else Outcome.APPLIED))
        case Event.ARRIVED:
            return bench.receive(exchange, leg, CODE if leg is Leg.CODE else CORRECTION)
        case Event.APPLIED | Event.NOT_APPLIED:
            return bench.applied(exchange, event is Event.APPLIED)
        case Event.SILENCE:
            return bench.wait(bench.config.retry_s)
        case Event.STALLED:
            stall_s = {State.REPLIED: 3.0, State.PARKED: 60.0}.get(swap.state, 10.0)
            return bench.wait(stall_s)
        case Event.LINK_LOST:
            return swaps.link_lost(bench.partner, now)
        case Event.PARTNER_DOWN:
            return swaps.partner_down(bench.partner, now)
        case Event.CANCEL:
            return swaps.cancel(now, keep_moved=False)
        case _:
            return bench.hear_busy(exchange)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", list(Event))
def test_every_pair_is_handled_or_ignored_for_a_reason(
    role: Role, state: State, event: Event
) -> None:
    """A new state or event must be thought about in every row."""
    handled = (role, state, event) in TABLE
    ignored = event in IGNORED.get((role, state), {})

    if state in STATES[role]:
        assert handled != ignored
    else:
        assert not handled
        assert not ignored


def test_every_action_has_a_step_and_a_use() -> None:
    """No action without code, none without a row."""
    assert set(Action) == set(STEPS) == set(TABLE.values())


@pytest.mark.parametrize("role, state", list(IGNORED))
def test_what_is_ignored_changes_nothing(role: Role, state: State) -> None:
    """No effect, no new state, and the exchange is as open as before."""
    for event in IGNORED[(role, state)]:
        if event in (Event.SILENCE, Event.STALLED, Event.APPLIED, Event.NOT_APPLIED):
            continue  # an honest driver and the timers do not say these here
        bench = bench_in(role, state)
        before = bench.state(exchange_of(bench, role))
        effects = happen(bench, role, event)
        assert [] == every(Apply, effects) == every(SwapClosed, told(effects)), event
        assert before is bench.state(exchange_of(bench, role)), event


@pytest.mark.parametrize(
    "role, state",
    [
        key
        for key in IGNORED
        if key[1] in (State.ENCODING, State.APPLYING, State.CORRECTING, State.SETTLING)
    ],
)
def test_a_side_that_waits_for_its_own_driver_has_no_timer(role: Role, state: State) -> None:
    """The rows that ignore SILENCE and STALLED may: neither can happen there."""
    assert float("inf") == bench_in(role, state).swaps.deadline()


@pytest.mark.parametrize("role, state, event", list(TABLE))
def test_a_row_ends_with_its_promise(role: Role, state: State, event: Event) -> None:
    """A's every end is recorded and repeated on demand; B's every end is final."""
    bench = bench_in(role, state)
    exchange = exchange_of(bench, role)

    effects = happen(bench, role, event)

    closed = every(SwapClosed, told(effects))
    if bench.state(exchange) is not None:
        assert [] == closed
        return
    assert role is only(SwapClosed, closed).role
    assert bench.swaps.is_free(0)
    assert float("inf") == bench.swaps.deadline()
    if role is A:
        outcome = Outcome.APPLIED if event is Event.APPLIED else Outcome.REFUSED
        assert [Done(exchange, outcome)] == sent(bench.hear(reply_of(exchange)))
    else:
        assert [Gone(exchange)] == sent(bench.hear(offer_of(exchange)))


MOVED_ENDS = {
    Event.DONE_APPLIED: (Outcome.APPLIED, 0, 0),
    Event.DONE_REFUSED: (Outcome.REFUSED, 1, 0),
    Event.GONE: (None, 0, 1),
    Event.PARTNER_DOWN: (None, 0, 1),
    Event.CANCEL: (None, 0, 1),
}


@pytest.mark.parametrize("parked", [False, True])
@pytest.mark.parametrize("event", list(MOVED_ENDS))
def test_a_responder_that_moved_settles_refunds_or_counts(event: Event, parked: bool) -> None:
    """Whichever end comes, exactly one of the three; a second end changes nothing."""
    bench = Bench.responder(State.PARKED if parked else State.REPLIED)
    if not parked:
        bench.applied(bench.theirs)

    effects = [*happen(bench, B, event), *bench.hear(done_of(bench.theirs, Outcome.REFUSED))]

    outcome, undos, counted = MOVED_ENDS[event]
    assert outcome is only(SwapClosed, told(effects)).outcome
    assert [0.5] * undos == [each.signed_weight for each in every(Apply, effects)]
    assert all(each.undo for each in every(Apply, effects))
    assert counted == len(every(OneSided, told(effects)))


def test_both_sides_move_by_the_same_amount_in_opposite_directions() -> None:
    """B by -w when it replies, A by +w when it has pulled, whatever w the Reply says."""
    left, right = Bench.initiator(State.OFFERED), Bench.responder(State.CORRECTING)

    moved = right.computed(right.theirs, Leg.CORRECTION, CORRECTION)
    left.hear(reply_of(left.mine, weight=0.125))
    followed = left.receive(left.mine, Leg.CORRECTION, CORRECTION)

    assert -0.5 == only(Apply, moved).signed_weight
    assert 0.125 == only(Apply, followed).signed_weight
    replies = every(Send, moved)
    assert [0.5] == [send.message.weight for send in replies if hasattr(send.message, "weight")]


def test_busy_ends_an_offer_and_nothing_else() -> None:
    """After Busy the fragment is free for another partner; a late Busy is no news."""
    bench = Bench.initiator(State.OFFERED)
    effects = bench.hear_busy(bench.mine)
    assert None is only(SwapClosed, told(effects)).outcome
    assert bench.swaps.is_free(0)

    late = Bench.initiator(State.PULLING)
    assert [] == late.hear_busy(late.mine)
    assert BusyReason.FRAGMENT_OPEN == 0  # a reason that is "false" must not be taken for none

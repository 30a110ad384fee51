"""The swap as a table: for each role and state, what each event makes this side do.

Read it beside gossip/README.md. An initiator (A) goes ENCODING -> OFFERED -> PULLING -> APPLYING;
a responder (B) goes PULLING -> CORRECTING -> REPLIED, then SETTLING while only its own hook is
missing, or PARKED once it stops waiting for A. A pair that is not in the table is ignored: it can
only be a repetition or come too late.

Why the sum is conserved: A ends every exchange by recording APPLIED or REFUSED and tells that,
and only that, whenever B repeats its Reply. B moves when it replies, keeps the move on APPLIED and
takes it back on REFUSED. Only if the answer can never come (A is down, or forgot) may one side
stand alone, and then B says so: COUNT.
"""

from __future__ import annotations

from enum import Enum, auto

from gossip.machine import Role


class State(Enum):
    """Where one side of a swap stands."""

    ENCODING = auto()
    OFFERED = auto()
    PULLING = auto()
    APPLYING = auto()
    CORRECTING = auto()
    REPLIED = auto()
    SETTLING = auto()
    PARKED = auto()


class Event(Enum):
    """What can happen to one side of a swap."""

    MADE = auto()
    """My Compute is ready."""
    BROKEN = auto()
    """My Compute failed: bad bytes, not finite."""
    OFFER = auto()
    """The partner's Offer came again."""
    REPLY = auto()
    BUSY = auto()
    GONE = auto()
    DONE_APPLIED = auto()
    DONE_REFUSED = auto()
    ARRIVED = auto()
    """The pulled blob is complete."""
    APPLIED = auto()
    """The hook applied my correction."""
    NOT_APPLIED = auto()
    """The hook could not."""
    SILENCE = auto()
    """retry_s without news."""
    STALLED = auto()
    """No progress for so long that waiting on would hurt."""
    LINK_LOST = auto()
    PARTNER_DOWN = auto()
    """Down, left, or back in a new life."""
    CANCEL = auto()
    """I leave, or adopt another model."""


class Action(Enum):
    """What this side does; one method of Swaps each."""

    OFFER = auto()
    REPEAT_OFFER = auto()
    ABANDON = auto()
    PULL = auto()
    REPEAT_WANT = auto()
    APPLY = auto()
    CONFIRM = auto()
    REFUSE = auto()
    CORRECT = auto()
    REPLY = auto()
    REPEAT_REPLY = auto()
    NOTE_APPLIED = auto()
    SETTLE = auto()
    CLOSE = auto()
    REFUND = auto()
    PARK = auto()
    COUNT = auto()
    MISS = auto()
    DROP = auto()
    DECLINE = auto()


_A, _B = Role.INITIATOR, Role.RESPONDER

TABLE: dict[tuple[Role, State, Event], Action] = {
    # A, nothing sent yet: stopping needs no word to anyone.
    (_A, State.ENCODING, Event.MADE): Action.OFFER,
    (_A, State.ENCODING, Event.BROKEN): Action.ABANDON,
    (_A, State.ENCODING, Event.LINK_LOST): Action.ABANDON,
    (_A, State.ENCODING, Event.PARTNER_DOWN): Action.ABANDON,
    (_A, State.ENCODING, Event.CANCEL): Action.ABANDON,
    # A, offered: B may have moved already. Who can still hear it is told; abandoning records
    # REFUSED for its repetitions.
    (_A, State.OFFERED, Event.REPLY): Action.PULL,
    (_A, State.OFFERED, Event.BROKEN): Action.REFUSE,
    (_A, State.OFFERED, Event.BUSY): Action.ABANDON,
    (_A, State.OFFERED, Event.GONE): Action.ABANDON,
    (_A, State.OFFERED, Event.SILENCE): Action.REPEAT_OFFER,
    (_A, State.OFFERED, Event.STALLED): Action.REFUSE,
    (_A, State.OFFERED, Event.LINK_LOST): Action.ABANDON,
    (_A, State.OFFERED, Event.PARTNER_DOWN): Action.ABANDON,
    (_A, State.OFFERED, Event.CANCEL): Action.REFUSE,
    # A, pulling c: B has moved already; stopping must say so.
    (_A, State.PULLING, Event.ARRIVED): Action.APPLY,
    (_A, State.PULLING, Event.BROKEN): Action.REFUSE,
    (_A, State.PULLING, Event.GONE): Action.REFUSE,
    (_A, State.PULLING, Event.SILENCE): Action.REPEAT_WANT,
    (_A, State.PULLING, Event.STALLED): Action.REFUSE,
    (_A, State.PULLING, Event.LINK_LOST): Action.REFUSE,
    (_A, State.PULLING, Event.PARTNER_DOWN): Action.REFUSE,
    (_A, State.PULLING, Event.CANCEL): Action.REFUSE,
    # A, queued in the hook: only the hook's answer counts now.
    (_A, State.APPLYING, Event.APPLIED): Action.CONFIRM,
    (_A, State.APPLYING, Event.NOT_APPLIED): Action.REFUSE,
    # B, nothing moved yet: it may stop at any time.
    (_B, State.PULLING, Event.ARRIVED): Action.CORRECT,
    (_B, State.PULLING, Event.BROKEN): Action.DECLINE,
    (_B, State.PULLING, Event.GONE): Action.DROP,
    (_B, State.PULLING, Event.DONE_REFUSED): Action.DROP,
    (_B, State.PULLING, Event.SILENCE): Action.REPEAT_WANT,
    (_B, State.PULLING, Event.STALLED): Action.DECLINE,
    (_B, State.PULLING, Event.LINK_LOST): Action.DROP,
    (_B, State.PULLING, Event.PARTNER_DOWN): Action.DROP,
    (_B, State.PULLING, Event.CANCEL): Action.DECLINE,
    (_B, State.CORRECTING, Event.MADE): Action.REPLY,
    (_B, State.CORRECTING, Event.BROKEN): Action.DECLINE,
    (_B, State.CORRECTING, Event.GONE): Action.DROP,
    (_B, State.CORRECTING, Event.DONE_REFUSED): Action.DROP,
    (_B, State.CORRECTING, Event.LINK_LOST): Action.DROP,
    (_B, State.CORRECTING, Event.PARTNER_DOWN): Action.DROP,
    (_B, State.CORRECTING, Event.CANCEL): Action.DECLINE,
    # B, moved: the outcome decides whether the move stays.
    (_B, State.REPLIED, Event.OFFER): Action.REPEAT_REPLY,
    (_B, State.REPLIED, Event.SILENCE): Action.REPEAT_REPLY,
    (_B, State.REPLIED, Event.APPLIED): Action.NOTE_APPLIED,
    (_B, State.REPLIED, Event.NOT_APPLIED): Action.COUNT,
    (_B, State.REPLIED, Event.DONE_APPLIED): Action.SETTLE,
    (_B, State.REPLIED, Event.DONE_REFUSED): Action.REFUND,
    (_B, State.REPLIED, Event.GONE): Action.COUNT,
    (_B, State.REPLIED, Event.STALLED): Action.PARK,
    (_B, State.REPLIED, Event.LINK_LOST): Action.PARK,
    (_B, State.REPLIED, Event.PARTNER_DOWN): Action.COUNT,
    (_B, State.REPLIED, Event.CANCEL): Action.COUNT,
    # B, outcome known or counted: the fragment is free once the hook has moved it.
    (_B, State.SETTLING, Event.APPLIED): Action.CLOSE,
    (_B, State.SETTLING, Event.NOT_APPLIED): Action.MISS,
    # B, parked: the fragment is free again, the outcome still wanted.
    (_B, State.PARKED, Event.OFFER): Action.REPEAT_REPLY,
    (_B, State.PARKED, Event.SILENCE): Action.REPEAT_REPLY,
    (_B, State.PARKED, Event.DONE_APPLIED): Action.SETTLE,
    (_B, State.PARKED, Event.DONE_REFUSED): Action.REFUND,
    (_B, State.PARKED, Event.GONE): Action.COUNT,
    (_B, State.PARKED, Event.STALLED): Action.COUNT,
    (_B, State.PARKED, Event.PARTNER_DOWN): Action.COUNT,
    (_B, State.PARKED, Event.CANCEL): Action.COUNT,
}

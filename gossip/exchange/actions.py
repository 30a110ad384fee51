"""What each action of the table does: one function each, ``(book, swap, now) -> effects``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from gossip.exchange.book import Book
from gossip.exchange.patience import Patience
from gossip.exchange.pull import Pull
from gossip.exchange.swap import Swap
from gossip.exchange.table import Action, State
from gossip.machine import Effect, OneSided, Reserve, Send, Tell
from gossip.messages import Blob, Done, Gone, Leg, Outcome, Seconds

Step: TypeAlias = Callable[[Book, Swap, Seconds], list[Effect]]


def start_pull(book: Book, swap: Swap, leg: Leg, blob: Blob, now: Seconds) -> list[Effect]:
    """Make room for a blob of the partner and ask for its first chunks."""
    transfer = swap.transfer(leg)
    swap.state = State.PULLING
    pace = book.pace_of(swap.partner)
    rate = 0.0 if pace is None else pace.bytes_per_s
    swap.pull = Pull(transfer, blob, book.config.window_bytes, rate)
    swap.patience = Patience(book.config, swap.pull.chunk_bytes, now, pace)
    book.progress(swap, now)
    codec = swap.codec if leg is Leg.CODE else swap.reply_codec
    reserve = Reserve(
        transfer,
        blob,
        swap.fragment,
        codec,
        swap.reply_codec,
        swap.clip_bound,
        source=swap.partner,
    )
    return [reserve, *(Send(swap.partner, want) for want in swap.pull.ask())]


def abandon(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    """A stops before it moved; a Reply that still comes is answered Done(refused)."""
    return book.close(swap, "withdrawn", now)


def _offer(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    swap.state = State.OFFERED
    book.progress(swap, now)
    return [swap.offer()]


def _repeat_offer(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    book.listen(swap, now)
    return [swap.offer()]


def _pull(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    assert swap.correction is not None
    return start_pull(book, swap, Leg.CORRECTION, swap.correction, now)


def _repeat_want(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    assert swap.pull is not None
    assert swap.patience is not None
    swap.patience.asked_again()
    book.listen(swap, now)
    return [Send(swap.partner, want) for want in swap.pull.ask_again()]


def _apply(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    del now
    swap.state = State.APPLYING
    book.quiet(swap)
    return [swap.apply(swap.weight)]


def _confirm(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    swap.outcome = Outcome.APPLIED
    done = Send(swap.partner, Done(swap.exchange, Outcome.APPLIED))
    return [done, *book.close(swap, "applied", now)]


def _refuse(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    swap.outcome = Outcome.REFUSED
    done = Send(swap.partner, Done(swap.exchange, Outcome.REFUSED))
    return [done, *book.close(swap, "refused", now)]


def _correct(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    del now
    swap.state = State.CORRECTING
    book.quiet(swap)
    return [swap.correct()]


def _reply(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    swap.state = State.REPLIED
    book.progress(swap, now)
    return [*book.release(swap, Leg.CODE), swap.reply(), swap.apply(-swap.weight)]


def _repeat_reply(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    book.listen(swap, now)
    return [swap.reply()]


def _note_applied(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    return _park(book, swap, now) if swap.park_when_applied else []


def _settle(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    swap.outcome = Outcome.APPLIED
    return _await_hook(book, swap, now)


def _refund(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    swap.outcome = Outcome.REFUSED
    return [swap.apply(swap.weight, undo=True), *_await_hook(book, swap, now)]


def _count(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    """Nobody will ever know whether A moved: say so, once."""
    return [Tell(OneSided(swap.exchange, swap.partner)), *_await_hook(book, swap, now)]


def _await_hook(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    """B is even with A; the fragment is free once B's own hook has moved it (rule 1)."""
    if swap.hook_answered:
        return _close(book, swap, now)
    swap.state = State.SETTLING
    book.quiet(swap)
    return []


def _close(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    return book.close(swap, "one-sided" if swap.outcome is None else "settled", now)


def _miss(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    """B's own hook failed. If A's move stands it stands alone; else nothing is left to say."""
    if swap.outcome is not Outcome.APPLIED:
        return _close(book, swap, now)
    swap.outcome = None
    return _count(book, swap, now)


def _park(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    """Free the fragment but go on wanting the outcome.

    Not before B's own correction is applied: the next swap must see the anchor it moved.
    """
    if not swap.hook_answered:
        swap.park_when_applied = True
        return []
    swap.state = State.PARKED
    book.free(swap)
    book.progress(swap, now)
    parked = book.parked()
    if len(parked) > book.config.parked_max:
        return _count(book, parked[0], now)
    return []


def _drop(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    return book.close(swap, "withdrawn by partner", now)


def _decline(book: Book, swap: Swap, now: Seconds) -> list[Effect]:
    return [Send(swap.partner, Gone(swap.exchange)), *book.close(swap, "declined", now)]


STEPS: dict[Action, Step] = {
    Action.OFFER: _offer,
    Action.REPEAT_OFFER: _repeat_offer,
    Action.ABANDON: abandon,
    Action.PULL: _pull,
    Action.REPEAT_WANT: _repeat_want,
    Action.APPLY: _apply,
    Action.CONFIRM: _confirm,
    Action.REFUSE: _refuse,
    Action.CORRECT: _correct,
    Action.REPLY: _reply,
    Action.REPEAT_REPLY: _repeat_reply,
    Action.NOTE_APPLIED: _note_applied,
    Action.SETTLE: _settle,
    Action.REFUND: _refund,
    Action.COUNT: _count,
    Action.MISS: _miss,
    Action.CLOSE: _close,
    Action.PARK: _park,
    Action.DROP: _drop,
    Action.DECLINE: _decline,
}

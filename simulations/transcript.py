"""What happened, one readable line an event, and its digest as the fingerprint of a run.

The digest covers every input and effect in full; the lines are a summary for people. Journals
keep the objects themselves, so that any peer's life can be fed to a fresh core again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from gossip.core import Core
from gossip.machine import (
    Applied,
    Apply,
    Compute,
    Computed,
    Dial,
    Effect,
    Hangup,
    Input,
    LinkLost,
    LinkUp,
    Received,
    Release,
    Reserve,
    Send,
    Submitted,
    Tell,
)
from gossip.messages import Seconds, Transfer

LINES_MAX = 200_000
"""Lines kept; the digest goes on beyond them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of one core."""

    now: Seconds
    happened: Input
    effects: tuple[Effect, ...]


class Transcript:
    """All events of a world, in order. ``lines`` holds the first LINES_MAX of them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.events = 0
        self._digest = hashlib.blake2b(digest_size=16)

    def note(self, who: str, entry: Entry) -> None:
        """Take one event; ``who`` is the peer's short name and boot."""
        self.events += 1
        exact = f"{who} {entry.now!r} {entry.happened!r} {entry.effects!r}\n"
        self._digest.update(exact.encode())
        if len(self.lines) < LINES_MAX:
            self.lines.append(line(who, entry))

    def remark(self, now: Seconds, text: str) -> None:
        """A fault of the scenario, or another thing that no core heard."""
        self._digest.update(f"{now!r} {text}\n".encode())
        if len(self.lines) < LINES_MAX:
            self.lines.append(f"{now:12.6f}  --     {text}")

    @property
    def digest(self) -> str:
        """The fingerprint so far: equal runs have equal ones."""
        return self._digest.hexdigest()


def line(who: str, entry: Entry) -> str:
    """Time, who, what happened => what was asked for (equal things counted)."""
    counts = Counter(describe_effect(effect) for effect in entry.effects)
    asked = ", ".join(text if n == 1 else f"{n}x {text}" for text, n in counts.items())
    return f"{entry.now:12.6f}  {who:<6} {describe_input(entry.happened)}  =>  {asked or '-'}"


def describe_input(happened: Input) -> str:
    """A few words on an input."""
    match happened:
        case Received(sender, message):
            return f"{type(message).__name__}<-{sender[:4]}"
        case Submitted(samples, swap_due, _):
            return f"Submitted {samples}{' swap' if swap_due else ''}"
        case Computed(transfer, blob):
            return f"Computed {_transfer(transfer)}{'' if blob is not None else ' failed'}"
        case Applied(exchange, applied):
            return f"Applied {exchange.initiator[:4]}/{exchange.seq}{'' if applied else ' failed'}"
        case LinkUp(peer):
            return f"LinkUp {peer[:4]}"
        case LinkLost(peer, cause):
            return f"LinkLost {peer[:4]} {_name(cause)}"
        case _:
            return type(happened).__name__


def describe_effect(effect: Effect) -> str:
    """A few words on an effect."""
    match effect:
        case Send(to, message):
            return f"{type(message).__name__}->{to[:4]}"
        case Reserve(transfer) | Release(transfer) | Compute(transfer):
            return f"{type(effect).__name__} {_transfer(transfer)}"
        case Apply(transfer, _, _, _, signed_weight, undo):
            return f"{'Undo' if undo else 'Apply'} {_transfer(transfer)} {signed_weight:+g}"
        case Dial(peer, control_address):
            return f"Dial {control_address if peer is None else peer[:4]}"
        case Hangup(peer):
            return f"Hangup {peer[:4]}"
        case Tell(report):
            return f"Tell {type(report).__name__}"
        case _:
            return type(effect).__name__


def _transfer(transfer: Transfer) -> str:
    exchange = transfer.exchange
    return f"{exchange.initiator[:4]}/{exchange.seq} {_name(transfer.leg)}"


def _name(value: IntEnum) -> str:
    return value.name.lower()


def first_difference(journal: Sequence[Entry], core: Core) -> int | None:
    """Feed a journal to a fresh core: the index of the first entry that it answers otherwise.

    None when it asks for exactly the same effects throughout. ``core`` must be new, made with the
    seed, config, boot and time of the one that was recorded.
    """
    for index, entry in enumerate(journal):
        if tuple(core.handle(entry.happened, entry.now)) != entry.effects:
            return index
    return None

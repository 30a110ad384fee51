"""Reading a list of effects: what was sent, told, asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from gossip.machine import Effect, Report, Send, Tell
from gossip.messages import Message, PeerId

Kind = TypeVar("Kind")


def sent(effects: Iterable[Effect], to: PeerId | None = None) -> list[Message]:
    """The messages among the effects, in order; those to one peer if it is named."""
    sends = [effect for effect in effects if isinstance(effect, Send)]
    return [send.message for send in sends if to is None or send.to == to]


def told(effects: Iterable[Effect]) -> list[Report]:
    """The reports among the effects, in order."""
    return [effect.report for effect in effects if isinstance(effect, Tell)]


def every(kind: type[Kind], things: Iterable[object]) -> list[Kind]:
    """Those of one kind, in order."""
    return [thing for thing in things if isinstance(thing, kind)]


def only(kind: type[Kind], things: Iterable[object]) -> Kind:
    """The one thing of a kind; fails unless there is exactly one."""
    found = every(kind, things)
    assert len(found) == 1, f"{len(found)} of {kind.__name__}: {found}"
    return found[0]

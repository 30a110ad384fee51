"""Hypothesis strategies for everything the seam speaks of, derived from the type hints alone."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from enum import IntEnum
from typing import Any

from hypothesis import strategies as st

from gossip.machine import Effect, Input
from gossip.messages import Message, PeerId


def peer_ids() -> st.SearchStrategy[PeerId]:
    """Sixteen lower-case hex digits."""
    return st.binary(min_size=8, max_size=8).map(lambda raw: PeerId(raw.hex()))


_SIMPLE: dict[object, st.SearchStrategy[Any]] = {
    PeerId: peer_ids(),
    int: st.integers(-(1 << 63), (1 << 64) - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    bytes: st.binary(max_size=40),
    type(None): st.none(),
}


@functools.cache
def of(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type of the seam."""
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return st.sampled_from(kind)
    args = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        if args[-1] is Ellipsis:
            return st.lists(of(args[0]), max_size=3).map(tuple)
        return st.tuples(*map(of, args))
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return st.one_of(*map(of, args))
    hints = typing.get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    else:
        names = list(kind._fields)
    return st.builds(kind, *[of(hints[name]) for name in names])


def messages() -> st.SearchStrategy[Message]:
    """Any message, of every class."""
    return of(Message)


def inputs() -> st.SearchStrategy[Input]:
    """Anything a machine can hear."""
    return of(Input)


def effects() -> st.SearchStrategy[Effect]:
    """Anything a machine can ask for."""
    return of(Effect)

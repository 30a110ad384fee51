"""Typed values (dataclass, named tuple, enum, tuple, union) as plain ones, and strictly back.

One rule for every type, read once from its hints:

    dataclass, named tuple   [field, field, ...] in the order declared
    tuple                    [item, item, ...]
    enum                     its integer
    X | None                 [] or [X]
    union of records         [class name, field, field, ...]; the union is the closed table
    int float str bytes bool themselves; a bool is no int, an int no float, NaN nothing

Reading is driven by the expected type, one scalar or list length at a time (``Source``). What is
claimed but not expected is refused before anything is built, so hostile input costs no memory.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import types
import typing
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NoReturn, Protocol

from gossip.errors import FrameError, GossipError
from gossip.messages import PEER_ID_FORM, PeerId

TEXT_CHARS_MAX = 4096
"""No text field is longer: names, addresses, one-line details."""

BYTES_MAX = 4096
"""No bytes field is longer: digests and lineages; bulk bytes never travel in a message."""

TUPLE_ITEMS_MAX = 200_000
"""No tuple is longer; twice ``MembershipConfig.members_max``, so that rumors about all fit."""

INT_MIN, INT_MAX = -(1 << 63), (1 << 64) - 1
"""What 64 bits hold, signed or not (MessagePack's own range)."""


class Source(Protocol):
    """Plain values in reading order."""

    def scalar(self) -> object:
        """The next value, which must be no list; raises FrameError at the end."""
        ...

    def items(self) -> int:
        """Enter the next value, which must be a list; returns its length, at least as claimed."""
        ...


class ListSource:
    """Reads nested lists of plain values."""

    def __init__(self, value: object) -> None:
        self._todo = [value]

    def scalar(self) -> object:
        """The next value; raises FrameError when it is a list."""
        value = self._todo.pop()
        if isinstance(value, list):
            raise FrameError("a list where a single value belongs")
        return value

    def items(self) -> int:
        """Enter the next list; raises FrameError when it is none."""
        value = self._todo.pop()
        if not isinstance(value, list):
            raise FrameError(f"a {type(value).__name__} where a list belongs")
        self._todo.extend(reversed(value))
        return len(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """How one type is written and read. ``read`` raises FrameError, nothing else."""

    write: Callable[[Any], object]
    read: Callable[[Source], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class _Record:
    """The fields of a dataclass or named tuple: how many, how to write and to build them."""

    arity: int
    write: Callable[[Any], list[object]]
    read: Callable[[Source], Any]


def to_plain(kind: Any, value: Any) -> object:
    """``value``, which must be of type ``kind``, as nested lists of plain values.

    Raises FrameError when it would be refused on reading (text too long, NaN, ...).
    """
    return shape_of(kind).write(value)


def from_plain(kind: Any, value: object) -> Any:
    """The inverse of ``to_plain``; raises FrameError on any mismatch, and nothing else."""
    return shape_of(kind).read(ListSource(value))


@functools.cache
def shape_of(kind: Any) -> Shape:
    """The shape of a type, built once; raises AssertionError for a type without one."""
    if kind is PeerId:
        return Shape(_check_peer, lambda source: _check_peer(source.scalar()))
    if isinstance(kind, typing.NewType):
        return shape_of(kind.__supertype__)
    if kind is float:  # an int is written as the float it stands for, but never read as one
        return Shape(_write_float, lambda source: _check_float(source.scalar()))
    if kind in _SCALARS:
        check = _SCALARS[kind]
        return Shape(check, lambda source: check(source.scalar()))
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return _enum(kind)
    if typing.get_origin(kind) is tuple:
        return _tuple(typing.get_args(kind))
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return _union(typing.get_args(kind))
    record = _record(kind)

    def read(source: Source) -> Any:
        _same(source.items(), record.arity, kind.__name__)
        return record.read(source)

    return Shape(record.write, read)


def _refuse(value: object, wanted: str) -> NoReturn:
    raise FrameError(f"a {type(value).__name__} where {wanted} belongs")


def _same(items: int, wanted: int, name: str) -> None:
    if items != wanted:
        raise FrameError(f"{name} has {wanted} fields, not {items}")


def _check_int(value: object) -> int:
    if type(value) is int and INT_MIN <= value <= INT_MAX:
        return value
    _refuse(value, "an integer of 64 bits")


def _check_float(value: object) -> float:
    if type(value) is float and not math.isnan(value):
        return value
    _refuse(value, "a float that is a number")


def _write_float(value: object) -> float:
    return _check_float(float(value) if type(value) is int else value)


def _check_bool(value: object) -> bool:
    if type(value) is bool:
        return value
    _refuse(value, "a bool")


def _check_text(value: object) -> str:
    if type(value) is str and len(value) <= TEXT_CHARS_MAX:
        return value
    _refuse(value, f"text of at most {TEXT_CHARS_MAX} characters")


def _check_bytes(value: object) -> bytes:
    if type(value) is bytes and len(value) <= BYTES_MAX:
        return value
    _refuse(value, f"at most {BYTES_MAX} bytes")


def _check_peer(value: object) -> PeerId:
    if type(value) is str and PEER_ID_FORM.fullmatch(value):
        return PeerId(value)
    _refuse(value, "a peer id (sixteen lower-case hex digits)")


_SCALARS: dict[object, Callable[[object], Any]] = {
    int: _check_int,
    bool: _check_bool,
    str: _check_text,
    bytes: _check_bytes,
}


def _enum(kind: type[IntEnum]) -> Shape:
    members = {int(member): member for member in kind}

    def read(source: Source) -> IntEnum:
        value = source.scalar()
        if type(value) is not int or value not in members:
            _refuse(value, f"a {kind.__name__}")
        return members[value]

    return Shape(int, read)


def _tuple(args: tuple[Any, ...]) -> Shape:
    if len(args) == 2 and args[1] is Ellipsis:
        return _long_tuple(shape_of(args[0]))
    shapes = [shape_of(arg) for arg in args]

    def write(value: tuple[Any, ...]) -> list[object]:
        return [shape.write(item) for shape, item in zip(shapes, value, strict=True)]

    def read(source: Source) -> tuple[Any, ...]:
        _same(source.items(), len(shapes), "tuple")
        return tuple([shape.read(source) for shape in shapes])

    return Shape(write, read)


def _long_tuple(item: Shape) -> Shape:
    def bound(items: int) -> int:
        if items > TUPLE_ITEMS_MAX:
            raise FrameError(f"{items} items, more than {TUPLE_ITEMS_MAX}", "length")
        return items

    def write(value: tuple[Any, ...]) -> list[object]:
        bound(len(value))
        return [item.write(each) for each in value]

    def read(source: Source) -> tuple[Any, ...]:
        return tuple([item.read(source) for _ in range(bound(source.items()))])

    return Shape(write, read)


def _union(args: tuple[Any, ...]) -> Shape:
    rest = tuple(arg for arg in args if arg is not type(None))
    if len(rest) == len(args):
        return _tagged({kind.__name__: _record(kind) for kind in rest})
    inner = shape_of(functools.reduce(operator.or_, rest))

    def write(value: Any) -> list[object]:
        return [] if value is None else [inner.write(value)]

    def read(source: Source) -> Any:
        items = source.items()
        if items > 1:
            raise FrameError(f"{items} values where one or none belongs")
        return inner.read(source) if items else None

    return Shape(write, read)


def _tagged(table: dict[str, _Record]) -> Shape:
    def write(value: Any) -> list[object]:
        name = type(value).__name__
        assert name in table, f"{name} is no case of this union"
        return [name, *table[name].write(value)]

    def read(source: Source) -> Any:
        items = source.items()
        name = source.scalar() if items else None
        if not isinstance(name, str) or name not in table:
            raise FrameError("an unknown kind of record")
        _same(items - 1, table[name].arity, name)
        return table[name].read(source)

    return Shape(write, read)


def _record(kind: Any) -> _Record:
    names: Sequence[str]
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    else:
        assert hasattr(kind, "_fields"), f"{kind} cannot be written"
        names = kind._fields
    hints = typing.get_type_hints(kind)
    shapes = [shape_of(hints[name]) for name in names]
    writers = [(name, shape.write) for name, shape in zip(names, shapes, strict=True)]

    def write(value: Any) -> list[object]:
        assert isinstance(value, kind), f"{value!r} is no {kind.__name__}"
        return [writer(getattr(value, name)) for name, writer in writers]

    def read(source: Source) -> Any:
        fields = [shape.read(source) for shape in shapes]
        try:
            return kind(*fields)
        except (GossipError, ValueError) as wrong:  # the record's own rules between its fields
            raise FrameError(f"{kind.__name__}: {wrong}") from wrong

    return _Record(len(names), write, read)

"""Typed values and plain ones."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.config import Config, MembershipConfig
from gossip.errors import FrameError
from gossip.machine import Effect, Input
from gossip.messages import Blob, Busy, BusyReason, Done, ExchangeId, Message, Outcome, PeerId
from gossip.wire import plain
from gossip.wire.plain import from_plain, to_plain
from tests.lab import strategies

EXCHANGE = ExchangeId(PeerId("0123456789abcdef"), 1, 2)

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.sampled_from(["Ping", "Busy", "Offer", "Chunk", "0123456789abcdef"])
    | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=30,
)


@given(strategies.inputs())
def test_every_input_survives_the_way_to_plain_values_and_back(happened: Input) -> None:
    """The journal can hold whatever a machine hears."""
    assert happened == from_plain(Input, to_plain(Input, happened))


@given(strategies.effects())
def test_every_effect_survives_the_way_to_plain_values_and_back(effect: Effect) -> None:
    """The journal can hold whatever a machine asks for."""
    assert effect == from_plain(Effect, to_plain(Effect, effect))


@given(PLAIN)
def test_any_plain_value_is_read_or_refused_with_one_error(value: object) -> None:
    """Nothing but FrameError, whatever the shape."""
    try:
        message = from_plain(Message, value)
    except FrameError:
        return
    assert value == to_plain(Message, message)


@given(strategies.messages(), st.data())
def test_a_message_with_one_part_replaced_is_read_or_refused(
    message: Message, draw: st.DataObject
) -> None:
    """Damage near the truth raises nothing but FrameError either."""
    value: Any = to_plain(Message, message)
    place = value
    while True:
        index = draw.draw(st.integers(0, len(place) - 1))
        if not (isinstance(place[index], list) and place[index] and draw.draw(st.booleans())):
            break
        place = place[index]
    place[index] = draw.draw(PLAIN)
    try:
        from_plain(Message, value)
    except FrameError as wrong:
        assert wrong.kind in ("shape", "length")


@pytest.mark.parametrize(
    "kind, value",
    [
        (int, True),
        (int, 1.0),
        (int, 1 << 64),
        (int, -(1 << 63) - 1),
        (bool, 1),
        (float, 1),
        (float, float("nan")),
        (str, b"text"),
        (str, "x" * (plain.TEXT_CHARS_MAX + 1)),
        (bytes, "bytes"),
        (bytes, bytes(plain.BYTES_MAX + 1)),
        (PeerId, "0123456789ABCDEF"),
        (PeerId, "0123456789abcde"),
        (BusyReason, 99),
        (BusyReason, False),
        (BusyReason, []),
        (tuple[int, ...], "12"),
        (tuple[int, ...], [1, [2]]),
        (tuple[int, ...], [0] * (plain.TUPLE_ITEMS_MAX + 1)),
        (tuple[int, str], [1]),
        (Blob, [b"", 1]),
        (Blob, [b"", 1, 2, 3]),
        (Blob | None, [[b"", 1, 2], None]),
        (Message, ["Nobody", 1]),
        (Message, [["Busy"], 1]),
        (Message, []),
        (Message, ["Record", 1]),
    ],
)
def test_a_value_of_the_wrong_type_or_size_is_refused(kind: Any, value: object) -> None:
    """Strict: nothing is converted, nothing is too large."""
    with pytest.raises(FrameError):
        from_plain(kind, value)


def test_what_would_be_refused_is_not_written() -> None:
    """The writer finds out, not the reader."""
    with pytest.raises(FrameError):
        to_plain(str, "x" * (plain.TEXT_CHARS_MAX + 1))
    with pytest.raises(FrameError):
        to_plain(float, float("nan"))


def test_enums_come_back_as_enums() -> None:
    """Not as the integers they look like."""
    done = from_plain(Message, ["Busy", ["0123456789abcdef", 1, 2], 3])

    assert Busy(EXCHANGE, BusyReason.FOREIGN_LINEAGE) == done
    assert type(done.reason) is BusyReason


def test_infinity_is_a_number() -> None:
    """No clip bound is sent as infinity."""
    assert float("inf") == from_plain(float, to_plain(float, float("inf")))


def test_a_record_that_breaks_its_own_rules_is_refused() -> None:
    """A config read from a journal is checked like one given by hand."""
    value: Any = to_plain(Config, Config())
    value[1][0] = 3

    with pytest.raises(FrameError, match="MembershipConfig: observers must be even"):
        from_plain(Config, value)
    assert MembershipConfig() == from_plain(Config, to_plain(Config, Config())).membership


def test_a_value_of_another_type_is_a_bug_of_ours() -> None:
    """Only records of the union's closed table can be written."""
    with pytest.raises(AssertionError):
        to_plain(Message, EXCHANGE)


class Strange(NamedTuple):
    """Holds what no rule covers."""

    mapping: dict[str, int]


def test_a_type_without_a_rule_is_a_bug_of_ours() -> None:
    """It is found when the type is first used, not when bytes arrive."""
    with pytest.raises(AssertionError):
        to_plain(Strange, Strange({}))


def test_plain_values_are_plain() -> None:
    """Nested lists of what MessagePack or JSON know."""
    plain_value = to_plain(Message, Done(EXCHANGE, Outcome.REFUSED))

    assert '["Done", ["0123456789abcdef", 1, 2], 1]' == json.dumps(plain_value)

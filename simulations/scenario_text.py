"""A scenario as TOML, of which ``scenario.parse`` makes the same scenario again.

Numbers are written so that they come back to the last bit; what goes without saying is left out.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from simulations.scenario import ANY, Expected, Fault, Limit, Scenario

APART = ("conditions", "faults", "expect")
"""Fields of a scenario that are tables of their own."""


def as_toml(scenario: Scenario) -> str:
    """The text of a file; the name of a scenario is that of its file."""
    apart = dict.fromkeys((*APART, "name"))
    whole = {key: value for key, value in _fields(scenario).items() if key not in apart}
    conditions = _fields(scenario.conditions)
    lines = [
        *_lines(whole, _defaults(Scenario)),
        *_table("[conditions]", conditions, _fields(scenario.profile.conditions)),
    ]
    for fault in scenario.faults:
        lines += _table("[[faults]]", _fields(fault), _defaults(Fault))
    lines += _table("[expect]", _fields(scenario.expect), _defaults(Expected))
    return "\n".join([*lines, ""])


def _fields(each: Any) -> dict[str, Any]:
    return {field.name: getattr(each, field.name) for field in dataclasses.fields(each)}


def _defaults(kind: Any) -> dict[str, Any]:
    """What the fields are that are not given; those that have to be given are not among them."""
    given = dataclasses.MISSING
    return {each.name: each.default for each in dataclasses.fields(kind) if each.default != given}


def _table(title: str, values: dict[str, Any], unsaid: dict[str, Any]) -> list[str]:
    """A table with its heading, or nothing where all goes without saying."""
    lines = _lines(values, unsaid)
    return ["", title, *lines] if lines else []


def _lines(values: dict[str, Any], unsaid: dict[str, Any]) -> list[str]:
    said = {
        key: value for key, value in values.items() if key not in unsaid or value != unsaid[key]
    }
    return [f"{key} = {_written(value)}" for key, value in said.items()]


def _written(value: Any) -> str:
    """One value."""
    match value:
        case None:
            return f'"{ANY}"'
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{"".join(map(_letter, value))}"'
        case int() | float():
            return repr(value).removesuffix(".0")
        case Limit():
            points = ", ".join(f"{peers} = {_written(bound)}" for peers, bound in value.points)
            return f"{{ {points} }}"
        case (float() as least, float() as most) if least == most:
            return _written(least)
        case tuple():
            return f"[{', '.join(map(_written, value))}]"
    raise AssertionError(f"no field of a scenario holds {value!r}")


def _letter(letter: str) -> str:
    """As it stands between quotes."""
    if letter in '"\\':
        return "\\" + letter
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"

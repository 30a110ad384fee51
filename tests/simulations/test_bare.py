"""Messages and effects made bare for the compiler say and do what the dataclasses do."""

from __future__ import annotations

import importlib
import sys
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import gossip.messages as written
from simulations.bare import rewritten
from simulations.compiling import MADE_BARE, ROOT

pytest.importorskip("mypy_extensions", reason="it comes with mypy, and so with the extra dev")

PEER = written.PeerId("0123456789abcdef")


@pytest.fixture(name="bare")
def bare_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``gossip.messages`` as it is given to the compiler, interpreted."""
    source = Path(str(written.__file__)).read_text(encoding="utf-8")
    (tmp_path / "bare_messages.py").write_text(rewritten(source), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("bare_messages")
    del sys.modules["bare_messages"]


def test_all_are_made_bare(bare: Any) -> None:
    """Each class with fields has the same ones, with the same hints, in the same order."""
    classes = [each for each in vars(written).values() if isinstance(each, type)]
    classes = [each for each in classes if is_dataclass(each)]
    assert len(classes) > 20
    for kind in classes:
        twin = getattr(bare, kind.__name__)
        assert "__dataclass_params__" not in vars(twin), "no dataclass any more"
        assert [each.name for each in fields(twin)] == [each.name for each in fields(kind)]
        assert twin.__match_args__ == kind.__match_args__
        ours, theirs = typing.get_type_hints(kind), typing.get_type_hints(twin)
        assert str(theirs) == str(ours).replace(written.__name__, bare.__name__)
    assert typing.get_type_hints(bare.Segment)["shape"] == tuple[int, ...]


@pytest.mark.parametrize("status", written.Status)
def test_they_are_made_compared_and_shown_alike(bare: Any, status: written.Status) -> None:
    """Defaults, properties and docstrings stay as well."""

    def record_of(module: Any, incarnation: int) -> Any:
        return module.Record(PEER, 1, incarnation, module.Status(status), "here:1", "here:2")

    one, same, other = (record_of(bare, incarnation) for incarnation in (2, 2, 3))
    ours = record_of(written, 2)

    assert one == same != other
    assert one != ours
    assert hash(one) == hash(same) == hash(ours)
    assert repr(one) == repr(ours)
    assert one.key == ours.key
    assert (one.host, one.capacity) == (ours.host, ours.capacity)
    assert repr(replace(one, boot=7)) == repr(replace(ours, boot=7))
    assert bare.Record.__doc__ == written.Record.__doc__
    assert bare.Ping(1, 2).rumors is bare.NO_RUMORS


@pytest.mark.parametrize(
    "body",
    [
        "class A(B):\n    a: int",
        "class A:\n    a: list[int] = field(default_factory=list)",
        "class A:\n    a: int\n    def __post_init__(self): check(self.a)",
    ],
)
def test_what_would_be_lost_is_refused(body: str) -> None:
    """A check that compiled runs alone are without would be worse than no build."""
    with pytest.raises(ValueError, match="A cannot be made bare"):
        rewritten(f"@dataclass(frozen=True)\n{body}\n")


@pytest.mark.parametrize("name", MADE_BARE)
def test_nothing_would_be_lost_of_what_is_made_bare(name: str) -> None:
    """Or no build could be made."""
    made = rewritten((ROOT / name).read_text(encoding="utf-8"))
    assert "dataclass(frozen=True" not in made
    assert "acyclic=True" in made

"""Frozen dataclasses as bare classes, for the compiler.

A frozen dataclass is made by code that Python interprets, field after field, compiled or not; and
every message, and every effect, is one. So the sources that are compiled are rewritten: each
becomes a class with its ``__init__``, ``__eq__``, ``__hash__`` and ``__repr__`` written out, which
is made, read and let go without the interpreter. Its instances hold no cycles, so the garbage
collector does not look at them. That nobody writes to a field is what the interpreter sees to, and
mypy.

Only what the compiler forgets is told at run time (``describe``): the fields, as dataclasses know
them, and their hints, which it would cut to the outermost type.
"""

from __future__ import annotations

import ast
from dataclasses import make_dataclass
from typing import Final

FIELDS: Final = "__dataclass_fields__"
"""By which ``dataclasses`` knows what it made."""

_PREAMBLE: Final = """
from typing import ClassVar, Literal
from mypy_extensions import mypyc_attr
from simulations.bare import describe
"""


def rewritten(source: str) -> str:
    """A module's source with its frozen dataclasses made bare; hints of named tuples are told."""
    module = ast.parse(source)
    told: list[ast.stmt] = []
    for at, each in enumerate(module.body):
        if not isinstance(each, ast.ClassDef):
            continue
        fields = [line for line in each.body if isinstance(line, ast.AnnAssign)]
        hints = {ast.unparse(field.target): ast.unparse(field.annotation) for field in fields}
        if _is_frozen_dataclass(each):
            _refuse_what_would_be_lost(each, fields)
            module.body[at] = _bare(each, fields)
            told += ast.parse(f"describe({each.name}, {hints}, is_bare=True)").body
        elif hints:
            told += ast.parse(f"describe({each.name}, {hints}, is_bare=False)").body
    after = next(at for at, each in enumerate(module.body) if isinstance(each, ast.ClassDef))
    module.body[after:after] = ast.parse(_PREAMBLE).body
    module.body += told
    return ast.unparse(module) + "\n"


def describe(kind: type, hints: dict[str, str], is_bare: bool) -> None:
    """Tell what the compiled class is: its hints, and where it is bare, its fields."""
    kind.__annotations__ = hints
    if is_bare:
        twin = make_dataclass(kind.__name__, list(hints.items()), frozen=True)
        setattr(kind, FIELDS, getattr(twin, FIELDS))


def _is_frozen_dataclass(kind: ast.ClassDef) -> bool:
    return any(
        isinstance(each, ast.Call)
        and ast.unparse(each.func) == "dataclass"
        and any(word.arg == "frozen" and ast.literal_eval(word.value) for word in each.keywords)
        for each in kind.decorator_list
    )


def _refuse_what_would_be_lost(kind: ast.ClassDef, fields: list[ast.AnnAssign]) -> None:
    """Raise ValueError for what dataclasses do and ``_bare`` does not."""
    calls = any(
        isinstance(field.value, ast.Call) and ast.unparse(field.value.func).endswith("field")
        for field in fields
    )
    made = any(
        isinstance(line, ast.FunctionDef) and line.name == "__post_init__" for line in kind.body
    )
    if kind.bases or calls or made:
        raise ValueError(f"{kind.name} cannot be made bare: bases, field() or __post_init__")


def _bare(kind: ast.ClassDef, fields: list[ast.AnnAssign]) -> ast.ClassDef:
    """The same class without its decorator, what that would have made written out."""
    names = [ast.unparse(field.target) for field in fields]
    mine = "(" + "".join(f"self.{name}, " for name in names) + ")"
    others = "(" + "".join(f"other.{name}, " for name in names) + ")"
    shown = ", ".join(f"{name}={{self.{name}!r}}" for name in names)
    literals = ", ".join(f"Literal[{name!r}]" for name in names) or "()"
    parameters = ", ".join(["self", *map(ast.unparse, fields)])
    written = ast.parse(f'''
@mypyc_attr(acyclic=True)
class {kind.name}:
    __match_args__: ClassVar[tuple[{literals}]] = {tuple(names)}

    def __init__({parameters}) -> None:
        {"; ".join(f"self.{name} = {name}" for name in names) or "pass"}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, {kind.name}):
            return NotImplemented
        return {mine} == {others}

    def __hash__(self) -> int:
        return hash({mine})

    def __repr__(self) -> str:
        return f"{kind.name}({shown})"
''')
    bare = written.body[0]
    assert isinstance(bare, ast.ClassDef)
    for field in fields:
        field.value = None  # defaults are those of the parameters by now
    bare.body = [*kind.body, *bare.body]
    return bare

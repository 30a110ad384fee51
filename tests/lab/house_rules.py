"""The house rules as functions: a source file in, complaints out.

Each rule reads the syntax tree or the comments of one file and returns sentences that start with
the line. Rules see what is written, not what runs: they hold habits, tests hold behavior.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_SEAM = ("gossip.errors", "gossip.config", "gossip.messages", "gossip.machine", "gossip.deadlines")
_SIBLINGS = ("gossip.membership", "gossip.topology", "gossip.exchange", "gossip.hashing")
PURE = (*_SEAM, *_SIBLINGS, "gossip.replication", "gossip.core")
PRODUCT = ("gossip", "peers", "simulations")

LAYERS: dict[str, tuple[str, ...]] = {
    "gossip.errors": (),
    "gossip.messages": (),
    "gossip.config": ("gossip.errors", "gossip.messages"),
    "gossip.machine": _SEAM[:3],
    "gossip.deadlines": _SEAM[:3],
    "gossip.membership": _SEAM,
    "gossip.topology": _SEAM,
    "gossip.exchange": _SEAM,
    "gossip.hashing": _SEAM,
    "gossip.replication": (*_SEAM, "gossip.hashing"),
    "gossip.core": PURE,
    "gossip.codecs": _SEAM[:3],
    "gossip.mixing": (*_SEAM[:3], "gossip.codecs"),  # it decodes what it applies
    "gossip.wire": _SEAM[:4],
    "gossip.transport": (*_SEAM[:4], "gossip.wire"),
    "gossip": (*_SEAM, "gossip.core"),
    "peers": ("gossip",),
    "simulations": ("gossip", "peers"),
}
"""Which of our modules a module may import, itself aside; the longest matching name decides."""

LAZY = {("peers.cli", "simulations")}
"""Allowed inside a function only. The command line of one peer also starts many (``gossip local``,
``demo``, ``simulate``): it loads them when asked, so that a peer alone never carries them."""

THIRD_PARTY: dict[str, tuple[str, ...]] = {
    "torch": ("gossip.codecs", "gossip.mixing", "peers", "simulations"),
    "zmq": ("gossip.transport.zeromq", "simulations.benchmarks"),
    "msgpack": ("gossip.wire",),
    "xxhash": ("gossip.codecs", "gossip.wire", "gossip.transport", "peers", "simulations"),
    "safetensors": ("peers", "simulations"),
    "rich": ("peers", "simulations"),
    "hypothesis": ("simulations.drawing", "simulations.search"),
    "sklearn": ("peers.tasks.digits",),
    "numba": ("gossip.codecs.loops",),
    "numpy": ("gossip.codecs.loops", "gossip.codecs.loops_wrap"),
}
"""Who may import what is not ours and not the standard library. Not listed: nobody."""

PURE_STDLIB = {
    *(
        "__future__",
        "abc",
        "array",
        "bisect",
        "collections",
        "contextlib",
        "copy",
        "dataclasses",
        "enum",
    ),
    *("fractions", "functools", "hashlib", "heapq", "itertools", "math", "operator", "random"),
    *("re", "statistics", "struct", "types", "typing", "array"),
}
"""All that pure code may use: nothing here knows a clock, a thread, a file or a socket."""

NEVER = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "imp"}
BANNED_WORDS = {
    *("node", "worker", "master", "leader", "broadcast", "heartbeat", "dead", "manager"),
    *("handler", "helper", "util", "common", "misc", "rank"),
}
RANK_ALLOWED = ("gossip.membership", "gossip.messages", "tests")
"""A record's rank is a term of the membership protocol (and the tests speak of it)."""

LINES_MAX = 450
FUNCTION_LINES_MAX = 70
ARGUMENTS_MAX = 8

Function = ast.FunctionDef | ast.AsyncFunctionDef
_ORDERED = {"list", "tuple", "iter", "next", "enumerate", "zip", "map", "filter", "dict"}


@dataclass(frozen=True)
class Source:
    """One file: dotted module name, text and syntax tree."""

    module: str
    text: str
    tree: ast.Module

    @staticmethod
    def of(module: str, text: str) -> Source:
        """Parse a text as if it were the file of ``module``."""
        return Source(module, text, ast.parse(text))

    def under(self, *prefixes: str) -> bool:
        """Whether the module is one of these or inside one of these."""
        return any(_inside(self.module, prefix) for prefix in prefixes)

    def comments(self) -> Iterator[tuple[int, str]]:
        """Line and text of every comment."""
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string

    def functions(self) -> Iterator[Function]:
        """Every function and method, nested ones included."""
        for part in ast.walk(self.tree):
            if isinstance(part, Function):
                yield part


def read_sources(*folders: str) -> list[Source]:
    """All Python files below these folders of the repository, in a fixed order."""
    sources = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            sources.append(Source.of(module, path.read_text(encoding="utf-8")))
    return sources


def _inside(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def _imports(source: Source) -> Iterator[tuple[int, str, bool]]:
    """Line, imported module and whether the import runs with the module (not in a function)."""
    lazy = {part for function in source.functions() for part in ast.walk(function)}
    for part in ast.walk(source.tree):
        if isinstance(part, ast.Import):
            for alias in part.names:
                yield part.lineno, alias.name, part not in lazy
        elif isinstance(part, ast.ImportFrom):
            base = part.module or ""
            for alias in part.names:
                # "from gossip import core" imports gossip.core: name both halves of it.
                is_package = base in PRODUCT or (ROOT / Path(*base.split("."))).is_dir()
                name = f"{base}.{alias.name}" if base and is_package else base
                yield part.lineno, name if part.level == 0 else ".relative", part not in lazy


def layering(source: Source) -> list[str]:
    """Imports follow the table of the house; relative imports hide from it and are not used."""
    complaints = []
    own = max((name for name in LAYERS if source.under(name)), key=len, default=None)
    for line, name, eager in _imports(source):
        top = name.split(".")[0]
        if name == ".relative":
            complaints.append(f"{line}: relative import")
        elif top in NEVER:
            complaints.append(f"{line}: {top} is never used here")
        elif own is None:
            continue
        elif top in (*PRODUCT, "tests"):
            allowed = (*LAYERS[own], own) if own != "gossip" else LAYERS[own]
            lazily = not eager and any(source.under(a) and top == b for a, b in LAZY)
            if not lazily and not any(_inside(name, prefix) for prefix in allowed):
                complaints.append(f"{line}: {own} may not import {name}")
        elif top not in sys.stdlib_module_names:
            if not source.under(*THIRD_PARTY.get(top, ())):
                complaints.append(f"{line}: {source.module} may not import {top}")
        elif source.under(*PURE) and top not in PURE_STDLIB:
            complaints.append(f"{line}: pure code may not import {top}")
    return complaints


def _is_set_annotation(annotation: ast.expr | None) -> bool:
    text = ast.unparse(annotation).strip("'\"") if annotation is not None else ""
    return re.match(r"(typing\.)?(set|frozenset|Set|AbstractSet|MutableSet)\b", text) is not None


class _Sets:
    """Which expressions of one file are sets, as far as the text shows."""

    def __init__(self, tree: ast.Module) -> None:
        self._names: set[str] = set()
        for _ in range(2):  # twice: a name may be assigned from a name defined further down
            for part in ast.walk(tree):
                if isinstance(part, ast.AnnAssign) and _is_set_annotation(part.annotation):
                    self._names.add(ast.unparse(part.target))
                    self._names.add(f"self.{ast.unparse(part.target)}")
                elif isinstance(part, ast.arg) and _is_set_annotation(part.annotation):
                    self._names.add(part.arg)
                elif isinstance(part, ast.Assign) and self.holds(part.value):
                    self._names.update(ast.unparse(target) for target in part.targets)

    def holds(self, expression: ast.expr) -> bool:
        """Whether the expression is a set."""
        match expression:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Call(func=ast.Name(id="set" | "frozenset")):
                return True
            case ast.Call(func=ast.Attribute(value=owner, attr=name)):
                return name in {
                    "union",
                    "intersection",
                    "difference",
                    "symmetric_difference",
                } or (name == "copy" and self.holds(owner))
            case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
                return any(self.holds(side) or _is_keys(side) for side in (left, expression.right))
            case ast.Name() | ast.Attribute():
                return ast.unparse(expression) in self._names
        return False


def _is_keys(expression: ast.expr) -> bool:
    match expression:
        case ast.Call(func=ast.Attribute(attr="keys" | "items")):
            return True
    return False


def purity(source: Source) -> list[str]:
    """No global randomness, no hash() or id(), and no order that a set decides in pure code."""
    if not source.under(*PURE):
        return []
    complaints = []
    sets = _Sets(source.tree)
    for part in ast.walk(source.tree):
        match part:
            case ast.Attribute(value=ast.Name(id="random"), attr=name) if name != "Random":
                complaints.append(f"{part.lineno}: random.{name} is global; inject a Random")
            case ast.ImportFrom(module="random", names=names):
                if any(alias.name != "Random" for alias in names):
                    complaints.append(f"{part.lineno}: only Random may be taken from random")
            case (
                ast.Call(func=ast.Name(id="Random"), args=[])
                | ast.Call(func=ast.Attribute(value=ast.Name(id="random"), attr="Random"), args=[])
            ):
                complaints.append(f"{part.lineno}: a Random without a seed")
            case ast.Call(func=ast.Name(id="hash" | "id" as name)):
                complaints.append(f"{part.lineno}: {name}() differs between processes")
            case ast.For(iter=order) | ast.comprehension(iter=order) if sets.holds(order):
                complaints.append(f"{order.lineno}: the order of a set differs between processes")
            case ast.Starred(value=order) if sets.holds(order):
                complaints.append(f"{order.lineno}: the order of a set differs between processes")
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in _ORDERED:
                if any(sets.holds(argument) for argument in arguments):
                    complaints.append(f"{part.lineno}: {name}() takes the order of a set")
            case ast.Call(func=ast.Attribute(value=owner, attr="pop"), args=[]):
                if sets.holds(owner):
                    complaints.append(f"{part.lineno}: pop() takes any element of a set")
    return complaints


def _docstring_lines(function: Function) -> int:
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is None or first.end_lineno is None:
        return 0
    return first.end_lineno - first.lineno + 1


def sizes(source: Source) -> list[str]:
    """Files, functions and argument lists that can be held in the head."""
    complaints = []
    lines = source.text.count("\n")
    if lines >= LINES_MAX:
        complaints.append(f"1: {lines} lines, the limit is {LINES_MAX}")
    for function in source.functions():
        assert function.end_lineno is not None
        length = function.end_lineno - function.lineno + 1 - _docstring_lines(function)
        if length > FUNCTION_LINES_MAX:
            complaints.append(f"{function.lineno}: {function.name} has {length} lines")
        given = function.args
        names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        count = len([name for name in names if name not in {"self", "cls"}])
        if count > ARGUMENTS_MAX:
            complaints.append(f"{function.lineno}: {function.name} takes {count} arguments")
    return complaints


def docstrings(source: Source) -> list[str]:
    """Modules, public classes and public functions say what they are; every test says what for."""
    complaints = []
    in_tests = source.under("tests")
    if not in_tests and ast.get_docstring(source.tree) is None:
        complaints.append("1: the module has no docstring")

    def look(body: list[ast.stmt]) -> None:
        for part in body:
            if not isinstance(part, ast.ClassDef | Function) or part.name.startswith("_"):
                continue
            wanted = not in_tests or part.name.startswith("test_")
            if wanted and ast.get_docstring(part) is None:
                complaints.append(f"{part.lineno}: {part.name} has no docstring")
            if isinstance(part, ast.ClassDef):
                look(part.body)

    look(source.tree.body)
    return complaints


def excepts(source: Source) -> list[str]:
    """Errors are caught by name and never dropped in silence."""
    complaints = []
    for part in ast.walk(source.tree):
        if not isinstance(part, ast.ExceptHandler):
            continue
        caught = ast.unparse(part.type) if part.type is not None else ""
        # Tidying up on the way out is fine as long as the error goes on its way.
        passes_on = isinstance(part.body[-1], ast.Raise) and part.body[-1].exc is None
        broad = not caught or re.search(r"\b(Base)?Exception\b", caught)
        if broad and not (passes_on and caught == "BaseException"):
            complaints.append(f"{part.lineno}: broad except")
        if all(isinstance(statement, ast.Pass) for statement in part.body):
            complaints.append(f"{part.lineno}: except ... pass; contextlib.suppress says it aloud")
    return complaints


def unsafe(source: Source) -> list[str]:
    """No eval, exec, unchecked torch.load, compile of text, or writing through ``.data``."""
    complaints = []
    for part in ast.walk(source.tree):
        match part:
            case ast.Call(func=ast.Name(id="eval" | "exec" | "__import__" as name)):
                complaints.append(f"{part.lineno}: {name}()")
            case ast.Attribute(attr="data"):
                complaints.append(f"{part.lineno}: .data bypasses autograd's bookkeeping")
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load")):
                safe = [k for k in part.keywords if k.arg == "weights_only"]
                if not safe or ast.unparse(safe[0].value) != "True":
                    complaints.append(f"{part.lineno}: torch.load without weights_only=True")
    return complaints


def unfinished(source: Source) -> list[str]:
    """Nothing is left to be done in a comment."""
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    return [f"{line}: {text}" for line, text in source.comments() if marks.search(text)]


def _defined_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for part in ast.walk(tree):
        match part:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                # visit_Name, test_... : the words of a test's sentence are English, not code
                if not name.startswith(("visit_", "test_")):
                    yield part.lineno, name
            case ast.ClassDef(name=name) | ast.arg(arg=name):
                yield part.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield part.lineno, name
            case ast.alias(asname=str(name)):
                yield part.lineno, name


def split_words(identifier: str) -> list[str]:
    """The lower-case words of a snake_case or CamelCase identifier."""
    found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)
    return [word.lower() for word in found]


def words(source: Source) -> list[str]:
    """Names use the project's words, and say more than "data" and "info"."""
    complaints = []
    named = [*_defined_names(source.tree), (1, source.module.replace(".", "_"))]
    for line, name in named:
        found = split_words(name)
        for word in found:
            stem = word.removesuffix("s")
            if "rank" in {word, stem} and source.under(*RANK_ALLOWED):
                continue
            if word in BANNED_WORDS or stem in BANNED_WORDS:
                complaints.append(f"{line}: {name} uses the word {word}")
        if "world_size" in "_".join(found):
            complaints.append(f"{line}: {name}: a swarm has no fixed size")
        if name in {"data", "info"}:
            complaints.append(f"{line}: the bare name {name} says nothing")
    return complaints


_MACHINE_PATH = re.compile(
    r"(?<![\w.:/*}>-])/(?:work|home|root|Users|opt|mnt|scratch)/\w|\b[A-Z]:\\+Users\b"
)


def machine_paths(source: Source) -> list[str]:
    """No path of somebody's machine is written into code or comments."""
    return [
        f"{number}: {line.strip()}"
        for number, line in enumerate(source.text.splitlines(), 1)
        if _MACHINE_PATH.search(line)
    ]


_IGNORE = re.compile(
    r"(?P<kind>noqa|type:\s*ignore|pragma:\s*no\s*cover)"
    r"(?P<code>:\s*[A-Z]+\d+(?:\s*,\s*[A-Z]+\d+)*|\[[\w, -]+\])?(?P<reason>.*)"
)


def ignores(source: Source) -> list[str]:
    """Every exception to a rule names the rule and carries its reason in the same comment."""
    complaints = []
    for line, text in source.comments():
        found = _IGNORE.search(text)
        if found is None or not re.match(r"#+\s*(noqa|type:|pragma:)", text):
            continue
        needs_code = not found["kind"].startswith("pragma")
        if needs_code and not found["code"]:
            complaints.append(f"{line}: {text} names no rule")
        if len(found["reason"].strip(" #-:;,")) < 10:
            complaints.append(f"{line}: {text} gives no reason")
    return complaints

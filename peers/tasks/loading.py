"""From a name or a file to a task: ``digits``, ``text``, ``path/to/file.py:task`` ...

Every mistake a user can make here is a UsageError of one line that says what would be right.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TypeAlias, TypeGuard

from gossip.errors import UsageError
from peers.tasks.digits import DigitsTask
from peers.tasks.line import LineTask
from peers.tasks.mnist import MnistTask
from peers.tasks.recommender import RecommenderTask
from peers.tasks.task import REQUIRED, Task
from peers.tasks.text import TextTask

Option = int | float | str | tuple[int, ...]

_BuiltIn: TypeAlias = (
    type[DigitsTask] | type[LineTask] | type[MnistTask] | type[RecommenderTask] | type[TextTask]
)

BUILT_IN: dict[str, _BuiltIn] = {
    "digits": DigitsTask,
    "line": LineTask,
    "mnist": MnistTask,
    "recommender": RecommenderTask,
    "text": TextTask,
}
"""Tasks that are known by name."""


def load_task(spec: str, options: Mapping[str, str]) -> Task:
    """The task that ``spec`` names, with ``options`` set (values as typed on a command line).

    Runs the user's file when ``spec`` is ``path/to/file.py:name``; an error inside it is theirs
    and passes through. Raises UsageError for anything wrong with ``spec`` or ``options``.
    """
    if spec in BUILT_IN:
        return _built_in(spec, options)
    path, colon, attribute = spec.rpartition(":")
    if not colon and spec.endswith(".py"):
        raise UsageError(f"task {spec}: say which object in it, as in {spec}:task")
    if not path.endswith(".py"):
        known = ", ".join(sorted(BUILT_IN))
        raise UsageError(f"unknown task {spec!r}; known are {known} and path/to/file.py:task")
    if options:
        raise UsageError(f"task {spec}: a task of your own takes no options (set them in its file)")
    return _from_file(Path(path), attribute)


def _built_in(name: str, options: Mapping[str, str]) -> Task:
    made = BUILT_IN[name]
    blank = made()
    defaults: dict[str, Option] = {field.name: getattr(blank, field.name) for field in fields(made)}
    unknown = sorted(set(options) - set(defaults))
    if unknown:
        known = ", ".join(sorted(defaults))
        raise UsageError(f"task {name}: unknown option {unknown[0]!r}; known are {known}")
    values = {key: _read(name, key, text, defaults[key]) for key, text in options.items()}
    # The fields' types are those of their defaults, which is what _read goes by.
    return made(**values)  # type: ignore[arg-type]  # one dict for fields of several types


def _read(task: str, key: str, text: str, default: Option) -> Option:
    """``text`` as a value of the type of ``default``."""
    try:
        match default:
            case int():
                return int(text)
            case float():
                return float(text)
            case tuple():
                return tuple(int(part) for part in text.split(","))
            case str():
                return text
    except ValueError as error:
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        raise UsageError(f"task {task}: {key}={text!r} should look like {key}={shown}") from error


def _from_file(path: Path, attribute: str) -> Task:
    if not path.is_file():
        raise UsageError(f"task file {path} does not exist")
    name = f"_task_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"task file {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while they are defined
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError) as error:
        del sys.modules[name]
        raise UsageError(f"task file {path} cannot be loaded: {error}") from error
    found: object = getattr(module, attribute, None)
    if found is None:
        raise UsageError(f"task file {path} has no {attribute!r}")
    if callable(found) and (isinstance(found, type) or not _is_task(found)):
        found = _call(found, path, attribute)
    if not _is_task(found):
        missing = ", ".join(part for part in REQUIRED if not hasattr(found, part))
        raise UsageError(f"{path}:{attribute} is not a task; it lacks {missing}")
    for part in ("shards", "batch_samples"):
        count: object = getattr(found, part)
        if not isinstance(count, int) or count < 1:
            raise UsageError(f"{path}:{attribute}: {part} must be a whole number, at least 1")
    return found


def _call(made: Callable[..., object], path: Path, attribute: str) -> object:
    try:
        inspect.signature(made).bind()
    except TypeError as error:
        raise UsageError(f"{path}:{attribute} must be callable without arguments") from error
    return made()


def _is_task(found: object) -> TypeGuard[Task]:
    return all(hasattr(found, part) for part in REQUIRED)

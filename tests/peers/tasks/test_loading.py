"""Loading a task by name or from a file, and what is said when it cannot be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gossip.errors import UsageError
from peers.tasks.digits import DigitsTask
from peers.tasks.line import LineTask
from peers.tasks.loading import load_task

OWN = """
from dataclasses import dataclass
from peers.tasks.line import LineTask

@dataclass(frozen=True)
class Own:
    inner: LineTask = LineTask(shards=3)
    name: str = "own"
    shards: int = 3
    batch_samples: int = 2
    def model(self, seed): return self.inner.model(seed)
    def optimizer(self, model): return self.inner.optimizer(model)
    def loss(self, model, batch): return self.inner.loss(model, batch)
    def shard(self, index): return self.inner.shard(index)
    def evaluate(self, model): return self.inner.evaluate(model)
    def describe(self): return "own"

task = Own()
def make(): return Own(shards=2)
def needs(value): return Own()
def broken(): return 3
none = Own(shards=0)
nothing = Own(batch_samples=0)
number = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A file with a task in it."""
    path = tmp_path / "own_task.py"
    path.write_text(OWN, encoding="utf-8")
    yield path
    sys.modules.pop("_task_own_task", None)


def test_built_in_tasks_are_known_by_name() -> None:
    """Without options they come with their defaults."""
    assert load_task("digits", {}) == DigitsTask()
    assert load_task("line", {}) == LineTask()


def test_options_are_read_as_the_type_of_their_default() -> None:
    """Whole numbers, fractions, words and lists of widths."""
    options = {"skew": "none", "shards": "10", "lr": "0.01", "hidden": "64,32", "net": "cnn"}

    assert load_task("digits", options) == DigitsTask(
        skew="none", shards=10, lr=0.01, hidden=(64, 32), net="cnn"
    )


@pytest.mark.parametrize(
    "spec, options, said",
    [
        (
            "digit",
            {},
            "unknown task 'digit'; known are digits, line, mnist, recommender, text and "
            "path/to/file.py:task",
        ),
        ("x:y", {}, "unknown task 'x:y'"),
        ("some.py", {}, "say which object in it, as in some.py:task"),
        ("missing.py:task", {}, "task file missing.py does not exist"),
        ("digits", {"skw": "label"}, "unknown option 'skw'; known are batch, hidden, lr"),
        ("digits", {"shards": "many"}, "shards='many' should look like shards=20"),
        ("digits", {"hidden": "a,b"}, "should look like hidden=128,64"),
        ("digits", {"skew": "labels"}, "should be label, none or dirichlet:ALPHA"),
        ("digits", {"skew": "dirichlet:x"}, "should be label, none or dirichlet:ALPHA"),
        ("digits", {"skew": "dirichlet:nan"}, "should be label, none or dirichlet:ALPHA"),
        ("digits", {"shards": "0"}, "shards must be 1 to 500"),
        ("digits", {"net": "rnn"}, "net must be mlp or cnn"),
        ("digits", {"lr": "nan"}, "lr must be above 0"),
        ("line", {"batch": "0"}, "batch must be at least 1"),
        ("line", {"lr": "2"}, "lr must be above 0"),
        ("missing.py:task", {"lr": "1"}, "takes no options"),
    ],
)
def test_a_mistake_is_answered_in_one_line(spec: str, options: dict[str, str], said: str) -> None:
    """A UsageError names the mistake and what would be right, without a line break."""
    with pytest.raises(UsageError) as raised:
        load_task(spec, options)

    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("attribute, shards", [("task", 3), ("make", 2), ("Own", 3)])
def test_a_task_of_ones_own_is_an_object_or_makes_one(
    own: Path, attribute: str, shards: int
) -> None:
    """An instance, a function without arguments and a class all do."""
    task = load_task(f"{own}:{attribute}", {})

    assert (task.name, task.shards) == ("own", shards)
    assert task.evaluate(task.model(0))["error"] > 0


@pytest.mark.parametrize(
    "attribute, said",
    [
        ("absent", "has no 'absent'"),
        ("number", "is not a task; it lacks name, shards"),
        ("broken", "is not a task; it lacks name, shards"),
        ("needs", "must be callable without arguments"),
        ("none", "shards must be a whole number, at least 1"),
        ("nothing", "batch_samples must be a whole number, at least 1"),
    ],
)
def test_an_object_that_is_no_task_is_told_what_it_lacks(
    own: Path, attribute: str, said: str
) -> None:
    """The message names file, attribute and fault."""
    with pytest.raises(UsageError) as raised:
        load_task(f"{own}:{attribute}", {})

    assert said in str(raised.value)
    assert str(own) in str(raised.value)


@pytest.mark.parametrize("text", ["def", "import not_a_module_at_all"])
def test_a_file_that_cannot_be_loaded_is_named(own: Path, text: str) -> None:
    """A syntax error or a missing import is the user's to fix: one line, no traceback."""
    own.write_text(text, encoding="utf-8")

    with pytest.raises(UsageError, match="cannot be loaded"):
        load_task(f"{own}:task", {})
    assert "_task_own_task" not in sys.modules


def test_an_error_inside_the_users_file_is_theirs(own: Path) -> None:
    """It passes through with its traceback."""
    own.write_text("1 / 0", encoding="utf-8")

    with pytest.raises(ZeroDivisionError):
        load_task(f"{own}:task", {})

"""How tests are shared among the processes that run them (``pytest -n``).

Those that start processes of their own, or time something, are one row: a single process runs them,
one after another. Tests of other processes run beside it, but step back from the processor whenever
one of the row wants to run. (``--dist=loadgroup`` would do, but that of pytest-xdist 3.8 finds no
groups under pytest 9.)
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

MARKS = ("processes", "timed")
"""Of tests in the row."""


def is_in_the_row(item: pytest.Item) -> bool:
    """Whether the test has one of the marks."""
    return any(item.get_closest_marker(mark) for mark in MARKS)


def tell(folder: Path, row: Sequence[str]) -> None:
    """Say which tests are in the row; every process finds the same ones."""
    mine = folder / f"row-{os.getpid()}"
    mine.write_text(json.dumps(row))
    mine.replace(folder / "row")


class Sharing(LoadScopeScheduling):
    """Each test goes to whichever process is free; but the row goes to one, the first of all.

    So the longest share is begun at once, and its fixtures are made once.
    """

    def __init__(self, config: pytest.Config, log: Producer, folder: Path) -> None:
        super().__init__(config, log)
        self._folder = folder

    @cached_property
    def _row(self) -> frozenset[str]:
        return frozenset(json.loads((self._folder / "row").read_text()))

    def _split_scope(self, nodeid: str) -> str:
        return "row" if nodeid in self._row else nodeid

"""Tests that start processes, or time something, are one row; all others step back for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import FOLDER, NICE_AT_FIRST
from tests.lab.row import Sharing, is_in_the_row, tell


def shares(folder: Path, tests: list[str]) -> list[str]:
    """Which share each test goes to."""
    sharing = object.__new__(Sharing)
    sharing._folder = folder
    return list(map(sharing._split_scope, tests))


def test_the_row_is_one_share(tmp_path: Path) -> None:
    """Others are one each; every process has told the same."""
    for _ in range(2):
        tell(tmp_path, ["a", "c"])
    assert ["row", "b", "row", "d"] == shares(tmp_path, ["a", "b", "c", "d"])


@pytest.mark.timed
def test_a_marked_test_is_in_the_row(request: pytest.FixtureRequest) -> None:
    """This one; and it does not step back."""
    assert is_in_the_row(request.node)
    assert os.nice(0) == NICE_AT_FIRST
    if FOLDER in os.environ:
        assert shares(Path(os.environ[FOLDER]), [request.node.nodeid]) == ["row"]


def test_any_other_steps_back(request: pytest.FixtureRequest) -> None:
    """But only where there may be somebody to step back for."""
    assert not is_in_the_row(request.node)
    if FOLDER in os.environ:
        assert os.nice(0) == 19

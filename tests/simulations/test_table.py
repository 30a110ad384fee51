"""The live table and its one-line form."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from simulations.table import Loss, Row, Sees, live_table, lost_line, one_line

ROWS = [
    Row(0, "killed", 22_816, 0.001, 0.878, 3, 40, 974_242, 0.0644, 0.0133, Sees(0, 8, 9)),
    Row(
        1,
        "finishing",
        1_234_567,
        2.5,
        0.955,
        0,
        12_345,
        1_234_567_890,
        0.1234,
        0.3051,
        Sees(12, 1, 2),
    ),
    Row(10, "starting"),
]
LOSSES = [
    Loss(3, "refused", 3, 3),
    Loss(5, "silent", 1, 0),
    Loss(12, "", 2, 0),
    Loss(0, "closed", 1, 0),
]


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_nothing_is_cut_off_in_a_terminal_of_usual_width(columns: int) -> None:
    """Large numbers included."""
    console = Console(file=io.StringIO(), width=columns)
    console.print(live_table(ROWS, "accuracy", "5 of 36 s", columns, LOSSES))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()

    assert "…" not in shown
    for text in (
        "finishing",
        "1,234,567",
        "12,345",
        "1234.57",
        "0.1234",
        "305 ms",
        "12/1/2",
        "5 of 36 s",
        "lost: p3 (refused, down for 3), p5 (silent, lost to 1), +2 more",
    ):
        assert text in shown
    assert max(map(len, shown.splitlines())) <= columns


def test_lost_peers_have_a_line_of_their_own_below_the_table() -> None:
    """However few they are; and there is none while nobody is lost."""
    console = Console(file=io.StringIO(), width=80)
    console.print(live_table(ROWS, "accuracy", "5 of 36 s", 80, LOSSES[2:]))
    console.print(live_table(ROWS, "accuracy", "6 of 36 s", 80))
    assert isinstance(console.file, io.StringIO)
    shown = [line.rstrip() for line in console.file.getvalue().splitlines()]

    assert "lost: p12 (no answer, lost to 2), p0 (closed, lost to 1)" in shown
    assert 1 == sum("lost:" in line for line in shown)


@pytest.mark.parametrize("columns", range(10, 160, 10))
def test_as_many_losses_are_named_as_fit_and_the_others_counted(columns: int) -> None:
    """The first ones: they are the latest."""
    line = lost_line(LOSSES, columns)

    assert len(line) <= columns
    named = line.count("(")
    counted = f"+{4 - named} more" if named else "lost: 4"
    assert named == 4 or line.endswith(counted)
    assert [f"p{each.peer} (" in line for each in LOSSES] == [place < named for place in range(4)]


def test_a_line_counts_states_and_gives_the_range_of_the_figure() -> None:
    """A peer without a figure does not count as the worst, nor one that is dead."""
    line = one_line(ROWS, "accuracy", 12.34)

    assert "12.3 s · 1 killed, 1 finishing, 1 starting" in line
    assert "accuracy 0.955 to 0.955" in line
    assert "nan" not in line
    assert line.endswith("up to 1 seen busy, 2 down")  # by those that still look
    line = one_line(ROWS, "accuracy", 12.34, LOSSES[:1])
    assert line.endswith("2 down · lost: p3 (refused, down for 3)")


def test_a_line_without_any_figure_has_no_range() -> None:
    """At the start nobody has evaluated yet."""
    assert math.isnan(Row(0, "starting").figure)
    assert "accuracy" not in one_line([Row(0, "starting")], "accuracy", 0.0)

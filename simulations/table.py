"""Peers as rows: the live table of a local run, and the same in one line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

STYLES = {
    "training": "green",
    "finishing": "cyan",
    "finished": "bold green",
    "frozen": "yellow",
    "killed": "bold red",
    "failed": "bold red",
}
"""Of states; others are dim."""

GONE = ("killed", "failed", "ended")
"""States whose last figures are old: dim, and no witness of anything."""

CAPTION_COLUMNS = 77
"""A caption is as wide as its table, and the narrowest is so wide."""

_NONE = "–"
ROOMY_COLUMNS = 104


class Sees(NamedTuple):
    """How a peer sees the others: ``busy`` are live ones it does not get through to."""

    alive: int
    busy: int
    down: int

    def __str__(self) -> str:
        return f"{self.alive}/{self.busy}/{self.down}"


@dataclass(frozen=True, slots=True)
class Row:
    """One peer. ``figure`` is its task's main figure; NaN is shown as nothing."""

    peer: int
    state: str
    samples: int = 0
    loss: float = math.nan
    figure: float = math.nan
    partner: int | None = None
    swaps: int = 0
    sent_bytes: int = 0
    disagreement: float = math.nan
    stall_s: float = 0.0
    sees: Sees | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """One peer that others have lost: how many, for how many of them it is down (the group's
    verdict, not only their own), and the cause that most of them found; empty when none did."""

    peer: int
    cause: str
    lost_to: int
    down_for: int

    def __str__(self) -> str:
        many = f"down for {self.down_for}" if self.down_for else f"lost to {self.lost_to}"
        return f"p{self.peer} ({self.cause or 'no answer'}, {many})"


def live_table(
    rows: Sequence[Row],
    figure: str,
    caption: str,
    columns: int = 100,
    losses: Sequence[Loss] = (),
) -> Table:
    """All peers, one row each; ``figure`` names the main figure. Fits into 80 ``columns``. Below,
    which peers are lost and why."""
    lost = f"\n{lost_line(losses)}" if losses else ""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1) if columns >= ROOMY_COLUMNS else 0,
        caption=f"{caption} · sees: others alive/busy/down{lost}",
        caption_justify="left",
        caption_style="dim",
    )
    table.add_column("peer", justify="right", no_wrap=True)
    table.add_column("state", min_width=9, no_wrap=True)
    widths = {
        "sees": 5,
        "samples": 8,
        "loss": 5,
        figure: 8,
        "with": 4,
        "swaps": 5,
        "MB sent": 7,
        "apart": 6,
        "stall": 6,
    }
    for name, width in widths.items():
        table.add_column(name, justify="right", min_width=width, no_wrap=True)
    for row in rows:
        style = STYLES.get(row.state, "dim")
        table.add_row(
            str(row.peer),
            Text(row.state, style=style),
            _NONE if row.sees is None else str(row.sees),
            f"{row.samples:,}",
            number(row.loss, 3),
            number(row.figure, 3),
            _NONE if row.partner is None else str(row.partner),
            f"{row.swaps:,}",
            f"{row.sent_bytes / 1e6:.2f}",
            number(row.disagreement, 4),
            f"{row.stall_s * 1e3:.0f} ms",
            style="dim" if row.state in (*GONE, "starting") else None,
        )
    return table


def lost_line(losses: Sequence[Loss], columns: int = CAPTION_COLUMNS) -> str:
    """The first of these losses, as many as fit, and how many more there are."""
    for shown in range(len(losses), 0, -1):
        more = [f"+{len(losses) - shown} more"] if shown < len(losses) else []
        line = f"lost: {', '.join([*map(str, losses[:shown]), *more])}"
        if len(line) <= columns:
            return line
    return f"lost: {len(losses)}"


def one_line(
    rows: Sequence[Row], figure: str, elapsed_s: float, losses: Sequence[Loss] = ()
) -> str:
    """The same in a line, for logs and pipes."""
    states: dict[str, int] = {}
    for row in rows:
        states[row.state] = states.get(row.state, 0) + 1
    here = [row for row in rows if row.state not in GONE]
    figures = [row.figure for row in here if not math.isnan(row.figure)]
    parts = [f"{elapsed_s:5.1f} s", ", ".join(f"{n} {state}" for state, n in states.items())]
    parts.append(f"{sum(row.samples for row in rows):,} samples")
    if figures:
        parts.append(f"{figure} {min(figures):.3f} to {max(figures):.3f}")
    parts.append(f"{sum(row.swaps for row in rows):,} swaps")
    parts.append(f"{sum(row.sent_bytes for row in rows) / 1e6:.2f} MB sent")
    views = [row.sees for row in here if row.sees is not None]
    if any(each.busy or each.down for each in views):
        busy, down = max(each.busy for each in views), max(each.down for each in views)
        parts.append(f"up to {busy} seen busy, {down} down")
    if losses:
        parts.append(lost_line(losses))
    return " · ".join(parts)


def number(value: float, digits: int) -> str:
    """A float of a table's cell."""
    return _NONE if math.isnan(value) else f"{value:.{digits}f}"

"""One HTML file with everything: charts, table, what was run. Works offline; loads nothing."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

import torch

from gossip.errors import UsageError
from simulations.compare.chart import Axis, Series, draw
from simulations.compare.links import Link, Machine, links_with, run_s
from simulations.compare.results import Outcome, Point
from simulations.compare.summary import Row, front_of, interval
from simulations.compare.sweep import Plan

LOSS_ROOM: Final = 1.6
"""Charts of loss end at the best loss times this: the first steps would squeeze all the rest."""

STYLE: Final = """
:root { --paper: #fff; --ink: #1c2024; --soft: #62696f; --line: #e1e4e8; --stripe: #f6f8fa;
  --c0: #2f6fde; --c1: #d6602b; --c2: #2c8f4b; --c3: #a13fb8; --c4: #b58900; --c5: #c2304a;
  --c6: #138d90; --c7: #6c5ce7; --c8: #7a6652; --c9: #4a5560; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e6e9ec; --soft: #9aa3ab;
  --line: #2b3138; --stripe: #1b1f24; --c0: #6ea0ff; --c1: #ff9a62; --c2: #62cf84; --c3: #d68bea;
  --c4: #e3bd4c; --c5: #ff7d90; --c6: #55cfd2; --c7: #a79bff; --c8: #c4ab8f; --c9: #a9b4be; } }
body { margin: 0 auto; padding: 1rem; max-width: 74rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: .4rem 0; } h2 { font-size: 1.05rem; margin: 1.4rem 0 .3rem; }
p, li { max-width: 46rem; } .soft { color: var(--soft); }
.charts { display: grid; gap: 1rem 1.6rem;
  grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.charts.one { max-width: 40rem; }
.charts svg { width: 100%; height: auto; } figure { margin: 0; } figcaption { font-weight: 600; }
.grid { stroke: var(--line); } .line { fill: none; stroke-width: 2; } .band { opacity: .16; }
.tick { fill: var(--soft); font-size: 13px; text-anchor: end; } .tick.x { text-anchor: middle; }
.axis { fill: var(--soft); font-size: 13px; text-anchor: middle; }
.axis.y { text-anchor: start; }
.front { stroke: var(--soft); stroke-dasharray: 5 4; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; padding: 0; }
.key li::before { content: ""; display: inline-block; width: .8em; height: .8em; margin-right: .4em;
  border-radius: 50%; background: var(--k); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { border-bottom: 1px solid var(--line); }
tbody tr:nth-child(even) { background: var(--stripe); }
code { font-size: 13px; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True, slots=True)
class Report:
    """What the page tells; ``link`` is the one whose seconds are drawn."""

    plan: Plan
    rows: Sequence[Row]
    machine: Machine
    link: Link
    remarks: Sequence[str]
    command: str


def write_report(path: Path, report: Report) -> None:
    """Write the report. Raises UsageError when the file cannot be written."""
    try:
        path.write_text(page(report), encoding="utf-8")
    except OSError as wrong:
        raise UsageError(f"cannot write {path}: {wrong.strerror}") from wrong


def page(report: Report) -> str:
    """The page's text."""
    base = report.plan.base
    headings = list(dict.fromkeys(row.heading for row in report.rows))
    sections = "\n".join(
        _section(heading, [row for row in report.rows if row.heading == heading], report)
        for heading in headings
    )
    colors = "\n".join(
        f".s{c} {{ stroke: var(--c{c}); }} "
        f".dot.s{c}, .band.s{c} {{ fill: var(--c{c}); stroke: none; }}"
        for c in range(10)
    )
    title = f"{base.task}: {', '.join(map(str, report.plan.sizes))} peers side by side"
    remarks = "".join(f"<li>{escape(remark)}</li>" for remark in report.remarks)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}{colors}</style></head><body>
<h1>{escape(title)}</h1>
<p class="soft">Equal samples, equal data, each method at its own best learning rate of the same
sweep. Loss is that of the mean model on held-out data unless it says otherwise; bytes are what one
peer sends. Bands and &#177; are 95&#160;% intervals over seeds. The dashed line joins the methods
that no other beats in both loss and bytes.</p>
<ul>{remarks}</ul>
{_sizes(report)}
{sections}
<h2>What was run</h2>
{_settings(report)}
</body></html>
"""


def _section(heading: str, rows: Sequence[Row], report: Report) -> str:
    best = min(row.loss for row in rows)
    link = report.link
    charts = [
        ("Loss against bytes sent per peer", _pareto(rows, best * LOSS_ROOM)),
        ("Loss against samples", _curves(rows, best * LOSS_ROOM)),
        (
            f"Loss against modelled seconds, {_of(link)}",
            _timed(rows, best, report.machine, link),
        ),
        ("Mean model, worst peer, worst peer after finishing", _peers(rows)),
    ]
    figures = "\n".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>" for title, svg in charts
    )
    return f"""<h2>{escape(heading)}</h2>
{_key([row.spec.text for row in rows])}
<div class="charts">{figures}</div>
<div class="wide">{_table(rows)}</div>
<details><summary>Seed by seed</summary><div class="wide">{_by_seed(rows)}</div></details>"""


def _key(names: Sequence[str]) -> str:
    entries = "\n".join(
        f'<li style="--k: var(--c{place % 10})">{escape(name)}</li>'
        for place, name in enumerate(names)
    )
    return f'<ul class="key">{entries}</ul>'


def _sizes(report: Report) -> str:
    """Loss against the number of peers, where several were compared."""
    if len(report.plan.sizes) < 2:
        return ""
    parts: list[str] = []
    for inner in report.plan.rates:
        rows = [row for row in report.rows if row.inner == inner]
        names = list(dict.fromkeys(row.spec.text for row in rows))
        series = [
            _by_size([row for row in rows if row.spec.text == name], place)
            for place, name in enumerate(names)
        ]
        svg = draw(series, Axis("peers", log=True), Axis("loss"), "loss and number of peers")
        caption = f"Loss of equal samples against the number of peers, {inner}"
        figure = f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"
        parts.append(f'{_key(names)}<div class="charts one">{figure}</div>')
    return "\n".join(parts)


def _by_size(rows: Sequence[Row], color: int) -> Series:
    banded = all(not math.isnan(row.loss_half) for row in rows)
    return Series(
        rows[0].spec.text,
        [float(row.peers) for row in rows],
        [row.loss for row in rows],
        color,
        [row.loss - row.loss_half for row in rows] if banded else (),
        [row.loss + row.loss_half for row in rows] if banded else (),
    )


def _of(link: Link) -> str:
    return f"{link.bits_per_s / 1e6:g} Mbit/s and {link.latency_s * 1000:g} ms"


def _pareto(rows: Sequence[Row], y_max: float) -> str:
    series = [
        Series(
            row.spec.text,
            [row.sent_bytes / 1e6],
            [row.loss],
            place,
            [row.loss - row.loss_half] if not math.isnan(row.loss_half) else (),
            [row.loss + row.loss_half] if not math.isnan(row.loss_half) else (),
            joined=False,
        )
        for place, row in enumerate(rows)
        if row.sent_bytes > 0
    ]
    front = [row for row in front_of(rows) if row.sent_bytes > 0]
    joined = Series(
        "beaten by none in both",
        [row.sent_bytes / 1e6 for row in front],
        [row.loss for row in front],
        color=0,
        dashed=True,
    )
    series = [joined, *series]
    return draw(series, Axis("MB sent per peer", log=True), Axis("loss"), "loss and bytes", y_max)


def _curves(rows: Sequence[Row], y_max: float) -> str:
    series = [
        _curve(row, place, [float(point.samples) for point in row.outcomes[0].curve], y_max)
        for place, row in enumerate(rows)
    ]
    return draw(series, Axis("samples of all peers"), Axis("loss"), "loss and samples", y_max)


def _timed(rows: Sequence[Row], best: float, machine: Machine, link: Link) -> str:
    y_max = best * LOSS_ROOM
    series = []
    for place, row in enumerate(rows):
        first = row.outcomes[0]
        times = [run_s(first, link, machine, point.step) for point in first.curve]
        series.append(_curve(row, place, times, y_max))
    axis = Axis("modelled seconds", log=True)
    return draw(series, axis, Axis("loss"), "loss and modelled seconds", y_max)


def _curve(row: Row, color: int, x: Sequence[float], y_max: float) -> Series:
    """Means over seeds where the loss is within the chart."""
    columns: list[tuple[float, float, float]] = []
    kept: list[float] = []
    for at, points in zip(x, _columns(row.outcomes), strict=False):
        mean, half = interval([point.loss for point in points])
        if mean <= y_max:
            kept.append(at)
            columns.append((mean, mean - half, mean + half))
    banded = len(row.outcomes) > 1
    return Series(
        row.spec.text,
        kept,
        [mean for mean, _, _ in columns],
        color,
        [low for _, low, _ in columns] if banded else (),
        [min(high, y_max) for _, _, high in columns] if banded else (),
    )


def _columns(outcomes: Sequence[Outcome]) -> list[tuple[Point, ...]]:
    return list(zip(*(each.curve for each in outcomes), strict=False))


def _peers(rows: Sequence[Row]) -> str:
    series = [
        Series(row.spec.text, [1.0, 2.0, 3.0], [row.loss, row.worst, row.finished], place)
        for place, row in enumerate(rows)
        if math.isfinite(row.worst)
    ]
    x = Axis("", names=("mean model", "worst peer", "worst peer, finished"))
    return draw(series, x, Axis("loss"), "mean model and worst peer")


def _table(rows: Sequence[Row]) -> str:
    heads = ["method", "rate", "loss", "against ddp", "MB per peer", "fewer bytes"]
    heads += ["worst peer", "finished", *(f"{name} s" for name in rows[0].seconds)]
    heads += [f"{name} s to {rows[0].target:.3f}" for name in rows[0].target_s]
    return _html_table(heads, [_cells(row) for row in rows])


def _by_seed(rows: Sequence[Row]) -> str:
    seeds = [outcome.job.seed for outcome in rows[0].outcomes]
    heads = ["method", *(f"seed {seed}" for seed in seeds)]
    return _html_table(
        heads, [[row.spec.text, *(f"{each.loss:.4f}" for each in row.outcomes)] for row in rows]
    )


def _html_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in heads)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>" for cells in lines
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(row: Row) -> list[str]:
    half = "" if math.isnan(row.loss_half) else f" ± {row.loss_half:.4f}"
    gap = "" if math.isnan(row.gap) else f"{100 * row.gap:+.2f} %"
    if not math.isnan(row.gap_half) and row.gap != 0:
        gap += f" ± {100 * row.gap_half:.2f}"
    return [
        row.spec.text,
        f"{row.rate:g}",
        f"{row.loss:.4f}{half}",
        gap,
        f"{row.sent_bytes / 1e6:.2f}",
        "" if math.isinf(row.fewer_bytes) else f"{row.fewer_bytes:.1f}",
        f"{row.worst:.4f}",
        f"{row.finished:.4f}",
        *(f"{seconds:.0f}" for seconds in row.seconds.values()),
        *map(_seconds, row.target_s.values()),
    ]


def _seconds(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else "never"


def _settings(report: Report) -> str:
    plan, machine, rows = report.plan, report.machine, report.rows
    base = plan.base
    parameters = rows[0].outcomes[0].parameters if rows else 0
    lines = [
        report.command,
        f"task {base.task} {' '.join(f'{key}={value}' for key, value in base.task_options)}",
        "; ".join(f"{size} peers, {plan.steps_of(size)} local steps each" for size in plan.sizes)
        + f"; {parameters:,} parameters",
        f"seeds {', '.join(map(str, plan.seeds))}; the rate swept on the first",
        f"data: {base.split} shards; " + ", ".join(f"{k} {v}" for k, v in base.conditions),
        f"modelled step {machine.step_s * 1000:g} ms, spread {machine.spread:g}; links "
        + "; ".join(f"{each.name}: {_of(each)}" for each in links_with(report.link)),
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores",
    ]
    return "<ul>" + "".join(f"<li><code>{escape(line)}</code></li>" for line in lines) + "</ul>"

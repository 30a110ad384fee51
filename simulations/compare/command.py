"""``gossip compare``: algorithms side by side on one machine, each at its own best rate."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gossip.errors import UsageError
from peers.cli import Parser
from peers.events import plain
from peers.tasks.loading import load_task
from peers.tasks.task import Task
from simulations.compare.cadence import with_cadence
from simulations.compare.conditions import Attack, conditions_of
from simulations.compare.feed import Split
from simulations.compare.inner import INNER_NAMES, inner_named, read_inner
from simulations.compare.links import LINKS, Link, Machine, link_of, links_with
from simulations.compare.registry import DEFAULT_METHODS, METHODS, make_method, read_specs
from simulations.compare.report import Report, write_report
from simulations.compare.results import Job, Outcome, Store
from simulations.compare.summary import Row, remarks_on, rows_of
from simulations.compare.sweep import RATES, Plan, run_plan

DEFAULT_STEPS = 400
QUICK_STEPS = 150
INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Run what is missing, show the table. Exit codes as in ``peers.cli``."""
    options = _parser().parse_args(list(arguments))
    if options.target is not None and not 0 < options.target < math.inf:
        raise UsageError(f"--target {options.target}: a loss to reach must be above 0")
    machine = Machine(options.step_ms / 1000, options.straggle)
    link = link_of(options.link)
    plan = _plan(options, machine, link)
    store = Store(options.resume)
    watch = _Watch(plan, Console(stderr=True), quiet=options.json)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        groups = run_plan(plan, store, options.processes, watch.told)
    except KeyboardInterrupt:
        sys.stderr.write(_how_to_go_on(options.resume))
        return INTERRUPTED
    rows = rows_of(plan, store, groups, machine, options.target, links_with(link))
    remarks = remarks_on(plan, rows)
    if options.html is not None:
        typed = ["gossip", "compare", *arguments]
        write_report(options.html, Report(plan, rows, machine, link, remarks, shlex.join(typed)))
    if options.json:
        sys.stdout.write(json.dumps([_plain(row) for row in rows]) + "\n")
    else:
        Console().print(_table(rows, link))
        Console().print("\n".join(remarks), highlight=False, markup=False)
        if options.html is not None:
            sys.stderr.write(f"report: {options.html}\n")
    return 0


def _parser() -> Parser:
    known = ", ".join(METHODS)
    parser = Parser(prog="gossip compare", description=__doc__)
    parser.add_argument("task", help="digits, line, mnist, recommender, text, or FILE.py:task")
    parser.add_argument("-o", "--option", "--set", action="append", default=[], dest="settings",
                        metavar="NAME=VALUE",
                        help="an option of the task")  # fmt: skip
    parser.add_argument("--methods", default=" ".join(DEFAULT_METHODS), metavar="'A B:K=V'",
                        help=f"known: {known}; options as in diloco:every=50,a=0.8")  # fmt: skip
    parser.add_argument("--peers", default="8",
                        help="how many; 2,4,8: each, with equal samples in all")  # fmt: skip
    parser.add_argument("--seeds", default="0", help="as 0,1,2 or 0..2")
    parser.add_argument(
        "--steps", type=int, help=f"of each peer, of the first number of peers ({DEFAULT_STEPS})"
    )
    parser.add_argument("--budget", type=int, metavar="SAMPLES",
                        help="of all peers together, instead of --steps")  # fmt: skip
    parser.add_argument("--inner", default="adamw",
                        help=f"from {', '.join(INNER_NAMES)}; several; muon:rest=0.5 gives what is "
                        "no hidden matrix half of the rate")  # fmt: skip
    parser.add_argument("--rates", help="the grid of learning rates to begin with, as 3e-3,6e-3")
    parser.add_argument("--split", choices=[each.value for each in Split], default="disjoint",
                        help="peers own different shards, or all draw from all")  # fmt: skip
    parser.add_argument("--loss", type=float, default=0.0, help="share of swaps that are lost")
    parser.add_argument("--spread", type=float, default=1.0, help="fastest peer over slowest")
    parser.add_argument("--churn", type=float, default=0.0,
                        help="share of peers replaced every 25 steps")  # fmt: skip
    parser.add_argument("--attackers", type=int, default=0)
    parser.add_argument("--attack", choices=[each.value for each in Attack], default="noise")
    parser.add_argument("--link", default="wan", metavar="LINK",
                        help="for the modelled seconds shown, and for every=auto: "
                        f"{', '.join(each.name for each in LINKS)}, or your own as Mbit/s and "
                        "milliseconds one way, 20/40 (default: wan)")  # fmt: skip
    parser.add_argument("--target", type=float, metavar="LOSS",
                        help="a loss to time; without: 5 %% above DDP's")  # fmt: skip
    parser.add_argument("--step-ms", type=float, default=100.0, help="a local step, modelled")
    parser.add_argument("--straggle", type=float, default=0.1, help="sigma of its duration")
    parser.add_argument("--html", type=Path, help="write a report in one file")
    parser.add_argument("--json", action="store_true", help="the rows as JSON, nothing else")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="keep runs; skip those done")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_STEPS} steps, one rate fewer")
    return parser


def _plan(options: argparse.Namespace, machine: Machine, link: Link) -> Plan:
    task_options = tuple(sorted(_settings(options.settings).items()))
    task = load_task(options.task, dict(task_options))
    sizes = _numbers("--peers", options.peers)
    if min(sizes) < 1 or max(sizes) < 2 or options.processes < 1:
        raise UsageError("there must be at least 2 peers (1 only beside others) and 1 process")
    typed_specs = read_specs(options.methods)
    specs = tuple(with_cadence(spec, task, link, machine) for spec in typed_specs)
    for spec in specs:
        for peers in sizes:
            make_method(spec, peers)
    inners = [inner_named(each.strip()) for each in options.inner.split(",")]
    conditions = {
        "loss": options.loss,
        "spread": options.spread,
        "churn": options.churn,
        "attackers": options.attackers,
        "attack": options.attack,
    }
    typed = {key: str(value) for key, value in conditions.items()}
    conditions_of(typed)
    base = Job(
        task=options.task,
        task_options=task_options,
        method="",
        inner="",
        rate=0.0,
        peers=sizes[0],
        seed=0,
        steps=_steps(options, task, sizes[0]),
        split=options.split,
        conditions=tuple(sorted(typed.items())),
    )
    seeds = _numbers("--seeds", options.seeds)
    return Plan(base, specs, _rates(options, inners), seeds, sizes)


def _settings(pairs: Sequence[str]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: should look like --set key=value")
        settings[key] = value
    return settings


def _steps(options: argparse.Namespace, task: Task, peers: int) -> int:
    if options.steps is not None and options.budget is not None:
        raise UsageError("give --steps or --budget, not both")
    steps = QUICK_STEPS if options.quick else DEFAULT_STEPS
    if options.steps is not None:
        steps = options.steps
    if options.budget is not None:
        steps = options.budget // (peers * task.batch_samples)
    if steps < 1:
        raise UsageError("the budget is below one step of all peers")
    return int(steps)


def _rates(options: argparse.Namespace, inners: Sequence[str]) -> dict[str, tuple[float, ...]]:
    if options.rates is None:
        grids = {each: RATES[read_inner(each)[0]] for each in inners}
        return {each: grid[1:] if options.quick else grid for each, grid in grids.items()}
    try:
        rates = tuple(sorted({float(text) for text in options.rates.split(",")}))
    except ValueError:
        raise UsageError(f"--rates {options.rates}: should look like 3e-3,6e-3") from None
    if not all(math.isfinite(rate) and rate > 0 for rate in rates):
        raise UsageError("learning rates must be above 0")
    return dict.fromkeys(inners, rates)


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        if ".." in text:
            first, last = text.split("..")
            numbers = tuple(range(int(first), int(last) + 1))
        else:
            numbers = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise UsageError(f"{option} {text}: should look like 0,1,2 or 0..2") from None
    if not numbers:
        raise UsageError(f"{option} {text}: there is none")
    return numbers


class _Watch:
    """One line per run as it ends."""

    def __init__(self, plan: Plan, console: Console, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._done = 0
        self._began_s = time.monotonic()
        if not quiet:
            task = load_task(plan.base.task, dict(plan.base.task_options))
            console.print(task.describe(), highlight=False)
            sizes = "; ".join(f"{n} peers, {plan.steps_of(n)} steps each" for n in plan.sizes)
            console.print(f"{sizes}; seeds {', '.join(map(str, plan.seeds))}", highlight=False)

    def told(self, outcome: Outcome, running: int) -> None:
        """A run ended."""
        self._done += 1
        if self._quiet:
            return
        job, passed_s = outcome.job, time.monotonic() - self._began_s
        self._console.print(
            f"[dim]{passed_s:6.0f} s[/dim]  {job.method}  {job.inner} {job.rate:g}  {job.peers} "
            f"peers  seed {job.seed}  loss {outcome.loss:.4f}  "
            f"({outcome.seconds:.0f} s; {running} under way)",
            highlight=False,
            markup=True,
        )


def _table(rows: Sequence[Row], link: Link) -> Table:
    """What fits a terminal of eighty columns; the report has the rest."""
    table = Table(box=None, pad_edge=False)
    table.add_column("method", overflow="fold")
    titles = ("rate", "loss", "vs ddp %", "MB", "fewer", "worst", f"{link.name} s\nto target")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    heading = ""
    for row in rows:
        if row.heading != heading:
            heading = row.heading
            table.add_row(f"[bold]{heading}[/bold], target {row.target:.3f}")
        table.add_row(*_cells(row, link))
    return table


def _cells(row: Row, link: Link) -> list[str]:
    half = "" if math.isnan(row.loss_half) else f" ±{row.loss_half:.3f}"
    gap = "" if math.isnan(row.gap) else f"{100 * row.gap:+.1f}"
    if not math.isnan(row.gap_half) and row.gap != 0:
        gap += f" ±{100 * row.gap_half:.1f}"
    target_s = row.target_s[link.name]
    return [
        row.spec.text,
        f"{row.rate:g}",
        f"{row.loss:.3f}{half}",
        gap,
        f"{row.sent_bytes / 1e6:.1f}",
        "" if math.isinf(row.fewer_bytes) else f"{row.fewer_bytes:.0f}x",
        f"{row.worst:.3f}",
        f"{target_s:.0f}" if math.isfinite(target_s) else "never",
    ]


def _plain(row: Row) -> dict[str, object]:
    """A row without its runs, but for their losses by seed; NaN and infinity become null."""
    values = asdict(row)
    del values["outcomes"]
    values["spec"] = row.spec.text
    values["losses"] = {each.job.seed: each.loss for each in row.outcomes}
    return {key: plain(value) for key, value in values.items()}


def _how_to_go_on(folder: Path | None) -> str:
    if folder is None:
        return "\ninterrupted; nothing was kept (give --resume FOLDER to keep runs)\n"
    return f"\ninterrupted; runs that ended are kept: repeat the command with --resume {folder}\n"

"""``gossip simulate SCENARIO``: a scenario in virtual time, under one seed or many.

Exit codes: 0 every seed kept every rule · 1 one did not · 64 a scenario or flag is wrong · 130
ended by Ctrl-C, after what was done has been told.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from gossip.errors import UsageError
from peers.cli import Parser
from peers.cli.flags import count
from simulations.compiling import is_compiled, run_compiled
from simulations.execution import Execution, Manner, Outcome, config_of
from simulations.least import peers_least
from simulations.rules import add_ignore
from simulations.sabotage import SABOTAGE
from simulations.scenario import Scenario, load, shipped
from simulations.soaking import SOAK, soak_scenario
from simulations.summary import as_json, as_text, repeating

INTERRUPTED = 130
SEARCH = "search"
"""As a scenario's name: not one, but a search for one."""

FOUND_FILE = "found.toml"


def make_parser() -> Parser:
    """The flags of ``gossip simulate``."""
    names = ", ".join(shipped())
    parser = Parser(
        prog="gossip simulate",
        description="Many peers in virtual time, with faults; every rule of membership is checked "
        "after every event. The same seed is the same run.",
    )
    parser.add_argument(
        "scenario",
        metavar="SCENARIO",
        help=f"{names}; {SOAK} (made from the seed); {SEARCH} (look for a small one that breaks a "
        "rule; needs Hypothesis); or path/to/scenario.toml",
    )
    parser.add_argument("--peers", type=count, metavar="N", help="instead of the scenario's number")
    parser.add_argument(
        "--examples", type=count, metavar="N", help=f"{SEARCH}: try so many (default: 200)"
    )
    parser.add_argument(
        "--out", metavar="FILE", help=f"{SEARCH}: write what is found here (default: {FOUND_FILE})"
    )
    parser.add_argument("--seed", type=int, default=None, help="of everything (default: 1)")
    parser.add_argument("--seeds", type=seed_range, metavar="A..B", help="all of these, in turn")
    parser.add_argument("--json", action="store_true", help="one line of JSON a seed")
    parser.add_argument(
        "--transcript",
        metavar="FILE",
        help="write one line an event (slow); with --seeds a file for each, run-7.txt for run.txt",
    )
    parser.add_argument(
        "--keep-going", action="store_true", help="count broken rules, do not stop at the first"
    )
    add_ignore(parser)
    parser.add_argument(
        "--sabotage",
        choices=SABOTAGE,
        metavar="BUG",
        help="break the protocol on purpose, to see that a rule notices: " + ", ".join(SABOTAGE),
    )
    parser.add_argument(
        "--compiled",
        action="store_true",
        help="compile the protocol and the world first, once (a minute; needs mypy and a C "
        "compiler): the same run, about twice as fast",
    )
    return parser


def seed_range(text: str) -> range:
    """A..B, both included."""
    first, dots, last = text.partition("..")
    if not dots or not first.isdecimal() or not last.isdecimal() or int(first) > int(last):
        raise argparse.ArgumentTypeError(f"{text!r} is not A..B with A at most B")
    return range(int(first), int(last) + 1)


def main(arguments: Sequence[str]) -> int:
    """Run; 0 when no rule was broken."""
    flags = make_parser().parse_args(arguments)
    if flags.seed is not None and flags.seeds is not None:
        raise UsageError("give --seed or --seeds, not both")
    if flags.compiled:
        if flags.sabotage:
            raise UsageError("--sabotage changes classes in memory, which --compiled ones are not")
        if not is_compiled():
            run_compiled(["-m", "peers.cli", "simulate", *arguments])
    if flags.scenario == SEARCH:
        return search_one(flags)
    if flags.examples is not None or flags.out is not None:
        raise UsageError(f"--examples and --out belong to {SEARCH}, which {flags.scenario} is not")
    seeds: Iterable[int] = flags.seeds or [1 if flags.seed is None else flags.seed]
    if flags.scenario != SOAK:
        scenario_of(flags.scenario, 1, flags.peers)  # a mistake is told before anything runs
    failed = False
    lines = flags.transcript is not None
    manner = Manner(lines=lines, keep_going=flags.keep_going, ignored=tuple(flags.ignore))
    bug = SABOTAGE.get(flags.sabotage)
    for seed in seeds:
        scenario = scenario_of(flags.scenario, seed, flags.peers)
        with nullcontext() if bug is None else bug.at_work():
            outcome = Execution(scenario, seed, manner).run()
        if lines:
            file = transcript_of(flags.transcript, None if flags.seeds is None else seed)
            write(file, "\n".join([*outcome.transcript, ""]))
        repeat = repeating(outcome, flags.scenario, flags.peers, flags.sabotage, flags.ignore)
        tell(outcome, repeat, flags.json)
        if outcome.interrupted:
            return INTERRUPTED
        failed = failed or not outcome.ok
    gc.freeze()  # the last world ends with the process: it is not looked through for that
    return 1 if failed else 0


def search_one(flags: argparse.Namespace) -> int:
    """Look for a small scenario that breaks a rule; 0 when there is none. Raises UsageError."""
    try:
        from simulations.search import EXAMPLES, Hunt, Search
    except ModuleNotFoundError as wrong:
        raise UsageError(
            f"{SEARCH} needs {wrong.name}, which is not installed: "
            "pip install 'gossip-trainer[test]', or take random scenarios with "
            f"'gossip simulate {SOAK} --seeds 1..100'"
        ) from wrong
    for name in ("seeds", "json", "transcript", "keep_going"):
        if getattr(flags, name):
            raise UsageError(f"--{name.replace('_', '-')} cannot be given with {SEARCH}")
    hunt = Hunt(
        seed=1 if flags.seed is None else flags.seed,
        examples=flags.examples or EXAMPLES,
        manner=Manner(ignored=tuple(flags.ignore)),
        bug=SABOTAGE.get(flags.sabotage),
    )
    hunt = hunt if flags.peers is None else replace(hunt, peers_max=flags.peers)
    search = Search(hunt)
    found, tried = search.run(), search.tried
    if found is None:
        sys.stdout.write(
            f"{SEARCH}: {tried.runs} scenarios, {tried.peer_hours:.1f} peer hours: ok\n"
        )
        return 0
    path = flags.out or FOUND_FILE
    repeat = repeating(found.outcome, path, None, flags.sabotage, flags.ignore)
    sys.stdout.write(f"{SEARCH}: BROKEN\n{found.told(tried, repeat)}\n")
    write(path, found.toml)
    return 1


def scenario_of(name: str, seed: int, peers: int | None) -> Scenario:
    """The scenario of this name, as large as asked for. Raises UsageError where it is too small for
    its faults."""
    scenario = soak_scenario(seed) if name == SOAK else load(name)
    scenario = scenario if peers is None else replace(scenario, peers=peers)
    least = peers_least(scenario)
    if scenario.peers < least:
        raise UsageError(
            f"scenario {scenario.name} needs at least {least} peers: with {scenario.peers} not all "
            "of its faults can happen"
        )
    return scenario


def transcript_of(path: str, seed: int | None) -> str:
    """Where the transcript of one of many seeds goes: run-7.txt for run.txt."""
    file = Path(path)
    return path if seed is None else str(file.with_name(f"{file.stem}-{seed}{file.suffix}"))


def write(path: str, text: str) -> None:
    """A file. Raises UsageError when it cannot be written."""
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as wrong:
        raise UsageError(f"cannot write {path}: {wrong.strerror}") from wrong


def tell(outcome: Outcome, repeat: str, json_wanted: bool) -> None:
    """Print what came of one seed."""
    round_s = config_of().membership.gossip_interval_s
    if json_wanted:
        text = json.dumps(as_json(outcome, repeat, round_s))
    else:
        text = as_text(outcome, repeat, round_s)
    sys.stderr.write(outcome.traceback)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

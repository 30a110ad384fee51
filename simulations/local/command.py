"""Flags, folder, exit code and JSON line of ``gossip local``."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from gossip.errors import UsageError
from peers.cli import Parser
from peers.cli.flags import add_task_flags, cadence, count, existing_folder, protocol_config
from peers.hook import AUTO
from peers.tasks.loading import load_task
from simulations.local.interruption import Interruption
from simulations.local.process import PeerProcess, State
from simulations.local.schedule import Schedule, kill, moment, stop
from simulations.local.supervisor import LocalPlan, Supervisor
from simulations.local.watch import Watch

JsonValue: TypeAlias = str | int | float | bool | list["JsonValue"] | dict[str, "JsonValue"] | None

LINE_COLUMNS = 200
"""How wide a line may be where there is no terminal to say so."""


def make_parser() -> Parser:
    """The flags of ``gossip local``."""
    parser = Parser(
        prog="gossip local",
        description="Several real peers on this machine, with faults. Times are seconds from the "
        "moment all initial peers have joined.",
    )
    add_task_flags(parser)
    parser.set_defaults(threads=1)
    parser.add_argument("--peers", type=count, default=4, metavar="N", help="(default: 4)")
    parser.add_argument(
        "--kill",
        action="extend",
        nargs="+",
        type=kill,
        default=[],
        metavar="IDX@SECONDS",
        help="SIGKILL a peer; they are numbered from 0, late ones last",
    )
    parser.add_argument(
        "--stop",
        action="extend",
        nargs="+",
        type=stop,
        default=[],
        metavar="IDX@SECONDS:FOR",
        help="freeze a peer for a while (SIGSTOP, SIGCONT)",
    )
    parser.add_argument(
        "--join-late",
        action="extend",
        nargs="+",
        type=moment,
        default=[],
        metavar="SECONDS",
        help="one more peer joins then",
    )
    parser.add_argument("--dir", metavar="DIR", help="keep every peer's folder here")
    parser.add_argument("--json", action="store_true", help="the result as a last line of JSON")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the peers; 0 when all that were not killed on purpose finished well."""
    flags = make_parser().parse_args(arguments)
    task = load_task(flags.task, dict(flags.option))  # a mistake is told once, not by every peer
    protocol_config(flags)
    cadence(flags)
    schedule = Schedule(tuple(flags.kill), tuple(flags.stop), tuple(flags.join_late))
    schedule.check(flags.peers)
    plan = LocalPlan(
        peers=flags.peers,
        arguments=tuple(run_arguments(flags)),
        run=flags.run or flags.task,
        seed=flags.seed,
        seconds=flags.seconds,
        schedule=schedule,
    )
    console = people_console(flags.json)
    console.print(task.describe(), highlight=False, markup=False)
    with Interruption() as interruption, run_folder(flags.dir, plan.peers) as folder:
        watch = Watch(console, plan.seconds)
        with watch, Supervisor(plan, folder, watch, interruption) as supervisor:
            supervisor.run()
            watch.show(supervisor.peers, supervisor.elapsed_s, last=True)
    if flags.json:
        print(json.dumps(summary(supervisor)), flush=True)
    return 1 if supervisor.failed else 0


def people_console(json_wanted: bool) -> Console:
    """Where people look: stdout, or stderr when that is for the JSON line."""
    console = Console(file=sys.stderr if json_wanted else sys.stdout)
    return console if console.is_terminal else Console(file=console.file, width=LINE_COLUMNS)


def run_arguments(flags: argparse.Namespace) -> list[str]:
    """The task flags as ``gossip run`` takes them; --seconds is the supervisor's to give."""
    words = [flags.task]
    for name, value in flags.option:
        words += ["-o", f"{name}={value}"]
    given = {
        "--run": flags.run,
        "--samples": flags.samples,
        "--pace": flags.pace,
        "--device": flags.device,
        "--seed": flags.seed,
        "--threads": flags.threads,
        "--every": "auto" if flags.every == AUTO else flags.every,
        "--early": flags.early,
        "--codec": flags.codec,
        "--reply-codec": flags.reply_codec,
        "--strategy": flags.strategy,
        "--outer-every": flags.outer_every,
        "--fragments": flags.fragments,
        "--clip": flags.clip,
        "--rate-rule": flags.rate_rule,
        "--upload": flags.upload,
        "--finalise": flags.finalise,
    }
    for name, value in given.items():
        if value is not None:
            words.append(f"{name}={value}")  # "=": a negative seed is no flag
    return words


@contextmanager
def run_folder(kept: str | None, peers: int) -> Iterator[Path]:
    """Where the peers' folders go: DIR, or one that is gone afterwards.

    Raises UsageError when DIR cannot be made, or holds the peers of an earlier run.
    """
    if kept is not None:
        folder = existing_folder(kept)
        if any((folder / f"peer-{index}").exists() for index in range(peers)):
            raise UsageError(f"{folder} holds the peers of another run; choose another folder")
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="gossip-local-") as name:
        yield Path(name)


def summary(supervisor: Supervisor) -> dict[str, JsonValue]:
    """What a run came to, as JSON."""
    peers = [peer for peer in supervisor.peers if peer.pid]
    initial = supervisor.plan.peers
    stopped: list[JsonValue] = [*sorted({stop.index for stop in supervisor.plan.schedule.stops})]
    return {
        "peers": {str(peer.index): peer_summary(peer) for peer in peers},
        "killed": [peer.index for peer in peers if peer.state is State.KILLED],
        "stopped": stopped,
        "joined": [p.index for p in peers if p.index >= initial and p.address is not None],
        "failed": [peer.index for peer in supervisor.failed],
        "seconds": round(supervisor.elapsed_s, 3),
    }


def peer_summary(peer: PeerProcess) -> dict[str, JsonValue]:
    """One peer, by its last status or result line; NaN becomes null."""
    status = peer.status
    figures: dict[str, JsonValue] = {name: finite(each) for name, each in status.figures.items()}
    return {
        "id": peer.peer,
        "state": peer.state.value,
        "steps": status.step,
        "samples": status.samples,
        "loss": finite(status.loss),
        "figures": figures,
        "swaps": status.swaps,
        "swaps_failed": status.swaps_failed,
        "one_sided": status.one_sided,
        "sent_bytes": status.sent_bytes,
        "received_bytes": status.received_bytes,
        "disagreement": finite(status.disagreement),
        "stall_s": status.stall_s,
        "gap_s": status.gap_s,
        "join_s": finite(peer.join_s),
        "shards": list(status.shards),
    }


def finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None

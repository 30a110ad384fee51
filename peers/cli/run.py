"""``gossip run TASK``: one peer daemon on this host."""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import torch

from peers.cli import Parser
from peers.cli.early import check_dial_out
from peers.cli.flags import (
    add_task_flags,
    address,
    cadence,
    count,
    existing_folder,
    outer,
    positive,
    protocol_config,
)
from peers.cli.stopping import STOP_SIGNALS
from peers.entrance import LISTEN
from peers.events import plain
from peers.rate import RateRule
from peers.runner import Plan, Result, Runner
from peers.settings import PeerConfig
from peers.tasks.loading import load_task

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def make_parser() -> Parser:
    """The flags of ``gossip run``."""
    parser = Parser(prog="gossip run", description="Start one peer on this host.")
    add_task_flags(parser)
    parser.add_argument(
        "--join",
        action="append",
        type=address,
        default=[],
        metavar="HOST:PORT",
        help="any peer of the run (repeatable); none: this peer founds the run",
    )
    parser.add_argument(
        "--listen",
        type=address,
        metavar="HOST:PORT",
        help="where others reach this peer; bulk takes the next port; port 0: any two "
        f"(default: {LISTEN})",
    )
    parser.add_argument(
        "--advertise",
        metavar="HOST[:PORT]",
        help="what others dial, if that is another; bulk is one port above",
    )
    parser.add_argument(
        "--dial-out",
        action="store_true",
        help="nobody can dial this peer (NAT): it takes part over the links it opens; needs --join",
    )
    parser.add_argument("--key", type=Path, metavar="FILE", help="the run's key (see gossip key)")
    parser.add_argument("--insecure", action="store_true", help="listen to strangers without a key")
    parser.add_argument("--dir", metavar="DIR", help="identity, events and the final model go here")
    parser.add_argument(
        "--join-timeout", type=positive, default=30.0, metavar="S", help="(default: 30)"
    )
    parser.add_argument(
        "--wait-for",
        type=count,
        default=1,
        metavar="N",
        help="begin to train when N peers are here, or after --join-timeout (default: 1)",
    )
    parser.add_argument(
        "--capacity",
        type=positive,
        default=1.0,
        metavar="W",
        help="this peer's share of the data, beside 1.0 of the others",
    )
    parser.add_argument("--journal", action="store_true", help="keep every input for gossip replay")
    parser.add_argument("--json", action="store_true", help="the result as one JSON line")
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one peer until it is done or told to stop."""
    flags = make_parser().parse_args(arguments)
    level = logging.DEBUG if flags.verbose else logging.INFO
    logging.basicConfig(stream=sys.stderr, level=level, format=LOG_FORMAT)
    if flags.threads is not None:
        torch.set_num_threads(flags.threads)
    folder = None if flags.dir is None else existing_folder(flags.dir)
    plan = Plan(
        samples=flags.samples,
        seconds=flags.seconds,
        pace=flags.pace,
        device=flags.device,
        model_seed=flags.seed,
        export=None if folder is None else folder / "model.safetensors",
        wait_for=flags.wait_for,
    )
    check_dial_out(flags)
    settings = PeerConfig(
        listen=flags.listen or LISTEN,
        advertise=flags.advertise,
        dial_out=flags.dial_out,
        key_file=flags.key,
        insecure=flags.insecure,
        folder=folder,
        join_timeout_s=flags.join_timeout,
        journal=flags.journal,
        capacity=flags.capacity,
        fragments=flags.fragments or 0,
        clip=flags.clip or 0.0,
        rate=RateRule(flags.rate_rule),
        cadence=cadence(flags),
        outer=outer(flags),
        protocol=protocol_config(flags),
    )
    task = load_task(flags.task, dict(flags.option))
    runner = Runner(task, plan, settings)
    stop_on_signals(runner)
    logging.getLogger("gossip.peer").info("task %s", task.describe())
    outcome = runner.run(flags.join)
    print_outcome(outcome, flags.json)
    # All that is left is to end; looking through torch for garbage would take a second or more.
    gc.freeze()
    return 0


def stop_on_signals(runner: Runner) -> None:
    """The first SIGTERM or SIGINT leaves politely; a second one exits at once."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        if runner.stopping:
            os._exit(128 + number)
        runner.stopping = True

    for each in STOP_SIGNALS:
        signal.signal(each, on_signal)


def ending(outcome: Result) -> str:
    """How the run ended for this peer: whether its model is everybody's."""
    if outcome.stopped:
        return "stopped"
    if outcome.agreed:
        return "agreed"
    if math.isinf(outcome.last_difference):
        return "not agreed (no swap came about at the end)"
    share = f"{outcome.last_difference:.1e} of the model's length"
    return f"not fully agreed (the last neighbors differed by up to {share})"


def print_outcome(outcome: Result, as_json: bool) -> None:
    """The result: one JSON line, or a few words."""
    if as_json:
        print(json.dumps(plain(outcome), allow_nan=False), flush=True)
        return
    figures = " ".join(f"{name} {value:.4g}" for name, value in outcome.figures.items())
    print(
        f"{ending(outcome)}: {figures} · "
        f"{outcome.samples:,} of {outcome.samples_total:,} samples here · "
        f"{outcome.swaps:,} swaps · {outcome.sent_bytes / 1e6:.2f} MB sent · "
        f"longest stall {outcome.longest_stall_s * 1e3:.1f} ms",
        flush=True,
    )

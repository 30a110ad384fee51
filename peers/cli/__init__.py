"""The ``gossip`` command. Each sub-command is imported only when it is called.

Exit codes: 0 done or left politely · 64 a flag, file or task is wrong · 65 the swarm trains another
model · 69 no contact reachable · 70 a bug · 71 a port is in use · 128+N ended by signal N.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NoReturn

from gossip.errors import GossipError, StoppedError, UsageError
from peers.cli.early import check_run
from peers.cli.stopping import calm_beginning

COMMANDS = {
    "run": ("peers.cli.run", "start one peer on this host"),
    "local": ("simulations.local", "several peer processes on this machine, with faults"),
    "simulate": ("simulations.simulate", "many peers in virtual time, with faults and checks"),
    "compare": ("simulations.compare.command", "algorithms side by side, at equal data and bytes"),
    "demo": ("simulations.demo", "digits, four peers, one killed, one joining late"),
    "replay": ("peers.cli.replay", "repeat a journal and compare every decision"),
    "key": ("peers.cli.key", "make a run key, so that only holders of the file can join"),
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line and exits with 64; flags are given in full."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """See the class."""
        self.exit(UsageError.exit_code, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with calm_beginning() if words[:1] == ["run"] else nullcontext():
        return _run(words)


def _run(words: Sequence[str]) -> int:
    parser = Parser(prog="gossip", description="Peer-to-peer training for PyTorch.")
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, summary) in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    chosen = parser.parse_args(words[:1]).command
    try:
        # Inside: torch takes a second to import, and people press Ctrl-C whenever they like.
        # A thread of torch that waits for others must not spin: beside other programs, or other
        # peers, on the same cores that cost a peer of a small model nearly all its speed. OpenMP
        # reads this once, when torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if chosen == "run":
            check_run(words[1:])
        command: Callable[[Sequence[str]], int] = importlib.import_module(COMMANDS[chosen][0]).main
        return command(words[1:])
    except StoppedError as stopped:
        sys.stderr.write(f"gossip {chosen}: {stopped}\n")
        return stopped.exit_code
    except GossipError as wrong:
        sys.stderr.write(f"gossip {chosen}: error: {wrong}\n")
        return wrong.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output is gone; there is nobody left to tell.
        sys.stderr.close()
        return 141


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gossip-trainer")
    except PackageNotFoundError:
        return "0 (not installed)"

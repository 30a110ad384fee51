"""``gossip replay JOURNAL``: repeat a live peer's inputs and compare every decision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from peers.cli import Parser
from peers.journal import Step, replay


def main(arguments: Sequence[str]) -> int:
    """Print the transcript and a verdict; 1 when a decision differs."""
    parser = Parser(prog="gossip replay", description="Repeat a journal on a fresh core.")
    parser.add_argument("journal", type=Path, metavar="JOURNAL")
    parser.add_argument("-q", "--quiet", action="store_true", help="only the verdict")
    flags = parser.parse_args(arguments)
    steps = differing = 0
    began_s: float | None = None
    for step in replay(flags.journal):
        began_s = step.at_s if began_s is None else began_s
        steps += 1
        differing += not step.same
        if not flags.quiet or not step.same:
            print(line(step, step.at_s - began_s))
    print(f"{steps} inputs, {differing} decided differently")
    return 1 if differing else 0


def line(step: Step, after_s: float) -> str:
    """One input and what was asked for, readable."""
    mark = " " if step.same else "!"
    asked = ", ".join(type(effect).__name__ for effect in step.effects) or "-"
    return f"{mark} {after_s:10.4f} {step.happened} -> {asked}"

"""``python -m simulations.soak``: random scenarios over rising seeds, until told to stop.

Ctrl-C or ``--seconds`` ends it; then it tells how many seeds, events and faults there were. A seed
that breaks a rule is told at once, with the one command that repeats it, and the soak goes on.
Exit codes: 0 no rule was broken · 1 one was.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from peers.cli import Parser
from peers.cli.flags import count, positive
from simulations.compiling import is_compiled, run_compiled
from simulations.execution import Execution, Manner, Outcome
from simulations.rules import add_ignore
from simulations.scenario import FaultKind
from simulations.soaking import SOAK, soak_scenario
from simulations.summary import JsonValue, repeating

TELL_EVERY_S = 10.0


@dataclass(slots=True)
class Tally:
    """What was done so far."""

    seeds: int = 0
    events: int = 0
    virtual_s: float = 0.0
    peer_hours: float = 0.0
    faults: dict[FaultKind, int] = field(default_factory=dict)
    failed: list[int] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Take one seed."""
        self.seeds += 1
        self.events += outcome.events
        self.virtual_s += outcome.ended_at_s
        self.peer_hours += outcome.ended_at_s * outcome.peers / 3600.0
        for kind, times in outcome.injected.items():
            self.faults[kind] = self.faults.get(kind, 0) + times
        if not outcome.ok:
            self.failed.append(outcome.seed)

    def as_json(self, wall_s: float) -> dict[str, JsonValue]:
        """For a last line of JSON."""
        faults: dict[str, JsonValue] = {
            kind.value: self.faults[kind] for kind in sorted(self.faults)
        }
        return {
            "seeds": self.seeds,
            "events": self.events,
            "virtual_s": round(self.virtual_s, 1),
            "peer_hours": round(self.peer_hours, 2),
            "faults": faults,
            "failed_seeds": [*self.failed],
            "wall_s": round(wall_s, 1),
        }

    def as_text(self, wall_s: float) -> str:
        """For people."""
        faults = ", ".join(f"{self.faults[kind]} {kind.value}" for kind in sorted(self.faults))
        return (
            f"{self.seeds} seeds, {self.events:,} events, {self.peer_hours:.1f} peer hours in "
            f"{wall_s:.0f} s; faults: {faults or 'none'}; {len(self.failed)} seeds broke a rule"
        )


def main(arguments: Sequence[str]) -> int:
    """Run until the time is over or somebody presses Ctrl-C."""
    parser = Parser(prog="python -m simulations.soak", description="Random scenarios, for ever.")
    parser.add_argument("--seconds", type=positive, help="stop after so long (default: never)")
    parser.add_argument("--seeds", type=count, help="stop after so many seeds (default: never)")
    parser.add_argument("--first", type=int, default=1, metavar="SEED", help="(default: 1)")
    parser.add_argument("--json", action="store_true", help="the tally as a last line of JSON")
    add_ignore(parser)
    parser.add_argument(
        "--compiled", action="store_true", help="compiled, as in 'gossip simulate': more seeds"
    )
    flags = parser.parse_args(arguments)
    if flags.compiled and not is_compiled():
        run_compiled(["-m", "simulations.soak", *arguments])
    began = told = time.monotonic()
    tally, seed = Tally(), flags.first
    manner = Manner(ignored=tuple(flags.ignore))
    while not _is_over(flags.seconds, flags.seeds, began, tally):
        outcome = Execution(soak_scenario(seed), seed, manner).run()
        if outcome.interrupted:
            break
        tally.add(outcome)
        seed += 1
        if not outcome.ok:
            repeat = repeating(outcome, SOAK, None, ignored=flags.ignore)
            _say(f"{outcome.traceback}{outcome.broken}\n  repeat: {repeat}")
        if time.monotonic() - told >= TELL_EVERY_S:
            told = time.monotonic()
            _say(tally.as_text(told - began))
    wall_s = time.monotonic() - began
    _say(tally.as_text(wall_s))
    if flags.json:
        sys.stdout.write(json.dumps(tally.as_json(wall_s)) + "\n")
    return 1 if tally.failed else 0


def _is_over(seconds: float | None, seeds: int | None, began: float, tally: Tally) -> bool:
    late = seconds is not None and time.monotonic() - began >= seconds
    return late or (seeds is not None and tally.seeds >= seeds)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

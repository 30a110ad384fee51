"""``python -m simulations.self_test``: which rule notices which deliberate bug, as a table.

Each bug of ``simulations.sabotage`` runs under one seed after another until a rule notices it; the
same scenario must pass under the same seeds without the bug. Exit codes: 0 every bug was noticed
by a rule that should, and nothing else was · 1 not so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from gossip.messages import Seconds
from peers.cli import Parser
from simulations.execution import Execution, Manner, Outcome
from simulations.sabotage import SABOTAGE, Bug
from simulations.scenario import Scenario

SEEDS_MAX = 5
"""Under so many seeds a bug must have been noticed."""

DETERMINISM = "M28"


@dataclass(frozen=True, slots=True)
class Catch:
    """Which rule noticed a bug under which seed; ``rule`` is empty when none did."""

    bug: Bug
    rule: str = ""
    seed: int = 0
    text: str = ""
    at_s: Seconds = 0.0

    @property
    def ok(self) -> bool:
        """Whether a rule noticed that should."""
        return self.rule in self.bug.rules


def hunt(bug: Bug, seeds_max: int = SEEDS_MAX) -> Catch:
    """Run a bug until a rule notices it."""
    for seed in range(1, seeds_max + 1):
        found = _try(bug, seed)
        if found.rule:
            return found
    return Catch(bug)


def _try(bug: Bug, seed: int) -> Catch:
    twice = DETERMINISM in bug.rules
    with bug.at_work():
        execution = Execution(bug.scenario, seed, Manner(lines=twice))
        outcome = execution.run()
    if not outcome.ok:
        return Catch(bug, outcome.rule, seed, outcome.broken, outcome.ended_at_s)
    if twice:
        with bug.at_work():
            again = Execution(bug.scenario, seed, Manner(lines=twice))
            again.run()
        if again.world.transcript.digest != execution.world.transcript.digest:
            text = "the same seed gave another transcript"
            return Catch(bug, DETERMINISM, seed, text, outcome.ended_at_s)
    return Catch(bug)


def control(scenario: Scenario, seed: int) -> Outcome:
    """The same without any bug."""
    return Execution(scenario, seed).run()


def table() -> str:
    """All bugs, for simulations/README.md."""
    lines = ["| bug | what is broken | scenario | noticed by |", "|---|---|---|---|"]
    for bug in SABOTAGE.values():
        rules = " ".join(bug.rules)
        lines.append(f"| `{bug.name}` | {bug.broken} | {bug.scenario.name} | {rules} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Try them all, or those named."""
    parser = Parser(prog="python -m simulations.self_test", description="Do the checks bite?")
    parser.add_argument("bugs", nargs="*", metavar="BUG", help=f"of {', '.join(SABOTAGE)}")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="tried for each at most")
    parser.add_argument("--table", action="store_true", help="print the table of the README only")
    flags = parser.parse_args(arguments)
    if flags.table:
        sys.stdout.write(table() + "\n")
        return 0
    failed = False
    for name in flags.bugs or SABOTAGE:
        found = hunt(SABOTAGE[name], flags.seeds)
        failed = failed or not found.ok
        verdict = f"seed {found.seed}: {found.text}" if found.rule else "NOT NOTICED"
        sys.stdout.write(f"{'ok ' if found.ok else 'BAD'} {name}: {verdict}\n")
        sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``gossip simulate search``: a small scenario that breaks a rule, made as small as it will go.

Hypothesis draws scenarios until one breaks a rule, then takes away peers, faults and seconds as
long as the same rule still breaks; at last each fault is taken out by itself. What is left is a
file that ``gossip simulate`` repeats.
"""

from __future__ import annotations

import random
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from hypothesis import Phase, find, settings
from hypothesis.errors import NoSuchExample

from simulations.drawing import PEERS_MAX, Case, cases
from simulations.execution import Execution, Manner, Outcome
from simulations.sabotage import Bug
from simulations.scenario_text import as_toml

EXAMPLES = 200
"""So many scenarios are drawn, unless told otherwise."""

SHRINKING_RUNS_MAX = 400
"""So many smaller ones are tried once a rule was broken."""


@dataclass(frozen=True, slots=True)
class Hunt:
    """What to look for, and where.

    seed        decides what is drawn; each scenario drawn has a seed of its own.
    examples    so many scenarios are drawn at most.
    runs_max    so many more runs may be spent on making one small.
    peers_max   the largest has so many peers.
    bug         is at work in every run.
    """

    seed: int = 1
    examples: int = EXAMPLES
    runs_max: int = SHRINKING_RUNS_MAX
    peers_max: int = PEERS_MAX
    manner: Manner = field(default_factory=Manner)
    bug: Bug | None = None


@dataclass(slots=True)
class Tried:
    """What a search has done: runs, and hours of virtual time times peers."""

    runs: int = 0
    peer_hours: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """The smallest scenario that breaks the rule, what came of it, and of the first one."""

    case: Case
    outcome: Outcome
    first: Case

    @property
    def toml(self) -> str:
        """The scenario as a file."""
        return as_toml(self.case.scenario)

    def told(self, tried: Tried, repeat: str) -> str:
        """For people: the rule, the scenario, and how to repeat it."""
        first, least = (_size(case) for case in (self.first, self.case))
        return (
            f"{self.outcome.broken}\n\n{self.toml}\n"
            f"from {first} to {least}, in {tried.runs} runs\nrepeat: {repeat}"
        )


def _size(case: Case) -> str:
    peers, faults = case.scenario.peers, len(case.scenario.faults)
    return f"{peers} peers and {faults} fault{'s' if faults > 1 else ''}"


class Search:
    """Runs what Hypothesis draws; see the module. ``tried`` can be read at any time."""

    def __init__(self, hunt: Hunt) -> None:
        self.tried = Tried()
        self._hunt = hunt
        self._known: dict[Case, Outcome] = {}
        self._first: Case | None = None
        self._runs_left = hunt.runs_max

    def run(self) -> Found | None:
        """Look until a rule is broken or all was tried."""
        hunt = self._hunt
        usual = settings(
            max_examples=hunt.examples,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
        )
        try:
            smallest = find(
                cases(hunt.peers_max), self._breaks, settings=usual, random=random.Random(hunt.seed)
            )
        except NoSuchExample:
            return None
        assert self._first is not None, "nothing was found, and yet it was"
        least = self._without_idle_faults(smallest)
        return Found(least, self._known[least], self._first)

    def _without_idle_faults(self, case: Case) -> Case:
        """Take out each fault that it does not need; a few runs more, whatever is left of them."""
        at = 0
        while at < len(case.scenario.faults) > 1:
            scenario = case.scenario
            faults = (*scenario.faults[:at], *scenario.faults[at + 1 :])
            fewer = Case(replace(scenario, faults=faults), case.seed)
            self._runs_left += 1
            if self._breaks(fewer):
                case = fewer
            else:
                at += 1
        return case

    def _breaks(self, case: Case) -> bool:
        """Whether a case breaks a rule, the first one's if there was one before.

        Once no more runs are left, whatever has not run yet is taken to be well: so shrinking
        ends with the smallest that is known.
        """
        outcome = self._known.get(case)
        if outcome is None:
            if self._first is not None:
                if not self._runs_left:
                    return False
                self._runs_left -= 1
            outcome = self._known[case] = self._outcome(case)
        if outcome.ok:
            return False
        if self._first is None:
            self._first = case
        return outcome.rule == self._known[self._first].rule

    def _outcome(self, case: Case) -> Outcome:
        with nullcontext() if self._hunt.bug is None else self._hunt.bug.at_work():
            outcome = Execution(case.scenario, case.seed, self._hunt.manner).run()
        if outcome.interrupted:
            raise KeyboardInterrupt
        self.tried.runs += 1
        self.tried.peer_hours += outcome.ended_at_s * outcome.peers / 3600.0
        return outcome

"""Deliberate bugs that no simulation is asked to show: the properties of membership notice them.

What these rules forbid is a law of single objects, or shows in bytes, not in a run of a swarm.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgpack
import pytest

from gossip.machine import Effect
from gossip.membership import records as records_module
from gossip.membership import roster as roster_module
from gossip.membership.claims import Claims
from gossip.membership.suspicion import Suspicions, Trial
from gossip.membership.view import View
from gossip.messages import PeerId, Rumors, Seconds
from gossip.wire import frames
from simulations.bugs import Bug, Replacement
from simulations.sabotage import SABOTAGE
from simulations.small_scenarios import QUIET
from tests.gossip.membership import (
    test_records,
    test_roster,
    test_suspicion,
    test_verdicts,
    test_weight,
)
from tests.gossip.wire import test_frames

ROOT: Final = Path(__file__).parents[2]
RULES: Final = [f"M{number}" for number in range(1, 30)]
CHECKERS: Final = ("guard", "calm", "execution", "telling", "self_test")
"""Modules of ``simulations`` that check rules."""


def first_wins() -> list[Replacement]:
    """Of two claims with the same key the one that was heard first."""
    return [(records_module, "_order", lambda record: record.key)]


def last_wins() -> list[Replacement]:
    """Whatever was heard last."""
    return [(roster_module, "merge", lambda _, record: record)]


def errors_of_others() -> list[Replacement]:
    """What MessagePack raises goes through as it is."""

    def scalar(self: frames._BodySource) -> object:
        return self._unpacker.unpack()

    return [(frames._BodySource, "scalar", scalar)]


def claimed_lengths_believed() -> list[Replacement]:
    """Room is made for as many items as a list says it has."""

    def items(self: frames._BodySource) -> int:
        claimed = int(self._unpacker.read_array_header())
        bytearray(min(claimed, 1 << 24))
        return claimed

    return [(frames._BodySource, "items", items)]


def each_accuser_starts_afresh() -> list[Replacement]:
    """With another accuser the suspect has its full time again."""
    accuse = Suspicions.accuse

    def accuse_again(self: Suspicions, trial: Trial, accuser: PeerId, doubts: bool) -> bool:
        new = accuse(self, trial, accuser, doubts)
        self.deadlines.set(trial.suspect.peer, trial.ends_at)
        return new

    return [(Suspicions, "accuse", accuse_again)]


def never_forgotten() -> list[Replacement]:
    """Tombstones stand for ever."""

    def bury(self: View, now: Seconds) -> None:
        for peer in self.told.due(now):
            self.roster.retire(peer)
        self.tombstones.due(now)

    return [(View, "bury", bury)]


def every_message_kept() -> list[Replacement]:
    """What was heard is kept, news or not."""
    learn, kept = Claims.learn, list[object]()

    def learn_and_keep(
        self: Claims, sender: PeerId, rumors: Rumors, why: str, now: Seconds, spread: bool = True
    ) -> list[Effect]:
        kept.append(rumors)
        return learn(self, sender, rumors, why, now, spread)

    return [(Claims, "learn", learn_and_keep)]


def endless_list() -> None:
    """The one bomb that claims the most."""
    test_frames.test_decoding_never_allocates_more_than_a_multiple_of_the_frame("endless list")


def weight(measure: Callable[[], None]) -> Callable[[], None]:
    """As pytest runs it."""

    def measured() -> None:
        with test_weight.tracing():
            measure()

    return measured


BITES: Final[list[tuple[str, Callable[[], list[Replacement]], Callable[[], None]]]] = [
    ("M1", first_wins, test_records.test_merging_records_obeys_the_lattice_laws),
    ("M3", last_wins, test_roster.test_order_and_repetition_of_claims_do_not_matter),
    ("M9", errors_of_others, test_frames.test_a_message_cut_short_is_refused),
    ("M9", claimed_lengths_believed, endless_list),
    (
        "M13",
        SABOTAGE["evidence_not_checked"].replacements,
        test_verdicts.test_only_observers_of_the_subject_count,
    ),
    (
        "M15",
        each_accuser_starts_afresh,
        test_suspicion.test_a_deadline_falls_with_independent_accusers_and_never_rises,
    ),
    ("M27", never_forgotten, weight(test_weight.test_who_is_gone_weighs_nothing_in_the_end)),
    (
        "M27",
        every_message_kept,
        weight(lambda: test_weight.test_a_member_weighs_so_much_and_no_more(250)),
    ),
]


@pytest.mark.parametrize("rule, broken, notices", BITES)
def test_a_property_notices_a_deliberate_bug(
    rule: str, broken: Callable[[], list[Replacement]], notices: Callable[[], None]
) -> None:
    """And passes without it."""
    notices()
    bug = Bug(rule, "", QUIET, (rule,), broken)
    with bug.at_work(), pytest.raises((AssertionError, ValueError, msgpack.UnpackException)):
        notices()


def test_every_rule_of_membership_has_a_bug_that_it_notices() -> None:
    """In a simulation, or as a property."""
    rules = {rule for bug in SABOTAGE.values() for rule in bug.rules}
    assert set(RULES) == rules | {rule for rule, _, _ in BITES}


def test_every_rule_of_membership_is_named_where_it_is_checked() -> None:
    """By a test or a checker, with its number: else nobody could tell that it is left out."""
    tests = (ROOT / "tests").rglob("test_*.py")
    sources = [path for path in tests if path != Path(__file__)]
    sources += [ROOT / "simulations" / f"{name}.py" for name in CHECKERS]
    named = {rule for path in sources for rule in re.findall(r"\bM\d+\b", path.read_text("utf-8"))}
    assert [] == [rule for rule in RULES if rule not in named]

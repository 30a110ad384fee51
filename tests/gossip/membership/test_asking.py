"""Before a verdict that had to wait is believed: who is asked and told; nobody before a welcome."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossip.machine import LinkCause, Send
from gossip.membership.sightings import Witness
from gossip.membership.swim import Swim
from gossip.messages import (
    Evidence,
    Gossip,
    Notice,
    PeerId,
    Rumors,
    Seconds,
    Status,
    Welcome,
)
from tests.gossip.membership.claims import LAYOUT, down, peer, record, undialable
from tests.gossip.membership.dialogue import (
    CONFIG,
    FEW,
    bury,
    group,
    hello,
    machine,
    only,
    run,
    say,
    sent,
    silent_4,
    told_of,
)


def test_who_was_asked_is_waited_for_though_the_accusers_count_by_now() -> None:
    """M24: those on the far side of a split are live here a moment after it has healed, with an old
    verdict; a neighbor that heard of a refutation says so first."""
    swim, others = silent_4(), (2, 3, 5, 6)
    bury(swim, 4, 7, 8, 9, by=2, now=10.0)
    asked_at = 10.0 + CONFIG.suspicion_s(6) + 0.1
    run(swim, asked_at, answering=others)

    bury(swim, 4, 2, 3, 5, by=2, now=asked_at + 0.1)
    run(swim, asked_at + 1.2, answering=others)
    assert Status.DOWN > swim.records()[3].status
    run(swim, asked_at + CONFIG.contested_s + 2.2, answering=others)
    assert down(4) == swim.record(peer(4))


def test_my_own_link_outweighs_accusers_that_are_gone() -> None:
    """M24: a link to the subject stands, so it is given time again and again, not believed down on
    the second look."""
    swim, others = group(6), (2, 3, 5, 6)
    run(swim, 9.9, answering=others)
    swim._view.sightings.at(peer(4)).witness = Witness.UP
    bury(swim, 4, 7, 8, 9, by=2, now=10.0)
    run(swim, 10.0 + CONFIG.suspicion_s(6) + 2 * CONFIG.contested_s + 3.0, answering=others)
    assert Status.DOWN > swim.records()[3].status


def test_a_verdict_once_doubted_is_asked_about_when_it_counts() -> None:
    """M24: the same, when the accusers are live here before the first of them has counted."""
    swim, others = silent_4(), (2, 3, 5, 6)
    bury(swim, 4, 7, 8, 9, by=2, now=10.0)
    run(swim, 11.0, answering=others)

    asking = bury(swim, 4, 2, 3, 5, by=2, now=11.1)
    assert record(4) == swim.record(peer(4))
    asked = [each.to for each in asking if isinstance(each, Send) and told_of(4, each)]
    assert len(asked) == CONFIG.gossip_fanout
    run(swim, 11.1 + CONFIG.contested_s + 2.2, answering=others)
    assert down(4) == swim.record(peer(4))


def split_off(*reached: int, until_s: Seconds) -> tuple[list[PeerId], Swim]:
    """Peer 1 among nine, of which 3, 5, 6 and 7 are its neighbors, gets through to few of them from
    second 9 on, and hears then that 9 is down; whom it asks about that, and what it is then."""
    swim = group(9, FEW)
    assert set(swim.neighbors()) == set(map(peer, (3, 5, 6, 7)))
    run(swim, 9.0, answering=(2, 3, 4, 5, 6, 7, 8, 9))
    for number in range(2, 10):
        if number not in reached:
            swim.link_lost(peer(number), LinkCause.SILENT, 9.0)
    bury(swim, 9, *range(10, 18), by=6, now=9.1)
    run(swim, 9.1 + FEW.suspicion_s(9) - 0.1, answering=reached)  # until then it is news
    asking = only(run(swim, until_s, answering=reached))
    return [each.to for each in asking if isinstance(each, Send) and told_of(9, each)], swim


@pytest.mark.parametrize("reached", [(2, 4), (2, 6), (2, 4, 6, 8, 5), (3, 5, 6, 7, 8)])
def test_those_are_asked_that_i_get_through_to(reached: tuple[int, ...]) -> None:
    """M24: the next split may have taken my neighbors away, and with them all that could know of a
    refutation; others know of it too."""
    asked, _ = split_off(*reached, until_s=9.1 + FEW.suspicion_s(9) + 0.1)

    assert min(FEW.gossip_fanout, len(reached)) == len(asked) == len(set(asked))
    assert set(asked) <= set(map(peer, reached))


@pytest.mark.parametrize("met", [False, True])
def test_who_watches_a_subject_that_i_cannot_ask_is_asked_twice(met: bool) -> None:
    """M24: all my neighbors may stand on one side of a split, and the subject, which only dials
    out, on the other. Those that watch it tell it when they are asked, and know better then; those
    that accuse it have said what they know."""
    others, gone = tuple(range(2, 9)), replace(undialable(9), status=Status.DOWN)
    swim = machine(*map(record, others), undialable(9), config=FEW)
    accuser, *watching = [each for each in swim.observers(peer(9)) if each != peer(1)]
    for number in range(2, 9 + met):
        swim.link_up(peer(number), 0.0)
        swim.heard_from(peer(number), 0.0)
    run(swim, 9.0, answering=others)
    about = Evidence(peer(9), 1, 0, (accuser, *map(peer, range(10, 18))), True)
    say(swim, 6, Gossip(Rumors((gone,), (), (about,))), 9.1)
    asked_at = 9.1 + FEW.suspicion_s(9)
    run(swim, asked_at - 0.1, answering=others)

    for at in (asked_at, asked_at + FEW.contested_s):
        effects = only(run(swim, at + 0.1, answering=others))
        asked = [
            each.to
            for each in effects
            if isinstance(each, Send)
            and isinstance(each.message, Gossip)
            and gone in each.message.rumors.records
        ]
        assert met is not (set(watching) <= set(asked))
        assert len(asked) == len(set(asked))
    run(swim, asked_at + 2 * FEW.contested_s + 0.1, answering=others)
    assert met is (gone != swim.record(peer(9)))  # a link that stands speaks for it


def test_a_verdict_waits_while_there_is_nobody_to_ask() -> None:
    """M24: heard between two splits, of which the second leaves me alone. Not for ever."""
    asked, swim = split_off(until_s=9.1 + FEW.suspicion_s(9) + 3 * FEW.contested_s)
    assert [] == asked
    assert Status.DOWN > swim.records()[8].status
    longest_s = FEW.suspicion_max_factor * FEW.suspicion_s(9)
    run(swim, 9.1 + longest_s + 1.1)
    assert not swim._view.verdicts.open


@pytest.mark.parametrize("linked", [True, False])
def test_the_subject_of_a_verdict_that_waits_is_told(linked: bool) -> None:
    """M24: by whoever gets through to it, when it is doubted and when it is asked about: news may
    not reach it, as those that watch it may still hold it down."""
    swim, others = group(6), (2, 3, 5, 6)
    run(swim, 9.0, answering=(2, 3, 4, 5, 6))
    if not linked:
        swim.link_lost(peer(4), LinkCause.SILENT, 9.0)
    run(swim, 9.9, answering=others)

    doubting = bury(swim, 4, 7, 8, 9, by=2, now=10.0)
    assert linked is (Notice(down(4)) in sent(doubting, Notice, peer(4)))
    asking = only(run(swim, 10.0 + CONFIG.suspicion_s(6) + 0.1, answering=others))
    assert linked is (Notice(down(4)) in sent(asking, Notice, peer(4)))


def test_who_was_not_welcomed_yet_believes_no_verdict() -> None:
    """M14: a newcomer that a bad accuser greets first knows of nobody else, and one of one is a
    quorum. Once it knows the group, what waited counts."""
    welcome = Welcome(Rumors(tuple(map(record, range(2, 7)))), LAYOUT, 1)
    doubting, believing = machine(), machine()
    for swim, accusers in ((doubting, (6,)), (believing, (2, 3, 6))):
        say(swim, 6, hello(6), 1.0)
        bury(swim, 4, *accusers, by=6, now=1.1)
        assert None is swim.record(peer(4))
        say(swim, 2, welcome, 2.0)
        run(swim, 2.0 + CONFIG.contested_s, answering=(2, 3, 5, 6))

    assert record(4) == doubting.record(peer(4))
    assert down(4) == believing.record(peer(4))

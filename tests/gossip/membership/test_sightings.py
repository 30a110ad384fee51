"""What was seen of a peer decides whether I swap with it, and whether silence counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.machine import Reach
from gossip.membership.sightings import (
    OF_CAUSE,
    SILENCED_MAX,
    UNDECIDED_S,
    Sighting,
    Sightings,
    Witness,
)
from tests.gossip.membership.claims import peer


@pytest.mark.parametrize(
    "witness, answering, silent",
    [
        (Witness.NONE, Reach.OPEN, Reach.LOST),
        (Witness.UP, Reach.OPEN, Reach.BUSY),
        (Witness.CLOSED, Reach.LOST, Reach.LOST),
        (Witness.REFUSED, Reach.LOST, Reach.LOST),
        (Witness.SILENT, Reach.LOST, Reach.LOST),
        (Witness.FROZEN, Reach.BUSY, Reach.BUSY),
    ],
)
def test_the_link_decides_what_silence_means(
    witness: Witness, answering: Reach, silent: Reach
) -> None:
    """M12: only a link that is up, or a kernel that accepts, witnesses a living process."""
    assert answering == Sighting(0.0, witness).reach
    assert silent == Sighting(0.0, witness, failing_since=1.0).reach
    lives = witness in (Witness.UP, Witness.FROZEN)
    for seen in (Sighting(0.0, witness), Sighting(0.0, witness, failing_since=1.0)):
        assert lives == seen.is_excused(False, 20.0)


def test_every_cause_of_a_loss_is_a_witness() -> None:
    """None of them says that all is well."""
    for witness in OF_CAUSE.values():
        assert Reach.OPEN != Sighting(0.0, witness).reach
    assert 4 == len(dict.fromkeys(OF_CAUSE.values()))


def test_a_peer_never_met_is_worth_a_try_and_was_never_heard() -> None:
    """Asking about it leaves nothing behind."""
    seen = Sightings()

    assert Reach.OPEN == seen.reach(peer(2))
    assert not seen.heard_within(peer(2), 1e6, 5.0)
    assert None is seen.of(peer(2))


def test_what_was_heard_grows_old_and_can_be_forgotten() -> None:
    """The age itself is too old."""
    seen = Sightings()
    seen.at(peer(2)).heard_at = 5.0

    assert seen.heard_within(peer(2), 2.0, 6.9)
    assert not seen.heard_within(peer(2), 2.0, 7.0)

    seen.forget(peer(2))
    seen.forget(peer(3))
    assert not seen.heard_within(peer(2), 2.0, 5.0)


def test_the_time_i_was_starved_does_not_make_others_older() -> None:
    """M17: neither what was heard nor since when there was no answer."""
    seen = Sightings()
    seen.at(peer(2)).heard_at = 5.0
    seen.at(peer(2)).failing_since = 6.0
    seen.at(peer(3)).heard_at = 1.0
    seen.extend(100.0)

    assert (105.0, 106.0) == (seen.at(peer(2)).heard_at, seen.at(peer(2)).failing_since)
    assert (101.0, None) == (seen.at(peer(3)).heard_at, seen.at(peer(3)).failing_since)


def test_a_path_mended_before_i_was_starved_is_mended_just_now() -> None:
    """M24: what was said across the split waits in the inbox meanwhile, and is heard after it."""
    sightings = Sightings()
    sightings.mended(peer(2), 10.0)
    sightings.extend(100.0)
    assert sightings.mended_within(5.0, 112.0, but=peer(3))
    assert not sightings.mended_within(5.0, 116.0, but=peer(3))


def test_a_large_part_of_all_paths_that_fell_silent_is_a_split() -> None:
    """M24: three at least, and one in four; not the subject's own, none that is open again or in a
    new life. Members that are down by now count too, and links given up, but not for long."""
    sightings = Sightings()
    for number in range(2, 14):
        sightings.came_up(peer(number), 1.0)
    sightings.lose(peer(2), Witness.SILENT, 0, 10.0)
    sightings.lose(peer(3), Witness.SILENT, 0, 10.0)
    assert not sightings.is_splitting(20.0, 11.0, but=peer(9)), "two of twelve"
    sightings.lose(peer(4), Witness.SILENT, 0, 10.0)
    assert sightings.is_splitting(20.0, 11.0, but=peer(9))
    assert not sightings.is_splitting(20.0, 11.0, but=peer(4))
    assert sightings.is_splitting(20.0, 999.0, but=peer(9))

    sightings.forget(peer(4))
    assert sightings.is_splitting(20.0, 29.0, but=peer(9))
    assert not sightings.is_splitting(20.0, 30.0, but=peer(9))
    sightings.lose(peer(4), Witness.SILENT, 0, 30.0)
    assert sightings.is_splitting(20.0, 30.0, but=peer(9)), "it came, and is silent again"
    sightings.unlinked(peer(4))
    assert sightings.is_splitting(20.0, 29.0, but=peer(9))
    assert not sightings.is_splitting(20.0, 30.0, but=peer(9))

    sightings.extend(100.0)
    assert sightings.is_splitting(20.0, 121.0, but=peer(9))
    sightings.came_up(peer(3), 121.0)
    assert not sightings.is_splitting(20.0, 121.0, but=peer(9))
    sightings.lose(peer(3), Witness.SILENT, 0, 122.0)
    assert sightings.is_splitting(20.0, 122.0, but=peer(9))
    sightings.begins_anew(peer(2))
    assert not sightings.is_splitting(20.0, 122.0, but=peer(9))


def test_a_path_is_silent_no_more_once_anything_comes_over_it() -> None:
    """M24: though its peer was down meanwhile, or only its host answers; and it may be again."""
    sightings = Sightings()
    for number in (2, 3, 4, 5):
        sightings.lose(peer(number), Witness.SILENT, 0, 10.0)
    sightings.went(peer(2), is_dialable=True)
    sightings.came_up(peer(2), 12.0)
    assert sightings.mended_within(5.0, 12.0, but=peer(9))
    assert sightings.is_splitting(20.0, 12.0, but=peer(9))
    sightings.lose(peer(3), Witness.REFUSED, 0, 12.0)
    assert not sightings.is_splitting(20.0, 12.0, but=peer(9))
    assert not sightings.mended_within(5.0, 12.0, but=peer(2)), "that tells of no path's end"

    sightings.lose(peer(2), Witness.SILENT, 0, 40.0)
    sightings.lose(peer(3), Witness.SILENT, 0, 40.0)
    sightings.lose(peer(6), Witness.SILENT, 0, 40.0)
    assert sightings.is_splitting(20.0, 41.0, but=peer(9))


def test_only_so_many_silent_paths_are_remembered() -> None:
    """M27."""
    sightings = Sightings()
    sightings.lose(peer(1), Witness.SILENT, 0, 1.0)
    for number in range(2, 3 * SILENCED_MAX):
        sightings.lose(peer(number), Witness.SILENT, 0, float(number))
        sightings.forget(peer(number))
    assert SILENCED_MAX == len(sightings._silenced)
    assert peer(3 * SILENCED_MAX - 1) in sightings._silenced
    assert peer(1) in sightings._silenced, "a member that I still try to reach"


def test_a_dial_that_has_not_told_yet_excuses_silence_for_a_while() -> None:
    """First or anew; what it has told counts at once."""
    for seen in (
        Sighting(0.0, Witness.CLOSED, failing_since=0.0, closed_at=1.0),
        Sighting(0.0, Witness.NONE, failing_since=1.0),
    ):
        assert seen.is_excused(True, 1.0 + UNDECIDED_S - 0.1)
        assert not seen.is_excused(True, 1.0 + UNDECIDED_S)
    assert Sighting(0.0, Witness.NONE).is_excused(True, 99.0)
    assert not Sighting(0.0, Witness.NONE, failing_since=1.0).is_excused(False, 1.1)
    assert not Sighting(0.0, Witness.REFUSED, closed_at=1.0).is_excused(True, 1.1)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ("lose", "refused", "mended", "new life", "starved", "went", "given up")
            ),
            st.integers(2, 8),
            st.integers(0, 2),
        ),
        max_size=30,
    ),
    st.sampled_from((2.0, 5.0)),
)
def test_silent_paths_are_counted_anew_whenever_one_falls_silent_or_speaks(
    steps: list[tuple[str, int, int]], within_s: float
) -> None:
    """Many claims are weighed at one time, and the paths counted once for all of them."""
    seen, now = Sightings(), 0.0
    for what, number, pause_s in steps:
        now += pause_s
        who = peer(number)
        match what:
            case "lose" | "refused":
                witness = Witness.SILENT if what == "lose" else Witness.REFUSED
                seen.lose(who, witness, 0, now)
            case "mended":
                seen.mended(who, now)
            case "new life":
                seen.begins_anew(who)
            case "went":
                seen.went(who, is_dialable=True)
            case "given up":
                seen.unlinked(who)
            case _:
                seen.extend(1.0)
        tried = [each for each in seen._silenced if each in seen.seen]
        tried = [each for each in tried if not seen.seen[each].given_up]
        recent = [each for each, at in seen._silenced.items() if now - at < within_s]
        silent = len({*tried, *recent})
        assert silent == seen._silent_within(within_s, now)

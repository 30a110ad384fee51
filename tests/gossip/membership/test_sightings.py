"""What was seen of a peer decides whether I swap with it, and whether silence counts."""

from __future__ import annotations

import pytest

from gossip.machine import Reach
from gossip.membership.sightings import OF_CAUSE, Sighting, Sightings, Witness
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
    assert (witness in (Witness.UP, Witness.FROZEN)) == Sighting(0.0, witness).is_excused(20.0)


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

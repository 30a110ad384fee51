"""What is said when a peer cannot join."""

from __future__ import annotations

import logging

import pytest

from gossip.errors import JoinError, LayoutMismatch, UsageError
from gossip.machine import TurnedAway
from gossip.messages import PeerId, RefusalReason, Segment
from peers.joining import no_model, refusal
from tests.lab.peers import a_peer, small_model

BY = PeerId("abcdef0123456789")
MINE = (Segment("weight", (2, 3), "float32"),)
THEIRS = (Segment("weight", (2, 4), "float32"),)


def test_another_model_is_named_with_what_to_do() -> None:
    """What, what it means, and what to do; no digests."""
    error = refusal(TurnedAway(BY, "layout 12ab", THEIRS, RefusalReason.LAYOUT), MINE)
    assert isinstance(error, LayoutMismatch)
    for words in (
        "peer abcdef trains another model",
        "(2, 3) here and (2, 4)",
        "nothing was mixed",
        "same task and options",
        "--run",
    ):
        assert words in str(error)
    assert "12ab" not in str(error)


def test_other_settings_are_told_as_they_were_said() -> None:
    """The other knows best."""
    error = refusal(TurnedAway(BY, "cut into 2 fragments", (), RefusalReason.SETTINGS), MINE)
    assert (type(error), error.exit_code) == (UsageError, 64)
    assert "peer abcdef turned this peer away" in str(error)
    assert "cut into 2 fragments" in str(error)


@pytest.mark.parametrize(
    ("failures", "met", "says"),
    [
        ({"a:1": "refused"}, False, "no contact can be reached within 3 s: a:1 (refused)"),
        ({}, True, "the swarm at a:1, b:2 was found but nobody gave its model within 3 s"),
        (
            {},
            False,
            "a:1, b:2 accepts connections but did not answer within 3 s: is it a peer of "
            "run 'blue', with the same key and version?",
        ),
    ],
)
def test_waiting_in_vain_says_how_far_it_came(
    failures: dict[str, str], met: bool, says: str
) -> None:
    """Nobody there, nobody who gives, or nobody who understands."""
    error = no_model("blue", ("a:1", "b:2"), failures, met, 3.0)
    assert isinstance(error, JoinError)
    assert str(error).startswith(says)


def test_a_peer_with_a_model_says_once_who_turned_it_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It trains on; the same words, as a warning."""
    with a_peer(small_model(1)) as peer, caplog.at_level(logging.INFO):
        for _ in range(3):
            peer._report(TurnedAway(BY, "layout 12ab", THEIRS, RefusalReason.LAYOUT))
    said = [each for each in caplog.records if "another model" in each.getMessage()]
    assert [each.levelname for each in said] == ["WARNING"]
    assert "12ab" not in caplog.text

"""How often one peer may tell one claim, and that the guard counts it so."""

from __future__ import annotations

import pytest

from gossip.config import MembershipConfig
from gossip.machine import LinkUp, Received, Woke
from gossip.messages import Gossip, PeerId, Rumors, Status, Welcome
from simulations.telling import answers, news_max, told_max

CONFIG = MembershipConfig()
ME, OTHER = PeerId(f"{1:016x}"), PeerId(f"{2:016x}")
LONGEST_S = CONFIG.suspicion_max_factor * CONFIG.suspicion_s(100)


@pytest.mark.parametrize(
    "members, neighbors, most", [(9, 0, 7), (99, 0, 11), (100, 0, 15), (98, 16, 22), (98, 4, 11)]
)
def test_news_goes_out_as_often_as_the_protocol_decides(
    members: int, neighbors: int, most: int
) -> None:
    """4 ceil(log10(N + 1)), or whole rounds to each neighbor; at most three more in the last."""
    assert most == news_max(CONFIG, members, neighbors)


def test_only_a_verdict_may_become_news_again() -> None:
    """Heard, asked about and believed; and anew when it was given up after the longest doubt."""
    for status in (Status.ALIVE, Status.LEFT):
        assert news_max(CONFIG, 100) == told_max(CONFIG, status, 1e6, 100)
    once = 2 * news_max(CONFIG, 100) + CONFIG.gossip_fanout
    assert once == told_max(CONFIG, Status.DOWN, LONGEST_S - 0.1, 100)
    assert 2 * once == told_max(CONFIG, Status.DOWN, LONGEST_S + 0.1, 100)
    twice = once + CONFIG.gossip_fanout + 2 * CONFIG.observers
    assert twice == told_max(CONFIG, Status.DOWN, 0.0, 100, hidden=True), "asked of its observers"


def test_an_accusation_may_be_repeated_with_every_probe() -> None:
    """To each observer but the accuser itself, once when a link ends, and once in doubt."""
    assert 3 == told_max(CONFIG, Status.SUSPECT, 0.0, 3)
    assert 3 * CONFIG.observers == told_max(CONFIG, Status.SUSPECT, 0.0, 100)
    again = told_max(CONFIG, Status.SUSPECT, CONFIG.probe_timeout_min_s, 100)
    assert 4 * CONFIG.observers == again


def test_an_answer_goes_to_whoever_spoke() -> None:
    """Or to those that a newcomer welcomed before it was welcomed itself."""
    said = Received(OTHER, Gossip(Rumors()))
    assert answers(said, OTHER)
    assert not answers(said, ME)
    assert answers(Received(OTHER, Welcome(Rumors(), b"", 1)), ME)
    assert not answers(Woke(), OTHER)
    assert not answers(LinkUp(OTHER), OTHER)

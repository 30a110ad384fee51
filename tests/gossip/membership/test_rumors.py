"""News is sent a bounded number of times, what is new first."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.membership.rumors import CLAIMS_PER_MESSAGE, News, RumorQueue, transmissions
from gossip.messages import Rumors
from tests.gossip.membership.claims import down, evidence, peer, progress, record


@pytest.mark.parametrize(
    "members, times", [(1, 4), (2, 4), (9, 4), (10, 8), (99, 8), (100, 12), (10_000, 20)]
)
def test_the_number_of_sends_grows_with_the_logarithm(members: int, times: int) -> None:
    """M21: 4 ceil(log10(N + 1))."""
    assert times == transmissions(4, members)


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 6))
def test_each_claim_is_sent_exactly_as_often_as_allowed(
    claims: int, limit: int, sends_max: int
) -> None:
    """M21: whatever the message size, every claim goes out sends_max times, then no more."""
    queue: RumorQueue[int] = RumorQueue()
    for number in range(claims):
        queue.push(peer(number), number)
    sent: list[int] = []
    for _ in range(math.ceil(claims * sends_max / limit) + sends_max):
        taken = queue.take(limit, sends_max)
        assert len(set(taken)) == len(taken) <= limit
        sent.extend(taken)

    assert dict.fromkeys(range(claims), sends_max) == {
        number: sent.count(number) for number in range(claims)
    }
    assert 0 == len(queue)


def test_a_newer_claim_takes_the_place_of_the_older() -> None:
    """M21: one claim a subject, counted from nought again."""
    queue: RumorQueue[str] = RumorQueue()
    queue.push(peer(1), "old")
    queue.take(1, 2)
    queue.push(peer(1), "new")

    assert [["new"], ["new"], []] == [queue.take(5, 2) for _ in range(3)]


def test_what_was_sent_least_goes_first() -> None:
    """New claims are not starved by old ones."""
    queue: RumorQueue[str] = RumorQueue()
    queue.push(peer(1), "first")
    queue.take(1, 4)
    queue.push(peer(2), "second")

    assert [["second"], ["first"]] == [queue.take(1, 4) for _ in range(2)]


@pytest.mark.parametrize("limit", [1, 5])
def test_what_has_been_sent_often_enough_by_now_is_dropped_unsent(limit: int) -> None:
    """M21: neighbors became fewer, as newcomers stand between, so fewer times are enough."""
    queue: RumorQueue[str] = RumorQueue()
    queue.push(peer(1), "old")
    assert ["old"] == queue.take(limit, 12, copies=4)
    assert ["old"] == queue.take(limit, 12, copies=4)
    queue.push(peer(2), "new")

    assert ["new"] == queue.take(limit, 8, copies=4)
    assert ["new"] == queue.take(limit, 8, copies=4)
    assert 0 == len(queue)


def test_one_message_carries_a_bounded_number_of_claims() -> None:
    """The rest waits for the next message."""
    news = News(4)
    for number in range(CLAIMS_PER_MESSAGE + 5):
        news.add_record(record(number))
        news.add_progress(progress(number))
    first, second = news.take(2, 1, 0, 1), news.take(2, 1, 0, 1)

    assert CLAIMS_PER_MESSAGE == len(first.records) == len(first.progress)
    assert {peer(number) for number in range(CLAIMS_PER_MESSAGE + 5)} == {
        each.peer for each in first.records + second.records
    }


def test_records_and_progress_about_one_peer_do_not_displace_each_other() -> None:
    """They are two subjects; a record takes along what it stands on."""
    news = News(1)
    news.add_record(down(1), evidence(1, 2))
    news.add_progress(progress(1))

    assert 2 == len(news)
    assert Rumors((down(1),), (progress(1),), (evidence(1, 2),)) == news.take(1, 1, 0, 1)
    assert 0 == len(news)


@pytest.mark.parametrize(
    "members, neighbors, copies, times",
    [
        (2, 1, 1, 4),
        (3, 2, 2, 4),
        (4, 3, 3, 3),
        (9, 8, 4, 4),
        (100, 8, 4, 8),
        (100, 12, 4, 12),
        (10_000, 8, 4, 8),
        (10_000, 64, 4, 20),
    ],
)
def test_each_neighbor_hears_a_claim_once_and_few_several_times(
    members: int, neighbors: int, copies: int, times: int
) -> None:
    """M21: never more often than the logarithm allows."""
    news = News(4)
    news.add_record(record(1))
    sends = 0
    while len(news):
        sends += copies * len(news.take(members, neighbors, 0, copies).records)

    assert times == sends <= transmissions(4, members)


@pytest.mark.parametrize("members, neighbors", [(98, 16), (9, 7), (98, 80), (10_000, 16)])
def test_where_some_cannot_be_dialed_every_neighbor_hears_a_claim(
    members: int, neighbors: int
) -> None:
    """They hear from nobody but those that watch them: were half of all told, one of 250 would
    not hear of it until the next comparison."""
    news = News(4)
    news.add_record(record(1))
    sends = 0
    while len(news):
        sends += 4 * len(news.take(members, neighbors, neighbors // 2, 4).records)

    assert neighbors <= sends < neighbors + 4

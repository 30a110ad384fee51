"""Whom a peer watches is looked up only when it may have changed, and links follow."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from gossip.config import MembershipConfig
from gossip.machine import Dial, Hangup
from gossip.membership.roster import Roster
from gossip.membership.sightings import Sightings
from gossip.membership.view import View
from gossip.membership.watch import Watch
from gossip.messages import PeerId, Record, Status
from tests.gossip.membership import claims
from tests.gossip.membership.claims import peer, record, undialable

FEW = MembershipConfig(observers=4, accusers=3, links_max=8)


LIVE, BARE, GONE = range(3)
CHANGES = st.tuples(st.integers(1, 14), st.sampled_from([LIVE, LIVE, BARE, GONE]), st.booleans())


@given(st.integers(0, 14), st.lists(CHANGES, max_size=40), st.booleans())
@example(0, [(1, LIVE, True), (1, BARE, True), (1, LIVE, True)], False)
@example(14, [(n, kind, True) for n in range(1, 15) for kind in (BARE, LIVE)], True)
def test_no_change_of_the_neighbors_is_ever_missed(
    size: int, changes: list[tuple[int, int, bool]], dialable: bool
) -> None:
    """Whatever claims win, and whenever somebody looks; in small groups, in large ones, with
    members that cannot be dialed, or can be from now on."""
    me = record(0) if dialable else undialable(0)
    view = View(me, FEW, None)
    for number in range(1, size + 1):
        view.take(record(number), "told", 0.0)
    for life, (number, kind, looks) in enumerate(changes, 2):
        alive = undialable(number, boot=life) if kind == BARE else record(number, boot=life)
        view.take(replace(alive, status=Status.LEFT) if kind == GONE else alive, "told", 0.0)
        if looks:
            expected = view.roster.neighbors(me.peer)
            assert sorted(expected) == sorted(view.watch.neighbors)


def test_who_comes_to_stand_beside_a_peer_is_noticed() -> None:
    """Wherever the peer stands, also where the two ends of a ring meet."""
    for mine in range(30):
        roster = Roster(record(mine), 1000, FEW.observers)
        for number in range(30):
            roster.put(record(number))
        watch = Watch(roster, FEW, Sightings())
        for number in range(30, 60):
            assert roster.neighbors(peer(mine)) == list(watch.neighbors)
            roster.put(record(number))
            watch.member_came(peer(number))


@given(st.lists(claims.records(st.integers(1, 14), claims.HELD), max_size=60))
def test_in_every_pair_one_pings(members: list[Record]) -> None:
    """And the other one knows."""
    roster = Roster(record(0), 100, 4)
    for claim in members:
        roster.put(claim)
    pings: dict[tuple[PeerId, PeerId], bool] = {}
    for each in [peer(0), *roster.live]:
        own = Roster(replace(record(0), peer=each), 100, 4)
        for other in roster.all():
            if other.peer != each:
                own.put(other)
        mine = own.me if each == peer(0) else roster.get(each)
        assert mine is not None
        own.put(replace(mine, boot=9))
        for other_peer, active in Watch(own, FEW, Sightings()).neighbors.items():
            pings[(each, other_peer)] = active

    for (one, other_peer), active in pings.items():
        assert active is not pings[(other_peer, one)]


def a_watch(count: int, config: MembershipConfig = FEW) -> Watch:
    """Of peer 0 among so many others."""
    roster = Roster(record(0), 1000, config.observers)
    for number in range(1, count + 1):
        roster.put(record(number))
    return Watch(roster, config, Sightings())


def test_the_rotation_visits_every_neighbor_in_turn() -> None:
    """Each at most once a time, and all of them equally often."""
    watch = a_watch(30)
    size = len(watch.neighbors)
    turns = [each for _ in range(size) for each in watch.in_turn(2)]

    assert [2] * size == [turns.count(each) for each in watch.neighbors]
    assert size == len(dict.fromkeys(watch.in_turn(99)))
    assert [] == a_watch(0).in_turn(4)


def test_neighbors_are_dialed_once_even_if_somebody_else_looked_first() -> None:
    """A large group dials nobody else by itself."""
    watch = a_watch(30)
    neighbors = list(watch.neighbors)
    watch.in_turn(1)

    dialed = [each.peer for each in watch.links_due() if isinstance(each, Dial)]
    assert neighbors == dialed
    assert [] == watch.links_due()

    watch.everybody_came()
    watch.in_turn(1)
    assert [] == watch.links_due()


@given(st.lists(st.integers(1, 30).map(peer), max_size=60))
def test_links_are_bounded_and_the_least_recently_used_goes_first(used: list[PeerId]) -> None:
    """M27: neighbors are never given up for others."""
    watch = a_watch(30)
    up: dict[PeerId, None] = {}
    wanted: list[PeerId] = []
    for who in [None, *used]:
        for effect in watch.links_due() if who is None else watch.link(who):
            match effect:
                case Dial(each, _, _) if each is not None:
                    up[each] = None
                case Hangup(each):
                    del up[each]
                    assert each not in watch.neighbors
                    idle = [one for one in up if one not in watch.neighbors]
                    recent = dict.fromkeys(reversed(wanted))
                    later = list(recent)[: list(recent).index(each)]
                    assert all(one in later or one == who for one in idle)
        if who is not None:
            wanted.append(who)
            assert who in up
        assert FEW.links_max >= len(up)
    assert all(each in up for each in watch.neighbors)


def test_giving_up_a_link_that_is_not_mine_is_nothing() -> None:
    """And who cannot be dialed is not."""
    watch = a_watch(3)
    watch._roster.put(undialable(9))

    assert [] == watch.give_up(peer(2))
    assert [] == watch.link(peer(9))
    assert [] == watch.link(peer(77))
    assert [Dial(peer(2), "10.0.0.2:1", "10.0.0.2:2")] == watch.link(peer(2))
    assert [] == watch.link(peer(2))
    assert [Hangup(peer(2))] == watch.give_up(peer(2))


def test_a_neighbor_that_moves_is_dialed_again_in_a_large_group_too() -> None:
    """So is a swap partner; others are not."""
    view = View(record(0), FEW, None)
    for number in range(1, 31):
        view.take(record(number), "told", 0.0)
    view.watch.links_due()
    neighbor = next(iter(view.watch.neighbors))
    (other, stranger) = [each for each in view.roster.live if each not in view.watch.neighbors][:2]
    view.watch.link(other)
    for who, dialed in ((neighbor, True), (other, True), (stranger, False)):
        known = view.roster.get(who)
        assert known is not None
        moved = replace(known, boot=2, control_address="10.9.9.9:1")
        effects = view.take(moved, "told", 1.0)
        wanted = [Dial(who, "10.9.9.9:1", moved.bulk_address)] if dialed else []
        assert wanted == [each for each in effects if isinstance(each, Dial)]
    assert Status.ALIVE == moved.status

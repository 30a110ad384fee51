"""Who watches whom: the same seen from either side, and the same however the group came about."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossip.membership.rings import Around, Ring, Standing, places
from gossip.messages import PeerId
from tests.gossip.membership.claims import peer

CIRCLE = 1 << 64
MEMBERS = st.lists(st.integers(0, 30).map(peer), unique=True, min_size=1, max_size=16)


def standing(members: list[PeerId], rings: int) -> Standing:
    """These members, all in the ground."""
    return Standing(tuple(Ring(number, members) for number in range(rings)))


def watched(
    members: list[PeerId], passed: list[PeerId], of: PeerId, rings: int
) -> dict[PeerId, None]:
    """By brute force: on each ring and side the nearest that is not passed, and who is on the way
    to it for one that is not passed itself."""
    found: dict[PeerId, None] = {}
    for ring in range(rings):
        for side in (1, -1):
            for each in sorted(
                (other for other in members if other != of),
                key=lambda other: side * (places(other)[ring] - places(of)[ring]) % CIRCLE,
            ):
                if each not in passed or of not in passed:
                    found[each] = None
                if each not in passed:
                    break
    return found


@given(MEMBERS, st.data(), st.integers(1, 4))
def test_neighbors_are_the_nearest_on_each_ring_and_side(
    members: list[PeerId], data: st.DataObject, rings: int
) -> None:
    """Those that cannot be dialed are passed by, and taken along by those that can."""
    passed = data.draw(st.lists(st.sampled_from(members), unique=True))
    stand = standing(members, rings)

    for each in members:
        around = stand.around(each, dict.fromkeys(passed), each not in passed)
        assert watched(members, passed, each, rings).keys() == dict.fromkeys(around).keys()
        assert len(around) == len(dict.fromkeys(around))


@given(MEMBERS, st.data(), st.integers(1, 4))
def test_watching_is_mutual(members: list[PeerId], data: st.DataObject, rings: int) -> None:
    """A watches B if and only if B watches A; nobody has more dialable ones than sides."""
    passed = dict.fromkeys(data.draw(st.lists(st.sampled_from(members), unique=True)))
    stand = standing(members, rings)
    around = {each: stand.around(each, passed, each not in passed) for each in members}

    for one in members:
        assert 2 * rings >= len([each for each in around[one] if each not in passed])
        for other in members:
            assert (other in around[one]) == (one in around[other])


@given(MEMBERS, st.lists(st.integers(0, 30).map(peer), max_size=30), st.data())
def test_changes_over_a_ground_equal_a_fresh_build(
    ground: list[PeerId], toggled: list[PeerId], data: st.DataObject
) -> None:
    """Any sequence of comings and goings of members in the ground and beside it."""
    stand, here = standing(ground, 3), list(ground)
    for each in toggled:
        if each in here:
            here.remove(each)
            stand.remove(each, each in ground)
        else:
            here.append(each)
            stand.add(each, each in ground)
    passed = dict.fromkeys(here[::3])
    fresh = standing(here, 3)

    of = data.draw(st.sampled_from([*here, *ground, peer(31)]))
    for wants in (True, False):
        assert fresh.around(of, passed, wants) == stand.around(of, passed, wants)


@given(MEMBERS, st.lists(st.lists(st.integers(0, 20).map(peer), max_size=8), max_size=6))
def test_what_many_remember_together_is_what_each_would_find(
    ground: list[PeerId], toggled: list[list[PeerId]]
) -> None:
    """Several that heard of different comings and goings, and share a ground and a memory."""
    rings, around = tuple(Ring(number, ground) for number in range(3)), Around()
    for changes in [*toggled, *toggled]:
        stand, here = Standing(rings, around), list(ground)
        for each in changes:
            if each in here:
                here.remove(each)
                stand.remove(each, each in ground)
            else:
                here.append(each)
                stand.add(each, each in ground)
            assert standing(here, 3).around(each, {}, True) == stand.around(each, {}, True)
            stand.around(each, {}, True).clear()  # the answer is the asker's own


@given(MEMBERS, st.integers(0, 30).map(peer), st.data())
def test_between_means_that_it_would_be_a_neighbor(
    members: list[PeerId], accuser: PeerId, data: st.DataObject
) -> None:
    """The question about one who is not live here is answered as if it were."""
    subject = data.draw(st.sampled_from(members))
    here = [each for each in members if each != accuser or each == subject]
    observers = standing(here, 3).around(subject, {}, False)
    if accuser == subject:
        return
    there = standing([*here, accuser], 3).around(subject, {}, False)

    assert (accuser in there) == standing(here, 3).is_between(accuser, observers, subject)


def test_a_ring_keeps_its_order_through_any_change() -> None:
    """And walking an empty one finds nobody."""
    ring = Ring(0)
    assert None is ring.walk(5, True, ())
    for number in (3, 1, 2, 4):
        ring.add(peer(number))
    ring.remove(peer(2))

    assert sorted(ring.places) == ring.places
    assert [places(each)[0] for each in ring.peers] == ring.places
    assert None is ring.walk(5, False, ring.peers)

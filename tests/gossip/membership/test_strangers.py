"""Whatever anybody sends, a machine keeps its promises and its memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossip.config import MembershipConfig
from gossip.machine import Effect, LinkCause
from gossip.messages import (
    Ack,
    Diff,
    Digest,
    Evidence,
    Gossip,
    Hello,
    Lookup,
    MembershipMessage,
    Nack,
    NackReason,
    Notice,
    Phase,
    Ping,
    PingReq,
    Progress,
    Record,
    RefusalReason,
    Refused,
    Rumors,
    Status,
    Version,
    Vouch,
    Welcome,
)
from tests.gossip.membership.claims import LAYOUT, peer, record
from tests.gossip.membership.dialogue import (
    machine,
    run,
    say,
    tell,
)

COUNTS = st.one_of(st.integers(-1, 2), st.integers())
PEERS = st.sampled_from([peer(1), peer(2), peer(3), peer(4), "", "x" * 16, "\udc80"])
ABSURD_RECORDS = st.builds(
    Record,
    peer=PEERS,
    boot=COUNTS,
    incarnation=COUNTS,
    status=st.sampled_from(Status),
    control_address=st.text(max_size=300),
    bulk_address=st.text(),
    host=st.text(),
    capacity=st.floats(),
)
ABSURD_ACCOUNTS = st.builds(
    Progress,
    peer=PEERS,
    boot=COUNTS,
    version=COUNTS,
    samples=COUNTS,
    lineage=st.binary(max_size=80),
    phase=st.sampled_from(Phase),
)
ABSURD_EVIDENCE = st.builds(Evidence, PEERS, COUNTS, COUNTS, st.lists(PEERS).map(tuple))
RECORDS = st.lists(
    st.one_of(
        ABSURD_RECORDS,
        st.builds(record, st.integers(1, 4), st.just(1), COUNTS, st.sampled_from(Status)),
    ),
    max_size=3,
).map(tuple)
RUMORS = st.builds(
    Rumors,
    RECORDS,
    st.lists(ABSURD_ACCOUNTS, max_size=3).map(tuple),
    st.lists(ABSURD_EVIDENCE, max_size=3).map(tuple),
)
MESSAGES: st.SearchStrategy[MembershipMessage] = st.one_of(
    st.builds(Hello, ABSURD_RECORDS, ABSURD_ACCOUNTS, st.just(LAYOUT), COUNTS, st.booleans()),
    st.builds(Welcome, RUMORS, st.sampled_from([LAYOUT, b""]), COUNTS),
    st.builds(Refused, st.sampled_from(RefusalReason), st.text()),
    st.builds(Ping, COUNTS, COUNTS, RUMORS),
    st.builds(Ack, COUNTS, COUNTS, COUNTS, RUMORS),
    st.builds(PingReq, COUNTS, PEERS, COUNTS, st.floats()),
    st.builds(Vouch, COUNTS, PEERS, COUNTS, COUNTS),
    st.builds(Nack, COUNTS, PEERS, st.sampled_from(NackReason)),
    st.builds(Gossip, RUMORS),
    st.builds(Digest, st.one_of(st.binary(), st.binary(min_size=2048, max_size=2048))),
    st.builds(
        Diff,
        st.binary(),
        st.lists(
            st.builds(Version, PEERS, COUNTS, COUNTS, st.sampled_from(Status)), max_size=3
        ).map(tuple),
    ),
    st.builds(Lookup, RUMORS, st.lists(PEERS).map(tuple)),
    st.builds(Notice, st.one_of(RECORDS.filter(bool).map(lambda each: each[0]), ABSURD_RECORDS)),
)
LINKS = st.sampled_from([None, *LinkCause])
HEARD = st.one_of(MESSAGES, MESSAGES, MESSAGES, LINKS)


@given(st.lists(st.tuples(st.integers(1, 5), HEARD, st.floats(0, 3)), max_size=16))
def test_nothing_heard_raises_lowers_a_key_or_takes_me_down(
    heard: list[tuple[int, MembershipMessage | LinkCause | None, float]],
) -> None:
    """M2, M5, M7: whatever arrives, my record is alive, no known key falls, none is absurd, and
    no accusation is ever kept as a record."""
    swim, now = machine(record(2), record(3), config=MembershipConfig(members_max=5)), 0.0
    keys = {each.peer: each.key for each in swim.records()}
    for sender, said, wait_s in heard:
        now += wait_s
        effects: list[Effect]
        if said is None:
            effects = swim.link_up(peer(sender), now)
        elif isinstance(said, LinkCause):
            effects = swim.link_lost(peer(sender), said, now)
        else:
            effects = say(swim, sender, said, now)
        effects += swim.wake(now)
        assert swim.deadline() >= now or swim.wake(now) == []
        for known in swim._roster.all():
            assert known.key >= keys.get(known.peer, known.key)
            assert known.status != Status.SUSPECT
            assert 0 <= known.boot <= 1 << 53
            keys[known.peer] = known.key
        assert 5 >= len(swim.records())
        assert Status.ALIVE == swim.me.status


def test_of_strangers_and_of_the_forgotten_nothing_is_kept() -> None:
    """M27: whoever speaks, under however many names; a link to a stranger is kept while it lasts,
    and what was seen of a member as long as its tombstone."""
    swim = machine(record(2), config=MembershipConfig(tombstone_s=60.0))
    seen = swim._view.sightings
    for number in range(100, 200):
        say(swim, number, Ping(1, 1), 0.1)
        say(swim, number, Gossip(Rumors()), 0.1)
    assert [None] * 100 == [seen.of(peer(number)) for number in range(100, 200)]

    swim.link_up(peer(100), 0.2)
    assert None is not seen.of(peer(100))
    swim.link_lost(peer(100), LinkCause.CLOSED, 0.3)
    assert None is seen.of(peer(100))

    tell(swim, 3, record(2, status=Status.LEFT), now=0.4)
    say(swim, 2, Ping(1, 1), 0.5)
    run(swim, 61.0)
    assert [record(1)] == swim.records()
    assert None is seen.of(peer(2))

"""The composed machine: what one part must know of another."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gossip.config import Config, Layout
from gossip.core import Core
from gossip.machine import (
    Asked,
    Compute,
    Computed,
    Effect,
    Finish,
    Input,
    Join,
    LineageChanged,
    LinkCause,
    LinkLost,
    LinkUp,
    PhaseChanged,
    Reach,
    ReachChanged,
    Received,
    Submitted,
    Woke,
)
from gossip.membership.known import Known
from gossip.messages import (
    NO_LINEAGE,
    Adopt,
    Blob,
    Done,
    Gossip,
    Hello,
    Offer,
    Outcome,
    PeerId,
    Phase,
    Progress,
    Record,
    Rumors,
    Status,
)
from tests.lab import strategies
from tests.lab.expect import every, only, sent, told

ME, OTHER = PeerId("a" * 16), PeerId("b" * 16)
LAYOUT = Layout(b"layout")
LINEAGE = b"theirs!!"


def record(peer: PeerId) -> Record:
    """A live peer."""
    return Record(peer, 1, 0, Status.ALIVE, f"{peer}:1", f"{peer}:2")


def core() -> Core:
    """A peer that has not joined yet."""
    return Core(record(ME), LAYOUT, Config(), random.Random(1), 0.0)


def greet(peer: Core, lineage: bytes, samples: int, now: float) -> list[Effect]:
    """The other peer says hello."""
    progress = Progress(OTHER, 1, 2, samples, lineage, Phase.TRAINING)
    hello = Hello(record(OTHER), progress, LAYOUT.digest, 1)
    return peer.handle(Received(OTHER, hello), now)


def test_a_founder_without_contacts_founds_at_once() -> None:
    """Once; asked again it stays what it is."""
    alone = core()

    effects = alone.handle(Asked(Join(())), 0.0)

    founded = only(LineageChanged, told(effects)).lineage
    assert NO_LINEAGE != founded == alone.lineage
    assert [] == every(LineageChanged, told(alone.handle(Asked(Join(())), 1.0)))
    assert founded == alone.lineage


def test_who_is_adopting_already_founds_nothing() -> None:
    """Somebody dialed first and brought a model: that one is taken."""
    early = core()
    assert [LINEAGE] == [each.lineage for each in every(Adopt, sent(greet(early, LINEAGE, 9, 0.0)))]

    effects = early.handle(Asked(Join(())), 0.1)

    assert [] == every(LineageChanged, told(effects))
    assert NO_LINEAGE == early.lineage


def test_a_newcomer_whose_only_donor_is_lost_founds_in_the_end() -> None:
    """Even if the time to found came while it was adopting."""
    early = core()
    greet(early, LINEAGE, 9, 0.0)
    early.handle(Woke(), 3.5)  # the time to found, while the donor is still asked
    early.handle(LinkLost(OTHER, LinkCause.REFUSED), 3.6)
    told_of: list[Effect] = []
    now = 3.6
    while now < 40.0:
        now = max(now, early.deadline())
        told_of += early.handle(Woke(), now)

    assert None is only(LineageChanged, told(told_of)).source


def test_a_count_without_a_swap_is_only_a_count() -> None:
    """It is in the account at once; no swap, no phase, nothing said."""
    busy = core()
    busy.handle(Asked(Join(())), 0.0)
    greet(busy, busy.lineage, 0, 0.1)

    assert [] == busy.handle(Submitted(70, swap_due=False), 1.0)
    assert 70 == busy.samples_total
    assert 0 == busy.unsettled_swaps

    busy.handle(Asked(Finish()), 2.0)
    assert Phase.FINISHING is busy.phase
    effects = busy.handle(Submitted(80, swap_due=False), 2.1)
    assert [] == every(PhaseChanged, told(effects)) == every(Offer, sent(effects))
    assert 80 == busy.samples_total


def test_a_peer_cut_otherwise_never_becomes_a_partner() -> None:
    """The configured number of fragments is what a Hello is held against."""
    busy = core()
    busy.handle(Asked(Join(())), 0.0)
    progress = Progress(OTHER, 1, 2, 0, busy.lineage, Phase.TRAINING)
    hello = Hello(record(OTHER), progress, LAYOUT.digest, 2)

    busy.handle(Received(OTHER, hello), 1.0)

    assert [ME] == busy.training_members()
    assert 1 == busy.hello().fragments
    assert [] == every(Done, sent(busy.handle(Submitted(1, swap_due=True), 2.0)))


def test_an_offer_to_a_peer_that_turns_out_busy_is_withdrawn() -> None:
    """Its link is up but nothing answers, not even a probe: the fragment is free for another."""
    peer = core()
    peer.handle(LinkUp(OTHER), 0.0)
    peer.handle(Asked(Join(())), 0.0)
    greet(peer, peer.lineage, 5, 0.0)
    offering = peer.handle(Submitted(32, swap_due=True), 0.1)
    wanted = only(Compute, offering).transfer
    peer.handle(Computed(wanted, Blob(bytes(16), 64, 64)), 0.1)

    now, effects = 0.1, list[Effect]()
    while not every(ReachChanged, told(effects)) and now < 10.0:
        now = peer.deadline()
        effects = peer.handle(Woke(), now)

    assert Reach.BUSY is only(ReachChanged, told(effects)).reach
    assert Outcome.REFUSED is only(Done, sent(effects, OTHER)).outcome
    assert 0 == peer.unsettled_swaps


def test_what_a_peer_will_take_is_in_its_offers() -> None:
    """The bound of the last hook goes out with the next offer."""
    peer = core()
    peer.handle(LinkUp(OTHER), 0.0)
    peer.handle(Asked(Join(())), 0.0)
    greet(peer, peer.lineage, 5, 0.0)
    offering = peer.handle(Submitted(32, swap_due=True, clip_bound=2.5), 0.1)
    wanted = only(Compute, offering).transfer
    effects = peer.handle(Computed(wanted, Blob(bytes(16), 64, 64)), 0.1)

    assert 2.5 == only(Offer, sent(effects, OTHER)).clip_bound


def test_a_peer_is_woken_for_whatever_is_due() -> None:
    """Words of members alone, which need nothing else, may start a timer of the core as well."""
    newcomer = core()
    newcomer.handle(Asked(Join(("somewhere:1",))), 0.0)
    for lineage, at in ((NO_LINEAGE, 0.3), (NO_LINEAGE, 1.1), (LINEAGE, 2.4)):
        greet(newcomer, lineage, 0, at)
        parts = (
            newcomer.swim.deadline(),
            newcomer._swaps.deadline(),
            newcomer._adoption.deadline(),
            newcomer._donations.deadline(),
            newcomer._uploads.deadline(),
            newcomer._timers.earliest(),
        )
        assert min(parts) == newcomer.deadline()
    assert "found" in newcomer._timers


def test_nothing_is_kept_of_members_that_are_gone() -> None:
    """M27: the number of peers ever met does not matter."""
    busy = core()
    busy.handle(Asked(Join(())), 0.0)
    for number in range(50):
        peer = PeerId(f"{number:016x}")
        for status in (Status.ALIVE, Status.LEFT):
            rumor = Gossip(Rumors((replace(record(peer), status=status),)))
            busy.handle(Received(OTHER, rumor), 1.0)

    assert {} == busy._boots


def test_a_peer_in_the_middle_of_a_swarm_trains_from_the_start() -> None:
    """It founds nothing, adopts nothing, and knows with whom it trains."""
    known = Known.of((record(ME), record(OTHER)), 8, LINEAGE)
    inside = Core(record(ME), LAYOUT, Config(), random.Random(1), 0.0, known)

    assert (LINEAGE, Phase.TRAINING) == (inside.lineage, inside.phase)
    assert [ME, OTHER] == inside.training_members()
    effects = inside.handle(Asked(Join(())), 0.0)
    assert [] == every(LineageChanged, told(effects)) == every(Adopt, sent(effects))


@given(st.lists(st.tuples(strategies.inputs(), st.floats(0, 2)), max_size=12))
def test_nothing_makes_a_machine_raise_or_spin(heard: list[tuple[Input, float]]) -> None:
    """Whatever it hears, waking it at its deadline gets it on."""
    busy, now = core(), 0.0
    busy.handle(Asked(Join(())), now)
    greet(busy, busy.lineage, 0, now)
    for happened, wait_s in heard:
        now += wait_s
        if isinstance(happened, Received):  # the owner's own inputs keep to the contract
            busy.handle(happened, now)
        for _ in range(20):
            if busy.deadline() > now:
                break
            busy.handle(Woke(), now)
        assert busy.deadline() > now

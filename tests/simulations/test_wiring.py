"""What a dialer hears of its links, and what becomes of frames meanwhile."""

from __future__ import annotations

import pytest

from gossip.machine import Dial, DialFailed, Input, LinkCause, LinkLost, LinkUp, Received
from gossip.messages import Notice, PeerId
from simulations.conditions import Conditions
from simulations.simulated_peer import SimulatedPeer
from simulations.world import World
from tests.lab.puppets import puppet, puppet_world

CLOSED, REFUSED = LinkCause.CLOSED, LinkCause.REFUSED
SILENT, FROZEN = LinkCause.SILENT, LinkCause.FROZEN


def linked(conditions: Conditions | None = None) -> tuple[World, SimulatedPeer, SimulatedPeer]:
    """A dialer, whom it dialed, and their link, which is up."""
    world = puppet_world(2, conditions)
    here, there = world.current[0], world.current[1]
    dial(world, here, there)
    world.run(1.0)
    assert [LinkUp(there.me.peer)] == told(here)
    puppet(here).heard.clear()
    return world, here, there


def dial(world: World, here: SimulatedPeer, there: SimulatedPeer) -> None:
    """Keep a link."""
    me = there.me
    world.dial(here, Dial(me.peer, me.control_address, me.bulk_address))


def told(life: SimulatedPeer) -> list[Input]:
    """All that a puppet heard."""
    return [happened for _, happened in puppet(life).heard]


def causes(life: SimulatedPeer) -> list[LinkCause | None]:
    """What a puppet heard of its links: a cause for each loss, None for each that came up."""
    return [
        happened.cause if isinstance(happened, LinkLost) else None
        for happened in told(life)
        if isinstance(happened, LinkLost | LinkUp)
    ]


def heard_at(life: SimulatedPeer, cause: LinkCause) -> float:
    """When a loss was told."""
    peer = next(each.peer for each in told(life) if isinstance(each, LinkLost))
    return next(at for at, each in puppet(life).heard if each == LinkLost(peer, cause))


def test_a_crash_is_heard_at_once_and_then_refused() -> None:
    """The kernel closes the connection; the fresh dial finds nobody."""
    world, here, _ = linked()
    world.crash(1)
    world.run(20.0)

    assert [CLOSED, REFUSED] == causes(here)
    assert heard_at(here, REFUSED) < 1.1


def test_a_lost_host_is_noticed_late_and_then_silent() -> None:
    """No word of it; the transport gives up after silent_s, its dial after connect_s."""
    world, here, _ = linked()
    world.lose_host(1)
    world.run(20.0)

    assert [CLOSED, SILENT] == causes(here)
    assert heard_at(here, CLOSED) == pytest.approx(4.0, abs=0.1)
    assert heard_at(here, SILENT) == pytest.approx(6.0, abs=0.1)


def test_a_frozen_process_accepts_and_says_nothing() -> None:
    """Until it goes on: then the link comes up again, by itself."""
    world, here, _ = linked()
    world.freeze(1, 10.0)
    world.run(20.0)

    assert [CLOSED, FROZEN, None] == causes(here)
    assert heard_at(here, FROZEN) == pytest.approx(6.0, abs=0.1)


def test_whoever_was_frozen_hears_that_its_own_links_were_closed() -> None:
    """The others gave them up while it stood still."""
    world, here, _ = linked()
    world.freeze(0, 10.0)
    world.run(20.0)

    assert [CLOSED, None] == causes(here)
    assert all(at >= 11.0 for at, _ in puppet(here).heard)


@pytest.mark.parametrize("for_s", [2.0, 30.0])
def test_nobody_hears_of_a_stall(for_s: float) -> None:
    """The library's thread goes on; what arrives is heard when the peer's own does."""
    world, here, there = linked()
    world.stall(1, for_s)
    world.send(here, there.me.peer, Notice(here.me), b"")
    world.run(40.0)

    assert [] == causes(here)
    ((at, happened),) = puppet(there).heard
    assert at == pytest.approx(1.0 + for_s)
    assert happened == Received(here.me.peer, Notice(here.me))


def test_a_short_freeze_costs_no_link() -> None:
    """Shorter than silent_s."""
    world, here, _ = linked()
    world.freeze(1, 2.5)
    world.run(20.0)

    assert [] == causes(here)


@pytest.mark.parametrize("one_way", [(0, 1), (1, 0), None])
def test_a_cut_path_is_silent_in_either_direction(one_way: tuple[int, int] | None) -> None:
    """A connection takes both; it is found again when the path is mended."""
    world, here, there = linked()
    a, b = one_way or (0, 1)
    world.cut(a, b, 10.0, both_ways=one_way is None)
    world.send(here, there.me.peer, Notice(here.me), b"")
    world.send(there, here.me.peer, Notice(there.me), b"")
    world.run(20.0)

    assert [CLOSED, SILENT, None] == causes(here)
    arrived = [
        [each for each in told(life) if isinstance(each, Received)] for life in (here, there)
    ]
    assert [one_way == (0, 1), one_way == (1, 0)] == [bool(each) for each in arrived]


def test_a_short_cut_costs_frames_and_no_link() -> None:
    """TCP would wait; here what was sent meanwhile is lost."""
    world, here, there = linked()
    world.cut(0, 1, 1.0)
    world.send(here, there.me.peer, Notice(here.me), b"")
    world.run(20.0)

    assert [] == causes(here)
    assert [] == told(there)


def test_a_split_and_its_end() -> None:
    """Both sides of a link that crosses it."""
    world, here, _ = linked()
    world.split([(0,), (1,)])
    world.run(11.0)
    world.heal()
    world.run(20.0)

    assert [CLOSED, SILENT, None] == causes(here)


@pytest.mark.parametrize("lost_host", [False, True])
def test_a_restart_ends_the_old_link_and_opens_a_new_one(lost_host: bool) -> None:
    """Frames of the old connection do not reach the new process."""
    world, here, there = linked()
    (world.lose_host if lost_host else world.crash)(1)
    world.send(here, there.me.peer, Notice(here.me), b"")
    again = world.start(1, contacts=(0,))
    world.run(20.0)

    assert [CLOSED, None] == causes(here)
    assert not any(isinstance(each, Received) for each in told(again))
    world.send(here, there.me.peer, Notice(here.me), b"")
    world.run(21.0)
    assert any(isinstance(each, Received) for each in told(again))


def test_frames_wait_for_a_link_that_is_being_dialed() -> None:
    """And are lost once a link that was up is being dialed again."""
    world = puppet_world(2)
    here, there = world.current[0], world.current[1]
    dial(world, here, there)
    world.send(here, there.me.peer, Notice(here.me), b"")
    world.run(1.0)
    assert [Received(here.me.peer, Notice(here.me))] == told(there)

    world.freeze(1, 10.0)
    world.run(8.0)
    world.send(here, there.me.peer, Notice(here.me), b"")
    world.run(20.0)
    assert 1 == len(told(there))


def test_the_other_side_answers_over_the_dialers_link() -> None:
    """It need not dial; without a link nothing passes."""
    world, here, there = linked()
    world.send(there, here.me.peer, Notice(there.me), b"")
    world.run(2.0)
    assert [Received(there.me.peer, Notice(there.me))] == told(here)

    world.hang_up(here, there.me.peer)
    world.send(there, here.me.peer, Notice(there.me), b"")
    world.run(3.0)
    assert 1 == len(told(here))


def test_contacts_answer_refuse_or_stay_silent() -> None:
    """By address, as a newcomer dials."""
    world = puppet_world(4)
    here = world.current[0]
    world.crash(2)
    world.lose_host(3)
    addresses = [world.current[number].me.control_address for number in (1, 2, 3)]
    for address in [*addresses, "10.9.9.9:1"]:
        world.dial(here, Dial(None, address, ""))
    world.run(10.0)

    assert set(told(here)) == {
        LinkUp(world.current[1].me.peer),
        DialFailed(addresses[1], REFUSED),
        DialFailed(addresses[2], SILENT),
        DialFailed("10.9.9.9:1", REFUSED),
    }


@pytest.mark.parametrize("as_member_first", [True, False])
def test_a_contact_that_is_dialed_as_a_member_too_fails_as_both(as_member_first: bool) -> None:
    """A newcomer is told of the very peer that does not answer it."""
    world = puppet_world(2)
    here, there = world.current[0], world.current[1]
    world.freeze(1, 60.0)
    contact = Dial(None, there.me.control_address, "")
    member = Dial(there.me.peer, there.me.control_address, there.me.bulk_address)
    for effect in (member, contact) if as_member_first else (contact, member):
        world.dial(here, effect)
    world.run(10.0)

    assert set(told(here)) == {
        DialFailed(there.me.control_address, FROZEN),
        LinkLost(there.me.peer, FROZEN),
    }


def test_a_lossy_or_deaf_peer_keeps_its_links() -> None:
    """Only frames are lost, and only one way."""
    world, here, there = linked()
    me: PeerId = there.me.peer
    world.network.deafen(me, True)
    world.send(here, me, Notice(here.me), b"")
    world.network.make_lossy(me, here.me.peer, 1.0)
    world.send(there, here.me.peer, Notice(there.me), b"")
    world.run(20.0)
    assert [] == told(here)
    assert [] == told(there)

    world.network.deafen(me, False)
    world.network.make_lossy(me, here.me.peer, 0.0)
    assert not world.network.impaired
    world.send(here, me, Notice(here.me), b"")
    world.run(21.0)
    assert [Received(here.me.peer, Notice(here.me))] == told(there)


def visited() -> tuple[World, SimulatedPeer, SimulatedPeer]:
    """Who was dialed by a peer that only dials out, and that peer; their link is up."""
    world = puppet_world(3, dial_out_share=0.5)
    here, hidden = world.current[1], world.current[2]
    assert (False, True) == (here.only_dials_out, hidden.only_dials_out)
    dial(world, hidden, here)
    world.run(1.0)
    assert [] == told(here)  # nothing was said yet
    world.send(hidden, here.me.peer, Notice(hidden.me), b"")
    world.send(hidden, here.me.peer, Notice(hidden.me), b"")
    world.run(2.0)
    word = Received(hidden.me.peer, Notice(hidden.me))
    assert [LinkUp(hidden.me.peer), word, word] == told(here)
    puppet(here).heard.clear()
    puppet(hidden).heard.clear()
    return world, here, hidden


def test_the_end_of_one_that_only_dials_out_is_heard_but_no_more_about_it() -> None:
    """At once when its process ends, as after a lost ping when its host goes; then nothing."""
    for host_lost in (False, True):
        world, here, _ = visited()
        (world.lose_host if host_lost else world.crash)(2)
        world.run(30.0)
        assert [CLOSED] == causes(here)
        assert heard_at(here, CLOSED) == pytest.approx(2.0 + (3.0 if host_lost else 0.01))


def test_one_that_only_dials_out_hangs_up_and_comes_back() -> None:
    """With a new connection, and a new word."""
    world, here, hidden = visited()
    world.hang_up(hidden, here.me.peer)
    world.run(3.0)
    assert [CLOSED] == causes(here)

    dial(world, hidden, here)
    world.run(4.0)
    world.send(hidden, here.me.peer, Notice(hidden.me), b"")
    world.run(5.0)
    assert [CLOSED, None] == causes(here)


def test_a_frozen_peer_that_only_dials_out_keeps_its_link_in_the_eyes_of_the_other() -> None:
    """Its host answers for it. When it goes on it opens a new connection, and one end is not told
    after the beginning that follows it."""
    world, here, hidden = visited()
    world.freeze(2, 20.0)
    world.run(21.9)
    assert [] == causes(here)
    world.run(25.0)
    world.send(hidden, here.me.peer, Notice(hidden.me), b"")
    world.run(26.0)
    assert [None] == causes(here)

    world.freeze(2, 20.0)
    world.run(40.0)
    world.crash(2)
    world.run(50.0)
    assert [None, CLOSED] == causes(here)


def test_a_frozen_peer_that_comes_back_and_ends_without_a_word_has_ended() -> None:
    """Its new connection was never heard of, but the one before was, and is over as well."""
    world, here, _ = visited()
    world.freeze(2, 10.0)
    world.run(15.0)
    assert [] == causes(here)
    world.crash(2)
    world.run(20.0)
    assert [CLOSED] == causes(here)


def test_a_path_that_is_cut_ends_the_link_on_both_sides() -> None:
    """And it is opened again by the one that can."""
    world, here, hidden = visited()
    world.cut(1, 2, 10.0)
    world.run(11.0)
    assert [CLOSED] == causes(here)
    assert [CLOSED, SILENT] == causes(hidden)
    world.run(15.0)
    assert [CLOSED, SILENT, None] == causes(hidden)
    world.send(hidden, here.me.peer, Notice(hidden.me), b"")
    world.run(16.0)
    assert [CLOSED, None] == causes(here)


def test_nobody_gets_through_to_one_that_only_dials_out() -> None:
    """Should anybody try."""
    world, here, hidden = visited()
    dial(world, here, hidden)
    world.run(10.0)
    assert [SILENT] == causes(here)


def test_a_slow_clock_makes_timers_late_and_never_goes_back() -> None:
    """The core sees its own time only."""
    world = puppet_world(1)
    life = world.current[0]
    world.run(10.0)
    world.set_clock_rate(0, 0.5)
    puppet(life).wakes_at = 20.0
    world.set_clock_rate(0, 0.5)  # looks at the deadline again
    world.run(29.9)
    assert [] == puppet(life).heard
    world.run(31.0)

    ((at, _),) = puppet(life).heard
    assert at == pytest.approx(20.0, abs=1e-6)
    world.set_clock_rate(0, 1.0)
    assert life.local(world.now) == pytest.approx(20.5, abs=1e-6)

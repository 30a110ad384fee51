"""Each rule of membership notices when it is broken, and lets pass what is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from gossip.machine import Asked, Dial, Leave, LinkCause, LinkLost, Send
from gossip.messages import Gossip, Notice, Rumors, Status
from simulations.figures import Figures
from simulations.guard import Guard, Limits
from simulations.rules import BrokenRule
from tests.lab.puppets import puppet
from tests.simulations.scenes import Scene, deafen, fresh, guard_subject, heard, link


@pytest.fixture
def scene() -> Scene:
    """Fresh."""
    return fresh()


def _falls(scene: Scene) -> None:
    scene.tell(0, scene.of(1, Status.SUSPECT), heard(scene, 2))
    scene.tell(0, scene.of(1, Status.ALIVE), heard(scene, 2))


def _holds_less_than_it_told(scene: Scene) -> None:
    scene.tell(0, scene.of(1, Status.SUSPECT), heard(scene, 2), holds=False)


def _makes_up_an_incarnation(scene: Scene) -> None:
    scene.tell(0, scene.of(1, incarnation=3))


def _makes_up_a_peer(scene: Scene) -> None:
    scene.tell(0, replace(scene.of(1), peer="00" * 8))  # type: ignore[arg-type]  # a made-up id


def _resurrects(scene: Scene) -> None:
    scene.world.crash(1)
    scene.tell(0, scene.of(1, Status.DOWN))
    scene.tell(0, scene.of(1))


def _changes_an_address(scene: Scene) -> None:
    scene.tell(0, replace(scene.of(1, Status.SUSPECT), host="elsewhere"), heard(scene, 2))


def _calls_itself_down(scene: Scene) -> None:
    puppet(scene.life(0)).swim.me = scene.of(0, Status.DOWN)
    scene.say(0, [Send(scene.life(1).me.peer, Notice(scene.of(0)))])


def _leaves_unasked(scene: Scene) -> None:
    puppet(scene.life(0)).swim.me = scene.of(0, Status.LEFT)
    scene.say(0, [Send(scene.life(1).me.peer, Notice(scene.of(0)))])


def _falls_back_itself(scene: Scene) -> None:
    puppet(scene.life(0)).swim.me = scene.of(0, incarnation=5)
    scene.say(0, [Send(scene.life(1).me.peer, Notice(scene.of(0)))])
    puppet(scene.life(0)).swim.me = scene.of(0, incarnation=4)
    scene.say(0, [Send(scene.life(1).me.peer, Notice(scene.of(0)))])


def _buries_the_living(scene: Scene) -> None:
    scene.tell(0, scene.of(1, Status.DOWN), heard(scene, 2))


def _buries_the_stalled(scene: Scene) -> None:
    scene.world.stall(1, 60.0)
    scene.world.run(30.0)
    scene.tell(0, scene.of(1, Status.DOWN), heard(scene, 2))


def _buries_a_new_life(scene: Scene) -> None:
    scene.world.crash(1)
    scene.world.start(1, (0,))
    scene.tell(0, scene.of(1, Status.DOWN))


def _accuses_over_a_live_link(scene: Scene) -> None:
    link(scene)
    scene.tell(0, scene.of(1, Status.SUSPECT))


def _accuses_the_frozen(scene: Scene) -> None:
    link(scene)
    scene.world.freeze(1, 60.0)
    scene.world.run(20.0)
    lost = LinkLost(scene.life(1).me.peer, LinkCause.FROZEN)
    scene.tell(0, scene.of(1, Status.SUSPECT), lost)


def _believes_an_accuser(scene: Scene) -> None:
    scene.world.network.deafen(scene.life(3).me.peer, True)
    scene.tell(0, scene.of(1, Status.DOWN), heard(scene, 3))


def _judges_at_the_first_doubt(scene: Scene) -> None:
    scene.world.crash(1)
    guard_subject(scene, 1).doubted_at_s.clear()
    scene.tell(0, scene.of(1, Status.SUSPECT))
    scene.world.run(2.0)
    scene.tell(0, scene.of(1, Status.DOWN))


def _judges_without_a_doubt(scene: Scene) -> None:
    scene.world.crash(1)
    guard_subject(scene, 1).doubted_at_s.clear()
    scene.tell(0, scene.of(1, Status.DOWN))


def _acts_before_it_hears(scene: Scene) -> None:
    scene.life(0).inbox.append(heard(scene, 1))
    scene.say(0, [])


def _judges_after_a_stall(scene: Scene) -> None:
    scene.world.crash(1)
    scene.tell(0, scene.of(1, Status.SUSPECT))
    scene.world.stall(0, 20.0)
    scene.world.run(21.5)
    scene.tell(0, scene.of(1, Status.DOWN))


def _judges_after_a_stall_in_a_split(scene: Scene) -> None:
    """It came after the end, so the silence did not begin with it."""
    scene.world.crash(1)
    scene.tell(0, scene.of(1, Status.SUSPECT))
    scene.world.run(1.5)
    scene.world.split([(0, 2), (1, 3)])
    scene.world.stall(0, 20.0)
    scene.world.run(22.0)
    scene.tell(0, scene.of(1, Status.DOWN))


def _judges_an_old_life_after_a_stall(scene: Scene) -> None:
    """As soon after it as no stall would allow."""
    _judges_the_life_before_the_last(scene, 21.5)


def _judges_the_life_before_the_last(scene: Scene, at_s: float) -> None:
    """Doubted by a peer that is held up while the subject is back and gone again."""
    scene.world.crash(1)
    scene.tell(0, scene.of(1, Status.SUSPECT))
    old = scene.of(1, Status.DOWN)
    scene.world.stall(0, 20.0)
    scene.world.run(10.0)
    scene.world.start(1, (2,))
    scene.world.run(20.0)
    scene.world.crash(1)
    scene.world.run(at_s)
    scene.tell(0, old)


def _buries_who_was_deaf_long_ago(scene: Scene) -> None:
    deafen(scene, 1, 10.0)
    scene.world.run(20.0)
    scene.tell(0, scene.of(1, Status.DOWN))


def _suspects_who_left(scene: Scene) -> None:
    scene.world.leave(1)
    scene.tell(0, scene.of(1, Status.LEFT), heard(scene, 1))
    scene.tell(0, scene.of(1, Status.DOWN))


def _repeats_itself(scene: Scene) -> None:
    claim = Gossip(Rumors((scene.of(2, Status.SUSPECT),)))
    scene.say(0, [Send(scene.life(1).me.peer, claim)] * 50)


def _tells_news_too_often(scene: Scene) -> None:
    claim = Gossip(Rumors((scene.of(2),)))
    scene.say(0, [Send(scene.life(1).me.peer, claim)] * 7)  # four, and less than one more round
    scene.say(0, [Send(scene.life(1).me.peer, claim)])


def _answers_without_end(scene: Scene) -> None:
    claim = Gossip(Rumors((scene.of(2),)))
    for _ in range(20):  # as often as asked
        scene.say(0, [Send(scene.life(1).me.peer, claim)], heard(scene, 1))
    scene.say(0, 3 * [Send(scene.life(1).me.peer, claim)], heard(scene, 1))


def _dials_one_that_cannot_be_dialed(scene: Scene) -> None:
    scene.say(0, [Dial(scene.life(1).me.peer, "", "")])


def _buries_when_a_split_heals(scene: Scene) -> None:
    scene.world.split([(0, 1), (2, 3)])
    scene.world.run(30.0)
    scene.tell(2, scene.of(1, Status.DOWN))  # right: it is on the other side
    scene.world.heal()
    scene.world.run(31.0)
    scene.tell(0, scene.of(1, Status.DOWN), heard(scene, 2))


def _buries_in_a_second_split(scene: Scene) -> None:
    """The two were together all the time."""
    scene.world.split([(0, 1), (2, 3)])
    scene.world.run(10.0)
    scene.world.heal()
    scene.world.split([(0, 1, 2), (3,)])
    scene.tell(0, scene.of(1, Status.DOWN), heard(scene, 2))


def _believes_long_after_a_split(scene: Scene) -> None:
    """The first split is forgiven by then, and the second one explains nothing."""
    scene.world.split([(0, 1), (2, 3)])
    scene.world.run(10.0)
    scene.tell(2, scene.of(1, Status.DOWN))
    scene.world.heal()
    scene.world.start(4, (2,))
    scene.tell(4, scene.of(2), heard(scene, 2))
    scene.world.run(45.0)
    scene.world.split([(1, 2, 4), (0, 3)])
    scene.tell(4, scene.of(1, Status.DOWN), heard(scene, 2))


def _buries_across_a_split_over_a_link(scene: Scene, healed_for_s: float = 3.1) -> None:
    """It has had it for a while."""
    scene.world.split([(0, 2), (1, 3)])
    scene.world.run(30.0)
    scene.world.heal()
    link(scene)
    scene.world.run(30.0 + healed_for_s)
    scene.tell(0, scene.of(1, Status.DOWN), heard(scene, 3))


BREAKS: list[tuple[str, Callable[[Scene], None]]] = [
    ("M2", _falls),
    ("M2", _holds_less_than_it_told),
    ("M4", _makes_up_an_incarnation),
    ("M4", _makes_up_a_peer),
    ("M5", _resurrects),
    ("M6", _changes_an_address),
    ("M7", _calls_itself_down),
    ("M7", _leaves_unasked),
    ("M7", _falls_back_itself),
    ("M11", _buries_the_living),
    ("M11", _buries_the_stalled),
    ("M11", _buries_a_new_life),
    ("M12", _accuses_over_a_live_link),
    ("M12", _accuses_the_frozen),
    ("M14", _believes_an_accuser),
    ("M16", _judges_at_the_first_doubt),
    ("M16", _judges_without_a_doubt),
    ("M17", _judges_after_a_stall),
    ("M17", _judges_after_a_stall_in_a_split),
    ("M17", _judges_an_old_life_after_a_stall),
    ("M14", _buries_who_was_deaf_long_ago),
    ("M18", _acts_before_it_hears),
    ("M19", _suspects_who_left),
    ("M21", _repeats_itself),
    ("M21", _tells_news_too_often),
    ("M21", _answers_without_end),
    ("M29", _dials_one_that_cannot_be_dialed),
    ("M24", _buries_when_a_split_heals),
    ("M24", _buries_across_a_split_over_a_link),
    ("M24", _buries_in_a_second_split),
    ("M11", _believes_long_after_a_split),
]


@pytest.mark.parametrize("rule, act", BREAKS, ids=lambda each: getattr(each, "__name__", each))
def test_a_broken_rule_is_noticed(scene: Scene, rule: str, act: Callable[[Scene], None]) -> None:
    """With its number, the time and the peer."""
    with pytest.raises(BrokenRule) as broken:
        act(scene)

    assert rule == broken.value.rule
    assert scene.world.now == broken.value.at_s
    assert broken.value.peer in {life.me.peer for life in scene.world.lives}


def test_a_broken_rule_can_be_counted_instead(scene: Scene) -> None:
    """And the run goes on."""
    guard = Guard(scene.world, Limits(), Figures(), keep_going=True)
    for life in scene.world.lives:
        guard.began(life)
    scene.guard = guard

    for _ in range(3):
        _accuses_over_a_live_link(scene)
        scene.life(0).told.clear()

    assert {"M12": 3} == guard.broken
    assert guard.first is not None
    assert "M12" == guard.first.rule


def _buries_the_crashed(scene: Scene) -> None:
    scene.world.crash(1)
    scene.tell(0, scene.of(1, Status.SUSPECT), LinkLost(scene.life(1).me.peer, LinkCause.REFUSED))
    scene.world.run(8.0)
    scene.tell(0, scene.of(1, Status.DOWN))


def _buries_an_old_life(scene: Scene) -> None:
    scene.world.crash(1)
    old = scene.of(1, Status.DOWN)
    scene.world.start(1, (0,))
    scene.tell(0, old)


def _sees_a_refutation(scene: Scene) -> None:
    puppet(scene.life(1)).swim.me = scene.of(1, incarnation=1)
    scene.say(1, [Send(scene.life(0).me.peer, Notice(scene.of(1)))])
    scene.tell(0, scene.of(1, Status.SUSPECT), heard(scene, 2))
    scene.tell(0, scene.of(1, incarnation=1), heard(scene, 1))


def _buries_across_a_split(scene: Scene) -> None:
    scene.world.split([(0, 1), (2, 3)])
    scene.world.run(30.0)
    scene.tell(2, scene.of(1, Status.DOWN))
    scene.world.heal()
    scene.world.run(40.0)
    scene.tell(3, scene.of(1, Status.DOWN), heard(scene, 2))


def _buries_across_a_split_that_has_just_healed(scene: Scene) -> None:
    _buries_across_a_split_over_a_link(scene, healed_for_s=2.9)


def _believes_its_welcomer(scene: Scene) -> None:
    """Between two splits: the verdict is from the first, and the second comes at once."""
    scene.world.split([(0, 1), (2, 3)])
    scene.world.run(30.0)
    scene.tell(2, scene.of(1, Status.DOWN))
    scene.world.heal()
    scene.world.start(4, (2,))
    scene.world.run(31.0)
    scene.world.split([(1, 2, 4), (0, 3)])
    scene.tell(4, scene.of(1, Status.DOWN), heard(scene, 2))


def _believes_its_welcomer_late(scene: Scene) -> None:
    """It began before the split, and met nobody before it healed."""
    scene.world.start(4, (2,))
    scene.world.split([(1, 4), (0, 2, 3)])
    scene.world.run(30.0)
    scene.world.heal()
    scene.world.run(31.0)
    scene.tell(4, scene.of(1, Status.DOWN), heard(scene, 2))


def _judges_after_a_stall_who_ended_behind_a_split(scene: Scene) -> None:
    """Its silence began with the split."""
    scene.world.split([(0, 2), (1, 3)])
    scene.tell(0, scene.of(1, Status.SUSPECT))
    scene.world.run(10.0)
    scene.world.crash(1)
    scene.world.stall(0, 20.0)
    scene.world.run(30.5)
    scene.tell(0, scene.of(1, Status.DOWN))


def _judges_an_old_life_in_time_after_a_stall(scene: Scene) -> None:
    """That life was silent since its own end, whatever became of the next."""
    _judges_the_life_before_the_last(scene, 24.0)


def _buries_who_was_deaf_until_just_now(scene: Scene) -> None:
    """Nothing of what was said about it came to it in time to refute."""
    deafen(scene, 1, 10.0)
    scene.world.run(13.0)
    scene.tell(0, scene.of(1, Status.DOWN))


def _buries_across_the_split_before(scene: Scene) -> None:
    """What came of the first split is told on in the second."""
    scene.world.split([(0, 1), (2, 3)])
    scene.world.run(30.0)
    scene.tell(2, scene.of(1, Status.DOWN))
    scene.world.heal()
    scene.world.split([(1, 2, 3), (0,)])
    scene.world.run(31.0)
    scene.tell(3, scene.of(1, Status.DOWN), heard(scene, 2))


def _accuses_without_a_link(scene: Scene) -> None:
    scene.tell(0, scene.of(1, Status.SUSPECT))


def _believes_an_accusation_over_a_live_link(scene: Scene) -> None:
    link(scene)
    scene.tell(0, scene.of(1, Status.SUSPECT), heard(scene, 2))


def _leaves_when_asked(scene: Scene) -> None:
    scene.world.leave(1)
    puppet(scene.life(1)).swim.me = scene.of(1, Status.LEFT)
    scene.say(1, [Send(scene.life(0).me.peer, Notice(scene.of(1)))], Asked(Leave()))
    scene.tell(0, scene.of(1, Status.LEFT), heard(scene, 1))


def _buries_who_is_frozen_for_ever(scene: Scene) -> None:
    scene.world.freeze(1, 500.0)
    scene.world.run(200.0)
    scene.tell(0, scene.of(1, Status.SUSPECT))
    scene.world.run(210.0)
    scene.tell(0, scene.of(1, Status.DOWN))


RIGHT: list[Callable[[Scene], None]] = [
    _buries_the_crashed,
    _buries_an_old_life,
    _sees_a_refutation,
    _buries_across_a_split,
    _buries_across_a_split_that_has_just_healed,
    _buries_across_the_split_before,
    _buries_who_was_deaf_until_just_now,
    _judges_after_a_stall_who_ended_behind_a_split,
    _judges_an_old_life_in_time_after_a_stall,
    _believes_its_welcomer,
    _believes_its_welcomer_late,
    _accuses_without_a_link,
    _believes_an_accusation_over_a_live_link,
    _leaves_when_asked,
    _buries_who_is_frozen_for_ever,
]


@pytest.mark.parametrize("act", RIGHT, ids=lambda each: each.__name__)
def test_what_is_right_passes(scene: Scene, act: Callable[[Scene], None]) -> None:
    """No rule complains."""
    act(scene)

    assert {} == scene.guard.broken
    assert 0 == scene.guard.figures.false_downs


def test_a_version_that_came_twice_is_silent_since_the_life_that_was_doubted(scene: Scene) -> None:
    """M17: whoever comes back without its disk begins with boot 1 again."""
    subject = guard_subject(scene, 1)
    subject.ends[(1, 0)] = (5.0, 16.0)
    assert [5.0, 5.0, 16.0] == [subject.silent_since((1, 0), at) for at in (4.0, 9.0, 16.5)]
    subject.ended_at_s = 3.0
    assert 3.0 == subject.silent_since((2, 0), 9.0)

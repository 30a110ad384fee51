"""Calm is when everybody sees everybody rightly; who does not is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from gossip.machine import LinkUp, Send
from gossip.messages import Gossip, Rumors, Status
from simulations.calm import Agreement
from tests.lab.puppets import puppet
from tests.simulations.scenes import Scene, fresh


@pytest.fixture
def scene() -> Scene:
    """Fresh."""
    return fresh()


def _crash(scene: Scene) -> None:
    scene.world.crash(1)


def _leave(scene: Scene) -> None:
    scene.world.leave(1)
    scene.life(1).departed = True
    scene.world.deliver(scene.life(1), LinkUp(scene.of(0).peer))
    puppet(scene.life(0)).swim.records[scene.of(1).peer] = scene.of(1, Status.DOWN)


def _begin(scene: Scene) -> None:
    scene.world.start(4, (0,))


def _begin_unheard(scene: Scene) -> None:
    """It only dials out, and those that it could dial are here: it should have joined."""
    scene.world.plan = replace(scene.world.plan, dial_out_share=1.0)
    assert scene.world.start(4).only_dials_out


def _rise(scene: Scene) -> None:
    puppet(scene.life(1)).swim.me = scene.of(1, incarnation=1)


def _forget_a_boot(scene: Scene) -> None:
    puppet(scene.life(1)).swim.me = scene.of(1, boot=2)


def _know_too_many(scene: Scene) -> None:
    swim = puppet(scene.life(0)).swim
    for stranger in range(4):
        peer = f"{stranger:016x}"
        swim.records[peer] = replace(scene.of(1), peer=peer)  # type: ignore[index, arg-type]  # made-up ids


@pytest.mark.parametrize(
    "act, rule",
    [
        (_crash, "M10"),
        (_leave, "M19"),
        (_begin, "M23"),
        (_begin_unheard, "M23"),
        (_rise, "M23"),
        (_forget_a_boot, "M8"),
        (_know_too_many, "M27"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_calm_is_no_calm_while_somebody_sees_others_wrongly(
    scene: Scene, act: Callable[[Scene], None], rule: str
) -> None:
    """Everybody alive in their newest version, the gone down, the left left, and nobody else."""
    agreement = Agreement(scene.world, scene.guard.truth)
    assert agreement.first_disagreement() is None

    act(scene)

    found = agreement.first_disagreement()
    assert found is not None
    assert rule == found.rule
    again = agreement.first_disagreement()
    assert again is not None
    assert found.text == again.text


@pytest.mark.parametrize(
    "said, heard_by, rule", [(True, (), ""), (False, (), "M19"), (True, (2,), "M19")]
)
def test_a_farewell_that_nobody_heard_looks_like_an_end(
    scene: Scene, said: bool, heard_by: tuple[int, ...], rule: str
) -> None:
    """Then those that remain may hold it down; not if one knows better, or none was told."""
    gone = scene.life(1)
    scene.world.leave(1)
    puppet(gone).swim.me = left = scene.of(1, Status.LEFT)
    scene.say(1, [Send(scene.of(0).peer, Gossip(Rumors((left,))))] if said else [])
    gone.departed = True
    scene.world.deliver(gone, LinkUp(scene.of(0).peer))
    for who in (0, 2, 3):
        status = Status.LEFT if who in heard_by else Status.DOWN
        puppet(scene.life(who)).swim.records[gone.me.peer] = scene.of(1, status)

    found = Agreement(scene.world, scene.guard.truth).first_disagreement()

    assert rule == ("" if found is None else found.rule)

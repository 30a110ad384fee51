"""Four puppets and a guard: what one of them tells, and what is done to the others."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gossip.machine import Dial, Effect, Input, MemberChanged, Received, Send, Tell, Woke
from gossip.messages import Notice, Record, Status
from simulations.figures import Figures
from simulations.guard import Guard, Limits
from simulations.simulated_peer import SimulatedPeer
from simulations.truth import Subject
from simulations.world import World
from tests.lab.puppets import puppet, puppet_world

WOKE = Woke()


@dataclass
class Scene:
    """Four puppets, a guard, and a short way to make one of them tell something."""

    world: World
    guard: Guard

    def life(self, number: int) -> SimulatedPeer:
        return self.world.current[number]

    def tell(self, who: int, record: Record, happened: Input = WOKE, holds: bool = True) -> None:
        """A puppet heard something and tells its owner of a claim."""
        life = self.life(who)
        if holds:
            puppet(life).swim.records[record.peer] = record
        self.guard.look(life, happened, [Tell(MemberChanged(record, "a test"))])

    def say(self, who: int, effects: list[Effect], happened: Input = WOKE) -> None:
        self.guard.look(self.life(who), happened, effects)

    def of(self, number: int, status: Status = Status.ALIVE, **changes: int) -> Record:
        """A claim about a peer."""
        return replace(self.life(number).me, status=status, **changes)


def fresh() -> Scene:
    """Four puppets at second 1, doubted for long enough that a verdict may come."""
    world = puppet_world(0)
    guard = Guard(world, Limits(), Figures())
    world.watch(guard)
    world.start_acquainted(4)
    world.run(1.0)
    for life in world.lives:
        guard.truth.subjects[life.me.peer].doubted_at_s[(1, 0)] = -10.0
    return Scene(world, guard)


def heard(scene: Scene, who: int) -> Input:
    """Some message of a peer."""
    life = scene.life(who)
    return Received(life.me.peer, Notice(life.me))


def link(scene: Scene) -> None:
    """From peer 0 to peer 1."""
    me = scene.of(1)
    scene.world.dial(scene.life(0), Dial(me.peer, me.control_address, me.bulk_address))
    scene.world.run(scene.world.now + 1.0)


def deafen(scene: Scene, number: int, for_s: float) -> None:
    """A peer hears nothing for so long, and does something now and then."""
    network, life = scene.world.network, scene.life(number)
    network.deafen(life.me.peer, True)
    until_s = scene.world.now + for_s
    while scene.world.now < until_s:
        scene.world.run(scene.world.now + 1.0)
        scene.say(number, [Send(scene.life(0).me.peer, Notice(life.me))])
    network.deafen(life.me.peer, False)


def guard_subject(scene: Scene, number: int) -> Subject:
    """What is true about a peer."""
    return scene.guard.truth.subjects[scene.life(number).me.peer]

"""Random schedules of the miniature swarm: long ones, from quiet to rough."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from gossip.config import ExchangeConfig
from tests.gossip.exchange.model import FLIGHTS_MAX, ModelPeer, World


@dataclass(frozen=True)
class Mood:
    """How rough one random schedule is: chances of each step, and of each failure."""

    trouble: float
    time: float
    loss: float
    refuse: float
    hook: float

    @staticmethod
    def draw(rng: random.Random) -> Mood:
        """From quiet to rough, each trait apart."""
        return Mood(
            trouble=rng.choice([0.005, 0.02, 0.06]),
            time=rng.choice([0.01, 0.04, 0.1]),
            loss=rng.choice([0.0, 0.1, 0.3]),
            refuse=rng.choice([0.0, 0.1, 0.5]),
            hook=rng.choice([0.05, 0.2, 0.4]),
        )


def walk(world: World, rng: random.Random, steps: int, mood: Mood) -> None:
    """A random schedule, for tests that want many steps rather than few."""
    for _ in range(steps):
        draw = rng.random()
        if draw < mood.trouble:
            make_trouble(world, rng)
        elif draw < mood.trouble + mood.time:
            world.advance(rng.choice([None, None, 0.3, 0.6, 3.5, 12.0, 70.0]))
        elif draw < 0.6:
            index = rng.choice([0, 0, 1, rng.randrange(FLIGHTS_MAX)])
            if rng.random() < mood.loss:
                rng.choice([world.drop, world.repeat])(index)
            else:
                world.deliver(index)
        else:
            life = world.lives.get(rng.choice(world.ids))
            if life is not None:
                act(life, rng, mood)


def make_trouble(world: World, rng: random.Random) -> None:
    """Links, crashes, verdicts, a change of mind."""
    peer, other = rng.choice(world.ids), rng.choice(world.ids)
    life = world.lives.get(peer)
    match rng.randrange(9):
        case 0:
            world.cut(peer, other, rng.random() < 0.7)
        case 1 | 2:
            for pair in sorted(world.cut_pairs, key=sorted):
                world.mend(*sorted(pair))
        case 3:
            world.accuse(peer, other)
        case 4:
            world.crash(peer)
        case 5:
            for each in world.ids:
                world.boot(each, rng.randrange(-8, 9))
        case 6 if life is not None:
            life.cancel(keep_moved=rng.random() < 0.5)
        case 7 if life is not None:
            life.adopt(rng.randrange(-8, 9))
        case 8 if life is not None:
            life.is_full = not life.is_full
        case _:
            world.notice_all()


def act(life: ModelPeer, rng: random.Random, mood: Mood) -> None:
    """One thing that one peer does by itself."""
    draw, fragment = rng.random(), rng.randrange(life.world.config.fragments)
    if draw < mood.hook:
        life.run_hook(rng.randrange(1, 4), refuse=rng.random() < mood.refuse)
    elif draw < 0.6:
        life.compute(fails=rng.random() < mood.refuse / 5)
    elif draw < 0.85:
        life.answer()
    elif draw < 0.95:
        partner = rng.choice(life.world.ids)
        life.start(partner, fragment)
    else:
        life.anchor.publish(fragment, rng.randrange(-16, 17))


def tight(config: ExchangeConfig) -> ExchangeConfig:
    """Small limits, so that small schedules reach them."""
    return replace(config, outcomes_kept=2, parked_max=2)

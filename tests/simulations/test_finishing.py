"""finalise() ends when the peers agree, not when they have swapped a number of times."""

from __future__ import annotations

import random

import pytest
import torch

from gossip.config import Config, ExchangeConfig
from gossip.exchange.finish import AGREED
from gossip.mixing.disagreement import disagreement
from peers.hook import Cadence
from peers.tasks.line import LineTask
from simulations.network import Conditions
from simulations.simulated_peer import Pace
from simulations.workload import TensorBody
from simulations.world import Plan, World

CONFIG = Config(exchange=ExchangeConfig(codec="wrap4", reply_codec="int4", finish_codec="fp32"))
TRAINED_S = 3.0


def apart(world: World) -> float:
    """How far the models of all that run are from their mean."""
    models = []
    for life in world.running:
        assert isinstance(life.body, TensorBody)
        models.append(life.body.theta_N())
    return disagreement(models)


def trained(seed: int, peers: int, loss: float) -> World:
    """Some peers that have trained for a moment, each on shards of its own."""
    conditions = Conditions(loss=loss, duplication=loss / 3, jitter_s=0.003)
    world = World(Plan(seed, LineTask(), CONFIG, conditions, Pace(0.02), Cadence(swap_every=8)))
    world.start_together(peers)
    world.run(TRAINED_S)
    return world


def ends(world: World, until_s: float) -> bool:
    """Whether everybody has finalised by then."""
    return world.run(until_s, lambda: all(life.finalised is not None for life in world.running))


@pytest.mark.parametrize("loss", [0.0, 0.1])
@pytest.mark.parametrize("peers", [2, 3, 4, 5])
def test_peers_that_say_they_agree_do(peers: int, loss: float) -> None:
    """Trainers end half a second apart, frames are lost, and one peer stalls for two seconds."""
    said = 0
    for seed in range(3):
        rng = random.Random(seed)
        world = trained(seed, peers, loss)
        for number in range(peers):
            world.call(TRAINED_S + rng.uniform(0, 0.5), world.finish, [number])
        if loss:
            world.call(TRAINED_S + rng.uniform(0.5, 1), world.stall, rng.randrange(peers), 2.0)
        world.run(TRAINED_S + 1.0)
        assert ends(world, TRAINED_S + 40.0)
        everybody = [life.finalised for life in world.running]
        agreed = all(final is not None and final.agreed for final in everybody)
        said += agreed
        assert not agreed or apart(world) < 3 * AGREED
        assert agreed or loss
    assert said >= 2


def test_who_ends_first_mixes_again_when_the_others_have_ended() -> None:
    """One trains two seconds longer: nobody keeps a model of before."""
    world = trained(1, 4, 0.0)
    world.finish([0, 1, 2])
    world.run(TRAINED_S + 2.0)
    assert not any(life.finalised for life in world.running)
    world.finish([3])
    assert ends(world, TRAINED_S + 30.0)
    assert all(life.finalised is not None and life.finalised.agreed for life in world.running)
    assert apart(world) < 3 * AGREED


def test_who_ends_long_before_the_others_says_that_they_do_not_agree() -> None:
    """It goes after some seconds, as before; what it ends with is not what the others will."""
    world = trained(1, 3, 0.0)
    world.finish([0])
    first = world.running[0]
    assert world.run(TRAINED_S + 10.0, lambda: first.finalised is not None)
    assert first.finalised is not None
    assert not first.finalised.agreed
    assert first.finalised.swaps >= 5


def test_not_together_it_is_enough_to_have_mixed() -> None:
    """As before an evaluation while the others train on: a few swaps, and no lie about it."""
    world = trained(1, 3, 0.0)
    world.finish([0], together=False)
    first = world.running[0]
    assert world.run(TRAINED_S + 5.0, lambda: first.finalised is not None)
    assert first.finalised is not None
    assert first.finalised.agreed
    assert first.finalised.disagreement > AGREED
    assert torch.isfinite(torch.tensor(first.finalised.disagreement))

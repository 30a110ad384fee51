"""Same seed, same run: in this process, in others, and when a journal is replayed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from simulations.execution import Execution, Manner
from simulations.soaking import MENU, soak_scenario
from simulations.transcript import first_difference
from simulations.world import World
from tests.simulations.worlds import line_plan

ROOT = Path(__file__).resolve().parents[2]


def digest_of(seed: int) -> str:
    """The fingerprint of a small run with loss, a crash, a restart and a pause."""
    world = World(line_plan(seed, "int8", loss=0.1, lines=True))
    eventful(world)
    return world.transcript.digest


def soaked(seed: int) -> str:
    """The fingerprint of a random scenario of members, with all kinds of faults."""
    faults = tuple(replace(fault, per_minute=4 * fault.per_minute) for fault in MENU)
    rough = replace(soak_scenario(seed), peers=7, faults=faults, seconds=90.0, calm_s=60.0)
    execution = Execution(rough, seed, Manner(lines=True, keep_going=True))
    outcome = execution.run()
    assert not outcome.traceback, outcome.traceback
    assert sum(outcome.injected.values()) > 10
    return execution.world.transcript.digest


def eventful(world: World) -> None:
    """A few seconds in which much happens."""
    world.start_together(3)
    world.run(1.5)
    world.freeze(2, 0.5)
    world.crash(1)
    world.run(2.5)
    world.start(1, contacts=(2,))
    world.start(3, contacts=(0,))
    world.run(4.0)
    world.leave(2)
    world.finish()
    world.run(5.0)


def test_one_seed_is_one_transcript_under_any_hash_seed() -> None:
    """Three processes that hash strings differently tell the same story to the last byte."""
    program = (
        "import torch; torch.set_num_threads(1)\n"
        "from tests.simulations.test_determinism import digest_of, soaked\n"
        "print(digest_of(5) + soaked(5))\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in range(3)
    ]
    told = [process.communicate(timeout=90)[0].strip() for process in started]

    assert all(process.returncode == 0 for process in started)
    assert len(told[0]) == 64
    assert {told[0]} == set(told)


def test_a_run_in_wrap_around_codes_can_be_repeated() -> None:
    """Steps are learned, codes rounded at random: all of it from the seed."""

    def digest(dither: bool) -> str:
        plan = line_plan(11, "wrap4", loss=0.1, lines=True, reply_codec="int4")
        exchange = replace(plan.config.exchange, dither=dither)
        world = World(replace(plan, config=replace(plan.config, exchange=exchange)))
        eventful(world)
        return world.transcript.digest

    assert digest(dither=False) == digest(dither=False)
    assert digest(dither=True) == digest(dither=True)
    assert digest(dither=True) != digest(dither=False)


def test_another_seed_is_another_transcript() -> None:
    """The fingerprint is not a constant."""
    assert digest_of(5) != digest_of(6)


@settings(max_examples=3)
@given(seed=st.integers(0, 2**32), loss=st.sampled_from((0.0, 0.2)))
@example(seed=187, loss=0.2)
def test_a_recorded_life_asks_a_fresh_core_for_the_same_effects(seed: int, loss: float) -> None:
    """Every life of an eventful world replays at a desk: same inputs, same effects.

    The late one may hear no answer in its few seconds: its life is short then.
    """
    world = World(line_plan(seed, "wrap4", loss, journals=True, reply_codec="int4"))
    eventful(world)

    assert len(world.lives) == 5
    assert sum(map(len, world.journals.values())) > 300
    for life in world.lives:
        assert first_difference(world.journals[life.name], life.fresh_core()) is None


def test_a_replay_notices_another_beginning() -> None:
    """A core of another boot does not pass for the one recorded."""
    world = World(line_plan(3, journals=True))
    eventful(world)
    first_life, second_life = (life for life in world.lives if life.number == 1)

    journal = world.journals[first_life.name]

    assert first_difference(journal, second_life.fresh_core()) is not None


def test_a_transcript_reads_one_line_an_event() -> None:
    """Time, peer, what happened, what was asked for."""
    world = World(line_plan(2, lines=True))
    world.start_together(2)
    world.run(1.0)

    lines = world.transcript.lines
    assert any("p1#1" in line and "Offer" in line and "=>" in line for line in lines)
    assert sorted(lines, key=lambda line: float(line.split()[0])) == lines

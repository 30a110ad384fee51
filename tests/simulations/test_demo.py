"""``gossip demo``: small, but from end to end; and the arithmetic of its table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from peers.cli import main
from peers.tasks.digits import DigitsTask
from simulations.baselines import ddp_bytes, train_plainly
from simulations.demo import Comparison, Traffic, make_plan, mean_model
from simulations.local.schedule import Deed
from tests.simulations.local_runs import Run

KEYS = {
    *("peers", "accuracy", "killed", "joined", "join_s", "max_stall_s", "max_gap_s"),
    *("bytes_sent_per_peer", "ddp_bytes_per_peer", "disagreement", "seconds", "model"),
}


def test_ddp_sends_twice_the_vector_but_for_the_own_part() -> None:
    """2 (N - 1) / N of 4 bytes a parameter, every step."""
    assert 6_000 == ddp_bytes(parameters=1000, steps=1, peers=4)
    assert 40_000 == ddp_bytes(parameters=1000, steps=10, peers=2)


def test_a_baseline_is_repeated_exactly_by_its_seed() -> None:
    """And another seed gives another model."""
    task = DigitsTask(hidden=(16,))

    def parameters(seed: int) -> torch.Tensor:
        model = train_plainly(task, "run", seed, (0, 5), 5, lambda: None)
        return torch.cat([each.detach().flatten() for each in model.parameters()])

    assert torch.equal(parameters(1), parameters(1))
    assert not torch.equal(parameters(1), parameters(2))


def test_one_machine_with_all_shards_learns_all_digits() -> None:
    """The central baseline: a peer with a tenth of the digits does much worse."""
    task = DigitsTask()
    central = train_plainly(task, "run", 0, range(task.shards), 600, lambda: None)
    alone = train_plainly(task, "run", 0, (0, 1), 600, lambda: None)

    assert task.evaluate(central)["accuracy"] > 0.9
    assert task.evaluate(alone)["accuracy"] < 0.3


def test_the_mean_model_is_the_mean_of_each_parameter() -> None:
    """Of the models handed in, however many."""
    task = DigitsTask(hidden=(8,))
    models = [task.model(seed) for seed in range(3)]

    mean = mean_model(task, models)

    for own, *others in zip(*(each.parameters() for each in [mean, *models]), strict=True):
        torch.testing.assert_close(sum(others) / 3, own)


def test_the_first_peer_is_killed_at_a_third_and_one_joins_at_two_thirds() -> None:
    """Whatever the length of the run."""
    found = make_plan(peers=4, seconds=36.0, seed=0).schedule.actions(4)

    assert [(12.0, 0, Deed.KILL), (24.0, 4, Deed.START)] == [
        (action.at_s, action.index, action.deed) for action in found
    ]


def test_a_seed_changes_the_run_and_the_model() -> None:
    """Order and placement follow from the run's name, the model from --seed."""
    first, second = make_plan(4, 36.0, 0), make_plan(4, 36.0, 1)

    assert first.run != second.run
    assert "--seed=1" in second.arguments


def test_the_worst_peer_is_reported_beside_the_mean() -> None:
    """A mean can hide a peer that learned nothing."""
    comparison = Comparison({0: 0.2, 1: 0.4}, {1: 0.95, 2: 0.9}, 0.96, 0.97, 0.01)

    assert 0.9 == comparison.gossip_worst
    assert pytest.approx(0.3) == comparison.alone_mean
    assert 50.0 == Traffic(2.0, 100.0).factor


@pytest.mark.parametrize("words", [["--peers", "1"], ["--seconds", "0"], ["--seed", "x"]])
def test_a_wrong_flag_is_exit_code_64(words: list[str]) -> None:
    """One is killed, so one peer is not enough."""
    with pytest.raises(SystemExit) as ending:
        main(["demo", *words])

    assert 64 == ending.value.code


@pytest.mark.processes
def test_a_small_demo_from_end_to_end(tmp_path: Path) -> None:
    """Three peers, 15 seconds: a JSON line, a model, a kill, a joiner, and nothing left over."""
    folder = tmp_path / "kept"
    run = Run(["demo", "--peers", "3", "--seconds", "15", "--json", "--dir", str(folder)], tmp_path)
    done = run.wait()

    assert 0 == done.code, done.stderr
    result = done.result
    assert KEYS == set(result)
    assert 1 == len(done.stdout.splitlines())
    assert [0] == result["killed"]
    assert [3] == result["joined"]
    assert ["0", "1", "2", "3"] == list(result["peers"])
    accuracy = result["accuracy"]
    assert accuracy["gossip_worst"] > accuracy["alone_mean"]
    assert result["ddp_bytes_per_peer"] > 20 * result["bytes_sent_per_peer"]
    assert sorted(DigitsTask().model(0).state_dict()) == sorted(load_file(result["model"]))
    assert {"model.safetensors", "result.json"} == {each.name for each in folder.iterdir()}
    assert [] == run.left()
    assert [] == run.leftovers()

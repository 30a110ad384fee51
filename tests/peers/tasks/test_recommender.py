"""The recommender task: a model every peer can size for itself, private users, and learning."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gossip.errors import UsageError
from peers.cli import main
from peers.tasks import recommender as module
from peers.tasks.loading import load_task
from peers.tasks.ratings import MADE_NOISE, MADE_RATINGS, made_ratings
from peers.tasks.recommender import RecommenderTask
from peers.tasks.task import Batch
from tests.simulations.local_runs import ended


def biases_alone(kept: Batch, held_out: Batch, shrinkage: float = 1.0) -> float:
    """The rmse of the best biases of users and items, found by turns, without any factors."""
    users_N, items_N, ratings_N = kept
    mean = ratings_N.mean()
    biases = [torch.zeros(int(numbers_N.max()) + 1) for numbers_N in (users_N, items_N)]
    for turn in range(40):
        mine, other = turn % 2, 1 - turn % 2
        rest_N = ratings_N - mean - biases[other][kept[other]]
        count = torch.bincount(kept[mine], minlength=len(biases[mine])) + shrinkage
        biases[mine] = torch.zeros_like(biases[mine]).index_add_(0, kept[mine], rest_N) / count
    error_N = held_out[2] - mean - biases[0][held_out[0]] - biases[1][held_out[1]]
    return float(error_N.square().mean().sqrt())


def trained(task: RecommenderTask, batches: list[Batch], steps: int) -> float:
    """The rmse after so many steps on random samples of these shards."""
    model = task.model(0)
    optimizer = task.optimizer(model)
    columns = [torch.cat(column) for column in zip(*batches, strict=True)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen_S = torch.randint(len(columns[0]), (task.batch,), generator=generator)
        optimizer.zero_grad()
        loss = task.loss(model, tuple(column[chosen_S] for column in columns))
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type
        optimizer.step()
    return task.evaluate(model)["rmse"]


def as_file(folder: Path, seed: int | None = None) -> Path:
    """The generated ratings as a file, shuffled by a seed or sorted."""
    rows = sorted(made_ratings().rows())
    if seed is not None:
        random.Random(seed).shuffle(rows)
    path = folder / f"ratings-{seed}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("user", "item", "rating"), *rows])
    return path


def test_factors_find_what_biases_cannot() -> None:
    """Within a third of the noise that nobody can predict; biases alone stay above twice that."""
    task = RecommenderTask()
    made = made_ratings()
    floor = biases_alone(made.kept, made.held_out)
    shards = [task.shard(index) for index in range(task.shards)]

    assert floor > 2.5 * MADE_NOISE
    assert trained(task, shards, 1000) < 1.5 * MADE_NOISE < 0.55 * floor


def test_a_peer_alone_learns_little() -> None:
    """An eighth of the users do not tell what the others like: there is something to swap."""
    task = RecommenderTask()
    alone = trained(task, [task.shard(index) for index in range(5)], 1000)

    assert alone > 2 * trained(task, [task.shard(index) for index in range(task.shards)], 1000)


def test_shards_are_disjoint_groups_of_users() -> None:
    """Each rating that is not held out is in one shard, each user in one shard."""
    task = RecommenderTask(shards=13)
    shards = [task.shard(index) for index in range(task.shards)]
    users = [set(shard[0].tolist()) for shard in shards]

    assert sum(map(len, users)) == len(set().union(*users)) == 200
    assert min(map(len, users)) >= 10
    assert all(
        torch.equal(torch.cat(column), whole)
        for column, whole in zip(zip(*shards, strict=True), made_ratings().kept, strict=True)
    )


def test_peers_with_the_same_rows_have_the_same_task(tmp_path: Path) -> None:
    """Whatever the order in their file: model, shards and figures are equal to the last bit."""
    tasks = [load_task("recommender", {"file": str(as_file(tmp_path, n))}) for n in (None, 1, 2)]
    models = [task.model(3) for task in tasks]

    for task, model in zip(tasks[1:], models[1:], strict=True):
        assert all(
            torch.equal(a, b)
            for a, b in zip(model.parameters(), models[0].parameters(), strict=True)
        )
        assert all(torch.equal(a, b) for a, b in zip(task.shard(7), tasks[0].shard(7), strict=True))
        assert task.evaluate(model) == tasks[0].evaluate(models[0])


def test_a_seed_is_a_model_and_evaluation_leaves_it_as_it_was() -> None:
    """On every machine; the stream of random numbers goes on as if nothing had been drawn."""
    task = RecommenderTask(factors=3)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, third = (task.model(seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    before = [parameter.clone() for parameter in first.parameters()]
    task.evaluate(first.train())

    assert first.training
    assert sum(parameter.numel() for parameter in before) == (200 + 100) * (3 + 1) + 1
    assert all(torch.equal(a, b) for a, b in zip(before, second.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before, third.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, first.parameters(), strict=True))


def test_figures_are_those_of_all_held_out_ratings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each counts once, in however many pieces they are evaluated."""
    task = RecommenderTask()
    model = task.model(0)
    with torch.no_grad():
        expected = float(task.loss(model, made_ratings().held_out))

    for at_once in (100, 65_536):
        monkeypatch.setattr(module, "EVALUATED_AT_ONCE", at_once)
        figures = task.evaluate(model)
        assert set(figures) == {"loss", "rmse"}
        assert figures["loss"] == pytest.approx(expected)
        assert figures["rmse"] == pytest.approx(expected**0.5)


def test_a_rating_is_mean_biases_and_product() -> None:
    """By hand, for one user and one item; the loss is the squared distance."""
    task = RecommenderTask(factors=2)
    model = task.model(0)
    tables: dict[str, Tensor] = dict(model.named_parameters())
    with torch.no_grad():
        tables["mean"].fill_(3.0)
        tables["user_biases.weight"][4] = 0.5
        tables["item_biases.weight"][9] = -1.0
        tables["user_factors.weight"][4] = torch.tensor([1.0, 2.0])
        tables["item_factors.weight"][9] = torch.tensor([3.0, -0.5])
        batch = (torch.tensor([4]), torch.tensor([9]), torch.tensor([4.0]))
        assert float(model(*batch[:2])) == pytest.approx(3.0 + 0.5 - 1.0 + 3.0 - 1.0)
        assert float(task.loss(model, batch)) == pytest.approx(0.25)


def test_gradients_are_dense_and_the_mean_does_not_decay() -> None:
    """Swaps carry whole tables; a mean pulled to zero would be a bias of its own."""
    task = RecommenderTask(lr=0.1, decay=1.0)
    model = task.model(0)
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    optimizer = task.optimizer(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    task.loss(model, task.shard(0)).backward()  # type: ignore[no-untyped-call]  # torch has no type

    for name, parameter in model.named_parameters():
        share = 1.0 if name == "mean" else 0.9
        assert torch.allclose(parameter, share * before[name])
        assert parameter.grad is not None
        assert not parameter.grad.is_sparse


@pytest.mark.parametrize(
    "options, says",
    [
        ({"factors": "0"}, "factors must be at least 1"),
        ({"shards": "0"}, "shards must be at least 1"),
        ({"batch": "0"}, "batch must be at least 1"),
        ({"lr": "nan"}, "lr must be above 0"),
        ({"decay": "-1"}, "decay must be at least 0"),
        ({"rank": "4"}, "known are batch, decay, factors, file, lr, shards"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, str], says: str) -> None:
    """Before anything is read."""
    with pytest.raises(UsageError, match=says):
        load_task("recommender", options)


def test_what_a_file_cannot_give_is_refused_at_once(tmp_path: Path) -> None:
    """By whatever is asked first; the message names the task, and the file or what would do."""
    for options, says in (
        ({"shards": "201"}, "201 shards of 200 users; set shards to at most 200"),
        ({"file": str(tmp_path / "none")}, "task recommender: .*none cannot be read"),
    ):
        task = load_task("recommender", options)
        for ask in (task.describe, lambda t=task: t.model(0), lambda t=task: t.shard(0)):
            with pytest.raises(UsageError, match=says):
                ask()


def test_the_description_says_what_is_trained_on(tmp_path: Path) -> None:
    """The file's name without its folder, and counts."""
    found = load_task("recommender", {"file": str(as_file(tmp_path))}).describe()

    kept = made_ratings().kept[0].numel()
    assert found.startswith("recommender: ratings-None.csv, 200 users and 100 items, ")
    assert f"{kept:,} ratings to train on, {MADE_RATINGS - kept} held out" in found


def test_a_comparison_of_a_file_ends_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``gossip compare recommender --quick``, with a file; a bad one is one line and exit 64."""
    words = ["compare", "recommender", "--quick", "--steps", "30", "--peers", "4"]
    words += ["--rates", "0.03,0.06", "--methods", "ddp gossip", "--processes", "1"]
    assert main([*words, "--set", f"file={as_file(tmp_path)}"]) == 0
    assert "recommender: ratings-None.csv" in capsys.readouterr().err

    bad = tmp_path / "bad.csv"
    bad.write_text("user,item,rating\na,b,4\nc,d\n", encoding="utf-8")
    assert main([*words, "--set", f"file={bad}"]) == UsageError.exit_code
    told = capsys.readouterr().err
    assert "bad.csv, line 3 has 2 columns" in told
    assert told.count("\n") == 1


@pytest.mark.processes
def test_real_peers_recommend_together(tmp_path: Path) -> None:
    """Three processes, a file, ``gossip local``: all agree, and beat biases alone."""
    path = as_file(tmp_path)
    words = f"local recommender -o file={path} --peers 3 --samples 100000 --every 4 --json".split()
    done = ended([*words, "--dir", str(tmp_path / "kept")], tmp_path)

    assert 0 == done.code, done.stderr
    made = made_ratings()
    floor = biases_alone(made.kept, made.held_out)
    for peer in done.result["peers"].values():
        assert peer["figures"]["rmse"] < 0.75 * floor

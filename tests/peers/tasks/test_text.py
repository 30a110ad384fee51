"""The text task: any file, shards in order, a model that learns what comes next."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import AdamW, Muon
from torch.optim.lr_scheduler import StepLR

from gossip.errors import UsageError
from peers.tasks.loading import load_task
from peers.tasks.text import TextTask, read_text


def small(folder: Path, **options: str) -> TextTask:
    """A tiny transformer on a file of twelve letters over and over."""
    path = folder / "abc.txt"
    path.write_bytes(b"abcdefghijkl" * 200)
    shape = {"width": "16", "layers": "1", "heads": "2", "context": "8", "shards": "4"}
    task = load_task("text", {"file": str(path), **shape, **options})
    assert isinstance(task, TextTask)
    return task


def test_shards_are_ranges_of_the_text_in_order(tmp_path: Path) -> None:
    """Windows of context + 1 bytes; no shard reaches into the next or into what is held out."""
    task = small(tmp_path)
    text_n, kinds = read_text(task.file)
    assert kinds == 12
    kept = int(0.9 * text_n.numel())
    for index in range(4):
        (windows_ST,) = task.shard(index)
        start, stop = kept * index // 4, kept * (index + 1) // 4
        assert windows_ST.shape == (stop - start - 8, 9)
        assert torch.equal(windows_ST[0], text_n[start : start + 9])
        assert torch.equal(windows_ST[-1], text_n[stop - 9 : stop])


def test_a_model_learns_an_order_that_never_changes(tmp_path: Path) -> None:
    """From guessing among twelve (2.48 nats) to nearly sure."""
    task = small(tmp_path, lr="0.01")
    model = task.model(0)
    assert task.evaluate(model)["loss"] == pytest.approx(2.48, abs=0.15)
    optimizer = task.optimizer(model)
    (windows_ST,) = task.shard(0)
    for step in range(80):
        optimizer.zero_grad()
        batch = (windows_ST[8 * step % 300 : 8 * step % 300 + 8],)
        task.loss(model, batch).backward()  # type: ignore[no-untyped-call]  # torch has no type
        optimizer.step()
    assert task.evaluate(model)["loss"] < 0.3


def test_the_same_seed_is_the_same_model(tmp_path: Path) -> None:
    """On every machine: peers compare layouts and founders' values."""
    task = small(tmp_path)
    first, second, third = (list(task.model(seed).parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], third[0])


def test_without_a_file_the_standard_library_is_the_text() -> None:
    """It is large enough for the default settings."""
    text_n, kinds = read_text("")
    assert text_n.numel() > 500_000
    assert 60 < kinds <= 256
    assert "standard library" in TextTask().describe()


@pytest.mark.parametrize(
    "options, says",
    [
        ({"heads": "5"}, "heads must divide width"),
        ({"context": "1"}, "context must be at least 2"),
        ({"shards": "0"}, "shards must be at least 1"),
        ({"lr": "0"}, "lr must be above 0"),
        ({"rest": "2"}, "rest must be above 0 and at most 1"),
        ({"layers": "0"}, "layers must be at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, str], says: str) -> None:
    """Before anything is read."""
    with pytest.raises(UsageError, match=says):
        load_task("text", options)


def test_texts_that_are_too_short_or_missing_are_refused(tmp_path: Path) -> None:
    """With the file's name or what would be enough."""
    for count, says in (
        (20, "a tenth must exceed the context"),
        (400, "too short for 64 shards"),
        (0, "is empty"),
    ):
        path = tmp_path / f"{count}.txt"
        path.write_bytes(b"abc" * count)
        with pytest.raises(UsageError, match=says):
            load_task("text", {"file": str(path)}).shard(0)
    with pytest.raises(UsageError, match="cannot be read"):
        load_task("text", {"file": str(tmp_path / "none")}).describe()


def test_muon_takes_the_blocks_matrices_and_adamw_the_rest(tmp_path: Path) -> None:
    """Step by step what the two optimizers do by themselves; a scheduler sets the rate of both."""
    task = small(tmp_path, inner="muon", lr="0.02", rest="0.25")
    model, twin = task.model(0), task.model(0)
    named = dict(twin.named_parameters())
    blocks = [name for name in named if name.startswith("blocks.") and "norm" not in name]
    matrices = [named.pop(name) for name in blocks]
    muon = Muon(matrices, lr=0.02, momentum=0.9, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    adamw = AdamW(named.values(), lr=0.005, betas=(0.9, 0.99))
    optimizers = [task.optimizer(model), muon, adamw]
    schedules = [StepLR(each, 2, 0.5) for each in optimizers]
    assert len(matrices) == 4
    for _ in range(5):
        for each in (model, twin):
            train_on(task, each)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.equal(mine, theirs)
    assert [group["lr"] for group in optimizers[0].param_groups] == [0.005, 0.00125]
    assert "muon lr 0.02" in task.describe()


def test_muon_and_adamw_go_on_where_they_were_saved(tmp_path: Path) -> None:
    """Momenta and rates; the rates that a scheduler sets are still those that count."""
    task = small(tmp_path, inner="muon", lr="0.02")
    model = task.model(0)
    optimizer = task.optimizer(model)
    train_on(task, model)
    optimizer.step()
    twin = copy.deepcopy(model)
    loaded = task.optimizer(twin)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each, step in ((model, optimizer.step), (twin, loaded.step)):
        train_on(task, each)
        step()
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    for group in loaded.param_groups:
        group["lr"] = 0.0
    loaded.step()
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_an_unknown_optimizer_is_refused() -> None:
    """With the names that are known."""
    with pytest.raises(UsageError, match="inner must be adamw or muon"):
        TextTask(inner="adam")


def train_on(task: TextTask, model: nn.Module) -> None:
    """Gradients of one batch."""
    model.zero_grad()
    batch = tuple(column[:16] for column in task.shard(0))
    task.loss(model, batch).backward()  # type: ignore[no-untyped-call]  # torch has no type


def test_a_copy_of_muon_and_adamw_takes_the_same_steps(tmp_path: Path) -> None:
    """With a model of its own; and no parameters can be added that nobody would train."""
    task = small(tmp_path, inner="muon", lr="0.02")
    model = task.model(0)
    optimizer = task.optimizer(model)
    train_on(task, model)
    optimizer.step()
    twin, copied = copy.deepcopy((model, optimizer))
    for each, stepped in ((model, optimizer), (twin, copied)):
        train_on(task, each)
        stepped.step()
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert mine is not theirs
        assert torch.equal(mine, theirs)
    with pytest.raises(UsageError, match="no parameters can be added"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2, 2))]})


def test_a_torch_without_muon_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And everything else works there."""
    monkeypatch.delattr(torch.optim, "Muon")
    task = small(tmp_path, inner="muon")
    with pytest.raises(UsageError, match="Muon needs torch"):
        task.optimizer(task.model(0))

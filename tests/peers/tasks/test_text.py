"""The text task: any file, shards in order, a model that learns what comes next."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

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

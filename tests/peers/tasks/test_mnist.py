"""IDX files, whole and broken; the task made of them; and real digits where they are at hand."""

from __future__ import annotations

import gzip
import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.errors import UsageError
from peers.tasks.idx import read_idx
from peers.tasks.loading import load_task
from peers.tasks.mnist import MnistTask

REAL = Path(os.environ.get("GOSSIP_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))


def idx(values: bytes, *shape: int, kind: int = 8) -> bytes:
    """A file's bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in shape)
    return bytes([0, 0, kind, len(shape)]) + sizes + values


def files(folder: Path, count: int = 60) -> dict[str, str]:
    """Images of 4 x 4 whose brightness is their label times 20, of ten labels."""
    labels = bytes(number % 10 for number in range(count))
    images = b"".join(bytes([20 * label]) * 16 for label in labels)
    folder = folder / str(count)
    folder.mkdir(exist_ok=True)
    (folder / "images.gz").write_bytes(gzip.compress(idx(images, count, 4, 4)))
    (folder / "labels").write_bytes(idx(labels, count))
    return {"images": str(folder / "images.gz"), "labels": str(folder / "labels")}


def test_values_come_back_in_their_shape(tmp_path: Path) -> None:
    """Plain and compressed, the last dimension fastest."""
    for name, pack in (("plain", bytes), ("packed", gzip.compress)):
        path = tmp_path / name
        path.write_bytes(pack(idx(bytes(range(6)), 2, 3)))
        assert read_idx(path, 2).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "raw, says",
    [
        (b"", "not an IDX file"),
        (b"\x01" + idx(b"ab", 2)[1:], "not an IDX file"),
        (idx(b"ab", 2, kind=13), "type 13"),
        (idx(b"ab", 1, 2), "in 2 dimensions"),
        (idx(b"a", 2), "says 2 values and holds 1"),
        (idx(b"abc", 2), "says 2 values and holds 3"),
        (idx(b"", 1 << 31), "holds 0"),
        (idx(b"", 0), "says 0 values"),
        (gzip.compress(idx(b"ab", 2), mtime=0)[:-9], "damaged"),
        (b"\x1f\x8b" + bytes(30), "damaged"),
    ],
)
def test_files_that_are_wrong_are_told_apart(tmp_path: Path, raw: bytes, says: str) -> None:
    """One line with the file's name; a claimed size costs no memory."""
    path = tmp_path / "wrong"
    path.write_bytes(raw)
    with pytest.raises(UsageError, match=says) as caught:
        read_idx(path, 1)
    assert "wrong" in str(caught.value)
    with pytest.raises(UsageError, match="cannot be read"):
        read_idx(tmp_path / "missing", 1)


@given(raw=st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    """Nothing but UsageError comes of them."""
    path = tmp_path_factory.mktemp("idx") / "any"
    path.write_bytes(raw)
    with suppress(UsageError):
        assert read_idx(path, 1).dim() == 1


@pytest.mark.parametrize("skew", ["label", "none", "dirichlet:0.3"])
def test_shards_are_a_partition_of_what_is_not_held_out(tmp_path: Path, skew: str) -> None:
    """54 of 60 images, each once; the six held out are of different labels."""
    task = load_task("mnist", {**files(tmp_path), "skew": skew, "shards": "6"})
    sizes = [task.shard(index)[1].numel() for index in range(task.shards)]
    assert sum(sizes) == 54
    assert min(sizes) >= 1
    assert set(task.evaluate(task.model(0))) == {"loss", "accuracy"}


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    """Other counts, none given, too few, more shards than images."""
    given_ = files(tmp_path)
    (tmp_path / "few").write_bytes(idx(bytes(59), 59))
    for options, says in (
        ({**given_, "labels": str(tmp_path / "few")}, "60 images"),
        ({}, "give its files"),
        ({**files(tmp_path, 10)}, "fewer than 20"),
        ({**files(tmp_path), "shards": "55"}, "55 shards of 54"),
    ):
        task = load_task("mnist", options)
        with pytest.raises(UsageError, match=says):
            task.shard(0)


def test_real_digits_are_learned() -> None:
    """A hundred steps on ten thousand real ones reach three in four."""
    images = REAL / "mnist10k-images-idx3-ubyte.gz"
    if not images.exists():
        pytest.skip("the 10,000 real digits are not here (GOSSIP_TEST_DATA names their folder)")
    task = MnistTask(str(images), str(REAL / "mnist10k-labels-idx1-ubyte.gz"), "none", shards=4)
    model = task.model(0)
    optimizer = task.optimizer(model)
    images_SP, labels_S = task.shard(0)
    for step in range(100):
        part = slice(20 * step, 20 * step + 32)
        optimizer.zero_grad()
        task.loss(model, (images_SP[part], labels_S[part])).backward()  # type: ignore[no-untyped-call]  # torch has no type
        optimizer.step()
    assert task.evaluate(model)["accuracy"] > 0.75
    assert torch.equal(task.shard(0)[1], labels_S)

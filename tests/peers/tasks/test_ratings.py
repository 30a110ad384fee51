"""Ratings: what comes back from a file, what is refused and where, who holds what out."""

from __future__ import annotations

import csv
import io
import random
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gossip.errors import UsageError
from peers.tasks import ratings as module
from peers.tasks.ratings import (
    MADE_RATINGS,
    Ratings,
    cut_by_user,
    is_held_out,
    made_ratings,
    read_ratings,
)

Row = tuple[str, str, float]

# A byte order mark at the beginning is the file's, not the first id's.
letters = st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff")
ids = st.text(letters, min_size=1, max_size=6)
small_ids = st.sampled_from(["a", "b", "ab", "10", "9", "é", "x,y", 'q"', " ", "two\nlines", "::"])
stars = st.floats(-1e6, 1e6, width=32)
rows_of_any = st.lists(st.tuples(ids | small_ids, ids | small_ids, stars), max_size=30)
bounded = settings(max_examples=60, deadline=None)

PLENTY: list[Row] = [(f"u{n % 7}", f"i{n % 30}", n % 5 + 0.5) for n in range(210)]
"""Enough that some of them are held out and some are not."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples."""
    return tmp_path_factory.mktemp("ratings")


def as_csv(rows: list[Row], end: str = "\n") -> str:
    """The rows as CSV; the standard library forgets to quote a lone carriage return."""
    text = io.StringIO()
    bare = not any("\r" in user + item for user, item, _ in rows)
    quoting = csv.QUOTE_MINIMAL if bare else csv.QUOTE_ALL
    csv.writer(text, lineterminator=end, quoting=quoting).writerows(rows)
    return text.getvalue()


def read(folder: Path, text: str | bytes) -> Ratings:
    """The ratings of a file with this content."""
    path = folder / "ratings.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_ratings(path)


def same(first: Ratings, second: Ratings) -> bool:
    """Whether all that peers must agree on is equal, to the last bit."""
    pairs = zip((*first.kept, *first.held_out), (*second.kept, *second.held_out), strict=True)
    return (
        (first.users, first.items, first.mean) == (second.users, second.items, second.mean)
        and first.user_ends == second.user_ends
        and all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)
    )


@bounded
@example(rows=[("1", "2", -0.0)], end="\r\n", header=True, mark=True)
@example(rows=[("two\nlines", "b\rc", 1.0)], end="\n", header=False, mark=False)
@given(
    rows=rows_of_any, end=st.sampled_from(["\n", "\r\n"]), header=st.booleans(), mark=st.booleans()
)
def test_what_is_written_comes_back(
    folder: Path, rows: list[Row], end: str, header: bool, mark: bool
) -> None:
    """Any ids and ratings, rated twice or not, under a header or none, with a byte order mark or
    none: all of them come back, sorted within each side of the split."""
    rows = rows + PLENTY
    head = "userId,movieId,rating" + end if header else ""
    found = read(folder, ("\ufeff" if mark else "") + head + as_csv(rows, end))

    assert sorted(found.rows()) == sorted(rows)
    assert list(found.users) == sorted({user for user, _, _ in rows})
    assert list(found.items) == sorted({item for _, item, _ in rows})
    for users_N, items_N, ratings_N in (found.kept, found.held_out):
        keys = list(zip(users_N.tolist(), items_N.tolist(), ratings_N.tolist(), strict=True))
        assert keys == sorted(keys)


@bounded
@given(rows=rows_of_any, seed=st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(folder: Path, rows: list[Row], seed: int) -> None:
    """Numbers, split, mean and shards are the same to the last bit."""
    rows = rows + PLENTY
    mixed = random.Random(seed).sample(rows, len(rows))
    first, second = read(folder, as_csv(rows)), read(folder, as_csv(mixed))

    assert same(first, second)


def test_zeros_have_no_sign(folder: Path) -> None:
    """Equal ratings of one pair cannot be told apart, so their order cannot matter."""
    rows = [(user, item, -0.0) for user, item, _ in PLENTY]
    found = read(folder, as_csv(rows))

    assert not any(column_N.signbit().any() for column_N in (found.kept[2], found.held_out[2]))


@bounded
@given(rows=rows_of_any, more=rows_of_any)
def test_a_rating_is_held_out_whatever_else_there_is(
    folder: Path, rows: list[Row], more: list[Row]
) -> None:
    """More ratings move none from one side to the other; a pair is on one side only."""
    found = read(folder, as_csv(rows + more + PLENTY))
    kept = len(found.kept[0])
    sides = [(user, item, number >= kept) for number, (user, item, _) in enumerate(found.rows())]

    assert all(held_out == is_held_out(user, item) for user, item, held_out in sides)


def test_one_in_ten_is_held_out_whoever_rated() -> None:
    """The hash is fair, and depends on where the user's id ends."""
    for user in ("1", "ab", "é"):
        held = sum(is_held_out(user, str(item)) for item in range(4000))
        assert 320 < held < 480
    assert any(is_held_out(f"1{n}", "2") != is_held_out("1", f"{n}2") for n in range(60))
    # What is held out must never change between versions: peers of both may share a run.
    held = [item for item in range(40) if is_held_out("7", str(item))]
    assert held == [14, 20, 35, 36, 38]


@pytest.mark.parametrize(
    "separator, extra, head",
    [
        (",", "", ""),
        (",", ",964982703", "userId,movieId,rating,timestamp\n"),
        ("\t", "\t881250949", ""),
        ("\t", "", "user_id:token\titem_id:token\trating:float\n"),
        ("::", "::978300760", ""),
        ("::", "", "user::item::rating\n"),
    ],
)
def test_the_forms_of_movielens_are_read(
    folder: Path, separator: str, extra: str, head: str
) -> None:
    """Commas, tabs, double colons; with a time and without; with a header and without."""
    lines = [f"{separator.join(map(str, row))}{extra}\n" for row in PLENTY]

    assert same(read(folder, head + "".join(lines)), read(folder, as_csv(PLENTY)))


def test_ids_may_hold_other_separators(folder: Path) -> None:
    """The separator is the one that leaves a number in the third column."""
    rows = [(f"a,b,{user}", f"c::{item}", rating) for user, item, rating in PLENTY]
    lines = ["\t".join(map(str, row)) for row in rows]

    assert sorted(read(folder, "\n".join(lines)).rows()) == sorted(rows)


def test_blank_lines_are_left_out(folder: Path) -> None:
    """Before the header, between rows, at the end; and the last line may lack its end."""
    text = as_csv(PLENTY)
    first, rest = text.split("\n", 1)
    for shown in (f"\nu,i,r\n\n{first}\n  \n{rest}\n\n", text.rstrip("\n"), text + "\r\n"):
        assert same(read(folder, shown), read(folder, text))
        tabs = read(folder, shown.replace(",", "\t"))
        colons = read(folder, shown.replace(",", "::"))
        assert same(tabs, colons)
        assert same(tabs, read(folder, text))


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "holds no ratings"),
        ("\n\n", "holds no ratings"),
        ("userId,movieId,rating\n", "holds no ratings"),
        ("u,i,1\nu,j\n", "line 2 has 2 columns; a row is user,item,rating"),
        ("u,i,1\n\nu,j,1,0,0\n", "line 3 has 5 columns"),
        ("user,item\nu,i,1\n", "line 1 has 2 columns"),
        ("just words\n", "line 1 has 1 column;"),
        ("u,i,1\nu,j,good\n", "line 2: the rating 'good' is not a number"),
        ("u,i,r\nu,i,r\n", "line 2: the rating 'r' is not a number"),
        ("u,i,\n", "line 1: the rating '' is not a number"),
        ("u,i,1\nu,j,nan\n", "line 2: the rating 'nan' must be between -1000000 and 1000000"),
        ("u,i,inf\n", "line 1: the rating 'inf' must be between"),
        ("u,i,nan\n", "line 1: the rating 'nan' must be between"),
        ("u,i,1\nu,j,-1e7\n", "line 2: the rating '-1e7' must be between"),
        (",i,1\n", "line 1 names no user"),
        ("u,i,1\nu,,1\n", "line 2 names no item"),
        (",,\n", "line 1 names no user"),
        ("u\ti\t1\nu\tj\tx\n", "line 2: the rating 'x'"),
        ("\n\nu\ti\t1\nu\tj\tx\n", "line 4: the rating 'x'"),
        ("u::i::1\nu::j\n", "line 2 has 2 columns"),
        ('u,i,1\n"two\nlines",j,x\n', "line 3: the rating 'x'"),
        ('u,i,1\nu,"j,1\n', "line 2: not CSV"),
        ('u,i,1\nu,"j"k,1\n', "line 2: not CSV"),
        (b"u,i,1\nu,\xff,1\n", "line 2: not UTF-8"),
        ("u\r,i,1\n", "line 1: not CSV"),
        ("u,i,1\n" * 3, "holds ratings of one user only"),
        ("u,i,1\nv,i,1\n", "holds 2 ratings, too few"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(folder: Path, text: str | bytes, says: str) -> None:
    """One line: the file, the line of the file, the mistake."""
    with pytest.raises(UsageError) as caught:
        read(folder, text)

    assert says in str(caught.value)
    assert str(caught.value).startswith(str(folder / "ratings.csv"))
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """A missing one, and a folder."""
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            read_ratings(path)


@bounded
@given(
    raw=st.binary(max_size=60)
    | st.lists(st.sampled_from(["u", ",", "1", "\n", "\t", '"', "::", "é"])).map(
        lambda parts: "".join(parts).encode()
    )
)
def test_any_bytes_are_read_or_refused(folder: Path, raw: bytes) -> None:
    """Nothing but UsageError comes of them."""
    with suppress(UsageError):
        read(folder, raw)


@bounded
@example(counts=[1, 1, 98], few=1.0)
@example(counts=[98, 1, 1], few=1.0)
@given(counts=st.lists(st.integers(1, 50), min_size=1, max_size=60), few=st.floats(0, 1))
def test_cuts_are_between_users_and_even(counts: list[int], few: float) -> None:
    """No shard is empty, none exceeds an even share by more than one user's ratings."""
    ends = [sum(counts[: number + 1]) for number in range(len(counts))]
    shards = 1 + round(few * (len(counts) - 1))
    edges = cut_by_user(ends, shards)

    assert len(edges) == shards + 1
    assert (edges[0], edges[-1]) == (0, ends[-1])
    assert set(edges[1:]) <= set(ends)
    sizes = [stop - start for start, stop in pairwise(edges)]
    assert min(sizes) >= 1
    assert max(sizes) <= ends[-1] / shards + max(counts)


def test_cuts_are_at_the_nearest_user() -> None:
    """To an even share, below or above it."""
    assert cut_by_user([4, 9, 10], 2) == (0, 4, 10)
    assert cut_by_user([1, 6, 10], 2) == (0, 6, 10)
    assert cut_by_user([1, 2, 3, 100], 3) == (0, 2, 3, 100)


def test_the_generated_ratings_are_the_same_everywhere() -> None:
    """Their mean, to the last bit: nothing in it depends on the machine."""
    made = made_ratings()

    assert same(made, made_ratings())
    assert (len(made.users), len(made.items)) == (module.MADE_USERS, module.MADE_ITEMS)
    assert len(made.kept[0]) + len(made.held_out[0]) == MADE_RATINGS
    assert made.mean == 3.4665592970920356

"""Ratings of items by users: read strictly from a file, or generated; split; cut by user.

A file holds a row a line: user, item, rating and perhaps a time, which is not used. Columns are
separated by commas (quoted as CSV allows), by tabs or by ``::``, whichever fits the first line
that is not blank, and a header may come first: the forms MovieLens comes in.

Everything follows from the set of rows, nothing from their order: users and items are numbered in
the order of their ids, and a rating is held out by a hash of its user and item. Peers with the
same ratings therefore agree on sizes, numbers and split without a word.

Shapes: N ratings, U users, I items.
"""

from __future__ import annotations

import csv
import math
import random
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from xxhash import xxh3_64_intdigest

from gossip.errors import UsageError
from peers.tasks.task import Batch

HELD_OUT_ONE_IN: Final = 10
RATING_MAX: Final = 1e6
"""No rating is larger: fp32 must hold the squares of errors with digits to spare."""
MADE_USERS: Final = 200
MADE_ITEMS: Final = 100
MADE_RATINGS: Final = 6000
MADE_NOISE: Final = 0.3
"""Standard deviation of what nobody can predict: the least rmse on the generated ratings."""

_SPLIT_SEED: Final = 100_000  # fixed: every peer on every machine must hold out the same ratings
_MADE_SEED: Final = 100_001
_MADE_FACTORS: Final = 3
_MADE_MEAN: Final = 3.5
_MADE_CIRCLES: Final = 8
_ROW: Final = "a row is user,item,rating or user,item,rating,time (or separated by tabs or ::)"


@dataclass(frozen=True, slots=True)
class Ratings:
    """Users, items and rated pairs, in the order of their ids whatever order they came in.

    users, items     their ids, sorted: the place of an id is its number.
    kept, held_out   users_N, items_N (numbers, int64) and ratings_N (fp32), sorted by user.
    mean             of the ratings that are kept.
    user_ends        where each user's kept ratings end; users without any are left out.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    kept: Batch
    held_out: Batch
    mean: float
    user_ends: tuple[int, ...]

    def rows(self) -> list[tuple[str, str, float]]:
        """All ratings with their ids, those held out last."""
        columns = [torch.cat(pair).tolist() for pair in zip(self.kept, self.held_out, strict=True)]
        return [(self.users[u], self.items[i], r) for u, i, r in zip(*columns, strict=True)]


@dataclass(slots=True)
class _Table:
    """Ratings in the order they come in; 25 bytes each, for files of many millions."""

    user_numbers: dict[str, int] = field(default_factory=dict)
    item_numbers: dict[str, int] = field(default_factory=dict)
    users: array[int] = field(default_factory=lambda: array("q"))
    items: array[int] = field(default_factory=lambda: array("q"))
    ratings: array[float] = field(default_factory=lambda: array("d"))
    held_out: bytearray = field(default_factory=bytearray)

    def add(self, user: str, item: str, rating: float) -> None:
        """One row."""
        self.users.append(self.user_numbers.setdefault(user, len(self.user_numbers)))
        self.items.append(self.item_numbers.setdefault(item, len(self.item_numbers)))
        self.ratings.append(rating + 0.0)  # -0.0 becomes 0.0, so that equal ratings are the same
        self.held_out.append(is_held_out(user, item))


def read_ratings(path: Path) -> Ratings:
    """The ratings of a file. Raises UsageError, with file and line, for anything but ratings."""
    table = _Table()
    try:
        with path.open("rb") as file:
            for line, fields in _fields(path, file):
                table.add(*_row(path, line, fields))
    except OSError as wrong:
        raise UsageError(f"{path} cannot be read: {wrong.strerror}") from wrong
    if not table.ratings:
        raise UsageError(f"{path} holds no ratings; {_ROW}")
    return _arranged(str(path), table)


def made_ratings() -> Ratings:
    """The generated set: a few hidden factors, biases and noise; the same on every machine.

    Neighboring users are of one circle and share much of their taste, so that what a group of
    them thinks of an item is not what all think of it. Built from uniform draws and sums alone:
    unlike logarithms and cosines, they have the same last digit everywhere.
    """
    rng = random.Random(_MADE_SEED)
    circles = [_vector(rng) for _ in range(_MADE_CIRCLES)]
    users = []
    for number in range(MADE_USERS):
        circle = circles[number * _MADE_CIRCLES // MADE_USERS]
        own = _vector(rng)
        users.append([0.6 * shared + 0.5 * each for shared, each in zip(circle, own, strict=True)])
    items = [_vector(rng) for _ in range(MADE_ITEMS)]
    user_biases = [0.4 * _bell(rng) for _ in range(MADE_USERS)]
    item_biases = [0.4 * _bell(rng) for _ in range(MADE_ITEMS)]
    keys = [rng.random() for _ in range(MADE_USERS * MADE_ITEMS)]
    table = _Table()
    for pair in sorted(range(len(keys)), key=keys.__getitem__)[:MADE_RATINGS]:
        user, item = divmod(pair, MADE_ITEMS)
        taste = math.fsum(a * b for a, b in zip(users[user], items[item], strict=True))
        bias = user_biases[user] + item_biases[item]
        rating = _MADE_MEAN + bias + 0.6 * taste + MADE_NOISE * _bell(rng)
        table.add(f"user{user:03}", f"item{item:02}", rating)
    return _arranged("the generated set", table)


def is_held_out(user: str, item: str) -> bool:
    """Whether this pair is for evaluation: one in ten, whatever else there is."""
    key = f"{len(user)}:{user}{item}".encode()
    return xxh3_64_intdigest(key, seed=_SPLIT_SEED) % HELD_OUT_ONE_IN == 0


def cut_by_user(user_ends: Sequence[int], shards: int) -> tuple[int, ...]:
    """Where shards begin and end: ``shards`` + 1 edges, all of them ends of users (or 0).

    No shard is empty and none exceeds an even share by more than the ratings of one user.
    ``shards`` is at most the number of users.
    """
    edges = [0]
    used = 0
    for shard in range(1, shards):
        even = user_ends[-1] * shard / shards
        above = bisect_left(user_ends, even)
        below = user_ends[above - 1] if above else 0
        nearest = above + 1 if user_ends[above] - even < even - below else above
        used = min(max(nearest, used + 1), len(user_ends) - (shards - shard))
        edges.append(user_ends[used - 1])
    return (*edges, user_ends[-1])


def _fields(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[int, list[str]]]:
    """Line number and columns of every row that is not blank, the header left out."""
    texts = _texts(path, lines)
    top_lines: list[str] = []
    for text in texts:
        top_lines.append(text)
        if text.strip():
            break
    separator = _separator(top_lines[-1] if top_lines else "")
    everything = chain(top_lines, texts)
    rows = _plain_rows(everything) if separator == "::" else _csv_rows(path, everything, separator)
    top = True
    for line, fields in rows:
        if not fields or (len(fields) == 1 and not fields[0].strip()):
            continue
        if not (top and len(fields) in (3, 4) and _is_title(fields[2])):
            yield line, fields
        top = False


def _texts(path: Path, lines: Iterable[bytes]) -> Iterator[str]:
    """Line by line, so that a byte that is wrong is reported with the line it is on."""
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as wrong:
            raise UsageError(f"{path}, line {number}: not UTF-8; save it as UTF-8") from wrong
        yield text


def _plain_rows(texts: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    for line, text in enumerate(texts, start=1):
        yield line, text.rstrip("\r\n").split("::")


def _csv_rows(path: Path, texts: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(texts, delimiter=separator, strict=True)
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as wrong:
            raise UsageError(f"{path}, line {reader.line_num}: not CSV: {wrong}") from wrong
        if fields is None:
            return
        yield reader.line_num, fields


def _separator(first: str) -> str:
    """What separates the columns of a file that begins with this line; a comma if nothing does."""
    line = first.rstrip("\r\n")
    splits = {each: line.split(each) for each in (",", "\t", "::")}
    with suppress(csv.Error):  # whatever is wrong with it is told when the row is read
        splits[","] = next(csv.reader([line]), [])
    fits = [each for each, fields in splits.items() if len(fields) in (3, 4)]
    with_number = [each for each in fits if _is_number(splits[each][2])]
    return (with_number or fits or [","])[0]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_title(text: str) -> bool:
    """Whether the third column of the first row names what comes below it."""
    return text.strip()[:1].isalpha() and not _is_number(text)


def _row(path: Path, line: int, fields: Sequence[str]) -> tuple[str, str, float]:
    where = f"{path}, line {line}"
    if len(fields) not in (3, 4):
        columns = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
        raise UsageError(f"{where} has {columns}; {_ROW}")
    user, item, text = fields[:3]
    if not user or not item:
        raise UsageError(f"{where} names no {'item' if user else 'user'}; {_ROW}")
    if not _is_number(text):
        raise UsageError(f"{where}: the rating {text[:40]!r} is not a number; {_ROW}")
    rating = float(text)
    if not abs(rating) <= RATING_MAX:
        raise UsageError(
            f"{where}: the rating {text[:40]!r} must be between -{RATING_MAX:.0f} "
            f"and {RATING_MAX:.0f}"
        )
    return user, item, rating


def _arranged(what: str, table: _Table) -> Ratings:
    """Numbered and sorted. Raises UsageError when there is too little to train on."""
    users, items = tuple(sorted(table.user_numbers)), tuple(sorted(table.item_numbers))
    if len(users) < 2:
        raise UsageError(f"{what} holds ratings of one user only; shards are groups of users")
    held_N = torch.frombuffer(table.held_out, dtype=torch.uint8).bool()
    if bool(held_N.all()) or not bool(held_N.any()):
        raise UsageError(
            f"{what} holds {len(table.ratings)} ratings, too few: one in {HELD_OUT_ONE_IN}, by a "
            "hash of user and item, is held out to evaluate on; a hundred are enough"
        )
    users_N = _numbered(table.users, table.user_numbers, users)
    items_N = _numbered(table.items, table.item_numbers, items)
    ratings_N = torch.frombuffer(table.ratings, dtype=torch.float64)
    order_N = torch.argsort(ratings_N, stable=True)
    pairs_N = (users_N * len(items) + items_N)[order_N]
    order_N = order_N[torch.argsort(pairs_N, stable=True)]
    columns = (users_N[order_N], items_N[order_N], ratings_N[order_N].float())
    held_N = held_N[order_N]
    kept = tuple(column_N[~held_N] for column_N in columns)
    counts_U = torch.bincount(kept[0], minlength=len(users))
    # A sum without rounding: any order of the rows gives the same mean.
    total = math.fsum(r for r, held in zip(table.ratings, table.held_out, strict=True) if not held)
    return Ratings(
        users=users,
        items=items,
        kept=kept,
        held_out=tuple(column_N[held_N] for column_N in columns),
        mean=total / kept[0].numel(),
        user_ends=tuple(counts_U[counts_U > 0].cumsum(0).tolist()),
    )


def _numbered(column: array[int], numbers: dict[str, int], ids: Sequence[str]) -> Tensor:
    """Numbers in the order of first appearance, turned into places in the sorted ids."""
    places = torch.empty(len(ids), dtype=torch.int64)
    places[torch.tensor([numbers[each] for each in ids])] = torch.arange(len(ids))
    return places[torch.frombuffer(column, dtype=torch.int64)]


def _vector(rng: random.Random) -> list[float]:
    return [_bell(rng) for _ in range(_MADE_FACTORS)]


def _bell(rng: random.Random) -> float:
    """Nearly normal, mean 0 and variance 1: twelve uniform numbers, added."""
    return sum(rng.random() for _ in range(12)) - 6.0

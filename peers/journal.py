"""What a live peer heard, kept so that its every decision can be repeated at a desk.

A journal is a header (seed, config, layout, own record), then one entry per input: when it
happened, what it was, and a digest of the effects the core asked for. Fed to a fresh core, the
same inputs must ask for exactly the same effects; ``replay`` checks that.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gossip.config import Config, Layout
from gossip.core import Core
from gossip.errors import FrameError, UsageError
from gossip.machine import Effect, Input
from gossip.messages import Record, Seconds
from gossip.wire.frames import pack, unpack_stream

log = logging.getLogger("gossip.peer")
DIGEST_BYTES = 8
JOURNAL_BYTES_MAX = 256 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """All that a core is made from."""

    seed: int
    started_s: Seconds
    me: Record
    layout: Layout
    config: Config

    def core(self) -> Core:
        """A fresh core, as the live one began."""
        return Core(self.me, self.layout, self.config, random.Random(self.seed), self.started_s)


@dataclass(frozen=True, slots=True)
class Entry:
    """One input, and the digest of what the core asked for."""

    at_s: Seconds
    happened: Input
    effects_digest: bytes


Item = Header | Entry


def effects_digest(effects: list[Effect]) -> bytes:
    """A digest of a list of effects: they are frozen dataclasses, so their text is their value."""
    return hashlib.blake2b(repr(effects).encode(), digest_size=DIGEST_BYTES).digest()


class Journal:
    """Appends entries to a file; stops at JOURNAL_BYTES_MAX or a full disk, and warns once."""

    def __init__(self, path: Path, header: Header) -> None:
        try:
            self._file: BinaryIO | None = path.open("wb")
        except OSError as wrong:
            raise UsageError(f"cannot write the journal {path}: {wrong.strerror}") from wrong
        self._written_bytes = 0
        self._append(header)

    def note(self, at_s: Seconds, happened: Input, effects: list[Effect]) -> None:
        """Append one entry."""
        if self._file is not None:
            self._append(Entry(at_s, happened, effects_digest(effects)))

    def close(self) -> None:
        """Flush and close; later notes are ignored."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except OSError as wrong:
            log.warning("the end of the journal is lost: %s", wrong.strerror)

    def _append(self, item: Item) -> None:
        assert self._file is not None
        record = pack(Item, item)
        self._written_bytes += len(record)
        try:
            if self._written_bytes > JOURNAL_BYTES_MAX:
                raise OSError(0, f"it reached {JOURNAL_BYTES_MAX >> 20} MiB")
            self._file.write(record)
        except OSError as wrong:
            log.warning("the journal stopped: %s; training goes on", wrong.strerror)
            self.close()


def read_journal(path: Path) -> Iterator[Item]:
    """Header first, then entries; a last entry cut off by a crash ends the iteration.

    Raises UsageError when the file cannot be read or is not a journal.
    """
    try:
        with path.open("rb") as file:
            yield from unpack_stream(Item, file)
    except OSError as wrong:
        raise UsageError(f"cannot read {path}: {wrong.strerror}") from wrong
    except FrameError as wrong:
        raise UsageError(f"{path} is not a journal of this version: {wrong}") from wrong


@dataclass(frozen=True, slots=True)
class Step:
    """One repeated input: what a fresh core asks for, and whether the live one asked the same."""

    at_s: Seconds
    happened: Input
    effects: list[Effect]
    same: bool


def replay(path: Path) -> Iterator[Step]:
    """Feed a journal to a fresh core. Raises UsageError as ``read_journal`` does."""
    items = read_journal(path)
    header = next(items, None)
    if not isinstance(header, Header):
        raise UsageError(f"{path} does not begin with a journal's header")
    core = header.core()
    for item in items:
        if not isinstance(item, Entry):
            raise UsageError(f"{path} holds two headers")
        effects = core.handle(item.happened, item.at_s)
        yield Step(
            item.at_s, item.happened, effects, effects_digest(effects) == item.effects_digest
        )

"""Who this peer is, across restarts: an id kept for life and a boot number that only rises.

The boot is ``max(stored + 1, wall clock in ms)``: a peer that lost its
disk still comes back above every earlier life of its own.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from gossip.errors import UsageError
from gossip.messages import PeerId

ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Identity:
    """One life of one peer."""

    peer: PeerId
    boot: int

    @property
    def short(self) -> str:
        """The first digits, for tables and logs."""
        return self.peer[:6]


def fresh_identity() -> Identity:
    """A peer that keeps nothing on disk."""
    return Identity(PeerId(secrets.token_hex(ID_DIGITS // 2)), time.time_ns() // 1_000_000)


def load_identity(folder: Path) -> Identity:
    """This folder's peer, in its next life; a new one if the folder has none.

    Writes ``identity.json`` before it returns, so no boot number is ever used twice.
    Raises UsageError when the file cannot be read or written, or is not an identity.
    """
    path = folder / "identity.json"
    peer, stored = fresh_identity().peer, 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            saved = json.loads(path.read_text(encoding="utf-8"))
            peer, stored = PeerId(str(saved["peer"])), int(saved["boot"])
            if len(peer) != ID_DIGITS or not set(peer) <= set("0123456789abcdef"):
                raise UsageError(f"{path} is not a peer's identity; remove it to become a new peer")
        identity = Identity(peer, max(stored + 1, time.time_ns() // 1_000_000))
        write_whole(path, json.dumps({"peer": peer, "boot": identity.boot}).encode())
    except OSError as wrong:
        raise UsageError(f"cannot use {folder}: {wrong.strerror}") from wrong
    except (ValueError, KeyError, TypeError) as wrong:
        raise UsageError(
            f"{path} is not a peer's identity; remove it to become a new peer"
        ) from wrong
    return identity


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old one or the new one, never half.

    Raises OSError; the old file is then untouched and no temporary one is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

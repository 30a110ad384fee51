"""The run's key pair: whoever holds the file is one of us, nobody else completes a handshake.

CURVE (curvezmq.org) authenticates the listening side by its public key and encrypts everything.
All peers of a run share one pair, and its public half is as secret as the other: a client that
does not know it cannot speak to a listening socket at all.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from gossip.errors import UsageError

_Z85_KEY = re.compile(rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
"""Forty characters of Z85 (rfc.zeromq.org/spec/32): 32 bytes."""

_FILE_BYTES_MAX = 1024


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """One pair, each half as 40 characters of Z85. Its text form hides both."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return "CurveKeys(...)"


def save_run_key(path: Path, keys: CurveKeys) -> None:
    """Write a new file, 0600 from its creation. Raises UsageError when it exists already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as wrong:
        raise UsageError(f"{path} exists; a run key is never overwritten") from wrong
    except OSError as wrong:
        raise UsageError(f"cannot write {path}: {wrong.strerror}") from wrong
    with os.fdopen(descriptor, "wb") as file:
        file.write(keys.public + b"\n" + keys.secret + b"\n")


def load_run_key(path: Path) -> CurveKeys:
    """Read a file made by ``save_run_key``. Raises UsageError when others could read it too."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            lines = file.read(_FILE_BYTES_MAX).split()
    except OSError as wrong:
        raise UsageError(f"cannot read {path}: {wrong.strerror}") from wrong
    if mode & 0o077:
        raise UsageError(f"others can read the run key: chmod 600 {path}")
    if len(lines) != 2 or not all(_Z85_KEY.fullmatch(line) for line in lines):
        raise UsageError(f"{path} is not a run key")
    return CurveKeys(lines[0], lines[1])

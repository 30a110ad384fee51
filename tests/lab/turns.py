"""Turns at one machine, for tests that several processes run side by side (``pytest -n``).

Most tests only compute and run beside each other. Those marked ``processes`` or ``alone`` start
processes of their own, or would tell something else in half the time: while one of them runs,
nothing else does. Two locked files keep the turns; the kernel unlocks those of a process that ends.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path

MARKS = ("alone", "processes")
"""The marks of tests that nothing may run beside."""


class Turns:
    """The turns of one process; all that share the folder wait for each other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._door = (folder / "door").open("w")
        self._room = (folder / "room").open("w")
        self._is_alone = False

    def begin(self, alone: bool) -> None:
        """Wait until this test may run. While one waits to be alone, nobody else begins."""
        if alone and self._is_alone:  # it stayed for the next
            return
        fcntl.flock(self._door, fcntl.LOCK_EX)
        fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)
        self._is_alone = alone

    def end(self, stay: bool) -> None:
        """This test has run; ``stay`` alone for the next, which has to be alone too."""
        if not (stay and self._is_alone):
            fcntl.flock(self._room, fcntl.LOCK_UN)
            self._is_alone = False

    def note(self, alone: Sequence[str]) -> None:
        """Say which tests must be alone; every process finds the same ones."""
        mine = self._folder / f"alone-{os.getpid()}"
        mine.write_text(json.dumps(alone))
        mine.replace(self._folder / "alone")

    def noted(self) -> frozenset[str]:
        """What any of the processes has said."""
        return frozenset(json.loads((self._folder / "alone").read_text()))

    def close(self) -> None:
        """No more turns for this process."""
        self._door.close()
        self._room.close()

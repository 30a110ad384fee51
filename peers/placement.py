"""Which shards are ours, without holding up the trainer.

Placing many shards on many members takes a while (seconds at thousands of each). Small placements
are made at once; large ones by a thread of their own, while the last placement stays in force.
"""

from __future__ import annotations

import threading
from typing import TypeAlias

from gossip.messages import PeerId
from gossip.replication.placement import owned

Members: TypeAlias = tuple[tuple[PeerId, float], ...]

AT_ONCE_MAX = 4_000
"""Shards times members placed in the caller's thread: a few milliseconds."""


class Placement:
    """Remembers the last answer; one trainer's thread asks."""

    def __init__(self) -> None:
        self._asked: tuple[int, Members] = (0, ())
        self._owned: tuple[int, ...] = ()
        self._thread: threading.Thread | None = None

    def owned(self, shards: int, members: Members, me: PeerId) -> tuple[int, ...]:
        """This peer's shards; for a moment those of the question before, if this one is large.

        The very first answer is always waited for.
        """
        busy = self._thread is not None and self._thread.is_alive()
        if busy or self._asked == (shards, members):
            return self._owned
        first, self._asked = self._asked == (0, ()), (shards, members)
        if first or shards * len(members) <= AT_ONCE_MAX:
            self._place(shards, members, me)
        else:
            arguments = (shards, members, me)
            self._thread = threading.Thread(target=self._place, args=arguments, daemon=True)
            self._thread.start()
        return self._owned

    def _place(self, shards: int, members: Members, me: PeerId) -> None:
        self._owned = owned(shards, members, me)

"""The two queues between a peer's two threads: work for the hook, news for the core.

Neither side ever waits for the other here: both queues are plain deques, whose append and popleft
are atomic. ``arrived`` is for a trainer that has nothing else to do (joining, finalising).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from gossip.machine import Input
from gossip.messages import ExchangeId


@dataclass(frozen=True, slots=True)
class Correction:
    """Move a fragment's theta and phi by ``signed_weight * c_n``.

    c_n stays the desk's, which the answer Applied tells that it is no longer read. ``undo`` wants
    no answer: its c_n is the hook's, to be given back. ``disagreement`` is passed on to the core.
    One that is not ``followed`` moves nothing, and is answered and given back all the same.
    """

    exchange: ExchangeId
    fragment: int
    c_n: Tensor
    signed_weight: float
    undo: bool
    disagreement: float = 0.0
    followed: bool = True


@dataclass(frozen=True, slots=True)
class Replacement:
    """Set theta = phi = snapshot."""

    exchange: ExchangeId
    snapshot_N: Tensor


HookWork = Correction | Replacement


class Mailbox:
    """See the module. ``wake`` makes the I/O thread look; it is set once that thread exists."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self._for_hook: deque[HookWork] = deque()
        self._for_core: deque[Input] = deque()
        self.wake: Callable[[], None] = lambda: None

    def to_hook(self, work: HookWork) -> None:
        """I/O thread: queue work for the next hook."""
        self._for_hook.append(work)
        self.arrived.set()

    def to_core(self, happened: Input) -> None:
        """Trainer's thread: tell the core."""
        self._for_core.append(happened)
        self.wake()

    @property
    def has_work(self) -> bool:
        """Whether the hook has something to do."""
        return bool(self._for_hook)

    def work(self) -> Iterator[HookWork]:
        """Trainer's thread: take the queued work, oldest first."""
        self.arrived.clear()
        while self._for_hook:
            yield self._for_hook.popleft()

    def news(self) -> Iterator[Input]:
        """I/O thread: take the news, oldest first."""
        while self._for_core:
            yield self._for_core.popleft()

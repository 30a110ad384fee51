"""The lock of one fragment of phi: the trainer's thread goes first."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager


class FragmentLock:
    """Mutual exclusion of one writer (trainer) and readers (I/O) over one fragment.

    A plain lock is unfair: a reader that takes it again for the next chunk nearly always beats
    the waiting writer, so training would stall for a whole code. Here the writer closes a gate
    first, and waits for one chunk at most.
    """

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._lock = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """For the I/O thread; hold it for one chunk."""
        with self._gate:
            pass
        with self._lock:
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """For the trainer's thread; hold it for one piece."""
        with self._gate, self._lock:
            yield


@contextmanager
def all_reading(locks: Sequence[FragmentLock]) -> Iterator[None]:
    """Hold all for reading, taken in order so that two such holders cannot block each other."""
    with ExitStack() as stack:
        for lock in locks:
            stack.enter_context(lock.reading())
        yield


@contextmanager
def all_writing(locks: Sequence[FragmentLock]) -> Iterator[None]:
    """Hold all for writing, taken in the same order as ``all_reading``."""
    with ExitStack() as stack:
        for lock in locks:
            stack.enter_context(lock.writing())
        yield

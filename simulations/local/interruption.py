"""Being asked to stop (Ctrl-C, SIGTERM, a closed terminal) without being torn out of anything.

A flag, not an exception and not a ``threading.Event``: an exception could come between starting a
process and remembering it, and ``Event.set`` in a handler waits for ever on a lock that the very
thread it interrupted may hold.
"""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import Final

from gossip.errors import GossipError

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(GossipError):
    """Somebody asked for an end before there was a result; everything is cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Interruption:
    """A context in which signals are noted instead of obeyed; for the main thread.

    number   the first signal that came; 0 while there was none.
    count    how many came: from the second on, people want an end at once.
    """

    def __init__(self) -> None:
        self.number = 0
        self.count = 0
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interruption:
        for each in SIGNALS:
            if each is signal.SIGHUP and signal.getsignal(each) is signal.SIG_IGN:
                continue  # nohup: the run is to outlive its terminal
            self._before[each] = signal.signal(each, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each, before in self._before.items():
            signal.signal(each, before)  # type: ignore[arg-type]  # what signal() gave us

    def check(self) -> None:
        """Raise Interrupted if a signal came."""
        if self.count:
            raise Interrupted(self.number)

    def pause(self, seconds: float) -> None:
        """Sleep a moment, then ``check``."""
        time.sleep(seconds)
        self.check()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.number = self.number or number
        self.count += 1

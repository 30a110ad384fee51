"""What a peer does when it is told to stop, from its first moment on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from gossip.errors import STOPPED_EARLY

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def calm_beginning() -> Iterator[None]:
    """Until somebody else listens to signals, one ends the process with a line and exit code 0.

    A traceback out of the middle of an import, or a death by signal, would say that something is
    wrong. Nothing has begun that would have to be ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        os.write(2, f"gossip run: {STOPPED_EARLY}\n".encode())
        os._exit(0)

    before = {number: signal.signal(number, on_signal) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            if signal.getsignal(number) is on_signal:
                signal.signal(number, earlier)

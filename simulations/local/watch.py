"""What people see of a local run: a live table in a terminal, now and then a line elsewhere."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.live import Live

from gossip.machine import LinkCause
from simulations.local.process import PeerProcess, State
from simulations.local.sights import Sight
from simulations.table import GONE, Loss, Row, Sees, live_table, one_line

TABLE_EVERY_S: Final = 0.25
LINE_EVERY_S: Final = 5.0

_CLOSED: Final = LinkCause.CLOSED.name.lower()
"""A link ended; why, a fresh dial finds out."""


class Watch:
    """A context manager; ``show`` may be called as often as one likes."""

    def __init__(self, console: Console, seconds: float | None) -> None:
        self._console = console
        self._seconds = seconds
        self._live: Live | None = None
        self._next_s = 0.0

    def __enter__(self) -> Watch:
        if self._console.is_terminal:
            # Drawn when told to, not by a thread: processes are started beside it.
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A sentence that stays, above the table."""
        self._console.print(text, highlight=False, markup=False, style="bold")

    def show(self, peers: Sequence[PeerProcess], elapsed_s: float, last: bool = False) -> None:
        """How things stand; ``last`` shows it even if it was shown just before."""
        now_s = time.monotonic()
        if now_s < self._next_s and not last:
            return
        rows, losses = rows_of(peers), losses_of(peers)
        figure = main_figure(peers)
        if self._live is not None:
            self._next_s = now_s + TABLE_EVERY_S
            caption, columns = self._caption(elapsed_s), self._console.width
            table = live_table(rows, figure, caption, columns, losses)
            self._live.update(table, refresh=True)
        else:
            self._next_s = now_s + LINE_EVERY_S
            line = one_line(rows, figure, elapsed_s, losses)
            self._console.print(line, highlight=False, markup=False)

    def _caption(self, elapsed_s: float) -> str:
        if not elapsed_s:
            return "waiting until all have joined"
        if self._seconds is None:
            return f"{elapsed_s:.0f} s"
        if elapsed_s > self._seconds:
            return f"{self._seconds:g} s are over: agreeing"
        return f"{elapsed_s:.0f} of {self._seconds:g} s"


def rows_of(peers: Sequence[PeerProcess]) -> list[Row]:
    """A row for each peer that was started."""
    numbers = {each.peer[:6]: each.index for each in peers}
    return [
        Row(
            peer=each.index,
            state=each.state.value,
            samples=each.status.samples,
            loss=each.status.loss,
            figure=figure_of(each),
            partner=numbers.get(each.status.partner),
            swaps=each.status.swaps,
            sent_bytes=each.status.sent_bytes,
            disagreement=each.status.disagreement,
            stall_s=each.status.stall_s,
            sees=sees_of(each),
        )
        for each in peers
        if each.pid
    ]


def sees_of(peer: PeerProcess) -> Sees | None:
    """How it sees the others; None before it has said so. Who is privately lost counts as busy:
    not reached, and no verdict yet."""
    census = peer.status.census
    if not census:
        return None
    alive, busy, lost, down = (census.get(each, 0) for each in ("alive", "busy", "lost", "down"))
    return Sees(alive, busy + lost, down)


def losses_of(peers: Sequence[PeerProcess]) -> list[Loss]:
    """Who is lost to any of those that still look, the latest first; when all have finished, by
    their last word. Who finished or was asked to end has not been lost."""
    witnesses = [each for each in peers if each.pid and each.state.value not in GONE]
    witnesses = [each for each in witnesses if not each.state.is_over] or witnesses
    found: list[tuple[float, Loss]] = []
    for subject in peers:
        seen = [each.sights.about.get(subject.peer) for each in witnesses]
        sights = [each for each in seen if each is not None and each.gone]
        if sights and subject.state not in (State.FINISHED, State.ENDED):
            found.append((min(each.at_s for each in sights), _loss(subject.index, sights)))
    return [loss for _, loss in sorted(found, key=lambda each: each[0], reverse=True)]


def _loss(peer: int, sights: Sequence[Sight]) -> Loss:
    """With the cause that most of them found; that a link ended only where none found more."""
    causes = [each.cause for each in sights if each.cause]
    telling = [cause for cause in causes if cause != _CLOSED] or causes
    cause, _ = max(Counter(telling).items(), key=lambda each: each[1], default=("", 0))
    return Loss(peer, cause, len(sights), sum(each.down for each in sights))


def main_figure(peers: Sequence[PeerProcess]) -> str:
    """The name of the first figure that is not the loss; ``accuracy`` while none is known."""
    for each in peers:
        for name in each.status.figures:
            if name != "loss":
                return name
    return "accuracy"


def figure_of(peer: PeerProcess) -> float:
    """Its main figure; NaN while there is none."""
    return peer.status.figures.get(main_figure([peer]), math.nan)

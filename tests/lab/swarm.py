"""Real peers of one run, each a process: started, signaled, and seen through what they write."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from simulations.local.process import PeerProcess, peer_id
from tests.lab.proxy import Proxy
from tests.simulations.local_runs import wait_until

START_LIMIT_S = 100.0
END_LIMIT_S = 20.0
LIMIT_S = 100.0
"""Far above what anything waited for takes."""

Line = dict[str, Any]


class Swarm:
    """``count`` peers behind a proxy, or on loopback as they are; a context manager.

    Peer 0 founds the run, the others join through it. ``words`` are arguments of ``gossip run``,
    ``hidden`` the numbers of peers that only dial out. No process is left at the end.
    """

    def __init__(
        self,
        folder: Path,
        words: Sequence[str],
        count: int,
        proxy: Proxy | None = None,
        hidden: Sequence[int] = (),
    ) -> None:
        run = folder.name
        self.ids = [peer_id(run, 0, number) for number in range(count)]
        self.peers = [
            PeerProcess(number, folder / f"peer-{number}", each)
            for number, each in enumerate(self.ids)
        ]
        self._words = [*words, "--run", run, "--threads", "1", "--wait-for", str(count)]
        self._words += ["--join-timeout", f"{START_LIMIT_S:g}"]
        self._proxy = proxy
        self._hidden = hidden

    def __enter__(self) -> Swarm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for peer in self.peers:
            peer.send(signal.SIGKILL)
            peer.wait(END_LIMIT_S)

    def start(self) -> None:
        """Start all. Behind a proxy the founder's address is known before it is there."""
        founder = self._start(0)
        if founder is None:
            wait_until(lambda: self._joined(0), "the founder is there", START_LIMIT_S)
            founder = self.peers[0].address
        for number in range(1, len(self.peers)):
            self._start(number, founder)

    def _start(self, number: int, contact: str | None = None) -> str | None:
        words = [] if contact is None else ["--join", contact]
        advertised = None
        if number in self._hidden:
            words.append("--dial-out")
        elif self._proxy is None:
            words += ["--listen", "127.0.0.1:0"]
        else:
            door = self._proxy.door(self.ids[number])
            advertised = door.advertise
            words += ["--listen", door.listen, "--advertise", advertised]
        self.peers[number].start([*self._words, *words])
        return advertised

    def _joined(self, number: int) -> bool:
        self.look()
        peer = self.peers[number]
        assert not peer.state.is_over, f"peer {number} has ended:\n{peer.last_words()}"
        return peer.address is not None

    # What they say.

    def look(self) -> None:
        """Read what was written since."""
        for peer in self.peers:
            if peer.pid:
                peer.look()

    def lines(self, number: int, *events: str, since_s: float = 0.0) -> list[Line]:
        """Lines of these kinds that a peer wrote, from a moment on (as ``time.time`` tells it)."""
        path = self.peers[number].folder / "events.jsonl"
        return [each for each in read(path, events) if each["unix_s"] >= since_s]

    def swaps(self, number: int, since_s: float = 0.0) -> list[Line]:
        """A peer's swaps that moved both sides, with partners as numbers."""
        closed = self.lines(number, "swap_closed", since_s=since_s)
        done = [each for each in closed if each["outcome"] == "applied"]
        return [{**each, "partner": self.ids.index(each["partner"])} for each in done]

    def verdicts(self, status: str, since_s: float = 0.0) -> list[tuple[int, int, Line]]:
        """All claims of this status that anybody took over: by whom, about whom, the line."""
        return [
            (by, self.ids.index(line["record"]["peer"]), line)
            for by in range(len(self.ids))
            for line in self.lines(by, "member_changed", since_s=since_s)
            if line["record"]["status"] == status
        ]

    def losses(self, number: int, about: int, since_s: float) -> list[Line]:
        """Lines by which a peer says that it does not get through to another."""
        lines = self.lines(number, "link_closed", "reach_changed", since_s=since_s)
        return [
            each
            for each in lines
            if each["peer"] == self.ids[about] and each.get("reach", "lost") == "lost"
        ]

    def census(self, number: int) -> dict[str, int]:
        """How a peer saw the others when it last said so."""
        self.look()
        return self.peers[number].status.census

    # Waiting.

    def until_swapped(self, times: int, numbers: Sequence[int], since_s: float = 0.0) -> None:
        """Wait until each of these peers has swapped so often since a moment."""
        for number in numbers:
            often = partial(self._has_swapped, times, number, since_s)
            wait_until(often, f"peer {number} has swapped {times} times", LIMIT_S)

    def _has_swapped(self, times: int, number: int, since_s: float) -> bool:
        return len(self.swaps(number, since_s)) >= times

    def until_later(self, moment_s: float, number: int = 0) -> None:
        """Wait until a peer has said something after a moment (as ``time.time`` tells it)."""
        wait_until(
            lambda: bool(self.lines(number, "status", "result", since_s=moment_s)),
            f"peer {number} speaks at {moment_s:.1f}",
            LIMIT_S,
        )

    def stop(self) -> None:
        """Ask all to leave; wait until they have."""
        for peer in self.peers:
            peer.send(signal.SIGTERM)
        self.until_ended()

    def until_ended(self, limit_s: float = 60.0) -> None:
        """Wait until every process has ended."""
        until_s = time.monotonic() + limit_s
        for peer in self.peers:
            assert peer.wait(max(0.0, until_s - time.monotonic())), f"peer {peer.index} goes on"
        self.look()


def read(path: Path, events: Sequence[str]) -> Iterator[Line]:
    """Whole lines of these kinds; ``json`` only sees those that can be one."""
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines():
        if any(f'"{event}"' in text for event in events):
            line = json.loads(text)
            if line["event"] in events:
                yield line

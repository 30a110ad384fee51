"""A TCP proxy in front of each real peer: latency, bandwidth, stalls, cuts of single directions.

A peer listens on its inner ports and advertises the outer ones, where the proxy takes whatever
others dial. Who dialed is read from the routing id in the ZMTP handshake, so that every pair of
peers, and each direction of it, can be treated by itself (without CURVE, which hides it).

What is held back is not lost: TCP sends it again until the path is there, so it arrives, in order,
after ``heal``. The end of a connection is held back in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import re
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

ROUTING = re.compile(rb"([0-9a-f]{16}):\d{1,20}:[0-9a-f]{16}")
HANDSHAKE_BYTES_MAX = 1024
READ_BYTES = 16 << 10
QUEUED_BYTES_MAX = 512 << 10
"""On its way in one direction of one connection: what the buffers of a long path hold."""

PORTS = range(20_000, 32_000)
"""Below what systems give away by themselves."""


@dataclass(frozen=True)
class Path:
    """What every connection goes through, each direction by itself.

    latency_s       one way.
    bytes_per_s     of one direction of one connection.
    stall_every_s   mean time between stalls, each as long as TCP waits before it sends again what
                    was lost: between the two of ``stall_s``.
    """

    latency_s: float = 0.0
    bytes_per_s: float = math.inf
    stall_every_s: float = math.inf
    stall_s: tuple[float, float] = (0.2, 3.0)


@dataclass(eq=False)
class Door:
    """One peer's two outer ports. ``inner`` is the control port that the peer listens on."""

    peer: str
    inner: int
    listeners: tuple[socket.socket, socket.socket]
    accepting: list[asyncio.Task[None]] = field(default_factory=list)
    fillers: list[socket.socket] = field(default_factory=list)

    @property
    def listen(self) -> str:
        """For --listen."""
        return f"127.0.0.1:{self.inner}"

    @property
    def advertise(self) -> str:
        """For --advertise."""
        return f"127.0.0.1:{self.listeners[0].getsockname()[1]}"


class Proxy:
    """All doors of one test; a context manager. Its methods may be called from the test's thread.

    ``stalls`` counts the stalls there were, ``carried_bytes`` what was delivered.
    """

    def __init__(self, path: Path = Path(), seed: int = 0) -> None:
        self.stalls = 0
        self.carried_bytes = 0
        self._path = path
        self._rng = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._doors: dict[str, Door] = {}
        self._held: dict[tuple[str, str], None] = {}
        self._healed = asyncio.Condition()
        self._tasks: dict[asyncio.Task[None], None] = {}

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # What a test may do.

    def door(self, peer: str) -> Door:
        """A way to this peer, which may start to listen on the inner ports now."""
        inner = _two_ports()
        door = Door(peer, inner[0].getsockname()[1], _two_ports())
        for each in inner:
            each.close()
        self._doors[peer] = door
        self._run(self._answer(door))
        return door

    def hold(self, source: str, target: str) -> None:
        """From now on nothing crosses from ``source`` to ``target``, whoever of them dialed."""
        self._call(lambda: self._held.setdefault((source, target)))

    def shut(self, peers: Iterable[str]) -> None:
        """Leave new connections to these peers unanswered, as by a host that is gone."""
        for peer in peers:
            self._run(self._leave_unanswered(self._doors[peer]))

    def split(self, half: Iterable[str], other: Iterable[str]) -> None:
        """Cut everything between two halves. Connections inside a half stay; new ones are not
        answered anywhere."""
        for one in half:
            for two in other:
                self.hold(one, two)
                self.hold(two, one)
        self.shut([*half, *other])

    def heal(self) -> None:
        """Everything crosses again."""
        self._run(self._heal())

    # Inside the proxy's thread.

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20.0)

    def _call(self, work: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(work)

    async def _answer(self, door: Door) -> None:
        for filler in door.fillers:
            filler.close()
        door.fillers.clear()
        for place, listener in enumerate(door.listeners):
            listener.listen(100)
            accepting = self._accept(door, listener, door.inner + place)
            door.accepting.append(asyncio.create_task(accepting))

    async def _leave_unanswered(self, door: Door) -> None:
        """Linux drops SYNs to a listener whose queue is full: make it short, and fill it."""
        for task in door.accepting:
            task.cancel()
        door.accepting.clear()
        for listener in door.listeners:
            listener.listen(0)
            for _ in range(4):
                filler = _socket()
                try:
                    connecting = self._loop.sock_connect(filler, listener.getsockname())
                    await asyncio.wait_for(connecting, 0.1)
                except TimeoutError:
                    filler.close()
                    break
                door.fillers.append(filler)

    async def _heal(self) -> None:
        self._held.clear()
        async with self._healed:
            self._healed.notify_all()
        for door in self._doors.values():
            if not door.accepting:
                await self._answer(door)

    async def _end(self) -> None:
        doors = list(self._doors.values())
        running = [*self._tasks, *(each for door in doors for each in door.accepting)]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for door in doors:
            for each in (*door.listeners, *door.fillers):
                each.close()

    async def _accept(self, door: Door, listener: socket.socket, port: int) -> None:
        while True:
            outer, _ = await self._loop.sock_accept(listener)
            outer.setblocking(False)
            task = asyncio.create_task(self._carry(door.peer, outer, port))
            self._tasks[task] = None
            task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _carry(self, peer: str, outer: socket.socket, port: int) -> None:
        """One connection, from its beginning to its end in both directions. One that never says
        anything, as those that filled a queue, is nobody's business."""
        with outer, _socket() as inner:
            try:
                first = await self._loop.sock_recv(outer, READ_BYTES)
                if not first:
                    return
                await self._loop.sock_connect(inner, ("127.0.0.1", port))
            except OSError:
                return
            dialer = _Dialer()
            forth = _Direction(self, outer, inner, lambda: (dialer.name, peer), dialer.hear)
            back = _Direction(self, inner, outer, lambda: (peer, dialer.name))
            await forth.put(first)
            await asyncio.gather(forth.take(), forth.give(), back.take(), back.give())

    async def passable(self, ends: Callable[[], tuple[str, str]]) -> None:
        """Wait until nothing is held back between two peers."""
        async with self._healed:
            await self._healed.wait_for(lambda: ends() not in self._held)

    def delay(self, direction: _Direction, size: int) -> float:
        """When what was read now comes out at the far end, by the loop's clock."""
        now, path = self._loop.time(), self._path
        if direction.stall_at is None:
            direction.stall_at = now + self._until_stall()
        if now >= direction.stall_at:
            self.stalls += 1
            direction.free_at = now + self._rng.uniform(*path.stall_s)
            direction.stall_at = direction.free_at + self._until_stall()
        direction.free_at = max(now, direction.free_at) + size / path.bytes_per_s
        return direction.free_at + path.latency_s

    def _until_stall(self) -> float:
        mean_s = self._path.stall_every_s
        return math.inf if mean_s == math.inf else self._rng.expovariate(1.0 / mean_s)


@dataclass
class _Dialer:
    """Who dialed a connection; nobody until its handshake has said so."""

    name: str = ""
    said: bytes = b""

    def hear(self, piece: bytes) -> None:
        if self.name or len(self.said) > HANDSHAKE_BYTES_MAX:
            return
        self.said += piece
        found = ROUTING.search(self.said)
        self.name = found[1].decode() if found else ""


class _Direction:
    """One direction of a connection: ``take`` reads, ``give`` delivers when it is time."""

    def __init__(
        self,
        proxy: Proxy,
        source: socket.socket,
        sink: socket.socket,
        ends: Callable[[], tuple[str, str]],
        hear: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self.free_at = 0.0
        self.stall_at: float | None = None
        self._proxy = proxy
        self._source = source
        self._sink = sink
        self._ends = ends
        self._hear = hear
        self._pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(
            QUEUED_BYTES_MAX // READ_BYTES
        )

    async def put(self, piece: bytes) -> None:
        """On its way; an empty piece is the end."""
        self._hear(piece)
        await self._pieces.put((self._proxy.delay(self, len(piece)), piece))

    async def take(self) -> None:
        """Read until the end."""
        piece = b"?"
        while piece:
            try:
                piece = await asyncio.get_running_loop().sock_recv(self._source, READ_BYTES)
            except OSError:
                piece = b""
            await self.put(piece)

    async def give(self) -> None:
        """Deliver until the end; what nobody takes any more is thrown away."""
        loop = asyncio.get_running_loop()
        piece, taken = b"?", True
        while piece:
            at, piece = await self._pieces.get()
            if not taken:
                continue
            await asyncio.sleep(max(0.0, at - loop.time()))
            await self._proxy.passable(self._ends)
            try:
                await loop.sock_sendall(self._sink, piece)
            except OSError:
                taken = False
                _shut(self._source)  # its sender learns that nobody listens
            self._proxy.carried_bytes += len(piece)
        _shut(self._sink)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)


def _socket() -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _two_ports() -> tuple[socket.socket, socket.socket]:
    """Two sockets bound to neighboring free ports."""
    while True:
        low = random.SystemRandom().choice(PORTS)
        one, two = _socket(), _socket()
        try:
            for each, port in ((one, low), (two, low + 1)):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                each.bind(("127.0.0.1", port))
        except OSError:
            one.close()
            two.close()
            continue
        return one, two

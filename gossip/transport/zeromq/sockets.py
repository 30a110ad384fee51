"""ZeroMQ sockets with the options this protocol needs, each with its monitor.

Sources: the options are those of zmq_setsockopt(3) of libzmq 4.3; the liveness times are from
the measurements behind the membership design (a peer whose interpreter is held for seconds still
answers ZMTP pings from its I/O thread, a frozen or vanished process does not).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import selectors
import socket
from collections.abc import Iterator
from typing import TypeAlias

import zmq
from zmq.utils.monitor import parse_monitor_message

from gossip.errors import TransportError
from gossip.transport.addresses import Address
from gossip.transport.keys import CurveKeys
from gossip.transport.lines import Line, Plane
from gossip.transport.ports import in_use
from gossip.transport.transport import CURVE_FRAME_BYTES
from gossip.wire.frames import CHUNK_BYTES_MAX, CONTROL_FRAME_BYTES_MAX

ZSocket: TypeAlias = "zmq.Socket[bytes]"

HANDSHAKE_S = 4.0
"""A connection that has not shown itself to be one of us by then is cut."""

PATIENCE_S = 15.0
"""The dialing side waits longer for a handshake: it knows whom it dialed. A frozen process finds
each attempt in its queue when it goes on, and the queue is finite."""

BACKLOG = 1024
"""Connections the kernel accepts while the process does not. Full, it would answer no more, and a
frozen process would look like a lost host (the system may hold it to less)."""

RECEIVED_MAX = {Plane.CONTROL: 1000, Plane.BULK: 16}
"""Messages held per link until they are read: small ones, or 16 MiB of chunks."""

SENT_MAX = {Plane.CONTROL: 1000, Plane.BULK: 256}
"""Messages queued per link on their way out. Chunks are views of buffers that are there anyway;
this is a few windows of them, since what finds the queue full is lost until it is asked again.
(In bytes they are bounded by ``gossip.transport.sending``.)"""

FRAME_BYTES_MAX = {Plane.CONTROL: CONTROL_FRAME_BYTES_MAX, Plane.BULK: CHUNK_BYTES_MAX}
"""Above it the ZeroMQ library cuts the connection before it allocates. (It counts a frame as it
comes: under CURVE with what that adds.)"""

LINGER_S = {Plane.CONTROL: 0.3, Plane.BULK: 0.0}
"""How long a closed socket may go on sending: a word of farewell, no chunks."""

PING_S = {Plane.CONTROL: (1.0, 2.0), Plane.BULK: (10.0, 60.0)}
"""ZMTP ping interval and timeout of dialed links. A ping behind 16 MiB of chunks on a slow line
is late without meaning anything, so bulk is patient. Control judges the peer: a host or process
that vanishes in silence is noticed 2 to 3 s later. Two TCP segments lost in a row on a path of
160 ms (0.4 + 0.8 s until they are sent again) pass unnoticed; a third one costs a fresh dial and
nothing else, since a lost link is no verdict. A pair of pings is about 20 bytes."""

PROBES_BEFORE_LOST = 2
"""The kernel asks after a silent control connection of others once a second, and ends it when so
many questions, or what was sent, stay without any acknowledgement for the time-out of a ping. A
process that stands still has a kernel that answers, until its receive buffer is full (decision
0004); a host that vanished has none. Only this tells of a peer that cannot be dialed, as it is
always the dialing side that pings."""

RETRY_S = (0.1, 2.0)
"""First and largest pause between attempts to connect."""

CONNECT_S = 3.0
"""An attempt to connect that nobody answers ends after this."""

FAILED = (
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)
_WATCHED = (
    zmq.Event.CONNECTED
    | zmq.Event.CONNECT_RETRIED
    | zmq.Event.ACCEPTED
    | zmq.Event.DISCONNECTED
    | zmq.Event.HANDSHAKE_SUCCEEDED
    | FAILED
)
MONITOR_EVENTS_PER_POLL = 200
_READABLE = int(zmq.POLLIN)
_RUN_OUT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC)
_NOW, _NOW_AND_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
_MONITOR_QUEUE_MAX = 100_000
"""Far above what piles up between two polls: a full monitor would stop ZeroMQ's own thread."""


def generate_run_key() -> CurveKeys:
    """A fresh key pair for a run; ``gossip.transport.keys`` keeps it in a file."""
    public, secret = zmq.curve_keypair()
    return CurveKeys(public, secret)


class OutOfDescriptors(TransportError):
    """This process may open no more files or sockets. What was open stays so."""


class Sockets:
    """Opens and closes all sockets of one transport, in a context of their own.

    Waiting costs one system call however many sockets there are: each has a descriptor that says
    "look", and only those are looked at. ZeroMQ signals a descriptor once per change, and sending
    or receiving may swallow the signal, so a socket that was ``touched`` is looked at anyway.
    Invariant: a socket with something to read is signaled or touched.
    """

    def __init__(self, curve: CurveKeys | None, wakeup: socket.socket) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(wakeup, selectors.EVENT_READ)
        self._wakeup = wakeup
        self._touched: dict[ZSocket, None] = {}
        self._curve = curve
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, self._context.get(zmq.SOCKET_LIMIT))
        self._names = itertools.count()

    def listen(self, plane: Plane, where: Address) -> tuple[ZSocket, ZSocket, int]:
        """A listening socket, its monitor and its port. Raises TransportError."""
        try:
            listener = self._socket(zmq.ROUTER, plane, where)
        except (zmq.ZMQError, OSError) as wrong:
            raise _error("listen on", where, wrong) from wrong
        monitor = None
        try:
            self._set_listening(listener, plane)
            monitor = self._monitor(listener)
            listener.bind(f"tcp://{where}")
        except (zmq.ZMQError, OSError) as wrong:
            self.close(listener, monitor)
            raise _error("listen on", where, wrong) from wrong
        endpoint = listener.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        return listener, monitor, int(endpoint.rstrip(b"\0").rpartition(b":")[2])

    def dial(
        self, plane: Plane, address: Address, endpoint: Address, routing: bytes
    ) -> Line[ZSocket]:
        """A line to ``endpoint``, the numeric form of ``address``, that connects by itself, again
        and again. Raises TransportError, as OutOfDescriptors when trying later may help; then
        nothing stays open."""
        try:
            dealer = self._socket(zmq.DEALER, plane, endpoint)
        except (zmq.ZMQError, OSError) as wrong:
            raise _error("dial", address, wrong) from wrong
        monitor = None
        try:
            self._set_dialing(dealer, plane, routing)
            monitor = self._monitor(dealer)
            dealer.connect(f"tcp://{endpoint}")
        except (zmq.ZMQError, OSError) as wrong:
            self.close(dealer, monitor)
            raise _error("dial", address, wrong) from wrong
        return Line(dealer, monitor, address, endpoint)

    def _set_listening(self, listener: ZSocket, plane: Plane) -> None:
        listener.setsockopt(zmq.ROUTER_MANDATORY, 1)
        listener.setsockopt(zmq.ROUTER_HANDOVER, 1)
        listener.setsockopt(zmq.BACKLOG, BACKLOG)
        if plane is Plane.CONTROL:
            listener.setsockopt(zmq.TCP_MAXRT, round(PING_S[plane][1] * 1000))
            listener.setsockopt(zmq.TCP_KEEPALIVE, 1)
            listener.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 1)
            listener.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 1)
            listener.setsockopt(zmq.TCP_KEEPALIVE_CNT, PROBES_BEFORE_LOST)
        # A ZAP domain with no ZAP service lets NULL and CURVE peers in as ever, but refuses
        # ZMTP 1 and 2, whose handshake almost any bytes would pass for.
        listener.setsockopt(zmq.ZAP_DOMAIN, b"gossip")
        if self._curve is not None:
            listener.setsockopt(zmq.CURVE_SERVER, 1)
            listener.setsockopt(zmq.CURVE_SECRETKEY, self._curve.secret)

    def _set_dialing(self, dealer: ZSocket, plane: Plane, routing: bytes) -> None:
        dealer.setsockopt(zmq.ROUTING_ID, routing)
        dealer.setsockopt(zmq.HANDSHAKE_IVL, round(PATIENCE_S * 1000))
        interval_s, timeout_s = PING_S[plane]
        dealer.setsockopt(zmq.HEARTBEAT_IVL, round(interval_s * 1000))
        dealer.setsockopt(zmq.HEARTBEAT_TIMEOUT, round(timeout_s * 1000))
        dealer.setsockopt(zmq.RECONNECT_IVL, round(RETRY_S[0] * 1000))
        dealer.setsockopt(zmq.RECONNECT_IVL_MAX, round(RETRY_S[1] * 1000))
        dealer.setsockopt(zmq.CONNECT_TIMEOUT, round(CONNECT_S * 1000))
        if self._curve is not None:
            dealer.setsockopt(zmq.CURVE_PUBLICKEY, self._curve.public)
            dealer.setsockopt(zmq.CURVE_SECRETKEY, self._curve.secret)
            dealer.setsockopt(zmq.CURVE_SERVERKEY, self._curve.public)

    def ready(self, wait_s: float) -> list[ZSocket]:
        """Sockets that may have something to read, waiting for the first (inf: without end).

        Each must be read until it has no more, or be given to ``touch``.
        """
        now = [each for each in self._touched if _has_something(each)]
        self._touched.clear()
        wait_s = 0.0 if now else wait_s
        signaled = self._selector.select(None if wait_s == math.inf else wait_s)
        for (_, _, _, found), _ in signaled:
            if found is None:
                self._wakeup.recv(4096)
            elif found not in now:
                now.append(found)
        return now

    def touch(self, touched: ZSocket) -> None:
        """Look at this socket next time, whether it is signaled or not."""
        self._touched[touched] = None

    def queue(self, target: ZSocket, parts: list[bytes], payload: memoryview | None = None) -> bool:
        """Queue one message, its payload without copying; False when there is no room or way."""
        self.touch(target)
        try:
            if payload is None:
                target.send_multipart(parts, _NOW)
            else:
                target.send_multipart(parts, _NOW_AND_MORE)
                target.send(payload, _NOW, copy=False)
        except zmq.ZMQError as wrong:
            if wrong.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        return True

    def monitor_events(self, monitor: ZSocket) -> Iterator[tuple[zmq.Event, int]]:
        """What a monitor has to tell, oldest first: event and value (descriptor or error)."""
        with contextlib.suppress(zmq.Again):
            for _ in range(MONITOR_EVENTS_PER_POLL):
                told = parse_monitor_message(monitor.recv_multipart(zmq.NOBLOCK))
                yield zmq.Event(told["event"]), told["value"]
            self.touch(monitor)

    def close(self, watched: ZSocket, monitor: ZSocket | None) -> None:
        """Close a socket and its monitor; unsent messages have ``LINGER_S`` left."""
        # In this order: ZeroMQ's thread would wait for ever on a monitor nobody holds.
        watched.disable_monitor()
        if monitor is not None:
            self._unwatch(monitor)
            monitor.close(linger=0)
        self._unwatch(watched)
        watched.close()

    def close_all(self) -> None:
        """Close what is open and wait until it has lingered."""
        self._selector.close()
        self._context.destroy()

    def _socket(self, kind: int, plane: Plane, address: Address) -> ZSocket:
        made = self._watch(self._context.socket(kind))
        made.setsockopt(zmq.LINGER, round(LINGER_S[plane] * 1000))
        made.setsockopt(zmq.SNDHWM, SENT_MAX[plane])
        made.setsockopt(zmq.RCVHWM, RECEIVED_MAX[plane])
        sealing_bytes = 0 if self._curve is None else CURVE_FRAME_BYTES
        made.setsockopt(zmq.MAXMSGSIZE, FRAME_BYTES_MAX[plane] + sealing_bytes)
        made.setsockopt(zmq.HANDSHAKE_IVL, round(HANDSHAKE_S * 1000))
        made.setsockopt(zmq.TCP_KEEPALIVE, 1)
        made.setsockopt(zmq.IPV6, int(address.host.startswith("[")))
        return made

    def _monitor(self, watched: ZSocket) -> ZSocket:
        endpoint = f"inproc://monitor-{next(self._names)}"
        watched.monitor(endpoint, _WATCHED)
        monitor = self._context.socket(zmq.PAIR)
        try:
            monitor.setsockopt(zmq.RCVHWM, _MONITOR_QUEUE_MAX)
            monitor.connect(endpoint)
        except zmq.ZMQError:
            monitor.close(linger=0)
            raise
        return self._watch(monitor)

    def _watch(self, made: ZSocket) -> ZSocket:
        try:
            self._selector.register(made.FD, selectors.EVENT_READ, made)
        except OSError:
            made.close(linger=0)
            raise
        self._touched[made] = None
        return made

    def _unwatch(self, made: ZSocket) -> None:
        self._selector.unregister(made.FD)
        self._touched.pop(made, None)


def _error(what: str, where: Address, wrong: zmq.ZMQError | OSError) -> TransportError:
    """The error to raise when a socket cannot do ``what``."""
    if wrong.errno in _RUN_OUT:
        return OutOfDescriptors(f"cannot {what} {where}: {wrong}")
    if wrong.errno == zmq.EADDRINUSE:
        return in_use(where)
    return TransportError(f"cannot {what} {where}: {wrong}")


def _has_something(each: ZSocket) -> bool:
    events = each.getsockopt(zmq.EVENTS)
    assert isinstance(events, int)
    return bool(events & _READABLE)

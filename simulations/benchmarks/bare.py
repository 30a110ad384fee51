"""The least a swap can cost: the same bytes, there and back, with no protocol.

Run as a child process, two of them make up one bare pair. A bare swap is two legs, one after the
other, over DEALER and ROUTER on loopback: frames of 1 MiB sent without copying, each copied by
the receiver into a buffer that was there before. No hash, no codec, no arithmetic. The floor
below even that: the same two legs over a plain TCP socket, and copying the bytes in memory.
"""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import xxhash
import zmq

from simulations.benchmarks.children import Figures, serve

FRAME_BYTES = 1 << 20
QUEUED_MAX = 16
"""Frames queued on each side: more let the sender run ahead into memory that is not in cache."""

ANSWER_S = 60


class BareSide:
    """One end: ``code`` is what it sends, ``room`` where it puts what it receives."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._plain: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._code = bytearray()
        self._room = bytearray()
        self._is_first = False
        self._route: list[bytes] = []

    def listen(self, told: Mapping[str, Any]) -> Figures:
        """The second side: make both buffers, bind both sockets, say the ports."""
        self._make(told, is_first=False)
        self._socket = self._new(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # a full queue waits, it never drops
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self._listener = socket.create_server(("127.0.0.1", 0))
        return {"port": port, "plain_port": self._listener.getsockname()[1]}

    def connect(self, told: Mapping[str, Any]) -> Figures:
        """The first side: make both buffers, connect to the second."""
        self._make(told, is_first=True)
        self._socket = self._new(zmq.DEALER)
        self._socket.connect(f"tcp://127.0.0.1:{told['port']}")
        self._plain = socket.create_connection(("127.0.0.1", told["plain_port"]))
        return {}

    def swap(self, told: Mapping[str, Any]) -> Figures:
        """Both legs over ZeroMQ."""
        del told
        return self._measured(self._send, self._receive)

    def plain_swap(self, told: Mapping[str, Any]) -> Figures:
        """Both legs over a plain TCP socket."""
        del told
        if self._plain is None:
            assert self._listener is not None
            self._plain, _ = self._listener.accept()
        return self._measured(self._send_plain, self._receive_plain)

    def copy(self, told: Mapping[str, Any]) -> Figures:
        """Copy the code once within memory, one thread."""
        del told
        source = torch.frombuffer(self._code, dtype=torch.uint8)
        target = torch.empty_like(source).zero_()
        began_s = time.monotonic()
        target.copy_(source)
        return {"wall_s": time.monotonic() - began_s}

    def _make(self, told: Mapping[str, Any], is_first: bool) -> None:
        size_bytes = told["size_bytes"]
        self._is_first = is_first
        pattern = bytes(range(251)) * (size_bytes // 251 + 1)
        self._code = bytearray(pattern[is_first : size_bytes + is_first])
        self._room = bytearray(pattern[:size_bytes])  # written once, so no page is fresh later

    def _new(self, kind: int) -> zmq.Socket[bytes]:
        made = self._context.socket(kind)
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.SNDHWM, QUEUED_MAX)
        made.setsockopt(zmq.RCVHWM, QUEUED_MAX)
        made.setsockopt(zmq.SNDTIMEO, ANSWER_S * 1000)
        made.setsockopt(zmq.RCVTIMEO, ANSWER_S * 1000)
        return made

    def _measured(self, send: Callable[[], None], receive: Callable[[], None]) -> Figures:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        began_s = time.monotonic()
        if self._is_first:
            send()
            receive()
        else:
            receive()
            send()
        wall_s = time.monotonic() - began_s
        after = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "wall_s": wall_s,
            "cpu_s": after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime,
            "sent_digest": xxhash.xxh3_64_hexdigest(self._code),
            "received_digest": xxhash.xxh3_64_hexdigest(self._room),
        }

    def _send(self) -> None:
        assert self._socket is not None
        view = memoryview(self._code)
        for start in range(0, len(view), FRAME_BYTES):
            if self._route:
                self._socket.send(self._route[0], zmq.SNDMORE)
            self._socket.send(view[start : start + FRAME_BYTES], copy=False)

    def _receive(self) -> None:
        assert self._socket is not None
        view = memoryview(self._room)
        start = 0
        while start < len(view):
            *route, frame = self._socket.recv_multipart(copy=False)
            if not self._is_first:
                self._route = [route[0].bytes]
            view[start : start + len(frame)] = frame.buffer
            start += len(frame)

    def _send_plain(self) -> None:
        assert self._plain is not None
        view = memoryview(self._code)
        for start in range(0, len(view), FRAME_BYTES):
            self._plain.sendall(view[start : start + FRAME_BYTES])

    def _receive_plain(self) -> None:
        assert self._plain is not None
        view = memoryview(self._room)
        start = 0
        while start < len(view):
            start += self._plain.recv_into(view[start : start + FRAME_BYTES])


if __name__ == "__main__":
    side = BareSide()
    serve(
        {
            "listen": side.listen,
            "connect": side.connect,
            "swap": side.swap,
            "plain_swap": side.plain_swap,
            "copy": side.copy,
        }
    )

"""What strangers did at a listening socket, told from the events of its monitor.

The monitor says accepted, handshake settled or failed, disconnected; it does not say who hung up.
But a connection that our own side cut after its handshake was cut for an oversized frame, which
must be counted. So a second descriptor of each accepted connection is kept as a witness: if the
far end is still there when ours has disconnected, it was us.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

CONNECTIONS_MAX = 4096
"""Witnesses kept at once; connections over it are served, but not told apart."""


@dataclass(slots=True)
class _Connection:
    """``witness`` is None when the connection had ended before it could be looked at."""

    witness: socket.socket | None
    accepted_at_s: float

    def ended_here(self) -> bool:
        """Whether it was our side that cut it; lets go of the witness. One that ended between
        two looks came and went within milliseconds, as only strangers do: that counts as cut."""
        if self.witness is None:
            return True
        with self.witness:
            return _far_end_is_there(self.witness)


class Doorway:
    """Follows one listening socket.

    Invariant: ``_unsettled`` counts accepted connections whose handshake has neither succeeded
    nor failed; all of them are younger than ``handshake_s``, since after that it fails.
    """

    def __init__(self, port: int, handshake_s: float) -> None:
        self._port = port
        self._handshake_s = handshake_s
        self._open: dict[int, _Connection] = {}
        self._unsettled = 0
        self._just_failed = False

    def accepted(self, descriptor: int, now_s: float) -> None:
        """A connection stands; nothing is known about it."""
        self._unsettled += 1
        stale = self._open.pop(descriptor, None)
        if stale is not None:
            stale.ended_here()
        if len(self._open) < CONNECTIONS_MAX:
            self._open[descriptor] = _Connection(self._witness(descriptor), now_s)

    def settled(self) -> None:
        """Some connection completed its handshake."""
        self._unsettled = max(0, self._unsettled - 1)

    def failed(self) -> None:
        """Some connection failed in its handshake; its ``disconnected`` comes next."""
        self._unsettled = max(0, self._unsettled - 1)
        self._just_failed = True

    def disconnected(self, descriptor: int, now_s: float) -> str | None:
        """A connection ended. Returns the kind of fault it was cut for; None for an orderly end,
        or one whose failure was told before."""
        connection = self._open.pop(descriptor, None)
        cut = connection is not None and connection.ended_here()
        if self._just_failed or connection is None:
            self._just_failed = False
            return None
        since_s = now_s - self._handshake_s
        in_handshake = self._unsettled > 0 and connection.accepted_at_s >= since_s
        if cut and in_handshake:
            self._unsettled -= 1
        recent = sum(each.accepted_at_s >= since_s for each in self._open.values())
        self._unsettled = min(self._unsettled, recent)
        if not cut:
            return None
        return "handshake" if in_handshake else "length"

    def close(self) -> None:
        """Let go of all witnesses."""
        for connection in self._open.values():
            connection.ended_here()
        self._open.clear()

    def _witness(self, descriptor: int) -> socket.socket | None:
        """A second descriptor of an accepted connection, or None when it is gone by now."""
        try:
            witness = socket.socket(fileno=os.dup(descriptor))
        except OSError:
            return None
        try:
            # The number may have been given to another file since: ours has our port.
            if witness.getsockname()[1] == self._port and witness.getpeername():
                return witness
        except (OSError, IndexError, TypeError):
            witness.close()
            return None
        witness.close()
        return None


def _far_end_is_there(witness: socket.socket) -> bool:
    """Whether a connection still delivers bytes or waits for them (and was not closed there)."""
    try:
        return bool(witness.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return True
    except OSError:
        return False

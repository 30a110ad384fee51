"""Why a dial fails: the host refuses it, or nobody answers.

ZeroMQ retries and does not say. A plain connect does, and one that needs a name looked up may
take seconds, so it runs in a short-lived thread of its own; its answer is fetched by the owner.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable

from gossip.machine import LinkCause
from gossip.transport.addresses import Address

PROBES_MAX = 8
"""Probes under way at once; over it none is started, and the next retry asks again."""

PROBE_TIMEOUT_S = 2.0
"""No answer by then is silence; a refusal takes one round trip."""


class Probes:
    """Plain connects under way. One thread owns it; ``answered`` is called from another."""

    def __init__(self, answered: Callable[[], None]) -> None:
        self._answered = answered
        self._under_way: dict[Address, threading.Thread] = {}
        self._answers: queue.SimpleQueue[tuple[Address, LinkCause | None]] = queue.SimpleQueue()

    def start(self, address: Address) -> None:
        """Ask, unless it is being asked already or too many are."""
        if address in self._under_way or len(self._under_way) >= PROBES_MAX:
            return
        thread = threading.Thread(target=self._ask, args=(address,), name="probe", daemon=True)
        self._under_way[address] = thread
        thread.start()

    def answers(self) -> list[tuple[Address, LinkCause | None]]:
        """What has been found out since; cause None: somebody listens after all."""
        found: list[tuple[Address, LinkCause | None]] = []
        while not self._answers.empty():
            address, cause = self._answers.get()
            self._under_way.pop(address, None)
            found.append((address, cause))
        return found

    def _ask(self, address: Address) -> None:
        cause: LinkCause | None = None
        try:
            host = address.host.strip("[]")
            socket.create_connection((host, address.port), PROBE_TIMEOUT_S).close()
        except ConnectionRefusedError:
            cause = LinkCause.REFUSED
        except (OSError, UnicodeError):  # UnicodeError: a host name that is none
            cause = LinkCause.SILENT
        self._answers.put((address, cause))
        self._answered()

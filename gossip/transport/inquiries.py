"""Questions to the operating system that may take seconds, asked beside the links.

ZeroMQ has one thread for all connections. It would look up host names in it, and does not say why
a dial fails. So each question has a short-lived thread of its own, and its answer is fetched by
the owner.
"""

from __future__ import annotations

import errno
import queue
import socket
import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from gossip.machine import LinkCause
from gossip.transport.addresses import Address

Question = TypeVar("Question", bound=Hashable)
Answer = TypeVar("Answer")

INQUIRIES_MAX = 8
"""Questions of one kind under way at once, unless the owner says otherwise; over it none is asked,
and the owner asks later."""

ANSWERED_MAX = 1000
"""Questions whose last answer's time is remembered."""

CONNECT_TIMEOUT_S = 2.0
"""No answer by then is silence; a refusal takes one round trip."""


class Inquiries(Generic[Question, Answer]):
    """Questions under way. One thread owns it; ``answered`` is called from another.

    ``ask`` runs in threads of their own and must not raise.
    """

    def __init__(
        self,
        ask: Callable[[Question], Answer],
        answered: Callable[[], None],
        most: int = INQUIRIES_MAX,
    ) -> None:
        self._ask = ask
        self._answered = answered
        self._most = most
        self._under_way: set[Question] = set()
        self._answered_at_s: dict[Question, float] = {}
        self._answers: queue.SimpleQueue[tuple[Question, Answer]] = queue.SimpleQueue()

    def start(self, question: Question, pause_s: float = 0.0) -> bool:
        """Ask, unless it is being asked already, or was answered less than ``pause_s`` ago. False
        when too many are under way."""
        if question in self._under_way:
            return True
        if time.monotonic() < self._answered_at_s.get(question, 0.0) + pause_s:
            return True
        if len(self._under_way) >= self._most:
            return False
        thread = threading.Thread(
            target=self._run, args=(question,), name=self._ask.__name__, daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no thread to be had: as if too many were under way
            return False
        self._under_way.add(question)
        return True

    def answers(self) -> list[tuple[Question, Answer]]:
        """What has been found out since."""
        found: list[tuple[Question, Answer]] = []
        while not self._answers.empty():
            question, answer = self._answers.get()
            self._under_way.discard(question)
            self._answered_at_s.pop(question, None)
            self._answered_at_s[question] = time.monotonic()
            if len(self._answered_at_s) > ANSWERED_MAX:
                del self._answered_at_s[next(iter(self._answered_at_s))]
            found.append((question, answer))
        return found

    def _run(self, question: Question) -> None:
        self._answers.put((question, self._ask(question)))
        self._answered()


def why_unreachable(address: Address) -> LinkCause | None:
    """Connect once to a numeric address: why that fails, None when it does not (or when it is this
    process that has run out of descriptors, which says nothing about the other side)."""
    try:
        socket.create_connection(
            (address.host.strip("[]"), address.port), CONNECT_TIMEOUT_S
        ).close()
    except ConnectionRefusedError:
        return LinkCause.REFUSED
    except OSError as wrong:
        return None if wrong.errno in (errno.EMFILE, errno.ENFILE) else LinkCause.SILENT
    return None


def resolve(host: str) -> tuple[str, ...]:
    """The IPv4 addresses of a host name, best first; none when it cannot be resolved."""
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError: a host name that is none
        return ()
    return tuple(str(address[0]) for *_, address in found)

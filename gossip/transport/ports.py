"""Whether a port is free, without the library that will use it."""

from __future__ import annotations

import errno
import socket

from gossip.errors import TransportError
from gossip.transport.addresses import Address, is_numeric


def check_free(where: Address) -> None:
    """Raise TransportError when somebody listens at this numeric address already.

    Anything else that is wrong with it is left to whoever opens it for good; so is a port that is
    taken in between.
    """
    if where.port == 0 or not is_numeric(where.host):
        return
    family = socket.AF_INET6 if where.host.startswith("[") else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        # As ZeroMQ does: connections of an earlier listener that still linger do not count.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((where.host.strip("[]"), where.port))
        except OSError as wrong:
            if wrong.errno == errno.EADDRINUSE:
                raise in_use(where) from wrong


def in_use(where: Address) -> TransportError:
    """The error for a port that another program has."""
    return TransportError(f"port {where.port} is in use ({where})")

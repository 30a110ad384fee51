"""Where a peer listens, and who may come in. Nothing here needs torch."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final

from gossip.errors import UsageError
from gossip.transport.addresses import read_address
from gossip.transport.keys import CurveKeys, load_run_key
from gossip.transport.ports import check_free

LISTEN: Final = "127.0.0.1:29700"
"""Where ``gossip run`` listens unless told otherwise."""

UNTOLD: Final = "127.0.0.1:0"
"""Where a peer listens that nobody can dial: there have to be sockets, but nobody is told."""


def entrance_keys(listen: str, key_file: Path | None, insecure: bool) -> CurveKeys | None:
    """The run's keys; None without a key file. Raises UsageError for a file that is no key, or
    when strangers would be let in and nobody said so."""
    keys = None if key_file is None else load_run_key(key_file)
    host = listen.rpartition(":")[0].strip("[]")
    if keys is None and not insecure and not is_loopback(host):
        raise UsageError(
            f"listening on {listen} lets strangers in: give --key FILE (make one with "
            "`gossip key FILE`, copy it to every peer) or say --insecure"
        )
    return keys


def check_ports(listen: str) -> None:
    """Raise TransportError when either port of this HOST:PORT is taken; bulk is the next one."""
    where = read_address(listen)
    if where is not None and 0 < where.port < 65535:
        check_free(where)
        check_free(where._replace(port=where.port + 1))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

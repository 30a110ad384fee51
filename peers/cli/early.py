"""What can be found wrong with ``gossip run`` before torch is loaded, which takes seconds.

Only what costs milliseconds to see. The real parser and the real sockets come later and look
again; what is wrong with a flag's form is theirs to say.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from gossip.errors import UsageError
from gossip.transport.addresses import read_address
from peers.entrance import LISTEN, UNTOLD, check_ports, entrance_keys


class _Unclear(Exception):
    """A flag that the real parser is to complain about."""


class _Glance(argparse.ArgumentParser):
    """Reads some flags, passes over all others, and never exits."""

    def error(self, message: str) -> NoReturn:
        raise _Unclear(message)


def check_run(words: Sequence[str]) -> None:
    """Raise UsageError or TransportError for an entrance that cannot work."""
    glance = _Glance(add_help=False, allow_abbrev=False)
    glance.add_argument("-h", "--help", action="store_true")
    glance.add_argument("--listen")
    glance.add_argument("--key", type=Path)
    glance.add_argument("--insecure", action="store_true")
    glance.add_argument("--dial-out", action="store_true")
    try:
        flags, _ = glance.parse_known_args(list(words))
    except _Unclear:
        return
    if flags.help:
        return
    check_dial_out(flags)
    listen = UNTOLD if flags.dial_out else flags.listen or LISTEN
    if read_address(listen) is None:
        return
    entrance_keys(listen, flags.key, flags.insecure)
    check_ports(listen)


def check_dial_out(flags: argparse.Namespace) -> None:
    """Raise UsageError where ``--dial-out`` and ``--listen`` contradict each other."""
    if flags.dial_out and flags.listen is not None:
        raise UsageError("--dial-out listens nowhere: leave out --listen")

"""HOST:PORT and routing ids: the two names of a peer that sockets know.

Both may come from strangers, so reading them never raises.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import NamedTuple

from gossip.errors import UsageError
from gossip.messages import PeerId

_ADDRESS = re.compile(
    r"(?P<host>[A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\]):(?P<port>[0-9]{1,5})"
)
_ROUTING = re.compile(
    rb"(?P<peer>[0-9a-f]{16}):(?P<boot>\d{1,20}):[0-9a-f]{16}(?P<hidden>:hidden)?"
)

WILDCARDS = ("0.0.0.0", "[::]", "*")
"""Listen hosts that mean every interface, and cannot be dialed."""


class Address(NamedTuple):
    """Where to dial or listen; an IPv6 host keeps its brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def read_address(text: str) -> Address | None:
    """The address ``text`` names, or None. Nothing but HOST:PORT passes, so that a neighbor
    cannot make us open another kind of endpoint."""
    match = _ADDRESS.fullmatch("0.0.0.0" + text[1:] if text.startswith("*:") else text)
    if match is None or int(match["port"]) > 65535:
        return None
    if match["host"].startswith("[") and not is_numeric(match["host"]):
        return None
    return Address(match["host"], int(match["port"]))


def is_numeric(host: str) -> bool:
    """Whether a host is an IPv4 address or one of IPv6 in brackets: nothing to be looked up."""
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host[1:-1])
        else:
            ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


class Caller(NamedTuple):
    """Who dialed, as its routing id says. ``hidden``: it cannot be dialed itself."""

    peer: PeerId
    boot: int
    hidden: bool = False


def routing_id(caller: Caller, nonce: bytes) -> bytes:
    """What a dialing socket calls itself. The nonce (8 random bytes) keeps strangers from taking
    over the route of a link they cannot see."""
    end = b":hidden" if caller.hidden else b""
    return b"%s:%d:%s%s" % (caller.peer.encode(), caller.boot, nonce.hex().encode(), end)


def read_routing_id(raw: bytes) -> Caller | None:
    """Who is behind a routing id, or None when it is none of ours."""
    match = _ROUTING.fullmatch(raw)
    if match is None:
        return None
    hidden = match["hidden"] is not None
    return Caller(PeerId(match["peer"].decode()), int(match["boot"]), hidden)


def outward_host() -> str:
    """This host's address on the interface that leads outward; 127.0.0.1 when there is none.

    Asks the routing table by connecting a datagram socket, which sends nothing (192.0.2.1 is
    reserved for documentation, RFC 5737).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        if probe.connect_ex(("192.0.2.1", 9)) != 0:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def listen_address(text: str) -> Address:
    """Where to listen; raises UsageError unless HOST:PORT with room for the bulk port."""
    address = read_address(text)
    if address is None:
        raise UsageError(f"not HOST:PORT: {text!r}")
    if address.port == 65535:
        raise UsageError("port 65535 leaves none for bulk, which listens one above")
    return address


def dialable_addresses(
    listening: Address, bulk_port: int, advertise: str | None
) -> tuple[Address, Address]:
    """Control and bulk address as others can dial them.

    ``advertise`` is HOST, or HOST:PORT where ports are mapped (bulk then one above it). Without
    it the listen host, or for a wildcard this host's outward address. Raises UsageError.
    """
    if advertise is None:
        host = outward_host() if listening.host in WILDCARDS else listening.host
        return Address(host, listening.port), Address(host, bulk_port)
    mapped = read_address(advertise)
    if mapped is not None and 0 < mapped.port < 65535:
        return mapped, mapped._replace(port=mapped.port + 1)
    named = read_address(f"{advertise}:{listening.port}")
    if named is None or mapped is not None:
        raise UsageError(f"cannot be dialed: {advertise!r}")
    return named, named._replace(port=bulk_port)

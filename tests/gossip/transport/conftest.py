"""Two linked transports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gossip.transport.transport import LinkOpened
from tests.gossip.transport.network import A, B, Peer, link, loopback, until


@pytest.fixture
def pair() -> Iterator[list[Peer]]:
    """A, which has dialed B, and B; the link is open."""
    with loopback(A, B) as peers:
        link(peers[0], peers[1], B)
        until(lambda: LinkOpened(B) in peers[0].events, *peers)
        yield peers

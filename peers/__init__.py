"""One peer: the protocol core meets clock, threads, disk and torch.

The public face is ``join``, ``Peer`` and ``PeerConfig``; they are imported when first asked for, so
that ``gossip --help`` need not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peers.peer import Peer, join
    from peers.settings import PeerConfig

__all__ = ["Peer", "PeerConfig", "join"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'peers' has no attribute {name!r}")
    from peers import peer, settings

    return getattr(settings if name == "PeerConfig" else peer, name)

"""One peer: the protocol core meets clock, threads, disk and torch."""

from __future__ import annotations

from peers.join import Peer, PeerConfig, join

__all__ = ["Peer", "PeerConfig", "join"]

"""Digests of blobs and their chunks (xxh3, 128 bits): the only importer of xxhash.

This is integrity against accidents (a torn buffer, a wrong offset), not authenticity: anybody can
make bytes with a given xxh3 digest. Links that need authenticity use CurveZMQ.
"""

from __future__ import annotations

from collections.abc import Sequence

import xxhash


def chunk_digest(buffer: bytes | bytearray | memoryview) -> bytes:
    """Sixteen bytes for the payload of one chunk; make it while the chunk is in cache."""
    return xxhash.xxh3_128_digest(buffer)


def blob_digest(digests: Sequence[bytes]) -> bytes:
    """Sixteen bytes for a blob: the digest of its chunks' digests, in order."""
    return xxhash.xxh3_128_digest(b"".join(digests))

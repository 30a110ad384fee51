"""Which code made a run: figures of different arithmetic are not to be compared unknowingly."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
TRAINING: Final = (
    "gossip/codecs",
    "gossip/mixing",
    "gossip/topology",
    "peers/tasks",
    *(
        f"simulations/compare/{name}.py"
        for name in (
            "arena",
            "attacks",
            "baselines",
            "conditions",
            "feed",
            "field",
            "gossiping",
            "graphs",
            "inner",
            "partners",
            "registry",
            "stack",
            "strategies",
            "swapping",
            "traced",
        )
    ),
)
"""What decides how a run ends, beside its settings."""


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Twelve hex digits of the source that trains; it changes with every edit of it."""
    digest = hashlib.blake2b(digest_size=6)
    for place in TRAINING:
        path = ROOT / place
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()

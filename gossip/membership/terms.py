"""What two peers must have in common before they may mix. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gossip.messages import Hello, RefusalReason, Refused, Segment, Welcome

DIGEST_BYTES_SHOWN: Final = 64
"""Most of a stranger's digest that is repeated in a sentence."""


@dataclass(frozen=True, slots=True)
class Terms:
    """One peer's model layout, and into how many fragments it cuts the vector."""

    layout_digest: bytes
    fragments: int = 1
    segments: tuple[Segment, ...] = ()

    def refusal(self, theirs: Hello | Welcome) -> Refused | None:
        """What to answer a peer that cannot mix with this one; None if it can."""
        if theirs.layout_digest != self.layout_digest:
            detail = (
                f"your model's layout is {theirs.layout_digest[:DIGEST_BYTES_SHOWN].hex()}, "
                f"mine is {self.layout_digest.hex()}"
            )
            return Refused(RefusalReason.LAYOUT, detail, self.segments)
        if theirs.fragments != self.fragments:
            detail = (
                f"your model is cut into {theirs.fragments} fragments, "
                f"mine into {self.fragments}: all peers of a run need the same number"
            )
            return Refused(RefusalReason.SETTINGS, detail)
        return None

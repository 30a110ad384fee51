"""What a peer says when it could not join: what happened, what it means, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gossip.errors import JoinError, LayoutMismatch, UsageError
from gossip.machine import LinkCause, TurnedAway
from gossip.messages import RefusalReason, Segment
from gossip.mixing.flat import first_difference

CONTACT_CAUSES = {
    LinkCause.CLOSED: "closed",
    LinkCause.REFUSED: "refused",
    LinkCause.SILENT: "silent",
    LinkCause.FROZEN: "accepts connections but says nothing",
}


def refusal(away: TurnedAway, mine: Sequence[Segment]) -> UsageError:
    """The error for a peer with these segments that was turned away for good."""
    by = away.by[:6]
    if away.reason is RefusalReason.SETTINGS:
        return UsageError(
            f"peer {by} turned this peer away and nothing was mixed. It says: {away.detail}"
        )
    what = first_difference(mine, away.segments) or away.detail
    return LayoutMismatch(
        f"peer {by} trains another model: {what}; nothing was mixed. Give both the same task and "
        "options, or another --run (`run=`) to this one"
    )


def no_model(
    run: str, tried: Sequence[str], failures: Mapping[str, str], met: bool, waited_s: float
) -> JoinError:
    """The error for a peer that waited in vain; ``failures``: of contacts, and why; ``met``: it
    knows of members."""
    contacts, waited = ", ".join(tried), f"{waited_s:g} s"
    if failures:
        whys = ", ".join(f"{each} ({why})" for each, why in failures.items())
        hint = "is a peer listening there, and with the same key?"
        return JoinError(f"no contact can be reached within {waited}: {whys}; {hint}")
    if met:
        return JoinError(
            f"the swarm at {contacts} was found but nobody gave its model within {waited}"
        )
    return JoinError(
        f"{contacts} accepts connections but did not answer within {waited}: "
        f"is it a peer of run {run!r}, with the same key and version?"
    )

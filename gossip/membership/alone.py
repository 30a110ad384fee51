"""A peer that only dials out, when all that watch it are gone: it stands in for the observers.

Such a peer watches nobody, since two of its kind could never link: it holds alive whom the others
do. Once those others are lost to it, nobody is left to say who is gone, and it would count on the
dead for ever. Then it accuses by itself those whose links it lost; it is one voice only, so each
suspect has the longest time, and all of it is void as soon as one of them is there again. When
nobody is left that can be dialed, those that only dialed out are out of reach with them, and are
judged in the same way.

What it says is evidence for nobody else, as it is no observer: who lives on the far side of a split
refutes it when the path heals (M24).
"""

from __future__ import annotations

from gossip.membership.view import View
from gossip.messages import PeerId, Seconds


def is_left_alone(view: View) -> bool:
    """Whether this peer only dials out, and nobody that it could dial is live in its view."""
    return not view.roster.me.control_address and not view.watch.neighbors


def stands_in(view: View, now: Seconds) -> bool:
    """Whether this peer only dials out, and everybody that watches it is certainly lost to it."""
    if view.roster.me.control_address:
        return False
    return all(_is_lost(view, peer, now) for peer in view.watch.neighbors)


def is_judge(view: View, peer: PeerId, now: Seconds) -> bool:
    """Whether it is for this peer to accuse a member: as an observer, or in place of them all."""
    return view.roster.me.peer in view.roster.observers(peer) or stands_in(view, now)


def out_of_reach(view: View) -> list[PeerId]:
    """Live members that nobody is left to hear of, and who are not on trial yet."""
    if not is_left_alone(view) or not view.roster.others:
        return []
    return [peer for peer in view.roster.live if view.suspicions.get(peer) is None]


def _is_lost(view: View, peer: PeerId, now: Seconds) -> bool:
    """Whether nothing gets through to a member, or it has said nothing for longer than the busy
    are waited for."""
    seen = view.sightings.of(peer)
    if seen is None:
        return False
    silent_s = 0.0 if seen.failing_since is None else now - seen.failing_since
    return seen.is_gone(now) or silent_s >= view.config.busy_max_s

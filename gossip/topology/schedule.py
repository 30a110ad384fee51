"""Whom to meet next.

``least_recent_partner`` needs no agreement and is the default: whoever was met longest ago brings
the most news. ``random_partner`` halves the disagreement each round at any N.
``one_peer_exponential`` needs a stable, agreed member list and gives the exact mean of 2^k members
in k rounds. ``matching`` and ``least_recent_matching`` pair everyone at once, for worlds that see
all members.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, MutableMapping, Sequence
from random import Random

from gossip.messages import PeerId


def random_partner(candidates: Sequence[PeerId], last: PeerId | None, rng: Random) -> PeerId | None:
    """A uniformly random candidate, but not ``last`` while there is another; None without any.

    ``candidates`` are without the caller and each at most once. One draw from ``rng`` a call.
    """
    if not candidates:
        return None
    if last is None or len(candidates) == 1 or last not in candidates:
        return candidates[rng.randrange(len(candidates))]
    skipped = candidates.index(last)
    drawn = rng.randrange(len(candidates) - 1)
    return candidates[drawn + 1 if drawn >= skipped else drawn]


def least_recent_partner(
    candidates: Sequence[PeerId], met: Mapping[PeerId, int], last: PeerId | None, rng: Random
) -> PeerId | None:
    """A random one of the candidates met longest ago, but not ``last`` while there is another.

    ``met`` tells when each was met last, as a rising number; who is missing in it was never met and
    comes first. ``candidates`` are without the caller and each at most once. One draw from ``rng``.

    Why: of N peers that all swap every round while each moves on its own, this leaves 25 %
    (N = 4), 14 % (8), 8 % (16), 4 % (32) less mean square disagreement than random partners
    (tests/gossip/topology holds it to that).
    """
    others = [peer for peer in candidates if peer != last]
    if not others:
        return random_partner(candidates, None, rng)
    longest_ago = min(met.get(peer, -1) for peer in others)
    stalest = [peer for peer in others if met.get(peer, -1) == longest_ago]
    return stalest[rng.randrange(len(stalest))]


def one_peer_exponential(
    members_sorted: Sequence[PeerId], me: PeerId, round_: int
) -> PeerId | None:
    """The partner of ``me`` in round ``round_``; None when it rests or has nobody.

    Symmetric: the partner's partner is ``me``. With N = 2^k members, position i meets
    i XOR 2^(round mod k), and averaging in pairs reaches the exact mean after any k rounds in a
    row that start at a multiple of k. For other N the largest power of two P < N meets that way
    and N - P rest; after each sweep of log2 P rounds the window moves on by N - P places, so
    that members rest in turn and never in two sweeps in a row.

    Source: Ying et al., "Exponential graph is provably efficient for decentralized deep
    training", NeurIPS 2021 (one-peer exponential graph, here in its hypercube form).
    """
    count = len(members_sorted)
    position = bisect_left(members_sorted, me)
    if count < 2 or position == count or members_sorted[position] != me:
        return None
    sweep_rounds = count.bit_length() - 1
    paired = 1 << sweep_rounds
    shift = (round_ // sweep_rounds) * (count - paired)
    place = (position - shift) % count
    if place >= paired:
        return None
    met = place ^ (1 << (round_ % sweep_rounds))
    return members_sorted[(met + shift) % count]


def matching(members: Sequence[PeerId], rng: Random) -> tuple[tuple[PeerId, PeerId], ...]:
    """A uniformly random pairing of all members; with an odd number one stays alone.

    Averaging in these pairs multiplies the expected squared disagreement of N (even) members by
    (N - 2) / (2 (N - 1)): just under a half.

    Source: Boyd et al., "Randomized gossip algorithms", IEEE Trans. Inf. Theory 52(6), 2006.
    """
    shuffled = list(members)
    rng.shuffle(shuffled)
    return tuple(zip(shuffled[0::2], shuffled[1::2], strict=False))


def least_recent_matching(
    members: Sequence[PeerId],
    met: MutableMapping[tuple[PeerId, PeerId], int],
    round_: int,
    rng: Random,
) -> tuple[tuple[PeerId, PeerId], ...]:
    """A pairing in which the members choose one after the other, in random order, whom of those
    still free they met longest ago; with an odd number one stays alone.

    Notes the meetings in ``met`` under both orders of the pair: what ``least_recent_partner``
    comes to when everyone swaps once a round.
    """
    free = list(members)
    rng.shuffle(free)
    pairs: list[tuple[PeerId, PeerId]] = []
    while len(free) > 1:
        chooser = free.pop()
        known = {peer: met[chooser, peer] for peer in free if (chooser, peer) in met}
        partner = least_recent_partner(free, known, None, rng)
        assert partner is not None, "somebody is free"
        free.remove(partner)
        met[chooser, partner] = met[partner, chooser] = round_
        pairs.append((chooser, partner))
    return tuple(pairs)

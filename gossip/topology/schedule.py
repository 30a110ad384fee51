"""Whom to meet next.

By default a peer meets its ``exponential_neighbors``, and of those whom it met longest ago
(``least_recent_partner``): that needs no agreement, and peers that keep step come to the exact mean
all the same. ``random_partner`` halves the disagreement each round at any N.
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
    candidates: Sequence[PeerId], met: Mapping[PeerId, int], rng: Random
) -> PeerId | None:
    """A random one of the candidates met longest ago; None without any.

    ``met`` tells when each was met last, as a rising number; who is missing in it was never met and
    comes first. ``candidates`` are without the caller and each at most once. One draw from ``rng``.

    Why: of N peers that all swap every round while each moves on its own, this leaves 25 %
    (N = 4), 14 % (8), 8 % (16), 4 % (32) less mean square disagreement than random partners
    (tests/gossip/topology holds it to that).
    """
    if not candidates:
        return None
    longest_ago = min(met.get(peer, -1) for peer in candidates)
    stalest = [peer for peer in candidates if met.get(peer, -1) == longest_ago]
    return stalest[rng.randrange(len(stalest))]


def exponential_neighbors(others_sorted: Sequence[PeerId], me: PeerId) -> list[PeerId]:
    """Those of ``others_sorted`` that are 1, 2, 4 ... places from ``me``, in this order.

    With ``me`` they are N members, in a ring. Of N = 2^k, position i has the neighbors i XOR 2^j
    for j < k; of other N those on both sides. Symmetric where all hold the same list. Where
    they do not for long, as where paths are cut, it takes others than neighbors now and then
    (``Turns``) for all to mix.

    Why: whom a neighbor met since I met it are others than those I met, so what the two of us
    hold has little in common. Of N peers that do not wait while each moves on its own, in the
    same direction for some twenty steps as optimizers do, this leaves 4 % (N = 6), 3 % (8), 5 %
    (12), 6 % (16, 32) less mean square disagreement than meeting everybody in turn (3, 4, 5, 7: as
    much), and that 30 to 10 % less than chance (tests/gossip/topology holds it to that). Of those
    that keep step, 11 % (8) and 15 % (16). In large groups there are few to keep links to.

    Source: Ying et al., "Exponential graph is provably efficient for decentralized deep
    training", NeurIPS 2021 (static exponential graph; its hypercube for N = 2^k).
    """
    count = len(others_sorted) + 1
    place = bisect_left(others_sorted, me)
    distances = [1 << j for j in range((count - 1).bit_length())]
    if count & (count - 1):
        places = [at % count for each in distances for at in (place + each, place - each)]
    else:
        places = [place ^ each for each in distances]
    # Places are those of all members: beyond mine, the others' are one less.
    return [others_sorted[at - (at > place)] for at in dict.fromkeys(places)]


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
    neighbors: Mapping[PeerId, Sequence[PeerId]] | None = None,
) -> tuple[tuple[PeerId, PeerId], ...]:
    """A pairing in which the members choose one after the other, in random order, whom of those
    still free they met longest ago; with an odd number one stays alone.

    With ``neighbors`` they choose among their own only, the nearest of those met equally long ago;
    who finds none of them free stays alone.

    Notes the meetings in ``met`` under both orders of the pair: what ``least_recent_partner``
    comes to when everyone swaps once a round.
    """
    free = list(members)
    rng.shuffle(free)
    pairs: list[tuple[PeerId, PeerId]] = []
    while len(free) > 1:
        chooser = free.pop()
        if neighbors is None:
            known = {peer: met[chooser, peer] for peer in free if (chooser, peer) in met}
            partner = least_recent_partner(free, known, rng)
        else:
            among = {n: met.get((chooser, n), -1) for n in neighbors[chooser] if n in free}
            partner = min(among, key=among.__getitem__, default=None)
        if partner is None:
            continue
        free.remove(partner)
        met[chooser, partner] = met[partner, chooser] = round_
        pairs.append((chooser, partner))
    return tuple(pairs)

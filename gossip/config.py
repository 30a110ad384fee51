"""Every knob of the protocol: frozen, validated once, relations stated, units in the names.

Sources: membership defaults from SWIM (Das et al., DSN 2002), Lifeguard (Dadgar et al., 2017) and
Rapid (Suresh et al., ATC 2018: fixed observers, several accusers) as weighed for ZeroMQ links that
share the trainer's process; swap defaults measured in a pilot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum

from gossip.errors import UsageError
from gossip.messages import CHUNK_BYTES_MAX, Segment


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise UsageError(text)


@dataclass(frozen=True, slots=True)
class MembershipConfig:
    """Who is here. The defaults fit peers spread over the world, and those in one building.

    observers               K: so many watch each peer (even; two on each of K / 2 rings).
    fellows_asked           fellow observers asked to probe who does not answer.
    accusers                q: so many observers must agree before a peer is down; see ``quorum``.
    probe_interval_s        each watched pair exchanges a sign of life this often.
    probe_timeout_min_s     an answer is late after an estimate from earlier round trips, at
    probe_timeout_max_s     least the first and at most the second.
    suspicion_min_s         floor of the doubt; covers seconds of a starved trainer process.
    suspicion_max_factor    with too few accusers the doubt lasts up to this many times longer.
    busy_max_s              a silent peer whose link lives is not accused before this.
    contested_s             a verdict about a peer just heard from waits so long for its refutation.
    gossip_interval_s       news is sent this often while there is news.
    gossip_fanout           to this many watch neighbors each time, in turn.
    transmissions_factor    each claim is sent at most this many times ceil(log10(N + 1)); where
                            some peers only dial out, or once to each neighbor.
    sync_interval_s         digests are compared with one watch neighbor; repairs what gossip lost.
    probe_down_interval_s   one random down member is greeted again, so that splits heal.
    tombstone_s             a down or left record is remembered this long.
    flap_half_life_s        each return from down counts one; the count halves this often.
    flaps_max               who has returned more often than this gets no new shards for a while.
    links_max               in groups of up to this size everyone keeps a link to everyone; in
                            larger ones, to watch neighbors and to the latest swap partners.
    join_retry_s            contacts are greeted this often until one answers.
    found_after_s           with contacts but nobody who has a model: the lowest id founds.
    members_max             more records than this are refused (bounds memory).
    """

    observers: int = 8
    fellows_asked: int = 3
    accusers: int = 3
    probe_interval_s: float = 2.0
    probe_timeout_min_s: float = 1.0
    probe_timeout_max_s: float = 3.0
    suspicion_min_s: float = 5.3
    suspicion_max_factor: float = 5.0
    busy_max_s: float = 120.0
    contested_s: float = 2.0
    gossip_interval_s: float = 0.5
    gossip_fanout: int = 4
    transmissions_factor: int = 4
    sync_interval_s: float = 30.0
    probe_down_interval_s: float = 30.0
    tombstone_s: float = 24 * 3600.0
    flap_half_life_s: float = 600.0
    flaps_max: float = 3.0
    links_max: int = 64
    join_retry_s: float = 1.0
    found_after_s: float = 3.0
    members_max: int = 100_000

    def __post_init__(self) -> None:
        _require(
            self.observers >= 2 and self.observers % 2 == 0, "observers must be even, at least 2"
        )
        _require(self.fellows_asked >= 0, "fellows_asked must not be negative")
        _require(
            1 <= self.accusers <= self.observers,
            "accusers must be from 1 to as many as observers",
        )
        _require(self.probe_interval_s > 0, "probe_interval_s must be above 0")
        _require(
            0 < self.probe_timeout_min_s <= self.probe_timeout_max_s,
            "probe_timeout_min_s must be above 0 and at most probe_timeout_max_s",
        )
        _require(self.suspicion_min_s > 0, "suspicion_min_s must be above 0")
        _require(self.suspicion_max_factor >= 1, "suspicion_max_factor must be at least 1")
        _require(self.busy_max_s > 0, "busy_max_s must be above 0")
        _require(self.gossip_interval_s > 0, "gossip_interval_s must be above 0")
        _require(self.gossip_fanout >= 1, "gossip_fanout must be at least 1")
        _require(self.flap_half_life_s > 0, "flap_half_life_s must be above 0")
        _require(
            self.links_max >= 2 * self.observers, "links_max must be at least twice the observers"
        )
        _require(self.members_max >= 2, "members_max must be at least 2")

    def suspicion_s(self, members: int) -> float:
        """How long to doubt, with enough accusers, before saying down in a group of ``members``.

        1.5 ceil(log2(N + 1)) gossip rounds must fit in, so that a refutation can win the race
        (rounds of 0.5 s, as on a wide network): 5.3, 7.5, 10.5 s for 100, 1,000, 10,000.
        """
        spread_s = 1.5 * math.ceil(math.log2(members + 1)) * 0.5
        return max(self.suspicion_min_s, spread_s)

    def quorum(self, observers_alive: int) -> int:
        """How many observers must accuse a peer that so many live ones watch.

        A minority of starved or cut-off observers cannot bury anybody; the last one left can.
        """
        return max(1, min(self.accusers, math.ceil(observers_alive / 2)))


class Partners(IntEnum):
    """Whom a peer opens its next swap with: of its neighbors in the exponential graph whoever it
    met longest ago, of all whoever it met longest ago, or anybody."""

    LEAST_RECENT = 0
    RANDOM = 1
    EXPONENTIAL = 2


@dataclass(frozen=True, slots=True)
class ExchangeConfig:
    """How a swap crosses.

    codec, reply_codec   names from gossip.codecs for the offer and the reply leg; ``check_pair``
                         there says which go together. About four bits a value each way: what
                         comparisons found to train as well as fp32 at an eighth of the bytes.
    dither               round at random, up or down in proportion, where a codec can: right on
                         average, but noisier than to the nearest.
    finish_codec         for both legs of swaps started while finishing, where agreement counts more
                         than bytes; empty: as ``codec`` and ``reply_codec``.
    fragments            round-robin slices of the vector; each may have one open swap.
    partners             whom the next swap is opened with (gossip/topology/schedule.py).
    weight               w: both sides move this share of the correction; 1/2 meets in the middle.
    window_bytes         pulled but not yet arrived, per transfer, at first; at least one chunk.
    window_max_bytes     where the link is so fast that a window arrives in a moment, up to this.
    upload_bytes_per_s   token bucket over all chunks sent (inf: no limit); a chunk of 1 MiB must
                         take at most half of withdraw_after_s.
    retry_s              an unanswered message is repeated this often; a Want for a long chunk less
                         and less often.
    withdraw_after_s     an offer with no Reply, or a pull with no chunk, is given up after this; a
                         pull from a slow holder later (exchange/patience.py).
    park_after_s         a Reply with no Want or Done frees its fragment after this (its outcome is
                         still awaited); must not be smaller than retry_s.
    forget_after_s       a parked Reply with no Done is counted one-sided after this.
    backoff_s            after Busy: a random wait up to this, then another partner.
    outcomes_kept        recorded outcomes of own exchanges, for repeated Replies.
    parked_max           parked Replies kept, each with its correction's bytes for a refund; over
                         it the oldest is counted one-sided.
    blob_bytes_max       no blob above this is ever reserved.
    donations_max        snapshots served at once; further Adopts are answered Busy. A newcomer
                         that says nothing holds its place for six times withdraw_after_s.
    attempts_max         partners tried for one due swap before waiting for the next.
    """

    codec: str = "wrap4"
    reply_codec: str = "int4"
    dither: bool = False
    finish_codec: str = ""
    fragments: int = 1
    partners: Partners = Partners.EXPONENTIAL
    weight: float = 0.5
    window_bytes: int = 8 << 20
    window_max_bytes: int = 64 << 20
    upload_bytes_per_s: float = math.inf
    retry_s: float = 0.5
    withdraw_after_s: float = 10.0
    park_after_s: float = 3.0
    forget_after_s: float = 60.0
    backoff_s: float = 0.1
    outcomes_kept: int = 1024
    parked_max: int = 8
    blob_bytes_max: int = 1 << 34
    donations_max: int = 4
    attempts_max: int = 3

    def __post_init__(self) -> None:
        _require(self.fragments >= 1, "fragments must be at least 1")
        _require(0 < self.weight <= 0.5, "weight must be above 0 and at most 1/2")
        _require(self.retry_s > 0, "retry_s must be above 0")
        _require(self.withdraw_after_s > 0, "withdraw_after_s must be above 0")
        # A receiver gives up after withdraw_after_s without a chunk: two must fit in.
        slowest = math.ceil(2 * CHUNK_BYTES_MAX / self.withdraw_after_s)
        _require(
            self.upload_bytes_per_s >= slowest,
            f"upload_bytes_per_s must be at least {slowest:,} (a chunk of 1 MiB within half of "
            f"withdraw_after_s, {self.withdraw_after_s:g} s), not {self.upload_bytes_per_s:,.0f}",
        )
        _require(self.park_after_s >= self.retry_s, "park_after_s must not be below retry_s")
        _require(self.window_bytes >= 1 << 20, "window_bytes must be at least one chunk (1 MiB)")
        _require(
            self.window_max_bytes >= self.window_bytes,
            "window_max_bytes must not be below window_bytes",
        )


@dataclass(frozen=True, slots=True)
class FinishConfig:
    """When finalise() ends: after ceil(log2 N) + extra_swaps swaps, the last extra_swaps of which
    showed no difference (exchange/finish.py), or deadline_s at the latest.

    linger_s        a finished peer goes on answering until all are finished, at most this long.
    leave_grace_s   a leaving peer waits this long for outcomes of swaps it has moved for.
    """

    extra_swaps: int = 3
    deadline_s: float = 20.0
    linger_s: float = 5.0
    leave_grace_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Layout:
    """The flat vector's shape as both sides must agree on it: digest and named segments."""

    digest: bytes
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """All knobs of one peer's protocol core."""

    run: str = "default"
    membership: MembershipConfig = field(default_factory=MembershipConfig)
    exchange: ExchangeConfig = field(default_factory=ExchangeConfig)
    finish: FinishConfig = field(default_factory=FinishConfig)

    def __post_init__(self) -> None:
        _require(0 < len(self.run) <= 100, "the run's name must have 1 to 100 characters")

"""One peer's view of the group, and what follows when a claim changes it.

A claim that wins over what is known is news, is told to the owner, and opens or closes links,
trials and tombstones. Who may claim what is decided in ``claims`` and ``judgment``.

Invariants: every tombstone has an end, and is passed on only for a while, so that peers that
forget, or join, at different times come to hold the same; notices to one peer are
``NOTICE_SPACING_S`` apart unless its record changes; trials and private verdicts are about live
members only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gossip.config import MembershipConfig
from gossip.deadlines import ManyDeadlines
from gossip.machine import Effect, Fault, MemberChanged, Reach, ReachChanged, Send, Tell
from gossip.membership.account import Account
from gossip.membership.flaps import Flaps
from gossip.membership.known import Known
from gossip.membership.myself import Myself
from gossip.membership.probe import Prober
from gossip.membership.records import evidence_flaw
from gossip.membership.roster import Roster
from gossip.membership.roundtrip import RoundTrips
from gossip.membership.rumors import News
from gossip.membership.sightings import Sighting, Sightings
from gossip.membership.suspicion import Suspicions
from gossip.membership.verdicts import Verdicts
from gossip.membership.watch import Watch
from gossip.messages import (
    Evidence,
    Gossip,
    Notice,
    PeerId,
    Record,
    Rumors,
    Seconds,
    Status,
)

WELCOME_CLAIMS_MAX: Final = 12_000
"""Records, and accounts, in a Welcome: about 3 MB together, below the limit of a frame."""

TOLD_INTERVALS: Final = 5
"""For so many comparisons a tombstone is passed on; by then everybody has it, and it is kept only
against stale claims."""

NOTICE_SPACING_S: Final = 0.5
"""A peer is told what is held about it at most this often."""


class View:
    """Records, accounts, trials and sightings of one peer."""

    __slots__ = (
        "_config",
        "_noticed_at",
        "_reach",
        "_reachable",
        "account",
        "addresses_changed",
        "config",
        "flaps",
        "is_welcomed",
        "myself",
        "news",
        "owed",
        "prober",
        "roster",
        "sightings",
        "suspicions",
        "told",
        "tombstones",
        "trips",
        "verdicts",
        "watch",
    )

    def __init__(self, me: Record, config: MembershipConfig, known: Known | None) -> None:
        ground = None if known is None else known.ground
        self.roster = Roster(me, config.members_max, config.observers, ground)
        self.account = Account(config.members_max, None if known is None else known.accounts)
        self.myself = Myself(self.roster, self.account)
        self.news = News(config.transmissions_factor)
        self.sightings = Sightings()
        self.watch = Watch(self.roster, config, self.sightings)
        self.suspicions = Suspicions()
        self.flaps = Flaps(config.flap_half_life_s, config.flaps_max)
        self._reach: dict[PeerId, Reach] = {}
        self.verdicts = Verdicts(self.roster, config, self.flaps, self.sightings)
        self.trips = RoundTrips(config.probe_timeout_min_s, config.probe_timeout_max_s)
        self.prober = Prober(self.trips)
        self.tombstones: ManyDeadlines[PeerId] = ManyDeadlines()
        self.told: ManyDeadlines[PeerId] = ManyDeadlines()
        self.addresses_changed = False
        self.is_welcomed = False
        """Whether anybody has welcomed me; to be written by ``rounds`` alone."""
        self.config = self._config = config
        self._reachable: list[PeerId] | None = None
        # Peers owed a Notice; True where even an ALIVE record of ours is worth one.
        self.owed: dict[PeerId, bool] = {}
        self._noticed_at: dict[PeerId, Seconds] = {}

    # ---------------------------------------------------------------- private verdicts

    def reachable(self) -> list[PeerId]:
        """Live members that this peer thinks it gets through to; sorted."""
        if self._reachable is None:
            self._reachable = [peer for peer in self.roster.live if self.is_reachable(peer)]
        return list(self._reachable)

    def is_reachable(self, peer: PeerId) -> bool:
        """Whether a swap with a live member is worth a try.

        One that cannot be dialed has to have dialed me, as those do that want to swap.
        """
        if peer in self._reach:
            return False
        record = self.roster.get(peer)
        if record is None or record.control_address:
            return True
        return self.sightings.of(peer) is not None

    def meet(self, peer: PeerId) -> Sighting:
        """What was seen of a peer, to be written; the first word of one may make it reachable."""
        if self.sightings.of(peer) is None:
            self._reachable = None
        return self.sightings.at(peer)

    def look_again(self, peer: PeerId, why: str) -> list[Effect]:
        """Something was seen of a member: report a private verdict that changed."""
        reach = self.sightings.reach(peer)
        if not self.roster.is_live(peer) or self._reach.get(peer, Reach.OPEN) == reach:
            return []
        self._reachable = None
        if reach == Reach.OPEN:
            del self._reach[peer]
        else:
            self._reach[peer] = reach
        return [Tell(ReachChanged(peer, reach, why))]

    # ---------------------------------------------------------------- claims

    def take_many(self, new: Sequence[Record]) -> list[Record]:
        """Take live records of peers not known yet, as far as there is room; those taken."""
        taken = self.roster.take_many(new)
        self.addresses_changed = True
        self._reachable = None
        self.watch.everybody_came()
        return taken

    def take(
        self,
        record: Record,
        why: str,
        now: Seconds,
        spread: bool = True,
        evidence: Evidence | None = None,
    ) -> list[Effect]:
        """Merge one sound claim about another member; nothing without room for it."""
        peer = record.peer
        before = self.roster.get(peer)
        if not self.roster.has_room(peer) or not self.roster.put(record):
            self.verdicts.settle_by(record)
            return []
        is_down = record.status == Status.DOWN
        sound = is_down and evidence is not None and evidence_flaw(evidence) is None
        kept = evidence if sound else None
        if spread:
            self.news.add_record(record, kept)
        self._noticed_at.pop(peer, None)
        self.suspicions.clear(peer)
        self.verdicts.settle_by(record)
        was_live = before is not None and before.status < Status.DOWN
        effects: list[Effect] = [Tell(MemberChanged(record, why))]
        if record.status < Status.DOWN:
            self.verdicts.forget(peer)
            effects += self._is_here(before, was_live, record, now)
        else:
            if kept is not None:
                self.verdicts.believe(kept)
            effects += self._is_gone(was_live, record, now)
        # In a large group only the addresses of watch neighbors are kept.
        self.addresses_changed |= self.watch.is_old or self.watch.dial_all()
        return effects

    def _is_here(
        self, before: Record | None, was_live: bool, record: Record, now: Seconds
    ) -> list[Effect]:
        peer = record.peer
        effects: list[Effect] = []
        self.tombstones.clear(peer)
        self.told.clear(peer)
        if before is not None and before.status == Status.DOWN:
            same_life = before.boot == record.boot
            self.flaps.returned(peer, now, self.roster.others + 1, same_life)
        anew = before is not None and before.boot < record.boot
        if anew and self.sightings.begins_anew(peer):
            effects = self.look_again(peer, "a new life")
        if not was_live:
            self._reachable = None
            self.watch.member_came(peer)
        elif before is not None and _reached_at(before) == _reached_at(record):
            return effects
        elif before is not None and bool(before.control_address) != bool(record.control_address):
            self.watch.everybody_came()  # who watches whom depends on who can be dialed
        # Dialing a link that is there already changes nothing, so a restart is dialed as well.
        wanted = self.watch.dial_all() or self.watch.is_dialed(peer)
        return [*effects, *self.watch.dial(peer)] if wanted else effects

    def _is_gone(self, was_live: bool, record: Record, now: Seconds) -> list[Effect]:
        peer = record.peer
        self.prober.forget(peer)
        self.sightings.went(peer, bool(record.control_address))
        self.trips.forget(peer)
        self._reach.pop(peer, None)
        self.tombstones.set(peer, now + self._config.tombstone_s)
        self.told.set(peer, now + TOLD_INTERVALS * self._config.sync_interval_s)
        if not was_live:
            return []
        self._reachable = None
        self.watch.member_went(peer)
        return self.watch.give_up(peer)

    def refute(self, sender: PeerId, boot: int, incarnation: int) -> list[Effect]:
        """Rise above a wrong claim about me, tell who made it, and make it news."""
        if not self.myself.rise_above(boot, incarnation):
            detail = f"claims boot {boot}, incarnation {incarnation} of me: out of range"
            return [Tell(Fault(sender, "identity", detail))]
        self.news.add_record(self.roster.me)
        self.news.add_progress(self.myself.progress)
        return [Send(sender, self.about_me())]

    # ---------------------------------------------------------------- what to tell others

    def about_me(self) -> Gossip:
        """My own claims, to be told directly."""
        return Gossip(Rumors((self.roster.me,), (self.myself.progress,)))

    def with_evidence(self, records: tuple[Record, ...]) -> Rumors:
        """Records and what they stand on."""
        return Rumors(records, (), self.verdicts.evidence_of(records))

    def everything(self) -> Rumors:
        """All claims worth passing on, as far as one message goes; comparisons tell the rest."""
        records = self.roster.shared()[:WELCOME_CLAIMS_MAX]
        accounts = self.account.all(WELCOME_CLAIMS_MAX)
        return Rumors(records, accounts, self.verdicts.evidence_of(records))

    def some_news(self, copies: int) -> Rumors:
        """What to send to so many peers now."""
        watch = self.watch
        return self.news.take(self.roster.others + 1, len(watch.neighbors), watch.hidden, copies)

    def bury(self, now: Seconds) -> None:
        """Forget the members whose tombstones have stood long enough."""
        for peer in self.told.due(now):
            self.roster.retire(peer)
        for peer in self.tombstones.due(now):
            self.roster.forget(peer)
            self.verdicts.forget(peer)
            self.sightings.forget(peer)
            self._noticed_at.pop(peer, None)

    # ---------------------------------------------------------------- notices

    def owe_notice(self, peer: PeerId, now: Seconds, even_alive: bool = False) -> None:
        """Tell the peer soon what is held about it, unless it was told just now."""
        last_at = self._noticed_at.get(peer)
        if last_at is None or now - last_at >= NOTICE_SPACING_S:
            self._noticed_at[peer] = now
            self.owed[peer] = even_alive

    def notices(self) -> list[Effect]:
        """The notices owed; a suspicion refuted in the meantime needs none."""
        owed, self.owed = self.owed, {}
        effects: list[Effect] = []
        for peer, even_alive in owed.items():
            record = self._held_about(peer)
            if record is not None and (even_alive or record.status != Status.ALIVE):
                effects.append(Send(peer, Notice(record)))
        return effects

    def _held_about(self, peer: PeerId) -> Record | None:
        """The worst that is said of a peer here: a verdict that waits, a trial, or the record."""
        trial, claim = self.suspicions.get(peer), self.verdicts.waiting_about(peer)
        said = (
            self.roster.get(peer),
            None if trial is None else trial.suspect,
            None if claim is None else claim.record,
        )
        return max((each for each in said if each), key=lambda each: each.key, default=None)


def _reached_at(record: Record) -> tuple[int, str, str]:
    """What a link depends on: the life and the addresses."""
    return (record.boot, record.control_address, record.bulk_address)

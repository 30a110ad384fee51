"""One peer's view of the group, and what follows when a claim changes it.

A claim that wins over what is known is news, is told to the owner, and opens or closes links,
doubts and tombstones. A claim about myself that I did not make is refuted.

Invariants: ``reachable`` is a part of ``roster.live``; every suspect has a doubt that ends, every
tombstone an end; notices to one peer are ``spacing_s`` apart unless its record changes.
"""

from __future__ import annotations

from gossip.config import MembershipConfig
from gossip.deadlines import Deadlines
from gossip.machine import Dial, Effect, Fault, Hangup, MemberChanged, Send, Tell
from gossip.membership.myself import Myself
from gossip.membership.probe import Prober
from gossip.membership.records import (
    COUNT_MAX,
    Account,
    Roster,
    progress_flaw,
    record_flaw,
)
from gossip.membership.rumors import CLAIMS_PER_MESSAGE, News
from gossip.membership.suspicion import Suspicions
from gossip.messages import (
    Gossip,
    Notice,
    PeerId,
    Progress,
    Record,
    Rumors,
    Seconds,
    Status,
)


class View:
    """Records, accounts, doubts and lost links of one peer."""

    def __init__(self, me: Record, config: MembershipConfig, prober: Prober) -> None:
        self.roster = Roster(me, config.members_max)
        self.account = Account(config.members_max)
        self.myself = Myself(self.roster, self.account)
        self.news = News(config.transmissions_factor)
        self.suspicions = Suspicions(config.probe_timeout_s)
        self.tombstones: Deadlines[PeerId] = Deadlines()
        self.addresses_changed = False
        self._config = config
        self._prober = prober
        # Lost links, each with the number of the last probe sent before it was lost.
        self._lost: dict[PeerId, int] = {}
        self._reachable: list[PeerId] | None = None
        # Peers owed a Notice; True where even an ALIVE record of ours is worth one.
        self._owed: dict[PeerId, bool] = {}
        self._noticed_at: dict[PeerId, Seconds] = {}

    # ---------------------------------------------------------------- links

    def is_live(self, peer: PeerId) -> bool:
        """Alive or suspect, and not me."""
        record = self.roster.get(peer)
        return record is not None and record.status < Status.DOWN and peer != self.roster.me.peer

    def reachable(self) -> list[PeerId]:
        """Alive, not suspect, link not lost; sorted."""
        if self._reachable is None:
            self._reachable = [peer for peer in self.roster.live if self._is_reachable(peer)]
        return list(self._reachable)

    def _is_reachable(self, peer: PeerId) -> bool:
        record = self.roster.get(peer)
        alive = record is not None and record.status == Status.ALIVE
        return alive and peer not in self._lost

    def lose_link(self, peer: PeerId) -> None:
        """Only an answer to a later probe, or a new link, makes the peer reachable again."""
        self._lost[peer] = self._prober.last_number
        self._reachable = None

    def restore_link(self, peer: PeerId) -> None:
        """A new link is there."""
        self._lost.pop(peer, None)
        self._reachable = None

    def probe_answered(self, peer: PeerId, number: int) -> None:
        """An Ack shows that the link carries both ways, if its probe went out after the loss."""
        if self._lost.get(peer, number) < number <= self._prober.last_number:
            self.restore_link(peer)

    # ---------------------------------------------------------------- claims

    def learn(
        self, sender: PeerId, rumors: Rumors, why: str, now: Seconds, spread: bool = True
    ) -> list[Effect]:
        """Merge claims; at most one Fault a message, however many of them are flawed.

        Who doubts a member that is known to have refuted or left is told so, before its doubt
        ends in a false verdict.
        """
        effects: list[Effect] = []
        corrections: list[Record] = []
        faults: list[tuple[str, str]] = []
        me = self.roster.me.peer
        for record in rumors.records:
            flaw = record_flaw(record)
            if flaw is not None:
                faults.append(("rumor", flaw))
            elif record.peer == me:
                if self.myself.contradicted_by(record):
                    effects += self.refute(sender, record.boot, record.incarnation)
            elif not self.roster.has_room(record.peer):
                faults.append(("limit", f"no room for {record.peer}"))
            else:
                effects += self.take(record, why, now, spread)
                known = self.roster.get(record.peer)
                if known is None or known.key <= record.key:
                    continue
                if record.peer == sender:
                    self.owe_notice(sender, now, even_alive=True)
                elif record.status == Status.SUSPECT:
                    corrections.append(known)
        for progress in rumors.progress:
            flaw = progress_flaw(progress)
            if flaw is not None:
                faults.append(("rumor", flaw))
                continue
            if progress.peer == me and self.myself.contradicted_by_progress(progress):
                effects += self.refute(sender, progress.boot, COUNT_MAX)
            if not self._count(progress, spread):
                faults.append(("limit", f"no room for the progress of {progress.peer}"))
        if corrections:
            told = Rumors(tuple(corrections[:CLAIMS_PER_MESSAGE]))
            effects.append(Send(sender, Gossip(told)))
        if faults:
            kind, detail = faults[0]
            more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
            effects.append(Tell(Fault(sender, kind, detail + more)))
        return effects

    def _count(self, progress: Progress, spread: bool) -> bool:
        """Merge one account; False when there is no room for it."""
        if not self.account.has_room(progress):
            return False
        won = self.account.put(progress)
        # An older boot must not push the newer one out of the news; Sync carries it.
        if won and spread and self.account.newest(progress.peer) == progress:
            self.news.add_progress(progress)
        return True

    def take(self, record: Record, why: str, now: Seconds, spread: bool = True) -> list[Effect]:
        """Merge one sound claim about another member, for whom there is room."""
        before = self.roster.get(record.peer)
        if not self.roster.put(record):
            return []
        if spread:
            self.news.add_record(record)
        self._reachable = None
        self._noticed_at.pop(record.peer, None)
        self.addresses_changed = True
        effects: list[Effect] = [Tell(MemberChanged(record, why))]
        was_live = before is not None and before.status < Status.DOWN
        if record.status < Status.DOWN:
            return effects + self._is_here(before if was_live else None, record, now)
        return effects + self._is_gone(was_live, record, now)

    def _is_here(self, before: Record | None, record: Record, now: Seconds) -> list[Effect]:
        """``before`` is None when the peer was not live until now."""
        peer = record.peer
        self.tombstones.clear(peer)
        if before is None:
            self._prober.add(peer)
        if record.status == Status.SUSPECT and not self.myself.has_left:
            members = len(self.roster.live) + 1
            self.suspicions.start(record, now, self._config.suspicion_s(members))
        else:
            self.suspicions.clear(peer)
        # Dialing a link that is there already changes nothing, so a restart is dialed as well.
        if before is not None and _reached_at(before) == _reached_at(record):
            return []
        if not record.control_address:
            return []
        return [Dial(peer, record.control_address, record.bulk_address)]

    def _is_gone(self, was_live: bool, record: Record, now: Seconds) -> list[Effect]:
        peer = record.peer
        self.suspicions.clear(peer)
        self._prober.forget(peer)
        self._lost.pop(peer, None)
        self.tombstones.set(peer, now + self._config.tombstone_s)
        return [Hangup(peer)] if was_live else []

    def refute(self, sender: PeerId, boot: int, incarnation: int) -> list[Effect]:
        """Rise above a wrong claim about me, tell who made it, and make it news."""
        if not self.myself.rise_above(boot, incarnation):
            detail = f"claims boot {boot}, incarnation {incarnation} of me: out of range"
            return [Tell(Fault(sender, "identity", detail))]
        self.news.add_record(self.roster.me)
        self.news.add_progress(self.myself.progress)
        return [Send(sender, self.about_me())]

    def about_me(self) -> Gossip:
        """My own claims, to be told directly."""
        return Gossip(Rumors((self.roster.me,), (self.myself.progress,)))

    def everything(self) -> Rumors:
        """All claims worth passing on."""
        return Rumors(self.roster.shared(), self.account.all())

    def some_news(self) -> Rumors:
        """What rides on one message now."""
        return self.news.take(len(self.roster.live) + 1)

    def bury(self, now: Seconds) -> None:
        """Forget the members whose tombstones have stood long enough."""
        for peer in self.tombstones.due(now):
            self.roster.forget(peer)
            self._noticed_at.pop(peer, None)

    # ---------------------------------------------------------------- notices

    def owe_notice(self, peer: PeerId, now: Seconds, even_alive: bool = False) -> None:
        """Tell the peer soon what is held about it, unless it was told just now."""
        last_at = self._noticed_at.get(peer)
        if last_at is None or now - last_at >= self._config.probe_timeout_s:
            self._noticed_at[peer] = now
            self._owed[peer] = even_alive

    @property
    def owes_notices(self) -> bool:
        """Whether ``notices`` has something to send."""
        return bool(self._owed)

    def notices(self) -> list[Effect]:
        """The notices owed; a suspicion refuted in the meantime needs none."""
        owed, self._owed = self._owed, {}
        effects: list[Effect] = []
        for peer, even_alive in owed.items():
            record = self.roster.get(peer)
            if record is not None and (even_alive or record.status != Status.ALIVE):
                effects.append(Send(peer, Notice(record)))
        return effects


def _reached_at(record: Record) -> tuple[int, str, str]:
    """What a link depends on: the life and the addresses."""
    return (record.boot, record.control_address, record.bulk_address)

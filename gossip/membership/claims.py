"""Hearing claims: what one message says about members is merged, judged, refuted or corrected."""

from __future__ import annotations

from gossip.machine import Effect, Fault, MemberChanged, Send, Tell
from gossip.membership.judgment import Judgment
from gossip.membership.records import COUNT_MAX, merge, progress_flaw, record_flaw
from gossip.membership.roster import CHANGES_MAX
from gossip.membership.rumors import CLAIMS_PER_MESSAGE
from gossip.membership.view import View
from gossip.messages import Evidence, Gossip, PeerId, Progress, Record, Rumors, Seconds, Status


class Claims:
    """Takes what others say into one peer's view."""

    __slots__ = ("_judgment", "_view")

    def __init__(self, view: View, judgment: Judgment) -> None:
        self._view = view
        self._judgment = judgment

    def learn(
        self, sender: PeerId, rumors: Rumors, why: str, now: Seconds, spread: bool = True
    ) -> list[Effect]:
        """Merge claims, suspicions aside; at most one Fault a message, however many are flawed.

        ``spread`` is False for what a newcomer is told first: it is news to nobody else. Who says
        of a member what is known to be over is told so.
        """
        view = self._view
        effects: list[Effect] = []
        faults: list[tuple[str, str]] = []
        stale: list[Record] = []
        if not spread and len(rumors.records) > CHANGES_MAX:
            effects += self._learn_everyone(rumors.records, why)
        roster, account, verdicts = view.roster, view.account, view.verdicts
        told = by_subject(rumors.evidence)
        for record in rumors.records:
            known = roster.get(record.peer)
            if known is record or record.status is Status.SUSPECT or known == record:
                continue
            if known is not None and verdicts.have_heard(record, about_whom(record, told)):
                continue
            flaw = record_flaw(record)
            if flaw is not None:
                faults.append(("rumor", flaw))
            elif record.peer == roster.me.peer:
                if view.myself.contradicted_by(record):
                    effects += view.refute(sender, record.boot, record.incarnation)
            elif not roster.has_room(record.peer):
                faults.append(("limit", f"no room for {record.peer}"))
            elif known is not None and known.key > record.key:
                if record.peer == sender:
                    view.owe_notice(sender, now, even_alive=True)
                elif record.status > Status.ALIVE:
                    stale.append(known)
            else:
                about = about_whom(record, told)
                effects += self._take(sender, record, known, about, why, now, spread)
        for progress in rumors.progress:
            if account.newest(progress.peer) is not progress:
                effects += self._learn_progress(sender, progress, spread, faults)
        if stale:
            known_better = tuple(stale[:CLAIMS_PER_MESSAGE])
            effects.append(Send(sender, Gossip(view.with_evidence(known_better))))
        if faults:
            effects.append(_fault_of(sender, faults))
        return effects

    def _take(
        self,
        sender: PeerId,
        record: Record,
        known: Record | None,
        about: Evidence | None,
        why: str,
        now: Seconds,
        spread: bool,
    ) -> list[Effect]:
        """A sound claim that wins. Whether a member is gone has to be judged; not what a newcomer
        is told of the past, but news of one that it has not heard of may be false. So may a
        verdict on a life later than the one that I know to be over: its subject came back."""
        is_over = known is not None and known.status >= Status.DOWN
        may_be_live = spread if known is None else not is_over or known.key[:2] < record.key[:2]
        if may_be_live and record.status == Status.DOWN:
            return self._judgment.judge(record, about, why, now)
        said_by_another = record.status == Status.LEFT and sender != record.peer
        if may_be_live and said_by_another and self._judgment.contest(record, now):
            return []
        return self._view.take(record, why, now, spread, about)

    def _learn_everyone(self, records: tuple[Record, ...], why: str) -> list[Effect]:
        """Take a large group's live members at once, as a newcomer does."""
        view = self._view
        new: dict[PeerId, Record] = {}
        for record in records:
            is_new = record.status == Status.ALIVE and view.roster.get(record.peer) is None
            if is_new and record_flaw(record) is None:
                new[record.peer] = merge(new.get(record.peer, record), record)
        taken = view.take_many(list(new.values()))
        effects: list[Effect] = [Tell(MemberChanged(record, why)) for record in taken]
        if view.watch.dial_all():
            for record in taken:
                effects += view.watch.dial(record.peer)
        return effects

    def _learn_progress(
        self, sender: PeerId, progress: Progress, spread: bool, faults: list[tuple[str, str]]
    ) -> list[Effect]:
        view = self._view
        flaw = progress_flaw(progress)
        if flaw is not None:
            faults.append(("rumor", flaw))
            return []
        effects: list[Effect] = []
        me = view.roster.me.peer
        if progress.peer == me and view.myself.contradicted_by_progress(progress):
            effects += view.refute(sender, progress.boot, COUNT_MAX)
        if not view.account.has_room(progress):
            faults.append(("limit", f"no room for the progress of {progress.peer}"))
            return effects
        won = view.account.put(progress)
        # An older boot must not push the newer one out of the news.
        if won and spread and view.account.newest(progress.peer) == progress:
            view.news.add_progress(progress)
        return effects


def by_subject(told: tuple[Evidence, ...]) -> dict[PeerId, Evidence]:
    """What one message gives as evidence, the last about each subject."""
    return {about.subject: about for about in told}


def about_whom(record: Record, told: dict[PeerId, Evidence]) -> Evidence | None:
    """The evidence beside a record, if it is of the same life."""
    about = told.get(record.peer)
    if about is None or about.boot != record.boot or about.incarnation != record.incarnation:
        return None
    return about


def _fault_of(sender: PeerId, faults: list[tuple[str, str]]) -> Effect:
    kind, detail = faults[0]
    more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
    return Tell(Fault(sender, kind, detail + more))

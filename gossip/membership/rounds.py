"""What this peer does again and again: probe, gossip, compare, knock at the down, join.

A round runs only while it has a purpose, so a quiet group costs one Ping and one Ack a probe
interval and watched pair, and a lone peer sleeps. Each round starts at a random phase, so that
peers started together do not act together.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_right
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from gossip.config import MembershipConfig
from gossip.deadlines import Deadlines
from gossip.machine import Dial, Effect, Fault, Hangup, Persist, Send, TurnedAway
from gossip.membership.alone import is_left_alone
from gossip.membership.contacts import Contacts
from gossip.membership.health import Health
from gossip.membership.judgment import Judgment
from gossip.membership.sync import Pace, Sync
from gossip.membership.terms import Terms
from gossip.membership.view import View
from gossip.messages import Gossip, Hello, PeerId, Ping, Record, Refused, Seconds, Status

DETAIL_CHARS_MAX: Final = 500
"""Longest text of another peer that is shown to the owner."""

CONTACTS_KEPT: Final = 64
"""Most addresses asked to be kept for the next start."""

PEERS_PER_PROGRESS_INTERVAL: Final = 16
"""My sample count becomes news once a second in groups of up to this size, and proportionally
less often in larger ones, so that the traffic per peer stays the same."""

PROGRESS_INTERVAL_S: Final = 1.0

EARLY_MAX: Final = 64
"""Most newcomers remembered that were welcomed too early."""

LOOKS_PER_INTERVAL: Final = 2
"""So often in a probe interval this peer looks whom it has not heard from."""

WEIGH_INTERVAL_S: Final = 1.0
"""Verdicts that are not believed yet are looked at again this often."""

URGENT_PAUSE_S: Final = 0.1
"""A verdict goes out at once, but so long after the news before it: many come together."""

KNOCK_LEAST_S: Final = 5.0
"""A peer that is down has at least so long to answer a greeting."""

ACTIVE_AGE: Final = 0.75
PASSIVE_AGE: Final = 1.25
"""Silence, in probe intervals, after which the one who pings in a pair does so, and the other."""


class _Tick(IntEnum):
    PROBE = 0
    GOSSIP = 1
    SYNC = 2
    KNOCK = 3
    JOIN = 4
    PROGRESS = 5
    PERSIST = 6
    WEIGH = 7


class Rounds:
    """The rounds of one peer over its view, and the contacts it joins through."""

    __slots__ = (
        "_beside",
        "_config",
        "_contacts",
        "_early",
        "_gossiped_at",
        "_health",
        "_judgment",
        "_kept",
        "_knocked_at",
        "_knocks",
        "_pace",
        "_progress_told_at",
        "_rng",
        "_roster",
        "_runs",
        "_spreads",
        "_strangers",
        "_terms",
        "_turned_away",
        "_view",
        "sync",
        "ticks",
    )

    def __init__(
        self,
        view: View,
        judgment: Judgment,
        health: Health,
        terms: Terms,
        config: MembershipConfig,
        rng: random.Random,
        now: Seconds,
    ) -> None:
        self.sync = Sync(view, rng)
        self._view = view
        self._judgment = judgment
        self._roster = view.roster
        self._health = health
        self._terms = terms
        self._config = config
        self._rng = rng
        self.ticks: Deadlines[_Tick] = Deadlines()
        self._contacts = Contacts(view.roster)
        # Whether a stranger said Refused.
        self._turned_away = False
        # Whether probing and comparing go on; they end with the last other member.
        self._runs = False
        # Whether the rounds that pass on news, and that greet the down, have a time.
        self._spreads = False
        self._knocks = False
        # Linked, but not members yet, or members that I miss a welcome of, in the order met;
        # bounded by the links there are.
        self._strangers: dict[PeerId, None] = {}
        # Linked as a contact or by a knock, not as the watch wants; True after the first look.
        self._beside: dict[PeerId, bool] = {}
        # Newcomers that I welcomed while nobody had welcomed me.
        self._early: dict[PeerId, None] = {}
        self._knocked_at: PeerId | None = None
        self._kept: tuple[str, ...] = ()
        self._pace = Pace(self._config.sync_interval_s)
        self._progress_told_at = now - PROGRESS_INTERVAL_S
        self._gossiped_at = now - URGENT_PAUSE_S

    def deadline(self) -> Seconds:
        """When the next round is due, or ``math.inf``."""
        return self.ticks.earliest()

    def due(self, now: Seconds) -> list[Effect]:
        """Run the rounds whose time has come."""
        effects: list[Effect] = []
        for tick in self.ticks.due(now):
            effects += self._run(tick, now)
        return effects

    def arm(self, now: Seconds) -> None:
        """Start the rounds that have become needed; call it after every input."""
        view, ticks = self._view, self.ticks
        if not self._spreads and self._roster.others and len(view.news):
            # At a random phase: a claim then takes half an interval a hop, not a whole one.
            self._spreads = True
            ticks.set(_Tick.GOSSIP, now + self._rng.random() * self._config.gossip_interval_s)
        if view.news.is_urgent and self._spreads:
            # A verdict does not wait: the round comes to it, and all rounds tell what they did.
            view.news.is_urgent = False
            ticks.set(_Tick.GOSSIP, max(now, self._gossiped_at + URGENT_PAUSE_S))
        if view.addresses_changed:
            view.addresses_changed = False
            self._start(_Tick.PERSIST, now + self._config.gossip_interval_s)
        if view.verdicts.open and _Tick.WEIGH not in ticks:
            ticks.set(_Tick.WEIGH, min(now + WEIGH_INTERVAL_S, view.verdicts.next_due(now)))
        if not self._runs:
            if not self._roster.others or view.myself.has_left:
                return
            self._runs = True
            ticks.set(_Tick.PROBE, now + self._rng.random() * self._look_s())
            ticks.set(_Tick.SYNC, now + self._rng.random() * self._pace.next_s())
        if not self._knocks and self._roster.down:
            self._knocks = True
            ticks.set(_Tick.KNOCK, now + self._rng.random() * self._knock_pause_s())

    def stop(self) -> None:
        """No more rounds but those that pass on news."""
        self._runs = self._spreads = self._knocks = False
        for tick in _Tick:
            self.ticks.clear(tick)

    def _start(self, tick: _Tick, at: Seconds) -> None:
        if tick not in self.ticks:
            self.ticks.set(tick, at)

    def _run(self, tick: _Tick, now: Seconds) -> list[Effect]:
        match tick:
            case _Tick.PROBE:
                return self._probe_silent(now)
            case _Tick.GOSSIP:
                return self._gossip(now)
            case _Tick.SYNC:
                return self._compare(now)
            case _Tick.KNOCK:
                return self._knock(now)
            case _Tick.JOIN:
                return self._join_again(now)
            case _Tick.PROGRESS:
                self.tell_progress(now)
                return []
            case _Tick.PERSIST:
                return self._keep_contacts()
            case _Tick.WEIGH:
                return self._judgment.weigh_again(now)

    # ---------------------------------------------------------------- joining

    def join(
        self, contacts: tuple[str, ...], now: Seconds, remembered: tuple[str, ...] = ()
    ) -> list[Effect]:
        """Dial these addresses, my own excepted, until each is a live member's; see _join_again."""
        dialed = self._contacts.begin(contacts, remembered)
        if self._contacts.addresses:
            self.ticks.set(_Tick.JOIN, now + self._config.join_retry_s)
        return dialed

    def hello(self) -> Hello:
        """Who I am and which model I hold."""
        terms = self._terms
        progress = self._view.myself.progress
        newcomer = not self._view.is_welcomed
        return Hello(self._roster.me, progress, terms.layout_digest, terms.fragments, newcomer)

    def greeting(self, peer: PeerId) -> Effect:
        """Introduce myself to a peer."""
        return Send(peer, self.hello())

    def met(self, peer: PeerId) -> Effect:
        """Greet a peer whose link came up; a stranger again and again, until it is a member; and
        any until somebody has welcomed me."""
        if self._is_greeted_again(peer):
            self._strangers[peer] = None
        if not self._view.watch.is_dialed(peer):
            self._beside[peer] = False
            if peer != self._knocked_at:
                self._contacts.answered(peer)
        return self.greeting(peer)

    def lost(self, peer: PeerId) -> None:
        """Do not greet over a link that is gone; it is met anew when it comes back."""
        self._strangers.pop(peer, None)
        self._beside.pop(peer, None)

    def welcomed(self, newcomer: PeerId) -> None:
        """A newcomer was told all I know; while I am one myself, that is not the whole group."""
        if self._contacts.addresses and not self._view.is_welcomed and len(self._early) < EARLY_MAX:
            self._early[newcomer] = None

    def tell_early(self) -> list[Effect]:
        """I know the group by now: tell those that I welcomed before."""
        early = [each for each in self._early if self._roster.is_live(each)]
        self._early = {}
        told = Gossip(self._view.everything()) if early else None
        return [Send(each, told) for each in early if told]

    def belong(self) -> None:
        """I have been a member all along."""
        self._view.is_welcomed = True
        self._pace.settle()

    def answered(self) -> bool:
        """Somebody welcomed me; True when it is the first one."""
        self._contacts.welcomed()
        first, self._view.is_welcomed = not self._view.is_welcomed, True
        return first

    def refused(self, by: PeerId, message: Refused) -> TurnedAway | Fault:
        """A stranger I greeted will not have me: asking it again is no use. A fault of its own
        where that says nothing of others: addresses of an earlier life are being tried."""
        reason, detail = message.reason, message.detail[:DETAIL_CHARS_MAX]
        doubtful, greeted = self._contacts.are_doubtful, by in self._strangers
        self._strangers.pop(by, None)
        self._turned_away = self._turned_away or (greeted and not doubtful)
        if doubtful:
            return Fault(by, reason.name.lower(), detail)
        return TurnedAway(by, detail, message.segments, reason)

    def _join_again(self, now: Seconds) -> list[Effect]:
        """Greet and dial who has not become a member; one welcome is not enough.

        The first to welcome a newcomer may be another newcomer: two of them, each content with
        the other, would be a swarm of their own. A contact that starts later is found this way too.
        """
        self._strangers = dict.fromkeys(filter(self._is_greeted_again, self._strangers))
        hasty = self._strangers or not (self._view.is_welcomed or self._turned_away)
        config = self._config
        wait_s = config.join_retry_s if hasty else config.probe_down_interval_s
        self.ticks.set(_Tick.JOIN, now + wait_s)
        return [*self._contacts.again(bool(hasty)), *map(self.greeting, self._strangers)]

    def _is_greeted_again(self, peer: PeerId) -> bool:
        """Whether a linked peer has to hear of me again. One that greeted me by itself is a member,
        but what it holds of the group came with its welcome, which may be lost: who only dials out
        would then never find those that watch it, and be called down."""
        record = self._roster.get(peer)
        if record is None:
            return True
        return not self._view.is_welcomed and record.status < Status.DOWN

    def _settle_links(self) -> list[Effect]:
        """Links to contacts and knocked members that are live by now become the watch's matter, a
        look later: first they are told what only this link may tell them."""
        effects: list[Effect] = []
        for peer, was_seen in list(self._beside.items()):
            if not self._roster.is_live(peer):
                continue
            self._beside[peer] = True
            if was_seen:
                del self._beside[peer]
                given_up = self._view.watch.adopt(peer)
                for each in given_up:
                    if isinstance(each, Hangup):
                        self._view.sightings.unlinked(each.peer)
                        self._strangers.pop(each.peer, None)
                effects += given_up
        return effects

    def _addresses(self, peers: Iterable[PeerId]) -> dict[str, None]:
        records = [self._roster.get(peer) for peer in peers]
        return {record.control_address: None for record in records if record}

    def _keep_contacts(self) -> list[Effect]:
        """Ask to keep the addresses of live members; none at all would be no use to a restart.

        Of a large group those of my watch neighbors, random members that are known to live.
        """
        watch = self._view.watch
        known = self._addresses(self._roster.live if watch.dial_all() else watch.neighbors)
        kept = tuple(heapq.nsmallest(CONTACTS_KEPT, (address for address in known if address)))
        if not kept or kept == self._kept:
            return []
        self._kept = kept
        return [Persist(kept)]

    # ---------------------------------------------------------------- probing

    def _look_s(self) -> Seconds:
        return self._config.probe_interval_s * self._health.factor / LOOKS_PER_INTERVAL

    def probe(self, peer: PeerId, now: Seconds) -> Effect:
        """Ping a live member; its answer must come within the time-out."""
        record = self._roster.get(peer)
        assert record is not None
        number = self._view.prober.start(peer, now, self._health.factor)
        return Send(peer, Ping(number, record.boot))

    def _probe_silent(self, now: Seconds) -> list[Effect]:
        """Ping the watch neighbors not heard from lately; and keep links to all of them."""
        if not self._roster.others:
            self._runs = False
            self.ticks.clear(_Tick.SYNC)
            return []
        self.ticks.set(_Tick.PROBE, now + self._look_s())
        view = self._view
        effects = [*self._settle_links(), *view.watch.links_due()]
        interval_s = self._config.probe_interval_s * self._health.factor
        active_at, passive_at = now - ACTIVE_AGE * interval_s, now - PASSIVE_AGE * interval_s
        known, probed = view.sightings.seen, view.prober.open
        for peer, is_active in view.watch.neighbors.items():
            seen = known.get(peer)
            silent_at = active_at if is_active else passive_at
            if (seen is None or seen.heard_at <= silent_at) and peer not in probed:
                effects.append(self.probe(peer, now))
        return effects

    def _knock(self, now: Seconds) -> list[Effect]:
        """Greet one down member; the link of the last one that stayed silent is given up."""
        effects: list[Effect] = []
        if self._knocked_at is not None and not self._roster.is_live(self._knocked_at):
            self._beside.pop(self._knocked_at, None)
            effects.append(Hangup(self._knocked_at))
        before, self._knocked_at = self._knocked_at, None
        self._knocks = bool(self._roster.down)
        if not self._knocks:
            return effects
        self.ticks.set(_Tick.KNOCK, now + self._knock_pause_s())
        record = self._next_down(before)
        if record is None or not record.control_address:
            return effects
        self._knocked_at = record.peer
        dial = Dial(record.peer, record.control_address, record.bulk_address)
        return [*effects, dial, self.greeting(record.peer)]

    def _next_down(self, before: PeerId | None) -> Record | None:
        """Whom to greet: a random one, or the next in turn where nobody else will."""
        turn = self._all_to_greet()
        if not turn:
            return self._roster.get(self._rng.choice(self._roster.down))
        return turn[bisect_right([each.peer for each in turn], before or "") % len(turn)]

    def _knock_pause_s(self) -> Seconds:
        """Until the next is greeted; all of them in the time for one, where nobody else will."""
        pause_s = self._config.probe_down_interval_s
        return max(min(KNOCK_LEAST_S, pause_s), pause_s / max(1, len(self._all_to_greet())))

    def _all_to_greet(self) -> list[Record]:
        """Members that can be dialed find those that are down for each other too; one that only
        dials out and is left alone has to find all of them by itself: these. Else none."""
        if not is_left_alone(self._view):
            return []
        records = [self._roster.get(peer) for peer in self._roster.down]
        return [each for each in records if each and each.control_address]

    # ---------------------------------------------------------------- spreading

    def _gossip(self, now: Seconds) -> list[Effect]:
        news = self._view.news
        effects: list[Effect] = []
        self._gossiped_at = now
        peers = self._view.watch.in_turn(self._config.gossip_fanout)
        if peers and len(news):
            told = Gossip(self._view.some_news(len(peers)))
            effects += [Send(peer, told) for peer in peers]
        self._spreads = bool(len(news) and self._roster.others)
        if self._spreads:
            self.ticks.set(_Tick.GOSSIP, now + self._config.gossip_interval_s)
        return effects

    def hears_again(self, now: Seconds) -> None:
        """A neighbor is heard after a while. Where hardly any other was either, it was me: what
        was told meanwhile I have missed."""
        seen, neighbors = self._view.sightings.seen, self._view.watch.neighbors
        failing = [each in seen and seen[each].failing_since is not None for each in neighbors]
        if self._runs and 2 * sum(failing) > len(failing) and self._pace.hurry():
            self.ticks.set(_Tick.SYNC, now + self._rng.random() * self._pace.next_s())

    def _compare(self, now: Seconds) -> list[Effect]:
        if not self._roster.others:
            return []
        self.ticks.set(_Tick.SYNC, now + self._pace.next_s())
        neighbors = list(self._view.watch.neighbors)
        if not neighbors:
            return []
        return [Send(self._rng.choice(neighbors), self.sync.digest())]

    def tell_progress_soon(self, now: Seconds) -> None:
        """My sample count rose: make it news, but not too often."""
        crowd = max(1.0, self._roster.others / PEERS_PER_PROGRESS_INTERVAL)
        due_at = self._progress_told_at + crowd * PROGRESS_INTERVAL_S
        self._start(_Tick.PROGRESS, max(now, due_at))

    def tell_progress(self, now: Seconds) -> None:
        """Make my account news now."""
        self._progress_told_at = now
        self.ticks.clear(_Tick.PROGRESS)
        self._view.news.add_progress(self._view.myself.progress)

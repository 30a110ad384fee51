"""A small virtual network for the membership machine alone: a heap of (time, order, event).

Messages are lost, delayed and so reordered as drawn from the seed; links come up and are lost as
the processes do. Nothing passes between two that have no link, either way. After every step of a
machine its promises are checked: no key falls and nobody comes back without a larger life (M2,
M5), nobody shows a (boot, incarnation) its subject never issued (M4), a running peer's own record
is alive (M7), one key means one record (M6), and it does not ask to be woken for nothing.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from functools import partial

from gossip.config import MembershipConfig
from gossip.machine import Dial, Effect, Fault, Hangup, LinkCause, MemberChanged, Send, Tell
from gossip.membership.known import Known
from gossip.membership.swim import Swim
from gossip.membership.terms import Terms
from gossip.messages import MembershipMessage, PeerId, Record, Status
from tests.gossip.membership.claims import LAYOUT, record, undialable

FULL_CHECKS_MAX = 16
"""In larger groups the records are checked after every N-th step only: there are N of them."""


class Network:
    """N membership machines in virtual time."""

    def __init__(
        self,
        seed: int,
        loss: float = 0.0,
        delay_s: tuple[float, float] = (0.001, 0.05),
        config: MembershipConfig | None = None,
    ) -> None:
        self.now = 0.0
        self.swims: dict[PeerId, Swim] = {}
        self.sent: Counter[str] = Counter()
        self.told: list[tuple[float, PeerId, MemberChanged | Fault]] = []
        self.loss = loss
        self.split: Callable[[PeerId, PeerId], bool] = lambda _a, _b: False
        self.deaf: Callable[[PeerId], bool] = lambda _who: False
        self.frozen: dict[PeerId, float] = {}
        self._config = config or MembershipConfig()
        self._rng = random.Random(seed)
        self._delay_s = delay_s
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._steps = 0
        self._boots: dict[PeerId, int] = {}
        self._dialed: dict[PeerId, dict[PeerId, bool]] = {}
        self._versions: dict[tuple[PeerId, tuple[int, int, int]], Record] = {}
        self._woken: dict[PeerId, tuple[float, int]] = {}
        self._addresses: dict[str, PeerId] = {}
        self._highest: dict[PeerId, tuple[int, int]] = {}
        self._keys: dict[tuple[PeerId, int], dict[PeerId, tuple[int, int, int]]] = {}
        self._transcript = hashlib.sha256()

    # ------------------------------------------------------------ what a test does

    def start(self, number: int, *contacts: int, boot: int = 1, dialable: bool = True) -> PeerId:
        """Start the numbered peer; with contacts it joins through them."""
        me = record(number, boot=boot) if dialable else undialable(number, boot=boot)
        if dialable:
            self._addresses[me.control_address] = me.peer
        self._boots[me.peer] = self._boots.get(me.peer, 0) + 1
        self._dialed[me.peer] = {}
        rng = random.Random(self._rng.random())
        self.swims[me.peer] = Swim(me, Terms(LAYOUT), self._config, rng, self.now)
        addresses = tuple(record(contact).control_address for contact in contacts)
        self._do(me.peer, lambda swim: swim.join(addresses, self.now))
        return me.peer

    def acquaint(self, size: int) -> None:
        """Start so many peers that all know each other."""
        known = Known.of(list(map(record, range(size))), self._config.observers, b"L")
        for number in range(size):
            me = record(number)
            self._addresses[me.control_address] = me.peer
            self._boots[me.peer] = 1
            self._dialed[me.peer] = {}
            rng = random.Random(self._rng.random())
            swim = Swim(me, Terms(LAYOUT), self._config, rng, self.now, known)
            self.swims[me.peer] = swim
            self._highest[me.peer] = (me.boot, me.incarnation)
        for who in list(self.swims):
            self._do(who, lambda swim: swim.wake(self.now))

    def crash(self, who: PeerId, cause: LinkCause = LinkCause.REFUSED) -> None:
        """End a process (REFUSED) or its whole host (SILENT); those that dialed it notice."""
        del self.swims[who]
        self._dialed[who] = {}
        for other in self._dialers(who):
            self._lose(other, who, cause)

    def freeze(self, who: PeerId, for_s: float) -> None:
        """Stop a process for a while: its kernel still answers, and its inbox waits for it."""
        self.frozen[who] = self.now + for_s
        for other in self._dialers(who):
            self._lose(other, who, LinkCause.FROZEN)

    def cut(self, apart: Callable[[PeerId, PeerId], bool]) -> None:
        """Let nothing pass between some pairs; links between them are lost in time."""
        self.split = apart
        for who in sorted(self.swims):
            for other in self._dialed[who]:
                if apart(who, other):
                    self._lose(who, other, LinkCause.SILENT)

    def heal(self) -> None:
        """Let everything pass again; links that are still wanted come up again."""
        self.split = lambda _a, _b: False

    def leave(self, who: PeerId) -> None:
        """Let a peer say farewell, and end it a second later; a frozen one ends without a word,
        and it is not its next life that says it."""
        leaving = self.swims[who]
        self._do(who, lambda swim: swim.leave(self.now) if swim is leaving else [])

        def end() -> None:
            self.swims.pop(who, None)
            self._dialed[who] = {}

        self._after(1.0, end)

    def run(self, for_s: float) -> None:
        """Let virtual time pass."""
        end = self.now + for_s
        while self._heap and self._heap[0][0] <= end:
            self.now, _, event = heapq.heappop(self._heap)
            event()
        self.now = end

    def run_until(self, holds: Callable[[], bool], within_s: float) -> bool:
        """Run in tenths of a second until the condition holds; False when it does not in time."""
        end = self.now + within_s
        while not holds() and self.now < end:
            self.run(0.1)
        return holds()

    # ------------------------------------------------------------ what a test looks at

    def agreed(self) -> bool:
        """Every running peer sees exactly the running peers alive."""
        running = sorted(self.swims)
        return all(
            swim.live() == [each for each in running if each != me]
            for me, swim in self.swims.items()
        )

    def statuses(self, of: PeerId) -> list[Status | None]:
        """What each running peer holds of one."""
        held = [swim.record(of) for me, swim in sorted(self.swims.items()) if me != of]
        return [each.status if each else None for each in held]

    def changes(self, status: Status) -> list[tuple[float, PeerId, Record]]:
        """When, by whom and of whom a status was taken over."""
        return [
            (at, by, report.record)
            for at, by, report in self.told
            if isinstance(report, MemberChanged) and report.record.status == status
        ]

    def faults(self) -> list[tuple[float, PeerId, Fault]]:
        """Every fault told."""
        return [(at, by, each) for at, by, each in self.told if isinstance(each, Fault)]

    def transcript(self) -> str:
        """The hash of everything any machine asked for, and when."""
        return self._transcript.hexdigest()

    # ------------------------------------------------------------ the world

    def _after(self, delay_s: float, event: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self.now + delay_s, self._order, event))

    def _delay(self) -> float:
        return self._rng.uniform(*self._delay_s)

    def _do(self, who: PeerId, step: Callable[[Swim], list[Effect]]) -> None:
        """Step one machine if its process runs; a frozen one takes its input when it thaws."""
        if who not in self.swims:
            return
        thaws_at = self.frozen.get(who, 0.0)
        if thaws_at > self.now:
            self._after(thaws_at - self.now, lambda: self._do(who, step))
            return
        swim = self.swims[who]
        effects = step(swim)
        self._check(who, swim)
        self._transcript.update(repr((round(self.now, 9), who, effects)).encode())
        for effect in effects:
            self._execute(who, effect)
        wake_at = swim.deadline()
        boot = self._boots[who]
        if wake_at < float("inf"):
            self._after(max(0.0, wake_at - self.now), lambda: self._wake(who, boot, wake_at))

    def _wake(self, who: PeerId, boot: int, at: float) -> None:
        thaws_at = self.frozen.get(who, 0.0)
        if thaws_at > self.now:
            self._after(thaws_at - self.now, lambda: self._wake(who, boot, at))
            return
        if boot == self._boots[who] and who in self.swims and self.swims[who].deadline() <= at:
            at_s, wakes = self._woken.get(who, (self.now, 0))
            self._woken[who] = (self.now, wakes + 1 if at_s == self.now else 0)
            assert wakes < 50, f"{who} wakes again and again at {self.now}"
            self._do(who, lambda swim: swim.wake(self.now))

    def _execute(self, who: PeerId, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(who, effect)
            case Dial(_, control_address, _):
                other = self._addresses.get(control_address)
                if other is not None and other not in self._dialed[who]:
                    self._link(who, other)
            case Hangup(other):
                self._dialed[who].pop(other, None)
            case Tell(report) if isinstance(report, MemberChanged | Fault):
                self.told.append((self.now, who, report))
            case _:
                self.sent[type(effect).__name__] += 1

    def _send(self, who: PeerId, send: Send) -> None:
        message = send.message
        self.sent[type(message).__name__] += 1
        lost = self._rng.random() < self.loss or self.split(who, send.to)
        linked = self._dialed[who].get(send.to) or self._dialed.get(send.to, {}).get(who)
        if lost or not linked or self.deaf(send.to):
            return

        def arrive(swim: Swim) -> list[Effect]:
            assert isinstance(message, MembershipMessage)
            swim.heard_from(who, self.now)
            return swim.hear(who, message, self.now)

        self._after(self._delay(), lambda: self._do(send.to, arrive))

    def _dialers(self, of: PeerId) -> list[PeerId]:
        return [each for each in sorted(self.swims) if of in self._dialed[each]]

    def _is_there(self, who: PeerId, other: PeerId) -> bool:
        frozen = self.frozen.get(other, 0.0) > self.now
        return other in self.swims and not frozen and not self.split(who, other)

    def _link(self, who: PeerId, other: PeerId) -> None:
        """Dial; the link is wanted, and dialed again and again, until the hang-up."""
        links = self._dialed[who]
        links[other] = False
        self._after(self._delay(), partial(self._redial, who, other, links, None))

    def _redial(
        self, who: PeerId, other: PeerId, links: dict[PeerId, bool], lost_why: LinkCause | None
    ) -> None:
        """What a dial finds now: told if it is news after ``lost_why``."""
        if self._dialed[who] is not links or links.get(other, True):
            return
        if self._is_there(who, other):
            links[other] = True
            self._do(who, lambda swim: swim.link_up(other, self.now))
            return
        why = LinkCause.SILENT if self.split(who, other) else LinkCause.REFUSED
        if self.frozen.get(other, 0.0) > self.now:
            why = LinkCause.FROZEN
        if why != lost_why:
            self._do(who, lambda swim: swim.link_lost(other, why, self.now))
        again_s = self._rng.uniform(0.5, 2.0)
        self._after(again_s, partial(self._redial, who, other, links, why))

    def _lose(self, who: PeerId, other: PeerId, cause: LinkCause) -> None:
        """CLOSED first, at once or when signs of life have failed to come; a dial tells why."""
        refused, links = cause == LinkCause.REFUSED, self._dialed[who]

        def closed() -> None:
            lost = refused or not self._is_there(who, other)
            if self._dialed[who] is links and links.get(other, False) and lost:
                links[other] = False
                self._do(who, lambda swim: swim.link_lost(other, LinkCause.CLOSED, self.now))
                told_s = self._delay() if refused else self._rng.uniform(1.0, 3.0)
                self._after(told_s, partial(self._redial, who, other, links, LinkCause.CLOSED))

        self._after(self._delay() if refused else self._rng.uniform(3.0, 5.0), closed)

    def _check(self, who: PeerId, swim: Swim) -> None:
        me = swim.me
        assert me.status in (Status.ALIVE, Status.LEFT)
        self._highest[who] = max(self._highest.get(who, (0, 0)), (me.boot, me.incarnation))
        self._steps += 1
        if len(self.swims) > FULL_CHECKS_MAX and self._steps % len(self.swims):
            return
        keys = self._keys.setdefault((who, self._boots[who]), {})
        for known in swim._roster.all():
            assert known.key >= keys.get(known.peer, known.key)
            assert (known.boot, known.incarnation) <= self._highest[known.peer]
            keys[known.peer] = known.key
            assert known.status != Status.SUSPECT
            assert known == self._versions.setdefault((known.peer, known.key), known)


def swarm(
    size: int,
    seed: int,
    loss: float = 0.0,
    config: MembershipConfig | None = None,
    undialable_every: int = 10_000,
) -> Network:
    """Peer 0 founds; the others join through an earlier one, a fifth of a second apart."""
    network = Network(seed, loss, config=config)
    rng = random.Random(seed)
    network.start(0)
    for number in range(1, size):
        network.run(0.2)
        contact = rng.randrange(number)
        contact -= contact % undialable_every == undialable_every - 1
        dialable = number % undialable_every != undialable_every - 1
        network.start(number, contact, dialable=dialable)
    return network

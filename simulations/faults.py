"""Faults of a scenario, at their times, each with dice of its own.

A fault hits those it names, or dice choose. What is chosen for one fault does not depend on the
others, so a fault can be taken out and the rest stays as it was. ``injected`` counts what really
happened: a scenario whose fault never happened has shown nothing.

A group cannot tell a peer that two members rightly call unreachable from one that is gone. So a
peer has one bad path at a time, and there is none while the group is split or holds an accuser:
beyond that the design promises nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from itertools import pairwise

from gossip.messages import Evidence, Gossip, PeerId, Record, Rumors, Seconds, Status
from simulations.scenario import PATHS, Fault, FaultKind, Scenario, Start
from simulations.seeds import generator
from simulations.simulated_peer import SimulatedPeer
from simulations.world import World

CONTACTS = 3
"""Whom a peer that begins greets first."""

SETTLE_S = 15.0
"""After a bad path is mended, doubts that it raised may live on so long."""

JOINING_S = 2.0
"""Where all join through the first, random faults begin after this: if it ends before anybody is
in, nobody knows anybody, whatever the protocol."""

TRIES = 100
"""Draws until a peer is found that nothing is wrong with; then the fault is left out."""

ENDINGS = (FaultKind.CRASH, FaultKind.LOSE_HOST, FaultKind.LEAVE)

ACCUSE_EVERY_S = 0.5
ACCUSED_AT_ONCE = 4


class Faults:
    """See the module. ``disabled`` kinds never happen, and are not missed."""

    def __init__(
        self, world: World, scenario: Scenario, disabled: Collection[FaultKind] = ()
    ) -> None:
        self.injected: dict[FaultKind, int] = {}
        self._split_until_s: Seconds = -SETTLE_S
        self._accused_until_s: Seconds = -SETTLE_S
        self._bad_path_until_s: dict[PeerId, Seconds] = {}
        self._culprits: dict[tuple[PeerId, PeerId], FaultKind] = {}
        self._dropped: Counter[FaultKind] = Counter()
        self._returning: Counter[int] = Counter()
        self._world = world
        self._calm_at_s = scenario.calm_at_s
        self._peers = scenario.peers
        self._spared_s = JOINING_S if scenario.start is Start.TOGETHER else 0.0
        aimed: Counter[FaultKind] = Counter()
        for index, fault in enumerate(scenario.faults):
            aimed[fault.kind] += bool(fault.targets)
            if fault.kind in disabled:
                continue
            self.injected.setdefault(fault.kind, 0)
            # One with targets keeps its dice when those of other kinds are taken out of the file.
            name = (fault.kind, aimed[fault.kind]) if fault.targets else (index,)
            dice = generator(world.plan.seed, "fault", *name)
            if fault.at_s is not None:
                world.call(fault.at_s, self._happen, fault, dice)
            else:
                self._plan_next(fault, dice, self._spared_s)

    @property
    def missing(self) -> list[FaultKind]:
        """Kinds that were declared and never happened."""
        return [kind for kind, times in self.injected.items() if not times]

    @property
    def dropped(self) -> dict[FaultKind, int]:
        """Frames and links that the bad paths of each kind, or splits, took so far."""
        for pair in list(self._culprits):
            self._settle(pair)
        self._dropped[FaultKind.SPLIT] = self._world.network.split_dropped
        kinds = (*PATHS, FaultKind.SPLIT)
        return {kind: self._dropped[kind] for kind in self.injected if kind in kinds}

    @property
    def harmless(self) -> list[FaultKind]:
        """Kinds of bad paths, or splits, that happened and took nothing."""
        return [kind for kind, n in self.dropped.items() if self.injected[kind] and not n]

    # When.

    def _plan_next(self, fault: Fault, dice: random.Random, pause_s: Seconds = 0.0) -> None:
        a_minute = fault.per_minute or fault.share_per_minute * self._peers
        at_s = self._world.now + pause_s + dice.expovariate(a_minute / 60.0)
        if at_s < self._calm_at_s:
            self._world.call(at_s, self._happen_again, fault, dice)

    def _happen_again(self, fault: Fault, dice: random.Random) -> None:
        self._happen(fault, dice)
        self._plan_next(fault, dice)

    def _lasts_s(self, fault: Fault, dice: random.Random) -> Seconds:
        """How long, so that it is over when the calm begins."""
        return min(dice.uniform(*fault.for_s), self._calm_at_s - self._world.now)

    # What.

    def _happen(self, fault: Fault, dice: random.Random) -> None:
        act: Callable[[Fault, random.Random], int] = {
            FaultKind.RESTART_ALL: self._restart_all,
            FaultKind.CUT: self._cut,
            FaultKind.CUT_ONE_WAY: self._cut,
            FaultKind.LOSSY_LINK: self._make_lossy,
            FaultKind.SPLIT: self._split,
        }.get(fault.kind, self._hit_some)
        self.injected[fault.kind] += act(fault, dice)

    def _hit_some(self, fault: Fault, dice: random.Random) -> int:
        """A fault that befalls single peers."""
        act: Callable[[Fault, random.Random, SimulatedPeer], None] = {
            FaultKind.CRASH: self._fall,
            FaultKind.LOSE_HOST: self._fall,
            FaultKind.REPLACE: self._replace,
            FaultKind.LEAVE: self._leave,
            FaultKind.FREEZE: self._rest,
            FaultKind.STALL: self._rest,
            FaultKind.CLOCK: self._set_clock,
            FaultKind.ACCUSE: self._accuse,
        }[fault.kind]
        count = len(fault.targets) or max(fault.count, round(fault.share * self._peers))
        if fault.kind in ENDINGS or fault.kind is FaultKind.REPLACE:
            # Somebody has to be left, and who takes another's place needs somebody to join.
            count = min(count, self._world.running_count - 1)
        if fault.kind is FaultKind.ACCUSE:
            busy = self._world.now < max(self._split_until_s, self._accused_until_s) + SETTLE_S
            count = 0 if busy or self._has_bad_paths else 1
        victims = self._choose(fault, count, dice) if count > 0 else []
        for life in victims:
            act(fault, dice, life)
        return len(victims)

    def _choose(self, fault: Fault, count: int, dice: random.Random) -> list[SimulatedPeer]:
        """The targets of a fault, or as many drawn ones; only who is well can be hit."""
        if not fault.targets:
            return self._pick(count, dice)
        known = len(self._world.current)
        lives = [self._world.current[number] for number in fault.targets if number < known]
        return [life for life in lives if self._is_well(life)][:count]

    def _pick(self, count: int, dice: random.Random, to_dial: bool = False) -> list[SimulatedPeer]:
        """Different peers that run and that nothing is wrong with; ``to_dial``, that can be."""
        found: dict[int, SimulatedPeer] = {}
        current = self._world.current
        for _ in range(TRIES + 4 * count):
            life = current[dice.randrange(len(current))]
            if self._is_well(life) and not (to_dial and life.only_dials_out):
                found[life.number] = life
            if len(found) == count:
                break
        return list(found.values())

    def _is_well(self, life: SimulatedPeer) -> bool:
        deaf = self._world.network.is_deaf(life.me.peer)
        return life.running and life.resumes_at is None and not life.leaving and not deaf

    def _contacts(self, dice: random.Random) -> list[int]:
        """Addresses that somebody wrote down, the first peer's always; who is there now is another
        matter, see ``_start``. Where peer 0 stays, two that come at once never know only each
        other."""
        numbers = [life.number for life in self._pick(CONTACTS, dice, to_dial=True)]
        return numbers if 0 in numbers else [*numbers, 0]

    def _start(self, number: int, contacts: list[int], disk: bool = True) -> None:
        """It begins; with one more contact where all that it knows, by its disk too, are gone for
        good.

        Told only of those it could find nobody, whatever the protocol; a real peer ends then and
        says so, and is started with another address. It is that of who has been here longest: the
        surest to be a member, however busy it is. With nobody here to dial, of one that comes back.
        """
        lives = self._world.current
        before = lives.get(number)
        kept = before.kept if before is not None and disk else ()
        there = [life for life in self._world.running if not (life.only_dials_out or life.leaving)]
        returning = sorted(number for number, times in self._returning.items() if times)
        awaited = [*there, *(lives[number] for number in returning)]
        if not any(each.number in contacts or each.me.control_address in kept for each in awaited):
            dialable = there or [each for each in awaited if not each.only_dials_out]
            oldest = sorted(dialable, key=lambda life: life.started_at)[:1]
            contacts = [*contacts, *(life.number for life in oldest)]
        self._world.start(number, contacts, disk)

    def _fall(self, fault: Fault, dice: random.Random, life: SimulatedPeer) -> None:
        if fault.kind is FaultKind.CRASH:
            self._world.crash(life.number)
        else:
            self._world.lose_host(life.number)
        self._restart_later(fault, dice, life.number)

    def _restart_later(self, fault: Fault, dice: random.Random, number: int) -> None:
        if fault.restart_after_s is None:
            return
        pause_s = min(dice.uniform(*fault.restart_after_s), self._calm_at_s - self._world.now)
        contacts = self._contacts(dice)
        at_s = self._world.now + pause_s
        self._returning[number] += 1
        disk = self._keeps_disk(fault, dice)
        self._world.call(at_s, self._start_again, number, contacts, disk)

    def _replace(self, fault: Fault, dice: random.Random, life: SimulatedPeer) -> None:
        del fault
        self._world.crash(life.number)
        self._start(len(self._world.current), self._contacts(dice))

    def _leave(self, fault: Fault, dice: random.Random, life: SimulatedPeer) -> None:
        self._world.leave(life.number)
        self._restart_later(fault, dice, life.number)

    def _rest(self, fault: Fault, dice: random.Random, life: SimulatedPeer) -> None:
        if fault.kind is FaultKind.FREEZE:
            self._world.freeze(life.number, self._lasts_s(fault, dice))
        else:
            self._world.stall(life.number, self._lasts_s(fault, dice))

    def _set_clock(self, fault: Fault, dice: random.Random, life: SimulatedPeer) -> None:
        """Until the calm: a clock that is wrong for ever would be no fault but a machine."""
        self._world.set_clock_rate(life.number, dice.uniform(*fault.rate))
        self._world.call(self._calm_at_s, self._mend_clock, life)

    def _mend_clock(self, life: SimulatedPeer) -> None:
        if life.running:
            self._world.set_clock_rate(life.number, 1.0)

    def _restart_all(self, fault: Fault, dice: random.Random) -> int:
        """Everybody crashes within ``for_s``, and begins again so long after its own crash: some
        are back while others have yet to go. Each is counted when it goes."""
        lives = [life for life in self._world.running if not life.leaving]
        known = [life for life in lives if not life.only_dials_out]
        for life in lives:
            crash_at_s = self._world.now + self._lasts_s(fault, dice)
            after_s = dice.uniform(*(fault.restart_after_s or (5.0, 5.0)))
            contacts = [other.number for other in dice.sample(known, min(CONTACTS, len(known)))]
            back_at_s = min(crash_at_s + after_s, self._calm_at_s)
            again = (life.number, contacts, self._keeps_disk(fault, dice))
            self._world.call(crash_at_s, self._crash_in_turn, life, back_at_s, again)
        return 0

    def _crash_in_turn(
        self, life: SimulatedPeer, back_at_s: Seconds, again: tuple[int, list[int], bool]
    ) -> None:
        """Unless it is gone already, or about to go politely: then it does not come back."""
        if not life.running or life.leaving:
            return
        self._world.crash(life.number)
        self._returning[life.number] += 1
        self.injected[FaultKind.RESTART_ALL] += 1
        self._world.call(back_at_s, self._start_again, *again)

    def _start_again(self, number: int, contacts: list[int], disk: bool) -> None:
        self._returning[number] -= 1
        if not self._world.current[number].running:
            self._start(number, contacts, disk)

    def _keeps_disk(self, fault: Fault, dice: random.Random) -> bool:
        """Dice say so for a share of all; where it is all or nobody none are thrown."""
        return dice.random() < fault.disk if 0 < fault.disk < 1 else bool(fault.disk)

    def _cut(self, fault: Fault, dice: random.Random) -> int:
        pair, for_s = self._pick_path(fault, dice), self._lasts_s(fault, dice)
        if pair is None:
            return 0
        linked = self._bad_path(fault.kind, pair, for_s)
        self._world.cut(pair[0].number, pair[1].number, for_s, fault.kind is FaultKind.CUT)
        return linked

    def _make_lossy(self, fault: Fault, dice: random.Random) -> int:
        pair, for_s = self._pick_path(fault, dice), self._lasts_s(fault, dice)
        if pair is None:
            return 0
        linked = self._bad_path(fault.kind, pair, for_s)
        network, (one, other) = self._world.network, (life.me.peer for life in pair)
        network.make_lossy(one, other, fault.loss)
        self._world.remark(f"{pair[0].number} to {pair[1].number} loses {fault.loss:g}")
        self._world.call(self._world.now + for_s, network.make_lossy, one, other, 0.0)
        return linked

    def _pick_path(
        self, fault: Fault, dice: random.Random
    ) -> tuple[SimulatedPeer, SimulatedPeer] | None:
        """Two peers with no bad path, while nothing else makes live peers look gone.

        Drawn ones have a link, if the first has any: a path that nobody uses harms nobody.
        """
        now = self._world.now
        if now < max(self._split_until_s, self._accused_until_s) + SETTLE_S:
            return None
        pair = [life for life in self._choose(fault, 2, dice) if self._has_good_paths(life)]
        if not fault.targets and pair:
            linked = [life for life in linked_with(pair[0]) if self._is_well(life)]
            free = [life for life in linked if self._has_good_paths(life)]
            pair = [pair[0], dice.choice(free)] if free else pair
        return (pair[0], pair[1]) if len(pair) == 2 else None

    def _has_good_paths(self, life: SimulatedPeer) -> bool:
        until_s = self._bad_path_until_s.get(life.me.peer, -SETTLE_S)
        return until_s + SETTLE_S <= self._world.now

    def _bad_path(
        self, kind: FaultKind, pair: tuple[SimulatedPeer, SimulatedPeer], for_s: Seconds
    ) -> bool:
        """Note it; whether there is a link that it can harm."""
        for life in pair:
            self._bad_path_until_s[life.me.peer] = self._world.now + for_s
        one, other = (life.me.peer for life in pair)
        for way in ((one, other), (other, one)):
            self._settle(way)
            self._culprits[way] = kind
        return pair[1] in linked_with(pair[0])

    def _settle(self, way: tuple[PeerId, PeerId]) -> None:
        """What this way took so far counts for the kind that made it bad last."""
        kind = self._culprits.get(way)
        if kind is not None:
            self._dropped[kind] += self._world.network.dropped.pop(way, 0)

    @property
    def _has_bad_paths(self) -> bool:
        last_s = max(self._bad_path_until_s.values(), default=-SETTLE_S)
        return self._world.now < last_s + SETTLE_S

    def _split(self, fault: Fault, dice: random.Random) -> int:
        """Two sides or more, unless there are too few peers for them."""
        if self._has_bad_paths or self._world.now < self._split_until_s:
            return 0
        numbers = [life.number for life in self._world.running]
        sides, bridge = sides_of(fault, dice, numbers)
        if not all(sides) or len(bridge) < fault.bridge:
            return 0
        self._world.split([sorted([*side, *bridge]) for side in sides], fault.one_way)
        self._split_until_s = self._world.now + self._lasts_s(fault, dice)
        self._world.call(self._split_until_s, self._world.heal)
        return 1

    def _accuse(self, fault: Fault, dice: random.Random, life: SimulatedPeer) -> None:
        """A peer that hears nothing, and says of everybody that they do not answer."""
        self._accused_until_s = self._world.now + self._lasts_s(fault, dice)
        self._world.network.deafen(life.me.peer, True)
        self._world.remark(f"{life.name} hears nothing and accuses everybody")
        self._accuse_more(life, dice, self._accused_until_s)

    def _accuse_more(self, life: SimulatedPeer, dice: random.Random, until_s: Seconds) -> None:
        world = self._world
        if not life.running or world.now >= until_s:
            world.network.deafen(life.me.peer, False)
            return
        for subject, listener in zip(
            self._pick(ACCUSED_AT_ONCE, dice), self._pick(ACCUSED_AT_ONCE, dice), strict=False
        ):
            record = life.core.swim.record(subject.me.peer)
            if record is not None and record.status is Status.ALIVE:
                status = dice.choice((Status.SUSPECT, Status.DOWN))
                world.send(life, listener.me.peer, accusation(life, record, status), b"")
        world.call(world.now + ACCUSE_EVERY_S, self._accuse_more, life, dice, until_s)


def sides_of(
    fault: Fault, dice: random.Random, numbers: list[int]
) -> tuple[list[list[int]], list[int]]:
    """The sides of a split, and who stands on all of them.

    The second side has the targets; or each but the first has ``share`` of all, by default as many
    as the first.
    """
    if fault.targets:
        away = [number for number in fault.targets if number in numbers]
        rest = [number for number in numbers if number not in away]
        bridge = dice.sample(rest, min(fault.bridge, len(rest))) if fault.bridge else []
        return [[number for number in rest if number not in bridge], away], bridge
    dice.shuffle(numbers)
    bridge, numbers = numbers[: fault.bridge], numbers[fault.bridge :]
    share = fault.share or 1 / fault.sides
    ends = [round(share * side * len(numbers)) for side in range(fault.sides)]
    later = [numbers[begin:end] for begin, end in pairwise(ends)]
    return [numbers[ends[-1] :], *later], bridge


def linked_with(life: SimulatedPeer) -> list[SimulatedPeer]:
    """Those that a peer has a link with now, whoever dialed; in the order of the dials."""
    port = life.port
    ends = {link.to.peer: link.to for link in port.outgoing.values() if link.up}
    ends |= {link.dialer.peer: link.dialer for link in port.incoming.values() if link.up}
    return [end.life for end in ends.values() if end.life is not None and end.life.running]


def accusation(accuser: SimulatedPeer, record: Record, status: Status) -> Gossip:
    """What a peer says of another that it cannot hear, on no word but its own."""
    claim = replace(record, status=status)
    me = (accuser.me.peer,)
    evidence = Evidence(record.peer, record.boot, record.incarnation, me)
    return Gossip(Rumors((claim,), (), (evidence,)))

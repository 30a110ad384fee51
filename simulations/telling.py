"""M21: one peer tells one claim a bounded number of times.

Told of its own accord, a claim about somebody else is one of these:

- News goes out at most S times each time it becomes news: S = 4 ceil(log10(N + 1)), as decided in
  ``gossip/membership/rumors.py``, or where some peers only dial out once to each neighbor, in
  whole rounds of ``gossip_fanout``; while the number of neighbors changes, the last round may go
  beyond that by all but one of those whom it goes to. N is at most the number of peers that ever
  were, neighbors at most those of now and those that are gone.
- That somebody is here, or has left, becomes news once: when it wins.
- That somebody is down becomes news twice, when it is heard and when it is believed; between the
  two, ``gossip_fanout`` neighbors are asked what they know; or twice, and its observers with them,
  if they are the only way to its subject. If it is not believed within the longest suspicion, it is
  given up, and may begin anew when it is heard again.
- An accusation is no news: it is told to the observers of the suspect, and again when another
  probe has failed, which takes ``probe_timeout_min_s``, or once when the suspect's link is lost
  though it spoke for it before, and once when its accuser comes to doubt it.

An answer goes to whoever said something that is known better. There are as many as messages that
called for one, so what is counted is how often one message is answered with the same claim: with a
notice, and with news on the Ack. What a newcomer tells those that it welcomed before it was
welcomed itself is an answer too.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

from gossip.config import MembershipConfig
from gossip.machine import Input, Received
from gossip.messages import PeerId, Record, Rumors, Seconds, Status, Welcome
from simulations.simulated_peer import SimulatedPeer
from simulations.truth import Truth
from simulations.world import World

ANSWERS_MAX: Final = 2
"""To one message, with one claim."""


class Telling:
    """Counts how often each life tells each claim; see the module. A message costs as much as it
    has claims."""

    def __init__(self, world: World, truth: Truth) -> None:
        self._world = world
        self._truth = truth
        self._config = world.plan.config.membership
        self._numbers: dict[int, int] = {}
        self._numbered: list[Record] = []
        self._number_of: dict[tuple[PeerId, int, int, int], int] = {}
        self._first_at_s: list[Seconds] = []
        self._answered: tuple[SimulatedPeer, Input] | None = None
        self._answers: Counter[tuple[PeerId, int]] = Counter()

    def excess(
        self, life: SimulatedPeer, happened: Input, to: PeerId, rumors: Rumors, copies: int
    ) -> str:
        """Count a message, and how many it goes to at once; what was told too often, or nothing."""
        me, passed_on = life.me.peer, life.passed_on
        if answers(happened, to):
            return self._excess_of_answers(life, happened, to, rumors)
        usual = news_max(self._config, len(self._truth.subjects))
        for record in rumors.records:
            if record.peer == me:
                continue
            number = self._number(record)
            if number >= len(passed_on):
                passed_on.extend(bytes(number + 1 - len(passed_on)))
            times = passed_on[number] + copies
            passed_on[number] = times
            if times <= usual and record.status is not Status.SUSPECT:
                continue
            most = self._told_max(life, record, number)
            if times > most:
                return f"told {record.key} of {record.peer} {times} times, {most:g} are right"
        return ""

    def _excess_of_answers(
        self, life: SimulatedPeer, happened: Input, to: PeerId, rumors: Rumors
    ) -> str:
        before = self._answered
        if before is None or before[0] is not life or before[1] is not happened:
            self._answered = (life, happened)
            self._answers.clear()
        for record in rumors.records:
            if record.peer == life.me.peer:
                continue
            key = (to, self._number(record))
            self._answers[key] += 1
            if self._answers[key] > ANSWERS_MAX:
                what = f"{record.key} of {record.peer} {self._answers[key]} times"
                return f"answered one message of {to} with {what}, {ANSWERS_MAX} are right"
        return ""

    def _told_max(self, life: SimulatedPeer, record: Record, number: int) -> float:
        """How often this claim may have been told by now."""
        ever, neighbors = len(self._truth.subjects), 0
        if self._world.plan.dial_out_share:
            neighbors = len(life.core.swim.neighbors()) + ever - self._world.running_count
        age_s = self._world.now - self._first_at_s[number]
        hidden = not record.control_address
        return told_max(self._config, record.status, age_s, ever, neighbors, hidden)

    def _number(self, record: Record) -> int:
        """A claim by a number, from 0 on: equal ones have the same, since all lives count by it.
        Each record is numbered only once, and kept, so that no other may take its place in
        memory."""
        number = self._numbers.get(id(record))
        if number is None:
            claim = (record.peer, *record.key)
            number = self._number_of.setdefault(claim, len(self._number_of))
            if number == len(self._first_at_s):
                self._first_at_s.append(self._world.now)
            self._numbers[id(record)] = number
            self._numbered.append(record)
        return number


def answers(happened: Input, to: PeerId) -> bool:
    """Whether what goes to this peer now is an answer."""
    if type(happened) is not Received:
        return False
    return happened.sender == to or type(happened.message) is Welcome


def news_max(config: MembershipConfig, members: int, neighbors: int = 0) -> int:
    """S of the module: how often one news is told. ``neighbors``: where some only dial out."""
    times = config.transmissions_factor * math.ceil(math.log10(members + 1))
    beyond = config.gossip_fanout - 1
    return max(times, neighbors + beyond if neighbors else 0) + beyond


def told_max(
    config: MembershipConfig,
    status: Status,
    age_s: Seconds,
    members: int,
    neighbors: int = 0,
    hidden: bool = False,
) -> float:
    """How often one peer may tell a claim of its own accord that was first told so long ago;
    ``hidden``: about a member that cannot be dialed."""
    if status is Status.SUSPECT:
        observers = min(config.observers, members - 2)
        return observers * (3 + age_s / config.probe_timeout_min_s)
    news = news_max(config, members, neighbors)
    if status is not Status.DOWN:
        return news
    longest_s = config.suspicion_max_factor * config.suspicion_s(members)
    asked = 2 * (config.gossip_fanout + config.observers) if hidden else config.gossip_fanout
    return (2 * news + asked) * (1 + math.floor(age_s / longest_s))

"""Strategies beside the swap: accelerated gossip, push-sum over one-way links, robust pulling.

In fp32 and in lock-step; their laws are those of ``gossip.mixing``.
"""

from __future__ import annotations

import random
from enum import Enum

import torch

from gossip.errors import UsageError
from gossip.mixing.gasloc import AcceleratedStep, accelerated_step_
from gossip.mixing.push_sum import PushSum
from gossip.mixing.robust import nearest_mean_N, trimmed_mean_N
from simulations.compare.attacks import Attackers, attackers_of, shown_PN
from simulations.compare.field import Field
from simulations.compare.partners import Meeting, Meetings


class Accelerated:
    """Every ``every`` steps pairs average, and momentum is taken between mixings (GASLoC)."""

    models = 0

    def __init__(self, every: int, mu: float) -> None:
        self._every = every
        self._step = AcceleratedStep(mu)
        self._last_PN = torch.empty(0)
        self._meetings: Meetings | None = None

    def start(self, field: Field) -> None:
        """See Method."""
        self._last_PN = field.stack.theta_PN.clone()
        self._meetings = Meetings(field.peers, Meeting.NEIGHBORS, field.rng("pairs"))
        field.traffic.messages = 2

    def advance(self, field: Field, step: int) -> None:
        """See Method."""
        field.local_steps(step)
        if (step + 1) % self._every:
            return
        assert self._meetings is not None, "not started"
        theta_PN = field.stack.theta_PN
        for pair in self._meetings.next():
            theta_PN[list(pair)] = theta_PN[list(pair)].mean(dim=0, keepdim=True)
        accelerated_step_(self._step, theta_PN, self._last_PN)
        field.traffic.add(field.vector_bytes)

    def replaced(self, field: Field, row: int, source: int) -> None:
        """See Method."""
        del field
        self._last_PN[row] = self._last_PN[source]


class PushSumGossip:
    """Every ``every`` steps each peer pushes half of its mass to one random other, which need not
    answer; lost pushes are made up for by later ones. fp32 on the wire is what is counted."""

    models = 0

    def __init__(self, every: int) -> None:
        self._every = every
        self._sums: list[PushSum] = []
        self._partners = random.Random()
        self._losses = random.Random()

    def start(self, field: Field) -> None:
        """See Method."""
        self._sums = [PushSum(theta_N.double()) for theta_N in field.stack.theta_PN]
        self._partners, self._losses = field.rng("pairs"), field.rng("losses")
        field.traffic.messages = 1

    def advance(self, field: Field, step: int) -> None:
        """See Method."""
        before_PN = field.stack.theta_PN.clone()
        field.local_steps(step)
        for sum_, progress_N in zip(self._sums, field.stack.theta_PN - before_PN, strict=True):
            sum_.add(progress_N)
        if (step + 1) % self._every:
            return
        arriving = []
        for sender, sum_ in enumerate(self._sums):
            receiver = self._partners.choice([row for row in range(field.peers) if row != sender])
            (push,) = sum_.push([(sender, receiver)])
            if self._losses.random() >= field.conditions.loss:
                arriving.append((sender, receiver, push))
        for sender, receiver, push in arriving:
            self._sums[receiver].take((sender, receiver), push)
        for row, sum_ in enumerate(self._sums):
            field.stack.theta_PN[row] = sum_.estimate_N().float()
        field.traffic.add(field.vector_bytes)

    def replaced(self, field: Field, row: int, source: int) -> None:
        """See Method: the newcomer's estimate is its source's; the mass it stands on is its own."""
        del source
        sum_ = self._sums[row]
        sum_.mass_N = field.stack.theta_PN[row].double() * sum_.weight


class Rule(Enum):
    """How several pulled models are averaged with the own one."""

    TRIMMED = "trimmed"
    NEAREST = "nearest"


class Pull:
    """Every ``every`` steps each peer pulls ``count`` random models and averages them robustly
    against ``liars`` among them. Pulled, not pushed, so that nobody can flood anybody."""

    models = 0

    def __init__(self, every: int, count: int, liars: int, rule: Rule) -> None:
        if count < 1 or liars < 0:
            raise UsageError("pull: count must be at least 1, liars not negative")
        self._every = every
        self._count = count
        self._liars = liars
        self._rule = rule
        self._rng = random.Random()
        self._attackers: Attackers | None = None

    def start(self, field: Field) -> None:
        """See Method."""
        if self._count >= field.peers:
            raise UsageError(f"pull: {self._count} others among {field.peers} peers")
        self._rng = field.rng("pairs")
        self._attackers = attackers_of(field)
        field.traffic.messages = 2

    def advance(self, field: Field, step: int) -> None:
        """See Method."""
        field.local_steps(step)
        if (step + 1) % self._every:
            return
        theta_PN = field.stack.theta_PN
        shown = shown_PN(field, self._attackers)
        mean = trimmed_mean_N if self._rule is Rule.TRIMMED else nearest_mean_N
        mixed_PN = torch.empty_like(theta_PN)
        for row in range(field.peers):
            others = self._rng.sample([o for o in range(field.peers) if o != row], self._count)
            mixed_PN[row] = mean(theta_PN[row], shown[others], self._liars)
        theta_PN.copy_(mixed_PN)
        field.traffic.add(self._count * field.vector_bytes)

    def replaced(self, field: Field, row: int, source: int) -> None:
        """See Method: there is no state beside the models."""
        del field, row, source

"""What people use today: DDP, a parameter server, local SGD, DiLoCo, NoLoCo, group averaging.

Bytes are what one peer sends. A ring all-reduce sends 2 (N - 1) / N of the vector per peer
(Patarasuk and Yuan, 2009); all-reduces here are counted so.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gossip.errors import UsageError
from gossip.mixing.noloco import NoLoCoStep, noloco_step_
from simulations.compare.attacks import Attackers, attackers_of, shown_PN
from simulations.compare.field import Field
from simulations.compare.partners import groups_of


def all_reduce_messages(peers: int) -> int:
    """Messages one after another in an all-reduce whose latency counts: recursive halving, then
    doubling (Thakur et al., "Optimization of collective communication operations in MPICH", 2005,
    section 4.5); its bytes are a ring's."""
    return 2 * math.ceil(math.log2(max(2, peers)))


@dataclass(slots=True)
class SharedBatch:
    """One model on the batches of all peers: a single machine with N times the batch.

    DDP computes exactly this, and so does a synchronous parameter server; they differ in bytes.
    ``vectors`` sent per step and peer: 2 (N - 1) / N for DDP, 1 for a server (a gradient up; what
    comes down is the server's to send), 0 on one machine.
    """

    vectors: float
    messages: int
    models: int = 1

    def start(self, field: Field) -> None:
        """See Method."""
        field.traffic.blocking = True
        field.traffic.messages = self.messages

    def advance(self, field: Field, step: int) -> None:
        """See Method."""
        del step
        step = field.shared_step()
        field.train_loss = float(field.stack.gradients([field.feed.union(step)], [0]).mean())
        with torch.no_grad():
            field.inner.step_(None, field.schedule.scale(step))
        field.traffic.add(self.vectors * field.vector_bytes)

    def replaced(self, field: Field, row: int, source: int) -> None:
        """See Method: one model for all, so a newcomer changes nothing."""
        del field, row, source


@dataclass(slots=True)
class AsyncServer:
    """A parameter server that nobody waits for: gradients are taken where the model was when the
    peer last looked, N - 1 updates ago, and applied one by one.

    Row 0 is the server's model, the others what peers hold. The rate is the schedule's divided by
    N, as N small steps replace one large one. Source: Dean et al., "Large scale distributed deep
    networks", NeurIPS 2012 (Downpour SGD).
    """

    models: int = 1
    _held: list[Tensor] = field(default_factory=list)

    def start(self, field: Field) -> None:
        """See Method."""
        field.traffic.messages = 2
        self._held = [field.stack.theta_PN[0].clone() for _ in range(field.peers)]

    def advance(self, field: Field, step: int) -> None:
        """See Method."""
        stack = field.stack
        losses: list[float] = []
        for peer in range(field.peers):
            if not field.steps_in(peer, step):
                continue
            current_N = stack.theta_PN[0].clone()
            stack.theta_PN[0] = self._held[peer]
            batch = field.feed.batch(peer, field.taken[peer])
            losses.append(float(stack.gradients([batch], [0]).mean()))
            with torch.no_grad():
                stack.theta_PN[0] = current_N
                field.inner.step_(None, field.schedule.scale(field.progress) / field.peers)
            self._held[peer] = stack.theta_PN[0].clone()
            field.taken[peer] += 1
        if losses:
            field.train_loss = sum(losses) / len(losses)
        field.traffic.add(field.vector_bytes * len(losses) / field.peers)

    def replaced(self, field: Field, row: int, source: int) -> None:
        """See Method: a newcomer looks at the server first."""
        del source
        self._held[row] = field.stack.theta_PN[0].clone()


@dataclass(slots=True)
class PeriodicAverage:
    """Local steps, and every ``every`` steps the exact mean: of all peers (local SGD, as Spark
    jobs do it), or of random groups of ``group`` (what hivemind and Moshpit SGD do: Ryabinin et
    al., NeurIPS 2021). ``bytes_per_element``: 4 in fp32; 1 for hivemind's 8-bit codes, whose
    rounding costs nothing measurable and is left out, in its favor.
    """

    every: int
    group: int = 0
    bytes_per_element: float = 4.0
    models: int = 0
    _rng: random.Random = field(default_factory=random.Random)
    _losses: random.Random = field(default_factory=random.Random)
    _attackers: Attackers | None = None

    def start(self, field: Field) -> None:
        """See Method."""
        if self.every < 1 or self.group == 1:
            raise UsageError("averaging needs every >= 1 and groups of at least 2")
        self._rng, self._losses = field.rng("groups"), field.rng("losses")
        self._attackers = attackers_of(field)
        size = self.group or field.peers
        field.traffic.blocking = True
        field.traffic.messages = all_reduce_messages(size)

    def advance(self, field: Field, step: int) -> None:
        """See Method."""
        field.local_steps(step)
        if (step + 1) % self.every:
            return
        size = self.group or field.peers
        theta_PN, shown = field.stack.theta_PN, shown_PN(field, self._attackers)
        for rows in groups_of(field.peers, size, self._rng):
            # A group that loses a message gives up; all peers together try again, and wait.
            if size == field.peers or self._losses.random() >= field.conditions.loss:
                theta_PN[rows] = shown[rows].mean(dim=0, keepdim=True)
        share = 2 * (size - 1) / size
        field.traffic.add(share * self.bytes_per_element * field.stack.parameters)

    def replaced(self, field: Field, row: int, source: int) -> None:
        """See Method: there is no state beside the models."""
        del field, row, source


@dataclass(slots=True)
class DiLoCo:
    """Every ``every`` steps all peers average their progress, and a Nesterov step is taken on it
    (Douillard et al., "DiLoCo", 2023, algorithm 1): momentum ``a``, rate ``b``.
    """

    every: int
    a: float
    b: float
    models: int = 0
    _phi_N: Tensor = field(default_factory=lambda: torch.empty(0))
    _m_N: Tensor = field(default_factory=lambda: torch.empty(0))
    _attackers: Attackers | None = None

    def start(self, field: Field) -> None:
        """See Method."""
        self._attackers = attackers_of(field)
        self._phi_N = field.stack.theta_PN[0].clone()
        self._m_N = torch.zeros_like(self._phi_N)
        field.traffic.blocking = True
        field.traffic.messages = all_reduce_messages(field.peers)

    def advance(self, field: Field, step: int) -> None:
        """See Method."""
        field.local_steps(step)
        if (step + 1) % self.every:
            return
        delta_N = shown_PN(field, self._attackers).mean(dim=0) - self._phi_N
        self._m_N.mul_(self.a).add_(delta_N)
        self._phi_N.add_(delta_N + self.a * self._m_N, alpha=self.b)
        field.stack.theta_PN.copy_(self._phi_N.expand_as(field.stack.theta_PN))
        field.traffic.add(2 * (field.peers - 1) / field.peers * field.vector_bytes)

    def replaced(self, field: Field, row: int, source: int) -> None:
        """See Method: anchor and momentum are everybody's."""
        del field, row, source


class NoLoCo:
    """Every ``every`` steps random pairs take NoLoCo's outer step (``gossip.mixing.noloco``)."""

    models = 0

    def __init__(self, every: int, a: float, b: float) -> None:
        self._every = every
        self._step = NoLoCoStep(a, b)
        self._phi_PN = self._m_PN = torch.empty(0)
        self._rng, self._losses = random.Random(), random.Random()
        self._attackers: Attackers | None = None

    def start(self, field: Field) -> None:
        """See Method."""
        self._attackers = attackers_of(field)
        self._phi_PN = field.stack.theta_PN.clone()
        self._m_PN = torch.zeros_like(self._phi_PN)
        self._rng, self._losses = field.rng("groups"), field.rng("losses")
        field.traffic.blocking = True
        field.traffic.messages = 2

    def advance(self, field: Field, step: int) -> None:
        """See Method."""
        field.local_steps(step)
        if (step + 1) % self._every:
            return
        mean_PN, shown = field.stack.theta_PN.clone(), shown_PN(field, self._attackers)
        for rows in groups_of(field.peers, 2, self._rng):
            if self._losses.random() >= field.conditions.loss:
                mean_PN[rows] = shown[rows].mean(dim=0, keepdim=True)
        noloco_step_(self._step, self._phi_PN, self._m_PN, mean_PN)
        field.stack.theta_PN.copy_(self._phi_PN)
        field.traffic.add(field.vector_bytes)

    def replaced(self, field: Field, row: int, source: int) -> None:
        """See Method: a newcomer takes the anchor of its source and no momentum."""
        del field
        self._phi_PN[row] = self._phi_PN[source]
        self._m_PN[row].zero_()

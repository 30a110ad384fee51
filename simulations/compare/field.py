"""What a method works with: the stacked models, their optimizer, the data, the bytes it sent."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Protocol

import torch

from simulations.compare.conditions import Conditions
from simulations.compare.feed import Feed, stream_seed
from simulations.compare.inner import Inner
from simulations.compare.stack import Stack

FP32_BYTES = 4


@dataclass(slots=True)
class Traffic:
    """Bytes sent, mean over peers; and how a method talks, for modelled seconds.

    ``messages`` in a row per event, ``blocking``: training waits for the event and its slowest
    peer; otherwise it goes on meanwhile. ``paired``: an event is a message and its answer, which
    is over before the next one.
    """

    sent_bytes: float = 0.0
    events: int = 0
    messages: int = 0
    blocking: bool = False
    paired: bool = False

    def add(self, bytes_per_peer: float) -> None:
        """One event."""
        self.sent_bytes += bytes_per_peer
        self.events += 1


@dataclass(frozen=True, slots=True)
class Schedule:
    """The rate's course: linear warm-up, then a cosine down to ``final`` times the peak."""

    steps: int
    warmup: float = 0.1
    final: float = 0.1

    def scale(self, step: float) -> float:
        """The rate at ``step`` (from 0), as a share of the peak."""
        warm = self.warmup * self.steps
        if step < warm:
            return (step + 1) / (warm + 1)
        progress = min(1.0, (step - warm) / max(1.0, self.steps - warm))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(slots=True)
class Field:
    """See the module. ``peers`` is N, whatever number of models the method keeps."""

    stack: Stack
    inner: Inner
    feed: Feed
    schedule: Schedule
    peers: int
    seed: int
    conditions: Conditions = field(default_factory=Conditions)
    traffic: Traffic = field(default_factory=Traffic)
    train_loss: float = math.nan
    taken: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.taken = [0] * self.peers

    def rng(self, purpose: str) -> random.Random:
        """Random choices for one purpose, the same for every method under one seed."""
        return random.Random(stream_seed(self.seed, purpose))

    def generator(self, purpose: str) -> torch.Generator:
        """Random tensors for one purpose."""
        return torch.Generator().manual_seed(stream_seed(self.seed, purpose))

    @property
    def progress(self) -> float:
        """Local steps taken so far, mean over peers."""
        return sum(self.taken) / self.peers

    def local_steps(self, step: int) -> None:
        """Every peer takes one step of its own, unless it is slower; where peers wait for each
        other at a barrier they take equal steps, and time passes instead (``links``)."""
        blocking = self.traffic.blocking
        rows = [peer for peer in range(self.peers) if blocking or self.steps_in(peer, step)]
        batches = self.feed.batches(rows, [self.taken[peer] for peer in rows])
        scale = self.schedule.scale(self.progress)
        losses = self.stack.gradients(batches, None if len(rows) == self.peers else rows)
        if len(rows) > 0:
            self.train_loss = float(losses.mean())
        with torch.no_grad():
            self.inner.step_(None if len(rows) == self.peers else torch.tensor(rows), scale)
        for peer in rows:
            self.taken[peer] += 1

    def shared_step(self) -> int:
        """The step that a model shared by all is at; counts it for everybody."""
        step = self.taken[0]
        self.taken = [step + 1] * self.peers
        return step

    def steps_in(self, peer: int, tick: int) -> bool:
        """Whether a peer is fast enough to take a step in this tick."""
        speed = speed_of(peer, self.peers, self.conditions.spread)
        return math.floor((tick + 1) * speed) > math.floor(tick * speed)

    @property
    def vector_bytes(self) -> float:
        """One model in fp32, without padding."""
        return FP32_BYTES * self.stack.parameters


def mean_speed(peers: int, spread: float) -> float:
    """Steps per tick, mean over peers."""
    return sum(speed_of(peer, peers, spread) for peer in range(peers)) / peers


def speed_of(peer: int, peers: int, spread: float) -> float:
    """A peer's steps per tick: from 1 / spread to 1, evenly spaced."""
    if peers < 2:
        return 1.0
    slowest = 1 / spread
    return slowest + (1 - slowest) * peer / (peers - 1)


class Method(Protocol):
    """One way to train with N peers."""

    @property
    def models(self) -> int:
        """How many models it keeps: 0 for one per peer."""
        ...

    def start(self, field: Field) -> None:
        """Take possession of a field before the first step."""
        ...

    def advance(self, field: Field, step: int) -> None:
        """One tick of everybody, and whatever communication is due after it."""
        ...

    def replaced(self, field: Field, row: int, source: int) -> None:
        """Peer ``row`` is a newcomer with the model of ``source``."""
        ...

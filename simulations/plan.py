"""What a world is made of, and what may look at it while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from gossip.config import Config
from gossip.core import Core
from gossip.machine import Effect, Input
from gossip.mixing.outer import OuterStep
from peers.hook import Cadence
from peers.tasks.task import Task
from simulations.conditions import Conditions
from simulations.simulated_peer import CoreMaker, Pace, SimulatedPeer


@dataclass(frozen=True, slots=True)
class Plan:
    """What a world is made of.

    With a ``task`` peers carry its model and train it; without one they are hollow and trade
    blobs of ``vector_bytes`` by reference; with ``trainers`` False they carry nothing, found no
    lineage, take no steps, and are members only. ``model_seed`` None: each peer starts from a
    model of its own, so that adoption can be seen. ``dial_out_share`` of all peers cannot be
    reached, and take part over the links that they open. ``lines`` keeps a transcript, ``journals``
    every entry. ``make_core`` may give another core than the production one, to try the world
    itself.
    """

    seed: int
    task: Task | None = None
    config: Config = field(default_factory=Config)
    conditions: Conditions = field(default_factory=Conditions)
    pace: Pace = field(default_factory=Pace)
    cadence: Cadence = field(default_factory=lambda: Cadence(swap_every=4))
    outer: OuterStep = field(default_factory=OuterStep)
    model_seed: int | None = None
    vector_bytes: int = 100_000_000
    trainers: bool = True
    dial_out_share: float = 0.0
    lines: bool = False
    journals: bool = False
    make_core: CoreMaker = Core


class Check(Protocol):
    """Looks at a world from outside while it runs; raises BrokenRule."""

    def look(self, life: SimulatedPeer, happened: Input, effects: list[Effect]) -> None:
        """One step of one core, before its effects are carried out."""
        ...

    def began(self, life: SimulatedPeer) -> None:
        """A process began."""
        ...

    def ended(self, life: SimulatedPeer) -> None:
        """A process ended."""
        ...

    def split(self) -> None:
        """The world was split just now."""
        ...

    def healed(self) -> None:
        """The split is over."""
        ...

"""The trainer's side of a peer: runs after each step of the user's own optimizer.

The only writer of theta and phi (gossip/README.md, rule 4). It never waits for the network: it
applies the corrections that are ready, publishes when the cadence says so, and returns.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from gossip.errors import UsageError
from gossip.machine import Applied, Submitted
from gossip.mixing.outer import OuterStep
from gossip.mixing.replica import Replica
from gossip.mixing.robust import SelfClip
from peers.mailbox import Correction, Mailbox, Replacement

COUNT_TOLD_EVERY_S = 0.25
"""The swarm's sample count is this fresh, however rare swaps are."""

AUTO = 0
"""As ``Cadence.swap_every``: a swap after every step for which there is time."""

RARE_EVERY = 25
"""Steps between swaps with an outer step, whose momentum wants some progress to see."""

AUTO_SHARE = 0.03
"""Of the training time that hooks may take before ``AUTO`` swaps become rarer."""


def usual_every(outer: OuterStep) -> int:
    """Steps between swaps (or AUTO) where nobody says."""
    return AUTO if outer.plain else RARE_EVERY


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often, in local optimizer steps.

    swap_every      a swap is due; with 1, as often as the last one is settled (never waiting).
                    AUTO: the same, but rarer where that would cost more than AUTO_SHARE of the
                    training time. The byte budget is kept by the core in any case.
    publish_every   the anchor follows theta, or the outer step is taken; 0 means with every swap.
    early_steps     so many of a peer's first steps have twice as many swaps: while a model moves
                    fast, what is lost between swaps is not won back later (simulations/compare).
    """

    swap_every: int = 16
    publish_every: int = 0
    early_steps: int = 0

    def __post_init__(self) -> None:
        if self.swap_every < 0:
            raise UsageError("swap_every must be AUTO (0) or at least 1 step")
        if self.publish_every < 0:
            raise UsageError("publish_every must be 0 (with every swap) or a number of steps")
        if self.early_steps < 0:
            raise UsageError("early_steps must be 0 (none) or a number of steps")
        if self.early_steps and self.swap_every in (AUTO, 1):
            raise UsageError(
                "early swaps need a fixed cadence of 2 steps or more: --early with --every, "
                "early_steps with swap_every; there is nothing more often than each step"
            )

    def swap_due(self, step: int) -> bool:
        """Whether a swap is due after local step ``step`` (counted from 1)."""
        if self.swap_every == AUTO:
            return True
        times = 2 if step <= self.early_steps else 1
        return times * step // self.swap_every > times * (step - 1) // self.swap_every

    def publish_due(self, step: int, swap_due: bool) -> bool:
        """Whether the anchor moves after local step ``step``."""
        return step % self.publish_every == 0 if self.publish_every else swap_due


@dataclass(slots=True)
class StallMeter:
    """What the training loop spent on us, in seconds; gaps are from one hook call to the next."""

    longest_stall_s: float = 0.0
    total_stall_s: float = 0.0
    longest_gap_s: float = 0.0
    last_ended_s: float | None = None

    def waited(self, seconds: float) -> None:
        """The training loop spent so long on something of ours."""
        self.longest_stall_s = max(self.longest_stall_s, seconds)
        self.total_stall_s += seconds

    def note(self, began_s: float, ended_s: float) -> None:
        """One hook call."""
        self.waited(ended_s - began_s)
        if self.last_ended_s is not None:
            self.longest_gap_s = max(self.longest_gap_s, ended_s - self.last_ended_s)
        self.last_ended_s = ended_s


class Clip:
    """How large a correction this peer will take: kappa times its own usual update.

    An update is what training moved all parameters by between two publishes. One of F fragments has
    a share of 1 / sqrt(F) of its norm, but moves F times before its next swap: sqrt(F) in all.
    ``weight`` is the share of a correction that is applied.
    """

    def __init__(self, kappa: float, weight: float, fragments: int) -> None:
        self._clip = SelfClip(kappa)
        self._scale = math.sqrt(fragments) / weight

    def note(self, replica: Replica) -> None:
        """A publish was asked for; on accelerators the update measured is the one before."""
        self._clip.note(replica.update_norm)

    def bound(self) -> float:
        """The largest norm of a correction; infinite until something was measured."""
        return self._clip.bound * self._scale


class Hook:
    """See the module. All methods but the constructor belong to the trainer's thread.

    ``samples`` counts what this peer trained on. A step that GradScaler leaves out runs no hook and
    does not count; one that a fused optimizer skips inside its kernel does (asking the device which
    it was would stall every step).
    """

    def __init__(
        self,
        replica: Replica,
        mailbox: Mailbox,
        cadence: Cadence,
        clock: Callable[[], float] = time.monotonic,
        clip: Clip | None = None,
    ) -> None:
        self._replica = replica
        self._clip = clip
        self._mailbox = mailbox
        self.cadence = cadence
        self._clock = clock
        self._publish_due = False
        self._swap_due = False
        self._told_s = self._began_s = clock()
        self._closed = False
        self._published_steps = 0
        self.steps = 0
        self.samples = 0
        self.applied = 0
        self.meter = StallMeter()

    def after_step(self, samples: int) -> None:
        """One optimizer step was taken on ``samples`` samples."""
        began_s = self._clock()
        self.steps += 1
        self.samples += samples
        swap_due = self.cadence.swap_due(self.steps) and not self._overspent(began_s)
        self._swap_due = self._swap_due or swap_due
        self._publish_due = self._publish_due or self.cadence.publish_due(self.steps, swap_due)
        if self.apply_queued():
            if self._publish_due:
                self._publish()
            if self._swap_due and self._replica.settle():
                self._swap_due = False
                self._submit(began_s, swap_due=True)
            elif began_s - self._told_s >= COUNT_TOLD_EVERY_S:
                self._submit(began_s, swap_due=False)
        self.meter.note(began_s, self._clock())

    def apply_queued(self) -> bool:
        """Apply what the I/O thread queued; False while a publish on a device is under way."""
        if not self._replica.settle():
            return False
        with torch.no_grad():
            for work in self._mailbox.work():
                match work:
                    case Correction():
                        self._correct(work)
                    case Replacement(exchange, snapshot_N):
                        self._replica.replace(snapshot_N)
                        self._mailbox.to_core(Applied(exchange, applied=True))
        return True

    def publish_now(self) -> None:
        """Let the anchor follow theta at once (before finalise), waiting for a device's copy."""
        self._replica.settle(wait=True)
        self.apply_queued()
        self._publish()
        self._replica.settle(wait=True)
        self._submit(self._clock(), swap_due=False)

    def publish_rest(self) -> None:
        """Publish the steps taken since the last publish, if there are any."""
        if self._published_steps < self.steps:
            self.publish_now()

    def close(self) -> None:
        """No hook will run any more: what is queued will not be applied, and the core is told."""
        self._closed = True
        for work in self._mailbox.work():
            if isinstance(work, Replacement) or not work.undo:
                self._mailbox.to_core(Applied(work.exchange, applied=False))

    @property
    def is_closed(self) -> bool:
        """Whether queued work will never be applied."""
        return self._closed

    def _publish(self) -> None:
        self._publish_due = False
        self._published_steps = self.steps
        with torch.no_grad():
            self._replica.publish()
            if self._clip is not None:
                self._clip.note(self._replica)

    def _submit(self, now_s: float, swap_due: bool) -> None:
        self._told_s = now_s
        bound = math.inf if self._clip is None else self._clip.bound()
        self._mailbox.to_core(Submitted(self.samples, swap_due, bound))

    def _overspent(self, now_s: float) -> bool:
        """Whether hooks took too much of the time already for a swap that nobody asked for."""
        passed_s = now_s - self._began_s
        return self.cadence.swap_every == AUTO and self.meter.total_stall_s > AUTO_SHARE * passed_s

    def _correct(self, work: Correction) -> None:
        if work.followed:
            where = (work.fragment, work.c_n, work.signed_weight, work.exchange)
            self._replica.apply_correction(*where)
            self.applied += 1
        if work.undo:
            self._replica.give_back(work.c_n)
        else:
            self._mailbox.to_core(Applied(work.exchange, True, work.disagreement))

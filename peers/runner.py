"""Train one task as one peer: what ``gossip run`` does between its flags and its exit code."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from gossip.errors import UsageError
from peers.loading import ShardLoader
from peers.peer import Peer
from peers.settings import PeerConfig
from peers.tasks.task import Batch, Task

log = logging.getLogger("gossip.peer")

STATUS_EVERY_S = 0.5
WORD_EVERY_S = 10.0
SHARDS_LOOKED_UP_EVERY_S = 0.25
STOP_LOOKED_UP_EVERY_S = 0.2
EVALUATION_SHARE = 0.05
"""Evaluating on the way takes at most about this share of the training time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """When to stop, and how to train.

    samples      of the whole swarm; None: no limit.
    seconds      of this peer, from the moment it has a model; None: no limit.
    pace         at most so many optimizer steps a second; None: as fast as it goes.
    device       ``auto`` (CUDA if there is one), ``cpu`` or ``cuda:N``.
    model_seed   of the founder's initial parameters (a joiner adopts the swarm's).
    export       where to write the final model; None: nowhere.
    wait_for     begin when so many peers share the model, or after the join timeout.
    """

    samples: int | None = None
    seconds: float | None = None
    pace: float | None = None
    device: str = "auto"
    model_seed: int = 0
    export: Path | None = None
    wait_for: int = 1

    def __post_init__(self) -> None:
        for name in ("samples", "seconds", "pace"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be above 0")


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to, for the last line and the exit code."""

    figures: dict[str, float]
    samples: int
    samples_total: int
    steps: int
    swaps: int
    sent_bytes: int
    received_bytes: int
    longest_stall_s: float
    longest_gap_s: float
    join_s: float
    agreed: bool
    last_difference: float
    stopped: bool


def pick_device(name: str) -> torch.device:
    """The device a name means. Raises UsageError when it does not exist here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as wrong:
        raise UsageError(f"unknown device {name!r}; known are auto, cpu and cuda:N") from wrong
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not supported; use auto, cpu or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UsageError(f"device {name!r}: this machine has {count} CUDA devices")
    return device


def order_seed(run: str) -> int:
    """The seed of the data order: it belongs to the run, so that it moves with a shard."""
    return int.from_bytes(hashlib.blake2b(run.encode(), digest_size=6).digest(), "big")


class Runner:
    """One peer training one task.

    ``stopping`` may be set by a signal's handler: it ends in a polite leave. It is a plain flag, as
    setting an Event there could wait for ever on a lock that the interrupted thread holds.
    """

    def __init__(self, task: Task, plan: Plan, settings: PeerConfig) -> None:
        self._task = task
        self._plan = plan
        self._settings = settings
        self.stopping = False
        self._device = pick_device(plan.device)
        self._loader = ShardLoader(task, order_seed(settings.protocol.run))
        self._model: nn.Module = task.model(plan.model_seed).to(self._device)
        self._optimizer = task.optimizer(self._model)
        self._loss = float("nan")
        self._loss_tensor: torch.Tensor | None = None
        self._figures: dict[str, float] = {}
        self._next_status_s = self._next_lookup_s = self._next_evaluation_s = 0.0
        self._next_word_s = 0.0
        self._word_before: tuple[float, int] | None = None

    def run(self, contacts: Sequence[str]) -> Result:
        """Join, train, agree, export, leave. Raises what ``peers.join`` raises on entering."""
        peer = Peer(
            self._model,
            self._optimizer,
            contacts,
            self._settings,
            self._task.batch_samples,
            stop=lambda: self.stopping,
        )
        with peer:
            peer.events.write(
                "joined",
                {"address": peer.address, "join_s": peer.join_s, "boot": peer.identity.boot},
            )
            self._wait_for_others(peer)
            self._train(peer)
            stopped = self.stopping
            agreed = False if stopped else peer.finalise(together=True)
            self._evaluate(0.0)
            if self._plan.export is not None:
                notes = {"run": self._settings.protocol.run, "samples": str(peer.samples_total)}
                peer.export(self._plan.export, notes)
            outcome = self._outcome(peer, agreed, stopped)
            self._status(peer, "result")
        return outcome

    def _wait_for_others(self, peer: Peer) -> None:
        until_s = time.monotonic() + self._settings.join_timeout_s
        peer.wait_for_peers(self._plan.wait_for, until_s - time.monotonic())

    def _train(self, peer: Peer) -> None:
        began_s = time.monotonic()
        step_at_s = began_s
        while not self.stopping:
            now_s = time.monotonic()
            if self._plan.seconds is not None and now_s - began_s >= self._plan.seconds:
                return
            if self._plan.samples is not None and peer.samples_total >= self._plan.samples:
                return
            self._look_around(peer, now_s)
            batch = self._loader.next_batch()
            if batch is None:
                peer.idle(SHARDS_LOOKED_UP_EVERY_S)
                continue
            self._step(tuple(each.to(self._device) for each in batch))
            if self._plan.pace is not None:
                step_at_s = max(step_at_s + 1.0 / self._plan.pace, time.monotonic() - 1.0)
                self._sleep_until(step_at_s)

    def _sleep_until(self, moment_s: float) -> None:
        while (left_s := moment_s - time.monotonic()) > 0 and not self.stopping:
            time.sleep(min(left_s, STOP_LOOKED_UP_EVERY_S))

    def _step(self, batch: Batch) -> None:
        self._optimizer.zero_grad()
        loss = self._task.loss(self._model, batch)
        loss.backward()  # type: ignore[no-untyped-call] # torch ships no type for it
        self._loss_tensor = loss.detach()
        self._optimizer.step()

    def _look_around(self, peer: Peer, now_s: float) -> None:
        """Look up our shards and report, each now and then; counted as a stall of ours."""
        if now_s >= self._next_evaluation_s:
            self._evaluate(now_s)
        began_s = time.monotonic()
        if now_s >= self._next_lookup_s:
            self._next_lookup_s = now_s + SHARDS_LOOKED_UP_EVERY_S
            self._loader.set_shards(peer.shards(self._task.shards))
        if now_s >= self._next_status_s:
            self._next_status_s = now_s + STATUS_EVERY_S
            self._status(peer, "status")
        if now_s >= self._next_word_s:
            self._say_how_far(peer, now_s)
        peer.hook.meter.waited(time.monotonic() - began_s)

    def _say_how_far(self, peer: Peer, now_s: float) -> None:
        """One line for people, so that slow can be told from stuck."""
        steps, before = peer.hook.steps, self._word_before
        self._next_word_s, self._word_before = now_s + WORD_EVERY_S, (now_s, steps)
        if before is None:
            return
        wanted = "" if self._plan.samples is None else f" of {self._plan.samples:,}"
        log.info(
            "%s%s samples, %.3g steps/s here, loss %.4g, %d swaps, %d peers",
            f"{peer.samples_total:,}",
            wanted,
            (steps - before[1]) / max(1e-9, now_s - before[0]),
            self._loss,
            peer.tally.swaps,
            len(peer.view.mates),
        )

    def _evaluate(self, now_s: float) -> None:
        began_s = time.monotonic()
        self._figures = self._task.evaluate(self._model)
        took_s = time.monotonic() - began_s
        self._next_evaluation_s = now_s + max(STATUS_EVERY_S, took_s / EVALUATION_SHARE)

    def _status(self, peer: Peer, event: str) -> None:
        if self._loss_tensor is not None:
            self._loss = float(self._loss_tensor)
        view, hook = peer.view, peer.hook
        peer.events.write(
            event,
            {
                "phase": view.phase,
                "step": hook.steps,
                "samples": hook.samples,
                "samples_total": peer.samples_total,
                "loss": self._loss,
                "figures": self._figures,
                "partner": (peer.tally.last_partner or "")[:6],
                "swaps": peer.tally.swaps,
                "swaps_failed": peer.tally.failed,
                "one_sided": peer.tally.one_sided,
                "disagreement": peer.disagreement,
                "sent_bytes": view.sent_bytes,
                "bulk_sent_bytes": view.bulk_sent_bytes,
                "received_bytes": view.received_bytes,
                "members": len(view.mates),
                "census": view.census,
                "shards": list(self._loader.shards),
                "stall_s": hook.meter.longest_stall_s,
                "stall_total_s": hook.meter.total_stall_s,
                "gap_s": hook.meter.longest_gap_s,
                "faults": peer.faults,
            },
        )

    def _outcome(self, peer: Peer, agreed: bool, stopped: bool) -> Result:
        view, hook = peer.view, peer.hook
        return Result(
            figures=self._figures,
            samples=hook.samples,
            samples_total=peer.samples_total,
            steps=hook.steps,
            swaps=peer.tally.swaps,
            sent_bytes=view.sent_bytes,
            received_bytes=view.received_bytes,
            longest_stall_s=hook.meter.longest_stall_s,
            longest_gap_s=hook.meter.longest_gap_s,
            join_s=peer.join_s,
            agreed=agreed,
            last_difference=peer.last_difference,
            stopped=stopped,
        )

"""One real peer that does nothing but swap: core, daemon, ZeroMQ, a loop in place of training.

Run as a child process. The loop does what an optimizer's hook does, whenever there is something to
do, so that what is measured is the swap and not how long a training step takes.
"""

from __future__ import annotations

import random
import resource
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gossip.config import Config, ExchangeConfig, Layout
from gossip.core import Core
from gossip.machine import Asked, Join, Report, SwapClosed
from gossip.messages import Outcome, Record, Status
from gossip.mixing.flat import FlatModel
from gossip.mixing.replica import Replica
from gossip.transport.zeromq import ZeroMQTransport
from peers.daemon import Daemon, Outbox
from peers.desk import Desk
from peers.hook import Cadence, Hook
from peers.identity import fresh_identity
from peers.mailbox import Mailbox
from simulations.benchmarks.children import Figures, serve

PIECE_ELEMENTS = 1 << 20
NEVER_STEPS = 1 << 60
ANSWER_S = 120.0
"""A swap that takes longer than this is a failure, on any machine worth measuring."""


@dataclass(slots=True)
class _Moments:
    """When the swap under way got how far; filled in by both threads, read when it is over."""

    ready_s: float = 0.0
    applied_s: float = 0.0
    closed_s: float = 0.0
    outcome: Outcome | None = None
    closed: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class _Meters:
    """What this process has used so far, or between two readings."""

    cpu_s: float = 0.0
    page_faults: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0

    def __sub__(self, earlier: _Meters) -> _Meters:
        return _Meters(
            self.cpu_s - earlier.cpu_s,
            self.page_faults - earlier.page_faults,
            self.sent_bytes - earlier.sent_bytes,
            self.received_bytes - earlier.received_bytes,
        )


class Swapper:
    """One peer of one pair; ``index`` 0 starts the swaps, 1 answers them."""

    def __init__(self) -> None:
        self._mailbox = Mailbox()
        self._moments = _Moments()
        self._index = 0
        self._values = torch.empty(0)
        self._armed = _Meters()

    def start(self, told: Mapping[str, Any]) -> Figures:
        """Build the peer, join what it is told to, and wait for the model."""
        self._index = told["index"]
        self._values = torch.zeros(told["elements"])
        flat = FlatModel([("values", self._values)])
        self._replica = Replica(flat)
        exchange = ExchangeConfig(codec=told["codec"], reply_codec=told["codec"])
        identity = fresh_identity()
        me, boot, run = identity.peer, identity.boot, told["run"]
        transport = ZeroMQTransport(me, boot, run, "127.0.0.1:0")
        record = Record(
            me, boot, 0, Status.ALIVE, transport.control_address, transport.bulk_address
        )
        layout = Layout(flat.layout.digest, flat.layout.segments)
        core = Core(
            record, layout, Config(run, exchange=exchange), random.Random(0), time.monotonic()
        )
        self._hook = Hook(self._replica, self._mailbox, Cadence(1, NEVER_STEPS))
        desk = Desk(self._replica, transport.busy, exchange)
        outbox = Outbox(report=self._note)
        self._daemon = Daemon(core, transport, desk, self._mailbox, self._hook, None, outbox)
        self._mailbox.wake = transport.wake
        self._thread = threading.Thread(target=self._daemon.run, name="gossip-io", daemon=True)
        self._thread.start()
        self._mailbox.to_core(Asked(Join(tuple(told["contacts"]))))
        self._pump_until(lambda: self._daemon.view.lineage != b"")
        return {"address": transport.control_address}

    def fill(self, told: Mapping[str, Any]) -> Figures:
        """Train, so to speak: fresh values, published. Waits for the partner to be known."""
        self._pump_until(lambda: len(self._daemon.view.mates) == 2)
        self._pump_until(lambda: self._daemon.view.unsettled_swaps == 0)
        for part, values_n in pieces(told["repeat"], self._index, self._values.numel()):
            self._values[part] = values_n
        self._hook.publish_now()
        return {}

    def arm(self, told: Mapping[str, Any]) -> Figures:
        """Read the meters, on both sides before either starts."""
        del told
        self._armed = self._meters()
        return {}

    def swap(self, told: Mapping[str, Any]) -> Figures:
        """One swap from Submitted to the end of this side, and what it took since ``arm``."""
        began_s = time.monotonic()
        if self._index == 0:
            self._hook.after_step(1)
        while not self._moments.closed.is_set():
            assert self._thread.is_alive(), "the I/O thread ended"
            assert time.monotonic() < began_s + ANSWER_S, "the swap did not end"
            if self._mailbox.arrived.wait(0.05) and self._mailbox.has_work:
                self._moments.ready_s = time.monotonic()
                if self._index == 1:
                    time.sleep(told["hook_delay_s"])
                self._hook.apply_queued()
                self._moments.applied_s = time.monotonic()
        took = self._meters() - self._armed
        moments, self._moments = self._moments, _Moments()
        return {
            "began_s": began_s,
            "ready_s": moments.ready_s,
            "applied_s": moments.applied_s,
            "closed_s": moments.closed_s,
            "applied": moments.outcome is Outcome.APPLIED,
            "cpu_s": took.cpu_s,
            "page_faults": took.page_faults,
            "sent_bytes": took.sent_bytes,
            "received_bytes": took.received_bytes,
        }

    def verify(self, told: Mapping[str, Any]) -> Figures:
        """The largest distance of theta and of phi from the mean of what both had filled in."""
        elements = self._values.numel()
        theirs = pieces(told["repeat"], 1 - self._index, elements)
        worst = 0.0
        for (part, mean_n), (_, other_n) in zip(
            pieces(told["repeat"], self._index, elements), theirs, strict=True
        ):
            mean_n.add_(other_n).mul_(0.5)
            for held_N in (self._values, self._replica.phi_N):
                error = float((held_N[part] - mean_n).abs_().amax())
                # Not max(): it drops a NaN.
                worst = error if not error <= worst else worst
        return {"error": worst}

    def stop(self) -> None:
        """End the I/O thread."""
        self._daemon.stop()
        self._thread.join(5.0)

    def _meters(self) -> _Meters:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        counters = self._daemon.transport.counters
        cpu_s = usage.ru_utime + usage.ru_stime
        return _Meters(cpu_s, usage.ru_minflt, counters.sent_bytes, counters.received_bytes)

    def _pump_until(self, condition: Any) -> None:
        until_s = time.monotonic() + ANSWER_S
        while not condition():
            assert self._thread.is_alive(), "the I/O thread ended"
            assert time.monotonic() < until_s, "the pair did not come together"
            self._mailbox.arrived.wait(0.02)
            self._hook.apply_queued()

    def _note(self, report: Report) -> None:
        """I/O thread: a swap is over for this side."""
        if isinstance(report, SwapClosed):
            self._moments.closed_s = time.monotonic()
            self._moments.outcome = report.outcome
            self._moments.closed.set()
            self._mailbox.arrived.set()


def pieces(repeat: int, index: int, elements: int) -> Iterator[tuple[slice, Tensor]]:
    """The values of one peer in one repeat, uniform in [-1, 1), piece by piece."""
    generator = torch.Generator().manual_seed(repeat * 2 + index)
    for start in range(0, elements, PIECE_ELEMENTS):
        stop = min(start + PIECE_ELEMENTS, elements)
        values_n = torch.rand(stop - start, generator=generator).mul_(2).sub_(1)
        yield slice(start, stop), values_n


if __name__ == "__main__":
    peer = Swapper()
    serve(
        {
            "start": peer.start,
            "fill": peer.fill,
            "arm": peer.arm,
            "swap": peer.swap,
            "verify": peer.verify,
        }
    )
    peer.stop()

"""Modelled seconds of a run on a link: what it would have taken between machines that far apart.

A method that blocks waits, at every event, for the slowest of N peers, then for its bytes and for
each message in turn. One that does not block trains on meanwhile; only when its bytes exceed what
the link carries does the run take longer here, and a real peer would then swap more rarely instead
(``auto_every``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from gossip.errors import UsageError
from simulations.compare.results import Outcome


@dataclass(frozen=True, slots=True)
class Link:
    """One peer's line, the same for all: bits a second each way, and seconds one way."""

    name: str
    bits_per_s: float
    latency_s: float

    def transfer_s(self, size_bytes: float) -> float:
        """Seconds to send so many bytes, latency apart."""
        return 8 * size_bytes / self.bits_per_s


LINKS: Final = (
    Link("lan", 10e9, 0.0001),
    Link("wan", 100e6, 0.08),
    Link("slow", 10e6, 0.08),
)
"""10 Gbit/s in one room; 100 Mbit/s and 10 Mbit/s with 80 ms, as between cities."""


@dataclass(frozen=True, slots=True)
class Machine:
    """step_s: one local step. spread: sigma of the steps' lognormal durations (0: all alike)."""

    step_s: float = 0.1
    spread: float = 0.1


def link_named(name: str) -> Link:
    """Raises UsageError on other names."""
    for link in LINKS:
        if link.name == name:
            return link
    raise UsageError(f"unknown link {name!r}; known are {', '.join(each.name for each in LINKS)}")


def slowest_of(peers: int, steps: float, machine: Machine) -> float:
    """Expected seconds until the slowest of ``peers`` has taken so many steps in a row.

    The sum of many steps is nearly normal; the expected largest of N normal values is that at the
    quantile (N - 0.375) / (N + 0.25) (Blom, "Statistical estimates and transformed beta
    variables", 1958).
    """
    mean_s = machine.step_s * steps
    if peers < 2 or machine.spread == 0:
        return mean_s
    relative = math.sqrt(math.expm1(machine.spread**2) / max(1.0, steps))
    quantile = (peers - 0.375) / (peers + 0.25)
    return mean_s * (1 + relative * NormalDist().inv_cdf(quantile))


def run_s(outcome: Outcome, link: Link, machine: Machine, at_step: float | None = None) -> float:
    """Seconds of the run, or of its first ``at_step`` steps."""
    steps = outcome.job.steps if at_step is None else at_step
    share = steps / outcome.job.steps
    events = outcome.events * share
    transfer_s = link.transfer_s(outcome.sent_bytes * share)
    if not outcome.blocking or events == 0:
        # Nobody waits; a line that is full all the time is the bound.
        return max(machine.step_s * steps, transfer_s)
    waiting_s = events * slowest_of(outcome.job.peers, steps / events, machine)
    return waiting_s + transfer_s + events * outcome.messages * link.latency_s


def seconds_to(outcome: Outcome, target: float, link: Link, machine: Machine) -> float:
    """Modelled seconds until the mean model's loss is at the target; infinite if it never is.

    Between two points of the curve the loss is taken to fall evenly.
    """
    before_step, before_loss = 0.0, math.inf
    for point in outcome.curve:
        if point.loss <= target:
            if not math.isfinite(before_loss):
                return run_s(outcome, link, machine, point.step)
            part = (before_loss - target) / (before_loss - point.loss)
            step = before_step + part * (point.step - before_step)
            return run_s(outcome, link, machine, step)
        before_step, before_loss = float(point.step), point.loss
    return math.inf


def auto_every(swap_bytes: float, link: Link, machine: Machine, share: float = 0.8) -> int:
    """Steps between swaps of ``swap_bytes`` (sent per peer) that fill at most ``share`` of the link
    and never make anybody wait: the swap before is over, both ways and two latencies, by then."""
    sending_s = link.transfer_s(swap_bytes) / share
    crossing_s = 2 * link.transfer_s(swap_bytes) + 2 * link.latency_s
    return max(1, math.ceil(max(sending_s, crossing_s) / machine.step_s))

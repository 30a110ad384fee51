"""Modelled seconds of a run on a link: what it would have taken between machines that far apart.

A method that blocks waits, at every event, for the slowest of N peers, then for its bytes and for
each message in turn. One that does not block trains on meanwhile; but a swap has to be over before
the next one, and a line can be full: where that takes longer than the local steps between, the run
is charged that time (a real peer would swap more rarely instead: ``every=auto``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Final

from gossip.errors import UsageError
from simulations.compare.field import mean_speed
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

    def swap_s(self, bytes_per_peer: float) -> float:
        """Seconds from a swap's offer to its reply's arrival: one peer of the pair sends the first,
        the other the second."""
        return 2 * self.latency_s + self.transfer_s(2 * bytes_per_peer)


LINKS: Final = (
    Link("lan", 10e9, 0.0001),
    Link("wan", 100e6, 0.08),
    Link("slow", 10e6, 0.08),
)
"""10 Gbit/s in one room; 100 Mbit/s and 10 Mbit/s with 80 ms, as between cities."""


@dataclass(frozen=True, slots=True)
class Machine:
    """step_s: one local step of the fastest peer. spread: sigma of the steps' lognormal durations
    (0: all alike)."""

    step_s: float = 0.1
    spread: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.step_s < math.inf or not 0 <= self.spread < 10:
            raise UsageError("a modelled step must take some time, and its sigma be 0 to 10")


def link_of(text: str) -> Link:
    """One of LINKS by name, or one's own: Mbit/s and milliseconds one way, as in ``20/40``.

    Raises UsageError on anything else, and on bandwidths and latencies that no line has.
    """
    for link in LINKS:
        if link.name == text:
            return link
    known = ", ".join(each.name for each in LINKS)
    try:
        mbit_per_s, latency_ms = map(float, text.split("/"))
    except ValueError:
        raise UsageError(
            f"unknown link {text!r}; known are {known}, and any as Mbit/s and ms one way: 20/40"
        ) from None
    if not (0 < mbit_per_s < math.inf and 0 <= latency_ms < math.inf):
        raise UsageError(
            f"link {text}: Mbit/s must be above 0, milliseconds 0 or more, both finite"
        )
    return Link(text, mbit_per_s * 1e6, latency_ms / 1000)


def links_with(link: Link) -> tuple[Link, ...]:
    """LINKS, and this one beside them if it is none of them."""
    return LINKS if link in LINKS else (*LINKS, link)


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
    """Seconds of the run, or of its first ``at_step`` steps (mean over peers)."""
    job = outcome.job
    steps = job.steps if at_step is None else at_step
    spread = float(dict(job.conditions).get("spread", 1.0))
    if outcome.events == 0:
        return machine.step_s * steps * spread
    event_bytes = outcome.sent_bytes / outcome.events
    if not outcome.blocking:
        step_s = machine.step_s / mean_speed(job.peers, spread)
        # Nobody waits for an answer, and each message's bytes are counted with its sender.
        event_s = link.swap_s(event_bytes) if outcome.paired else link.transfer_s(event_bytes)
        return sum(
            max(part_steps * step_s, part_events * event_s)
            for part_steps, part_events in _parts(outcome, steps)
        )
    events = outcome.events * steps / job.steps
    training_s = spread * slowest_of(job.peers, steps / events, machine)
    crossing_s = outcome.messages * link.latency_s + link.transfer_s(event_bytes)
    return events * (training_s + crossing_s)


def _parts(outcome: Outcome, until: float) -> Iterator[tuple[float, float]]:
    """Steps and exchanges between the points of the curve, until a step; of all exchanges as many
    as bytes were sent of all. Some methods swap more often at first. In a short run of peers that
    differ in speed several points fall on one step: the last of them says what was sent by then."""
    curve = outcome.curve
    if not curve or curve[-1].sent_bytes == 0:
        yield until, outcome.events * until / outcome.job.steps
        return
    per_byte = outcome.events / curve[-1].sent_bytes
    sent_bytes = {0: 0.0} | {each.step: each.sent_bytes for each in curve if each.step}
    for (before, before_bytes), (step, step_bytes) in pairwise(sent_bytes.items()):
        if before < until:
            share = min(1.0, (until - before) / (step - before))
            yield share * (step - before), share * (step_bytes - before_bytes) * per_byte


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

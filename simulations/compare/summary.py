"""From outcomes to a table: means over seeds, differences to DDP, bytes, modelled seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from simulations.compare.links import LINKS, Machine, run_s
from simulations.compare.registry import SAME_CURVE, Spec, make_method
from simulations.compare.results import Outcome, Store
from simulations.compare.sweep import Group, Plan

STUDENT_95: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Two-sided 95 % quantiles of Student's t for 1 to 9 degrees of freedom."""
NORMAL_95: Final = 1.96


@dataclass(frozen=True, slots=True)
class Row:
    """One method under one inner optimizer. ``gap``: its loss against DDP's, as a share; half
    widths of 95 % intervals over seeds (NaN for one seed). ``outcomes``: one per seed."""

    spec: Spec
    inner: str
    rate: float
    loss: float
    loss_half: float
    gap: float
    gap_half: float
    worst: float
    finished: float
    finished_accuracy: float
    accuracy: float
    sent_bytes: float
    fewer_bytes: float
    seconds: dict[str, float]
    outcomes: tuple[Outcome, ...]


def rows_of(
    plan: Plan, store: Store, groups: dict[tuple[str, str], Group], machine: Machine
) -> list[Row]:
    """A row for each method and inner optimizer whose runs are all there, in the plan's order."""
    rows: list[Row] = []
    for inner in plan.rates:
        shared = _outcomes(plan, store, groups.get((SAME_CURVE["ddp"], inner)))
        for spec in plan.specs:
            outcomes = _outcomes(plan, store, groups.get((spec.curve, inner)))
            if outcomes:
                rows.append(_row(plan, spec, _with_bytes(plan, spec, outcomes), shared, machine))
    return rows


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and the half width of its 95 % interval (Student; NaN for a single value)."""
    count = len(values)
    mean = sum(values) / count
    if count < 2 or not math.isfinite(mean):
        return mean, math.nan
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    quantile = STUDENT_95[count - 2] if count - 2 < len(STUDENT_95) else NORMAL_95
    return mean, quantile * deviation / math.sqrt(count)


def ddp_bytes(outcome: Outcome) -> float:
    """What DDP would have sent per peer in this run (ring all-reduce of fp32 gradients)."""
    peers = outcome.job.peers
    return 2 * (peers - 1) / peers * 4.0 * outcome.parameters * outcome.job.steps


def _outcomes(plan: Plan, store: Store, group: Group | None) -> list[Outcome]:
    if group is None or group.best_rate is None:
        return []
    found = [store.get(group.job(group.best_rate, seed)) for seed in plan.seeds]
    whole = [outcome for outcome in found if outcome is not None]
    return whole if len(whole) == len(plan.seeds) else []


def _with_bytes(plan: Plan, spec: Spec, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The shared curve of DDP, a server and one machine, with the bytes of the one asked for."""
    if spec.name not in SAME_CURVE:
        return list(outcomes)
    method = make_method(spec, plan.base.peers)
    vectors = getattr(method, "vectors", 0.0)
    messages = getattr(method, "messages", 0)
    return [_scaled(outcome, vectors, messages) for outcome in outcomes]


def _scaled(outcome: Outcome, vectors: float, messages: int) -> Outcome:
    per_step = 4.0 * vectors * outcome.parameters
    curve = tuple(replace(point, sent_bytes=per_step * point.step) for point in outcome.curve)
    sent_bytes = per_step * outcome.job.steps
    return replace(outcome, sent_bytes=sent_bytes, messages=messages, curve=curve)


def _row(
    plan: Plan,
    spec: Spec,
    outcomes: list[Outcome],
    shared: list[Outcome],
    machine: Machine,
) -> Row:
    loss, loss_half = interval([each.loss for each in outcomes])
    gap, gap_half = math.nan, math.nan
    if len(shared) == len(plan.seeds):
        pairs = zip(outcomes, shared, strict=True)
        gap, gap_half = interval([mine.loss / theirs.loss - 1 for mine, theirs in pairs])
    sent_bytes = sum(each.sent_bytes for each in outcomes) / len(outcomes)
    times = {
        link.name: sum(run_s(each, link, machine) for each in outcomes) / len(outcomes)
        for link in LINKS
    }
    return Row(
        spec=spec,
        inner=outcomes[0].job.inner,
        rate=outcomes[0].job.rate,
        loss=loss,
        loss_half=loss_half,
        gap=gap,
        gap_half=gap_half,
        worst=max(each.worst for each in outcomes),
        finished=max(each.finished for each in outcomes),
        finished_accuracy=min(each.finished_accuracy for each in outcomes),
        accuracy=sum(each.accuracy for each in outcomes) / len(outcomes),
        sent_bytes=sent_bytes,
        fewer_bytes=ddp_bytes(outcomes[0]) / sent_bytes if sent_bytes else math.inf,
        seconds=times,
        outcomes=tuple(outcomes),
    )

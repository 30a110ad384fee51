"""From outcomes to a table: means over seeds, differences to DDP, bytes, modelled seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from simulations.compare.conditions import Attack, conditions_of
from simulations.compare.inner import read_inner
from simulations.compare.links import LINKS, Link, Machine, run_s, seconds_to
from simulations.compare.registry import SAME_CURVE, Spec, make_method
from simulations.compare.results import Outcome, Store
from simulations.compare.sweep import Group, GroupKey, Plan
from simulations.compare.version import code_digest

STUDENT_95: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Two-sided 95 % quantiles of Student's t for 1 to 9 degrees of freedom."""
NORMAL_95: Final = 1.96
TARGET_ROOM: Final = 0.05
"""A loss this much above DDP's is a target that low-communication methods reach at all."""
HELPFUL_ROOM: Final = 0.02
HIT_BY_LOSS: Final = ("group", "noloco", "gossip", "gossip-nesterov", "push-sum")
"""Methods that do without what is lost; the others send it again, which is not charged here."""
HIT_BY_ATTACKS: Final = (
    "local-sgd",
    "group",
    "diloco",
    "noloco",
    "gossip",
    "gossip-nesterov",
    "pull",
)
"""Methods that average models; who lies about gradients or masses is not modelled."""


@dataclass(frozen=True, slots=True)
class Row:
    """One method under one inner optimizer. ``gap``: its loss against DDP's, as a share; half
    widths of 95 % intervals over seeds (NaN for one seed). ``seconds``: the whole run, by link;
    ``target_s``: until its loss is at ``target``. ``outcomes``: one per seed."""

    spec: Spec
    inner: str
    peers: int
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
    target: float
    target_s: dict[str, float]
    outcomes: tuple[Outcome, ...]

    @property
    def heading(self) -> str:
        """What it shares with the rows that it may be compared with."""
        return f"{self.inner}, {self.peers} peers"


def rows_of(
    plan: Plan,
    store: Store,
    groups: Mapping[GroupKey, Group],
    machine: Machine,
    target: float | None = None,
    links: Sequence[Link] = LINKS,
) -> list[Row]:
    """A row for each method, inner optimizer and number of peers whose runs are all there.

    ``target``: a loss that is timed; without one, DDP's own final loss under the ``rest`` that
    suits it best (the best of all where DDP is not compared) and TARGET_ROOM, per inner optimizer
    and number of peers. ``links``: whose seconds are counted.
    """
    rows: list[Row] = []
    for peers in plan.sizes:
        for inner in plan.rates:
            shared = _shared(plan, store, groups, inner, peers)
            found: list[tuple[Spec, list[Outcome]]] = []
            for spec in plan.specs:
                outcomes = _outcomes(plan, store, groups.get((spec.curve, inner, peers)))
                if outcomes:
                    found.append((spec, _with_bytes(peers, spec, outcomes)))
            if found:
                aim = _aim(shared, [each for _, each in found]) if target is None else target
                rows += [_row(spec, each, shared, machine, links, aim) for spec, each in found]
    return rows


def _shared(
    plan: Plan, store: Store, groups: Mapping[GroupKey, Group], inner: str, peers: int
) -> list[Outcome]:
    """DDP's runs under the same optimizer: with whichever ``rest`` in the plan suits it best."""
    kinds = [each for each in plan.rates if read_inner(each)[0] == read_inner(inner)[0]]
    found = [_outcomes(plan, store, groups.get((SAME_CURVE["ddp"], kind, peers))) for kind in kinds]
    return min(
        filter(None, found), key=lambda runs: interval([each.loss for each in runs])[0], default=[]
    )


def _aim(shared: Sequence[Outcome], others: Sequence[Sequence[Outcome]]) -> float:
    means = [interval([each.loss for each in outcomes])[0] for outcomes in others]
    reference = interval([each.loss for each in shared])[0] if shared else min(means)
    return reference * (1 + TARGET_ROOM)


def front_of(rows: Sequence[Row]) -> list[Row]:
    """Those that nobody else beats in both loss and bytes, from few bytes to many."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda each: (each.sent_bytes, each.loss)):
        if math.isfinite(row.loss) and (not front or row.loss < front[-1].loss):
            front.append(row)
    return front


def helpful_peers(rows: Sequence[Row]) -> int:
    """Of one method's rows, the largest number of peers whose loss is within HELPFUL_ROOM of the
    best of all numbers: with more, equal samples buy less."""
    best = min(row.loss for row in rows)
    return max(row.peers for row in rows if row.loss <= best * (1 + HELPFUL_ROOM))


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


def _with_bytes(peers: int, spec: Spec, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The shared curve of DDP, a server and one machine, with the bytes of the one asked for."""
    if spec.name not in SAME_CURVE:
        return list(outcomes)
    method = make_method(spec, peers)
    vectors = getattr(method, "vectors", 0.0)
    messages = getattr(method, "messages", 0)
    return [_scaled(outcome, vectors, messages) for outcome in outcomes]


def _scaled(outcome: Outcome, vectors: float, messages: int) -> Outcome:
    per_step = 4.0 * vectors * outcome.parameters
    curve = tuple(replace(point, sent_bytes=per_step * point.step) for point in outcome.curve)
    sent_bytes = per_step * outcome.job.steps
    return replace(outcome, sent_bytes=sent_bytes, messages=messages, curve=curve)


def _row(
    spec: Spec,
    outcomes: list[Outcome],
    shared: list[Outcome],
    machine: Machine,
    links: Sequence[Link],
    target: float,
) -> Row:
    loss, loss_half = interval([each.loss for each in outcomes])
    gap, gap_half = math.nan, math.nan
    if shared:
        pairs = zip(outcomes, shared, strict=True)
        gap, gap_half = interval([mine.loss / theirs.loss - 1 for mine, theirs in pairs])
    sent_bytes = sum(each.sent_bytes for each in outcomes) / len(outcomes)
    times: dict[str, float] = {}
    target_s: dict[str, float] = {}
    for link in links:
        times[link.name] = interval([run_s(each, link, machine) for each in outcomes])[0]
        reached_s = [seconds_to(each, target, link, machine) for each in outcomes]
        target_s[link.name] = interval(reached_s)[0]
    return Row(
        spec=spec,
        inner=outcomes[0].job.inner,
        peers=outcomes[0].job.peers,
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
        target=target,
        target_s=target_s,
        outcomes=tuple(outcomes),
    )


def remarks_on(plan: Plan, rows: Sequence[Row]) -> list[str]:
    """What a reader of the table has to know, one sentence each."""
    remarks: list[str] = []
    foreign = {each.key for row in rows for each in row.outcomes if each.code != code_digest()}
    if foreign:
        remarks.append(
            f"{len(foreign)} of the runs shown were made by other code than this (it has changed "
            "since): take another folder than this one to do them again"
        )
    conditions = conditions_of(dict(plan.base.conditions))
    for share, hit, what in (
        (conditions.loss, HIT_BY_LOSS, "lost messages"),
        (conditions.attackers, HIT_BY_ATTACKS, "attackers"),
    ):
        spared = [spec.text for spec in plan.specs if spec.name not in hit]
        if share > 0 and spared:
            remarks.append(f"{', '.join(spared)}: as without {what}, which are not modelled there")
    if conditions.attackers and conditions.attack is not Attack.IDLE:
        remarks.append(
            "nobody learns from an attacker's samples (with --split disjoint, nobody else has "
            "them): --attack idle shows what that alone costs; the rest is the attack's"
        )
    if len(plan.sizes) > 1:
        remarks += _on_sizes(plan, rows)
    return remarks


def _on_sizes(plan: Plan, rows: Sequence[Row]) -> list[str]:
    remarks: list[str] = []
    for inner in plan.rates:
        for spec in plan.specs:
            mine = [row for row in rows if row.inner == inner and row.spec == spec]
            if len(mine) > 1:
                most = helpful_peers(mine)
                remarks.append(
                    f"{spec.text}, {inner}: up to {most} peers the loss of equal samples is within "
                    f"{100 * HELPFUL_ROOM:.0f} % of the best number's"
                )
    return remarks

"""One run: a task, a method, a seed; from the first step to the figures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from gossip.errors import CodeError
from gossip.mixing.disagreement import disagreement
from peers.tasks.loading import load_task
from peers.tasks.task import Task
from simulations.compare.conditions import CHURN_EVERY_STEPS, conditions_of
from simulations.compare.feed import Feed, Split
from simulations.compare.field import Field, Method, Schedule
from simulations.compare.gossiping import Gossip
from simulations.compare.inner import InnerSettings, make_inner, read_inner
from simulations.compare.partners import Meeting, Meetings
from simulations.compare.registry import Spec, make_method
from simulations.compare.results import Job, Outcome, Point
from simulations.compare.stack import Stack
from simulations.compare.version import code_digest

CURVE_POINTS = 20
FINISH_EXTRA_ROUNDS = 3
"""Beyond ceil(log2 N), as ``FinishConfig.extra_swaps``."""

MOMENTUM = {"sgd": 0.9, "adamw": 0.9, "muon": 0.95}
"""First-moment decay by inner optimizer; longer ones did worse in every sweep of ours."""


def run_job(job: Job, spec: Spec, check: Callable[[], None] = lambda: None) -> Outcome:
    """Train and measure. A run that diverges ends at once, with infinite losses.

    ``check`` is called at every step, and ends the run by raising. Raises UsageError for settings
    that make no sense.
    """
    began_s = time.perf_counter()
    task = load_task(job.task, dict(job.task_options))
    method = make_method(spec, job.peers)
    field = _field(job, task, method)
    method.start(field)
    churn = _Churn(field, method)
    curve: list[Point] = []
    tick = 0
    while field.progress < job.steps:
        check()
        try:
            method.advance(field, tick)
        except CodeError:  # what is not finite cannot be coded
            field.train_loss = math.inf
        churn.after(tick)
        tick += 1
        if not math.isfinite(field.train_loss):
            break
        if field.progress >= job.steps * (len(curve) + 1) / CURVE_POINTS:
            curve.append(_point(field, task))
    return _outcome(job, task, method, field, tuple(curve), time.perf_counter() - began_s)


def _field(job: Job, task: Task, method: Method) -> Field:
    stack = Stack(task, method.models or job.peers, job.seed)
    name, rest = read_inner(job.inner)
    inner = make_inner(stack, InnerSettings(name, job.rate, MOMENTUM[name], rest=rest))
    split = Split(job.split)
    return Field(
        stack,
        inner,
        Feed(task, job.peers, split, job.seed),
        Schedule(job.steps),
        job.peers,
        job.seed,
        conditions_of(dict(job.conditions)),
    )


class _Churn:
    """Replaces peers now and then; the model of a newcomer is that of a random other."""

    def __init__(self, field: Field, method: Method) -> None:
        self._field = field
        self._method = method
        self._rng = field.rng("churn")

    def after(self, tick: int) -> None:
        """One tick is over."""
        field = self._field
        if field.conditions.churn == 0 or (tick + 1) % CHURN_EVERY_STEPS:
            return
        for row in range(field.stack.peers):
            if self._rng.random() >= field.conditions.churn or field.stack.peers < 2:
                continue
            source = self._rng.choice([other for other in range(field.peers) if other != row])
            field.stack.theta_PN[row] = field.stack.theta_PN[source]
            field.inner.reset_(row)
            self._method.replaced(field, row, source)


def _honest_PN(field: Field) -> Tensor:
    """The models that count: attackers' do not."""
    theta_PN = field.stack.theta_PN
    if theta_PN.shape[0] < field.peers:
        return theta_PN
    return theta_PN[: field.peers - field.conditions.attackers]


def _point(field: Field, task: Task) -> Point:
    figures = task.evaluate(field.stack.load(_honest_PN(field).mean(dim=0)))
    samples = round(field.progress * field.peers * task.batch_samples)
    step = round(field.progress)
    return Point(step, samples, field.traffic.sent_bytes, _finite(figures["loss"]))


@dataclass(frozen=True, slots=True)
class _Measured:
    """Losses and accuracies of single models."""

    losses: list[float]
    accuracies: list[float]


def _measure(field: Field, task: Task, models_PN: Tensor) -> _Measured:
    figures = [task.evaluate(field.stack.load(model_N)) for model_N in models_PN]
    losses = [_finite(each["loss"]) for each in figures]
    return _Measured(losses, [each.get("accuracy", math.nan) for each in figures])


def _outcome(
    job: Job,
    task: Task,
    method: Method,
    field: Field,
    curve: tuple[Point, ...],
    seconds: float,
) -> Outcome:
    models_PN = _honest_PN(field)
    mean = _measure(field, task, models_PN.mean(dim=0, keepdim=True))
    single = _measure(field, task, models_PN)
    finished = single
    if isinstance(method, Gossip) and bool(models_PN.isfinite().all()):
        finished = _measure(field, task, _finished_PN(field, models_PN))
    spread = disagreement(list(models_PN)) if math.isfinite(mean.losses[0]) else math.inf
    return Outcome(
        key=job.key,
        job=job,
        loss=mean.losses[0],
        worst=max(single.losses),
        typical=sum(single.losses) / len(single.losses),
        finished=max(finished.losses),
        accuracy=mean.accuracies[0],
        finished_accuracy=min(finished.accuracies),
        disagreement=spread,
        wrapped=method.wrapped_share if isinstance(method, Gossip) else 0.0,
        parameters=field.stack.parameters,
        batch=task.batch_samples,
        sent_bytes=field.traffic.sent_bytes,
        events=field.traffic.events,
        messages=field.traffic.messages,
        blocking=field.traffic.blocking,
        paired=field.traffic.paired,
        code=code_digest(),
        seconds=seconds,
        curve=curve,
    )


def _finished_PN(field: Field, models_PN: Tensor) -> Tensor:
    """After finalise(): ceil(log2 N) + 3 rounds of exact swaps without training."""
    peers = models_PN.shape[0]
    finished_PN = models_PN.clone()
    meetings = Meetings(peers, Meeting.RECENT, field.rng("finish"))
    for _ in range(math.ceil(math.log2(max(2, peers))) + FINISH_EXTRA_ROUNDS):
        for first, second in meetings.next():
            rows = [first, second]
            finished_PN[rows] = finished_PN[rows].mean(dim=0, keepdim=True)
    return finished_PN


def _finite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf

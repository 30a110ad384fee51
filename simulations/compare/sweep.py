"""Which runs a comparison takes: rates swept on the first seed, the best one on all of them.

Every method has the same grid of rates; when the best lies on the grid's edge, the grid grows that
way. Runs that are in the store already are not done again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import torch

from simulations.compare.arena import run_job
from simulations.compare.registry import Spec
from simulations.compare.results import Job, Outcome, Store

RATES: Final[dict[str, tuple[float, ...]]] = {
    "sgd": (0.05, 0.1, 0.2),
    "adamw": (3e-3, 6e-3, 1.2e-2),
    "muon": (6e-3, 1.2e-2, 2.4e-2),
}
"""Grids that held the best rate of most methods in our sweeps."""

GroupKey: TypeAlias = tuple[str, str, int]
"""Curve, inner optimizer, number of peers."""

WIDENINGS_MAX: Final = 3
PARENT_LOOKED_AT_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared. ``base`` gives task, steps, split and conditions, and the number of peers
    that those steps are meant for; its method, inner optimizer, rate and seed are filled in per
    run. ``rates`` per inner optimizer. ``peers``: each of these numbers, with as many samples in
    all (empty: that of ``base`` alone)."""

    base: Job
    specs: tuple[Spec, ...]
    rates: dict[str, tuple[float, ...]]
    seeds: tuple[int, ...]
    peers: tuple[int, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of peers."""
        return self.peers or (self.base.peers,)

    def steps_of(self, peers: int) -> int:
        """Local steps of each of so many peers, for equal samples of all together."""
        return max(1, round(self.base.steps * self.base.peers / peers))


class Group:
    """One method under one inner optimizer, with so many peers: asks for its next runs until it is
    done."""

    def __init__(self, plan: Plan, spec: Spec, inner: str, peers: int) -> None:
        self.spec = spec
        self.inner = inner
        self.peers = peers
        self._plan = plan
        self._rates = sorted(plan.rates[inner])
        self._factor = _factor(self._rates)
        self._widenings = 0
        self._best: float | None = None
        self._swept: dict[float, float] = {}

    def job(self, rate: float, seed: int) -> Job:
        """The run at one rate under one seed."""
        return replace(
            self._plan.base,
            method=self.spec.curve,
            inner=self.inner,
            rate=rate,
            seed=seed,
            peers=self.peers,
            steps=self._plan.steps_of(self.peers),
        )

    @property
    def key(self) -> GroupKey:
        """What tells it from the plan's others."""
        return self.spec.curve, self.inner, self.peers

    def wanted(self) -> list[Job]:
        """What is to be run next, given all that was noted; empty when nothing is left."""
        first, rest = self._plan.seeds[0], self._plan.seeds[1:]
        missing = [rate for rate in self._rates if rate not in self._swept]
        if missing:
            return [self.job(rate, first) for rate in missing]
        best = min(self._rates, key=lambda rate: self._swept[rate])
        wider = self._wider(best)
        if wider is not None:
            self._widenings += 1
            self._rates = sorted([*self._rates, wider])
            return [self.job(wider, first)]
        self._best = best
        return [self.job(best, seed) for seed in rest]

    def note(self, outcome: Outcome) -> None:
        """A run of this group is there."""
        if outcome.job.seed == self._plan.seeds[0]:
            self._swept[outcome.job.rate] = outcome.loss

    @property
    def best_rate(self) -> float | None:
        """The rate whose first seed did best, once it is known."""
        return self._best

    def _wider(self, best: float) -> float | None:
        if len(self._rates) < 2 or self._widenings >= WIDENINGS_MAX:
            return None
        if best == self._rates[-1]:
            return _rounded(best * self._factor)
        return _rounded(best / self._factor) if best == self._rates[0] else None


def groups_of_plan(plan: Plan) -> list[Group]:
    """One group for each thing that is trained: methods that differ in bytes alone share one."""
    groups: dict[GroupKey, Group] = {}
    for peers in plan.sizes:
        for inner in plan.rates:
            for spec in plan.specs:
                group = Group(plan, spec, inner, peers)
                groups.setdefault(group.key, group)
    return list(groups.values())


def run_plan(
    plan: Plan, store: Store, processes: int, told: Callable[[Outcome, int], None]
) -> dict[GroupKey, Group]:
    """Run whatever is missing; ``told`` hears of each run as it ends, and how many are under way.

    Returns the groups by their keys. On an error or Ctrl-C, runs under way are lost
    and what was done is in the store. Every run has one thread of torch, also where it is the only
    one: how sums are cut for several decides their last bits, and a run's outcome must not depend
    on ``processes``.
    """
    groups = groups_of_plan(plan)
    if processes == 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            _run_here(groups, store, told)
        finally:
            torch.set_num_threads(threads)
    else:
        _run_in_pool(groups, store, processes, told)
    return {group.key: group for group in groups}


def _run_here(groups: Sequence[Group], store: Store, told: Callable[[Outcome, int], None]) -> None:
    for group in groups:
        for job in _next_jobs(group, store):
            outcome = run_job(job, group.spec)
            store.add(outcome)
            group.note(outcome)
            told(outcome, 0)


def _next_jobs(group: Group, store: Store) -> Iterator[Job]:
    """The group's jobs that are not in the store, in order; the caller notes each outcome."""
    while True:
        jobs = group.wanted()
        fresh = [job for job in jobs if not _known(group, job, store)]
        yield from fresh
        if group.best_rate is not None:
            return


def _known(group: Group, job: Job, store: Store) -> bool:
    outcome = store.get(job)
    if outcome is not None:
        group.note(outcome)
    return outcome is not None


def _run_in_pool(
    groups: Sequence[Group], store: Store, processes: int, told: Callable[[Outcome, int], None]
) -> None:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin, initargs=(os.getpid(),)
    )
    running: dict[Future[Outcome], Group] = {}
    try:
        for group in groups:
            _submit(pool, group, store, running)
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                group = running.pop(future)
                outcome = future.result()
                store.add(outcome)
                group.note(outcome)
                told(outcome, len(running))
                if group not in running.values():
                    _submit(pool, group, store, running)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    pool.shutdown(wait=True)


def _submit(
    pool: ProcessPoolExecutor,
    group: Group,
    store: Store,
    running: dict[Future[Outcome], Group],
) -> None:
    """Submit the group's next stage; stages that are in the store already are passed over."""
    while group.best_rate is None:
        fresh = [job for job in group.wanted() if not _known(group, job, store)]
        for job in fresh:
            running[pool.submit(run_job, job, group.spec)] = group
        if fresh:
            return


def _begin(parent: int) -> None:
    """In each process of the pool: one thread, and no life without the command that began it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's to answer
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_LOOKED_AT_EVERY_S)
    os._exit(1)


def _factor(rates: Sequence[float]) -> float:
    return rates[1] / rates[0] if len(rates) > 1 else 2.0


def _rounded(rate: float) -> float:
    """Three significant digits, so that a widened grid has the same keys every time."""
    return float(f"{rate:.3g}")

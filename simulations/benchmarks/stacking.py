"""Peers trained together as one batched model, against one after another.

``python -m simulations.benchmarks.stacking [--task digits|line|recommender] [--threads N]
[--in-a-row N]`` prints peer-steps a second. First the gradients alone, in every form; then whole
steps (batches drawn, gradients, SGD) of plain torch loops, peer after peer, and of ``gossip
compare``. Before a time is printed, gradients and trained parameters are compared. With one thread
seconds are CPU time, so that other work on the machine counts less; with more they are wall time,
as all threads' CPU time together says nothing of how long a step takes. All take turns, repeat by
repeat, and the best repeat of each counts. A turn is one step, which finds the caches as the others
left them; with ``--in-a-row`` it is so many, and their mean is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from peers.cli import Parser
from peers.cli.flags import count
from peers.tasks.digits import DigitsTask
from peers.tasks.line import LineTask
from peers.tasks.recommender import RecommenderTask
from peers.tasks.task import Batch, Task
from simulations.compare.feed import Feed, Split
from simulations.compare.inner import InnerSettings, make_inner
from simulations.compare.stack import Form, Stack

CHECKED_STEPS: Final = 5
"""Whole steps after which both ways must have the same parameters."""
TASKS: Final[dict[str, Callable[[], Task]]] = {
    "digits": DigitsTask,
    "line": LineTask,
    "recommender": RecommenderTask,
}
RATE: Final = 0.05
MOMENTUM: Final = 0.9


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds for a step of all peers, by name; ``plain_torch``, ``together`` are whole."""

    peers: int
    best_s: dict[str, float]

    @property
    def gradients_ratio(self) -> float:
        """How many times as fast as one by one the fastest form is."""
        fastest_s = min(self.best_s[form.name.lower()] for form in Form)
        return self.best_s[Form.ONE_BY_ONE.name.lower()] / fastest_s

    @property
    def steps_ratio(self) -> float:
        """The same of whole steps, to plain torch."""
        return self.best_s["plain_torch"] / self.best_s["together"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = Parser(prog="python -m simulations.benchmarks.stacking", description=__doc__)
    parser.add_argument("--peers", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--task", choices=sorted(TASKS), default="digits")
    parser.add_argument("--threads", type=count, default=1, help="of torch, for every way alike")
    parser.add_argument("--in-a-row", type=count, default=1, help="steps that make one turn")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    task = TASKS[options.task]()
    figures = measured(task, options.peers, options.repeats, options.in_a_row)
    clock = "CPU" if options.threads == 1 else "wall"
    print(
        f"{options.task}: {clock} time, torch's threads: {options.threads}, "
        f"steps in a row: {options.in_a_row}"
    )
    for name, best_s in figures.best_s.items():
        print(f"{name:<14} {options.peers / best_s:10,.0f} peer-steps a second")
    print(
        f"gradients: the fastest form takes {figures.gradients_ratio:.1f} steps for one by one's 1"
    )
    print(f"whole steps: together {figures.steps_ratio:.1f} for plain torch's 1")
    return 0


def measured(task: Task, peers: int, repeats: int, in_a_row: int = 1) -> Figures:
    """Checks all ways against each other, then times them with torch's present number of threads.
    Raises AssertionError if they differ."""
    feed = Feed(task, peers, Split.SHARED, 0)
    stack = Stack(task, peers, 0)
    batches = [feed.batch(peer, 0) for peer in range(peers)]
    gradients = {form: _gradients(stack, batches, form) for form in Form}
    for form in Form:
        torch.testing.assert_close(
            gradients[form], gradients[Form.ONE_BY_ONE], rtol=1e-4, atol=1e-6
        )
    plain, together = _plain_torch(task, feed, peers), _together(task, feed, peers)
    for _ in range(CHECKED_STEPS):
        models, trained = plain(), together()
    for peer, model in enumerate(models):
        for part, parameter in zip(trained.parts, model.parameters(), strict=True):
            mine = trained.view_P(trained.theta_PN, part)[peer]
            torch.testing.assert_close(mine, parameter.detach(), rtol=1e-4, atol=1e-5)
    ways: dict[str, Callable[[], object]] = {
        form.name.lower(): _taking(stack, batches, form) for form in Form
    }
    ways |= {"plain_torch": plain, "together": together}
    return Figures(peers, _best_s(ways, repeats, in_a_row))


def _gradients(stack: Stack, batches: Sequence[Batch], form: Form) -> torch.Tensor:
    stack.use(form)
    stack.gradients(batches)
    return stack.grad_PN.clone()


def _taking(stack: Stack, batches: Sequence[Batch], form: Form) -> Callable[[], object]:
    def take() -> object:
        stack.use(form)
        return stack.gradients(batches)

    return take


def _plain_torch(task: Task, feed: Feed, peers: int) -> Callable[[], list[nn.Module]]:
    """One step of every peer's own model with torch's own optimizer, peer after peer."""
    models = [task.model(0) for _ in range(peers)]
    optimizers = [torch.optim.SGD(each.parameters(), RATE, MOMENTUM) for each in models]
    taken = 0

    def step() -> list[nn.Module]:
        nonlocal taken
        for peer, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            optimizer.zero_grad()
            task.loss(model, feed.batch(peer, taken)).backward()  # type: ignore[no-untyped-call]  # torch has no type
            optimizer.step()
        taken += 1
        return models

    return step


def _together(task: Task, feed: Feed, peers: int) -> Callable[[], Stack]:
    """The same step in ``gossip compare``."""
    stack = Stack(task, peers, 0)
    stack.use(Form.TRACED)
    inner = make_inner(stack, InnerSettings("sgd", RATE, MOMENTUM, decay=0.0))
    taken = 0

    def step() -> Stack:
        nonlocal taken
        stack.gradients(feed.batches(range(peers), [taken] * peers))
        with torch.no_grad():
            inner.step_(None, 1.0)
        taken += 1
        return stack

    return step


def _best_s(ways: dict[str, Callable[[], object]], repeats: int, in_a_row: int) -> dict[str, float]:
    """Seconds of a call in each way's fastest turn: CPU time where torch has one thread."""
    clock_s = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    best_s = dict.fromkeys(ways, float("inf"))
    for _ in range(repeats):
        for name, take in ways.items():
            began_s = clock_s()
            for _ in range(in_a_row):
                take()
            best_s[name] = min(best_s[name], (clock_s() - began_s) / in_a_row)
    return best_s


if __name__ == "__main__":
    raise SystemExit(main())

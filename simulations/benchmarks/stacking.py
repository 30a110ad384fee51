"""Peers trained together as one batched model, against one after another.

``python -m simulations.benchmarks.stacking`` prints peer-steps a second of both forms on the digits
network. Before a time is printed, both forms' gradients are compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch

from peers.tasks.digits import DigitsTask
from peers.tasks.task import Batch
from simulations.compare.feed import Feed, Split
from simulations.compare.stack import Form, Stack


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    task = DigitsTask()
    stack = Stack(task, options.peers, 0)
    feed = Feed(task, options.peers, Split.SHARED, 0)
    batches = [feed.batch(peer, 0) for peer in range(options.peers)]
    gradients = {form: _gradients(stack, batches, form) for form in Form}
    torch.testing.assert_close(
        gradients[Form.STACKED], gradients[Form.ONE_BY_ONE], rtol=1e-4, atol=1e-6
    )
    seconds = {form: _best_s(stack, batches, form, options.repeats) for form in Form}
    for form, best_s in seconds.items():
        print(f"{form.name.lower():<10} {options.peers / best_s:10,.0f} peer-steps a second")
    print(f"ratio      {seconds[Form.ONE_BY_ONE] / seconds[Form.STACKED]:10.1f}")
    return 0


def _gradients(stack: Stack, batches: Sequence[Batch], form: Form) -> torch.Tensor:
    stack.use(form)
    stack.gradients(batches)
    return stack.grad_PN.clone()


def _best_s(stack: Stack, batches: Sequence[Batch], form: Form, repeats: int) -> float:
    """Seconds for one step of all peers, the best of several."""
    stack.use(form)
    best_s = float("inf")
    for _ in range(repeats):
        began_s = time.perf_counter()
        stack.gradients(batches)
        best_s = min(best_s, time.perf_counter() - began_s)
    return best_s


if __name__ == "__main__":
    raise SystemExit(main())

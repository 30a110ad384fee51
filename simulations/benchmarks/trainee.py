"""One training loop, as a peer or alone; what it got done in a given time.

Run as a child process. The model is a multilayer perceptron on made-up input, so that nothing but
the steps themselves and what the peer does beside them takes time.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

import peers
from gossip.config import Config, ExchangeConfig
from simulations.benchmarks.children import Figures, serve

INPUTS = 784
CLASSES = 10
BATCH_SAMPLES = 64
BATCHES = 8
SYNCHRONIZE_STEPS = 16
"""An accelerator is waited for this often, so that steps are counted and not just queued."""

MEET_S = 60.0


class Trainee:
    """See the module. ``peer`` is None for the loop alone."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._peer: peers.Peer | None = None
        self._device = torch.device("cpu")

    def start(self, told: Mapping[str, Any]) -> Figures:
        """Build the model and, if there is a run to join, join it."""
        torch.manual_seed(told["index"])
        width = told["width"]
        self._device = torch.device(told["device"])
        layers = [nn.Linear(INPUTS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        self._model = nn.Sequential(*layers, nn.Linear(width, CLASSES)).to(self._device)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=1e-3, momentum=0.9)
        self._batches = [self._made_up() for _ in range(BATCHES)]
        answer: Figures = {"parameters": sum(each.numel() for each in self._model.parameters())}
        if told["run"]:
            exchange = ExchangeConfig(codec=told["codec"], reply_codec=told["codec"])
            joined = peers.join(
                self._model,
                self._optimizer,
                run=told["run"],
                contacts=told["contacts"],
                every=told["every"],
                samples_per_step=BATCH_SAMPLES,
                settings=peers.PeerConfig(protocol=Config(exchange=exchange)),
            )
            self._peer = self._stack.enter_context(joined)
            answer["address"] = self._peer.address
        return answer

    def warm_up(self, told: Mapping[str, Any]) -> Figures:
        """Train for a moment: the first steps are slow. A peer waits for the others before."""
        if self._peer is not None:
            assert self._peer.wait_for_peers(told["peers"], MEET_S), "the peers did not meet"
        return self.train(told)

    def train(self, told: Mapping[str, Any]) -> Figures:
        """Train for ``seconds``; samples, time, what the hook took, and whether it all worked."""
        swaps = 0 if self._peer is None else self._peer.tally.swaps
        usage = resource.getrusage(resource.RUSAGE_SELF)
        costs_s: list[float] = []
        losses: list[Tensor] = []
        steps = 0
        began_s = now_s = time.monotonic()
        while now_s - began_s < told["seconds"]:
            losses = [self._step(steps, costs_s)]
            steps += 1
            if steps % SYNCHRONIZE_STEPS == 0:
                self._synchronize()
            now_s = time.monotonic()
        self._synchronize()
        wall_s = time.monotonic() - began_s
        after = resource.getrusage(resource.RUSAGE_SELF)
        costs_s.sort()
        return {
            "samples": steps * BATCH_SAMPLES,
            "steps": steps,
            "wall_s": wall_s,
            "cpu_s": after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime,
            "loss": float(losses[0]),
            "swaps": 0 if self._peer is None else self._peer.tally.swaps - swaps,
            "disagreement": math.nan if self._peer is None else self._peer.disagreement,
            "hook_mean_s": sum(costs_s) / len(costs_s),
            "hook_p99_s": costs_s[math.ceil(0.99 * len(costs_s)) - 1],
            "hook_max_s": costs_s[-1],
        }

    def leave(self, told: Mapping[str, Any]) -> Figures:
        """Say goodbye, if there is anybody to say it to."""
        del told
        self._stack.close()
        return {}

    def _step(self, steps: int, costs_s: list[float]) -> Tensor:
        inputs_BI, classes_B = self._batches[steps % BATCHES]
        self._optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self._model(inputs_BI), classes_B)
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
        before_s = self._stalled_s()
        self._optimizer.step()
        costs_s.append(self._stalled_s() - before_s)
        return loss.detach()

    def _stalled_s(self) -> float:
        return 0.0 if self._peer is None else self._peer.hook.meter.total_stall_s

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _made_up(self) -> tuple[Tensor, Tensor]:
        inputs_BI = torch.randn(BATCH_SAMPLES, INPUTS, device=self._device)
        return inputs_BI, torch.randint(CLASSES, (BATCH_SAMPLES,), device=self._device)


if __name__ == "__main__":
    trainee = Trainee()
    serve(
        {
            "start": trainee.start,
            "warm_up": trainee.warm_up,
            "train": trainee.train,
            "leave": trainee.leave,
        }
    )

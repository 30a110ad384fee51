"""Real peers inside one test process: sockets on loopback, one I/O thread each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.optim import SGD

from gossip.config import Config, ExchangeConfig, FinishConfig
from peers.peer import Peer, join
from peers.settings import PeerConfig

SWAPS = ExchangeConfig(codec="fp32", reply_codec="fp32")
QUICK = Config(exchange=SWAPS, finish=FinishConfig(deadline_s=5.0, linger_s=2.0))
DEADLINE_S = 20.0


def small_model(seed: int, width: int = 4) -> nn.Module:
    """Two layers, drawn from a seed."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, 1))


def a_peer(
    model: nn.Module,
    contacts: tuple[str, ...] = (),
    folder: Path | None = None,
    every: int = 1,
    run: str = "test",
    settings: PeerConfig | None = None,
) -> Peer:
    """A peer with quick timers around a model, with plain SGD."""
    settings = replace(
        settings or PeerConfig(protocol=QUICK), folder=folder, seed=1, join_timeout_s=10.0
    )
    optimizer = SGD(model.parameters(), lr=0.05)
    return join(
        model,
        optimizer,
        run=run,
        contacts=contacts,
        every=every,
        settings=settings,
        samples_per_step=8,
    )


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    """One step on a batch drawn from a seed."""
    generator = torch.Generator().manual_seed(seed)
    x_SF = torch.randn(8, 4, generator=generator)
    y_S = x_SF.sum(dim=1, keepdim=True)
    optimizer.zero_grad()
    nn.functional.mse_loss(model(x_SF), y_S).backward()
    optimizer.step()


def wait_until(holds: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Poll a condition that another thread brings about; fails with ``what`` when too late."""
    until_s = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < until_s, f"not within {deadline_s} s: {what}"
        time.sleep(0.005)


def parameters_N(model: nn.Module) -> torch.Tensor:
    """All parameters as one vector."""
    return torch.cat([each.detach().reshape(-1) for each in model.parameters()])

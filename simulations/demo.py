"""``gossip demo``: four peers learn digits together, the first is killed, another joins late.

A ``gossip local`` run with everything fixed but its length and seed, then the baselines it is
measured against. What the peers know of each other's samples is what crossed the sockets.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from gossip.exchange.finish import AGREED
from gossip.mixing.disagreement import disagreement
from peers.cli import Parser
from peers.cli.flags import count, existing_folder, positive
from peers.export import export_model, load_model
from peers.identity import write_whole
from peers.tasks.digits import DigitsTask
from simulations.baselines import ddp_bytes, train_plainly
from simulations.local.command import JsonValue, finite, peer_summary, people_console, run_folder
from simulations.local.interruption import Interruption
from simulations.local.process import PeerProcess, State
from simulations.local.schedule import Kill, Schedule
from simulations.local.supervisor import LocalPlan, RunFailed, Supervisor
from simulations.local.watch import Watch

EVERY_STEPS: Final = 32
CODEC: Final = "wrap4"
PACE: Final = 60.0
"""Steps/s of each peer: five of them then leave two busy cores some air, so that the longest stall
shows the trainer and not the machine's scheduler."""
FIRST: Final = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Accuracies on the held-out images.

    alone              of each initial peer, trained by itself on the shards it had first.
    gossip             of each surviving peer's own final model, by its number.
    gossip_mean_model  of the mean of those models.
    central            of one machine with all shards and as many samples as the whole swarm.
    """

    alone: dict[int, float]
    gossip: dict[int, float]
    gossip_mean_model: float
    central: float
    disagreement: float

    @property
    def alone_mean(self) -> float:
        """Mean over the initial peers."""
        return sum(self.alone.values()) / len(self.alone)

    @property
    def gossip_worst(self) -> float:
        """Of the surviving peer that is worst."""
        return min(self.gossip.values())


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes, mean over all peers that took part, the killed and the late one included."""

    sent_bytes: float
    ddp_bytes: float

    @property
    def factor(self) -> float:
        """How many times more DDP would have sent."""
        return self.ddp_bytes / self.sent_bytes if self.sent_bytes else math.inf


def make_parser() -> Parser:
    """The flags of ``gossip demo``."""
    parser = Parser(
        prog="gossip demo",
        description="Real peers on this machine learn handwritten digits; the first is killed at a "
        "third of the run, another joins at two thirds.",
    )
    parser.add_argument("--peers", type=initial_peers, default=4, help="at the start (default: 4)")
    parser.add_argument("--seconds", type=positive, default=36.0, help="to train (default: 36)")
    parser.add_argument("--seed", type=int, default=0, help="of model, order and placement")
    parser.add_argument("--json", action="store_true", help="the result as a last line of JSON")
    parser.add_argument(
        "--dir", metavar="DIR", help="where model.safetensors goes (default: runs/demo-TIME)"
    )
    return parser


def initial_peers(text: str) -> int:
    """At least 2, as one is killed."""
    peers = count(text)
    if peers < 2:
        raise argparse.ArgumentTypeError("must be at least 2, as the first is killed")
    return peers


def main(arguments: Sequence[str]) -> int:
    """Run the demo; 0 when every peer but the killed one finished well."""
    began_s = time.monotonic()
    flags = make_parser().parse_args(arguments)
    torch.set_num_threads(1)
    task = DigitsTask()
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = Path("runs") / f"demo-{stamp}" if flags.dir is None else existing_folder(flags.dir)
    plan = make_plan(flags.peers, flags.seconds, flags.seed)
    console = people_console(flags.json)
    console.print(
        f"{task.describe()}; swaps every {EVERY_STEPS} steps, {CODEC}; {PACE:g} steps/s a peer",
        highlight=False,
        markup=False,
    )
    with Interruption() as interruption, run_folder(None, plan.peers) as scratch:
        watch = Watch(console, plan.seconds)
        with watch, Supervisor(plan, scratch, watch, interruption) as supervisor:
            supervisor.run()
            watch.show(supervisor.peers, supervisor.elapsed_s, last=True)
        peers = supervisor.peers
        survivors = [peer for peer in peers if peer.state is State.FINISHED]
        if not survivors:
            raise RunFailed("no peer finished")
        console.print("Now the same without a swarm, to compare ...", highlight=False)
        models = [exported(task, peer) for peer in survivors]
        mean = mean_model(task, models)
        comparison = compare(task, plan, peers, models, mean, interruption.check)
        traffic = count_traffic(plan, peers, mean)
        notes = {"run": plan.run, "seed": str(plan.seed), "peers": str(len(survivors))}
        export_model(mean, folder / "model.safetensors", notes)
        result = summary(plan, peers, comparison, traffic)
        result["seconds"] = round(time.monotonic() - began_s, 2)
        result["model"] = str(folder / "model.safetensors")
        write_whole(folder / "result.json", json.dumps(result, indent=2).encode())
        show_result(console, result, comparison, traffic)
    if flags.json:
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
    return 1 if supervisor.failed else 0


def make_plan(peers: int, seconds: float, seed: int) -> LocalPlan:
    """The run: everything that is drawn follows from ``seed``."""
    run = f"demo-{seed}"
    return LocalPlan(
        peers=peers,
        arguments=(
            "digits",
            f"--run={run}",
            f"--seed={seed}",
            f"--every={EVERY_STEPS}",
            f"--codec={CODEC}",
            f"--pace={PACE:g}",
            "--device=cpu",
            "--threads=1",
        ),
        run=run,
        seed=seed,
        seconds=seconds,
        schedule=Schedule(kills=(Kill(FIRST, seconds / 3),), late_s=(seconds * 2 / 3,)),
    )


def exported(task: DigitsTask, peer: PeerProcess) -> nn.Module:
    """The model that a peer wrote at its end. Raises UsageError when it did not."""
    return load_model(task.model(0), peer.folder / "model.safetensors")


def mean_model(task: DigitsTask, models: Sequence[nn.Module]) -> nn.Module:
    """The mean of all parameters."""
    mean = task.model(0)
    with torch.no_grad():
        columns = zip(*(model.parameters() for model in models), strict=True)
        for into, column in zip(mean.parameters(), columns, strict=True):
            into.copy_(torch.stack(column).mean(dim=0))
    return mean


def compare(
    task: DigitsTask,
    plan: LocalPlan,
    peers: Sequence[PeerProcess],
    models: Sequence[nn.Module],
    mean: nn.Module,
    check: Callable[[], None],
) -> Comparison:
    """Train the baselines and evaluate everything. ``check`` may end it by raising.

    The central machine takes batches ``plan.peers`` times as large, and so many steps that it
    sees as many samples as the swarm did.
    """

    def accuracy(model: nn.Module) -> float:
        return task.evaluate(model)["accuracy"]

    alone = {}
    for peer in peers[: plan.peers]:
        steps = peer.status.samples // task.batch
        model = train_plainly(task, plan.run, plan.seed, peer.first_shards, steps, check)
        alone[peer.index] = accuracy(model)
    whole = replace(task, batch=task.batch * plan.peers)
    steps = sum(peer.status.samples for peer in peers) // whole.batch
    central = train_plainly(whole, plan.run, plan.seed, range(task.shards), steps, check)
    survivors = [peer for peer in peers if peer.state is State.FINISHED]
    return Comparison(
        alone=alone,
        gossip={peer.index: accuracy(model) for peer, model in zip(survivors, models, strict=True)},
        gossip_mean_model=accuracy(mean),
        central=accuracy(central),
        disagreement=disagreement([flat(model) for model in models]),
    )


def flat(model: nn.Module) -> torch.Tensor:
    """All parameters as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def count_traffic(plan: LocalPlan, peers: Sequence[PeerProcess], model: nn.Module) -> Traffic:
    """What was sent, and what DDP would have sent for the same steps."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    there = [peer for peer in peers if peer.status.step]
    by_ddp = [ddp_bytes(parameters, peer.status.step, plan.peers) for peer in there]
    sent = [peer.status.sent_bytes for peer in there]
    return Traffic(sum(sent) / len(there), sum(by_ddp) / len(there))


def summary(
    plan: LocalPlan, peers: Sequence[PeerProcess], comparison: Comparison, traffic: Traffic
) -> dict[str, JsonValue]:
    """The result as JSON; ``seconds`` and ``model`` are the caller's to add."""
    started = [peer for peer in peers if peer.pid]
    survivors = [peer for peer in peers if peer.state is State.FINISHED]
    late = [peer for peer in survivors if peer.index >= plan.peers]
    each: dict[str, JsonValue] = {}
    for peer in started:
        each[str(peer.index)] = {
            **peer_summary(peer),
            "accuracy": comparison.gossip.get(peer.index, peer.status.figures.get("accuracy")),
            "alone_accuracy": comparison.alone.get(peer.index),
        }
    return {
        "peers": each,
        "accuracy": {
            "alone_mean": comparison.alone_mean,
            "gossip_worst": comparison.gossip_worst,
            "gossip_mean_model": comparison.gossip_mean_model,
            "central": comparison.central,
        },
        "killed": [peer.index for peer in started if peer.state is State.KILLED],
        "joined": [peer.index for peer in late],
        "join_s": finite(max((peer.join_s for peer in late), default=math.nan)),
        "max_stall_s": max(peer.status.stall_s for peer in survivors),
        "max_gap_s": max(peer.status.gap_s for peer in survivors),
        "bytes_sent_per_peer": round(traffic.sent_bytes),
        "ddp_bytes_per_peer": round(traffic.ddp_bytes),
        "disagreement": comparison.disagreement,
    }


def show_result(
    console: Console, result: dict[str, JsonValue], comparison: Comparison, traffic: Traffic
) -> None:
    """The table, and what happened in two sentences."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column("accuracy", justify="right")
    table.add_column("sent per peer", justify="right")
    alone = comparison.alone.values()
    sent, by_ddp = (f"{each / 1e6:,.1f} MB" for each in (traffic.sent_bytes, traffic.ddp_bytes))
    rows = (
        ("each peer alone, mean", comparison.alone_mean, "–"),
        ("each peer alone, best", max(alone), "–"),
        ("gossip, worst peer", comparison.gossip_worst, sent),
        ("gossip, mean model", comparison.gossip_mean_model, sent),
        ("one machine with all data", comparison.central, f"{by_ddp} (DDP)"),
    )
    for name, accuracy, bytes_shown in rows:
        style = "bold green" if name.startswith("gossip") else None
        table.add_row(name, f"{accuracy:.3f}", bytes_shown, style=style)
    console.print(table)
    words = [
        f"{traffic.factor:.0f} times fewer bytes than DDP for the same steps; the peers' models "
        f"{differing(comparison.disagreement)}.",
        f"Killed: {_numbers(result['killed'])}; nobody waited. Joined late: "
        f"{_numbers(result['joined'])}, with the neighbors' model after {result['join_s']:.2f} s."
        if isinstance(result["join_s"], float)
        else f"Killed: {_numbers(result['killed'])}; nobody waited.",
        f"Longest stall of a training loop {milliseconds(result['max_stall_s'])}, longest gap "
        f"between two steps {milliseconds(result['max_gap_s'])}.",
        f"Model: {result['model']} · whole demo {result['seconds']} s",
    ]
    for each in words:
        console.print(each, highlight=False, markup=False, soft_wrap=True)


def differing(disagreement: float) -> str:
    """How near the models are at the end, and what it means where that is not near enough."""
    words = f"differ by {disagreement:.1e}"
    if disagreement <= AGREED:
        return words
    return f"{words} (some ended long before others, or had too little time, so not all agree)"


def milliseconds(value: JsonValue) -> str:
    """Seconds for people."""
    return f"{value * 1e3:.0f} ms" if isinstance(value, float) else "unknown"


def _numbers(value: JsonValue) -> str:
    numbers = value if isinstance(value, list) else []
    return ", ".join(f"peer {each}" for each in numbers) or "nobody"

"""What swapping costs the training it runs beside: samples per second with swaps on against off.

    python -m simulations.benchmarks.throughput --seconds 10 --repeats 9

On: peers of one run, each with one thread, swapping at least once a second each. Off: the same
loops in as many processes, with no peer in them at all. Every measurement starts fresh processes,
on and off in turn, and each on is divided by the mean of the offs before and after it, so that a
machine that slows down slows both. A trial, and then each on, tells the next which cadence gives
the swaps asked for. Nothing is printed before every peer was seen to swap often enough over all
repeats, loss and disagreement to be finite.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from gossip.codecs import CODEC_NAMES
from simulations.benchmarks.children import Child, Children, Figures
from simulations.benchmarks.results import (
    EXIT_CANNOT,
    EXIT_WRONG_RESULT,
    Spread,
    WrongResult,
    as_json,
    machine,
    ratios,
)

SWAPS_PER_S_MIN = 1.0
"""Completed swaps a second and peer, in whichever role: fewer, and the figure means nothing."""

WARM_UP_S = 1.0
TRIAL_S = 5.0

SAME_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 30)}
"""glibc keeps freed memory in both. It learns to by itself, but only from a large block that is
freed: a peer's start gives it one, a loop alone pays hundreds of page faults a step instead, and
swaps would seem to make training faster."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured. ``width`` of the hidden layers decides the size: 1024 is 1.9 M parameters.

    ``swaps_per_s`` is what each peer's cadence aims at, both roles counted.
    """

    seconds: float = 10.0
    repeats: int = 9
    peers: int = 2
    width: int = 1024
    codec: str = "int8"
    device: str = "cpu"
    swaps_per_s: float = 1.3


def run_once(settings: Settings, every: int | None) -> list[Figures]:
    """One measurement, in processes of its own; ``every`` None is off."""
    trainees = [Child("simulations.benchmarks.trainee", SAME_MEMORY) for _ in range(settings.peers)]
    with Children(trainees) as training:
        contacts: list[str] = []
        for index, trainee in enumerate(training.each):
            started = trainee.ask(
                "start",
                {
                    "index": index,
                    "width": settings.width,
                    "device": settings.device,
                    "codec": settings.codec,
                    "run": "" if every is None else "throughput",
                    "contacts": contacts,
                    "every": every,
                },
            )
            contacts = contacts or [started["address"]] if every is not None else []
        seconds = min(WARM_UP_S, settings.seconds)
        training.ask("warm_up", {"peers": settings.peers, "seconds": seconds})
        trained = training.ask("train", {"seconds": settings.seconds})
        training.ask("leave")
    return [figures | {"parameters": started["parameters"]} for figures in trained]


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of all loops: off one more than on, and the cadence of each on."""

    off: list[list[Figures]]
    on: list[list[Figures]]
    every: list[int]

    def around(self) -> list[tuple[list[Figures], list[Figures]]]:
        """The offs before and after each on."""
        return list(zip(self.off, self.off[1:], strict=False))


def measure(settings: Settings) -> Measured:
    """All measurements. Raises WrongResult."""
    short = replace(settings, seconds=min(TRIAL_S, settings.seconds))
    measured = Measured([run_once(short, None)], [], [])
    every = cadence(settings, measured.off[0])
    share = came_about(run_once(short, every), every)
    measured.off[0] = run_once(settings, None)
    for _ in range(settings.repeats):
        every = cadence(settings, measured.off[-1], share)
        measured.every.append(every)
        measured.on.append(run_once(settings, every))
        measured.off.append(run_once(settings, None))
        share = came_about(measured.on[-1], every)
    verify(measured.off, 0.0)
    verify(measured.on, SWAPS_PER_S_MIN)
    return measured


def came_about(on: Sequence[Figures], every: int) -> float:
    """How many of the swaps due came about; where offers cross, two become one.

    Raises WrongResult when none did.
    """
    share: float = min(each["swaps"] * every / (2 * each["steps"]) for each in on)
    if share == 0:
        raise WrongResult(f"a loop did not swap once, with a swap due every {every} steps")
    return min(1.0, share)


def cadence(settings: Settings, off: Sequence[Figures], share: float = 1.0) -> int:
    """Local steps between the swaps a peer starts: of all it takes part in, it starts half.

    ``share`` of those due come about.
    """
    steps_per_s: float = min(each["steps"] / each["wall_s"] for each in off)
    return max(1, int(steps_per_s * share * 2 / settings.swaps_per_s))


def verify(repeats: Sequence[Sequence[Figures]], swaps_per_s_min: float) -> None:
    """Raise WrongResult unless every loop trained, and all in all swapped as often as it should."""
    for each in (each for trained in repeats for each in trained):
        if not (each["steps"] > 0 and math.isfinite(each["loss"])):
            raise WrongResult(f"a loop did not train: {each['steps']} steps, loss {each['loss']}")
        if swaps_per_s_min > 0 and not math.isfinite(each["disagreement"]):
            raise WrongResult(f"disagreement is {each['disagreement']}")
    for own in zip(*repeats, strict=True):
        swaps, wall_s = sum(each["swaps"] for each in own), sum(each["wall_s"] for each in own)
        if swaps < swaps_per_s_min * wall_s:
            raise WrongResult(f"only {swaps} swaps in {wall_s:.1f} s")


def rate(trained: Sequence[Figures]) -> float:
    """Samples a second of all loops together."""
    return sum(float(each["samples"] / each["wall_s"]) for each in trained)


def summary(settings: Settings, measured: Measured) -> dict[str, Any]:
    """The figures as ``--json`` prints them."""
    off, on = measured.off, measured.on
    peers = [each for trained in on for each in trained]

    def to_off(figure: Callable[[Sequence[Figures]], float]) -> Spread:
        beside = [(figure(before) + figure(after)) / 2 for before, after in measured.around()]
        return ratios(list(map(figure, on)), beside)

    return {
        "benchmark": "throughput",
        "peers": settings.peers,
        "parameters": on[0][0]["parameters"],
        "codec": settings.codec,
        "device": settings.device,
        "seconds": settings.seconds,
        "every": Spread.of(measured.every),
        "verified": True,
        "off_samples_per_s": Spread.of(map(rate, off)),
        "on_samples_per_s": Spread.of(map(rate, on)),
        "on_to_off": to_off(rate),
        "swaps_per_s": Spread.of(each["swaps"] / each["wall_s"] for each in peers),
        "disagreement": Spread.of(each["disagreement"] for each in peers),
        "off_cpu_s_per_1000_samples": Spread.of(map(_cpu_rate, off)),
        "on_cpu_s_per_1000_samples": Spread.of(map(_cpu_rate, on)),
        "cpu_on_to_off": to_off(_cpu_rate),
        "hook_mean_s": Spread.of(each["hook_mean_s"] for each in peers),
        "hook_p99_s": Spread.of(each["hook_p99_s"] for each in peers),
        "hook_max_s": Spread.of(each["hook_max_s"] for each in peers),
    }


def _cpu_rate(trained: Sequence[Figures]) -> float:
    used_s = sum(float(each["cpu_s"]) for each in trained)
    return 1000 * used_s / sum(float(each["samples"]) for each in trained)


def report(figures: dict[str, Any]) -> str:
    """The same figures to read."""
    rows = [
        ("off: the loops alone", figures["off_samples_per_s"].text("samples/s", 1, 0)),
        ("on: the loops swapping", figures["on_samples_per_s"].text("samples/s", 1, 0)),
        ("on to off", figures["on_to_off"].text("")),
        ("a swap is due every", figures["every"].text("steps", digits=0)),
        ("swaps a second and peer", figures["swaps_per_s"].text("", 1, 2)),
        ("disagreement at the end", figures["disagreement"].text("")),
        ("off: CPU", figures["off_cpu_s_per_1000_samples"].text("s per 1000 samples")),
        ("on: CPU", figures["on_cpu_s_per_1000_samples"].text("s per 1000 samples")),
        ("CPU, on to off", figures["cpu_on_to_off"].text("")),
        ("hook, mean of all steps", figures["hook_mean_s"].text("us", 1e6, 0)),
        ("hook, 99 % of steps below", figures["hook_p99_s"].text("us", 1e6, 0)),
        ("hook, longest", figures["hook_max_s"].text("ms", 1e3, 1)),
    ]
    head = (
        f"throughput: {figures['peers']} peers on {figures['device']}, "
        f"{figures['parameters']:,} parameters, {figures['codec']}; median (min-max), verified"
    )
    load = f"load before the run was {figures['machine']['load_1min']}"
    return "\n".join([head, *(f"  {name:<28}{value}" for name, value in rows), f"  {load}"])


def read_settings(arguments: Sequence[str]) -> tuple[Settings, bool]:
    """Settings and whether JSON is wanted; ends the program with 64 on what cannot be."""
    parser = argparse.ArgumentParser(prog="python -m simulations.benchmarks.throughput")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=9, help="of on and of off")
    parser.add_argument("--peers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--width", type=int, default=1024, help="1024 is 1.9 M parameters")
    parser.add_argument("--codec", choices=CODEC_NAMES, default="int8")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N, for all peers")
    parser.add_argument("--swaps-per-s", type=float, default=1.3, help="a peer; at least 1")
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    given = parser.parse_args(arguments)
    problem = _problem(given)
    if problem:
        print(f"throughput: {problem}", file=sys.stderr)
        raise SystemExit(EXIT_CANNOT)
    settings = Settings(
        given.seconds,
        given.repeats,
        given.peers,
        given.width,
        given.codec,
        given.device,
        given.swaps_per_s,
    )
    return settings, given.json


def _problem(given: argparse.Namespace) -> str:
    if given.seconds <= 0 or given.repeats < 1 or given.width < 1:
        return "--seconds, --repeats and --width must be positive"
    if given.peers < 2 or given.swaps_per_s < SWAPS_PER_S_MIN:
        return "--peers must be at least 2 and --swaps-per-s at least 1"
    if given.device != "cpu" and not given.device.startswith("cuda"):
        return f"--device {given.device}: only cpu and cuda are measured"
    if given.device != "cpu" and not torch.cuda.is_available():
        return f"--device {given.device}: this machine has no CUDA device"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a run did not do what it should."""
    settings, wants_json = read_settings(sys.argv[1:] if arguments is None else arguments)
    before = machine()
    try:
        measured = measure(settings)
    except WrongResult as wrong:
        print(f"throughput: {wrong}", file=sys.stderr)
        return EXIT_WRONG_RESULT
    figures = summary(settings, measured) | {"machine": before}
    print(as_json(figures) if wants_json else report(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

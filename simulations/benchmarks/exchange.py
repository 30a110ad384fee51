"""What one swap between two real peers costs, beside a bare swap of the same bytes.

    python -m simulations.benchmarks.exchange --peers 2 --elements 50000000 --codec fp32

Peers are processes of their own. Each pair of peers swaps once a repeat, all pairs at once; right
after it, on the same machine, the same bytes cross bare (see ``bare``) and over plain TCP. No time
is printed before both sides were found to hold the mean and the bytes to be as expected.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gossip.codecs import CODEC_NAMES, make_codec
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

ERROR_MAX = {"fp32": 1e-6, "bf16": 2.0**-8, "int8": 1.0 / 64}
"""Largest distance from the mean for values in [-1, 1): each leg's rounding, halved, and a margin.

bf16 keeps 8 bits, int8 a 127th of a block's largest value; the second leg codes a difference,
which is up to twice as large.
"""

OVERHEAD_SHARE = 0.01
OVERHEAD_BYTES = 64 << 10
"""What headers, Wants and membership may add to the two codes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured. ``warm_up`` repeats are verified but not counted, the first one apart.

    ``hook_delay_s``: the responder's hook runs so long after its correction is queued, as it does
    where it waits for a training step to end. With 0 it runs at once, and moves the responder's
    model on the same cores that carry the second leg.
    """

    peers: int = 2
    elements: int = 50_000_000
    codec: str = "fp32"
    repeats: int = 7
    hook_delay_s: float = 0.0
    warm_up: int = 2

    @property
    def leg_bytes(self) -> int:
        """Code bytes of one leg."""
        return make_codec(self.codec).code_bytes(-(-self.elements // 256) * 256)


@dataclass(slots=True)
class Measured:
    """One value a repeat, in seconds unless named otherwise; the slowest pair counts."""

    first_s: float = 0.0
    transfer_s: list[float] = field(default_factory=list)
    applied_s: list[float] = field(default_factory=list)
    done_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    wire_bytes: list[float] = field(default_factory=list)
    page_faults: list[float] = field(default_factory=list)
    bare_s: list[float] = field(default_factory=list)
    bare_cpu_s: list[float] = field(default_factory=list)
    tcp_s: list[float] = field(default_factory=list)
    copy_s: list[float] = field(default_factory=list)


def measure(settings: Settings) -> Measured:
    """Run all repeats. Raises WrongResult as soon as one swap did not do what it should."""
    measured = Measured()
    peers = [Child("simulations.benchmarks.swapper") for _ in range(settings.peers)]
    bare = [Child("simulations.benchmarks.bare") for _ in range(settings.peers)]
    with Children(peers) as swapping, Children(bare) as plainly:
        _pair_up(settings, swapping, plainly)
        for repeat in range(settings.warm_up + settings.repeats):
            sides = _swap(settings, swapping, repeat)
            crossed = _cross(plainly, "swap")
            plain = _cross(plainly, "plain_swap")
            copied = plainly.each[0].ask("copy")
            if repeat == 0:
                measured.first_s = max(a["closed_s"] - a["began_s"] for a in sides[::2])
            if repeat >= settings.warm_up:
                _note(measured, sides, crossed)
                measured.tcp_s.append(max(each["wall_s"] for each in plain))
                measured.copy_s.append(copied["wall_s"])
    return measured


def _pair_up(settings: Settings, swapping: Children, plainly: Children) -> None:
    for index, peer in enumerate(swapping.each):
        first = swapping.each[index ^ 1]
        # The second of a pair founds the pair's run, the first one joins and starts the swaps.
        told = {
            "index": index % 2,
            "run": f"exchange-{index // 2}",
            "elements": settings.elements,
            "codec": settings.codec,
        }
        if index % 2 == 0:
            founder = first.ask("start", told | {"index": 1, "contacts": []})
            peer.ask("start", told | {"contacts": [founder["address"]]})
    for first, second in zip(plainly.each[::2], plainly.each[1::2], strict=True):
        size = {"size_bytes": settings.leg_bytes}
        first.ask("connect", size | second.ask("listen", size))


def _swap(settings: Settings, swapping: Children, repeat: int) -> list[Figures]:
    swapping.ask("fill", {"repeat": repeat})
    swapping.ask("arm")
    sides = swapping.ask("swap", {"hook_delay_s": settings.hook_delay_s})
    found = swapping.ask("verify", {"repeat": repeat})
    sides = [side | checked for side, checked in zip(sides, found, strict=True)]
    for side in sides:
        verify(settings, side)
    return sides


def verify(settings: Settings, side: Figures) -> None:
    """Raise WrongResult unless one side's swap was applied, gave the mean, and cost its bytes."""
    if not side["applied"]:
        raise WrongResult("a swap was not applied")
    if not side["error"] <= ERROR_MAX[settings.codec]:  # so written, a NaN is wrong too
        raise WrongResult(f"after a swap a value is {side['error']:.3g} away from the mean")
    expected = settings.leg_bytes
    limit = expected * (1 + OVERHEAD_SHARE) + OVERHEAD_BYTES
    for way in ("sent_bytes", "received_bytes"):
        if not expected <= side[way] <= limit:
            raise WrongResult(f"a swap took {side[way]} {way}, expected {expected} and a little")


def _cross(plainly: Children, how: str) -> list[Figures]:
    sides = plainly.ask(how)
    for first, second in zip(sides[::2], sides[1::2], strict=True):
        there = first["sent_digest"] == second["received_digest"]
        back = second["sent_digest"] == first["received_digest"]
        if not (there and back):
            raise WrongResult(f"{how}: what arrived is not what was sent")
    return sides


def _note(measured: Measured, sides: Sequence[Figures], crossed: Sequence[Figures]) -> None:
    pairs = list(zip(sides[::2], sides[1::2], strict=True))
    measured.transfer_s.append(max(a["ready_s"] - a["began_s"] for a, _ in pairs))
    measured.applied_s.append(max(a["closed_s"] - a["began_s"] for a, _ in pairs))
    measured.done_s.append(max(b["closed_s"] - a["began_s"] for a, b in pairs))
    measured.cpu_s.append(sum(each["cpu_s"] for each in sides))
    measured.wire_bytes.append(sum(each["sent_bytes"] for each in sides))
    measured.page_faults.append(sum(each["page_faults"] for each in sides))
    measured.bare_s.append(max(each["wall_s"] for each in crossed))
    measured.bare_cpu_s.append(sum(each["cpu_s"] for each in crossed))


def summary(settings: Settings, measured: Measured) -> dict[str, Any]:
    """The figures as ``--json`` prints them. Ratios are taken repeat by repeat."""
    return {
        "benchmark": "exchange",
        "peers": settings.peers,
        "elements": settings.elements,
        "codec": settings.codec,
        "hook_delay_s": settings.hook_delay_s,
        "leg_bytes": settings.leg_bytes,
        "verified": True,
        "machine": machine(),
        "first_s": measured.first_s,
        "transfer_s": Spread.of(measured.transfer_s),
        "applied_s": Spread.of(measured.applied_s),
        "done_s": Spread.of(measured.done_s),
        "cpu_s": Spread.of(measured.cpu_s),
        "wire_bytes": Spread.of(measured.wire_bytes),
        "page_faults": Spread.of(measured.page_faults),
        "bare_s": Spread.of(measured.bare_s),
        "bare_cpu_s": Spread.of(measured.bare_cpu_s),
        "tcp_s": Spread.of(measured.tcp_s),
        "copy_s": Spread.of(measured.copy_s),
        "transfer_to_bare": ratios(measured.transfer_s, measured.bare_s),
        "applied_to_bare": ratios(measured.applied_s, measured.bare_s),
        "cpu_to_bare": ratios(measured.cpu_s, measured.bare_cpu_s),
        "transfer_to_tcp": ratios(measured.transfer_s, measured.tcp_s),
    }


def report(figures: dict[str, Any]) -> str:
    """The same figures to read."""
    size = f"{figures['elements']:,} elements, {figures['codec']}, {figures['leg_bytes']:,} bytes"
    gigabytes = 2 * figures["leg_bytes"] / 1e9
    rows = [
        ("until the correction is ready", figures["transfer_s"].text("ms", 1e3, 1)),
        ("until applied and Done sent", figures["applied_s"].text("ms", 1e3, 1)),
        ("until Done is received", figures["done_s"].text("ms", 1e3, 1)),
        ("very first swap, until applied", f"{figures['first_s'] * 1e3:.1f} ms"),
        ("CPU, all peers", figures["cpu_s"].text("s")),
        ("bytes sent, all peers", figures["wire_bytes"].text("", 1, 0)),
        ("fresh pages, all peers", figures["page_faults"].text("", 1, 0)),
        ("bare pyzmq swap", figures["bare_s"].text("ms", 1e3, 1)),
        ("bare pyzmq swap, CPU", figures["bare_cpu_s"].text("s")),
        ("floor: two legs of plain TCP", figures["tcp_s"].text("ms", 1e3, 1)),
        ("  the same in GB/s", f"{gigabytes / figures['tcp_s'].median:.2f}"),
        ("floor: one copy in memory", figures["copy_s"].text("ms", 1e3, 1)),
        ("ready, to bare", figures["transfer_to_bare"].text("x", 1, 2)),
        ("applied, to bare", figures["applied_to_bare"].text("x", 1, 2)),
        ("CPU, to bare", figures["cpu_to_bare"].text("x", 1, 2)),
        ("ready, to plain TCP", figures["transfer_to_tcp"].text("x", 1, 2)),
    ]
    delay = f", hook after {figures['hook_delay_s']:g} s" if figures["hook_delay_s"] else ""
    head = f"exchange: {figures['peers']} peers, {size} a leg{delay}; median (min-max), verified"
    load = f"load before the run was {figures['machine']['load_1min']}"
    lines = [f"  {name:<32}{value}" for name, value in rows]
    return "\n".join([head, *lines, f"  {load}"])


def read_settings(arguments: Sequence[str]) -> tuple[Settings, bool]:
    """Settings and whether JSON is wanted; ends the program with 64 on values that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m simulations.benchmarks.exchange")
    parser.add_argument("--peers", type=int, default=2, help="an even number; default 2")
    parser.add_argument("--elements", type=int, default=50_000_000, help="of the fp32 vector")
    parser.add_argument("--codec", choices=CODEC_NAMES, default="fp32", help="for both legs")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--hook-delay-s", type=float, default=0.0, help="of the responder's hook")
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    given = parser.parse_args(arguments)
    positive = given.elements >= 1 and given.repeats >= 1 and given.hook_delay_s >= 0
    if given.peers < 2 or given.peers % 2 or not positive:
        print("exchange: --peers must be even, --elements and --repeats positive", file=sys.stderr)
        raise SystemExit(EXIT_CANNOT)
    settings = Settings(given.peers, given.elements, given.codec, given.repeats, given.hook_delay_s)
    return settings, given.json


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a swap gave a wrong result."""
    settings, wants_json = read_settings(sys.argv[1:] if arguments is None else arguments)
    before = machine()
    try:
        figures = summary(settings, measure(settings)) | {"machine": before}
    except WrongResult as wrong:
        print(f"exchange: {wrong}", file=sys.stderr)
        return EXIT_WRONG_RESULT
    print(as_json(figures) if wants_json else report(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

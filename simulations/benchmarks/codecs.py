"""How fast the codecs are on one core, against a memory copy, and what they lose.

``python -m simulations.benchmarks.codecs`` prints a table in Markdown. Before a time is printed its
result is checked: decoding gives back the values within the error that the codec states.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gossip.codecs import (
    REPLY_CODECS,
    STEP_ELEMENTS,
    WRAP_CODECS,
    Codec,
    WrapCodec,
    kernels,
    make_codec,
    make_wrap_codec,
)
from gossip.codecs.blocks import SAFETY

ELEMENTS = 1 << 18
"""One chunk: 1 MiB of fp32, as the swap works on them."""

DIFFERENCE = 1e-3
"""Of two peers, as a share of their values."""

ERROR_MAX = {"fp32": 0.0, "bf16": 2e-3, "int8": 8e-3, "int4": 0.12, "int2": 0.36, "sign": 0.62,
             "topk8": 0.8, "wrap8": 2e-2, "wrap4": 0.25, "wrap3": 0.5}  # fmt: skip
"""Relative to the difference for codes of differences and wrap-around codes, else to the values."""


@dataclass(frozen=True, slots=True)
class Speed:
    """GB of fp32 a second, best of the repeats; the error is a relative root mean square."""

    name: str
    bits: float
    encode: float
    dithered: float
    decode: float
    error: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=50)
    repeats = parser.parse_args(arguments).repeats
    torch.set_num_threads(1)
    copied = torch.empty(ELEMENTS)
    values_N = torch.randn(ELEMENTS, generator=torch.Generator().manual_seed(1))
    copy = best_gb_per_s(lambda: copied.copy_(values_N), repeats)
    loops = "compiled loops" if kernels.AVAILABLE else "torch alone"
    print(
        f"{loops}, one core of {os.cpu_count()}, torch {torch.__version__}; copy {copy:.0f} GB/s\n"
    )
    print("| codec | bits a value | encode GB/s | dithered | decode | copy / encode | lost |")
    print("|---|---|---|---|---|---|---|")
    for name in (*REPLY_CODECS, *WRAP_CODECS):
        each = measure(name, values_N, repeats)
        print(
            f"| {each.name} | {each.bits:.2f} | {each.encode:.1f} | {each.dithered:.1f} | "
            f"{each.decode:.1f} | {copy / each.encode:.1f} | {100 * each.error:.2g} % |"
        )
    return 0


def measure(name: str, values_N: Tensor, repeats: int) -> Speed:
    """One codec on one chunk. Raises AssertionError when it loses more than it states."""
    difference_N = DIFFERENCE * torch.randn(ELEMENTS, generator=torch.Generator().manual_seed(2))
    if name in WRAP_CODECS:
        return _measure_wrap(make_wrap_codec(name), values_N, difference_N, repeats)
    return _measure_plain(make_codec(name), values_N, repeats)


def _measure_plain(codec: Codec, values_N: Tensor, repeats: int) -> Speed:
    code, out_N = bytearray(codec.code_bytes(ELEMENTS)), torch.empty(ELEMENTS)
    codec.encode(values_N, code)
    codec.decode(code, out_N)
    error = _checked(codec.name, out_N, values_N, values_N)
    return Speed(
        codec.name,
        8 * len(code) / ELEMENTS,
        best_gb_per_s(lambda: codec.encode(values_N, code), repeats),
        best_gb_per_s(lambda: codec.encode(values_N, code, 7), repeats),
        best_gb_per_s(lambda: codec.decode(code, out_N), repeats),
        error,
    )


def _measure_wrap(codec: WrapCodec, x_N: Tensor, difference_N: Tensor, repeats: int) -> Speed:
    own_N, est_N = x_N + difference_N, torch.empty(ELEMENTS)
    wrapped_B = torch.empty(ELEMENTS // STEP_ELEMENTS, dtype=torch.bool)
    peak_B = difference_N.view(-1, STEP_ELEMENTS).abs().amax(dim=1)
    step_B = SAFETY * peak_B / (1 << (codec.bits - 1))
    code = bytearray(codec.code_bytes(ELEMENTS))
    codec.encode(x_N, step_B, code)
    codec.decode(code, own_N, est_N, wrapped_B)
    assert not wrapped_B.any(), f"{codec.name}: blocks wrapped within reach"
    error = _checked(codec.name, est_N, x_N, difference_N)
    return Speed(
        codec.name,
        8 * len(code) / ELEMENTS,
        best_gb_per_s(lambda: codec.encode(x_N, step_B, code), repeats),
        best_gb_per_s(lambda: codec.encode(x_N, step_B, code, 7), repeats),
        best_gb_per_s(lambda: codec.decode(code, own_N, est_N, wrapped_B), repeats),
        error,
    )


def _checked(name: str, got_N: Tensor, wanted_N: Tensor, scale_N: Tensor) -> float:
    lost = float((got_N.double() - wanted_N.double()).norm() / scale_N.double().norm())
    assert lost <= ERROR_MAX[name], f"{name} lost {lost:.3g}, more than {ERROR_MAX[name]}"
    return lost


def best_gb_per_s(work: Callable[[], object], repeats: int) -> float:
    """GB of fp32 a second in the fastest of ``repeats`` calls, after one to warm up."""
    work()
    best_s = float("inf")
    for _ in range(repeats):
        began_s = time.perf_counter()
        work()
        best_s = min(best_s, time.perf_counter() - began_s)
    return 4 * ELEMENTS / best_s / 1e9


if __name__ == "__main__":
    raise SystemExit(main())

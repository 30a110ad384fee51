"""``every=auto``: as often as the link allows, and never waiting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from gossip.codecs import WRAP_CODECS, Codec, WrapCodec, make_codec, make_wrap_codec
from gossip.errors import UsageError
from gossip.mixing.flat import padded
from peers.tasks.task import Task
from simulations.compare.links import Link, Machine
from simulations.compare.registry import METHODS, Spec

AUTO = "auto"


def auto_every(bytes_per_peer: float, link: Link, machine: Machine) -> int:
    """Local steps in which a swap of so many bytes per peer is over, offer and reply."""
    return max(1, math.ceil(link.swap_s(bytes_per_peer) / machine.step_s))


def with_cadence(spec: Spec, task: Task, link: Link, machine: Machine) -> Spec:
    """The method with ``every`` and ``delay`` (a message's way, in steps) filled in for ``auto``.

    Raises UsageError for codecs that do not exist, and for other methods than swaps.
    """
    options = dict(spec.options)
    if options.get("every") != AUTO:
        return spec
    whole = {**METHODS[spec.name].defaults, **options}
    if "offer" not in whole:
        raise UsageError(f"{spec.text}: only gossip swaps as often as a link allows")
    elements = sum(padded(each.numel()) for each in task.model(0).parameters())
    part = elements // fragments_of(whole)
    codecs = [whole["offer"], whole["reply"], *filter(None, whole["momentum"].split("+"))]
    swap_bytes = sum(_codec(each).code_bytes(part) for each in codecs)
    every = auto_every(swap_bytes / 2, link, machine)
    options |= {"every": str(every), "delay": str(every // 2)}
    return replace(spec, options=tuple(sorted(options.items())))


def fragments_of(options: Mapping[str, str]) -> int:
    """As typed. Raises UsageError for what is no number of fragments."""
    text = options["fragments"]
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"fragments={text!r} must be a whole number, at least 1")
    return int(text)


def _codec(name: str) -> Codec | WrapCodec:
    return make_wrap_codec(name) if name in WRAP_CODECS else make_codec(name)

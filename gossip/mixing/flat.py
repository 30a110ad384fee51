"""A model as one flat fp32 vector of named segments, parameters first, then float buffers.

Every segment starts at a multiple of 256 elements, so that no codec block straddles two segments
(gossip/README.md, rule 7); the padding between is zero. Low-precision tensors keep an fp32 carry:
what rounding left out of a correction is added to the next one, and is part of what is read.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from gossip.codecs import BLOCK_ELEMENTS
from gossip.config import Layout
from gossip.errors import UsageError
from gossip.messages import Segment

ALIGN_ELEMENTS: Final = BLOCK_ELEMENTS
"""Segments start here and at multiples of it."""

DIGEST_BYTES: Final = 16

NON_NEGATIVE_SUFFIX: Final = "running_var"
"""Buffers of this name are variances: a correction must not push them below zero."""

COMPILE_PREFIX: Final = "_orig_mod."
"""What torch.compile puts before the names of the module it wraps."""

CARRIED_DTYPES: Final = (torch.bfloat16, torch.float16)
KNOWN_DTYPES: Final = (*CARRIED_DTYPES, torch.float32, torch.float64)


class _Slot:
    """One live tensor and its place in the flat vector."""

    __slots__ = ("carry_n", "elements", "non_negative", "start", "tensor")

    def __init__(self, tensor: Tensor, start: int, non_negative: bool) -> None:
        self.tensor = tensor
        self.start = start
        self.elements = tensor.numel()
        self.non_negative = non_negative
        self.carry_n: Tensor | None = None
        if tensor.dtype in CARRIED_DTYPES:
            self.carry_n = torch.zeros(self.elements, device=tensor.device)

    def flat_n(self) -> Tensor:
        """The tensor's values in row-major order; a copy if it is stored in another order."""
        # detach() and not .data: autograd still sees in-place changes through it.
        return self.tensor.detach().reshape(-1)

    def store_(self, flat_n: Tensor) -> None:
        """Write back what ``flat_n()`` returned, if that was a copy."""
        if not self.tensor.is_contiguous():
            self.tensor.detach().copy_(flat_n.view(self.tensor.shape))

    def read_(self, out_n: Tensor, start: int) -> None:
        """Elements from ``start`` on, the carry included."""
        part = slice(start, start + out_n.numel())
        out_n.copy_(self.flat_n()[part])
        if self.carry_n is not None:
            out_n.add_(self.carry_n[part].to(out_n.device))

    def write_(self, values_n: Tensor, start: int) -> None:
        """Set the elements from ``start`` on; what rounding left out becomes the carry."""
        part = slice(start, start + values_n.numel())
        flat_n = self.flat_n()
        target_n = flat_n[part]
        if self.carry_n is not None:
            limit = torch.finfo(target_n.dtype).max
            target_n.copy_(values_n.clamp(-limit, limit))
            torch.sub(values_n, target_n, out=self.carry_n[part])
        else:
            target_n.copy_(values_n)
        if self.non_negative:
            target_n.clamp_(min=0)
        self.store_(flat_n)

    def add_(self, c_n: Tensor, alpha: float, start: int) -> None:
        """Add ``alpha * c_n`` to the elements from ``start`` on."""
        part = slice(start, start + c_n.numel())
        if self.carry_n is not None:
            wanted_n = self.flat_n()[part].float()
            wanted_n.add_(self.carry_n[part]).add_(c_n, alpha=alpha)
            if self.non_negative:
                wanted_n.clamp_(min=0)
            self.write_(wanted_n, start)
            return
        flat_n = self.flat_n()
        target_n = flat_n[part].add_(c_n, alpha=alpha)
        if self.non_negative:
            target_n.clamp_(min=0)
        self.store_(flat_n)


class FlatModel:
    """The live tensors of one model behind a flat index.

    ``elements`` (N) counts the padding; the first ``parameter_elements`` are parameters, the rest
    buffers. Only the trainer's thread may call the methods ending in ``_``; vectors they take
    live on ``device`` or on the host. Raises UsageError when the tensors lie on several devices,
    on none (meta), are of a kind that cannot be averaged, or are none at all.
    """

    def __init__(
        self,
        parameters: Sequence[tuple[str, Tensor]],
        buffers: Sequence[tuple[str, Tensor]] = (),
    ) -> None:
        named = [*parameters, *buffers]
        self.device = _one_device(named)
        self._slots: list[_Slot] = []
        segments: list[Segment] = []
        start = 0
        for index, (name, tensor) in enumerate(named):
            if index == len(parameters):
                self.parameter_elements = start
            if tensor.dtype not in KNOWN_DTYPES:
                raise UsageError(f"{name}: {tensor.dtype} cannot be averaged")
            is_variance = index >= len(parameters) and name.endswith(NON_NEGATIVE_SUFFIX)
            self._slots.append(_Slot(tensor, start, is_variance))
            dtype = str(tensor.dtype).removeprefix("torch.")
            segments.append(Segment(name, tuple(tensor.shape), dtype))
            start += padded(tensor.numel())
        self.elements = start
        if not buffers:
            self.parameter_elements = start
        if self.elements == 0:
            raise UsageError("the model has no floating-point parameters")
        self._starts = [slot.start for slot in self._slots]
        self.layout = Layout(layout_digest(segments), tuple(segments))

    @classmethod
    def from_module(cls, model: nn.Module) -> FlatModel:
        """All parameters and float buffers of ``model``, tied ones once, integer buffers never."""
        return cls(
            [(clean_name(name), tensor) for name, tensor in model.named_parameters()],
            [
                (clean_name(name), tensor)
                for name, tensor in model.named_buffers()
                if tensor.is_floating_point()
            ],
        )

    @torch.no_grad()
    def gather_(self, out_n: Tensor, start: int = 0) -> None:
        """Read the elements from ``start`` on into ``out_n`` (fp32); padding is set to zero.

        The model is only read.
        """
        end = start
        for slot, begin, stop in self._overlaps(start, start + out_n.numel()):
            out_n[end - start : begin - start].zero_()
            slot.read_(out_n[begin - start : stop - start], begin - slot.start)
            end = stop
        out_n[end - start :].zero_()

    @torch.no_grad()
    def scatter_(self, from_n: Tensor, start: int = 0) -> None:
        """Set the model's elements from ``start`` on; variances are kept at or above zero."""
        for slot, begin, stop in self._overlaps(start, start + from_n.numel()):
            values_n = from_n[begin - start : stop - start].to(self.device)
            slot.write_(values_n, begin - slot.start)

    @torch.no_grad()
    def add_(self, c_n: Tensor, alpha: float, start: int = 0) -> None:
        """Add ``alpha * c_n`` to the elements from ``start`` on; variances stay non-negative."""
        for slot, begin, stop in self._overlaps(start, start + c_n.numel()):
            part_n = c_n[begin - start : stop - start].to(self.device)
            slot.add_(part_n, alpha, begin - slot.start)

    def _overlaps(self, start: int, stop: int) -> Iterator[tuple[_Slot, int, int]]:
        """The slots that the range meets, and where (flat indices), padding left out."""
        for index in range(max(bisect_right(self._starts, start) - 1, 0), len(self._slots)):
            slot = self._slots[index]
            if slot.start >= stop:
                return
            begin, end = max(start, slot.start), min(stop, slot.start + slot.elements)
            if begin < end:
                yield slot, begin, end


def padded(elements: int) -> int:
    """``elements`` rounded up to whole blocks."""
    return -(-elements // ALIGN_ELEMENTS) * ALIGN_ELEMENTS


def clean_name(name: str) -> str:
    """A tensor's name without what torch.compile adds, so that compiled peers match others."""
    return name.replace(COMPILE_PREFIX, "")


def layout_digest(segments: Sequence[Segment]) -> bytes:
    """Sixteen bytes over names, shapes and dtypes, in order."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for segment in segments:
        for text in (segment.name, repr(tuple(segment.shape)), segment.dtype):
            encoded = text.encode()
            # The length first, so that no two lists of names run together alike.
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.digest()


def first_difference(mine: Sequence[Segment], theirs: Sequence[Segment]) -> str:
    """One sentence that names the first tensor in which two layouts differ."""
    my_names = {segment.name for segment in mine}
    their_names = {segment.name for segment in theirs}
    for ours, other in zip(mine, theirs, strict=False):
        if ours.name != other.name:
            if ours.name not in their_names:
                return _missing(ours, "the swarm's model")
            if other.name not in my_names:
                return _missing(other, "this model")
            return f"tensor {ours.name!r} stands where the swarm's model has {other.name!r}"
        if tuple(ours.shape) != tuple(other.shape):
            return (
                f"tensor {ours.name!r} has shape {tuple(ours.shape)} here "
                f"and {tuple(other.shape)} in the swarm's model"
            )
        if ours.dtype != other.dtype:
            return (
                f"tensor {ours.name!r} has dtype {ours.dtype} here "
                f"and {other.dtype} in the swarm's model"
            )
    if len(mine) > len(theirs):
        return _missing(mine[len(theirs)], "the swarm's model")
    if len(theirs) > len(mine):
        return _missing(theirs[len(mine)], "this model")
    return "no tensor differs"


def fragment_spans(elements: int, fragments: int) -> tuple[tuple[int, int], ...]:
    """Cut ``elements`` (a multiple of 256) into ``fragments`` nearly equal (start, stop) ranges.

    Raises UsageError when there are more fragments than blocks.
    """
    blocks = elements // ALIGN_ELEMENTS
    if not 1 <= fragments <= blocks:
        raise UsageError(f"fragments must be between 1 and {blocks} for this model")
    edges = [blocks * index // fragments * ALIGN_ELEMENTS for index in range(fragments + 1)]
    return tuple((edges[index], edges[index + 1]) for index in range(fragments))


def _missing(segment: Segment, where: str) -> str:
    return (
        f"tensor {segment.name!r} ({segment.dtype}, {math.prod(segment.shape)} elements) "
        f"is missing in {where}"
    )


def _one_device(named: Sequence[tuple[str, Tensor]]) -> torch.device:
    if not named:
        raise UsageError("the model has no floating-point parameters")
    first_name, first = named[0]
    for name, tensor in named:
        if tensor.device != first.device:
            raise UsageError(
                f"all tensors must be on one device: {first_name} is on {first.device}, "
                f"{name} on {tensor.device}"
            )
    if first.device.type == "meta":
        raise UsageError(f"{first_name} has no values yet (it is on the meta device)")
    return first.device

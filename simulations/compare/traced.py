"""A function of tensors as the flat list of torch operations that one call of it took.

``vmap`` and ``grad`` decide at every call, operation by operation, what each one becomes for P
models. For the same shapes they always decide the same, and for small models deciding takes longer
than computing: one call is recorded, and the recording replayed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from simulations.compare.graphs import CHEAPER, call_directly, simplify, write_to

Flat: TypeAlias = Callable[..., Sequence[Tensor]]
"""Takes tensors one by one, gives several."""


class Recordings:
    """One recording for each key (what is recorded and the shapes), made once it comes often."""

    def __init__(self) -> None:
        self._asked: Counter[Hashable] = Counter()
        self._made: dict[Hashable, Flat | None] = {}

    def get(self, key: Hashable, after: int, record: Callable[[], Flat | None]) -> Flat | None:
        """The recording, from the first time asked for after ``after`` times without; or None."""
        if key not in self._made:
            self._asked[key] += 1
            if self._asked[key] <= after:
                return None
            self._made[key] = record()
        return self._made[key]


def traced(function: Flat, inputs: Sequence[Tensor], into: Sequence[Tensor] = ()) -> Flat | None:
    """``function`` for inputs of these shapes and types, or None when it cannot be recorded.

    The recording takes tensors like those of ``into`` after the inputs, writes its first results
    there and returns the others.

    Whatever is no tensor, the way taken at a branch or a number that Python drew, is as it was in
    the call recorded: compare with the function itself on other values before use.
    """
    try:
        recorded = make_fx(function, decomposition_table=CHEAPER)(*inputs)
    except RuntimeError:  # torch's word for "depends on values": there is nothing to replay then
        return None
    simplify(recorded)
    write_to(recorded.graph, into)
    call_directly(recorded, [*inputs, *into])
    recorded.recompile()
    return recorded

"""A function of tensors as the flat list of torch operations that one call of it took.

``vmap`` and ``grad`` decide at every call, operation by operation, what each one becomes for P
models. For the same shapes they always decide the same, and for small models deciding takes longer
than computing: one call is recorded, and the recording replayed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Final, TypeAlias

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

Flat: TypeAlias = Callable[..., Sequence[Tensor]]
"""Takes tensors one by one, gives several."""

_RESHAPING: Final = frozenset(
    (
        torch.ops.aten.view.default,
        torch.ops.aten.expand.default,
        torch.ops.aten._unsafe_view.default,
    )
)


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


def traced(function: Flat, inputs: Sequence[Tensor]) -> Flat | None:
    """``function`` for inputs of these shapes and types, or None when it cannot be recorded.

    Whatever is no tensor, the way taken at a branch or a number that Python drew, is as it was in
    the call recorded: compare with the function itself on other values before use.
    """
    try:
        recorded = make_fx(function)(*inputs)
    except RuntimeError:  # torch's word for "depends on values": there is nothing to replay then
        return None
    _drop_idle(recorded.graph)
    recorded.recompile()
    return recorded


def _drop_idle(graph: fx.Graph) -> None:
    """Take out reshapings to the shape that is there already: a third of what vmap asks for."""
    for call in list(graph.nodes):
        if call.target in _RESHAPING:
            source = call.args[0]
            if call.meta["val"].shape == source.meta["val"].shape:
                call.replace_all_uses_with(source)
                graph.erase_node(call)

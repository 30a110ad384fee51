"""Recorded operations made fewer and cheaper, with the same results.

A graph here is one of ``torch.fx`` as ``make_fx`` records it: a list of aten operations without
side effects. ``simplify`` needs that; ``write_to``, which comes last, ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

aten: Final = torch.ops.aten

_RESHAPING: Final = frozenset((aten.view.default, aten.expand.default, aten._unsafe_view.default))
_LIKE: Final = frozenset((aten.ones_like.default, aten.zeros_like.default))
"""Ask for nothing but the shape and type of what they are given."""
_WRITING: Final[dict[object, OpOverload]] = {
    aten.add.Tensor: aten.add.out,
    aten.bmm.default: aten.bmm.out,
    aten.clamp_min.default: aten.clamp_min.out,
    aten.mul.Tensor: aten.mul.out,
    aten.sum.dim_IntList: aten.sum.IntList_out,
    aten.threshold_backward.default: aten.threshold_backward.grad_input,
}
"""Operations that take new memory for their result, and what they are called when given some."""
_ELEMENTWISE: Final = frozenset(
    (
        aten.add.Tensor,
        aten.mul.Tensor,
        aten.clamp_min.default,
        aten.threshold_backward.default,
    )
)
"""Those among them that may write onto what they read."""
_VECTOR: Final = {"AVX2": 8, "AVX512": 16}.get(torch.backends.cpu.get_cpu_capability(), 0)
"""Numbers (fp32) that this processor computes with at once; 0: not known."""


def _times(values: Tensor, factor: float) -> Any:
    """``vmap`` multiplies every bias by 1."""
    return values if factor == 1 and values.is_floating_point() else NotImplemented


def _relu(values: Tensor) -> Tensor:
    """What torch does too, but not when told where: there it makes a copy."""
    result: Tensor = aten.clamp_min.default(values, 0)
    return result


def _log_softmax(values: Tensor, dim: int, to_float: bool) -> Any:
    if not _better_turned(values, dim):
        return NotImplemented
    return _turned(aten._log_softmax.default(_turned(values), dim - 1, to_float))


def _log_softmax_backward(grad: Tensor, result: Tensor, dim: int, dtype: torch.dtype) -> Any:
    if not _better_turned(grad, dim):
        return NotImplemented
    backward = aten._log_softmax_backward_data.default
    return _turned(backward(_turned(grad), _turned(result), dim - 1, dtype))


def _better_turned(values: Tensor, dim: int) -> bool:
    """Whether rows are shorter than a vector, which is slow, while columns fill whole ones.

    Only then are the bits the same: what does not fill a vector is added up one by one, as columns
    are, and what is left over of a column would be computed another way.
    """
    return (
        dim == values.dim() - 1 > 0
        and values.dtype == torch.float32
        and 1 < values.shape[-1] < _VECTOR
        and values.shape[-2] % _VECTOR == 0
    )


def _turned(values: Tensor) -> Tensor:
    """Rows as columns in memory too: sums over what is only looked at otherwise round otherwise."""
    return values.mT.contiguous()


CHEAPER: Final[dict[OpOverload, Callable[..., Any]]] = {
    aten.mul.Scalar: _times,
    aten.relu.default: _relu,
    aten._log_softmax.default: _log_softmax,
    aten._log_softmax_backward_data.default: _log_softmax_backward,
}
"""For ``make_fx``: what to record instead of some operations. Only what gives the same bits: how a
run ends must not depend on what was recorded before it."""


def simplify(recorded: fx.GraphModule) -> None:
    """Leave out what changes nothing, what was computed already and what is always the same."""
    seen: dict[tuple[object, str], fx.Node] = {}
    for call in recorded.graph.nodes:
        if (source := _unchanged(call)) is not None:
            call.replace_all_uses_with(source)
        elif _repeatable(call):
            same = seen.setdefault((call.target, repr((call.args, call.kwargs))), call)
            if same is not call:
                call.replace_all_uses_with(same)
    _keep_constants(recorded)
    recorded.graph.eliminate_dead_code()


def write_to(graph: fx.Graph, into: Sequence[Tensor]) -> None:
    """Take as many more inputs as ``into`` has, and write the first outputs there.

    ``into`` are examples, of the shapes and strides that all later ones have. The other outputs
    are still returned. What is computed on the way goes where an operand was that nobody reads
    again: memory that is in the cache.
    """
    output = graph.output_node()
    results = list(output.args[0])  # type: ignore[arg-type]  # a tuple, says make_fx
    after = [each for each in graph.nodes if each.op == "placeholder"][-1].next
    with graph.inserting_before(after):
        targets = [graph.placeholder(f"into_{place}") for place in range(len(into))]
    for result, target, example in zip(results, targets, into, strict=False):
        if results.count(result) > 1 or not _write(graph, result, target, example):
            with graph.inserting_before(output):
                graph.call_function(aten.copy_.default, (target, result))
    output.args = (tuple(results[len(into) :]),)
    _write_over(graph)
    graph.eliminate_dead_code()  # views of what is written elsewhere now


def _repeatable(call: fx.Node) -> bool:
    """Whether the same inputs give the same again."""
    return (
        isinstance(call.target, OpOverload)
        and torch.Tag.nondeterministic_seeded not in call.target.tags
    )


def _unchanged(call: fx.Node) -> fx.Node | None:
    """What this operation leaves as it is: it reshapes to the same shape, or transposes back."""
    source = call.args[0] if call.args else None
    if not isinstance(source, fx.Node):
        return None
    if call.target in _RESHAPING and call.meta["val"].shape == source.meta["val"].shape:
        return source
    if call.target == source.target == aten.transpose.int and call.args[1:] == source.args[1:]:
        return source.args[0]  # type: ignore[return-value]  # of transpose: the tensor
    return None


def _keep_constants(recorded: fx.GraphModule) -> None:
    """Replace all that no input can change by its value."""
    values: dict[fx.Node, Tensor] = {}
    for call in list(recorded.graph.nodes):
        if not _repeatable(call):
            continue
        if call.target in _LIKE:
            seen = call.args[0].meta["val"]
            example = torch.empty_strided(seen.shape, seen.stride(), dtype=seen.dtype)
            values[call] = call.target(example, *call.args[1:], **call.kwargs)
        elif all(source in values for source in call.all_input_nodes):
            args, kwargs = fx.node.map_arg((call.args, call.kwargs), values.__getitem__)
            values[call] = call.target(*args, **kwargs)
    for call, value in values.items():
        if any(user not in values for user in call.users):
            name = f"constant_{call.name}"
            recorded.register_buffer(name, value)
            with recorded.graph.inserting_before(call):
                kept = recorded.graph.get_attr(name)
            kept.meta = call.meta
            # Whoever calls may write to what is returned: that is computed each time.
            call.replace_all_uses_with(kept, delete_user_cb=lambda user: user.op != "output")


def _write(graph: fx.Graph, result: fx.Node, target: fx.Node, example: Tensor) -> bool:
    """Let the operation that makes this result write it to the target; or False.

    Where the result is a reshaped view of what an operation makes, the target is looked at in the
    shape from before. All of them must have no other reader.
    """
    views: list[tuple[OpOverload, tuple[Any, ...]]] = []
    while len(result.users) == 1 and result.target in (aten.view.default, aten.transpose.int):
        source: Any = result.args[0]
        if result.target == aten.transpose.int:
            views.append((aten.transpose.int, result.args[1:]))
        else:
            views.append((aten.view.default, (list(source.meta["val"].shape),)))
        result = source
    if len(result.users) > 1 or result.target not in _WRITING:
        return False
    if result.meta["val"].dtype != example.dtype:
        return False
    try:
        for look, how in views:
            example = look(example, *how)
    except RuntimeError:  # torch's word for strides that do not allow this shape
        return False
    with graph.inserting_before(result):
        for look, how in views:
            target = graph.call_function(look, (target, *how))
    _write_here(graph, result, target)
    return True


def _write_over(graph: fx.Graph) -> None:
    """Let operations write onto an operand of the same form that nobody reads after them.

    Only onto what an operation made in memory of its own: nothing else can be a view of that, as
    the view would be a second reader.
    """
    own: set[fx.Node] = set()
    for call in list(graph.nodes):
        if call.target not in _WRITING:
            continue
        mine = (
            source
            for source in call.all_input_nodes
            if source in own and len(source.users) == 1 and _form(source) == _form(call)
        )
        target = next(mine, None) if call.target in _ELEMENTWISE else None
        own.add(call if target is None else _write_here(graph, call, target))


def _form(call: fx.Node) -> tuple[object, ...]:
    value = call.meta["val"]
    return value.shape, value.stride(), value.dtype


def _write_here(graph: fx.Graph, call: fx.Node, target: fx.Node) -> fx.Node:
    writing = _WRITING[call.target]
    (name,) = (each.name for each in writing._schema.arguments if each.is_out)
    with graph.inserting_before(call):
        written = graph.call_function(writing, call.args, {**call.kwargs, name: target})
    written.meta = call.meta
    call.replace_all_uses_with(written)
    graph.erase_node(call)
    return written


def call_directly(recorded: fx.GraphModule, inputs: Sequence[Tensor]) -> None:
    """Call ``torch.add`` instead of ``aten.add.Tensor``: it takes half as long to come to the same.

    ``inputs`` are examples; nothing is computed with them. What their values would decide ends it:
    the calls after that stay as recorded.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, suppress(RuntimeError):
        given = (fake.from_tensor(each) for each in inputs)
        values: dict[fx.Node, Any] = {}
        for call in recorded.graph.nodes:
            if call.op == "placeholder":
                values[call] = next(given)
            elif call.op == "get_attr":
                values[call] = getattr(recorded, call.target)
            elif call.op == "call_function":
                args, kwargs = fx.node.map_arg((call.args, call.kwargs), values.__getitem__)
                values[call] = call.target(*args, **kwargs)
                call.target = _named(call.target, args, kwargs)


def _named(call: Callable[..., Any], args: Any, kwargs: Any) -> Callable[..., Any]:
    """What Python knows by the operation's name, if it does the same; or the operation."""
    if isinstance(call, OpOverload):
        name, done = call.overloadpacket.__name__, _done(call, args, kwargs)
        for place in (torch, torch.Tensor):
            named: Callable[..., Any] | None = getattr(place, name, None)
            if named is not None and _done(named, args, kwargs) == done:
                return named
    return call


def _done(call: Callable[..., Any], args: Any, kwargs: Any) -> list[OpOverload]:
    """The operations that a call comes to."""
    operations = _Operations()
    with operations, suppress(RuntimeError, TypeError):
        call(*args, **kwargs)
    return operations.done


class _Operations(TorchDispatchMode):
    """Notes them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no type
        self.done: list[OpOverload] = []

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.done.append(func)
        return func(*args, **(kwargs or {}))

"""The flat vector: layout, reading, writing, carries and variances."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gossip.errors import UsageError
from gossip.messages import Segment
from gossip.mixing.flat import (
    ALIGN_ELEMENTS,
    FlatModel,
    first_difference,
    fragment_spans,
    layout_digest,
    padded,
)

LAW = settings(max_examples=50, deadline=None)

SEGMENTS = st.lists(
    st.builds(
        Segment,
        st.sampled_from(["a", "b", "ab", "w"]),
        st.lists(st.integers(0, 3), max_size=2).map(tuple),
        st.sampled_from(["float32", "bfloat16"]),
    ),
    max_size=4,
).map(tuple)


def batch_norm_net() -> nn.Module:
    """A little of everything: matrices, vectors, float and integer buffers."""
    return nn.Sequential(nn.Linear(20, 30), nn.BatchNorm1d(30), nn.Linear(30, 7))


def test_segments_start_at_whole_blocks_and_padding_is_zero() -> None:
    """Parameters first, then float buffers; the integer buffer is left out."""
    model = batch_norm_net()
    flat = FlatModel.from_module(model)
    names = [segment.name for segment in flat.layout.segments]
    parameters = ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
    assert [*parameters, "1.running_mean", "1.running_var"] == names
    shapes = [segment.shape for segment in flat.layout.segments]
    assert flat.elements == sum(padded(torch.Size(shape).numel()) for shape in shapes)
    assert flat.parameter_elements == flat.elements - 2 * ALIGN_ELEMENTS
    out_N = torch.full((flat.elements,), 9.0)
    flat.gather_(out_N)
    assert torch.equal(model[0].weight.detach().view(-1), out_N[:600])
    assert 0 == int(out_N[600:768].count_nonzero())
    assert torch.equal(model[0].bias.detach(), out_N[768:798])
    assert 0 == int(out_N[798:1024].count_nonzero())


@LAW
@given(start=st.integers(0, 11), stop=st.integers(0, 11))
def test_any_range_reads_what_the_whole_holds(start: int, stop: int) -> None:
    """Ranges that begin and end inside segments or in padding."""
    flat = FlatModel.from_module(batch_norm_net())
    whole_N = torch.empty(flat.elements)
    flat.gather_(whole_N)
    begin, end = sorted((start * flat.elements // 11, stop * flat.elements // 11))
    part_n = torch.full((end - begin,), 5.0)
    flat.gather_(part_n, begin)
    assert torch.equal(whole_N[begin:end], part_n)


def test_scatter_sets_what_gather_read() -> None:
    """One model takes over another's values, piece by piece."""
    source, target = batch_norm_net(), batch_norm_net()
    out_N = torch.empty(FlatModel.from_module(source).elements)
    FlatModel.from_module(source).gather_(out_N)
    flat = FlatModel.from_module(target)
    for start in range(0, flat.elements, 100):
        flat.scatter_(out_N[start : start + 100], start)
    expected = dict(source.state_dict())
    for name, tensor in target.state_dict().items():
        if tensor.is_floating_point():
            assert torch.equal(expected[name], tensor), name


def test_add_moves_the_live_tensors_by_alpha_times_c() -> None:
    """In two ranges that cut a segment; autograd must not mind."""
    model = nn.Linear(40, 40)
    flat = FlatModel.from_module(model)
    before_N, after_N = torch.empty(flat.elements), torch.empty(flat.elements)
    flat.gather_(before_N)
    c_N = torch.ones(flat.elements)
    flat.add_(c_N[:1000], -0.5)
    flat.add_(c_N[1000:], -0.5, 1000)
    flat.gather_(after_N)
    expected_N = before_N - 0.5
    expected_N[1640:] = 0
    expected_N[1600:1792] = 0
    expected_N[1792:1832] = before_N[1792:1832] - 0.5
    assert torch.equal(expected_N, after_N)
    model(torch.randn(2, 40)).sum().backward()


def test_autograd_notices_a_change_between_forward_and_backward() -> None:
    """Changes go through detach(), not around autograd: a misplaced one is an error."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    flat = FlatModel.from_module(model)
    loss = model(torch.randn(3, 4)).sum()
    flat.add_(torch.ones(flat.elements), 1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_tensor_stored_in_another_order_is_read_and_changed_row_major() -> None:
    """Channels-last peers and others hold the same flat vector."""
    plain = nn.Conv2d(3, 5, 3)
    last = nn.Conv2d(3, 5, 3)
    last.load_state_dict(plain.state_dict())
    last = last.to(memory_format=torch.channels_last)
    assert not last.weight.is_contiguous()
    one, two = FlatModel.from_module(plain), FlatModel.from_module(last)
    c_N = torch.randn(one.elements)
    for flat in (one, two):
        flat.add_(c_N[:70], 0.5)
        flat.scatter_(c_N[70:90], 70)
    assert torch.equal(plain.weight, last.weight)
    first_N, second_N = torch.empty(one.elements), torch.empty(one.elements)
    one.gather_(first_N)
    two.gather_(second_N)
    assert torch.equal(first_N, second_N)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_many_tiny_corrections_add_up_in_low_precision(dtype: torch.dtype) -> None:
    """Each alone would be rounded away (rule 7); together they move theta."""
    tensor = torch.full((300,), 256.0, dtype=dtype)
    flat = FlatModel([("w", tensor)])
    c_N = torch.full((flat.elements,), 2.0**-6)
    for _ in range(64 * 16):
        flat.add_(c_N, 1.0)
    assert torch.equal(torch.full((300,), 272.0, dtype=dtype), tensor)


def test_the_carry_is_part_of_what_is_read() -> None:
    """A neighbor sees the correction even while bf16 cannot show it."""
    tensor = torch.full((256,), 256.0, dtype=torch.bfloat16)
    flat = FlatModel([("w", tensor)])
    flat.add_(torch.full((256,), 0.25), 1.0)
    out_N = torch.empty(256)
    flat.gather_(out_N)
    assert 256.0 == float(tensor[0])
    assert 256.25 == float(out_N[0])
    flat.scatter_(torch.full((256,), 3.0))
    flat.gather_(out_N)
    assert 3.0 == float(out_N[0])


def test_variances_are_clamped_and_means_are_not() -> None:
    """A correction that would make a variance negative leaves zero."""
    model = batch_norm_net()
    flat = FlatModel.from_module(model)
    flat.add_(torch.full((flat.elements,), -5.0), 1.0)
    assert 0.0 == float(model[1].running_var.max()) == float(model[1].running_var.min())
    assert -5.0 == float(model[1].running_mean.max())
    flat.scatter_(torch.full((flat.elements,), -1.0))
    assert 0.0 == float(model[1].running_var.min())
    assert 0 == int(model[1].num_batches_tracked)


def test_tied_weights_are_one_segment() -> None:
    """A correction must not be applied twice to one tensor."""
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    model[1].weight = model[0].weight
    flat = FlatModel.from_module(model)
    assert ["0.weight"] == [segment.name for segment in flat.layout.segments]


def test_a_compiled_peer_has_the_layout_of_the_others() -> None:
    """The wrapper's prefix is not part of a name, at the top or inside."""

    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self._orig_mod = inner

    inner = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    outer = Wrapped(nn.Sequential(Wrapped(nn.Linear(3, 3)), nn.Linear(3, 3)))
    assert FlatModel.from_module(inner).layout == FlatModel.from_module(outer).layout


@LAW
@given(one=SEGMENTS, two=SEGMENTS)
def test_digests_differ_exactly_when_layouts_differ(
    one: tuple[Segment, ...], two: tuple[Segment, ...]
) -> None:
    """Names, shapes, dtypes and their order count, and the sentence agrees."""
    assert (one == two) == (layout_digest(one) == layout_digest(two))
    assert (one == two) == (first_difference(one, two) == "no tensor differs")


def test_the_first_difference_is_named() -> None:
    """Missing here, missing there, shape, dtype, order."""
    a, b = Segment("a", (2, 3), "float32"), Segment("b", (4,), "float32")
    assert "'b'" in first_difference((a, b), (a,))
    assert "missing in the swarm's model" in first_difference((a, b), (a,))
    assert "'b'" in first_difference((a,), (b, a))
    assert "missing in this model" in first_difference((a,), (b, a))
    shape = first_difference((a, b), (a._replace(shape=(3, 2)), b))
    assert "tensor 'a' has shape (2, 3) here and (3, 2) in the swarm's model" == shape
    assert "bfloat16" in first_difference((a,), (a._replace(dtype="bfloat16"),))
    assert "'a' stands where" in first_difference((a, b), (b, a))


def test_models_that_cannot_be_averaged_are_refused() -> None:
    """No tensors, integer parameters, no values, two devices."""
    with pytest.raises(UsageError, match="no floating-point parameters"):
        FlatModel.from_module(nn.ReLU())
    with pytest.raises(UsageError, match=r"w: torch.int64"):
        FlatModel([("w", torch.zeros(3, dtype=torch.int64))])
    with pytest.raises(UsageError, match="meta"):
        FlatModel.from_module(nn.Linear(2, 2, device="meta"))
    with pytest.raises(UsageError, match=r"one device: a is on cpu, b on meta"):
        FlatModel([("a", torch.zeros(3)), ("b", torch.zeros(3, device="meta"))])


@LAW
@given(blocks=st.integers(1, 1000), fragments=st.integers(1, 50))
def test_fragments_tile_the_vector_in_whole_blocks(blocks: int, fragments: int) -> None:
    """No gap, no overlap, none empty; sizes within one block of each other."""
    elements = blocks * ALIGN_ELEMENTS
    if fragments > blocks:
        with pytest.raises(UsageError):
            fragment_spans(elements, fragments)
        return
    spans = fragment_spans(elements, fragments)
    assert [0, *(stop for _, stop in spans)] == [*(start for start, _ in spans), elements]
    sizes = [stop - start for start, stop in spans]
    assert all(size % ALIGN_ELEMENTS == 0 for size in sizes)
    assert max(sizes) - min(sizes) <= ALIGN_ELEMENTS

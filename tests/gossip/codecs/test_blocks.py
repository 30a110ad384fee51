"""The reference functions: wrap detection, dither, steps, scales."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.codecs import blocks

LAW = settings(max_examples=60, deadline=None)


def numbers(seed: int, *shape: int) -> torch.Tensor:
    """Normal values."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@LAW
@given(seed=st.integers(0, 2**32), bits=st.integers(2, 8), share=st.floats(0.0, 0.999))
def test_what_is_within_reach_is_read_to_half_a_step(seed: int, bits: int, share: float) -> None:
    """Peers whose values differ by less than 2^(b-1) - 1 steps: no block wraps."""
    x_BE = numbers(seed, 30, 64)
    step_B = torch.rand(30, generator=torch.Generator().manual_seed(seed + 1)) * 0.1 + 1e-4
    reach = ((1 << (bits - 1)) - 1) * share
    own_BE = x_BE + (2 * torch.rand(30, 64) - 1) * reach * step_B[:, None]
    quotient_BE = blocks.quotients_BE(x_BE, step_B)

    est_BE, wrapped_B = blocks.unwrap(
        blocks.wrap_code_BE(quotient_BE, bits),
        blocks.checksum_B(quotient_BE, bits),
        step_B,
        own_BE,
        bits,
    )

    assert not wrapped_B.any()
    assert bool(((est_BE - x_BE).abs() <= 0.501 * step_B[:, None] + 1e-6).all())


@pytest.mark.parametrize("bits", [2, 3])
def test_one_or_two_wrapped_elements_never_pass(bits: int) -> None:
    """Exhaustive over places and directions: one turn off in one or two of 64 elements."""
    turn = 1 << bits
    quotient_E = torch.arange(64, dtype=torch.int32) - 32
    sum_ = int(blocks.checksum_B(quotient_E[None], bits))
    for first, second in itertools.combinations(range(64), 2):
        for up, down in itertools.product((-turn, turn), (-turn, 0, turn)):
            wrong_E = quotient_E.clone()
            wrong_E[first] += up
            wrong_E[second] += down
            assert sum_ != int(blocks.checksum_B(wrong_E[None], bits))


def read(
    x_BE: torch.Tensor, own_BE: torch.Tensor, step_B: torch.Tensor, bits: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sender's values as the receiver reads them, and which blocks wrapped."""
    quotient_BE = blocks.quotients_BE(x_BE, step_B)
    code_BE = blocks.wrap_code_BE(quotient_BE, bits)
    return blocks.unwrap(code_BE, blocks.checksum_B(quotient_BE, bits), step_B, own_BE, bits)


BEYOND = blocks.PUT_RIGHT_REACH - 1
"""How far beyond its reach a code is put right, as a share of that."""


@LAW
@given(
    seed=st.integers(0, 2**32),
    bits=st.sampled_from([3, 4, 8]),
    share=st.floats(0.01, 0.99),
    up=st.booleans(),
)
def test_one_element_that_wrapped_is_put_right(
    seed: int, bits: int, share: float, up: bool
) -> None:
    """At every place of a block: it is read as far as a code reaches, in its own direction, and the
    others to half a step."""
    reach = 1 << (bits - 1)
    off = reach + 0.5 + share * max(0.0, BEYOND * reach - 1)
    step_B = torch.rand(64, generator=torch.Generator().manual_seed(seed)) * 0.1 + 1e-3
    own_BE = numbers(seed, 64, 64)
    far_BE = torch.diag(torch.full((64,), off if up else -off)) * step_B[:, None]

    est_BE, wrapped_B = read(own_BE + far_BE, own_BE, step_B, bits)

    assert not wrapped_B.any()
    expected_BE = far_BE.clamp(-reach * step_B[:, None], reach * step_B[:, None])
    assert bool(((est_BE - own_BE - expected_BE).abs() <= 0.501 * step_B[:, None] + 1e-5).all())


@pytest.mark.parametrize("bits", [3, 4])
def test_one_element_too_far_off_is_not_put_right(bits: int) -> None:
    """At every place, in both directions, up to where another turn begins: the block is skipped."""
    reach, step_B = 1 << (bits - 1), torch.full((64,), 0.01)
    own_BE = numbers(1, 64, 64)
    for share in (BEYOND + 0.6 / reach, 0.5, 0.9, 1.5, 1.95 - BEYOND):
        for sign in (-1, 1):
            off_BE = torch.diag(torch.full((64,), sign * 0.01 * (reach * (1 + share))))
            est_BE, wrapped_B = read(own_BE + off_BE, own_BE, step_B, bits)
            assert bool(wrapped_B.all()), share
            assert torch.equal(est_BE, own_BE)


def test_two_elements_that_wrapped_are_never_put_right() -> None:
    """Every pair of places, in all directions: what they miss is even, which names nobody."""
    own_BE = numbers(2, 64 * 63 // 2, 64)
    pairs = torch.combinations(torch.arange(64))
    for first, second in itertools.product((-1, 1), repeat=2):
        off_BE = torch.zeros_like(own_BE)
        off_BE[torch.arange(len(pairs)), pairs[:, 0]] = 0.01 * 4.6 * first
        off_BE[torch.arange(len(pairs)), pairs[:, 1]] = 0.01 * 4.6 * second
        _, wrapped_B = read(own_BE + off_BE, own_BE, torch.full((len(pairs),), 0.01), 3)
        assert bool(wrapped_B.all())


def test_wrong_elements_are_named_as_rarely_as_stated() -> None:
    """Three of 64 normal differences beyond reach: 1 in 270 blocks passes. Random bytes: 1 in
    256, where nobody is missing. Within five deviations."""
    trials, generator = 100_000, torch.Generator().manual_seed(7)
    reach_sigma = blocks.SAFETY * 2.598
    step_B = torch.full((trials,), reach_sigma / 4)
    off_BE = torch.randn(trials, 64, generator=generator).clamp_(-reach_sigma, reach_sigma) * 0.99
    place_BK = torch.rand(trials, 64, generator=generator).argsort(dim=1)[:, :3]
    sign_BK = 1 - 2 * torch.randint(0, 2, (trials, 3), generator=generator)
    own_BE = 100 * torch.rand(trials, 64, generator=generator)
    off_BE.scatter_(1, place_BK, sign_BK * reach_sigma * 1.2)
    passed = int((~read(own_BE + off_BE, own_BE, step_B, 3)[1]).sum())
    assert passed / trials == pytest.approx(1 / 270, abs=5 * (1 / 270 / trials) ** 0.5)

    code_BE = torch.randint(0, 8, (trials, 64), generator=generator, dtype=torch.int32)
    sum_B = torch.randint(0, 256, (trials,), generator=generator, dtype=torch.int32)
    own_BE = torch.rand(trials, 64, generator=generator)
    passed = int((~blocks.unwrap(code_BE, sum_B, torch.ones(trials), own_BE, 3)[1]).sum())
    assert passed / trials == pytest.approx(1 / 256, abs=5 * (1 / 256 / trials) ** 0.5)


@given(bits=st.integers(2, 8), turns=st.lists(st.sampled_from([-3, -1, 1, 3]), min_size=1))
def test_an_odd_number_of_odd_turns_never_passes(bits: int, turns: list[int]) -> None:
    """The weights are odd, so the sum is."""
    turns = turns[:63]
    turns = turns[: len(turns) - (len(turns) + 1) % 2]
    quotient_BE = torch.zeros(1, 64, dtype=torch.int32)
    wrong_BE = quotient_BE.clone()
    wrong_BE[0, : len(turns)] += torch.tensor(turns, dtype=torch.int32) << bits
    assert blocks.checksum_B(quotient_BE, bits) != blocks.checksum_B(wrong_BE, bits)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_a_block_that_moved_as_a_whole_never_passes(bits: int) -> None:
    """Every element wrong by the same number of turns, up to 127: weights must not add up to 0."""
    quotient_BE = torch.arange(-32, 32, dtype=torch.int32)[None]
    for turns in (*range(-127, 0), *range(1, 128)):
        moved_BE = quotient_BE + (turns << bits)
        assert blocks.checksum_B(quotient_BE, bits) != blocks.checksum_B(moved_BE, bits), turns


def test_other_errors_pass_as_rarely_as_stated() -> None:
    """Random turns: 1 in 256; four elements one turn off: 1 in 128. Within five deviations."""
    generator = torch.Generator().manual_seed(5)
    trials = 100_000
    random_BE = torch.randint(-64, 64, (trials, 64), generator=generator, dtype=torch.int32) << 4
    passed = int((blocks.checksum_B(random_BE, 4) == 0).sum())
    assert passed / trials == pytest.approx(1 / 256, abs=5 * (1 / 256 / trials) ** 0.5)

    place_BK = torch.rand(trials, 64, generator=generator).argsort(dim=1)[:, :4]
    sign_BK = 1 - 2 * torch.randint(0, 2, (trials, 4), generator=generator)
    four_BE = torch.zeros(trials, 64, dtype=torch.int32)
    four_BE.scatter_(1, place_BK, (sign_BK << 4).to(torch.int32))
    passed = int((blocks.checksum_B(four_BE, 4) == 0).sum())
    assert passed / trials == pytest.approx(1 / 128, abs=5 * (1 / 128 / trials) ** 0.5)


@LAW
@given(seed=st.integers(0, 2**32), bits=st.sampled_from([2, 3, 4, 8]), far=st.floats(0.1, 1e9))
def test_the_damage_of_a_missed_wrap_is_bounded(seed: int, bits: int, far: float) -> None:
    """Whatever code and checksum say, the estimate is within 2^(b-1) steps of the receiver's
    own values."""
    generator = torch.Generator().manual_seed(seed)
    own_BE = numbers(seed, 20, 64) * far
    step_B = torch.rand(20, generator=generator) * far * 2.0**-10 + 1e-9
    code_BE = torch.randint(0, 1 << bits, (20, 64), generator=generator, dtype=torch.int32)
    lying_B = torch.randint(0, 256, (20,), generator=generator, dtype=torch.int32)

    est_BE, wrapped_B = blocks.unwrap(code_BE, lying_B, step_B, own_BE, bits)

    assert bool(est_BE.isfinite().all())
    bound_BE = (1 << (bits - 1)) * step_B[:, None] * (1 + 1e-6) + own_BE.abs() * 1e-6
    assert bool(((est_BE - own_BE).abs() <= bound_BE).all())
    assert torch.equal(est_BE[wrapped_B], own_BE[wrapped_B])


def test_own_values_too_far_off_are_not_compared() -> None:
    """Beyond 2^22 steps quotients are inexact: the block is skipped, not guessed."""
    own_BE = torch.full((1, 64), 1e30)
    est_BE, wrapped_B = blocks.unwrap(
        torch.zeros(1, 64, dtype=torch.int32),
        torch.zeros(1, dtype=torch.int32),
        torch.tensor([1e-12]),
        own_BE,
        4,
    )
    assert bool(wrapped_B.all())
    assert torch.equal(est_BE, own_BE)


@LAW
@given(step=st.floats(0.0, 2.0**127, width=32), largest=st.floats(0.0, 2.0**34, width=32))
def test_a_step_on_the_wire_is_at_least_the_one_wanted(step: float, largest: float) -> None:
    """And at least what keeps quotients exact, and no larger than needed; the table's last at
    most."""
    table = blocks.step_table()
    index = int(blocks.step_index_B(torch.tensor([step]), torch.tensor([largest]), table))
    wanted = max(step, largest * blocks.STEP_RESOLUTION)
    assert index == 255 or float(table[index]) >= wanted * (1 - 1e-7)
    assert index == 0 or float(table[index - 1]) < wanted * (1 + 1e-7)


def test_steps_rise_at_once_fall_slowly_and_double_when_skipped() -> None:
    """The three cases of one update, side by side."""
    step_B = torch.tensor([1.0, 1.0, 1.0])
    peak_B = torch.tensor([80.0, 0.0, 0.0])
    skipped_B = torch.tensor([False, False, True])
    new_B = blocks.next_step(step_B, peak_B, 4, skipped_B, safety=2.0, decay=0.9)
    assert new_B.tolist() == pytest.approx([20.0, 0.9, 2.0])


@LAW
@given(seed=st.integers(0, 2**40), first=st.integers(0, 2**20))
def test_dither_depends_on_seed_and_place_alone(seed: int, first: int) -> None:
    """A part of a longer row of numbers is the same as the part by itself; all in [0, 1)."""
    whole = blocks.dither_BE(seed, 4, 64, first).flatten()
    part = blocks.dither_BE(seed, 1, 64, first + 64).flatten()
    assert torch.equal(whole[64:128], part)
    assert float(whole.min()) >= 0
    assert float(whole.max()) < 1


def test_dither_is_uniform_and_without_memory() -> None:
    """Mean, variance and the correlation of neighbors over a million numbers, five deviations."""
    u = blocks.dither_BE(12345, 1, 1_000_000).flatten().double()
    assert float(u.mean()) == pytest.approx(0.5, abs=5 * (1 / 12 / 1e6) ** 0.5)
    assert float(u.var()) == pytest.approx(1 / 12, rel=0.01)
    neighbors = ((u[1:] - 0.5) * (u[:-1] - 0.5)).mean() * 12
    assert float(neighbors) == pytest.approx(0.0, abs=5e-3)


def test_stochastic_rounding_is_right_on_average() -> None:
    """0.3 becomes one in three of ten times."""
    y_BE = torch.full((1_000, 64), 0.3)
    mean = float(blocks.rounded_BE(y_BE, blocks.dither_BE(7, 1_000, 64)).mean())
    assert mean == pytest.approx(0.3, abs=5 * (0.21 / 64_000) ** 0.5)


@given(value=st.floats(0.0, 2.0**126, width=32))
def test_a_scale_is_rounded_up_to_sixteen_bits(value: float) -> None:
    """Never below the value, at most 1/128 above; tiny ones are zero."""
    scale = blocks.up_to_bf16(torch.tensor([value]))
    assert torch.equal(scale, scale.to(torch.bfloat16).float())
    if value < blocks.SCALE_MIN:
        assert float(scale) == 0.0
    else:
        assert value <= float(scale) <= value * (1 + 2.0**-7)


def test_four_levels_lose_what_theory_says_of_normal_values() -> None:
    """Max (1960): a mean square error of 0.1175 of the variance at four levels; of two levels,
    1 - 2 / pi."""
    x_BE = numbers(3, 20_000, 64)
    number_BE, scale_B = blocks.four_levels(x_BE)
    error = (
        blocks.of_four_levels(number_BE, scale_B) - x_BE
    ).square().mean() / x_BE.square().mean()
    assert float(error) == pytest.approx(0.1175, rel=0.03)
    sign_BE, mean_B = blocks.signs(x_BE)
    error = (sign_BE * mean_B[:, None] - x_BE).square().mean() / x_BE.square().mean()
    assert float(error) == pytest.approx(1 - 2 / torch.pi, rel=0.03)

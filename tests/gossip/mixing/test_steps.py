"""The steps of wrap-around codes: learned from corrections, bounded by values, never stuck."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossip.codecs import REPLY_CODECS, STEP_ELEMENTS, make_codec
from gossip.codecs.blocks import DECAY, GROWTH, SAFETY, STEP_RESOLUTION
from gossip.mixing.scratch import Scratch
from gossip.mixing.steps import (
    FORGET_SHARE,
    PEAKS,
    SHARE_MIN,
    STEP_MIN,
    Sighting,
    StepBook,
    bound_steps_,
)

LAW = settings(max_examples=60, deadline=None)
BITS = 4
BLOCKS = 40
HALF = 1 << (BITS - 1)


def sighting(peak_B: Tensor, skipped: tuple[int, ...] = ()) -> Sighting:
    """What a correction with these largest differences shows."""
    seen = Sighting(peak_B.numel() * STEP_ELEMENTS, Scratch())
    seen.peak_B.copy_(peak_B)
    seen.skipped_B[list(skipped)] = True
    return seen


def taught(peak: float = 1.0) -> StepBook:
    """A book that knows fragment 0, the same step for every block."""
    book = StepBook(BITS)
    book.learn(0, sighting(torch.full((BLOCKS,), peak)), own_code=True)
    return book


def steps(book: StepBook) -> Tensor:
    """A copy of the steps of fragment 0."""
    step_B = book.steps_of(0)
    assert step_B is not None
    return step_B.clone()


def test_the_first_correction_teaches_every_block() -> None:
    """So large that a code reaches SAFETY times the difference seen."""
    book = StepBook(BITS)
    assert book.steps_of(0) is None
    book.learn(0, sighting(torch.linspace(1.0, 2.0, BLOCKS)), own_code=False)
    assert torch.equal(torch.linspace(1.0, 2.0, BLOCKS) * SAFETY / HALF, steps(book))
    assert book.steps_of(1) is None


def test_steps_run_ahead_of_differences_that_grow() -> None:
    """By what they grew since the last two swaps, twice at most; not in other fragments, not by
    blocks that nobody could read, and not once they have stopped."""
    book = taught(1.0)
    book.learn(0, sighting(torch.full((BLOCKS,), 1.5), skipped=(0,)), own_code=False)
    assert float(steps(book)[1]) == pytest.approx(1.5 * 1.5 * SAFETY / HALF)
    book.learn(0, sighting(torch.full((BLOCKS,), 6.0)), own_code=True)
    assert float(steps(book)[1]) == pytest.approx(2 * 6.0 * SAFETY / HALF)
    book.learn(1, sighting(torch.full((BLOCKS,), 9.0)), own_code=True)
    other_B = book.steps_of(1)
    assert other_B is not None
    assert float(other_B[0]) == pytest.approx(9.0 * SAFETY / HALF)
    for _ in range(20):
        book.learn(0, sighting(torch.full((BLOCKS,), 6.0)), own_code=True)
    assert float(steps(book)[1]) == pytest.approx(6.0 * SAFETY / HALF)


def test_partners_that_differ_are_no_growth() -> None:
    """Every other one is twice as far away."""
    book = taught(2.0)
    for peak in (1.0, 2.0, 1.0, 2.0, 1.0, 2.0):
        book.learn(0, sighting(torch.full((BLOCKS,), peak)), own_code=True)
        assert float(steps(book)[0]) <= 2.0 * SAFETY / HALF * 1.001


def test_steps_that_were_forgotten_had_grown() -> None:
    """The plain code that follows is compared with what was read before them."""
    book = taught(1.0)
    book.learn(0, sighting(torch.ones(BLOCKS), tuple(range(BLOCKS))), own_code=True)
    assert book.steps_of(0) is None
    book.learn(0, sighting(torch.full((BLOCKS,), 1.5)), own_code=True)
    assert float(steps(book)[0]) == pytest.approx(1.5 * 1.5 * SAFETY / HALF)


def test_own_blocks_that_wrapped_grow_and_a_partners_say_nothing() -> None:
    """The mask is about the steps of whoever offered."""
    calm_B = torch.full((BLOCKS,), 1e-3)
    calm_B[3] = 0.0
    mine, theirs = taught(), taught()
    before = float(steps(mine)[0])
    mine.learn(0, sighting(calm_B, skipped=(3,)), own_code=True)
    theirs.learn(0, sighting(calm_B, skipped=(3,)), own_code=False)
    assert GROWTH * before == float(steps(mine)[3])
    assert before == float(steps(theirs)[3])
    assert DECAY * before == pytest.approx(float(steps(mine)[0]))
    assert torch.equal(steps(mine)[4:], steps(theirs)[4:])


def test_who_moved_too_far_away_starts_again() -> None:
    """More than FORGET_SHARE of its own code wrapped: the next offer is a plain one."""
    few = tuple(range(math.floor(FORGET_SHARE * BLOCKS)))
    book = taught()
    book.learn(0, sighting(torch.ones(BLOCKS), few), own_code=True)
    assert book.steps_of(0) is not None
    book.learn(0, sighting(torch.ones(BLOCKS), (*few, BLOCKS - 1)), own_code=False)
    assert book.steps_of(0) is not None, "a partner's code that wrapped is the partner's matter"
    book.learn(0, sighting(torch.ones(BLOCKS), (*few, BLOCKS - 1)), own_code=True)
    assert book.steps_of(0) is None
    book.learn(0, sighting(torch.ones(BLOCKS), (5,)), own_code=False)
    assert book.steps_of(0) is None, "nothing is known of block 5, so nothing is begun"


def test_an_adoption_forgets_all_fragments() -> None:
    """Another model is at another distance."""
    book = taught()
    book.learn(1, sighting(torch.ones(BLOCKS)), own_code=False)
    book.forget_all()
    assert book.steps_of(0) is None
    assert book.steps_of(1) is None


@LAW
@given(st.data())
def test_whatever_is_learned_steps_stay_finite_and_of_one_magnitude(data: st.DataObject) -> None:
    """Any peaks, any masks, in any order: nothing a neighbor says makes a step useless."""
    book = taught()
    peaks = st.lists(
        st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e30, 3e38]), min_size=BLOCKS, max_size=BLOCKS
    )
    masks = st.lists(st.integers(0, BLOCKS - 1), max_size=BLOCKS).map(tuple)
    for _ in range(data.draw(st.integers(1, 8))):
        seen = sighting(torch.tensor(data.draw(peaks)), data.draw(masks))
        clip = data.draw(st.sampled_from([1.0, 1e-3, 2.0**-20]))
        book.learn(0, seen, own_code=data.draw(st.booleans()), clip=clip)
        step_B = book.steps_of(0)
        if step_B is not None:
            assert bool(torch.isfinite(step_B).all())
            assert 2 * float(step_B.min()) >= SHARE_MIN * float(step_B.double().mean())


@LAW
@given(
    magnitude=st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e6]),
    step=st.sampled_from([0.0, 1e-38, 1e-9, 1e-3, 1e9, 3e38]),
    seed=st.integers(0, 99),
)
def test_steps_are_brought_within_what_the_values_allow(
    magnitude: float, step: float, seed: int
) -> None:
    """Never below the block's resolution or the least step, and never far beyond the values."""
    generator = torch.Generator().manual_seed(seed)
    x_N = torch.randn(BLOCKS * STEP_ELEMENTS, generator=generator) * magnitude
    step_B = torch.full((BLOCKS,), step)
    bound_steps_(step_B, x_N, BITS, Scratch())
    peak_B = x_N.view(BLOCKS, -1).abs().amax(dim=1)
    assert bool((step_B >= peak_B * STEP_RESOLUTION).all())
    assert bool((step_B >= STEP_MIN).all())
    assert bool((step_B <= (16 * peak_B.amax() / HALF).clamp(min=STEP_MIN)).all())


def test_values_that_are_not_finite_spoil_no_steps() -> None:
    """The codec refuses them; the steps must still be there afterwards."""
    step_B = torch.full((BLOCKS,), 0.25)
    bound_steps_(step_B, torch.full((BLOCKS * STEP_ELEMENTS,), math.nan), BITS, Scratch())
    assert torch.equal(torch.full((BLOCKS,), 0.25), step_B)


@pytest.mark.parametrize("codec", REPLY_CODECS)
def test_a_sighting_is_about_as_large_as_the_difference(codec: str) -> None:
    """Read from the code, also by codecs that level blocks out; skipped blocks are marked."""
    blocks = 4096
    d_n = torch.randn(blocks * STEP_ELEMENTS, generator=torch.Generator().manual_seed(1))
    made = make_codec(codec)
    marks_B = torch.arange(blocks) % 8 < 4 if made.carries_mask else None
    code = bytearray(made.code_bytes(d_n.numel()))
    made.encode(d_n, code, skip_B=marks_B)
    c_n = torch.empty_like(d_n)
    made.decode(code, c_n)
    seen = Sighting(d_n.numel(), Scratch())
    seen.note(slice(0, d_n.numel()), made, memoryview(code), c_n)
    read_B = ~seen.skipped_B
    if marks_B is not None:
        assert torch.equal(marks_B, seen.skipped_B)
        assert 0.0 == float(seen.peak_B[seen.skipped_B].abs().max())
    true_B = d_n.view(blocks, -1).abs().amax(dim=1)
    assert 0.05 > abs(float(seen.peak_B[read_B].mean() / true_B[read_B].mean()) - 1)
    assert codec in PEAKS or torch.allclose(seen.peak_B[read_B], true_B[read_B], rtol=0.02)

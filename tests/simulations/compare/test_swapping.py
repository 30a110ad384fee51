"""Swaps between rows of a stack: who is sent a code that wraps, and who a plain one."""

from __future__ import annotations

import torch
from torch import Tensor

from simulations.compare.swapping import Swapper

ELEMENTS = 256


def swap(swapper: Swapper, theta_PN: Tensor, pair: tuple[int, int]) -> None:
    """The first of the pair opens; nobody moves."""
    swapper.correction_n(pair, 0, ELEMENTS, theta_PN[pair[0]], theta_PN[pair[1]], lambda _: 1.0)


def is_plain(swapper: Swapper, pair: tuple[int, int]) -> bool:
    """Whether the next offer is in 8 bits, not 3."""
    return swapper.swap_bytes(pair, 0, ELEMENTS) > ELEMENTS


def test_who_could_not_read_a_code_is_owed_a_plain_one() -> None:
    """As real peers do: whoever else is met before, and no longer than until it has come."""
    theta_PN = 0.01 * torch.randn(3, ELEMENTS, generator=torch.Generator().manual_seed(1))
    swapper = Swapper(theta_PN, "wrap3", "int2", None)
    assert is_plain(swapper, (0, 1)), "nothing is known yet"
    swap(swapper, theta_PN, (0, 1))
    assert not is_plain(swapper, (0, 1))
    theta_PN[1] += 5 * torch.randn(ELEMENTS, generator=torch.Generator().manual_seed(2))
    swap(swapper, theta_PN, (0, 1))
    swap(swapper, theta_PN, (0, 2))
    assert is_plain(swapper, (0, 1))
    assert not is_plain(swapper, (0, 2))
    swapper.forget(1)
    assert is_plain(swapper, (0, 1)), "what the other knows is another matter"
    swap(swapper, theta_PN, (0, 1))
    assert not is_plain(swapper, (0, 1))


def test_a_newcomer_owes_nothing() -> None:
    """It is another model now."""
    theta_PN = 0.01 * torch.randn(3, ELEMENTS, generator=torch.Generator().manual_seed(1))
    swapper = Swapper(theta_PN, "wrap3", "int2", None)
    swap(swapper, theta_PN, (0, 1))
    theta_PN[1] += 5 * torch.randn(ELEMENTS, generator=torch.Generator().manual_seed(2))
    swap(swapper, theta_PN, (0, 1))
    swapper.forget(0)
    swap(swapper, theta_PN, (0, 2))
    assert not is_plain(swapper, (0, 1))

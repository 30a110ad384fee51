"""Wrap-around codes beside a clip bound, either peer's: steps follow the true differences.

Two real ``Swaps`` and two real desks; messages cross at once, and nothing is ever applied, so that
the peers stay as far apart as they are and what is learned can be compared.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossip.codecs import WRAP_CODECS
from gossip.config import ExchangeConfig
from gossip.exchange.swap import Footing
from gossip.exchange.swaps import SwapMessage, Swaps
from gossip.exchange.uploads import Uploads
from gossip.machine import Applied, Apply, Compute, Effect, Release, Reserve, Send
from gossip.messages import Chunk, Offer, PeerId, Reply, Seconds
from gossip.mixing.flat import FlatModel
from gossip.mixing.outliers import Outliers
from gossip.mixing.replica import Replica
from peers.desk import Desk

ELEMENTS = 4096
LINEAGE = b"lineage!"
NOW: Seconds = 0.0


@dataclass
class Side:
    """One peer: the machine of its swaps, its desk, and what it says and moves."""

    me: PeerId
    config: ExchangeConfig
    apart: float
    clip_bound: float = math.inf
    outliers: Outliers | None = None
    said: list[SwapMessage] = field(default_factory=list)
    moved: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        theta_N = torch.randn(ELEMENTS, generator=torch.Generator().manual_seed(1))
        noise_N = torch.randn(ELEMENTS, generator=torch.Generator().manual_seed(2))
        theta_N += self.apart * noise_N
        self.replica = Replica(FlatModel([("theta", theta_N)]))
        self.desk = Desk(self.replica, config=self.config, outliers=self.outliers)
        self.uploads = Uploads(math.inf, NOW)
        self.swaps = Swaps(self.me, 1, self.config, self.uploads)

    @property
    def footing(self) -> Footing:
        """As the core tells it."""
        return Footing(LINEAGE, None, self.clip_bound)

    @property
    def step_B(self) -> Tensor:
        """The steps for this peer's next code."""
        assert self.desk._steps is not None
        step_B = self.desk._steps.steps_of(0)
        assert step_B is not None, "nothing was learned"
        return step_B.clone()

    def answer(self, effect: Effect) -> list[Effect]:
        """What the driver does for the core, and what the core asks for next."""
        match effect:
            case Reserve():
                assert self.desk.reserve(effect) is None
            case Release(transfer):
                self.desk.release(transfer)
            case Compute():
                return self.swaps.computed(self.desk.compute(effect), NOW)
            case Apply():
                work = self.desk.correction(effect)
                assert work is not None
                self.moved.append(work.followed * work.signed_weight * work.c_n)
                return self.swaps.applied(Applied(effect.transfer.exchange, True), NOW)
            case _:
                pass
        return []

    def hear(self, sender: Side, message: SwapMessage) -> list[Effect]:
        """A message of the other, its bytes with it."""
        if isinstance(message, Chunk):
            found = sender.desk.payload(message)
            assert found is not None
            view, message = found
            assert self.desk.store(sender.me, message, memoryview(bytearray(view)))
        return self.swaps.hear(sender.me, message, self.footing, NOW)


def swap(a: Side, b: Side) -> Offer:
    """One whole swap that A opens; its offer."""
    sides = {a.me: a, b.me: b}
    todo = deque((a, each) for each in a.swaps.start(b.me, 0, a.footing, NOW))
    a.said.clear()
    while todo:
        side, effect = todo.popleft()
        if isinstance(effect, Send):
            side.said.append(effect.message)  # type: ignore[arg-type] # swaps say nothing else
            other = sides[effect.to]
            todo.extend((other, each) for each in other.hear(side, side.said[-1]))
        else:
            todo.extend((side, each) for each in side.answer(effect))
        for each in (a, b):
            todo.extend((each, more) for more in each.uploads.pump(NOW))
    assert a.swaps.is_free(0)
    assert b.swaps.is_free(0)
    [offer] = [each for each in a.said if isinstance(each, Offer)]
    return offer


def two(codec: str, reply_codec: str, apart: float = 0.0) -> tuple[Side, Side]:
    """A offers codes that wrap; B, which may clip, offers int8, and is ``apart`` from A."""
    wraps = ExchangeConfig(codec=codec, reply_codec=reply_codec)
    plain = ExchangeConfig(codec="int8", reply_codec=reply_codec)
    return Side(PeerId("a" * 16), wraps, 0.0), Side(PeerId("b" * 16), plain, apart)


@settings(deadline=None, max_examples=40)
@given(
    codec=st.sampled_from(WRAP_CODECS),
    reply_codec=st.sampled_from(["int8", "int4"]),
    apart=st.floats(1e-4, 1.0),
    shortened=st.floats(1e-3, 0.6),
    clips=st.sampled_from(["opener", "answerer", "both"]),
    opener_wraps=st.booleans(),
)
def test_steps_are_those_of_unclipped_swaps(
    codec: str, reply_codec: str, apart: float, shortened: float, clips: str, opener_wraps: bool
) -> None:
    """Whoever clips, and whoever opened the swap: c is shorter, and what it teaches is not."""
    learned: list[Tensor] = []
    for clipped in (False, True):
        a, b = two(codec, reply_codec, apart)
        bound = shortened * apart * math.sqrt(ELEMENTS)
        if clipped and clips in ("opener", "both"):
            (a if opener_wraps else b).clip_bound = bound
        if clipped and clips in ("answerer", "both"):
            (b if opener_wraps else a).clip_bound = bound
        for _ in range(3):
            swap(a, b) if opener_wraps else swap(b, a)
            assert torch.equal(a.moved[-1], -b.moved[-1])
            assert not clipped or float(a.moved[-1].norm()) <= 0.5 * 1.35 * bound
        learned.append(a.step_B)
    unclipped_B, clipped_B = learned
    # Codes of differences round, and a block may wrap in one of the two and not in the other.
    near_B = (clipped_B / unclipped_B - 1).abs() < (0.05 if reply_codec == "int8" else 0.25)
    assert float(near_B.float().mean()) > 0.95


@pytest.mark.parametrize("codec", WRAP_CODECS)
def test_a_clipping_partner_reads_wrapped_codes_without_a_miss(codec: str) -> None:
    """What it decodes is the difference, in its direction, as short as its bound."""
    a, b = two(codec, "int8", apart=0.1)
    b.clip_bound = 1.0
    assert swap(a, b).codec == "int8"
    for _ in range(5):
        assert swap(a, b).codec == codec
        c_N = -2 * b.moved[-1]
        d_N = b.replica.phi_N - a.replica.phi_N
        skipped = float((c_N.view(-1, 64) == 0).all(dim=1).float().mean())
        assert skipped < 0.02
        # The code's own error is half a step: more than a tenth of d only with three bits.
        assert float(torch.cosine_similarity(c_N, d_N, dim=0)) > 0.9
        assert float(c_N.norm()) == pytest.approx(1.0, rel=0.02)


def test_a_difference_shortened_to_nothing_teaches_nothing() -> None:
    """A bound of zero: c is zero, which is no sign of agreement."""
    a, b = two("wrap4", "int4", apart=0.1)
    swap(a, b)
    before_B = a.step_B
    b.clip_bound = 0.0
    swap(a, b)
    assert torch.equal(before_B, a.step_B)
    assert float(a.moved[-1].abs().max()) == 0.0


def test_an_answer_says_how_far_it_was_shortened() -> None:
    """1 where nothing was clipped; and what is shown of the disagreement is all of it."""
    a, b = two("wrap4", "int8", apart=0.1)
    swap(a, b)
    [reply] = [each for each in b.said if isinstance(each, Reply)]
    assert reply.clip == 1.0
    b.said.clear()
    whole = a.desk.disagreement
    a.clip_bound = 0.5
    swap(a, b)
    assert a.desk.disagreement == pytest.approx(whole, rel=0.05)
    [reply] = [each for each in b.said if isinstance(each, Reply)]
    d_N = b.replica.phi_N - a.replica.phi_N
    assert reply.clip == pytest.approx(0.5 / float(d_N.norm()), rel=0.05)


def test_who_stands_apart_is_not_followed_whoever_opens() -> None:
    """A long difference says so however short the correction is; the others are followed on."""
    config = ExchangeConfig(codec="int8", reply_codec="int8")
    names = [PeerId(letter * 16) for letter in "abcdef"]
    mine = Side(names[0], config, 0.0, clip_bound=0.5, outliers=Outliers())
    others = [Side(name, config, 0.01 * at) for at, name in enumerate(names[1:-1], start=1)]
    liar = Side(names[-1], config, 5.0)
    for each in others:
        swap(mine, each)
        assert float(mine.moved[-1].norm()) > 0.1
    for a, b in ((mine, liar), (liar, mine)):
        swap(a, b)
        assert float(mine.moved[-1].abs().max()) == 0.0
        assert float(liar.moved[-1].norm()) == pytest.approx(0.25, rel=0.05), "as mine allows"
    swap(others[0], mine)
    assert float(mine.moved[-1].norm()) > 0.1

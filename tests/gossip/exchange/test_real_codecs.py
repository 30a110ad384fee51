"""The conservation law with the real codecs and the real replica, in fp32.

What both sides book is equal and opposite exactly, for any codec, because both decode the same
bytes. What fp32 adds is the rounding of ``phi += w * c``: half an ulp of phi at most, once a
correction, so over the swarm the sum of phi strays by at most

    (number of corrections) * 2^-24 * (largest |phi| that ever was)      in each element

(and 2^-50 of it for each entry of the fp64 ledger that checks this).

With the fp32 codec and dyadic values of few bits nothing is rounded, and the sum is exact.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from gossip.codecs import (
    OFFER_CODECS,
    REPLY_CODECS,
    WRAP_CODECS,
    check_pair,
    chunk_spans,
    make_codec,
    make_wrap_codec,
)
from gossip.config import ExchangeConfig
from gossip.errors import UsageError
from gossip.machine import Apply
from gossip.messages import ExchangeId
from gossip.mixing.flat import FlatModel
from gossip.mixing.ledger import ExactLedger
from gossip.mixing.replica import Replica
from gossip.mixing.scratch import Scratch
from gossip.mixing.steps import FIRST_CODEC, Sighting, StepBook
from tests.gossip.exchange.model import World
from tests.gossip.exchange.schedules import Mood, walk

ELEMENTS = 512
SEEDS = 12


def fits(offer: str, reply: str) -> bool:
    """Whether a peer may be set up with this pair."""
    try:
        check_pair(offer, reply)
    except UsageError:
        return False
    return True


PAIRS = [pair for pair in itertools.product(OFFER_CODECS, REPLY_CODECS) if fits(*pair)]
"""All that peers may use: 36 of them."""

DYADIC_SWAPS = 10
"""Each swap of a chain adds one binary digit; ten of them, and 13 digits before, fit in 24."""


class ReplicaAnchor:
    """A real replica of one parameter; ``values`` yields what is trained and adopted."""

    def __init__(self, fragments: int, values: Values, codec: str) -> None:
        self.values = values
        self.steps = StepBook(make_wrap_codec(codec).bits if codec in WRAP_CODECS else 8)
        self.wrap_codes = 0
        self.theta_N = values.draw()
        self.ledger = ExactLedger(ELEMENTS)
        model = FlatModel([("theta", self.theta_N)])
        self.replica = Replica(model, fragments=fragments, ledger=self.ledger)
        self.largest, self.looks = 0.0, 0
        self._look()

    def encode(self, fragment: int, codec: str) -> tuple[bytes, str]:
        elements = self.replica.elements(fragment)
        step_B = self.steps.steps_of(fragment)
        if codec in WRAP_CODECS and step_B is not None:
            self.wrap_codes += 1
            wrap = make_wrap_codec(codec)
            out = bytearray(wrap.code_bytes(elements))
            self.replica.encode_wrapped(fragment, wrap, step_B, memoryview(out))
            return bytes(out), codec
        used = FIRST_CODEC if codec in WRAP_CODECS else codec
        out = bytearray(make_codec(used).code_bytes(elements))
        self.replica.encode_fragment(fragment, make_codec(used), memoryview(out))
        return bytes(out), used

    def correct(self, fragment: int, code: bytes, codec: str, reply_codec: str) -> bytes:
        out = bytearray(make_codec(reply_codec).code_bytes(self.replica.elements(fragment)))
        source = memoryview(bytearray(code))
        offer = make_wrap_codec(codec) if codec in WRAP_CODECS else make_codec(codec)
        codecs = (offer, source, make_codec(reply_codec))
        self.replica.make_correction(fragment, *codecs, memoryview(out))
        return bytes(out)

    def move(self, queued: Apply, correction: bytes) -> None:
        c_n = self.replica.take_n(queued.fragment)
        view = memoryview(bytearray(correction))
        codec = make_codec(queued.codec)
        self.replica.decode_correction(queued.fragment, codec, view, c_n)
        if not queued.undo:
            seen = Sighting(c_n.numel(), Scratch())
            for part, span in chunk_spans(codec, c_n.numel()):
                seen.note(part, codec, view[span], c_n[part])
            self.steps.learn(queued.fragment, seen, own_code=queued.signed_weight > 0)
        exchange = queued.transfer.exchange
        self.replica.apply_correction(queued.fragment, c_n, queued.signed_weight, exchange)
        self.replica.give_back(c_n)
        self._look()

    def publish(self, fragment: int, amount: int) -> None:
        start, stop = self.replica.spans[fragment]
        self.theta_N[start:stop] += self.values.draw()[start:stop] * (amount % 4)
        self.replica.publish()
        self._look()

    def replace(self, value: int) -> None:
        self.replica.replace(self.values.draw())
        self.steps.forget_all()
        self._look()

    def booked(self) -> dict[ExchangeId, Any]:
        sums: dict[ExchangeId, Any] = {}
        for exchange, start, amount_n in self.ledger.corrections:
            assert isinstance(exchange, ExchangeId)
            total_N = sums.setdefault(exchange, torch.zeros(ELEMENTS, dtype=torch.float64))
            total_N[start : start + amount_n.numel()] += amount_n
        return sums

    def is_balanced(self) -> bool:
        return self.ledger.balance_error(self.replica.phi_N) <= self.bound

    @property
    def bound(self) -> float:
        """How far rounding can have moved one element of phi away from the ledger."""
        corrections = len(self.ledger.corrections)
        return (corrections * 2.0**-24 + self.looks * 2.0**-50) * self.largest

    def _look(self) -> None:
        self.looks += 1
        self.largest = max(self.largest, float(self.replica.phi_N.abs().max()))


class Values:
    """Seeded vectors: normal ones over many magnitudes, or dyadic ones of few bits."""

    def __init__(self, seed: int, dyadic: bool) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._dyadic = dyadic

    def draw(self) -> Tensor:
        """A fresh vector."""
        if self._dyadic:
            whole_N = torch.randint(-64, 65, (ELEMENTS,), generator=self._generator)
            return whole_N.float() / 16
        scale_N = 10.0 ** torch.randint(-4, 3, (ELEMENTS,), generator=self._generator)
        return torch.randn(ELEMENTS, generator=self._generator) * scale_N


def world_of(codec: str, reply_codec: str, seed: int, dyadic: bool) -> World:
    """Three peers with real replicas."""
    values = Values(seed, dyadic)
    config = ExchangeConfig(codec=codec, reply_codec=reply_codec, fragments=1 + seed % 2)
    return World(config, 3, lambda _: ReplicaAnchor(config.fragments, values, codec))


def stray_and_bound(world: World) -> tuple[float, float]:
    """How far sum(phi) is from what explains it, and how far rounding lets it be."""
    stray_N = torch.zeros(ELEMENTS, dtype=torch.float64)
    bound = 0.0
    for life in world.lives.values():
        anchor = life.anchor
        assert isinstance(anchor, ReplicaAnchor)
        stray_N += anchor.replica.phi_N.double()
        stray_N -= anchor.ledger.adopted_N + anchor.ledger.published_N
        bound += anchor.bound
    for amount_N in world.unbalanced().values():
        stray_N -= amount_N
    return float(stray_N.abs().max()), bound


def started(world: World) -> int:
    """Swaps begun by anybody."""
    return sum(life.swaps._book._seq for life in world.lives.values())


def test_no_pair_of_codecs_is_left_out() -> None:
    """Six offers, seven replies; wrap-around codes need a reply that can mark blocks."""
    marks = [reply for reply in REPLY_CODECS if make_codec(reply).carries_mask]
    plain = [offer for offer in OFFER_CODECS if offer not in WRAP_CODECS]
    expected = {*itertools.product(plain, REPLY_CODECS), *itertools.product(WRAP_CODECS, marks)}

    assert expected == set(PAIRS)
    assert len(PAIRS) == 36


@pytest.mark.parametrize("codec, reply_codec", PAIRS)
def test_the_sum_is_conserved_within_the_rounding_of_fp32(codec: str, reply_codec: str) -> None:
    """Every pair of codecs, over schedules with loss, repetition, reordering and crashes."""
    settled = wrap_codes = 0
    for seed in range(SEEDS):
        rng = random.Random(seed)
        world = world_of(codec, reply_codec, seed, dyadic=False)
        for _ in range(12):
            walk(world, rng, 50, Mood(trouble=0.003, time=0.03, loss=0.15, refuse=0.05, hook=0.2))
            world.check()
        world.heal()
        world.check()
        stray, bound = stray_and_bound(world)
        assert stray <= bound
        for life in world.lives.values():
            assert isinstance(life.anchor, ReplicaAnchor)
            settled += len(life.anchor.booked())
            wrap_codes += life.anchor.wrap_codes

    assert settled > 50
    assert codec not in WRAP_CODECS or wrap_codes > 5, "all were plain first codes"


def test_the_fp32_code_conserves_dyadic_values_to_the_last_bit() -> None:
    """Few bits, few swaps: no addition rounds, so the law holds without a bound."""
    moved = 0
    for seed in range(20):
        rng = random.Random(seed)
        world = world_of("fp32", "fp32", seed, dyadic=True)
        rough = Mood(trouble=0.0, time=0.05, loss=0.2, refuse=0.1, hook=0.3)
        while started(world) < DYADIC_SWAPS:
            walk(world, rng, 5, rough)
        world.heal()
        stray, _ = stray_and_bound(world)
        assert stray == 0.0
        moved += sum(len(life.anchor.booked()) for life in world.lives.values())

    assert moved > 40

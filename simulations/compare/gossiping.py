"""Our own method: swaps of fragments between pairs, in any codec, with or without an outer step.

The same as real peers do, in lock-step: the codecs are the wire's, to the byte; whichever neighbor
was met longest ago is met next (or as ``meeting`` says); both sides move by the same decoded
correction, the one that answers when the offer has reached it, the one that opened when the reply
has.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gossip.config import ExchangeConfig
from gossip.errors import UsageError
from gossip.messages import PeerId
from gossip.mixing.disagreement import ratio
from gossip.mixing.flat import fragment_spans
from gossip.mixing.outer import OuterStep
from gossip.mixing.outliers import Outliers
from gossip.mixing.robust import SelfClip, check_clip
from gossip.mixing.steps import CLIP_MIN
from simulations.compare.attacks import Attackers, attackers_of
from simulations.compare.field import Field
from simulations.compare.partners import Meeting, Meetings
from simulations.compare.swapping import MOMENTUM_SHARE_MIN, Swapper


@dataclass(frozen=True, slots=True)
class GossipSettings:
    """every: local steps between swaps (of one fragment each, in turn). early: in the first so much
    of the run there are twice as many: while a model moves fast, a swap is worth more.
    offer, reply: codecs.
    a, b: the outer step; 0 and 1 is plain averaging. momentum: the inner optimizer's is swapped
    too, in codecs such as ``wrap8+int8``; empty: not. weight: both sides move this share. clip:
    kappa, 0 for none; with it, outliers are not followed either. dither: stochastic rounding.
    delay: steps that a message takes one way; a swap's two are over before the next swap. attempts:
    how often a swap that is lost is tried before waiting for the next (the protocol's default).
    """

    every: int = 1
    fragments: int = 1
    early: float = 0.0
    offer: str = "wrap4"
    reply: str = "int4"
    a: float = 0.0
    b: float = 1.0
    meeting: Meeting = Meeting.NEIGHBORS
    momentum: str = ""
    weight: float = 0.5
    clip: float = 0.0
    dither: bool = False
    delay: int = 0
    attempts: int = ExchangeConfig().attempts_max

    def __post_init__(self) -> None:
        if min(self.every, self.fragments, self.attempts) < 1:
            raise UsageError("gossip: every, fragments and attempts must be at least 1")
        if not 0 <= 2 * self.delay <= self.every:
            raise UsageError("gossip: a swap takes 2 x delay steps, which must not exceed every")
        if not 0 <= self.early <= 1:
            raise UsageError("gossip: early is a share of the run, from 0 to 1")
        if self.early and self.delay:
            raise UsageError("gossip: two swaps at a time do not wait for messages: no delay")
        if not 0 < self.weight <= 0.5:
            raise UsageError("gossip: weight must be above 0 and at most 0.5")
        check_clip(self.clip, self.offer)
        if self.clip > 0 and self.momentum:
            raise UsageError(
                "gossip: clip bounds parameters by their updates; it knows no momentum"
            )
        OuterStep(self.a, self.b)


@dataclass(slots=True)
class _Vector:
    """One stacked tensor that is swapped: the parameters, or a moment."""

    values_PN: Tensor
    swapper: Swapper
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A swap's offer (``values_n``: what its opener was) or its reply (by how much it is to move),
    until it arrives."""

    due: int
    vector: _Vector
    pair: tuple[int, int]
    fragment: int
    values_n: Tensor


class Gossip:
    """See the module."""

    models = 0

    def __init__(self, settings: GossipSettings) -> None:
        self.settings = settings
        self._outer = OuterStep(settings.a, settings.b)
        self._vectors: list[_Vector] = []
        self._spans: tuple[tuple[int, int], ...] = ()
        self._meetings: list[Meetings] = []
        self._losses = random.Random()
        self._swaps = 0
        self._offers: list[_UnderWay] = []
        self._replies: list[_UnderWay] = []
        self._phi_PN: Tensor | None = None
        self._m_PN: Tensor | None = None
        self._after_PN: Tensor | None = None
        self._clips: list[list[SelfClip]] = []
        self._outliers: list[Outliers] = []
        self._attackers: Attackers | None = None

    def start(self, field: Field) -> None:
        """See Method."""
        s, theta_PN = self.settings, field.stack.theta_PN
        self._spans = fragment_spans(theta_PN.shape[1], s.fragments)
        seed = field.rng("dither").getrandbits(32) if s.dither else None
        self._vectors = [_Vector(theta_PN, Swapper(theta_PN, s.offer, s.reply, seed), self._spans)]
        if s.momentum:
            m_PM = field.inner.momentum_PM
            if m_PM is None:
                raise UsageError(
                    "gossip: there is no momentum to mix: AdamW's does harm alone, Muon has some "
                    "where there are hidden matrices, SGD always"
                )
            swapper = Swapper(m_PM, *_codec_pair(s.momentum), seed, MOMENTUM_SHARE_MIN)
            self._vectors.append(_Vector(m_PM, swapper, fragment_spans(m_PM.shape[1], s.fragments)))
        rng = field.rng("pairs")
        self._meetings = [Meetings(field.peers, s.meeting, rng) for _ in self._spans]
        self._losses = field.rng("losses")
        if not self._outer.plain:
            self._phi_PN, self._m_PN = theta_PN.clone(), torch.zeros_like(theta_PN)
        if s.clip > 0:
            self._after_PN = theta_PN.clone()
            self._clips = [[SelfClip(s.clip) for _ in self._spans] for _ in range(field.peers)]
            self._outliers = [Outliers() for _ in range(field.peers)]
        self._attackers = attackers_of(field)
        field.traffic.messages = 2
        field.traffic.paired = True

    def advance(self, field: Field, step: int) -> None:
        """See Method."""
        field.local_steps(step)
        with torch.no_grad():
            self._arrive(field, step)
            swaps = self._swaps_due(step, field)
            if swaps:
                self._publish(field.stack.theta_PN)
            for _ in range(swaps):
                self._swap(field, step, self._swaps % self.settings.fragments)
                self._swaps += 1

    def _swaps_due(self, step: int, field: Field) -> int:
        """After this step (from 0): one for every ``every``, or for every half of that."""
        early = field.progress <= self.settings.early * field.schedule.steps
        times, every = 2 if early else 1, self.settings.every
        return times * (step + 1) // every - times * step // every

    def replaced(self, field: Field, row: int, source: int) -> None:
        """See Method: a newcomer knows neither distances nor momentum, nor its swaps under way."""
        self._offers = [each for each in self._offers if row not in each.pair]
        self._replies = [each for each in self._replies if row not in each.pair]
        for vector in self._vectors:
            vector.swapper.forget(row)
        for state_PN in (self._phi_PN, self._after_PN):
            if state_PN is not None:
                state_PN[row] = field.stack.theta_PN[source]
        if self._m_PN is not None:
            self._m_PN[row].zero_()
        if self._outliers:
            self._outliers[row].forget_all()

    @property
    def wrapped_share(self) -> float:
        """Of all blocks coded against a neighbor's, those that wrapped."""
        return self._vectors[0].swapper.wrapped_share

    def _publish(self, theta_PN: Tensor) -> None:
        """The outer step (gossip.mixing.outer), everybody's at once."""
        if self._phi_PN is None or self._m_PN is None:
            return
        delta_PN = theta_PN - self._phi_PN
        self._m_PN.mul_(self._outer.a).add_(delta_PN, alpha=self._outer.b)
        self._phi_PN.add_(delta_PN, alpha=self._outer.b).add_(self._m_PN, alpha=self._outer.a)
        theta_PN.copy_(self._phi_PN)

    def _swap(self, field: Field, step: int, fragment: int) -> None:
        """Open this round's swaps; without delay they are over at once."""
        start, stop = self._spans[fragment]
        meetings = self._meetings[fragment]
        self._note_updates(field, fragment)
        sent_bytes = 0
        for pair in meetings.next():
            # A slow peer takes fewer steps, and so opens fewer swaps.
            if not field.steps_in(pair[0], step // self.settings.every):
                meetings.forget(pair)
                continue
            tries, lost = self._tries(field.conditions.loss)
            if lost:
                meetings.forget(pair)
            for vector in self._vectors:
                span = vector.spans[fragment]
                sent_bytes += tries * vector.swapper.swap_bytes(pair[0], *span)
                if not lost:
                    x_n = self._told_n(vector, pair[0], fragment).clone()
                    due = step + self.settings.delay
                    self._offers.append(_UnderWay(due, vector, pair, fragment, x_n))
        self._arrive(field, step)
        if self._after_PN is not None:
            self._after_PN[:, start:stop] = field.stack.theta_PN[:, start:stop]
        field.traffic.add(sent_bytes / field.peers)

    def _tries(self, loss: float) -> tuple[int, bool]:
        """How often a swap was begun, and whether it was lost in the end."""
        for tries in range(1, self.settings.attempts + 1):
            if self._losses.random() >= loss:
                return tries, False
        return self.settings.attempts, True

    def _arrive(self, field: Field, step: int) -> None:
        """What is due: answer offers, and take replies."""
        offers, self._offers = _due(self._offers, step)
        for offer in offers:
            self._answer(field, offer)
        replies, self._replies = _due(self._replies, step)
        for reply in replies:
            self._move(field, reply, reply.pair[0], reply.values_n)

    def _answer(self, field: Field, offer: _UnderWay) -> None:
        """The second of the pair codes its difference to the offer, and moves."""
        start, stop = offer.vector.spans[offer.fragment]
        y_n = self._told_n(offer.vector, offer.pair[1], offer.fragment)
        c_n, clip = offer.vector.swapper.correction_n(
            offer.pair,
            start,
            stop,
            offer.values_n,
            y_n,
            lambda d_n: self._clip(offer.pair, offer.fragment, d_n),
        )
        moved_n = c_n * self.settings.weight
        length = float(c_n.norm()) / max(clip, CLIP_MIN)
        opener, answerer = offer.pair
        if self._follows(offer, answerer, opener, length):
            self._move(field, offer, answerer, -moved_n)
        if self._follows(offer, opener, answerer, length):
            due = offer.due + self.settings.delay
            self._replies.append(replace(offer, due=due, values_n=moved_n))

    def _told_n(self, vector: _Vector, row: int, fragment: int) -> Tensor:
        """What a peer says that it is."""
        start, stop = vector.spans[fragment]
        if self._attackers is not None:
            return self._attackers.claim_n(row, start, stop, vector.values_PN)
        return vector.values_PN[row, start:stop]

    def _move(self, field: Field, swap: _UnderWay, row: int, by_n: Tensor) -> None:
        start, stop = swap.vector.spans[swap.fragment]
        swap.vector.values_PN[row, start:stop].add_(by_n)
        if swap.vector.values_PN is field.stack.theta_PN:
            # Neither an outer step's progress nor an own update: others moved it.
            for state_PN in (self._phi_PN, self._after_PN):
                if state_PN is not None:
                    state_PN[row, start:stop].add_(by_n)

    def _note_updates(self, field: Field, fragment: int) -> None:
        """How far peers moved by themselves since the fragment was swapped last."""
        if self._after_PN is None:
            return
        start, stop = self._spans[fragment]
        moved_P = (field.stack.theta_PN - self._after_PN)[:, start:stop].norm(dim=1)
        for clips, moved in zip(self._clips, moved_P.tolist(), strict=True):
            clips[fragment].note(moved)

    def _follows(self, swap: _UnderWay, row: int, other: int, length: float) -> bool:
        """Whether a peer moves towards another from which it differs by so much
        (gossip.mixing.outliers), beside its own length."""
        if not self._outliers:
            return True
        start, stop = swap.vector.spans[swap.fragment]
        distance = ratio(length, float(swap.vector.values_PN[row, start:stop].norm()))
        return self._outliers[row].follows(swap.fragment, PeerId(f"{other:016x}"), distance)

    def _clip(self, pair: tuple[int, int], fragment: int, d_n: Tensor) -> float:
        """At most 1, and such that neither side moves by more than kappa times its own update."""
        if not self._clips:
            return 1.0
        return min(self._clips[row][fragment].factor(d_n, self.settings.weight) for row in pair)


def _codec_pair(text: str) -> tuple[str, str]:
    offer, plus, reply = text.partition("+")
    if not plus:
        raise UsageError(f"gossip: momentum={text!r} should look like momentum=wrap8+int8")
    return offer, reply


def _due(swaps: list[_UnderWay], step: int) -> tuple[list[_UnderWay], list[_UnderWay]]:
    """Those that arrive by ``step``, and the others."""
    arrived = [each for each in swaps if each.due <= step]
    return arrived, [each for each in swaps if each.due > step]

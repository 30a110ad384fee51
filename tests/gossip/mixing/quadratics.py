"""Peers with quadratic losses that gossip through real replicas and codecs, in lock-step steps.

Shape letters: P peers, N elements. Peer i's loss is (x - t_i)^T A_i (x - t_i) / 2, with an optimum
and curvatures of its own, so that nobody can find the optimum of the sum alone. What the network
does is drawn: swaps that are lost leave both sides as they are, and a correction is made from the
anchors of one moment but applied some local steps later, by each side at a time of its own. As in
the protocol a fragment has one swap open at a time, and whoever is replaced forgets its own.

A correction that is under way counts as applied in ``settled_PN``: training and corrections are
both added, in whatever order, so a swap that is applied late is a swap at the moment of its
anchors, but for the gradients taken meanwhile. What the laws need is noted as it happens.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

from gossip.codecs import (
    STEP_ELEMENTS,
    WRAP_CODECS,
    OfferCodec,
    chunk_spans,
    make_codec,
    make_wrap_codec,
)
from gossip.codecs.blocks import DECAY
from gossip.mixing.flat import FlatModel
from gossip.mixing.replica import Replica
from gossip.mixing.scratch import Scratch
from gossip.mixing.steps import FIRST_CODEC, Sighting, StepBook
from simulations.compare.partners import Meeting, Meetings
from tests.gossip.mixing.undone import Memory, undone_at_most_n

ELEMENTS = 512
CURVATURE_MIN, CURVATURE_MAX = 0.3, 1.0

FP64 = 1e-14
"""Of the largest value: what sums of halves round by here."""


class Topology(Enum):
    """Who may meet whom. GRAPH: the edges of a random tree and as many
    chords, without which a tree may mix more slowly than any rate falls."""

    ALL = Meeting.RANDOM
    NEIGHBORS = Meeting.NEIGHBORS
    RECENT = Meeting.RECENT
    RING = Meeting.RING
    EXPONENTIAL = Meeting.EXPONENTIAL
    GRAPH = None


@dataclass(frozen=True)
class Problem:
    """A_i = U_i diag(a_i) U_i, with U_i = I - 2 u_i u_i^T, a reflection."""

    target_PN: Tensor
    curvature_PN: Tensor
    mirror_PN: Tensor

    @classmethod
    def draw(cls, seed: int, peers: int, apart: float = 1.0) -> Problem:
        """Optima ``apart`` times as far from each other as from zero; curvatures of ratios up to
        three."""
        generator = torch.Generator().manual_seed(seed)
        shape = (peers, ELEMENTS)
        target_PN = torch.randn(ELEMENTS, generator=generator).expand(shape)
        target_PN = target_PN + apart * torch.randn(shape, generator=generator)
        span = CURVATURE_MAX - CURVATURE_MIN
        curvature_PN = CURVATURE_MIN + span * torch.rand(shape, generator=generator)
        mirror_PN = torch.randn(shape, generator=generator)
        return cls(target_PN, curvature_PN, mirror_PN / mirror_PN.norm(dim=1, keepdim=True))

    def gradient_PN(self, x_PN: Tensor) -> Tensor:
        """Of each peer's own loss."""
        return self._mirrored_PN(self.curvature_PN * self._mirrored_PN(x_PN - self.target_PN))

    def solved(self) -> tuple[Tensor, float]:
        """The optimum of the sum of all losses, and the least curvature of their mean; in fp64."""
        u_PN, a_PN = self.mirror_PN.double(), self.curvature_PN.double()
        mean_NN = torch.zeros(ELEMENTS, ELEMENTS, dtype=torch.float64)
        right_N = torch.zeros(ELEMENTS, dtype=torch.float64)
        for u_N, a_N, target_N in zip(u_PN, a_PN, self.target_PN.double(), strict=True):
            mirror_NN = torch.eye(ELEMENTS, dtype=torch.float64) - 2 * torch.outer(u_N, u_N)
            own_NN = mirror_NN @ (a_N[:, None] * mirror_NN) / len(u_PN)
            mean_NN += own_NN
            right_N += own_NN @ target_N
        least = float(torch.linalg.eigvalsh(mean_NN)[0])
        return torch.linalg.solve(mean_NN, right_N), least

    def _mirrored_PN(self, x_PN: Tensor) -> Tensor:
        along_P = (self.mirror_PN * x_PN).sum(dim=1, keepdim=True)
        return x_PN - 2 * along_P * self.mirror_PN


class Gossiper:
    """One peer's replica and what it knows of its distance to others; theta is trained outside."""

    def __init__(self, theta_N: Tensor, fragments: int, codecs: tuple[str, str]) -> None:
        self.replica = Replica(FlatModel([("theta", theta_N)]), fragments=fragments)
        offer, reply = codecs
        self._wrap = make_wrap_codec(offer) if offer in WRAP_CODECS else None
        self._plain = make_codec(FIRST_CODEC if self._wrap else offer)
        self._reply = make_codec(reply)
        bits = self._wrap.bits if self._wrap else 8
        self._steps = StepBook(bits)
        self._scratch = Scratch()
        self.memories = [
            Memory(self.replica.elements(each) // STEP_ELEMENTS, bits, reply)
            for each in range(fragments)
        ]

    def offer(self, fragment: int) -> tuple[OfferCodec, bytearray]:
        """The anchor's code, plain while nothing is known of the distance to others."""
        elements, step_B = self.replica.elements(fragment), self._steps.steps_of(fragment)
        if self._wrap is not None and step_B is not None:
            code = bytearray(self._wrap.code_bytes(elements))
            self.replica.encode_wrapped(fragment, self._wrap, step_B, memoryview(code))
            return self._wrap, code
        code = bytearray(self._plain.code_bytes(elements))
        self.replica.encode_fragment(fragment, self._plain, memoryview(code))
        return self._plain, code

    def answer(self, fragment: int, codec: OfferCodec, code: bytearray) -> bytearray:
        """The correction's code."""
        out = bytearray(self._reply.code_bytes(self.replica.elements(fragment)))
        self.replica.make_correction(
            fragment, codec, memoryview(code), self._reply, memoryview(out)
        )
        return out

    def read_n(self, fragment: int, correction: bytearray, own_code: bool) -> tuple[Tensor, Tensor]:
        """The correction's values, and which of its blocks were skipped; steps learn from them."""
        c_n = torch.empty(self.replica.elements(fragment))
        view = memoryview(correction)
        self.replica.decode_correction(fragment, self._reply, view, c_n)
        seen = Sighting(c_n.numel(), self._scratch)
        for part, span in chunk_spans(self._reply, c_n.numel()):
            seen.note(part, self._reply, view[span], c_n[part])
        self._steps.learn(fragment, seen, own_code)
        return c_n, seen.skipped_B

    def become(self, snapshot_N: Tensor) -> None:
        """Adopt another's anchor."""
        self.replica.replace(snapshot_N)
        self._steps.forget_all()
        for memory in self.memories:
            memory.forget()


@dataclass(frozen=True, slots=True)
class Conditions:
    """loss: share of swaps. delay: local steps until a correction is applied, at most. churn: at
    which step which peer is replaced by a copy of which. apart: see ``Problem.draw``."""

    topology: Topology = Topology.ALL
    codecs: tuple[str, str] = ("fp32", "fp32")
    fragments: int = 1
    loss: float = 0.0
    delay: int = 0
    churn: tuple[tuple[int, int, int], ...] = ()
    mixes: bool = True
    apart: float = 1.0


@dataclass(frozen=True, slots=True)
class Rate:
    """The rate of step t is ``first * (last / first)^(t / steps)``."""

    steps: int
    first: float = 0.4
    last: float = 2e-4

    def at(self, step: int) -> float:
        """Of one step, from 0."""
        return self.first * math.exp(math.log(self.last / self.first) * step / self.steps)


@dataclass(slots=True)
class _Late:
    """One side of a swap: signed_weight * c_n, to be applied at the end of step ``due``."""

    due: int
    peer: int
    fragment: int
    c_n: Tensor
    signed_weight: float


@dataclass(slots=True)
class Event:
    """What happened to a fragment of all peers: x = W x + (something of norm ``push``), W being
    left out where it is I. A round of swaps (``swapped``) pushes by what its codecs leave undone.
    ``undone``: of any element, as a share of what may be (see ``undone``); ``coarse``: of how far
    codes reach, as a share of how far they may; ``fine``: of how far they must, as a share of how
    far they do (see ``Memory``); ``drift``: by how much the
    round moved the mean, as a share of all values; ``forgot``: a peer had no steps."""

    w_PP: Tensor | None
    push: float
    swapped: bool = False
    undone: float = 0.0
    coarse: float = 0.0
    fine: float = 0.0
    drift: float = 0.0
    forgot: bool = False


@dataclass(slots=True)
class Story:
    """What the laws need of a run. ``mean_bound`` and ``mean_error``: of every step.
    ``slip``: what applying corrections does to any value beside what they say, as a share of the
    largest."""

    events: list[list[Event]] = field(default_factory=list)
    mean_bound: list[float] = field(default_factory=list)
    mean_error: list[float] = field(default_factory=list)
    slip: float = 0.0


class Quadratics:
    """See the module. ``run`` once; then ``theta_PN``, ``start_PN`` and ``story`` tell the rest."""

    def __init__(self, seed: int, peers: int, conditions: Conditions, rate: Rate) -> None:
        self.problem = Problem.draw(seed, peers, conditions.apart)
        self.optimum_N, self._least = self.problem.solved()
        generator = torch.Generator().manual_seed(seed + 1)
        self.start_PN = 2 * torch.randn(peers, ELEMENTS, generator=generator)
        self.theta_PN = self.start_PN.clone()
        self.story = Story([[] for _ in range(conditions.fragments)])
        self._c, self._rate, self._rng = conditions, rate, random.Random(seed)
        self._peers = [
            Gossiper(row_N, conditions.fragments, conditions.codecs) for row_N in self.theta_PN
        ]
        self.spans = self._peers[0].replica.spans
        self._rounds = [self._pairs() for _ in range(conditions.fragments)]
        self._late: list[_Late] = []
        self._seen_P = torch.zeros(peers, dtype=torch.float64)
        self._rested = 0

    def run(self) -> None:
        """All steps, then what is still under way."""
        self.story.mean_error.append(self._mean_error())
        self.story.mean_bound.append(self.story.mean_error[0])
        for step in range(self._rate.steps):
            self._train(self._rate.at(step))
            self._apply(step)
            before_N = self.settled_PN().mean(dim=0)
            self._churn(step)
            jump = float((self.settled_PN().mean(dim=0) - before_N).norm())
            self.story.mean_bound[-1] += jump
            if self._c.mixes:
                self._swap(step)
                self._apply(step)
            self.story.mean_error.append(self._mean_error())
        self._apply(self._rate.steps + self._c.delay)

    def rest(self, share: float) -> tuple[float, float]:
        """Swap without training, after ``run``, where there is one fragment: until exact means
        would have left ``share`` of any disagreement, and a step that shrinks by DECAY with each of
        a peer's swaps that share of itself. The disagreement that is remembered where that
        begins, and what is left. It begins anew where a peer forgot its steps, as what it then
        offers is rounded by the size of its values."""
        events, peers = self.story.events[0], len(self._peers)
        left_PP = eye_PP = torch.eye(peers, dtype=torch.float64)
        swaps_P, apart = torch.zeros(peers), float(self._seen_P.max())
        while max(norm_of(left_PP - left_PP.mean(dim=0)), DECAY ** float(swaps_P.min())) > share:
            done = len(events)
            self._rested += 1
            self._swap(self._rate.steps + self._c.delay + self._rested)
            self._apply(self._rate.steps + self._c.delay + self._rested)
            for event in events[done:]:
                left_PP = event.w_PP @ left_PP
                swaps_P += event.w_PP.diagonal() < 1
                if event.forgot:
                    left_PP, swaps_P = eye_PP, torch.zeros(peers)
                    apart = max(float(self._seen_P.max()), disagreement(self.settled_PN()))
        return apart, disagreement(self.settled_PN())

    @property
    def start_error(self) -> float:
        """How far the peers are from the optimum at the start, in the mean."""
        return float((self.start_PN - self.optimum_N).norm(dim=1).mean())

    def errors(self) -> list[float]:
        """How far each peer is from the optimum, as a share of that."""
        error_P = (self.theta_PN - self.optimum_N).norm(dim=1)
        return [error / self.start_error for error in error_P.tolist()]

    def settled_PN(self) -> Tensor:
        """All peers, in fp64, as if what is under way had been applied."""
        settled_PN = self.theta_PN.double()
        for late in self._late:
            start, stop = self.spans[late.fragment]
            settled_PN[late.peer, start:stop] += late.signed_weight * late.c_n
        return settled_PN

    def _mean_error(self) -> float:
        return float((self.settled_PN().mean(dim=0) - self.optimum_N).norm())

    def _train(self, rate: float) -> None:
        """A local step of all, and what it does to the bounds.

        With g the mean of all gradients, the mean m moves by -rate g(x), which is -rate times
        A (m - optimum), A being the mean curvature, but for a bias of g(x) - g(m): of the order of
        the peers' disagreement, so of the rate times how unlike their losses are.
        """
        gradient_PN = self.problem.gradient_PN(self.theta_PN)
        mean_N = self.settled_PN().mean(dim=0)
        unbiased_N = self.problem.gradient_PN(mean_N.float()).mean(dim=0)
        bias = float((gradient_PN.mean(dim=0) - unbiased_N).norm())
        before = self.story.mean_bound[-1]
        self.story.mean_bound.append((1 - rate * self._least) * before + rate * bias)
        self.theta_PN -= rate * gradient_PN
        self._note(None, rate * (gradient_PN - gradient_PN.mean(dim=0)).double())

    def _note(self, w_PP: Tensor | None, push_PN: Tensor) -> None:
        for fragment, (start, stop) in enumerate(self.spans):
            push = float(push_PN[:, start:stop].norm())
            self.story.events[fragment].append(Event(w_PP, push))

    def _apply(self, step: int) -> None:
        due = [late for late in self._late if late.due <= step]
        if not due:
            return
        settled_PN = self.settled_PN()
        self._late = [late for late in self._late if late.due > step]
        for late in due:
            replica = self._peers[late.peer].replica
            replica.apply_correction(late.fragment, late.c_n, late.signed_weight)
        slip = float((self.settled_PN() - settled_PN).abs().amax() / settled_PN.abs().amax())
        self.story.slip = max(self.story.slip, slip)

    def _churn(self, step: int) -> None:
        for when, who, source in self._c.churn:
            if when != step or who == source:
                continue
            before_PN = self.settled_PN()
            self._late = [late for late in self._late if late.peer != who]
            self._peers[who].become(self._peers[source].replica.phi_N.clone())
            w_PP = torch.eye(len(self._peers), dtype=torch.float64)
            w_PP[who] = w_PP[source]
            self._note(w_PP, self.settled_PN() - w_PP @ before_PN)

    def _swap(self, step: int) -> None:
        busy = {late.fragment for late in self._late}
        free = [each for each in range(self._c.fragments) if each not in busy]
        for peer in self._peers if free else ():
            peer.replica.publish()
        for fragment in free:
            before_PN = self.settled_PN()
            w_PP = torch.eye(len(self._peers), dtype=torch.float64)
            event = Event(w_PP, 0.0, swapped=True)
            most_PN = torch.full_like(before_PN, FP64 * float(before_PN.abs().amax()))
            for first, second in next(self._rounds[fragment]):
                if self._rng.random() >= self._c.loss:
                    pair, here = [first, second], slice(*self.spans[fragment])
                    most_PN[pair, here] += self._swap_pair(step, first, second, fragment, event)
                    w_PP[pair] = w_PP[pair].mean(dim=0, keepdim=True)
            moved_PN = self.settled_PN() - before_PN
            event.drift = float(moved_PN.mean(dim=0).norm() / before_PN.norm())
            here = slice(*self.spans[fragment])
            moved_PN[:, here] -= w_PP @ before_PN[:, here] - before_PN[:, here]
            event.push = float(moved_PN.norm())
            event.undone = float((moved_PN.abs() / most_PN).amax())
            self.story.events[fragment].append(event)
            self._seen_P[w_PP.diagonal() < 1] *= DECAY
            self._seen_P.clamp_(min=disagreement(before_PN))

    def _swap_pair(self, step: int, first: int, second: int, fragment: int, event: Event) -> Tensor:
        """How far from their mean it may leave the two, by element."""
        one, two = self._peers[first], self._peers[second]
        here = slice(*self.spans[fragment])
        anchors = one.replica.phi_N[here].double(), two.replica.phi_N[here].double()
        codec, code = one.offer(fragment)
        coarse, fine = one.memories[fragment].used(codec, code, anchors[0])
        event.coarse, event.fine = max(event.coarse, coarse), max(event.fine, fine)
        event.forgot |= codec.name != self._c.codecs[0]
        correction = two.answer(fragment, codec, code)
        for peer, own in ((first, True), (second, False)):
            c_n, skipped_B = self._peers[peer].read_n(fragment, correction, own)
            self._peers[peer].memories[fragment].note(c_n, anchors, skipped_B, own)
            due = step + self._rng.randint(0, self._c.delay)
            self._late.append(_Late(due, peer, fragment, c_n, 0.5 if own else -0.5))
        return undone_at_most_n(codec, code, self._c.codecs[1], skipped_B, anchors) / 2

    def _pairs(self) -> Iterator[list[tuple[int, int]]]:
        peers = len(self._peers)
        if self._c.topology is not Topology.GRAPH:
            meetings = Meetings(peers, self._c.topology.value, self._rng)
            while True:
                yield meetings.next()
        edges = {(self._rng.randrange(peer), peer) for peer in range(1, peers)}
        more = [sorted(self._rng.sample(range(peers), 2)) for _ in range(peers)]
        edges |= {(low, high) for low, high in more}
        while True:
            yield self._maximal(sorted(edges))

    def _maximal(self, edges: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Edges in random order, each taken whose ends are free; who opens is drawn, too."""
        self._rng.shuffle(edges)
        taken: list[tuple[int, int]] = []
        met: set[int] = set()
        for edge in edges:
            if met.isdisjoint(edge):
                low, high = edge
                taken.append((low, high) if self._rng.random() < 0.5 else (high, low))
                met.update(edge)
        return taken


def norm_of(w_PP: Tensor) -> float:
    """By how much a matrix lengthens what it lengthens most."""
    return float(torch.linalg.matrix_norm(w_PP, ord=2))


def disagreement(x_PN: Tensor) -> float:
    """The root of the sum of squared distances from the mean."""
    return float((x_PN - x_PN.mean(dim=0)).norm())


def disagreement_bound(swarm: Quadratics) -> float:
    """What the rounds that happened leave of the start and of each step's push, at most.

    With F the product of all later W, the final x is the sum of F times each push, so its
    disagreement is at most the sum of norm(F, off the mean) times the push.
    """
    total, peers = 0.0, swarm.start_PN.shape[0]
    for (start, stop), events in zip(swarm.spans, swarm.story.events, strict=True):
        left_PP = torch.eye(peers, dtype=torch.float64) - 1 / peers
        size, bound = 1.0, 0.0
        for event in reversed(events):
            bound += size * event.push
            if event.w_PP is not None:
                left_PP = left_PP @ event.w_PP
                size = norm_of(left_PP)
        bound += size * disagreement(swarm.start_PN[:, start:stop].double())
        total += bound**2
    return math.sqrt(total)

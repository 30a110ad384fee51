"""The conservation law of the swap: what one side gains the other loses, whatever happens.

sum(phi) = sum of publishes + adoptions + corrections counted as one-sided (or whose partner
crashed), exactly, under any interleaving, loss, repetition, reordering, crash and change of mind.
"""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gossip.config import ExchangeConfig
from gossip.exchange.patience import STALL_STRETCH_MAX
from gossip.exchange.table import State
from gossip.machine import Role
from gossip.messages import Outcome
from tests.gossip.exchange.anchors import RationalAnchor
from tests.gossip.exchange.model import FLIGHTS_MAX, ModelPeer, World
from tests.gossip.exchange.schedules import Mood, act, tight, walk

CODECS = ("exact", "coarse")
SEEDS_A_BLOCK = 400


def config_of(rng: random.Random) -> ExchangeConfig:
    """Any codec on either leg, one or two fragments, large or small limits."""
    config = ExchangeConfig(
        codec=rng.choice(CODECS),
        reply_codec=rng.choice(CODECS),
        fragments=rng.choice([1, 2]),
        weight=rng.choice([0.5, 0.25]),
    )
    return tight(config) if rng.random() < 0.7 else config


def check_total(world: World) -> None:
    """After ``heal``: the sum of all anchors is accounted for, to the last bit."""
    phi, explained = Fraction(0), Fraction(0)
    for life in world.lives.values():
        assert isinstance(life.anchor, RationalAnchor)
        phi += sum(life.anchor.phi)
        explained += sum(life.anchor.adopted) + sum(life.anchor.published)
    assert phi == explained + sum(world.unbalanced().values())


class SwapMachine(RuleBasedStateMachine):
    """Two to four peers, every event a rule; small examples when a law breaks."""

    @initialize(
        peers=st.integers(2, 4),
        codec=st.sampled_from(CODECS),
        reply_codec=st.sampled_from(CODECS),
        fragments=st.integers(1, 2),
        small=st.booleans(),
    )
    def found(self, peers: int, codec: str, reply_codec: str, fragments: int, small: bool) -> None:
        config = ExchangeConfig(codec=codec, reply_codec=reply_codec, fragments=fragments)
        self.world = World(tight(config) if small else config, peers)

    def life(self, index: int) -> ModelPeer:
        lives = list(self.world.lives.values())
        return lives[index % len(lives)]

    def anyone(self) -> bool:
        return bool(self.world.lives)

    def anything_sent(self) -> bool:
        return bool(self.world.flights)

    # What a peer does.

    @precondition(anyone)
    @rule(who=st.integers(0, 3), fragment=st.integers(0, 1), amount=st.integers(-16, 16))
    def publish(self, who: int, fragment: int, amount: int) -> None:
        fragment %= self.world.config.fragments
        self.life(who).anchor.publish(fragment, amount)

    @precondition(anyone)
    @rule(who=st.integers(0, 3), partner=st.integers(0, 3), fragment=st.integers(0, 1))
    def start(self, who: int, partner: int, fragment: int) -> None:
        ids = self.world.ids
        self.life(who).start(ids[partner % len(ids)], fragment % self.world.config.fragments)

    @precondition(anyone)
    @rule(who=st.integers(0, 3), fails=st.sampled_from([False, False, False, True]))
    def compute(self, who: int, fails: bool) -> None:
        self.life(who).compute(fails)
        self.life(who).answer()

    @precondition(anyone)
    @rule(who=st.integers(0, 3), refuse=st.sampled_from([False, False, True]))
    def run_hook(self, who: int, refuse: bool) -> None:
        self.life(who).run_hook(1, refuse)

    @precondition(anyone)
    @rule(who=st.integers(0, 3))
    def answer(self, who: int) -> None:
        self.life(who).answer()

    @precondition(anyone)
    @rule(who=st.integers(0, 3), keep_moved=st.booleans())
    def cancel(self, who: int, keep_moved: bool) -> None:
        self.life(who).cancel(keep_moved)

    @precondition(anyone)
    @rule(who=st.integers(0, 3), value=st.integers(-8, 8))
    def adopt(self, who: int, value: int) -> None:
        self.life(who).adopt(value)

    @precondition(anyone)
    @rule(who=st.integers(0, 3))
    def fill_up(self, who: int) -> None:
        self.life(who).is_full ^= True

    # What the network does.

    @precondition(anything_sent)
    @rule(index=st.integers(0, FLIGHTS_MAX))
    def deliver(self, index: int) -> None:
        self.world.deliver(index)

    @precondition(anything_sent)
    @rule(index=st.integers(0, FLIGHTS_MAX))
    def repeat(self, index: int) -> None:
        self.world.repeat(index)

    @precondition(anything_sent)
    @rule(index=st.integers(0, FLIGHTS_MAX))
    def drop(self, index: int) -> None:
        self.world.drop(index)

    @rule(seed=st.integers(0, 9), steps=st.sampled_from([5, 20, 60]))
    def go_on(self, seed: int, steps: int) -> None:
        """Nothing bad happens for a while: swaps get far, so that what follows hits them late."""
        calm, rng = Mood(trouble=0, time=0, loss=0, refuse=0, hook=0.3), random.Random(seed)
        walk(self.world, rng, steps, calm)

    @rule(one=st.integers(0, 3), other=st.integers(0, 3), noticed_by_both=st.booleans())
    def cut(self, one: int, other: int, noticed_by_both: bool) -> None:
        ids = self.world.ids
        self.world.cut(ids[one % len(ids)], ids[other % len(ids)], noticed_by_both)

    @rule(one=st.integers(0, 3), other=st.integers(0, 3))
    def mend(self, one: int, other: int) -> None:
        ids = self.world.ids
        self.world.mend(ids[one % len(ids)], ids[other % len(ids)])

    # What fate does.

    @rule(by_s=st.sampled_from([None, 0.1, 0.6, 3.5, 12.0, 70.0]))
    def advance(self, by_s: float | None) -> None:
        self.world.advance(by_s)

    @rule(who=st.integers(0, 3))
    def crash(self, who: int) -> None:
        self.world.crash(self.world.ids[who % len(self.world.ids)])

    @rule()
    def notice(self) -> None:
        self.world.notice_all()

    @rule(by=st.integers(0, 3), who=st.integers(0, 3))
    def accuse(self, by: int, who: int) -> None:
        ids = self.world.ids
        self.world.accuse(ids[by % len(ids)], ids[who % len(ids)])

    @rule(who=st.integers(0, 3), value=st.integers(-8, 8))
    def boot(self, who: int, value: int) -> None:
        self.world.boot(self.world.ids[who % len(self.world.ids)], value)

    # The laws.

    @invariant()
    def laws_hold(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.heal()
            self.world.check()
            check_total(self.world)


@pytest.mark.timeout(600)  # seconds; only a broken law takes long: its example is made small
def test_the_sum_is_conserved_whatever_happens() -> None:
    """Hypothesis draws the schedule; a broken law comes back as a small one."""
    wide = settings(stateful_step_count=60, max_examples=3 * settings().max_examples)
    run_state_machine_as_test(SwapMachine, settings=wide)


@pytest.mark.parametrize("block", range(4))
def test_the_sum_is_conserved_over_long_schedules(block: int) -> None:
    """Sixteen hundred seeded schedules of four hundred steps, from quiet to rough."""
    for seed in range(SEEDS_A_BLOCK * block, SEEDS_A_BLOCK * (block + 1)):
        rng = random.Random(seed)
        world = World(config_of(rng), rng.choice([2, 2, 3, 4]))
        mood = Mood.draw(rng)
        for _ in range(80):
            walk(world, rng, 5, mood)
            world.check()
        world.heal()
        world.check()
        check_total(world)


def test_lost_late_and_repeated_messages_never_leave_a_side_alone() -> None:
    """Counting is for crashes, verdicts and lost memory: a bad network only costs time."""
    moved = 0
    for seed in range(150):
        rng = random.Random(seed)
        config = replace(config_of(rng), outcomes_kept=1000, parked_max=1000, forget_after_s=1e6)
        world = World(config, rng.choice([2, 3]))
        walk(world, rng, 400, Mood(trouble=0, time=0.05, loss=0.3, refuse=0, hook=0.1))
        for _ in range(5):
            one, other = rng.sample(world.ids, 2)
            world.cut(one, other, noticed_by_both=rng.random() < 0.5)
            walk(world, rng, 30, Mood(trouble=0, time=0.1, loss=0.3, refuse=0, hook=0.1))
            world.mend(one, other)
        world.heal()
        assert {} == world.unbalanced()
        tallies = [tally for life in world.lives.values() for tally in life.tallies.values()]
        assert [] == [tally for tally in tallies if tally.counted]
        moved += sum(tally.moves for tally in tallies)

    assert moved > 500


def test_the_schedules_reach_what_they_are_meant_to_prove() -> None:
    """A proof over schedules in which nothing happens would prove nothing."""
    settled = refunded = counted = parked = 0
    for seed in range(300):
        rng = random.Random(seed)
        world = World(config_of(rng), rng.choice([2, 3]))
        mood = Mood.draw(rng)
        for _ in range(40):
            walk(world, rng, 10, mood)
            for life in world.lives.values():
                parked += len(life.swaps._book.parked())
        world.heal()
        for life in [*world.lives.values(), *world.crashed]:
            for tally in life.tallies.values():
                settled += any(each.outcome is Outcome.APPLIED for each in tally.closed)
                refunded += tally.undos
                counted += tally.counted

    assert settled > 300
    assert min(refunded, counted, parked) > 10


def vanish_and_wait(seed: int, wait_s: float) -> ModelPeer:
    """One of two peers goes silent for good after a random schedule; time passes for the other."""
    rng = random.Random(seed)
    world = World(config_of(rng), 2)
    walk(world, rng, 150, Mood(trouble=0, time=0.02, loss=0.1, refuse=0, hook=0.1))
    left, right = (world.lives[peer] for peer in world.ids)
    quiet = Mood(trouble=0, time=0, loss=0, refuse=0, hook=0.3)
    for fragment in range(world.config.fragments):
        left.start(right.life.peer, fragment)
    for _ in range(rng.randrange(40)):
        world.deliver(0)
        act(rng.choice([left, right]), rng, quiet)
    del world.lives[right.life.peer]  # no word of it: the link stays up and nothing comes
    world.flights.clear()
    until = world.now + wait_s
    while world.now < until:
        world.flush()
        world.advance(min(0.25, until - world.now))
    world.flush()
    return left


@pytest.mark.parametrize("seed", range(60))
def test_a_silent_partner_holds_a_fragment_for_a_bounded_time_only(seed: int) -> None:
    """Whatever it was in the middle of, a new swap can start after the stall limit."""
    config = ExchangeConfig()
    left = vanish_and_wait(seed, STALL_STRETCH_MAX * config.withdraw_after_s + 0.25)

    free = [left.swaps.is_free(each) for each in range(left.world.config.fragments)]
    assert all(free)


def test_a_silent_partner_is_waited_for_before_it_is_given_up() -> None:
    """The test above would be empty if nothing were open when the partner goes silent."""
    open_after_a_second = 0
    for seed in range(60):
        left = vanish_and_wait(seed, 1.0)
        states = [swap.state for swap in left.swaps._book.swaps.values()]
        open_after_a_second += State.OFFERED in states or State.REPLIED in states

    assert open_after_a_second > 20


def test_two_calm_peers_meet_in_the_middle() -> None:
    """With exact codecs and w = 1/2, one swap makes two anchors equal."""
    world = World(ExchangeConfig(codec="exact", reply_codec="exact"), 2)
    left, right = (world.lives[peer] for peer in world.ids)
    assert isinstance(left.anchor, RationalAnchor)
    assert isinstance(right.anchor, RationalAnchor)
    middle = (left.anchor.phi[0] + right.anchor.phi[0]) / 2

    right.start(left.life.peer, 0)
    world.flush()

    assert [middle] == left.anchor.phi == right.anchor.phi
    roles = [
        closed.role
        for life in (left, right)
        for tally in life.tallies.values()
        for closed in tally.closed
        if closed.outcome is Outcome.APPLIED
    ]
    assert [Role.RESPONDER, Role.INITIATOR] == roles

"""What goes wrong in a comparison acts where it is said to: lost messages, and peers that lie."""

from __future__ import annotations

import pytest
import torch

from simulations.compare.attacks import Attackers
from simulations.compare.conditions import Attack, Conditions
from simulations.compare.feed import Split
from simulations.compare.gossiping import Gossip, GossipSettings
from simulations.compare.partners import Meeting
from simulations.compare.registry import METHODS, make_method, read_spec
from simulations.compare.summary import HIT_BY_ATTACKS, HIT_BY_LOSS
from tests.simulations.compare.fields import field_of


def models_after(name: str, conditions: Conditions) -> torch.Tensor:
    """All models of a method after twenty steps."""
    method = make_method(read_spec(name), 4)
    field = field_of(method, conditions=conditions)
    for step in range(20):
        method.advance(field, step)
    return field.stack.theta_PN.clone()


OFTEN = {"local-sgd": "every=5", "group": "every=5,size=2", "diloco": "every=5",
         "noloco": "every=5", "gossip-nesterov": "every=5", "pull": "count=2"}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_losses_and_attackers_act_on_those_methods_that_are_said_to_be_hit(name: str) -> None:
    """On all others they change not one bit; so what a comparison remarks is true."""
    often = OFTEN.get(name, "")
    clean, lossy, attacked = (
        models_after(f"{name}:{often}", each)
        for each in (Conditions(), Conditions(loss=0.9), Conditions(attackers=1))
    )
    assert torch.equal(clean, lossy) is (name not in HIT_BY_LOSS)
    assert torch.equal(clean, attacked) is (name not in HIT_BY_ATTACKS)


@pytest.mark.parametrize("name", ["group:every=5,size=2", "noloco:every=5"])
def test_lost_groups_do_not_average(name: str) -> None:
    """Nine tenths lost: peers end far apart beside those that lose nothing."""
    together, apart = (models_after(name, Conditions(loss=loss)).std(dim=0) for loss in (0.0, 0.9))
    assert float(apart.norm()) > 1.5 * float(together.norm())


@pytest.mark.parametrize("name", ["local-sgd:every=5", "diloco:every=5", "noloco:every=5"])
def test_an_attacker_spoils_a_plain_mean(name: str) -> None:
    """Nothing protects the baselines: one in four claims noise as large as the model."""
    clean, attacked = (
        models_after(name, Conditions(attackers=count))[:3].mean(dim=0) for count in (0, 1)
    )
    assert float((attacked - clean).norm()) > 0.2 * float(clean.norm())


def test_an_attacker_parts_honest_peers_less_when_corrections_are_clipped() -> None:
    """One in four claims noise as large as the model: clipped, the others stay together, as they do
    without an attacker, clipped or not (each of them sees labels of its own)."""
    apart = {}
    for attackers in (0, 1):
        for clip in (0.0, 2.0):
            method = Gossip(GossipSettings(clip=clip, offer="int8"))
            field = field_of(method, steps=60, conditions=Conditions(attackers=attackers))
            for step in range(60):
                method.advance(field, step)
            apart[attackers, clip] = float(field.stack.theta_PN[:3].std(dim=0).norm())
    assert apart[1, 2.0] < 0.3 * apart[1, 0.0]
    assert apart[0, 2.0] < 2.0 * apart[0, 0.0]


@pytest.mark.parametrize("attack", [each for each in Attack if each is not Attack.IDLE])
def test_one_liar_in_eight_that_stands_apart_is_not_followed(attack: Attack) -> None:
    """The honest end nearer to where they do beside one that lies about nothing than if they
    followed the liar, clipped: two to ten times as near."""
    ends = {}
    for lie, follows in ((Attack.IDLE, False), (attack, False), (attack, True)):
        method = Gossip(GossipSettings(clip=2.0, offer="int8", meeting=Meeting.RECENT))
        conditions = Conditions(attackers=1, attack=lie)
        field = field_of(method, 8, 60, conditions, Split.SHARED)
        if follows:
            method._outliers = []
        for step in range(60):
            method.advance(field, step)
        ends[lie, follows] = field.stack.theta_PN[:7].mean(dim=0)
    alone_N, left_aside_N, followed_N = ends.values()
    assert float((left_aside_N - alone_N).norm()) < 0.7 * float((followed_N - alone_N).norm())


@pytest.mark.parametrize("attack", [each for each in Attack if each is not Attack.NOISE])
def test_attackers_claim_what_is_said_of_their_attack(attack: Attack) -> None:
    """From the start that all share and from what three honest peers are now; of a slice, too."""
    field = field_of(Gossip(GossipSettings()), conditions=Conditions(attackers=1, attack=attack))
    attackers, theta_PN = Attackers(field), field.stack.theta_PN
    start_N = theta_PN[0].clone()
    with torch.no_grad():
        theta_PN += torch.arange(1.0, 5.0)[:, None] * torch.ones_like(start_N)
    claimed_N = {
        Attack.SIGN_FLIP: start_N - 4,
        Attack.INNER_PRODUCT: start_N - 2,
        Attack.STALE: start_N,
        Attack.IDLE: start_N + 2,
    }[attack]
    shown_PN = attackers.shown_PN()
    assert torch.equal(shown_PN[:3], theta_PN[:3])
    assert torch.allclose(shown_PN[3], claimed_N, atol=1e-5)
    claim_n = attackers.claim_n(3, 64, 128, theta_PN)
    assert torch.allclose(claim_n, claimed_N[64:128], atol=1e-5)

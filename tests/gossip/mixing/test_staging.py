"""Staging beside the training: the state logic with a hand-driven lane, and CUDA itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gossip.mixing.flat import FlatModel
from gossip.mixing.outer import OuterStep
from gossip.mixing.replica import Replica
from gossip.mixing.staging import SPARES_MAX, DirectStaging, LaneStaging, Spares, make_staging
from tests.gossip.mixing.swaps import dyadic_n, swap, theta_N

needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device on this machine"
)


class HandTicket:
    """A copy that happens when told to."""

    def __init__(self, lane: HandLane) -> None:
        self._lane = lane
        self._number = lane.asked

    def query(self) -> bool:
        return self._lane.finished >= self._number

    def synchronize(self) -> None:
        self._lane.finish()


class HandLane:
    """Copies out only at ``finish``; until then the host vector holds garbage."""

    def __init__(self) -> None:
        self.asked = 0
        self.finished = 0
        self._waiting: list[tuple[torch.Tensor, torch.Tensor]] = []

    def host_n(self, elements: int) -> torch.Tensor:
        return torch.full((elements,), torch.nan)

    def copy_out(self, device_N: torch.Tensor, host_N: torch.Tensor) -> HandTicket:
        self._waiting.append((device_N, host_N))
        self.asked += 1
        return HandTicket(self)

    def copy_in(self, host_n: torch.Tensor) -> torch.Tensor:
        return host_n.clone()

    def fence(self) -> HandTicket:
        return HandTicket(self)

    def finish(self) -> None:
        for device_N, host_N in self._waiting:
            host_N.copy_(device_N)
        self._waiting.clear()
        self.finished = self.asked


def lane_replica(values_n: torch.Tensor, outer: OuterStep) -> tuple[Replica, HandLane]:
    """A replica whose copies to the host take as long as the test likes."""
    flat = FlatModel([("w", values_n.clone())], [("running_mean", torch.zeros(3))])
    lane = HandLane()
    return Replica(flat, outer, fragments=2, staging=LaneStaging(flat, lane)), lane


def test_a_publish_takes_effect_when_its_copy_is_here() -> None:
    """Until then phi is the old one; training done meanwhile is not part of it."""
    replica, lane = lane_replica(dyadic_n(1000, 1), OuterStep())
    old_N = replica.phi_N.clone()
    replica.model.add_(torch.ones(1000), 1.0)
    published_N = theta_N(replica)
    assert not replica.publish()
    replica.model.add_(torch.ones(1000), 2.0)
    assert not replica.settle()
    assert torch.equal(old_N, replica.phi_N)
    lane.finish()
    assert replica.settle()
    assert torch.equal(published_N, replica.phi_N)
    assert torch.equal(published_N[:1000] + 2, theta_N(replica)[:1000])


def test_corrections_wait_for_a_publish_under_way() -> None:
    """Applying one in between would lose it: it is our own bug, said loudly."""
    replica, lane = lane_replica(dyadic_n(1000, 1), OuterStep())
    assert not replica.publish()
    with pytest.raises(AssertionError, match="under way"):
        replica.apply_correction(0, torch.zeros(replica.elements(0)), 0.5)
    with pytest.raises(AssertionError, match="not settled"):
        replica.publish()
    lane.finish()
    assert replica.settle()
    c_n = dyadic_n(replica.elements(0), 2)
    phi_N, theta = replica.phi_N.clone(), theta_N(replica)
    replica.apply_correction(0, c_n, 0.5)
    assert torch.equal(phi_N[: c_n.numel()] + c_n / 2, replica.phi_N[: c_n.numel()])
    assert torch.equal(theta[: c_n.numel()] + c_n / 2, theta_N(replica)[: c_n.numel()])


def test_a_late_outer_step_keeps_what_was_trained_meanwhile() -> None:
    """Theta is z plus the steps since the capture; on the host it would be z."""
    outer = OuterStep(0.5, 0.5)
    late, lane = lane_replica(dyadic_n(1000, 1), outer)
    direct = Replica(
        FlatModel([("w", dyadic_n(1000, 1))], [("running_mean", torch.zeros(3))]), outer
    )
    assert isinstance(make_staging(direct.model), DirectStaging)
    for seed in range(3):
        step_n = dyadic_n(1000, seed)
        late.model.add_(step_n, 1.0)
        direct.model.add_(step_n, 1.0)
        assert direct.publish()
        assert not late.publish()
        late.model.add_(torch.ones(1000), 8.0)
        lane.finish()
        assert late.settle()
        assert torch.equal(direct.phi_N, late.phi_N)
        assert torch.allclose(theta_N(direct)[:1000] + 8, theta_N(late)[:1000])
        late.model.add_(torch.ones(1000), -8.0)


def test_settling_can_wait_at_the_end() -> None:
    """Before export the last publish must be in effect."""
    replica, _ = lane_replica(dyadic_n(1000, 1), OuterStep())
    replica.model.add_(torch.ones(1000), 1.0)
    assert not replica.publish()
    assert replica.settle(wait=True)
    assert torch.equal(theta_N(replica), replica.phi_N)


def test_adoption_drops_a_publish_under_way() -> None:
    """The late copy of the old model must not come back."""
    replica, lane = lane_replica(dyadic_n(1000, 1), OuterStep())
    assert not replica.publish()
    snapshot_N = torch.zeros(replica.model.elements)
    replica.replace(snapshot_N)
    lane.finish()
    assert replica.settle()
    assert torch.equal(snapshot_N, replica.phi_N)
    replica.model.add_(torch.ones(1000), 1.0)
    assert not replica.publish()
    lane.finish()
    assert replica.settle()
    assert torch.equal(theta_N(replica), replica.phi_N)


def test_spares_are_reused_once_no_copy_reads_them() -> None:
    """Same size only, done only, and never more than the limit."""
    lane, spares = HandLane(), Spares()
    lane.asked = 1
    spare_n = torch.empty(256)
    spares.give(spare_n, lane.fence())
    assert spares.take(256) is None
    lane.finish()
    assert spares.take(512) is None
    assert spares.take(256) is spare_n
    assert spares.take(256) is None
    for _ in range(SPARES_MAX + 3):
        spares.give(torch.empty(256), None)
    taken = [spares.take(256) for _ in range(SPARES_MAX + 3)]
    assert SPARES_MAX == sum(spare is not None for spare in taken)


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("outer", [OuterStep(), OuterStep(0.8, 0.7)])
def test_two_replicas_on_cuda_meet_in_the_middle(outer: OuterStep) -> None:
    """Publish, settle and swap with the parameters on the device."""
    pair = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(100, 100), nn.BatchNorm1d(100)).cuda()
        pair.append(Replica(FlatModel.from_module(model), outer))
    for replica in pair:
        change_N = torch.randn(replica.model.elements, device="cuda")
        replica.model.add_(change_N, 0.1)
        replica.publish()
        assert replica.settle(wait=True)
    swap(*pair)
    host = [torch.empty(replica.model.elements, device="cuda") for replica in pair]
    for replica, out_N in zip(pair, host, strict=True):
        replica.model.gather_(out_N)
        assert torch.allclose(replica.phi_N, out_N.cpu(), atol=1e-5)
    assert torch.allclose(pair[0].phi_N, pair[1].phi_N, atol=1e-5)

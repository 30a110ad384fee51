"""One or a few real peers in this process: joining, swapping, leaving, refusing."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD

from gossip.config import ExchangeConfig
from gossip.errors import JoinError, LayoutMismatch, TransportError, UsageError
from gossip.messages import Status
from peers.contacts import load_contacts, save_contacts
from peers.entrance import is_loopback
from peers.journal import replay
from peers.peer import join
from peers.settings import PeerConfig, hookable
from tests.lab.peers import QUICK, a_peer, parameters_N, small_model, train_step, wait_until

PLAIN = ExchangeConfig(codec="int8", reply_codec="int8")


def test_a_lone_peer_trains_bit_for_bit_as_without_us() -> None:
    """The hook of a peer with nobody to swap with never touches theta."""
    plain, ours = small_model(3), small_model(3)
    plain_optimizer = SGD(plain.parameters(), lr=0.05, momentum=0.9)
    our_optimizer = SGD(ours.parameters(), lr=0.05, momentum=0.9)
    with join(
        ours, our_optimizer, run="alone", every=2, settings=PeerConfig(protocol=QUICK)
    ) as peer:
        for step in range(20):
            train_step(plain, plain_optimizer, step)
            train_step(ours, our_optimizer, step)
        assert 20 == peer.hook.steps
    assert torch.equal(parameters_N(plain), parameters_N(ours))


def test_a_joiner_adopts_the_model_of_its_contact() -> None:
    """Its own initial parameters are replaced before the block is entered."""
    first, second = small_model(1), small_model(2)
    with a_peer(first) as founder, a_peer(second, (founder.address,)) as joiner:
        assert torch.equal(parameters_N(first), parameters_N(second))
        assert founder.view.lineage == joiner.view.lineage
        assert joiner.join_s > 0


def test_peers_that_train_on_and_finalise_agree_exactly() -> None:
    """Two peers drift apart, swap as they go, and end with the same parameters."""
    first, second = small_model(1), small_model(2)
    first_optimizer, second_optimizer = SGD(first.parameters(), 0.1), SGD(second.parameters(), 0.1)
    settings = PeerConfig(protocol=QUICK)
    with (
        join(first, first_optimizer, run="pair", every=1, settings=settings) as one,
        join(
            second, second_optimizer, run="pair", contacts=[one.address], every=1, settings=settings
        ) as two,
    ):
        assert one.wait_for_peers(2, 10.0)

        def both_swapped() -> bool:
            train_step(first, first_optimizer, one.hook.steps)
            train_step(second, second_optimizer, 1000 + two.hook.steps)
            return one.tally.swaps >= 5 and two.tally.swaps >= 5

        wait_until(both_swapped, "five swaps each")
        finishing = threading.Thread(target=one.finalise, args=(True,))
        finishing.start()
        assert two.finalise(together=True)
        finishing.join(timeout=20.0)
        assert not finishing.is_alive()
        torch.testing.assert_close(parameters_N(first), parameters_N(second), rtol=0, atol=1e-6)
        assert 0 == one.tally.one_sided + two.tally.one_sided


def test_one_of_five_whose_model_is_no_model_moves_nobody(tmp_path: Path) -> None:
    """Its parameters are one large number, whatever it learns: the others stay together where the
    data wants them, and their counts and events name why."""
    settings = PeerConfig(protocol=replace(QUICK, exchange=PLAIN), clip=2.0)
    with ExitStack() as stack:
        models, peers, optimizers = [small_model(seed) for seed in range(5)], [], []
        for number, model in enumerate(models):
            contacts = tuple(each.address for each in peers[:1])
            folder = tmp_path if number == 1 else None
            made = a_peer(model, contacts, folder, settings=settings)
            peers.append(stack.enter_context(made))
            optimizers.append(made._optimizer)
        assert all(each.wait_for_peers(5, 10.0) for each in peers)

        def all_have_noticed() -> bool:
            with torch.no_grad():
                for each in models[4].parameters():
                    each.fill_(50.0)
            for number, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
                train_step(model, optimizer, 10 * peers[number].hook.steps + number)
            return all(each.faults.get("apart", 0) >= 3 for each in peers[:4])

        wait_until(all_have_noticed, "three swaps of each with the one that stands apart")
        honest_PN = torch.stack([parameters_N(each) for each in models[:4]])
    assert float(honest_PN.abs().max()) < 5
    assert float(honest_PN.std(dim=0).norm()) < 1
    assert '"kind": "apart"' in (tmp_path / "events.jsonl").read_text()


def test_a_correction_waits_for_the_hook() -> None:
    """A partner's swap changes nothing here until our own optimizer steps."""
    first, second = small_model(1), small_model(2)
    with a_peer(first) as founder, a_peer(second, (founder.address,)) as joiner:
        assert joiner.wait_for_peers(2, 10.0)
        with torch.no_grad():
            for each in second.parameters():
                each.add_(1.0)
        before_N = parameters_N(first).clone()
        joiner.step()
        wait_until(lambda: founder._mailbox.has_work, "a correction for the founder")
        assert torch.equal(before_N, parameters_N(first))
        founder.step()
        torch.testing.assert_close(before_N + 0.5, parameters_N(first))


def test_leaving_is_told_to_the_others() -> None:
    """A polite leave is seen as left, never as down."""
    first, second = small_model(1), small_model(2)
    with a_peer(first) as founder:
        with a_peer(second, (founder.address,)) as joiner:
            gone = joiner.identity.peer
        wait_until(
            lambda: (
                Status.LEFT in [each.status for each in founder.view.members if each.peer == gone]
            ),
            "the joiner has left",
        )


def test_another_model_is_refused_with_the_tensor_that_differs() -> None:
    """Nothing is mixed, and the message names the first difference."""
    with (
        a_peer(small_model(1)) as founder,
        pytest.raises(LayoutMismatch, match=r"0\.weight"),
        a_peer(small_model(1, width=5), (founder.address,)),
    ):
        pytest.fail("a peer with another model has joined")


def test_an_unreachable_contact_is_a_join_error() -> None:
    """Nobody listens on port 1: the error says so and the model is untouched."""
    settings = PeerConfig(protocol=QUICK, join_timeout_s=1.0)
    model = small_model(1)
    peer = join(model, SGD(model.parameters(), 0.1), contacts=["127.0.0.1:1"], settings=settings)
    with pytest.raises(JoinError, match=r"127\.0\.0\.1:1 \(refused\)"), peer:
        pytest.fail("joined nobody")


def test_an_error_names_those_that_were_named(tmp_path: Path) -> None:
    """Not whom an earlier life met, which were tried as well."""
    save_contacts(tmp_path, ("127.0.0.1:2",))
    settings = PeerConfig(protocol=QUICK, folder=tmp_path, join_timeout_s=2.5)
    model = small_model(1)
    peer = join(model, SGD(model.parameters(), 0.1), contacts=["127.0.0.1:1"], settings=settings)
    with pytest.raises(JoinError, match=r"127\.0\.0\.1:1 \(refused\);"), peer:
        pytest.fail("joined nobody")
    assert {"127.0.0.1:1", "127.0.0.1:2"} == set(peer._contact_failures)


def test_another_run_is_not_joined() -> None:
    """Peers of another run are strangers, and the error suggests that."""
    settings = PeerConfig(protocol=QUICK)
    model = small_model(1)
    with a_peer(small_model(1), run="blue") as founder:
        optimizer = SGD(model.parameters(), 0.1)
        settings = replace(settings, join_timeout_s=1.0)
        peer = join(model, optimizer, run="green", contacts=[founder.address], settings=settings)
        with pytest.raises(JoinError, match="run 'green'"), peer:
            pytest.fail("joined another run")
        wait_until(lambda: founder.faults.get("run", 0) > 0, "a counted fault")


def test_a_port_in_use_is_named() -> None:
    """The second peer on a port is told which port it is."""
    model = small_model(1)
    with a_peer(small_model(1)) as founder:
        port = founder.address.rpartition(":")[2]
        peer = join(model, SGD(model.parameters(), 0.1), listen=f"127.0.0.1:{port}")
        with pytest.raises(TransportError, match=port), peer:
            pytest.fail("two peers on one port")


def test_a_restarted_peer_finds_its_swarm_by_itself(tmp_path: Path) -> None:
    """Contacts met in an earlier life are tried when none is given, and the boot rises."""
    first, second = small_model(1), small_model(2)
    with a_peer(first) as founder:
        with a_peer(second, (founder.address,), folder=tmp_path) as joiner:
            earlier = joiner.identity
            wait_until((tmp_path / "contacts.json").exists, "contacts on disk")
        with a_peer(small_model(4), folder=tmp_path) as again:
            assert founder.view.lineage == again.view.lineage
            assert earlier.peer == again.identity.peer
            assert earlier.boot < again.identity.boot


def test_a_restarted_peer_finds_its_swarm_though_the_one_named_is_gone(tmp_path: Path) -> None:
    """Started by the same command as before, it knows the others from its folder."""
    with ExitStack() as later:
        with a_peer(small_model(1)) as founder:
            named = (founder.address,)
            stays = later.enter_context(a_peer(small_model(2), named))
            with a_peer(small_model(3), named, folder=tmp_path):
                wait_until(
                    lambda: stays.address in load_contacts(tmp_path, founder.address),
                    "the other's address on disk",
                )
        with a_peer(small_model(4), named, folder=tmp_path) as again:
            assert stays.view.lineage == again.view.lineage


def test_a_journal_of_a_live_peer_repeats_every_decision(tmp_path: Path) -> None:
    """Fed to a fresh core, the inputs ask for exactly the same effects."""
    first, second = small_model(1), small_model(2)
    settings = PeerConfig(protocol=QUICK, journal=True)
    with (
        a_peer(first, folder=tmp_path, settings=settings) as founder,
        a_peer(second, (founder.address,)) as joiner,
    ):
        assert joiner.wait_for_peers(2, 10.0)

        def swapped() -> bool:
            joiner.step()
            founder.step()
            return founder.tally.swaps >= 3

        wait_until(swapped, "three swaps")
    (journal,) = tmp_path.glob("journal-*.bin")
    steps = list(replay(journal))
    assert len(steps) > 20
    assert [] == [step for step in steps if not step.same]


def test_listening_to_strangers_needs_a_key_or_a_word() -> None:
    """Beyond loopback, without key or insecure: refused before any socket is open."""
    model = small_model(1)
    peer = join(model, SGD(model.parameters(), 0.1), listen="0.0.0.0:0")
    with pytest.raises(UsageError, match="--key"), peer:
        pytest.fail("listening to strangers")


def test_wrapped_optimizers_are_unwrapped() -> None:
    """Accelerate and others keep the real optimizer in ``.optimizer``."""

    class Wrapper:
        def __init__(self, optimizer: object) -> None:
            self.optimizer = optimizer

    inner = SGD(nn.Linear(1, 1).parameters(), 0.1)
    assert inner is hookable(Wrapper(Wrapper(inner)))  # type: ignore[arg-type] # as users do
    with pytest.raises(UsageError, match="not a torch optimizer"):
        hookable(Wrapper(3))  # type: ignore[arg-type] # as users do


@pytest.mark.parametrize(
    "host, expected",
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("gpu-1", False)],
)
def test_loopback_is_told_from_the_world(host: str, expected: bool) -> None:
    """Names that are not certainly this machine count as the world."""
    assert expected == is_loopback(host)

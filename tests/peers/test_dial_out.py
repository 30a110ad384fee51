"""A peer that nobody can dial takes part on both planes, over the links that it opens."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from gossip.errors import UsageError
from gossip.machine import LinkCause
from gossip.messages import Ping
from gossip.transport.keys import CurveKeys
from gossip.transport.transport import Arrived, ChunkArrived, LinkClosed, LinkOpened
from gossip.transport.zeromq import ZeroMQTransport, generate_run_key
from peers.peer import Peer as JoinedPeer
from peers.peer import join
from peers.settings import PeerConfig
from tests.gossip.transport.network import A, B, Peer, chunk_of, link, loopback, until
from tests.lab.peers import QUICK, a_peer, parameters_N, small_model, wait_until


@pytest.mark.parametrize("key", [None, generate_run_key()], ids=["open", "encrypted"])
def test_both_planes_lead_back_over_the_links_it_opened(key: CurveKeys | None) -> None:
    """It has no address to tell, and gets messages and chunks all the same."""
    hidden = Peer(ZeroMQTransport(A, 1, "test", "127.0.0.1:0", curve=key, dialable=False))
    try:
        with loopback(B, curve=key) as (b,):
            assert ("", "") == (hidden.transport.control_address, hidden.transport.bulk_address)
            link(hidden, b, B)
            until(lambda: LinkOpened(B) in hidden.events, hidden, b)
            assert hidden.transport.send(B, Ping(1, 1))
            until(lambda: b.messages(), hidden, b)
            payload = memoryview(bytes(1 << 20))
            chunk = chunk_of(bytes(payload))
            until(lambda: b.transport.send_chunk(A, chunk, payload), hidden, b)
            assert b.transport.send(A, Ping(2, 1))
            until(lambda: hidden.messages() and hidden.all(ChunkArrived), hidden, b)
    finally:
        hidden.transport.close()


def test_whoever_it_dialed_is_told_of_its_link() -> None:
    """Nobody can dial it to see whether it lives: the link it opened is the witness."""
    with loopback(B) as (b,):
        for life in (1, 2):
            hidden = Peer(ZeroMQTransport(A, life, "test", "127.0.0.1:0", dialable=False))
            link(hidden, b, B)
            for number in range(3):
                until(lambda: hidden.transport.send(B, Ping(number, 1)), hidden, b)  # noqa: B023 called before the next round
            until(lambda: b.all(LinkOpened) and len(b.messages()) == 3, hidden, b)
            hidden.transport.close()
            until(lambda: b.all(LinkClosed), b)
            assert [LinkOpened(A), Arrived(A, Ping(0, 1))] == b.events[:2]
            assert [LinkClosed(A, LinkCause.CLOSED)] == b.all(LinkClosed)
            assert 1 == len(b.all(LinkOpened))
            assert {} == b.transport.counters.faults
            b.events.clear()


def test_it_swaps_in_both_roles() -> None:
    """Offers of its own, and offers that others bring over its links."""
    first, second = small_model(1), small_model(2)
    hiding = PeerConfig(protocol=QUICK, dial_out=True)
    with (
        a_peer(first, every=1) as founder,
        a_peer(second, (founder.address,), every=1, settings=hiding) as hidden,
    ):
        assert "" == hidden.address
        assert hidden.wait_for_peers(2, 10.0)
        for one, other in ((hidden, founder), (founder, hidden)):
            before = one.tally.swaps

            def begun_by(one: JoinedPeer, other: JoinedPeer, before: int) -> bool:
                one.step()
                other.hook.apply_queued()
                return one.tally.swaps > before

            swapped = partial(begun_by, one, other, before)
            wait_until(swapped, "a swap begun by one of them")
        theirs = [each for each in founder.view.members if each.peer == hidden.identity.peer]
        assert [("", "")] == [(each.control_address, each.bulk_address) for each in theirs]


def test_without_a_contact_it_says_that_nobody_can_come(tmp_path: Path) -> None:
    """It would be alone for ever; nor does an empty folder remember anybody."""
    for folder in (None, tmp_path):
        settings = PeerConfig(protocol=QUICK, dial_out=True, folder=folder)
        peer = join(small_model(1), None, settings=settings)
        with pytest.raises(UsageError, match="needs a contact"), peer:
            pytest.fail("founded a run nobody can join")


def test_what_contradicts_dialing_out_is_refused() -> None:
    """An address to tell others, which would lead nowhere."""
    with pytest.raises(UsageError, match="nothing to advertise"):
        PeerConfig(dial_out=True, advertise="example.org")


def test_listening_nowhere_is_another_way_to_say_it() -> None:
    """``listen=None`` in ``join``."""
    model = small_model(1)
    with a_peer(small_model(2)) as founder:
        settings = PeerConfig(protocol=replace(QUICK, run="test"))
        with join(
            model, None, run="test", contacts=[founder.address], listen=None, settings=settings
        ) as hidden:
            assert "" == hidden.address
            assert torch.equal(parameters_N(model), parameters_N(founder._model))

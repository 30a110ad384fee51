"""Stopping at awkward moments: while joining, while finalising, with a swap half done."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import torch
from torch.optim import SGD

from gossip.errors import StoppedError, UsageError
from gossip.machine import SwapClosed
from gossip.messages import Outcome
from peers.peer import Peer, join
from peers.settings import PeerConfig
from tests.lab.peers import QUICK, a_peer, parameters_N, small_model, wait_until


def test_a_peer_told_to_stop_does_not_go_on_joining() -> None:
    """It ends at once, not at the join timeout."""
    model = small_model(1)
    settings = PeerConfig(protocol=QUICK, join_timeout_s=60.0)
    began_s = time.monotonic()
    peer = Peer(
        model,
        SGD(model.parameters(), 0.1),
        ["127.0.0.1:1"],
        settings,
        1,
        stop=lambda: time.monotonic() > began_s + 0.3,
    )
    with pytest.raises(StoppedError), peer:
        pytest.fail("joined nobody")
    assert time.monotonic() - began_s < 10.0


def test_a_peer_told_to_stop_does_not_go_on_finalising() -> None:
    """Its partner never answers swaps; stopping ends the wait."""
    first, second = small_model(1), small_model(2)
    stopping = False
    with a_peer(first) as founder:
        protocol = replace(QUICK, run="test")
        settings = PeerConfig(protocol=protocol, join_timeout_s=10.0)
        peer = Peer(
            second,
            SGD(second.parameters(), 0.1),
            [founder.address],
            settings,
            1,
            stop=lambda: stopping,
        )
        with peer:
            assert peer.wait_for_peers(2, 10.0)
            stopping = True
            began_s = time.monotonic()
            assert not peer.finalise(together=True)
            assert time.monotonic() - began_s < 2.0


def test_leaving_applies_what_is_still_queued() -> None:
    """A correction that came after the last step is kept, and its initiator hears Done."""
    first, second = small_model(1), small_model(2)
    with a_peer(first) as founder, a_peer(second, (founder.address,)) as joiner:
        closed: list[SwapClosed] = []
        watch = joiner._daemon
        assert watch is not None
        report = watch.outbox.report

        def note(each: object) -> None:
            if isinstance(each, SwapClosed):
                closed.append(each)
            report(each)  # type: ignore[arg-type] # whatever the daemon reports

        watch.outbox.report = note
        assert joiner.wait_for_peers(2, 10.0)
        with torch.no_grad():
            for each in second.parameters():
                each.add_(1.0)
        before_N = parameters_N(first).clone()
        joiner.step()
        wait_until(lambda: founder._mailbox.has_work, "a correction for the founder")
        leaving = threading.Thread(target=founder.leave)
        leaving.start()

        def settled() -> bool:
            joiner.hook.apply_queued()
            return bool(closed)

        wait_until(settled, "the swap is settled")
        leaving.join(timeout=20.0)
        assert Outcome.APPLIED is closed[0].outcome
        torch.testing.assert_close(before_N + 0.5, parameters_N(first))
        assert 0 == joiner.tally.one_sided + founder.tally.one_sided


def test_a_loop_without_a_torch_optimizer_steps_by_hand() -> None:
    """``join(model, None)`` puts no hook anywhere."""
    model = small_model(1)
    with join(model, None, samples_per_step=4, settings=PeerConfig(protocol=QUICK)) as peer:
        peer.step()
        peer.step(samples=6)
        assert (2, 10) == (peer.hook.steps, peer.hook.samples)


def test_a_peer_outside_its_block_says_so() -> None:
    """Not an attribute error."""
    model = small_model(1)
    with pytest.raises(UsageError, match="with block"):
        _ = join(model, None).view

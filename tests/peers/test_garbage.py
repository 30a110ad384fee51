"""What strangers may throw at a live peer: it counts each kind and goes on training."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Callable

import pytest
import zmq
from torch.optim import SGD

from gossip.messages import Gossip, PeerId, Record, Rumors, Status
from gossip.wire.frames import encode_control, run_digest
from peers.peer import Peer, join
from peers.settings import PeerConfig
from tests.lab.peers import QUICK, small_model, train_step, wait_until

STRANGER = PeerId("00000000000000ff")


def _send(address: str, frame: bytes) -> None:
    """One frame over a proper ZeroMQ connection with a proper routing id."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.ROUTING_ID, f"{STRANGER}:1:{0xABCD:016x}".encode())
        dealer.setsockopt(zmq.LINGER, 2000)
        dealer.connect(f"tcp://{address}")
        dealer.send(frame)


def _good_frame(run: str) -> bytes:
    return encode_control(run_digest(run), STRANGER, Gossip(Rumors()))


def _read_until_cut(raw: socket.socket) -> None:
    raw.settimeout(5.0)
    with contextlib.suppress(ConnectionResetError):
        while raw.recv(4096):
            pass


def _random_bytes(address: str) -> None:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5.0) as raw:
        raw.sendall(random.Random(5).randbytes(4096))
        _read_until_cut(raw)


def _half_closed(address: str) -> None:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5.0) as raw:
        raw.sendall(b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f")
        raw.shutdown(socket.SHUT_WR)
        _read_until_cut(raw)


def _wrong_version(address: str) -> None:
    frame = bytearray(_good_frame("garbage"))
    frame[4:6] = b"\xff\xff"
    _send(address, bytes(frame))


def _wrong_run(address: str) -> None:
    _send(address, _good_frame("another run"))


def _wrong_magic(address: str) -> None:
    _send(address, b"HTTP" + _good_frame("garbage")[4:])


def _noise_in_a_frame(address: str) -> None:
    _send(address, _good_frame("garbage")[:-3] + os.urandom(3))


def _address_no_socket_takes(address: str) -> None:
    records = tuple(
        Record(PeerId(f"{number:016x}"), 1, 0, Status.ALIVE, f"{host}:80", f"{host}:81")
        for number, host in enumerate(("-a", "_a", ".a"), 1)
    )
    _send(address, encode_control(run_digest("garbage"), STRANGER, Gossip(Rumors(records))))


def _oversized(address: str) -> None:
    _send(address, bytes(16 << 20))


@pytest.fixture
def peer_and_step() -> object:
    """A live peer, and a way to train one step."""
    model = small_model(1)
    optimizer = SGD(model.parameters(), 0.05)
    peer = join(model, optimizer, run="garbage", every=1, settings=PeerConfig(protocol=QUICK))
    with peer:
        yield peer, lambda: train_step(model, optimizer, peer.hook.steps)


@pytest.mark.parametrize(
    "attack, kinds",
    [
        (_random_bytes, {"handshake"}),
        (_half_closed, {"handshake"}),
        (_wrong_version, {"version"}),
        (_wrong_run, {"run"}),
        (_wrong_magic, {"magic"}),
        (_noise_in_a_frame, {"shape", "length"}),
        (_address_no_socket_takes, {"address"}),
        (_oversized, {"length"}),
    ],
)
def test_garbage_is_counted_and_training_goes_on(
    peer_and_step: tuple[Peer, Callable[[], None]],
    attack: Callable[[str], None],
    kinds: set[str],
) -> None:
    """Each kind raises its own counter; the peer then still trains and answers."""
    peer, step = peer_and_step
    step()
    attack(peer.address)
    wait_until(lambda: any(peer.faults.get(kind) for kind in kinds), f"a fault among {kinds}")
    before = peer.hook.steps
    step()
    assert before + 1 == peer.hook.steps
    joiner_model = small_model(2)
    joiner = join(
        joiner_model,
        SGD(joiner_model.parameters(), 0.05),
        run="garbage",
        contacts=[peer.address],
        settings=PeerConfig(protocol=QUICK),
    )
    with joiner:
        assert peer.view.lineage == joiner.view.lineage

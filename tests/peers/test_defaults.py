"""What a peer does when nobody says otherwise: as often as the link carries, in four bits."""

from __future__ import annotations

import argparse

import pytest
import torch

import peers
from gossip.config import Config
from gossip.errors import UsageError
from gossip.mixing.outer import OuterStep
from peers.cli.flags import add_task_flags, cadence, protocol_config
from peers.hook import AUTO, RARE_EVERY, Cadence
from peers.settings import PeerConfig
from simulations.local.command import run_arguments


def flags(*words: str) -> argparse.Namespace:
    """As ``gossip run`` and ``gossip local`` read them."""
    parser = argparse.ArgumentParser()
    add_task_flags(parser)
    return parser.parse_args(["line", *words])


def codecs(config: Config) -> tuple[str, str]:
    """Of both legs."""
    return config.exchange.codec, config.exchange.reply_codec


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), ("wrap4", "int4")),
        (("--clip=2",), ("int8", "int8")),
        (("--codec=wrap3",), ("wrap3", "int2")),
        (("--codec=wrap8", "--reply-codec=int4"), ("wrap8", "int4")),
        (("--codec=bf16",), ("bf16", "bf16")),
    ],
)
def test_codecs_of_the_command(words: tuple[str, ...], expected: tuple[str, str]) -> None:
    """What was said wins; a clip needs offers that do not wrap."""
    assert codecs(protocol_config(flags(*words))) == expected


def test_cadence_of_the_command() -> None:
    """Auto, but rare with an outer step; and peers of a local run are told the same."""
    assert cadence(flags()) == Cadence(AUTO)
    assert cadence(flags("--strategy=gossip-nesterov")) == Cadence(25)
    assert cadence(flags("--strategy=gossip-nesterov", "--every=auto")) == Cadence(AUTO)
    assert cadence(flags("--every=7")) == Cadence(7)
    assert cadence(flags("--every=7", "--early=100")) == Cadence(7, early_steps=100)
    for every in ("--every=auto", "--every=1"):
        with pytest.raises(UsageError, match="--early with --every"):
            cadence(flags(every, "--early=100"))
    assert not any(word.startswith("--every") for word in run_arguments(flags()))
    assert "--every=auto" in run_arguments(flags("--every=auto"))
    assert "--every=7" in run_arguments(flags("--every=7"))


def test_settings_of_join() -> None:
    """The same as the command's; wrong mixtures that somebody asked for are refused."""
    assert codecs(PeerConfig().protocol) == ("wrap4", "int4")
    assert codecs(PeerConfig(clip=2.0).protocol) == ("int8", "int8")
    with pytest.raises(UsageError, match="offer int8"):
        PeerConfig(clip=2.0, protocol=PeerConfig().protocol_for(256))
    model = torch.nn.Linear(2, 2)
    with peers.join(model, None, settings=PeerConfig(clip=2.0)) as peer:
        assert peer.hook.cadence.swap_every == AUTO
    outer = PeerConfig(outer=OuterStep(0.8, 0.7))
    with peers.join(model, None, settings=outer) as peer:
        assert peer.hook.cadence.swap_every == RARE_EVERY
    with peers.join(model, None, settings=outer, every="auto") as peer:
        assert peer.hook.cadence.swap_every == AUTO


@pytest.mark.parametrize(
    ("size_bytes", "fragments"),
    [(4, 1), (50_000_000, 1), (50_000_004, 2), (500_000_000, 10), (4_000_000_000, 16)],
)
def test_models_above_50_mb_are_swapped_in_fragments(size_bytes: int, fragments: int) -> None:
    """Of at most 50 MB of fp32 each, 16 at most; unless somebody says how many."""
    elements = size_bytes // 4
    assert PeerConfig().protocol_for(elements).exchange.fragments == fragments
    assert PeerConfig(fragments=3).protocol_for(elements).exchange.fragments == 3

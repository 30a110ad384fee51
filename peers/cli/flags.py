"""Flags that several sub-commands share, and what their values mean."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from gossip.codecs import OFFER_CODECS, REPLY_CODECS, check_pair
from gossip.config import Config, ExchangeConfig, FinishConfig
from gossip.errors import UsageError
from gossip.messages import CHUNK_BYTES_MAX
from gossip.mixing.outer import OuterStep
from peers.hook import AUTO, RARE_EVERY, Cadence, usual_every
from peers.rate import GOSSIP_FACTOR, RateRule
from peers.settings import CLIPPED_CODEC, USUAL

STRATEGIES = {"average": OuterStep(), "gossip-nesterov": OuterStep(0.8, 0.7)}
"""Plain gossip averaging, and the outer step for rare swaps (after DiLoCo, Douillard et al., 2023).

a = 0.8 and b = 0.7 were the best of a small sweep; DiLoCo's own are 0.9 and 0.7."""


USUAL_REPLIES = {"wrap4": "int4", "wrap8": "int8", "wrap3": "int2"}
"""What answers a code that cannot be used for both legs."""


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be above 0")
    return value


def count(text: str) -> int:
    """A whole number above 0."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return value


def steps_or_auto(text: str) -> int:
    """A whole number above 0, or ``auto``."""
    return AUTO if text == "auto" else count(text)


def upload_rate(text: str) -> float:
    """MB/s; slower than the protocol has patience for is refused."""
    value = positive(text)
    try:
        ExchangeConfig(upload_bytes_per_s=value * 1e6)
    except UsageError:
        least = math.ceil(2 * CHUNK_BYTES_MAX / ExchangeConfig().withdraw_after_s / 1e4) / 100
        raise argparse.ArgumentTypeError(f"{text} must be at least {least} MB/s") from None
    return value


def address(text: str) -> str:
    """HOST:PORT."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return text


def option(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def add_task_flags(parser: argparse.ArgumentParser) -> None:
    """What to train and how to mix."""
    parser.add_argument(
        "task", metavar="TASK", help="digits, line, mnist, recommender, text, or FILE.py:task"
    )
    parser.add_argument(
        "-o",
        "--option",
        "--set",
        action="append",
        type=option,
        default=[],
        metavar="NAME=VALUE",
        help="an option of a built-in task, such as -o skew=label (repeatable)",
    )
    parser.add_argument("--run", help="name of the run; peers of other runs are strangers")
    parser.add_argument("--samples", type=count, help="stop when the whole swarm saw so many")
    parser.add_argument("--seconds", type=positive, help="stop this peer after so long")
    parser.add_argument("--pace", type=positive, metavar="STEPS/S", help="at most so many steps/s")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N (default: auto)")
    parser.add_argument("--seed", type=int, default=0, help="of the founder's initial model")
    parser.add_argument("--threads", type=count, help="torch threads (default: torch's own)")
    _add_swap_flags(parser)
    parser.add_argument(
        "--finalise",
        type=positive,
        default=20.0,
        metavar="S",
        help="agree for at most so long at the end (default: 20)",
    )


def _add_swap_flags(parser: argparse.ArgumentParser) -> None:
    """When to swap, what, and how it is coded."""
    parser.add_argument(
        "--every",
        type=steps_or_auto,
        metavar="STEPS",
        help="steps between swaps, or auto: as often as link and byte budget allow, while hooks "
        f"take little of the time (default: auto; {RARE_EVERY} for gossip-nesterov)",
    )
    parser.add_argument(
        "--early",
        type=count,
        metavar="STEPS",
        help="swap twice as often as --every says for so many of this peer's first steps: while a "
        "model moves fast a swap is worth most (default: no)",
    )
    parser.add_argument(
        "--codec",
        choices=OFFER_CODECS,
        help="how a model is offered; wrap4 and wrap8 send what a partner needs to see how far it "
        f"is, in 4 or 8 bits (default: {USUAL.exchange.codec}; {CLIPPED_CODEC} with --clip)",
    )
    parser.add_argument(
        "--reply-codec",
        choices=REPLY_CODECS,
        help="how the difference is answered (default: "
        + ", ".join(f"{reply} for {offer}" for offer, reply in USUAL_REPLIES.items())
        + ", else as --codec)",
    )
    parser.add_argument(
        "--strategy",
        choices=tuple(STRATEGIES),
        default="average",
        help="what a swap does to the model (default: average)",
    )
    parser.add_argument(
        "--outer-every",
        type=count,
        metavar="STEPS",
        help="steps between outer steps of gossip-nesterov (default: as --every)",
    )
    parser.add_argument(
        "--fragments",
        type=count,
        help="slices swapped in turn (default: one up to 50 MB of parameters, else more)",
    )
    parser.add_argument(
        "--clip",
        type=positive,
        metavar="KAPPA",
        help="take no correction beyond KAPPA times this peer's own usual update, nor any from a "
        "peer that stands apart where nearly all others are near (default: any); "
        f"this peer then offers {CLIPPED_CODEC}, and others may do as they like",
    )
    parser.add_argument(
        "--rate-rule",
        choices=[rule.value for rule in RateRule],
        default=RateRule.KEEP.value,
        help="gossip: while others share the model, multiply the optimizer's rate, which is right "
        f"for one machine alone, by up to {GOSSIP_FACTOR:g} (SGD: by 1); keep: leave it (default)",
    )
    parser.add_argument(
        "--upload",
        type=upload_rate,
        metavar="MB/S",
        help="send at most so many MB of chunks a second",
    )


def protocol_config(flags: argparse.Namespace) -> Config:
    """The protocol's config that the flags ask for. Raises UsageError where codecs do not match."""
    codec = flags.codec or (CLIPPED_CODEC if flags.clip else USUAL.exchange.codec)
    reply_codec = flags.reply_codec or USUAL_REPLIES.get(codec, codec)
    check_pair(codec, reply_codec)
    exchange = ExchangeConfig(
        codec=codec,
        reply_codec=reply_codec,
        upload_bytes_per_s=float("inf") if flags.upload is None else flags.upload * 1e6,
    )
    finish = FinishConfig(deadline_s=flags.finalise)
    return Config(run=flags.run or flags.task, exchange=exchange, finish=finish)


def cadence(flags: argparse.Namespace) -> Cadence:
    """How often to swap and to publish."""
    if flags.outer_every is not None and flags.strategy == "average":
        raise UsageError("--outer-every needs --strategy gossip-nesterov")
    every = usual_every(STRATEGIES[flags.strategy]) if flags.every is None else flags.every
    return Cadence(every, flags.outer_every or 0, flags.early or 0)


def outer(flags: argparse.Namespace) -> OuterStep:
    """The outer step of the chosen strategy."""
    return STRATEGIES[flags.strategy]


def existing_folder(text: str) -> Path:
    """A folder, made if it is not there. Raises UsageError when it cannot be."""
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as wrong:
        raise UsageError(f"cannot make the folder {path}: {wrong.strerror}") from wrong
    return path

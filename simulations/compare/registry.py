"""Methods by name, with options as a user types them: ``diloco:every=25,a=0.9``.

Options not given have the values that their papers, or our sweeps, found best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from itertools import product
from typing import Final

from gossip.errors import UsageError
from simulations.compare.baselines import (
    AsyncServer,
    DiLoCo,
    NoLoCo,
    PeriodicAverage,
    SharedBatch,
    all_reduce_messages,
)
from simulations.compare.field import Method
from simulations.compare.gossiping import Gossip, GossipSettings
from simulations.compare.partners import Meeting
from simulations.compare.strategies import Accelerated, Pull, PushSumGossip, Rule

Options = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Spec:
    """One method as asked for: ``text`` is its name as typed, ``curve`` what decides how it trains
    (methods that differ in bytes alone share it; so do options typed in another order, or left at
    their defaults)."""

    text: str
    name: str
    options: tuple[tuple[str, str], ...]

    @property
    def curve(self) -> str:
        """Equal for two methods exactly if they train the same."""
        if self.name in SAME_CURVE:
            return SAME_CURVE[self.name]
        defaults = METHODS[self.name].defaults
        told = [f"{key}={value}" for key, value in self.options if value != defaults[key]]
        return f"{self.name}:{','.join(told)}" if told else self.name


@dataclass(frozen=True, slots=True)
class _Entry:
    """How one method is made for N peers, and what its options are by default."""

    make: Callable[[int, Mapping[str, str]], Method]
    defaults: dict[str, str]
    summary: str


def _ddp(peers: int, options: Options) -> Method:
    del options
    return SharedBatch(2 * (peers - 1) / peers, messages=all_reduce_messages(peers))


def _single(peers: int, options: Options) -> Method:
    del peers, options
    return SharedBatch(0.0, messages=0)


def _server(peers: int, options: Options) -> Method:
    del peers, options
    return SharedBatch(1.0, messages=2)


def _server_async(peers: int, options: Options) -> Method:
    del peers, options
    return AsyncServer()


def _local_sgd(peers: int, options: Options) -> Method:
    del peers
    return PeriodicAverage(_whole(options, "every"))


def _group(peers: int, options: Options) -> Method:
    return PeriodicAverage(
        _whole(options, "every"), min(_whole(options, "size"), peers), bytes_per_element=1.0
    )


def _diloco(peers: int, options: Options) -> Method:
    del peers
    return DiLoCo(_whole(options, "every"), _number(options, "a"), _number(options, "b"))


def _noloco(peers: int, options: Options) -> Method:
    del peers
    return NoLoCo(_whole(options, "every"), _number(options, "a"), _number(options, "b"))


def _gossip(peers: int, options: Options) -> Method:
    del peers
    return Gossip(
        GossipSettings(
            every=_whole(options, "every"),
            fragments=_whole(options, "fragments"),
            early=_number(options, "early"),
            offer=options["offer"],
            reply=options["reply"],
            a=_number(options, "a"),
            b=_number(options, "b"),
            meeting=_meeting(options["meeting"]),
            momentum=options["momentum"],
            weight=_number(options, "weight"),
            clip=_number(options, "clip"),
            dither=_flag(options, "dither"),
            delay=_whole(options, "delay"),
            attempts=_whole(options, "attempts"),
        )
    )


def _accelerated(peers: int, options: Options) -> Method:
    del peers
    return Accelerated(_whole(options, "every"), _number(options, "mu"))


def _push_sum(peers: int, options: Options) -> Method:
    del peers
    return PushSumGossip(_whole(options, "every"))


def _pull(peers: int, options: Options) -> Method:
    del peers
    if options["rule"] not in [each.value for each in Rule]:
        raise UsageError(f"rule={options['rule']!r} must be trimmed or nearest")
    count, liars = _whole(options, "count"), _whole(options, "liars")
    return Pull(_whole(options, "every"), count, liars, Rule(options["rule"]))


def _gossip_defaults(**changed: str) -> dict[str, str]:
    plain = GossipSettings()
    values = {each.name: getattr(plain, each.name) for each in fields(GossipSettings)}
    shown = {
        key: value.value if isinstance(value, Meeting) else str(value).lower()
        for key, value in values.items()
    }
    return {**shown, **changed}


_PERIODIC = {"every": "25"}
METHODS: Final[dict[str, _Entry]] = {
    "ddp": _Entry(_ddp, {}, "all-reduced gradients at every step"),
    "single": _Entry(_single, {}, "one machine with N times the batch"),
    "server": _Entry(_server, {}, "a parameter server that waits for everybody"),
    "server-async": _Entry(_server_async, {}, "a parameter server that waits for nobody"),
    "local-sgd": _Entry(_local_sgd, _PERIODIC, "local steps, then the mean of all (Spark style)"),
    "group": _Entry(
        _group, {**_PERIODIC, "size": "4"}, "means of random groups in 8 bits (hivemind style)"
    ),
    "diloco": _Entry(_diloco, {**_PERIODIC, "a": "0.9", "b": "0.7"}, "outer Nesterov steps"),
    "noloco": _Entry(_noloco, {**_PERIODIC, "a": "0.5", "b": "0.7"}, "outer steps of pairs"),
    "gossip": _Entry(_gossip, _gossip_defaults(), "ours: swaps with one neighbor at a time"),
    "gossip-nesterov": _Entry(
        _gossip, _gossip_defaults(every="25", a="0.8", b="0.7"), "ours, for rare swaps"
    ),
    "gasloc": _Entry(_accelerated, {"every": "1", "mu": "0.3"}, "pairs, with momentum between"),
    "push-sum": _Entry(_push_sum, {"every": "1"}, "one-way pushes, exact mass"),
    "pull": _Entry(
        _pull,
        {"every": "1", "count": "4", "liars": "1", "rule": "trimmed"},
        "robust means of several pulled models",
    ),
}
"""All there are."""

SAME_CURVE: Final = {"ddp": "shared batch", "single": "shared batch", "server": "shared batch"}
"""Methods that compute the same and differ in what they send."""

DEFAULT_METHODS: Final = (
    "ddp",
    "local-sgd",
    "group",
    "diloco",
    "noloco",
    "gossip",
    "gossip:offer=wrap3,reply=int2,fragments=5,early=0.64",
)


def read_spec(text: str) -> Spec:
    """A method as typed. Raises UsageError for an unknown name or option."""
    name, _, rest = text.partition(":")
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}; known are {', '.join(METHODS)}")
    known = METHODS[name].defaults
    options: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if key not in known or not equals:
            shown = ", ".join(f"{each}={default}" for each, default in known.items()) or "none"
            raise UsageError(f"method {name}: unknown option {part!r}; its options are {shown}")
        options[key] = value
    return Spec(text, name, tuple(sorted(options.items())))


def read_specs(text: str) -> list[Spec]:
    """Methods separated by spaces or semicolons; ``every=10|25`` stands for one with each value.

    Raises UsageError, also for none.
    """
    parts = text.replace(";", " ").split()
    specs = [read_spec(each) for part in parts for each in _alternatives(part)]
    if not specs:
        raise UsageError("no method given")
    return list(dict.fromkeys(specs))


def _alternatives(text: str) -> list[str]:
    """``diloco:every=10|25,a=.8`` as two methods."""
    name, colon, rest = text.partition(":")
    choices: list[list[str]] = []
    for part in rest.split(","):
        key, equals, values = part.partition("=")
        choices.append([f"{key}{equals}{value}" for value in values.split("|")])
    return [f"{name}{colon}{','.join(chosen)}" for chosen in product(*choices)]


def make_method(spec: Spec, peers: int) -> Method:
    """A fresh method for so many peers. Raises UsageError for values that make no sense."""
    entry = METHODS[spec.name]
    return entry.make(peers, {**entry.defaults, **dict(spec.options)})


def _whole(options: Options, key: str) -> int:
    try:
        return int(options[key])
    except ValueError:
        raise UsageError(f"{key}={options[key]!r} must be a whole number") from None


def _number(options: Options, key: str) -> float:
    try:
        return float(options[key])
    except ValueError:
        raise UsageError(f"{key}={options[key]!r} must be a number") from None


def _flag(options: Options, key: str) -> bool:
    if options[key] not in ("true", "false"):
        raise UsageError(f"{key}={options[key]!r} must be true or false")
    return options[key] == "true"


def _meeting(text: str) -> Meeting:
    try:
        return Meeting(text)
    except ValueError:
        known = ", ".join(each.value for each in Meeting)
        raise UsageError(f"meeting={text!r} must be one of {known}") from None

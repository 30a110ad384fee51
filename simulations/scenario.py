"""A scenario: how many peers, what network, which faults, and what must come of it.

Read strictly from TOML: a key that is not known, or a value of another type, is told in one line
with the key's name. The files that are shipped lie in ``scenarios/``.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import typing
from bisect import bisect_left
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

from gossip.errors import UsageError
from simulations.conditions import LAN, WAN, Conditions

SHIPPED = Path(__file__).parent / "scenarios"

ANY = "any"
"""In a file: no limit, where there is one unless it is given."""

IDLE_BYTES_PER_S = 2_000.0
"""Control bytes a second and peer once nothing has happened for a while, whatever N (M26)."""

Range = tuple[float, float]
"""Least and most; one number in a file means both."""


class Profile(StrEnum):
    """What the network is like before ``[conditions]`` changes it."""

    LAN = "lan"
    WAN = "wan"

    @property
    def conditions(self) -> Conditions:
        """The network of this name."""
        return WAN if self is Profile.WAN else LAN


class Start(StrEnum):
    """ACQUAINTED: everybody knows everybody. TOGETHER: all join through the first at once."""

    ACQUAINTED = "acquainted"
    TOGETHER = "together"


class FaultKind(StrEnum):
    """What can go wrong; see simulations/README.md."""

    CRASH = "crash"
    LOSE_HOST = "lose_host"
    REPLACE = "replace"
    RESTART_ALL = "restart_all"
    LEAVE = "leave"
    FREEZE = "freeze"
    STALL = "stall"
    CLOCK = "clock"
    CUT = "cut"
    CUT_ONE_WAY = "cut_one_way"
    LOSSY_LINK = "lossy_link"
    SPLIT = "split"
    ACCUSE = "accuse"


PATHS = (FaultKind.CUT, FaultKind.CUT_ONE_WAY, FaultKind.LOSSY_LINK)
"""What befalls a path between two peers."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault at a time, or one that comes again and again.

    at_s              when, in seconds from the start; or
    per_minute        so often on average, at random times until the calm begins; or
    share_per_minute  so many of all peers a minute, one at a time.
    count, share      how many peers are hit at once, or which share of all; or
    targets           which peers, by number: both ends of a path, one side of a split.
    for_s             how long it lasts (least, most); what lasts is over when the calm begins.
    restart_after_s   a process that ended begins again after so long (not given: never).
    disk              whether it remembers its boot number then, or the share of those that do.
    rate              pace of a clock, in seconds a second (least, most).
    loss              share of frames lost on a lossy link, one way.
    sides, bridge     of a split: how many there are, and how many peers stand on all of them.
    one_way           of a split: nothing passes from a later side to an earlier one, but frames do
                      the other way for as long as links stand.
    """

    kind: FaultKind
    at_s: float | None = None
    per_minute: float = 0.0
    share_per_minute: float = 0.0
    count: int = 1
    share: float = 0.0
    targets: tuple[int, ...] = ()
    for_s: Range = (5.0, 5.0)
    restart_after_s: Range | None = None
    disk: bool | float = True
    rate: Range = (0.99, 1.01)
    loss: float = 0.8
    sides: int = 2
    bridge: int = 0
    one_way: bool = False

    def __post_init__(self) -> None:
        times = [self.at_s is not None, self.per_minute > 0, self.share_per_minute > 0]
        _require(sum(times) == 1, "give one of at_s, per_minute and share_per_minute")
        _require(self.count >= 1, "count must be at least 1")
        _require(0 <= self.share <= 1, "share must be between 0 and 1")
        _require(0 <= self.disk <= 1, "disk must be true, false, or a share between 0 and 1")
        _require(0 < self.rate[0] <= self.rate[1], "rate must be above 0")
        _require(0 <= self.for_s[0] <= self.for_s[1], "for_s must not be negative")
        _require(0 <= self.loss <= 1, "loss must be between 0 and 1")
        if self.targets:
            self._check_targets()
        self._check_sides()

    def _check_sides(self) -> None:
        usual = (self.sides, self.bridge, self.one_way) == (2, 0, False)
        splits = self.kind is FaultKind.SPLIT
        _require(splits or usual, "sides, bridge and one_way belong to split")
        _require(self.sides >= 2, "sides must be at least 2")
        _require(self.bridge >= 0, "bridge must not be negative")
        _require(self.sides == 2 or not self.targets, "targets are one side of two")
        fits = self.sides == 2 or self.share * (self.sides - 1) < 1
        _require(fits, "share is that of each side but the first: together below 1")

    def _check_targets(self) -> None:
        targets = self.targets
        drawn = self.count != 1 or self.share > 0
        _require(not drawn, "give targets, or how many there are (count, share), not both")
        _require(min(targets) >= 0, "targets are numbers of peers, from 0")
        _require(len(targets) == len(set(targets)), "targets must be different peers")
        _require(self.kind is not FaultKind.RESTART_ALL, "restart_all hits everybody")
        _require(self.kind not in PATHS or len(targets) == 2, "a path has two targets, its ends")
        _require(self.kind is not FaultKind.ACCUSE or len(targets) == 1, "one target accuses")


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound that depends on how many peers there are.

    Given for some numbers of peers, rising; between them it goes with the logarithm of the
    number, beyond them it stays as it is.
    """

    points: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        _require(bool(self.points), "a limit by peers needs at least one number")
        sizes = [peers for peers, _ in self.points]
        _require(sizes[0] >= 1 and sizes == sorted(set(sizes)), "numbers of peers must rise from 1")

    def at(self, peers: int) -> float:
        """The bound for so many peers."""
        after = bisect_left(self.points, (peers, -math.inf))
        if after in (0, len(self.points)):
            return self.points[min(after, len(self.points) - 1)][1]
        (fewer, low), (more, high) = self.points[after - 1 : after + 1]
        share = math.log(peers / fewer) / math.log(more / fewer)
        return low + share * (high - low)


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come of it; what is not given is not asked for, but for the two limits below.

    false_downs             at most so many verdicts about peers that run.
    detect_p50_s, _p99_s    how soon 99 % of the peers that were there know of a lost life: for half
                            and for 99 % of all lost lives; where some only dial out, of those and
                            of the others, each by themselves.
    agree_s                 how soon after the calm began all agree on who is here.
    rounds_over_log2        in so many gossip rounds beyond log2 of the peers, rounded up, news of
                            any kind reaches everybody.
    idle_bytes_per_s        control bytes a second and peer at the end of the calm (``quiet_s``).
    messages_per_s          control messages a second and peer, then.
    gossip_messages         Gossip messages of all peers, then (quiescence: 0).

    Three may depend on the number of peers: ``{ 100 = 9, 1000 = 11 }`` in a file.
    """

    false_downs: int | None = 0
    detect_p50_s: float | Limit | None = None
    detect_p99_s: float | Limit | None = None
    agree_s: float | Limit | None = None
    rounds_over_log2: int | None = None
    idle_bytes_per_s: float | None = IDLE_BYTES_PER_S
    messages_per_s: float | None = None
    gossip_messages: int | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """See the module. ``calm_s`` is the last part of ``seconds``: nothing goes wrong in it, and at
    its end all that run must agree; traffic is measured in the last ``quiet_s`` of it.
    ``every_fault`` asks that each declared kind of fault really happens. ``dial_out_share`` of all
    peers, never the first, only dial out: nobody can open a link to them.
    """

    name: str
    summary: str
    peers: int
    seconds: float
    calm_s: float = 30.0
    quiet_s: float = 10.0
    profile: Profile = Profile.WAN
    start: Start = Start.ACQUAINTED
    dial_out_share: float = 0.0
    conditions: Conditions = field(default_factory=Conditions)
    every_fault: bool = True
    faults: tuple[Fault, ...] = ()
    expect: Expected = field(default_factory=Expected)

    def __post_init__(self) -> None:
        _require(self.peers >= 1, "peers must be at least 1")
        _require(0 <= self.calm_s <= self.seconds, "calm_s must be at most seconds")
        _require(0 <= self.quiet_s <= self.calm_s, "quiet_s must be at most calm_s")
        _require(0 <= self.dial_out_share <= 1, "dial_out_share must be between 0 and 1")
        for fault in self.faults:
            at_s = fault.at_s or 0.0
            late = f"{fault.kind} at {at_s:g} s comes when the calm has begun"
            _require(fault.at_s is None or at_s < self.calm_at_s, late)

    @property
    def calm_at_s(self) -> float:
        """When the calm begins."""
        return self.seconds - self.calm_s


def shipped() -> dict[str, Path]:
    """The scenarios that come along, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def load(name: str) -> Scenario:
    """A shipped scenario by name, or one from a file. Raises UsageError."""
    path = shipped().get(name, Path(name))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as wrong:
        known = ", ".join(shipped())
        raise UsageError(f"no scenario {name!r}: give a file or one of {known}") from wrong
    return parse(text, path.stem)


def parse(text: str, name: str) -> Scenario:
    """A scenario from TOML. Raises UsageError naming the key that is wrong."""
    try:
        table = tomllib.loads(text)
        return _scenario(table, name)
    except tomllib.TOMLDecodeError as wrong:
        raise UsageError(f"scenario {name}: not TOML: {wrong}") from wrong
    except UsageError as wrong:
        raise UsageError(f"scenario {name}: {wrong}") from wrong


def _scenario(table: dict[str, Any], name: str) -> Scenario:
    profile = Profile.WAN
    if "profile" in table:
        profile = _value(Profile, table["profile"], "profile")
    base = dataclasses.asdict(profile.conditions)
    changed = table.get("conditions", {})
    if not isinstance(changed, dict):
        raise UsageError("conditions must be a table")
    conditions = {**base, **changed}
    return _read(Scenario, {**table, "name": name, "conditions": conditions}, "")


Kind = TypeVar("Kind")


def _read(kind: type[Kind], table: Any, where: str) -> Kind:
    """One dataclass from one table."""
    if not isinstance(table, dict):
        raise UsageError(f"{where.rstrip('.')} must be a table")
    hints = typing.get_type_hints(kind)
    fields = {each.name: each for each in dataclasses.fields(kind)}  # type: ignore[arg-type]  # all callers give dataclasses
    for key in table:
        if key not in fields:
            raise UsageError(f"unknown key {where}{key}")
    for key, each in fields.items():
        optional = (
            each.default is not dataclasses.MISSING
            or each.default_factory is not dataclasses.MISSING
        )
        if key not in table and not optional:
            raise UsageError(f"{where}{key} is missing")
    values = {key: _value(hints[key], value, where + key) for key, value in table.items()}
    try:
        return kind(**values)
    except (UsageError, AssertionError) as wrong:
        raise UsageError(f"{where.rstrip('.') + ': ' if where else ''}{wrong}") from wrong


def _value(kind: Any, value: Any, where: str) -> Any:
    """One value of a type, strictly but for whole numbers where any number may stand."""
    if typing.get_origin(kind) in (UnionType, typing.Union):
        if Limit in typing.get_args(kind) and isinstance(value, dict):
            return _limit(value, where)
        if where.startswith("expect.") and value == ANY:
            return None
        if bool in typing.get_args(kind) and not isinstance(value, int | float):
            raise UsageError(f"{where} must be true, false or a share, not {value!r}")
        if bool in typing.get_args(kind) and isinstance(value, bool):
            return value
        kind = next(each for each in typing.get_args(kind) if each not in (type(None), bool))
    if kind == Range:
        pair = value if isinstance(value, list | tuple) else (value, value)
        if len(pair) != 2:
            raise UsageError(f"{where} must be a number or a list of two")
        least, most = (_value(float, each, where) for each in pair)
        if least > most:
            raise UsageError(f"{where} must be given as least, most")
        return (least, most)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise UsageError(f"{where} must be a list")
        inner = typing.get_args(kind)[0]
        return tuple(_value(inner, each, f"{where}[{at}]") for at, each in enumerate(value))
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read(kind, value, where + ".")
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        if value not in list(kind):
            raise UsageError(f"{where} must be one of {', '.join(kind)}, not {value!r}")
        return kind(value)
    return _plain(kind, value, where)


def _limit(table: dict[str, Any], where: str) -> Limit:
    """A bound by numbers of peers."""
    points = []
    for peers, bound in table.items():
        if not peers.isdecimal():
            raise UsageError(f"{where}.{peers} must be a number of peers")
        points.append((int(peers), _value(float, bound, f"{where}.{peers}")))
    try:
        return Limit(tuple(points))
    except UsageError as wrong:
        raise UsageError(f"{where}: {wrong}") from wrong


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _plain(kind: Any, value: Any, where: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = number and not math.isnan(value) if kind is float else type(value) is kind
    if not fits:
        raise UsageError(f"{where} must be {_NAMES[kind]}, not {value!r}")
    return float(value) if kind is float else value


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise UsageError(text)

"""Claims drawn or built for the membership tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from gossip.messages import Evidence, PeerId, Phase, Progress, Record, Status

LAYOUT = b"layout-of-16-byt"


def peer(number: int) -> PeerId:
    """The id of the numbered test peer."""
    return PeerId(f"{number:016x}")


def spread(number: int) -> PeerId:
    """Another id of the numbered test peer, such that buckets differ."""
    return PeerId(f"{number * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF:016x}")


def record(
    number: int, boot: int = 1, incarnation: int = 0, status: Status = Status.ALIVE
) -> Record:
    """A claim about the numbered test peer, with its usual addresses."""
    return Record(
        peer(number), boot, incarnation, status, f"10.0.0.{number}:1", f"10.0.0.{number}:2"
    )


def undialable(number: int, boot: int = 1, incarnation: int = 0) -> Record:
    """A live peer that nobody can dial."""
    return replace(record(number, boot, incarnation), control_address="", bulk_address="")


def suspect(number: int, boot: int = 1, incarnation: int = 0) -> Record:
    """An accusation of the numbered test peer."""
    return record(number, boot, incarnation, Status.SUSPECT)


def down(number: int, boot: int = 1, incarnation: int = 0) -> Record:
    """A verdict on the numbered test peer."""
    return record(number, boot, incarnation, Status.DOWN)


def evidence(
    number: int, *accusers: int, boot: int = 1, incarnation: int = 0, doubted: bool = False
) -> Evidence:
    """These numbered peers cannot reach the numbered one."""
    return Evidence(peer(number), boot, incarnation, tuple(map(peer, accusers)), doubted)


def progress(number: int, boot: int = 1, version: int = 1, samples: int = 0) -> Progress:
    """An account of the numbered test peer under the lineage ``b"L"``."""
    return Progress(peer(number), boot, version, samples, b"L", Phase.TRAINING)


SMALL = st.integers(0, 2)
"""Few values, so that keys collide often."""

HELD = (Status.ALIVE, Status.DOWN, Status.LEFT)
"""What a roster ever holds: an accusation is not a claim of the group."""


def records(
    numbers: st.SearchStrategy[int], statuses: Sequence[Status] = tuple(Status)
) -> st.SearchStrategy[Record]:
    """Claims with colliding keys, also such that no honest peer makes (equal key, other fields)."""
    return st.builds(
        Record,
        peer=numbers.map(peer),
        boot=SMALL,
        incarnation=SMALL,
        status=st.sampled_from(statuses),
        control_address=st.sampled_from(["10.0.0.1:1", "10.0.0.2:1", ""]),
        bulk_address=st.sampled_from(["10.0.0.1:2", ""]),
        host=st.sampled_from(["a", "b"]),
        capacity=st.sampled_from([0.5, 1.0]),
    )


def accounts(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[Progress]:
    """Accounts with colliding keys."""
    return st.builds(
        Progress,
        peer=numbers.map(peer),
        boot=SMALL,
        version=SMALL,
        samples=st.integers(0, 3),
        lineage=st.sampled_from([b"", b"L", b"M"]),
        phase=st.sampled_from(Phase),
    )

"""Shared by all tests: one thread for torch, fixed seeds, Hypothesis profiles, real input."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.lab.turns import MARKS, Turns

if TYPE_CHECKING:
    from xdist.remote import Producer

    from tests.lab.sharing import Sharing

_KEPT = pytest.StashKey[Turns]()
# Dozens of processes are started, and compiling the same sources in each would take a second more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Tests run side by side on few cores: a second thread each would only slow all of them down.
torch.set_num_threads(1)

_SLOW = [HealthCheck.too_slow]
settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=_SLOW)
settings.register_profile(
    "ci", max_examples=200, deadline=None, derandomize=True, suppress_health_check=_SLOW
)
settings.register_profile(
    "nightly", max_examples=20_000, deadline=None, suppress_health_check=_SLOW
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

TURNS = "GOSSIP_TESTS_TURNS"
"""In the surroundings: the folder by which the processes of one run wait for each other."""


def pytest_configure(config: pytest.Config) -> None:
    """Keep turns; the first process makes the folder, and those that it starts find it."""
    if TURNS not in os.environ:
        folder = os.environ[TURNS] = tempfile.mkdtemp(prefix="gossip-turns-")
        config.add_cleanup(lambda: os.environ.pop(TURNS, None))
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    config.stash[_KEPT] = Turns(Path(os.environ[TURNS]))
    config.add_cleanup(config.stash[_KEPT].close)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Say which tests must be alone, before they are shared among the processes."""
    alone = [item.nodeid for item in session.items if must_be_alone(item)]
    session.config.stash[_KEPT].note(alone)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Sharing | None:
    """Where there are several processes, and nobody asks for another way."""
    if config.getoption("dist") != "load":
        return None
    from tests.lab.sharing import Sharing

    return Sharing(config, log, config.stash[_KEPT])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Each test in its turn. This comes before the timer, as waiting is no fault of the test."""
    turns = item.config.stash[_KEPT]
    turns.begin(must_be_alone(item))
    try:
        return (yield)
    finally:
        turns.end(stay=nextitem is not None and must_be_alone(nextitem))


def must_be_alone(item: pytest.Item) -> bool:
    """Whether nothing may run beside it."""
    return any(item.get_closest_marker(mark) for mark in MARKS)


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    """Every test starts from the same global random state, whatever ran before it."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_input() -> Path:
    """The folder of real input beside a checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs real input in {folder}, which is not part of the repository")
    return folder

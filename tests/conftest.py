"""Shared by all tests: one thread for torch, fixed seeds, Hypothesis profiles, real input."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.lab.row import Sharing, is_in_the_row, tell

if TYPE_CHECKING:
    from xdist.remote import Producer

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

FOLDER = "GOSSIP_TESTS_FOLDER"
"""In the surroundings of processes that share tests: a folder of all of them."""
NICE_AT_FIRST = os.nice(0)
"""Of this process, before its first test."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder, where tests are to be shared; the processes that are started find it."""
    if config.getoption("numprocesses", default=None) and FOLDER not in os.environ:
        folder = os.environ[FOLDER] = tempfile.mkdtemp(prefix="gossip-tests-")
        config.add_cleanup(partial(os.environ.pop, FOLDER))
        config.add_cleanup(partial(shutil.rmtree, folder, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The row comes first, however short: a process that has stepped back cannot come forward."""
    items.sort(key=lambda item: not is_in_the_row(item))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Say which tests are in the row, before they are shared."""
    if FOLDER in os.environ:
        row = [item.nodeid for item in session.items if is_in_the_row(item)]
        tell(Path(os.environ[FOLDER]), row)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Sharing | None:
    """Where nobody asks for another way."""
    if config.getoption("dist") != "load" or FOLDER not in os.environ:
        return None
    return Sharing(config, log, Path(os.environ[FOLDER]))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests beside the row step back from the processor whenever one of it wants to run."""
    if FOLDER in os.environ and not is_in_the_row(item):
        os.nice(19)  # the kernel stops at 19


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

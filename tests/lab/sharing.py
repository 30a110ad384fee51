"""How tests are shared among the processes that run them (``pytest -n``)."""

from __future__ import annotations

from functools import cached_property

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.lab.turns import Turns


class Sharing(LoadScopeScheduling):
    """Each test goes to whichever process is free; but those that must be alone go to one, which
    runs them in a row, the first of all: so all others wait but once, and fixtures are made once.
    """

    def __init__(self, config: pytest.Config, log: Producer, turns: Turns) -> None:
        super().__init__(config, log)
        self._turns = turns

    @cached_property
    def _alone(self) -> frozenset[str]:
        return self._turns.noted()

    def _split_scope(self, nodeid: str) -> str:
        return "alone" if nodeid in self._alone else nodeid

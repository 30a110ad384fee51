"""What a deliberate bug is, and the list of them; ``sabotage`` holds the bugs themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from simulations.scenario import Scenario

Replacement: TypeAlias = tuple[object, str, Any]
"""A class or module, the name of what is replaced in it, and by what."""


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug; any of ``rules`` may notice it in ``scenario``."""

    name: str
    broken: str
    scenario: Scenario
    rules: tuple[str, ...]
    replacements: Callable[[], list[Replacement]]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The code is broken here and nowhere else."""
        with ExitStack() as restored:
            for owner, name, changed in self.replacements():
                before = inspect.getattr_static(owner, name)
                restored.callback(setattr, owner, name, before)
                setattr(owner, name, changed)
            yield


SABOTAGE: Final[dict[str, Bug]] = {}
"""All of them, by name."""


def bug(
    scenario: Scenario, *rules: str
) -> Callable[[Callable[[], list[Replacement]]], Callable[[], list[Replacement]]]:
    """Enter a function among them."""

    def enter(function: Callable[[], list[Replacement]]) -> Callable[[], list[Replacement]]:
        name = function.__name__
        broken = inspect.getdoc(function)
        assert broken is not None, f"{name} does not say what is broken"
        SABOTAGE[name] = Bug(name, broken.rstrip("."), scenario, rules, function)
        return function

    return enter

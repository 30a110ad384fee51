"""Real processes that do as they are told: one JSON line in, one JSON line out.

A child ends when its standard input ends, so none outlives its parent, however that one ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, TypeAlias

import torch

Figures: TypeAlias = dict[str, Any]
Action: TypeAlias = Callable[[Mapping[str, Any]], Figures]

CLOSE_S = 10.0


class Child:
    """One process of ``python -m module``, with one thread for torch."""

    def __init__(self, module: str, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )

    def tell(self, action: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Start an action; ``answer`` waits for its end."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": action} | dict(arguments or {})) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Figures:
        """What the action came to. Raises RuntimeError when the child ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a benchmark process ended early ({self._process.wait()})")
        answered: Figures = json.loads(line)
        return answered

    def ask(self, action: str, arguments: Mapping[str, Any] | None = None) -> Figures:
        """Start an action and wait for it."""
        self.tell(action, arguments)
        return self.answer()

    def close(self) -> None:
        """Let it end by itself, or end it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Children:
    """Some children, closed together."""

    def __init__(self, each: Sequence[Child]) -> None:
        self.each = list(each)

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in self.each:
            child.close()

    def ask(self, action: str, arguments: Mapping[str, Any] | None = None) -> list[Figures]:
        """The same of all, at the same time; their answers in order."""
        for child in self.each:
            child.tell(action, arguments)
        return [child.answer() for child in self.each]


def serve(actions: Mapping[str, Action]) -> None:
    """The child's side: do what each line says until there are no more.

    Answers go to what standard output was; anything else that prints goes to standard error.
    """
    torch.set_num_threads(1)
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        told = json.loads(line)
        print(json.dumps(actions[told["do"]](told)), file=answers, flush=True)

"""Small fields to train on."""

from __future__ import annotations

from peers.tasks.digits import DigitsTask
from peers.tasks.task import Task
from simulations.compare.conditions import Conditions
from simulations.compare.feed import Feed, Split
from simulations.compare.field import Field, Method, Schedule
from simulations.compare.inner import InnerSettings, make_inner
from simulations.compare.stack import Stack

TASK = DigitsTask(hidden=(16, 12), batch=8)
SGD = InnerSettings("sgd", 0.05)


def field_of(
    method: Method,
    peers: int = 4,
    steps: int = 20,
    conditions: Conditions | None = None,
    split: Split = Split.DISJOINT,
    task: Task = TASK,
    inner: InnerSettings = SGD,
) -> Field:
    """A small field on digits, started."""
    stack = Stack(task, method.models or peers, 0)
    steps_of_peers, feed = make_inner(stack, inner), Feed(task, peers, split, 0)
    going_wrong = conditions or Conditions()
    field = Field(stack, steps_of_peers, feed, Schedule(steps), peers, 0, going_wrong)
    method.start(field)
    return field

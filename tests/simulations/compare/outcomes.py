"""Made-up runs, for what is read off them."""

from __future__ import annotations

import math

from simulations.compare.results import Job, Outcome, Point

JOB = Job("digits", (), "diloco", "sgd", 0.1, 8, 0, 100, "disjoint", ())


def outcome_of(job: Job, loss: float = 1.0, blocking: bool = False, sent: float = 1e6) -> Outcome:
    """A made-up run that ends at ``loss``, falling evenly from twice that."""
    curve = tuple(Point(s, 10 * s, sent * s / 100, loss * (2 - s / 100)) for s in range(5, 101, 5))
    return Outcome(
        key=job.key,
        job=job,
        loss=loss,
        worst=loss,
        typical=loss,
        finished=loss,
        accuracy=math.nan,
        finished_accuracy=math.nan,
        disagreement=0.0,
        wrapped=0.0,
        parameters=1000,
        batch=8,
        sent_bytes=sent,
        events=100,
        messages=2,
        blocking=blocking,
        paired=not blocking,
        code="",
        seconds=1.0,
        curve=curve,
    )

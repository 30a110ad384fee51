"""Records and accounts are join-semilattices, and absurd claims are named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gossip.membership.records import (
    ACCUSERS_MAX,
    COUNT_MAX,
    evidence_flaw,
    merge,
    merge_progress,
    progress_flaw,
    record_flaw,
)
from gossip.messages import Evidence, PeerId, Progress, Record
from tests.gossip.membership import claims
from tests.gossip.membership.claims import evidence, progress, record

ONE = claims.records(st.just(1))
ONE_ACCOUNT = claims.accounts(st.just(1))


@given(ONE, ONE, ONE)
@example(record(1), replace(record(1), host="elsewhere"), record(1))
def test_merging_records_obeys_the_lattice_laws(a: Record, b: Record, c: Record) -> None:
    """M1: commutative, associative, idempotent, and never below either side."""
    assert merge(a, b) == merge(b, a)
    assert merge(a, merge(b, c)) == merge(merge(a, b), c)
    assert merge(a, a) == a
    assert merge(a, b).key == max(a.key, b.key)


@given(ONE_ACCOUNT, ONE_ACCOUNT, ONE_ACCOUNT)
@example(progress(1), replace(progress(1), samples=9), progress(1))
def test_merging_accounts_obeys_the_lattice_laws(a: Progress, b: Progress, c: Progress) -> None:
    """M1: commutative, associative, idempotent, and never below either side."""
    assert merge_progress(a, b) == merge_progress(b, a)
    assert merge_progress(a, merge_progress(b, c)) == merge_progress(merge_progress(a, b), c)
    assert merge_progress(a, a) == a
    assert merge_progress(a, b).key == max(a.key, b.key)


@pytest.mark.parametrize(
    "flawed",
    [
        replace(record(1), peer=PeerId("short")),
        replace(record(1), peer=PeerId("g" * 16)),
        replace(record(1), peer=PeerId("A" * 16)),
        replace(record(1), boot=-1),
        replace(record(1), boot=COUNT_MAX + 1),
        replace(record(1), incarnation=-1),
        replace(record(1), control_address="a" * 257),
        replace(record(1), bulk_address="a\nb"),
        replace(record(1), host="\udc80"),
        replace(record(1), capacity=float("nan")),
        replace(record(1), capacity=-1.0),
    ],
)
def test_an_absurd_record_is_named(flawed: Record) -> None:
    """Each rule is broken once; the sound record has no flaw."""
    assert record_flaw(record(1)) is None
    assert record_flaw(flawed)


@pytest.mark.parametrize(
    "flawed",
    [
        replace(progress(1), peer=PeerId("")),
        replace(progress(1), boot=-1),
        replace(progress(1), version=-1),
        replace(progress(1), samples=-1),
        replace(progress(1), samples=COUNT_MAX + 1),
        replace(progress(1), lineage=b"x" * 65),
    ],
)
def test_an_absurd_account_is_named(flawed: Progress) -> None:
    """Each rule is broken once; the sound account has no flaw."""
    assert progress_flaw(progress(1)) is None
    assert progress_flaw(flawed)


@pytest.mark.parametrize(
    "flawed",
    [
        replace(evidence(1, 2), subject=PeerId("short")),
        evidence(1, *range(ACCUSERS_MAX + 1)),
        replace(evidence(1, 2), accusers=(PeerId("\udc80"),)),
    ],
)
def test_absurd_evidence_is_named(flawed: Evidence) -> None:
    """Each rule is broken once; sound evidence has no flaw."""
    assert evidence_flaw(evidence(1, *range(ACCUSERS_MAX))) is None
    assert evidence_flaw(flawed)

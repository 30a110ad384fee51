"""How a newcomer gets the model (rule 8), from both sides."""

from __future__ import annotations

import math

import pytest

from gossip.config import ExchangeConfig
from gossip.exchange.adoption import Adoption, AdoptionState, Donations
from gossip.exchange.patience import STALL_STRETCH_MAX
from gossip.exchange.uploads import Uploads
from gossip.machine import (
    AnchorNotFinite,
    Compute,
    Computed,
    Effect,
    Fault,
    Release,
    Replace,
    Reserve,
    Send,
)
from gossip.messages import (
    NO_LINEAGE,
    Adopt,
    Blob,
    Busy,
    BusyReason,
    Chunk,
    Done,
    ExchangeId,
    Gone,
    Leg,
    Outcome,
    Snapshot,
    Transfer,
    Want,
)
from tests.lab.expect import every, only, sent, told
from tests.lab.pair import BOOT, HIGH, LINEAGE, LOW, STRANGER, chunks

CONFIG = ExchangeConfig(donations_max=2)
EXCHANGE = ExchangeId(LOW, BOOT, 1)
TRANSFER = Transfer(EXCHANGE, Leg.SNAPSHOT)
BLOB = Blob(b"s" * 16, 700, 256)
SNAPSHOT = Snapshot(EXCHANGE, LINEAGE, BLOB, "fp32")


def newcomer(state: AdoptionState = AdoptionState.ASKED) -> Adoption:
    """LOW wants HIGH's model and got as far as ``state``."""
    adoption = Adoption(CONFIG)
    if state is not AdoptionState.IDLE:
        adoption.start(HIGH, EXCHANGE, LINEAGE, 0.0)
    if state in (AdoptionState.PULLING, AdoptionState.REPLACING):
        adoption.hear_snapshot(HIGH, SNAPSHOT, 0.0)
    if state is AdoptionState.REPLACING:
        for chunk in chunks(TRANSFER, BLOB):
            adoption.hear_chunk(HIGH, chunk, 0.0)
    assert state is adoption.state
    return adoption


def assert_idle(adoption: Adoption) -> None:
    """Ready to ask another member; nothing rings."""
    assert AdoptionState.IDLE is adoption.state
    assert None is adoption.donor
    assert math.inf == adoption.deadline()
    assert [Send(STRANGER, Adopt(EXCHANGE, LINEAGE))] == (
        adoption.start(STRANGER, EXCHANGE, LINEAGE, 0.0)
    )


# The newcomer's side.


def test_a_newcomer_asks_pulls_replaces_and_says_thanks() -> None:
    """The whole adoption."""
    adoption = Adoption(CONFIG)

    assert [Send(HIGH, Adopt(EXCHANGE, LINEAGE))] == adoption.start(HIGH, EXCHANGE, LINEAGE, 0.0)
    assert [
        Reserve(TRANSFER, BLOB, -1, "fp32", source=HIGH),
        Send(HIGH, Want(TRANSFER, 0, 700)),
    ] == (adoption.hear_snapshot(HIGH, SNAPSHOT, 0.0))
    effects = [adoption.hear_chunk(HIGH, chunk, 0.0) for chunk in chunks(TRANSFER, BLOB)]
    assert [[], [], [Replace(TRANSFER, BLOB, "fp32", LINEAGE)]] == effects
    lineage, thanks = adoption.replaced(applied=True)
    assert LINEAGE == lineage
    assert [Send(HIGH, Done(EXCHANGE, Outcome.APPLIED)), Release(TRANSFER)] == thanks
    assert_idle(adoption)


def test_a_snapshot_that_cannot_be_applied_changes_nothing() -> None:
    """No lineage, and the donor hears that it was refused."""
    adoption = newcomer(AdoptionState.REPLACING)

    lineage, effects = adoption.replaced(applied=False)

    assert NO_LINEAGE == lineage
    assert [Done(EXCHANGE, Outcome.REFUSED)] == sent(effects)
    assert_idle(adoption)


@pytest.mark.parametrize("state", [AdoptionState.ASKED, AdoptionState.PULLING])
def test_a_donor_lost_on_the_way_leaves_the_newcomer_idle(state: AdoptionState) -> None:
    """It can ask another one at once; what was reserved is released."""
    adoption = newcomer(state)
    assert [] == adoption.partner_lost(STRANGER)
    assert state is adoption.state

    effects = adoption.partner_lost(HIGH)

    expected = [Release(TRANSFER)] if state is AdoptionState.PULLING else []
    assert expected == effects
    assert_idle(adoption)


def test_a_donor_is_not_needed_once_its_bytes_are_here() -> None:
    """The replacement goes on without it."""
    adoption = newcomer(AdoptionState.REPLACING)

    assert [] == adoption.partner_lost(HIGH)
    assert AdoptionState.REPLACING is adoption.state
    assert math.inf == adoption.deadline()


@pytest.mark.parametrize(
    "snapshot",
    [
        SNAPSHOT.__class__(EXCHANGE, b"foreign!", BLOB, "fp32"),
        SNAPSHOT.__class__(EXCHANGE, LINEAGE, BLOB, "int8"),
        SNAPSHOT.__class__(EXCHANGE, LINEAGE, BLOB._replace(size_bytes=1 << 50), "fp32"),
        SNAPSHOT.__class__(EXCHANGE, LINEAGE, BLOB._replace(chunk_bytes=1), "fp32"),
    ],
    ids=["lineage", "codec", "size", "chunks"],
)
def test_a_snapshot_of_something_else_is_refused(snapshot: Snapshot) -> None:
    """A fault of the donor; nothing is reserved, and another one may be asked."""
    adoption = newcomer()

    effects = adoption.hear_snapshot(HIGH, snapshot, 0.0)

    assert "snapshot" == only(Fault, told(effects)).kind
    assert [] == every(Reserve, effects)
    assert_idle(adoption)


def test_snapshots_nobody_asked_for_are_ignored() -> None:
    """From a stranger, of another exchange, a second time, or when idle."""
    asked = newcomer()
    assert [] == asked.hear_snapshot(STRANGER, SNAPSHOT, 0.0)
    other = Snapshot(EXCHANGE._replace(seq=9), LINEAGE, BLOB, "fp32")
    assert [] == asked.hear_snapshot(HIGH, other, 0.0)
    assert [] == newcomer(AdoptionState.PULLING).hear_snapshot(HIGH, SNAPSHOT, 0.0)
    assert [] == newcomer(AdoptionState.IDLE).hear_snapshot(HIGH, SNAPSHOT, 0.0)
    assert [] == newcomer(AdoptionState.PULLING).hear_chunk(
        STRANGER, chunks(TRANSFER, BLOB)[0], 0.0
    )


def test_a_question_is_repeated_and_given_up_when_nobody_answers() -> None:
    """Every half second, for ten seconds."""
    adoption, effects, now = newcomer(), list[Effect](), 0.0
    while adoption.deadline() < math.inf:
        now = adoption.deadline()
        effects += adoption.wake(now)

    assert CONFIG.withdraw_after_s == now
    assert {Adopt(EXCHANGE, LINEAGE)} == set(sent(effects, HIGH))
    assert 19 <= len(effects) <= 20
    assert_idle(adoption)


def test_missing_chunks_are_asked_for_again() -> None:
    """After half a second without one; each that comes keeps the pull alive."""
    adoption = newcomer(AdoptionState.PULLING)
    adoption.hear_chunk(HIGH, Chunk(TRANSFER, 0, 256), 0.1)

    assert [Want(TRANSFER, 256, 256)] == sent(adoption.wake(0.6), HIGH)
    assert [] == sent(adoption.wake(1.0))
    assert [Want(TRANSFER, 256, 256)] == sent(adoption.wake(1.1), HIGH)
    assert [] == adoption.hear_chunk(HIGH, Chunk(TRANSFER, 0, 256), 9.0)  # known: a sign of life
    assert [] == every(Release, adoption.wake(18.9))
    assert [Release(TRANSFER)] == every(Release, adoption.wake(19.0))
    assert_idle(adoption)


def test_a_slow_donor_is_given_more_time() -> None:
    """Eight of the longest gaps, but no more than six of the usual waits."""
    adoption = newcomer(AdoptionState.PULLING)
    adoption.hear_chunk(HIGH, Chunk(TRANSFER, 0, 256), 4.0)

    assert [] == every(Release, adoption.wake(35.9))
    assert [Release(TRANSFER)] == every(Release, adoption.wake(36.0))

    slower = newcomer(AdoptionState.PULLING)
    slower.hear_chunk(HIGH, Chunk(TRANSFER, 0, 256), 9.9)
    slower.hear_chunk(HIGH, Chunk(TRANSFER, 256, 256), 48.0)
    assert [] == every(Release, slower.wake(107.9))
    assert [Release(TRANSFER)] == every(Release, slower.wake(108.0))


def test_nobody_is_kept_waiting_by_repetitions_for_ever() -> None:
    """Known chunks are a sign of life no more often than there are chunks."""
    adoption, now = newcomer(AdoptionState.PULLING), 0.0
    while AdoptionState.PULLING is adoption.state:
        now += 5.0
        adoption.hear_chunk(HIGH, Chunk(TRANSFER, 0, 256), now)
        adoption.wake(now)
        assert now < 80.0


def test_a_chunk_out_of_place_is_a_fault() -> None:
    """The pull goes on."""
    adoption = newcomer(AdoptionState.PULLING)

    assert (
        "chunk" == only(Fault, told(adoption.hear_chunk(HIGH, Chunk(TRANSFER, 1, 256), 0.0))).kind
    )
    assert AdoptionState.PULLING is adoption.state


# The member's side.


def member() -> Donations:
    """HIGH has a model."""
    return Donations(CONFIG, Uploads(math.inf, 0.0))


def ask(donations: Donations, seq: int = 1, lineage: bytes = LINEAGE) -> list[Effect]:
    """LOW's Adopt reaches a member of LINEAGE."""
    adopt = Adopt(EXCHANGE._replace(seq=seq), lineage)
    return donations.hear_adopt(LOW, adopt, LINEAGE, 0.0)


def test_a_member_makes_a_snapshot_serves_it_and_forgets_it() -> None:
    """The whole donation; Done or a lost newcomer ends it."""
    uploads = Uploads(math.inf, 0.0)
    donations = Donations(CONFIG, uploads)

    assert [Compute(TRANSFER, -1, "fp32")] == ask(donations)
    assert [Send(LOW, SNAPSHOT)] == donations.computed(Computed(TRANSFER, BLOB))
    assert [] == donations.hear_want(LOW, Want(TRANSFER, 0, 700), 0.0)
    assert chunks(TRANSFER, BLOB) == sent(uploads.pump(0.0), LOW)
    assert donations.knows(EXCHANGE)
    assert [Release(TRANSFER)] == donations.drop(EXCHANGE)
    assert not donations.knows(EXCHANGE)
    assert [] == donations.drop(EXCHANGE)


def test_only_the_newcomer_ends_its_donation() -> None:
    """A stranger who learned the exchange's id cannot."""
    donations = Donations(CONFIG, Uploads(math.inf, 0.0))
    donations.hear_adopt(LOW, Adopt(EXCHANGE, LINEAGE), LINEAGE, 0.0)
    assert [] == donations.hear_done(STRANGER, EXCHANGE)
    assert donations.knows(EXCHANGE)
    assert [Release(TRANSFER)] == donations.hear_done(LOW, EXCHANGE)
    assert not donations.knows(EXCHANGE)


def test_a_repeated_question_is_answered_again() -> None:
    """Not before the snapshot is there, and never by a second one."""
    donations = member()
    ask(donations)
    assert [] == ask(donations)

    donations.computed(Computed(TRANSFER, BLOB))
    assert [Send(LOW, SNAPSHOT)] == ask(donations)
    assert [] == donations.hear_adopt(STRANGER, Adopt(EXCHANGE, LINEAGE), LINEAGE, 0.0)


def test_a_member_says_why_it_does_not_give() -> None:
    """No model yet, another lineage, or too many at once."""
    adopt = Adopt(EXCHANGE, LINEAGE)
    nothing = member().hear_adopt(LOW, adopt, NO_LINEAGE, 0.0)
    assert [Busy(EXCHANGE, BusyReason.NOT_ADOPTED)] == sent(nothing, LOW)

    foreign = ask(member(), lineage=b"foreign!")
    assert [Busy(EXCHANGE, BusyReason.FOREIGN_LINEAGE)] == sent(foreign, LOW)

    donations = member()
    ask(donations, 1)
    ask(donations, 2)
    assert [Busy(EXCHANGE._replace(seq=3), BusyReason.LIMIT)] == sent(ask(donations, 3), LOW)
    donations.drop(EXCHANGE)
    assert 1 == len(every(Compute, ask(donations, 3)))


def test_a_question_in_the_name_of_another_is_a_fault() -> None:
    """An exchange id belongs to who asks."""
    effects = member().hear_adopt(STRANGER, Adopt(EXCHANGE, LINEAGE), LINEAGE, 0.0)

    assert "adopt" == only(Fault, told(effects)).kind
    assert [] == every(Compute, effects)


def test_a_stalled_donation_is_dropped() -> None:
    """Sixty seconds after the last Want, not after the first: as long as a newcomer may wait."""
    donations = member()
    ask(donations)
    donations.computed(Computed(TRANSFER, BLOB))
    donations.hear_want(LOW, Want(TRANSFER, 0, 256), 8.0)

    assert [] == donations.wake(60.0)
    assert 68.0 == donations.deadline()
    assert [Release(TRANSFER)] == donations.wake(68.0)
    assert math.inf == donations.deadline()
    assert not donations.knows(EXCHANGE)


def test_a_snapshot_that_came_too_late_or_not_at_all_is_let_go() -> None:
    """The newcomer hears Gone, or is gone itself."""
    donations = member()
    ask(donations)
    failed = donations.computed(Computed(TRANSFER, None))
    assert [Gone(EXCHANGE)] == sent(failed, LOW)
    assert not donations.knows(EXCHANGE)

    ask(donations)
    assert [Release(TRANSFER)] == donations.partner_lost(LOW)
    assert [Release(TRANSFER)] == donations.computed(Computed(TRANSFER, BLOB))


def test_a_snapshot_is_served_to_the_one_who_asked_and_within_its_bounds() -> None:
    """A stranger gets nothing; other bytes, and other legs, are a fault."""
    uploads = Uploads(math.inf, 0.0)
    donations = Donations(CONFIG, uploads)
    ask(donations)
    assert [] == donations.hear_want(LOW, Want(TRANSFER, 0, 256), 0.0)
    donations.computed(Computed(TRANSFER, BLOB))

    assert [] == donations.hear_want(STRANGER, Want(TRANSFER, 0, 256), 0.0)
    for want in (Want(TRANSFER, 0, 701), Want(Transfer(EXCHANGE, Leg.CODE), 0, 256)):
        assert "want" == only(Fault, told(donations.hear_want(LOW, want, 0.0))).kind
    assert [] == uploads.pump(0.0)


def test_a_newcomer_that_asks_for_the_same_again_and_again_is_dropped() -> None:
    """A donation is served three times over (or a few chunks more), then it stalls."""
    donations = member()
    ask(donations)
    donations.computed(Computed(TRANSFER, BLOB))
    now = 0.0
    while donations.knows(EXCHANGE):
        now += 5.0
        donations.hear_want(LOW, Want(TRANSFER, 0, 256), now)
        donations.wake(now)
        assert now <= 5.0 * 12 + STALL_STRETCH_MAX * CONFIG.withdraw_after_s

    assert 5.0 * 12 < now


def test_a_donor_that_cannot_encode_its_model_says_so_of_itself() -> None:
    """Nobody is blamed; the newcomer may ask another member."""
    donations = member()
    ask(donations)

    effects = donations.computed(Computed(TRANSFER, None))

    assert [AnchorNotFinite(-1)] == told(effects)
    assert [Gone(EXCHANGE)] == sent(effects, LOW)

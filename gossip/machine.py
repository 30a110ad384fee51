"""The seam between the protocol and the world: what a machine hears, asks for and tells.

Contract. Feed one input, execute the returned effects in order, then ask ``deadline()``; never
from two threads. ``now`` never decreases. Same state, input and now give the same effects, so a
run is a list of ``(now, input)`` and can be replayed. ``Send`` is best effort: it may be lost,
repeated or late. Nothing a neighbor sends makes ``handle`` raise: a broken rule of theirs is
``Tell(Fault(...))``; a broken rule of ours is an AssertionError and ends the peer.
Inputs are past participles (it happened), effects are imperatives (please do), reports are facts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeAlias

from gossip.messages import (
    NOBODY,
    Blob,
    BusyReason,
    ExchangeId,
    Message,
    Outcome,
    PeerId,
    Phase,
    Record,
    RefusalReason,
    Seconds,
    Segment,
    Transfer,
)


class LinkCause(IntEnum):
    """Why a link was lost, as far as the transport can tell.

    CLOSED: it was up and ended; a fresh dial is under way, and what comes of it is told next.
    REFUSED: the host answers, the process is gone. SILENT: nobody answers, host or path is gone.
    FROZEN: the kernel accepts, the process says nothing (stopped, swapped out, out of memory).
    """

    CLOSED = 0
    REFUSED = 1
    SILENT = 2
    FROZEN = 3


class Reach(IntEnum):
    """A private verdict: whether this peer, for its own part, gets through to another.

    OPEN: swaps may go there. BUSY: the link or the kernel is alive but nothing answers, so no
    swaps and no accusation. LOST: nothing gets through.
    """

    OPEN = 0
    BUSY = 1
    LOST = 2


@dataclass(frozen=True, slots=True)
class Join:
    """Enter the swarm through these contact addresses; with none, found a lineage.

    ``remembered`` are addresses that an earlier life asked to be kept (``Persist``): they are
    tried as well, but only if no contact answers at once, and only until somebody welcomes this
    peer. With contacts given, whoever refuses it there is a ``Fault``, not a ``TurnedAway``.
    """

    contacts: tuple[str, ...]
    remembered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """Mix without training until the peers agree (finalise).

    ``together``: the run ends, so everyone else is expected to finish too.
    """

    together: bool = False


@dataclass(frozen=True, slots=True)
class Leave:
    """Depart politely: no new swaps, settle the open ones, tell the others."""


Command: TypeAlias = Join | Finish | Leave


@dataclass(frozen=True, slots=True)
class Received:
    """A message arrived. For a Chunk the driver has already checked and stored the payload."""

    sender: PeerId
    message: Message


@dataclass(frozen=True, slots=True)
class Submitted:
    """The hook published its anchor: ``samples`` trained on in this boot so far.

    ``swap_due`` says the cadence asks for a swap now. ``clip_bound`` is the largest norm of a
    correction that this peer will take from now on.
    """

    samples: int
    swap_due: bool
    clip_bound: float = math.inf


@dataclass(frozen=True, slots=True)
class Computed:
    """A Compute is ready; ``blob`` is None when it could not be made (bad digest, not finite).

    ``codec``: what a code was made with instead of the codec asked for; empty: that one.
    ``clip``: by what factor, at most 1, a correction was shortened to keep its bound.
    """

    transfer: Transfer
    blob: Blob | None
    codec: str = ""
    clip: float = 1.0


@dataclass(frozen=True, slots=True)
class Applied:
    """The hook applied what an Apply or Replace asked for, or could not (``applied`` False).

    ``disagreement``: how far apart the correction showed the two peers, as a share of their length.
    """

    exchange: ExchangeId
    applied: bool
    disagreement: float = 0.0


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A link to this peer can carry messages."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The transport's opinion, not a verdict."""

    peer: PeerId
    cause: LinkCause


@dataclass(frozen=True, slots=True)
class DialFailed:
    """Nobody answers at a contact address."""

    address: str
    cause: LinkCause


@dataclass(frozen=True, slots=True)
class Asked:
    """The owner of this peer wants something."""

    command: Command


@dataclass(frozen=True, slots=True)
class Woke:
    """``deadline()`` may have come; harmless early, late or twice."""


Input: TypeAlias = (
    Received | Submitted | Computed | Applied | LinkUp | LinkLost | DialFailed | Asked | Woke
)


@dataclass(frozen=True, slots=True)
class Send:
    """Best effort, to a peer whose link is known or can be dialed."""

    to: PeerId
    message: Message


@dataclass(frozen=True, slots=True)
class Reserve:
    """Make room for a blob: the only way a neighbor's bytes may cost us memory.

    ``fragment`` is -1 for a snapshot. For a code, ``reply_codec`` and ``clip_bound`` announce the
    correction to come, so that the driver may make it chunk by chunk as the code arrives.
    ``source`` is the only peer whose chunks may be stored.
    """

    transfer: Transfer
    blob: Blob
    fragment: int
    codec: str
    reply_codec: str = ""
    clip_bound: float = float("inf")
    source: PeerId = NOBODY


@dataclass(frozen=True, slots=True)
class Release:
    """Forget a blob's bytes, received or made; unknown transfers are ignored."""

    transfer: Transfer


@dataclass(frozen=True, slots=True)
class Compute:
    """Make a blob and answer with Computed.

    leg CODE: my anchor's code under ``codec``, or another that Computed names. leg CORRECTION:
    from the received code (``source``) the correction under ``reply_codec``, no longer than
    ``clip_bound``. leg SNAPSHOT: everything.
    """

    transfer: Transfer
    fragment: int
    codec: str
    source: Blob | None = None
    reply_codec: str = ""
    clip_bound: float = float("inf")


@dataclass(frozen=True, slots=True)
class Apply:
    """Queue ``signed_weight`` times the correction on the fragment's theta and phi; answer Applied.
    ``partner`` is whom the swap is with.

    ``undo`` marks a refund: its Applied is not awaited by an exchange. A correction that is longer
    than ``clip_bound``, though it was asked not to be, is not applied. ``clip`` is the factor by
    which it was shortened: what it teaches of the difference is that much more.
    """

    transfer: Transfer
    fragment: int
    blob: Blob
    codec: str
    signed_weight: float
    undo: bool = False
    clip_bound: float = float("inf")
    clip: float = 1.0
    partner: PeerId = NOBODY


@dataclass(frozen=True, slots=True)
class Replace:
    """Adopt a snapshot: theta = phi = snapshot, m = 0; answer with Applied."""

    transfer: Transfer
    blob: Blob
    codec: str
    lineage: bytes


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a link and keep it: to a member (both planes) or, with no peer, to a contact."""

    peer: PeerId | None
    control_address: str
    bulk_address: str


@dataclass(frozen=True, slots=True)
class Hangup:
    """Close the link to a peer; redial only when asked."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Persist:
    """Keep these contact addresses for the next start."""

    contacts: tuple[str, ...]


class Role(IntEnum):
    """Which side of a swap."""

    INITIATOR = 0
    RESPONDER = 1


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """A claim about a member won; ``why`` says where it came from in a few words."""

    record: Record
    why: str


@dataclass(frozen=True, slots=True)
class ReachChanged:
    """What this peer privately thinks of another; the group need not agree, and shards stay."""

    peer: PeerId
    reach: Reach
    why: str


@dataclass(frozen=True, slots=True)
class SwapClosed:
    """One swap ended for this side. ``outcome`` None: nothing was exchanged (``why`` says).

    ``disagreement``: of the two peers before it, as in Applied.
    """

    exchange: ExchangeId
    partner: PeerId
    role: Role
    fragment: int
    outcome: Outcome | None
    why: str
    duration_s: float
    disagreement: float = 0.0


@dataclass(frozen=True, slots=True)
class OneSided:
    """This side applied a correction and will never know whether the other did: it is counted."""

    exchange: ExchangeId
    partner: PeerId


@dataclass(frozen=True, slots=True)
class Declined:
    """A neighbor answered Busy."""

    partner: PeerId
    reason: BusyReason


@dataclass(frozen=True, slots=True)
class LineageChanged:
    """This peer now belongs to ``lineage``: it founded it, or adopted it from ``source``."""

    lineage: bytes
    source: PeerId | None


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A member refused this peer: its model (``segments`` is theirs) or its settings."""

    by: PeerId
    detail: str
    segments: tuple[Segment, ...]
    reason: RefusalReason


@dataclass(frozen=True, slots=True)
class ContactFailed:
    """A contact address cannot be reached."""

    address: str
    cause: LinkCause


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    """This peer's own phase."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class Finalised:
    """finalise() is over: ``swaps`` settled since it began, the fewest of any fragment.

    ``agreed``: as far as this peer could see, all have the same model now. ``disagreement``: the
    largest that the last few swaps showed, as a share of the model's length.
    """

    swaps: int
    agreed: bool
    disagreement: float


@dataclass(frozen=True, slots=True)
class Departed:
    """The polite leave is over: everyone was told."""


@dataclass(frozen=True, slots=True)
class AnchorNotFinite:
    """This peer's own values cannot be encoded (training went astray), so nothing was offered.

    ``fragment`` is -1 when a newcomer asked for all of them.
    """

    fragment: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A neighbor (or a stranger, None) broke a rule; counted, dropped."""

    peer: PeerId | None
    kind: str
    detail: str


Report: TypeAlias = (
    MemberChanged
    | ReachChanged
    | SwapClosed
    | OneSided
    | Declined
    | LineageChanged
    | TurnedAway
    | ContactFailed
    | PhaseChanged
    | Finalised
    | Departed
    | AnchorNotFinite
    | Fault
)


@dataclass(frozen=True, slots=True)
class Tell:
    """For the owner's information: logs, metrics, live views."""

    report: Report


Effect: TypeAlias = (
    Send | Reserve | Release | Compute | Apply | Replace | Dial | Hangup | Persist | Tell
)


class Machine(Protocol):
    """A pure state machine; see the module's contract."""

    def handle(self, happened: Input, now: Seconds) -> list[Effect]:
        """Take one input; return what to do, in order."""
        ...

    def deadline(self) -> Seconds:
        """When to say Woke; ``math.inf`` when nothing is due."""
        ...

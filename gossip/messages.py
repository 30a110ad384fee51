"""Every message that crosses the wire, one frozen dataclass each, and the values they carry.

Nothing here knows sockets, clocks or tensors. A message never holds bulk bytes: those are a
``Blob`` by reference, and travel as the payload of a ``Chunk`` on the bulk plane.

Invariant: every field is an int, float, str, bytes, bool, enum, another dataclass or named tuple
of this module, or a tuple of such; so ``gossip.wire`` can pack all of them with one rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, NewType, TypeAlias

PeerId = NewType("PeerId", str)
"""Sixteen lower-case hex digits; the owner keeps it for life. Compared as text: lower wins."""

PEER_ID_FORM: Final = re.compile(r"[0-9a-f]{16}")
"""What a peer id looks like."""

NOBODY = PeerId("")
"""No peer's id."""

Seconds: TypeAlias = float
"""The injected clock's time. Only differences mean anything."""

NO_LINEAGE = b""
"""Lineage of a peer that has not adopted a model yet."""

CHUNK_BYTES_MAX: Final = 1 << 20
"""Bulk travels in frames of at most this (measured: larger ones gain nothing)."""

SNAPSHOT_CODEC: Final = "fp32"
"""How a newcomer gets the model: without any loss."""


class Blob(NamedTuple):
    """Bytes by reference.

    ``digest`` (16 bytes) is the hash of the chunk hashes in order, so chunks can be checked one
    by one as they arrive, in any order, with no pass of its own over the whole.
    """

    digest: bytes
    size_bytes: int
    chunk_bytes: int


class ExchangeId(NamedTuple):
    """Who asked, in which life of theirs, and their rising number (gossip/README.md, rule 3)."""

    initiator: PeerId
    boot: int
    seq: int


class Leg(IntEnum):
    """Which blob of an exchange."""

    CODE = 0
    CORRECTION = 1
    SNAPSHOT = 2


class Transfer(NamedTuple):
    """One blob on its way: the key under which both sides know its bytes."""

    exchange: ExchangeId
    leg: Leg


class Status(IntEnum):
    """Rank of a claim about a member; the larger rank wins at equal (boot, incarnation)."""

    ALIVE = 0
    SUSPECT = 1
    DOWN = 2
    LEFT = 3


class Phase(IntEnum):
    """Where a peer stands. FINISHING and FINISHED end when training goes on."""

    JOINING = 0
    TRAINING = 1
    FINISHING = 2
    FINISHED = 3


class Outcome(IntEnum):
    """What the initiator did with a correction."""

    APPLIED = 0
    REFUSED = 1


class BusyReason(IntEnum):
    """Why a swap was declined."""

    FRAGMENT_OPEN = 0
    NOT_ADOPTED = 1
    LEAVING = 2
    FOREIGN_LINEAGE = 3
    LIMIT = 4


class RefusalReason(IntEnum):
    """Why a peer was turned away for good: another model, or other settings of the same one."""

    LAYOUT = 0
    SETTINGS = 1


class Segment(NamedTuple):
    """One named tensor inside the flat vector."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Record:
    """What is claimed about one member: a point of a join-semilattice.

    Only the subject ever raises ``(boot, incarnation)``. Addresses are ``HOST:PORT``; empty when
    the peer cannot be dialed. ``capacity`` weighs its share of the data.
    """

    peer: PeerId
    boot: int
    incarnation: int
    status: Status
    control_address: str
    bulk_address: str
    host: str = ""
    capacity: float = 1.0

    @property
    def key(self) -> tuple[int, int, int]:
        """Order of claims about one member: the larger wins."""
        return (self.boot, self.incarnation, int(self.status))


@dataclass(frozen=True, slots=True)
class Progress:
    """A peer's grow-only account of itself; the larger ``(boot, version)`` wins.

    ``samples`` counts what this boot trained on since it adopted ``lineage``.
    """

    peer: PeerId
    boot: int
    version: int
    samples: int
    lineage: bytes
    phase: Phase

    @property
    def key(self) -> tuple[int, int]:
        """Order of claims about one peer: the larger wins."""
        return (self.boot, self.version)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Who cannot reach the subject in this life: what a claim of SUSPECT or DOWN stands on.

    ``doubted`` says that whoever tells it sees signs of a split, or has heard it from nobody who
    does not: its subject gets time to refute from everybody (M24).
    """

    subject: PeerId
    boot: int
    incarnation: int
    accusers: tuple[PeerId, ...]
    doubted: bool = False


@dataclass(frozen=True, slots=True)
class Rumors:
    """Claims that ride on another message. ``evidence`` belongs to records beside it."""

    records: tuple[Record, ...] = ()
    progress: tuple[Progress, ...] = ()
    evidence: tuple[Evidence, ...] = ()


NO_RUMORS: Final = Rumors()
"""Nothing new."""


class NackReason(IntEnum):
    """Why an observer cannot vouch for the peer it was asked about.

    TIMEOUT: it did not answer me either. BUSY: its link lives, it does not answer. UNKNOWN: not
    in my records as a live member. LIMIT: I am asked too much, and have not tried.
    """

    TIMEOUT = 0
    BUSY = 1
    UNKNOWN = 2
    LIMIT = 3


class Version(NamedTuple):
    """What one side of an anti-entropy exchange holds about a peer: the key of its record."""

    peer: PeerId
    boot: int
    incarnation: int
    status: Status


@dataclass(frozen=True, slots=True)
class Hello:
    """First on every link: who I am, which model I hold. Answered by Welcome or Refused.

    ``fragments``: into how many slices I cut it; peers that differ there cannot swap. A
    ``newcomer`` wants to hear of everyone; between members a Welcome is about its sender alone.
    """

    record: Record
    progress: Progress
    layout_digest: bytes
    fragments: int
    newcomer: bool = True


@dataclass(frozen=True, slots=True)
class Welcome:
    """Answer to Hello: everyone I know, or to a member just myself."""

    rumors: Rumors
    layout_digest: bytes
    fragments: int


@dataclass(frozen=True, slots=True)
class Refused:
    """You cannot take part: ``segments`` is my layout, so that you can name the difference.

    With SETTINGS there are none, and ``detail`` says it all.
    """

    reason: RefusalReason
    detail: str
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? ``boot`` is the life of yours I know; another is answered by a Notice."""

    probe: int
    boot: int
    rumors: Rumors = NO_RUMORS


@dataclass(frozen=True, slots=True)
class Ack:
    """I am, in this life and incarnation."""

    probe: int
    boot: int
    incarnation: int
    rumors: Rumors = NO_RUMORS


@dataclass(frozen=True, slots=True)
class PingReq:
    """Observer -> fellow observer: I get no answer from ``subject``; do you? Answered by Vouch or
    Nack ``within_s``, so that silence means that you are cut off from me."""

    probe: int
    subject: PeerId
    boot: int
    within_s: float


@dataclass(frozen=True, slots=True)
class Vouch:
    """Answer to PingReq: ``subject`` answered me, in this life and incarnation."""

    probe: int
    subject: PeerId
    boot: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class Nack:
    """Answer to PingReq: I cannot vouch for ``subject``, and why."""

    probe: int
    subject: PeerId
    reason: NackReason


@dataclass(frozen=True, slots=True)
class Gossip:
    """News for you; nothing to answer."""

    rumors: Rumors


@dataclass(frozen=True, slots=True)
class Digest:
    """Anti-entropy, first: my records in 256 hashes of 8 bytes, and some accounts to be merged."""

    buckets: bytes
    progress: tuple[Progress, ...] = ()


@dataclass(frozen=True, slots=True)
class Diff:
    """Anti-entropy, second: the buckets that differ (a byte each), and what I hold in them."""

    buckets: bytes
    versions: tuple[Version, ...]


@dataclass(frozen=True, slots=True)
class Lookup:
    """Anti-entropy, third: what I hold that you do not, and whose records I want; answered by
    Gossip."""

    rumors: Rumors
    peers: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """The group holds this about you; refute it if it is wrong."""

    record: Record


@dataclass(frozen=True, slots=True)
class Offer:
    """A -> B: my code of this fragment's anchor, to be pulled.

    ``clip_bound`` is the largest norm of a correction A will take (inf: no bound).
    """

    exchange: ExchangeId
    lineage: bytes
    fragment: int
    code: Blob
    codec: str
    reply_codec: str
    clip_bound: float


@dataclass(frozen=True, slots=True)
class Reply:
    """B -> A: the correction c, to be pulled; both sides move by ``weight`` times c.

    ``clip``: either side's bound made c so many times as long as the difference (1: not at all).
    """

    exchange: ExchangeId
    fragment: int
    correction: Blob
    codec: str
    weight: float
    clip: float = 1.0


@dataclass(frozen=True, slots=True)
class Done:
    """A -> B: what became of your Reply. Refused: queue the same amount back."""

    exchange: ExchangeId
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Busy:
    """B -> A: not now; try another partner. Nothing was applied on either side."""

    exchange: ExchangeId
    reason: BusyReason


@dataclass(frozen=True, slots=True)
class Gone:
    """I do not know this exchange (any more): drop it."""

    exchange: ExchangeId


@dataclass(frozen=True, slots=True)
class Adopt:
    """Newcomer -> member: may I have one consistent snapshot of your model?"""

    exchange: ExchangeId
    lineage: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Answer to Adopt: the snapshot, to be pulled, and whose lineage it is."""

    exchange: ExchangeId
    lineage: bytes
    snapshot: Blob
    codec: str


@dataclass(frozen=True, slots=True)
class Want:
    """Receiver -> holder: send these bytes of this blob, from a chunk's beginning."""

    transfer: Transfer
    offset_bytes: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Holder -> receiver, on the bulk plane. The driver attaches the payload and its digest;
    the core hears of a chunk only after the driver checked and stored it."""

    transfer: Transfer
    offset_bytes: int
    length_bytes: int
    digest: bytes = b""


MembershipMessage: TypeAlias = (
    Hello
    | Welcome
    | Refused
    | Ping
    | Ack
    | PingReq
    | Vouch
    | Nack
    | Gossip
    | Digest
    | Diff
    | Lookup
    | Notice
)
ExchangeMessage: TypeAlias = Offer | Reply | Done | Busy | Gone | Adopt | Snapshot | Want | Chunk
Message: TypeAlias = MembershipMessage | ExchangeMessage

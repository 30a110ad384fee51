"""What one peer needs to know beyond the protocol, and how its sockets are opened."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from torch.optim import Optimizer

from gossip.codecs import check_pair
from gossip.config import Config, ExchangeConfig
from gossip.errors import UsageError
from gossip.mixing.outer import OuterStep
from gossip.mixing.robust import check_clip
from gossip.transport.transport import Transport
from gossip.transport.zeromq import ZeroMQTransport
from peers.entrance import UNTOLD, entrance_keys
from peers.hook import Cadence
from peers.identity import Identity
from peers.rate import RateRule

FINISH_EXACT_BYTES = 64 << 20
FRAGMENT_BYTES = 50_000_000
FRAGMENTS_MAX = 16

CLIPPED_CODEC: Final = "int8"
"""What is offered beside a clip: ``check_clip`` says why."""
USUAL: Final = Config()
CLIPPED: Final = Config(exchange=ExchangeConfig(codec=CLIPPED_CODEC, reply_codec=CLIPPED_CODEC))


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """Everything about one peer that is not the protocol's.

    listen          HOST:PORT of the control plane; bulk takes the next port. Port 0: any two.
    advertise       the host others dial, when it differs from the one listened on.
    dial_out        nobody can dial this peer (NAT, firewall): it tells no address, listens only to
                    itself, and takes part over the links it opens; ``listen`` does not matter.
    key_file        the run's CURVE key (``gossip key``); needed to listen beyond loopback unless
                    ``insecure``.
    folder          identity, events and known contacts are kept here; None keeps nothing.
    join_timeout_s  how long to look for a contact, and a model, before giving up.
    journal         keep every input for ``gossip replay``.
    finish_codec    for the swaps of finalise(); ``auto``: fp32 for models up to 64 MiB, so that
                    peers agree exactly, above that the run's codec.
    fragments       slices that are swapped in turn; 0: by the model's size, one up to 50 MB of
                    fp32, more for larger ones (all peers of a run must have the same).
    clip            kappa: no correction moves this peer by more than so many times its own usual
                    update (for swarms with strangers; 2.0 costs little where peers hold like
                    data; not with wrap codecs of its own, so the default protocol then offers
                    int8, while others may still offer theirs), and none from a peer that stands
                    apart where nearly all others are near; 0: no bound.
    rate            what happens to the optimizer's learning rate while others share the model; see
                    ``peers.rate``.
    capacity        this peer's share of the data beside others' (2.0: twice as much).
    seed            of the core's random choices; None: drawn.
    protocol        the protocol's own knobs: codecs, fragments, byte budget, timers. With a clip,
                    one of your own must name a codec that does not wrap.

    Raises UsageError where codecs do not go together.
    """

    listen: str = "127.0.0.1:0"
    advertise: str | None = None
    dial_out: bool = False
    key_file: Path | None = None
    insecure: bool = False
    folder: Path | None = None
    join_timeout_s: float = 30.0
    journal: bool = False
    finish_codec: str = "auto"
    seed: int | None = None
    fragments: int = 0
    clip: float = 0.0
    capacity: float = 1.0
    rate: RateRule = RateRule.KEEP
    cadence: Cadence = field(default_factory=Cadence)
    outer: OuterStep = field(default_factory=OuterStep)
    protocol: Config = USUAL

    def __post_init__(self) -> None:
        if self.clip > 0 and self.protocol is USUAL:
            object.__setattr__(self, "protocol", CLIPPED)
        if self.dial_out and self.advertise is not None:
            raise UsageError("a peer that only dials out has nothing to advertise")
        if self.fragments < 0:
            raise UsageError("fragments must be 0 (by the model's size) or a number of slices")
        exchange = self.protocol.exchange
        check_pair(exchange.codec, exchange.reply_codec)
        check_clip(self.clip, exchange.codec)
        for finish_codec in (self.finish_codec, exchange.finish_codec):
            if finish_codec not in ("auto", ""):
                check_pair(finish_codec, finish_codec)  # finishing uses one for both legs

    def protocol_for(self, elements: int) -> Config:
        """The protocol's config for a vector of so many elements (decides ``finish_codec`` and
        ``fragments``)."""
        exact = 4 * elements <= FINISH_EXACT_BYTES
        exchange = self.protocol.exchange
        fragments = self.fragments or max(exchange.fragments, fragments_for(elements))
        codec = self.finish_codec
        if codec == "auto":
            codec = "fp32" if exact else exchange.finish_codec
        changed = replace(exchange, finish_codec=codec, fragments=fragments)
        return replace(self.protocol, exchange=changed)


def fragments_for(elements: int) -> int:
    """Into how many slices a vector is cut: of at most FRAGMENT_BYTES each, up to FRAGMENTS_MAX.

    Many small swaps mix better than few large ones at the same bytes, and no swap holds a large
    model's memory for long. It follows from the length alone, so that all peers agree.
    """
    return min(FRAGMENTS_MAX, max(1, -(-4 * elements // FRAGMENT_BYTES)))


def hookable(optimizer: Optimizer) -> Optimizer:
    """The innermost torch optimizer: wrappers such as accelerate's hold it in ``.optimizer``.

    Raises UsageError when there is none.
    """
    inner: Any = optimizer
    while not hasattr(inner, "_optimizer_step_post_hooks"):
        inner = getattr(inner, "optimizer", None)
        if inner is None:
            raise UsageError(
                f"{type(optimizer).__name__} is not a torch optimizer; call peer.step() by hand"
            )
    assert isinstance(inner, Optimizer)
    return inner


def open_transport(identity: Identity, run: str, settings: PeerConfig) -> Transport:
    """Bind this peer's sockets.

    Raises UsageError for an address or key that cannot be used, TransportError for a port in use.
    """
    listen = UNTOLD if settings.dial_out else settings.listen
    keys = entrance_keys(listen, settings.key_file, settings.insecure)
    return ZeroMQTransport(
        identity.peer,
        identity.boot,
        run,
        listen,
        settings.advertise,
        keys,
        dialable=not settings.dial_out,
    )

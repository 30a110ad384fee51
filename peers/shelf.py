"""The codecs of one thread, by name and leg: made once, as each owns scratch memory."""

from __future__ import annotations

from gossip.codecs import (
    OFFER_CODECS,
    REPLY_CODECS,
    WRAP_CODECS,
    Codec,
    OfferCodec,
    WrapCodec,
    check_pair,
    make_codec,
    make_wrap_codec,
)
from gossip.errors import UsageError
from gossip.messages import SNAPSHOT_CODEC


class Shelf:
    """See the module. What a neighbor announces may be anything: None answers what we do not know
    or would never use on that leg."""

    def __init__(self) -> None:
        self._plain: dict[str, Codec] = {}
        self._wrap: dict[str, WrapCodec] = {}

    def offer(self, name: str) -> OfferCodec | None:
        """For a code of an anchor."""
        return self.wrap(name) if name in WRAP_CODECS else self._known(name, OFFER_CODECS)

    def reply(self, name: str) -> Codec | None:
        """For a correction."""
        return self._known(name, REPLY_CODECS)

    def snapshot(self, name: str) -> Codec | None:
        """For a whole model."""
        return self._known(name, (SNAPSHOT_CODEC,))

    def pair(self, offer: str, reply: str) -> tuple[OfferCodec, Codec] | None:
        """For both legs of a swap, if they go together."""
        try:
            check_pair(offer, reply)
        except UsageError:
            return None
        codec, reply_codec = self.offer(offer), self.reply(reply)
        return None if codec is None or reply_codec is None else (codec, reply_codec)

    def wrap(self, name: str) -> WrapCodec:
        """A wrap-around code, which must be one of ours."""
        if name not in self._wrap:
            self._wrap[name] = make_wrap_codec(name)
        return self._wrap[name]

    def _known(self, name: str, names: tuple[str, ...]) -> Codec | None:
        if name not in names:
            return None
        if name not in self._plain:
            self._plain[name] = make_codec(name)
        return self._plain[name]

"""A warm start: a core that knows everybody from its first moment."""

from __future__ import annotations

from gossip.core import Core
from gossip.machine import Effect, Received
from gossip.messages import Record, Rumors, Seconds, Sync


def acquaint(core: Core, records: tuple[Record, ...], now: Seconds) -> list[Effect]:
    """Have a core know these members, itself among them; returns what it asks for.

    A membership machine that offers ``acquaint`` may keep what is common to all peers once.
    Otherwise one member tells it all, as in a full exchange.
    """
    offered = getattr(core.swim, "acquaint", None)
    if offered is not None:
        effects: list[Effect] | None = offered(records)
        return effects or []
    others = tuple(record for record in records if record.peer != core.swim.me.peer)
    if not others:
        return []
    told = Sync(Rumors(others), reply_wanted=False)
    return core.handle(Received(others[0].peer, told), now)

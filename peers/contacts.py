"""Addresses of peers met in this run, so that a restarted peer finds its way back by itself."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from peers.identity import write_whole

log = logging.getLogger("gossip.peer")
FILE = "contacts.json"


def save_contacts(folder: Path, contacts: tuple[str, ...]) -> None:
    """Keep the addresses; a full disk costs only the memory of them, and is logged."""
    try:
        write_whole(folder / FILE, json.dumps(list(contacts)).encode())
    except OSError as wrong:
        log.warning("contacts are not kept: %s; training goes on", wrong.strerror)


def load_contacts(folder: Path, own_address: str) -> tuple[str, ...]:
    """What an earlier life kept, without our own address; nothing if there is nothing sound."""
    try:
        saved = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as wrong:
        log.warning("the remembered contacts cannot be read: %s", wrong)
        return ()
    if not isinstance(saved, list):
        return ()
    return tuple(each for each in saved if isinstance(each, str) and each != own_address)

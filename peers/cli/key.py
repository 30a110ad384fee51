"""``gossip key FILE``: a new run key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gossip.transport.keys import save_run_key
from gossip.transport.zeromq import generate_run_key
from peers.cli import Parser


def main(arguments: Sequence[str]) -> int:
    """Write a new key file, readable by its owner only; never over an old one."""
    parser = Parser(prog="gossip key", description="Make a run key: copy it to every peer's host.")
    parser.add_argument("file", type=Path, metavar="FILE")
    flags = parser.parse_args(arguments)
    save_run_key(flags.file, generate_run_key())
    print(f"wrote {flags.file}; give it to every peer with --key, and to nobody else")
    return 0

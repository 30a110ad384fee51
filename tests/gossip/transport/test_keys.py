"""The run key's file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gossip.errors import UsageError
from gossip.transport.keys import load_run_key, save_run_key
from gossip.transport.zeromq import generate_run_key


def test_a_key_is_read_as_it_was_saved_and_only_its_owner_can(tmp_path: Path) -> None:
    """0600 from its creation."""
    path, keys = tmp_path / "run.key", generate_run_key()
    save_run_key(path, keys)

    assert keys == load_run_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_others_can_read_is_refused_with_the_cure(tmp_path: Path) -> None:
    """Any bit for group or others."""
    path = tmp_path / "run.key"
    save_run_key(path, generate_run_key())
    for mode in (0o640, 0o604, 0o620, 0o601):
        path.chmod(mode)
        with pytest.raises(UsageError, match=f"chmod 600 {path}"):
            load_run_key(path)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """The first one stays."""
    path, keys = tmp_path / "run.key", generate_run_key()
    save_run_key(path, keys)

    with pytest.raises(UsageError, match="exists"):
        save_run_key(path, generate_run_key())
    assert keys == load_run_key(path)


@pytest.mark.parametrize("content", [b"", b"short\nshort\n", b"\xff" * 100, b"a" * 40])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    """Said in one line, not by the library later."""
    path = tmp_path / "run.key"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(UsageError, match="is not a run key"):
        load_run_key(path)


def test_missing_files_and_folders_are_the_callers_error(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(UsageError, match="No such file"):
        load_run_key(tmp_path / "none")
    with pytest.raises(UsageError, match="No such file"):
        save_run_key(tmp_path / "none" / "run.key", generate_run_key())


def test_keys_do_not_show_themselves() -> None:
    """Not in logs, not in error messages."""
    keys = generate_run_key()

    assert keys.secret.decode() not in f"{keys!r} {keys}"
    assert keys.public.decode() not in f"{keys!r} {keys}"

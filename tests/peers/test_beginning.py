"""The first seconds of ``gossip run``, while torch is loaded: wrong flags, and being stopped."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gossip.errors import STOPPED_EARLY, StoppedError, TransportError
from gossip.transport.addresses import Address
from gossip.transport.ports import check_free
from peers.cli import main
from peers.cli.stopping import STOP_SIGNALS, calm_beginning
from peers.runner import Runner

ROOT = Path(__file__).resolve().parents[2]
ASK = """
import sys
from peers.cli import main
code = main(sys.argv[1:])
print(code, "torch" in sys.modules)
"""


def python(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own."""
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def before_torch(*words: str) -> tuple[int, str]:
    """The exit code and the one line of an error that was found without torch."""
    done = python(ASK, "run", *words)
    code, loaded = done.stdout.split()
    assert loaded == "False", "it took seconds to find that out"
    [line] = done.stderr.splitlines()
    return int(code), line


@pytest.mark.parametrize("beside", [0, 1])
def test_a_port_in_use_is_told_at_once(beside: int) -> None:
    """The one for control and the one for bulk, which is the next."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = before_torch("line", "--listen", f"127.0.0.1:{port - beside}")
    assert code == 71
    assert f"port {port} is in use" in line


@pytest.mark.parametrize("listen", ["29700", "10.0.0.1:port"])
def test_an_address_that_is_none_is_not_taken_for_an_open_one(listen: str) -> None:
    """The parser says what is wrong with it; a key would not help."""
    done = python(ASK, "run", "line", "--listen", listen)
    assert "is not HOST:PORT" in done.stderr
    assert "strangers" not in done.stderr


def test_a_key_that_cannot_be_used_is_told_at_once(tmp_path: Path) -> None:
    """Not there, open to others, or no key at all."""
    listen = ("line", "--listen", "127.0.0.1:0", "--key")
    assert before_torch(*listen, str(tmp_path / "no.key")) == (
        64,
        f"gossip run: error: cannot read {tmp_path / 'no.key'}: No such file or directory",
    )
    wrong = tmp_path / "run.key"
    wrong.write_text("a secret")
    wrong.chmod(0o644)
    code, line = before_torch(*listen, str(wrong))
    assert (code, "chmod 600" in line) == (64, True)
    wrong.chmod(0o600)
    code, line = before_torch(*listen, str(wrong))
    assert (code, "is not a run key" in line) == (64, True)


def test_an_open_door_is_told_at_once() -> None:
    """Beyond loopback without a key."""
    code, line = before_torch("line", "--listen", "0.0.0.0:0")
    assert (code, "--insecure" in line) == (64, True)
    code, line = before_torch("line", "--dial-out", "--listen", "127.0.0.1:0")
    assert (code, "leave out --listen" in line) == (64, True)


def test_what_only_the_parser_understands_is_left_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Its line, and its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["run", "line", "--listen"])
    assert ended.value.code == 64
    assert "expected one argument" in capsys.readouterr().err


def test_a_port_is_only_looked_at() -> None:
    """It can be taken afterwards; a name, or any port, is not ours to judge."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TransportError, match=f"port {port} is in use"):
            check_free(Address("127.0.0.1", port))
        check_free(Address("localhost", port))
    check_free(Address("127.0.0.1", 0))
    check_free(Address("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_while_things_are_loaded_is_calm(number: signal.Signals) -> None:
    """One line, no traceback, and 0: there was nothing to leave."""
    program = f"""
import os
from peers.cli.stopping import calm_beginning
with calm_beginning():
    os.kill(os.getpid(), {int(number)})
    print("went on")
"""
    done = python(program)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"gossip run: {STOPPED_EARLY}\n"


def test_signals_are_given_back() -> None:
    """Unless somebody else listens by now."""
    before = [signal.getsignal(each) for each in STOP_SIGNALS]
    with calm_beginning():
        assert [signal.getsignal(each) for each in STOP_SIGNALS] != before
    assert [signal.getsignal(each) for each in STOP_SIGNALS] == before
    with calm_beginning():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    signal.signal(signal.SIGTERM, before[0])


def test_stopping_while_it_joins_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same line, and 0."""

    def stop(*_: object) -> None:
        raise StoppedError(STOPPED_EARLY)

    monkeypatch.setattr(Runner, "run", stop)
    before = [signal.getsignal(each) for each in STOP_SIGNALS]
    assert main(["run", "line", "--listen", "127.0.0.1:0"]) == 0
    for each, earlier in zip(STOP_SIGNALS, before, strict=True):
        signal.signal(each, earlier)
    assert capsys.readouterr().err.splitlines()[-1] == f"gossip run: {STOPPED_EARLY}"

"""``gossip local``: its schedule, its flags, and that nothing is left over, whatever happens."""

from __future__ import annotations

import argparse
import itertools
import json
import signal
from pathlib import Path

import pytest

from gossip.errors import UsageError
from peers.cli import main
from simulations.local.interruption import Interrupted, Interruption
from simulations.local.process import PeerProcess, PeerStatus, Tail, peer_id
from simulations.local.schedule import Action, Deed, Kill, Schedule, Stop, kill, moment, stop
from tests.simulations.local_runs import Run, ended, lines, wait_until

# The schedule.


def test_faults_are_read_as_they_are_typed() -> None:
    """IDX@SECONDS and IDX@SECONDS:FOR."""
    assert Kill(0, 2.5) == kill("0@2.5")
    assert Stop(3, 1.0, 4.0) == stop("3@1:4")
    assert 7.0 == moment("7")


@pytest.mark.parametrize("text", ["", "0", "@3", "x@3", "-1@3", "0@", "0@-1", "0@nan", "0@inf"])
def test_a_malformed_kill_is_refused(text: str) -> None:
    """Before anything is started."""
    with pytest.raises(argparse.ArgumentTypeError):
        kill(text)


@pytest.mark.parametrize("text", ["", "0@1", "0@1:", "0@:2", "0:1@2", "0@1:-2", "0@-1:2"])
def test_a_malformed_stop_is_refused(text: str) -> None:
    """Before anything is started."""
    with pytest.raises(argparse.ArgumentTypeError):
        stop(text)


def test_actions_come_in_the_order_of_their_times() -> None:
    """Late peers are numbered after the initial ones, in the order of their times."""
    schedule = Schedule((Kill(3, 5.0),), (Stop(0, 1.0, 8.0),), (6.0, 2.0))

    found = schedule.actions(peers=3)

    expected = [
        Action(1.0, 0, Deed.FREEZE),
        Action(2.0, 3, Deed.START),
        Action(5.0, 3, Deed.KILL),
        Action(6.0, 4, Deed.START),
        Action(9.0, 0, Deed.THAW),
    ]
    assert expected == found


def test_a_schedule_may_name_late_peers_but_nobody_else() -> None:
    """Of three peers and a late one, the last is number 3."""
    Schedule(kills=(Kill(3, 1.0),), late_s=(0.5,)).check(peers=3)

    with pytest.raises(UsageError, match="no peer 4"):
        Schedule(stops=(Stop(4, 1.0, 1.0),), late_s=(0.5,)).check(peers=3)


@pytest.mark.parametrize(
    "words",
    [
        ["line", "--peers", "3", "--kill", "3@1"],
        ["line", "--peers", "3", "--kill", "0@-1"],
        ["line", "--peers", "3", "--kill", "soon"],
        ["line", "--peers", "3", "--stop", "0@1"],
        ["line", "--peers", "3", "--join-late", "never"],
        ["line", "--peers", "0"],
        ["nothing-of-the-kind", "--peers", "3"],
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_code_64(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Argparse ends the program, our own errors are returned: people see no difference."""
    try:
        code = main(["local", *words])
    except SystemExit as ending:
        code = int(str(ending.code))

    assert 64 == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert 1 == shown.err.count("\n")


def test_a_folder_of_an_earlier_run_is_not_mixed_with_a_new_one(tmp_path: Path) -> None:
    """Its events would be read as the new run's."""
    (tmp_path / "peer-0").mkdir()

    assert 64 == main(["local", "line", "--peers", "2", "--dir", str(tmp_path)])


# What is known of a peer.


def test_a_tail_gives_each_whole_line_once(tmp_path: Path) -> None:
    """The half of a line that is there waits for the other half."""
    path = tmp_path / "events.jsonl"
    tail = Tail(path)
    assert [] == tail.lines()

    path.write_bytes(b"one\ntwo\nthr")
    assert [b"one", b"two"] == tail.lines()
    with path.open("ab") as file:
        file.write(b"ee\n")

    assert [b"three"] == tail.lines()
    assert [] == tail.lines()


def test_a_status_survives_fields_it_does_not_know() -> None:
    """A newer peer may write more, an older one less."""
    line = json.loads('{"step": 3, "samples": 96, "loss": NaN, "new": [1], "shards": [2, 5]}')

    status = PeerStatus.of(line)

    assert (3, 96, (2, 5)) == (status.step, status.samples, status.shards)
    assert 0 == status.swaps


def test_the_ids_of_peers_follow_from_run_and_seed() -> None:
    """So that where shards are placed can be repeated."""
    ids = [peer_id("run", seed, index) for seed in range(3) for index in range(5)]

    assert 15 == len(set(ids))
    assert ids[0] == peer_id("run", 0, 0)


def test_a_signal_is_noted_and_obeyed_at_the_next_check() -> None:
    """Nothing is torn out of the middle of anything."""
    with Interruption() as interruption:
        interruption.check()
        signal.raise_signal(signal.SIGTERM)
        assert 1 == interruption.count
        with pytest.raises(Interrupted) as caught:
            interruption.check()

    assert 128 + signal.SIGTERM == caught.value.exit_code


# Real processes.


def child_folders(folder: Path) -> list[Path]:
    """Folders of peers below a folder."""
    return sorted(folder.glob("**/peer-*"))


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_nothing_behind(
    number: signal.Signals, tmp_path: Path
) -> None:
    """No process, no temporary file, and an exit code that says which signal it was."""
    run = Run(["local", "line", "--peers", "2", "--pace", "50"], tmp_path)
    wait_until(
        lambda: any(len(lines(each, "status")) > 2 for each in child_folders(run.temporary)),
        "a peer trains",
    )
    assert 2 == len(run.peers())

    run.process.send_signal(number)

    assert 128 + number == run.wait().code
    assert [] == run.left()
    assert [] == run.leftovers()


@pytest.mark.processes
def test_peers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    """Nobody can clean up after SIGKILL, so the kernel ends the peers."""
    run = Run(["local", "line", "--peers", "2", "--pace", "50"], tmp_path)
    wait_until(lambda: len(run.peers()) == 1, "a peer runs")

    run.process.kill()
    run.wait()

    assert [] == run.left()


@pytest.mark.processes
def test_a_peer_that_fails_is_shown_and_decides_the_exit_code(tmp_path: Path) -> None:
    """With its last words; the other processes are ended."""
    task = tmp_path / "mine.py"
    task.write_text(
        "from peers.tasks.line import LineTask\n"
        "class Mine(LineTask):\n"
        "    def optimizer(self, model):\n"
        "        raise ValueError('no optimizer today')\n"
        "task = Mine()\n"
    )

    done = ended(["local", f"{task}:task", "--peers", "2", "--seconds", "5"], tmp_path)

    assert 1 == done.code
    assert "no optimizer today" in done.stdout
    assert "peer 0 ended before all had joined" in done.stderr


@pytest.mark.processes
def test_a_frozen_peer_goes_on_and_a_late_one_adopts_the_model(tmp_path: Path) -> None:
    """SIGSTOP for some seconds, a joiner meanwhile: everybody finishes with much the same model."""
    folder = tmp_path / "kept"
    words = "local digits --peers 3 --seconds 12 --pace 40 --stop 1@2:3 --join-late 6 --json"

    done = ended([*words.split(), "--dir", str(folder)], tmp_path)

    assert 0 == done.code, done.stderr
    result = done.result
    peers = result["peers"]
    assert ["0", "1", "2", "3"] == list(peers)
    assert {"finished"} == {peer["state"] for peer in peers.values()}
    assert ([], [1], [3]) == (result["killed"], result["stopped"], result["joined"])

    before = [line for line in lines(folder / "peer-1", "status") if line["samples"] > 0]
    silences_s = [b["unix_s"] - a["unix_s"] for a, b in itertools.pairwise(before)]
    frozen = max(range(len(silences_s)), key=lambda place: silences_s[place])
    assert silences_s[frozen] > 2.0
    assert peers["1"]["samples"] > before[frozen + 1]["samples"]
    assert peers["1"]["swaps"] > before[frozen + 1]["swaps"]

    founder = lines(folder / "peer-0", "lineage_changed")
    joiner = lines(folder / "peer-3", "lineage_changed")
    assert founder[0]["lineage"] == joiner[-1]["lineage"]
    assert joiner[-1]["source"] in {peers[each]["id"] for each in "012"}
    accuracies = [peer["figures"]["accuracy"] for peer in peers.values()]
    assert min(accuracies) > max(accuracies) - 0.05
    assert min(accuracies) > 0.8


def test_a_process_that_was_never_started_is_gone() -> None:
    """A fault may name a late peer before its time."""
    peer = PeerProcess(4, Path("nowhere"), "0" * 16)

    assert not peer.send(signal.SIGKILL)
    assert peer.wait(0.0)
    assert 0 == peer.pid


@pytest.mark.processes
def test_a_late_peer_that_finds_nobody_any_more_is_not_waited_for(tmp_path: Path) -> None:
    """It starts while the others end: the run is over with them, and that is no failure."""
    run = ended(
        ["local", "line", "--peers=1", "--samples=400", "--join-late", "0", "--json"], tmp_path
    )

    assert run.code == 0, run.stderr
    assert "peer 1 starts, to join late" in run.stderr
    assert "peer 1 is not waited for: all others had ended before it joined" in run.stderr
    states = {index: peer["state"] for index, peer in run.result["peers"].items()}
    assert states == {"0": "finished", "1": "ended"}
    assert run.result["seconds"] < 20.0

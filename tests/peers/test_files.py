"""What a peer keeps on disk: identity, contacts, events, exported models."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from gossip.config import Config, Layout
from gossip.errors import UsageError
from gossip.machine import (
    Fault,
    LineageChanged,
    LinkCause,
    MemberChanged,
    Reach,
    ReachChanged,
    Woke,
)
from gossip.messages import PeerId, Record, Status
from gossip.transport.transport import LinkClosed, LinkOpened
from peers.contacts import load_contacts, save_contacts
from peers.daemon import Census
from peers.events import EventLog
from peers.export import export_model, load_model
from peers.identity import load_identity, write_whole
from peers.journal import Header, Journal


def test_an_identity_is_kept_and_its_boot_only_rises(tmp_path: Path) -> None:
    """Even when the clock stood still or went back."""
    first = load_identity(tmp_path)
    path = tmp_path / "identity.json"
    path.write_text(json.dumps({"peer": first.peer, "boot": first.boot + 10**9}))
    second = load_identity(tmp_path)
    assert first.peer == second.peer
    assert first.boot + 10**9 + 1 == second.boot


@pytest.mark.parametrize("text", ["", "[]", '{"peer": "x", "boot": 1}', '{"peer": 1}'])
def test_a_spoiled_identity_is_a_usage_error(tmp_path: Path, text: str) -> None:
    """One line that says what to do; the file is not overwritten."""
    path = tmp_path / "identity.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="remove it"):
        load_identity(tmp_path)
    assert text == path.read_text()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(UsageError, match="taken"):
        load_identity(tmp_path / "taken")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    """Whole or not at all."""
    path = tmp_path / "result.json"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "not bytes")  # type: ignore[arg-type] # the failure that is tested
    assert b"old" == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def test_contacts_survive_and_leave_out_ourselves(tmp_path: Path) -> None:
    """What is not a list of text counts as nothing."""
    save_contacts(tmp_path, ("a:1", "b:2"))
    assert ("b:2",) == load_contacts(tmp_path, "a:1")
    (tmp_path / "contacts.json").write_text('{"a": 1}')
    assert () == load_contacts(tmp_path, "a:1")
    (tmp_path / "contacts.json").write_text("[1")
    assert () == load_contacts(tmp_path, "a:1")
    assert () == load_contacts(tmp_path / "nowhere", "a:1")


def test_events_are_lines_of_json(tmp_path: Path) -> None:
    """Reports by name, bytes in hex, enums by name."""
    events = EventLog(tmp_path / "events.jsonl", "abc")
    events.report(LineageChanged(b"\x01\x02", None))
    events.report(Fault(PeerId("f" * 16), "magic", "x"))
    events.close()
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert ["lineage_changed", "fault"] == [line["event"] for line in lines]
    assert "0102" == lines[0]["lineage"]
    assert {"abc"} == {line["reporter"] for line in lines}


def test_every_lost_peer_is_a_line_with_a_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The link, the private verdict and the group's: enums by name, verdicts in the log too."""
    caplog.set_level("INFO", logger="gossip.peer")
    lost = PeerId("e" * 16)
    events = EventLog(tmp_path / "events.jsonl", "abc")
    events.link(LinkOpened(lost))
    events.link(LinkClosed(lost, LinkCause.FROZEN))
    events.report(ReachChanged(lost, Reach.BUSY, "link frozen"))
    events.report(MemberChanged(Record(lost, 1, 0, Status.DOWN, "h:1", "h:2"), "3 accusers"))
    events.close()
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    opened, closed, reach, member = lines
    assert ("link_opened", lost) == (opened["event"], opened["peer"])
    assert ("link_closed", lost, "frozen") == (closed["event"], closed["peer"], closed["cause"])
    assert ("reach_changed", "busy", "link frozen") == (
        reach["event"],
        reach["reach"],
        reach["why"],
    )
    assert ("down", "3 accusers") == (member["record"]["status"], member["why"])
    said = [record.getMessage() for record in caplog.records]
    reached, is_down = said
    assert "reach of eeeeee is busy: link frozen" == reached
    assert "member eeeeee at h:1 is down: 3 accusers" == is_down


def test_a_census_counts_private_verdicts_only_of_the_living() -> None:
    """A down member is down, whatever was thought of it before; who left is not counted."""
    ids = [PeerId(f"{number:016x}") for number in range(7)]
    statuses = [Status.ALIVE] * 4 + [Status.SUSPECT, Status.DOWN, Status.LEFT]
    records = [
        Record(peer, 1, 0, status, "h:1", "h:2") for peer, status in zip(ids, statuses, strict=True)
    ]
    reaches = {ids[2]: Reach.BUSY, ids[3]: Reach.LOST, ids[4]: Reach.BUSY, ids[5]: Reach.LOST}
    assert Census(alive=1, busy=2, lost=1, down=1) == Census.of(ids[0], records, reaches)


def test_faults_from_strangers_cannot_fill_the_disk(tmp_path: Path) -> None:
    """One line a kind and second, however many there are."""
    events = EventLog(tmp_path / "events.jsonl", "abc")
    for _ in range(10_000):
        events.report(Fault(None, "run", "wrong run"))
        events.report(Fault(None, "magic", "wrong magic"))
    events.close()
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) < 100


def test_a_full_disk_ends_the_events_and_the_journal_but_not_the_peer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each warns once, in a line, and takes what comes later without a word."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full to stand in for a full disk")
    events = EventLog(full, "abc")
    journal = Journal(full, header())
    for _ in range(1000):
        events.write("status", {"loss": math.nan})
        journal.note(0.0, Woke(), [])
    events.close()
    journal.close()
    said = [record.getMessage() for record in caplog.records]
    assert 1 == sum("events" in line for line in said), said
    assert 1 <= sum("journal" in line for line in said) <= 2, said


def header() -> Header:
    """A journal's beginning."""
    me = Record(PeerId("0" * 16), 1, 0, Status.ALIVE, "127.0.0.1:1", "127.0.0.1:2")
    return Header(1, 0.0, me, Layout(b"x" * 16), Config())


def test_an_exported_model_loads_anywhere(tmp_path: Path) -> None:
    """Tied weights are written once, names are the model's own, notes are kept."""
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    path = tmp_path / "deep" / "model.safetensors"
    export_model(model, path, {"run": "x"})
    assert ["0.weight"] == list(load_file(path))
    other = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    other[1].weight = other[0].weight
    load_model(other, path)
    assert torch.equal(model[0].weight, other[1].weight)


def test_a_foreign_model_file_is_refused(tmp_path: Path) -> None:
    """Another shape, or no safetensors at all."""
    export_model(nn.Linear(3, 2), tmp_path / "m.safetensors")
    with pytest.raises(UsageError, match="another model"):
        load_model(nn.Linear(2, 2), tmp_path / "m.safetensors")
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(UsageError, match="cannot read"):
        load_model(nn.Linear(2, 2), tmp_path / "junk")


def test_exporting_into_nowhere_is_a_usage_error(tmp_path: Path) -> None:
    """The place is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file"):
        export_model(nn.Linear(1, 1), tmp_path / "file" / "m.safetensors")

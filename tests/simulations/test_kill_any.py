"""Kill any one peer of a run, the first included: all others go on and finish."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulations.local_runs import ended, lines

PEERS = 3


@pytest.mark.processes
@pytest.mark.parametrize("task, index", [("digits", 0), ("line", 1), ("line", 2)])
def test_the_others_go_on_and_finish(task: str, index: int, tmp_path: Path) -> None:
    """After SIGKILL of one peer, samples and swaps of each other one grow, and it ends well."""
    folder = tmp_path / "kept"
    words = f"local {task} --peers {PEERS} --seconds 7 --pace 40 --every 8 --json"

    done = ended([*words.split(), "--kill", f"{index}@2", "--dir", str(folder)], tmp_path)

    assert 0 == done.code, done.stderr
    result = done.result
    assert [index] == result["killed"]
    assert f"lost: p{index} (refused, " in done.stderr.splitlines()[-1]  # what people see at last
    killed_at_s = lines(folder / f"peer-{index}", "status")[-1]["unix_s"]
    for other in set(range(PEERS)) - {index}:
        final = result["peers"][str(other)]
        before = [
            line
            for line in lines(folder / f"peer-{other}", "status")
            if line["unix_s"] <= killed_at_s
        ][-1]
        assert "finished" == final["state"]
        assert final["samples"] > before["samples"] + 3 * 40  # three seconds' steps at least
        assert final["swaps"] > before["swaps"] + 2
        assert (folder / f"peer-{other}" / "model.safetensors").exists()

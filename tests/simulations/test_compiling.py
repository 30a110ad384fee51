"""Compiled simulations: built once, from these very sources, and the same run to the letter."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gossip.errors import UsageError
from peers.cli import main
from simulations import compiling, simulate
from simulations.compiling import KEPT_S, ROOT, ensure_built, fingerprint, modules

FEW = (
    "gossip/deadlines.py",
    "gossip/machine.py",
    "gossip/messages.py",
    "gossip/membership/rumors.py",
)
"""All of them take a minute or two."""

TRANSLATE = "import sys; from mypyc.build import mypycify; mypycify(sys.argv[1:])"
"""A build as far as the sources in C: all that depends on ours, and the shorter part of it."""


def test_what_takes_part_in_every_event_is_compiled() -> None:
    """The modules are there; what is read by its annotations is not among them."""
    chosen = modules()

    assert all((ROOT / name).is_file() for name in chosen)
    assert {"gossip/core.py", "gossip/membership/swim.py", "simulations/world.py"} <= {*chosen}
    assert "simulations/conditions.py" not in chosen
    assert {*compiling.MADE_BARE} <= {*chosen}


@pytest.mark.timeout(300)  # up to 40 s of one core, which may be shared
def test_all_that_is_compiled_can_be(tmp_path: Path) -> None:
    """No source uses what mypyc does not know; nobody would notice before the next build."""
    pytest.importorskip("mypyc", reason="mypyc compiles, and comes with the extra dev")
    compiling._copy_to(tmp_path, modules())

    done = subprocess.run(
        [sys.executable, "-P", "-c", TRANSLATE, *modules()],
        cwd=tmp_path,
        # As mypyc's command has it: other modules are then as good as installed, and not checked.
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )

    assert 0 == done.returncode, (done.stdout + done.stderr)[-3000:]
    made = {name.removesuffix("/__init__.py").removesuffix(".py") for name in modules()}
    assert all((tmp_path / "build" / f"{name}.c").is_file() for name in made)


def test_another_choice_is_another_build() -> None:
    """Builds of different modules do not take each other's place."""
    assert fingerprint(FEW) == fingerprint(FEW) != fingerprint(FEW[:1])


def test_a_changed_source_is_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build is never older than what it was made of."""
    for package in compiling.PACKAGES:
        (tmp_path / package).mkdir()
    source = tmp_path / "gossip" / "one.py"
    source.write_text("a = 1\n")
    monkeypatch.setattr(compiling, "ROOT", tmp_path)

    before = fingerprint(FEW)
    (tmp_path / "gossip/README.md").write_text("words\n")
    assert fingerprint(FEW) == before, "nothing that runs has changed"

    source.write_text("a = 2\n")
    assert fingerprint(FEW) != before


def test_the_same_run_compiled(tmp_path: Path) -> None:
    """Every event and every effect is the same, and the compiled modules are really used."""
    pytest.importorskip("mypyc", reason="mypyc compiles, and comes with the extra dev")
    built = ensure_built(FEW, tmp_path)

    words = ["simulate", "churn", "--peers", "6", "--seed", "3", "--transcript"]
    compiled, interpreted = tmp_path / "compiled.txt", tmp_path / "interpreted.txt"
    python(built, "-m", "peers.cli", *words, str(compiled))
    assert 0 == main([*words, str(interpreted)])

    ours = interpreted.read_text().splitlines()
    assert ours == compiled.read_text().splitlines()
    assert len(ours) > 1000
    assert ensure_built(FEW, tmp_path) == built, "a second time nothing is built"
    said = python(built, "-c", "import gossip.deadlines as d; print(d.__file__)")
    assert str(built) in said
    assert not said.strip().endswith(".py")


def test_builds_that_nobody_runs_any_more_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change of a source leaves one behind; those that were run of late stay."""
    pytest.importorskip("mypyc", reason="mypyc compiles, and comes with the extra dev")
    monkeypatch.setattr(compiling, "_compile", lambda *_: None)
    cache = tmp_path / "gossip-trainer"
    old, killed, late, foreign = (
        cache / name for name in ("compiled-1", "building-2", "compiled-3", "mine")
    )
    long_ago_s = time.time() - KEPT_S - 60
    for folder in (old, killed, late, foreign):
        (folder / "gossip").mkdir(parents=True)
        os.utime(folder, (long_ago_s, long_ago_s))
    os.utime(late)

    built = ensure_built(FEW[:1], tmp_path)
    assert {*cache.iterdir()} == {late, foreign, built}

    os.utime(built, (long_ago_s, long_ago_s))
    ensure_built(FEW[:1], tmp_path)
    assert built.stat().st_mtime > long_ago_s + KEPT_S, "run just now"


def test_what_does_not_compile_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last words of the compiler, and no half-made folder for the next run to find."""
    pytest.importorskip("mypyc", reason="mypyc compiles, and comes with the extra dev")
    for package in compiling.PACKAGES:
        (tmp_path / "from" / package).mkdir(parents=True)
    (tmp_path / "from/gossip/one.py").write_text("a: int = 'not a number'\n")
    monkeypatch.setattr(compiling, "ROOT", tmp_path / "from")

    with pytest.raises(UsageError, match=r"could not compile(.|\n)*Incompatible types"):
        ensure_built(["gossip/one.py"], tmp_path / "cache")

    assert list((tmp_path / "cache/gossip-trainer").iterdir()) == []


def test_without_a_compiler_the_flag_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that it goes without."""
    monkeypatch.setattr(compiling, "find_spec", {}.get)

    with pytest.raises(UsageError, match=r"needs mypy and setuptools: pip install .*\[dev\]"):
        ensure_built(FEW, tmp_path)


def test_bugs_are_not_put_into_compiled_classes() -> None:
    """They would not be there, and the run would pass."""
    with pytest.raises(UsageError, match="--sabotage"):
        simulate.main(["calm", "--compiled", "--sabotage", "resurrection"])


def test_a_build_that_lost_its_modules_is_told(tmp_path: Path) -> None:
    """A cache that was swept leaves folders: starting from one again and again would never end."""
    swept = tmp_path / "gossip-trainer" / f"compiled-{fingerprint(modules())}"
    swept.mkdir(parents=True)
    program = (
        "from gossip.errors import UsageError\n"
        "from simulations.compiling import run_compiled\n"
        "try: run_compiled([__file__])\n"
        "except UsageError as wrong: print(wrong)\n"
    )
    (tmp_path / "again.py").write_text(program)

    done = subprocess.run(
        [sys.executable, str(tmp_path / "again.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert "remove that folder" in done.stdout
    assert str(swept) in done.stdout


def test_what_others_may_have_written_is_not_run(tmp_path: Path) -> None:
    """As in a cache below /tmp: the folder's name can be guessed."""
    planted = tmp_path / "gossip-trainer" / f"compiled-{fingerprint(FEW)}"
    planted.mkdir(parents=True)
    assert ensure_built(FEW, tmp_path) == planted
    for each in (planted, planted.parent):
        each.chmod(0o777)
        with pytest.raises(UsageError, match="others may write there"):
            ensure_built(FEW, tmp_path)
        each.chmod(0o755)


def python(tree: Path, *words: str) -> str:
    """What it prints, with this folder's packages."""
    surroundings = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, "-P", *words],
        env=surroundings,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return done.stdout

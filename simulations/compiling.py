"""The same simulation, compiled: the protocol's core and the world as extension modules, by mypyc.

The sources that run here are copied to a folder of the user's cache, the hot modules among them
are compiled beside their sources, and the same command is run from there; a second time nothing is
built. Every source is part of the folder's name, so what is run is never older than the sources.
The same seed gives the same events, compiled or not; only classes can no longer be changed in
memory, so deliberate bugs stay with the interpreter.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NoReturn

import gossip.core
from gossip.errors import UsageError
from simulations.bare import rewritten

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("gossip", "peers", "simulations")
"""What is copied."""

BUILDERS: Final = ("mypy", "setuptools")
"""What compiles; mypy brings mypyc."""

LAST_LINES: Final = 12
"""How much of a failed build is told."""

KEPT_S: Final = 7 * 24 * 3600.0
"""A build that nobody has run for so long is removed when another is made."""

MADE: Final = "compiled-"
"""How the folders of builds begin."""

UNDER_WAY: Final = "building-"
"""And those of builds that are not done."""

SETTINGS: Final = """
[project]
name = "compiled"
version = "0"

[tool.setuptools]
packages = []

[tool.mypy]
explicit_package_bases = true
ignore_missing_imports = true
disable_error_code = ["type-var"]

[[tool.mypy.overrides]]
module = ["torch.*", "numpy.*", "rich.*", "zmq.*", "numba.*"]
follow_imports = "skip"
"""
"""Of the build: what is not compiled need not be looked through, and that what was made bare is no
dataclass any more, which ``replace`` asks for, is known."""

SURROUNDINGS: Final = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.tcache_count=1000",
}
"""Thousands of peers do not fit a processor's cache: large pages spare it a tenth of its time. What
events make others let go, hundreds of a size: with that many kept at hand, another tenth."""

INLINED: Final = "-fno-semantic-interposition"
"""Nobody puts functions of his own in the place of compiled ones, so they may be inlined."""

COLD: Final = """
struct _object;
void CPy_AddTraceback(const char *, const char *, int, struct _object *)
    __attribute__((cold));
void CPy_TypeErrorTraceback(
    const char *, const char *, int, struct _object *, const char *, struct _object *)
    __attribute__((cold));
void CPy_AttributeError(
    const char *, const char *, const char *, const char *, int, struct _object *)
    __attribute__((cold));
"""
"""What is told to the C compiler before all else: who comes here raises. Half of all code does,
and never runs; it is put where it takes no room in the processor's cache."""

MADE_BARE: Final = ("gossip/machine.py", "gossip/messages.py")
"""What every frame and every effect is made of; see ``bare``."""

STARTED: Final = "GOSSIP_COMPILED"
"""In the surroundings of what was started from a build: it never starts itself again."""


def modules() -> list[str]:
    """What is compiled, as paths below the root: what takes a part in every event.

    ``simulations.conditions`` is not: its annotations are read when it is read from a file, and
    compiled classes keep only the outermost type.
    """
    packages = [ROOT / "gossip/exchange", ROOT / "gossip/membership"]
    protocol = [path for package in packages for path in sorted(package.glob("*.py"))]
    world = (
        "agenda calm clock figures guard measuring network plan simulated_peer splits spreading "
        "telling traffic truth wiring"
    )
    return [
        *(f"gossip/{name}.py" for name in ("core", "deadlines", "machine", "messages")),
        *(str(path.relative_to(ROOT)) for path in protocol),
        *(f"simulations/{name}.py" for name in (*world.split(), "world")),
    ]


def is_compiled() -> bool:
    """Whether this process runs the compiled modules."""
    return not str(gossip.core.__file__).endswith(".py")


def run_compiled(words: Sequence[str]) -> NoReturn:
    """Become ``words`` after ``python`` with everything compiled. Raises UsageError where that
    cannot be."""
    tried = os.environ.get(STARTED)
    if tried is not None:
        raise UsageError(
            f"what was compiled in {tried} is not what runs; some of it may have been deleted: "
            "remove that folder, and it is built anew"
        )
    built = ensure_built(modules())
    sys.stdout.flush()
    sys.stderr.flush()
    paths = [str(built), *filter(None, [os.environ.get("PYTHONPATH")])]
    surroundings = {**SURROUNDINGS, **os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    surroundings[STARTED] = str(built)
    # -P: what lies in the folder where the command was given must not come first.
    os.execve(sys.executable, [sys.executable, "-P", *words], surroundings)


def ensure_built(chosen: Sequence[str], cache: Path | None = None) -> Path:
    """The folder with these modules compiled, built if it is not there. Raises UsageError."""
    cache = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "gossip-trainer" / f"{MADE}{fingerprint(chosen)}"
    if folder.is_dir():
        for each in (folder.parent, folder):
            _check_own(each)
        with suppress(OSError):  # a cache that cannot be written to is good enough to run from
            os.utime(folder)
        return folder
    missing = [name for name in BUILDERS if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"--compiled needs {' and '.join(missing)}: pip install 'gossip-trainer[dev]'; "
            "without the flag the same runs, slower"
        )
    sys.stderr.write(f"compiling {len(chosen)} modules, once, into {folder} ...\n")
    sys.stderr.flush()
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_own(folder.parent)
        _remove_old(folder.parent, time.time() - KEPT_S)
        with tempfile.TemporaryDirectory(prefix=UNDER_WAY, dir=folder.parent) as made:
            tree = Path(made) / "tree"
            _copy_to(tree, chosen)
            _compile(tree, chosen)
            shutil.rmtree(tree / "build", ignore_errors=True)
            _take_place(tree, folder)
    except OSError as wrong:
        raise UsageError(f"--compiled cannot write {folder}: {wrong.strerror}") from wrong
    return folder


def _remove_old(cache: Path, before_s: float) -> None:
    """Remove builds that were last run before then, and what is left of ones that were killed.

    One that still runs has loaded its modules long ago. What cannot be removed stays: it is in
    nobody's way.
    """
    for each in cache.iterdir():
        with suppress(FileNotFoundError):  # somebody else was faster
            if each.name.startswith((MADE, UNDER_WAY)) and each.stat().st_mtime < before_s:
                shutil.rmtree(each, ignore_errors=True)


def _check_own(folder: Path) -> None:
    """Raise UsageError where others may have put code that would run as this user."""
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_IWOTH:
        raise UsageError(
            f"--compiled runs what lies in {folder}, and others may write there: remove it, or "
            "have XDG_CACHE_HOME name a folder of your own"
        )


def fingerprint(chosen: Sequence[str]) -> str:
    """Of all that decides what is built: the sources, which are compiled, and with what."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (str(sys.implementation.cache_tag), *map(version, BUILDERS), *chosen):
        digest.update(part.encode() + b"\0")
    for path in _sources():
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    """All files of the packages that a run needs, in an order that does not change."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md":
                yield path


def _copy_to(tree: Path, chosen: Sequence[str]) -> None:
    for path in _sources():
        name = str(path.relative_to(ROOT))
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name in MADE_BARE and name in chosen:
            target.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
        else:
            shutil.copyfile(path, target)
    (tree / "pyproject.toml").write_text(SETTINGS)


def _compile(tree: Path, chosen: Sequence[str]) -> None:
    """Put extension modules beside the sources. Raises UsageError with what the compiler says."""
    surroundings = {**os.environ, "MYPYC_OPT_LEVEL": "2", "MYPYC_DEBUG_LEVEL": "0"}
    (tree / "cold.h").write_text(COLD)
    flags = [os.environ.get("CFLAGS"), INLINED, "-include cold.h"]
    surroundings["CFLAGS"] = " ".join(filter(None, flags))
    surroundings.pop("PYTHONPATH", None)
    command = [sys.executable, "-m", "mypyc", *chosen]
    done = subprocess.run(
        command, cwd=tree, env=surroundings, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise UsageError(
            "--compiled could not compile; it takes a C compiler and Python's headers (on Debian: "
            "gcc and python3-dev). The last that was said:\n  " + "\n  ".join(said[-LAST_LINES:])
        )


def _take_place(tree: Path, folder: Path) -> None:
    """Have the finished tree under its name, unless somebody else was faster."""
    try:
        tree.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise

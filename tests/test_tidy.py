"""The house keeps its own rules; each rule is also shown a file that it must complain about."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import house_rules as rules
from tests.lab.house_rules import PRODUCT, ROOT, Source

Rule = Callable[[Source], list[str]]

EVERYWHERE: tuple[Rule, ...] = (
    rules.docstrings,
    rules.excepts,
    rules.unfinished,
    rules.words,
    rules.machine_paths,
    rules.ignores,
    rules.unsafe,
)
PRODUCT_ONLY: tuple[Rule, ...] = (rules.layering, rules.purity, rules.sizes)
BLOCKED = ("torch", "zmq", "msgpack", "threading", "socket", "asyncio")


@pytest.fixture(scope="module")
def product() -> list[Source]:
    """Every file that is shipped."""
    return rules.read_sources(*PRODUCT)


@pytest.fixture(scope="module")
def tests() -> list[Source]:
    """Every file that tests it."""
    return rules.read_sources("tests")


def complaints(rule: Rule, sources: list[Source]) -> list[str]:
    """All that one rule finds, with the module in front."""
    return [f"{source.module}:{found}" for source in sources for found in rule(source)]


@pytest.mark.parametrize("rule", [*EVERYWHERE, *PRODUCT_ONLY], ids=lambda rule: rule.__name__)
def test_the_product_keeps_the_rule(rule: Rule, product: list[Source]) -> None:
    """No shipped file breaks a house rule."""
    found = complaints(rule, product)

    assert found == [], "\n".join(found)


@pytest.mark.parametrize("rule", EVERYWHERE, ids=lambda rule: rule.__name__)
def test_the_tests_keep_the_rule(rule: Rule, tests: list[Source]) -> None:
    """No test file breaks a rule that binds tests too."""
    # Hypothesis calls its interactive strategy "data"; and a test may read such an attribute.
    found = [text for text in complaints(rule, tests) if "bare name" not in text]
    found = [text for text in found if rule is not rules.unsafe or ".data" not in text]

    assert found == [], "\n".join(found)


_LONG = "def f():\n" + "    x = 1\n" * 70
_DOCUMENTED = 'def f():\n    """Say.\n' + "    more\n" * 90 + '    """\n'

MUST_COMPLAIN: list[tuple[Rule, str, str]] = [
    # who may import whom
    (rules.layering, "gossip.messages", "import gossip.config"),
    (rules.layering, "gossip.config", "from gossip.machine import Send"),
    (rules.layering, "gossip.deadlines", "from gossip import core"),
    (rules.layering, "gossip.membership.swim", "from gossip.exchange import budget"),
    (rules.layering, "gossip.hashing.rendezvous", "from gossip.replication import placement"),
    (rules.layering, "gossip.membership.swim", "from gossip.core import Core"),
    (rules.layering, "gossip.core", "from gossip.wire import frames"),
    (rules.layering, "gossip.core", "import torch"),
    (rules.layering, "gossip.core", "def f():\n    import torch"),
    (rules.layering, "gossip.mixing.flat", "from gossip.machine import Apply"),
    (rules.layering, "gossip.codecs.dense", "from gossip.mixing.flat import Flat"),
    (rules.layering, "gossip.wire.frames", "import zmq"),
    (rules.layering, "gossip.transport.memory", "import zmq"),
    (rules.layering, "gossip.transport.zeromq", "import msgpack"),
    (rules.layering, "gossip.transport.zeromq", "import torch"),
    (rules.layering, "peers.daemon", "import zmq"),
    (rules.layering, "peers.daemon", "from simulations import local"),
    (rules.layering, "peers.daemon", "def f():\n    from simulations import local"),
    (rules.layering, "peers.cli.main", "from simulations import local"),
    (rules.layering, "peers.daemon", "import numpy"),
    (rules.layering, "peers.daemon", "import pickle"),
    (rules.layering, "peers.daemon", "from .mailbox import Mailbox"),
    (rules.layering, "simulations.world", "from tests.lab import pair"),
    # pure code
    (rules.layering, "gossip.exchange.budget", "import time"),
    (rules.layering, "gossip.exchange.budget", "from datetime import datetime"),
    (rules.layering, "gossip.membership.swim", "import threading"),
    (rules.layering, "gossip.membership.swim", "import socket"),
    (rules.layering, "gossip.hashing.rendezvous", "import os"),
    (rules.purity, "gossip.topology.schedule", "import random\nrandom.shuffle(x)"),
    (rules.purity, "gossip.topology.schedule", "from random import choice"),
    (rules.purity, "gossip.topology.schedule", "import random\nrng = random.Random()"),
    (rules.purity, "gossip.hashing.rendezvous", "x = hash('key')"),
    (rules.purity, "gossip.core", "x = id(core)"),
    (rules.purity, "gossip.core", "for x in {1, 2}:\n    f(x)"),
    (rules.purity, "gossip.core", "seen = set()\nfor x in seen:\n    f(x)"),
    (rules.purity, "gossip.core", "class A:\n  s: set[str]\n  def f(self): return list(self.s)"),
    (rules.purity, "gossip.core", "def f(s: frozenset[str]): return [x for x in s]"),
    (rules.purity, "gossip.core", "for x in a.keys() - b.keys():\n    f(x)"),
    (rules.purity, "gossip.core", "f(*set(x))"),
    (rules.purity, "gossip.core", "open_ = set()\nx = open_.pop()"),
    # sizes
    (rules.sizes, "peers.daemon", "x = 1\n" * 450),
    (rules.sizes, "peers.daemon", _LONG),
    (rules.sizes, "peers.daemon", "def f(a, b, c, d, e, g, h, i, j): pass"),
    # docstrings
    (rules.docstrings, "peers.daemon", "x = 1"),
    (rules.docstrings, "peers.daemon", '"""Say."""\nclass A: pass'),
    (rules.docstrings, "peers.daemon", '"""Say."""\nclass A:\n    """A."""\n    def f(self): pass'),
    (rules.docstrings, "tests.test_x", "def test_a_thing_holds(): pass"),
    # errors
    (rules.excepts, "peers.daemon", "try: f()\nexcept: g()"),
    (rules.excepts, "peers.daemon", "try: f()\nexcept Exception: g()"),
    (rules.excepts, "peers.daemon", "try: f()\nexcept (OSError, BaseException): g()"),
    (rules.excepts, "peers.daemon", "try: f()\nexcept BaseException as e: raise X from e"),
    (rules.excepts, "peers.daemon", "try: f()\nexcept OSError: pass"),
    # what may run foreign code or bypass autograd
    (rules.unsafe, "peers.daemon", "eval('1')"),
    (rules.unsafe, "peers.daemon", "exec('x = 1')"),
    (rules.unsafe, "peers.daemon", "torch.load(path)"),
    (rules.unsafe, "peers.daemon", "torch.load(path, weights_only=False)"),
    (rules.unsafe, "peers.daemon", "parameter.data.add_(1)"),
    # what is left to do, names, places
    (rules.unfinished, "peers.daemon", "x = 1  # TO" + "DO: more"),
    (rules.words, "peers.daemon", "def start_worker(): pass"),
    (rules.words, "peers.daemon", "class PeerManager: pass"),
    (rules.words, "peers.daemon", "dead_nodes = []"),
    (rules.words, "peers.daemon", "def f(world_size): pass"),
    (rules.words, "peers.daemon", "import numpy as helper"),
    (rules.words, "peers.daemon", "self.data = 1"),
    (rules.words, "peers.utils", "x = 1"),
    (rules.words, "peers.daemon", "rank = 0"),
    (rules.machine_paths, "peers.daemon", "x = '/" + "home/someone/model'"),
    (rules.machine_paths, "peers.daemon", "# see /" + "work/thing"),
    # exceptions to rules
    (rules.ignores, "peers.daemon", "x = 1  # no" + "qa"),
    (rules.ignores, "peers.daemon", "x = 1  # no" + "qa: E501"),
    (rules.ignores, "peers.daemon", "x = 1  # type: ig" + "nore"),
    (rules.ignores, "peers.daemon", "x = 1  # type: ig" + "nore[arg-type]"),
]

MUST_ACCEPT: list[tuple[Rule, str, str]] = [
    (rules.layering, "gossip.mixing.replica", "from gossip.codecs.codec import Codec"),
    (rules.layering, "gossip.replication.placement", "from gossip.hashing import rendezvous"),
    (rules.layering, "gossip.core", "from gossip.membership import swim"),
    (rules.layering, "gossip.transport.zeromq", "import zmq, threading"),
    (rules.layering, "peers.cli.main", "def f():\n    from simulations import local"),
    (rules.layering, "simulations.world", "import peers, gossip.core, torch, time"),
    (rules.purity, "gossip.topology.schedule", "import random\nrng = random.Random(seed)"),
    (rules.purity, "gossip.core", "seen = set()\nfor x in sorted(seen):\n    f(x)"),
    (rules.purity, "gossip.core", "for x in {1: 2}:\n    f(x)"),
    (rules.purity, "peers.daemon", "for x in {1, 2}:\n    f(x)"),
    (rules.sizes, "peers.daemon", _DOCUMENTED),
    (rules.sizes, "peers.daemon", "class A:\n    def f(self, a, b, c, d, e, g, h, i): pass"),
    (rules.excepts, "peers.daemon", "try: f()\nexcept OSError: g()"),
    (rules.excepts, "peers.daemon", "try: f()\nexcept BaseException:\n    g()\n    raise"),
    (rules.unsafe, "peers.daemon", "torch.load(path, weights_only=True)"),
    (rules.words, "peers.daemon", "socket.setsockopt(zmq.HEARTBEAT_IVL, 1)"),
    (rules.words, "gossip.membership.records", "rank = 0"),
    (rules.machine_paths, "peers.daemon", "x = '../shared/x'  # http://a.b/home/x"),
    (rules.ignores, "peers.daemon", "x = 1  # no" + "qa: E501 - a URL that cannot be broken"),
    (rules.ignores, "peers.daemon", "x = 1  # type: ig" + "nore[misc]  # torch says Any here"),
]


@pytest.mark.parametrize("rule, module, text", MUST_COMPLAIN)
def test_a_rule_complains_about_what_breaks_it(rule: Rule, module: str, text: str) -> None:
    """A rule that never complains holds nothing."""
    assert rule(Source.of(module, text)) != []


@pytest.mark.parametrize("rule, module, text", MUST_ACCEPT)
def test_a_rule_accepts_what_keeps_it(rule: Rule, module: str, text: str) -> None:
    """A rule that complains about good code would be switched off."""
    assert rule(Source.of(module, text)) == []


def test_every_rule_has_a_case_it_complains_about() -> None:
    """No rule joins the house unproven."""
    proven = {rule.__name__ for rule, _, _ in MUST_COMPLAIN}

    assert {rule.__name__ for rule in (*EVERYWHERE, *PRODUCT_ONLY)} == proven


def test_every_product_module_has_a_place_in_the_table() -> None:
    """A new folder gets its row in LAYERS before it gets code."""
    placed = tuple(name for name in rules.LAYERS if name != "gossip")
    homeless = [
        source.module
        for source in rules.read_sources(*PRODUCT)
        if source.module != "gossip" and not source.under(*placed)
    ]

    assert homeless == []


def import_without(blocked: tuple[str, ...], statement: str) -> subprocess.CompletedProcess[str]:
    """Run an import in a fresh interpreter in which some modules cannot be imported."""
    program = (
        "import sys\n"
        f"blocked = {blocked!r}\n"
        "class Wall:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in blocked:\n"
        "            raise ModuleNotFoundError(name)\n"
        "for loaded in [m for m in sys.modules if m.split('.')[0] in blocked]:\n"
        "    del sys.modules[loaded]\n"
        "sys.meta_path.insert(0, Wall())\n"
        f"{statement}\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_core_needs_no_torch_socket_thread_or_loop() -> None:
    """The protocol core imports with everything that does I/O out of reach."""
    done = import_without(BLOCKED, "import gossip.core")

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", BLOCKED)
def test_a_blocked_module_is_out_of_reach(module: str) -> None:
    """The test above would notice if the core imported any of them."""
    done = import_without(BLOCKED, f"import {module}")

    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def pyproject() -> Path:
    """The project file."""
    return ROOT / "pyproject.toml"


def test_the_wheel_holds_the_three_packages_only() -> None:
    """Tests are never shipped."""
    project = tomllib.loads(pyproject().read_text(encoding="utf-8"))

    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert list(PRODUCT) == wheel["packages"]


def test_every_ignored_lint_rule_has_its_reason() -> None:
    """An ignore without a reason is a rule that nobody decided about."""
    text = pyproject().read_text(encoding="utf-8")
    section = text.split("[tool.ruff.lint]")[1].split("[tool.pytest")[0]
    entries = re.findall(r'^\s*(?:"[A-Z]+\d+",|module = .*|ignore_errors.*).*$', section, re.M)

    assert len(entries) > 10
    assert [line for line in entries if not re.search(r"# .{8,}", line)] == []


def test_every_dependency_is_pinned_for_development() -> None:
    """What a fresh machine installs is what was tested."""
    project = tomllib.loads(pyproject().read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *itertools.chain.from_iterable(extras)]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {line.split("==")[0].lower() for line in pins.splitlines() if "==" in line}

    names = {re.split(r"[<>=]", entry)[0].lower() for entry in wanted}
    assert names - pinned == set()

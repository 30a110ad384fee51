"""Five real peers; one is frozen, one starved, one killed, one can only dial out. Then those that
were frozen and starved are killed too.

One story, told once; each test reads another part of what the peers wrote about it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab.swarm import LIMIT_S, Line, Swarm
from tests.simulations.local_runs import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

FOUNDER, FROZEN, STARVED, KILLED, HIDDEN = range(5)
FROZEN_S = 20.0
STARVED_S = 6.0
PRIVATE_VERDICT_S = 1.0
"""What a killed process may remain unnoticed, by whoever looks on: its kernel ends its connections
in milliseconds."""

TASK = f'''
import ctypes, os
from pathlib import Path
from peers.tasks.line import LineTask

class Task(LineTask):
    """``line``, but a step holds the interpreter for a while when a file asks for it."""

    def loss(self, model, batch):
        wish = Path(__file__).parent / f"hold-{{os.getpid()}}"
        if wish.exists():
            wish.unlink()
            ctypes.PyDLL(None).usleep({round(STARVED_S * 1e6)})  # PyDLL keeps the lock
        return super().loss(model, batch)

task = Task(shards=40)
'''


@dataclass(frozen=True)
class Kill:
    """One ``kill -9``, sent at ``at_s``, and who looked on, with open links to the victim."""

    victim: int
    at_s: float
    witnesses: tuple[int, ...]


@dataclass(frozen=True)
class Story:
    """What was done when, as ``time.time`` tells it. ``over_at_s``: before the later kills."""

    swarm: Swarm
    frozen_at_s: float
    killed_at_s: float
    thawed_at_s: float
    over_at_s: float
    kills: tuple[Kill, ...]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Freeze and starve together; then kill, while one is still frozen; then thaw."""
    folder = tmp_path_factory.mktemp("losses")
    task = folder / "task.py"
    task.write_text(TASK)
    words = [f"{task}:task", "--pace", "25", "--every", "5"]
    with Swarm(folder, words, 5, hidden=[HIDDEN]) as swarm:
        swarm.start()
        swarm.until_swapped(3, range(5))
        frozen, starved = (swarm.peers[each] for each in (FROZEN, STARVED))

        frozen_at_s = time.time()
        frozen.send(signal.SIGSTOP)
        (folder / f"hold-{starved.pid}").touch()
        swarm.until_later(frozen_at_s + STARVED_S + 1.0, STARVED)

        first = _kill(swarm, KILLED, FOUNDER, STARVED, HIDDEN)
        swarm.until_later(frozen_at_s + FROZEN_S)

        thawed_at_s = time.time()
        frozen.send(signal.SIGCONT)
        swarm.until_swapped(3, [FROZEN], thawed_at_s)
        wait_until(
            lambda: all(
                swarm.census(each) == {"alive": 3, "busy": 0, "lost": 0, "down": 1}
                for each in (FOUNDER, FROZEN, STARVED, HIDDEN)
            ),
            "everybody sees the killed peer down and all others alive",
            LIMIT_S,
        )
        over_at_s = time.time()
        second = _kill(swarm, FROZEN, FOUNDER, STARVED, HIDDEN)
        third = _kill(swarm, STARVED, FOUNDER, HIDDEN)
        swarm.stop()
        kills = (first, second, third)
        yield Story(swarm, frozen_at_s, first.at_s, thawed_at_s, over_at_s, kills)


def _kill(swarm: Swarm, victim: int, *witnesses: int) -> Kill:
    """Kill one, and wait until all witnesses have said that it is lost to them."""
    kill = Kill(victim, time.time(), witnesses)
    swarm.peers[victim].send(signal.SIGKILL)
    wait_until(
        lambda: all(_verdicts(swarm, kill, each) for each in witnesses),
        f"everybody has noticed that peer {victim} was killed",
        LIMIT_S,
    )
    return kill


def _verdicts(swarm: Swarm, kill: Kill, witness: int) -> list[Line]:
    """Lines by which a witness, for its own part, gave up the victim after it was killed."""
    about_it = swarm.losses(witness, kill.victim, kill.at_s)
    return [each for each in about_it if each["event"] == "reach_changed"]


def test_a_frozen_peer_is_not_called_down_and_swaps_again(story: Story) -> None:
    """Twenty seconds of SIGSTOP: its links say that it is frozen, so nobody accuses it."""
    about_it = [each for each in story.swarm.verdicts("down") if each[1] == FROZEN]
    assert [] == [each for each in about_it if each[2]["unix_s"] < story.over_at_s]
    assert story.swarm.swaps(FROZEN, story.thawed_at_s)
    for number in (FOUNDER, STARVED, HIDDEN):
        closed = story.swarm.lines(number, "link_closed", since_s=story.frozen_at_s)
        causes = [
            each["cause"]
            for each in closed
            if each["peer"] == story.swarm.ids[FROZEN] and each["unix_s"] < story.thawed_at_s
        ]
        assert "frozen" == causes[-1]  # a kernel that is slow to accept may be silent before
        assert "refused" not in causes


def test_a_starved_peer_loses_neither_links_nor_its_name(story: Story) -> None:
    """Six seconds without its interpreter: nobody calls it down, suspects a loss, or redials."""
    swarm = story.swarm
    status = swarm.lines(STARVED, "status")[-1]
    assert status["gap_s"] > 0.8 * STARVED_S  # the story did happen
    assert [] == [each for each in swarm.verdicts("down") if each[1] == STARVED]
    for number in (FOUNDER, KILLED, HIDDEN):
        about_it = swarm.losses(number, STARVED, story.frozen_at_s)
        # Later it leaves, and whoever leaves after it sees its links end.
        assert [] == [each for each in about_it if each["unix_s"] < story.over_at_s]
    assert swarm.swaps(STARVED, story.frozen_at_s + STARVED_S)


def test_three_killed_peers_are_each_lost_to_everybody_within_a_second(story: Story) -> None:
    """From the signal to the line that a witness wrote, by one clock, each kill measured once."""
    after_s = {
        (kill.victim, witness): _verdicts(story.swarm, kill, witness)[0]["unix_s"] - kill.at_s
        for kill in story.kills
        for witness in kill.witnesses
    }
    assert 8 == len(after_s)
    assert {} == {who: late_s for who, late_s in after_s.items() if late_s >= PRIVATE_VERDICT_S}


def test_a_killed_peer_is_lost_at_once_and_down_with_a_cause(story: Story) -> None:
    """Everybody sees for itself as soon as its link is closed, whose cause is that the process is
    gone; the group's verdict follows."""
    swarm = story.swarm
    for number in (FOUNDER, STARVED, HIDDEN):
        about_it = swarm.losses(number, KILLED, story.killed_at_s)
        closed = [each for each in about_it if each["event"] == "link_closed"]
        verdict = next(each for each in about_it if each["event"] == "reach_changed")
        assert verdict["unix_s"] - closed[0]["unix_s"] < PRIVATE_VERDICT_S
        assert "refused" == closed[-1]["cause"]
        assert "frozen" not in [each["cause"] for each in closed]
    down = [each for each in swarm.verdicts("down") if each[1] == KILLED]
    assert {FOUNDER, STARVED, HIDDEN} <= {by for by, _, _ in down}
    assert all(line["why"] for _, _, line in down)


def test_nobody_waits_for_the_lost(story: Story) -> None:
    """While one is frozen and another starved or killed, the others train and swap."""
    swarm = story.swarm
    for number in (FOUNDER, HIDDEN):
        statuses = swarm.lines(number, "status", since_s=story.frozen_at_s)
        samples = [each["samples"] for each in statuses if each["unix_s"] < story.killed_at_s]
        assert samples[-1] > samples[0]
        swaps = swarm.swaps(number, story.frozen_at_s + 1.0)
        assert [each for each in swaps if each["unix_s"] < story.thawed_at_s]


def test_a_peer_nobody_can_dial_trains_and_swaps_in_both_roles(story: Story) -> None:
    """Over the links it opened, offers go both ways."""
    swarm = story.swarm
    assert "" == swarm.lines(HIDDEN, "joined")[0]["address"]
    assert {"initiator", "responder"} <= {each["role"] for each in swarm.swaps(HIDDEN)}
    opened = swarm.lines(FOUNDER, "link_opened")
    assert swarm.ids[HIDDEN] in {each["peer"] for each in opened}  # it is a witness like others
    samples = [each["samples"] for each in swarm.lines(HIDDEN, "status")]
    assert samples[-1] > samples[0]
    assert 0 == swarm.peers[HIDDEN].returncode

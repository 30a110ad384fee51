"""What is shown of lost peers, from the lines that the others wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from simulations.local.process import PeerProcess, State
from simulations.local.sights import Sight, Sights
from simulations.local.watch import losses_of
from simulations.table import Loss

IDS = ["a" * 16, "b" * 16, "c" * 16, "d" * 16]
OTHER = IDS[1]


def link(cause: str = "", peer: str = OTHER) -> dict[str, object]:
    """A link to it was lost, or opened."""
    if not cause:
        return {"event": "link_opened", "peer": peer}
    return {"event": "link_closed", "peer": peer, "cause": cause}


def reach(verdict: str, peer: str = OTHER) -> dict[str, object]:
    """A private verdict."""
    return {"event": "reach_changed", "peer": peer, "reach": verdict, "why": "of some kind"}


def claim(status: str, peer: str = OTHER) -> dict[str, object]:
    """A claim of the group."""
    return {"event": "member_changed", "record": {"peer": peer, "status": status}, "why": "gossip"}


def told(*lines: dict[str, object]) -> Sight:
    """How the other is seen after these lines, a second apart, from second 1 on."""
    sights = Sights()
    for at_s, line in enumerate(lines, start=1):
        sights.hear({**line, "unix_s": float(at_s)})
    return sights.about.get(OTHER, Sight())


CRASH = (link(), link("closed"), reach("lost"), link("refused"), claim("suspect"), claim("down"))


@pytest.mark.parametrize(
    "lines, expected",
    [
        ((claim("alive"), link()), Sight()),
        (CRASH[:2], Sight("closed")),  # no verdict yet
        (CRASH[:4], Sight("refused", lost=True, at_s=3.0)),
        (CRASH, Sight("refused", down=True, at_s=3.0)),
        ((*CRASH, claim("alive"), link()), Sight(at_s=3.0)),
        ((reach("lost"), reach("busy")), Sight(at_s=1.0)),  # frozen: there after all
        ((reach("lost"), reach("open"), reach("lost")), Sight(lost=True, at_s=3.0)),
        ((link("closed"), reach("lost"), claim("left")), Sight()),
    ],
)
def test_lines_come_together_to_a_sight(
    lines: tuple[dict[str, object], ...], expected: Sight
) -> None:
    """The cause is the last one told, and the loss counts from its first sign."""
    assert expected == told(*lines)


@dataclass
class Scene:
    """Four peers of a local run, by what they wrote; ``states`` where they do not train."""

    folder: Path
    states: dict[int, State] = field(default_factory=dict)

    def losses(self, lines: dict[int, list[dict[str, object]]]) -> list[Loss]:
        """What is shown once all lines are read."""
        peers = []
        for index, peer in enumerate(IDS):
            made = Peer(index, self.folder / str(index), peer)
            made.as_if = self.states.get(index, State.TRAINING)
            made.folder.mkdir()
            text = "".join(
                f"{json.dumps({'unix_s': 1.0, **line})}\n" for line in lines.get(index, [])
            )
            (made.folder / "events.jsonl").write_text(text)
            made.look()
            peers.append(made)
        return losses_of(peers)


class Peer(PeerProcess):
    """A peer without a process, in the state that a test wants."""

    as_if = State.TRAINING

    @property
    def pid(self) -> int:
        """As if it had been started."""
        return 1

    @property
    def state(self) -> State:
        """The one wanted."""
        return self.as_if


def test_a_loss_is_shown_with_the_cause_most_found_and_how_many_hold_it(tmp_path: Path) -> None:
    """A link that ended, and no more, is the least telling cause of all."""
    shown = Scene(tmp_path, {1: State.KILLED}).losses(
        {
            0: [link("refused"), reach("lost"), claim("down")],
            2: [link("closed"), reach("lost")],
            3: [link("closed"), reach("lost"), claim("down")],
        }
    )

    assert [Loss(1, "refused", lost_to=3, down_for=2)] == shown


def test_the_latest_loss_comes_first(tmp_path: Path) -> None:
    """It is what people want to see when not all fit."""
    lines = [reach("lost", IDS[1]), {**reach("lost", IDS[2]), "unix_s": 2.0}]

    shown = Scene(tmp_path).losses({0: lines, 3: lines[:1]})

    assert [Loss(2, "", 1, 0), Loss(1, "", 2, 0)] == shown


def test_who_finished_is_not_lost_and_who_was_killed_is_no_witness(tmp_path: Path) -> None:
    """Links end when a peer leaves; and the last word of the killed is about other times."""
    states = {1: State.FINISHED, 2: State.KILLED}
    lines = {0: [link("closed"), reach("lost")], 2: [reach("lost", IDS[3])]}

    assert [] == Scene(tmp_path, states).losses(lines)


def test_when_all_have_finished_their_last_word_counts(tmp_path: Path) -> None:
    """So the last table still says who was lost; before, only those that run are asked."""
    lines = {0: [link("silent"), reach("lost"), claim("down")]}
    over = dict.fromkeys((0, 2, 3), State.FINISHED) | {1: State.KILLED}
    (tmp_path / "over").mkdir()
    (tmp_path / "going").mkdir()

    assert [Loss(1, "silent", 1, 1)] == Scene(tmp_path / "over", over).losses(lines)
    assert [] == Scene(tmp_path / "going", over | {3: State.TRAINING}).losses(lines)

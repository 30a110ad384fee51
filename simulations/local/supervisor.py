"""Starts the peers of a local run, carries out its schedule, and leaves nothing behind.

It takes no part in the swarm: peers that have joined would train on without it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gossip.errors import GossipError
from simulations.local.interruption import Interruption
from simulations.local.process import PeerProcess, State, peer_id
from simulations.local.schedule import Action, Deed, Schedule
from simulations.local.watch import Watch

POLL_S: Final = 0.1
START_TIMEOUT_S: Final = 120.0
"""All initial peers must have joined by then: starting Python and torch on a busy machine."""
SILENCE_MAX_S: Final = 60.0
"""Status lines come twice a second, and nothing a peer does takes longer than about 30 s."""
GRACE_S: Final = 5.0
"""What a peer may take to leave politely when everything is to end."""


class RunFailed(GossipError):
    """A peer failed before there was a swarm; ``words`` are its last ones."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """What to run.

    arguments   of ``gossip run``: the task and its flags, without --join, --listen and --seconds.
    run, seed   name the peers; see ``process.peer_id``.
    seconds     how long to train; None: until --samples says so.
    """

    peers: int
    arguments: tuple[str, ...]
    run: str
    seed: int = 0
    seconds: float | None = None
    schedule: Schedule = field(default_factory=Schedule)


class Supervisor:
    """A context manager around the processes of one run; ``run`` once inside it.

    On leaving the block every process is gone, whatever happened.
    """

    def __init__(
        self, plan: LocalPlan, folder: Path, watch: Watch, interruption: Interruption
    ) -> None:
        everybody = plan.peers + len(plan.schedule.late_s)
        self.plan = plan
        self.peers = [
            PeerProcess(index, folder / f"peer-{index}", peer_id(plan.run, plan.seed, index))
            for index in range(everybody)
        ]
        self.elapsed_s = 0.0
        self._watch = watch
        self._interruption = interruption
        self._joined_at_s: float | None = None
        self._over: set[int] = set()

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def failed(self) -> list[PeerProcess]:
        """Peers that ended neither well nor on purpose."""
        return [peer for peer in self.peers if peer.state is State.FAILED]

    def run(self) -> None:
        """Until every peer is over. Raises RunFailed, or Interrupted when a signal comes."""
        self._start_all()
        self._joined_at_s = time.monotonic()
        self._watch.say(f"all {self.plan.peers} peers have joined; the clock starts")
        due = self._timed_actions()
        while due or not all(peer.state.is_over for peer in self._started()):
            self._turn()
            self._let_go_of_the_too_late()
            while due and due[0].at_s <= self.elapsed_s:
                self._do(due.pop(0))
            if due and all(peer.state.is_over for peer in self._started()):
                for action in due:
                    self._watch.say(f"nobody is left to {action.deed.value} peer {action.index}")
                return

    def end(self) -> None:
        """End what still runs: politely first, and by force after GRACE_S or a second signal."""
        left = [peer for peer in self.peers if peer.returncode is None and peer.pid]
        for peer in left:
            _ask_to_end(peer)
        until_s = time.monotonic() + GRACE_S
        while any(peer.returncode is None for peer in left) and time.monotonic() < until_s:
            if self._interruption.count > 1:
                break
            time.sleep(POLL_S / 2)
        for peer in left:
            peer.send(signal.SIGKILL)
            peer.wait(GRACE_S)
            peer.look()

    # Inside.

    def _started(self) -> list[PeerProcess]:
        return [peer for peer in self.peers if peer.pid]

    def _start_all(self) -> None:
        first, *others = self.peers[: self.plan.peers]
        self._start(first, (), self.plan.seconds)
        self._wait_for([first])
        for peer in others:
            self._start(peer, [str(first.address)], self.plan.seconds)
        self._wait_for(others)

    def _start(self, peer: PeerProcess, contacts: Sequence[str], seconds: float | None) -> None:
        initial = peer.index < self.plan.peers
        arguments = [*self.plan.arguments, "--listen", "127.0.0.1:0"]
        arguments += [word for contact in contacts for word in ("--join", contact)]
        if initial:
            arguments += ["--wait-for", str(self.plan.peers)]
            arguments += ["--join-timeout", f"{START_TIMEOUT_S:g}"]
        arguments += [] if seconds is None else ["--seconds", f"{seconds:g}"]
        peer.start(arguments)

    def _wait_for(self, awaited: Sequence[PeerProcess]) -> None:
        until_s = time.monotonic() + START_TIMEOUT_S
        while any(peer.address is None for peer in awaited):
            self._turn()
            for peer in self._started():
                if peer.state.is_over:
                    raise RunFailed(f"peer {peer.index} ended before all had joined")
            if time.monotonic() >= until_s:
                raise RunFailed(f"not all peers have joined within {START_TIMEOUT_S:g} s")

    def _timed_actions(self) -> list[Action]:
        """The schedule; late peers start as much earlier as the initial ones took to start."""
        lead_s = sum(peer.start_s for peer in self._started()) / self.plan.peers
        return sorted(
            (
                Action(max(0.0, each.at_s - lead_s), each.index, each.deed)
                if each.deed is Deed.START
                else each
                for each in self.plan.schedule.actions(self.plan.peers)
            ),
            key=lambda action: action.at_s,
        )

    def _turn(self) -> None:
        """Look at everybody, show it, sleep a moment."""
        for peer in self._started():
            was_joined = peer.address is not None
            peer.look()
            if peer.address is not None and not was_joined and self._joined_at_s is not None:
                self._watch.say(f"peer {peer.index} joined at {self.elapsed_s:.1f} s")
            self._guard(peer)
            self._tell_end(peer)
        if self._joined_at_s is not None:
            self.elapsed_s = time.monotonic() - self._joined_at_s
        self._watch.show(self.peers, self.elapsed_s)
        self._interruption.pause(POLL_S)

    def _let_go_of_the_too_late(self) -> None:
        """Whoever has yet to join when all others have ended would look for them in vain."""
        going = [peer for peer in self._started() if not peer.state.is_over]
        if any(peer.address is not None or peer.index < self.plan.peers for peer in going):
            return
        for peer in going:
            if not peer.ended:
                late = f"peer {peer.index} is not waited for"
                self._watch.say(f"{late}: all others had ended before it joined")
                _ask_to_end(peer)

    def _guard(self, peer: PeerProcess) -> None:
        silent_s = time.monotonic() - peer.heard_at_s
        if silent_s > SILENCE_MAX_S and not peer.frozen and not peer.state.is_over:
            self._watch.say(f"peer {peer.index} has said nothing for {SILENCE_MAX_S:g} s")
            peer.send(signal.SIGKILL)
            peer.wait(GRACE_S)

    def _tell_end(self, peer: PeerProcess) -> None:
        if peer.state is State.FAILED and peer.index not in self._over:
            self._over.add(peer.index)
            words = peer.last_words()
            self._watch.say(f"peer {peer.index} failed (exit {peer.returncode}):\n{words}")

    def _do(self, action: Action) -> None:
        peer, at = self.peers[action.index], f"at {self.elapsed_s:.1f} s"
        match action.deed:
            case Deed.START:
                seconds = self.plan.seconds
                if seconds is not None:
                    late_s = sorted(self.plan.schedule.late_s)[action.index - self.plan.peers]
                    seconds = max(1.0, seconds - late_s)
                contacts = [str(each.address) for each in self.peers[: self.plan.peers]]
                self._start(peer, contacts, seconds)
                self._watch.say(f"peer {action.index} starts, to join late")
            case Deed.KILL:
                peer.killed = True
                self._signal(peer, signal.SIGKILL, f"peer {action.index} was killed {at} (SIGKILL)")
                peer.wait(GRACE_S)
            case Deed.FREEZE:
                peer.frozen = self._signal(
                    peer, signal.SIGSTOP, f"peer {action.index} was frozen {at} (SIGSTOP)"
                )
            case Deed.THAW:
                peer.frozen = False
                peer.heard_at_s = time.monotonic()
                self._signal(peer, signal.SIGCONT, f"peer {action.index} goes on {at} (SIGCONT)")

    def _signal(self, peer: PeerProcess, number: signal.Signals, words: str) -> bool:
        sent = peer.send(number)
        gone = f"peer {peer.index} is not there to get a {number.name}"
        self._watch.say(words if sent else gone)
        return sent


def _ask_to_end(peer: PeerProcess) -> None:
    """Politely, and on purpose: however it ends now is no failure."""
    peer.ended = True
    peer.send(signal.SIGCONT)
    peer.send(signal.SIGTERM)

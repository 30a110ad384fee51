"""Make an existing training loop a peer: ``with peers.join(model, optimizer, run=...) as peer:``.

The optimizer stays the user's own; a post-hook on it does everything (research: LRSchedulers,
GradScaler and accelerate accept nothing else). On leaving the block the peer says goodbye.
"""

from __future__ import annotations

import logging
import math
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import nn
from torch.optim import Optimizer

from gossip.config import Layout
from gossip.errors import STOPPED_EARLY, JoinError, StoppedError, UsageError
from gossip.machine import (
    Asked,
    ContactFailed,
    Finalised,
    Finish,
    Join,
    Leave,
    LineageChanged,
    MemberChanged,
    OneSided,
    Report,
    SwapClosed,
    TurnedAway,
)
from gossip.messages import Outcome, PeerId, Record, Status
from gossip.mixing.flat import FlatModel
from gossip.mixing.outliers import Outliers
from gossip.mixing.replica import Replica
from gossip.transport.transport import Transport
from peers.contacts import load_contacts, save_contacts
from peers.daemon import Daemon, Glance, Outbox
from peers.desk import Desk
from peers.entrance import UNTOLD
from peers.events import EventLog
from peers.export import export_model
from peers.hook import AUTO, Clip, Hook, usual_every
from peers.identity import Identity, fresh_identity, load_identity
from peers.joining import CONTACT_CAUSES, no_model, refusal
from peers.journal import Header, Journal
from peers.mailbox import Mailbox
from peers.placement import Placement
from peers.rate import RateRule, RateScale
from peers.settings import PeerConfig, hookable, open_transport

log = logging.getLogger("gossip.peer")
REMEMBERED_TRIED_S = 5.0
HOST_CHARS_MAX = 64


@dataclass(slots=True)
class Tally:
    """What this peer's swaps came to."""

    swaps: int = 0
    failed: int = 0
    one_sided: int = 0
    last_partner: PeerId | None = None


class Peer:
    """One peer around a model and its optimizer; made by ``join``, used as a context manager.

    Only the thread that trains may call its methods. Properties are snapshots, never waits.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None,
        contacts: Sequence[str],
        settings: PeerConfig,
        samples_per_step: int,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._model = model
        self._optimizer = None if optimizer is None else hookable(optimizer)
        self._stop = stop
        self._contacts = tuple(contacts)
        self._config = settings.protocol
        self._settings = settings
        self._samples_per_step = samples_per_step
        self._mailbox = Mailbox()
        self._finalised = threading.Event()
        self._agreement = Finalised(0, False, math.inf)
        self._turned_away: TurnedAway | None = None
        self._contact_failures: dict[str, str] = {}
        self._crash: BaseException | None = None
        self._tally = Tally()
        self._daemon: Daemon | None = None
        self._thread: threading.Thread | None = None
        self._remove_hook: Callable[[], None] = lambda: None
        self._rate: RateScale | None = None
        self._events = EventLog(None, "")
        self.identity: Identity = fresh_identity()
        self._remembered: tuple[str, ...] = ()
        self._placement = Placement()
        self._transport: Transport | None = None
        self._layout = Layout(b"")
        self.join_s = 0.0

    # Entering and leaving.

    def __enter__(self) -> Peer:
        began_s = time.monotonic()
        try:
            self._start()
            self._wait_for_model()
        except BaseException:
            self._shut_down()
            raise
        self.join_s = time.monotonic() - began_s
        if self._optimizer is not None:
            handle = self._optimizer.register_step_post_hook(self._after_step)
            self._remove_hook = handle.remove
            if self._settings.rate is RateRule.GOSSIP:
                self._rate = RateScale(self._optimizer, lambda: len(self.view.mates))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Settle what is open, tell the others, stop the thread. Harmless twice."""
        if self._daemon is None or self._thread is None:
            return
        self._remove_hook()
        if self._rate is not None:
            self._rate.remove()
        self._mailbox.to_core(Asked(Leave()))
        until_s = time.monotonic() + self._config.finish.leave_grace_s + 2.0
        # Corrections and refunds still come in: this side keeps what it owes until all is settled.
        while not self._daemon.departed.is_set() and time.monotonic() < until_s:
            if not self._thread.is_alive():
                break
            self._mailbox.arrived.wait(0.02)
            self._daemon.hook.apply_queued()
        self._daemon.hook.apply_queued()
        self._daemon.hook.close()
        self._shut_down()

    # While training.

    @property
    def view(self) -> Glance:
        """What the I/O thread last knew: members, progress, bytes."""
        return self._running().view

    @property
    def hook(self) -> Hook:
        """The trainer's side: steps, samples, stalls."""
        return self._running().hook

    @property
    def tally(self) -> Tally:
        """What this peer's swaps came to."""
        return self._tally

    @property
    def faults(self) -> dict[str, int]:
        """Broken rules of others, counted by kind."""
        return dict(self._running().faults)

    @property
    def events(self) -> EventLog:
        """Where this peer writes what happens."""
        return self._events

    @property
    def address(self) -> str:
        """HOST:PORT by which others may join; empty when this peer only dials out."""
        return self._running().transport.control_address

    @property
    def samples_total(self) -> int:
        """Samples trained on by the whole swarm in this lineage, as far as heard."""
        view = self.view
        mine = self.hook.samples
        return max(view.samples_total, mine)

    def shards(self, count: int) -> tuple[int, ...]:
        """Which of ``count`` data shards are this peer's now, by bounded rendezvous hashing."""
        me = self.identity.peer
        shares = self.view.shares or ((me, 1.0),)
        return self._placement.owned(count, shares, me)

    def wait_for_peers(self, count: int, timeout_s: float) -> bool:
        """Wait until ``count`` peers, this one included, share the model; False when too late."""
        until_s = time.monotonic() + timeout_s
        while len(self.view.mates) < count and time.monotonic() < until_s and not self._stop():
            self._pump(0.05)
        return len(self.view.mates) >= count

    def step(self, samples: int | None = None) -> None:
        """By hand what the optimizer's hook does, for loops without a torch optimizer."""
        self._check()
        self.hook.after_step(self._samples_per_step if samples is None else samples)

    def idle(self, wait_s: float) -> None:
        """Have nothing to train on for a moment: wait for corrections, and apply them.

        What was trained before is published first, so that partners get it while we idle.
        """
        self.hook.publish_rest()
        self._pump(wait_s)

    @property
    def disagreement(self) -> float:
        """How far the last partner's model was from this one: norm(c) / norm(phi)."""
        return self._running().desk.disagreement

    @property
    def last_difference(self) -> float:
        """The largest disagreement of the last few swaps of ``finalise``; inf before its end."""
        return self._agreement.disagreement if self._finalised.is_set() else math.inf

    def finalise(self, together: bool = False) -> bool:
        """Mix without training until the peers agree; False when the deadline came first, or
        others trained on though it was ``together``.

        ``together``: the run is over, so everybody is expected to finish. Training may go on
        afterwards either way. ``last_difference`` then says how near the peers have come.
        """
        self._check()
        self.hook.publish_now()
        self._finalised.clear()
        self._mailbox.to_core(Asked(Finish(together)))
        finish = self._config.finish
        until_s = time.monotonic() + finish.deadline_s + finish.linger_s + 2.0
        while not self._finalised.is_set() and time.monotonic() < until_s and not self._stop():
            self._pump(0.02)
        self._pump(0.0)
        return self._finalised.is_set() and self._agreement.agreed

    def export(self, path: Path | str, notes: dict[str, str] | None = None) -> None:
        """Write this peer's model as safetensors; see ``peers.export``."""
        export_model(self._model, Path(path), notes)

    # Inside.

    def _start(self) -> None:
        settings = self._settings
        if settings.folder is not None:
            self.identity = load_identity(settings.folder)
        me, boot = self.identity.peer, self.identity.boot
        self._events = EventLog(
            settings.folder / "events.jsonl" if settings.folder else None, self.identity.short
        )
        flat = FlatModel.from_module(self._model)
        config = settings.protocol_for(flat.elements)
        exchange = config.exchange
        clips = settings.clip > 0
        replica = Replica(flat, settings.outer, exchange.fragments, measures=clips)
        transport = open_transport(self.identity, self._config.run, settings)
        self._transport = transport
        desk = Desk(replica, transport.busy, config.exchange, Outliers() if clips else None)
        clip = Clip(settings.clip, exchange.weight, exchange.fragments) if clips else None
        hook = Hook(replica, self._mailbox, settings.cadence, clip=clip)
        record = Record(
            me,
            boot,
            0,
            Status.ALIVE,
            transport.control_address,
            transport.bulk_address,
            socket.gethostname()[:HOST_CHARS_MAX],
            settings.capacity,
        )
        seed = random.SystemRandom().getrandbits(63) if settings.seed is None else settings.seed
        header = Header(seed, time.monotonic(), record, flat.layout, config)
        journal = None
        if settings.journal and settings.folder is not None:
            journal = Journal(settings.folder / f"journal-{boot}.bin", header)
        outbox = Outbox(self._report, self._events.link, self._keep_contacts, self._crashed)
        self._layout = flat.layout
        self._daemon = Daemon(header.core(), transport, desk, self._mailbox, hook, journal, outbox)
        self._mailbox.wake = transport.wake
        self._thread = threading.Thread(target=self._daemon.run, name="gossip-io", daemon=True)
        self._thread.start()
        if settings.folder is not None:
            self._remembered = load_contacts(settings.folder, transport.control_address)
        if settings.dial_out and not (self._contacts or self._remembered):
            raise UsageError("a peer that only dials out needs a contact: nobody can come to it")
        self._mailbox.to_core(Asked(Join(self._contacts, self._remembered)))

    def _wait_for_model(self) -> None:
        """Until the peer founded or adopted a model.

        Those remembered from an earlier life are tried too, as who is named may be gone for good.
        With nobody named, if none of them answers for a moment, this peer founds the run anew
        (unless nobody could come to it).
        """
        began_s = time.monotonic()
        until_s = began_s + self._settings.join_timeout_s
        while self.view.lineage == b"":
            self._check()
            if self._stop():
                raise StoppedError(STOPPED_EARLY)
            alone = all(each.peer == self.identity.peer for each in self.view.members)
            may_found = alone and not (self._contacts or self._settings.dial_out)
            if may_found and self._remembered and time.monotonic() >= began_s + REMEMBERED_TRIED_S:
                self._remembered = ()
                self._mailbox.to_core(Asked(Join(())))
            if self._turned_away is not None:
                raise refusal(self._turned_away, self._layout.segments)
            if time.monotonic() >= until_s:
                raise self._why_not_joined()
            self._pump(0.02)

    def _why_not_joined(self) -> JoinError:
        met = any(each.peer != self.identity.peer for each in self.view.members)
        waited_s = self._settings.join_timeout_s
        tried = self._contacts or self._remembered
        failures = {each: why for each, why in self._contact_failures.items() if each in tried}
        return no_model(self._config.run, tried, failures, met, waited_s)

    def _pump(self, wait_s: float) -> None:
        """Do the hook's work while nobody trains."""
        self._check()
        self._mailbox.arrived.wait(wait_s)
        self.hook.apply_queued()

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        del optimizer, args, kwargs
        self.step()

    def _check(self) -> None:
        if self._crash is not None:
            raise RuntimeError("the peer's I/O thread failed; this is a bug") from self._crash

    def _running(self) -> Daemon:
        if self._daemon is None:
            raise UsageError("the peer has not joined: use it in a with block")
        return self._daemon

    def _shut_down(self) -> None:
        if self._daemon is not None and self._thread is not None:
            self._daemon.stop()
            self._thread.join(timeout=5.0)
        elif self._transport is not None:
            self._transport.close()
        self._events.close()

    # Called by the I/O thread.

    def _report(self, report: Report) -> None:
        match report:
            case SwapClosed(partner=partner, outcome=Outcome.APPLIED):
                self._tally.swaps += 1
                self._tally.last_partner = partner
            case SwapClosed():
                self._tally.failed += 1
            case TurnedAway():
                self._take_refusal(report)
            case ContactFailed(address, cause):
                self._contact_failures[address] = CONTACT_CAUSES[cause]
            case MemberChanged() | LineageChanged():
                self._contact_failures.clear()
            case Finalised():
                self._agreement = report
                self._finalised.set()
            case OneSided():
                self._tally.one_sided += 1
            case _:
                pass
        self._events.report(report)

    def _take_refusal(self, away: TurnedAway) -> None:
        """Joining ends with it. A peer that has a model goes on without the other, and says so."""
        if self._turned_away is None and self._running().core.lineage:
            log.warning("%s", refusal(away, self._layout.segments))
        self._turned_away = away

    def _keep_contacts(self, contacts: tuple[str, ...]) -> None:
        if self._settings.folder is not None:
            save_contacts(self._settings.folder, contacts)

    def _crashed(self, bug: BaseException) -> None:
        self._crash = bug


def join(
    model: nn.Module,
    optimizer: Optimizer | None,
    *,
    run: str = "default",
    contacts: Sequence[str] = (),
    listen: str | None = UNTOLD,
    every: int | str | None = None,
    samples_per_step: int = 1,
    settings: PeerConfig | None = None,
) -> Peer:
    """Make this training loop a peer of ``run``; use the result in a ``with`` block.

    model, optimizer    yours, on any one device; the optimizer must already hold the parameters.
                        With None, call ``peer.step()`` after each step of your own.
    contacts            HOST:PORT of any peers of the run; none founds it. Those that a folder
                        remembers are tried as well.
    listen              where others reach this peer; None: nowhere, it only dials out (NAT).
    every               local steps between swaps; "auto": as many swaps as the link and the byte
                        budget carry, while they take little of the training's time. None: auto,
                        or RARE_EVERY with an outer step.
    samples_per_step    what one optimizer step counts for in the swarm's progress.
    settings            all other knobs; the arguments above win over them.

    Raises UsageError for wrong arguments; entering the block raises JoinError when no contact
    answers, LayoutMismatch when the swarm trains another model, TransportError when the port is
    in use. Nothing has changed then.
    """
    if samples_per_step < 1:
        raise UsageError("samples_per_step must be at least 1")
    if isinstance(every, str) and every != "auto":
        raise UsageError(f'every must be "auto" or a number of steps, not {every!r}')
    if every == 0:
        raise UsageError("every must be at least 1 step")
    settings = settings or PeerConfig()
    steps = usual_every(settings.outer) if every is None else every
    steps = AUTO if isinstance(steps, str) else steps
    settings = replace(
        settings,
        listen=listen or UNTOLD,
        dial_out=settings.dial_out or listen is None,
        cadence=replace(settings.cadence, swap_every=steps),
        protocol=replace(settings.protocol, run=run),
    )
    return Peer(model, optimizer, contacts, settings, samples_per_step)

"""What becomes of links: dials and their answers, losses, and how they are found again.

It tells a dialer what the real transport would (``gossip.transport``), and no more: the other side
of a link hears nothing of its end. But who was dialed by a peer that cannot be dialed is told of
that link as of one of its own: that it is open, with the first frame; and CLOSED, when the other
process ends, or ``silent_s`` after its host or the path was lost. A frozen process leaves it open.

    what happened          at once       after silent_s   what the fresh dial finds
    process crashed        CLOSED                         REFUSED
    host lost, path cut                  CLOSED           SILENT after connect_s
    process frozen                       CLOSED           FROZEN after connect_s
    process stalled        nothing: the I/O thread of the library goes on

A transport redials for ever. Here nothing is polled: whatever may make a dial succeed, or fail in
another way, calls for one (``seek``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from gossip.machine import DialFailed, Input, LinkCause, LinkLost, LinkUp
from gossip.messages import PeerId, Seconds
from simulations.network import FRAMES_WAITING_MAX, Link, LinkState, Network, Port, Waiting
from simulations.simulated_peer import SimulatedPeer

CONTACT_UNKNOWN_S = 0.01
"""How soon the host of an address where nobody ever was refuses."""


class Happenings(Protocol):
    """What the wiring asks of its world."""

    now: Seconds

    def call(self, when_s: Seconds, function: Callable[..., None], *arguments: Any) -> None:
        """Do something later."""
        ...

    def deliver(self, life: SimulatedPeer, item: Input | Waiting) -> None:
        """Let a peer hear something now."""
        ...

    def transmit(self, life: SimulatedPeer, link: Link, item: Waiting) -> None:
        """Put a frame on a link that is up."""
        ...


class Wiring:
    """See the module. Invariant: a link that is up has two lives that run."""

    def __init__(self, network: Network, world: Happenings) -> None:
        self._network = network
        self._world = world
        self._conditions = network.conditions
        self._visits = 0

    # What peers ask for.

    def dial(self, life: SimulatedPeer, to: Port) -> None:
        """Keep a link to a member."""
        link = self._network.link(life, to.peer)
        link.told.clear()
        link.wanted = True
        if not link.up:
            self._dial(link, 0.0)

    def dial_contact(self, life: SimulatedPeer, to: Port | None, address: str) -> None:
        """Greet whoever is at an address."""
        if to is None or to is life.port:
            at_s = self._world.now + CONTACT_UNKNOWN_S
            failed = DialFailed(address, LinkCause.REFUSED)
            self._world.call(at_s, self._world.deliver, life, failed)
            return
        link = self._network.link(life, to.peer)
        if not link.wanted:
            link.told.clear()
        link.contact = address
        self._dial(link, 0.0)

    def hang_up(self, life: SimulatedPeer, peer: PeerId) -> None:
        """Keep the link no longer."""
        link = life.port.outgoing.get(peer)
        if link is not None and link.here is life:
            self._leaves(link, link.latency_s)
            self._network.drop(link)

    def wait(self, link: Link, item: Waiting) -> bool:
        """Have a frame wait for a link that was never up; False when there are too many."""
        if link.waiting is None:
            link.waiting = []
        if len(link.waiting) >= FRAMES_WAITING_MAX:
            return False
        link.waiting.append(item)
        return True

    # What happens to peers.

    def started(self, life: SimulatedPeer) -> None:
        """A process listens. Links to an earlier one that nobody missed yet end now."""
        port = life.port
        port.life, port.host_lost = life, False
        port.visitors.clear()
        for link in list(port.incoming.values()):
            if link.up:
                self._lose(link)
        self.seek(port)

    def ended(self, life: SimulatedPeer, host_lost: bool) -> None:
        """A process is gone: its host closes its links, or is gone as well."""
        port = life.port
        port.host_lost = host_lost
        for link in list(port.outgoing.values()):
            self._leaves(link, self._conditions.silent_s if host_lost else link.latency_s)
            self._network.drop(link)
        if host_lost:
            silent_at = self._world.now + self._conditions.silent_s
            self._world.call(silent_at, self._notice_silence, life)
            return
        for link in list(port.incoming.values()):
            if link.up:
                self._lose(link)
            else:
                self._dial(link, self._network.redial_pause_s())

    def frozen(self, life: SimulatedPeer) -> None:
        """A process stands still, and with it the library's threads."""
        silent_at = self._world.now + self._conditions.silent_s
        self._world.call(silent_at, self._notice_freeze, life, life.frozen_since)

    def thawed(self, life: SimulatedPeer) -> None:
        """It goes on: lost links are found again, in both directions."""
        self.seek(life.port)
        for link in list(life.port.outgoing.values()):
            if not link.up:
                self._dial(link, self._network.redial_pause_s())

    def seek(self, port: Port) -> None:
        """Whoever keeps a link to this peer that is not up tries it again soon."""
        for link in list(port.incoming.values()):
            if not link.up:
                self._dial(link, self._network.redial_pause_s())

    def notice_cuts(self, links: Iterable[Link]) -> None:
        """Paths were cut: these links are lost when nothing has passed for long enough."""
        silent_at = self._world.now + self._conditions.silent_s
        for link in links:
            if link.up and not self._network.is_open(link.dialer, link.to):
                self._world.call(silent_at, self._lose_if_cut, link)

    def notice_mends(self, links: Iterable[Link]) -> None:
        """Paths were mended: lost links are found again."""
        for link in list(links):
            if not link.up and self._network.is_open(link.dialer, link.to):
                self._dial(link, self._network.redial_pause_s())

    # Dials.

    def _dial(self, link: Link, pause_s: Seconds) -> None:
        link.attempt += 1
        at_s = self._world.now + pause_s
        self._world.call(at_s + 2 * link.latency_s, self._answered, link, link.attempt, at_s)

    def _answered(self, link: Link, attempt: int, began_at_s: Seconds) -> None:
        """A round trip after a dial, or when its time is over."""
        here = link.here
        if attempt != link.attempt or not here.running or here.frozen_since is not None:
            return  # a frozen dialer finds its links again when it goes on
        cause = self._obstacle(link)
        if cause is None:
            self._come_up(link)
            return
        ends_at_s = began_at_s + self._conditions.connect_s
        if cause is not LinkCause.REFUSED and self._world.now < ends_at_s:
            self._world.call(ends_at_s, self._answered, link, attempt, began_at_s)
            return
        contact, link.contact = link.contact, None
        if contact is not None:
            if link.state is LinkState.DIALING and not link.wanted:
                self._network.drop(link)
            self._world.deliver(here, DialFailed(contact, cause))
            if not link.wanted or link.dialer.outgoing.get(link.to.peer) is not link:
                return
        if cause not in link.told:
            link.told.append(cause)
            self._world.deliver(here, LinkLost(link.to.peer, cause))

    def _obstacle(self, link: Link) -> LinkCause | None:
        there = link.to.life
        if there is not None and there.only_dials_out:
            return LinkCause.SILENT  # nobody gets through to one that only dials out
        if link.to.host_lost or not self._network.is_open(link.dialer, link.to):
            return LinkCause.SILENT
        if there is None or not there.running:
            return LinkCause.REFUSED
        return None if there.frozen_since is None else LinkCause.FROZEN

    def _come_up(self, link: Link) -> None:
        was_up, contact = link.up, link.contact
        link.state, link.up = LinkState.UP, True
        link.there, link.contact = link.to.life, None
        link.told.clear()
        # After a freeze the other side may know of the last connection only, until a word arrives.
        link.unseen = link.here.only_dials_out
        waiting, link.waiting = link.waiting, None
        for item in waiting or ():
            self._world.transmit(link.here, link, item)
        if contact is not None or not was_up:
            self._world.deliver(link.here, LinkUp(link.to.peer))

    # Losses.

    def _lose(self, link: Link) -> None:
        """The connection has ended: the dialer hears of it after a moment and dials again."""
        if link.here.frozen_since is None:  # else its host keeps the other side's end alive
            self._leaves(link, link.latency_s)
        link.state, link.up, link.there = LinkState.LOST, False, None
        link.attempt += 1
        link.told.clear()  # of a dial while it was up; what a dial finds from now on is news
        self._world.call(self._world.now + link.latency_s, self._tell_closed, link)

    def _tell_closed(self, link: Link) -> None:
        kept = link.dialer.outgoing.get(link.to.peer) is link
        if kept and link.here.running:
            # What follows the news may already hang this link up.
            self._dial(link, 0.0)
            self._world.deliver(link.here, LinkLost(link.to.peer, LinkCause.CLOSED))

    # What those hear that were dialed by a peer that cannot be dialed.

    def visits(self, link: Link, at_s: Seconds) -> None:
        """The first frame of such a peer arrives over a new connection."""
        self._visits += 1
        link.unseen, link.visit = False, self._visits
        self._world.call(at_s, self._tell_visit, link, link.visit)

    def _tell_visit(self, link: Link, visit: int) -> None:
        if link.visit == visit and link.there is not None:
            link.to.visitors[link.dialer.peer] = visit
            self._world.deliver(link.there, LinkUp(link.dialer.peer))

    def _leaves(self, link: Link, in_s: Seconds) -> None:
        """Its connection ends, which the other side notices after a while."""
        if link.visit:
            at_s = self._world.now + in_s
            self._world.call(at_s, self._tell_end_of_visit, link, link.visit)
            link.visit = 0

    def _tell_end_of_visit(self, link: Link, visit: int) -> None:
        """Unless it is known to be here by a later connection, or its host has begun anew."""
        there, peer = link.to.life, link.dialer.peer
        if there is not None and link.to.visitors.get(peer) == visit:
            del link.to.visitors[peer]
            self._world.deliver(there, LinkLost(peer, LinkCause.CLOSED))

    def _notice_silence(self, life: SimulatedPeer) -> None:
        """A host was lost a while ago; if it is back, the links were ended then."""
        for link in list(life.port.incoming.values()):
            if link.up and link.there is life:
                self._lose(link)
            elif not link.up and life.port.host_lost:
                self._dial(link, self._network.redial_pause_s())

    def _notice_freeze(self, life: SimulatedPeer, since_s: Seconds) -> None:
        if not life.running or life.frozen_since != since_s:
            return
        for link in [*life.port.incoming.values(), *life.port.outgoing.values()]:
            if link.up:
                self._lose(link)

    def _lose_if_cut(self, link: Link) -> None:
        if link.up and not self._network.is_open(link.dialer, link.to):
            if link.dialer.sides & link.to.sides:
                self._network.note_drop((link.dialer.peer, link.to.peer))
            else:
                self._network.split_dropped += 1
            self._lose(link)

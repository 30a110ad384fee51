"""The error tree: who broke the rule decides the class.

    GossipError
    |- UsageError          you: a wrong flag, file or argument; nothing has changed
    |  |- LayoutMismatch   your model differs from the swarm's; names the first tensor that differs
    |- JoinError           the world: no contact answered; nothing has changed, trying again is safe
    |- StoppedError        you: told to stop before there was anything to leave
    |- RemoteError         they: a neighbor sent what the protocol forbids; counted and dropped
    |  |- FrameError       bytes that are not a message of ours
    |  |- CodeError        bytes that are not a code of the announced codec
    |- TransportError      the world: a socket could not be opened or used

A broken rule of our own is an AssertionError and ends the peer: it is a bug.
Every class carries the exit code its command ends with (sysexits.h numbers where one fits).
"""

from __future__ import annotations


class GossipError(Exception):
    """Base of every error raised on purpose. ``exit_code`` is what the command line returns."""

    exit_code = 70


class UsageError(GossipError):
    """The caller asked for something impossible. State is unchanged."""

    exit_code = 64


class LayoutMismatch(UsageError):
    """This peer's model is not the swarm's model. State is unchanged; nothing was mixed."""

    exit_code = 65


class JoinError(GossipError):
    """No contact answered in time. State is unchanged; trying again later is safe."""

    exit_code = 69


STOPPED_EARLY = "stopped before it had joined; nothing was trained or sent"
"""What is said of it: no error, as it is what the owner asked for."""


class StoppedError(GossipError):
    """The owner told a peer to stop while it was still joining. Nothing has changed."""

    exit_code = 0


class TransportError(GossipError):
    """A socket could not be opened or used (port in use, no such address)."""

    exit_code = 71


class RemoteError(GossipError):
    """A neighbor broke a rule. The input is dropped and counted; state is unchanged."""

    exit_code = 76


class FrameError(RemoteError):
    """Bytes that are not one of our messages.

    ``kind`` says what is wrong, so that faults are counted apart: magic, version, run, length,
    shape.
    """

    def __init__(self, detail: str, kind: str = "shape") -> None:
        super().__init__(detail)
        self.kind = kind


class CodeError(RemoteError):
    """Bytes that are not a code of the announced codec: wrong length or values not finite."""

"""What I say about myself: my record, and my account of what I trained.

Only here is a (boot, incarnation) raised. Raising it is how a wrong claim is refuted (SWIM,
section 4.2); a claim about a later boot than mine means that this peer lost its memory of that
life, and then the boot itself is raised (gossip/README.md, M8).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gossip.membership.account import Account
from gossip.membership.records import COUNT_MAX
from gossip.membership.roster import Roster
from gossip.messages import NO_LINEAGE, Phase, Progress, Record, Status

BOOT_LEAP_MAX: Final = 100 * 366 * 24 * 3600 * 1000
"""A boot is a wall clock's milliseconds: nobody forgot a life that is a century ahead of this."""


class Myself:
    """My own entries in the roster and the account; nobody else writes them."""

    __slots__ = ("_account", "_counted", "_roster", "progress")

    def __init__(self, roster: Roster, account: Account) -> None:
        self._roster = roster
        self._account = account
        me = roster.me
        nothing = Progress(me.peer, me.boot, 0, 0, NO_LINEAGE, Phase.JOINING)
        self.progress = account.of(me.peer, me.boot) or nothing
        # Samples of this life that are already in the account, under a boot it had before.
        self._counted = 0
        account.put(self.progress)

    @property
    def record(self) -> Record:
        """My record as it stands."""
        return self._roster.me

    @property
    def has_left(self) -> bool:
        """Whether I said farewell; then nothing is refuted any more."""
        return self._roster.me.status == Status.LEFT

    def contradicted_by(self, claim: Record) -> bool:
        """Whether a claim about me that is not mine would win over mine."""
        return not self.has_left and claim != self.record and claim.key >= self.record.key

    def contradicted_by_progress(self, claim: Progress) -> bool:
        """Whether an account of mine is known that I do not remember: of a life I forgot."""
        forgotten = claim.boot >= self.progress.boot and claim.key > self.progress.key
        return forgotten and not self.has_left

    def rise_above(self, boot: int, incarnation: int) -> bool:
        """Raise my record above any claim of this (boot, incarnation), not below my own.

        False, with nothing changed, when counts end there (only a forger gets so far).
        """
        me = self.record
        assert boot >= me.boot
        if boot > me.boot or incarnation >= COUNT_MAX:
            boot, incarnation = boot + 1, 0
        else:
            incarnation += 1
        if boot > COUNT_MAX or boot - me.boot > BOOT_LEAP_MAX:
            return False
        self._roster.put(replace(me, boot=boot, incarnation=incarnation, status=Status.ALIVE))
        if boot != me.boot:
            self._counted += self.progress.samples
            self._say(replace(self.progress, boot=boot, samples=0))
        return True

    def publish(self, samples: int, lineage: bytes, phase: Phase) -> bool:
        """Take my latest count; True, with a higher version, when it says anything new."""
        if lineage != self.progress.lineage:
            self._counted = 0
        own = max(0, samples - self._counted)
        latest = replace(self.progress, samples=own, lineage=lineage, phase=phase)
        if latest == self.progress:
            return False
        self._say(latest)
        return True

    def leave(self) -> None:
        """Farewell: the last thing I say in this boot."""
        self._roster.put(replace(self.record, status=Status.LEFT))

    def _say(self, progress: Progress) -> None:
        self.progress = replace(progress, version=self.progress.version + 1)
        self._account.put(self.progress)

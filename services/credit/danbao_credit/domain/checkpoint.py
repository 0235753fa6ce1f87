"""What is kept of a subject besides the profile: a checkpoint of what was folded, and the rows since."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.log import LogRow, replayed
from danbao_credit.domain.profile import Profile
from danbao_credit.domain.tombstone import Tombstone


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A profile of folded rows. The newest of them happened at `through_us`, microseconds since the epoch."""

    profile: Profile
    through_us: int


@dataclass(frozen=True, slots=True)
class History:
    """Checkpoint and rows of one subject."""

    checkpoint: Checkpoint | None = None
    rows: tuple[LogRow, ...] = field(default=())

    @property
    def base(self) -> Profile:
        """The profile to which the rows are added."""
        return Profile.empty() if self.checkpoint is None else self.checkpoint.profile

    def replay(self, catalogue: Catalogue) -> Profile:
        """The profile that these events give, by this catalogue: where it was cut makes no difference to the bytes."""
        return replayed(self.base, self.rows, catalogue)

    def without(self, tombstone: Tombstone | None) -> History:
        """What is left of it when the subject was erased."""
        if tombstone is None:
            return self
        checkpoint = self.checkpoint
        if checkpoint is not None and tombstone.covers(checkpoint.through_us):
            checkpoint = None
        return History(checkpoint, tuple(row for row in self.rows if not tombstone.covers(row.at_us)))

    def plus(self, rows: Iterable[LogRow]) -> History:
        """With rows that were added since."""
        return History(self.checkpoint, (*self.rows, *rows))

    def folded(self, before_us: int, catalogue: Catalogue, *, most: int) -> tuple[History, tuple[LogRow, ...]]:
        """Folds the oldest rows from before a moment, at most so many; and which ones those were."""
        old = sorted((row for row in self.rows if row.at_us < before_us), key=lambda row: row.at_us)[:most]
        if not old:
            return self, ()
        through_us = max(old[-1].at_us, -1 if self.checkpoint is None else self.checkpoint.through_us)
        checkpoint = Checkpoint(replayed(self.base, old, catalogue), through_us)
        gone = set(old)
        return History(checkpoint, tuple(row for row in self.rows if row not in gone)), tuple(old)


def differing(one: Profile, other: Profile) -> int:
    """How many entries two profiles do not share."""
    keys, where_one, where_other = np.intersect1d(one.keys, other.keys, assume_unique=True, return_indices=True)
    apart = int((one.values[where_one] != other.values[where_other]).sum())
    return len(one.keys) + len(other.keys) - 2 * len(keys) + apart

"""What a subject's profile was at an earlier moment: counted again from what is kept, up to then."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from danbao_credit.application.apply_events import microseconds
from danbao_credit.application.ports import CreditReader, Snapshot
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.checkpoint import History
from danbao_credit.domain.errors import AsOfNotAllowed, AsOfTooOld, FieldInvalid, FieldViolation
from danbao_credit.domain.log import replayed
from danbao_credit.domain.profile import Profile
from danbao_kit.clock import Clock

# How far back everybody may look who may ask at all.
_REACH = timedelta(hours=24)
# A long history is counted in parts, between which other calls are served.
_ROWS_IN_A_ROW = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AsOf:
    """Which moment a caller asks for; None: now. Only operators look further back than a day."""

    moment: datetime | None = None
    by_operator: bool = False

    def check(self, now: datetime) -> None:
        """Raises FieldInvalid for a moment to come, then AsOfNotAllowed."""
        if self.moment is None:
            return
        if self.moment > now:
            raise FieldInvalid(FieldViolation("as_of", "must not be in the future"))
        if self.moment < _EPOCH:
            raise FieldInvalid(FieldViolation("as_of", "must not be before 1970"))
        if not self.by_operator and self.moment < now - _REACH:
            raise AsOfNotAllowed(now - _REACH)


NOW = AsOf()


@dataclass(frozen=True, slots=True)
class Seen:
    """A subject's profile at a moment, and how far the streams were read for it."""

    profile: Profile
    moment: datetime
    snapshot: Snapshot


async def profile_as_of(subject: str, as_of: AsOf, *, catalogue: Catalogue, reader: CreditReader, clock: Clock) -> Seen:
    """The profile at a moment. Raises FieldInvalid, AsOfNotAllowed, AsOfTooOld."""
    if as_of.moment is None:
        snapshot = await reader.snapshot([subject])
        return Seen(snapshot.profile(subject), clock.now(), snapshot)
    as_of.check(clock.now())
    until_us = microseconds(as_of.moment)
    seen = await reader.history(subject, until_us)
    check_kept(seen.history, until_us)
    profile = await replay_in_parts(seen.history, catalogue)
    return Seen(profile, as_of.moment, Snapshot(seen.sequences, {subject: profile}, {subject: seen.marks}))


def check_kept(history: History, until_us: int) -> None:
    """Raises AsOfTooOld where the checkpoint holds what happened after that moment."""
    checkpoint = history.checkpoint
    if checkpoint is not None and until_us < checkpoint.through_us:
        raise AsOfTooOld(from_microseconds(checkpoint.through_us))


async def replay_in_parts(history: History, catalogue: Catalogue) -> Profile:
    """As History.replay, while others are served."""
    profile = history.base
    for start in range(0, len(history.rows), _ROWS_IN_A_ROW):
        profile = replayed(profile, history.rows[start : start + _ROWS_IN_A_ROW], catalogue)
        await asyncio.sleep(0)
    return profile


def from_microseconds(us: int) -> datetime:
    """A moment from microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=us)

"""How a drift report is made: profiles of the store counted by the champion and, on the same facts, its challenger."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Protocol

from danbao_credit.application.evaluate import seconds
from danbao_credit.domain.catalogue import SubjectKind
from danbao_credit.domain.drift import DriftCount, DriftFound
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.profile import Profile
from danbao_credit.domain.windows import DAY_S
from danbao_kit.clock import Clock

DEFAULT_SAMPLE = 1000
_AWAY_AFTER_S = 60 * DAY_S
# Other calls wait no longer than for so many.
_IN_A_ROW = 20


class ProfileSampler(Protocol):
    """Reads of the store. Raise StoreUnavailable."""

    async def sample(self, limit: int) -> list[Profile]: ...


async def drift_report(
    kind: SubjectKind, sample: int, *, judge: Judge, challenger: Judge | None, reader: ProfileSampler, clock: Clock
) -> tuple[DriftFound, datetime]:
    """Of subjects of that kind with an event in the last 60 days. The champion is the one at the beginning."""
    profiles = await reader.sample(sample)
    as_of = clock.now()
    as_of_s = seconds(as_of)
    # The champion may change meanwhile; a report speaks of one.
    champion = Judge(judge.catalogue, judge.model, judge.texts)
    count = DriftCount(champion, challenger, kind)
    for number, profile in enumerate(profiles, 1):
        if champion.kind_of(profile) is kind and as_of_s - profile.newest_s() <= _AWAY_AFTER_S:
            count.add(profile, as_of_s)
        if number % _IN_A_ROW == 0:
            await asyncio.sleep(0)
    return count.found(), as_of

"""How scores follow the facts: whoever was touched is scored off the write path, whoever was not, from time to time.

Subjects that a batch touched are collected in memory, each once however often it was touched, and evaluated in rounds;
those with a mark go first. A round is followed by a pause in proportion to what it took, so that under load the scorer
takes a small share of the processor and scores lag; the events never do. While so many events come that it cannot
follow anyway, its share is smaller still: whoever is scored late is scored once for more of them. What memory loses, in
a crash or because another replica stopped, is found in the store: a score that is older than its profile, or by a
former champion. Time alone moves scores, too: who was not looked at for a day of business time is looked at again, at
most so many a second.
"""

from __future__ import annotations

import asyncio
import time
from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

from danbao_credit.application.evaluate import seconds
from danbao_credit.application.ports import AHEAD_S, Scorable
from danbao_credit.application.record_scores import RecordScores, Scored
from danbao_credit.application.working_set import CreditSet, Touched
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.hard_rules import next_turn_s
from danbao_credit.domain.marks import standing
from danbao_credit.domain.scores import kinds_of, score_of
from danbao_kit.clock import Clock
from danbao_kit.errors import DanbaoError
from danbao_kit.group_commit import GroupCommit, Submission
from danbao_kit.log import log

LOOK_AGAIN = timedelta(hours=24)
"""Of business time: after it, a score is made anew although nothing has happened."""

# Those that come within this time share a round.
_GATHER_S = 0.05
# Evaluations in a row before other calls have their turn, and in one round.
_IN_A_ROW = 10
_ROUND = 100
# The pause after a round, in times of what the round took; and while more than so many wait and others keep coming.
_PAUSE = 15
_LONG_PAUSE = 45
_FAR_BEHIND = 1_000
_STILL_COMING_S = 0.5
# A round may take long because the store does.
_LONGEST_PAUSE_S = 60.0
# Beyond, touches are left to the sweep.
_MOST_WAITING = 500_000
_RETRY_S = 0.5
_SWEEP_EVERY_S = 1.0
_SWEPT_AT_ONCE = 50
_PAGE = 500


class Reads(Protocol):
    """What the scorer reads. Raise StoreUnavailable."""

    async def scorable(self, subjects: Collection[str]) -> list[Scorable]: ...

    async def stale_after(self, after: str, most: int, model: str) -> tuple[list[str], str | None]: ...

    async def due(self, now: datetime, most: int) -> list[str]: ...


_UNTOUCHED = Touched("", urgent=False)


class Scorer:
    """Keeps the recorded scores up to date. Several at once are normal: the newer score stays."""

    def __init__(self, judge: Callable[[], Judge], reads: Reads, group_commit: GroupCommit, clock: Clock) -> None:
        self._judge = judge
        self._reads = reads
        self._group_commit = group_commit
        self._clock = clock
        self._urgent: dict[str, Touched] = {}
        self._waiting: dict[str, Touched] = {}
        # Of the round under way.
        self._taken: dict[str, Touched] = {}
        self._touched = asyncio.Event()
        self._urged = asyncio.Event()
        self._touched_at = -_STILL_COMING_S
        # Whether somebody may have been touched whom nobody holds: at the start, and whenever one is left out.
        self._left_out = True
        # Until the champion is known, nobody is scored anew for the model's sake.
        self._champion_known = False

    def follow_champion(self) -> None:
        """The judge scores by the champion from now on: whoever was scored by another model is scored anew."""
        self._champion_known = True
        self._left_out = True

    def touch(self, touched: Mapping[str, Touched]) -> None:
        """These are to be scored."""
        for subject, touch in touched.items():
            if touch.urgent:
                self._waiting.pop(subject, None)
                self._urgent[subject] = touch
                self._urged.set()
            elif subject in self._urgent:
                continue
            elif len(self._waiting) < _MOST_WAITING:
                self._waiting[subject] = touch
            else:
                self._left_out = True
        if touched:
            self._touched.set()
            self._touched_at = time.monotonic()

    async def run(self) -> None:
        """Scores whoever is touched, until cancelled."""
        while True:
            if not self._urgent and not self._waiting:
                self._touched.clear()
                await self._touched.wait()
                await asyncio.sleep(_GATHER_S)
            began = time.monotonic()
            self._taken = taken = self._take()
            try:
                await self._score(taken)
            except DanbaoError as error:
                log.warning("scores_wait", subjects=len(taken), reason=error.reason)
                waiting = self._urgent.keys() | self._waiting.keys()
                self.touch({subject: touch for subject, touch in taken.items() if subject not in waiting})
                await asyncio.sleep(_RETRY_S)
            except Exception:
                # Whoever runs this says so and begins it again; those of this round are then found by the sweep.
                self._left_out = True
                raise
            await self._pause(time.monotonic() - began)

    async def sweep(self) -> None:
        """Finds scores that are older than their profile or by another model, then those that time may have moved,
        until cancelled."""
        while True:
            if self._left_out:
                self._left_out = False
                await self._score_stale()
            due = await self._reads.due(self._clock.now(), _SWEPT_AT_ONCE)
            if due:
                await self._score(self._known(due))
            await asyncio.sleep(_SWEEP_EVERY_S)

    async def _score_stale(self) -> None:
        after: str | None = ""
        try:
            while after is not None:
                model = self._judge().model.version if self._champion_known else ""
                stale, after = await self._reads.stale_after(after, _PAGE, model)
                for start in range(0, len(stale), _ROUND):
                    began = time.monotonic()
                    # Whoever still waits here has a turn anyway.
                    waiting = ChainMap(self._urgent, self._waiting)
                    left_out = [subject for subject in stale[start : start + _ROUND] if subject not in waiting]
                    if left_out:
                        await self._score(self._known(left_out))
                    await self._pause(time.monotonic() - began)
                await asyncio.sleep(0)
        except BaseException:
            self._left_out = True
            raise

    def _known(self, subjects: Iterable[str]) -> dict[str, Touched]:
        """These with what touched them, if that waits or is on its way: who records a change first tells its trace."""
        touched = ChainMap(self._urgent, self._waiting, self._taken)
        return {subject: touched.get(subject, _UNTOUCHED) for subject in subjects}

    def _take(self) -> dict[str, Touched]:
        """The next round: those with a mark, and nobody else with them; without any, those who wait longest."""
        self._urged.clear()
        waiting = self._urgent or self._waiting
        taken: dict[str, Touched] = {}
        while waiting and len(taken) < _ROUND:
            subject = next(iter(waiting))
            taken[subject] = waiting.pop(subject)
        if self._urgent:
            self._urged.set()
        return taken

    async def _pause(self, took_s: float) -> None:
        """Waits in proportion to the round before; a mark ends the wait."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.pause_after(took_s)):
                await self._urged.wait()

    def pause_after(self, took_s: float) -> float:
        """Seconds to wait after a round that took so many."""
        still_coming = time.monotonic() - self._touched_at < _STILL_COMING_S
        times = _LONG_PAUSE if still_coming and len(self._waiting) > _FAR_BEHIND else _PAUSE
        return min(times * took_s, _LONGEST_PAUSE_S)

    async def _score(self, touched: Mapping[str, Touched]) -> None:
        """Evaluates and records. Raises what keeps it from being recorded."""
        scored: list[Scored] = []
        for position, found in enumerate(await self._reads.scorable(list(touched)), 1):
            scored.extend(scores_of(found, judge=self._judge(), now=self._clock.now(), touch=touched[found.subject]))
            if position % _IN_A_ROW == 0:
                await asyncio.sleep(0)
        if scored:
            outcome = await self._group_commit.submit(Submission(RecordScores(tuple(scored))))
            if outcome.error is not None:
                raise outcome.error


def touched_by(working: CreditSet) -> Mapping[str, Touched]:
    """Whose scores a committed batch may have moved."""
    return dict(working.touched.created())


def scores_of(found: Scorable, *, judge: Judge, now: datetime, touch: Touched) -> Iterable[Scored]:
    """The scores of a subject, one for each kind that it acts as."""
    as_of_s = seconds(now)
    turn_s = next_turn_s(found.marks, as_of_s)
    look_time = now + LOOK_AGAIN
    if turn_s is not None:
        look_time = min(look_time, datetime.fromtimestamp(turn_s, UTC))
    stands = standing(found.marks, as_of_s, ahead_s=AHEAD_S)
    for kind in kinds_of(found.profile, judge.catalogue):
        evaluation = judge.evaluate(found.profile, kind=kind, as_of_s=as_of_s, standing=stands)
        score = score_of(
            found.subject,
            evaluation,
            model_version=judge.model.version,
            as_of=now,
            look_time=look_time,
            profile_version=found.version,
        )
        yield Scored(score, touch.traceparent)

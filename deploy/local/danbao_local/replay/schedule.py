"""In which steps business time moves: pure.

A step spans at most `longest`; its actions run with the clock at the time of its last one, so a
recorded time is late by less than that. Deadlines are exact all the same: no step reaches past a
deadline that one of its actions comes before, and a time from which a close deadline counts ends
its step.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from danbao_local.replay.plan import Action, Plan

_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Step:
    """The clock stands at `clock`; each order's events (index of plan → indexes of its events) are run in order."""

    clock: datetime
    work: dict[int, tuple[int, ...]]


def make_steps(plans: Sequence[Plan], longest: timedelta) -> list[Step]:
    """Every event of every plan, in steps that follow one another in time."""
    moments = sorted(
        (event.time, number, position)
        for number, plan in enumerate(plans)
        for position, event in enumerate(plan.events)
    )
    cuts = _cuts(plans, longest)
    steps: list[Step] = []
    first: datetime | None = None
    gathered: list[tuple[datetime, int, int]] = []
    for moment in moments:
        time = moment[0]
        if first is not None and (time - first > longest or _cut_between(cuts, first, time)):
            steps.append(_step(plans, gathered))
            gathered, first = [], None
        first = first or time
        gathered.append(moment)
    if gathered:
        steps.append(_step(plans, gathered))
    return steps


def clock_of_placing(steps: Sequence[Step], plans: Sequence[Plan]) -> dict[int, datetime]:
    """By order: where the clock is planned to stand when its trades are made."""
    return {
        number: step.clock
        for step in steps
        for number, positions in step.work.items()
        if any(plans[number].events[position].action is Action.PLACE for position in positions)
    }


def _cuts(plans: Sequence[Plan], longest: timedelta) -> list[datetime]:
    """A step that begins before a cut ends before it."""
    cuts: set[datetime] = set()
    for plan in plans:
        cuts.update(deadline for time, deadline in plan.deadlines if time < deadline <= time + longest)
        cuts.update(time + _INSTANT for time in plan.pinned)
    return sorted(cuts)


def _cut_between(cuts: Sequence[datetime], first: datetime, time: datetime) -> bool:
    """Whether first < cut ≤ time for some cut."""
    return bisect_right(cuts, time) > bisect_right(cuts, first)


def _step(plans: Sequence[Plan], gathered: Sequence[tuple[datetime, int, int]]) -> Step:
    work: dict[int, list[int]] = defaultdict(list)
    for _, number, position in gathered:
        if not plans[number].events[position].sends_nothing:
            work[number].append(position)
    return Step(clock=gathered[-1][0], work={number: tuple(positions) for number, positions in work.items()})

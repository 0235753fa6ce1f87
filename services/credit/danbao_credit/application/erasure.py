"""How a subject is forgotten: what hinders it, and what one commit takes away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from danbao_credit.application.appeals import appeals_of, marks_of
from danbao_credit.application.apply_events import microseconds
from danbao_credit.application.ports import AHEAD_S
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.asker import Asker
from danbao_credit.domain.erasure import WORDS, Erasure, ErasureReason, Hindrance, Removal, Traces
from danbao_credit.domain.marks import MarkKind, standing
from danbao_credit.domain.membership import State
from danbao_credit.domain.profile import Profile
from danbao_credit.domain.rights_errors import ErasureRefused, RoleNotAllowed, SubjectNotFound
from danbao_credit.domain.tombstone import Tombstone
from danbao_kit.decision import Moment, Need

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_US = 1_000_000
_OBLIGATIONS = frozenset({MarkKind.PROMISE_UNPAID, MarkKind.OVERDUE})


@dataclass(frozen=True, slots=True)
class EraseSubject:
    """`subject_hash`: what will stand for the subject."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("asker", "traces", "subject_hash")
    subject: str
    subject_hash: str
    reason: ErasureReason
    asker: Asker
    traces: Traces


@dataclass(frozen=True, slots=True)
class SweepTraces:
    """Once more through what was written while a subject was erased: events and records of the same batch are written
    after what the erasure takes away."""

    subject: str
    traces: Traces


def sweep_traces(command: SweepTraces, working: CreditSet, moment: Moment) -> None:
    """Takes the name out of events and request records; nothing else."""
    working.removals.append(Removal(command.subject, None, command.traces))


def erase_subject(command: EraseSubject, working: CreditSet, moment: Moment) -> Erasure:
    """Takes everything of the subject away and leaves a tombstone.

    Raises SubjectNotFound, RoleNotAllowed, ErasureRefused.
    """
    subject, asker = command.subject, command.asker
    if not (asker.is_operator or asker.is_subject(subject)):
        if asker.is_official:
            raise RoleNotAllowed("EraseSubject", "the subject itself, and operators")
        raise SubjectNotFound(subject)
    for hindrance in _hindrances(subject, working, moment):
        raise ErasureRefused(subject, hindrance, WORDS[hindrance])
    if subject not in working.subjects_looked_up:
        raise Need(subjects={subject})
    matters = working.open_matters[subject]
    profile = working.subjects.get(subject) or Profile.empty()
    # What was counted of services whose clocks are ahead goes as well, and must not come back either.
    newest_us = (profile.newest_s() + 1) * _SECOND_US - 1 if profile.newest_s() else 0
    erase_us = max(microseconds(moment.now), newest_us)
    working.tombstones.put(subject, Tombstone(erase_us, matters.through, command.reason.value))
    working.subjects.put(subject, Profile.empty())
    # Whoever evaluated it a moment ago records nothing any more.
    working.versions.pop(subject, None)
    working.removals.append(Removal(subject, erase_us, command.traces))
    return Erasure(
        subject_hash=command.subject_hash,
        erase_time=_EPOCH + timedelta(microseconds=erase_us),
        reason=command.reason,
    )


def _hindrances(subject: str, working: CreditSet, moment: Moment) -> Iterator[Hindrance]:
    """Everything that stands against it, gravest first."""
    stands = standing(marks_of(subject, working), microseconds(moment.now) // _SECOND_US, ahead_s=AHEAD_S)
    if MarkKind.FRAUD in stands:
        yield Hindrance.FRAUD_CONFIRMED
    matters = working.open_matters.get(subject)
    if matters is None:
        raise Need(open_matters={subject})
    # One that was applied for in this very batch is not in the store yet.
    applied = any(each.subject == subject and each.state is not State.LEFT for each in working.memberships.values())
    if matters.membership or applied:
        yield Hindrance.MEMBERSHIP
    if any(appeal.is_open for appeal in appeals_of(subject, working)):
        yield Hindrance.APPEAL_OPEN
    if matters.trade:
        yield Hindrance.TRADE_OPEN
    if matters.claim:
        yield Hindrance.CLAIM_OPEN
    if stands.keys() & _OBLIGATIONS:
        yield Hindrance.OBLIGATION_OPEN

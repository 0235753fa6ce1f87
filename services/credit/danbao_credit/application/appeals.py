"""What becomes of appeals: filed, taken back, decided; and how what was held against a subject is taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar
from uuid import UUID

from danbao_credit.application.apply_events import microseconds
from danbao_credit.application.consents import consents_of
from danbao_credit.application.marking import annul_mark, turn_mark
from danbao_credit.application.ports import AHEAD_S
from danbao_credit.application.taking_back import find_behind, find_events, take_back
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.appeal import (
    APPEALS,
    MOST_APPEALS,
    TABLE,
    Appeal,
    AppealCommand,
    AppealRole,
    AppealState,
    EventKey,
    Evidence,
    Target,
    TargetKind,
    brings_something_new,
    legal_commands,
    roles_for,
)
from danbao_credit.domain.asker import Asker
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.consent import REPRESENTATION, allowed
from danbao_credit.domain.log import LogRow
from danbao_credit.domain.marks import Mark, MarkKind, MarkTold
from danbao_credit.domain.rights_errors import (
    AppealEffectMissing,
    AppealNotFound,
    AppealOpen,
    AppealsExhausted,
    AppealStateInvalid,
    AppealTargetNotFound,
    ConsentMissing,
    NewEvidenceMissing,
    RoleNotAllowed,
    SubjectNotFound,
)
from danbao_kit.decision import Moment, Need
from danbao_kit.errors import FieldInvalid, FieldViolation


@dataclass(frozen=True, slots=True)
class FileAppeal:
    """`reasons`: the codes that cost the subject points right before."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("asker", "reasons")
    subject: str
    target: Target
    statement: str
    evidence: tuple[Evidence, ...]
    asker: Asker
    reasons: frozenset[str]


@dataclass(frozen=True, slots=True)
class WithdrawAppeal:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("asker",)
    appeal_id: UUID
    asker: Asker


@dataclass(frozen=True, slots=True)
class DecideAppeal:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("asker", "catalogue")
    appeal_id: UUID
    upheld: bool
    decision: str
    reverse_events: tuple[EventKey, ...]
    asker: Asker
    catalogue: Catalogue


@dataclass(frozen=True, slots=True)
class AppealTold:
    """An event of credit's own: what happened to an appeal, without what anybody said."""

    appeal: Appeal


class AppealFiled(AppealTold):
    """A subject appealed."""


class AppealDecided(AppealTold):
    """An arbiter decided."""


class AppealWithdrawn(AppealTold):
    """It was taken back."""


def file_appeal(command: FileAppeal, working: CreditSet, moment: Moment) -> Appeal:
    """FILED. Raises SubjectNotFound, RoleNotAllowed, ConsentMissing, AppealTargetNotFound, AppealOpen,
    AppealsExhausted, NewEvidenceMissing.
    """
    _check_filer(command, working, moment)
    target = _found(command, working, moment)
    before = [appeal for appeal in appeals_of(command.subject, working) if appeal.target == target]
    still_open = next((appeal for appeal in before if appeal.is_open), None)
    if still_open is not None:
        raise AppealOpen(still_open.name, str(target))
    upheld = max((appeal.create_time for appeal in before if appeal.state is AppealState.UPHELD), default=None)
    # What was upheld is done with: the same reason, if there is one again, is another matter.
    before = [appeal for appeal in before if upheld is None or appeal.create_time > upheld]
    if len(before) >= MOST_APPEALS:
        raise AppealsExhausted(str(target), MOST_APPEALS)
    if before and not brings_something_new(command.evidence, before):
        raise NewEvidenceMissing(str(target))
    filed = Appeal(
        appeal_id=moment.new_id(),
        subject=command.subject,
        state=AppealState.FILED,
        target=target,
        statement=command.statement,
        evidence=command.evidence,
        filed_by=command.asker.words(command.subject),
        create_time=moment.now,
    )
    working.appeals.put(filed.appeal_id, filed)
    moment.emit(AppealFiled(filed))
    return filed


def withdraw_appeal(command: WithdrawAppeal, working: CreditSet, moment: Moment) -> Appeal:
    """→ WITHDRAWN. Raises AppealNotFound, RoleNotAllowed, AppealStateInvalid."""
    appeal, state = _way(command.appeal_id, AppealCommand.WITHDRAW, command.asker, working)
    withdrawn = replace(appeal, state=state, end_time=moment.now)
    working.appeals.put(appeal.appeal_id, withdrawn)
    moment.emit(AppealWithdrawn(withdrawn))
    return withdrawn


def decide_appeal(command: DecideAppeal, working: CreditSet, moment: Moment) -> Appeal:
    """→ UPHELD, with what was held against the subject taken back; or → DISMISSED, and nothing changes.

    Raises AppealNotFound, RoleNotAllowed, AppealStateInvalid, AppealEffectMissing, FieldInvalid.
    """
    verdict = AppealCommand.UPHOLD if command.upheld else AppealCommand.DISMISS
    appeal, state = _way(command.appeal_id, verdict, command.asker, working)
    taken: tuple[EventKey, ...] = ()
    if command.upheld:
        taken = _uphold(command, appeal, working, moment)
    elif command.reverse_events:
        raise FieldInvalid(FieldViolation("reverse_events", "what is dismissed takes nothing back"))
    decided = replace(
        appeal,
        state=state,
        decided_by=command.asker.subject,
        decision=command.decision,
        reversed_events=taken,
        end_time=moment.now,
    )
    working.appeals.put(appeal.appeal_id, decided)
    moment.emit(AppealDecided(decided))
    return decided


def may_see(asker: Asker, appeal: Appeal) -> bool:
    """Operators and arbiters see all, a subject its own, a partner those it filed."""
    if asker.sees_all or asker.is_subject(appeal.subject):
        return True
    return asker.is_partner and asker.partner != "" and appeal.filed_by == f"partner:{asker.partner}"


def roles_of(asker: Asker, appeal: Appeal) -> frozenset[AppealRole]:
    """As whom somebody comes to an appeal. An arbiter is none in its own case."""
    roles: set[AppealRole] = set()
    own = asker.subject == appeal.subject or (asker.partner and appeal.filed_by == f"partner:{asker.partner}")
    if asker.is_arbiter and asker.subject and not own:
        roles.add(AppealRole.ARBITER)
    if asker.is_operator:
        roles.add(AppealRole.OPERATOR)
    if asker.is_subject(appeal.subject):
        roles.add(AppealRole.SUBJECT)
    if asker.is_partner and asker.partner and appeal.filed_by == f"partner:{asker.partner}":
        roles.add(AppealRole.FILER)
    return frozenset(roles)


def _check_filer(command: FileAppeal, working: CreditSet, moment: Moment) -> None:
    asker = command.asker
    if asker.is_subject(command.subject):
        return
    if asker.is_official:
        raise RoleNotAllowed("FileAppeal", "the subject, and partners that represent it")
    if not asker.is_partner:
        raise SubjectNotFound(command.subject)
    if not allowed(consents_of(command.subject, working), REPRESENTATION, asker.partner, moment.now):
        raise ConsentMissing(command.subject, REPRESENTATION, asker.partner)


def _found(command: FileAppeal, working: CreditSet, moment: Moment) -> Target:
    """The target, with the reference of its mark. Raises AppealTargetNotFound."""
    target, subject = command.target, command.subject
    if target.kind is TargetKind.REASON and target.code in command.reasons:
        return target
    if target.kind is TargetKind.MARK:
        as_of_s = microseconds(moment.now) // 1_000_000
        kind = MarkKind(target.code.lower())
        standing: dict[str, int] = {}
        for mark in marks_of(subject, working):
            stood_s = mark.stood_s(as_of_s, ahead_s=AHEAD_S)
            if mark.kind is kind and stood_s is not None:
                standing[mark.reference] = stood_s
        if target.reference in standing:
            return target
        if standing and not target.reference:
            longest = min(standing, key=lambda reference: (-standing[reference], reference))
            return replace(target, reference=longest)
    if target.event is not None and find_events(subject, (target.event,), working):
        return target
    raise AppealTargetNotFound(subject, str(target))


def _way(appeal_id: UUID, command: AppealCommand, asker: Asker, working: CreditSet) -> tuple[Appeal, AppealState]:
    appeal = working.appeals.get(appeal_id)
    if appeal is None or not may_see(asker, appeal):
        raise AppealNotFound(f"{APPEALS}/{appeal_id}")
    roles = roles_of(asker, appeal)
    allowed_roles = roles_for(command)
    if not roles & allowed_roles:
        raise RoleNotAllowed(command, ", ".join(sorted(allowed_roles)))
    for role in sorted(roles):
        state = TABLE.get((appeal.state, command, role))
        if state is not None:
            return appeal, state
    raise AppealStateInvalid(appeal.name, command, appeal.state, legal_commands(appeal.state))


def _uphold(command: DecideAppeal, appeal: Appeal, working: CreditSet, moment: Moment) -> tuple[EventKey, ...]:
    """Ends the mark and takes events back; which. Raises AppealEffectMissing."""
    rows: list[LogRow] = []
    wanted = tuple(dict.fromkeys(command.reverse_events))
    named = find_events(appeal.subject, wanted, working) if wanted else []
    missing = set(wanted) - {EventKey(row.source, row.number) for row in named}
    if missing:
        raise AppealEffectMissing(
            appeal.name, f"{', '.join(map(str, sorted(missing)))} not in the log, or taken back before"
        )
    target = appeal.target
    if target.kind is TargetKind.MARK:
        mark = _mark_of(appeal, working)
        for begin in mark.latest_begins:
            rows += find_behind(appeal.subject, mark.reference, begin.at_us, begin.by, working)
        _lift(mark, appeal, working, moment)
    elif target.event is not None:
        named = [*find_events(appeal.subject, (target.event,), working), *named]
        if not any(EventKey(row.source, row.number) == target.event for row in named):
            raise AppealEffectMissing(appeal.name, f"{target.event} was taken back before")
    elif not named:
        raise AppealEffectMissing(appeal.name, "a reason is made of many events: name those that are taken back")
    taken = take_back(appeal.subject, _distinct(rows), working, moment, command.catalogue)
    also = [row for row in _distinct(named) if row not in rows]
    return taken + take_back(appeal.subject, also, working, moment, command.catalogue, untells=True)


def _lift(mark: Mark, appeal: Appeal, working: CreditSet, moment: Moment) -> None:
    """The mark never stood. One without a reference may stand again by another event: only this time is taken out."""
    if mark.reference:
        annul_mark(working, moment, mark.key, by=appeal.name)
        return
    if mark.key not in working.marks_loaded:
        raise Need(marks={mark.key})
    for begin in mark.latest_begins:
        turn_mark(working, MarkTold(mark.subject, mark.kind, mark.reference, True, begin), sign=-1)


def _distinct(rows: Sequence[LogRow]) -> list[LogRow]:
    return list(dict.fromkeys(rows))


def _mark_of(appeal: Appeal, working: CreditSet) -> Mark:
    """The mark appealed against. Raises AppealEffectMissing where it never stood, by another's word meanwhile."""
    kind = MarkKind(appeal.target.code.lower())
    for mark in marks_of(appeal.subject, working):
        if mark.kind is kind and mark.reference == appeal.target.reference and mark.begin is not None:
            return mark
    raise AppealEffectMissing(appeal.name, "the mark has been taken back before")


def marks_of(subject: str, working: CreditSet) -> list[Mark]:
    """A subject's marks. Raises Need where they were not loaded."""
    if subject not in working.marks_of_loaded:
        raise Need(marks_of={subject})
    return [mark for mark in working.marks.values() if mark.subject == subject]


def appeals_of(subject: str, working: CreditSet) -> list[Appeal]:
    """A subject's appeals. Raises Need where they were not loaded."""
    if subject not in working.appeals_loaded:
        raise Need(appeals_of={subject})
    return [appeal for appeal in working.appeals.values() if appeal.subject == subject]

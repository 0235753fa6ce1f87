"""What becomes of appeals: every state, command and role; targets, evidence, and what is taken back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from danbao_credit.application.appeals import (
    AppealDecided,
    DecideAppeal,
    FileAppeal,
    WithdrawAppeal,
    decide_appeal,
    file_appeal,
    may_see,
    withdraw_appeal,
)
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.appeal import (
    TABLE,
    Appeal,
    AppealCommand,
    AppealRole,
    AppealState,
    EventKey,
    Evidence,
    Target,
    TargetKind,
)
from danbao_credit.domain.asker import Asker
from danbao_credit.domain.catalogue import SubjectKind
from danbao_credit.domain.log import LogRow, changes_of_row
from danbao_credit.domain.marks import Mark, MarkKey, MarkKind, Turn, standing
from danbao_credit.domain.profile import Profile
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
from danbao_credit.testing.stories import good_trade, lived, moment
from danbao_kit.decision import Need

NOW = datetime(2026, 6, 1, tzinfo=UTC)
US = 1_000_000
SELLER, BUYER, CLAIM = "subjects/seller", "subjects/buyer", "claims/1"
HIMSELF = Asker(subject=SELLER)
FILER = Asker(subject="subjects/bot", partner="shop", is_partner=True)
OTHER_PARTNER = Asker(subject="subjects/bot2", partner="bank", is_partner=True)
ARBITER = Asker(subject="subjects/judge", is_arbiter=True)
OPERATOR = Asker(subject="subjects/ops", is_operator=True)
STRANGER = Asker(subject=BUYER)
ASKERS = {
    AppealRole.SUBJECT: HIMSELF,
    AppealRole.FILER: FILER,
    AppealRole.ARBITER: ARBITER,
    AppealRole.OPERATOR: OPERATOR,
}
FRAUD = Target(TargetKind.MARK, "FRAUD", CLAIM)
LATE = Target(TargetKind.REASON, "LATE_SHIPMENT")


def evidence(number: int) -> Evidence:
    return Evidence(f"s3://proof/{number}", f"{number:064x}", 10, "image/png", "")


def looked_up(profile: Profile | None = None, *marks: Mark, rows: tuple[LogRow, ...] = ()) -> CreditSet:
    """A working set in which everything about the seller was looked up."""
    working = CreditSet()
    working.subjects.load(SELLER, profile or Profile.empty())
    working.subjects_looked_up.add(SELLER)
    working.appeals_loaded.add(SELLER)
    working.consents_loaded.add(SELLER)
    working.marks_of_loaded.add(SELLER)
    for mark in marks:
        working.marks.load(mark.key, mark)
        working.marks_loaded.add(mark.key)
    for row in rows:
        key = (SELLER, EventKey(row.source, row.number))
        working.events_looked_up[key] = (*working.events_looked_up.get(key, ()), row)
        matter = (SELLER, row.about, row.at_us)
        working.matters_looked_up[matter] = (*working.matters_looked_up.get(matter, ()), row)
    return working


def filing(target: Target = LATE, asker: Asker = HIMSELF, *given: Evidence, **changes: Any) -> FileAppeal:
    command = FileAppeal(SELLER, target, "it was not me", given, asker, frozenset({"LATE_SHIPMENT"}))
    return replace(command, **changes)


def filed(working: CreditSet, target: Target = LATE, *given: Evidence, at: datetime = NOW) -> Appeal:
    appeal = file_appeal(filing(target, HIMSELF, *given), working, moment(at))
    working.accept()
    return appeal


def ruling(catalogue: Any, appeal: Appeal, *, upheld: bool, asker: Asker = ARBITER, **changes: Any) -> DecideAppeal:
    return replace(DecideAppeal(appeal.appeal_id, upheld, "as it is", (), asker, catalogue), **changes)


def dismissed(working: CreditSet, catalogue: Any, appeal: Appeal) -> Appeal:
    decided = decide_appeal(ruling(catalogue, appeal, upheld=False), working, moment(NOW))
    working.accept()
    return decided


def given_command(command: AppealCommand, appeal: Appeal, asker: Asker, working: CreditSet, catalogue: Any) -> Appeal:
    if command is AppealCommand.WITHDRAW:
        return withdraw_appeal(WithdrawAppeal(appeal.appeal_id, asker), working, moment(NOW))
    return decide_appeal(
        ruling(
            catalogue,
            appeal,
            upheld=command is AppealCommand.UPHOLD,
            asker=asker,
            reverse_events=(EventKey("escrow", 7),) if command is AppealCommand.UPHOLD else (),
        ),
        working,
        moment(NOW),
    )


def row_of(number: int, kind: str, *, at: datetime, about: str = "trades/1", **measures: int) -> LogRow:
    encoded = "{" + ",".join(f'"{name}":{value}' for name, value in measures.items()) + "}"
    at_us = int(at.timestamp()) * US
    return LogRow(SELLER, "escrow", number, "seller", kind, at_us, "CNY", about, encoded, 1)


LATE_ROW = row_of(7, "lines_shipped", at=NOW - timedelta(days=3), one=1, first=1, late=1)


@pytest.mark.parametrize(
    ("state", "command", "role"), list(product(AppealState, AppealCommand, AppealRole)), ids=lambda item: item.name
)
def test_the_table_is_the_whole_of_it(
    state: AppealState, command: AppealCommand, role: AppealRole, catalogue: Any
) -> None:
    working = looked_up(rows=(LATE_ROW,))
    appeal = replace(filed(working), state=state, filed_by="partner:shop")
    working.appeals.put(appeal.appeal_id, appeal)
    working.accept()
    wanted = TABLE.get((state, command, role))
    if wanted is not None:
        assert given_command(command, appeal, ASKERS[role], working, catalogue).state is wanted
        return
    may = {known for _, name, known in TABLE if name is command}
    with pytest.raises(AppealStateInvalid if role in may else RoleNotAllowed) as refused:
        given_command(command, appeal, ASKERS[role], working, catalogue)
    if role in may:
        assert refused.value.metadata["state"] == state
        assert refused.value.metadata["legal_commands"] == ""
    working.discard()
    assert working.appeals.get(appeal.appeal_id) == appeal


@pytest.mark.parametrize("command", AppealCommand)
@pytest.mark.parametrize("asker", [STRANGER, OTHER_PARTNER, Asker(peer="escrow"), Asker()], ids=str)
def test_a_foreign_appeal_is_like_a_missing_one(command: AppealCommand, asker: Asker, catalogue: Any) -> None:
    working = looked_up()
    appeal = filed(working)
    assert not may_see(asker, appeal)
    with pytest.raises(AppealNotFound):
        given_command(command, appeal, asker, working, catalogue)


@pytest.mark.parametrize(
    "asker",
    [
        Asker(subject=SELLER, is_arbiter=True),
        Asker(subject="subjects/judge", partner="shop", is_arbiter=True, is_partner=True),
        Asker(is_arbiter=True),
    ],
    ids=["the subject", "of the partner that filed it", "without a name"],
)
def test_nobody_decides_their_own_case(asker: Asker, catalogue: Any) -> None:
    working = looked_up()
    appeal = replace(filed(working), filed_by="partner:shop")
    working.appeals.put(appeal.appeal_id, appeal)
    for command in (AppealCommand.DISMISS, AppealCommand.UPHOLD):
        with pytest.raises(RoleNotAllowed):
            given_command(command, appeal, asker, working, catalogue)


def test_who_may_file(catalogue: Any) -> None:
    assert file_appeal(filing(), looked_up(), moment(NOW)).filed_by == "subject"
    for asker, refusal in (
        (STRANGER, SubjectNotFound),
        (Asker(), SubjectNotFound),
        (OPERATOR, RoleNotAllowed),
        (ARBITER, RoleNotAllowed),
        (Asker(peer="escrow"), RoleNotAllowed),
        (FILER, ConsentMissing),
    ):
        with pytest.raises(refusal):
            file_appeal(filing(asker=asker), looked_up(), moment(NOW))


@pytest.mark.parametrize(
    "target",
    [
        Target(TargetKind.REASON, "CANCELLATIONS"),
        Target(TargetKind.MARK, "OVERDUE"),
        Target(TargetKind.MARK, "FRAUD", "claims/2"),
        Target(TargetKind.EVENT, event=EventKey("escrow", 8)),
    ],
    ids=str,
)
def test_what_is_not_held_against_the_subject_cannot_be_appealed_against(target: Target) -> None:
    working = looked_up(None, fraud(NOW - timedelta(days=1)), rows=(LATE_ROW,))
    working.events_looked_up[SELLER, EventKey("escrow", 8)] = ()
    with pytest.raises(AppealTargetNotFound):
        file_appeal(filing(target), working, moment(NOW))


def test_a_mark_without_a_reference_is_the_one_that_has_stood_longest() -> None:
    working = looked_up(
        None, fraud(NOW - timedelta(days=1)), replace(fraud(NOW - timedelta(days=9)), reference="claims/9")
    )
    appeal = file_appeal(filing(Target(TargetKind.MARK, "FRAUD")), working, moment(NOW))
    assert appeal.target.reference == "claims/9"


def test_one_open_appeal_a_target_then_one_more_with_new_evidence_and_no_third(catalogue: Any) -> None:
    working = looked_up()
    first = filed(working, LATE, evidence(1))
    with pytest.raises(AppealOpen) as still_open:
        file_appeal(filing(LATE, HIMSELF, evidence(2)), working, moment(NOW))
    assert still_open.value.metadata["appeal"] == first.name
    dismissed(working, catalogue, first)
    for given in ((), (evidence(1),)):
        with pytest.raises(NewEvidenceMissing):
            file_appeal(filing(LATE, HIMSELF, *given), working, moment(NOW))
    second = filed(working, LATE, evidence(1), evidence(2))
    withdraw_appeal(WithdrawAppeal(second.appeal_id, HIMSELF), working, moment(NOW))
    working.accept()
    with pytest.raises(AppealsExhausted):
        file_appeal(filing(LATE, HIMSELF, evidence(3)), working, moment(NOW))


def test_after_one_was_upheld_the_same_reason_is_another_matter(catalogue: Any) -> None:
    working = looked_up(rows=(LATE_ROW,))
    for day in range(3):
        at = NOW + timedelta(days=day)
        appeal = filed(working, LATE, at=at)
        working.events_looked_up[SELLER, EventKey("escrow", 7 + day)] = (LATE_ROW._replace(number=7 + day),)
        command = ruling(catalogue, appeal, upheld=True, reverse_events=(EventKey("escrow", 7 + day),))
        assert decide_appeal(command, working, moment(at)).state is AppealState.UPHELD
        working.accept()


def test_nothing_is_decided_before_it_was_looked_up(catalogue: Any) -> None:
    working = CreditSet()
    with pytest.raises(Need):
        file_appeal(filing(), working, moment(NOW))
    with pytest.raises(Need):
        file_appeal(filing(FRAUD), working, moment(NOW))


def fraud(at: datetime) -> Mark:
    turn = Turn(int(at.timestamp()) * US, "escrow.claim_compensated", "")
    return Mark(SELLER, MarkKind.FRAUD, CLAIM, begins=(turn,))


def test_upheld_against_fraud_gives_back_the_former_score_at_every_moment(judge: Any) -> None:
    catalogue = judge.catalogue
    stories = [good_trade(str(n), NOW - timedelta(days=40 + n), buyer=f"subjects/b{n}") for n in range(30)]
    before = lived(catalogue, *stories)[SELLER]
    slipped = NOW - timedelta(days=9)
    # The event tells more than the mark: what it counts is whatever the catalogue takes of it.
    row = row_of(900, "lines_refunded", at=slipped, about=CLAIM, one=1, first=1, defective=1, by_seller=1)
    with_fraud = before.with_changes(changes_of_row(row, catalogue))
    mark = replace(fraud(slipped), begins=(Turn(row.at_us, "escrow.lines_refunded", ""),))
    other = row_of(901, "lines_shipped", at=slipped, about=CLAIM, one=1, late=1)
    working = looked_up(with_fraud, mark, rows=(row, other))

    def seen(profile: Profile, as_of: datetime) -> Any:
        as_of_s = int(as_of.timestamp())
        marks = [item for item in working.marks.values() if item.subject == SELLER]
        stands = standing(marks, as_of_s)
        return judge.evaluate(profile, kind=SubjectKind.MERCHANT, as_of_s=as_of_s, standing=stands)

    moments = [slipped + timedelta(days=days) for days in (0, 1, 8, 9, 30, 60, 400)]
    blocked = [seen(with_fraud, at) for at in moments]
    assert {(item.score, item.blocked, item.reasons[0].code) for item in blocked} == {(350, True, "FRAUD_CONFIRMED")}
    appeal = filed(working, FRAUD)
    decided = decide_appeal(ruling(catalogue, appeal, upheld=True), working, moment(NOW))
    working.accept()
    assert decided.reversed_events == (EventKey("escrow", 900),)
    assert decided.decided_by == "subjects/judge"
    after = working.subjects.get(SELLER)
    assert after is not None
    assert working.log_rows.accepted == [row._replace(number=-900, sign=-1)]
    plain = [judge.evaluate(before, kind=SubjectKind.MERCHANT, as_of_s=int(at.timestamp())) for at in moments]
    assert [seen(after, at) for at in moments] == plain
    key = MarkKey(SELLER, MarkKind.FRAUD, CLAIM)
    ended = working.marks.get(key)
    assert ended is not None
    assert ended.is_annulled, "it never stood"
    assert SELLER in dict(working.touched.created())


def test_upheld_against_an_event_takes_it_back_once(judge: Any) -> None:
    catalogue = judge.catalogue
    target = Target(TargetKind.EVENT, event=EventKey("escrow", 7))
    before = lived(catalogue, good_trade("1", NOW - timedelta(days=30)))[SELLER]
    working = looked_up(before.with_changes(changes_of_row(LATE_ROW, catalogue)), rows=(LATE_ROW,))
    appeal = filed(working, target)
    decide_appeal(ruling(catalogue, appeal, upheld=True), working, moment(NOW))
    working.accept()
    assert working.subjects.get(SELLER).to_bytes() != before.to_bytes(), "the newest moment stays"
    facts, kept = (judge.facts(profile, int(NOW.timestamp())) for profile in (before, working.subjects.get(SELLER)))
    for indicator in catalogue.indicators:
        if "days_since(last" in indicator.expression.text:
            continue  # a moment that came stays
        assert indicator.value(facts) == indicator.value(kept), indicator.name
    with pytest.raises(AppealTargetNotFound):
        file_appeal(filing(target), working, moment(NOW))
    appeal = filed(working, LATE)
    command = ruling(catalogue, appeal, upheld=True, reverse_events=(EventKey("escrow", 7),))
    with pytest.raises(AppealEffectMissing):
        decide_appeal(command, working, moment(NOW))


def test_upheld_against_a_reason_needs_to_know_what_is_taken_back(catalogue: Any) -> None:
    working = looked_up(rows=(LATE_ROW,))
    appeal = filed(working)
    with pytest.raises(AppealEffectMissing):
        decide_appeal(ruling(catalogue, appeal, upheld=True), working, moment(NOW))
    working.discard()
    working.events_looked_up[SELLER, EventKey("escrow", 8)] = ()
    events = (EventKey("escrow", 7), EventKey("escrow", 8))
    with pytest.raises(AppealEffectMissing) as missing:
        decide_appeal(ruling(catalogue, appeal, upheld=True, reverse_events=events), working, moment(NOW))
    assert "escrow/8" in missing.value.message
    working.discard()
    assert not working.log_rows.accepted


def test_dismissed_changes_nothing_and_is_told(catalogue: Any) -> None:
    profile = lived(catalogue, good_trade("1", NOW - timedelta(days=30)))[SELLER]
    working = looked_up(profile, fraud(NOW - timedelta(days=1)))
    appeal = filed(working, FRAUD)
    at = moment(NOW)
    decided = decide_appeal(ruling(catalogue, appeal, upheld=False), working, at)
    assert [(type(event), event.appeal) for event in at.events] == [(AppealDecided, decided)]

    working.accept()
    assert (decided.state, decided.reversed_events) == (AppealState.DISMISSED, ())
    assert not working.log_rows.accepted
    assert not working.marks.created() + working.marks.updated()
    assert not working.subjects.created() + working.subjects.updated()

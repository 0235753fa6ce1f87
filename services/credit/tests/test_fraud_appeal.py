"""Fraud, an appeal against it, and erasure around both, over the wire on a real store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from danbao.credit.v1 import credit_pb2, rights_pb2
from danbao_credit.testing.stories import good_trade

NAME = "shop-9"
SUBJECT = f"subjects/{NAME}"
HIMSELF = {"subject": NAME, "roles": "user"}
SHOP = {"subject": "shop-bot", "roles": "partner", "partner": "shop"}
OPERATOR = {"subject": "ops", "roles": "operator"}
ARBITER = {"subject": "judge", "roles": "arbiter"}
HOUR = timedelta(hours=1)


def ago(hours: float) -> datetime:
    return datetime.now(UTC) - hours * HOUR


def report(event_id: str, kind: str, at: datetime, *, about: str = "", **measures: int) -> Any:
    event = credit_pb2.NewEvent(event_id=event_id, kind=kind, subject=SUBJECT, about=about, measures=measures)
    event.occur_time.FromDatetime(at)
    return event


async def told(credit: Any, ask: Any, *events: Any) -> list[int]:
    answer = await ask(credit, OPERATOR).credit("RecordEvents", credit_pb2.RecordEventsRequest(events=events))
    return [result.state for result in answer.results]


async def evaluated(credit: Any, ask: Any, as_of: datetime | None = None) -> Any:
    request = credit_pb2.EvaluateRequest(subject=SUBJECT, kind=credit_pb2.SUBJECT_KIND_MERCHANT)
    if as_of is not None:
        request.as_of.FromDatetime(as_of)
    return await ask(credit, OPERATOR).credit("Evaluate", request)


async def lived(credit: Any, ask: Any) -> None:
    stories = [good_trade(f"{n}", ago(200 + n), seller=SUBJECT, buyer=f"subjects/b{n}") for n in range(8)]
    credit.streams.escrow.add([event for story in stories for event in story.events])
    await credit.caught_up("escrow", 40)


def shown(evaluation: Any) -> tuple[Any, ...]:
    reasons = [(reason.code, reason.points_lost, reason.text) for reason in evaluation.reasons]
    return evaluation.score, evaluation.grade, evaluation.blocked, list(evaluation.sub_scores), reasons


async def test_an_appeal_against_fraud_gives_back_the_former_score_at_the_same_moment(credit, ask) -> None:
    await lived(credit, ask)
    moments = [ago(50), ago(20), ago(1)]
    before = [shown(await evaluated(credit, ask, at)) for at in moments]
    assert await told(credit, ask, report("f1", "fraud_confirmed", ago(30), about="claims/77")) == [
        credit_pb2.RecordedEvent.STATE_APPLIED
    ]
    now = await evaluated(credit, ask)
    assert (now.score, now.grade, now.blocked, now.reasons[0].code) == (350, "E", True, "FRAUD_CONFIRMED")
    himself = ask(credit, HIMSELF)
    refused = await himself.refused("EraseSubject", subject=SUBJECT)
    assert (refused[1], refused[3]["because"]) == ("ERASURE_REFUSED", "FRAUD_CONFIRMED"), "nobody launders by erasure"

    appeal = await himself.rights("FileAppeal", subject=SUBJECT, target={"mark": {"kind": "FRAUD"}}, statement="no")
    assert appeal.target.mark.reference == "claims/77"
    for caller in (HIMSELF, OPERATOR, SHOP):
        reason = "APPEAL_NOT_FOUND" if caller is SHOP else "ROLE_NOT_ALLOWED"
        refused = await ask(credit, caller).refused(
            "DecideAppeal", name=appeal.name, outcome="OUTCOME_UPHELD", decision="it was another"
        )
        assert refused[1] == reason
    decided = await ask(credit, ARBITER).rights(
        "DecideAppeal", name=appeal.name, outcome="OUTCOME_UPHELD", decision="it was another"
    )
    assert decided.state == rights_pb2.Appeal.STATE_UPHELD
    assert [event.source for event in decided.reversed_events] == ["reports"]
    now = await evaluated(credit, ask)
    assert not now.blocked
    assert "FRAUD_CONFIRMED" not in [reason.code for reason in now.reasons]
    assert [shown(await evaluated(credit, ask, at)) for at in moments] == before
    seen = await himself.rights("GetAppeal", name=appeal.name)
    assert (seen.decision, seen.decided_by) == ("it was another", ""), "officers are not named to users"
    assert (await ask(credit, ARBITER).rights("GetAppeal", name=appeal.name)).decided_by == "subjects/judge"

    back = credit_pb2.NewEvent(event_id="f2", reverses="f1")
    assert await told(credit, ask, back) == [credit_pb2.RecordedEvent.STATE_REFUSED], "it was taken back before"
    rebuilt = await ask(credit, OPERATOR).credit(
        "RebuildProfile", credit_pb2.RebuildProfileRequest(request_id="again", subject=SUBJECT)
    )
    assert rebuilt.same, "checkpoint and log give what was lived, the appeal included"
    await himself.rights("EraseSubject", subject=SUBJECT)


async def test_what_was_reported_stays_forgotten_however_often_it_is_told(credit, ask) -> None:
    await lived(credit, ask)
    events = [report(f"o{n}", "obligation_due", ago(40 - n), about=f"loans/{n}") for n in range(3)]
    events += [report(f"s{n}", "obligation_settled", ago(20 - n), about=f"loans/{n}", days_late=1) for n in range(3)]
    assert set(await told(credit, ask, *events[:4])) == {credit_pb2.RecordedEvent.STATE_APPLIED}
    refused = await ask(credit, HIMSELF).refused("EraseSubject", request_id="e", subject=SUBJECT)
    assert refused[3]["because"] == "OBLIGATION_OPEN"
    assert set(await told(credit, ask, *events[4:])) == {credit_pb2.RecordedEvent.STATE_APPLIED}
    await ask(credit, HIMSELF).rights("EraseSubject", request_id="e", subject=SUBJECT)
    # Told again, told anew and late, counted again: nothing comes back.
    assert set(await told(credit, ask, *events)) <= {
        credit_pb2.RecordedEvent.STATE_DUPLICATE,
        credit_pb2.RecordedEvent.STATE_ERASED,
    }
    late = [report(f"late{n}", "obligation_due", ago(10 + n), about=f"loans/{9 + n}") for n in range(3)]
    assert set(await told(credit, ask, *late)) == {credit_pb2.RecordedEvent.STATE_ERASED}
    again = [good_trade(f"r{n}", ago(200 + n), seller=SUBJECT, buyer=f"subjects/b{n}") for n in range(4)]
    credit.streams.escrow.add([event for story in again for event in story.events])
    await credit.caught_up("escrow", 60)
    rebuilt = await ask(credit, OPERATOR).credit(
        "RebuildProfile", credit_pb2.RebuildProfileRequest(request_id="again", subject=SUBJECT)
    )
    assert (rebuilt.same, rebuilt.entries, rebuilt.replayed_events) == (True, 0, 0)
    assert (await evaluated(credit, ask)).score == 620
    for table in ("subjects", "event_log", "checkpoints", "marks", "scores", "score_history", "claim_counts"):
        assert await credit.count(f"{table} WHERE subject = '{SUBJECT}'") == 0, table
    assert await credit.count(f"reports WHERE subject = '{SUBJECT}' OR peer = '{SUBJECT}'") == 0
    assert await credit.count("tombstones") == 1


async def test_an_appeal_against_an_event_takes_it_back_once_for_all(credit, ask) -> None:
    await lived(credit, ask)
    himself = ask(credit, HIMSELF)
    await told(credit, ask, report("o", "obligation_due", ago(40 * 24), about="loans/1"))
    assert "OVERDUE" in str((await evaluated(credit, ask)).adjustments)
    page = await himself.rights("ExportSubjectData", subject=SUBJECT, page_size=1000)
    logged = [dict(r.values) for r in page.records if r.section == "events" and dict(r.values)["source"] == "reports"]
    target = {"event": {"source": "reports", "number": int(logged[0]["number"])}}
    appeal = await himself.rights("FileAppeal", subject=SUBJECT, target=target, statement="I paid")
    await ask(credit, ARBITER).rights(
        "DecideAppeal", name=appeal.name, outcome="OUTCOME_UPHELD", decision="it was paid"
    )
    assert "OVERDUE" not in str((await evaluated(credit, ask)).adjustments)
    refused = await himself.refused("FileAppeal", subject=SUBJECT, target=target, statement="I paid")
    assert refused[1] == "APPEAL_TARGET_NOT_FOUND"


async def test_a_partner_appeals_with_the_subjects_word_and_sees_what_it_filed(credit, ask) -> None:
    await lived(credit, ask)
    code = (await evaluated(credit, ask)).reasons[0].code
    filing = {"subject": SUBJECT, "target": {"reason_code": code}, "statement": "for our seller"}
    shop = ask(credit, SHOP)
    assert (await shop.refused("FileAppeal", **filing))[1] == "CONSENT_MISSING"
    await ask(credit, HIMSELF).rights("GrantConsent", subject=SUBJECT, purpose="representation", partner="shop")
    appeal = await shop.rights("FileAppeal", **filing)
    assert appeal.filed_by == "partner:shop"
    assert [item.name for item in (await shop.rights("ListAppeals")).appeals] == [appeal.name]
    assert [item.name for item in (await ask(credit, HIMSELF).rights("ListAppeals")).appeals] == [appeal.name]
    stranger = ask(credit, {"subject": "other", "roles": "user"})
    assert not (await stranger.rights("ListAppeals")).appeals
    assert not (await stranger.rights("ListAppeals", subject=SUBJECT)).appeals
    assert (await stranger.refused("GetAppeal", name=appeal.name))[:2] == ("NOT_FOUND", "APPEAL_NOT_FOUND")
    withdrawn = await shop.rights("WithdrawAppeal", name=appeal.name)
    assert withdrawn.state == rights_pb2.Appeal.STATE_WITHDRAWN
    state = {"subject": SUBJECT, "state": "STATE_FILED"}
    assert not (await ask(credit, ARBITER).rights("ListAppeals", **state)).appeals

"""How a subject is forgotten: what hinders it, what goes, what stays, and that nothing comes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from danbao.credit.v1 import credit_pb2, rights_pb2
from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.tombstone import subject_key
from danbao_credit.testing.stories import TradeStory, good_trade
from danbao_kit.action_log import ActionLog, Wanted
from danbao_kit.database import Database

NAME = "canary-e7"
SUBJECT = f"subjects/{NAME}"
# A name that begins with the other one: whoever is forgotten takes nobody along.
NEIGHBOUR = f"subjects/{NAME}x"
HIMSELF = {"subject": NAME, "roles": "user"}
BANK = {"subject": "bank-bot", "roles": "partner", "partner": "bank"}
OPERATOR = {"subject": "ops", "roles": "operator"}
ARBITER = {"subject": "judge", "roles": "arbiter"}
REQUESTED = rights_pb2.ERASURE_REASON_REQUESTED
HOUR = timedelta(hours=1)


def ago(hours: float) -> datetime:
    return datetime.now(UTC) - hours * HOUR


def trades(count: int, *, seller: str = SUBJECT, first: int = 0, hours: float = 500) -> list[Any]:
    stories = [
        good_trade(f"{seller[-3:]}-{first + n}", ago(hours + n), seller=seller, buyer=f"subjects/b{n}")
        for n in range(count)
    ]
    return [event for story in stories for event in story.events]


async def places_of(credit: Any, name: str) -> dict[str, int]:
    """In which tables, and how many rows of them, a name stands, in text or in bytes; the neighbour's is another."""
    neighbour = NEIGHBOUR.removeprefix("subjects/").encode()
    found: dict[str, int] = {}
    tables = await credit.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    for (table,) in tables:
        rows = await credit.rows(f'SELECT * FROM "{table}"')
        count = sum(
            any(
                name.encode() in (value if isinstance(value, bytes) else str(value).encode()).replace(neighbour, b"")
                for value in row.values()
            )
            for row in rows
        )
        if count:
            found[table] = count
    return found


async def full_life(credit: Any, ask: Any) -> None:
    """A subject with everything that can be kept about one: trades, consents, reads, appeals, events, requests."""
    credit.streams.escrow.add([*trades(6), *trades(2, seller=NEIGHBOUR)])
    await credit.caught_up("escrow", 40)
    himself, bank = ask(credit, HIMSELF), ask(credit, BANK)
    await himself.rights("GrantConsent", subject=SUBJECT, purpose="lending", partner="bank")
    await bank.credit("Evaluate", credit_pb2.EvaluateRequest(subject=SUBJECT, purpose="lending"))
    evaluated = await bank.credit("Evaluate", credit_pb2.EvaluateRequest(subject=SUBJECT))
    code = evaluated.reasons[0].code
    appeal = await himself.rights(
        "FileAppeal", subject=SUBJECT, target={"reason_code": code}, statement=f"I am {NAME} and it was not me"
    )
    await ask(credit, ARBITER).rights(
        "DecideAppeal", name=appeal.name, outcome="OUTCOME_DISMISSED", decision=f"{NAME} was late"
    )
    # Refused, and recorded.
    assert (await himself.refused("RevokeConsent", name="consents/00000000-0000-4000-8000-000000000000"))[1] == (
        "CONSENT_NOT_FOUND"
    )


async def test_the_name_is_in_no_table_afterwards_and_the_neighbours_are_untouched(credit, ask) -> None:
    await full_life(credit, ask)
    before = await places_of(credit, NAME)
    assert {"subjects", "event_log", "consents", "score_accesses", "appeals", "events", "request_records"} <= (
        before.keys()
    )
    assert before["privileged_action_words"] == 1, "the arbiter's"
    neighbour = await ask(credit, OPERATOR).rights("ExportSubjectData", subject=NEIGHBOUR, page_size=1000)
    erased = await ask(credit, HIMSELF).rights("EraseSubject", subject=SUBJECT, reason=REQUESTED)
    assert erased.subject_hash == subject_key(SUBJECT).hex()
    assert erased.reason == REQUESTED
    assert await places_of(credit, NAME) == {}
    tombstones = await credit.rows("SELECT * FROM tombstones")
    assert [row["key"] for row in tombstones] == [subject_key(SUBJECT)]
    after = await ask(credit, OPERATOR).rights("ExportSubjectData", subject=NEIGHBOUR, page_size=1000)
    kept, still = (
        [record.text for record in page.records if record.section in ("credit", "events")]
        for page in (neighbour, after)
    )
    assert still == kept
    evaluated = await ask(credit, BANK).credit("Evaluate", credit_pb2.EvaluateRequest(subject=SUBJECT))
    assert evaluated.score == 620, "a newcomer"
    empty = await ask(credit, HIMSELF).rights("ExportSubjectData", subject=SUBJECT, page_size=1000)
    assert {record.section for record in empty.records} == {"credit"}, "what anybody nobody has seen would get"


async def test_what_officers_did_with_it_stays_told_without_its_name(credit, ask) -> None:
    """Also what was refused, which names an appeal and nobody, and what was read after the erasure was decided."""
    await full_life(credit, ask)
    operator, arbiter = ask(credit, OPERATOR), ask(credit, ARBITER)
    [appeal] = await credit.rows("SELECT appeal_id FROM appeals")
    refused = {"name": f"appeals/{appeal['appeal_id']}", "outcome": "OUTCOME_DISMISSED", "decision": f"{NAME} again"}
    assert (await arbiter.refused("DecideAppeal", **refused))[0] == "FAILED_PRECONDITION"
    await operator.rights("ExportSubjectData", subject=SUBJECT)
    await operator.rights("ExportSubjectData", subject=NEIGHBOUR)
    store = Database(credit.database.dsn, pool_size=1)
    log = ActionLog(store, words_may_go=True)
    before = await log.verify()
    assert (before.broken, before.erased) == (None, 0)
    told = [(entry.action.operation, entry.action.outcome) for entry in await log.page(Wanted(), before=None, limit=9)]
    assert told == [
        ("ExportSubjectData", "OK"),
        ("ExportSubjectData", "OK"),
        ("DecideAppeal", "APPEAL_STATE_INVALID"),
        ("DecideAppeal", "OK"),
    ]
    erased = await operator.rights("EraseSubject", request_id="by-order", subject=SUBJECT, reason=REQUESTED)
    assert await places_of(credit, NAME) == {}
    after = await log.verify(after=before.reached)
    assert (after.broken, after.entries) == (None, 1), "nothing that was noted before is another now"
    whole = await log.verify()
    assert (whole.broken, whole.entries, whole.erased) == (None, 5, 3)
    [last, neighbour, *gone] = await log.page(Wanted(), before=None, limit=9)
    assert (last.words.object, last.words.subject) == (f"erased/{erased.subject_hash}", "")
    assert (last.words.request_id, last.action.actor) == ("by-order", "ops")
    assert neighbour.words.object == NEIGHBOUR
    assert [entry.words for entry in gone] == [None] * 3
    assert {entry.action.actor for entry in gone} == {"ops", "judge"}
    await operator.rights("EraseSubject", request_id="by-order", subject=SUBJECT, reason=REQUESTED)
    assert (await log.verify()).entries == 5, "the same request is told once"
    await store.close()


async def test_words_are_all_that_credit_may_take_from_the_log(credit, ask) -> None:
    await ask(credit, OPERATOR).rights("ExportSubjectData", subject=SUBJECT)
    connection = await asyncpg.connect(credit.database.dsn)
    try:
        for statement in (
            "DELETE FROM privileged_actions",
            "UPDATE privileged_actions SET actor = 'x'",
            "UPDATE privileged_action_words SET why = 'x'",
            "TRUNCATE privileged_action_words",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_events_and_answers_lose_their_words_and_keep_their_places(credit, ask) -> None:
    await full_life(credit, ask)
    himself = ask(credit, HIMSELF)
    await himself.rights("GrantConsent", request_id="mine", subject=SUBJECT, purpose="research")
    events = await credit.rows("SELECT sequence, kind, payload FROM events ORDER BY sequence")
    about_it = {row["sequence"] for row in events if SUBJECT.encode() in row["payload"].replace(b"e7x", b"")}
    assert {"appeal_filed", "appeal_decided"} <= {row["kind"] for row in events if row["sequence"] in about_it}
    erased = await himself.rights("EraseSubject", request_id="gone", subject=SUBJECT)
    rows = await credit.rows("SELECT sequence, kind FROM events ORDER BY sequence")
    assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1)), "gapless as before"
    assert about_it <= {row["sequence"] for row in rows if row["kind"] == "erased"}
    again = await himself.refused("GrantConsent", request_id="mine", subject=SUBJECT, purpose="research")
    assert again[:2] == ("ALREADY_EXISTS", "REPLY_ERASED")
    assert await credit.count("consents") == 0, "it is not executed again"
    assert await himself.rights("EraseSubject", request_id="gone", subject=SUBJECT) == erased


async def test_nothing_comes_back_and_what_is_later_begins_anew(credit, ask) -> None:
    """Late events and those told again are covered by the tombstone; what happens later is a new life."""
    credit.streams.escrow.add(trades(6))
    await credit.caught_up("escrow", 30)
    erased = await ask(credit, OPERATOR).rights("EraseSubject", subject=SUBJECT)
    # The same trades under new sequences: a whole history that is told again, and events that come late.
    credit.streams.escrow.add([*trades(6), *trades(3, first=10, hours=100)])
    status = await credit.caught_up("escrow", 75)
    assert status.applied == 75
    assert await credit.count("subjects WHERE subject = '" + SUBJECT + "'") == 0
    assert await credit.count("event_log WHERE subject = '" + SUBJECT + "'") == 0
    assert await credit.count("event_log WHERE subject = 'subjects/b0'") == 15, "the other parties keep theirs"
    later = erased.erase_time.ToDatetime(UTC) + timedelta(milliseconds=10)
    credit.streams.escrow.add(TradeStory("new", at=later, seller=SUBJECT).paid(later).events)
    await credit.caught_up("escrow", 77)
    values = await ask(credit, OPERATOR).credit(
        "ListIndicatorValues", credit_pb2.ListIndicatorValuesRequest(subject=SUBJECT)
    )
    found = {item.name: item.value for item in values.values}
    assert (found["orders_paid_life"], found["orders_completed_life"]) == (1, 0)
    assert await credit.count("event_log WHERE subject = '" + SUBJECT + "'") == 2


async def test_an_erasure_and_a_restart_between(credit, ask) -> None:
    credit.streams.escrow.add(trades(2))
    await credit.caught_up("escrow", 10)
    await ask(credit, OPERATOR).rights("EraseSubject", subject=SUBJECT)
    await credit.stop()
    await credit.start()
    credit.streams.escrow.add(trades(2))
    await credit.caught_up("escrow", 20)
    assert await places_of(credit, NAME) == {}


@pytest.mark.parametrize(
    ("party", "end"),
    [
        ("seller", lambda story: story.shipped(ago(3)).released(ago(2))),
        ("buyer", lambda story: story.refunded(ago(3))),
    ],
    ids=["as a seller", "as a buyer"],
)
async def test_an_open_trade_hinders_until_it_has_ended(credit, ask, party, end) -> None:
    story = TradeStory("open", at=ago(5), **{party: SUBJECT}).paid(ago(4))
    credit.streams.escrow.add(story.events)
    await credit.caught_up("escrow", 2)
    for caller in (HIMSELF, OPERATOR):
        refused = await ask(credit, caller).refused("EraseSubject", request_id="later", subject=SUBJECT)
        assert refused[:2] == ("FAILED_PRECONDITION", "ERASURE_REFUSED")
        assert refused[3]["because"] == "TRADE_OPEN"
    assert await credit.count("tombstones") == 0
    end(story)
    credit.streams.escrow.add(story.events[2:])
    await credit.caught_up("escrow", len(story.events))
    await ask(credit, HIMSELF).rights("EraseSubject", request_id="later", subject=SUBJECT)
    assert await credit.count("tombstones") == 1


async def test_an_open_appeal_hinders_and_the_same_request_goes_through_once_it_is_decided(credit, ask) -> None:
    credit.streams.escrow.add(trades(2))
    await credit.caught_up("escrow", 10)
    evaluated = await ask(credit, OPERATOR).credit("Evaluate", credit_pb2.EvaluateRequest(subject=SUBJECT))
    himself = ask(credit, HIMSELF)
    appeal = await himself.rights(
        "FileAppeal", subject=SUBJECT, target={"reason_code": evaluated.reasons[0].code}, statement="no"
    )
    refused = await himself.refused("EraseSubject", request_id="soon", subject=SUBJECT)
    assert (refused[1], refused[3]["because"]) == ("ERASURE_REFUSED", "APPEAL_OPEN")
    await himself.rights("WithdrawAppeal", name=appeal.name)
    await himself.rights("EraseSubject", request_id="soon", subject=SUBJECT)
    assert await places_of(credit, NAME) == {}


async def test_who_may_erase(credit, ask) -> None:
    credit.streams.escrow.add(trades(1))
    await credit.caught_up("escrow", 5)
    for caller, reason in (
        (BANK, "SUBJECT_NOT_FOUND"),
        ({"subject": "other", "roles": "user"}, "SUBJECT_NOT_FOUND"),
        (ARBITER, "ROLE_NOT_ALLOWED"),
    ):
        assert (await ask(credit, caller).refused("EraseSubject", subject=SUBJECT))[1] == reason
    assert await credit.count("subjects WHERE subject = '" + SUBJECT + "'") == 1


async def test_with_a_secret_names_cannot_be_tried_and_the_secret_never_changes(make_credit, ask) -> None:
    credit = await make_credit(erasure_secret="s3cret")
    erased = await ask(credit, OPERATOR).rights("EraseSubject", subject=SUBJECT, reason=REQUESTED)
    assert erased.subject_hash == subject_key(SUBJECT, b"s3cret").hex() != subject_key(SUBJECT).hex()
    (row,) = await credit.rows("SELECT key, reason FROM tombstones")
    assert (row["key"].hex(), row["reason"]) == (erased.subject_hash, "REQUESTED")
    credit.streams.escrow.add(trades(1))
    await credit.caught_up("escrow", 5)
    assert await places_of(credit, NAME) == {}
    await credit.stop()
    credit.settings = credit.settings.model_copy(update={"erasure_secret": SecretStr("other")})
    with pytest.raises(DefinitionInvalid, match="another DANBAO_ERASURE_SECRET"):
        await credit.start()

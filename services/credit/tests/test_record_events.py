"""What other teams tell counts once, whenever and however often and in whatever order they tell it."""

from __future__ import annotations

import random
from datetime import UTC, timedelta
from typing import Any

import asyncpg
import grpc
import pytest

from danbao.credit.v1 import credit_pb2
from danbao_credit.application.apply_events import FUTURE, microseconds
from danbao_credit.application.get_profile import counted
from danbao_credit.application.record_events import NewEvent, RecordEvents, RecordState, record_events
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.events import Source
from danbao_credit.domain.profile import Kind, Profile
from danbao_credit.domain.tombstone import Tombstone, subject_key
from danbao_credit.testing.reports import BUYER, PARTNER, SELLER, new_event, record, review, reviews, stored
from danbao_credit.testing.stories import START, moment
from danbao_kit.rpc_status import reason_of
from danbao_kit.testing.service import as_caller

OTHER_PARTNER = as_caller(subject="subjects/other", roles="partner", partner="other")
OPERATOR = as_caller(subject="subjects/ops", roles="operator")
APPLIED, DUPLICATE, PARKED, REFUSED, ERASED = (
    credit_pb2.RecordedEvent.STATE_APPLIED,
    credit_pb2.RecordedEvent.STATE_DUPLICATE,
    credit_pb2.RecordedEvent.STATE_PARKED,
    credit_pb2.RecordedEvent.STATE_REFUSED,
    credit_pb2.RecordedEvent.STATE_ERASED,
)


def told(
    catalogue: Catalogue, *calls: list[NewEvent], working: CreditSet | None = None, by_operator: bool = False
) -> tuple[CreditSet, list[RecordState]]:
    """What the calls of one caller leave, and what came of each event."""
    working = CreditSet() if working is None else working
    states = []
    number = 0
    for events in calls:
        at = moment(START)
        at._numbers = number
        results = record_events(RecordEvents("partner:shop", by_operator, tuple(events), catalogue), working, at)
        number = at.last_number
        working.accept()
        states += [result.state for result in results]
    return working, states


def bytes_of(working: CreditSet) -> dict[str, bytes]:
    return {subject: profile.to_bytes() for subject, profile in working.subjects.created()}


async def ingest(credit: Any) -> credit_pb2.StreamStatus:
    answer = await credit.stub().GetIngestStatus(credit_pb2.GetIngestStatusRequest(), timeout=5)
    return next(stream for stream in answer.streams if stream.source == "reports")


async def test_a_thousand_reports_sent_three_times_shuffled_count_once(credit, catalogue: Catalogue) -> None:
    events = reviews(1000)
    once, _ = told(catalogue, events)
    dice = random.Random(4)
    sent = events * 3
    dice.shuffle(sent)
    results = []
    for start in range(0, 3000, 300):
        results += await record(credit, *sent[start : start + 300])
    assert [result.event_id for result in results] == [event.event_id for event in sent]
    assert sum(result.state == APPLIED for result in results) == 1000
    assert sum(result.state == DUPLICATE for result in results) == 2000
    status = await ingest(credit)
    assert (status.applied, status.duplicates, status.parked, status.connected) == (1000, 2000, 0, True)
    rows = await stored(credit, "SELECT subject, profile FROM subjects")
    assert {row["subject"]: row["profile"] for row in rows} == bytes_of(once)
    numbers = await stored(credit, "SELECT DISTINCT number FROM event_log WHERE source = 'reports' ORDER BY number")
    assert [row["number"] for row in numbers] == list(range(1, 1001))


def test_twenty_permutations_of_one_history_give_one_state(catalogue: Catalogue) -> None:
    events = reviews(200)
    dice = random.Random(9)
    states = set()
    for _ in range(20):
        dice.shuffle(events)
        working, _ = told(catalogue, events[:70], events[70:])
        states.add(tuple(sorted(bytes_of(working).items())))
    assert len(states) == 1


def test_a_late_report_counts_in_its_own_hour(catalogue: Catalogue) -> None:
    late = START - timedelta(hours=30)
    working, _ = told(catalogue, [review("new")], [review("late", late)])
    profile = working.subjects.get(SELLER)
    assert profile is not None
    slot = next(slot.id for slot in catalogue.slots if slot.name == "reviews")
    start_s, late_s = (microseconds(at) // 1_000_000 for at in (START, late))
    totals = [
        profile.totals(hop_s=3600, tiles=tiles, as_of_s=as_of, slots=catalogue.slot_ids)[slot]
        for tiles, as_of in ((24, start_s), (31, start_s), (1, late_s))
    ]
    assert totals == [1, 2, 1]
    assert profile.newest_s() == start_s


async def test_a_call_may_tell_of_as_many_promises_as_it_may_have_events(credit) -> None:
    """Each begins a mark of its own; the store is asked for all of them at once."""
    promises = [
        NewEvent(
            f"p{n}", kind="promise_made", subject=f"subjects/s{n}", about=f"promises/{n}", at_us=microseconds(START)
        )
        for n in range(1000)
    ]
    told_first = await record(credit, *promises)
    assert {result.state for result in told_first} == {APPLIED}
    taken_back = [NewEvent(f"r{n}", reverses=f"p{n}") for n in range(1000)]
    assert {result.state for result in await record(credit, *taken_back)} == {APPLIED}
    marks = await stored(credit, "SELECT count(*) AS known FROM marks")
    assert marks[0]["known"] == 1000


async def test_the_same_id_with_another_body_is_refused_and_says_what_differs(credit) -> None:
    assert [result.state for result in await record(credit, review("a"))] == [APPLIED]
    for changed, field in (
        (review("a", rating=4), "measures"),
        (review("a", START - timedelta(seconds=1)), "occur_time"),
        (review("a", subject=BUYER, peer=SELLER), "subject"),
        (review("a", about="trades/1"), "about"),
    ):
        [result] = await record(credit, changed)
        assert result.state == REFUSED
        assert reason_of(result.error) == ("REQUEST_ID_REUSED", {"request_id": "a", "field": field})
    status = await ingest(credit)
    assert (status.applied, status.duplicates) == (1, 0)


async def test_ids_are_the_callers_own(credit) -> None:
    for caller in (PARTNER, OTHER_PARTNER, OPERATOR):
        assert [result.state for result in await record(credit, review("a"), caller=caller)] == [APPLIED]
    # Whoever acts for the same partner is the same caller.
    colleague = as_caller(subject="subjects/colleague", roles="partner", partner="shop")
    assert [result.state for result in await record(credit, review("a"), caller=colleague)] == [DUPLICATE]


async def test_what_is_wrong_with_one_event_leaves_the_others_alone(credit) -> None:
    results = await record(
        credit,
        review("good"),
        review("kind", kind="no_such_kind"),
        review("measure", rating=6),
        review("lacking", measures=()),
        review("peer", peer=""),
        review("self", peer=SELLER),
        review("currency", currency="CNY"),
        review("time", at_us=None),
        review("good2"),
    )
    assert [result.state for result in results] == [APPLIED, *[REFUSED] * 7, APPLIED]
    fields = [reason_of(result.error)[1]["field"] for result in results if result.state == REFUSED]
    assert fields == [
        "events[1].kind",
        "events[2].measures[rating]",
        "events[3].measures[rating]",
        "events[4].peer",
        "events[5].peer",
        "events[6].currency",
        "events[7].occur_time",
    ]
    # Nothing of a refused event is kept: mended, it is told under the same id.
    assert [result.state for result in await record(credit, review("kind"))] == [APPLIED]
    assert (await ingest(credit)).applied == 3


async def test_only_operators_tell_of_penalties(credit) -> None:
    penalty = NewEvent(
        "p1",
        kind="policy_penalty",
        subject=SELLER,
        currency="CNY",
        at_us=microseconds(START),
        measures=(("amount_minor", 5000),),
    )
    [result] = await record(credit, penalty)
    assert (result.state, reason_of(result.error)) == (REFUSED, ("REPORT_NOT_ALLOWED", {"kind": "policy_penalty"}))
    for caller in (OPERATOR, as_caller(subject="subjects/judge", roles="arbiter")):
        assert [result.state for result in await record(credit, penalty, caller=caller)] == [APPLIED]


async def test_a_report_from_the_future_is_parked_and_tried_again_when_told_again(make_credit) -> None:
    from danbao.testing.v1 import clock_pb2, clock_pb2_grpc

    credit = await make_credit(clock="test")
    clock = clock_pb2_grpc.ClockServiceStub(credit.channel_as("operator"))
    now = (await clock.GetClock(clock_pb2.GetClockRequest(), timeout=5)).now.ToDatetime(UTC)
    ahead = review("ahead", now + timedelta(minutes=6))
    almost = review("almost", now + timedelta(minutes=4))
    results = await record(credit, ahead, almost)
    assert [(result.state, result.park_reason) for result in results] == [(PARKED, FUTURE), (APPLIED, "")]
    assert ((await ingest(credit)).applied, (await ingest(credit)).parked) == (1, 1)
    request = clock_pb2.AdvanceClockRequest()
    request.to.FromDatetime(now + timedelta(minutes=2))
    await clock.AdvanceClock(request, timeout=5)
    assert [result.state for result in await record(credit, ahead)] == [APPLIED]


async def test_a_reversal_takes_away_what_was_added_at_its_own_time(credit, catalogue: Catalogue) -> None:
    await record(credit, review("right", START - timedelta(days=3)), review("wrong", rating=1))
    [result] = await record(credit, NewEvent("undo", reverses="wrong"))
    assert result.state == APPLIED
    [again] = await record(credit, NewEvent("undo", reverses="wrong"))
    assert again.state == DUPLICATE
    rows = await stored(
        credit, "SELECT number, sign, at_us, measures FROM event_log WHERE role = 'subject' ORDER BY number"
    )
    assert [(row["number"], row["sign"]) for row in rows] == [(1, 1), (2, 1), (3, -1)]
    assert (rows[2]["at_us"], rows[2]["measures"]) == (rows[1]["at_us"], rows[1]["measures"])
    profile = await credit.stub().GetProfile(credit_pb2.GetProfileRequest(subject=SELLER), timeout=5)
    totals = {slot.name: slot.totals["life"] for slot in profile.slots if "life" in slot.totals}
    assert (totals["reviews"], totals["review_stars"]) == (1, 5)


async def test_what_cannot_be_reversed_is_refused(credit) -> None:
    await record(credit, review("wrong"), NewEvent("undo", reverses="wrong"))
    results = await record(
        credit,
        NewEvent("undo2", reverses="wrong"),
        NewEvent("undo3", reverses="never"),
        NewEvent("undo4", reverses="undo"),
        NewEvent("undo5", reverses="undo5"),
        NewEvent("undo6", reverses="wrong", kind="review_received", subject=SELLER),
        NewEvent("undo7", reverses="wrong", at_us=1),
    )
    assert [result.state for result in results] == [REFUSED] * 6
    assert [reason_of(result.error)[0] for result in results] == [
        "ALREADY_REVERSED",
        "REPORT_NOT_FOUND",
        *["FIELD_INVALID"] * 4,
    ]
    # Another caller's event is not there.
    [result] = await record(credit, NewEvent("undo", reverses="wrong"), caller=OTHER_PARTNER)
    assert reason_of(result.error)[0] == "REPORT_NOT_FOUND"
    rows = await stored(credit, "SELECT count(*) FROM event_log WHERE role = 'subject'")
    assert rows[0]["count"] == 2


def test_a_reversal_leaves_moments_and_the_profile_otherwise_as_if_never_told(catalogue: Catalogue) -> None:
    kept = [review("a", START - timedelta(days=2), 3), review("b", START, 4)]
    without, _ = told(catalogue, kept)
    working, states = told(
        catalogue, [review("wrong", START - timedelta(days=1), 1), *kept], [NewEvent("u", reverses="wrong")]
    )
    assert states == [RecordState.APPLIED] * 4
    as_of_s = microseconds(START) // 1_000_000
    profiles = [each.subjects.get(SELLER) or Profile.empty() for each in (working, without)]
    totals = [
        [(slot.slot.name, slot.totals) for slot in counted(each, catalogue, as_of_s=as_of_s)] for each in profiles
    ]
    assert totals[0] == totals[1]
    assert dict(totals[0])["reviews"]["30d"] == 2
    # The newest moment stays even if what came then is taken back.
    working, _ = told(catalogue, [review("a", START)], [NewEvent("u", reverses="a")])
    profile = working.subjects.get(SELLER)
    assert profile is not None
    assert profile.mark(Kind.LAST, 0) == microseconds(START) // 1_000_000


async def test_reports_of_an_erased_subject_are_recorded_but_left_out(make_credit) -> None:
    credit = await make_credit(start=False)
    connection = await asyncpg.connect(credit.database.dsn)
    await connection.execute(
        "INSERT INTO tombstones VALUES ($1, $2, 0, 0, 0)", subject_key(SELLER), microseconds(START)
    )
    await connection.close()
    await credit.start()
    results = await record(credit, review("before"), review("after", START + timedelta(seconds=1)))
    assert [result.state for result in results] == [ERASED, APPLIED]
    assert [result.state for result in await record(credit, review("before"))] == [DUPLICATE]
    [result] = await record(credit, NewEvent("undo", reverses="before"))
    assert reason_of(result.error)[0] == "REPORT_NOT_FOUND"
    status = await ingest(credit)
    assert (status.applied, status.erased) == (2, 1)
    rows = await stored(credit, "SELECT subject, peer, about, measures FROM reports ORDER BY number")
    assert (rows[0]["subject"], rows[0]["peer"], rows[0]["about"], rows[0]["measures"]) == (None, None, "", "{}")
    assert len(await stored(credit, "SELECT * FROM event_log WHERE subject = 'subjects/seller'")) == 1


def test_a_tombstone_drops_reports_whenever_they_come(catalogue: Catalogue) -> None:
    working = CreditSet()
    working.tombstones.load(SELLER, Tombstone(microseconds(START), {}))
    _, states = told(catalogue, [review("x", START - timedelta(days=1))], working=working)
    assert states == [RecordState.ERASED]
    assert [row for row in working.log_rows.accepted if row.subject == SELLER] == []
    progress = working.progress.get(Source.REPORTS)
    assert progress is not None
    assert (progress.applied, progress.erased) == (1, 1)
    assert (working.subjects.get(SELLER) or Profile.empty()).to_bytes() == Profile.empty().to_bytes()


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (credit_pb2.NewEvent(event_id=""), "events[0].event_id"),
        (credit_pb2.NewEvent(event_id="a b"), "events[0].event_id"),
        (credit_pb2.NewEvent(event_id="a" * 65), "events[0].event_id"),
        (credit_pb2.NewEvent(event_id="a", kind="Not a kind"), "events[0].kind"),
        (credit_pb2.NewEvent(event_id="a", subject="nobody"), "events[0].subject"),
        (credit_pb2.NewEvent(event_id="a", peer="nobody"), "events[0].peer"),
        (credit_pb2.NewEvent(event_id="a", about="x" * 141), "events[0].about"),
        (credit_pb2.NewEvent(event_id="a", currency="CNYY"), "events[0].currency"),
        (credit_pb2.NewEvent(event_id="a", reverses="a b"), "events[0].reverses"),
        (credit_pb2.NewEvent(event_id="a", measures={f"m{n}": 1 for n in range(17)}), "events[0].measures"),
        (credit_pb2.NewEvent(event_id="a", about="x\0"), "events[0].about"),
    ],
)
async def test_a_malformed_event_refuses_the_call(shared_credit, event: credit_pb2.NewEvent, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shared_credit.stub().RecordEvents(
            credit_pb2.RecordEventsRequest(events=[event]), timeout=5, metadata=PARTNER
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (refused.value.details() or "")


async def test_telling_something_needs_a_deadline(shared_credit) -> None:
    request = credit_pb2.RecordEventsRequest(events=[new_event(review("a"))])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shared_credit.stub().RecordEvents(request, metadata=PARTNER)
    assert (refused.value.code(), "deadline" in (refused.value.details() or "")) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        True,
    )


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_call_has_one_to_a_thousand_events(shared_credit, count: int) -> None:
    events = [credit_pb2.NewEvent(event_id=f"e{n}") for n in range(count)]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shared_credit.stub().RecordEvents(
            credit_pb2.RecordEventsRequest(events=events), timeout=5, metadata=PARTNER
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_was_reported_of_an_erased_subject_is_forgotten_but_for_the_id(credit) -> None:
    """What the erasure of a subject does with reports and log."""
    from danbao_credit.store.log import erase_log
    from danbao_credit.store.reports import erase_reports

    await record(credit, review("of"), review("by", subject="subjects/other", peer=SELLER))
    connection = await asyncpg.connect(credit.database.dsn)
    async with connection.transaction():
        await erase_reports(connection, [SELLER])
        await erase_log(connection, [SELLER])
    await connection.close()
    for table in ("event_log", "subjects"):
        subjects = {row["subject"] for row in await stored(credit, f"SELECT subject FROM {table}")}
        assert SELLER not in subjects
        assert "subjects/other" in subjects
    rows = await stored(credit, "SELECT subject, peer, measures FROM reports ORDER BY number")
    assert [(row["subject"], row["peer"]) for row in rows] == [(None, None), ("subjects/other", None)]
    assert [result.state for result in await record(credit, review("of"))] == [DUPLICATE]
    # The other's report can still be taken back.
    [result] = await record(credit, NewEvent("undo", reverses="by"))
    assert result.state == APPLIED


def promise(event_id: str, kind: str, hours: int, about: str = "promises/1") -> NewEvent:
    late = (("hours_late", 73),) if kind == "promise_broken" else ()
    return NewEvent(
        event_id,
        kind=kind,
        subject=SELLER,
        about=about,
        at_us=microseconds(START - timedelta(hours=hours)),
        measures=late,
    )


async def adjustments(credit: Any) -> list[str]:
    request = credit_pb2.EvaluateRequest(subject=SELLER, purpose="checkout")
    return [item.code for item in (await credit.stub().Evaluate(request, timeout=5)).adjustments]


async def test_no_partner_lifts_what_another_one_told_and_the_store_knows_who_did(credit) -> None:
    assert [result.state for result in await record(credit, promise("a", "promise_broken", 100))] == [APPLIED]
    held = await adjustments(credit)
    assert held == ["PROMISE_UNPAID"]
    # A friend's word, and the same accusation told and taken back.
    friendly = [
        promise("kept", "promise_kept", 1),
        promise("same", "promise_broken", 100),
        NewEvent("undo", reverses="same"),
    ]
    assert {result.state for result in await record(credit, *friendly, caller=OTHER_PARTNER)} == {APPLIED}
    assert await adjustments(credit) == held
    rows = await stored(credit, "SELECT teller FROM reports ORDER BY number")
    assert [row["teller"] for row in rows] == ["partner:shop", *["partner:other"] * 3]
    assert [result.state for result in await record(credit, promise("own", "promise_kept", 1))] == [APPLIED]
    assert await adjustments(credit) == []


async def test_an_officer_lifts_what_a_partner_told(credit) -> None:
    await record(credit, promise("a", "promise_broken", 100))
    await record(credit, promise("b", "promise_kept", 1), caller=OPERATOR)
    assert await adjustments(credit) == []


async def test_no_partner_makes_an_order_defective_that_only_it_speaks_of(credit) -> None:
    defects = [
        NewEvent(
            f"d{n}", kind="delivery_defect", subject=SELLER, about=f"trades/invented-{n}", at_us=microseconds(START)
        )
        for n in range(3)
    ]
    results = await record(credit, *defects)
    assert [(result.state, reason_of(result.error)[0]) for result in results] == [(REFUSED, "REPORT_NOT_ALLOWED")] * 3
    assert (await credit.stub().Evaluate(credit_pb2.EvaluateRequest(subject=SELLER), timeout=5)).score == 620
    assert {result.state for result in await record(credit, *defects, caller=OPERATOR)} == {APPLIED}


async def test_a_call_may_tell_of_a_thousand_marks_and_take_them_back(credit) -> None:
    events = [promise(f"m{n}", "promise_made", 100, f"promises/{n}") for n in range(1000)]
    assert {result.state for result in await record(credit, *events)} == {APPLIED}
    assert await adjustments(credit) == ["PROMISE_UNPAID"]
    back = [NewEvent(f"b{n}", reverses=f"m{n}") for n in range(1000)]
    assert {result.state for result in await record(credit, *back)} == {APPLIED}
    assert await adjustments(credit) == []

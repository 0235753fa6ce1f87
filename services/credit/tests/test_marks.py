"""What stands about a subject: which events turn a mark, in any order, and when it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import pytest

from danbao_credit.domain.events import Source
from danbao_credit.domain.facts import Telling
from danbao_credit.domain.marks import (
    Mark,
    MarkKey,
    MarkKind,
    MarkTold,
    Turn,
    marks_told,
    new_mark,
    standing,
    suspicion,
)

SECOND_US = 1_000_000
HOUR_S = 3600
SELLER, BUYER = "subjects/seller", "subjects/buyer"
CLAIM = "claims/1"


def claim(kind: str, at_s: int = 1000, about: str = CLAIM, number: int = 1, **measures: int) -> tuple[MarkTold, ...]:
    telling = Telling(about, "CNY", (("buyer", BUYER), ("seller", SELLER)), {"one": 1, **measures})
    return marks_told(
        kind,
        telling,
        source=Source.ESCROW,
        at_us=at_s * SECOND_US,
        number=number,
        traceparent=f"trace of {kind}",
    )


def report(kind: str, at_s: int = 1000, about: str = "promises/1", number: int = 1) -> tuple[MarkTold, ...]:
    telling = Telling(about, "", (("subject", SELLER),), {"one": 1})
    return marks_told(kind, telling, source=Source.REPORTS, at_us=at_s * SECOND_US, number=number)


def marks_of(*told: MarkTold) -> dict[MarkKey, Mark]:
    marks: dict[MarkKey, Mark] = {}
    for item in told:
        marks[item.key] = marks.get(item.key, new_mark(item.key)).told(item)
    return marks


def only(*told: MarkTold) -> Mark:
    (mark,) = marks_of(*told).values()
    return mark


@pytest.mark.parametrize("measures", [{}, {"goodwill": 0}])
def test_a_compensated_claim_is_fraud_of_its_seller_unless_the_arbiter_says_otherwise(
    measures: dict[str, int],
) -> None:
    fraud, promise = claim("claim_compensated", **measures)
    assert (fraud.subject, fraud.kind, fraud.reference, fraud.begins) == (SELLER, MarkKind.FRAUD, CLAIM, True)
    assert fraud.turn == Turn(1000 * SECOND_US, "escrow.claim_compensated", "trace of claim_compensated", number=1)
    assert (promise.subject, promise.kind, promise.begins) == (SELLER, MarkKind.PROMISE_UNPAID, False)


def test_a_goodwill_brands_nobody() -> None:
    assert [item.kind for item in claim("claim_compensated", goodwill=1)] == [MarkKind.PROMISE_UNPAID]


def test_an_event_that_is_reversed_was_never_told() -> None:
    (begun,), (ended,) = report("takeover_suspected", 1000), report("takeover_cleared", 2000)
    both = only(begun, ended)
    assert both.without(begun).stood_s(1500) is None
    assert both.without(ended).stood_s(2500) == 1500


@pytest.mark.parametrize("kind", ["fraud_confirmed", "obligation_settled"])
def test_of_two_who_tell_the_same_of_the_same_moment_each_takes_back_its_own_telling(kind: str) -> None:
    first, second = (report(kind, 1000, "claims/1", number)[0] for number in (1, 2))
    orders = [
        only(first, second).without(first),
        only(second, first).without(first),
        only(first).without(first).told(second),
        only(second).told(first).without(first),
    ]
    assert all(mark == only(second) for mark in orders)
    assert not only(first, second).without(first).without(second).begins


def test_what_is_told_without_a_reference_stands_again_and_again() -> None:
    told = [
        *report("takeover_suspected", 1000, ""),
        *report("takeover_cleared", 2000, ""),
        *report("takeover_suspected", 3000, ""),
        *report("takeover_suspected", 3500, ""),
        *report("takeover_cleared", 4000, ""),
    ]
    for order in permutations(told):
        mark = only(*order, *order)
        stood = [mark.stood_s(at) for at in (999, 1000, 1999, 2000, 3000, 3600, 3999, 4000)]
        assert stood == [None, 0, 999, None, 0, 600, 999, None]


@pytest.mark.parametrize("end", ["claim_compensated", "claim_rejected"])
def test_an_award_that_could_not_be_paid_stands_until_the_claim_is_over(end: str) -> None:
    told = [*claim("claim_payment_refused", 1000), *claim(end, 5000, goodwill=1)]
    mark = marks_of(*told)[MarkKey(SELLER, MarkKind.PROMISE_UNPAID, CLAIM)]
    assert mark.stood_s(4999) == 3999
    assert mark.stood_s(5000) is None
    assert mark.end is not None
    assert mark.end.by == f"escrow.{end}"


@pytest.mark.parametrize(
    ("begin", "end", "kind"),
    [
        ("promise_made", "promise_kept", MarkKind.PROMISE_UNPAID),
        ("promise_broken", "promise_kept", MarkKind.PROMISE_UNPAID),
        ("obligation_due", "obligation_settled", MarkKind.OVERDUE),
        ("takeover_suspected", "takeover_cleared", MarkKind.TAKEOVER),
    ],
)
def test_what_other_teams_report_begins_and_ends_marks(begin: str, end: str, kind: MarkKind) -> None:
    mark = only(*report(begin, 1000), *report(end, 2000))
    assert (mark.subject, mark.kind) == (SELLER, kind)
    assert [mark.stood_s(at) for at in (999, 1000, 1999, 2000)] == [None, 0, 999, None]


def test_confirmed_fraud_is_ended_by_no_report() -> None:
    mark = only(*report("fraud_confirmed"))
    assert mark.kind is MarkKind.FRAUD
    assert mark.end is None


def test_other_events_tell_nothing_of_marks() -> None:
    assert claim("claim_opened") == claim("trade_paid") == report("review_given", about="") == ()


def test_the_same_kind_from_another_source_tells_nothing() -> None:
    telling = Telling(CLAIM, "CNY", (("seller", SELLER), ("subject", SELLER)), {})
    assert marks_told("claim_compensated", telling, source=Source.REPORTS, at_us=1, number=1) == ()
    assert marks_told("fraud_confirmed", telling, source=Source.ESCROW, at_us=1, number=1) == ()


def test_any_order_and_any_repetition_give_the_same_marks() -> None:
    told = [
        *report("promise_made", 1000),
        *report("promise_broken", 1500),
        *report("promise_kept", 3000),
        *report("promise_kept", 2500),
        *claim("claim_compensated", 4000),
    ]
    expected = marks_of(*told)
    assert expected[MarkKey(SELLER, MarkKind.PROMISE_UNPAID, "promises/1")].stood_s(2499) == 1499
    assert expected[MarkKey(SELLER, MarkKind.PROMISE_UNPAID, "promises/1")].stood_s(2500) is None
    for order in permutations(told):
        assert marks_of(*order, *order[:2]) == expected


def test_an_end_that_lies_before_the_beginning_means_that_it_never_stood() -> None:
    mark = only(*report("obligation_settled", 900), *report("obligation_due", 1000))
    assert all(mark.stood_s(at) is None for at in (899, 900, 1000, 10**9))


def test_an_end_alone_stands_for_nothing() -> None:
    assert only(*report("promise_kept")).stood_s(10**9) is None


def test_an_annulled_mark_never_stood_whatever_else_ended_it() -> None:
    (fraud,) = report("fraud_confirmed", 1000)
    annulled = MarkTold(
        fraud.subject, fraud.kind, fraud.reference, False, Turn(9000 * SECOND_US, "appeals/1", annuls=True)
    )
    ended = MarkTold(fraud.subject, fraud.kind, fraud.reference, False, Turn(2000 * SECOND_US, "operator"))
    for order in permutations((fraud, annulled, ended)):
        mark = only(*order)
        assert mark.end is not None
        assert mark.end.by == "appeals/1"
        assert all(mark.stood_s(at) is None for at in (1000, 1500, 10**9))


def test_a_mark_of_a_clock_that_runs_ahead_stands_now_but_not_in_the_past() -> None:
    mark = only(*report("fraud_confirmed", 1000))
    assert mark.stood_s(990, ahead_s=300) == 0
    assert mark.stood_s(990) is None
    assert mark.stood_s(600, ahead_s=300) is None


def test_what_stands_is_told_with_the_longest_time_of_each_kind() -> None:
    marks = marks_of(
        *report("promise_made", 1000, "promises/1"),
        *report("promise_made", 2000, "promises/2"),
        *report("obligation_due", 5000, "obligations/1"),
    ).values()
    assert standing(marks, 4000) == {MarkKind.PROMISE_UNPAID: 3000}
    assert standing(marks, 5000) == {MarkKind.PROMISE_UNPAID: 4000, MarkKind.OVERDUE: 0}


def test_terms_are_frozen_by_the_earliest_suspicion_that_stands() -> None:
    marks = marks_of(
        *report("takeover_suspected", 1000, "alerts/1"),
        *report("takeover_suspected", 2000, "alerts/2"),
        *report("takeover_cleared", 3000, "alerts/1"),
    ).values()
    assert [mark and mark.reference for mark in (suspicion(marks, at) for at in (999, 2500, 3000))] == [
        None,
        "alerts/1",
        "alerts/2",
    ]


def by(teller: str, *told: MarkTold) -> tuple[MarkTold, ...]:
    return tuple(replace(item, turn=replace(item.turn, teller=teller)) for item in told)


def test_a_partner_cannot_end_what_escrow_began() -> None:
    (begun,) = claim("claim_payment_refused", 1000)
    (kept,) = by("partner:friend", *report("promise_kept", 2000, CLAIM))
    mark = only(begun, kept)
    assert mark.stood_s(9000) == 8000
    assert mark.end is None
    rejected = next(item for item in claim("claim_rejected", 5000))
    assert only(begun, kept, rejected).stood_s(9000) is None, "escrow ends it"


@pytest.mark.parametrize("about", ["promises/1", ""])
def test_a_partner_ends_its_own_promise_and_no_other_partners(about: str) -> None:
    made = by("partner:a", *report("promise_made", 1000, about))
    foreign = by("partner:b", *report("promise_kept", 2000, about))
    own = by("partner:a", *report("promise_kept", 3000, about))
    for order in permutations((*made, *foreign, *own)):
        mark = only(*order)
        assert [mark.stood_s(at) for at in (999, 1000, 2500, 3000)] == [None, 0, 1500, None]


def test_an_officer_ends_what_partners_began() -> None:
    made = [*by("partner:a", *report("promise_made", 1000)), *by("partner:b", *report("promise_made", 1500))]
    assert only(*made, *report("promise_kept", 2000)).stood_s(2500) is None


def test_what_two_partners_tell_stands_as_long_as_one_of_them_says_so() -> None:
    told = [
        *by("partner:a", *report("promise_made", 1000)),
        *by("partner:a", *report("promise_kept", 3000)),
        *by("partner:b", *report("promise_made", 2000)),
        *by("partner:b", *report("promise_kept", 4000)),
        *by("partner:c", *report("promise_made", 6000)),
    ]
    for order in permutations(told):
        mark = only(*order)
        assert [mark.stood_s(at) for at in (1500, 3500, 4000, 5999, 6500)] == [500, 2500, None, None, 500]


def test_a_partner_that_takes_back_what_it_told_leaves_the_same_telling_of_others() -> None:
    first, second = (by(teller, *report("obligation_due", 1000)) for teller in ("partner:a", "partner:b"))
    (taken,) = second
    assert only(*first, *second).without(taken).stood_s(2000) == 1000


def test_telling_one_more_of_thousands_looks_at_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0

    def counted(method: Callable[[Turn, object], bool]) -> Callable[[Turn, object], bool]:
        def compare(self: Turn, other: object) -> bool:
            nonlocal compared
            compared += 1
            return method(self, other)

        return compare

    mark = only(*(item for second in range(0, 8000, 2) for item in report("obligation_due", second, "")))
    assert [turn.at_us // SECOND_US for turn in mark.begins] == list(range(0, 8000, 2))
    for name in ("__lt__", "__eq__"):
        monkeypatch.setattr(Turn, name, counted(getattr(Turn, name)))
    (late,) = report("obligation_due", 4001, "")
    once = mark.told(late)
    assert once.told(late) == once
    assert len(once.begins) == 4001
    assert compared < 100

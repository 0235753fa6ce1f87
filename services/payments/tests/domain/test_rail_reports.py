"""What a rail says of a movement, in every state that the movement can be in: each table whole, with what moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from danbao_kit.decision import DEFERRED
from danbao_kit.errors import FieldInvalid
from danbao_kit.money import Money
from danbao_payments.domain.account import AccountState
from danbao_payments.domain.callers import OURSELVES, Caller, Party
from danbao_payments.domain.chart import PLATFORM, SUSPENSE
from danbao_payments.domain.commands import AccountKey, CreateTopUp, CreateWithdrawal, RefundTopUp, ReportRailResult
from danbao_payments.domain.errors import CurrencyMismatch, KindNotAllowed, MovementNotFound, RailResultConflicts
from danbao_payments.domain.movement import OF_PAYMENTS_ONLY, RESULTS, Movement, MovementKind, RailResult
from danbao_payments.domain.rail_refund import REPORTS as REFUND_REPORTS
from danbao_payments.domain.rail_refund import RailRefundState
from danbao_payments.domain.top_up import REPORTS as TOP_UP_REPORTS
from danbao_payments.domain.top_up import TopUpState
from danbao_payments.domain.withdrawal import REPORTS as WITHDRAWAL_REPORTS
from danbao_payments.domain.withdrawal import WithdrawalState
from danbao_payments.testing.pure import CNY, OPERATOR, PARTNER, RIVAL, PureBooks, wallet

OWNER = "subjects/owner"
RAIL = "rails/simulated"
R = RailResult
NOTHING = uuid4()


@pytest.fixture
def pure():
    books = PureBooks()
    yield books
    books.check()


def report(of: Any, result: RailResult, reference: str = "ref", **others: Any) -> ReportRailResult:
    return ReportRailResult(of.movement, result, rail_reference=reference, **others)


def top_up(pure: PureBooks) -> Any:
    assert pure.run(CreateTopUp(OWNER, Money(CNY, 1000), RAIL, caller=PARTNER)) is DEFERRED
    return pure.events[-1].top_up


def withdrawal(pure: PureBooks) -> Any:
    pure.fund(OWNER, 1000)
    assert pure.run(CreateWithdrawal(OWNER, "user.available", Money(CNY, 400), RAIL, caller=PARTNER)) is DEFERRED
    return pure.events[-1].withdrawal


def refund(pure: PureBooks) -> Any:
    charged = top_up(pure)
    pure.run(report(charged, R.SUCCEEDED, "charge"))
    assert pure.run(RefundTopUp(charged.id, Money(CNY, 400), PARTNER)) is DEFERRED
    return next(iter(pure.books.rail_refunds.values()))


class Situation(NamedTuple):
    """What was reported so far, the state it led to, and what the books show then. Minor units, on each normal side."""

    told: tuple[RailResult, ...]
    state: str
    wallet: int
    clearing: int
    in_transit: int
    settled: int


TOP_UP = {
    "pending": Situation((), "PENDING", 0, 0, 0, 0),
    "unknown": Situation((R.UNANSWERED,), "UNKNOWN", 0, 0, 0, 0),
    "succeeded": Situation((R.SUCCEEDED,), "SUCCEEDED", 1000, 0, 1000, 0),
    "settled": Situation((R.SUCCEEDED, R.SETTLED), "SUCCEEDED", 1000, 0, 0, 1000),
    "failed": Situation((R.FAILED,), "FAILED", 0, 0, 0, 0),
    "returned": Situation((R.SUCCEEDED, R.RETURNED), "RETURNED", 0, 0, 0, 0),
    "settled and returned": Situation((R.SUCCEEDED, R.SETTLED, R.RETURNED), "RETURNED", 0, 0, 0, 0),
}
WITHDRAWAL = {
    "pending": Situation((), "PENDING", 600, 400, 0, 0),
    "unknown": Situation((R.UNANSWERED,), "UNKNOWN", 600, 400, 0, 0),
    "succeeded": Situation((R.SUCCEEDED,), "SUCCEEDED", 600, 0, 0, -400),
    "failed": Situation((R.FAILED,), "FAILED", 1000, 0, 0, 0),
    "returned": Situation((R.SUCCEEDED, R.RETURNED), "RETURNED", 1000, 0, 0, 0),
}
REFUND = {
    "pending": Situation((), "PENDING", 600, 400, 1000, 0),
    "unknown": Situation((R.UNANSWERED,), "UNKNOWN", 600, 400, 1000, 0),
    "settled": Situation((R.SUCCEEDED,), "SETTLED", 600, 0, 1000, -400),
    "refused": Situation((R.FAILED,), "REFUSED", 1000, 0, 1000, 0),
    "returned": Situation((R.SUCCEEDED, R.RETURNED), "RETURNED", 1000, 0, 1000, 0),
}

# .: nothing new; X: it contradicts.
EXPECTED = {
    "top-up": """
                         SUCCEEDED   FAILED   SETTLED                RETURNED               UNANSWERED
        pending          succeeded   failed   settled                returned               unknown
        unknown          succeeded   failed   settled                returned               .
        succeeded        .           X        settled                returned               .
        settled          .           X        .                      settled_and_returned   .
        failed           X           .        X                      X                      .
        returned         .           X        settled_and_returned   .                      .
        settled_and_returned  .      X        .                      .                      .
    """,
    "withdrawal": """
                         SUCCEEDED   FAILED   SETTLED     RETURNED   UNANSWERED
        pending          succeeded   failed   succeeded   returned   unknown
        unknown          succeeded   failed   succeeded   returned   .
        succeeded        .           X        .           returned   .
        failed           X           .        X           X          .
        returned         .           X        .           .          .
    """,
    "refund": """
                         SUCCEEDED   FAILED   SETTLED     RETURNED   UNANSWERED
        pending          settled     refused  settled     returned   unknown
        unknown          settled     refused  settled     returned   .
        settled          .           X        .           returned   .
        refused          X           .        X           X          .
        returned         .           X        .           .          .
    """,
}
MADE: dict[str, tuple[Callable[[PureBooks], Any], dict[str, Situation]]] = {
    "top-up": (top_up, TOP_UP),
    "withdrawal": (withdrawal, WITHDRAWAL),
    "refund": (refund, REFUND),
}


def cases() -> list[tuple[str, str, RailResult, str]]:
    found = []
    for kind, grid in EXPECTED.items():
        head, *lines = [line.split() for line in grid.strip().splitlines()]
        for line in lines:
            for result, then in zip(head, line[1:], strict=True):
                found.append((kind, line[0].replace("_", " "), RailResult(result), then.replace("_", " ")))
    return found


def now(pure: PureBooks, movement: Movement) -> Any:
    rows: Any = {
        MovementKind.TOP_UP: pure.books.top_ups,
        MovementKind.WITHDRAWAL: pure.books.withdrawals,
        MovementKind.REFUND: pure.books.rail_refunds,
    }[movement.kind]
    return rows.get(movement.id)


def shown(pure: PureBooks, of: Any) -> tuple[str, int, int, int, int]:
    clearing = "clearing.refund" if of.movement.kind is MovementKind.REFUND else "clearing.payout"
    return (
        now(pure, of.movement).state,
        pure.available(OWNER),
        pure.available(PLATFORM, clearing),
        pure.available(RAIL, "rail.in_transit"),
        pure.available(RAIL, "rail.settled"),
    )


@pytest.mark.parametrize(("kind", "before", "result", "then"), cases())
def test_a_report_in_every_situation(pure, kind: str, before: str, result: RailResult, then: str):
    make, situations = MADE[kind]
    of = make(pure)
    for told in situations[before].told:
        assert pure.run(report(of, told)).changed
    assert shown(pure, of) == situations[before][1:]
    events, answers = len(pure.events), len(pure.answers)
    if then == "X":
        with pytest.raises(RailResultConflicts) as refused:
            pure.run(report(of, result))
        assert refused.value.metadata["state"] == situations[before].state
        then = before
    elif then == ".":
        told_again = pure.run(report(of, result))
        assert (told_again.changed, told_again.movement) == (False, now(pure, of.movement))
        then = before
    else:
        booked = pure.run(report(of, result))
        assert (booked.changed, booked.movement) == (True, now(pure, of.movement))
        assert len(pure.events) > events
        events = len(pure.events)
        # Told again under whatever request id, it is nothing new.
        assert pure.run(report(of, result)).changed is False
        answers += before in ("pending", "unknown") and then != "unknown"
    assert shown(pure, of) == situations[then][1:]
    assert (len(pure.events), len(pure.answers)) == (events, answers)


@pytest.mark.parametrize(
    ("table", "states"),
    [(TOP_UP_REPORTS, TopUpState), (WITHDRAWAL_REPORTS, WithdrawalState), (REFUND_REPORTS, RailRefundState)],
)
def test_a_table_says_something_of_every_state_and_report(table, states):
    assert set(table) == {(state, result) for state in states for result in RESULTS}


@pytest.mark.parametrize("kind", list(MADE))
def test_a_second_reference_of_one_movement_is_a_conflict(pure, kind: str):
    of = MADE[kind][0](pure)
    pure.run(report(of, R.SUCCEEDED, "one"))
    before = shown(pure, of)
    for result in (R.SUCCEEDED, R.FAILED):
        with pytest.raises(RailResultConflicts) as refused:
            pure.run(report(of, result, "two"))
        assert (refused.value.metadata["known_reference"], refused.value.metadata["rail_reference"]) == ("one", "two")
    assert shown(pure, of) == before
    # Who does not tell a reference contradicts none.
    assert not pure.run(report(of, R.SUCCEEDED, "")).changed


@pytest.mark.parametrize("kind", list(MADE))
def test_a_settlement_and_a_return_may_have_references_of_their_own(pure, kind: str):
    of = MADE[kind][0](pure)
    for result, reference in ((R.SUCCEEDED, "one"), (R.SETTLED, "batch-7"), (R.RETURNED, "return-9")):
        told = pure.run(report(of, result, reference))
        assert told.movement.rail_reference == "one"
    named = [dict(each.metadata) for each in pure.books.transactions.accepted]
    carried = [facts.get("rail_reference") for facts in named if facts.get("movement") == of.movement.name]
    expected = ["one", "batch-7", "return-9"] if kind == "top-up" else ["one", "return-9"]
    assert [reference for reference in carried if reference] == expected


@pytest.mark.parametrize("kind", list(MADE))
@pytest.mark.parametrize("first", [R.SETTLED, R.RETURNED])
def test_a_batch_s_or_a_return_s_reference_told_first_is_not_the_movement_s(pure, kind: str, first: RailResult):
    of = MADE[kind][0](pure)
    assert pure.run(report(of, first, "batch-7")).movement.rail_reference == ""
    before, events = shown(pure, of), len(pure.events)
    told = pure.run(report(of, R.SUCCEEDED, "own-1"))
    assert (told.changed, told.movement.rail_reference) == (True, "own-1")
    assert now(pure, of.movement) == told.movement
    assert not pure.run(report(of, R.SUCCEEDED, "own-1")).changed
    with pytest.raises(RailResultConflicts):
        pure.run(report(of, R.SUCCEEDED, "own-2"))
    assert (shown(pure, of), len(pure.events)) == (before, events)


@pytest.mark.parametrize("kind", list(MADE))
def test_what_touches_a_rail_s_account_names_the_movement_and_the_rail_s_reference(pure, kind: str):
    of = MADE[kind][0](pure)
    for result in (R.SUCCEEDED, R.SETTLED, R.RETURNED):
        pure.run(report(of, result))
    named = [dict(each.metadata) for each in pure.books.transactions.accepted]
    named = [facts for facts in named if facts.get("movement") == of.movement.name and "rail_reference" in facts]
    assert len(named) == (3 if kind == "top-up" else 2)
    assert {facts["rail_reference"] for facts in named} == {"ref"}


# --- what comes out of order is one transaction -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "result", "legs", "kinds"),
    [
        ("top-up", R.SETTLED, 2, ["top_up_succeeded", "top_up_settled"]),
        ("top-up", R.RETURNED, 2, ["top_up_succeeded", "top_up_returned"]),
        ("withdrawal", R.RETURNED, 2, ["withdrawal_succeeded", "withdrawal_returned"]),
        ("refund", R.RETURNED, 2, ["top_up_refund_settled", "top_up_refund_refused"]),
    ],
)
def test_what_comes_too_early_is_booked_with_what_it_implies_in_one_transaction(pure, kind, result, legs, kinds):
    of = MADE[kind][0](pure)
    transactions, events = len(pure.books.transactions.accepted), len(pure.kinds_of_events())
    pure.run(report(of, result))
    assert len(pure.books.transactions.accepted) == transactions + 1
    last = pure.books.transactions.accepted[-1]
    assert last.last_sequence - last.first_sequence + 1 == legs
    assert pure.kinds_of_events()[events:] == kinds


# --- returned top-ups -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_settled", [False, True])
def test_what_lacks_when_a_top_up_is_returned_is_owed(pure, is_settled: bool):
    of = top_up(pure)
    pure.run(report(of, R.SETTLED if is_settled else R.SUCCEEDED))
    pure.pay(OWNER, wallet("subjects/other"), 700)
    pure.run(report(of, R.RETURNED))
    assert shown(pure, of) == ("RETURNED", 0, 0, 0, 0)
    assert pure.available(OWNER, "receivable.user") == 700
    # The next money that comes pays it.
    pure.fund(OWNER, 1000)
    assert (pure.available(OWNER), pure.available(OWNER, "receivable.user")) == (300, 0)


def test_what_was_sent_back_before_is_not_taken_again_when_a_top_up_is_returned(pure):
    of = top_up(pure)
    pure.run(report(of, R.SUCCEEDED))
    pure.run(RefundTopUp(of.id, Money(CNY, 300), PARTNER))
    returned = pure.run(report(of, R.RETURNED)).movement
    assert (returned.refunded_minor, returned.returned_minor, returned.refundable_minor) == (300, 700, 0)
    assert pure.available(OWNER) == 0
    assert pure.available(OWNER, "receivable.user") == 0
    assert pure.available(PLATFORM, "clearing.refund") == 300


def test_a_hold_that_has_run_out_does_not_keep_a_return_from_the_money(pure):
    of = top_up(pure)
    pure.run(report(of, R.SUCCEEDED))
    pure.hold(OWNER, wallet("subjects/other"), 1000, lifetime_s=1)
    pure.advance(2)
    pure.run(report(of, R.RETURNED))
    assert pure.available(OWNER, "receivable.user") == 0


def test_money_that_is_held_stays_held_when_a_top_up_is_returned(pure):
    of = top_up(pure)
    pure.run(report(of, R.SUCCEEDED))
    held = pure.hold(OWNER, wallet("subjects/other"), 600, lifetime_s=60)
    pure.run(report(of, R.RETURNED))
    assert pure.available(OWNER, "receivable.user") == 600
    assert pure.books.payments.get(held.id).held_minor == 600


# --- refunds that are refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("result", "others"), [(R.FAILED, ()), (R.RETURNED, (R.SUCCEEDED,))])
def test_what_the_rail_does_not_pay_back_can_be_asked_back_again(pure, result, others):
    of = refund(pure)
    for told in (*others, result):
        pure.run(report(of, told, failure="card closed"))
    source = pure.books.top_ups.get(of.top_up_id)
    assert (source.refunded_minor, source.refunds_settled_minor, source.refundable_minor) == (0, 0, 1000)
    assert pure.books.rail_refunds.get(of.id).failure == "card closed"
    assert pure.answers[-1].reply.refunded_minor == (400 if others else 0)
    assert pure.run(RefundTopUp(of.top_up_id, None, PARTNER)) is DEFERRED


# --- frozen and closed accounts ---------------------------------------------------------------------------------------


def put_state(pure: PureBooks, state: AccountState) -> None:
    account = pure.account(OWNER, "user.available")
    pure.books.accounts.put(account.id, account._replace(state=state.value))
    pure.books.accept()


@pytest.mark.parametrize("kind", list(MADE))
@pytest.mark.parametrize("result", [R.SUCCEEDED, R.FAILED, R.SETTLED, R.RETURNED])
def test_no_freeze_keeps_a_report_from_being_booked(pure, kind: str, result: RailResult):
    of = MADE[kind][0](pure)
    put_state(pure, AccountState.FROZEN_ALL)
    assert pure.run(report(of, result)).changed


@pytest.mark.parametrize("kind", list(MADE))
def test_suspense_stands_in_for_an_account_that_is_closed(pure, kind: str):
    of = MADE[kind][0](pure)
    rest = pure.available(OWNER)
    if rest:
        pure.post((wallet(OWNER), AccountKey(PLATFORM, SUSPENSE), rest))
    before = pure.available(PLATFORM, SUSPENSE)
    put_state(pure, AccountState.CLOSED)
    pure.run(report(of, R.SUCCEEDED if kind == "top-up" else R.FAILED))
    assert pure.available(OWNER) == 0
    # It grows by debits.
    assert pure.available(PLATFORM, SUSPENSE) == before - (1000 if kind == "top-up" else 400)
    if kind == "top-up":
        pure.run(report(of, R.RETURNED))
        assert pure.available(PLATFORM, SUSPENSE) == before


# --- who may report, and what -----------------------------------------------------------------------------------------

ITS_RAIL, OTHER_RAIL = Caller(Party.RAIL, "subjects/simulated"), Caller(Party.RAIL, "subjects/other")


@pytest.mark.parametrize("kind", list(MADE))
@pytest.mark.parametrize("caller", [OPERATOR, OURSELVES, ITS_RAIL], ids=lambda caller: caller.party.value)
def test_operators_and_the_movement_s_own_rail_report(pure, kind: str, caller: Caller):
    of = MADE[kind][0](pure)
    assert pure.run(report(of, R.SUCCEEDED, caller=caller)).changed


@pytest.mark.parametrize("kind", list(MADE))
@pytest.mark.parametrize(
    ("caller", "refusal"),
    [
        (Caller(Party.ESCROW), KindNotAllowed),
        (Caller(Party.CREDIT), KindNotAllowed),
        (Caller(Party.ARBITER), KindNotAllowed),
        (PARTNER, KindNotAllowed),
        (RIVAL, MovementNotFound),
        (Caller(Party.USER, OWNER), KindNotAllowed),
        (Caller(Party.USER, "subjects/other"), MovementNotFound),
        (Caller(Party.NOBODY), MovementNotFound),
        (OTHER_RAIL, MovementNotFound),
    ],
    ids=lambda each: each.party.value + each.subject + each.partner if isinstance(each, Caller) else each.__name__,
)
def test_nobody_else_reports(pure, kind: str, caller: Caller, refusal: type):
    of = MADE[kind][0](pure)
    before = shown(pure, of)
    with pytest.raises(refusal):
        pure.run(report(of, R.SUCCEEDED, caller=caller))
    assert shown(pure, of) == before


@pytest.mark.parametrize("kind", list(MovementKind))
def test_what_does_not_exist_is_not_reported_on(pure, kind: MovementKind):
    nothing = Movement(kind, top_up(pure).id) if kind is not MovementKind.TOP_UP else Movement(kind, NOTHING)
    with pytest.raises(MovementNotFound):
        pure.run(ReportRailResult(nothing, R.SUCCEEDED, caller=OPERATOR))


def test_a_payment_that_no_rail_brings_is_no_movement(pure):
    pure.fund(OWNER, 100)
    paid = pure.pay(OWNER, wallet("subjects/other"), 100)
    with pytest.raises(MovementNotFound):
        pure.run(ReportRailResult(Movement(MovementKind.PAYMENT, paid.id), R.SUCCEEDED, caller=OPERATOR))


@pytest.mark.parametrize("result", sorted(OF_PAYMENTS_ONLY))
@pytest.mark.parametrize("kind", [kind for kind in MovementKind if kind is not MovementKind.PAYMENT])
def test_only_payments_are_charged_back(kind: MovementKind, result: RailResult):
    with pytest.raises(FieldInvalid):
        ReportRailResult(Movement(kind, NOTHING), result).check()


def test_only_chargebacks_have_an_amount(pure):
    of = top_up(pure)
    with pytest.raises(FieldInvalid):
        report(of, R.SUCCEEDED, amount=Money(CNY, 5)).check()
    with pytest.raises(CurrencyMismatch):
        pure.run(report(of, R.SUCCEEDED, amount=Money("EUR", 5)))

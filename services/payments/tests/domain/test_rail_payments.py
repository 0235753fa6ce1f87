"""Payments that a rail brings, on the pure books: every report in every standing, refunds over the rail, late money."""

from __future__ import annotations

from dataclasses import replace

import pytest

from danbao_kit.errors import FieldInvalid
from danbao_kit.money import MAX_MINOR, Money
from danbao_payments.domain.account import AccountState, account_id
from danbao_payments.domain.account_commands import CloseAccount, FreezeAccount
from danbao_payments.domain.callers import Caller, Party
from danbao_payments.domain.commands import (
    AccountKey,
    CreatePayment,
    Leg,
    PostTransaction,
    RefundPayment,
    ReportRailResult,
    ReverseTransaction,
    SetLimits,
    SplitTerm,
    VoidPayment,
)
from danbao_payments.domain.errors import (
    AccountClosed,
    AccountFrozen,
    BalanceOverflow,
    InsufficientFunds,
    KindNotAllowed,
    LimitExceeded,
    MovementNotFound,
    PaymentStateInvalid,
    RailResultConflicts,
    RailUnknown,
    RefundAmountExceeded,
)
from danbao_payments.domain.movement import Movement, MovementKind, RailResult
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.rail_payment import REPORTS, Standing, movement_of, standing_of
from danbao_payments.domain.transfer import PostedTransaction
from danbao_payments.testing.pure import CNY, ESCROW, OPERATOR, PARTNER, PureBooks, wallet

BUYER, SELLER, RAIL = "subjects/buyer", "subjects/seller", "rails/simulated"
PAYABLE = AccountKey(SELLER, "seller.payable")
CLEARING = AccountKey("platform", "clearing.refund")
SUSPENSE = AccountKey("platform", "suspense")
FEE = AccountKey("platform", "fee.payment")
R = RailResult


@pytest.fixture
def pure():
    books = PureBooks()
    yield books
    books.check()
    on_its_way = sum(r.amount_minor for r in books.books.rail_refunds.values() if r.state in ("PENDING", "UNKNOWN"))
    assert books.available("platform", "clearing.refund") == on_its_way


def order(minor: int = 1000, payee: AccountKey = PAYABLE, **others) -> CreatePayment:
    fields = {"caller": PARTNER, "rail": RAIL} | others
    return CreatePayment(BUYER, payee, fields.pop("beneficiary", ""), Money(CNY, minor), "AUTOMATIC", **fields)


def report(pure: PureBooks, payment: Payment, result: RailResult, minor: int | None = None, **others) -> bool:
    amount = None if minor is None else Money(CNY, minor)
    return pure.run(ReportRailResult(movement_of(payment), result, amount, **others)).changed


def now(pure: PureBooks, payment: Payment) -> Payment:
    return pure.books.payments.get(payment.id)


def brought(pure: PureBooks, minor: int = 1000, payee: AccountKey = PAYABLE, **others) -> Payment:
    payment = pure.run(order(minor, payee, **others))
    assert report(pure, payment, R.SUCCEEDED, rail_reference="r1")
    return now(pure, payment)


def balance(pure: PureBooks, key: AccountKey) -> int:
    return pure.available(key.owner, key.kind)


def on_rail(pure: PureBooks) -> tuple[int, int]:
    """In transit, settled."""
    return pure.available(RAIL, "rail.in_transit"), pure.available(RAIL, "rail.settled")


def refunds(pure: PureBooks) -> list[tuple[str, int]]:
    return [(refund.state, refund.amount_minor) for refund in pure.books.rail_refunds.values()]


def report_refund(pure: PureBooks, result: RailResult, which: int = -1) -> None:
    refund = list(pure.books.rail_refunds.values())[which]
    pure.run(ReportRailResult(refund.movement, result))


# --- asked for --------------------------------------------------------------------------------------------------------


def test_it_waits_for_its_rail_and_moves_nothing(pure):
    payment = pure.run(order(instrument="i"))
    assert (payment.state, payment.rail, payment.instrument) == ("PENDING", RAIL, "i")
    assert (payment.authorized_minor, payment.captured_minor, payment.last_transaction) == (0, 0, None)
    assert pure.kinds_of_events() == ["payment_pending"]
    assert not list(pure.books.accounts.values())


def test_its_payer_needs_no_money_and_its_payee_has_it_when_the_rail_says_so(pure):
    payment = brought(pure, description="order 7")
    assert (payment.state, payment.authorized_minor, payment.captured_minor) == ("CAPTURED", 1000, 1000)
    assert payment.rail_reference == "r1"
    assert balance(pure, PAYABLE) == 1000
    assert on_rail(pure) == (1000, 0)
    assert pure.kinds_of_events() == ["payment_pending", "payment_captured"]
    posted = pure.books.transactions.accepted[-1]
    assert (posted.id, posted.description) == (payment.last_transaction, "order 7")
    assert posted.metadata == (("movement", f"payments/{payment.id}"), ("rail_reference", "r1"))


def test_what_the_rail_brings_is_split(pure):
    terms = (SplitTerm(PAYABLE), SplitTerm(FEE, basis_points=250))
    payment = brought(pure, 999, splits=terms, remainder_policy="FIRST")
    assert [part.captured_minor for part in payment.parts] == [975, 24]
    assert (balance(pure, PAYABLE), balance(pure, FEE)) == (975, 24)


def test_what_the_rail_brings_pays_debts(pure):
    pure.post((AccountKey(SELLER, "receivable.chargeback"), SUSPENSE, 300))
    brought(pure)
    assert balance(pure, PAYABLE) == 700


def test_it_is_taken_at_once_or_not_at_all():
    for broken, field in (
        (replace(order(), capture_mode="MANUAL"), "rail"),
        (replace(order(), rail="", instrument="x"), "instrument"),
    ):
        with pytest.raises(FieldInvalid) as refused:
            broken.check()
        assert refused.value.fields[0].field == field


def test_refusals_before_the_rail_is_asked_in_their_order(pure):
    stranger = Caller(Party.USER, "subjects/other")
    pure.fund(BUYER, 1)
    pure.post((SUSPENSE, PAYABLE, 1))
    pure.run(SetLimits(BUYER, CNY, per_transaction_minor=500, caller=OPERATOR))
    frozen = account_id(SELLER, "seller.payable", CNY)
    pure.run(FreezeAccount(frozen, "ALL", OPERATOR))
    with pytest.raises(RailUnknown):
        pure.run(order(rail="rails/none", caller=stranger))
    with pytest.raises(KindNotAllowed):
        pure.run(order(caller=stranger))
    with pytest.raises(AccountFrozen):
        pure.run(order())
    pure.books.accounts.put(frozen, pure.books.accounts.get(frozen)._replace(state=AccountState.CLOSED.value))
    pure.books.accept()
    with pytest.raises(AccountClosed):
        pure.run(order())
    with pytest.raises(LimitExceeded):
        pure.run(order(501, wallet(SELLER)))
    assert not list(pure.books.payments.values())


def test_the_limit_counts_it_when_it_is_asked_for(pure):
    pure.run(SetLimits(BUYER, CNY, per_day_minor=1500, caller=OPERATOR))
    first = pure.run(order(1000))
    report(pure, first, R.FAILED)
    with pytest.raises(LimitExceeded):
        pure.run(order(1000))


@pytest.mark.parametrize("full", [PAYABLE, wallet(BUYER), AccountKey(RAIL, "rail.settled")])
def test_what_could_not_be_booked_is_refused_before_the_rail_is_asked(pure, full):
    opening = AccountKey("platform", "opening")
    pure.post((opening, full, MAX_MINOR - 1500))
    pure.run(order(1000))
    with pytest.raises(BalanceOverflow):
        pure.run(order(1000) if full != wallet(BUYER) else order(1501))


def test_every_part_of_a_split_keeps_its_room_until_the_rail_has_answered(pure):
    opening, part = AccountKey("platform", "opening"), wallet("subjects/partner")
    pure.post((opening, part, MAX_MINOR - 1500))
    split = {"splits": (SplitTerm(PAYABLE, fixed_minor=10), SplitTerm(part)), "remainder_policy": "FIRST"}
    first = pure.run(order(1010, **split))
    with pytest.raises(BalanceOverflow):
        pure.run(order(1010, **split))
    assert report(pure, first, R.SUCCEEDED)
    pure.run(order(500, **split))


def test_room_for_several_refunds_over_the_rail_is_for_all_of_them_together(pure):
    opening, settled = AccountKey("platform", "opening"), AccountKey(RAIL, "rail.settled")
    paid = [brought(pure, 100), brought(pure, 100)]
    room = MAX_MINOR - 150 - pure.account(RAIL, "rail.settled").credits_posted
    pure.post((opening, settled, room))
    legs = [Leg(PAYABLE, CLEARING, Money(CNY, 100), each.id, "REFUND") for each in paid]
    with pytest.raises(BalanceOverflow):
        pure.run(PostTransaction(tuple(legs), caller=OPERATOR))
    pure.run(PostTransaction((legs[0],), caller=OPERATOR))


def test_room_is_free_again_when_the_rail_has_answered(pure):
    opening = AccountKey("platform", "opening")
    pure.post((opening, PAYABLE, MAX_MINOR - 1500))
    first = pure.run(order(1000))
    with pytest.raises(BalanceOverflow):
        pure.run(order(1000))
    report(pure, first, R.FAILED)
    pure.run(order(1000))


# --- every report in every standing -----------------------------------------------------------------------------------


def payment_in(pure: PureBooks, standing: Standing) -> Payment:
    payment = pure.run(order())
    match standing:
        case Standing.CAPTURED:
            report(pure, payment, R.SUCCEEDED)
        case Standing.DECLINED:
            report(pure, payment, R.FAILED, failure="no cover")
        case Standing.VOIDED:
            pure.run(VoidPayment(payment.id, PARTNER))
        case Standing.NEVER_CAME | Standing.TAKEN_BACK:
            pure.run(VoidPayment(payment.id, PARTNER))
            report(pure, payment, R.FAILED if standing is Standing.NEVER_CAME else R.RETURNED)
        case Standing.SENT_BACK:
            pure.run(VoidPayment(payment.id, PARTNER))
            report(pure, payment, R.SUCCEEDED)
        case _:
            pass
    assert standing_of(now(pure, payment)) is standing
    return now(pure, payment)


S = Standing
CONFLICTS, NOTHING = "conflicts", "nothing new"
# The standing after it, the seller's money, the rail's accounts, what waits in clearing.refund.
EXPECTED = {
    S.PENDING: {
        R.SUCCEEDED: (S.CAPTURED, 1000, (1000, 0), 0),
        R.FAILED: (S.DECLINED, 0, (0, 0), 0),
        R.SETTLED: (S.CAPTURED, 1000, (0, 1000), 0),
        R.RETURNED: (S.CAPTURED, 0, (1000, -1000), 0),
        R.CHARGEBACK: (S.CAPTURED, 0, (1000, -1000), 0),
        R.CHARGEBACK_REVERSED: CONFLICTS,
        R.UNANSWERED: NOTHING,
    },
    S.CAPTURED: {
        R.SUCCEEDED: NOTHING,
        R.FAILED: CONFLICTS,
        R.SETTLED: (S.CAPTURED, 1000, (0, 1000), 0),
        R.RETURNED: (S.CAPTURED, 0, (1000, -1000), 0),
        R.CHARGEBACK: (S.CAPTURED, 0, (1000, -1000), 0),
        R.CHARGEBACK_REVERSED: CONFLICTS,
        R.UNANSWERED: NOTHING,
    },
    S.DECLINED: dict.fromkeys(RailResult, CONFLICTS) | {R.FAILED: NOTHING, R.UNANSWERED: NOTHING},
    S.VOIDED: {
        R.SUCCEEDED: (S.SENT_BACK, 0, (1000, 0), 1000),
        R.FAILED: (S.NEVER_CAME, 0, (0, 0), 0),
        R.SETTLED: (S.SENT_BACK, 0, (0, 1000), 1000),
        R.RETURNED: (S.TAKEN_BACK, 0, (0, 0), 0),
        R.CHARGEBACK: CONFLICTS,
        R.CHARGEBACK_REVERSED: CONFLICTS,
        R.UNANSWERED: NOTHING,
    },
    S.SENT_BACK: dict.fromkeys(RailResult, CONFLICTS)
    | {
        R.SUCCEEDED: NOTHING,
        R.UNANSWERED: NOTHING,
        R.SETTLED: (S.SENT_BACK, 0, (0, 1000), 1000),
        # The rail is asked to send it back already: what comes of that is the rail's.
        R.RETURNED: (S.SENT_BACK, 0, (1000, 0), 1000),
    },
    S.NEVER_CAME: dict.fromkeys(RailResult, CONFLICTS) | {R.FAILED: NOTHING, R.UNANSWERED: NOTHING},
    S.TAKEN_BACK: dict.fromkeys(RailResult, NOTHING)
    | {R.FAILED: CONFLICTS, R.CHARGEBACK: CONFLICTS, R.CHARGEBACK_REVERSED: CONFLICTS},
}


def test_the_table_is_whole():
    assert set(REPORTS) == {(standing, result) for standing in Standing for result in RailResult}


@pytest.mark.parametrize("standing", list(Standing))
@pytest.mark.parametrize("result", list(RailResult))
def test_every_report_in_every_standing(pure, standing, result):
    payment = payment_in(pure, standing)
    before, events, seen = now(pure, payment), len(pure.events), on_rail(pure)
    expected = EXPECTED[standing][result]
    if expected is CONFLICTS:
        with pytest.raises(RailResultConflicts) as refused:
            report(pure, payment, result)
        assert refused.value.metadata["state"] == payment.state
        assert refused.value.metadata["movement"] == f"payments/{payment.id}"
    elif expected is NOTHING:
        assert not report(pure, payment, result)
    else:
        assert report(pure, payment, result)
        after = (standing_of(now(pure, payment)), balance(pure, PAYABLE), on_rail(pure), balance(pure, CLEARING))
        assert after == expected
        # Told again, it changes nothing more.
        told, events = now(pure, payment), len(pure.events)
        assert not report(pure, payment, result)
        assert (now(pure, payment), len(pure.events)) == (told, events)
        return
    assert (now(pure, payment), len(pure.events), on_rail(pure)) == (before, events, seen)


def test_a_second_reference_of_the_rail_s_contradicts_the_first(pure):
    payment = brought(pure)
    with pytest.raises(RailResultConflicts) as refused:
        report(pure, payment, R.SUCCEEDED, rail_reference="r2")
    assert refused.value.metadata["known_reference"] == "r1"


def test_a_settlement_and_a_chargeback_may_have_references_of_their_own(pure):
    payment = brought(pure)
    assert report(pure, payment, R.SETTLED, rail_reference="batch-7")
    assert report(pure, payment, R.CHARGEBACK, rail_reference="case-4")
    assert now(pure, payment).rail_reference == "r1"
    carried = [dict(each.metadata).get("rail_reference") for each in pure.books.transactions.accepted]
    assert carried[-2:] == ["batch-7", "case-4"]


def test_success_after_what_overtook_it_changes_nothing(pure):
    payment = pure.run(order())
    report(pure, payment, R.SETTLED, rail_reference="r1")
    assert not report(pure, payment, R.SUCCEEDED)
    assert pure.kinds_of_events() == ["payment_pending", "payment_captured", "payment_settled"]
    assert now(pure, payment).settle_time is not None


def test_a_payment_of_the_wallet_is_no_movement_over_a_rail(pure):
    pure.fund(BUYER, 100)
    payment = pure.pay(BUYER, PAYABLE, 100)
    with pytest.raises(MovementNotFound):
        report(pure, payment, R.SUCCEEDED)


def test_only_rails_and_operators_say_what_became_of_it(pure):
    payment = pure.run(order())
    command = ReportRailResult(Movement(MovementKind.PAYMENT, payment.id), R.SUCCEEDED)
    for caller in (PARTNER, ESCROW, Caller(Party.USER, BUYER)):
        with pytest.raises(KindNotAllowed):
            pure.run(replace(command, caller=caller))
    with pytest.raises(MovementNotFound):
        pure.run(replace(command, caller=Caller(Party.RAIL, "subjects/other")))
    assert pure.run(replace(command, caller=Caller(Party.RAIL, "subjects/simulated"))).changed


# --- money that comes when nobody wants it ----------------------------------------------------------------------------


def test_money_that_comes_after_a_void_goes_back_by_itself(pure):
    payment = pure.run(order(instrument="i"))
    voided = pure.run(VoidPayment(payment.id, PARTNER))
    assert (voided.state, voided.captured_minor, voided.released_minor) == ("VOIDED", 0, 0)
    report(pure, payment, R.SUCCEEDED, rail_reference="r1")
    assert now(pure, payment).state == "VOIDED"
    assert pure.kinds_of_events() == ["payment_pending", "payment_voided", "rail_refund_created"]
    refund = pure.events[-1].refund
    assert (refund.owner, refund.amount_minor, refund.instrument, refund.charge_reference) == (BUYER, 1000, "i", "r1")
    report_refund(pure, R.SUCCEEDED)
    assert on_rail(pure) == (1000, -1000)
    assert now(pure, payment).refunds_settled_minor == 1000
    report(pure, payment, R.SETTLED)
    assert on_rail(pure) == (0, 0)


def test_a_rail_that_does_not_take_it_back_leaves_it_to_the_payer(pure):
    payment = payment_in(pure, Standing.SENT_BACK)
    report_refund(pure, R.FAILED)
    assert (pure.available(BUYER), balance(pure, CLEARING)) == (1000, 0)
    assert now(pure, payment).refunds_settled_minor == 0


def test_success_after_a_failure_conflicts_where_it_was_voided_as_elsewhere(pure):
    payment = payment_in(pure, Standing.NEVER_CAME)
    assert not payment.is_unanswered
    for result in (R.SUCCEEDED, R.SETTLED, R.RETURNED):
        with pytest.raises(RailResultConflicts):
            report(pure, payment, result)
    assert (refunds(pure), on_rail(pure)) == ([], (0, 0))


def test_what_came_and_went_after_a_void_is_booked_both_ways_and_moves_nothing_later(pure):
    payment = payment_in(pure, Standing.VOIDED)
    assert report(pure, payment, R.RETURNED, rail_reference="return-9")
    posted = pure.books.transactions.accepted[-1]
    assert dict(posted.metadata) == {"movement": f"payments/{payment.id}", "rail_reference": "return-9"}
    in_transit = pure.account(RAIL, "rail.in_transit")
    assert (in_transit.debits_posted, in_transit.credits_posted) == (1000, 1000)
    for late in (R.SUCCEEDED, R.SETTLED, R.RETURNED):
        assert not report(pure, payment, late)
    assert (refunds(pure), on_rail(pure), balance(pure, CLEARING)) == ([], (0, 0), 0)
    after = now(pure, payment)
    assert (after.state, after.captured_minor, after.charged_back_minor) == ("VOIDED", 0, 0)
    assert after.failure


def test_what_came_and_went_when_its_payee_was_closed_is_booked_both_ways(pure):
    pure.post((SUSPENSE, PAYABLE, 1))
    pure.post((PAYABLE, SUSPENSE, 1))
    payment = pure.run(order())
    pure.run(CloseAccount(account_id(SELLER, "seller.payable", CNY), OPERATOR))
    assert report(pure, payment, R.RETURNED)
    assert (now(pure, payment).state, standing_of(now(pure, payment))) == ("DECLINED", S.TAKEN_BACK)
    assert not report(pure, payment, R.SUCCEEDED)
    assert (refunds(pure), on_rail(pure)) == ([], (0, 0))


def test_only_who_may_capture_may_void(pure):
    payment = pure.run(order())
    for user, allowed in ((BUYER, False), (SELLER, True)):
        command = VoidPayment(payment.id, Caller(Party.USER, user))
        if allowed:
            assert pure.run(command).state == "VOIDED"
        else:
            with pytest.raises(KindNotAllowed):
                pure.run(command)


def test_a_payee_that_was_frozen_meanwhile_gets_it(pure):
    pure.post((SUSPENSE, PAYABLE, 1))
    payment = pure.run(order())
    pure.run(FreezeAccount(account_id(SELLER, "seller.payable", CNY), "ALL", OPERATOR))
    report(pure, payment, R.SUCCEEDED)
    assert pure.account(SELLER, "seller.payable").credits_posted == 1001


@pytest.mark.parametrize("result", [R.SUCCEEDED, R.SETTLED])
def test_a_payee_that_was_closed_meanwhile_does_not_and_it_goes_back(pure, result):
    pure.post((SUSPENSE, PAYABLE, 1))
    pure.post((PAYABLE, SUSPENSE, 1))
    payment = pure.run(order())
    pure.run(CloseAccount(account_id(SELLER, "seller.payable", CNY), OPERATOR))
    report(pure, payment, result)
    after = now(pure, payment)
    assert (after.state, after.captured_minor) == ("DECLINED", 0)
    assert "closed" in after.failure
    assert refunds(pure) == [("PENDING", 1000)]
    assert "payment_declined" in pure.kinds_of_events()
    with pytest.raises(RailResultConflicts):
        report(pure, payment, R.FAILED)


def test_a_chargeback_of_what_nobody_could_receive_conflicts(pure):
    pure.post((SUSPENSE, PAYABLE, 1))
    pure.post((PAYABLE, SUSPENSE, 1))
    payment = pure.run(order())
    pure.run(CloseAccount(account_id(SELLER, "seller.payable", CNY), OPERATOR))
    with pytest.raises(RailResultConflicts):
        report(pure, payment, R.CHARGEBACK)
    assert now(pure, payment) == payment


# --- refunds go where the money came from -----------------------------------------------------------------------------


def refund(pure: PureBooks, payment: Payment, minor: int | None = None, **others) -> Payment:
    return pure.run(RefundPayment(payment.id, None if minor is None else Money(CNY, minor), "", PARTNER, **others))


def test_a_refund_goes_back_over_the_rail(pure):
    payment = brought(pure)
    after = refund(pure, payment, 400)
    assert (after.refunded_minor, after.refunds_settled_minor, after.refund_state) == (400, 0, "PARTIAL")
    assert (balance(pure, PAYABLE), balance(pure, CLEARING), pure.available(BUYER)) == (600, 400, 0)
    assert pure.kinds_of_events()[-2:] == ["payment_refunded", "rail_refund_created"]
    report_refund(pure, R.SUCCEEDED)
    assert (balance(pure, CLEARING), on_rail(pure)) == (0, (1000, -400))
    assert now(pure, payment).refunds_settled_minor == 400
    assert pure.kinds_of_events()[-1] == "rail_refund_settled"


def test_a_refund_that_the_rail_refuses_is_the_payer_s_and_counted_once(pure):
    payment = brought(pure)
    refund(pure, payment, 400)
    report_refund(pure, R.FAILED)
    assert (pure.available(BUYER), now(pure, payment).refunded_minor) == (400, 400)
    with pytest.raises(RefundAmountExceeded):
        refund(pure, payment, 601)
    refund(pure, payment, 600)


def test_a_refund_that_comes_back_is_the_payer_s(pure):
    payment = brought(pure)
    refund(pure, payment, 400)
    report_refund(pure, R.SUCCEEDED)
    report_refund(pure, R.RETURNED)
    assert (pure.available(BUYER), on_rail(pure)) == (400, (1000, 0))
    after = now(pure, payment)
    assert (after.refunded_minor, after.refunds_settled_minor) == (400, 0)


def test_parts_give_their_shares_back_over_the_rail(pure):
    terms = (SplitTerm(PAYABLE), SplitTerm(FEE, basis_points=1000))
    payment = brought(pure, splits=terms, remainder_policy="FIRST")
    after = refund(pure, payment, 500)
    assert [part.refunded_minor for part in after.parts] == [450, 50]
    assert refunds(pure) == [("PENDING", 500)]


@pytest.mark.parametrize("standing", [S.PENDING, S.DECLINED, S.VOIDED, S.SENT_BACK])
def test_what_was_not_captured_cannot_be_refunded(pure, standing):
    with pytest.raises(PaymentStateInvalid):
        refund(pure, payment_in(pure, standing), 1)


def test_a_refund_of_what_the_seller_spent_is_refused(pure):
    payment = brought(pure)
    pure.post((PAYABLE, SUSPENSE, 700))
    with pytest.raises(InsufficientFunds):
        refund(pure, payment, 400)
    assert refunds(pure) == []


def test_a_closed_wallet_of_the_payer_keeps_no_refund_from_the_rail(pure):
    pure.fund(BUYER, 1)
    pure.post((wallet(BUYER), SUSPENSE, 1))
    payment = brought(pure)
    pure.run(CloseAccount(account_id(BUYER, "user.available", CNY), OPERATOR))
    refund(pure, payment, 400)
    report_refund(pure, R.FAILED)
    # Nobody's wallet is left for it: somebody has to look whose it is.
    assert balance(pure, SUSPENSE) == -400


TRADE = AccountKey("trades/1", "escrow.trade")


def in_trade(pure: PureBooks, minor: int = 1000) -> Payment:
    return brought(pure, minor, TRADE, caller=ESCROW, beneficiary=SELLER)


def back(payment: Payment, minor: int, source: AccountKey = TRADE, purpose: str = "REFUND", **others) -> Leg:
    return Leg(source, others.get("to", CLEARING), Money(CNY, minor), payment.id, purpose)


def post(pure: PureBooks, *legs: Leg, caller: Caller = ESCROW) -> PostedTransaction:
    return pure.run(PostTransaction(legs, caller=caller))


def test_escrow_sends_a_trade_s_money_back_over_the_rail(pure):
    payment = in_trade(pure)
    post(pure, back(payment, 300), back(payment, 200, purpose="DISPUTE"), back(payment, 100, to=wallet(BUYER)))
    assert refunds(pure) == [("PENDING", 500)]
    assert now(pure, payment).refunded_minor == 600
    assert (balance(pure, CLEARING), pure.available(BUYER), balance(pure, TRADE)) == (500, 100, 400)
    with pytest.raises(RefundAmountExceeded):
        post(pure, back(payment, 401))


def test_who_sends_back_over_a_rail_and_what(pure):
    payment = in_trade(pure)
    pure.fund(BUYER, 500)
    of_wallet = pure.pay(BUYER, TRADE, 500, caller=ESCROW)
    for leg, caller in (
        (back(payment, 1, purpose=""), ESCROW),
        (back(of_wallet, 1), ESCROW),
        (Leg(TRADE, CLEARING, Money(CNY, 1)), ESCROW),
        (back(payment, 1, SUSPENSE), PARTNER),
        (back(payment, 1, SUSPENSE), Caller(Party.CREDIT)),
        (back(payment, 1, SUSPENSE, to=AccountKey(SELLER, "clearing.refund")), OPERATOR),
    ):
        with pytest.raises(KindNotAllowed):
            post(pure, leg, caller=caller)
    post(pure, back(payment, 1, SUSPENSE), caller=OPERATOR)
    assert refunds(pure) == [("PENDING", 1)]


def test_what_a_rail_brought_is_reversed_by_no_posting(pure):
    payment = in_trade(pure)
    posted = _posted(pure, payment)
    with pytest.raises(KindNotAllowed):
        pure.run(ReverseTransaction(posted.transaction.id, caller=OPERATOR))
    post(pure, back(payment, 300))
    posted = _posted(pure, now(pure, payment))
    with pytest.raises(KindNotAllowed):
        pure.run(ReverseTransaction(posted.transaction.id, caller=OPERATOR))


def _posted(pure: PureBooks, payment: Payment) -> PostedTransaction:
    transaction = next(t for t in pure.books.transactions.accepted if t.id == payment.last_transaction)
    legs = tuple(t for t in pure.books.transfers.accepted if t.transaction_id == transaction.id)
    posted = PostedTransaction(transaction, legs)
    pure.books.posted.load(transaction.id, posted)
    return posted

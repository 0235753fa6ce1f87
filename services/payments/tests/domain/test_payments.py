"""Payments on the pure books: which command is legal in which state, and the numbers that must come out."""

from __future__ import annotations

from dataclasses import make_dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from danbao_kit.errors import DanbaoError
from danbao_kit.money import MAX_MINOR, Money
from danbao_payments.domain.account import AccountState
from danbao_payments.domain.callers import Caller, Party
from danbao_payments.domain.commands import (
    AccountKey,
    CapturePayment,
    CreatePayment,
    ExpireHolds,
    RefundPayment,
    ReportRailResult,
    VoidPayment,
)
from danbao_payments.domain.errors import (
    AccountClosed,
    AccountFrozen,
    BalanceOverflow,
    CaptureAmountExceeded,
    CurrencyMismatch,
    HoldAlreadyCaptured,
    HoldAlreadyVoided,
    HoldExpired,
    InsufficientFunds,
    KindNotAllowed,
    PaymentNotFound,
    PaymentStateInvalid,
    RefundAmountExceeded,
)
from danbao_payments.domain.movement import Movement, MovementKind, RailResult
from danbao_payments.domain.payment import CaptureMode, Payment, PaymentCommand, PaymentState, RefundState
from danbao_payments.testing.pure import CNY, ESCROW, PARTNER, PureBooks, wallet

BUYER, SELLER = "subjects/buyer", "subjects/seller"
TO_SELLER = wallet(SELLER)


@pytest.fixture
def pure():
    books = PureBooks()
    yield books
    books.check()


def capture(pure: PureBooks, payment: Payment, minor: int | None = None, *, caller: Caller = PARTNER) -> Payment:
    amount = None if minor is None else Money(payment.currency, minor)
    return pure.run(CapturePayment(payment.id, amount, caller))


def refund(pure: PureBooks, payment: Payment, minor: int | None = None, *, caller: Caller = PARTNER) -> Payment:
    amount = None if minor is None else Money(payment.currency, minor)
    return pure.run(RefundPayment(payment.id, amount, "", caller))


def void(pure: PureBooks, payment: Payment, *, caller: Caller = PARTNER) -> Payment:
    return pure.run(VoidPayment(payment.id, caller))


@pytest.mark.parametrize("command", [CapturePayment, VoidPayment])
@pytest.mark.parametrize("who", ["subjects/beneficiary", BUYER])
def test_a_user_moves_a_hold_only_as_its_payee(pure, command, who):
    pure.fund(BUYER, 100)
    cny = Money(CNY, 100)
    held = pure.run(
        CreatePayment(BUYER, TO_SELLER, "subjects/beneficiary", cny, CaptureMode.MANUAL.value, caller=PARTNER)
    )
    with pytest.raises(KindNotAllowed):
        pure.run(command(held.id, caller=Caller(Party.USER, who)))
    assert pure.account(BUYER, "user.available").debits_pending == 100
    pure.run(command(held.id, caller=Caller(Party.USER, SELLER)))
    assert pure.account(BUYER, "user.available").debits_pending == 0


def lifetime(held: Payment) -> timedelta:
    """To the millisecond: what lies below keeps commands apart that come at the same time."""
    assert held.expire_time is not None
    return held.expire_time - held.create_time.replace(microsecond=0)


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_a_sixth_hold_of_1000_on_5000_is_refused(pure):
    pure.fund(BUYER, 5000)
    for _ in range(5):
        pure.hold(BUYER, TO_SELLER, 1000)
    with pytest.raises(InsufficientFunds) as refused:
        pure.hold(BUYER, TO_SELLER, 1000)
    assert refused.value.metadata["available_minor"] == "0"
    assert refused.value.metadata["amount_minor"] == "1000"
    assert pure.account(BUYER, "user.available").debits_pending == 5000


def test_holds_fall_free_one_after_another(pure):
    pure.fund(BUYER, 100)
    holds = [pure.hold(BUYER, TO_SELLER, 10)]
    holds += [pure.hold(BUYER, TO_SELLER, 10 + s, lifetime_s=s) for s in (1, 2, 3)]
    pending = []
    for _ in range(4):
        pure.run(ExpireHolds(tuple(hold.id for hold in holds)))
        pending.append(pure.account(BUYER, "user.available").debits_pending)
        pure.advance(1)
    assert pending == [46, 35, 23, 10]
    capture(pure, holds[0], 10)
    assert pure.account(BUYER, "user.available").debits_pending == 0
    assert pure.account(BUYER, "user.available").debits_posted == 10
    with pytest.raises(HoldExpired):
        capture(pure, holds[1], 11)
    assert pure.account(BUYER, "user.available").debits_posted == 10


def test_a_hold_that_has_run_out_does_not_count_although_nobody_swept_it(pure):
    pure.fund(BUYER, 100)
    held = pure.hold(BUYER, TO_SELLER, 100, lifetime_s=10)
    with pytest.raises(InsufficientFunds):
        pure.pay(BUYER, TO_SELLER, 1)
    pure.advance(10)
    pure.pay(BUYER, TO_SELLER, 100)
    assert pure.books.payments.get(held.id).state == "EXPIRED"
    assert pure.kinds_of_events()[-2:] == ["payment_expired", "payment_captured"]


def test_capturing_7000_of_10000_frees_3000_at_once(pure):
    pure.fund(BUYER, 10_000)
    held = pure.hold(BUYER, TO_SELLER, 10_000)
    assert pure.available(BUYER) == 0
    captured = capture(pure, held, 7000)
    assert (captured.state, captured.captured_minor, captured.released_minor) == ("CAPTURED", 7000, 3000)
    assert (pure.available(BUYER), pure.available(SELLER)) == (3000, 7000)
    refund(pure, held, 2500)
    refund(pure, held, 2500)
    refund(pure, held, 2000)
    with pytest.raises(RefundAmountExceeded) as refused:
        refund(pure, held, 1)
    assert refused.value.metadata["refundable_minor"] == "0"
    assert pure.available(BUYER) == 10_000


def test_a_payment_of_all_there_is_leaves_nothing(pure):
    pure.fund(BUYER, 500)
    paid = pure.pay(BUYER, TO_SELLER, 500)
    assert (paid.state, paid.captured_minor, paid.hold_id) == ("CAPTURED", 500, None)
    assert (pure.available(BUYER), pure.available(SELLER)) == (0, 500)


def test_refund_state_follows_what_went_back(pure):
    pure.fund(BUYER, 100)
    paid = pure.pay(BUYER, TO_SELLER, 100)
    assert paid.refund_state is RefundState.NONE
    assert refund(pure, paid, 40).refund_state is RefundState.PARTIAL
    whole = refund(pure, paid)
    assert whole.refund_state is RefundState.FULL
    assert whole.refunded_minor == 100
    with pytest.raises(RefundAmountExceeded):
        refund(pure, paid)


def test_every_change_has_its_own_etag(pure):
    pure.fund(BUYER, 100)
    paid = pure.pay(BUYER, TO_SELLER, 100)
    versions = [paid.version, refund(pure, paid, 1).version, refund(pure, paid, 1).version]
    assert versions == [1, 2, 3]


# --- state × command --------------------------------------------------------------------------------------------------


def capture_part(pure: PureBooks, payment: Payment) -> Payment:
    return pure.run(CapturePayment(payment.id, Money(payment.currency, 1), PARTNER, final=False))


COMMANDS = {
    PaymentCommand.CAPTURE: capture,
    PaymentCommand.CAPTURE_PART: capture_part,
    PaymentCommand.VOID: void,
    PaymentCommand.REFUND: refund,
}
S, C = PaymentState, PaymentCommand
_INVALID, _CAPTURED, _VOIDED = PaymentStateInvalid, HoldAlreadyCaptured, HoldAlreadyVoided
CAPTURED_IN_PART: dict[PaymentState, PaymentState | type[DanbaoError]] = {
    S.PENDING: _INVALID,
    S.AUTHORIZED: S.PARTIALLY_CAPTURED,
    S.PARTIALLY_CAPTURED: S.PARTIALLY_CAPTURED,
    S.CAPTURED: _CAPTURED,
    S.VOIDED: _VOIDED,
    S.EXPIRED: HoldExpired,
    S.DECLINED: _INVALID,
}
EXPECTED: dict[PaymentState, dict[PaymentCommand, PaymentState | type[DanbaoError]]] = {
    S.PENDING: {C.CAPTURE: PaymentStateInvalid, C.VOID: S.VOIDED, C.REFUND: PaymentStateInvalid},
    S.AUTHORIZED: {C.CAPTURE: S.CAPTURED, C.VOID: S.VOIDED, C.REFUND: PaymentStateInvalid},
    S.PARTIALLY_CAPTURED: {C.CAPTURE: S.CAPTURED, C.VOID: S.CAPTURED, C.REFUND: S.PARTIALLY_CAPTURED},
    S.CAPTURED: {C.CAPTURE: HoldAlreadyCaptured, C.VOID: HoldAlreadyCaptured, C.REFUND: S.CAPTURED},
    S.VOIDED: {C.CAPTURE: HoldAlreadyVoided, C.VOID: HoldAlreadyVoided, C.REFUND: PaymentStateInvalid},
    S.EXPIRED: {C.CAPTURE: HoldExpired, C.VOID: HoldExpired, C.REFUND: PaymentStateInvalid},
    S.DECLINED: {C.CAPTURE: PaymentStateInvalid, C.VOID: PaymentStateInvalid, C.REFUND: PaymentStateInvalid},
}


def payment_in(pure: PureBooks, state: PaymentState) -> Payment:
    """A payment of 100 in that state."""
    pure.fund(BUYER, 1000)
    if state in (PaymentState.PENDING, PaymentState.DECLINED):
        asked = CreatePayment(
            BUYER, TO_SELLER, "", Money(CNY, 100), "AUTOMATIC", caller=PARTNER, rail="rails/simulated"
        )
        pending = pure.run(asked)
        if state is PaymentState.DECLINED:
            pure.run(ReportRailResult(Movement(MovementKind.PAYMENT, pending.id), RailResult.FAILED))
        return pure.books.payments.get(pending.id)
    held = pure.hold(BUYER, TO_SELLER, 100, lifetime_s=60)
    match state:
        case PaymentState.CAPTURED:
            return capture(pure, held)
        case PaymentState.VOIDED:
            return void(pure, held)
        case PaymentState.EXPIRED:
            pure.advance(60)
            pure.run(ExpireHolds((held.id,)))
        case PaymentState.PARTIALLY_CAPTURED:
            return pure.run(CapturePayment(held.id, Money(CNY, 30), PARTNER, final=False))
        case _:
            pass
    found = pure.books.payments.get(held.id)
    assert found is not None
    return found


@pytest.mark.parametrize("state", list(PaymentState))
@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_in_every_state(pure, state, command):
    payment = payment_in(pure, state)
    before = (pure.available(BUYER), pure.available(SELLER), len(pure.events))
    expected = CAPTURED_IN_PART[state] if command is C.CAPTURE_PART else EXPECTED[state][command]
    if isinstance(expected, PaymentState):
        COMMANDS[command](pure, payment, *([10] if command is C.REFUND else []))
        assert pure.books.payments.get(payment.id).state == expected
        return
    with pytest.raises(expected) as refused:
        COMMANDS[command](pure, payment)
    assert refused.value.metadata["state"] == state
    assert refused.value.metadata["payment"] == f"payments/{payment.id}"
    assert pure.books.payments.get(payment.id) == payment
    assert (pure.available(BUYER), pure.available(SELLER), len(pure.events)) == before


@pytest.mark.parametrize("state", list(PaymentState))
def test_time_ends_what_is_held_and_nothing_else(pure, state):
    payment = payment_in(pure, state)
    pure.advance(120)
    pure.run(ExpireHolds((payment.id,)))
    after = pure.books.payments.get(payment.id)
    ended = {S.AUTHORIZED: S.EXPIRED, S.PARTIALLY_CAPTURED: S.CAPTURED}.get(state, state)
    assert after.state == ended
    assert after.hold_id is None
    pure.run(ExpireHolds((payment.id,)))
    assert pure.books.payments.get(payment.id) == after


def test_time_does_not_end_a_hold_before_its_time(pure):
    pure.fund(BUYER, 100)
    held = pure.hold(BUYER, TO_SELLER, 100, lifetime_s=60)
    pure.advance(59)
    pure.run(ExpireHolds((held.id, uuid4())))
    assert pure.books.payments.get(held.id).state == "AUTHORIZED"
    assert lifetime(held) == timedelta(seconds=60)


def test_a_hold_lasts_seven_days_unless_told_otherwise(pure):
    pure.fund(BUYER, 100)
    held = pure.hold(BUYER, TO_SELLER, 100)
    assert lifetime(held) == timedelta(days=7)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minor", [101, MAX_MINOR])
def test_more_than_is_held_cannot_be_captured(pure, minor):
    pure.fund(BUYER, 1000)
    held = pure.hold(BUYER, TO_SELLER, 100)
    with pytest.raises(CaptureAmountExceeded) as refused:
        capture(pure, held, minor)
    assert refused.value.metadata["held_minor"] == "100"
    assert pure.books.payments.get(held.id) == held


@pytest.mark.parametrize("run", [capture, void, refund])
def test_a_payment_that_does_not_exist_is_not_found(pure, run):
    class Missing:
        id = UUID("019a0000-0000-7000-8000-000000000000")
        currency = CNY

    with pytest.raises(PaymentNotFound) as refused:
        run(pure, Missing)
    assert refused.value.metadata["payment"] == f"payments/{Missing.id}"


def test_another_currency_is_refused(pure):
    pure.fund(BUYER, 100)
    held = pure.hold(BUYER, TO_SELLER, 50)
    paid = pure.pay(BUYER, TO_SELLER, 50)
    with pytest.raises(CurrencyMismatch):
        pure.run(CapturePayment(held.id, Money("EUR", 50), PARTNER))
    with pytest.raises(CurrencyMismatch):
        pure.run(RefundPayment(paid.id, Money("EUR", 50), "", PARTNER))


def test_a_payee_who_has_spent_the_money_cannot_give_it_back(pure):
    pure.fund(BUYER, 100)
    paid = pure.pay(BUYER, TO_SELLER, 100)
    pure.pay(SELLER, wallet("subjects/third"), 1)
    with pytest.raises(InsufficientFunds):
        refund(pure, paid)
    assert refund(pure, paid, 99).refunded_minor == 99


@pytest.mark.parametrize(
    "payee",
    [
        AccountKey(SELLER, "no.such.kind"),
        AccountKey("trades/1", "user.available"),
        AccountKey(SELLER, "escrow.trade"),
        AccountKey("platform", "fee.escrow"),
        AccountKey("platform", "clearing.capture"),
        AccountKey(SELLER, "seller.payable_held"),
        AccountKey("platform2", "fee.escrow"),
        AccountKey("trades/1", "escrow.trade"),
    ],
)
def test_a_partner_pays_wallets_and_payables_only(pure, payee):
    pure.fund(BUYER, 100)
    with pytest.raises(KindNotAllowed) as refused:
        pure.pay(BUYER, payee, 10)
    assert refused.value.metadata["kind"] in (payee.kind, "user.available")
    assert pure.available(BUYER) == 100


def test_only_escrow_funds_and_refunds_a_trades_account(pure):
    pure.fund(BUYER, 100)
    trade = AccountKey("trades/1", "escrow.trade")
    paid = pure.pay(BUYER, trade, 100, caller=ESCROW)
    for caller in (PARTNER, Caller(Party.OPERATOR), Caller(Party.CREDIT)):
        with pytest.raises(KindNotAllowed):
            refund(pure, paid, 10, caller=caller)
    refund(pure, paid, 10, caller=ESCROW)
    assert pure.available("trades/1", "escrow.trade") == 90


def test_the_last_money_out_of_a_trades_account_closes_it(pure):
    pure.fund(BUYER, 200)
    trade = AccountKey("trades/1", "escrow.trade")
    paid = pure.pay(BUYER, trade, 100, caller=ESCROW)
    refund(pure, paid, 100, caller=ESCROW)
    assert pure.account("trades/1", "escrow.trade").state == AccountState.CLOSED
    with pytest.raises(AccountClosed):
        pure.pay(BUYER, trade, 1, caller=ESCROW)


@pytest.mark.parametrize("party", [Party.CREDIT, Party.ARBITER, Party.RAIL, Party.NOBODY])
def test_others_do_not_pay(pure, party):
    pure.fund(BUYER, 100)
    with pytest.raises(KindNotAllowed):
        pure.pay(BUYER, TO_SELLER, 10, caller=Caller(party, BUYER))


def test_a_user_pays_from_the_own_wallet_only(pure):
    pure.fund(BUYER, 100)
    paid = pure.pay(BUYER, TO_SELLER, 10, caller=Caller(Party.USER, BUYER))
    with pytest.raises(KindNotAllowed):
        pure.pay(BUYER, TO_SELLER, 10, caller=Caller(Party.USER, SELLER))
    with pytest.raises(KindNotAllowed):
        refund(pure, paid, 1, caller=Caller(Party.USER, BUYER))
    with pytest.raises(PaymentNotFound):
        refund(pure, paid, 1, caller=Caller(Party.USER, "subjects/third"))
    refund(pure, paid, 1, caller=Caller(Party.USER, SELLER))


@pytest.mark.parametrize("state", [AccountState.FROZEN_DEBITS, AccountState.FROZEN_ALL, AccountState.CLOSED])
def test_a_frozen_or_closed_wallet_pays_nobody(pure, state):
    pure.fund(BUYER, 100)
    held = pure.hold(BUYER, TO_SELLER, 10)
    account = pure.account(BUYER, "user.available")
    pure.books.accounts.put(account.id, account._replace(state=state.value))
    pure.books.accept()
    refusal = AccountClosed if state is AccountState.CLOSED else AccountFrozen
    with pytest.raises(refusal):
        pure.pay(BUYER, TO_SELLER, 1000)  # told before it is told to be short
    with pytest.raises(refusal):
        capture(pure, held)


def test_a_wallet_frozen_for_debits_still_receives(pure):
    pure.fund(BUYER, 100)
    pure.fund(SELLER, 1)
    account = pure.account(SELLER, "user.available")
    pure.books.accounts.put(account.id, account._replace(state=AccountState.FROZEN_DEBITS.value))
    pure.books.accept()
    pure.pay(BUYER, TO_SELLER, 10)
    assert pure.available(SELLER) == 11


def test_a_total_beyond_64_bits_is_refused(pure):
    pure.fund(BUYER, MAX_MINOR)
    with pytest.raises(BalanceOverflow):
        pure.fund(BUYER, 1)
    with pytest.raises(InsufficientFunds):
        pure.pay("subjects/poor", wallet(BUYER), MAX_MINOR)
    pure.pay(BUYER, TO_SELLER, MAX_MINOR)
    with pytest.raises(BalanceOverflow):
        pure.fund(BUYER, 1)


def test_a_hold_reserves_room_below_64_bits(pure):
    pure.fund(BUYER, MAX_MINOR)
    pure.hold(BUYER, TO_SELLER, MAX_MINOR)
    assert pure.available(BUYER) == 0
    with pytest.raises(InsufficientFunds):
        pure.hold(BUYER, TO_SELLER, 1)


def test_an_account_is_opened_by_its_first_posting_and_not_by_a_refusal(pure):
    with pytest.raises(InsufficientFunds):
        pure.pay(BUYER, TO_SELLER, 1)
    assert not pure.has(BUYER, "user.available")
    assert not pure.has(SELLER, "user.available")
    pure.fund(BUYER, 1)
    pure.pay(BUYER, TO_SELLER, 1)
    assert pure.has(SELLER, "user.available")


def test_currencies_do_not_mix(pure):
    pure.fund(BUYER, 100, "EUR")
    with pytest.raises(InsufficientFunds):
        pure.pay(BUYER, TO_SELLER, 1)
    pure.pay(BUYER, TO_SELLER, 1, currency="EUR")
    assert pure.available(BUYER, currency="EUR") == 99


def test_a_manual_payment_waits_in_nobodys_hands(pure):
    pure.fund(BUYER, 100)
    held = pure.hold(BUYER, TO_SELLER, 40)
    assert held.capture_mode == CaptureMode.MANUAL
    assert (pure.available(BUYER), pure.available(SELLER)) == (60, 0)
    assert pure.account("platform", "clearing.capture").credits_pending == 40
    void(pure, held)
    assert (pure.available(BUYER), pure.available(SELLER)) == (100, 0)
    assert pure.account("platform", "clearing.capture").credits_pending == 0


def test_a_key_is_fingerprinted_as_any_value_is():
    other = make_dataclass("AccountKey", ["owner", "kind"])
    assert repr(AccountKey("subjects/o'n", "k")) == repr(other("subjects/o'n", "k"))

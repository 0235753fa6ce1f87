"""Many captures of one hold, and holds that time captures: on the pure books."""

from __future__ import annotations

import pytest

from danbao_kit.money import Money
from danbao_payments.domain.account import AccountState
from danbao_payments.domain.commands import (
    AccountKey,
    CapturePayment,
    CreatePayment,
    ExpireHolds,
    RefundPayment,
    VoidPayment,
)
from danbao_payments.domain.errors import (
    AccountFrozen,
    CaptureAmountExceeded,
    HoldAlreadyCaptured,
    HoldExpired,
    InsufficientFunds,
    RefundAmountExceeded,
)
from danbao_payments.domain.payment import Payment
from danbao_payments.testing.pure import CNY, ESCROW, PARTNER, PureBooks, wallet

BUYER, SELLER = "subjects/buyer", "subjects/seller"
TO_SELLER = wallet(SELLER)


@pytest.fixture
def pure():
    books = PureBooks()
    books.fund(BUYER, 10_000)
    yield books
    books.check()


def capture(pure: PureBooks, payment: Payment, minor: int, *, final: bool = False) -> Payment:
    return pure.run(CapturePayment(payment.id, Money(CNY, minor), PARTNER, final))


def hold_to_capture(pure: PureBooks, minor: int, payee=TO_SELLER, caller=PARTNER) -> Payment:
    amount = Money(CNY, minor)
    return pure.run(CreatePayment(BUYER, payee, "", amount, "MANUAL", caller=caller, on_expiry="CAPTURE"))


def put_state(pure: PureBooks, owner: str, state: AccountState, kind: str = "user.available") -> None:
    account = pure.account(owner, kind)
    pure.books.accounts.put(account.id, account._replace(state=state.value))
    pure.books.accept()


def numbers(payment: Payment) -> tuple[str, int, int, int]:
    return payment.state, payment.captured_minor, payment.released_minor, payment.held_minor


# --- partial captures -------------------------------------------------------------------------------------------------


def test_a_hold_is_taken_in_parts_and_the_rest_stays_held(pure):
    held = pure.hold(BUYER, TO_SELLER, 10_000)
    first = capture(pure, held, 3000)
    assert numbers(first) == ("PARTIALLY_CAPTURED", 3000, 0, 7000)
    assert first.expire_time == held.expire_time
    assert first.hold_id != held.hold_id
    assert (pure.available(BUYER), pure.available(SELLER)) == (0, 3000)
    assert numbers(capture(pure, held, 2000)) == ("PARTIALLY_CAPTURED", 5000, 0, 5000)
    assert numbers(capture(pure, held, 1000, final=True)) == ("CAPTURED", 6000, 4000, 0)
    assert (pure.available(BUYER), pure.available(SELLER)) == (4000, 6000)
    with pytest.raises(HoldAlreadyCaptured):
        capture(pure, held, 1)


def test_a_capture_of_all_that_is_held_is_the_last(pure):
    held = pure.hold(BUYER, TO_SELLER, 100)
    capture(pure, held, 60)
    assert numbers(capture(pure, held, 40)) == ("CAPTURED", 100, 0, 0)


@pytest.mark.parametrize("final", [True, False])
def test_no_more_than_the_rest_is_captured(pure, final):
    held = pure.hold(BUYER, TO_SELLER, 100)
    partly = capture(pure, held, 60)
    with pytest.raises(CaptureAmountExceeded) as refused:
        capture(pure, held, 41, final=final)
    assert refused.value.metadata["held_minor"] == "40"
    assert pure.books.payments.get(held.id) == partly


def test_the_rest_of_a_hold_is_nobodys_to_spend(pure):
    held = pure.hold(BUYER, TO_SELLER, 10_000)
    capture(pure, held, 1)
    with pytest.raises(InsufficientFunds):
        pure.pay(BUYER, TO_SELLER, 1)


def test_voiding_the_rest_leaves_what_was_captured(pure):
    held = pure.hold(BUYER, TO_SELLER, 100)
    capture(pure, held, 60)
    assert numbers(pure.run(VoidPayment(held.id, PARTNER))) == ("CAPTURED", 60, 40, 0)
    with pytest.raises(HoldAlreadyCaptured):
        pure.run(VoidPayment(held.id, PARTNER))


def test_the_rest_runs_out_when_the_first_hold_would_have(pure):
    held = pure.hold(BUYER, TO_SELLER, 10_000, lifetime_s=60)
    pure.advance(59)
    capture(pure, held, 6000)
    pure.advance(1)
    with pytest.raises(HoldAlreadyCaptured):
        capture(pure, held, 1)
    pure.pay(BUYER, TO_SELLER, 4000)
    assert numbers(pure.books.payments.get(held.id)) == ("CAPTURED", 6000, 4000, 0)


def test_what_was_captured_can_go_back_while_the_rest_is_held(pure):
    held = pure.hold(BUYER, TO_SELLER, 100)
    capture(pure, held, 60)
    back = pure.run(RefundPayment(held.id, Money(CNY, 50), "", PARTNER))
    assert (back.state, back.refunded_minor, back.held_minor) == ("PARTIALLY_CAPTURED", 50, 40)
    with pytest.raises(RefundAmountExceeded):
        pure.run(RefundPayment(held.id, Money(CNY, 11), "", PARTNER))
    capture(pure, held, 40)
    assert pure.run(RefundPayment(held.id, Money(CNY, 50), "", PARTNER)).refunded_minor == 100


# --- holds that time captures -----------------------------------------------------------------------------------------


def test_time_captures_what_is_to_be_captured(pure):
    held = hold_to_capture(pure, 10_000)
    capture(pure, held, 2500)
    pure.advance(7 * 86_400)
    # Not swept yet: it has no expiry, so it counts, and can be captured.
    with pytest.raises(InsufficientFunds):
        pure.pay(BUYER, TO_SELLER, 1)
    capture(pure, held, 500)
    pure.run(ExpireHolds((held.id,)))
    assert numbers(pure.books.payments.get(held.id)) == ("CAPTURED", 10_000, 0, 0)
    assert pure.available(SELLER) == 10_000
    assert pure.kinds_of_events()[-1] == "payment_captured"
    pure.run(ExpireHolds((held.id,)))
    assert pure.available(SELLER) == 10_000


def test_a_hold_to_be_captured_can_be_voided_until_it_is(pure):
    held = hold_to_capture(pure, 100)
    pure.advance(7 * 86_400 + 1)
    assert pure.run(VoidPayment(held.id, PARTNER)).state == "VOIDED"
    pure.run(ExpireHolds((held.id,)))
    assert pure.available(SELLER) == 0


def test_a_freeze_keeps_callers_from_capturing_but_not_time(pure):
    held = hold_to_capture(pure, 100)
    put_state(pure, BUYER, AccountState.FROZEN_DEBITS)
    with pytest.raises(AccountFrozen):
        capture(pure, held, 1)
    pure.advance(7 * 86_400)
    pure.run(ExpireHolds((held.id,)))
    assert pure.available(SELLER) == 100


def test_time_frees_what_nobody_can_receive_any_more(pure):
    trade = AccountKey("trades/1", "escrow.trade")
    held = hold_to_capture(pure, 100, payee=trade, caller=ESCROW)
    paid = pure.pay(BUYER, trade, 10, caller=ESCROW)
    pure.run(RefundPayment(paid.id, None, "", ESCROW))
    assert pure.account("trades/1", "escrow.trade").state == "CLOSED"
    pure.advance(7 * 86_400)
    pure.run(ExpireHolds((held.id,)))
    assert numbers(pure.books.payments.get(held.id)) == ("EXPIRED", 0, 100, 0)
    with pytest.raises(HoldExpired):
        pure.run(VoidPayment(held.id, ESCROW))
    assert pure.available(BUYER) == 10_000

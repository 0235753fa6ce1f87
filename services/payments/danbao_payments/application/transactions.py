"""How transactions of several legs, and their reversals, are decided."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from danbao_kit.decision import Moment
from danbao_kit.errors import FieldInvalid, FieldViolation
from danbao_kit.money import Money
from danbao_payments.application.holds import expire_due
from danbao_payments.application.payments import check_parts_refundable, check_refundable, count_refund
from danbao_payments.application.rail_payments import check_refund_has_room, refund_over_rail
from danbao_payments.domain.access import (
    check_may_credit,
    check_may_debit,
    check_may_reverse,
    check_may_send_back,
    check_own_debits,
    check_own_rules,
    find_payment,
)
from danbao_payments.domain.account import account_id
from danbao_payments.domain.books import Books
from danbao_payments.domain.callers import Caller
from danbao_payments.domain.chart import (
    CLEARING_REFUND,
    FUND_RECOVERABLE,
    GUARANTEE_FUND,
    PLATFORM,
    RECEIVABLE_GUARANTEE,
    USER_AVAILABLE,
)
from danbao_payments.domain.commands import AccountKey, Leg, PostTransaction, ReverseTransaction, SpreadLeg
from danbao_payments.domain.errors import (
    AlreadyReversed,
    CurrencyMismatch,
    InsufficientFunds,
    TransactionNotFound,
    WouldBePosted,
)
from danbao_payments.domain.events import TransactionEvent
from danbao_payments.domain.payment import Payment, PaymentCommand, next_state
from danbao_payments.domain.posting import Posting, check_movable
from danbao_payments.domain.recovery import comes_from_fund, debtor_of
from danbao_payments.domain.spread import Plan
from danbao_payments.domain.tenancy import account_to_debit, is_foreign, open_from_trades, sees
from danbao_payments.domain.transfer import Metadata, PostedTransaction, Purpose, Transfer

# A caller's clock may be a little ahead of ours.
_AHEAD = timedelta(minutes=5)


def post_transaction(command: PostTransaction, books: Books, moment: Moment) -> PostedTransaction:
    """All legs or none. With `validate_only` it always raises, what would refuse it or WouldBePosted."""
    posted = _post(
        command.legs,
        command.caller,
        books,
        moment,
        description=command.description,
        metadata=command.metadata,
        effective_time=command.effective_time,
    )
    if command.validate_only:
        raise WouldBePosted(posted)
    return posted


def reverse_transaction(command: ReverseTransaction, books: Books, moment: Moment) -> PostedTransaction:
    """Posts the transaction's movements the other way round, last first. What it gave to a payment's payer is taken
    back by no reversal; what a payer paid goes back as a refund, under the payment's cap."""
    found = books.posted.get(command.name)
    caller = command.caller
    if found is None or not any(sees(caller, owner, partner) for owner, partner in _owners(found, books)):
        raise TransactionNotFound(f"transactions/{command.name}")
    check_may_reverse(found, command.caller, books)
    legs = tuple(_reversed(transfer, books) for transfer in reversed(found.transfers))
    return _post(
        legs,
        command.caller,
        books,
        moment,
        description=command.description or f"reversal of transactions/{command.name}",
        metadata=(),
        effective_time=command.effective_time,
        reverses=command.name,
    )


def _post(
    legs: Sequence[Leg | SpreadLeg],
    caller: Caller,
    books: Books,
    moment: Moment,
    *,
    description: str,
    metadata: Metadata,
    effective_time: datetime | None,
    reverses: UUID | None = None,
) -> PostedTransaction:
    """Each kind of check runs over all legs before the next, so that the same input always gets the same reason."""
    now = moment.now
    if effective_time is not None and effective_time > now + _AHEAD:
        raise FieldInvalid(FieldViolation("effective_time", "lies more than five minutes ahead"))
    payments = {leg.payment: find_payment(leg.payment, caller, books) for leg in legs if leg.payment is not None}
    goes_back = False
    for leg in legs:
        for key in leg.debits:
            check_may_debit(key, caller)
        for key in leg.credits:
            if key.kind == CLEARING_REFUND:
                goes_back = True
                check_may_send_back(key, leg, payments.get(leg.payment) if leg.payment else None, caller)
            else:
                check_may_credit(key, caller)
        if reverses is None:
            check_own_rules(leg, caller)
    check_own_debits(legs, caller)
    for leg in legs:
        if leg.payment is not None and payments[leg.payment].currency != leg.amount.currency:
            expected = payments[leg.payment].currency
            raise CurrencyMismatch(f"payments/{leg.payment}", currency=leg.amount.currency, expected=expected)
    debits = [(key, leg.amount.currency) for leg in legs for key in leg.debits]
    credits = [(key, leg.amount.currency) for leg in legs for key in leg.credits]
    if books.due_holds:
        expire_due({account_id(key.owner, key.kind, currency) for key, currency in debits}, books, moment)
    if caller.is_tenant:
        _act_for_debited(legs, caller, books, moment)
    open_from_trades(legs, books, moment)
    check_movable(
        [books.account(key.owner, key.kind, currency, now) for key, currency in debits],
        [books.account(key.owner, key.kind, currency, now) for key, currency in credits],
    )
    plan = Plan(legs, books, now)
    given_back = _given_back(plan.movements, payments)
    for payment_id in given_back:
        next_state(payments[payment_id], PaymentCommand.REFUND, now)
    if reverses is not None and (reversal := books.reversals.get(reverses)) is not None:
        raise AlreadyReversed(reverses, reversal=reversal)
    for payment_id, given in given_back.items():
        check_refundable(payments[payment_id], sum(given.values()))
        check_parts_refundable(payments[payment_id], given)
    if plan.shortage is not None:
        raise plan.shortage
    posting = Posting(books, moment, effective_time=effective_time)
    for leg in plan.movements:
        debit = books.account(leg.debit.owner, leg.debit.kind, leg.amount.currency, now)
        credit = books.account(leg.credit.owner, leg.credit.kind, leg.amount.currency, now)
        posting.post(debit, credit, leg.amount.minor, payment_id=leg.payment, purpose=leg.purpose)
    sent_back = _sent_back(plan.movements) if goes_back else {}
    going: dict[str, int] = {}
    for payment_id, minor in sent_back.items():
        # All of them together: they may go over one rail, and back into one wallet.
        currency = payments[payment_id].currency
        going[currency] = going.get(currency, 0) + minor
        check_refund_has_room(payments[payment_id], going[currency], books, moment)
    if any(leg.purpose == Purpose.COMPENSATION for leg in legs):
        _charge_debtors(posting, plan, legs, payments, books, moment)
    posted = posting.record(description, metadata, reverses=reverses)
    if reverses is not None:
        books.reversals.put(reverses, posted.transaction.id)
    for payment_id, given in given_back.items():
        # Read again: a hold of it may have ended in this very command.
        payment = books.payments.get(payment_id)
        assert payment is not None
        refunded = count_refund(payment, given, posted.transaction.id, books, moment)
        if payment_id in sent_back:
            refund_over_rail(refunded, sent_back[payment_id], books, moment)
    moment.emit(TransactionEvent("transaction_posted", posted))
    return posted


def _charge_debtors(
    posting: Posting,
    plan: Plan,
    legs: Sequence[Leg | SpreadLeg],
    payments: dict[UUID, Payment],
    books: Books,
    moment: Moment,
) -> None:
    """What the guarantee fund gave as compensation is owed to it from now on, by whoever was to stand for it."""
    for movement, origin in zip(plan.movements, plan.origins, strict=True):
        if movement.payment is None or movement.debit.kind != GUARANTEE_FUND or not comes_from_fund(origin):
            continue
        owner = debtor_of(origin, legs, payments[movement.payment])
        if owner is not None:
            debt = books.account(owner, RECEIVABLE_GUARANTEE, movement.amount.currency, moment.now)
            recoverable = books.account(PLATFORM, FUND_RECOVERABLE, movement.amount.currency, moment.now)
            posting.post(debt, recoverable, movement.amount.minor)


def _sent_back(movements: Sequence[Leg]) -> dict[UUID, int]:
    """What is to go back over its rail, per payment."""
    sums: dict[UUID, int] = {}
    for leg in movements:
        if leg.payment is not None and leg.credit.kind == CLEARING_REFUND:
            sums[leg.payment] = sums.get(leg.payment, 0) + leg.amount.minor
    return sums


def _given_back(legs: Sequence[Leg], payments: dict[UUID, Payment]) -> dict[UUID, dict[UUID, int]]:
    """What goes back per payment and account: every leg that says so, or that credits the payment's payer anyway."""
    sums: dict[UUID, dict[UUID, int]] = {}
    for leg in legs:
        if leg.payment is None:
            continue
        to_payer = leg.credit.owner == payments[leg.payment].payer and leg.credit.kind == USER_AVAILABLE
        if leg.purpose or to_payer:
            given = sums.setdefault(leg.payment, {})
            source = account_id(leg.debit.owner, leg.debit.kind, leg.amount.currency)
            given[source] = given.get(source, 0) + leg.amount.minor
    return sums


def _reversed(transfer: Transfer, books: Books) -> Leg:
    debit, credit = books.accounts.get(transfer.debit_account), books.accounts.get(transfer.credit_account)
    assert debit is not None, "the accounts of a transfer are there"
    assert credit is not None, "the accounts of a transfer are there"
    payment = None if transfer.payment_id is None else books.payments.get(transfer.payment_id)
    paid = payment is not None and debit.owner == payment.payer and debit.kind == USER_AVAILABLE
    return Leg(
        AccountKey(credit.owner, credit.kind),
        AccountKey(debit.owner, debit.kind),
        Money(transfer.currency, transfer.amount_minor),
        transfer.payment_id,
        Purpose.REFUND.value if paid else Purpose.NONE.value,
    )


def _owners(posted: PostedTransaction, books: Books) -> list[tuple[str, str]]:
    """The owners of its accounts, each with the partner that has brought it."""
    both = [account for transfer in posted.transfers for account in (transfer.debit_account, transfer.credit_account)]
    found = [account for key in both if (account := books.accounts.get(key)) is not None]
    return [(account.owner, books.partner_of(account.owner)) for account in found]


def _act_for_debited(legs: Sequence[Leg | SpreadLeg], caller: Caller, books: Books, moment: Moment) -> None:
    """A partner for whom it is posted acts for those whose accounts it debits. Raises InsufficientFunds: in accounts of
    owners that others brought there is nothing for it."""
    for leg in legs:
        for key in leg.debits:
            currency = leg.amount.currency
            account = account_to_debit(key.owner, key.kind, currency, caller, books, moment)
            if is_foreign(key.owner, caller, books):
                raise InsufficientFunds(
                    account.id, owner=key.owner, kind=key.kind, available_minor=0, amount_minor=leg.amount.minor
                )

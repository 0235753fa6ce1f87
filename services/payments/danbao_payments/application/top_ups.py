"""How money comes in over rails, and goes back: decided before the rail is asked and after it has answered.

The request stays open in between. What the rail says is reported by a command of our own, which answers it.
"""

from __future__ import annotations

from danbao_kit.decision import DEFERRED, Moment, RequestKey
from danbao_kit.money import MAX_MINOR
from danbao_payments.application.holds import expire_due
from danbao_payments.domain.books import Books
from danbao_payments.domain.callers import PAYING
from danbao_payments.domain.chart import CLEARING_REFUND, PLATFORM, RAIL_IN_TRANSIT, RAIL_SETTLED, USER_AVAILABLE
from danbao_payments.domain.commands import CreateTopUp, RefundTopUp, ReportCharge, ReportPayback
from danbao_payments.domain.errors import (
    BalanceOverflow,
    CurrencyMismatch,
    KindNotAllowed,
    RailUnknown,
    RefundAmountExceeded,
    TopUpNotFound,
)
from danbao_payments.domain.events import TopUpEvent
from danbao_payments.domain.posting import Posting, check_movable
from danbao_payments.domain.top_up import (
    TopUp,
    TopUpCommand,
    TopUpRefund,
    TopUpRefundState,
    TopUpState,
    awaiting_accounts,
    check_refundable,
    state_after_report,
)


def create_top_up(command: CreateTopUp, books: Books, moment: Moment, rails: frozenset[str]) -> object:
    """Writes down that the rail is to be asked. Raises RailUnknown, KindNotAllowed, AccountClosed, AccountFrozen,
    BalanceOverflow."""
    if command.rail not in rails:
        raise RailUnknown(command.rail)
    if command.caller.party not in PAYING or not command.caller.owns(command.owner):
        raise KindNotAllowed(
            f"{command.owner}'s wallet is not the caller's to fill",
            owner=command.owner,
            kind=USER_AVAILABLE,
            caller=command.caller.party.value,
        )
    wallet = books.account(command.owner, USER_AVAILABLE, command.amount.currency, moment.now)
    check_movable([], [wallet])
    _reserve(command, books, moment)
    request = _request(moment)
    top_up = TopUp(
        moment.ids.new(),
        TopUpState.PENDING.value,
        command.owner,
        command.amount.currency,
        command.amount.minor,
        command.rail,
        command.instrument,
        "",
        "",
        0,
        0,
        command.metadata,
        moment.now,
        moment.now,
        request.caller,
        request.method,
        request.request_id,
        moment.traceparent,
    )
    books.top_ups.put(top_up.id, top_up)
    moment.emit(TopUpEvent("top_up_created", top_up))
    return DEFERRED


def report_charge(command: ReportCharge, books: Books, moment: Moment) -> None:
    """The rail has answered a top-up. Told twice, it changes nothing the second time."""
    top_up = books.top_ups.get(command.top_up)
    assert top_up is not None, "rails are asked about top-ups of ours only"
    state = state_after_report(top_up, TopUpCommand.SUCCEED if command.accepted else TopUpCommand.FAIL)
    if state is None:
        return
    _await(top_up.owner, top_up.rail, top_up.currency, -top_up.amount_minor, books)
    if state is TopUpState.SUCCEEDED:
        in_transit = books.account(top_up.rail, RAIL_IN_TRANSIT, top_up.currency, moment.now)
        wallet = books.account(top_up.owner, USER_AVAILABLE, top_up.currency, moment.now)
        posting = Posting(books, moment)
        # No freeze is asked for here: the money has come, whatever we think of its owner.
        posting.post(in_transit, wallet, top_up.amount_minor)
        posting.record(f"top-up over {top_up.rail}", (("top_up", f"topUps/{top_up.id}"),))
    told = top_up._replace(
        state=state.value,
        rail_reference=command.rail_reference,
        failure=command.failure,
        update_time=moment.now,
    )
    books.top_ups.put(told.id, told)
    moment.emit(TopUpEvent("top_up_succeeded" if state is TopUpState.SUCCEEDED else "top_up_failed", told))
    moment.answer(RequestKey(told.request_caller, told.request_method, told.request_id), told)


def refund_top_up(command: RefundTopUp, books: Books, moment: Moment) -> object:
    """Takes the money out of the wallet and writes down that the rail is to send it back."""
    top_up = books.top_ups.get(command.name)
    if top_up is None or not command.caller.owns(top_up.owner):
        raise TopUpNotFound(f"topUps/{command.name}")
    if command.caller.party not in PAYING:
        raise KindNotAllowed(
            f"{top_up.owner}'s wallet is not the caller's to debit",
            owner=top_up.owner,
            kind=USER_AVAILABLE,
            caller=command.caller.party.value,
        )
    if command.amount is not None and command.amount.currency != top_up.currency:
        raise CurrencyMismatch(f"topUps/{top_up.id}", currency=command.amount.currency, expected=top_up.currency)
    now = moment.now
    wallet = books.account(top_up.owner, USER_AVAILABLE, top_up.currency, now)
    check_movable([wallet], [])
    check_refundable(top_up)
    amount_minor = top_up.refundable_minor if command.amount is None else command.amount.minor
    if amount_minor > top_up.refundable_minor or amount_minor == 0:
        raise RefundAmountExceeded(
            f"topUps/{top_up.id}", refundable_minor=top_up.refundable_minor, amount_minor=amount_minor
        )
    if wallet.id in books.due_holds:
        expire_due((wallet.id,), books, moment)
        wallet = books.account(top_up.owner, USER_AVAILABLE, top_up.currency, now)
    clearing = books.account(PLATFORM, CLEARING_REFUND, top_up.currency, now)
    settled = books.account(top_up.rail, RAIL_SETTLED, top_up.currency, now)
    posting = Posting(books, moment)
    posting.post(wallet, clearing, amount_minor)
    # What waits in clearing may all be this rail's.
    if settled.credits_posted + clearing.credits_posted - clearing.debits_posted + amount_minor > MAX_MINOR:
        raise BalanceOverflow(settled.id, amount_minor=amount_minor)
    posting.record(f"top-up back over {top_up.rail}", (("top_up", f"topUps/{top_up.id}"),))
    request = _request(moment)
    refund = TopUpRefund(
        moment.ids.new(),
        top_up.id,
        TopUpRefundState.PENDING.value,
        amount_minor,
        "",
        now,
        now,
        request.caller,
        request.method,
        request.request_id,
        moment.traceparent,
    )
    books.top_up_refunds.put(refund.id, refund)
    asked = top_up._replace(refunded_minor=top_up.refunded_minor + amount_minor, update_time=now)
    books.top_ups.put(asked.id, asked)
    moment.emit(TopUpEvent("top_up_refund_created", asked))
    return DEFERRED


def report_payback(command: ReportPayback, books: Books, moment: Moment) -> None:
    """The rail has paid a refund out. Told twice, it changes nothing the second time."""
    refund = books.top_up_refunds.get(command.refund)
    assert refund is not None, "rails are asked about refunds of ours only"
    if refund.state != TopUpRefundState.PENDING:
        return
    top_up = books.top_ups.get(refund.top_up_id)
    assert top_up is not None, "a refund is of a top-up"
    clearing = books.account(PLATFORM, CLEARING_REFUND, top_up.currency, moment.now)
    settled = books.account(top_up.rail, RAIL_SETTLED, top_up.currency, moment.now)
    posting = Posting(books, moment)
    posting.post(clearing, settled, refund.amount_minor)
    posting.record(f"paid back over {top_up.rail}", (("top_up", f"topUps/{top_up.id}"),))
    books.top_up_refunds.put(
        refund.id,
        refund._replace(
            state=TopUpRefundState.SETTLED.value, rail_reference=command.rail_reference, update_time=moment.now
        ),
    )
    paid = top_up._replace(
        refunds_settled_minor=top_up.refunds_settled_minor + refund.amount_minor, update_time=moment.now
    )
    books.top_ups.put(paid.id, paid)
    moment.emit(TopUpEvent("top_up_refund_settled", paid))
    moment.answer(RequestKey(refund.request_caller, refund.request_method, refund.request_id), paid)


def _reserve(command: CreateTopUp, books: Books, moment: Moment) -> None:
    """Sees that the money can be booked when it has come, whatever comes of other top-ups. Raises BalanceOverflow."""
    currency, minor = command.amount.currency, command.amount.minor
    wallet = books.account(command.owner, USER_AVAILABLE, currency, moment.now)
    in_transit = books.account(command.rail, RAIL_IN_TRANSIT, currency, moment.now)
    # Through which it would go back.
    settled = books.account(command.rail, RAIL_SETTLED, currency, moment.now)
    for account, total in (
        (wallet, wallet.credits_posted + wallet.credits_pending),
        (in_transit, in_transit.debits_posted + in_transit.debits_pending),
        (settled, settled.credits_posted + settled.credits_pending),
    ):
        if total + (books.awaited.get(account.id) or 0) + minor > MAX_MINOR:
            raise BalanceOverflow(account.id, amount_minor=minor)
    _await(command.owner, command.rail, currency, minor, books)


def _await(owner: str, rail: str, currency: str, minor: int, books: Books) -> None:
    for key in awaiting_accounts(owner, rail, currency):
        books.awaited.put(key, (books.awaited.get(key) or 0) + minor)


def _request(moment: Moment) -> RequestKey:
    assert moment.request is not None, "only a request can be answered later"
    return moment.request

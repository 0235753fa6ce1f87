"""How money comes in over rails, and is asked back: decided before the rail is asked and after it has answered.

The request stays open in between. What the rail says is reported by a command of its own, which answers it.
"""

from __future__ import annotations

from danbao_kit.decision import DEFERRED, Moment, RequestKey
from danbao_kit.money import MAX_MINOR
from danbao_payments.application.holds import expire_due
from danbao_payments.application.rail_books import check_room, open_request, standing_account
from danbao_payments.domain.account import Account, account_id, available_minor
from danbao_payments.domain.books import Books
from danbao_payments.domain.callers import PAYING
from danbao_payments.domain.chart import (
    CLEARING_REFUND,
    PLATFORM,
    RAIL_IN_TRANSIT,
    RAIL_SETTLED,
    RECEIVABLE_USER,
    USER_AVAILABLE,
)
from danbao_payments.domain.commands import CreateTopUp, RefundTopUp, ReportRailResult
from danbao_payments.domain.errors import (
    AccountNotFound,
    BalanceOverflow,
    CurrencyMismatch,
    KindNotAllowed,
    RailUnknown,
    RefundAmountExceeded,
    TopUpNotFound,
)
from danbao_payments.domain.events import TopUpEvent
from danbao_payments.domain.movement import RailResult, movement_metadata
from danbao_payments.domain.posting import Posting, check_movable
from danbao_payments.domain.rail_refund import RailRefund, RailRefundState
from danbao_payments.domain.rail_report import RailReport, check_no_conflict, own_reference, tells_reference
from danbao_payments.domain.tenancy import act_for, is_foreign, sees
from danbao_payments.domain.top_up import (
    AWAITING,
    TopUp,
    TopUpEffect,
    TopUpState,
    awaiting_accounts,
    check_refundable,
    step_of,
)


def create_top_up(command: CreateTopUp, books: Books, moment: Moment, rails: frozenset[str]) -> object:
    """Writes down that the rail is to be asked. Raises RailUnknown, KindNotAllowed, AccountNotFound for another
    partner's owner, AccountClosed, AccountFrozen, BalanceOverflow."""
    if command.rail not in rails:
        raise RailUnknown(command.rail)
    if command.caller.party not in PAYING or not command.caller.owns(command.owner):
        raise KindNotAllowed(
            f"{command.owner}'s wallet is not the caller's to fill",
            owner=command.owner,
            kind=USER_AVAILABLE,
            caller=command.caller.party.value,
        )
    if is_foreign(command.owner, command.caller, books):
        raise AccountNotFound(f"accounts/{account_id(command.owner, USER_AVAILABLE, command.amount.currency)}")
    act_for(command.owner, command.caller, books, moment)
    wallet = books.account(command.owner, USER_AVAILABLE, command.amount.currency, moment.now)
    check_movable([], [wallet])
    _reserve(command, books, moment)
    request = open_request(moment)
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


def report_top_up(command: ReportRailResult, top_up: TopUp, books: Books, moment: Moment) -> RailReport:
    """Books what the rail says of a top-up. Raises RailResultConflicts, BalanceOverflow."""
    step = check_no_conflict(
        top_up.movement,
        state=top_up.state,
        known_reference=top_up.rail_reference,
        result=command.result,
        rail_reference=command.rail_reference,
        step=step_of(top_up, command.result),
    )
    if step.to is None:
        if not tells_reference(top_up.rail_reference, command):
            return RailReport(top_up, changed=False)
        named = top_up._replace(rail_reference=command.rail_reference, update_time=moment.now)
        books.top_ups.put(named.id, named)
        return RailReport(named, changed=True)
    told = top_up._replace(
        rail_reference=own_reference(top_up.rail_reference, command.result, command.rail_reference),
        failure=command.failure or top_up.failure,
        update_time=moment.now,
    )
    if TopUpEffect.RETURN in step.effects:
        expire_due((account_id(top_up.owner, USER_AVAILABLE, top_up.currency),), books, moment)
    legs: list[_Leg] = []
    for effect in step.effects:
        told = _EFFECTS[TopUpEffect(effect)](told, legs, books, moment)
    if legs:
        posting = Posting(books, moment)
        for debit, credit, minor in legs:
            posting.post(debit, credit, minor)
        facts = movement_metadata(
            top_up.movement, command.rail_reference or told.rail_reference, ("top_up", top_up.movement.name)
        )
        posting.record(f"{_WHAT.get(command.result, 'top-up')} over {top_up.rail}", facts)
    books.top_ups.put(told.id, told)
    if top_up.state in AWAITING and told.state not in AWAITING:
        _await(top_up.owner, top_up.rail, top_up.currency, -top_up.amount_minor, books)
        moment.answer(RequestKey(told.request_caller, told.request_method, told.request_id), told)
    return RailReport(told, changed=True)


_Leg = tuple[Account, Account, int]
_WHAT = {RailResult.SETTLED: "top-up settled", RailResult.RETURNED: "top-up returned"}


def _succeed(top_up: TopUp, legs: list[_Leg], books: Books, moment: Moment) -> TopUp:
    in_transit = books.account(top_up.rail, RAIL_IN_TRANSIT, top_up.currency, moment.now)
    # No freeze is asked for here: the money has come, whatever we think of its owner.
    wallet = standing_account(top_up.owner, USER_AVAILABLE, top_up.currency, books, moment)
    legs.append((in_transit, wallet, top_up.amount_minor))
    return _told("top_up_succeeded", top_up._replace(state=TopUpState.SUCCEEDED.value), moment)


def _fail(top_up: TopUp, legs: list[_Leg], books: Books, moment: Moment) -> TopUp:
    return _told("top_up_failed", top_up._replace(state=TopUpState.FAILED.value), moment)


def _settle(top_up: TopUp, legs: list[_Leg], books: Books, moment: Moment) -> TopUp:
    in_transit = books.account(top_up.rail, RAIL_IN_TRANSIT, top_up.currency, moment.now)
    settled = books.account(top_up.rail, RAIL_SETTLED, top_up.currency, moment.now)
    legs.append((settled, in_transit, top_up.amount_minor))
    if top_up.returned_minor:
        # It was taken from what was in transit; the bank shows that the money came, and that it went.
        legs.append((in_transit, settled, top_up.returned_minor))
    return _told("top_up_settled", top_up._replace(settle_time=moment.now), moment)


def _return(top_up: TopUp, legs: list[_Leg], books: Books, moment: Moment) -> TopUp:
    minor, currency, now = top_up.refundable_minor, top_up.currency, moment.now
    kind = RAIL_SETTLED if top_up.settle_time is not None else RAIL_IN_TRANSIT
    rail = books.account(top_up.rail, kind, currency, now)
    wallet = standing_account(top_up.owner, USER_AVAILABLE, currency, books, moment)
    there = minor
    if wallet.kind == USER_AVAILABLE:
        just_come = sum(come for _, credit, come in legs if credit.id == wallet.id)
        there = min(minor, available_minor(wallet) + just_come)
    if there:
        legs.append((wallet, rail, there))
    if minor > there:
        legs.append((books.account(top_up.owner, RECEIVABLE_USER, currency, now), rail, minor - there))
    returned = top_up._replace(state=TopUpState.RETURNED.value, returned_minor=top_up.returned_minor + minor)
    return _told("top_up_returned", returned, moment)


def return_rest(top_up: TopUp, books: Books, moment: Moment) -> None:
    """Takes what has come back into the wallet of a top-up that its rail has returned."""
    legs: list[_Leg] = []
    told = _return(top_up, legs, books, moment)
    posting = Posting(books, moment)
    for debit, credit, minor in legs:
        posting.post(debit, credit, minor)
    facts = movement_metadata(top_up.movement, top_up.rail_reference, ("top_up", top_up.movement.name))
    posting.record(f"{_WHAT[RailResult.RETURNED]} over {top_up.rail}", facts)
    books.top_ups.put(told.id, told._replace(update_time=moment.now))


def _lose_sight(top_up: TopUp, legs: list[_Leg], books: Books, moment: Moment) -> TopUp:
    return _told("top_up_unknown", top_up._replace(state=TopUpState.UNKNOWN.value), moment)


_EFFECTS = {
    TopUpEffect.SUCCEED: _succeed,
    TopUpEffect.FAIL: _fail,
    TopUpEffect.SETTLE: _settle,
    TopUpEffect.RETURN: _return,
    TopUpEffect.LOSE_SIGHT: _lose_sight,
}


def _told(kind: str, top_up: TopUp, moment: Moment) -> TopUp:
    moment.emit(TopUpEvent(kind, top_up))
    return top_up


def refund_top_up(command: RefundTopUp, books: Books, moment: Moment) -> object:
    """Takes the money out of the wallet and writes down that the rail is to send it back."""
    top_up = books.top_ups.get(command.name)
    if top_up is None or not sees(command.caller, top_up.owner, books.partner_of(top_up.owner)):
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
    act_for(top_up.owner, command.caller, books, moment)
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
    request = open_request(moment)
    refund = RailRefund(
        moment.ids.new(),
        top_up.id,
        None,
        RailRefundState.PENDING.value,
        top_up.owner,
        top_up.currency,
        amount_minor,
        top_up.rail,
        top_up.instrument,
        top_up.rail_reference,
        "",
        "",
        now,
        now,
        request.caller,
        request.method,
        request.request_id,
        moment.traceparent,
    )
    posting = Posting(books, moment)
    posting.post(wallet, clearing, amount_minor)
    check_room(top_up.rail, wallet, amount_minor, books, moment)
    posting.record(
        f"top-up back over {top_up.rail}", movement_metadata(refund.movement, "", ("top_up", top_up.movement.name))
    )
    books.rail_refunds.put(refund.id, refund)
    asked = top_up._replace(refunded_minor=top_up.refunded_minor + amount_minor, update_time=now)
    books.top_ups.put(asked.id, asked)
    moment.emit(TopUpEvent("top_up_refund_created", asked))
    return DEFERRED


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

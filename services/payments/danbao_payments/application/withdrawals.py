"""How money goes out over rails: decided before the rail is asked and after it has answered.

The money waits in clearing.payout in between, and the request stays open. A missing answer undoes nothing.
"""

from __future__ import annotations

from danbao_kit.decision import DEFERRED, Moment, RequestKey
from danbao_payments.application.holds import expire_due
from danbao_payments.application.limits import count_against_limits
from danbao_payments.application.rail_books import check_room, open_request, standing_account
from danbao_payments.domain.account import Account
from danbao_payments.domain.books import Books
from danbao_payments.domain.chart import CLEARING_PAYOUT, PLATFORM, RAIL_SETTLED
from danbao_payments.domain.commands import CreateWithdrawal, ReportRailResult
from danbao_payments.domain.errors import RailUnknown
from danbao_payments.domain.events import WithdrawalEvent
from danbao_payments.domain.movement import RailResult, movement_metadata
from danbao_payments.domain.posting import Posting, check_movable
from danbao_payments.domain.rail_access import check_may_withdraw
from danbao_payments.domain.rail_report import RailReport, check_no_conflict, own_reference, tells_reference
from danbao_payments.domain.tenancy import account_to_debit, is_foreign
from danbao_payments.domain.withdrawal import AWAITING, REPORTS, Withdrawal, WithdrawalEffect, WithdrawalState


def create_withdrawal(command: CreateWithdrawal, books: Books, moment: Moment, rails: frozenset[str]) -> object:
    """Takes the money out of its account and writes down that the rail is to pay it.

    Raises RailUnknown, KindNotAllowed, AccountClosed, AccountFrozen, LimitExceeded, InsufficientFunds, BalanceOverflow.
    """
    if command.rail not in rails:
        raise RailUnknown(command.rail)
    check_may_withdraw(command.owner, command.kind, command.caller)
    amount_minor, currency, now = command.amount.minor, command.amount.currency, moment.now
    source = account_to_debit(command.owner, command.kind, currency, command.caller, books, moment)
    check_movable([source], [])
    payer = "" if is_foreign(command.owner, command.caller, books) else command.owner
    if payer and source.id in books.due_holds:
        expire_due((source.id,), books, moment)
        source = books.account(command.owner, command.kind, currency, now)
    count_against_limits(payer, command.limit_class, command.amount, books, moment)
    request = open_request(moment)
    withdrawal = Withdrawal(
        moment.ids.new(),
        WithdrawalState.PENDING.value,
        command.owner,
        command.kind,
        currency,
        amount_minor,
        command.rail,
        command.instrument,
        "",
        "",
        command.metadata,
        now,
        now,
        request.caller,
        request.method,
        request.request_id,
        moment.traceparent,
    )
    posting = Posting(books, moment)
    posting.post(source, books.account(PLATFORM, CLEARING_PAYOUT, currency, now), amount_minor)
    check_room(command.rail, source, amount_minor, books, moment)
    posting.record(f"withdrawal over {command.rail}", movement_metadata(withdrawal.movement, ""))
    books.withdrawals.put(withdrawal.id, withdrawal)
    moment.emit(WithdrawalEvent("withdrawal_created", withdrawal))
    return DEFERRED


def report_withdrawal(command: ReportRailResult, withdrawal: Withdrawal, books: Books, moment: Moment) -> RailReport:
    """Books what the rail says of a withdrawal. Raises RailResultConflicts, BalanceOverflow."""
    step = check_no_conflict(
        withdrawal.movement,
        state=withdrawal.state,
        known_reference=withdrawal.rail_reference,
        result=command.result,
        rail_reference=command.rail_reference,
        step=REPORTS[WithdrawalState(withdrawal.state), command.result],
    )
    if step.to is None:
        if not tells_reference(withdrawal.rail_reference, command):
            return RailReport(withdrawal, changed=False)
        named = withdrawal._replace(rail_reference=command.rail_reference, update_time=moment.now)
        books.withdrawals.put(named.id, named)
        return RailReport(named, changed=True)
    told = withdrawal._replace(
        rail_reference=own_reference(withdrawal.rail_reference, command.result, command.rail_reference),
        failure=command.failure or withdrawal.failure,
        update_time=moment.now,
    )
    legs: list[tuple[Account, Account]] = []
    for effect in step.effects:
        kind, state = _TOLD_AS[WithdrawalEffect(effect)]
        told = told._replace(state=state.value)
        legs += _legs(WithdrawalEffect(effect), told, books, moment)
        moment.emit(WithdrawalEvent(kind, told))
    if legs:
        posting = Posting(books, moment)
        for debit, credit in legs:
            posting.post(debit, credit, withdrawal.amount_minor)
        facts = movement_metadata(withdrawal.movement, command.rail_reference or told.rail_reference)
        posting.record(f"{_WHAT.get(command.result, 'paid out')} over {withdrawal.rail}", facts)
    books.withdrawals.put(told.id, told)
    if withdrawal.state in AWAITING and told.state not in AWAITING:
        moment.answer(RequestKey(told.request_caller, told.request_method, told.request_id), told)
    return RailReport(told, changed=True)


_E, _S = WithdrawalEffect, WithdrawalState
_TOLD_AS = {
    _E.SUCCEED: ("withdrawal_succeeded", _S.SUCCEEDED),
    _E.FAIL: ("withdrawal_failed", _S.FAILED),
    _E.RETURN: ("withdrawal_returned", _S.RETURNED),
    _E.LOSE_SIGHT: ("withdrawal_unknown", _S.UNKNOWN),
}
_WHAT = {RailResult.FAILED: "withdrawal refused", RailResult.RETURNED: "withdrawal returned"}


def _legs(
    effect: WithdrawalEffect, withdrawal: Withdrawal, books: Books, moment: Moment
) -> list[tuple[Account, Account]]:
    currency = withdrawal.currency
    clearing = books.account(PLATFORM, CLEARING_PAYOUT, currency, moment.now)
    settled = books.account(withdrawal.rail, RAIL_SETTLED, currency, moment.now)
    source = standing_account(withdrawal.owner, withdrawal.kind, currency, books, moment)
    return {
        _E.SUCCEED: [(clearing, settled)],
        _E.FAIL: [(clearing, source)],
        _E.RETURN: [(settled, source)],
        _E.LOSE_SIGHT: [],
    }[effect]

"""Whoever reports what became of a movement over a rail, it is booked here: one command for all of them."""

from __future__ import annotations

from danbao_kit.decision import Moment
from danbao_payments.application.rail_payments import report_payment
from danbao_payments.application.rail_refunds import report_refund
from danbao_payments.application.top_ups import report_top_up
from danbao_payments.application.withdrawals import report_withdrawal
from danbao_payments.domain.books import Books
from danbao_payments.domain.commands import ReportRailResult
from danbao_payments.domain.errors import CurrencyMismatch, MovementNotFound
from danbao_payments.domain.movement import MovementKind
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.rail_access import can_see_movement, check_may_report
from danbao_payments.domain.rail_refund import RailRefund
from danbao_payments.domain.rail_report import RailReport
from danbao_payments.domain.top_up import TopUp
from danbao_payments.domain.withdrawal import Withdrawal


def report_rail_result(command: ReportRailResult, books: Books, moment: Moment) -> RailReport:
    """Books what a rail says.

    Raises MovementNotFound, KindNotAllowed, CurrencyMismatch, RailResultConflicts, BalanceOverflow, and of a chargeback
    RefundAmountExceeded.
    """
    name = command.movement.name
    found = _find(command, books)
    if found is None or not found.rail:
        raise MovementNotFound(name)
    owner = found.payer if isinstance(found, Payment) else found.owner
    if not can_see_movement(owner, found.rail, command.caller, books.partner_of(owner)):
        raise MovementNotFound(name)
    check_may_report(name, found.rail, command.caller)
    if command.amount is not None and command.amount.currency != found.currency:
        raise CurrencyMismatch(name, currency=command.amount.currency, expected=found.currency)
    if isinstance(found, TopUp):
        return report_top_up(command, found, books, moment)
    if isinstance(found, Withdrawal):
        return report_withdrawal(command, found, books, moment)
    if isinstance(found, RailRefund):
        return report_refund(command, found, books, moment)
    return report_payment(command, found, books, moment)


def _find(command: ReportRailResult, books: Books) -> TopUp | Withdrawal | Payment | RailRefund | None:
    kind, key = command.movement.kind, command.movement.id
    if kind is MovementKind.TOP_UP:
        return books.top_ups.get(key)
    if kind is MovementKind.WITHDRAWAL:
        return books.withdrawals.get(key)
    if kind is MovementKind.REFUND:
        return books.rail_refunds.get(key)
    return books.payments.get(key)

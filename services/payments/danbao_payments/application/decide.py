"""Which function decides which command."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from danbao_kit.decision import Moment
from danbao_payments.application.accounts import close_account, create_accounts, freeze_account, unfreeze_account
from danbao_payments.application.holds import expire_holds
from danbao_payments.application.limits import set_limits
from danbao_payments.application.payments import capture_payment, create_payment, refund_payment, void_payment
from danbao_payments.application.rail_reports import report_rail_result
from danbao_payments.application.reconciliations import import_statement, resolve_item
from danbao_payments.application.top_ups import create_top_up, refund_top_up
from danbao_payments.application.transactions import post_transaction, reverse_transaction
from danbao_payments.application.withdrawals import create_withdrawal
from danbao_payments.domain.account_commands import (
    CloseAccount,
    CreateAccount,
    CreateAccounts,
    FreezeAccount,
    UnfreezeAccount,
)
from danbao_payments.domain.books import Books
from danbao_payments.domain.commands import (
    CapturePayment,
    Command,
    CreatePayment,
    CreateTopUp,
    CreateWithdrawal,
    ExpireHolds,
    PostTransaction,
    RefundPayment,
    RefundTopUp,
    ReportRailResult,
    ReverseTransaction,
    SetLimits,
    VoidPayment,
)
from danbao_payments.domain.reconciliation_commands import (
    ImportStatement,
    ReconciliationCommand,
    ResolveReconciliationItem,
)


def decider(rails: frozenset[str]) -> Callable[[Command | ReconciliationCommand, Books, Moment], object]:
    """Decides every command of payments; `rails` are those that are connected."""
    by_type: dict[type, Callable[[Any, Books, Moment], object]] = {
        CreatePayment: partial(create_payment, rails=rails),
        CapturePayment: capture_payment,
        VoidPayment: void_payment,
        RefundPayment: refund_payment,
        PostTransaction: post_transaction,
        ReverseTransaction: reverse_transaction,
        CreateTopUp: partial(create_top_up, rails=rails),
        RefundTopUp: refund_top_up,
        SetLimits: set_limits,
        ExpireHolds: expire_holds,
        CreateWithdrawal: partial(create_withdrawal, rails=rails),
        ReportRailResult: report_rail_result,
        CreateAccount: create_accounts,
        CreateAccounts: create_accounts,
        FreezeAccount: freeze_account,
        UnfreezeAccount: unfreeze_account,
        CloseAccount: close_account,
        ImportStatement: partial(import_statement, rails=rails),
        ResolveReconciliationItem: resolve_item,
    }

    def decide(command: Command | ReconciliationCommand, books: Books, moment: Moment) -> object:
        return by_type[type(command)](command, books, moment)

    return decide

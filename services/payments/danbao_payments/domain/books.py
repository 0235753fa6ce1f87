"""What a batch of commands works on: the books' rows, and which holds have run out."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from danbao_kit.working_set import Log, Rows, WorkingSet
from danbao_payments.domain.account import Account, account_id, new_account
from danbao_payments.domain.limits import Limits, Usage
from danbao_payments.domain.owner import Owner
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.rail_refund import RailRefund
from danbao_payments.domain.reconciliation import ImportedStatement, Reconciliation, ReconciliationItem
from danbao_payments.domain.top_up import TopUp
from danbao_payments.domain.transfer import PostedTransaction, Transaction, Transfer
from danbao_payments.domain.withdrawal import Withdrawal


class Books(WorkingSet):
    """The rows of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts: Rows[UUID, Account] = self.rows()
        self.payments: Rows[UUID, Payment] = self.rows()
        self.top_ups: Rows[UUID, TopUp] = self.rows()
        self.withdrawals: Rows[UUID, Withdrawal] = self.rows()
        self.rail_refunds: Rows[UUID, RailRefund] = self.rows()
        # By scope, and by subject, each with the currency.
        self.limits: Rows[tuple[str, str], Limits] = self.rows()
        self.usage: Rows[tuple[str, str], Usage] = self.rows()
        # By account: what top-ups that rails have not answered yet would add to it. Read only where one is to be made.
        self.awaited: Rows[UUID, int] = self.rows()
        self.transactions: Log[Transaction] = self.log()
        # Transactions to be reversed, and those that have been, each with its reversal. Read only.
        self.posted: Rows[UUID, PostedTransaction] = self.rows()
        self.reversals: Rows[UUID, UUID] = self.rows()
        self.transfers: Log[Transfer] = self.log()
        # By rail: the number of its last statement. Which accounts a transaction that was posted touches: read only.
        self.last_statements: Rows[str, int] = self.rows()
        self.touched: Rows[UUID, frozenset[UUID]] = self.rows()
        self.reconciliations: Rows[UUID, Reconciliation] = self.rows()
        self.reconciliation_items: Rows[tuple[UUID, int], ReconciliationItem] = self.rows()
        self.imported: Log[ImportedStatement] = self.log()
        # Owners that partners bring by these commands, and trades that they pay.
        self.brought: Rows[str, Owner] = self.rows()
        # By owner, of whose accounts or whose own row something was read: who had brought it before; empty: nobody.
        self.partners: dict[str, str] = {}
        # Payments whose hold on an account has run out, or is about to, and was not ended yet: oldest first.
        self.due_holds: dict[UUID, list[UUID]] = {}
        # Owners who may owe the platform something: those who do are all among them.
        self.debtors: set[str] = set()

    def account(self, owner: str, kind: str, currency: str, now: datetime) -> Account:
        """The account as it stands; one that nobody has posted to yet is all zero."""
        found = self.accounts.get(account_id(owner, kind, currency))
        return found if found is not None else new_account(owner, kind, currency, now, self.partner_of(owner))

    def partner_of(self, owner: str) -> str:
        """Who has brought the owner; empty: nobody."""
        brought = self.brought.get(owner)
        return self.partners.get(owner, "") if brought is None else brought.partner

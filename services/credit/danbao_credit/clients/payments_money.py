"""Payments, as far as deposits go: a step is one PostTransaction under the same id always; and what a deposit moved."""

from __future__ import annotations

from uuid import UUID

import grpc

from danbao.payments.v1 import account_pb2, account_pb2_grpc, ledger_pb2, ledger_pb2_grpc
from danbao.type.v1 import money_pb2
from danbao_credit.application.membership_commands import StepDone, StepRefused
from danbao_credit.application.ports import StepResult, StepUnknown
from danbao_credit.domain.membership import StepKind
from danbao_credit.domain.membership_errors import OwnerUnknown, StatementUnknown
from danbao_credit.domain.membership_model import DEPOSIT, DepositStep, Movement, deposit_account
from danbao_kit.rpc_client import RemoteError, invoke

CALL_S = 3.0
"""Well below a step's lease."""

_PAGE = 1000

# Refusals that payments has recorded under the id, or gives to the same message always: nothing will move under it.
_DEFINITE = frozenset({"FAILED_PRECONDITION", "NOT_FOUND", "PERMISSION_DENIED", "INVALID_ARGUMENT", "OUT_OF_RANGE"})
# Said before the id was looked at: an earlier attempt may have been executed.
_NOT_RECORDED = frozenset({"PEER_NOT_ALLOWED", "DEADLINE_REQUIRED"})


class PaymentsMoney:
    """Moves deposits."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ledger_pb2_grpc.LedgerServiceStub(channel)
        self._accounts = account_pb2_grpc.AccountServiceStub(channel)

    async def execute(self, step: DepositStep) -> StepResult:
        """Asks once. Whatever is no definite answer leaves the outcome open."""
        try:
            posted = await invoke(
                self._stub.PostTransaction, request_of(step), name="payments.PostTransaction", cap_s=CALL_S
            )
        except RemoteError as error:
            if error.code in _DEFINITE and error.reason not in _NOT_RECORDED:
                return StepRefused(error.reason or error.code, error.message)
            return StepUnknown(error.reason or error.code)
        account = f"accounts/{step.account}"
        return StepDone(
            posted.name,
            sum(each.amount.amount_minor for each in posted.transfers if each.credit_account == account),
            sum(each.amount.amount_minor for each in posted.transfers if each.debit_account == account),
        )

    async def partner_of(self, subject: str) -> str:
        """The partner that has brought the subject; empty: nobody has. Raises OwnerUnknown."""
        request = account_pb2.GetOwnerRequest(owner=subject)
        try:
            owner = await invoke(self._accounts.GetOwner, request, name="payments.GetOwner", cap_s=CALL_S)
        except RemoteError as error:
            raise OwnerUnknown(subject, error.reason or error.code) from error
        return str(owner.partner)

    async def statement(self, subject: str, currency: str) -> tuple[Movement, ...]:
        """What ever moved in a deposit, each transaction once; of an account that there is not, nothing.

        Transactions are recorded whole and pages follow one another, so none is seen in part. Raises StatementUnknown.
        """
        account = deposit_account(subject, currency)
        request = account_pb2.ListEntriesRequest(account=f"accounts/{account}", page_size=_PAGE)
        moved: dict[UUID, Movement] = {}
        while True:
            try:
                page = await invoke(self._accounts.ListEntries, request, name="payments.ListEntries", cap_s=CALL_S)
            except RemoteError as error:
                if error.reason == "ACCOUNT_NOT_FOUND":
                    return ()
                raise StatementUnknown(subject, currency, error.reason or error.code) from error
            for entry in page.entries:
                transaction = UUID(entry.transaction.partition("/")[2])
                known = moved.get(transaction) or Movement(account, transaction, 0, 0)
                is_credit, minor = entry.side == account_pb2.Account.SIDE_CREDIT, entry.amount.amount_minor
                moved[transaction] = Movement(
                    account,
                    transaction,
                    known.credited_minor + (minor if is_credit else 0),
                    known.debited_minor + (0 if is_credit else minor),
                )
            if not page.next_page_token:
                return tuple(moved.values())
            request.page_token = page.next_page_token


def request_of(step: DepositStep) -> ledger_pb2.PostTransactionRequest:
    """What payments is asked to do."""
    deposit = account_pb2.AccountKey(owner=step.subject, kind=DEPOSIT)
    counter = account_pb2.AccountKey(owner=step.subject, kind=step.counter_kind)
    debit, credit = (counter, deposit) if step.kind is StepKind.FUND else (deposit, counter)
    name = f"memberships/{step.membership_id}"
    acting_for = None
    if step.for_partner or step.for_subject:
        acting_for = account_pb2.ActingFor(partner=step.for_partner, subject=step.for_subject)
    return ledger_pb2.PostTransactionRequest(
        request_id=step.request_id,
        legs=[
            ledger_pb2.Leg(
                debit=debit,
                credit=credit,
                amount=money_pb2.Money(currency=step.currency, amount_minor=step.amount_minor),
            )
        ],
        description=f"{name}: deposit {step.kind}",
        metadata={"membership": name, "step": str(step.number), "kind": step.kind.value},
        acting_for=acting_for,
    )

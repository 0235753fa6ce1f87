"""Whatever is wrong with a request is refused with its reason and its field, and changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool

from danbao.payments.v1 import (
    account_pb2,
    audit_pb2,
    event_pb2,
    ledger_pb2,
    payment_pb2,
    rail_pb2,
    reconciliation_pb2,
)
from danbao.type.v1 import cursor_pb2, privileged_action_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.testing.service import as_caller
from danbao_payments.app import ACCOUNTS, AUDIT, EVENTS, LEDGER, PAYMENTS, RECONCILIATIONS
from danbao_payments.domain.account import account_id
from danbao_payments.testing.stack import (
    OPERATOR,
    PaymentsStack,
    check_books,
    manual,
    money,
    new_id,
    payment,
    rail_report,
    remote_error,
    top_up,
    withdrawal,
)

BUYER, SELLER = "subjects/buyer", "subjects/seller"
NOBODY = "019a0000-0000-7000-8000-000000000000"
MESSAGES = {
    "CreatePayment": payment_pb2.CreatePaymentRequest,
    "CapturePayment": payment_pb2.CapturePaymentRequest,
    "VoidPayment": payment_pb2.VoidPaymentRequest,
    "RefundPayment": payment_pb2.RefundPaymentRequest,
    "GetPayment": payment_pb2.GetPaymentRequest,
    "CreateTopUp": payment_pb2.CreateTopUpRequest,
    "RefundTopUp": payment_pb2.RefundTopUpRequest,
    "GetTopUp": payment_pb2.GetTopUpRequest,
    "CreateWithdrawal": rail_pb2.CreateWithdrawalRequest,
    "GetWithdrawal": rail_pb2.GetWithdrawalRequest,
    "GetRailRefund": rail_pb2.GetRailRefundRequest,
    "ReportRailResult": rail_pb2.ReportRailResultRequest,
    "ListPayments": payment_pb2.ListPaymentsRequest,
    "SetLimits": payment_pb2.SetLimitsRequest,
    "GetLimits": payment_pb2.GetLimitsRequest,
    "BatchExecute": payment_pb2.BatchExecuteRequest,
    "PostTransaction": ledger_pb2.PostTransactionRequest,
    "ReverseTransaction": ledger_pb2.ReverseTransactionRequest,
    "GetTransaction": ledger_pb2.GetTransactionRequest,
    "ListTransactions": ledger_pb2.ListTransactionsRequest,
    "VerifyChain": ledger_pb2.VerifyChainRequest,
    "GetTrialBalance": ledger_pb2.GetTrialBalanceRequest,
    "CreateAccount": account_pb2.CreateAccountRequest,
    "BatchCreateAccounts": account_pb2.BatchCreateAccountsRequest,
    "FreezeAccount": account_pb2.FreezeAccountRequest,
    "UnfreezeAccount": account_pb2.UnfreezeAccountRequest,
    "CloseAccount": account_pb2.CloseAccountRequest,
    "GetAccount": account_pb2.GetAccountRequest,
    "GetOwner": account_pb2.GetOwnerRequest,
    "GetBalance": account_pb2.GetBalanceRequest,
    "ListAccounts": account_pb2.ListAccountsRequest,
    "ListEntries": account_pb2.ListEntriesRequest,
    "GetStreamHead": event_pb2.GetStreamHeadRequest,
    "GetReconciliation": reconciliation_pb2.GetReconciliationRequest,
    "ListReconciliationItems": reconciliation_pb2.ListReconciliationItemsRequest,
    "ResolveReconciliationItem": reconciliation_pb2.ResolveReconciliationItemRequest,
    "GetAudit": audit_pb2.GetAuditRequest,
    "GetAssetLoss": audit_pb2.GetAssetLossRequest,
    "ListPrivilegedActions": privileged_action_pb2.ListPrivilegedActionsRequest,
    "VerifyPrivilegedActions": privileged_action_pb2.VerifyPrivilegedActionsRequest,
}
MUTATIONS = {name for name, message in MESSAGES.items() if "request_id" in message.DESCRIPTOR.fields_by_name}


@pytest.fixture(scope="module")
async def served(service: PaymentsStack) -> AsyncIterator[PaymentsStack]:
    """Nothing in this file changes anything, so the books are filled once."""
    await service.fund(BUYER, 1000)
    # So that there is a clearing account.
    held = await service.call("CreatePayment", manual(BUYER, SELLER, 1))
    await service.call("VoidPayment", payment_pb2.VoidPaymentRequest(request_id=new_id(), name=held.name))
    yield service
    await check_books(service.database)
    await service.forget()


async def state(stack: PaymentsStack) -> list[Any]:
    """Everything that a refused request must leave alone; recorded refusals are not among it."""
    tables = (
        "accounts",
        "transfers",
        "transactions",
        "payments",
        "top_ups",
        "withdrawals",
        "rail_refunds",
        "events",
        "reconciliations",
        "reconciliation_items",
    )
    return await stack.sql(" UNION ALL ".join(f"SELECT t::text AS row FROM {table} t" for table in tables))


def request(method: str, **fields: Any) -> Any:
    """A valid request with some of its fields replaced; None clears one."""
    valid: dict[str, Any] = {
        "CreatePayment": lambda: payment(BUYER, SELLER, 10),
        "CapturePayment": lambda: payment_pb2.CapturePaymentRequest(
            request_id=new_id(), name=f"payments/{NOBODY}", amount=money(1)
        ),
        "VoidPayment": lambda: payment_pb2.VoidPaymentRequest(request_id=new_id(), name=f"payments/{NOBODY}"),
        "RefundPayment": lambda: payment_pb2.RefundPaymentRequest(
            request_id=new_id(), name=f"payments/{NOBODY}", amount=money(1)
        ),
        "GetPayment": lambda: payment_pb2.GetPaymentRequest(name=f"payments/{NOBODY}"),
        "CreateTopUp": lambda: top_up(BUYER, 10),
        "RefundTopUp": lambda: payment_pb2.RefundTopUpRequest(
            request_id=new_id(), name=f"topUps/{NOBODY}", amount=money(1)
        ),
        "CreateWithdrawal": lambda: withdrawal(BUYER, 10),
        "GetWithdrawal": lambda: rail_pb2.GetWithdrawalRequest(name=f"withdrawals/{NOBODY}"),
        "GetRailRefund": lambda: rail_pb2.GetRailRefundRequest(name=f"refunds/{NOBODY}"),
        "ReportRailResult": lambda: rail_report(f"topUps/{NOBODY}", "SUCCEEDED"),
        "ListPayments": payment_pb2.ListPaymentsRequest,
        "SetLimits": lambda: payment_pb2.SetLimitsRequest(request_id=new_id(), scope=BUYER, currency="CNY"),
        "GetLimits": lambda: payment_pb2.GetLimitsRequest(scope=BUYER, currency="CNY"),
        "GetTopUp": lambda: payment_pb2.GetTopUpRequest(name=f"topUps/{NOBODY}"),
        "BatchExecute": payment_pb2.BatchExecuteRequest,
        "PostTransaction": lambda: ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[leg()]),
        "ReverseTransaction": lambda: ledger_pb2.ReverseTransactionRequest(
            request_id=new_id(), name=f"transactions/{NOBODY}"
        ),
        "ListTransactions": lambda: ledger_pb2.ListTransactionsRequest(owner=BUYER),
        "VerifyChain": ledger_pb2.VerifyChainRequest,
        "GetAudit": audit_pb2.GetAuditRequest,
        "GetAssetLoss": audit_pb2.GetAssetLossRequest,
        "ListPrivilegedActions": privileged_action_pb2.ListPrivilegedActionsRequest,
        "VerifyPrivilegedActions": privileged_action_pb2.VerifyPrivilegedActionsRequest,
        "CreateAccount": lambda: account_pb2.CreateAccountRequest(request_id=new_id(), account=NEW),
        "BatchCreateAccounts": lambda: account_pb2.BatchCreateAccountsRequest(request_id=new_id(), accounts=[NEW]),
        "FreezeAccount": lambda: account_pb2.FreezeAccountRequest(request_id=new_id(), name=f"accounts/{NOBODY}"),
        "UnfreezeAccount": lambda: account_pb2.UnfreezeAccountRequest(request_id=new_id(), name=f"accounts/{NOBODY}"),
        "CloseAccount": lambda: account_pb2.CloseAccountRequest(request_id=new_id(), name=f"accounts/{NOBODY}"),
        "GetBalance": lambda: account_pb2.GetBalanceRequest(account=f"accounts/{NOBODY}"),
        "GetTransaction": lambda: ledger_pb2.GetTransactionRequest(name=f"transactions/{NOBODY}"),
        "GetAccount": lambda: account_pb2.GetAccountRequest(name=f"accounts/{NOBODY}"),
        "GetOwner": lambda: account_pb2.GetOwnerRequest(owner=BUYER),
        "ListAccounts": lambda: account_pb2.ListAccountsRequest(owner=BUYER),
        "ListEntries": lambda: account_pb2.ListEntriesRequest(account=f"accounts/{NOBODY}"),
        "GetReconciliation": lambda: reconciliation_pb2.GetReconciliationRequest(name=f"reconciliations/{NOBODY}"),
        "ListReconciliationItems": lambda: reconciliation_pb2.ListReconciliationItemsRequest(
            name=f"reconciliations/{NOBODY}"
        ),
        "ResolveReconciliationItem": lambda: reconciliation_pb2.ResolveReconciliationItemRequest(
            request_id=new_id(), name=f"reconciliations/{NOBODY}/items/1", reason="known"
        ),
    }[method]()
    for name in fields:
        valid.ClearField(name)
    valid.MergeFrom(MESSAGES[method](**{name: value for name, value in fields.items() if value is not None}))
    return valid


def leg(**others: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "debit": {"owner": "platform", "kind": "suspense"},
        "credit": {"owner": BUYER, "kind": "user.available"},
        "amount": money(1),
    }
    return {name: value for name, value in (fields | others).items() if value is not None}


PAYEE = {"owner": SELLER, "kind": "user.available"}
NEW = {"owner": SELLER, "kind": "user.available", "currency": "CNY"}
WALLET = f"accounts/{account_id(BUYER, 'user.available', 'CNY')}"
CLEARING = f"accounts/{account_id('platform', 'clearing.capture', 'CNY')}"
NAMES = {
    "CapturePayment": "payments",
    "VoidPayment": "payments",
    "RefundPayment": "payments",
    "GetPayment": "payments",
    "RefundTopUp": "topUps",
    "GetTopUp": "topUps",
    "GetWithdrawal": "withdrawals",
    "GetRailRefund": "refunds",
    "GetTransaction": "transactions",
    "ReverseTransaction": "transactions",
    "GetAccount": "accounts",
    "FreezeAccount": "accounts",
    "UnfreezeAccount": "accounts",
    "CloseAccount": "accounts",
    "GetReconciliation": "reconciliations",
    "ListReconciliationItems": "reconciliations",
}
TIMES = [
    ("PostTransaction", "effective_time", {}),
    ("ReverseTransaction", "effective_time", {}),
    ("ListTransactions", "start_time", {}),
    ("ListTransactions", "end_time", {}),
    ("GetBalance", "recorded_time", {"account": WALLET}),
    ("GetBalance", "effective_time", {"account": WALLET}),
    ("ListEntries", "start_time", {"account": WALLET}),
    ("ListEntries", "end_time", {"account": WALLET}),
    ("ListPayments", "create_time_from", {}),
    ("ListPayments", "create_time_before", {}),
    ("GetAssetLoss", "start_time", {}),
    ("GetAssetLoss", "end_time", {}),
    ("ListPrivilegedActions", "start_time", {}),
    ("ListPrivilegedActions", "end_time", {}),
]
# A microsecond before 1970, the first second of the year 1, the last of 9999, the first of 3000.
OUT_OF_TIME = [
    {"seconds": -1, "nanos": 999_999_000},
    {"seconds": -62_135_596_800},
    {"seconds": 253_402_300_799},
    {"seconds": 32_503_680_000},
]
BAD: list[tuple[str, dict[str, Any], str, str]] = [
    *[
        (method, others | {field: time}, "FIELD_INVALID", field)
        for method, field, others in TIMES
        for time in OUT_OF_TIME
    ],
    *[(method, {"request_id": None}, "FIELD_INVALID", "request_id") for method in sorted(MUTATIONS)],
    *[(method, {"request_id": "x" * 65}, "FIELD_INVALID", "request_id") for method in sorted(MUTATIONS)],
    *[
        (method, {"name": name}, "FIELD_INVALID", "name")
        for method, kind in NAMES.items()
        for name in (
            None,
            "x",
            f"{kind}/",
            f"{kind}/{NOBODY}x",
            f"other/{NOBODY}",
            f"{kind}/{'-' * 36}",
            f"{kind}/{NOBODY[1:]}-",
        )
    ],
    ("CreatePayment", {"payer": None}, "FIELD_INVALID", "payer"),
    ("CreatePayment", {"payer": "buyer"}, "FIELD_INVALID", "payer"),
    ("CreatePayment", {"payer": "subjects/a b"}, "FIELD_INVALID", "payer"),
    ("CreatePayment", {"payer": "trades/1"}, "FIELD_INVALID", "payer"),
    ("CreatePayment", {"payee": None}, "FIELD_INVALID", "payee"),
    ("CreatePayment", {"payee": {"owner": "", "kind": "user.available"}}, "FIELD_INVALID", "payee.owner"),
    ("CreatePayment", {"payee": {"owner": SELLER, "kind": ""}}, "FIELD_INVALID", "payee.kind"),
    ("CreatePayment", {"payee": {"owner": BUYER, "kind": "user.available"}}, "FIELD_INVALID", "payee"),
    ("CreatePayment", {"payee": {"owner": SELLER, "kind": "nonsense"}}, "KIND_NOT_ALLOWED", ""),
    ("CreatePayment", {"payee": {"owner": "trades/1", "kind": "user.available"}}, "KIND_NOT_ALLOWED", ""),
    ("CreatePayment", {"payee": {"owner": "platform", "kind": "fee.escrow"}}, "KIND_NOT_ALLOWED", ""),
    ("CreatePayment", {"beneficiary": "me"}, "FIELD_INVALID", "beneficiary"),
    ("CreatePayment", {"amount": None}, "FIELD_INVALID", "amount"),
    ("CreatePayment", {"amount": money(0)}, "AMOUNT_NOT_POSITIVE", "amount.amount_minor"),
    ("CreatePayment", {"amount": money(-1)}, "AMOUNT_NOT_POSITIVE", "amount.amount_minor"),
    ("CreatePayment", {"amount": money(1, "XYZ")}, "CURRENCY_UNKNOWN", "amount.currency"),
    ("CreatePayment", {"amount": money(1, "cny")}, "CURRENCY_UNKNOWN", "amount.currency"),
    ("CreatePayment", {"amount": money(1, "")}, "FIELD_INVALID", "amount.currency"),
    ("CreatePayment", {"amount": money(0, "XYZ")}, "AMOUNT_NOT_POSITIVE", "amount.amount_minor"),
    ("CreatePayment", {"amount": money(2**63 - 1)}, "INSUFFICIENT_FUNDS", ""),
    ("CreatePayment", {"capture_mode": None}, "FIELD_INVALID", "capture_mode"),
    ("CreatePayment", {"capture_mode": 9}, "FIELD_INVALID", "capture_mode"),
    ("CreatePayment", {"hold_lifetime": {"seconds": 5}}, "FIELD_INVALID", "hold_lifetime"),
    ("CreatePayment", {"capture_mode": 2, "hold_lifetime": {"seconds": 0}}, "FIELD_INVALID", "hold_lifetime"),
    ("CreatePayment", {"capture_mode": 2, "hold_lifetime": {"seconds": 2592001}}, "FIELD_INVALID", "hold_lifetime"),
    ("CreatePayment", {"metadata": {"x" * 41: "y"}}, "FIELD_INVALID", "metadata"),
    ("CreatePayment", {"metadata": {"note": "4242 4242 4242 4242"}}, "CARD_NUMBER", "metadata"),
    ("CreatePayment", {"description": "from 5555-5555-5555-4444"}, "CARD_NUMBER", "description"),
    ("CreateTopUp", {"instrument": "4111111111111111"}, "CARD_NUMBER", "instrument"),
    ("CreatePayment", {"metadata": {str(n): "y" for n in range(17)}}, "FIELD_INVALID", "metadata"),
    *[
        ("PostTransaction", {"metadata": {key: "x"}}, "FIELD_INVALID", "metadata")
        for key in ("movement", "top_up", "rail_reference")
    ],
    ("CreatePayment", {"description": "x" * 257}, "FIELD_INVALID", "description"),
    ("CapturePayment", {"amount": money(0)}, "AMOUNT_NOT_POSITIVE", "amount.amount_minor"),
    ("CapturePayment", {"amount": money(1, "ABC")}, "CURRENCY_UNKNOWN", "amount.currency"),
    ("CapturePayment", {}, "PAYMENT_NOT_FOUND", ""),
    ("VoidPayment", {}, "PAYMENT_NOT_FOUND", ""),
    ("RefundPayment", {"amount": money(-5)}, "AMOUNT_NOT_POSITIVE", "amount.amount_minor"),
    ("RefundPayment", {"amount": money(1, "ABC")}, "CURRENCY_UNKNOWN", "amount.currency"),
    ("RefundPayment", {}, "PAYMENT_NOT_FOUND", ""),
    ("GetPayment", {}, "PAYMENT_NOT_FOUND", ""),
    ("CreateTopUp", {"owner": None}, "FIELD_INVALID", "owner"),
    ("CreateTopUp", {"owner": "platform"}, "FIELD_INVALID", "owner"),
    ("CreateTopUp", {"amount": None}, "FIELD_INVALID", "amount"),
    ("CreateTopUp", {"amount": money(-1)}, "AMOUNT_NOT_POSITIVE", "amount.amount_minor"),
    ("CreateTopUp", {"amount": money(1, "ABC")}, "CURRENCY_UNKNOWN", "amount.currency"),
    ("CreateTopUp", {"rail": None}, "FIELD_INVALID", "rail"),
    ("CreateTopUp", {"rail": "rails/none"}, "RAIL_UNKNOWN", ""),
    ("CreateTopUp", {"amount": money(2**63 - 1)}, "BALANCE_OVERFLOW", ""),
    ("CreateTopUp", {"instrument": "x" * 129}, "FIELD_INVALID", "instrument"),
    ("RefundTopUp", {"amount": money(0)}, "AMOUNT_NOT_POSITIVE", "amount.amount_minor"),
    ("RefundTopUp", {}, "TOP_UP_NOT_FOUND", ""),
    ("GetTopUp", {}, "TOP_UP_NOT_FOUND", ""),
    ("CreateWithdrawal", {"owner": None}, "FIELD_INVALID", "owner"),
    ("CreateWithdrawal", {"owner": "platform"}, "FIELD_INVALID", "owner"),
    ("CreateWithdrawal", {"kind": None}, "FIELD_INVALID", "kind"),
    ("CreateWithdrawal", {"kind": "x" * 65}, "FIELD_INVALID", "kind"),
    ("CreateWithdrawal", {"kind": "nonsense"}, "KIND_NOT_ALLOWED", ""),
    ("CreateWithdrawal", {"kind": "guarantee.deposit"}, "KIND_NOT_ALLOWED", ""),
    ("CreateWithdrawal", {"amount": None}, "FIELD_INVALID", "amount"),
    ("CreateWithdrawal", {"amount": money(0)}, "AMOUNT_NOT_POSITIVE", "amount.amount_minor"),
    ("CreateWithdrawal", {"amount": money(1, "ABC")}, "CURRENCY_UNKNOWN", "amount.currency"),
    ("CreateWithdrawal", {"rail": None}, "FIELD_INVALID", "rail"),
    ("CreateWithdrawal", {"rail": "rails/none"}, "RAIL_UNKNOWN", ""),
    ("CreateWithdrawal", {"instrument": "x" * 129}, "FIELD_INVALID", "instrument"),
    ("CreateWithdrawal", {"limit_class": "a b"}, "FIELD_INVALID", "limit_class"),
    ("CreateWithdrawal", {"metadata": {str(n): "y" for n in range(17)}}, "FIELD_INVALID", "metadata"),
    ("CreateWithdrawal", {"amount": money(2**63 - 1)}, "INSUFFICIENT_FUNDS", ""),
    ("GetWithdrawal", {}, "WITHDRAWAL_NOT_FOUND", ""),
    ("GetRailRefund", {}, "MOVEMENT_NOT_FOUND", ""),
    *[
        ("ReportRailResult", {"movement": name}, "FIELD_INVALID", "movement")
        for name in (None, "x", "topUps/", f"topUps/{NOBODY}x", f"accounts/{NOBODY}", f"refunds/{'-' * 36}")
    ],
    ("ReportRailResult", {"result": None}, "FIELD_INVALID", "result"),
    ("ReportRailResult", {"result": 77}, "FIELD_INVALID", "result"),
    ("ReportRailResult", {"result": rail_pb2.RAIL_RESULT_CHARGEBACK}, "FIELD_INVALID", "result"),
    ("ReportRailResult", {"amount": money(1)}, "FIELD_INVALID", "amount"),
    (
        "ReportRailResult",
        {"movement": f"payments/{NOBODY}", "result": rail_pb2.RAIL_RESULT_CHARGEBACK, "amount": money(0)},
        "AMOUNT_NOT_POSITIVE",
        "amount.amount_minor",
    ),
    (
        "ReportRailResult",
        {"movement": f"payments/{NOBODY}", "result": rail_pb2.RAIL_RESULT_CHARGEBACK, "amount": money(1, "ABC")},
        "CURRENCY_UNKNOWN",
        "amount.currency",
    ),
    ("ReportRailResult", {"rail_reference": "x" * 129}, "FIELD_INVALID", "rail_reference"),
    ("ReportRailResult", {"failure": "x" * 257}, "FIELD_INVALID", "failure"),
    *[
        ("ReportRailResult", {"movement": f"{kind}/{NOBODY}"}, "MOVEMENT_NOT_FOUND", "")
        for kind in ("topUps", "withdrawals", "payments", "refunds")
    ],
    ("BatchExecute", {}, "FIELD_INVALID", "operations"),
    ("BatchExecute", {"operations": [payment_pb2.Operation()] * 1001}, "FIELD_INVALID", "operations"),
    ("PostTransaction", {"legs": None}, "FIELD_INVALID", "legs"),
    ("PostTransaction", {"legs": [leg()] * 65}, "FIELD_INVALID", "legs"),
    ("PostTransaction", {"legs": [leg(debit=None)]}, "FIELD_INVALID", "legs[0].debit"),
    ("PostTransaction", {"legs": [leg(), leg(amount=None)]}, "FIELD_INVALID", "legs[1].amount"),
    ("PostTransaction", {"legs": [leg(payment="x")]}, "FIELD_INVALID", "legs[0].payment"),
    ("PostTransaction", {"legs": [leg(payment=f"payments/{'-' * 36}")]}, "FIELD_INVALID", "legs[0].payment"),
    ("PostTransaction", {"legs": [leg(purpose=1)]}, "FIELD_INVALID", "legs[0].payment"),
    ("PostTransaction", {"legs": [leg(purpose=77)]}, "FIELD_INVALID", "legs[0].purpose"),
    ("PostTransaction", {"legs": [leg(), leg(amount=money(0))]}, "AMOUNT_NOT_POSITIVE", "legs[1].amount.amount_minor"),
    ("PostTransaction", {"legs": [leg(amount=money(1, "XYZ"))]}, "CURRENCY_UNKNOWN", "legs[0].amount.currency"),
    (
        "PostTransaction",
        {"legs": [leg(credit={"owner": "platform", "kind": "suspense"})]},
        "LEGS_INVALID",
        "legs[0].credit",
    ),
    ("PostTransaction", {"legs": [leg(payment=f"payments/{NOBODY}")]}, "PAYMENT_NOT_FOUND", ""),
    ("PostTransaction", {"legs": [leg(credit={"owner": BUYER, "kind": "?"})]}, "KIND_NOT_ALLOWED", ""),
    ("PostTransaction", {"legs": [leg(credit={"owner": BUYER, "kind": "suspense"})]}, "KIND_NOT_ALLOWED", ""),
    ("PostTransaction", {"legs": [leg(amount=money(2**63 - 1))] * 2}, "BALANCE_OVERFLOW", ""),
    ("GetTransaction", {}, "TRANSACTION_NOT_FOUND", ""),
    ("CreatePayment", {"on_expiry": 77}, "FIELD_INVALID", "on_expiry"),
    ("CreatePayment", {"on_expiry": payment_pb2.ON_EXPIRY_CAPTURE}, "FIELD_INVALID", "on_expiry"),
    ("CreatePayment", {"remainder_policy": 77}, "FIELD_INVALID", "remainder_policy"),
    ("CreatePayment", {"remainder_policy": 1}, "FIELD_INVALID", "remainder_policy"),
    ("CreatePayment", {"limit_class": "a b"}, "FIELD_INVALID", "limit_class"),
    ("CreatePayment", {"rail": "simulated"}, "FIELD_INVALID", "rail"),
    ("CreatePayment", {"rail": "rails/none"}, "RAIL_UNKNOWN", ""),
    ("CreatePayment", {"rail": "rails/simulated", "capture_mode": 2}, "FIELD_INVALID", "rail"),
    ("CreatePayment", {"instrument": "ok"}, "FIELD_INVALID", "instrument"),
    ("CreatePayment", {"rail": "rails/simulated", "instrument": "x" * 129}, "FIELD_INVALID", "instrument"),
    (
        "CreatePayment",
        {
            "splits": [
                {"destination": {"owner": SELLER, "kind": "user.available"}, "remaining": True, "beneficiary": "x"}
            ]
        },
        "FIELD_INVALID",
        "splits[0].beneficiary",
    ),
    (
        "PostTransaction",
        {"legs": [leg(credit={"owner": "platform", "kind": "clearing.refund"})]},
        "KIND_NOT_ALLOWED",
        "",
    ),
    ("RefundPayment", {"fee_refund": 77}, "FIELD_INVALID", "fee_refund"),
    ("RefundPayment", {"purpose": 77}, "FIELD_INVALID", "purpose"),
    ("ListPayments", {"payer": "platform"}, "FIELD_INVALID", "payer"),
    ("ListPayments", {"payee": "nobody"}, "FIELD_INVALID", "payee"),
    ("ListPayments", {"state": 77}, "FIELD_INVALID", "state"),
    ("ListPayments", {"page_size": 1001}, "FIELD_INVALID", "page_size"),
    ("ListPayments", {"page_token": "x"}, "PAGE_TOKEN_INVALID", "page_token"),
    ("SetLimits", {"request_id": None}, "FIELD_INVALID", "request_id"),
    ("SetLimits", {"scope": "trades/1"}, "FIELD_INVALID", "scope"),
    ("SetLimits", {"currency": None}, "FIELD_INVALID", "currency"),
    ("SetLimits", {"per_day_minor": -1}, "FIELD_INVALID", "per_day_minor"),
    ("VerifyChain", {"after_sequence": -1}, "FIELD_INVALID", "after_sequence"),
    ("VerifyChain", {"after_sequence": 1}, "FIELD_INVALID", "after_hash"),
    ("VerifyChain", {"after_hash": "0" * 64}, "FIELD_INVALID", "after_hash"),
    ("VerifyChain", {"after_sequence": 1, "after_hash": "0" * 63}, "FIELD_INVALID", "after_hash"),
    ("VerifyChain", {"max_batches": -1}, "FIELD_INVALID", "max_batches"),
    ("GetAudit", {"currency": "cny"}, "FIELD_INVALID", "currency"),
    ("GetAudit", {"currency": "XYZ"}, "CURRENCY_UNKNOWN", "currency"),
    ("GetAudit", {"max_age_seconds": -1}, "FIELD_INVALID", "max_age_seconds"),
    ("GetAssetLoss", {"currency": "XYZ"}, "CURRENCY_UNKNOWN", "currency"),
    ("GetAssetLoss", {"start_time": {"nanos": -1}}, "FIELD_INVALID", "start_time"),
    ("GetAssetLoss", {"start_time": {"seconds": 2}, "end_time": {"seconds": 2}}, "FIELD_INVALID", "end_time"),
    ("ListPrivilegedActions", {"page_size": -1}, "FIELD_INVALID", "page_size"),
    ("ListPrivilegedActions", {"page_size": 1001}, "FIELD_INVALID", "page_size"),
    ("ListPrivilegedActions", {"page_token": "x"}, "PAGE_TOKEN_INVALID", "page_token"),
    ("ListPrivilegedActions", {"actor": "x" * 201}, "FIELD_INVALID", "actor"),
    ("ListPrivilegedActions", {"operation": "freeze it"}, "FIELD_INVALID", "operation"),
    ("ListPrivilegedActions", {"object": "x" * 301}, "FIELD_INVALID", "object"),
    ("ListPrivilegedActions", {"object": "a\0b"}, "FIELD_INVALID", "object"),
    ("ListPrivilegedActions", {"start_time": {"nanos": -1}}, "FIELD_INVALID", "start_time"),
    ("ListPrivilegedActions", {"start_time": {"seconds": 2}, "end_time": {"seconds": 2}}, "FIELD_INVALID", "end_time"),
    ("VerifyPrivilegedActions", {"after_sequence": -1}, "FIELD_INVALID", "after_sequence"),
    ("VerifyPrivilegedActions", {"after_sequence": 1}, "FIELD_INVALID", "after_hash"),
    ("VerifyPrivilegedActions", {"after_hash": "0" * 64}, "FIELD_INVALID", "after_hash"),
    ("VerifyPrivilegedActions", {"after_sequence": 1, "after_hash": "0" * 63}, "FIELD_INVALID", "after_hash"),
    ("VerifyPrivilegedActions", {"max_entries": -1}, "FIELD_INVALID", "max_entries"),
    ("GetLimits", {"scope": None}, "FIELD_INVALID", "scope"),
    ("GetLimits", {"currency": "XYZ"}, "CURRENCY_UNKNOWN", "currency"),
    ("SetLimits", {"scope": None}, "FIELD_INVALID", "scope"),
    ("SetLimits", {"currency": "XYZ"}, "CURRENCY_UNKNOWN", "currency"),
    ("SetLimits", {"per_transaction_minor": -1}, "FIELD_INVALID", "per_transaction_minor"),
    ("SetLimits", {"per_month_minor": -1}, "FIELD_INVALID", "per_month_minor"),
    ("GetLimits", {"scope": "trades/1"}, "FIELD_INVALID", "scope"),
    ("GetLimits", {"currency": None}, "FIELD_INVALID", "currency"),
    ("ListPayments", {"create_time_from": {"seconds": 10**15}}, "FIELD_INVALID", "create_time_from"),
    ("ListPayments", {"create_time_before": {"nanos": -1}}, "FIELD_INVALID", "create_time_before"),
    ("ReverseTransaction", {}, "TRANSACTION_NOT_FOUND", ""),
    ("ReverseTransaction", {"description": "x" * 257}, "FIELD_INVALID", "description"),
    ("ReverseTransaction", {"effective_time": {"seconds": 10**15}}, "FIELD_INVALID", "effective_time"),
    ("ListTransactions", {"owner": None}, "FIELD_INVALID", "account"),
    ("ListTransactions", {"account": WALLET}, "FIELD_INVALID", "account"),
    ("ListTransactions", {"owner": "nobody"}, "FIELD_INVALID", "owner"),
    ("ListTransactions", {"owner": None, "account": f"accounts/{'-' * 36}"}, "FIELD_INVALID", "account"),
    ("ListTransactions", {"owner": None, "account": f"accounts/{NOBODY}"}, "ACCOUNT_NOT_FOUND", ""),
    ("ListTransactions", {"start_time": {"seconds": 10**15}}, "FIELD_INVALID", "start_time"),
    ("ListTransactions", {"end_time": {"seconds": -(10**15)}}, "FIELD_INVALID", "end_time"),
    ("ListTransactions", {"page_size": 1001}, "FIELD_INVALID", "page_size"),
    ("ListTransactions", {"page_token": "x"}, "PAGE_TOKEN_INVALID", "page_token"),
    ("CreateAccount", {"account": None}, "FIELD_INVALID", "account"),
    ("CreateAccount", {"account": NEW | {"owner": "seller"}}, "FIELD_INVALID", "account.owner"),
    ("CreateAccount", {"account": NEW | {"kind": ""}}, "FIELD_INVALID", "account.kind"),
    ("CreateAccount", {"account": NEW | {"currency": ""}}, "FIELD_INVALID", "account.currency"),
    ("CreateAccount", {"account": NEW | {"currency": "XYZ"}}, "CURRENCY_UNKNOWN", "account.currency"),
    ("CreateAccount", {"account": NEW | {"kind": "nonsense"}}, "KIND_NOT_ALLOWED", ""),
    ("CreateAccount", {"account": NEW | {"owner": "trades/1"}}, "KIND_NOT_ALLOWED", ""),
    ("BatchCreateAccounts", {"accounts": None}, "FIELD_INVALID", "accounts"),
    ("BatchCreateAccounts", {"accounts": [NEW] * 1001}, "FIELD_INVALID", "accounts"),
    ("BatchCreateAccounts", {"accounts": [NEW, NEW | {"owner": ""}]}, "FIELD_INVALID", "accounts[1].owner"),
    ("BatchCreateAccounts", {"accounts": [NEW, NEW | {"currency": "X"}]}, "CURRENCY_UNKNOWN", "accounts[1].currency"),
    ("BatchCreateAccounts", {"accounts": [NEW, NEW | {"kind": "?"}]}, "KIND_NOT_ALLOWED", ""),
    ("FreezeAccount", {}, "ACCOUNT_NOT_FOUND", ""),
    ("FreezeAccount", {"scope": 77}, "FIELD_INVALID", "scope"),
    ("FreezeAccount", {"name": CLEARING}, "KIND_NOT_ALLOWED", ""),
    ("UnfreezeAccount", {}, "ACCOUNT_NOT_FOUND", ""),
    ("UnfreezeAccount", {"name": CLEARING}, "KIND_NOT_ALLOWED", ""),
    ("CloseAccount", {}, "ACCOUNT_NOT_FOUND", ""),
    ("CloseAccount", {"name": WALLET}, "ACCOUNT_NOT_EMPTY", ""),
    ("GetBalance", {}, "ACCOUNT_NOT_FOUND", ""),
    ("GetBalance", {"account": None}, "FIELD_INVALID", "account"),
    ("GetBalance", {"account": f"accounts/{'-' * 36}"}, "FIELD_INVALID", "account"),
    ("GetBalance", {"account": WALLET, "recorded_time": {"seconds": 10**15}}, "FIELD_INVALID", "recorded_time"),
    ("GetBalance", {"account": WALLET, "effective_time": {"seconds": -(10**15)}}, "FIELD_INVALID", "effective_time"),
    ("GetAccount", {}, "ACCOUNT_NOT_FOUND", ""),
    ("GetOwner", {"owner": None}, "FIELD_INVALID", "owner"),
    ("GetOwner", {"owner": "platform"}, "FIELD_INVALID", "owner"),
    ("ListAccounts", {"owner": "nobody"}, "FIELD_INVALID", "owner"),
    ("ListAccounts", {"page_size": -1}, "FIELD_INVALID", "page_size"),
    ("ListAccounts", {"page_size": 1001}, "FIELD_INVALID", "page_size"),
    ("ListAccounts", {"page_token": "x"}, "PAGE_TOKEN_INVALID", "page_token"),
    ("ListEntries", {"account": None}, "FIELD_INVALID", "account"),
    ("ListEntries", {"account": f"accounts/{'-' * 36}"}, "FIELD_INVALID", "account"),
    ("ListEntries", {}, "ACCOUNT_NOT_FOUND", ""),
    ("ListEntries", {"page_size": 1001}, "FIELD_INVALID", "page_size"),
    ("GetReconciliation", {}, "RECONCILIATION_NOT_FOUND", ""),
    ("ListReconciliationItems", {}, "RECONCILIATION_NOT_FOUND", ""),
    ("ListReconciliationItems", {"kind": 77}, "FIELD_INVALID", "kind"),
    ("ListReconciliationItems", {"state": 77}, "FIELD_INVALID", "state"),
    ("ListReconciliationItems", {"page_size": 1001}, "FIELD_INVALID", "page_size"),
    ("ResolveReconciliationItem", {}, "RECONCILIATION_ITEM_NOT_FOUND", ""),
    *[
        ("ResolveReconciliationItem", {"name": name}, "FIELD_INVALID", "name")
        for name in (
            None,
            f"reconciliations/{NOBODY}",
            f"reconciliations/{NOBODY}/items/",
            f"reconciliations/{NOBODY}/items/0",
            f"reconciliations/{NOBODY}/items/1x",
            f"reconciliations/{NOBODY}/items/1000000000",
            f"reconciliations/{'-' * 36}/items/1",
            f"items/{NOBODY}",
        )
    ],
    ("ResolveReconciliationItem", {"reason": None}, "FIELD_INVALID", "resolution"),
    ("ResolveReconciliationItem", {"reason": "x" * 257}, "FIELD_INVALID", "reason"),
    ("ResolveReconciliationItem", {"transaction": "x"}, "FIELD_INVALID", "transaction"),
    ("ResolveReconciliationItem", {"transaction": f"transactions/{'-' * 36}"}, "FIELD_INVALID", "transaction"),
    ("ResolveReconciliationItem", {"posting": {}}, "FIELD_INVALID", "posting.legs"),
    (
        "ResolveReconciliationItem",
        {"posting": {"legs": [leg(debit=None)]}},
        "FIELD_INVALID",
        "posting.legs[0].debit",
    ),
    (
        "ResolveReconciliationItem",
        {"posting": {"legs": [leg(amount=money(0))]}},
        "AMOUNT_NOT_POSITIVE",
        "posting.legs[0].amount.amount_minor",
    ),
    (
        "ResolveReconciliationItem",
        {"posting": {"legs": [leg(amount=money(1, "XYZ"))]}},
        "CURRENCY_UNKNOWN",
        "posting.legs[0].amount.currency",
    ),
]


@pytest.mark.parametrize(
    ("method", "fields", "reason", "field"),
    BAD,
    ids=[f"{number}-{method}-{reason}" for number, (method, _, reason, _) in enumerate(BAD)],
)
async def test_bad_input_is_refused_and_changes_nothing(served: PaymentsStack, method, fields, reason, field):
    before = await state(served)
    message = request(method, **fields)
    with pytest.raises(RemoteError) as refused:
        await served.call(method, message, as_=OPERATOR)
    assert refused.value.reason == reason, refused.value
    if field:
        assert refused.value.code == "INVALID_ARGUMENT"
        assert refused.value.metadata["field"] == field
    elif reason.endswith("_NOT_FOUND"):
        assert refused.value.code == "NOT_FOUND"
        assert NOBODY in " ".join(refused.value.metadata.values())
    else:
        assert refused.value.code in ("FAILED_PRECONDITION", "PERMISSION_DENIED")
        assert refused.value.metadata
    assert await state(served) == before


@pytest.mark.parametrize("method", sorted(MESSAGES))
async def test_bytes_that_are_no_message_are_told_so(served: PaymentsStack, method):
    before = await state(served)
    pool = descriptor_pool.Default()
    service = next(
        name
        for name in (ACCOUNTS, LEDGER, PAYMENTS, RECONCILIATIONS, EVENTS, AUDIT)
        if method in pool.FindServiceByName(name).methods_by_name
    )
    raw = served.channel("gateway").unary_unary(f"/{service}/{method}")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await raw(b"\xff\xff\xff", timeout=5, metadata=OPERATOR)
    assert remote_error(refused.value).reason == "MESSAGE_MALFORMED"
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await state(served) == before


@pytest.mark.parametrize("method", [*sorted(MUTATIONS), "BatchExecute"])
async def test_a_mutation_needs_a_deadline(served: PaymentsStack, method):
    fields = {"operations": [{"create_payment": payment(BUYER, SELLER, 1)}]} if method == "BatchExecute" else {}
    with pytest.raises(RemoteError) as refused:
        await served.call(method, request(method, **fields), as_=OPERATOR, timeout=None)
    assert refused.value.reason == "DEADLINE_REQUIRED"


@pytest.mark.parametrize(("sequence", "reason"), [(-1, "FIELD_INVALID"), (10**9, "CURSOR_AHEAD")])
async def test_events_cannot_be_read_from_nowhere(served: PaymentsStack, sequence, reason):
    watch = event_pb2.WatchEventsRequest(cursor=cursor_pb2.Cursor(sequence=sequence))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async for _ in served.stub_method("WatchEvents", "credit")(watch, timeout=5):
            pass
    assert remote_error(refused.value).reason == reason


async def test_a_peer_without_a_role_here_is_not_let_in(served: PaymentsStack):
    with pytest.raises(RemoteError) as refused:
        await served.call("CreatePayment", payment(BUYER, SELLER, 1), peer="stranger", as_=())
    assert refused.value.reason == "PEER_NOT_ALLOWED"


async def test_a_caller_without_roles_moves_nothing(served: PaymentsStack):
    before = await state(served)
    for as_ in ((), (("x-danbao-subject", "buyer"),)):
        for method, message in (
            ("CreatePayment", manual(BUYER, SELLER, 1)),
            ("CreateTopUp", top_up(BUYER, 1)),
            ("PostTransaction", request("PostTransaction")),
        ):
            with pytest.raises(RemoteError) as refused:
                await served.call(method, message, as_=as_)
            assert refused.value.reason == "KIND_NOT_ALLOWED"
    assert await state(served) == before


async def test_headers_from_elsewhere_than_the_gateway_mean_nothing(served: PaymentsStack):
    with pytest.raises(RemoteError) as refused:
        await served.call("PostTransaction", request("PostTransaction"), peer="escrow", as_=OPERATOR)
    assert refused.value.reason == "KIND_NOT_ALLOWED"


@pytest.mark.parametrize("method", ["FreezeAccount", "UnfreezeAccount", "CloseAccount", "SetLimits"])
@pytest.mark.parametrize("roles", ["user", "partner"])
async def test_only_operators_control_accounts_and_limits(served: PaymentsStack, method, roles):
    before = await state(served)
    fields = {} if method == "SetLimits" else {"name": WALLET}
    caller = as_caller(subject="buyer", roles=roles, partner="shop" if roles == "partner" else "")
    with pytest.raises(RemoteError) as refused:
        await served.call(method, request(method, **fields), as_=caller)
    assert refused.value.reason == "KIND_NOT_ALLOWED"
    assert await state(served) == before


async def test_accounts_and_transactions_in_states_that_refuse(stack: PaymentsStack):
    async def refused(method: str, **fields: Any) -> str:
        before = await state(stack)
        with pytest.raises(RemoteError) as error:
            await stack.call(method, request(method, **fields), as_=OPERATOR)
        assert await state(stack) == before
        return error.value.reason

    made = await stack.call("CreateAccount", request("CreateAccount"), as_=OPERATOR)
    await stack.call("FreezeAccount", request("FreezeAccount", name=made.name), as_=OPERATOR)
    assert await refused("CloseAccount", name=made.name) == "ACCOUNT_FROZEN"
    await stack.call("UnfreezeAccount", request("UnfreezeAccount", name=made.name), as_=OPERATOR)
    await stack.call("CloseAccount", request("CloseAccount", name=made.name), as_=OPERATOR)
    for method in ("FreezeAccount", "UnfreezeAccount", "CloseAccount"):
        assert await refused(method, name=made.name) == "ACCOUNT_CLOSED"
    assert await refused("CreateAccount") == "ACCOUNT_CLOSED"
    assert await refused("BatchCreateAccounts") == "ACCOUNT_CLOSED"
    posted = await stack.call("PostTransaction", request("PostTransaction"), as_=OPERATOR)
    await stack.call("ReverseTransaction", request("ReverseTransaction", name=posted.name), as_=OPERATOR)
    assert await refused("ReverseTransaction", name=posted.name) == "ALREADY_REVERSED"


def test_every_method_is_in_the_matrix():
    pool = descriptor_pool.Default()
    methods = {
        method.name
        for service in (ACCOUNTS, LEDGER, PAYMENTS, RECONCILIATIONS, EVENTS, AUDIT)
        for method in pool.FindServiceByName(service).methods
        if not method.server_streaming and not method.client_streaming
    }
    assert methods == set(MESSAGES)
    # These have nothing to get wrong.
    assert methods - {method for method, *_ in BAD} == {"GetTrialBalance", "GetStreamHead"}

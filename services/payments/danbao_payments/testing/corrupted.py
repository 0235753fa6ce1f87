"""Filled books, and ways to corrupt them by one cent or one row: for tests of who audits them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import asyncpg

from danbao.payments.v1 import ledger_pb2, payment_pb2, rail_pb2
from danbao_kit.testing.embedded_postgres import ServiceDatabase
from danbao_payments.domain.audit import Look, Violation
from danbao_payments.rpc.audit import amount_of_reply
from danbao_payments.rpc.codec import PaymentsCodec
from danbao_payments.store.audit import BooksAuditor
from danbao_payments.testing.stack import OPERATOR, PaymentsStack, manual, money, new_id, payment

BUYER, SELLER = "subjects/buyer", "subjects/seller"
WALLET = {"owner": BUYER, "kind": "user.available"}
SUSPENSE = {"owner": "platform", "kind": "suspense"}
FUND = {"owner": "platform", "kind": "guarantee.fund"}
FEE = {"owner": "platform", "kind": "fee.payment"}
FIRST = ledger_pb2.REMAINDER_POLICY_FIRST
NOW = datetime(2030, 1, 1, tzinfo=UTC)
NEW = "019a0000-0000-7000-8000-000000000000"


def post(*legs: dict[str, Any]) -> ledger_pb2.PostTransactionRequest:
    """A transaction of these legs."""
    return ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=legs)


def withdrawal(minor: int, **others: Any) -> rail_pb2.CreateWithdrawalRequest:
    """A withdrawal of the buyer's."""
    fields = {"owner": BUYER, "kind": "user.available", "amount": money(minor), "rail": "rails/simulated"}
    return rail_pb2.CreateWithdrawalRequest(request_id=new_id(), **(fields | others))


async def fill(stack: PaymentsStack) -> None:
    """Something of everything, each thing to be found again by its amount."""
    brought = await stack.fund(BUYER, 100_000)
    await stack.fund(BUYER, 5_000, "USD")
    part = payment_pb2.RefundTopUpRequest(request_id=new_id(), name=brought.name, amount=money(300))
    await stack.call("RefundTopUp", part)
    await stack.call("CreateWithdrawal", withdrawal(400))
    await stack.call("CreateWithdrawal", withdrawal(70, instrument="silent"), timeout=1)
    await stack.call("CreateWithdrawal", withdrawal(90, instrument="decline"))
    paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 1_000))
    back = payment_pb2.RefundPaymentRequest(request_id=new_id(), name=paid.name, amount=money(250))
    await stack.call("RefundPayment", back)
    seller = {"owner": SELLER, "kind": "user.available"}
    splits = [
        {"destination": FEE, "basis_points": 250},
        {"destination": {"owner": "platform", "kind": "tax.payable"}, "fixed_minor": 10},
        {"destination": seller, "remaining": True},
    ]
    held = await stack.call("CreatePayment", manual(BUYER, SELLER, 3_000, splits=splits, remainder_policy=FIRST))
    part = {"name": held.name, "amount": money(1_200), "final": False}
    await stack.call("CapturePayment", payment_pb2.CapturePaymentRequest(request_id=new_id(), **part))
    over = await stack.call("CreatePayment", manual(BUYER, SELLER, 77))
    await stack.call("VoidPayment", payment_pb2.VoidPaymentRequest(request_id=new_id(), name=over.name))
    given = await stack.call(
        "PostTransaction", post({"debit": SUSPENSE, "credit": WALLET, "amount": money(40)}), as_=OPERATOR
    )
    await stack.call("PostTransaction", post({"debit": SUSPENSE, "credit": FUND, "amount": money(9_000)}), as_=OPERATOR)
    helped = {"debit": FUND, "credit": WALLET, "amount": money(500), "payment": paid.name}
    await stack.call("PostTransaction", post({**helped, "purpose": ledger_pb2.PURPOSE_COMPENSATION}), as_=OPERATOR)
    undo = ledger_pb2.ReverseTransactionRequest(request_id=new_id(), name=given.name)
    await stack.call("ReverseTransaction", undo, as_=OPERATOR)
    carded = await stack.call("CreatePayment", payment(BUYER, SELLER, 600, rail="rails/simulated", instrument="ok"))
    while carded.state != payment_pb2.Payment.STATE_CAPTURED:
        await asyncio.sleep(0.05)
        carded = await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=carded.name))
    lost = {"movement": carded.name, "result": rail_pb2.RAIL_RESULT_CHARGEBACK, "amount": money(150)}
    await stack.call("ReportRailResult", rail_pb2.ReportRailResultRequest(request_id=new_id(), **lost), as_=OPERATOR)
    back = payment_pb2.RefundPaymentRequest(request_id=new_id(), name=carded.name, amount=money(50))
    await stack.call("RefundPayment", back)
    while carded.refunds_settled_minor != 50:
        await asyncio.sleep(0.05)
        carded = await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=carded.name))
    await stack.call("CreatePayment", payment(BUYER, SELLER, 10))


async def run(database: ServiceDatabase, *statements: str) -> list[asyncpg.Record]:
    """As the tables' owner; what the last one gives."""
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetch(statements[-1])
    finally:
        await connection.close()


def auditor_of(database: ServiceDatabase) -> BooksAuditor:
    """An auditor as the service has it."""
    return BooksAuditor(database.dsn, partial(amount_of_reply, PaymentsCodec().parse_reply))


async def look_at(database: ServiceDatabase, **others: Any) -> Look:
    """One look at all."""
    return await auditor_of(database).look(now=NOW, **others)


def told(look: Look) -> dict[str, list[Violation]]:
    """By check."""
    found: dict[str, list[Violation]] = {}
    for violation in look.violations():
        found.setdefault(violation.rule.name, []).append(violation)
    return found


@dataclass
class Way:
    """One way to corrupt the books: by which statements, what finds it, and where, by how much."""

    how: tuple[str, ...]
    checks: set[str]
    by: str
    invariant: int
    where: str
    off_minor: int = 0


IN_WALLET = "owner = 'subjects/buyer' AND kind = 'user.available' AND currency = 'CNY'"
PAID = "amount_minor = 1000 AND captured_minor = 1000"
PAID_ROW = "amount_minor = 1000 AND kind = 'POSTED' AND purpose = ''"
_COLUMNS = """SELECT string_agg(column_name, ', ') FROM information_schema.columns WHERE table_name = """


def again(table: str, where: str, **other: str) -> str:
    """Inserts a copy of a row with some columns replaced."""
    changed = ", ".join(f"'{name}', {value}" for name, value in other.items())
    return (
        f"INSERT INTO {table} SELECT (jsonb_populate_record(t, jsonb_build_object({changed}))).*"
        f" FROM {table} AS t WHERE {where}"
    )


WAYS: dict[str, Way] = {
    "an account's total": Way(
        (f"UPDATE accounts SET credits_posted = credits_posted + 1 WHERE {IN_WALLET}",),
        {"balanced", "totals"},
        "totals",
        3,
        f"SELECT 'accounts/' || id FROM accounts WHERE {IN_WALLET}",
        1,
    ),
    "the sum over all accounts": Way(
        (f"UPDATE accounts SET credits_posted = credits_posted + 1 WHERE {IN_WALLET}",),
        {"balanced", "totals"},
        "balanced",
        1,
        "SELECT 'currencies/CNY'",
        1,
    ),
    "an account's pending total": Way(
        (f"UPDATE accounts SET debits_pending = debits_pending + 1 WHERE {IN_WALLET}",),
        {"balanced", "totals", "holds"},
        "totals",
        3,
        f"SELECT 'accounts/' || id FROM accounts WHERE {IN_WALLET}",
        1,
    ),
    "a transfer's amount": Way(
        (f"UPDATE transfers SET amount_minor = amount_minor + 1 WHERE {PAID_ROW}",),
        {"totals", "steps", "chain", "captured"},
        "steps",
        3,
        f"SELECT 'transfers/' || sequence FROM transfers WHERE {PAID_ROW}",
        1,
    ),
    "a hold's amount": Way(
        ("UPDATE transfers SET amount_minor = amount_minor + 1 WHERE kind = 'PENDING' AND amount_minor = 1800",),
        {"totals", "steps", "chain", "hold_of_a_payment"},
        "hold_of_a_payment",
        0,
        "SELECT 'payments/' || id FROM payments WHERE hold_id IS NOT NULL",
        1,
    ),
    "a transfer's total": Way(
        (f"UPDATE transfers SET debit_credits_posted = debit_credits_posted + 1 WHERE {PAID_ROW}",),
        {"steps", "chain"},
        "steps",
        3,
        f"SELECT 'transfers/' || sequence FROM transfers WHERE {PAID_ROW}",
        1,
    ),
    "a transfer's time": Way(
        ("UPDATE transfers SET effective_time = create_time - interval '1 day' WHERE amount_minor = 40",),
        {"chain"},
        "chain",
        18,
        "SELECT 'transfers/' || min(sequence) FROM transfers WHERE amount_minor = 40",
    ),
    "a transfer deleted": Way(
        ("DELETE FROM transfers WHERE amount_minor = 9000",),
        {"totals", "steps", "chain", "whole_transactions"},
        "chain",
        18,
        "SELECT 'transfers/' || sequence FROM transfers WHERE amount_minor = 9000",
    ),
    "the last transfer deleted": Way(
        ("DELETE FROM transfers WHERE sequence = (SELECT max(sequence) FROM transfers)",),
        {"totals", "chain", "whole_transactions", "captured"},
        "totals",
        3,
        f"SELECT 'accounts/' || id FROM accounts WHERE {IN_WALLET}",
        10,
    ),
    "a transfer inserted": Way(
        (again("transfers", "amount_minor = 9000", sequence="(SELECT max(sequence) + 1 FROM transfers)"),),
        {"totals", "steps", "chain", "whole_transactions"},
        "chain",
        18,
        "SELECT 'transfers/' || max(sequence) + 1 FROM transfers",
    ),
    "a transfer's currency": Way(
        (f"UPDATE transfers SET currency = 'USD' WHERE {PAID_ROW}",),
        {"two_sides", "chain"},
        "two_sides",
        2,
        f"SELECT 'transfers/' || sequence FROM transfers WHERE {PAID_ROW}",
        1_000,
    ),
    "an account gone": Way(
        ("DELETE FROM accounts WHERE owner = 'platform' AND kind = 'tax.payable'",),
        {"balanced", "two_sides"},
        "two_sides",
        2,
        "SELECT 'transfers/' || sequence FROM transfers JOIN accounts ON id = credit_account"
        " WHERE accounts.kind = 'tax.payable'",
        10,
    ),
    "what a payment gave back": Way(
        (f"UPDATE payments SET refunded_minor = refunded_minor + 1 WHERE {PAID}",),
        {"refunded"},
        "refunded",
        0,
        f"SELECT 'payments/' || id FROM payments WHERE {PAID}",
        1,
    ),
    "what was charged back": Way(
        ("UPDATE payments SET charged_back_minor = charged_back_minor + 1 WHERE rail <> ''",),
        {"refunded"},
        "refunded",
        0,
        "SELECT 'payments/' || id FROM payments WHERE rail <> ''",
        1,
    ),
    "what a rail brought for a payment": Way(
        ("UPDATE payments SET captured_minor = captured_minor - 1 WHERE rail <> ''",),
        {"captured", "standing"},
        "captured",
        0,
        "SELECT 'payments/' || id FROM payments WHERE rail <> ''",
        1,
    ),
    "what a rail paid back of a payment": Way(
        ("UPDATE payments SET refunds_settled_minor = refunds_settled_minor - 1 WHERE rail <> ''",),
        {"refunds_over_rails"},
        "refunds_over_rails",
        0,
        "SELECT 'payments/' || id FROM payments WHERE rail <> ''",
        1,
    ),
    "what a payment captured": Way(
        (f"UPDATE payments SET captured_minor = captured_minor + 1, authorized_minor = 1001 WHERE {PAID}",),
        {"captured", "standing"},
        "captured",
        0,
        f"SELECT 'payments/' || id FROM payments WHERE {PAID}",
        1,
    ),
    "what a part captured": Way(
        ("UPDATE payments SET parts = jsonb_set(parts, '{1,captured_minor}', '11') WHERE parts IS NOT NULL",),
        {"parts"},
        "parts",
        0,
        "SELECT 'payments/' || id FROM payments WHERE parts IS NOT NULL",
        1,
    ),
    "what went back beyond what was taken": Way(
        ("UPDATE transfers SET amount_minor = 501 WHERE amount_minor = 250 AND purpose = 'REFUND'",),
        {"totals", "steps", "chain", "refunded", "not_overpaid"},
        "not_overpaid",
        0,
        f"SELECT 'payments/' || id FROM payments WHERE {PAID}",
        1,
    ),
    "what a payment holds": Way(
        ("UPDATE payments SET released_minor = released_minor + 1 WHERE hold_id IS NOT NULL",),
        {"holds", "hold_of_a_payment"},
        "holds",
        0,
        f"SELECT 'accounts/' || id FROM accounts WHERE {IN_WALLET}",
        1,
    ),
    "a batch's hash": Way(
        (
            "UPDATE ledger_batches SET hash = sha256(hash) WHERE last_sequence ="
            " (SELECT max(last_sequence) FROM ledger_batches)",
        ),
        {"chain"},
        "chain",
        18,
        "SELECT 'ledgerBatches/' || max(last_sequence) FROM ledger_batches",
    ),
    "a batch deleted": Way(
        ("DELETE FROM ledger_batches WHERE first_sequence = 3",),
        {"chain"},
        "chain",
        18,
        "SELECT 'transfers/3'",
    ),
    "a payment made twice for one request": Way(
        (again("payments", PAID, id=f"'{NEW}'"),),
        {"payment_of_a_request", "captured", "refunded"},
        "payment_of_a_request",
        8,
        f"SELECT 'payments/{NEW}'",
        1_000,
    ),
    "a payment whose request is gone": Way(
        (
            "DELETE FROM request_records"
            f" WHERE position((SELECT id::text FROM payments WHERE {PAID})::bytea IN reply) > 0",
        ),
        {"payment_of_a_request", "transaction_of_a_request"},
        "payment_of_a_request",
        8,
        f"SELECT 'payments/' || id FROM payments WHERE {PAID}",
        1_000,
    ),
    "a refund whose request is gone": Way(
        ("DELETE FROM request_records WHERE method = 'RefundPayment'",),
        {"transaction_of_a_request"},
        "transaction_of_a_request",
        8,
        "SELECT 'transactions/' || transaction_id FROM transfers WHERE purpose = 'REFUND' AND amount_minor = 250",
        250,
    ),
    "a posting whose request is gone": Way(
        ("DELETE FROM request_records WHERE method = 'ReverseTransaction'",),
        {"transaction_of_a_request"},
        "transaction_of_a_request",
        8,
        "SELECT 'transactions/' || id FROM transactions WHERE reverses IS NOT NULL",
        40,
    ),
    "a request recorded twice": Way(
        (again("request_records", "method = 'ReverseTransaction'", key="'\\x00'"),),
        {"one_record"},
        "one_record",
        8,
        "SELECT 'requests/' || caller || '/' || method || '/' || request_id FROM request_records"
        " WHERE method = 'ReverseTransaction'",
    ),
    "a payment gone that was acknowledged": Way(
        ("DELETE FROM payments WHERE amount_minor = 77",),
        {"answers_stand"},
        "answers_stand",
        13,
        "SELECT 'requests/' || caller || '/' || method || '/' || request_id FROM request_records"
        " WHERE method = 'VoidPayment'",
        77,
    ),
    "a transaction gone that was acknowledged": Way(
        ("DELETE FROM transactions WHERE reverses IS NOT NULL",),
        {"answers_stand", "whole_transactions"},
        "answers_stand",
        13,
        "SELECT 'requests/' || caller || '/' || method || '/' || request_id FROM request_records"
        " WHERE method = 'ReverseTransaction'",
        40,
    ),
    "a top-up made twice for one request": Way(
        (again("top_ups", "amount_minor = 100000", id=f"'{NEW}'", create_time="'2040-01-01'"),),
        {"movement_once", "booked_once", "refunds_over_rails"},
        "movement_once",
        8,
        f"SELECT 'topUps/{NEW}'",
        100_000,
    ),
    "a booking of what a rail refused": Way(
        ("UPDATE top_ups SET state = 'FAILED' WHERE amount_minor = 5000",),
        {"booked_once"},
        "booked_once",
        8,
        "SELECT 'topUps/' || id FROM top_ups WHERE amount_minor = 5000",
        5_000,
    ),
    "a withdrawal that nobody owes any more": Way(
        ("UPDATE withdrawals SET state = 'FAILED' WHERE amount_minor = 70",),
        {"on_its_way", "withdrawn"},
        "on_its_way",
        0,
        "SELECT 'accounts/' || id FROM accounts WHERE kind = 'clearing.payout'",
        70,
    ),
    "a withdrawal paid twice": Way(
        ("UPDATE withdrawals SET amount_minor = 200 WHERE amount_minor = 400",),
        {"booked_once", "withdrawn"},
        "booked_once",
        8,
        "SELECT 'withdrawals/' || id FROM withdrawals WHERE amount_minor = 400",
        200,
    ),
    "a withdrawal that came back by itself": Way(
        ("UPDATE withdrawals SET state = 'RETURNED' WHERE amount_minor = 400",),
        {"withdrawn"},
        "withdrawn",
        0,
        "SELECT 'withdrawals/' || id FROM withdrawals WHERE amount_minor = 400",
        400,
    ),
    "what a rail refused to pay": Way(
        ("UPDATE withdrawals SET amount_minor = 91 WHERE amount_minor = 90",),
        {"withdrawn"},
        "withdrawn",
        0,
        "SELECT 'withdrawals/' || id FROM withdrawals WHERE amount_minor = 90",
        1,
    ),
    "a top-up that was never settled": Way(
        ("UPDATE top_ups SET settle_time = create_time WHERE amount_minor = 5000",),
        {"settled"},
        "settled",
        0,
        "SELECT 'topUps/' || id FROM top_ups WHERE amount_minor = 5000",
        5_000,
    ),
    "a payment that was never settled": Way(
        ("UPDATE payments SET settle_time = create_time WHERE rail <> ''",),
        {"settled"},
        "settled",
        0,
        "SELECT 'payments/' || id FROM payments WHERE rail <> ''",
        600,
    ),
    "a captured payment voided": Way(
        (f"UPDATE payments SET state = 'VOIDED' WHERE {PAID}",),
        {"standing"},
        "standing",
        0,
        f"SELECT 'payments/' || id FROM payments WHERE {PAID}",
    ),
    "a voided payment captured": Way(
        ("UPDATE payments SET state = 'CAPTURED' WHERE amount_minor = 77",),
        {"standing"},
        "standing",
        0,
        "SELECT 'payments/' || id FROM payments WHERE amount_minor = 77",
    ),
    "what a payment was about": Way(
        (f"UPDATE payments SET amount_minor = amount_minor + 1 WHERE {PAID}",),
        {"standing"},
        "standing",
        0,
        f"SELECT 'payments/' || id FROM payments WHERE {PAID}",
        1,
    ),
    "what a voided payment was about": Way(
        ("UPDATE payments SET amount_minor = 78, authorized_minor = 78, released_minor = 78 WHERE amount_minor = 77",),
        {"standing"},
        "standing",
        0,
        "SELECT 'payments/' || id FROM payments WHERE amount_minor = 77",
        1,
    ),
    "what fell free": Way(
        ("UPDATE payments SET released_minor = released_minor - 1 WHERE amount_minor = 77",),
        {"standing"},
        "standing",
        0,
        "SELECT 'payments/' || id FROM payments WHERE amount_minor = 77",
        1,
    ),
    "what a rail was to bring": Way(
        ("UPDATE payments SET amount_minor = amount_minor + 1 WHERE rail <> ''",),
        {"standing", "booked_once"},
        "booked_once",
        8,
        "SELECT 'payments/' || id FROM payments WHERE rail <> ''",
        1,
    ),
    "an account closed over its money": Way(
        ("UPDATE accounts SET state = 'CLOSED' WHERE owner = 'subjects/seller' AND kind = 'user.available'",),
        {"closed"},
        "closed",
        0,
        "SELECT 'accounts/' || id FROM accounts WHERE owner = 'subjects/seller' AND kind = 'user.available'",
        2_320,
    ),
    "an account that another partner's owner has": Way(
        ("UPDATE accounts SET partner = 'rival' WHERE owner = 'subjects/seller' AND kind = 'user.available'",),
        {"owners"},
        "owners",
        0,
        "SELECT 'accounts/' || id FROM accounts WHERE owner = 'subjects/seller' AND kind = 'user.available'",
        0,
    ),
    "a refund on its way again": Way(
        ("UPDATE rail_refunds SET state = 'PENDING'",),
        {"on_its_way", "refunds_over_rails", "booked_once"},
        "refunds_over_rails",
        0,
        "SELECT 'topUps/' || id FROM top_ups WHERE amount_minor = 100000",
        300,
    ),
    "what went back of a top-up": Way(
        ("UPDATE top_ups SET refunded_minor = refunded_minor + 1 WHERE amount_minor = 100000",),
        {"refunds_over_rails"},
        "refunds_over_rails",
        0,
        "SELECT 'topUps/' || id FROM top_ups WHERE amount_minor = 100000",
        1,
    ),
    "what a rail took back": Way(
        ("UPDATE top_ups SET returned_minor = 99700 + 1 WHERE amount_minor = 100000",),
        {"returned", "not_overpaid"},
        "not_overpaid",
        0,
        "SELECT 'topUps/' || id FROM top_ups WHERE amount_minor = 100000",
        1,
    ),
    "a debt to the fund": Way(
        ("UPDATE accounts SET debits_posted = debits_posted + 1 WHERE kind = 'receivable.guarantee'",),
        {"balanced", "totals", "fund"},
        "fund",
        0,
        "SELECT 'accounts/' || id FROM accounts WHERE kind = 'fund.recoverable'",
        1,
    ),
    "something left in clearing": Way(
        ("UPDATE accounts SET credits_posted = credits_posted + 1 WHERE kind = 'clearing.capture'",),
        {"balanced", "totals", "nothing_left"},
        "nothing_left",
        0,
        "SELECT 'accounts/' || id FROM accounts WHERE kind = 'clearing.capture'",
        1,
    ),
    "a wallet below zero": Way(
        (
            "ALTER TABLE accounts DROP CONSTRAINT credits_cover_debits",
            f"UPDATE accounts SET debits_posted = credits_posted - debits_pending + 1 WHERE {IN_WALLET}",
        ),
        {"balanced", "totals", "never_negative"},
        "never_negative",
        4,
        f"SELECT 'accounts/' || id FROM accounts WHERE {IN_WALLET}",
        1,
    ),
    "a rule changed": Way(
        (f"UPDATE accounts SET rule = 'NONE' WHERE {IN_WALLET}",),
        {"never_negative"},
        "never_negative",
        4,
        f"SELECT 'accounts/' || id FROM accounts WHERE {IN_WALLET}",
    ),
    "an event gone": Way(
        ("DELETE FROM events WHERE sequence = 2",),
        {"events_gapless"},
        "events_gapless",
        10,
        "SELECT 'events/2'",
    ),
    "the last event gone": Way(
        ("DELETE FROM events WHERE sequence = (SELECT max(sequence) FROM events)",),
        {"events_gapless"},
        "events_gapless",
        10,
        "SELECT 'events/' || max(sequence) FROM events",
    ),
}

"""Every state of a payment × everything that can be asked of it, through the RPCs, alone and within a batch.

A cell is where it leads, as state and what is captured, released and refunded of 100, or why it is refused; a refusal
leaves every row of the books as it was.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from danbao.payments.v1 import ledger_pb2, payment_pb2
from danbao_kit.rpc_client import RemoteError
from danbao_kit.rpc_status import reason_of
from danbao_payments.testing.stack import OPERATOR, PaymentsStack, manual, money, new_id, payment

BUYER, SELLER = "subjects/buyer", "subjects/seller"
LIFETIME_S = 60
NOBODY = "019a0000-0000-7000-8000-000000000000"
# How the simulated rail is to behave, so that a payment comes to this state.
INSTRUMENTS = {"PENDING": "silent", "DECLINED": "decline"}
# Requests that were refused are remembered; everything else stays as it was.
TABLES = ("accounts", "transfers", "transactions", "ledger_batches", "payments", "events", "limits", "limit_usage")

# Of 100: what the payment is before, as (state, captured, released, refunded).
BEFORE: dict[str, tuple[str, int, int, int]] = {
    "AUTHORIZED": ("AUTHORIZED", 0, 0, 0),
    "PARTIALLY_CAPTURED": ("PARTIALLY_CAPTURED", 40, 0, 0),
    "CAPTURED": ("CAPTURED", 100, 0, 0),
    "CAPTURED, THE REST VOIDED": ("CAPTURED", 40, 60, 0),
    "CAPTURED AND REFUNDED": ("CAPTURED", 100, 0, 100),
    "VOIDED": ("VOIDED", 0, 100, 0),
    "EXPIRED": ("EXPIRED", 0, 100, 0),
    "PENDING": ("PENDING", 0, 0, 0),
    "DECLINED": ("DECLINED", 0, 0, 0),
}
COMMANDS = ("CAPTURE 50", "CAPTURE PART 30", "VOID", "REFUND 10", "LEGS BACK 10", "REVERSE", "TIME")

# What time does to a payment that holds nothing is nothing.
_NOTHING = "NOTHING"
# fmt: off
CELLS: dict[str, tuple[Any, ...]] = {
    "AUTHORIZED": (
        ("CAPTURED", 50, 50, 0), ("PARTIALLY_CAPTURED", 30, 0, 0), ("VOIDED", 0, 100, 0),
        "PAYMENT_STATE_INVALID", "PAYMENT_STATE_INVALID", "KIND_NOT_ALLOWED", ("EXPIRED", 0, 100, 0)),
    "PARTIALLY_CAPTURED": (
        ("CAPTURED", 90, 10, 0), ("PARTIALLY_CAPTURED", 70, 0, 0), ("CAPTURED", 40, 60, 0),
        ("PARTIALLY_CAPTURED", 40, 0, 10), ("PARTIALLY_CAPTURED", 40, 0, 10), "KIND_NOT_ALLOWED",
        ("CAPTURED", 40, 60, 0)),
    "CAPTURED": (
        "HOLD_ALREADY_CAPTURED", "HOLD_ALREADY_CAPTURED", "HOLD_ALREADY_CAPTURED",
        ("CAPTURED", 100, 0, 10), ("CAPTURED", 100, 0, 10), ("CAPTURED", 100, 0, 100), _NOTHING),
    "CAPTURED, THE REST VOIDED": (
        "HOLD_ALREADY_CAPTURED", "HOLD_ALREADY_CAPTURED", "HOLD_ALREADY_CAPTURED",
        ("CAPTURED", 40, 60, 10), ("CAPTURED", 40, 60, 10), "KIND_NOT_ALLOWED", _NOTHING),
    "CAPTURED AND REFUNDED": (
        "HOLD_ALREADY_CAPTURED", "HOLD_ALREADY_CAPTURED", "HOLD_ALREADY_CAPTURED",
        "REFUND_AMOUNT_EXCEEDED", "REFUND_AMOUNT_EXCEEDED", "KIND_NOT_ALLOWED", _NOTHING),
    "VOIDED": (
        "HOLD_ALREADY_VOIDED", "HOLD_ALREADY_VOIDED", "HOLD_ALREADY_VOIDED",
        "PAYMENT_STATE_INVALID", "PAYMENT_STATE_INVALID", "KIND_NOT_ALLOWED", _NOTHING),
    "EXPIRED": (
        "HOLD_EXPIRED", "HOLD_EXPIRED", "HOLD_EXPIRED",
        "PAYMENT_STATE_INVALID", "PAYMENT_STATE_INVALID", "KIND_NOT_ALLOWED", _NOTHING),
    # The rail has not said whether it brings the money; what it says of a voided one does not count any more.
    "PENDING": (
        "PAYMENT_STATE_INVALID", "PAYMENT_STATE_INVALID", ("VOIDED", 0, 0, 0),
        "PAYMENT_STATE_INVALID", "PAYMENT_STATE_INVALID", "TRANSACTION_NOT_FOUND", _NOTHING),
    "DECLINED": (
        "PAYMENT_STATE_INVALID", "PAYMENT_STATE_INVALID", "PAYMENT_STATE_INVALID",
        "PAYMENT_STATE_INVALID", "PAYMENT_STATE_INVALID", "TRANSACTION_NOT_FOUND", _NOTHING),
}
# fmt: on
MATRIX = [(before, command, cell) for before, row in CELLS.items() for command, cell in zip(COMMANDS, row, strict=True)]


async def made(stack: PaymentsStack, before: str) -> payment_pb2.Payment:
    """A payment of 100 in this state."""
    if before in INSTRUMENTS:
        over_rail = {"rail": "rails/simulated", "instrument": INSTRUMENTS[before]}
        paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 100, **over_rail))
    elif before in ("CAPTURED", "CAPTURED AND REFUNDED"):
        paid = await stack.call("CreatePayment", payment(BUYER, SELLER, 100))
    else:
        paid = await stack.call("CreatePayment", manual(BUYER, SELLER, 100, hold_lifetime={"seconds": LIFETIME_S}))
    name = {"request_id": new_id(), "name": paid.name}
    if before in ("PARTIALLY_CAPTURED", "CAPTURED, THE REST VOIDED"):
        part = payment_pb2.CapturePaymentRequest(**name, amount=money(40), final=False)
        paid = await stack.call("CapturePayment", part)
    if before in ("VOIDED", "CAPTURED, THE REST VOIDED"):
        paid = await stack.call("VoidPayment", payment_pb2.VoidPaymentRequest(**name))
    if before == "CAPTURED AND REFUNDED":
        paid = await stack.call("RefundPayment", payment_pb2.RefundPaymentRequest(**name))
    if before == "EXPIRED":
        await stack.advance(LIFETIME_S)
    while True:
        shown = await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=paid.name))
        if before != "DECLINED" or shown.state != payment_pb2.Payment.STATE_PENDING:
            break
        await asyncio.sleep(0.02)
    assert summary(shown) == BEFORE[before]
    return shown


def asked(command: str, on: payment_pb2.Payment) -> tuple[str, Any]:
    """The RPC and its request."""
    name: dict[str, Any] = {"request_id": new_id(), "name": on.name}
    if command == "LEGS BACK 10":
        leg = {
            "debit": {"owner": SELLER, "kind": "user.available"},
            "credit": {"owner": BUYER, "kind": "user.available"},
            "amount": money(10),
            "payment": on.name,
            "purpose": ledger_pb2.PURPOSE_DISPUTE,
        }
        return "PostTransaction", ledger_pb2.PostTransactionRequest(request_id=new_id(), legs=[leg])
    if command == "REVERSE":
        name["name"] = on.last_transaction or f"transactions/{NOBODY}"
        return "ReverseTransaction", ledger_pb2.ReverseTransactionRequest(**name)
    if command == "VOID":
        return "VoidPayment", payment_pb2.VoidPaymentRequest(**name)
    if command == "REFUND 10":
        return "RefundPayment", payment_pb2.RefundPaymentRequest(**name, amount=money(10))
    part = command == "CAPTURE PART 30"
    request = payment_pb2.CapturePaymentRequest(**name, amount=money(30 if part else 50), final=not part)
    return "CapturePayment", request


async def tell(stack: PaymentsStack, method: str, request: Any, *, within_a_batch: bool) -> str:
    """OK, or why not."""
    try:
        if not within_a_batch:
            await stack.call(method, request, as_=OPERATOR)
            return "OK"
        operation = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in method).lstrip("_")
        batch = payment_pb2.BatchExecuteRequest(operations=[{operation: request}])
        result = (await stack.call("BatchExecute", batch, as_=OPERATOR)).results[0]
        return reason_of(result.error)[0] if result.WhichOneof("result") == "error" else "OK"
    except RemoteError as error:
        return error.reason


def summary(shown: payment_pb2.Payment) -> tuple[str, int, int, int]:
    state = payment_pb2.Payment.State.Name(shown.state).removeprefix("STATE_")
    return state, shown.captured_minor, shown.released_minor, shown.refunded_minor


async def rows(stack: PaymentsStack) -> list[Any]:
    return await stack.sql(" UNION ALL ".join(f"SELECT t::text AS row FROM {table} t" for table in TABLES))


@pytest.mark.parametrize(("before", "command", "cell"), MATRIX, ids=[f"{b}: {c}" for b, c, _ in MATRIX])
async def test_state_and_command(stack: PaymentsStack, before: str, command: str, cell: Any):
    await stack.fund(BUYER, 1000)
    for within_a_batch in [False] if command == "TIME" else [False, True]:
        on = await made(stack, before)
        books = await rows(stack)
        has = {owner: await stack.available(owner) for owner in (BUYER, SELLER)}
        if command == "TIME":
            await stack.advance(LIFETIME_S)
        else:
            told = await tell(stack, *asked(command, on), within_a_batch=within_a_batch)
            assert told == (cell if isinstance(cell, str) else "OK")
        if isinstance(cell, str):
            assert await rows(stack) == books
            continue
        after = await stack.call("GetPayment", payment_pb2.GetPaymentRequest(name=on.name))
        assert summary(after) == cell
        assert await stack.available(BUYER) == has[BUYER] - not_free(after) + not_free(on)
        assert await stack.available(SELLER) == has[SELLER] + received(after) - received(on)


def not_free(shown: payment_pb2.Payment) -> int:
    """What the payer lacks of it: held, or paid and not given back."""
    return shown.authorized_minor - shown.released_minor - shown.refunded_minor


def received(shown: payment_pb2.Payment) -> int:
    return shown.captured_minor - shown.refunded_minor


def test_every_state_and_command_has_a_cell():
    states = {name.removeprefix("STATE_") for name in dict(payment_pb2.Payment.State.items())} - {"UNSPECIFIED"}
    assert {state for state, *_ in BEFORE.values()} == states
    assert {(before, command) for before, command, _ in MATRIX} == {(b, c) for b in BEFORE for c in COMMANDS}

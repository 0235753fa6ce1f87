"""Every RPC, given its working body with one thing wrong: refused with a reason of its own, and nothing has changed."""

import copy
import re
import uuid
from collections.abc import Iterator

import pytest

from danbao_local.calls import EXAMPLES
from danbao_local.client import CallFailed, GatewayClient
from danbao_local.demo import new_id

HEADS = ("danbao.payments.v1.EventService/GetStreamHead", "danbao.escrow.v1.EventService/GetStreamHead")
NAMES = ("name", "trade", "account")
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOUNS = (
    "ACCOUNT",
    "PAYMENT",
    "TOP_UP",
    "TRANSACTION",
    "TRADE",
    "CASE",
    "DISPUTE",
    "CLAIM",
    "CHECKOUT",
    "WITHDRAWAL",
    "RECONCILIATION",
    "RECONCILIATION_ITEM",
    "MOVEMENT",
    "MEMBERSHIP",
    "APPEAL",
    "CONSENT",
    "MODEL_VERSION",
)
# A filter, though without it a list is as good.
MAY_BE_LEFT_OUT = {("danbao.credit.v1.SubjectRightsService/ListAppeals", "subject")}


def places(body, path=()) -> Iterator[tuple]:
    """The path of every value in a body."""
    if isinstance(body, dict):
        for key, value in body.items():
            yield (*path, key)
            yield from places(value, (*path, key))
    elif isinstance(body, list):
        for index, value in enumerate(body):
            yield from places(value, (*path, index))


def value_at(body, path):
    for part in path:
        body = body[part]
    return body


def changed(body, path, value):
    """The body with another value at the path; None removes it. With a request id of its own."""
    copied = copy.deepcopy(body)
    if "requestId" in copied:
        copied["requestId"] = new_id()
    parent = value_at(copied, path[:-1])
    if value is None:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return copied


ZERO = {"AMOUNT_NOT_POSITIVE", "AMOUNT_MISMATCH"}
MISSING = {"FIELD_INVALID", "AMOUNT_MISMATCH"}


def mistakes(rpc, body):
    """(what is wrong, the body, the code and reasons that it must be given)."""
    for path in places(body):
        if {"operations", "requests", "events"} & set(path):
            continue  # answered in their place; the services' own tests look at them
        key, where = path[-1], ".".join(map(str, path))
        value = value_at(body, path)
        if key == "amountMinor":
            if value:  # postage may be nothing
                yield (
                    f"{where} zero",
                    changed(body, path, 0),
                    "INVALID_ARGUMENT",
                    {"AMOUNT_NOT_POSITIVE", "AMOUNT_MISMATCH"},
                )
            yield (
                f"{where} negative",
                changed(body, path, -5),
                "INVALID_ARGUMENT",
                {
                    "AMOUNT_NOT_POSITIVE",
                    "AMOUNT_MISMATCH",
                    "FIELD_INVALID",
                },
            )
        elif key == "currency":
            yield f"{where} unknown", changed(body, path, "ZZZ"), "INVALID_ARGUMENT", {"CURRENCY_UNKNOWN"}
            if set(body) != {"currency"}:  # a filter may be left out
                yield f"{where} missing", changed(body, path, None), "INVALID_ARGUMENT", {"FIELD_INVALID"}
        elif key in NAMES and isinstance(value, str) and "/" in value:
            unknown = UUID.sub(str(uuid.uuid4()), value) if UUID.search(value) else f"{value}-of-nobody"
            missing = changed(body, path, unknown)
            yield (
                f"{where} unknown",
                missing,
                "NOT_FOUND",
                {f"{noun}_NOT_FOUND" for noun in NOUNS},
            )
            yield f"{where} malformed", changed(body, path, "nonsense"), "INVALID_ARGUMENT", {"FIELD_INVALID"}
            yield f"{where} missing", changed(body, path, None), "INVALID_ARGUMENT", {"FIELD_INVALID"}
        elif key == "requestId":
            empty = copy.deepcopy(body)
            del empty["requestId"]
            yield f"{where} missing", empty, "INVALID_ARGUMENT", {"FIELD_INVALID"}
            yield f"{where} too long", {**body, "requestId": "x" * 65}, "INVALID_ARGUMENT", {"FIELD_INVALID"}
        elif key in ("owner", "payer", "buyer", "seller", "subject"):
            yield f"{where} malformed", changed(body, path, "nobody"), "INVALID_ARGUMENT", {"FIELD_INVALID"}
            is_filter = "pageSize" in body and key in ("payer", "buyer")
            if not is_filter and (rpc, key) not in MAY_BE_LEFT_OUT:
                yield f"{where} missing", changed(body, path, None), "INVALID_ARGUMENT", {"FIELD_INVALID"}
        elif key in (
            "account",
            "actor",
            "payee",
            "amount",
            "total",
            "legs",
            "lines",
            "debit",
            "credit",
            "carrier",
            "lineId",
        ):
            if key == "amount" and len(path) == 1 and "captureMode" not in body and "rail" not in body:
                continue  # left out, it means all there is
            if key == "amount" and isinstance(value, int):
                continue  # a count in a simulation, which may be nothing
            yield (
                f"{where} missing",
                changed(body, path, None),
                "INVALID_ARGUMENT",
                {"FIELD_INVALID", "AMOUNT_MISMATCH"},
            )
        elif key in ("role", "captureMode"):
            unspecified = "ROLE_UNSPECIFIED" if key == "role" else "CAPTURE_MODE_UNSPECIFIED"
            yield f"{where} unspecified", changed(body, path, unspecified), "INVALID_ARGUMENT", {"FIELD_INVALID"}
        elif key == "kind" and str(value).startswith("SUBJECT_KIND_"):
            yield f"{where} unknown", changed(body, path, 99), "INVALID_ARGUMENT", {"FIELD_INVALID"}
        elif key == "kind":
            yield f"{where} unknown", changed(body, path, "no.such.kind"), "PERMISSION_DENIED", {"KIND_NOT_ALLOWED"}
        elif key == "pageSize":
            yield f"{where} negative", changed(body, path, -1), "INVALID_ARGUMENT", {"FIELD_INVALID"}
            yield f"{where} too large", changed(body, path, 1001), "INVALID_ARGUMENT", {"FIELD_INVALID"}
            yield "pageToken forged", {**body, "pageToken": "forged"}, "INVALID_ARGUMENT", {"PAGE_TOKEN_INVALID"}


@pytest.mark.parametrize("rpc", sorted(EXAMPLES))
def test_one_wrong_thing_is_refused_by_its_own_reason_and_changes_nothing(running, rpc):
    entry = next(entry for entry in running.card.calls if entry["rpc"] == rpc)
    with GatewayClient(running.card) as client:
        before = [client.call(head, {}, role="operator") for head in HEADS]
        for what, body, code, reasons in mistakes(rpc, entry["body"]):
            with pytest.raises(CallFailed) as refused:
                client.call(rpc, body, role=entry["role"])
            assert (refused.value.code, refused.value.reason) in {(code, reason) for reason in reasons}, what
            assert "postgres" not in str(refused.value).lower()
            assert "Traceback" not in str(refused.value)
        assert [client.call(head, {}, role="operator") for head in HEADS] == before

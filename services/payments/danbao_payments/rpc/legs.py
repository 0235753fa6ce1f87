"""What requests to post and to reverse become: plain legs, and legs of several sources or destinations."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from danbao.payments.v1 import ledger_pb2
from danbao_kit.errors import FieldInvalid, FieldViolation
from danbao_kit.timestamps import moment_of
from danbao_payments.domain.callers import Caller
from danbao_payments.domain.commands import (
    Destination,
    Leg,
    PostTransaction,
    ReverseTransaction,
    Source,
    SpreadLeg,
)
from danbao_payments.domain.splits import Part, RemainderPolicy, share_of
from danbao_payments.rpc.values import facts_of, id_of, key_of, money_of

_PURPOSES = {number: name.removeprefix("PURPOSE_") for name, number in ledger_pb2.Purpose.items()} | {0: ""}
_POLICIES = {number: name.removeprefix("REMAINDER_POLICY_") for name, number in ledger_pb2.RemainderPolicy.items()} | {
    0: RemainderPolicy.FIRST.value
}


def post_transaction(request: ledger_pb2.PostTransactionRequest, caller: Caller) -> PostTransaction:
    return PostTransaction(
        legs_of(request.legs),
        request.description,
        facts_of(request.metadata),
        caller,
        moment_of(request.effective_time, "effective_time") if request.HasField("effective_time") else None,
        request.validate_only,
    )


def legs_of(legs: Iterable[ledger_pb2.Leg], path: str = "") -> tuple[Leg | SpreadLeg, ...]:
    """Legs that stand under `path` in their request."""
    return tuple(_leg(leg, f"{path}legs[{position}]") for position, leg in enumerate(legs))


def reverse_transaction(request: ledger_pb2.ReverseTransactionRequest, caller: Caller) -> ReverseTransaction:
    return ReverseTransaction(
        id_of(request.name, "name"),
        request.description,
        moment_of(request.effective_time, "effective_time") if request.HasField("effective_time") else None,
        caller,
    )


def _leg(leg: ledger_pb2.Leg, path: str) -> Leg | SpreadLeg:
    _check_one(leg.HasField("debit"), bool(leg.sources), f"{path}.debit", "sources")
    _check_one(leg.HasField("credit"), bool(leg.destinations), f"{path}.credit", "destinations")
    payment: UUID | None = id_of(leg.payment, f"{path}.payment") if leg.payment else None
    amount, purpose = money_of(leg.amount), _PURPOSES[leg.purpose]
    if not leg.sources and not leg.destinations:
        return Leg(key_of(leg.debit), key_of(leg.credit), amount, payment, purpose)
    sources = tuple(Source(key_of(each.account), each.cap_minor or None) for each in leg.sources)
    destinations = tuple(_destination(each) for each in leg.destinations)
    return SpreadLeg(
        sources or (Source(key_of(leg.debit)),),
        destinations or (Destination(key_of(leg.credit), Part()),),
        amount,
        payment,
        purpose,
        _POLICIES[leg.remainder_policy],
    )


def _destination(each: ledger_pb2.Destination) -> Destination:
    account = key_of(each.account) if each.HasField("account") else None
    cap_minor = each.cap_minor or None
    if each.HasField("fixed_minor"):
        return Destination(account, Part(fixed_minor=each.fixed_minor))
    if each.HasField("basis_points"):
        return Destination(account, Part(share=share_of(each.basis_points), cap_minor=cap_minor))
    return Destination(account, Part(cap_minor=cap_minor))


def _check_one(one: bool, several: bool, field: str, plural: str) -> None:
    if one == several:
        raise FieldInvalid(FieldViolation(field, f"exactly one of it and {plural} is required"))

"""How rows of the store become values of the domain, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from danbao_payments.domain.account import Account
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.payment_split import SplitPart
from danbao_payments.domain.rail_refund import RailRefund
from danbao_payments.domain.taken_back import NOTHING_TAKEN, TakenBack
from danbao_payments.domain.top_up import TopUp
from danbao_payments.domain.transfer import Metadata, Transaction
from danbao_payments.domain.withdrawal import Withdrawal

# A value's fields are its table's columns, in this order.
ACCOUNT = ", ".join(Account._fields)
TRANSACTION = ", ".join(Transaction._fields)
PAYMENT = ", ".join(Payment._fields)
TOP_UP = ", ".join(TopUp._fields)
WITHDRAWAL = ", ".join(Withdrawal._fields)
RAIL_REFUND = ", ".join(RailRefund._fields)

_PAYMENT_METADATA = Payment._fields.index("metadata")
_PAYMENT_PARTS = Payment._fields.index("parts")
_PAYMENT_CHARGEBACK = Payment._fields.index("chargeback_from")
# The last columns are of payments that a rail brings; the table has the same defaults for them.
_PAYMENT_RAIL = Payment._fields.index("rail")
_WITHOUT_RAIL = tuple(Payment._field_defaults[name] for name in Payment._fields[_PAYMENT_RAIL:])
PAYMENT_WITHOUT_RAIL = Payment._fields[:_PAYMENT_RAIL]
_WITHDRAWAL_METADATA = Withdrawal._fields.index("metadata")
_TOP_UP_METADATA = TopUp._fields.index("metadata")
_TRANSACTION_METADATA = Transaction._fields.index("metadata")


def account_of(row: Iterable[Any]) -> Account:
    return Account._make(row)


def payment_of(row: Iterable[Any]) -> Payment:
    values = list(row)
    values[_PAYMENT_METADATA] = metadata_of(values[_PAYMENT_METADATA])
    values[_PAYMENT_PARTS] = parts_of(values[_PAYMENT_PARTS])
    values[_PAYMENT_CHARGEBACK] = chargeback_of(values[_PAYMENT_CHARGEBACK])
    return Payment._make(values)


def top_up_of(row: Iterable[Any]) -> TopUp:
    values = list(row)
    values[_TOP_UP_METADATA] = metadata_of(values[_TOP_UP_METADATA])
    return TopUp._make(values)


def withdrawal_of(row: Iterable[Any]) -> Withdrawal:
    values = list(row)
    values[_WITHDRAWAL_METADATA] = metadata_of(values[_WITHDRAWAL_METADATA])
    return Withdrawal._make(values)


def transaction_of(row: Iterable[Any]) -> Transaction:
    values = list(row)
    values[_TRANSACTION_METADATA] = metadata_of(values[_TRANSACTION_METADATA])
    return Transaction._make(values)


def metadata_of(stored: Any) -> Metadata:
    """The caller's facts, sorted by key. The writer's driver gives JSON as text, the readers' as a mapping."""
    facts = json.loads(stored) if isinstance(stored, str) else stored
    return tuple(sorted(facts.items()))


def parts_of(stored: Any) -> tuple[SplitPart, ...]:
    """A payment's split; null without one."""
    if stored is None:
        return ()
    parts = json.loads(stored) if isinstance(stored, str) else stored
    return tuple(SplitPart(**part) for part in parts)


def json_of_parts(parts: tuple[SplitPart, ...]) -> str | None:
    """A payment's split for its jsonb column."""
    return json.dumps([part._asdict() for part in parts]) if parts else None


def chargeback_of(stored: Any) -> TakenBack:
    """What a rail took back of a payment; null if nothing. A list is of before, and says only who bore it."""
    if stored is None:
        return NOTHING_TAKEN
    facts = json.loads(stored) if isinstance(stored, str) else stored
    if isinstance(facts, list):
        facts = {"borne": facts}
    at = facts.get("returned_at")
    return TakenBack(
        tuple((owner, kind, int(minor)) for owner, kind, minor in facts.get("borne", ())),
        tuple((result, reference, int(minor)) for result, reference, minor in facts.get("told", ())),
        int(facts.get("payer_minor", 0)),
        None if at is None else datetime.fromisoformat(at),
        bool(facts.get("at_once", False)),
    )


def json_of_chargeback(taken: TakenBack) -> str | None:
    """What a rail took back of a payment, for its jsonb column: only what there is to say."""
    if taken is NOTHING_TAKEN:
        return None
    facts: dict[str, Any] = {name: value for name, value in taken._asdict().items() if value}
    if taken.returned_at is not None:
        facts["returned_at"] = taken.returned_at.isoformat()
    return json.dumps(facts) if facts else None


def json_of(metadata: Metadata) -> str:
    """The caller's facts for a jsonb column."""
    return json.dumps(dict(metadata), ensure_ascii=False) if metadata else "{}"


def columns_of(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows as columns, for unnest."""
    return list(zip(*rows, strict=True))


def payment_rows(payments: Iterable[Payment]) -> list[tuple[Any, ...]]:
    """Payments as the driver wants them."""
    at = _PAYMENT_METADATA
    return [
        (
            *p[:at],
            json_of(p.metadata),
            *p[at + 1 : _PAYMENT_PARTS],
            json_of_parts(p.parts),
            *p[_PAYMENT_PARTS + 1 : _PAYMENT_CHARGEBACK],
            json_of_chargeback(p.chargeback_from),
            *p[_PAYMENT_CHARGEBACK + 1 :],
        )
        for p in payments
    ]


def split_by_rail(payments: Iterable[Payment]) -> tuple[list[tuple[Any, ...]], list[Payment]]:
    """Rows of those that a wallet pays, with the columns of PAYMENT_WITHOUT_RAIL; and the other payments."""
    at = _PAYMENT_METADATA
    of_wallets: list[tuple[Any, ...]] = []
    others: list[Payment] = []
    for p in payments:
        if p[_PAYMENT_RAIL:] == _WITHOUT_RAIL:
            facts, parts = json_of(p.metadata), json_of_parts(p.parts)
            of_wallets.append((*p[:at], facts, *p[at + 1 : _PAYMENT_PARTS], parts, p.partner))
        else:
            others.append(p)
    return of_wallets, others


def with_json(rows: Iterable[tuple[Any, ...]], value: type[TopUp | Transaction | Withdrawal]) -> list[tuple[Any, ...]]:
    """Rows whose metadata are as the driver wants them."""
    at = value._fields.index("metadata")
    return [(*row[:at], json_of(row[at]), *row[at + 1 :]) for row in rows]

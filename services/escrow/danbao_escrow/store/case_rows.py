"""How refund cases, disputes and claims look as columns, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import Table

from danbao_escrow.domain.case_model import (
    CLAIMS,
    DISPUTES,
    REFUND_CASES,
    Claim,
    ClaimState,
    Decision,
    Dispute,
    DisputeState,
    Evidence,
    Finding,
    Offer,
    Proceeding,
    RefundCase,
    RefundCaseState,
    RefundReason,
)
from danbao_escrow.domain.model import Actor, Role
from danbao_escrow.store.case_tables import claims, disputes, refund_cases
from danbao_escrow.store.rows import json_text, json_value

# What stands on a row for good.
_FROZEN = frozenset(
    {"trade_id", "case_id", "dispute_id", "claim_id", "line_id", "buyer", "seller", "partner", "currency",
     "amount_minor", "postage_minor", "claims_postage", "with_return", "reason_code", "frozen_minor", "create_time"}
)  # fmt: skip
_JSON = frozenset({"evidence", "offer", "decision", "appealed_by", "decided_by"})


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the three: its collection, table, key, and columns; those that change."""

    collection: str
    type: type
    table: Table
    key: str
    columns: tuple[str, ...]

    @property
    def changes(self) -> tuple[str, ...]:
        """Columns that a later version of a row may write."""
        return tuple(name for name in self.columns if name not in _FROZEN)


def _columns(of: Any, *derived: str) -> tuple[str, ...]:
    return (*[field.name for field in fields(of)], *derived)


KINDS: Mapping[type, Kind] = MappingProxyType(
    {
        RefundCase: Kind(REFUND_CASES, RefundCase, refund_cases, "case_id", _columns(RefundCase, "deadline_at")),
        Dispute: Kind(DISPUTES, Dispute, disputes, "dispute_id", _columns(Dispute, "deadline_at")),
        Claim: Kind(CLAIMS, Claim, claims, "claim_id", _columns(Claim)),
    }
)


def columns_of(thing: Proceeding, names: tuple[str, ...]) -> tuple[Any, ...]:
    """These columns of its row."""
    return tuple(_column(getattr(thing, name), name) for name in names)


def _column(value: Any, name: str) -> Any:
    return json_text(value) if name in _JSON and value is not None else value


def thing_of(kind: Kind, row: Mapping[str, Any]) -> Any:
    """The case, dispute or claim in a row."""
    values = {field.name: row[field.name] for field in fields(kind.type)}
    for name, value in values.items():
        if name in _DECODE and value is not None:
            values[name] = _DECODE[name](value)
    values["state"] = _STATES[kind.type](row["state"])
    return kind.type(**values)


def _uuid(value: Any) -> UUID:
    return UUID(int=value.int)


def _actor(column: Any) -> Actor:
    stored = json_value(column)
    return Actor(stored["subject"], Role(stored["role"]))


def _evidence(column: Any) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            **{
                **item,
                "given_by": _actor(item["given_by"]),
                "create_time": datetime.fromisoformat(item["create_time"]),
            }
        )
        for item in json_value(column)
    )


def _parts(stored: Mapping[str, Any]) -> dict[str, Any]:
    made_by, create_time = _actor(stored["made_by"]), datetime.fromisoformat(stored["create_time"])
    return {**stored, "made_by": made_by, "create_time": create_time}


def _offer(column: Any) -> Offer:
    return Offer(**_parts(json_value(column)))


def _decision(column: Any) -> Decision:
    return Decision(**_parts(json_value(column)))


_STATES: Mapping[type, Any] = {RefundCase: RefundCaseState, Dispute: DisputeState, Claim: ClaimState}
_DECODE: Mapping[str, Any] = {
    "case_id": _uuid,
    "dispute_id": _uuid,
    "claim_id": _uuid,
    "trade_id": _uuid,
    "reason_code": RefundReason,
    "evidence": _evidence,
    "offer": _offer,
    "decision": _decision,
    "appealed_by": _actor,
    "decided_by": _actor,
    "finding": Finding,
}

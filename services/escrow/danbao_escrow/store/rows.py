"""How domain values look as columns, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson

from danbao_escrow.domain.model import (
    Actor,
    Delivery,
    FeePayer,
    HeldPart,
    Line,
    LineState,
    Role,
    Terms,
    TimelineEntry,
    Trade,
    TradeState,
)
from danbao_escrow.domain.step_model import Cause, Leg, LinePart, Movement, Share, Step, StepKind, StepState, Together
from danbao_kit.decision import RequestKey
from danbao_kit.immutable import made_of

TRADE_COLUMNS = (
    "trade_id", "state", "buyer", "seller", "partner", "currency", "lines", "held", "terms", "postage_minor",
    "total_minor", "funded_minor", "released_minor", "refunded_minor", "fees_minor", "payment", "last_step",
    "pending_step", "step_blocked", "step_refusal", "reference", "revision", "timeline_length", "pay_by_time",
    "ship_by_time", "create_time", "update_time", "pay_time", "end_time", "buyer_fee_minor",
    "buyer_fee_released_minor", "buyer_fee_refunded_minor", "adjust_time", "deadline_time", "remind_time",
    "open_cases", "compensated_minor", "open_claim", "rail", "payment_pending", "checkout", "charged_back_minor",
    "chargeback_due_minor", "chargeback_due", "made_by", "made_by_partner",
)  # fmt: skip

STEP_COLUMNS = (
    "trade_id", "number", "generation", "kind", "state", "line_ids", "movement", "cause", "request", "held", "payer",
    "beneficiary", "currency", "payment", "claim", "refusals", "refusal", "ledger_reference", "create_time",
    "settle_time", "subject", "for_partner", "for_subject",
)  # fmt: skip

TIMELINE_COLUMNS = (
    "trade_id", "position", "command", "actor_subject", "actor_role", "token_subject", "line_ids", "state", "reason",
    "ledger_reference", "amount_minor", "trace_id", "create_time", "subject",
)  # fmt: skip


def json_text(value: Any) -> str:
    """JSON of dataclasses, tuples, enums and times."""
    return orjson.dumps(value).decode()


def json_value(column: Any) -> Any:
    """A JSON column as Python values, whichever driver read it."""
    return orjson.loads(column) if isinstance(column, str) else column


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


_JSON = frozenset({"lines", "held", "terms", "line_ids", "movement", "cause"})


def columns_of(value: Trade | Step, names: Sequence[str]) -> tuple[Any, ...]:
    """These columns of a trade's or step's row."""
    return tuple(_column(value, name) for name in names)


def _column(value: Any, name: str) -> Any:
    field = getattr(value, name)
    if name in _JSON:
        return json_text(field)
    if name == "request":
        return None if field is None else json_text(field)
    return field


def trade_of(row: Mapping[str, Any]) -> Trade:
    values = {name: row[name] for name in TRADE_COLUMNS}
    values["trade_id"] = UUID(int=row["trade_id"].int)
    values["state"] = TradeState(row["state"])
    values["lines"] = tuple(_line(line) for line in json_value(row["lines"]))
    values["held"] = _held(row["held"])
    if made_by := row["made_by"]:
        values["made_by"] = Role(made_by)
    else:
        # Of before that was kept: as nearly all are.
        values["made_by"], values["made_by_partner"] = Role.BUYER, bool(row["partner"])
    terms = row["terms"]
    values["terms"] = _terms_in(terms) if isinstance(terms, str) else _terms(terms)
    return made_of(Trade, values)


# A trade is read each time that something happens to it; its terms are what they were.
@lru_cache(maxsize=4096)
def _terms_in(column: str) -> Terms:
    return _terms(orjson.loads(column))


def _terms(stored: Mapping[str, Any]) -> Terms:
    payer = FeePayer(stored.get("fee_payer", FeePayer.SELLER))
    return Terms(**{**stored, "fee_payer": payer})


_LINE_DEFAULTS = {field.name: field.default for field in fields(Line) if field.default is not MISSING}


def _line(stored: Mapping[str, Any]) -> Line:
    values = {**_LINE_DEFAULTS, **stored}
    values["state"] = LineState(stored["state"])
    values["delivery"] = Delivery(stored["delivery"])
    for name in ("ship_time", "deliver_time", "deadline_time", "settle_time", "pause_time"):
        values[name] = _time(values[name])
    if "postage_minor" not in stored:
        # Written before lines settled in parts: only a line that has ended took postage along.
        gone_minor = stored["released_minor"] + stored["refunded_minor"]
        values["postage_minor"] = max(0, gone_minor - stored["amount_minor"])
    return made_of(Line, values)


def _held(column: Any) -> tuple[HeldPart, ...]:
    return tuple(HeldPart(part["amount_minor"], _time(part["due_time"])) for part in json_value(column))


_STEP_DEFAULTS = {"attempt_in_ms": 0}  # of a version that is yet to be put; in the store it is a time


def step_of(row: Mapping[str, Any]) -> Step:
    values = {name: row[name] for name in STEP_COLUMNS}
    values["trade_id"] = UUID(int=row["trade_id"].int)
    values["kind"] = StepKind(row["kind"])
    values["state"] = StepState(row["state"])
    values["line_ids"] = tuple(json_value(row["line_ids"]))
    values["movement"] = _movement(json_value(row["movement"]))
    cause = json_value(row["cause"])
    actor = Actor(cause["actor"]["subject"], Role(cause["actor"]["role"]))
    values["cause"] = Cause(**{**cause, "actor": actor})
    request = json_value(row["request"])
    values["request"] = None if request is None else RequestKey(**request)
    values["held"] = _held(row["held"])
    return made_of(Step, {**_STEP_DEFAULTS, **values})


def _movement(stored: Mapping[str, Any]) -> Movement:
    # Until lines settled in parts, postage stood here in two fields of its own.
    values = {name: value for name, value in stored.items() if not name.startswith("postage_")}
    values["legs"] = tuple(Leg(**leg) for leg in stored["legs"])
    values["parts"] = tuple(LinePart(**part) for part in stored.get("parts", ()))
    together = stored.get("together")
    if together is not None:
        shares = tuple(Share(**share) for share in together["shares"])
        values["together"] = Together(together["checkout"], together["generation"], shares)
    return Movement(**values)


def timeline_row(entry: TimelineEntry) -> tuple[Any, ...]:
    """In the order of TIMELINE_COLUMNS."""
    encoded = {
        "actor_subject": entry.actor.subject,
        "actor_role": entry.actor.role,
        "line_ids": json_text(entry.line_ids),
    }
    return tuple(encoded[name] if name in encoded else getattr(entry, name) for name in TIMELINE_COLUMNS)


def timeline_of(row: Mapping[str, Any]) -> TimelineEntry:
    return TimelineEntry(
        trade_id=UUID(int=row["trade_id"].int),
        position=row["position"],
        command=row["command"],
        actor=Actor(row["actor_subject"], Role(row["actor_role"])),
        token_subject=row["token_subject"],
        line_ids=tuple(json_value(row["line_ids"])),
        state=TradeState(row["state"]),
        reason=row["reason"],
        ledger_reference=row["ledger_reference"],
        amount_minor=row["amount_minor"],
        trace_id=row["trace_id"],
        create_time=row["create_time"],
        subject=row["subject"],
    )

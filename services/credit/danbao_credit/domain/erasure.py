"""Whether a subject may be forgotten now, and what stays of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from danbao_credit.domain.events import Source

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ErasureReason(StrEnum):
    """Why somebody is forgotten; nothing else is kept of it."""

    UNSPECIFIED = "UNSPECIFIED"
    REQUESTED = "REQUESTED"
    ACCOUNT_CLOSED = "ACCOUNT_CLOSED"
    ORDERED = "ORDERED"


class Hindrance(StrEnum):
    """What keeps a subject from being forgotten, the gravest first.

    Nobody launders a history by erasure, and nobody who owes or is owed something in an open matter vanishes from it.
    """

    FRAUD_CONFIRMED = "FRAUD_CONFIRMED"
    MEMBERSHIP = "MEMBERSHIP"
    APPEAL_OPEN = "APPEAL_OPEN"
    TRADE_OPEN = "TRADE_OPEN"
    CLAIM_OPEN = "CLAIM_OPEN"
    OBLIGATION_OPEN = "OBLIGATION_OPEN"


WORDS = {
    Hindrance.FRAUD_CONFIRMED: "fraud is confirmed; an appeal comes first",
    Hindrance.MEMBERSHIP: "it is, or is leaving as, a credible merchant",
    Hindrance.APPEAL_OPEN: "an appeal is open",
    Hindrance.TRADE_OPEN: "a trade is open",
    Hindrance.CLAIM_OPEN: "a claim is open",
    Hindrance.OBLIGATION_OPEN: "a promise is unpaid or an obligation overdue",
}


@dataclass(frozen=True, slots=True)
class Erasure:
    """That a subject was forgotten, without its name."""

    subject_hash: str
    erase_time: datetime
    reason: ErasureReason


@dataclass(frozen=True, slots=True)
class Traces:
    """Where the subject's name was found in what is not kept by subject, before the write transaction: sequences of
    credit's own events, keys of request records; and up to where it was looked for."""

    events: tuple[int, ...] = ()
    through_sequence: int = 0
    requests: tuple[bytes, ...] = ()
    looked_from: datetime = _EPOCH


@dataclass(frozen=True, slots=True)
class Removal:
    """What the store takes away: everything of the subject up to a time; without one, its traces only."""

    subject: str
    through_us: int | None
    traces: Traces


@dataclass(frozen=True, slots=True)
class OpenMatters:
    """What the store knows of a subject besides marks and appeals, and how far each source has been applied."""

    through: Mapping[Source, int]
    membership: bool = False
    trade: bool = False
    claim: bool = False

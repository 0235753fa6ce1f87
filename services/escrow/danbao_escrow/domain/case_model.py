"""The nouns beside a trade: refund cases, disputes with offers and decisions, claims, evidence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from danbao_escrow.domain.model import Actor

REFUND_CASES, DISPUTES, CLAIMS = "refundCases", "disputes", "claims"
"""Collections: the first part of a name."""


class RefundReason(StrEnum):
    """Why a buyer wants money back."""

    NOT_RECEIVED = "NOT_RECEIVED"
    NOT_AS_DESCRIBED = "NOT_AS_DESCRIBED"
    DAMAGED = "DAMAGED"
    LATE = "LATE"
    COUNTERFEIT = "COUNTERFEIT"
    CHANGED_MIND = "CHANGED_MIND"
    OTHER = "OTHER"


class RefundCaseState(StrEnum):
    """Where a refund case stands. REJECTED is open while a dispute may follow, DISPUTED until that is closed."""

    REQUESTED = "REQUESTED"
    AWAITING_RETURN = "AWAITING_RETURN"
    AWAITING_RECEIPT = "AWAITING_RECEIPT"
    REJECTED = "REJECTED"
    SUCCEEDED = "SUCCEEDED"
    WITHDRAWN = "WITHDRAWN"
    DISPUTED = "DISPUTED"


class DisputeState(StrEnum):
    """Where a dispute stands."""

    OPEN = "OPEN"
    OFFERED = "OFFERED"
    SETTLED = "SETTLED"
    DECIDED = "DECIDED"
    APPEALED = "APPEALED"
    CLOSED = "CLOSED"


class ClaimState(StrEnum):
    """Where a claim stands."""

    OPEN = "OPEN"
    COMPENSATED = "COMPENSATED"
    REJECTED = "REJECTED"


class Finding(StrEnum):
    """What an arbiter found about the seller of a claim."""

    UNSPECIFIED = "UNSPECIFIED"
    FRAUD = "FRAUD"
    NOT_FRAUD = "NOT_FRAUD"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something that speaks for one side, by reference."""

    uri: str
    sha256: str
    size_bytes: int
    media_type: str
    note: str
    given_by: Actor
    create_time: datetime


# No slots: danbao_kit.immutable.
@dataclass(frozen=True)
class RefundCase:
    """A buyer's wish to have money back for one line. Amounts in minor units of the trade's currency."""

    case_id: UUID
    state: RefundCaseState
    trade_id: UUID
    line_id: str
    buyer: str
    seller: str
    partner: str
    currency: str
    # Of the line; the postage that is claimed comes on top, and the share of the buyer's fee on both.
    amount_minor: int
    postage_minor: int
    claims_postage: bool
    with_return: bool
    reason_code: RefundReason
    reason: str
    evidence: tuple[Evidence, ...]
    create_time: datetime
    update_time: datetime
    reject_reason: str = ""
    return_carrier: str = ""
    return_tracking: str = ""
    # disputes/{uuid} that it led to.
    dispute: str = ""
    # What went back for it, the share of the buyer's fee included.
    refunded_minor: int = 0
    # When time acts on it, and when it says so beforehand.
    deadline_time: datetime | None = None
    remind_time: datetime | None = None
    end_time: datetime | None = None
    step_pending: bool = False
    step_blocked: bool = False
    step_refusal: str = ""
    revision: int = 0

    @property
    def name(self) -> str:
        """refundCases/{uuid}."""
        return f"{REFUND_CASES}/{self.case_id}"

    @property
    def is_over(self) -> bool:
        """Whether nothing can become of it any more; its line goes on."""
        return self.end_time is not None

    @property
    def frozen_minor(self) -> int:
        """What it claims of line and postage."""
        return self.amount_minor + self.postage_minor

    @property
    def deadline_at(self) -> datetime | None:
        """When a timer has to look at it next."""
        return self.remind_time or self.deadline_time


@dataclass(frozen=True, slots=True)
class Offer:
    """How a party would divide what is frozen, minor units."""

    made_by: Actor
    buyer_minor: int
    seller_minor: int
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """How an arbiter divides what is frozen, minor units. Final: no appeal is possible."""

    made_by: Actor
    buyer_minor: int
    seller_minor: int
    reason: str
    final: bool
    create_time: datetime


# No slots: danbao_kit.immutable.
@dataclass(frozen=True)
class Dispute:
    """Two parties, or an arbiter, over what a refund case claims."""

    dispute_id: UUID
    state: DisputeState
    case_id: UUID
    trade_id: UUID
    line_id: str
    buyer: str
    seller: str
    partner: str
    currency: str
    # What is divided, minor units, without the buyer's fee.
    frozen_minor: int
    reason: str
    evidence: tuple[Evidence, ...]
    create_time: datetime
    update_time: datetime
    offer: Offer | None = None
    decision: Decision | None = None
    appealed_by: Actor | None = None
    appeal_reason: str = ""
    arbiter_needed: bool = False
    deadline_time: datetime | None = None
    remind_time: datetime | None = None
    end_time: datetime | None = None
    step_pending: bool = False
    step_blocked: bool = False
    step_refusal: str = ""
    revision: int = 0

    @property
    def name(self) -> str:
        """disputes/{uuid}."""
        return f"{DISPUTES}/{self.dispute_id}"

    @property
    def refund_case(self) -> str:
        """refundCases/{uuid}."""
        return f"{REFUND_CASES}/{self.case_id}"

    @property
    def is_over(self) -> bool:
        """Whether its money is paid."""
        return self.end_time is not None

    @property
    def deadline_at(self) -> datetime | None:
        """When a timer has to look at it next."""
        return self.remind_time or self.deadline_time


# No slots: danbao_kit.immutable.
@dataclass(frozen=True)
class Claim:
    """A buyer's wish to be compensated for a completed trade. Amounts in minor units."""

    claim_id: UUID
    state: ClaimState
    trade_id: UUID
    buyer: str
    seller: str
    partner: str
    currency: str
    amount_minor: int
    reason: str
    evidence: tuple[Evidence, ...]
    create_time: datetime
    update_time: datetime
    compensated_minor: int = 0
    decided_by: Actor | None = None
    decision_reason: str = ""
    ledger_reference: str = ""
    end_time: datetime | None = None
    step_pending: bool = False
    step_refusal: str = ""
    finding: Finding = Finding.UNSPECIFIED
    revision: int = 0

    @property
    def name(self) -> str:
        """claims/{uuid}."""
        return f"{CLAIMS}/{self.claim_id}"

    @property
    def is_over(self) -> bool:
        """Whether it was decided, and paid if anything was awarded."""
        return self.end_time is not None


Proceeding = RefundCase | Dispute | Claim

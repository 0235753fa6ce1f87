"""What can be asked of refund cases, disputes and claims: one frozen dataclass a command, fields as in the contract."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from danbao_escrow.domain.case_model import Finding
from danbao_escrow.domain.commands import Token
from danbao_escrow.domain.model import Actor
from danbao_kit.money import Money


class CaseCommandName(StrEnum):
    """Commands as the contract, the tables and the timeline call them; the last two are the service's
    own."""

    OPEN_REFUND_CASE = "OpenRefundCase"
    ACCEPT_REFUND_CASE = "AcceptRefundCase"
    REJECT_REFUND_CASE = "RejectRefundCase"
    SUBMIT_RETURN = "SubmitReturn"
    CONFIRM_RETURN = "ConfirmReturn"
    CANCEL_REFUND_CASE = "CancelRefundCase"
    OPEN_DISPUTE = "OpenDispute"
    ADD_EVIDENCE = "AddEvidence"
    MAKE_OFFER = "MakeOffer"
    ACCEPT_OFFER = "AcceptOffer"
    DECIDE_DISPUTE = "DecideDispute"
    APPEAL_DISPUTE = "AppealDispute"
    OPEN_CLAIM = "OpenClaim"
    DECIDE_CLAIM = "DecideClaim"
    TIME_PASSES = "TimePasses"
    CHARGED_BACK = "ChargedBack"


class CaseTimerName(StrEnum):
    """What the timeline calls what time does to a case or dispute."""

    SELLER_REPLY = "SellerReply"
    RETURN_SHIP = "ReturnShip"
    RETURN_RECEIPT = "ReturnReceipt"
    DISPUTE_WINDOW = "DisputeWindow"
    NEGOTIATION = "Negotiation"
    APPEAL_WINDOW = "AppealWindow"


@dataclass(frozen=True, slots=True)
class NewEvidence:
    uri: str
    sha256: str
    size_bytes: int
    media_type: str
    note: str


@dataclass(frozen=True, slots=True)
class OpenRefundCase:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CaseCommandName] = CaseCommandName.OPEN_REFUND_CASE
    actor: Actor
    trade: UUID
    line_id: str
    amount: Money
    with_return: bool
    claims_postage: bool
    reason_code: str
    reason: str
    evidence: tuple[NewEvidence, ...]
    token: Token


@dataclass(frozen=True, slots=True)
class AcceptRefundCase:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CaseCommandName] = CaseCommandName.ACCEPT_REFUND_CASE
    actor: Actor
    name: UUID
    token: Token


@dataclass(frozen=True, slots=True)
class RejectRefundCase:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CaseCommandName] = CaseCommandName.REJECT_REFUND_CASE
    actor: Actor
    name: UUID
    reason: str
    token: Token


@dataclass(frozen=True, slots=True)
class SubmitReturn:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CaseCommandName] = CaseCommandName.SUBMIT_RETURN
    actor: Actor
    name: UUID
    carrier: str
    tracking: str
    token: Token


@dataclass(frozen=True, slots=True)
class ConfirmReturn:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CaseCommandName] = CaseCommandName.CONFIRM_RETURN
    actor: Actor
    name: UUID
    token: Token


@dataclass(frozen=True, slots=True)
class CancelRefundCase:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CaseCommandName] = CaseCommandName.CANCEL_REFUND_CASE
    actor: Actor
    name: UUID
    reason: str
    token: Token


@dataclass(frozen=True, slots=True)
class OpenDispute:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CaseCommandName] = CaseCommandName.OPEN_DISPUTE
    actor: Actor
    refund_case: UUID
    reason: str
    evidence: tuple[NewEvidence, ...]
    token: Token


@dataclass(frozen=True, slots=True)
class AddEvidence:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CaseCommandName] = CaseCommandName.ADD_EVIDENCE
    actor: Actor
    name: UUID
    evidence: tuple[NewEvidence, ...]
    token: Token


@dataclass(frozen=True, slots=True)
class MakeOffer:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CaseCommandName] = CaseCommandName.MAKE_OFFER
    actor: Actor
    name: UUID
    buyer_minor: int
    seller_minor: int
    reason: str
    token: Token


@dataclass(frozen=True, slots=True)
class AcceptOffer:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CaseCommandName] = CaseCommandName.ACCEPT_OFFER
    actor: Actor
    name: UUID
    etag: str
    token: Token


@dataclass(frozen=True, slots=True)
class DecideDispute:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CaseCommandName] = CaseCommandName.DECIDE_DISPUTE
    actor: Actor
    name: UUID
    buyer_minor: int
    seller_minor: int
    reason: str
    etag: str
    token: Token


@dataclass(frozen=True, slots=True)
class AppealDispute:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CaseCommandName] = CaseCommandName.APPEAL_DISPUTE
    actor: Actor
    name: UUID
    reason: str
    token: Token


@dataclass(frozen=True, slots=True)
class OpenClaim:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CaseCommandName] = CaseCommandName.OPEN_CLAIM
    actor: Actor
    trade: UUID
    amount: Money
    reason: str
    evidence: tuple[NewEvidence, ...]
    token: Token


@dataclass(frozen=True, slots=True)
class DecideClaim:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CaseCommandName] = CaseCommandName.DECIDE_CLAIM
    actor: Actor
    name: UUID
    compensation_minor: int
    reason: str
    token: Token
    finding: Finding = Finding.UNSPECIFIED


RefundCaseCommand = AcceptRefundCase | RejectRefundCase | SubmitReturn | ConfirmReturn | CancelRefundCase
"""They name a case by its id."""
DisputeCommand = AddEvidence | MakeOffer | AcceptOffer | DecideDispute | AppealDispute
"""They name a dispute by its id."""
CaseCommand = OpenRefundCase | RefundCaseCommand | OpenDispute | DisputeCommand | OpenClaim | DecideClaim


@dataclass(frozen=True, slots=True)
class FireCaseTimer:
    """The service's own: do what time demands of `subject`, refundCases/{uuid} or disputes/{uuid}."""

    trade_id: UUID
    subject: str

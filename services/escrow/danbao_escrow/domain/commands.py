"""What can be asked of escrow: one frozen dataclass a command, its fields named as in the contract."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from danbao_escrow.domain.fees import AskedFees
from danbao_escrow.domain.model import Actor, Delivery, FeePayer, Terms
from danbao_kit.money import Money


class CommandName(StrEnum):
    """Commands as the contract, the table and the timeline call them."""

    CREATE_TRADE = "CreateTrade"
    PAY_TRADE = "PayTrade"
    CANCEL_TRADE = "CancelTrade"
    SHIP_LINES = "ShipLines"
    REPORT_DELIVERY = "ReportDelivery"
    CONFIRM_LINES = "ConfirmLines"
    CANCEL_LINES = "CancelLines"
    RELEASE_HELD = "ReleaseHeld"
    ADJUST_PRICE = "AdjustPrice"
    EXTEND_CONFIRMATION = "ExtendConfirmation"
    CREATE_CHECKOUT = "CreateCheckout"
    PAY_CHECKOUT = "PayCheckout"


class PaymentsSays(StrEnum):
    """What the timeline calls what payments tells of a trade's payment."""

    CAPTURED = "PaymentCaptured"
    DECLINED = "PaymentDeclined"
    CHARGED_BACK = "ChargedBack"
    CHARGEBACK_REVERSED = "ChargebackReversed"
    # Not told by payments but done about it.
    VOID = "VoidPayment"
    RETURN = "ReturnPayment"


class TimerName(StrEnum):
    """What the timeline calls a command that time gives."""

    PAY_BY = "PayBy"
    SHIP_BY = "ShipBy"
    AUTO_CONFIRM = "AutoConfirm"
    HELD_DUE = "HeldDue"
    REMINDER = "Reminder"


@dataclass(frozen=True, slots=True)
class Token:
    """What the caller's token says. Without a partner's role it may act for nobody but `subject`, subjects/{sub}."""

    subject: str
    partner: str
    is_partner: bool
    is_operator: bool
    # An operator or arbiter.
    sees_all: bool
    is_arbiter: bool = False
    is_user: bool = False

    @property
    def own_subject(self) -> str:
        """As whom it may be a party. A partner's token names an account of the partner's, which is nobody of a trade,
        whatever it is called; empty then."""
        return self.subject if self.is_user or not self.is_partner else ""

    @property
    def may_set_fee(self) -> bool:
        """The fee is the platform's: the parties themselves do not choose it."""
        return self.is_partner or self.is_operator


@dataclass(frozen=True, slots=True)
class NewLine:
    line_id: str
    title: str
    amount: Money
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class CreateTrade:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token", "terms", "blocked")
    name_of_command: ClassVar[CommandName] = CommandName.CREATE_TRADE
    actor: Actor
    buyer: str
    seller: str
    lines: tuple[NewLine, ...]
    postage: Money | None
    total: Money
    fee_bps: int | None
    pay_by: timedelta | None
    ship_by_time: datetime | None
    reference: str
    token: Token
    # Credit's answer, asked for before the commit; the fees asked for are already in it.
    terms: Terms
    # Who of the two may not trade; empty: both may.
    blocked: str
    fee_fixed_minor: int | None = None
    fee_cap_minor: int | None = None
    fee_payer: FeePayer | None = None
    buyer_fee_bps: int | None = None
    buyer_fee_fixed_minor: int | None = None

    @property
    def fees(self) -> AskedFees:
        """What is said about fees."""
        return AskedFees(
            self.fee_bps,
            self.fee_fixed_minor,
            self.fee_cap_minor,
            self.fee_payer,
            self.buyer_fee_bps,
            self.buyer_fee_fixed_minor,
        )


@dataclass(frozen=True, slots=True)
class PayTrade:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token", "blocked")
    name_of_command: ClassVar[CommandName] = CommandName.PAY_TRADE
    actor: Actor
    name: UUID
    token: Token
    blocked: str
    # rails/{id} that brings the money, and how it is told to charge; empty: the buyer's wallet.
    rail: str = ""
    instrument: str = ""


@dataclass(frozen=True, slots=True)
class ShipLines:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CommandName] = CommandName.SHIP_LINES
    actor: Actor
    name: UUID
    line_ids: tuple[str, ...]
    carrier: str
    tracking: str
    token: Token


@dataclass(frozen=True, slots=True)
class ReportDelivery:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CommandName] = CommandName.REPORT_DELIVERY
    actor: Actor
    name: UUID
    line_ids: tuple[str, ...]
    token: Token


@dataclass(frozen=True, slots=True)
class ConfirmLines:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CommandName] = CommandName.CONFIRM_LINES
    actor: Actor
    name: UUID
    line_ids: tuple[str, ...]
    token: Token


@dataclass(frozen=True, slots=True)
class CancelLines:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CommandName] = CommandName.CANCEL_LINES
    actor: Actor
    name: UUID
    line_ids: tuple[str, ...]
    reason: str
    token: Token


@dataclass(frozen=True, slots=True)
class CancelTrade:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CommandName] = CommandName.CANCEL_TRADE
    actor: Actor
    name: UUID
    reason: str
    token: Token


@dataclass(frozen=True, slots=True)
class ReleaseHeld:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CommandName] = CommandName.RELEASE_HELD
    actor: Actor
    name: UUID
    reason: str
    token: Token


@dataclass(frozen=True, slots=True)
class LinePrice:
    line_id: str
    amount: Money


@dataclass(frozen=True, slots=True)
class AdjustPrice:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CommandName] = CommandName.ADJUST_PRICE
    actor: Actor
    name: UUID
    # Lines that are not named keep their amounts.
    lines: tuple[LinePrice, ...]
    # None: as it was.
    postage: Money | None
    total: Money
    reason: str
    token: Token

    @property
    def line_ids(self) -> tuple[str, ...]:
        """The lines it names."""
        return tuple(line.line_id for line in self.lines)


@dataclass(frozen=True, slots=True)
class ExtendConfirmation:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CommandName] = CommandName.EXTEND_CONFIRMATION
    actor: Actor
    name: UUID
    line_ids: tuple[str, ...]
    days: int
    token: Token


@dataclass(frozen=True, slots=True)
class CreateCheckout:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token",)
    name_of_command: ClassVar[CommandName] = CommandName.CREATE_CHECKOUT
    actor: Actor
    trades: tuple[UUID, ...]
    token: Token


@dataclass(frozen=True, slots=True)
class PayCheckout:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("token", "blocked")
    name_of_command: ClassVar[CommandName] = CommandName.PAY_CHECKOUT
    actor: Actor
    checkout: UUID
    token: Token
    blocked: str
    rail: str = ""
    instrument: str = ""


MoneyCommand = PayTrade | ConfirmLines | CancelLines | ReleaseHeld
LineCommand = ShipLines | ReportDelivery | ConfirmLines | CancelLines | ExtendConfirmation
TradeCommand = LineCommand | PayTrade | CancelTrade | ReleaseHeld | AdjustPrice
CheckoutCommand = CreateCheckout | PayCheckout
Command = CreateTrade | TradeCommand | CheckoutCommand


@dataclass(frozen=True, slots=True)
class StepDone:
    """Payments executed the step; `reference` is transactions/{uuid} or payments/{uuid}."""

    reference: str


@dataclass(frozen=True, slots=True)
class StepRefused:
    """Payments refused the step for good under this id: nothing moved, and nothing ever will under it."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class SettleStep:
    """The service's own: a step's definite outcome."""

    trade_id: UUID
    number: int
    generation: int
    outcome: StepDone | StepRefused


@dataclass(frozen=True, slots=True)
class ClaimStep:
    """The service's own: take over a step whose lease has passed. `claim` is the one that was seen."""

    trade_id: UUID
    number: int
    generation: int
    claim: int


@dataclass(frozen=True, slots=True)
class FireTimer:
    """The service's own: do what time demands of a trade."""

    trade_id: UUID


OwnCommand = SettleStep | ClaimStep | FireTimer
AnyCommand = Command | OwnCommand

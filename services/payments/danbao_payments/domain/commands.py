"""What payments can be asked to do, and what it asks of itself. Fields are named as in the contract.

A command's checks look at the command alone; they come before anything is looked up, and are never recorded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar
from uuid import UUID

from danbao_kit.errors import FieldInvalid, FieldViolation
from danbao_kit.money import Money, check_currency, check_positive
from danbao_payments.domain.account_commands import AccountCommand
from danbao_payments.domain.callers import OURSELVES, Caller
from danbao_payments.domain.chart import USER_AVAILABLE
from danbao_payments.domain.errors import LegsInvalid
from danbao_payments.domain.payment import CaptureMode, OnExpiry
from danbao_payments.domain.payment_split import check_whole
from danbao_payments.domain.transfer import Metadata, Purpose

DEFAULT_HOLD_LIFETIME = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class AccountKey:
    """An account by what it is."""

    owner: str
    kind: str


@dataclass(frozen=True, slots=True)
class SplitTerm:
    """One destination of a payment's split: a fixed amount, basis points, or (neither) what remains. Minor units."""

    destination: AccountKey
    fixed_minor: int | None = None
    basis_points: int | None = None
    cap_minor: int | None = None


@dataclass(frozen=True, slots=True)
class CreatePayment:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    payer: str
    payee: AccountKey
    beneficiary: str
    amount: Money
    capture_mode: str
    hold_lifetime: timedelta | None = None
    metadata: Metadata = ()
    description: str = ""
    caller: Caller = OURSELVES
    on_expiry: str = OnExpiry.CANCEL.value
    splits: tuple[SplitTerm, ...] = ()
    remainder_policy: str = ""

    def check(self) -> None:
        """Raises FieldInvalid, AmountNotPositive, CurrencyUnknown, SplitNotWhole."""
        violations = []
        if self.payee == AccountKey(self.payer, USER_AVAILABLE):
            violations.append(FieldViolation("payee", "must not be the account that pays"))
        if self.hold_lifetime is not None and self.capture_mode != CaptureMode.MANUAL:
            violations.append(FieldViolation("hold_lifetime", "only with capture_mode MANUAL"))
        if self.on_expiry != OnExpiry.CANCEL and self.capture_mode != CaptureMode.MANUAL:
            violations.append(FieldViolation("on_expiry", "only with capture_mode MANUAL"))
        if self.splits or self.remainder_policy:
            violations += self._wrong_in_splits()
        if violations:
            raise FieldInvalid(*violations)
        check_money(self.amount, "amount")
        if self.splits:
            check_whole(self.amount.minor, self.splits, self.remainder_policy)

    def _wrong_in_splits(self) -> list[FieldViolation]:
        violations = []
        seen: set[AccountKey] = set()
        for position, term in enumerate(self.splits):
            path = f"splits[{position}]"
            if term.destination in seen:
                violations.append(FieldViolation(f"{path}.destination", "must be named once"))
            if term.destination == AccountKey(self.payer, USER_AVAILABLE):
                violations.append(FieldViolation(f"{path}.destination", "must not be the account that pays"))
            if term.fixed_minor is not None and term.cap_minor is not None:
                violations.append(FieldViolation(f"{path}.cap_minor", "not for a fixed part"))
            seen.add(term.destination)
        if self.splits and self.payee not in seen:
            violations.append(FieldViolation("splits", "must name the payee among the destinations"))
        if bool(self.splits) != bool(self.remainder_policy):
            violations.append(FieldViolation("remainder_policy", "must be set with splits, and only then"))
        return violations


@dataclass(frozen=True, slots=True)
class CapturePayment:
    """`amount` None: all that is held. What a capture that is not `final` leaves stays held."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    name: UUID
    amount: Money | None = None
    caller: Caller = OURSELVES
    final: bool = True

    def check(self) -> None:
        """Raises AmountNotPositive, CurrencyUnknown."""
        if self.amount is not None:
            check_money(self.amount, "amount")


@dataclass(frozen=True, slots=True)
class VoidPayment:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    name: UUID
    caller: Caller = OURSELVES

    def check(self) -> None:
        """Nothing to check."""


@dataclass(frozen=True, slots=True)
class RefundPayment:
    """`amount` None: all that is left."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    name: UUID
    amount: Money | None = None
    description: str = ""
    caller: Caller = OURSELVES
    fees_back: bool = True
    purpose: str = Purpose.REFUND.value

    def check(self) -> None:
        """Raises AmountNotPositive, CurrencyUnknown."""
        if self.amount is not None:
            check_money(self.amount, "amount")


@dataclass(frozen=True, slots=True)
class Leg:
    """One movement to be posted. `payment` None: it belongs to none."""

    debit: AccountKey
    credit: AccountKey
    amount: Money
    payment: UUID | None = None
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class PostTransaction:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    legs: tuple[Leg, ...]
    description: str = ""
    metadata: Metadata = ()
    caller: Caller = OURSELVES

    def check(self) -> None:
        """Raises FieldInvalid, AmountNotPositive, CurrencyUnknown, LegsInvalid: each over all legs before the next."""
        for position, leg in enumerate(self.legs):
            if leg.purpose and leg.payment is None:
                path = f"legs[{position}].payment"
                raise FieldInvalid(FieldViolation(path, "required where a purpose is given"))
        for position, leg in enumerate(self.legs):
            check_positive(leg.amount.minor, f"legs[{position}].amount.amount_minor")
        for position, leg in enumerate(self.legs):
            check_currency(leg.amount.currency, f"legs[{position}].amount.currency")
        for position, leg in enumerate(self.legs):
            if leg.debit == leg.credit:
                raise LegsInvalid(position)


@dataclass(frozen=True, slots=True)
class CreateTopUp:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    owner: str
    amount: Money
    rail: str
    instrument: str = ""
    metadata: Metadata = ()
    caller: Caller = OURSELVES

    def check(self) -> None:
        """Raises AmountNotPositive, CurrencyUnknown."""
        check_money(self.amount, "amount")


@dataclass(frozen=True, slots=True)
class RefundTopUp:
    """`amount` None: all that is left."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    name: UUID
    amount: Money | None = None
    caller: Caller = OURSELVES

    def check(self) -> None:
        """Raises AmountNotPositive, CurrencyUnknown."""
        if self.amount is not None:
            check_money(self.amount, "amount")


# What payments asks of itself: no request, so each is harmless when it comes twice.


@dataclass(frozen=True, slots=True)
class ExpireHolds:
    """Ends those holds of these payments that have run out."""

    payments: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class ReportCharge:
    """A rail has answered a top-up."""

    top_up: UUID
    accepted: bool
    rail_reference: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class ReportPayback:
    """A rail has paid a top-up's refund out."""

    refund: UUID
    rail_reference: str = field(default="")


Command = (
    CreatePayment
    | CapturePayment
    | VoidPayment
    | RefundPayment
    | PostTransaction
    | CreateTopUp
    | RefundTopUp
    | ExpireHolds
    | ReportCharge
    | ReportPayback
    | AccountCommand
)


def check_money(money: Money, path: str) -> None:
    """Raises AmountNotPositive, then CurrencyUnknown."""
    check_positive(money.minor, f"{path}.amount_minor")
    check_currency(money.currency, f"{path}.currency")

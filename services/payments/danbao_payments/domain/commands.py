"""What payments can be asked to do, and what it asks of itself. Fields are named as in the contract.

A command's checks look at the command alone; they come before anything is looked up, and are never recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar
from uuid import UUID

from danbao_kit.errors import FieldInvalid, FieldViolation
from danbao_kit.money import Money, check_currency, check_positive
from danbao_payments.domain.account_commands import AccountCommand
from danbao_payments.domain.callers import OURSELVES, Caller
from danbao_payments.domain.chart import USER_AVAILABLE
from danbao_payments.domain.errors import LegsInvalid, SplitNotWhole
from danbao_payments.domain.movement import OF_PAYMENTS_ONLY, OUR_FACTS, Movement, MovementKind, RailResult
from danbao_payments.domain.payment import CaptureMode, FeeRefund, OnExpiry
from danbao_payments.domain.payment_split import check_whole
from danbao_payments.domain.splits import Part, RemainderPolicy, split
from danbao_payments.domain.transfer import Metadata, Purpose

DEFAULT_HOLD_LIFETIME = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class AccountKey:
    """An account by what it is."""

    owner: str
    kind: str

    def __repr__(self) -> str:
        # As the dataclass's own, which guards against recursion and takes three times as long: fingerprints are of it.
        return f"AccountKey(owner={self.owner!r}, kind={self.kind!r})"


@dataclass(frozen=True, slots=True)
class SplitTerm:
    """One destination of a payment's split: a fixed amount, basis points, or (neither) what remains. Minor units."""

    destination: AccountKey
    fixed_minor: int | None = None
    basis_points: int | None = None
    cap_minor: int | None = None
    beneficiary: str = ""


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
    limit_class: str = ""
    rail: str = ""
    instrument: str = ""

    def check(self) -> None:
        """Raises FieldInvalid, AmountNotPositive, CurrencyUnknown, SplitNotWhole."""
        violations = []
        if self.rail and self.capture_mode != CaptureMode.AUTOMATIC:
            violations.append(FieldViolation("rail", "only with capture_mode AUTOMATIC"))
        if self.instrument and not self.rail:
            violations.append(FieldViolation("instrument", "only with a rail"))
        if self.payee.owner == self.payer and self.payee.kind == USER_AVAILABLE:
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
    fee_refund: str = FeeRefund.PROPORTIONAL.value
    purpose: str = Purpose.REFUND.value

    @property
    def fees_back(self) -> bool:
        """Whether the platform's parts go back as well."""
        return self.fee_refund == FeeRefund.PROPORTIONAL

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

    @property
    def debits(self) -> tuple[AccountKey, ...]:
        """The account that gives."""
        return (self.debit,)

    @property
    def credits(self) -> tuple[AccountKey, ...]:
        """The account that receives."""
        return (self.credit,)


@dataclass(frozen=True, slots=True)
class Source:
    """An account that gives what is available, at most `cap_minor`."""

    account: AccountKey
    cap_minor: int | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """Who receives a part of a leg's amount. `account` None: the part stays where it is."""

    account: AccountKey | None
    part: Part


@dataclass(frozen=True, slots=True)
class SpreadLeg:
    """A movement from the first sources that have the amount to destinations by their parts."""

    sources: tuple[Source, ...]
    destinations: tuple[Destination, ...]
    amount: Money
    payment: UUID | None = None
    purpose: str = ""
    remainder_policy: str = RemainderPolicy.FIRST.value

    @property
    def debits(self) -> tuple[AccountKey, ...]:
        """The accounts that may give."""
        return tuple(source.account for source in self.sources)

    @property
    def credits(self) -> tuple[AccountKey, ...]:
        """The accounts that may receive."""
        return tuple(each.account for each in self.destinations if each.account is not None)

    def parts(self) -> list[tuple[AccountKey | None, int]]:
        """What each destination gets, in minor units. Raises SplitNotWhole."""
        policy = RemainderPolicy(self.remainder_policy)
        minor = split(self.amount.minor, [each.part for each in self.destinations], policy)
        return [(each.account, part) for each, part in zip(self.destinations, minor, strict=True)]

    def check(self, path: str) -> None:
        """Raises SplitNotWhole, also when everything would stay where it is."""
        try:
            moved = sum(minor for key, minor in self.parts() if key is not None)
        except SplitNotWhole as error:
            parts_minor = error.metadata["parts_minor"]
            raise SplitNotWhole(amount_minor=self.amount.minor, parts_minor=parts_minor, field=path) from error
        if moved == 0:
            raise SplitNotWhole(amount_minor=self.amount.minor, parts_minor="0", field=path)


@dataclass(frozen=True, slots=True)
class PostTransaction:
    """`effective_time` None: when it is recorded. With `validate_only` nothing is recorded, whatever comes of it."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller", "validate_only")

    legs: tuple[Leg | SpreadLeg, ...]
    description: str = ""
    metadata: Metadata = ()
    caller: Caller = OURSELVES
    effective_time: datetime | None = None
    validate_only: bool = False

    def check(self) -> None:
        """Raises FieldInvalid, AmountNotPositive, CurrencyUnknown, LegsInvalid, SplitNotWhole: each over all legs
        before the next."""
        if taken := sorted(OUR_FACTS.intersection(key for key, _ in self.metadata)):
            raise FieldInvalid(FieldViolation("metadata", f"{taken[0]} is said of movements over rails by us alone"))
        for position, leg in enumerate(self.legs):
            if leg.purpose and leg.payment is None:
                path = f"legs[{position}].payment"
                raise FieldInvalid(FieldViolation(path, "required where a purpose is given"))
        for position, leg in enumerate(self.legs):
            check_positive(leg.amount.minor, f"legs[{position}].amount.amount_minor")
        for position, leg in enumerate(self.legs):
            check_currency(leg.amount.currency, f"legs[{position}].amount.currency")
        for position, leg in enumerate(self.legs):
            if set(leg.debits) & set(leg.credits) or len(set(leg.debits)) < len(leg.debits):
                raise LegsInvalid(position)
        for position, leg in enumerate(self.legs):
            if isinstance(leg, SpreadLeg):
                leg.check(f"legs[{position}]")


@dataclass(frozen=True, slots=True)
class ReverseTransaction:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    name: UUID
    description: str = ""
    effective_time: datetime | None = None
    caller: Caller = OURSELVES

    def check(self) -> None:
        """Nothing to check."""


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


@dataclass(frozen=True, slots=True)
class CreateWithdrawal:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    owner: str
    kind: str
    amount: Money
    rail: str
    instrument: str = ""
    limit_class: str = ""
    metadata: Metadata = ()
    caller: Caller = OURSELVES

    def check(self) -> None:
        """Raises AmountNotPositive, CurrencyUnknown."""
        check_money(self.amount, "amount")


@dataclass(frozen=True, slots=True)
class ReportRailResult:
    """What became of a movement over a rail. A rail within this process reports by the same command, without a request:
    it is harmless when it comes twice."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    movement: Movement
    result: RailResult
    # Chargebacks only; None: all that is left.
    amount: Money | None = None
    rail_reference: str = ""
    failure: str = ""
    caller: Caller = OURSELVES

    def check(self) -> None:
        """Raises FieldInvalid, AmountNotPositive, CurrencyUnknown."""
        violations = []
        if self.result in OF_PAYMENTS_ONLY and self.movement.kind is not MovementKind.PAYMENT:
            violations.append(FieldViolation("result", "only payments are charged back; else it is RETURNED"))
        if self.amount is not None and self.result not in OF_PAYMENTS_ONLY:
            violations.append(FieldViolation("amount", "only with a chargeback or its reversal"))
        if violations:
            raise FieldInvalid(*violations)
        if self.amount is not None:
            check_money(self.amount, "amount")


@dataclass(frozen=True, slots=True)
class SetLimits:
    """Minor units; None: no such limit."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    scope: str
    currency: str
    per_transaction_minor: int | None = None
    per_day_minor: int | None = None
    per_month_minor: int | None = None
    caller: Caller = OURSELVES

    def check(self) -> None:
        """Raises CurrencyUnknown."""
        check_currency(self.currency, "currency")


# What payments asks of itself: no request, so each is harmless when it comes twice.


@dataclass(frozen=True, slots=True)
class ExpireHolds:
    """Ends those holds of these payments that have run out."""

    payments: tuple[UUID, ...]


Command = (
    CreatePayment
    | CapturePayment
    | VoidPayment
    | RefundPayment
    | PostTransaction
    | CreateTopUp
    | RefundTopUp
    | SetLimits
    | ExpireHolds
    | CreateWithdrawal
    | ReportRailResult
    | ReverseTransaction
    | AccountCommand
)


def check_money(money: Money, path: str) -> None:
    """Raises AmountNotPositive, then CurrencyUnknown."""
    check_positive(money.minor, f"{path}.amount_minor")
    check_currency(money.currency, f"{path}.currency")

"""What can be done to an account as such: opened, frozen, let go again, closed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from danbao_kit.errors import FieldInvalid, FieldViolation
from danbao_kit.money import check_currency
from danbao_payments.domain.callers import OURSELVES, Caller
from danbao_payments.domain.chart import SUBJECTS


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account by what it is to be, and which partner is said to bring its owner."""

    owner: str
    kind: str
    currency: str
    partner: str = ""

    def __repr__(self) -> str:
        # A request that says no partner is what it was before one could be said: fingerprints are of this.
        said = f", partner={self.partner!r}" if self.partner else ""
        return f"NewAccount(owner={self.owner!r}, kind={self.kind!r}, currency={self.currency!r}{said})"

    def check(self, path: str) -> None:
        """Raises FieldInvalid, CurrencyUnknown."""
        if self.partner and not self.owner.startswith(SUBJECTS):
            raise FieldInvalid(FieldViolation(f"{path}.partner", "only subjects are brought"))
        check_currency(self.currency, f"{path}.currency")


@dataclass(frozen=True, slots=True)
class CreateAccount:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    account: NewAccount
    caller: Caller = OURSELVES

    @property
    def accounts(self) -> tuple[NewAccount, ...]:
        """As of many at once."""
        return (self.account,)

    def check(self) -> None:
        """Raises FieldInvalid, CurrencyUnknown."""
        self.account.check("account")


@dataclass(frozen=True, slots=True)
class CreateAccounts:
    """Many at once: all or none."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    accounts: tuple[NewAccount, ...]
    caller: Caller = OURSELVES

    def check(self) -> None:
        """Raises FieldInvalid, CurrencyUnknown."""
        for position, account in enumerate(self.accounts):
            account.check(f"accounts[{position}]")


@dataclass(frozen=True, slots=True)
class FreezeAccount:
    """`scope` is DEBITS or ALL."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    name: UUID
    scope: str = "DEBITS"
    caller: Caller = OURSELVES

    def check(self) -> None:
        """Nothing to check."""


@dataclass(frozen=True, slots=True)
class UnfreezeAccount:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    name: UUID
    caller: Caller = OURSELVES

    def check(self) -> None:
        """Nothing to check."""


@dataclass(frozen=True, slots=True)
class CloseAccount:
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    name: UUID
    caller: Caller = OURSELVES

    def check(self) -> None:
        """Nothing to check."""


AccountCommand = CreateAccount | CreateAccounts | FreezeAccount | UnfreezeAccount | CloseAccount

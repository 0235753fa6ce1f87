"""What can be done to an account as such: opened, frozen, let go again, closed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from danbao_kit.money import check_currency
from danbao_payments.domain.callers import OURSELVES, Caller


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account by what it is to be."""

    owner: str
    kind: str
    currency: str


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
        """Raises CurrencyUnknown."""
        check_currency(self.account.currency, "account.currency")


@dataclass(frozen=True, slots=True)
class CreateAccounts:
    """Many at once: all or none."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller",)

    accounts: tuple[NewAccount, ...]
    caller: Caller = OURSELVES

    def check(self) -> None:
        """Raises CurrencyUnknown."""
        for position, account in enumerate(self.accounts):
            check_currency(account.currency, f"accounts[{position}].currency")


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

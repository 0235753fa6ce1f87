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
class CreateAccounts:
    """One account, or many at once: all or none. `many` is how it was asked for, and so how it is answered."""

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("caller", "many")

    accounts: tuple[NewAccount, ...]
    many: bool = False
    caller: Caller = OURSELVES

    def check(self) -> None:
        """Raises CurrencyUnknown."""
        for position, account in enumerate(self.accounts):
            path = f"accounts[{position}].currency" if self.many else "account.currency"
            check_currency(account.currency, path)


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


AccountCommand = CreateAccounts | FreezeAccount | UnfreezeAccount | CloseAccount

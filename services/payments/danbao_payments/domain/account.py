"""What an account is: an owner's money of one kind and currency, as four totals."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID, uuid5

from danbao_payments.domain.chart import CHART, Rule, Side

_NAMESPACE = UUID("6f0d8e0a-54c1-4d5e-9a86-0d4f3a8f5c11")


class AccountState(StrEnum):
    OPEN = "OPEN"
    FROZEN_DEBITS = "FROZEN_DEBITS"
    FROZEN_ALL = "FROZEN_ALL"
    CLOSED = "CLOSED"


class Account(NamedTuple):
    """An account's row. Totals in minor units; what is pending is held, not moved.

    A tuple, because a batch makes thousands of them: a frozen dataclass takes three times as long to make.
    """

    id: UUID
    owner: str
    kind: str
    currency: str
    state: str
    rule: str
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    create_time: datetime
    update_time: datetime
    # Who has brought its owner, as the owner's own row says; empty: nobody.
    partner: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in it and nothing held on it."""
        return self.credits_posted == self.debits_posted and not self.debits_pending and not self.credits_pending


@lru_cache(maxsize=200_000)
def account_id(owner: str, kind: str, currency: str) -> UUID:
    """The same owner, kind and currency give the same id everywhere, so nobody has to look it up."""
    return uuid5(_NAMESPACE, f"{owner}|{kind}|{currency}")


def new_account(owner: str, kind: str, currency: str, now: datetime, partner: str = "") -> Account:
    """An account nobody has posted to yet."""
    state, rule = AccountState.OPEN.value, CHART[kind].rule.value
    return Account(account_id(owner, kind, currency), owner, kind, currency, state, rule, 0, 0, 0, 0, now, now, partner)


def available_minor(account: Account) -> int:
    """What may still be taken: the posted balance on the normal side less the holds on it."""
    if CHART[account.kind].normal_side is Side.DEBIT:
        return account.debits_posted - account.credits_posted - account.credits_pending
    return account.credits_posted - account.debits_posted - account.debits_pending


def is_short(account: Account) -> bool:
    """Whether the account's totals break its rule."""
    if account.rule == Rule.CREDITS_COVER_DEBITS:
        return account.credits_posted - account.debits_posted - account.debits_pending < 0
    if account.rule == Rule.DEBITS_COVER_CREDITS:
        return account.debits_posted - account.credits_posted - account.credits_pending < 0
    return False

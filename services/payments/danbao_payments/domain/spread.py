"""How a leg of several sources or destinations becomes plain movements, by what is available when it is decided."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from danbao_kit.money import Money
from danbao_payments.domain.account import account_id, available_minor
from danbao_payments.domain.books import Books
from danbao_payments.domain.chart import CHART, Rule, Side
from danbao_payments.domain.commands import AccountKey, Leg, SpreadLeg
from danbao_payments.domain.errors import InsufficientFunds


class Plan:
    """The plain movements of legs in order: each sees what the ones before it leave.

    `shortage` is the first leg's that its sources cannot meet; whoever posts the movements raises it when it is due.
    """

    def __init__(self, legs: Iterable[Leg | SpreadLeg], books: Books, now: datetime) -> None:
        self.movements: list[Leg] = []
        # The leg that each movement is of.
        self.origins: list[Leg | SpreadLeg] = []
        self.shortage: InsufficientFunds | None = None
        self._books = books
        self._now = now
        # What earlier movements change, in minor units on the credit side.
        self._credited: dict[UUID, int] = {}
        for leg in legs:
            if isinstance(leg, SpreadLeg):
                self._spread(leg)
            else:
                self._move(leg, leg)

    def _spread(self, leg: SpreadLeg) -> None:
        parts = [(key, minor) for key, minor in leg.parts() if key is not None and minor]
        takes, missing = self._take(leg, sum(minor for _, minor in parts))
        if missing and self.shortage is None:
            last = leg.sources[-1].account
            self.shortage = InsufficientFunds(
                account_id(last.owner, last.kind, leg.amount.currency),
                owner=last.owner,
                kind=last.kind,
                available_minor=sum(minor for _, minor in takes),
                amount_minor=sum(minor for _, minor in parts),
            )
        for credit, minor in parts:
            while minor and takes:
                debit, left = takes[0]
                moved = min(minor, left)
                self._move(Leg(debit, credit, Money(leg.amount.currency, moved), leg.payment, leg.purpose), leg)
                minor -= moved
                if moved == left:
                    takes.pop(0)
                else:
                    takes[0] = (debit, left - moved)

    def _take(self, leg: SpreadLeg, needed_minor: int) -> tuple[list[tuple[AccountKey, int]], int]:
        takes = []
        for source in leg.sources:
            taken = min(needed_minor, self._available(source.account, leg.amount.currency, needed_minor))
            if source.cap_minor is not None:
                taken = min(taken, source.cap_minor)
            if taken > 0:
                takes.append((source.account, taken))
                needed_minor -= taken
        return takes, needed_minor

    def _available(self, key: AccountKey, currency: str, needed_minor: int) -> int:
        kind = CHART[key.kind]
        if kind.rule is Rule.NONE or kind.normal_side is Side.DEBIT:
            return needed_minor  # a debit makes it grow, or it may go either way
        account = self._books.account(key.owner, key.kind, currency, self._now)
        return available_minor(account) + self._credited.get(account.id, 0)

    def _move(self, leg: Leg, origin: Leg | SpreadLeg) -> None:
        debit = account_id(leg.debit.owner, leg.debit.kind, leg.amount.currency)
        credit = account_id(leg.credit.owner, leg.credit.kind, leg.amount.currency)
        self._credited[debit] = self._credited.get(debit, 0) - leg.amount.minor
        self._credited[credit] = self._credited.get(credit, 0) + leg.amount.minor
        self.movements.append(leg)
        self.origins.append(origin)

"""An order in the making: ordinary and delivered at first, then changed into what it shall be."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

FIRST_PURCHASE = datetime(2017, 1, 2, 8, 0, tzinfo=UTC)
_TYPES = ("credit_card", "credit_card", "credit_card", "boleto", "debit_card")


@dataclass(slots=True)
class DraftItem:
    """One item of it."""

    seller_id: str
    shipping_limit: datetime
    price_minor: int
    freight_minor: int


@dataclass(slots=True)
class Draft:
    """Everything of an order that the files will tell."""

    order_id: str
    customer: str | None
    sellers: list[str]
    purchased: datetime
    approved: datetime | None
    handed: datetime | None
    delivered: datetime | None
    estimated: datetime
    status: str = "delivered"
    items: list[DraftItem] = field(default_factory=list)
    payments: list[tuple[str, int]] = field(default_factory=list)
    scores: list[int] = field(default_factory=list)

    @classmethod
    def of_chance(
        cls, chance: random.Random, order_id: str, customer: str, sellers: list[str], purchased: datetime
    ) -> Self:
        """An ordinary order: approved within hours, shipped in time, delivered within two weeks."""
        approved = purchased + timedelta(seconds=chance.randrange(60, 20 * 3600))
        limit = approved + timedelta(days=chance.randrange(3, 8))
        handed = approved + timedelta(seconds=chance.randrange(6 * 3600, 66 * 3600))
        delivered = handed + timedelta(seconds=chance.randrange(86_400, 14 * 86_400))
        draft = cls(
            order_id=order_id,
            customer=customer,
            sellers=sellers,
            purchased=purchased,
            approved=approved,
            handed=handed,
            delivered=delivered,
            estimated=(purchased + timedelta(days=24)).replace(hour=0, minute=0, second=0),
        )
        seller = chance.choice(sellers)
        for _ in range(chance.choice((1, 1, 1, 1, 2, 3))):
            draft.add_item(chance, seller, limit)
        draft.payments = [(chance.choice(_TYPES), draft.due_minor)]
        if chance.random() < 0.7:
            draft.scores = [chance.choice((5, 5, 5, 4, 4, 3, 2, 1))]
        return draft

    def add_item(self, chance: random.Random, seller: str, limit: datetime) -> None:
        """One more item; the payments are left as they are."""
        self.items.append(DraftItem(seller, limit, chance.randrange(500, 30_000), chance.randrange(300, 4_000)))

    @property
    def due_minor(self) -> int:
        """Items and freight."""
        return sum(item.price_minor + item.freight_minor for item in self.items)

    @property
    def limit(self) -> datetime:
        """The last shipping limit."""
        return max(item.shipping_limit for item in self.items)

"""What an order of the files says, as values. Amounts are minor units of CURRENCY, times are taken as UTC."""

from dataclasses import dataclass
from datetime import datetime

CURRENCY = "BRL"
STATUSES = ("created", "approved", "invoiced", "processing", "shipped", "delivered", "unavailable", "canceled")


@dataclass(frozen=True, slots=True)
class Item:
    """Something bought from one seller."""

    item_id: str
    seller_id: str
    shipping_limit: datetime
    price_minor: int
    freight_minor: int


@dataclass(frozen=True, slots=True)
class PaymentRow:
    """One way in which the order was paid for; `number` counts the order's rows from 1."""

    number: int
    payment_type: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Review:
    """What the customer thought of it, 1 to 5."""

    score: int
    created: datetime | None


@dataclass(frozen=True, slots=True)
class Order:
    """One order with everything that belongs to it. `customer` is the person, not the order's own customer id."""

    order_id: str
    line: int
    status: str
    customer: str
    customer_known: bool
    purchased: datetime
    approved: datetime | None
    handed_to_carrier: datetime | None
    delivered: datetime | None
    estimated: datetime | None
    items: tuple[Item, ...]
    payments: tuple[PaymentRow, ...]
    reviews: tuple[Review, ...]
    unknown_sellers: tuple[str, ...] = ()

    @property
    def paid_minor(self) -> int:
        """All payment rows."""
        return sum(row.amount_minor for row in self.payments)


@dataclass(frozen=True, slots=True)
class OddRow:
    """A line that could not be used, in whole or in part, and why."""

    kind: str
    file: str
    line: int
    reason: str


UNREADABLE = "ROW_UNREADABLE"
VALUE_UNREADABLE = "VALUE_UNREADABLE"
ORPHAN = "ROW_WITHOUT_ORDER"
DUPLICATE = "ROW_TWICE"


@dataclass(frozen=True, slots=True)
class OlistOrders:
    """The orders of a folder, in the file's order, and the lines that are odd by themselves."""

    orders: tuple[Order, ...]
    odd_rows: tuple[OddRow, ...]
    rows_in_orders_file: int
    missing_files: tuple[str, ...]

"""The trades that an order becomes, as values, and the times that escrow gives them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

SYSTEM_CANCELS_AFTER = timedelta(days=7)
POST_CONFIRMS_AFTER = timedelta(days=60)


@dataclass(frozen=True, slots=True)
class PlannedLine:
    """One line of a trade."""

    line_id: str
    title: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class PlannedTrade:
    """One trade: an order's items of one seller."""

    seller_id: str
    lines: tuple[PlannedLine, ...]
    postage_minor: int
    ship_by: datetime

    @property
    def total_minor(self) -> int:
        """Lines and postage."""
        return sum(line.amount_minor for line in self.lines) + self.postage_minor

    @property
    def system_cancels(self) -> datetime:
        """When the system gives the money back."""
        return self.ship_by + SYSTEM_CANCELS_AFTER

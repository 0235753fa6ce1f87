"""Several unpaid trades of one buyer, paid by one payment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from danbao_kit.errors import Code, DanbaoError

CHECKOUTS = "checkouts"
FEWEST, MOST = 2, 20


class CheckoutState(StrEnum):
    """Where a checkout stands."""

    OPEN = "OPEN"
    PAYING = "PAYING"
    PAID = "PAID"
    # A trade of it ended, was paid alone, or costs something else.
    VOID = "VOID"


# No slots: danbao_kit.immutable.
@dataclass(frozen=True)
class Checkout:
    """Trades that are paid together or not at all. Its payment's id follows from its own and `generation`."""

    checkout_id: UUID
    state: CheckoutState
    buyer: str
    partner: str
    currency: str
    trade_ids: tuple[UUID, ...]
    amount_minor: int
    create_time: datetime
    update_time: datetime
    # Rises with every payment that came to nothing.
    generation: int = 0
    # How many of its trades' steps have not ended.
    waiting: int = 0
    payment: str = ""
    rail: str = ""
    refusal: str = ""
    end_time: datetime | None = None
    revision: int = 0

    @property
    def name(self) -> str:
        """checkouts/{uuid}."""
        return f"{CHECKOUTS}/{self.checkout_id}"

    @property
    def is_open(self) -> bool:
        """Whether its trades are still bound by it."""
        return self.state in (CheckoutState.OPEN, CheckoutState.PAYING)


class CheckoutNotFound(DanbaoError):
    code, reason = Code.NOT_FOUND, "CHECKOUT_NOT_FOUND"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no {name}", name=name)


class CheckoutStateInvalid(DanbaoError):
    code, reason = Code.FAILED_PRECONDITION, "TRADE_STATE_INVALID"

    def __init__(self, name: str, command: str, state: str) -> None:
        legal = "PayCheckout" if state == CheckoutState.OPEN else ""
        super().__init__(
            f"{command} is not legal now: {name} is {state}",
            name=name,
            command=command,
            state=state,
            legal_commands=legal,
        )


class TradeInCheckout(DanbaoError):
    """The trade belongs to a checkout that is open, or whose payment is under way."""

    code, reason = Code.FAILED_PRECONDITION, "TRADE_STATE_INVALID"

    def __init__(self, trade: str, command: str, state: str, checkout: str) -> None:
        super().__init__(
            f"{command} is not legal now: {trade} is part of {checkout}",
            trade=trade,
            command=command,
            state=state,
            legal_commands="",
            checkout=checkout,
        )

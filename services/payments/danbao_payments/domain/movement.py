"""What a movement over a rail is named, what a rail can say of it, and what a table of movements answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeVar
from uuid import UUID

from danbao_payments.domain.transfer import Metadata


class MovementKind(StrEnum):
    """What moves over rails, by the collection of its name."""

    TOP_UP = "topUps"
    WITHDRAWAL = "withdrawals"
    PAYMENT = "payments"
    REFUND = "refunds"


@dataclass(frozen=True, slots=True)
class Movement:
    """One movement over a rail, by its name."""

    kind: MovementKind
    id: UUID

    @property
    def name(self) -> str:
        """As in the contract: topUps/{uuid}."""
        return f"{self.kind.value}/{self.id}"


class RailResult(StrEnum):
    """What a rail says of a movement, or that it says nothing."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    SETTLED = "SETTLED"
    RETURNED = "RETURNED"
    CHARGEBACK = "CHARGEBACK"
    CHARGEBACK_REVERSED = "CHARGEBACK_REVERSED"
    # No report of the contract: the rail was asked and gave no answer.
    UNANSWERED = "UNANSWERED"


# Only a payment can be charged back; whatever else is taken back is RETURNED.
OF_PAYMENTS_ONLY = frozenset({RailResult.CHARGEBACK, RailResult.CHARGEBACK_REVERSED})
# What can be said of everything else.
RESULTS = tuple(result for result in RailResult if result not in OF_PAYMENTS_ONLY)

E = TypeVar("E", bound=StrEnum)
S = TypeVar("S", bound=StrEnum)


class Step(NamedTuple):
    """What a report leads to: the state, and what is done in this order. No effects: the report tells nothing new."""

    to: StrEnum | None
    effects: tuple[StrEnum, ...] = ()


# The report was told before, or is overtaken by what was.
NOTHING_NEW = Step(None)
# The report contradicts what is known: nothing moves, and somebody has to find out.
CONFLICT: None = None

Table = Mapping[tuple[S, RailResult], Step | None]


# By these a transaction upon a rail's accounts is found beside the rail's statement. Nobody else says them.
OUR_FACTS = frozenset({"movement", "top_up", "rail_reference"})


def movement_metadata(movement: Movement, rail_reference: str, *others: tuple[str, str]) -> Metadata:
    """What a transaction upon a rail's accounts carries, so that it can be found beside the rail's own statement."""
    facts = {"movement": movement.name, **dict(others)}
    if rail_reference:
        facts["rail_reference"] = rail_reference
    return tuple(sorted(facts.items()))

"""What has been done with one order so far; goes to the journal and comes back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(slots=True)
class CaseRecord:
    """A refund case on one of its lines."""

    name: str
    dispute: str = ""


@dataclass(slots=True)
class TradeRecord:
    """One trade of it."""

    name: str = ""
    """trades/{uuid}; empty when it was refused."""
    refusal: str = ""
    """Why it was not made."""
    paid: bool = False
    shipped: bool = False
    confirmed: bool = False
    """By the buyer; else by time, or by an operator where the terms want one."""
    cancelled: bool = False
    """By the seller, or unpaid by the buyer; else by time."""
    left_to_operator: bool = False
    """Its terms do not confirm by time."""
    cases: dict[str, CaseRecord] = field(default_factory=dict)
    """By line."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """From the journal."""
        cases = {line_id: CaseRecord(**case) for line_id, case in content["cases"].items()}
        return cls(**{**content, "cases": cases})


@dataclass(slots=True)
class TopUpRecord:
    """One top-up of it, and how much of it went back."""

    name: str
    amount_minor: int
    returned_minor: int = 0


@dataclass(slots=True)
class OrderRecord:
    """One order. `unexpected` is what no rule explains: it makes the order unaccounted for."""

    trades: dict[str, TradeRecord] = field(default_factory=dict)
    top_ups: list[TopUpRecord] = field(default_factory=list)
    from_suspense_minor: int = 0
    to_suspense_minor: int = 0
    refusals: list[str] = field(default_factory=list)
    """Answers that a rule expects."""
    unexpected: list[str] = field(default_factory=list)
    finished: bool = False

    @property
    def topped_up_minor(self) -> int:
        """What came in for it."""
        return sum(top_up.amount_minor for top_up in self.top_ups)

    @property
    def returned_minor(self) -> int:
        """What went back over its rails."""
        return sum(top_up.returned_minor for top_up in self.top_ups)

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """From the journal."""
        trades = {seller: TradeRecord.from_json(trade) for seller, trade in content["trades"].items()}
        top_ups = [TopUpRecord(**top_up) for top_up in content["top_ups"]]
        return cls(**{**content, "trades": trades, "top_ups": top_ups})

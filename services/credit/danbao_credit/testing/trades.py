"""For tests: one trade of two people with habits, from its creation to wherever it gets before NOW_US."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from danbao_credit.domain.events import (
    CaseEvent,
    ClaimEvent,
    DisputeEvent,
    Event,
    Line,
    Role,
    TradeEvent,
    TradeState,
)

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
MINUTE_US = 60_000_000
# 2026-12-01T00:00:00Z
NOW_US = 1_796_083_200_000_000
YEARS_US = 730 * DAY_US
_REASONS = ("not_received", "not_as_described", "damaged", "late", "counterfeit", "changed_mind", "other")


@dataclass(frozen=True, slots=True)
class Habits:
    """Somebody's ways, each from 0 to 1."""

    name: str
    care: float
    speed: float
    honesty: float
    wealth: float
    since_us: int
    currency: str
    trades: int


class Fate:
    """What happens by chance, and numbers for what is told; the same again with the same seed."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self._sequence = 0

    def chance(self, probability: float) -> bool:
        return self.dice.random() < probability

    def moment(self, *habits: Habits) -> int:
        """Any time since all of them are there, more often a late one."""
        start = max(item.since_us for item in habits)
        return NOW_US - round((NOW_US - start) * self.dice.random() ** 1.5) - 1

    def hours(self, mean: float) -> int:
        return round(self.dice.expovariate(1 / max(mean, 0.02)) * HOUR_US)

    def next(self) -> int:
        self._sequence += 1
        return self._sequence


class Trade:
    """One trade from its creation to wherever it gets by NOW_US."""

    def __init__(self, fate: Fate, seller: Habits, buyer: Habits) -> None:
        self._fate = fate
        self._dice = fate.dice
        self._seller, self._buyer = seller, buyer
        number = fate.next()
        self._name = f"trades/{number}"
        # Some are the seller's invoice.
        self._made_by = Role.BUYER if number % 8 else Role.SELLER
        self._create_us = fate.moment(seller, buyer)
        dice = self._dice
        count = dice.choices((1, 2, 3), (7, 2, 1))[0]
        size = dice.choices((2.6, 3.4, 4.4, 5.3), (1, 4, 5, 1 + 2 * seller.wealth))[0]
        self._total = round(10 ** dice.gauss(size, 0.3))
        self._refunded = 0
        self._lines = [Line(f"L{n}", False, True, None, None, None, 0) for n in range(1, count + 1)]
        self._pay_us: int | None = None
        self._state = TradeState.OPEN
        self._by_rail, self._in_checkout = fate.chance(0.3), fate.chance(0.2)
        self._adjusted = fate.chance(0.1)

    def events(self) -> Iterator[Event]:
        chance, hours = self._fate.chance, self._fate.hours
        seller, buyer = self._seller, self._buyer
        at = self._create_us
        yield self._event("trade_created", at, self._made_by)
        if self._adjusted:
            yield self._event("price_adjusted", at + MINUTE_US, Role.SELLER)
        for _ in range(2):
            if chance(0.12 * (1.2 - buyer.care)):
                yield self._event("trade_payment_refused", at + 2 * MINUTE_US, Role.BUYER)
        if chance(0.15):
            yield self._event("trade_reminder", at + 20 * HOUR_US, Role.SYSTEM, reason="PayBy")
        if self._by_rail:
            yield self._event("trade_payment_pending", at + 3 * MINUTE_US, Role.BUYER)
        if chance(0.04 + 0.25 * (1 - buyer.care)):
            by = self._dice.choices((Role.BUYER, Role.SELLER, Role.SYSTEM), (3, 1, 3))[0]
            yield self._event("trade_cancelled", at + hours(20), by)
            return
        at += hours(6 * (1.1 - buyer.speed))
        self._pay_us = at
        yield self._event("trade_paid", at, Role.BUYER, amount=self._total)
        if chance(0.03 + 0.2 * (1 - seller.care)):
            by = self._dice.choices((Role.SELLER, Role.BUYER, Role.SYSTEM), (4, 2, 2))[0]
            yield self._refunded_event(at + 3 * DAY_US + hours(60) * (by is not Role.SELLER), by)
            return
        yield from self._delivered(at)

    def _delivered(self, paid_us: int) -> Iterator[Event]:
        chance, hours = self._fate.chance, self._fate.hours
        seller = self._seller
        at = paid_us + hours(90 * (1.1 - seller.speed))
        if chance(0.2):
            yield self._event("trade_reminder", paid_us + 60 * HOUR_US, Role.SYSTEM, reason="ShipBy")
        parts = [self._lines[:1], self._lines[1:]] if len(self._lines) > 1 and chance(0.4) else [self._lines]
        for part in parts:
            ids = tuple(line.line_id for line in part)
            self._change(ids, is_to_ship=False, ship_us=at)
            yield self._event("lines_shipped", at, Role.SELLER, ids)
            at += hours(10)
        shipped = at
        if chance(0.1):
            self._change((), extended_days=3)
            yield self._event("confirmation_extended", at + DAY_US, Role.BUYER)
        if chance(0.85):
            at += hours(150 * (1.1 - seller.speed)) + 12 * HOUR_US
            self._change((), deliver_us=at)
            yield self._event("lines_delivered", at, Role.CARRIER)
        else:
            at += 9 * DAY_US
        if chance(0.05 + 0.3 * (1 - seller.care)):
            yield from self._case(at + hours(30))
            return
        if chance(0.1):
            yield self._event("trade_reminder", at + 2 * DAY_US, Role.SYSTEM, reason="AutoConfirm")
        confirmed = chance(0.6)
        at = at + hours(50) if confirmed else at + 8 * DAY_US
        if chance(0.06):
            yield self._event("step_blocked", at, Role.SYSTEM)
        if chance(0.06):
            yield self._event("operator_needed", at, Role.SYSTEM)
        if len(self._lines) > 1 and chance(0.3):
            yield from self._ended_in_two(at)
            return
        yield self._released_event(at, Role.BUYER if confirmed else Role.SYSTEM)
        if chance(0.3):
            yield self._event("held_released", at + 2 * DAY_US, Role.SYSTEM, amount=self._total // 10)
        if chance(0.12 * (1.2 - self._buyer.honesty)):
            yield self._event("trade_charged_back", at + hours(500), Role.SYSTEM, amount=self._total)
            if chance(0.4):
                yield self._event("trade_chargeback_reversed", at + 40 * DAY_US, Role.SYSTEM, amount=self._total)
        if chance(0.12):
            yield from self._claim(max(at, shipped) + hours(100))

    def _ended_in_two(self, at: int) -> Iterator[Event]:
        """The first line is released, then the seller gives the money of the others back."""
        first, *others = (line.line_id for line in self._lines)
        part = self._total // len(self._lines)
        self._change((first,), settle_us=at)
        yield self._event("lines_released", at, Role.BUYER, (first,), amount=part)
        at += DAY_US
        self._change(tuple(others), settle_us=at, is_refunded=True)
        self._refunded, self._state = self._total - part, TradeState.COMPLETED
        yield self._event("lines_refunded", at, Role.SELLER, tuple(others), amount=self._refunded)

    def _case(self, at: int) -> Iterator[Event]:
        chance, hours, dice = self._fate.chance, self._fate.hours, self._dice
        reason = dice.choice(_REASONS)
        with_return = chance(0.4)
        created = at

        def case(kind: str, at: int, actor: Role, *, moved: int = 0, returned: bool = False) -> CaseEvent:
            return CaseEvent(
                self._fate.next(), kind, at, "", f"refundCases/{self._name}", self._name, self._buyer.name,
                self._seller.name, self._seller.currency, actor, self._total, moved, reason, with_return, returned,
                created,
            )  # fmt: skip

        yield case("refund_case_opened", at, Role.BUYER)
        weights = (5, 4, 2, 1 + 2 * (1 - self._seller.care), 1)
        fate = dice.choices(("pays", "refuses", "withdrawn", "silent", "open"), weights)[0]
        at += hours(40 * (1.1 - self._seller.speed))
        if fate == "withdrawn":
            yield case("refund_case_withdrawn", at, Role.BUYER)
            yield self._released_event(at + 5 * DAY_US, Role.SYSTEM)
        elif fate in ("pays", "silent"):
            actor = Role.SELLER if fate == "pays" else Role.SYSTEM
            at += 5 * DAY_US * (fate == "silent")
            if with_return:
                yield case("refund_case_accepted", at, actor)
                if chance(0.25):
                    yield case("refund_case_withdrawn", at + 7 * DAY_US, Role.SYSTEM)
                    yield self._released_event(at + 9 * DAY_US, Role.SYSTEM)
                    return
                at += hours(60)
                yield case("return_submitted", at, Role.BUYER, returned=True)
                at += hours(80)
            yield self._refunded_event(at, actor)
            yield case("refund_case_succeeded", at, actor, moved=self._total, returned=with_return)
        elif fate == "refuses":
            yield case("refund_case_rejected", at, Role.SELLER)
            if chance(0.65):
                yield from self._dispute(at + hours(40))
            else:
                yield case("refund_case_closed", at + 7 * DAY_US, Role.SYSTEM)
                yield self._released_event(at + 9 * DAY_US, Role.SYSTEM)

    def _dispute(self, at: int) -> Iterator[Event]:
        chance, hours, dice = self._fate.chance, self._fate.hours, self._dice
        created = at
        to_buyer = 0

        def dispute(kind: str, at: int, actor: Role, *, decided: bool = False, moved: int = 0) -> DisputeEvent:
            return DisputeEvent(
                self._fate.next(), kind, at, "", f"disputes/{self._name}", self._name, self._buyer.name,
                self._seller.name, self._seller.currency, actor, self._total, decided, to_buyer,
                self._total - to_buyer, moved, created,
            )  # fmt: skip

        yield dispute("dispute_opened", at, Role.BUYER)
        for _ in range(dice.randrange(3)):
            yield dispute("evidence_added", at + hours(20), dice.choice((Role.BUYER, Role.SELLER)))
        to_buyer = self._total if chance(0.15) else round(self._total * dice.random())
        if chance(0.5):
            yield dispute("offer_made", at + hours(30), dice.choice((Role.BUYER, Role.SELLER)))
        if chance(0.15):
            return
        at += 2 * DAY_US + hours(60)
        settled = chance(0.4)
        if settled:
            yield dispute("dispute_settled", at, Role.BUYER)
        else:
            if chance(0.4):
                yield dispute("dispute_overdue", at, Role.SYSTEM)
            yield dispute("dispute_decided", at, Role.ARBITER, decided=True)
            if chance(0.3):
                yield dispute("dispute_appealed", at + hours(20), dice.choice((Role.BUYER, Role.SELLER)), decided=True)
                at += 5 * DAY_US
        at += hours(50)
        self._state = TradeState.COMPLETED if to_buyer < self._total else TradeState.CLOSED
        yield self._event("lines_settled", at, Role.ARBITER, amount=self._total)
        yield dispute("dispute_closed", at, Role.ARBITER, decided=not settled, moved=self._total)

    def _claim(self, at: int) -> Iterator[Event]:
        created = at

        def claim(kind: str, at: int, paid: int = 0) -> ClaimEvent:
            return ClaimEvent(
                self._fate.next(), kind, at, "", f"claims/{self._name}", self._name, self._buyer.name,
                self._seller.name, self._seller.currency, self._total, paid, created,
            )  # fmt: skip

        yield claim("claim_opened", at)
        if self._fate.chance(0.2):
            yield claim("claim_payment_refused", at + DAY_US)
        fate = self._dice.random()
        if fate < 0.7:
            paid = round(self._total * self._dice.random())
            kind = "claim_compensated" if fate < 0.4 else "claim_rejected"
            yield claim(kind, at + self._fate.hours(100), paid if fate < 0.4 else 0)

    def _released_event(self, at: int, by: Role) -> Event:
        self._change((), settle_us=at)
        self._state = TradeState.COMPLETED
        return self._event("lines_released", at, by, amount=self._total)

    def _refunded_event(self, at: int, by: Role) -> Event:
        self._change((), settle_us=at, is_refunded=True, is_to_ship=False)
        self._state = TradeState.CLOSED
        self._refunded = self._total
        return self._event("lines_refunded", at, by, amount=self._total)

    def _change(self, ids: tuple[str, ...], **changes: Any) -> None:
        self._lines = [replace(line, **changes) if not ids or line.line_id in ids else line for line in self._lines]

    def _event(
        self, kind: str, at: int, by: Role, ids: tuple[str, ...] = (), *, amount: int = 0, reason: str = ""
    ) -> TradeEvent:
        pay_us = self._pay_us
        return TradeEvent(
            sequence=self._fate.next(), kind=kind, at_us=at, traceparent="", trade=self._name, buyer=self._buyer.name,
            seller=self._seller.name, currency=self._seller.currency, state=self._state, actor=by, line_ids=ids,
            amount_minor=amount, lines=tuple(self._lines), create_us=self._create_us, pay_us=pay_us,
            ship_by_us=None if pay_us is None else pay_us + 3 * DAY_US, total_minor=self._total,
            refunded_minor=self._refunded, by_rail=self._by_rail, in_checkout=self._in_checkout,
            is_adjusted=self._adjusted, reason=reason, made_by=self._made_by,
        )  # fmt: skip

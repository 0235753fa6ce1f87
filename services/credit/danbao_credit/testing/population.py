"""For tests: a varied population over two years, as payments, escrow and other teams would tell of it.

Deterministic by its seed. Everybody has habits of their own (how careful, how quick, how honest, how wealthy), and the
same habits show in everything they do. The events are in credit's own words: what is measured is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.events import (
    AccountEvent,
    Event,
    OwnerEvent,
    PaymentEvent,
    RailRefundEvent,
    ReportedEvent,
    Source,
    TopUpEvent,
    WithdrawalEvent,
)
from danbao_credit.domain.facts import facts_of
from danbao_credit.domain.profile import Change, Profile
from danbao_credit.testing.trades import DAY_US, HOUR_US, MINUTE_US, NOW_US, YEARS_US, Fate, Habits, Trade


@dataclass(frozen=True, slots=True)
class Told:
    """An event and who tells it."""

    source: Source
    event: Event


class Population:
    """Sellers, buyers and some who are both; `told` is their history in no particular order."""

    def __init__(self, seed: int = 7, *, sellers: int = 110, buyers: int = 210) -> None:
        self._fate = Fate(seed)
        self._dice = self._fate.dice
        self.sellers = [self._habits(f"s{number}", busy=60) for number in range(sellers)]
        self.buyers = [self._habits(f"b{number}", busy=12) for number in range(buyers)]
        # Some sellers buy, too, and some buyers sell now and then.
        self._everybody = self.buyers + self.sellers[: sellers // 3]
        self._shops = self.sellers + self.buyers[: buyers // 8]

    @property
    def subjects(self) -> list[str]:
        return [habits.name for habits in self.sellers + self.buyers]

    def told(self) -> Iterator[Told]:
        """All that happened before NOW_US."""
        return (item for item in self._told() if item.event.at_us < NOW_US)

    def _told(self) -> Iterator[Told]:
        for seller in self._shops:
            friends = [self._buyer(seller) for _ in range(3)]
            for _ in range(self._dice.randrange(1, seller.trades)):
                buyer = self._dice.choice(friends) if self._fate.chance(0.3) else self._buyer(seller)
                yield from self._trade(seller, buyer)
        # Some trade both ways.
        for one, other in zip(self.sellers[:40:2], self.sellers[1:40:2], strict=True):
            for _ in range(self._dice.randrange(4)):
                pair = (one, other) if self._fate.chance(0.5) else (other, one)
                yield from self._trade(*pair)
        for habits in self.sellers + self.buyers:
            yield from self._money(habits)
            yield from self._reports(habits)
        for habits in self.sellers + self.buyers:
            yield Told(
                Source.PAYMENTS,
                OwnerEvent(self._fate.next(), "owner_brought", habits.since_us, "", habits.name, "shop"),
            )

    def _habits(self, name: str, *, busy: int) -> Habits:
        dice = self._dice
        return Habits(
            name=f"subjects/{name}",
            care=dice.betavariate(4, 1.5),
            speed=dice.betavariate(3, 2),
            honesty=dice.betavariate(5, 1.2),
            wealth=dice.random(),
            since_us=NOW_US - round(YEARS_US * dice.random() ** 0.6),
            currency=dice.choices(("CNY", "BRL", "USD", "EUR", "JPY"), (5, 3, 2, 2, 0.3))[0],
            trades=2 + round(busy * dice.random() ** 2 * 1.6),
        )

    def _buyer(self, seller: Habits) -> Habits:
        while True:
            buyer = self._dice.choice(self._everybody)
            if buyer.name != seller.name:
                return buyer

    def _trade(self, seller: Habits, buyer: Habits) -> Iterator[Told]:
        story = Trade(self._fate, seller, buyer)
        yield from (Told(Source.ESCROW, event) for event in story.events())

    def _money(self, who: Habits) -> Iterator[Told]:
        dice = self._dice
        rails = [f"rails/{dice.choice('abc')} {who.name}{number}" for number in range(dice.randrange(1, 4))]
        for number in range(dice.randrange(2, 14)):
            at = self._fate.moment(who)
            amount = round(10 ** dice.uniform(2, 5) * (0.5 + who.wealth))
            about, rail = f"topUps/{who.name}-{number}", dice.choice(rails)

            def told(event: Any) -> Told:
                return Told(Source.PAYMENTS, event)

            def top_up(kind: str, at: int, *, about: str = about, amount: int = amount, rail: str = rail) -> Told:
                event = TopUpEvent(self._fate.next(), kind, at, "", about, who.name, who.currency, amount, rail)
                return told(event)

            failed = self._fate.chance(0.25 * (1 - who.care))
            yield top_up("top_up_failed" if failed else "top_up_succeeded", at)
            if not failed and self._fate.chance(0.08):
                yield top_up(dice.choice(("top_up_returned", "top_up_refund_created")), at + self._fate.hours(200))
            if self._fate.chance(0.6):
                yield from self._payment(who, rail, amount)
            if self._fate.chance(0.5):
                yield from self._withdrawal(who, dice.choice(rails), amount)
            if self._fate.chance(0.06):
                kind = dice.choice(("rail_refund_settled", "rail_refund_settled", "rail_refund_refused"))
                event = RailRefundEvent(self._fate.next(), kind, at + DAY_US, "", about, who.name, who.currency, amount)
                yield told(event)
        if self._fate.chance(0.12):
            at = self._fate.moment(who)
            yield Told(
                Source.PAYMENTS,
                AccountEvent(self._fate.next(), "account_frozen", at, "", "accounts/1", who.name, "CNY"),
            )

    def _payment(self, who: Habits, rail: str, amount: int) -> Iterator[Told]:
        dice = self._dice
        at = self._fate.moment(who)
        peer = dice.choice(self._everybody).name
        payee = peer if peer != who.name and self._fate.chance(0.5) else "trades/1"
        source = rail if self._fate.chance(0.5) else ""
        about = f"payments/{self._fate.next()}"

        def payment(kind: str, at: int) -> Told:
            event = PaymentEvent(
                self._fate.next(), kind, at, "", about, who.name, who.currency, payee, amount, 0, funding_source=source
            )
            return Told(Source.PAYMENTS, event)

        if self._fate.chance(0.15):
            yield payment("payment_declined", at)
            return
        if self._fate.chance(0.4):
            yield payment("payment_authorized", at)
            if self._fate.chance(0.25):
                yield payment(dice.choice(("payment_voided", "payment_expired")), at + self._fate.hours(60))
                return
        yield payment("payment_captured", at + self._fate.hours(2))
        if self._fate.chance(0.15):
            yield payment("payment_refunded", at + self._fate.hours(200))
        if self._fate.chance(0.2 * (1 - who.honesty)):
            yield payment("payment_charged_back", at + self._fate.hours(400))
            if self._fate.chance(0.4):
                yield payment("payment_chargeback_reversed", at + self._fate.hours(900))

    def _withdrawal(self, who: Habits, destination: str, amount: int) -> Iterator[Told]:
        at = self._fate.moment(who)
        about = f"withdrawals/{self._fate.next()}"

        def withdrawal(kind: str, later: int) -> Told:
            event = WithdrawalEvent(
                self._fate.next(), kind, at + later, "", about, who.name, who.currency, amount // 2, destination, at
            )
            return Told(Source.PAYMENTS, event)

        yield withdrawal("withdrawal_created", 0)
        failed = self._fate.chance(0.15)
        yield withdrawal("withdrawal_failed" if failed else "withdrawal_succeeded", self._fate.hours(30))
        if not failed and self._fate.chance(0.08):
            yield withdrawal("withdrawal_returned", self._fate.hours(90) + 30 * HOUR_US)

    def _reports(self, who: Habits) -> Iterator[Told]:
        dice, fate = self._dice, self._fate

        def report(kind: str, at: int, *, peer: str = "", about: str = "", currency: str = "", **measures: int) -> Told:
            event = ReportedEvent(fate.next(), kind, at, "", who.name, peer, about, currency, measures)
            return Told(Source.REPORTS, event)

        def often(kind: str, most: float, **measures: Any) -> Iterator[Told]:
            for _ in range(dice.randrange(round(most) + 1)):
                given = {name: value() if callable(value) else value for name, value in measures.items()}
                yield report(kind, fate.moment(who), **given)

        flaws = 4 * (1 - who.care)
        if fate.chance(0.3 + 0.6 * who.honesty):
            yield report("identity_verified", fate.moment(who), level=dice.randrange(1, 4))
        yield from often("identity_verified", 1, level=lambda: dice.randrange(1, 4))
        yield from often("identity_revoked", 1.4 * (1 - who.honesty))
        for kind in ("contact_verified", "address_verified", "business_licence_verified", "tax_document_filed"):
            yield from often(kind, 2)
        yield from often("login", 12, new_device=lambda: int(fate.chance(0.2)), failed=lambda: int(fate.chance(0.2)))
        devices = [dice.randrange(1, 2**32) for _ in range(3)]
        yield from often("device_seen", 8, device=lambda: dice.choice(devices))
        yield from often("suspicious_login", flaws)
        yield from often("password_changed", 3)
        yield from often("takeover_suspected", flaws / 2)
        yield from often("takeover_cleared", 1)

        def stars() -> int:
            return 5 - min(round(dice.expovariate(0.4 + 2 * who.care)), 4)

        yield from often("review_received", who.trades / 2, rating=stars, peer=lambda: self._buyer(who).name)
        yield from often("review_written", 6, rating=lambda: dice.randrange(1, 6), peer=lambda: self._buyer(who).name)
        yield from often("message_answered", 12, reply_minutes=lambda: fate.hours(4 * (1.1 - who.speed)) // MINUTE_US)
        yield from often("message_unanswered", flaws)
        yield from often("listing_created", who.trades / 3)
        for kind in ("listing_removed_for_cause", "complaint_received", "policy_warning", "support_contact"):
            yield from often(kind, flaws)
        yield from often(
            "policy_penalty", flaws / 2, amount_minor=lambda: dice.randrange(1, 1000), currency=who.currency
        )
        yield from often("delivery_defect", flaws / 2, about=lambda: f"trades/{dice.randrange(9000)}")
        yield from often("obligation_due", 5)
        yield from often("obligation_settled", 4, days_late=lambda: max(round(dice.gauss(0, 20)), 0))
        yield from often("obligation_overdue", flaws, days_overdue=lambda: dice.choice((1, 31)))
        yield from often("promise_made", 4)
        yield from often("promise_kept", 3)
        yield from often("promise_broken", flaws, hours_late=lambda: dice.choice((0, 73)))


def profiles_of(told: Iterator[Told] | list[Told], catalogue: Catalogue) -> dict[str, Profile]:
    """The profiles of everybody after these events, whatever their order."""
    changes: dict[str, list[tuple[int, Change]]] = {}
    for item in told:
        facts = facts_of(item.event, item.source, catalogue)
        for subject, change in facts.changes:
            changes.setdefault(subject, []).append((facts.at_us, change))
    return {subject: Profile.empty().with_changes(moved) for subject, moved in changes.items()}

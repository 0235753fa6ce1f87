"""The books without a store: the same decisions as in service, on a working set that is never written anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from danbao_kit.clock import SettableClock
from danbao_kit.decision import Answer, Moment, RequestKey
from danbao_kit.money import Money
from danbao_kit.time_ordered_ids import TimeOrderedIds
from danbao_payments.application.decide import decider
from danbao_payments.domain.account import Account, account_id, available_minor
from danbao_payments.domain.books import Books
from danbao_payments.domain.callers import Caller, Party
from danbao_payments.domain.chart import CLEARING_PAYOUT, CLEARING_REFUND, SUSPENSE, USER_AVAILABLE
from danbao_payments.domain.commands import AccountKey, Command, CreatePayment, Leg, PostTransaction
from danbao_payments.domain.events import OwnerEvent
from danbao_payments.domain.payment import CaptureMode

START = datetime(2026, 1, 1, tzinfo=UTC)
CNY = "CNY"
OPERATOR = Caller(Party.OPERATOR)
ESCROW = Caller(Party.ESCROW)
PARTNER = Caller(Party.PARTNER, partner="shop")
RIVAL = Caller(Party.PARTNER, partner="rival")


def wallet(owner: str) -> AccountKey:
    """A subject's user.available."""
    return AccountKey(owner, USER_AVAILABLE)


class PureBooks:
    """Decides commands one after another, as one endless batch."""

    def __init__(self, rails: frozenset[str] = frozenset({"rails/simulated"})) -> None:
        self.books = Books()
        self.clock = SettableClock(START)
        self.events: list[Any] = []
        self.answers: list[Answer] = []
        self._decide = decider(rails)
        self._ids = TimeOrderedIds()
        self._last_number = 0
        self._requests = count(1)
        self._last_time = START

    def run(self, command: Command) -> Any:
        """The command's reply. Raises what refuses it, and then nothing has changed."""
        now = max(self.clock.now(), self._last_time + timedelta(microseconds=1))
        moment = Moment(
            now=now,
            ids=self._ids,
            last_number=self._last_number,
            request=RequestKey("test", type(command).__name__, str(next(self._requests))),
        )
        self._find_due_holds(now)
        try:
            reply = self._decide(command, self.books, moment)
        except BaseException:
            self.books.discard()
            raise
        self.books.accept()
        self._last_number, self._last_time = moment.last_number, now
        self.events += moment.events
        self.answers += moment.answers
        return reply

    def advance(self, seconds: float) -> None:
        """Moves business time."""
        self.clock.move_to(self.clock.now() + timedelta(seconds=seconds))

    def fund(self, owner: str, amount_minor: int, currency: str = CNY) -> None:
        """Gives an owner money to begin with."""
        self.post((AccountKey("platform", SUSPENSE), wallet(owner), amount_minor), currency=currency)

    def post(self, *legs: tuple[AccountKey, AccountKey, int], currency: str = CNY, caller: Caller = OPERATOR) -> Any:
        """Posts legs of (debit, credit, minor units)."""
        made = tuple(Leg(debit, credit, Money(currency, minor)) for debit, credit, minor in legs)
        return self.run(PostTransaction(made, caller=caller))

    def pay(
        self,
        payer: str,
        payee: AccountKey,
        amount_minor: int,
        *,
        mode: CaptureMode = CaptureMode.AUTOMATIC,
        lifetime_s: float | None = None,
        caller: Caller = PARTNER,
        currency: str = CNY,
    ) -> Any:
        """A payment."""
        lifetime = None if lifetime_s is None else timedelta(seconds=lifetime_s)
        return self.run(
            CreatePayment(payer, payee, "", Money(currency, amount_minor), mode.value, lifetime, caller=caller)
        )

    def hold(self, payer: str, payee: AccountKey, amount_minor: int, **others: Any) -> Any:
        """A payment that holds money."""
        return self.pay(payer, payee, amount_minor, mode=CaptureMode.MANUAL, **others)

    def account(self, owner: str, kind: str, currency: str = CNY) -> Account:
        """An account; all zero before its first posting."""
        return self.books.account(owner, kind, currency, START)

    def available(self, owner: str, kind: str = USER_AVAILABLE, currency: str = CNY) -> int:
        """What may still be taken, in minor units."""
        return available_minor(self.account(owner, kind, currency))

    def has(self, owner: str, kind: str, currency: str = CNY) -> bool:
        """Whether the account was opened."""
        return account_id(owner, kind, currency) in self.books.accounts

    def kinds_of_events(self) -> Sequence[str]:
        """What happened, in order; who was brought is told besides."""
        return [event.kind for event in self.events if not isinstance(event, OwnerEvent)]

    def check(self) -> None:
        """Debits equal credits in each currency, nothing waits in clearing.capture, what is on its way in the other
        clearing accounts, and the fund is owed what it gave."""
        sums: dict[str, list[int]] = {}
        owed: dict[str, int] = {}
        for account in self.books.accounts.values():
            total = sums.setdefault(account.currency, [0, 0])
            total[0] += account.debits_posted - account.credits_posted
            total[1] += account.debits_pending - account.credits_pending
            if account.kind == "clearing.capture":
                assert account.debits_posted == account.credits_posted, account
            if account.kind in ("receivable.guarantee", "fund.recoverable"):
                net = account.debits_posted - account.credits_posted
                owed[account.currency] = owed.get(account.currency, 0) + net
        assert not any(owed.values()), owed
        assert not any(self._on_its_way().values()), self._on_its_way()
        assert all(total == [0, 0] for total in sums.values()), sums

    def _on_its_way(self) -> dict[tuple[str, str], int]:
        """What waits in each clearing account of rails, less what is on its way."""
        waiting: dict[tuple[str, str], int] = {}
        for account in self.books.accounts.values():
            if account.kind in (CLEARING_PAYOUT, CLEARING_REFUND):
                waiting[account.kind, account.currency] = account.credits_posted - account.debits_posted
        for kind, movements in (
            (CLEARING_PAYOUT, self.books.withdrawals.values()),
            (CLEARING_REFUND, self.books.rail_refunds.values()),
        ):
            for each in movements:
                if each.state in ("PENDING", "UNKNOWN"):
                    waiting[kind, each.currency] = waiting.get((kind, each.currency), 0) - each.amount_minor
        return waiting

    def _find_due_holds(self, now: datetime) -> None:
        due = sorted(
            (payment for payment in self.books.payments.values() if payment.is_due(now)),
            key=lambda payment: (payment.expire_time, payment.id),
        )
        self.books.due_holds = {}
        for payment in due:
            self.books.due_holds.setdefault(payment.payer_account, []).append(payment.id)

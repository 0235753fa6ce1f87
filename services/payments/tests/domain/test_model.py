"""A plain model of wallets beside the real decisions: whatever is asked in whatever order, both say the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from danbao_kit.errors import DanbaoError
from danbao_kit.money import Money
from danbao_payments.domain.commands import (
    CapturePayment,
    Command,
    ExpireHolds,
    Leg,
    PostTransaction,
    RefundPayment,
    VoidPayment,
)
from danbao_payments.testing.pure import CNY, OPERATOR, PARTNER, PureBooks, wallet

OWNERS = ["subjects/a", "subjects/b", "subjects/c"]
owners = st.sampled_from(OWNERS)
amounts = st.one_of(st.integers(1, 20), st.integers(1, 400))


HOLDING = ("AUTHORIZED", "PARTIALLY_CAPTURED")


@dataclass
class ModelPayment:
    """What the model remembers of a payment."""

    payer: str
    payee: str
    amount: int
    ends_at: float | None
    state: str
    captured: int = 0
    refunded: int = 0


@dataclass
class Model:
    """Wallets as plain numbers, holds as a list. Nothing of it is shared with the code under test."""

    now: float = 0
    posted: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OWNERS, 0))
    payments: list[ModelPayment] = field(default_factory=list)

    def pass_time(self) -> None:
        for payment in self.payments:
            if payment.state in HOLDING and payment.ends_at is not None and payment.ends_at <= self.now:
                payment.state = "CAPTURED" if payment.captured else "EXPIRED"

    def available(self, owner: str) -> int:
        held = sum(p.amount - p.captured for p in self.payments if p.payer == owner and p.state in HOLDING)
        return self.posted[owner] - held

    def why_not_capture(self, payment: ModelPayment, amount: int | None) -> str | None:
        if payment.state not in HOLDING:
            return {"CAPTURED": "HOLD_ALREADY_CAPTURED", "VOIDED": "HOLD_ALREADY_VOIDED", "EXPIRED": "HOLD_EXPIRED"}[
                payment.state
            ]
        return "CAPTURE_AMOUNT_EXCEEDED" if amount is not None and amount > payment.amount - payment.captured else None

    def why_not_refund(self, payment: ModelPayment, amount: int | None) -> str | None:
        if payment.state not in ("CAPTURED", "PARTIALLY_CAPTURED"):
            return "PAYMENT_STATE_INVALID"
        left = payment.captured - payment.refunded
        if left == 0 or (amount or 0) > left:
            return "REFUND_AMOUNT_EXCEEDED"
        return None


class Wallets(RuleBasedStateMachine):
    payments = Bundle("payments")

    @initialize()
    def begin(self) -> None:
        self.pure = PureBooks()
        self.model = Model()

    def both(self, expected: str | None, run: Callable[[], Any]) -> Any:
        """Runs it; it is refused for the model's reason, or not at all."""
        reason, reply = None, None
        try:
            reply = run()
        except DanbaoError as error:
            reason = error.reason
        assert reason == expected, f"refused for {reason}, the model says {expected}"
        return reply

    def both_run(self, expected: str | None, command: Command) -> None:
        self.both(expected, lambda: self.pure.run(command))

    @rule(owner=owners, amount=amounts)
    def fund(self, owner: str, amount: int) -> None:
        self.pure.fund(owner, amount)
        self.model.posted[owner] += amount

    @rule(target=payments, payer=owners, payee=owners, amount=amounts, lifetime=st.sampled_from([None, 1, 2, 5]))
    def hold(self, payer: str, payee: str, amount: int, lifetime: int | None):
        return self.pay(payer, payee, amount, lifetime=lifetime, manual=True)

    @rule(target=payments, payer=owners, payee=owners, amount=amounts)
    def pay_at_once(self, payer: str, payee: str, amount: int):
        return self.pay(payer, payee, amount, lifetime=None, manual=False)

    def pay(self, payer: str, payee: str, amount: int, *, lifetime: int | None, manual: bool):
        if payer == payee:
            return multiple()
        why_not = None if self.model.available(payer) >= amount else "INSUFFICIENT_FUNDS"
        pay = self.pure.hold if manual else self.pure.pay
        others = {"lifetime_s": lifetime} if manual else {}
        payment = self.both(why_not, lambda: pay(payer, wallet(payee), amount, **others))
        if payment is None:
            return multiple()
        ends_at = self.model.now + (lifetime or 7 * 86_400) if manual else None
        remembered = ModelPayment(payer, payee, amount, ends_at, "AUTHORIZED" if manual else "CAPTURED")
        if not manual:
            remembered.captured = amount
            self.move(payer, payee, amount)
        self.model.payments.append(remembered)
        return (payment.id, remembered)

    @rule(payment=payments, amount=st.none() | amounts, final=st.booleans())
    def capture(self, payment, amount: int | None, final: bool) -> None:
        payment_id, remembered = payment
        why_not = self.model.why_not_capture(remembered, amount)
        money = None if amount is None else Money(CNY, amount)
        self.both_run(why_not, CapturePayment(payment_id, money, PARTNER, final))
        if why_not is None:
            held = remembered.amount - remembered.captured
            taken = held if amount is None else amount
            remembered.captured += taken
            remembered.state = "CAPTURED" if final or taken == held else "PARTIALLY_CAPTURED"
            self.move(remembered.payer, remembered.payee, taken)

    @rule(payment=payments)
    def void(self, payment) -> None:
        payment_id, remembered = payment
        why_not = self.model.why_not_capture(remembered, None)
        self.both_run(why_not, VoidPayment(payment_id, PARTNER))
        if why_not is None:
            remembered.state = "CAPTURED" if remembered.captured else "VOIDED"

    @rule(payment=payments, amount=st.none() | amounts)
    def refund(self, payment, amount: int | None) -> None:
        payment_id, remembered = payment
        why_not = self.model.why_not_refund(remembered, amount)
        taken = remembered.captured - remembered.refunded if amount is None else amount
        if why_not is None and self.model.available(remembered.payee) < taken:
            why_not = "INSUFFICIENT_FUNDS"
        money = None if amount is None else Money(CNY, amount)
        self.both_run(why_not, RefundPayment(payment_id, money, "", PARTNER))
        if why_not is None:
            remembered.refunded += taken
            self.move(remembered.payee, remembered.payer, taken)

    @rule(payment=payments, amounts=st.lists(amounts, min_size=1, max_size=3))
    def give_back_by_legs(self, payment, amounts: list[int]) -> None:
        payment_id, remembered = payment
        total = sum(amounts)
        why_not = self.model.why_not_refund(remembered, total)
        if why_not is None and self.model.available(remembered.payee) < total:
            why_not = "INSUFFICIENT_FUNDS"
        legs = tuple(
            Leg(wallet(remembered.payee), wallet(remembered.payer), Money(CNY, minor), payment_id, "DISPUTE")
            for minor in amounts
        )
        self.both_run(why_not, PostTransaction(legs, caller=OPERATOR))
        if why_not is None:
            remembered.refunded += total
            self.move(remembered.payee, remembered.payer, total)

    @rule(seconds=st.sampled_from([0.5, 1, 3]))
    def wait(self, seconds: float) -> None:
        self.pure.advance(seconds)
        self.model.now += seconds
        self.model.pass_time()

    @rule(payment=payments)
    def sweep(self, payment) -> None:
        self.pure.run(ExpireHolds((payment[0],)))

    def move(self, payer: str, payee: str, amount: int) -> None:
        self.model.posted[payer] -= amount
        self.model.posted[payee] += amount

    @invariant()
    def books_and_model_agree(self) -> None:
        self.pure.check()
        for owner in OWNERS:
            account = self.pure.account(owner, "user.available")
            assert account.credits_posted - account.debits_posted == self.model.posted[owner]
            assert self.model.available(owner) >= 0

    def teardown(self) -> None:
        """After a sweep, what is held is what the model holds."""
        self.pure.run(ExpireHolds(tuple(payment.id for payment in self.pure.books.payments.values())))
        for owner in OWNERS:
            assert self.pure.available(owner) == self.model.available(owner)
        # Totals are what the transfers add up to, and each row tells the totals after it.
        totals = {}
        for transfer in self.pure.books.transfers.accepted:
            totals[transfer.debit_account] = transfer[11:15]
            totals[transfer.credit_account] = transfer[15:19]
        for account in self.pure.books.accounts.values():
            assert totals[account.id] == account[6:10]


TestWallets = Wallets.TestCase
TestWallets.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)

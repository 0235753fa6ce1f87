"""How a payment that a rail brings is asked for, and what the rail's reports make of it, up to a chargeback's end."""

from __future__ import annotations

from uuid import UUID

from danbao_kit.decision import Moment
from danbao_kit.money import MAX_MINOR
from danbao_payments.application.captures import receivers, share_out
from danbao_payments.application.chargebacks import charge_back, win_back
from danbao_payments.application.holds import expire_due
from danbao_payments.application.rail_books import check_room
from danbao_payments.domain.account import AccountState
from danbao_payments.domain.books import Books
from danbao_payments.domain.chart import (
    CLEARING_REFUND,
    PLATFORM,
    RAIL_IN_TRANSIT,
    RAIL_SETTLED,
    USER_AVAILABLE,
)
from danbao_payments.domain.commands import ReportRailResult
from danbao_payments.domain.errors import BalanceOverflow, RailResultConflicts, RefundAmountExceeded
from danbao_payments.domain.events import PaymentEvent, RailRefundEvent
from danbao_payments.domain.movement import Movement, movement_metadata
from danbao_payments.domain.payment import Payment, PaymentState
from danbao_payments.domain.posting import Posting
from danbao_payments.domain.rail_payment import (
    PaymentEffect,
    movement_of,
    step_of,
    waiting_accounts,
)
from danbao_payments.domain.rail_refund import RailRefund, RailRefundState
from danbao_payments.domain.rail_report import RailReport, check_no_conflict, own_reference

_REFUSED = "refused by the rail"
_NOBODY_RECEIVES = "the payee's account was closed before the rail brought the money; it goes back"


def await_rail(payment: Payment, books: Books, moment: Moment) -> Payment:
    """Writes down that the rail is to be asked. Raises BalanceOverflow where the money could not be booked when it
    comes, whatever comes of other movements."""
    for key, total in _rooms(payment, books, moment).items():
        if total + (books.awaited.get(key) or 0) + payment.amount_minor > MAX_MINOR:
            raise BalanceOverflow(key, amount_minor=payment.amount_minor)
    _reserve(payment, payment.amount_minor, books)
    books.payments.put(payment.id, payment)
    moment.emit(PaymentEvent("payment_pending", payment))
    return payment


def refund_over_rail(payment: Payment, amount_minor: int, books: Books, moment: Moment) -> RailRefund:
    """Writes down that the rail is to send back what has come into clearing.refund."""
    refund = RailRefund(
        moment.ids.new(),
        None,
        payment.id,
        RailRefundState.PENDING.value,
        payment.payer,
        payment.currency,
        amount_minor,
        payment.rail,
        payment.instrument,
        payment.rail_reference,
        "",
        "",
        moment.now,
        moment.now,
        "",
        "",
        "",
        moment.traceparent,
    )
    books.rail_refunds.put(refund.id, refund)
    moment.emit(RailRefundEvent("rail_refund_created", refund))
    return refund


def check_refund_has_room(payment: Payment, amount_minor: int, books: Books, moment: Moment) -> None:
    """Raises BalanceOverflow where neither the rail's payment nor the payer's wallet could take it."""
    wallet = books.account(payment.payer, USER_AVAILABLE, payment.currency, moment.now)
    check_room(payment.rail, wallet, amount_minor, books, moment)


def report_payment(command: ReportRailResult, payment: Payment, books: Books, moment: Moment) -> RailReport:
    """Books what the rail says of a payment. Raises RailResultConflicts, RefundAmountExceeded, BalanceOverflow."""
    movement = movement_of(payment)
    step = check_no_conflict(
        movement,
        state=payment.state,
        known_reference=payment.rail_reference,
        result=command.result,
        rail_reference=command.rail_reference,
        step=step_of(payment, command.result, whole=command.amount is None),
    )
    if step.to is None:
        return RailReport(payment, changed=False)
    if PaymentEffect.CHARGE_BACK in step.effects and books.due_holds:
        # What has run out is not held any more, swept or not.
        expire_due([account.id for account in receivers(payment, books, moment)], books, moment)
    if payment.is_unanswered:
        _reserve(payment, -payment.amount_minor, books)
    return RailReport(_Booking(command, payment, movement, books, moment).run(step.effects), changed=True)


class _Booking:
    """One report while it is booked: all of its effects are one transaction."""

    def __init__(
        self, command: ReportRailResult, payment: Payment, movement: Movement, books: Books, moment: Moment
    ) -> None:
        self._command = command
        self._movement = movement
        self._books = books
        self._moment = moment
        self._posting: Posting | None = None
        self._description = f"payment {command.result.value.lower().replace('_', ' ')} over {payment.rail}"
        self._told: list[PaymentEvent] = []
        self._back_minor = 0
        self._payment = payment._replace(
            version=payment.version + 1,
            rail_reference=own_reference(payment.rail_reference, command.result, command.rail_reference),
            update_time=moment.now,
        )

    def run(self, effects: tuple[str, ...]) -> Payment:
        for effect in effects:
            _EFFECTS[PaymentEffect(effect)](self)
        payment = self._payment
        if self._posting is not None:
            self._posting.record(
                self._description,
                movement_metadata(self._movement, self._command.rail_reference or payment.rail_reference),
            )
        self._books.payments.put(payment.id, payment)
        for event in self._told:
            self._moment.emit(event)
        if self._back_minor:
            refund_over_rail(payment, self._back_minor, self._books, self._moment)
        return payment

    def capture(self) -> None:
        payment, moment = self._payment, self._moment
        if any(account.state == AccountState.CLOSED for account in receivers(payment, self._books, moment)):
            self.send_back(state=PaymentState.DECLINED, failure=_NOBODY_RECEIVES)
            self._tell("payment_declined")
            return
        posting = self._begin()
        self._description = payment.description or self._description
        in_transit = posting.account(payment.rail, RAIL_IN_TRANSIT, payment.currency)
        parts = share_out(posting, payment, in_transit, payment.amount_minor, self._books, moment)
        self._payment = self._payment._replace(
            state=PaymentState.CAPTURED.value,
            authorized_minor=payment.amount_minor,
            captured_minor=payment.amount_minor,
            parts=parts,
        )
        self._tell("payment_captured")

    def decline(self) -> None:
        failure = self._command.failure or _REFUSED
        self._payment = self._payment._replace(state=PaymentState.DECLINED.value, failure=failure)
        self._tell("payment_declined")

    def note(self) -> None:
        self._payment = self._payment._replace(failure=self._command.failure or _REFUSED)

    def settle(self) -> None:
        payment, posting = self._payment, self._begin()
        settled = posting.account(payment.rail, RAIL_SETTLED, payment.currency)
        in_transit = posting.account(payment.rail, RAIL_IN_TRANSIT, payment.currency)
        posting.post(settled, in_transit, payment.amount_minor)
        self._payment = self._payment._replace(settle_time=self._moment.now)
        self._tell("payment_settled")

    def send_back(self, *, state: PaymentState | None = None, failure: str = "") -> None:
        payment, posting = self._payment, self._begin()
        in_transit = posting.account(payment.rail, RAIL_IN_TRANSIT, payment.currency)
        clearing = posting.account(PLATFORM, CLEARING_REFUND, payment.currency)
        posting.post(in_transit, clearing, payment.amount_minor, payment_id=payment.id)
        self._back_minor = payment.amount_minor
        self._payment = self._payment._replace(state=state.value if state else payment.state, failure=failure)

    def charge_back(self) -> None:
        payment = self._payment
        if payment.state != PaymentState.CAPTURED:
            # Nobody could receive it, so it goes back already.
            raise self._conflict()
        amount_minor = self._amount(payment.refundable_minor)
        posting = self._begin()
        self._payment = charge_back(self._payment, amount_minor, posting)
        self._tell("payment_charged_back")

    def win_back(self) -> None:
        amount_minor = self._amount(self._payment.charged_back_minor)
        posting = self._begin()
        self._payment = win_back(self._payment, amount_minor, posting)
        self._tell("payment_chargeback_reversed")

    def _amount(self, left_minor: int) -> int:
        """What the report is about. Nothing left is too little for every amount."""
        asked = self._command.amount
        amount_minor = left_minor if asked is None else asked.minor
        if amount_minor > left_minor or amount_minor == 0:
            raise RefundAmountExceeded(self._movement.name, refundable_minor=left_minor, amount_minor=amount_minor)
        return amount_minor

    def _begin(self) -> Posting:
        if self._posting is None:
            self._posting = Posting(self._books, self._moment)
            self._payment = self._payment._replace(last_transaction=self._posting.id)
        return self._posting

    def _tell(self, event: str) -> None:
        self._told.append(PaymentEvent(event, self._payment))

    def _conflict(self) -> RailResultConflicts:
        command = self._command
        return RailResultConflicts(
            self._movement.name,
            state=self._payment.state,
            result=command.result.value,
            known_reference=self._payment.rail_reference,
            rail_reference=command.rail_reference,
        )


_EFFECTS = {
    PaymentEffect.CAPTURE: _Booking.capture,
    PaymentEffect.DECLINE: _Booking.decline,
    PaymentEffect.NOTE: _Booking.note,
    PaymentEffect.SETTLE: _Booking.settle,
    PaymentEffect.SEND_BACK: _Booking.send_back,
    PaymentEffect.CHARGE_BACK: _Booking.charge_back,
    PaymentEffect.WIN_BACK: _Booking.win_back,
}


def _rooms(payment: Payment, books: Books, moment: Moment) -> dict[UUID, int]:
    """The totals that the payment's money adds to; the accounts through which it could go back are among them."""
    wallet = books.account(payment.payer, USER_AVAILABLE, payment.currency, moment.now)
    credited = [wallet, *receivers(payment, books, moment)]
    totals = {account.id: account.credits_posted + account.credits_pending for account in credited}
    in_transit = books.account(payment.rail, RAIL_IN_TRANSIT, payment.currency, moment.now)
    totals[in_transit.id] = in_transit.debits_posted + in_transit.debits_pending
    settled = books.account(payment.rail, RAIL_SETTLED, payment.currency, moment.now)
    totals[settled.id] = settled.credits_posted + settled.credits_pending
    return totals


def _reserve(payment: Payment, minor: int, books: Books) -> None:
    for key in waiting_accounts(payment.rail, payment.payee_account, payment.currency):
        books.awaited.put(key, (books.awaited.get(key) or 0) + minor)

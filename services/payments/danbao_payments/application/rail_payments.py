"""How a payment that a rail brings is asked for, and what the rail's reports make of it, up to a chargeback's end."""

from __future__ import annotations

from uuid import UUID

from danbao_kit.decision import Moment
from danbao_kit.money import MAX_MINOR
from danbao_payments.application.captures import receivers, share_out
from danbao_payments.application.chargebacks import charge_back, given_to_wallet, take_from_payer, win_back
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
from danbao_payments.domain.movement import Movement, RailResult, movement_metadata
from danbao_payments.domain.payment import Payment, PaymentState
from danbao_payments.domain.posting import Posting
from danbao_payments.domain.rail_payment import (
    PaymentEffect,
    movement_of,
    step_of,
    waiting_accounts,
)
from danbao_payments.domain.rail_refund import RailRefund, RailRefundState
from danbao_payments.domain.rail_report import RailReport, check_no_conflict, own_reference, tells_reference

_REFUSED = "refused by the rail"
_RETURNED = "the rail has taken it back"
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


def return_from_payer(payment: Payment, amount_minor: int, books: Books, moment: Moment) -> None:
    """Takes what a refund has given back to the payer, of a payment that its rail has taken back meanwhile."""
    posting = Posting(books, moment)
    taken = take_from_payer(payment, amount_minor, posting)
    reference = taken.chargeback_from.reference_of(RailResult.RETURNED.value) or payment.rail_reference
    posted = posting.record(f"payment returned over {payment.rail}", movement_metadata(movement_of(payment), reference))
    taken = taken._replace(version=payment.version + 1, update_time=moment.now, last_transaction=posted.transaction.id)
    books.payments.put(payment.id, taken)
    if payment.state == PaymentState.CAPTURED:
        moment.emit(PaymentEvent("payment_charged_back", taken))


def report_payment(command: ReportRailResult, payment: Payment, books: Books, moment: Moment) -> RailReport:
    """Books what the rail says of a payment. Raises RailResultConflicts, RefundAmountExceeded, BalanceOverflow."""
    movement = movement_of(payment)
    step = check_no_conflict(
        movement,
        state=payment.state,
        known_reference=payment.rail_reference,
        result=command.result,
        rail_reference=command.rail_reference,
        step=step_of(payment, command),
    )
    if step.to is None:
        if not tells_reference(payment.rail_reference, command):
            return RailReport(payment, changed=False)
        named = payment._replace(
            version=payment.version + 1, rail_reference=command.rail_reference, update_time=moment.now
        )
        books.payments.put(payment.id, named)
        return RailReport(named, changed=True)
    if {PaymentEffect.CHARGE_BACK, PaymentEffect.RETURN} & set(step.effects) and books.due_holds:
        # What has run out is not held any more, swept or not.
        wallet = books.account(payment.payer, USER_AVAILABLE, payment.currency, moment.now)
        expire_due([account.id for account in (*receivers(payment, books, moment), wallet)], books, moment)
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
            if self._command.result is RailResult.RETURNED:
                self.pass_through(state=PaymentState.DECLINED, failure=_NOBODY_RECEIVES)
            else:
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

    def pass_through(self, *, state: PaymentState | None = None, failure: str = "") -> None:
        """Both ways, for a statement shows both."""
        payment, posting = self._payment, self._begin()
        in_transit = posting.account(payment.rail, RAIL_IN_TRANSIT, payment.currency)
        clearing = posting.account(PLATFORM, CLEARING_REFUND, payment.currency)
        posting.post(in_transit, clearing, payment.amount_minor, payment_id=payment.id)
        clearing = posting.account(PLATFORM, CLEARING_REFUND, payment.currency)
        posting.post(clearing, posting.account(payment.rail, RAIL_IN_TRANSIT, payment.currency), payment.amount_minor)
        self._payment = self._payment._replace(
            state=state.value if state else payment.state,
            failure=failure or self._command.failure or _RETURNED,
            chargeback_from=payment.chargeback_from._replace(returned_at=self._moment.now, at_once=True),
        )

    def charge_back(self) -> None:
        payment = self._payment
        if payment.state != PaymentState.CAPTURED:
            # Nobody could receive it, so it goes back already.
            raise self._conflict()
        amount_minor = self._amount(payment.refundable_minor)
        posting = self._begin()
        self._payment = charge_back(self._payment, amount_minor, posting)
        self._remember(amount_minor)
        self._tell("payment_charged_back")

    def take_back(self) -> None:
        """All of it, wherever it is: with those who received it, or with the payer, to whom it went by the wallet. What
        is on its way over the rail, or has arrived, is the rail's already."""
        if self._payment.chargeback_from.at_once:
            # It came and went when nobody could receive it.
            return
        payment = self._payment
        with_payer_minor = given_to_wallet(payment, self._books)
        left_minor = payment.refundable_minor
        if left_minor or with_payer_minor:
            posting = self._begin()
            if left_minor:
                self._payment = charge_back(self._payment, left_minor, posting)
            if with_payer_minor:
                self._payment = take_from_payer(self._payment, with_payer_minor, posting)
        taken = self._payment.chargeback_from._replace(returned_at=self._moment.now)
        self._payment = self._payment._replace(chargeback_from=taken)
        self._remember(left_minor + with_payer_minor)
        if payment.state == PaymentState.CAPTURED and (left_minor or with_payer_minor):
            self._tell("payment_charged_back")

    def win_back(self) -> None:
        amount_minor = self._amount(self._payment.charged_back_minor)
        posting = self._begin()
        self._payment = win_back(self._payment, amount_minor, posting)
        self._remember(amount_minor)
        self._tell("payment_chargeback_reversed")

    def _remember(self, amount_minor: int) -> None:
        command, taken = self._command, self._payment.chargeback_from
        taken = taken.remembers(command.result.value, command.rail_reference, amount_minor)
        self._payment = self._payment._replace(chargeback_from=taken)

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
    PaymentEffect.PASS: _Booking.pass_through,
    PaymentEffect.CHARGE_BACK: _Booking.charge_back,
    PaymentEffect.RETURN: _Booking.take_back,
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
    for key in waiting_accounts(payment.rail, payment.currency, payment.payer, payment.payee_account, payment.parts):
        books.awaited.put(key, (books.awaited.get(key) or 0) + minor)

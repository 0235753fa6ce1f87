"""What becomes of money on its way back over its rail: the rail pays it, or refuses and its owner has it."""

from __future__ import annotations

from danbao_kit.decision import Moment, RequestKey
from danbao_payments.application.holds import expire_due
from danbao_payments.application.rail_books import standing_account
from danbao_payments.application.rail_payments import return_from_payer
from danbao_payments.application.top_ups import return_rest
from danbao_payments.domain.account import Account, account_id
from danbao_payments.domain.books import Books
from danbao_payments.domain.chart import CLEARING_REFUND, PLATFORM, RAIL_SETTLED, USER_AVAILABLE
from danbao_payments.domain.commands import ReportRailResult
from danbao_payments.domain.events import RailRefundEvent, TopUpEvent
from danbao_payments.domain.movement import RailResult, movement_metadata
from danbao_payments.domain.posting import Posting
from danbao_payments.domain.rail_refund import AWAITING, REPORTS, RailRefund, RailRefundEffect, RailRefundState
from danbao_payments.domain.rail_report import RailReport, check_no_conflict, own_reference, tells_reference
from danbao_payments.domain.top_up import TopUp, TopUpState


def report_refund(command: ReportRailResult, refund: RailRefund, books: Books, moment: Moment) -> RailReport:
    """Books what the rail says of a refund. Raises RailResultConflicts, BalanceOverflow."""
    step = check_no_conflict(
        refund.movement,
        state=refund.state,
        known_reference=refund.rail_reference,
        result=command.result,
        rail_reference=command.rail_reference,
        step=REPORTS[RailRefundState(refund.state), command.result],
    )
    if step.to is None:
        if not tells_reference(refund.rail_reference, command):
            return RailReport(refund, changed=False)
        named = refund._replace(rail_reference=command.rail_reference, update_time=moment.now)
        books.rail_refunds.put(named.id, named)
        return RailReport(named, changed=True)
    told = refund._replace(
        rail_reference=own_reference(refund.rail_reference, command.result, command.rail_reference),
        failure=command.failure or refund.failure,
        update_time=moment.now,
    )
    legs: list[tuple[Account, Account]] = []
    for effect in step.effects:
        told = told._replace(state=_STATES[RailRefundEffect(effect)].value)
        legs += _legs(RailRefundEffect(effect), told, books, moment)
        _tell(RailRefundEffect(effect), told, books, moment)
    if legs:
        posting = Posting(books, moment)
        for debit, credit in legs:
            posting.post(debit, credit, refund.amount_minor)
        facts = movement_metadata(
            refund.movement,
            command.rail_reference or told.rail_reference,
            (_SOURCES[refund.source.kind.value], refund.source.name),
        )
        posting.record(f"{_WHAT.get(command.result, 'paid back')} over {refund.rail}", facts)
    books.rail_refunds.put(told.id, told)
    if _GIVING_BACK & set(step.effects):
        _follow_source(told, books, moment)
    if refund.top_up_id is not None and refund.state in AWAITING and told.state not in AWAITING:
        request = RequestKey(refund.request_caller, refund.request_method, refund.request_id)
        moment.answer(request, books.top_ups.get(refund.top_up_id))
    return RailReport(told, changed=True)


_E, _S = RailRefundEffect, RailRefundState
_STATES = {_E.SETTLE: _S.SETTLED, _E.REFUSE: _S.REFUSED, _E.RETURN: _S.RETURNED, _E.LOSE_SIGHT: _S.UNKNOWN}
_KINDS = {_E.SETTLE: "settled", _E.REFUSE: "refused", _E.RETURN: "refused"}
# Upon these its owner has the money again.
_GIVING_BACK = {_E.REFUSE, _E.RETURN}
_SOURCES = {"topUps": "top_up", "payments": "payment"}
_WHAT = {RailResult.FAILED: "refund refused", RailResult.RETURNED: "refund returned"}


def _follow_source(refund: RailRefund, books: Books, moment: Moment) -> None:
    """What a refund gives back of money that the rail has taken back meanwhile goes after it."""
    expire_due((account_id(refund.owner, USER_AVAILABLE, refund.currency),), books, moment)
    if refund.top_up_id is not None:
        top_up = books.top_ups.get(refund.top_up_id)
        assert top_up is not None, "a refund is of a top-up"
        if top_up.state == TopUpState.RETURNED:
            return_rest(top_up, books, moment)
        return
    payment = None if refund.payment_id is None else books.payments.get(refund.payment_id)
    assert payment is not None, "a refund is of a top-up or of a payment"
    returned_at = payment.chargeback_from.returned_at
    if returned_at is not None and refund.create_time < returned_at:
        return_from_payer(payment, refund.amount_minor, books, moment)


def _legs(effect: RailRefundEffect, refund: RailRefund, books: Books, moment: Moment) -> list[tuple[Account, Account]]:
    clearing = books.account(PLATFORM, CLEARING_REFUND, refund.currency, moment.now)
    settled = books.account(refund.rail, RAIL_SETTLED, refund.currency, moment.now)
    wallet = standing_account(refund.owner, USER_AVAILABLE, refund.currency, books, moment)
    return {
        _E.SETTLE: [(clearing, settled)],
        _E.REFUSE: [(clearing, wallet)],
        _E.RETURN: [(settled, wallet)],
        _E.LOSE_SIGHT: [],
    }[effect]


def _tell(effect: RailRefundEffect, refund: RailRefund, books: Books, moment: Moment) -> None:
    """Counts it where it came from, and tells it."""
    if effect is _E.LOSE_SIGHT:
        moment.emit(RailRefundEvent("rail_refund_unknown", refund))
        return
    if refund.top_up_id is None:
        _count_of_payment(effect, refund, books, moment)
        moment.emit(RailRefundEvent(f"rail_refund_{_KINDS[effect]}", refund))
        return
    top_up = books.top_ups.get(refund.top_up_id)
    assert top_up is not None, "a refund is of a top-up"
    counted = _counted(effect, refund, top_up)._replace(update_time=moment.now)
    books.top_ups.put(counted.id, counted)
    moment.emit(TopUpEvent(f"top_up_refund_{_KINDS[effect]}", counted))


def _count_of_payment(effect: RailRefundEffect, refund: RailRefund, books: Books, moment: Moment) -> None:
    """What a payment gave back stays counted when the rail refuses: its payer has it, in the wallet."""
    payment = None if refund.payment_id is None else books.payments.get(refund.payment_id)
    assert payment is not None, "a refund is of a top-up or of a payment"
    minor = {_E.SETTLE: refund.amount_minor, _E.RETURN: -refund.amount_minor}.get(effect, 0)
    if minor:
        settled_minor = payment.refunds_settled_minor + minor
        counted = payment._replace(
            version=payment.version + 1, refunds_settled_minor=settled_minor, update_time=moment.now
        )
        books.payments.put(counted.id, counted)


def _counted(effect: RailRefundEffect, refund: RailRefund, top_up: TopUp) -> TopUp:
    minor = refund.amount_minor
    if effect is _E.SETTLE:
        return top_up._replace(refunds_settled_minor=top_up.refunds_settled_minor + minor)
    settled_minor = top_up.refunds_settled_minor - (minor if effect is _E.RETURN else 0)
    return top_up._replace(refunded_minor=top_up.refunded_minor - minor, refunds_settled_minor=settled_minor)

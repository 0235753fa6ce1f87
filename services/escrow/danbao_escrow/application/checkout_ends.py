"""What becomes of a checkout when a step of one of its trades ends, its rail reports, or a trade leaves it."""

from __future__ import annotations

from typing import Any

from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain.checkout import Checkout, CheckoutState
from danbao_escrow.domain.errors import PaymentRefused
from danbao_escrow.domain.model import Trade
from danbao_escrow.domain.step_model import Step
from danbao_kit.decision import Moment
from danbao_kit.immutable import replace


def step_done(working: EscrowSet, moment: Moment, step: Step, reference: str) -> None:
    """The payment was taken for one of its trades; the last of them answers for all."""
    checkout = _of_step(working, step)
    waiting = checkout.waiting - 1
    changes: dict[str, Any] = {"waiting": waiting}
    together = step.movement.together
    # The rail may have refused it already, and told the first of its trades before the others knew that it was asked.
    if together is not None and together.generation == checkout.generation:
        changes["payment"] = reference
        if not waiting and not step.movement.rail:
            changes |= {"state": CheckoutState.PAID, "end_time": moment.now}
    written = write_checkout(working, moment, checkout, **changes)
    if not waiting and step.request is not None:
        moment.answer(step.request, written)


def step_refused(working: EscrowSet, moment: Moment, step: Step, reason: str, message: str) -> None:
    """The payment was refused: all of its trades learn the same."""
    checkout = _of_step(working, step)
    waiting = checkout.waiting - 1
    changes: dict[str, Any] = {"waiting": waiting, "refusal": reason}
    if not waiting:
        changes |= {"state": CheckoutState.OPEN, "generation": checkout.generation + 1, "rail": ""}
    write_checkout(working, moment, checkout, **changes)
    if not waiting and step.request is not None:
        moment.refuse(step.request, PaymentRefused(checkout.name, reason, message))


def captured(working: EscrowSet, moment: Moment, trade: Trade) -> None:
    """The rail has brought the money of all."""
    checkout = working.checkouts.get(trade.checkout)
    if checkout is not None and checkout.state is CheckoutState.PAYING:
        write_checkout(working, moment, checkout, state=CheckoutState.PAID, end_time=moment.now)


def declined(working: EscrowSet, moment: Moment, trade: Trade, payment: str, failure: str) -> None:
    """The rail has refused: it may be paid again."""
    checkout = working.checkouts.get(trade.checkout)
    if checkout is not None and checkout.state is CheckoutState.PAYING and checkout.payment == payment:
        write_checkout(
            working,
            moment,
            checkout,
            state=CheckoutState.OPEN,
            generation=checkout.generation + 1,
            payment="",
            rail="",
            refusal=failure,
        )


def leave(working: EscrowSet, moment: Moment, trade: Trade) -> None:
    """The trade ends, is paid alone or costs something else: what it was to be paid with is void."""
    checkout = working.checkouts.get(trade.checkout)
    if checkout is not None and checkout.state is CheckoutState.OPEN:
        write_checkout(working, moment, checkout, state=CheckoutState.VOID, end_time=moment.now)


def _of_step(working: EscrowSet, step: Step) -> Checkout:
    checkout = working.checkouts.get(step.subject)
    assert checkout is not None, "whose step it is was loaded with the trade"
    return checkout


def write_checkout(working: EscrowSet, moment: Moment, checkout: Checkout, **changes: Any) -> Checkout:
    """Puts a new version of it."""
    written = replace(checkout, update_time=moment.now, revision=checkout.revision + 1, **changes)
    working.checkouts.put(written.name, written)
    return written

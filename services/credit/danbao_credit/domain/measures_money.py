"""What events of payments say about payers, payees and owners."""

from __future__ import annotations

from danbao_credit.domain.events import (
    AccountEvent,
    OwnerEvent,
    PaymentEvent,
    RailRefundEvent,
    TopUpEvent,
    WithdrawalEvent,
)
from danbao_credit.domain.profile import peer_hash
from danbao_credit.domain.telling import HOUR_US, Telling, amount, between


def of_payment(event: PaymentEvent) -> Telling:
    """one; amount_minor; charged_back_minor: so far; by_rail, and source: the hash of the rail and its instrument.

    The payee is told only where it is a subject: what a trade's account receives is the trade's to tell.
    """
    measures = {
        "one": 1,
        "amount_minor": amount(event.amount_minor),
        "charged_back_minor": amount(event.charged_back_minor),
        "by_rail": int(bool(event.funding_source)),
        "payer": peer_hash(event.payer),
    }
    if event.funding_source:
        measures["source"] = peer_hash(event.funding_source)
    roles = (("payer", event.payer), *_owned("payee", event.payee))
    return Telling(event.payment, event.currency, roles, measures)


def of_top_up(event: TopUpEvent) -> Telling:
    """one; amount_minor; source: the hash of the rail and its instrument."""
    measures = {"one": 1, "amount_minor": amount(event.amount_minor), "source": peer_hash(event.funding_source)}
    return Telling(event.top_up, event.currency, (("owner", event.owner),), measures)


def of_withdrawal(event: WithdrawalEvent) -> Telling:
    """one; amount_minor; hours: since it was asked for; destination: the hash of the rail and its instrument."""
    measures = {
        "one": 1,
        "amount_minor": amount(event.amount_minor),
        "hours": between(event.create_us, event.at_us) // HOUR_US,
        "destination": peer_hash(event.destination),
    }
    return Telling(event.withdrawal, event.currency, (("owner", event.owner),), measures)


def of_rail_refund(event: RailRefundEvent) -> Telling:
    """one; amount_minor."""
    measures = {"one": 1, "amount_minor": amount(event.amount_minor)}
    return Telling(event.refund, event.currency, (("owner", event.owner),), measures)


def of_account(event: AccountEvent) -> Telling:
    """one; only of accounts that a subject owns."""
    return Telling(event.account, event.currency, _owned("owner", event.owner), {"one": 1})


def of_owner(event: OwnerEvent) -> Telling:
    """one; partner: the hash of the partner that brought the owner."""
    return Telling("", "", _owned("owner", event.owner), {"one": 1, "partner": peer_hash(event.partner)})


def _owned(role: str, owner: str) -> tuple[tuple[str, str], ...]:
    return ((role, owner),) if owner.startswith("subjects/") else ()

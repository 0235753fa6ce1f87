"""How debts to the platform are paid: out of what their owner's wallets receive, by payments' own rule, at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from danbao_payments.domain.chart import (
    GUARANTEE_DEPOSIT,
    GUARANTEE_FUND,
    LOSS_BAD_DEBT,
    LOSS_CHARGEBACK,
    RECEIVABLE_CHARGEBACK,
    RECEIVABLE_GUARANTEE,
    RECEIVABLE_USER,
    SELLER_PAYABLE,
    SUBJECTS,
    USER_AVAILABLE,
)
from danbao_payments.domain.commands import Leg, SpreadLeg
from danbao_payments.domain.payment import Payment
from danbao_payments.domain.transfer import Purpose

# Which debts of its owner a wallet pays when it is credited, in this order.
PAYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        SELLER_PAYABLE: (RECEIVABLE_GUARANTEE, RECEIVABLE_CHARGEBACK),
        USER_AVAILABLE: (RECEIVABLE_USER,),
    }
)

# The one account from which each kind of debt is written off.
WRITTEN_OFF_FROM: Mapping[str, str] = MappingProxyType(
    {
        RECEIVABLE_GUARANTEE: LOSS_BAD_DEBT,
        RECEIVABLE_CHARGEBACK: LOSS_CHARGEBACK,
        RECEIVABLE_USER: LOSS_BAD_DEBT,
    }
)


def recovered(*, credited_minor: int, there_minor: int, owed_minor: Sequence[int]) -> tuple[int, ...]:
    """What each debt gets, in their order: of what a transaction credited, if that is still there when it ends."""
    left = max(min(credited_minor, there_minor), 0)
    paid = []
    for owed in owed_minor:
        paid.append(min(owed, left))
        left -= paid[-1]
    return tuple(paid)


def comes_from_fund(leg: Leg | SpreadLeg) -> bool:
    """Whether the guarantee fund may pay some of it as a compensation: who is to pay that back must be known."""
    return leg.purpose == Purpose.COMPENSATION and any(key.kind == GUARANTEE_FUND for key in leg.debits)


def debtor_of(leg: Leg | SpreadLeg, legs: Sequence[Leg | SpreadLeg], payment: Payment) -> str | None:
    """Who owes what the fund gives to a leg for a payment: whose deposit the leg names, else another leg for that
    payment, else the payment's beneficiary or its first part's, else its payee's owner; nobody if it is none."""
    for each in (leg, *legs):
        if each.payment == leg.payment:
            for key in each.debits:
                if key.kind == GUARANTEE_DEPOSIT:
                    return key.owner
    of_parts = next((part.beneficiary for part in payment.parts if part.beneficiary), "")
    owner = payment.beneficiary or of_parts or payment.payee_owner
    return owner if owner.startswith(SUBJECTS) else None

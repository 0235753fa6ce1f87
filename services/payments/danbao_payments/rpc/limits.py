"""How limits look on the wire."""

from __future__ import annotations

from datetime import date

from danbao.payments.v1 import payment_pb2
from danbao_payments.domain.limits import Limits, Usage


def limits_message(limits: Limits) -> payment_pb2.Limits:
    """What is set, without what was used of it."""
    return payment_pb2.Limits(
        scope=limits.scope,
        currency=limits.currency,
        per_transaction_minor=limits.per_transaction_minor,
        per_day_minor=limits.per_day_minor,
        per_month_minor=limits.per_month_minor,
    )


def limits_as_they_stand(
    scope: str, currency: str, limits: Limits | None, usage: Usage | None, today: date
) -> payment_pb2.Limits:
    """What is set, if anything, and what was used of it."""
    message = payment_pb2.Limits(scope=scope, currency=currency) if limits is None else limits_message(limits)
    if usage is not None:
        used = usage.at(today)
        message.day_used_minor, message.month_used_minor = used.day_minor, used.month_minor
    return message

"""How limits are set, and how payments count against them."""

from __future__ import annotations

from danbao_kit.decision import Moment
from danbao_kit.money import MAX_MINOR, Money
from danbao_payments.domain.books import Books
from danbao_payments.domain.callers import Caller, Party
from danbao_payments.domain.commands import CreatePayment, SetLimits
from danbao_payments.domain.errors import KindNotAllowed
from danbao_payments.domain.limits import Limits, Usage, check_limits, class_scope


def set_limits(command: SetLimits, books: Books, moment: Moment) -> Limits:
    """Replaces what is set for this scope and currency. Raises KindNotAllowed."""
    _check_may_set(command.caller, command.scope)
    limits = Limits(
        command.scope,
        command.currency,
        command.per_transaction_minor,
        command.per_day_minor,
        command.per_month_minor,
        moment.now,
    )
    books.limits.put((limits.scope, limits.currency), limits)
    return limits


def count_payment(command: CreatePayment, books: Books, moment: Moment, *, payer: str) -> None:
    """Counts a payment where limits apply to it. Raises LimitExceeded."""
    count_against_limits(payer, command.limit_class, command.amount, books, moment)


def count_against_limits(payer: str, limit_class: str, amount: Money, books: Books, moment: Moment) -> None:
    """Counts what is paid where limits apply to it: the payer's own, and those of the class. Raises LimitExceeded.

    Of a payer that does not exist for who asks, empty here, only the class's apply."""
    if books.limits.is_empty:
        return
    currency = amount.currency
    scopes = [payer, class_scope(limit_class)] if limit_class else [payer]
    applying = [limits for scope in scopes if (limits := books.limits.get((scope, currency))) is not None]
    if not applying:
        return
    today = moment.now.date()
    key = (payer, currency)
    used = (books.usage.get(key) or Usage(payer, currency, today, 0, 0)).at(today)
    for limits in applying:
        check_limits(limits, used, amount.minor)
    # Holds that were released count as well, so these outgrow everything where no day's or month's limit stops them.
    counted = used._replace(
        day_minor=min(used.day_minor + amount.minor, MAX_MINOR),
        month_minor=min(used.month_minor + amount.minor, MAX_MINOR),
    )
    books.usage.put(key, counted)


def _check_may_set(caller: Caller, scope: str) -> None:
    if caller.party is not Party.OPERATOR:
        raise KindNotAllowed("limits are an operator's to set", owner=scope, kind="limits", caller=caller.party.value)

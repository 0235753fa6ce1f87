"""CreateTrade: what a new trade must satisfy, and how it begins."""

from __future__ import annotations

from collections.abc import Sequence

from danbao_escrow.application import actors
from danbao_escrow.application.records import cause_of, record, tell
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain.commands import AdjustPrice, CreateTrade, LinePrice, NewLine
from danbao_escrow.domain.deadlines import PAY_BY_DEFAULT
from danbao_escrow.domain.errors import (
    AmountMismatch,
    FeeNotAllowed,
    LimitExceeded,
    PostageNegative,
    SubjectBlocked,
    WithoutTerms,
)
from danbao_escrow.domain.events import EventKind
from danbao_escrow.domain.fees import buyer_fee_minor
from danbao_escrow.domain.model import FeePayer, Line, Terms, Trade, TradeState
from danbao_kit.decision import Moment
from danbao_kit.errors import FieldInvalid, FieldViolation
from danbao_kit.money import MAX_MINOR, Money, check_currency, check_positive


def check_new_trade(command: CreateTrade) -> None:
    """What the message alone shows. Raises FieldInvalid, AmountNotPositive, CurrencyUnknown, AmountMismatch."""
    violations = []
    if command.buyer == command.seller:
        violations.append(FieldViolation("seller", "must not be the buyer"))
    seen: set[str] = set()
    for index, line in enumerate(command.lines):
        if line.line_id in seen:
            violations.append(FieldViolation(f"lines[{index}].line_id", "must be unique within the trade"))
        seen.add(line.line_id)
    violations += _fee_violations(command)
    if violations:
        raise FieldInvalid(*violations)
    amounts = _checked_amounts(command)
    expected_minor = sum(amount.minor for field, amount in amounts if field != "total")
    # A buyer's fee is at most the total.
    if expected_minor > MAX_MINOR or (_buyer_pays(command) and expected_minor > MAX_MINOR // 2):
        raise AmountMismatch("total.amount_minor", "lines and postage exceed what an amount can hold")
    if command.total.minor != expected_minor:
        raise AmountMismatch("total.amount_minor", f"must be {expected_minor}, the sum of lines and postage")


def check_price(command: AdjustPrice) -> None:
    """What the message alone shows. Raises FieldInvalid, AmountNotPositive, CurrencyUnknown, AmountMismatch."""
    violations = []
    if not command.lines and command.postage is None:
        violations.append(FieldViolation("lines", "lines or postage must be given"))
    for index, line_id in enumerate(command.line_ids):
        if line_id in command.line_ids[:index]:
            violations.append(FieldViolation(f"lines[{index}].line_id", "must be named once"))
    if violations:
        raise FieldInvalid(*violations)
    _checked_amounts(command)


def _checked_amounts(command: CreateTrade | AdjustPrice) -> list[tuple[str, Money]]:
    """All amounts with their fields. Raises AmountNotPositive, CurrencyUnknown, AmountMismatch."""
    given: Sequence[NewLine | LinePrice] = command.lines
    amounts = [(f"lines[{index}].amount", line.amount) for index, line in enumerate(given)]
    for field, amount in amounts:
        check_positive(amount.minor, f"{field}.amount_minor")
    if command.postage is not None:
        if command.postage.minor < 0:
            raise PostageNegative("postage.amount_minor", command.postage.minor)
        amounts.append(("postage", command.postage))
    check_positive(command.total.minor, "total.amount_minor")
    amounts.append(("total", command.total))
    for field, amount in amounts:
        check_currency(amount.currency, f"{field}.currency")
    first, currency = amounts[0][0], amounts[0][1].currency
    for field, amount in amounts:
        if amount.currency != currency:
            of = "the first line" if first.startswith("lines") else first
            raise AmountMismatch(f"{field}.currency", f"must be {currency} as of {of}")
    return amounts


def _given_fees(command: CreateTrade) -> list[str]:
    """Names of the fields that say something about fees, in the contract's order."""
    names = ("fee_bps", "fee_fixed_minor", "fee_cap_minor", "fee_payer", "buyer_fee_bps", "buyer_fee_fixed_minor")
    return [name for name in names if getattr(command, name) is not None]


def _buyer_pays(command: CreateTrade) -> bool:
    fees = command.fees
    return fees.payer in (FeePayer.BUYER, FeePayer.SPLIT) or bool(fees.buyer_bps or fees.buyer_fixed_minor)


def _fee_violations(command: CreateTrade) -> list[FieldViolation]:
    """What contradicts itself."""
    given = set(_given_fees(command))
    violations = [
        FieldViolation(field, f"must not be given beside {other}")
        for field, other in (
            ("fee_fixed_minor", "fee_bps"),
            ("fee_cap_minor", "fee_fixed_minor"),
            ("buyer_fee_fixed_minor", "buyer_fee_bps"),
        )
        if {field, other} <= given
    ]
    if command.fee_payer in (FeePayer.BUYER, FeePayer.SPLIT):
        violations += [
            FieldViolation(field, f"must not be given when fee_payer is {command.fee_payer}")
            for field in ("buyer_fee_bps", "buyer_fee_fixed_minor")
            if field in given
        ]
    violations += [
        FieldViolation(field, "must not exceed the total")
        for field in ("fee_fixed_minor", "buyer_fee_fixed_minor")
        if (getattr(command, field) or 0) > command.total.minor
    ]
    return violations


def check_limit(terms: Terms, seller: str, total: Money) -> None:
    """Raises WithoutTerms, LimitExceeded."""
    limit_minor = terms.per_trade_limit_minor
    if limit_minor == 0:
        raise WithoutTerms(seller, total.currency)
    if total.minor > limit_minor:
        raise LimitExceeded(seller, total.currency, limit_minor, total.minor)


def create_trade(command: CreateTrade, working: EscrowSet, moment: Moment) -> Trade:
    """Row 1: → PENDING_PAYMENT."""
    given_fees = _given_fees(command)
    if given_fees and not command.token.may_set_fee:
        raise FeeNotAllowed(given_fees[0], command.actor.role, command.name_of_command)
    actors.check_role(command.name_of_command, command.actor, command.token)
    token = command.token
    actors.check_party(command.actor, token, buyer=command.buyer, seller=command.seller, partner=token.partner)
    if command.blocked:
        raise SubjectBlocked(command.blocked)
    check_limit(command.terms, command.seller, command.total)
    trade = Trade(
        trade_id=moment.new_id(),
        state=TradeState.PENDING_PAYMENT,
        buyer=command.buyer,
        seller=command.seller,
        partner=command.token.partner,
        currency=command.total.currency,
        lines=tuple(
            Line(line_id=line.line_id, title=line.title, amount_minor=line.amount.minor, delivery=line.delivery)
            for line in command.lines
        ),
        postage_minor=command.postage.minor if command.postage else 0,
        total_minor=command.total.minor,
        terms=command.terms,
        pay_by_time=moment.now + (command.pay_by or PAY_BY_DEFAULT),
        ship_by_time=command.ship_by_time,
        reference=command.reference,
        buyer_fee_minor=buyer_fee_minor(command.terms, command.total.minor),
        create_time=moment.now,
        update_time=moment.now,
        revision=0,
        made_by=command.actor.role,
        made_by_partner=actors.is_by_partner(command.actor, token),
    )
    cause = cause_of(
        moment,
        command=command.name_of_command,
        actor=command.actor,
        token_subject=command.token.subject,
    )
    created = record(working, moment, trade, cause)
    tell(moment, EventKind.TRADE_CREATED, created, command.actor, by_partner=created.made_by_partner)
    return created

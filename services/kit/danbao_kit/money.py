"""What an amount of money is: integer minor units of one ISO 4217 currency."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from iso4217 import Currency

from danbao_kit.errors import Code, DanbaoError, FieldViolation

# The largest total the books can hold, in minor units.
MAX_MINOR = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Money:
    """`minor` units of `currency`: Money("CNY", 1234) is 12.34."""

    currency: str
    minor: int

    def __repr__(self) -> str:
        # As the dataclass's own, which guards against recursion and takes three times as long: fingerprints are of it.
        return f"Money(currency={self.currency!r}, minor={self.minor!r})"


class AmountNotPositive(DanbaoError):
    code, reason = Code.INVALID_ARGUMENT, "AMOUNT_NOT_POSITIVE"

    def __init__(self, field: str, amount_minor: int) -> None:
        super().__init__(
            f"{field} must be above zero",
            fields=(FieldViolation(field, "must be above zero"),),
            field=field,
            amount_minor=amount_minor,
        )


class CurrencyUnknown(DanbaoError):
    code, reason = Code.INVALID_ARGUMENT, "CURRENCY_UNKNOWN"

    def __init__(self, currency: str, field: str) -> None:
        super().__init__(
            f"{currency!r} is not a currency of ISO 4217",
            fields=(FieldViolation(field, "not a currency of ISO 4217"),),
            field=field,
            currency=currency,
        )


@cache
def _exponents() -> dict[str, int]:
    # Codes without minor units (gold, test codes) are not money that a marketplace moves.
    return {currency.code: currency.exponent for currency in Currency if currency.exponent is not None}


def exponent(currency: str) -> int:
    """Decimal digits of the currency's minor unit, by ISO 4217: 2 for CNY, 0 for JPY, 3 for KWD."""
    return _exponents()[currency]


def check_currency(currency: str, field: str) -> None:
    """Raises CurrencyUnknown unless `currency` is an ISO 4217 code with minor units."""
    if currency not in _exponents():
        raise CurrencyUnknown(currency, field)


def check_positive(amount_minor: int, field: str) -> None:
    """Raises AmountNotPositive unless the amount is above zero."""
    if amount_minor <= 0:
        raise AmountNotPositive(field, amount_minor)


def decimal_text(currency: str, minor: int) -> str:
    """The amount for people, without the code: ("CNY", -1234) → "-12.34"."""
    digits = exponent(currency)
    if digits == 0:
        return str(minor)
    sign = "-" if minor < 0 else ""
    whole, rest = divmod(abs(minor), 10**digits)
    return f"{sign}{whole}.{rest:0{digits}d}"


def text(money: Money) -> str:
    """The amount for people: Money("CNY", 1234) → "12.34 CNY"."""
    return f"{decimal_text(money.currency, money.minor)} {money.currency}"

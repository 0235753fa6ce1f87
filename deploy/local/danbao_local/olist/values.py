"""How one cell is read: exactly, or not at all."""

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from danbao_kit.money import MAX_MINOR, exponent
from danbao_local.olist.orders import CURRENCY

_ID = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_TIME_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d")
_FIRST_YEAR, _LAST_YEAR = 2016, 2100
"""Business time of a replay begins with 2016."""


class CellUnreadable(Exception):
    """A cell does not hold what its column is for; the message says what is wrong with it."""


def read_id(column: str, text: str) -> str:
    """An id that may stand in the name of a subject. Raises CellUnreadable."""
    if not _ID.fullmatch(text):
        raise CellUnreadable(f"{column} is {_shown(text)}, not 1 to 64 letters, digits or . _ ~ -")
    return text


def read_amount(column: str, text: str) -> int:
    """Minor units of a decimal that is zero or more. Raises CellUnreadable."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise CellUnreadable(f"{column} is {_shown(text)}, not an amount") from None
    if not value.is_finite():
        raise CellUnreadable(f"{column} is {_shown(text)}, not an amount")
    if value < 0:
        raise CellUnreadable(f"{column} is {_shown(text)}, below zero")
    if value >= Decimal(MAX_MINOR) / 100_000:
        raise CellUnreadable(f"{column} is {_shown(text)}, more than the books can hold")
    minor = value.scaleb(exponent(CURRENCY))
    if minor != minor.to_integral_value():
        raise CellUnreadable(f"{column} is {_shown(text)}, finer than {CURRENCY} can be paid")
    return int(minor)


def read_time(column: str, text: str) -> datetime:
    """A time as the files write it. Raises CellUnreadable."""
    for form in _TIME_FORMATS:
        try:
            time = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        if not _FIRST_YEAR <= time.year < _LAST_YEAR:
            raise CellUnreadable(f"{column} is {_shown(text)}, outside {_FIRST_YEAR} to {_LAST_YEAR}")
        return time
    raise CellUnreadable(f"{column} is {_shown(text)}, not a time like 2018-01-31 23:59:59")


def read_whole(column: str, text: str, *, least: int, most: int) -> int:
    """A whole number within bounds. Raises CellUnreadable."""
    if not re.fullmatch(r"\d{1,9}", text) or not least <= int(text) <= most:
        raise CellUnreadable(f"{column} is {_shown(text)}, not a whole number from {least} to {most}")
    return int(text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…") if text else "empty"

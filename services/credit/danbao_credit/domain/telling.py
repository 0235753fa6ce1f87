"""What every event is turned into: roles and integers."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from danbao_credit.domain.errors import EventMalformed

MINUTE_US = 60_000_000
HOUR_US = 3_600_000_000
LARGEST_MINOR = 10**15
"""No order is that large; more than this would let sums of a life overflow. Payments takes more, up to 2^63 - 1."""

Measures: TypeAlias = dict[str, int]


class Telling(NamedTuple):
    """An event by roles and measures: all that credit keeps of it, so that a later catalogue can count it anew.

    `about` is the trade, payment or what else it is about, `roles` are (role, subject), `measures` integers by name.
    """

    about: str
    currency: str
    roles: tuple[tuple[str, str], ...]
    measures: Measures


def between(start_us: int | None, end_us: int) -> int:
    """Microseconds from start to end; 0 where the start is unknown or later."""
    return 0 if start_us is None else max(end_us - start_us, 0)


def amount(amount_minor: int) -> int:
    """The amount as it is counted, no more than LARGEST_MINOR. Raises EventMalformed for one that no event has."""
    if amount_minor < 0:
        raise EventMalformed(f"an amount of {amount_minor} minor units is out of range")
    return min(amount_minor, LARGEST_MINOR)

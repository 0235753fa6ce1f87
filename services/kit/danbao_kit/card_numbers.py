"""Whether a text holds what looks like a payment card's number, so that none is ever taken in, kept or told on.

A number is taken for a card's when all of this holds:
- 13 to 19 digits, in any groups with spaces or dashes between, or in the groups that cards are printed in (4-4-4-4,
  up to 3 more, 4-6-5, 4-6-4) with the same tab, line's end, dot, slash or underscore between, spaces around it or not;
  a group is never taken in part;
- it begins as cards of that length do that networks issue (the table below);
- its last digit is right by the Luhn formula (ISO/IEC 7812-1, annex B), as one random number in ten is.

So a time in milliseconds or a phone's number is none, and of random 16-digit numbers one in twenty-six is. What is
written as a UUID or as a hash of 32 or more hexadecimal digits is left alone, digits after a decimal point too.
Every script's digits, wide, raised and circled ones are digits; what cannot be seen between them is nothing.

Not found: digits in words (四二), other groups with a dot, slash, underscore, tab or line's end between, since
decimals, dates, paths and columns look so, separators that change on the way, letters or more than
three signs between groups.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

# Prefixes by network and lengths, from ISO/IEC 7812's issuer ranges as networks publish them; collected in
# https://en.wikipedia.org/wiki/Payment_card_number and in Braintree's card-types
# (https://github.com/braintree/credit-card-type). Ranges that only name a country's retail cards are left out: they
# would refuse many numbers of orders for few cards.
_ISSUED = (
    (r"3[47]", {15}),  # American Express
    (r"30[0-5]|3095|36|3[89]", {14, 15, 16, 17, 18, 19}),  # Diners Club
    (r"35(?:2[89]|[3-8][0-9])", {16, 17, 18, 19}),  # JCB
    (r"4", {13, 16, 19}),  # Visa
    (r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", {16}),  # Mastercard
    (r"50|5[6-8]|6304|6759|676[1-3]", {13, 14, 15, 16, 17, 18, 19}),  # Maestro, Elo, Verve
    (r"6011|64[4-9]|65", {16, 17, 18, 19}),  # Discover, RuPay, Elo
    (r"60|63[67]|82", {16}),  # RuPay, Hipercard, Elo
    (r"62|81", {16, 17, 18, 19}),  # UnionPay
    (r"220[0-4]", {16, 17, 18, 19}),  # Mir
    (r"9792", {16}),  # Troy
)
_FEWEST, _MOST = 13, 19
_BEGINS = {
    length: re.compile("|".join(prefix for prefix, lengths in _ISSUED if length in lengths))
    for length in range(_FEWEST, _MOST + 1)
}

_UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"

# Of a message's bytes: digits become 0, what may stand between them goes. A byte beyond ASCII may be of a digit or of
# what stands between (no character gives more digits than it has bytes), so it is 0 as well. Then 13 zeros in a row are
# wherever 13 digits were. What makes such rows without being a number is taken out first: ideographs (U+4000 to U+9FFF)
# and UUIDs, these not beside a character that might, normalised, belong to them.
_ZEROS = bytes(ord("0") if chr(byte) in "0123456789" or byte >= 0x80 else byte for byte in range(256))
_BETWEEN = b" -\t\n\v\f\r./_"
_ENOUGH = b"0" * _FEWEST
_IDEOGRAPHS = re.compile(rb"(?:[\xe4-\xe9][\x80-\xbf]{2})+")
_UUIDS = re.compile(rb"(?<![0-9A-Za-z\x80-\xff])" + _UUID.encode() + rb"(?![0-9A-Za-z\x80-\xff])")

_NAMES = re.compile(rf"(?<![0-9A-Za-z])(?:{_UUID}|[0-9a-fA-F]{{32,}})(?![0-9A-Za-z])")
_INVISIBLE = (
    *(0x00AD, 0x034F, 0x061C, 0x180E, 0x20E3, 0xFEFF),  # soft hyphen, joiners and marks, the key around a digit
    *range(0x200B, 0x2010),  # no width, directions
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xFE00, 0xFE10),  # variants
)
_DASHES = (*range(0x2010, 0x2016), 0x2043, 0x2212, 0x2500, 0x2501, 0x30FC)
_DOTS = (0x00B7, 0x2022, 0x2219, 0x22C5, 0x3002, 0x30FB)
_AS_ASCII = {
    **dict.fromkeys(_INVISIBLE),
    **dict.fromkeys(_DASHES, "-"),
    **dict.fromkeys(_DOTS, "."),
    **dict.fromkeys((0x0085, 0x2028, 0x2029), "\n"),
    0x1680: " ",
    0x2044: "/",
    0x2215: "/",
}
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")
_GROUPS = re.compile(r"(?<![0-9])(?<![0-9][.,])[0-9]+(?:[ -]{1,3}[0-9]+)*")
_GROUP = re.compile("[0-9]+")
# Looked for at every place: a group that belongs to no card may stand before.
_PRINTED = re.compile(
    r"(?<![0-9])(?<![0-9][.,])(?=([0-9]{4}([ \t\n\v\f\r./_-]{1,3})"
    r"(?:[0-9]{4}\2[0-9]{4}\2[0-9]{4}|[0-9]{6}\2[0-9]{4,5}))(?![0-9])(?:\2([0-9]{1,3})(?![0-9]))?)"
)


def may_hold_card_number(text: bytes) -> bool:
    """Whether a message's bytes hold 13 digits in a row outside of UUIDs: if not, none of its texts holds a card's
    number. Under a microsecond, for it is asked of every message."""
    if _ENOUGH not in text.translate(_ZEROS, _BETWEEN):
        return False
    if not text.isascii():
        text = _IDEOGRAPHS.sub(b"x", text)
    return _has_a_row(text) and _has_a_row(_UUIDS.sub(b"x", text))


def _has_a_row(text: bytes) -> bool:
    return _ENOUGH in text.translate(_ZEROS, _BETWEEN)


def holds_card_number(text: str) -> bool:
    """Whether the text holds what looks like a card's number."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_AS_ASCII)
        text = _OTHER_DIGIT.sub(lambda found: str(unicodedata.decimal(found.group())), text)
    return any(_is_card_number(number) for number in _numbers(_NAMES.sub("x", text)))


def _numbers(text: str) -> Iterator[str]:
    """What might be one number: neighbouring groups of digits, 13 to 19 digits together."""
    for found in _GROUPS.finditer(text):
        groups = _GROUP.findall(found.group())
        for first in range(len(groups)):
            number = ""
            for group in groups[first:]:
                number += group
                if len(number) > _MOST:
                    break
                if len(number) >= _FEWEST:
                    yield number
    for found in _PRINTED.finditer(text):
        number = "".join(_GROUP.findall(found.group(1)))
        yield number
        if found.group(3) and len(number) == 16:
            yield number + found.group(3)


def _is_card_number(number: str) -> bool:
    return _BEGINS[len(number)].match(number) is not None and _luhn(number)


def _luhn(number: str) -> bool:
    """From the right, every second digit counts twice, by its digits' sum; all together is a multiple of ten."""
    total = sum(int(digit) for digit in number[-1::-2])
    total += sum(sum(divmod(2 * int(digit), 10)) for digit in number[-2::-2])
    return total % 10 == 0

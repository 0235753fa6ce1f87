"""Whether a text holds what looks like a payment card's number, so that none is ever taken in, kept or told on.

A number is taken for a card's when all of this holds:
- 13 to 19 digits, in groups as people write them: spaces or dashes between; a group is never taken in part;
- it begins as cards of that length do that networks issue (the table below);
- its last digit is right by the Luhn formula (ISO/IEC 7812-1, annex B), as one random number in ten is.

So a time in milliseconds or a phone's number is none, and of random 16-digit numbers one in twenty-six is. What is
written as a UUID or as a hash of 32 or more hexadecimal digits is left alone, digits after a decimal point too.
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

# Of a message's bytes: digits become 0, what may stand between them goes, in UTF-8 also full-width digits and
# typographic spaces and dashes, byte by byte. Then 13 zeros in a row are wherever 13 digits were, and hardly elsewhere.
_ZEROS = bytes(ord("0") if chr(byte) in "0123456789" or 0x90 <= byte <= 0x99 else byte for byte in range(256))
_BETWEEN = b" -\xc2\xa0\xe2\xe3\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\xef\xbc"
_ENOUGH = b"0" * _FEWEST
_UUID_BYTES = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")

_NAMES = re.compile(
    r"(?<![0-9A-Za-z])"
    r"(?:[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[0-9a-fA-F]{32,})"
    r"(?![0-9A-Za-z])"
)
_INVISIBLE_OR_DASH = {**dict.fromkeys(range(0x200B, 0x2010)), **dict.fromkeys(range(0x2010, 0x2016), "-")}
_GROUPS = re.compile(r"(?<![0-9])(?<![0-9][.,])[0-9]+(?:[ -]{1,3}[0-9]+)*")
_GROUP = re.compile("[0-9]+")


def may_hold_card_number(text: bytes) -> bool:
    """Whether a message's bytes hold 13 digits in a row outside of UUIDs: if not, none of its texts holds a card's
    number. Under a microsecond, for it is asked of every message."""
    return _ENOUGH in text.translate(_ZEROS, _BETWEEN) and _ENOUGH in _UUID_BYTES.sub(b"_", text).translate(
        _ZEROS, _BETWEEN
    )


def holds_card_number(text: str) -> bool:
    """Whether the text holds what looks like a card's number."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_INVISIBLE_OR_DASH)
    return any(_is_card_number(number) for number in _numbers(_NAMES.sub("_", text)))


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


def _is_card_number(number: str) -> bool:
    return _BEGINS[len(number)].match(number) is not None and _luhn(number)


def _luhn(number: str) -> bool:
    """From the right, every second digit counts twice, by its digits' sum; all together is a multiple of ten."""
    total = sum(int(digit) for digit in number[-1::-2])
    total += sum(sum(divmod(2 * int(digit), 10)) for digit in number[-2::-2])
    return total % 10 == 0

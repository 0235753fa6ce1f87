"""What a field may wrongly hold: the edges of its type, and what stands elsewhere for something else."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

_TEXTS = (
    "",
    " ",
    "a",
    "x" * 65,
    "x" * 257,
    "x" * 5_000,
    "a\0b",
    "\0",
    "\u202ertl\u202c",
    "e\u0301\u0302\u0303" * 20,
    "\u0001\u001b[31m\r\n",
    "\U0001f600" * 40,
    "\U0001f3f3\ufe0f\u200d\U0001f308",
    "\ufeff",
    "\u2028\u2029",
    "\uffff\U0010ffff",
    "İıß",
    "٤٢",
    "'; DROP TABLE accounts; --",
    "\\'; \\x00 $1 $$",
    "%s%n%x%99999999d",
    "{0.__class__} {danbao}",
    "${jndi:ldap://127.0.0.1/x}",
    "../../../../etc/passwd",
    "<script>alert(1)</script>",
    "NaN",
    "null",
    "-1",
    "1e309",
    "9" * 40,
    "0x10",
    "2026-02-30",
    "2026-02-30T25:61:61Z",
    "0001-01-01",
    "9999-12-31",
    "*",
    "-",
    ".",
    "..",
    "a/b/c",
    "a,b",
    "name desc",
    "create_time desc",
)
_IDS = (
    "-" * 36,
    "0" * 36,
    "a" * 36,
    "f" * 8 + "-" * 28,
    str(uuid.UUID(int=0)),
    str(uuid.UUID(int=2**128 - 1)),
    "",
    ".",
)
_PREFIXES = (
    "subjects",
    "accounts",
    "payments",
    "transactions",
    "topUps",
    "withdrawals",
    "refunds",
    "rails",
    "trades",
    "checkouts",
    "refundCases",
    "disputes",
    "claims",
    "memberships",
    "appeals",
    "consents",
    "models",
    "reconciliations",
    "limitClasses",
    "platform",
    "Payments",
)
_CURRENCIES = ("CNY", "EUR", "JPY", "KWD", "CLF", "XXX", "XAU", "ZZZ", "cny", "", "C", "CNY ", "ＣＮＹ")
_INTEGERS = (0, 1, -1, 2, 3, 5, 99, 100, 127, 128, 255, 1000, 1001, 10**4, 10**9, 10**13, 10**15, 10**18)
_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_DOUBLES = (0.0, -0.0, 1.0, -1.0, 0.5, 5e-324, 1e308, -1e308, math.inf, -math.inf, math.nan, 2.0**53 + 2)
_SECONDS = (
    -62135596800,
    -62135596801,
    253402300799,
    253402300800,
    -(2**63),
    2**63 - 1,
    -1,
    0,
    1,
    1764547200,
    4102444800,
    32503679999,
    32503680000,
    315576000000,
    -315576000000,
    315576000001,
)
_NANOS = (0, 1, -1, 500, 999_999_999, 1_000_000_000, -(2**31), 2**31 - 1)
_TIMES = ("google.protobuf.Timestamp", "google.protobuf.Duration")
# Megabytes cost the machine more than they find: few of them.
_HUGE = ("x" * 300_000, "漢" * 1_200_000)
_HUGE_ONE_IN = 400


@dataclass(slots=True)
class Known:
    """What exists on the stack: names of every kind, ids, page tokens of every list."""

    names: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    """Where each was found. Names differ from stack to stack; at the same place stands what means the same."""

    def learn(self, value: Any, place: str) -> None:
        """Collects from an answer's JSON, whatever its shape. `place` says which answer."""
        if isinstance(value, dict):
            for key, item in value.items():
                if key == "nextPageToken" and isinstance(item, str) and item:
                    self.tokens.append(item)
                    self.places[f"{place}.{key}"] = item
                else:
                    self.learn(item, f"{place}.{key}")
        elif isinstance(value, list):
            for number, item in enumerate(value):
                self.learn(item, f"{place}.{number}")
        elif isinstance(value, str) and 0 < len(value) <= 200:
            self.places[place] = value
            target = self.names if "/" in value else self.texts
            if value not in target:
                target.append(value)

    def translated(self, data: bytes, places: Mapping[str, str]) -> bytes:
        """With the names of another stack replaced by those that stand where `places` had found them."""
        for place, old in places.items():
            new = self.places.get(place, old)
            if new != old and len(new) == len(old):  # of another length, a message would not be one any more
                data = data.replace(old.encode(), new.encode())
        return data


def is_time(kind: str) -> bool:
    """Whether a message type is seconds and nanos."""
    return kind in _TIMES


def seconds_and_nanos(rng: Random) -> tuple[int, int]:
    """Of a timestamp or a duration, mostly none that is one."""
    return rng.choice(_SECONDS), rng.choice(_NANOS)


def text(name: str, rng: Random, known: Known) -> str:
    """For a string field of that name."""
    if rng.randrange(_HUGE_ONE_IN) == 0:
        return rng.choice(_HUGE)
    if "currency" in name and rng.random() < 0.7:
        return rng.choice(_CURRENCIES)
    if name == "page_token" and rng.random() < 0.8:
        return _token(rng, known)
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(_TEXTS)
    if kind < 0.65 and known.names:
        return rng.choice(known.names)
    if kind < 0.75 and known.texts:
        return rng.choice(known.texts)
    if kind < 0.9:
        ending = rng.choice(_IDS) if rng.random() < 0.6 else str(uuid.UUID(int=rng.getrandbits(128), version=4))
        return f"{rng.choice(_PREFIXES)}/{ending}"
    return "".join(chr(rng.choice((rng.randrange(1, 0x300), rng.randrange(0x4E00, 0x9FFF)))) for _ in range(8))


def _token(rng: Random, known: Known) -> str:
    if known.tokens and rng.random() < 0.5:
        return rng.choice(known.tokens)
    if known.tokens and rng.random() < 0.6:
        token = rng.choice(known.tokens)
        at = rng.randrange(len(token))
        return token[:at] + rng.choice("AZaz09-_=+/.") + token[at + rng.randrange(2) :]
    return rng.choice(("forged", "====", "AAAA", "eyJhIjoxfQ", "bnVsbA", "W10", "MQ", "[]", "{}", "a" * 512, "a" * 513))


def is_single(descriptor: FieldDescriptor) -> bool:
    """Whether the field is one value, and no message."""
    return not descriptor.is_repeated and descriptor.message_type is None


def another(descriptor: FieldDescriptor, present: Any, rng: Random, known: Known) -> Any:
    """Of the same kind as what is there, so that the request gets further than to the rules of its contract."""
    if isinstance(present, bool):
        return not present
    if descriptor.enum_type is not None:
        return rng.choice(sorted(descriptor.enum_type.values_by_number))
    if isinstance(present, str):
        collection, slash, _ = present.partition("/")
        alike = [name for name in known.names if slash and name.startswith(f"{collection}/")]
        return rng.choice(alike or known.texts or [present])
    if isinstance(present, int):
        low, high = _BITS[descriptor.cpp_type]
        return max(low, min(high, rng.choice((present + 1, present - 1, present // 2, present * 2, -present, 1))))
    return scalar(descriptor, rng, known)


def scalar(descriptor: FieldDescriptor, rng: Random, known: Known) -> Any:
    """For any field that is no message."""
    kind = descriptor.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if descriptor.type == FieldDescriptor.TYPE_BYTES:
            return rng.choice((b"", b"\0", b"\xff" * 32, rng.randbytes(64), b"x" * 70_000))
        return text(descriptor.name, rng, known)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        assert descriptor.enum_type is not None, "the kind says so"
        last = max(descriptor.enum_type.values_by_number)
        return rng.choice((0, 1, rng.randrange(last + 1), last, last + 1, 99, -1, 2**31 - 1, -(2**31)))
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        value = rng.choice(_DOUBLES)
        if kind == FieldDescriptor.CPPTYPE_FLOAT and abs(value) > 3e38 and math.isfinite(value):
            return 3.0e38
        return value
    low, high = _BITS[kind]
    return max(low, min(high, rng.choice((*_INTEGERS, low, high, low + 1, high - 1, rng.randrange(100_000)))))

"""What small parts of messages become in the domain: names, keys, amounts, facts, times."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from danbao.payments.v1 import account_pb2
from danbao.type.v1 import money_pb2
from danbao_kit.errors import FieldInvalid, FieldViolation
from danbao_kit.money import Money
from danbao_kit.timestamps import FIRST_TIME
from danbao_payments.domain.commands import AccountKey
from danbao_payments.domain.transfer import Metadata


def id_of(name: str, field: str) -> UUID:
    """The id in a resource name, which has one form only. Raises FieldInvalid."""
    text = name.rpartition("/")[2]
    try:
        found = UUID(text)
    except ValueError:
        found = None
    if found is None or str(found) != text:
        raise FieldInvalid(FieldViolation(field, "does not end in a UUID"))
    return found


def key_of(key: account_pb2.AccountKey) -> AccountKey:
    return AccountKey(key.owner, key.kind)


def money_of(money: money_pb2.Money) -> Money:
    return Money(money.currency, money.amount_minor)


def facts_of(facts: Mapping[str, str]) -> Metadata:
    """Sorted by key."""
    return tuple(sorted(facts.items())) if facts else ()


def timestamp(moment: datetime) -> Timestamp:
    """To the microsecond, without rounding."""
    since = moment - FIRST_TIME
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)

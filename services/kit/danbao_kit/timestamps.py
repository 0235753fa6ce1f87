"""Which times a caller may name: those that every store, hash and sum of ours can tell apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from danbao_kit.errors import FieldInvalid, FieldViolation

# Far enough from the ends of datetime that adding and taking away a period stays within, and after PostgreSQL's
# -infinity, as which the driver writes the year 1.
FIRST_TIME = datetime(1970, 1, 1, tzinfo=UTC)
END_OF_TIME = datetime(3000, 1, 1, tzinfo=UTC)


def moment_of(stamp: Timestamp, field: str) -> datetime:
    """To the microsecond. Raises FieldInvalid for a time that is none, or lies outside 1970 to 2999."""
    if not 0 <= stamp.nanos < 1_000_000_000:
        raise FieldInvalid(FieldViolation(field, "its nanos are not between 0 and 999999999"))
    if not 0 <= stamp.seconds < _END_SECONDS:
        raise FieldInvalid(FieldViolation(field, "lies outside the years 1970 to 2999"))
    return FIRST_TIME + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


_END_SECONDS = int(END_OF_TIME.timestamp())

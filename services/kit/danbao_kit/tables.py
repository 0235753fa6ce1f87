"""Which tables every service has, whatever it does."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

PARTITION = 0

# States of a request record.
STARTED, ANSWERED, REFUSED = 0, 1, 2


def kit_tables(metadata: MetaData) -> None:
    """Declares the kit's tables in a service's metadata."""
    # One row a partition. Every write transaction begins by writing it: one batch at a time, in one order of time.
    Table(
        "stream_heads",
        metadata,
        Column("partition", Integer, primary_key=True, autoincrement=False),
        Column("event_sequence", BigInteger, nullable=False),
        Column("row_number", BigInteger, nullable=False),
        Column("last_time", DateTime(timezone=True), nullable=False),
        # Business time of a service on the test clock; null on real time. The two never share a database.
        Column("test_time", DateTime(timezone=True)),
    )
    # Who asked for what and what was answered, kept for good. `key` is a digest of (caller, method, request_id).
    Table(
        "request_records",
        metadata,
        Column("key", LargeBinary, primary_key=True),
        Column("caller", Text, nullable=False),
        Column("method", Text, nullable=False),
        Column("request_id", Text, nullable=False),
        Column("fingerprint", LargeBinary, nullable=False),
        Column("state", SmallInteger, nullable=False),
        Column("reply", LargeBinary),
        Column("create_time", DateTime(timezone=True), nullable=False),
        CheckConstraint("state = 0 OR reply IS NOT NULL", name="answered_records_have_a_reply"),
    )
    # The outbox: what happened, gapless, in the transaction in which it happened.
    Table(
        "events",
        metadata,
        Column("sequence", BigInteger, primary_key=True, autoincrement=False),
        Column("kind", Text, nullable=False),
        Column("create_time", DateTime(timezone=True), nullable=False),
        Column("payload", LargeBinary, nullable=False),
    )
    # How far this service has read the streams of others.
    Table(
        "reader_cursors",
        metadata,
        Column("source", Text, primary_key=True),
        Column("partition", Integer, primary_key=True),
        Column("sequence", BigInteger, nullable=False),
    )


# What the service's own role may do with them; nothing else.
KIT_GRANTS = {
    "stream_heads": "SELECT, UPDATE",
    "request_records": "SELECT, INSERT, UPDATE (state, reply)",
    "events": "SELECT, INSERT",
    "reader_cursors": "SELECT, INSERT, UPDATE",
}

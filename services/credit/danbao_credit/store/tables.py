"""Which tables credit has besides the kit's."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Integer, LargeBinary, MetaData, Table, Text

metadata = MetaData()

# What is remembered of each subject, packed; written by the reader of the streams only.
subjects = Table(
    "subjects",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("profile", LargeBinary, nullable=False),
)

# What came of reading a stream; the cursor itself is in the kit's reader_cursors.
stream_counts = Table(
    "stream_counts",
    metadata,
    Column("source", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("applied", BigInteger, nullable=False),
    Column("duplicates", BigInteger, nullable=False),
    Column("parked", BigInteger, nullable=False),
    Column("last_event_time", DateTime(timezone=True)),
)

# Events that could not be understood, as they came.
parked_events = Table(
    "parked_events",
    metadata,
    Column("source", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("park_time", DateTime(timezone=True), nullable=False),
)

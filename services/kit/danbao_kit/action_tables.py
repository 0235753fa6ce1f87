"""Where the log of privileged actions lies: entries, their words, and the head of their chain."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

from danbao_kit.migrations import grant
from danbao_kit.tables import PARTITION

# Entries can be written and read, and nothing else. Words go only where people are erased: such a service gets DELETE
# on them in its own migration.
ACTION_GRANTS = {
    "privileged_actions": "SELECT, INSERT",
    "privileged_action_words": "SELECT, INSERT",
    "privileged_action_heads": "SELECT, UPDATE",
}


def action_tables(metadata: MetaData) -> None:
    """Declares them."""
    Table(
        "privileged_actions",
        metadata,
        Column("sequence", BigInteger, primary_key=True, autoincrement=False),
        Column("create_time", DateTime(timezone=True), nullable=False),
        Column("method", Text, nullable=False),
        Column("operation", Text, nullable=False),
        Column("caller_kind", Text, nullable=False),
        Column("actor", Text, nullable=False),
        Column("roles", Text, nullable=False),
        Column("partner", Text, nullable=False),
        Column("outcome", Text, nullable=False),
        Column("trace_id", Text, nullable=False),
        Column("words_digest", LargeBinary, nullable=False),
        Column("previous_hash", LargeBinary, nullable=False),
        Column("hash", LargeBinary, nullable=False),
        CheckConstraint("sequence > 0", name="actions_are_numbered_from_one"),
        CheckConstraint("caller_kind IN ('TOKEN', 'CERTIFICATE')", name="action_caller_kind_is_known"),
        Index("privileged_actions_by_actor", "actor", "sequence"),
        Index("privileged_actions_by_operation", "operation", "sequence"),
        Index("privileged_actions_by_time", "create_time"),
    )
    # What may name a person; apart, so that it can go while the chain stays.
    Table(
        "privileged_action_words",
        metadata,
        Column("sequence", BigInteger, primary_key=True, autoincrement=False),
        Column("salt", LargeBinary, nullable=False),
        Column("request_id", Text, nullable=False),
        Column("fingerprint", LargeBinary, nullable=False),
        Column("subject", Text, nullable=False),
        Column("object", Text, nullable=False),
        Column("why", Text, nullable=False),
        Index("privileged_action_words_by_object", "object", "sequence"),
        Index("privileged_action_words_by_subject", "subject", postgresql_where=text("subject <> ''")),
    )
    # One row a partition: the last entry. Without it, the loss of the last entries would leave a chain that verifies.
    Table(
        "privileged_action_heads",
        metadata,
        Column("partition", Integer, primary_key=True, autoincrement=False),
        Column("sequence", BigInteger, nullable=False),
        Column("hash", LargeBinary, nullable=False),
    )


def create_action_tables(connection: Connection, role: str) -> None:
    """For one of a service's migrations: the tables, the head's row, and the role's rights."""
    metadata = MetaData()
    action_tables(metadata)
    metadata.create_all(connection)
    connection.execute(
        text("INSERT INTO privileged_action_heads (partition, sequence, hash) VALUES (:partition, 0, '')"),
        {"partition": PARTITION},
    )
    grant(connection, role, ACTION_GRANTS)

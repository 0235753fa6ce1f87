"""Which tables credit has besides the kit's."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    CHAR,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

# What is remembered of each subject, packed; written by the reader of the streams only.
subjects = Table(
    "subjects",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("profile", LargeBinary, nullable=False),
    # Rises with every change of the profile or of a mark.
    Column("version", BigInteger, nullable=False),
)

# What stands about a subject until it ends.
marks = Table(
    "marks",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("reference", Text, primary_key=True),
    # All that was told: [[at_us, by, traceparent, annuls, teller], …] in the order of time.
    Column("begins", Text, nullable=False),
    Column("ends", Text, nullable=False),
    Column("grade", Text),
)

# The score of each subject as it was evaluated last, one for each kind that it acts as.
scores = Table(
    "scores",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("score", Integer, nullable=False),
    Column("grade", Text, nullable=False),
    Column("blocked", Boolean, nullable=False),
    Column("sub_scores", Text, nullable=False),
    Column("reason_codes", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("as_of", DateTime(timezone=True), nullable=False),
    Column("look_time", DateTime(timezone=True), nullable=False),
    Column("profile_version", BigInteger, nullable=False),
)

# Every change of score, grade or block, append-only.
score_history = Table(
    "score_history",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("create_time", DateTime(timezone=True), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("score", Integer, nullable=False),
    Column("grade", Text, nullable=False),
    Column("blocked", Boolean, nullable=False),
    Column("previous_score", Integer),
    Column("previous_grade", Text),
    Column("previously_blocked", Boolean),
    Column("sub_scores", Text, nullable=False),
    Column("reason_codes", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("as_of", DateTime(timezone=True), nullable=False),
    Column("traceparent", Text, nullable=False),
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
    Column("erased", BigInteger, nullable=False),
    Column("hearsay", BigInteger, nullable=False, server_default="0"),
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

# What every event told of each subject in each role; only added to, until folded into checkpoints.
event_log = Table(
    "event_log",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("role", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("about", Text, nullable=False),
    Column("measures", Text, nullable=False),
    Column("sign", SmallInteger, nullable=False),
)

# What was folded out of the log: a profile of everything up to `through_us` that had come in by then.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("profile", LargeBinary, nullable=False),
    Column("through_us", BigInteger, nullable=False),
)

# Reports of other teams by a digest of whose id it is, kept for good. Without a subject: it was erased.
reports = Table(
    "reports",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("subject", Text),
    Column("peer", Text),
    Column("kind", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("about", Text, nullable=False),
    Column("measures", Text, nullable=False),
    Column("reverses", BigInteger),
    Column("reversed_by", BigInteger),
    # Which partner told it; empty: an officer, or before this was kept.
    Column("teller", Text, nullable=False, server_default=""),
)

# Who was erased, by a digest of the name.
tombstones = Table(
    "tombstones",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("erase_us", BigInteger, nullable=False),
    Column("payments_sequence", BigInteger, nullable=False),
    Column("escrow_sequence", BigInteger, nullable=False),
    Column("reports_number", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("secret_mark", LargeBinary, nullable=False),
)

# Who allowed which purpose; at most one without revoke_time per subject, purpose and partner.
consents = Table(
    "consents",
    metadata,
    Column("consent_id", Uuid, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("partner", Text, nullable=False),
    Column("grant_time", DateTime(timezone=True), nullable=False),
    Column("expire_time", DateTime(timezone=True)),
    Column("granted_by", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("revoke_time", DateTime(timezone=True)),
    Column("revoked_by", Text, nullable=False),
)

# What subjects wish to be taken back. Evidence and reversed events are JSON.
appeals = Table(
    "appeals",
    metadata,
    Column("appeal_id", Uuid, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("target_kind", Text, nullable=False),
    Column("target_code", Text, nullable=False),
    Column("target_reference", Text, nullable=False),
    Column("target_source", Text),
    Column("target_number", BigInteger),
    Column("statement", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("filed_by", Text, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("decided_by", Text, nullable=False),
    Column("decision", Text, nullable=False),
    Column("reversed_events", Text, nullable=False),
    Column("end_time", DateTime(timezone=True)),
)

# Reads for purposes that need consent; only added to.
score_accesses = Table(
    "score_accesses",
    metadata,
    Column("access_id", Uuid, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("reader", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
)

# One merchant's membership; a subject has at most one that is not LEFT. Causes are [{code, text}]. `look_time` is when
# it is looked at next, `look_cause` the trace that made it due.
memberships = Table(
    "memberships",
    metadata,
    Column("membership_id", Uuid, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("partner", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("currencies", ARRAY(Text), nullable=False),
    Column("required_minor", ARRAY(BigInteger), nullable=False),
    Column("causes", JSONB, nullable=False),
    Column("notice_end_time", DateTime(timezone=True)),
    Column("join_time", DateTime(timezone=True)),
    Column("leave_time", DateTime(timezone=True)),
    Column("last_step", Integer, nullable=False),
    Column("pending_step", Integer, nullable=False),
    Column("step_refusal", Text, nullable=False),
    Column("look_time", DateTime(timezone=True)),
    Column("look_cause", Text, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("update_time", DateTime(timezone=True), nullable=False),
    Column("revision", BigInteger, nullable=False),
)

# What is on a subject's deposit, by its account in payments: the sum of its movements.
deposits = Table(
    "deposits",
    metadata,
    Column("account", Uuid, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("currency", CHAR(3), nullable=False),
    Column("balance_minor", BigInteger, nullable=False),
)

# Which transactions of payments were counted in a deposit: each once.
deposit_movements = Table(
    "deposit_movements",
    metadata,
    Column("account", Uuid, primary_key=True),
    Column("transaction_id", Uuid, primary_key=True),
    Column("credited_minor", BigInteger, nullable=False),
    Column("debited_minor", BigInteger, nullable=False),
)

# Buyers' claims against a seller, as escrow tells of them.
claim_counts = Table(
    "claim_counts",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("opened", BigInteger, nullable=False),
    Column("ended", BigInteger, nullable=False),
    Column("last_end_time", DateTime(timezone=True)),
)

# Intents to move a deposit, committed before payments is asked. From `attempt_at`, real time, anybody may try.
deposit_steps = Table(
    "deposit_steps",
    metadata,
    Column("membership_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("currency", CHAR(3), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("counter_kind", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("claim", Integer, nullable=False),
    Column("refusals", Integer, nullable=False),
    Column("refusal", Text, nullable=False),
    Column("transaction", Text, nullable=False),
    Column("request", JSONB),
    Column("traceparent", Text, nullable=False),
    Column("attempt_at", DateTime(timezone=True), nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False),
    Column("settle_time", DateTime(timezone=True)),
    # For whom it is funded; both empty: an operator, or before this was kept.
    Column("for_partner", Text, nullable=False, server_default=""),
    Column("for_subject", Text, nullable=False, server_default=""),
)

"""How a request id finds the answer it was given: recorded in the transaction of its effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
from google.protobuf.message import Message

from danbao_kit.decision import Answer, RequestKey
from danbao_kit.errors import DanbaoError, RecordedRefusal, RequestIdReused
from danbao_kit.fingerprint import differing_field, fingerprint
from danbao_kit.rpc_status import status_of
from danbao_kit.submission import Codec, Outcome, Submission, record_key
from danbao_kit.tables import ANSWERED, REFUSED, STARTED


@dataclass(slots=True)
class Found:
    """A request that was seen before; without an outcome it is still under way."""

    outcome: Outcome | None


@dataclass(slots=True)
class Answers:
    """What a batch will tell its callers once it is committed, and the records that go with it."""

    outcomes: list[tuple[Any, Outcome]] = field(default_factory=list)
    # Submissions whose answer comes later; True: joined one that is under way.
    deferred: list[tuple[Any, bool]] = field(default_factory=list)
    late: list[tuple[RequestKey, Outcome]] = field(default_factory=list)
    late_records: list[tuple[bytes, int, bytes]] = field(default_factory=list)
    records: list[tuple[bytes, str, str, str, bytes, int, bytes | None, datetime]] = field(default_factory=list)
    # What the batch changed; None when it decided nothing.
    working_set: Any = None


class RequestRecords:
    """Reads and writes request records."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    async def find(
        self, connection: asyncpg.Connection, submissions: Sequence[Submission]
    ) -> dict[RequestKey | None, Found]:
        """Those of the requests that were seen before."""
        by_key = {submission.record_key: submission for submission in submissions}
        rows = await connection.fetch(
            "SELECT key, fingerprint, state, reply FROM request_records WHERE key = ANY($1::bytea[])", list(by_key)
        )
        found: dict[RequestKey | None, Found] = {}
        for row in rows:
            submission = by_key[row["key"]]
            request = submission.request
            assert request is not None
            differing = differing_field(submission.command, row["fingerprint"])
            if differing is not None:
                outcome = Outcome(error=RequestIdReused(request.request_id, differing))
            elif row["state"] == STARTED:
                found[request] = Found(None)
                continue
            elif row["state"] == ANSWERED:
                outcome = Outcome(self._codec.parse_reply(request.method, row["reply"]), replayed=True)
            else:
                outcome = Outcome(error=RecordedRefusal(row["reply"]), replayed=True)
            found[request] = Found(outcome)
        return found

    def answered(self, submission: Submission, message: Message, now: datetime, answers: Answers) -> None:
        """Records a reply."""
        self._record(submission, ANSWERED, message.SerializeToString(), now, answers)

    def refused(self, submission: Submission, error: DanbaoError, now: datetime, answers: Answers) -> None:
        """Records a refusal."""
        self._record(submission, REFUSED, status_of(error).SerializeToString(), now, answers)

    def started(self, submission: Submission, now: datetime, answers: Answers) -> None:
        """Records that a request is under way."""
        self._record(submission, STARTED, None, now, answers)

    def late_answer(self, answer: Answer, codec: Codec) -> tuple[RequestKey, Outcome, tuple[bytes, int, bytes]]:
        """The outcome and the record of a late answer."""
        key = record_key(answer.request)
        if answer.error is not None:
            data = status_of(answer.error).SerializeToString()
            return answer.request, Outcome(error=answer.error), (key, REFUSED, data)
        message = codec.reply(None, answer.reply)
        return answer.request, Outcome(message), (key, ANSWERED, message.SerializeToString())

    def _record(self, submission: Submission, state: int, reply: bytes | None, now: datetime, answers: Answers) -> None:
        request = submission.request
        assert request is not None
        answers.records.append(
            (
                submission.record_key,
                request.caller,
                request.method,
                request.request_id,
                fingerprint(submission.command),
                state,
                reply,
                now,
            )
        )

    async def save(self, connection: asyncpg.Connection, answers: Answers) -> None:
        """Writes the batch's records."""
        if answers.records:
            await connection.execute(
                "INSERT INTO request_records (key, caller, method, request_id, fingerprint, state, reply, create_time)"
                " SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::smallint[],"
                " $7::bytea[], $8::timestamptz[])",
                *[list(column) for column in zip(*answers.records, strict=True)],
            )
        if answers.late_records:
            await connection.execute(
                "UPDATE request_records SET state = late.state, reply = late.reply"
                " FROM unnest($1::bytea[], $2::smallint[], $3::bytea[]) AS late (key, state, reply)"
                " WHERE request_records.key = late.key AND request_records.state = 0",
                *[list(column) for column in zip(*answers.late_records, strict=True)],
            )

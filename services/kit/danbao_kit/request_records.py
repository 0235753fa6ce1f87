"""How a request id finds the answer it was given: recorded in the transaction of its effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
from google.protobuf.message import Message

from danbao_kit.decision import Answer, RequestKey
from danbao_kit.errors import DanbaoError, RecordedRefusal, RequestIdReused
from danbao_kit.fingerprint import differing_field, fingerprint
from danbao_kit.rpc_status import status_of
from danbao_kit.submission import Codec, Outcome, Submission, WrittenEvent, record_key
from danbao_kit.tables import ANSWERED, REFUSED, STARTED

_READ_ENDED = (
    f"SELECT key, fingerprint, state, reply FROM request_records WHERE key = ANY($1::bytea[]) AND state <> {STARTED}"
)

# A record's columns.
_Record = tuple[bytes, str, str, str, bytes, int, bytes | None, datetime]


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
    records: list[_Record] = field(default_factory=list)
    events: list[WrittenEvent] = field(default_factory=list)
    # What the batch changed; None when it decided nothing.
    working_set: Any = None

    def rows(self) -> tuple[list[_Record], list[tuple[bytes, int, bytes]]]:
        """New records, and what completes records of batches before. One statement writes both, so a request that was
        begun and answered within this batch is new and complete."""
        if not self.late_records:
            return self.records, []
        late = {key: (state, reply) for key, state, reply in self.late_records}
        new = [(*record[:5], *late.pop(record[0], record[5:7]), record[7]) for record in self.records]
        return new, [(key, state, reply) for key, (state, reply) in late.items()]


class RequestRecords:
    """Reads and writes request records."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    async def find_ended(
        self, connection: asyncpg.Connection, submissions: Sequence[Submission]
    ) -> dict[RequestKey, Found]:
        """Those of the requests that are no longer under way."""
        by_key = {submission.record_key: submission for submission in submissions}
        rows = await connection.fetch(_READ_ENDED, list(by_key))
        return self.known(rows, by_key)

    def known(self, rows: Iterable[Any], by_key: Mapping[bytes, Submission]) -> dict[RequestKey, Found]:
        """What the records' rows (key, fingerprint, state, reply) say about the submissions."""
        found: dict[RequestKey, Found] = {}
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

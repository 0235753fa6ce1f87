"""How a servicer hands a command to the write path and gives back what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.message import Message
from opentelemetry import trace

from danbao_kit.acting import Acting
from danbao_kit.call import Call, current_call
from danbao_kit.decision import RequestKey
from danbao_kit.errors import DanbaoError, DeadlineExceeded, RequestInProgress
from danbao_kit.group_commit import GroupCommit, Outcome, Submission

REPLAYED_HEADER = "x-danbao-replayed"
# An answer that is to reach its caller must leave a little before the caller stops waiting.
_ANSWER_AHEAD_S = 0.05


class CommandRunner:
    """Runs commands on behalf of the call being served."""

    def __init__(self, group_commit: GroupCommit) -> None:
        self._group_commit = group_commit

    async def run(
        self,
        context: grpc.aio.ServicerContext,
        method: str,
        request_id: str,
        command: Any,
        *,
        caller: str = "",
        about: str = "",
    ) -> Any:
        """The reply message of one command. Raises what refused it.

        `method` is the operation itself, such as "CreatePayment": the same within BatchExecute as alone, so that the
        same request id finds the same answer both ways. `caller`: as whose the request is recorded; empty: the call's.
        `about`: what the log of privileged actions names in place of what the request names.
        """
        call = current_call()
        left_s = _time_left_s(call)
        if left_s is not None and left_s <= 0:
            raise DeadlineExceeded  # nothing was begun
        submission = _submission(call, acting_of(call), method, request_id, command, caller=caller, about=about)
        outcome = await self._in_time(call, submission)
        if outcome.replayed:
            call.replayed = True
            await context.send_initial_metadata(((REPLAYED_HEADER, "true"),))
        if outcome.error is not None:
            raise outcome.error
        assert outcome.message is not None
        return outcome.message

    async def try_out(self, command: Any) -> Outcome:
        """The outcome of a command whose decision always raises: nothing is recorded, not even the request."""
        submission = Submission(command, deadline=current_call().deadline)
        return await self._in_time(current_call(), submission)

    async def run_unrecorded(self, command: Any) -> Any:
        """The reply message of a command that is idempotent by the state it meets, not by a request id."""
        call = current_call()
        left_s = _time_left_s(call)
        if left_s is not None and left_s <= 0:
            raise DeadlineExceeded  # nothing was begun
        span = trace.get_current_span().get_span_context()
        submission = Submission(
            command,
            traceparent=call.traceparent,
            deadline=call.deadline,
            span=span,
            wants_reply=True,
            acting=acting_of(call),
        )
        outcome = await self._in_time(call, submission)
        if outcome.error is not None:
            raise outcome.error
        assert outcome.message is not None
        return outcome.message

    async def run_many(
        self, operations: Sequence[tuple[str, str, Any] | DanbaoError], asked: Sequence[Message]
    ) -> list[Outcome]:
        """Outcomes of (method, request_id, command) each, in order; an error in place of one is its outcome.

        `asked`: each operation as it stands in the request, in the same order.
        """
        call = current_call()
        acting = acting_of(call)
        outcomes: list[Outcome | None] = [None] * len(operations)
        running: list[tuple[int, Submission]] = []
        for position, operation in enumerate(operations):
            if isinstance(operation, DanbaoError):
                outcomes[position] = Outcome(error=operation)
            else:
                method, request_id, command = operation
                shown = not running  # one span for the whole call, not one an operation
                by = None if acting is None else acting.upon(asked[position])
                running.append((position, _submission(call, by, method, request_id, command, shown=shown)))
        for (position, _), outcome in zip(
            running, await self._all_in_time(call, [submission for _, submission in running]), strict=True
        ):
            outcomes[position] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    async def _in_time(self, call: Call, submission: Submission) -> Outcome:
        """What comes of it, as long as the caller waits. Every call comes by here, and a timer alone takes a fifth of
        what asyncio.timeout does."""
        left_s = _time_left_s(call)
        begun = self._group_commit.begin(submission)
        late = False

        def give_up() -> None:
            nonlocal late
            # Drained, it goes on; else it is not begun.
            late = begun.cancel()

        timer = None if left_s is None else asyncio.get_running_loop().call_later(max(0.0, left_s), give_up)
        try:
            return await begun
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not late or (task is not None and task.cancelling()):
                raise
            return _in_progress(submission)
        finally:
            if timer is not None:
                timer.cancel()

    async def _all_in_time(self, call: Call, submissions: list[Submission]) -> list[Outcome]:
        """As `_in_time` for many, without a task and a timer for each: there may be a thousand."""
        if not submissions:
            return []
        begun = [self._group_commit.begin(submission) for submission in submissions]
        left_s = _time_left_s(call)
        try:
            await asyncio.wait(begun, timeout=None if left_s is None else max(0.0, left_s))
        finally:
            # Whoever waited has gone, or is told now; what is not yet drained is then not begun.
            late = [future.cancel() for future in begun]
        return [
            _in_progress(submission) if gone else future.result()
            for submission, future, gone in zip(submissions, begun, late, strict=True)
        ]


def acting_of(call: Call) -> Acting | None:
    """Who acts, where a privilege is used."""
    return Acting(call) if call.is_privileged else None


def _submission(
    call: Call,
    acting: Acting | None,
    method: str,
    request_id: str,
    command: Any,
    *,
    shown: bool = True,
    caller: str = "",
    about: str = "",
) -> Submission:
    return Submission(
        command,
        RequestKey(caller or call.request_caller, method, request_id),
        traceparent=call.traceparent,
        deadline=call.deadline,
        span=trace.get_current_span().get_span_context() if shown else None,
        acting=acting,
        about=about,
    )


def _time_left_s(call: Call) -> float | None:
    return None if call.deadline is None else call.deadline - time.monotonic() - _ANSWER_AHEAD_S


def _in_progress(submission: Submission) -> Outcome:
    if submission.request is None:
        return Outcome(error=DeadlineExceeded())
    return Outcome(error=RequestInProgress(submission.request.request_id))

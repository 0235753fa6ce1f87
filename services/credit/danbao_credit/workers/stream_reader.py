"""How a stream is read for ever: each chunk is one command, and one span a request that caused its events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext

from danbao_credit.application.apply_events import ApplyEvents, Told, command_for
from danbao_credit.application.ports import EventChunk, EventSource
from danbao_credit.application.working_set import ParkedEvent
from danbao_credit.domain.catalogue import Catalogue
from danbao_kit.event_reader import EventReader
from danbao_kit.group_commit import GroupCommit, Submission
from danbao_kit.log import log
from danbao_kit.telemetry import parse_traceparent, tracer

APPLY_SPAN = "credit.apply_event"
# A request may cause a thousand events; its own trace names what it did.
_MOST_NAMED = 20


def stream_reader(
    stream: EventSource,
    *,
    cursor: Callable[[], Awaitable[int]],
    catalogue: Catalogue,
    group_commit: GroupCommit,
    parks_future: bool = True,
) -> EventReader:
    """Reads a stream from the stored cursor on. `parks_future`: as ApplyEvents says."""
    source = stream.source

    async def apply(chunk: EventChunk, after_sequence: int) -> None:
        command = command_for(
            source, after_sequence, chunk.through_sequence, chunk.events, catalogue, parks_future=parks_future
        )
        with _spans(command) as leader:
            outcome = await group_commit.submit(Submission(command, span=leader))
        if outcome.error is not None:
            raise outcome.error
        for event in command.events:
            if isinstance(event, ParkedEvent):
                log.warning("event_parked", source=source, sequence=event.sequence, reason=event.reason)

    return EventReader(source, cursor=cursor, open=stream.open, apply=apply)


@contextmanager
def _spans(command: ApplyEvents) -> Iterator[SpanContext | None]:
    """A span for each sampled request behind the chunk, in a trace of its own, linked to the request's.

    Gives the first one, below which waiting and committing are shown.
    """
    causes: dict[str, list[Told]] = {}
    for event in command.events:
        if isinstance(event, Told) and event.traceparent.endswith("1"):
            causes.setdefault(event.traceparent, []).append(event)
    leader: SpanContext | None = None
    with ExitStack() as stack:
        for traceparent, events in causes.items():
            cause = parse_traceparent(traceparent)
            if cause is None:
                continue
            span = tracer.start_span(
                APPLY_SPAN, context=Context(), links=[Link(cause)], attributes=_attributes(command, events)
            )
            stack.callback(span.end)
            leader = leader or span.get_span_context()
        yield leader


def _attributes(command: ApplyEvents, events: list[Told]) -> dict[str, str | int]:
    kinds = Counter(event.kind for event in events)
    subjects = {subject for event in events[:_MOST_NAMED] for subject, _ in event.changes}
    return {
        "danbao.source": command.source.value,
        "danbao.sequence": events[-1].sequence,
        "danbao.events": len(events),
        "danbao.event.kinds": ", ".join(kinds),
        "danbao.about": ", ".join(dict.fromkeys(event.about for event in events[:_MOST_NAMED] if event.about)),
        "danbao.subjects": ", ".join(sorted(subjects)),
    }

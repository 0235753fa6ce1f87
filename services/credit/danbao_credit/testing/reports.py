"""For tests: events as partners tell them, and what they leave in the store."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from danbao.credit.v1 import credit_pb2
from danbao_credit.application.apply_events import microseconds
from danbao_credit.application.record_events import NewEvent
from danbao_credit.testing.stories import START
from danbao_kit.testing.service import as_caller

SELLER, BUYER = "subjects/seller", "subjects/buyer"
PARTNER = as_caller(subject="subjects/shop", roles="partner", partner="shop")


def review(event_id: str, at: datetime = START, rating: int = 5, **others: Any) -> NewEvent:
    """A review of five stars."""
    fields: dict[str, Any] = {
        "kind": "review_received",
        "subject": SELLER,
        "peer": BUYER,
        "at_us": microseconds(at),
        "measures": (("rating", rating),),
    }
    return NewEvent(event_id, **fields | others)


def reviews(count: int, seed: int = 11) -> list[NewEvent]:
    """Reviews of twenty sellers over 500 days."""
    dice = random.Random(seed)
    return [
        review(
            f"r{n}",
            START - timedelta(minutes=dice.randrange(60 * 24 * 500)),
            rating=dice.randrange(1, 6),
            subject=f"subjects/s{dice.randrange(20)}",
        )
        for n in range(count)
    ]


def new_event(event: NewEvent) -> credit_pb2.NewEvent:
    """The message of an event."""
    message = credit_pb2.NewEvent(
        event_id=event.event_id,
        kind=event.kind,
        subject=event.subject,
        peer=event.peer,
        about=event.about,
        currency=event.currency,
        measures=dict(event.measures),
        reverses=event.reverses,
    )
    if event.at_us is not None:
        message.occur_time.FromMicroseconds(event.at_us)
    return message


async def record(credit: Any, *events: NewEvent, caller: Any = PARTNER) -> list[credit_pb2.RecordedEvent]:
    """What came of telling credit some events."""
    request = credit_pb2.RecordEventsRequest(events=[new_event(event) for event in events])
    answer = await credit.stub().RecordEvents(request, timeout=10, metadata=caller)
    return list(answer.results)


async def stored(credit: Any, query: str) -> list[Any]:
    """Rows of credit's store."""
    connection = await asyncpg.connect(credit.database.dsn)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()

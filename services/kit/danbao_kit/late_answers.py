"""Who waits for an answer that a later command gives: in this process, or in another replica."""

from __future__ import annotations

import asyncio

from danbao_kit.batch_transaction import Item
from danbao_kit.database import Database
from danbao_kit.decision import RequestKey
from danbao_kit.errors import DanbaoError, OutcomeUnknown
from danbao_kit.request_records import RequestRecords
from danbao_kit.submission import Codec, Outcome

_LOOK_EVERY_S = 0.25


class LateAnswers:
    """Deferred requests and those who wait for them."""

    def __init__(self, database: Database, codec: Codec) -> None:
        self._database = database
        self._records = RequestRecords(codec)
        # Each with whether it joined a request that was under way.
        self._waiting: dict[RequestKey, list[tuple[Item, bool]]] = {}

    def wait(self, item: Item, *, joined: bool) -> None:
        """The item's caller waits from now on."""
        request = item.submission.request
        assert request is not None, "only a request can be deferred"
        self._waiting.setdefault(request, []).append((item, joined))

    def answer(self, request: RequestKey, outcome: Outcome) -> None:
        """Tells all who wait for the request."""
        for item, joined in self._waiting.pop(request, []):
            item.settle(Outcome(outcome.message, outcome.error, replayed=joined))

    def give_up(self) -> None:
        """Tells all who still wait that the outcome is unknown."""
        for waiting in self._waiting.values():
            for item, _ in waiting:
                item.settle(Outcome(error=OutcomeUnknown()))

    async def look(self) -> None:
        """Another replica, or this one after a restart, may give the late answer: the record tells. Runs for ever."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            for request in [key for key, items in self._waiting.items() if all(i.future.done() for i, _ in items)]:
                del self._waiting[request]
            waiting = [items[0][0].submission for items in self._waiting.values()]
            if not waiting:
                continue
            try:
                async with self._database.driver() as connection:
                    known = await self._records.find_ended(connection, waiting)
            except DanbaoError:
                continue
            for request, found in known.items():
                if found.outcome is not None:
                    self.answer(request, found.outcome)

"""Tells credit the facts that no order tells, by RecordEvents, as time reaches them."""

import json
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from danbao.credit.v1 import credit_pb2
from danbao_local.layout import write_atomically
from danbao_local.replay.calls import Gateway
from danbao_local.replay.facts import Fact
from danbao_local.replay.record import OrderRecord

MOST = 1000
"""In one call."""
REPORTS_FILE = "reports.jsonl"
_TAKEN = frozenset({credit_pb2.RecordedEvent.STATE_APPLIED, credit_pb2.RecordedEvent.STATE_DUPLICATE})


class Teller:
    """Tells each fact once a run at most; an earlier run may have told it, too: then it is a duplicate."""

    def __init__(self, facts: Sequence[Fact], records: Mapping[int, OrderRecord], gateway: Gateway) -> None:
        self._facts = facts
        self._records = records
        self._gateway = gateway
        self._times = [fact.time for fact in facts]
        self._next = 0
        self.states: Counter[str] = Counter()
        self.seconds = 0.0
        """How long this run waited for the answers, mostly beside the orders' own calls."""
        self.wrong: list[str] = []
        """What was neither applied nor known already."""

    def skip_until(self, moment: datetime) -> None:
        """An earlier run has told what is not later."""
        self._next = max(self._next, bisect_right(self._times, moment))

    async def tell_until(self, moment: datetime) -> None:
        """Everything that is not later than a time. Raises GaveUp, Refused."""
        end = bisect_right(self._times, moment)
        due, self._next = self._facts[self._next : end], max(self._next, end)
        for role, by_operator in (("partner", False), ("operator", True)):
            told = list(self._told(fact for fact in due if fact.by_operator == by_operator))
            for some in (told[place : place + MOST] for place in range(0, len(told), MOST)):
                request = credit_pb2.RecordEventsRequest(events=[_message(fact, about) for fact, about in some])
                began = time.monotonic()
                answer = await self._gateway.call(self._gateway.credit.RecordEvents, request, role)
                self.seconds += time.monotonic() - began
                for (fact, _), result in zip(some, answer.results, strict=True):
                    self._note(fact, result)

    def all_told(self) -> list[dict[str, Any]]:
        """What was told by this run or an earlier one, as credit's `assess --reports` reads it."""
        return [_line(fact, about) for fact, about in self._told(self._facts[: self._next])]

    def _told(self, facts: Iterable[Fact]) -> Iterable[tuple[Fact, str]]:
        """With what each is about; of a trade that was never made there is nothing to tell."""
        for fact in facts:
            if fact.trade is None:
                yield fact, fact.about
                continue
            number, seller_id = fact.trade
            made = self._records[number].trades.get(seller_id)
            if made is not None and made.name:
                yield fact, made.name

    def _note(self, fact: Fact, result: credit_pb2.RecordedEvent) -> None:
        state = credit_pb2.RecordedEvent.State.Name(result.state).removeprefix("STATE_")
        self.states[state] += 1
        if result.state not in _TAKEN:
            why = result.park_reason or result.error.message
            self.wrong.append(f"{fact.kind} of {fact.subject}, {fact.event_id}: {state}, {why}")


def keep(told: Iterable[Mapping[str, Any]], state_dir: Path) -> Path:
    """Writes what was told into a file."""
    file = state_dir / REPORTS_FILE
    write_atomically(file, "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in told))
    return file


def _message(fact: Fact, about: str) -> credit_pb2.NewEvent:
    message = credit_pb2.NewEvent(
        event_id=fact.event_id,
        kind=fact.kind,
        subject=fact.subject,
        peer=fact.peer,
        about=about,
        currency=fact.currency,
        measures=dict(fact.measures),
    )
    message.occur_time.FromDatetime(fact.time)
    return message


def _line(fact: Fact, about: str) -> dict[str, Any]:
    line = {
        "event_id": fact.event_id,
        "kind": fact.kind,
        "occur_us": round(fact.time.timestamp() * 1_000_000),
        "subject": fact.subject,
        "peer": fact.peer,
        "about": about,
        "currency": fact.currency,
        "measures": dict(fact.measures),
    }
    return {name: value for name, value in line.items() if value not in ("", {})}

"""Reads the log of privileged actions: page by page, and along its chain."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from danbao_kit.database import Database
from danbao_kit.privileged_actions import (
    BEGINNING,
    Break,
    Entry,
    Place,
    PrivilegedAction,
    Words,
    broken,
    broken_at_end,
)
from danbao_kit.tables import PARTITION

# As many are hashed within milliseconds: nobody else is served meanwhile.
_PAGE = 250

# What the driver can read; times that somebody put beyond it are read as the infinity, which is no time either.
_TIME = (
    "CASE WHEN a.create_time >= '0001-01-02 UTC' AND a.create_time < '9999-12-31 UTC' THEN a.create_time"
    " ELSE 'infinity' END AS create_time"
)
_SELECT = (
    f"SELECT a.sequence, {_TIME}, a.method, a.operation, a.caller_kind, a.actor, a.roles, a.partner, a.outcome,"
    " a.trace_id, a.words_digest, a.previous_hash, a.hash,"
    " w.salt, w.request_id, w.fingerprint, w.subject, w.object, w.why"
    " FROM privileged_actions AS a LEFT JOIN privileged_action_words AS w ON w.sequence = a.sequence"
)
_FIRST = text(f"{_SELECT} ORDER BY a.sequence LIMIT :most")
_NEXT = text(f"{_SELECT} WHERE a.sequence > :after ORDER BY a.sequence LIMIT :most")
# One statement, so that both are of one moment: they are written in one transaction.
_END = text(
    "SELECT h.sequence, h.hash, e.last FROM (SELECT coalesce(max(sequence), 0) AS last FROM privileged_actions) AS e"
    " LEFT JOIN privileged_action_heads AS h ON h.partition = :partition"
)
_HASH = text("SELECT hash FROM privileged_actions WHERE sequence = :sequence")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries; every field that is set must hold."""

    actor: str = ""
    operation: str = ""
    object: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """What a look along the chain found: how far it came, and the first break. Not `complete`: entries follow.
    `head` None: it is gone."""

    reached: Place
    entries: int
    erased: int
    head: Place | None
    broken: Break | None
    complete: bool


class ActionLog:
    """The log of one store. `words_may_go`: whether people are erased in this service."""

    def __init__(self, database: Database, *, words_may_go: bool = False) -> None:
        self._database = database
        self._words_may_go = words_may_go

    async def page(self, wanted: Wanted, *, before: int | None, limit: int) -> list[Entry]:
        """The newest entries below the sequence `before`, newest first."""
        conditions = {
            "a.actor = :actor": wanted.actor,
            "a.operation = :operation": wanted.operation,
            "w.object = :object": wanted.object,
            "a.create_time >= :since": wanted.since,
            "a.create_time < :until": wanted.until,
            "a.sequence < :before": before,
        }
        asked = {condition: value for condition, value in conditions.items() if value not in ("", None)}
        values = {condition.rpartition(":")[2]: value for condition, value in asked.items()}
        where = f" WHERE {' AND '.join(asked)}" if asked else ""
        query = text(f"{_SELECT}{where} ORDER BY a.sequence DESC LIMIT :most")
        async with self._database.read() as connection:
            return [_entry(row) for row in await connection.execute(query, {**values, "most": limit})]

    async def verify(
        self, *, after: Place = BEGINNING, max_entries: int | None = None, budget_s: float | None = None
    ) -> Checked:
        """Recomputes the chain after that place, and stops at the first break, or where entries or time end."""
        until = math.inf if budget_s is None else time.monotonic() + budget_s
        head, last = await self._end()
        if after.sequence and (wrong := await self._anchor(after)) is not None:
            return Checked(BEGINNING, 0, 0, head, wrong, complete=True)
        reached, entries, erased = after, 0, 0
        while True:
            page = await self._page(reached.sequence)
            if not page:
                head, last = await self._end()
                if head is not None and head.sequence >= last > reached.sequence:
                    continue  # written after the page was read
                return Checked(reached, entries, erased, head, broken_at_end(reached, head, last), complete=True)
            for entry in page:
                if entries == max_entries or time.monotonic() >= until:
                    return Checked(reached, entries, erased, head, None, complete=False)
                wrong = broken(entry, reached, words_may_go=self._words_may_go)
                if wrong is not None:
                    return Checked(reached, entries, erased, head, wrong, complete=True)
                reached = Place(entry.sequence, entry.hash)
                entries += 1
                erased += entry.words is None

    async def _anchor(self, place: Place) -> Break | None:
        """What is wrong with where it is to begin: then the log is not the one that somebody looked at before."""
        async with self._database.read() as connection:
            found = (await connection.execute(_HASH, {"sequence": place.sequence})).scalar()
        if found is None:
            return Break(place.sequence, "is missing")
        return None if found == place.hash else Break(place.sequence, "is not the one that was seen before")

    async def _page(self, after: int) -> Sequence[Entry]:
        # What stands before the first entry must not stand there: to begin with, nothing is left out.
        query, values = (_NEXT, {"after": after}) if after else (_FIRST, {})
        async with self._database.read() as connection:
            return [_entry(row) for row in await connection.execute(query, {**values, "most": _PAGE})]

    async def _end(self) -> tuple[Place | None, int]:
        """The head, and the last entry that there is."""
        async with self._database.read() as connection:
            row = (await connection.execute(_END, {"partition": PARTITION})).one()
        return None if row.sequence is None else Place(row.sequence, row.hash), row.last


def _entry(row: Any) -> Entry:
    return Entry(
        sequence=row.sequence,
        action=PrivilegedAction(
            create_time=row.create_time,
            method=row.method,
            operation=row.operation,
            caller_kind=row.caller_kind,
            actor=row.actor,
            roles=row.roles,
            partner=row.partner,
            outcome=row.outcome,
            trace_id=row.trace_id,
            words_digest=row.words_digest,
        ),
        previous_hash=row.previous_hash,
        hash=row.hash,
        words=None
        if row.salt is None
        else Words(row.salt, row.request_id, row.fingerprint, row.subject, row.object, row.why),
    )

"""An audit of escrow: its own rows, what payments' events told, and payments' books as they stand now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeAlias

from danbao_escrow.domain import audit
from danbao_escrow.domain.audit import Counts, Look, Rule, Violation, by_rule

# Accounts whose transactions are looked at one by one: each is a call.
_LOOKED_INTO = 50

# Called after each piece of a look with the seconds that it took.
Rest: TypeAlias = Callable[[float], Awaitable[None]]


async def no_rest(took_s: float) -> None:
    """Goes on at once: somebody waits."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a trade's account should hold, minor units; with a step pending it may hold something else."""

    trade: str
    currency: str
    minor: int
    pending: bool


class BooksUnavailable(Exception):
    """Payments cannot be asked now."""


class OwnBooks(Protocol):
    """Escrow's own store."""

    async def counts(self) -> Counts: ...
    async def broken(self, rule: Rule) -> list[Violation]: ...

    def held(self) -> AsyncIterator[list[Held]]:
        """The trades whose accounts should hold something, or have a step pending."""
        ...

    async def known(self, trades: Iterable[str]) -> set[str]:
        """Those of them that there are."""
        ...

    async def references(self, trade: str) -> set[str]: ...


class TheirBooks(Protocol):
    """Payments' books."""

    async def held(self, rest: Rest) -> dict[tuple[str, str], int]:
        """What each trade's account holds that is not closed, by trade and currency. Raises BooksUnavailable."""
        ...

    async def transactions(self, trade: str, currency: str) -> set[str]:
        """transactions/{uuid} upon a trade's account. Raises BooksUnavailable."""
        ...


class Auditor:
    """Changes nothing. `queried` are the rules that one statement each tells."""

    def __init__(self, own: OwnBooks, theirs: TheirBooks, queried: Iterable[Rule]) -> None:
        self._own = own
        self._theirs = theirs
        self._queried = tuple(queried)

    async def look(self, *, again_after_s: float, budget_s: float | None = None, rest: Rest = no_rest) -> Look:
        """A look; a second one later where the first found something that may be nothing but time."""
        began = time.monotonic()
        first = await self._look(budget_s, rest)
        left_s = None if budget_s is None else budget_s - (time.monotonic() - began) - again_after_s
        if not first.must_be_seen_twice or (left_s is not None and left_s <= 0):
            return first
        await asyncio.sleep(again_after_s)
        return first.confirmed_by(await self._look(left_s, rest))

    async def _look(self, budget_s: float | None, rest: Rest) -> Look:
        began, read_time = time.monotonic(), datetime.now(UTC)
        counts = await self._own.counts()
        found: list[Violation] = []
        done: set[str] = set()
        try:
            async with asyncio.timeout(budget_s):
                for rule in self._queried:
                    asked = time.monotonic()
                    found += await self._own.broken(rule)
                    done.add(rule.name)
                    await rest(time.monotonic() - asked)
                found += await self._of_books(rest)
                done |= {audit.HELD.name, audit.STRAY.name}
        except (TimeoutError, BooksUnavailable):
            pass  # what was not looked at is not among `done`
        return Look(read_time, time.monotonic() - began, counts, frozenset(done), by_rule(found))

    async def _of_books(self, rest: Rest) -> list[Violation]:
        """Payments' books against ours: ours are read first and last, so that what moves meanwhile is not told.

        Only what holds something is read. A closed account holds nothing: that is for payments' own audit to say.
        """
        before = await self._held(rest)
        theirs = await self._theirs.held(rest)
        after = await self._held(rest)
        found, concerned = [], []
        for key, each in after.items():
            minor = theirs.get(key, 0)
            if minor != each.minor and not each.pending and before.get(key) == each:
                found.append(Violation(audit.HELD, each.trade, str(each.minor), str(minor), abs(minor - each.minor)))
                concerned.append(key)
        # They hold, we do not: nothing is left of the trade, or nobody knows it.
        others = {key: minor for key, minor in theirs.items() if minor and key not in before and key not in after}
        known = await self._own.known({trade for trade, _ in others}) if others else set()
        for key, minor in others.items():
            expected = "0" if key[0] in known else "a trade"
            found.append(Violation(audit.HELD, key[0], expected, str(minor), abs(minor)))
            if key[0] in known:
                concerned.append(key)
        for trade, currency in concerned[:_LOOKED_INTO]:
            told = await self._own.references(trade)
            for name in sorted(await self._theirs.transactions(trade, currency) - told):
                found.append(Violation(audit.STRAY, name, f"a step of {trade}", "none"))
        return found

    async def _held(self, rest: Rest) -> dict[tuple[str, str], Held]:
        held: dict[tuple[str, str], Held] = {}
        asked = time.monotonic()
        async for page in self._own.held():
            held |= {(each.trade, each.currency): each for each in page}
            await rest(time.monotonic() - asked)
            asked = time.monotonic()
        return held

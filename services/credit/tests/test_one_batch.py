"""Commands that meet in one batch: each is decided on what the ones before it did, and all of it is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from danbao_credit.application.consents import GrantConsent
from danbao_credit.application.decide import Decide, decider
from danbao_credit.application.erasure import EraseSubject
from danbao_credit.application.membership_commands import ApplyMembership, LeaveMembership, Token
from danbao_credit.application.memberships import Desk
from danbao_credit.application.model_commands import (
    CreateModelVersion,
    PromoteModelVersion,
    RegisterShipped,
    SetChallenger,
    ValidateModelVersion,
)
from danbao_credit.application.record_events import NewEvent, RecordEvents
from danbao_credit.domain.asker import Asker
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.erasure import ErasureReason, Traces
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.marks import MarkKey, MarkKind
from danbao_credit.domain.models import Finding
from danbao_credit.domain.rights_errors import ErasureRefused
from danbao_credit.domain.terms import TermsTable
from danbao_credit.rpc.rights_codec import blank_event
from danbao_credit.store.credit_store import CreditStore
from danbao_credit.testing.deposits import merchant
from danbao_kit.decision import Moment, Need
from danbao_kit.errors import DanbaoError
from danbao_kit.testing.embedded_postgres import ServiceDatabase
from danbao_kit.time_ordered_ids import TimeOrderedIds

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SELLER = "subjects/seller"
SHOP = Token(subject=SELLER, partner="shop")
HIMSELF = Asker(subject=SELLER)
ERASE = EraseSubject(SELLER, "", ErasureReason.REQUESTED, HIMSELF, Traces())
# What an erasure asks for before it is decided; then it comes first, and others may have come meanwhile.
ERASE_NEEDS = {"marks_of": {SELLER}, "subjects": {SELLER}}
GOOD = (Finding("HASH", True, ""),)


class Batches:
    """Batches as the write path makes them: one transaction each; whoever needs more is decided in the next one."""

    def __init__(self, connection: asyncpg.Connection, decide: Decide) -> None:
        self.connection = connection
        self._decide = decide
        self._store = CreditStore(blank_event)
        self._now = NOW
        self._numbers = 0

    async def run(self, *commands: Any, **known: set[Any]) -> list[Any]:
        """What came of the commands: replies and refusals. `known`: what they were found to need before."""
        outcomes: dict[int, Any] = {}
        left, needs = list(enumerate(commands)), dict(known)
        for _ in range(8):
            async with self.connection.transaction():
                working = await self._store.load(self.connection, [command for _, command in left], needs, self._now)
                again = []
                for place, command in left:
                    self._now += timedelta(microseconds=1)
                    moment = Moment(now=self._now, ids=TimeOrderedIds(), last_number=self._numbers)
                    try:
                        outcomes[place] = self._decide(command, working, moment)
                    except Need as need:
                        working.discard()
                        again.append((place, command))
                        for table, keys in need.keys.items():
                            needs.setdefault(table, set()).update(keys)
                    except DanbaoError as error:
                        working.discard()
                        outcomes[place] = error
                    else:
                        working.accept()
                        self._numbers = moment.last_number
                await self._store.save(self.connection, working)
            left = again
            if not left:
                return [outcomes[place] for place in sorted(outcomes)]
        raise AssertionError(f"never decided: {left}")

    async def rows(self, statement: str) -> Sequence[Any]:
        return [tuple(row) for row in await self.connection.fetch(statement)]


@pytest.fixture
async def batches(
    service_database: Callable[..., ServiceDatabase],
    migrated: ServiceDatabase,
    judge: Judge,
    table: TermsTable,
    catalogue: Catalogue,
) -> AsyncIterator[Batches]:
    database = service_database("credit", template=migrated.name)
    connection = await asyncpg.connect(database.dsn.replace("+asyncpg", ""))
    await connection.execute("INSERT INTO subjects VALUES ($1, $2)", SELLER, merchant(catalogue, NOW).to_bytes())
    yield Batches(connection, decider(Desk(lambda: judge, table.membership)))
    await connection.close()


async def test_who_leaves_and_applies_again_has_one_membership_that_goes_on(batches: Batches) -> None:
    apply = ApplyMembership(SELLER, ("CNY",), SHOP)
    (first,) = await batches.run(apply)
    left, again = await batches.run(LeaveMembership(first.membership.membership_id, SHOP), apply)
    assert left.membership.membership_id != again.membership.membership_id
    assert await batches.rows("SELECT state FROM memberships ORDER BY create_time") == [
        ("LEFT",),
        ("AWAITING_DEPOSIT",),
    ]


async def test_a_challenger_that_is_promoted_makes_room_for_the_next_and_for_the_former_champion(
    batches: Batches,
) -> None:
    await batches.run(RegisterShipped("shipped", "{}", "a"))
    for version in ("second", "third"):
        made = CreateModelVersion(version, "{}", version, "", "ann")
        await batches.run(made, ValidateModelVersion(version, GOOD, "ann"))
    await batches.run(SetChallenger("second", "ann"))
    await batches.run(PromoteModelVersion("second", "", "ann"), SetChallenger("third", "bob"))
    assert await batches.rows("SELECT version, state FROM model_versions ORDER BY version") == [
        ("second", "CHAMPION"),
        ("shipped", "RETIRED"),
        ("third", "CHALLENGER"),
    ]


async def test_an_application_and_an_erasure_do_not_both_succeed(batches: Batches) -> None:
    applied, refused = await batches.run(ApplyMembership(SELLER, ("CNY",), SHOP), ERASE, **ERASE_NEEDS)
    assert isinstance(refused, ErasureRefused)
    assert isinstance(applied.membership.membership_id, UUID)
    assert await batches.rows("SELECT state FROM memberships") == [("AWAITING_DEPOSIT",)]


async def test_what_is_told_and_granted_after_an_erasure_stays(batches: Batches, catalogue: Catalogue) -> None:
    fraud = NewEvent("e1", "fraud_confirmed", SELLER, about="cases/1", at_us=int(NOW.timestamp() + 60) * 1_000_000)
    told = RecordEvents("risk", True, (fraud,), catalogue)
    granted = GrantConsent(SELLER, "lending", "", None, "", HIMSELF)
    _, recorded, consent = await batches.run(
        ERASE, told, granted, **ERASE_NEEDS, marks={MarkKey(SELLER, MarkKind.FRAUD, "cases/1")}
    )
    assert recorded[0].state == "APPLIED"
    assert await batches.rows("SELECT consent_id FROM consents") == [(consent.consent_id,)]
    assert await batches.rows("SELECT subject, kind FROM marks") == [(SELLER, "fraud")]
    assert await batches.rows("SELECT kind FROM event_log") == [("fraud_confirmed",)]

"""What an operator runs beside the service, on its store: an audit of every profile, a rebuild of every profile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from danbao.credit.v1 import credit_pb2
from danbao_credit.app import load_catalogue
from danbao_credit.application.audit import PAGE, audit_all
from danbao_credit.application.decide import decide
from danbao_credit.application.rebuild import RebuildProfile
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.rpc.codec import CreditCodec
from danbao_credit.rpc.rights_codec import blank_event
from danbao_credit.store.credit_store import CreditStore
from danbao_credit.store.queries import CreditQueries
from danbao_kit.business_clock import open_clock
from danbao_kit.clock import Clock
from danbao_kit.database import Database
from danbao_kit.group_commit import GroupCommit, Submission
from danbao_kit.time_ordered_ids import TimeOrderedIds

# Between pages of a rebuild, so that the service's own commands are not kept waiting.
_PAUSE_S = 0.05

Tell = Callable[[str], None]


class StoreSettings(BaseSettings):
    """What a command that works on the store alone is told."""

    model_config = SettingsConfigDict(env_prefix="DANBAO_", extra="ignore")

    database_dsn: str = Field(description="the service's own database, as the service's own role")
    clock: Literal["real", "test"] = Field(default="real", description="as of the service")


async def audit_store(settings: StoreSettings, tell: Tell) -> int:
    """How many profiles are not what checkpoint and log give; a line each."""
    database = Database(settings.database_dsn)
    try:
        return await audit(database, load_catalogue(), tell=tell)
    finally:
        await database.close()


async def rebuild_store(settings: StoreSettings, tell: Tell, *, after: str) -> None:
    """Counts every profile again by the catalogue of this version."""
    database = Database(settings.database_dsn)
    try:
        clock = await open_clock(settings.clock, database)
        await rebuild(database, load_catalogue(), clock, tell=tell, after=after)
    finally:
        await database.close()


async def audit(database: Database, catalogue: Catalogue, *, tell: Tell) -> int:
    """Compares every profile with checkpoint and log; a line each that differs. How many do."""
    subjects = violations = 0
    async for page in audit_all(catalogue=catalogue, reader=CreditQueries(database)):
        subjects += page.subjects
        violations += len(page.violations)
        for violation in page.violations:
            tell(f"{violation.subject}: {violation.entries_differing} numbers are not what checkpoint and log give")
    tell(f"{subjects} subjects, {violations} violations")
    return violations


async def rebuild(
    database: Database, catalogue: Catalogue, clock: Clock, *, tell: Tell, after: str = ""
) -> tuple[int, int]:
    """Counts every profile again, in the order of names from the one after `after` on: subjects, and how many changed.

    Each subject is a command of the write path, so the service may run. Ended anywhere, it is begun again after the
    subject that was told last. Raises what refuses a command.
    """
    queries = CreditQueries(database)
    group_commit = GroupCommit(database, CreditStore(blank_event), decide, CreditCodec(), clock, TimeOrderedIds())
    group_commit.start()
    began = time.monotonic()
    subjects = changed = 0
    try:
        while page := await queries.subjects(after, most=PAGE):
            outcomes = await group_commit.submit_many(
                [Submission(RebuildProfile(subject, catalogue), wants_reply=True) for subject in page]
            )
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
                assert isinstance(outcome.message, credit_pb2.RebuildProfileResponse)
                changed += not outcome.message.same
            subjects += len(page)
            after = page[-1]
            tell(f"{subjects} subjects, {changed} changed, {time.monotonic() - began:.0f} s; through {after}")
            await asyncio.sleep(_PAUSE_S)
    finally:
        await group_commit.stop()
    return subjects, changed

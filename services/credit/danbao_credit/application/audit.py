"""Whether profiles are what checkpoint and log give: invariant 12."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from danbao_credit.application.as_of import replay_in_parts
from danbao_credit.application.ports import CreditReader
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.checkpoint import differing

INVARIANT = 12
# Subjects of one look into the store. Few: each brings its whole log.
PAGE = 50


@dataclass(frozen=True, slots=True)
class Violation:
    """A subject whose profile is not what is kept of it: so many numbers differ, are missing or are too many."""

    subject: str
    entries_differing: int


@dataclass(frozen=True, slots=True)
class Audited:
    """What a page of subjects gave. `last` is the last of them."""

    subjects: int
    last: str
    violations: tuple[Violation, ...]


async def audit_page(after: str, *, catalogue: Catalogue, reader: CreditReader, most: int = PAGE) -> Audited | None:
    """Compares the profiles of the next subjects in the order of their names; None: there are no more.

    Each subject is read by one snapshot, so events that are applied meanwhile are in its profile and its log, or in
    neither.
    """
    subjects = await reader.subjects(after, most=most)
    if not subjects:
        return None
    violations = []
    for subject in subjects:
        seen = await reader.history(subject, None)
        apart = differing(seen.profile, await replay_in_parts(seen.history, catalogue))
        if apart:
            violations.append(Violation(subject, apart))
    return Audited(len(subjects), subjects[-1], tuple(violations))


async def audit_all(*, catalogue: Catalogue, reader: CreditReader, after: str = "") -> AsyncIterator[Audited]:
    """Page by page, all subjects after one."""
    while (page := await audit_page(after, catalogue=catalogue, reader=reader)) is not None:
        yield page
        after = page.last

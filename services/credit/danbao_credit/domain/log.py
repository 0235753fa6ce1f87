"""What is kept of every event: what it told about one subject, so that a profile can be counted again from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import orjson

from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.events import Source
from danbao_credit.domain.facts import changes_of
from danbao_credit.domain.profile import Change, Profile
from danbao_credit.domain.telling import Telling


class LogRow(NamedTuple):
    """One event as one subject in one role lived it.

    `number` is the sequence in the source's stream. `measures` are what `encoded` gives. `sign` is -1 where the event
    takes back an earlier one, at whose time it then counts.
    """

    subject: str
    source: str
    number: int
    role: str
    kind: str
    at_us: int
    currency: str
    about: str
    measures: str
    sign: int


def encoded(measures: Mapping[str, int]) -> str:
    """Measures as compact JSON. Zeros too: a later catalogue may ask whether a measure was told at all."""
    return orjson.dumps(measures).decode()


def decoded(measures: str) -> dict[str, int]:
    """The measures that `encoded` wrote."""
    known: dict[str, int] = orjson.loads(measures)
    return known


def taken_back(changes: Iterable[tuple[str, Change]]) -> tuple[tuple[str, Change], ...]:
    """The changes that take these back: sums, peers and orders are subtracted, times stay."""
    reversals = ((subject, change.reversed()) for subject, change in changes)
    return tuple((subject, back) for subject, back in reversals if back is not None)


def changes_of_row(row: LogRow, catalogue: Catalogue) -> list[tuple[int, Change]]:
    """What a row changes in its subject's profile by this catalogue, with its time."""
    telling = Telling(row.about, row.currency, ((row.role, row.subject),), decoded(row.measures))
    changes = changes_of(row.kind, telling, catalogue, Source(row.source))
    if row.sign < 0:
        changes = taken_back(changes)
    return [(row.at_us, change) for _, change in changes]


def replayed(checkpoint: Profile, rows: Iterable[LogRow], catalogue: Catalogue) -> Profile:
    """A checkpoint with what these rows add to it: the same bytes whatever their order, and wherever they are cut."""
    changes = [change for row in rows for change in changes_of_row(row, catalogue)]
    return checkpoint.with_changes(changes) if changes else checkpoint

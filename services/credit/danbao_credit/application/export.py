"""Everything that is kept about a subject, section by section, in words and as values.

A peer is a number that stands for it within profiles, never a name: what is exported is the subject's own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from danbao_credit.application.rights_ports import AppealFilter, KeptRecords
from danbao_credit.domain.appeal import Appeal
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.consent import Access, Consent
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.log import LogRow, decoded
from danbao_credit.domain.marks import Mark, MarkKind
from danbao_credit.domain.profile import HASH_SHIFT, Kind, Profile
from danbao_kit.errors import PageTokenInvalid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REFERENCE = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that is kept, or follows from what is kept. Values are plain: text, numbers, times, lists of these."""

    section: str
    text: str
    values: Mapping[str, Any] = field(default_factory=dict)


# A record, and the place in its section after which the next one is asked for.
Placed: TypeAlias = tuple[Record, str]
Section: TypeAlias = Callable[[str, str, int], Awaitable[Sequence[Placed]]]
"""(subject, after, limit) → at most `limit` records after a place; empty: from the beginning."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, and where the next page begins; empty: there is none."""

    records: tuple[Record, ...]
    next_place: str


@dataclass(frozen=True, slots=True)
class Export:
    """The sections, in order."""

    sections: Mapping[str, Section]

    async def page(self, subject: str, *, place: str, size: int) -> Page:
        """At most `size` records from a place on. Raises PageTokenInvalid for a place that is none."""
        names = list(self.sections)
        section, _, after = place.partition("|")
        if place and section not in self.sections:
            raise PageTokenInvalid
        position = names.index(section) if place else 0
        records: list[Record] = []
        while position < len(names):
            left = size - len(records)
            if left == 0:
                return Page(tuple(records), f"{names[position]}|{after}")
            found = await self.sections[names[position]](subject, after, left)
            records += [record for record, _ in found]
            if len(found) < left:
                position, after = position + 1, ""
            else:
                after = found[-1][1]
        return Page(tuple(records), "")


def export_of(
    kept: KeptRecords,
    judged: Callable[[str], Awaitable[Sequence[Record]]],
    marks_of: Callable[[str], Awaitable[Sequence[Mark]]],
    now: Callable[[], datetime],
    others: Sequence[str] = (),
) -> Export:
    """`judged` gives what is computed of a subject now, `marks_of` its marks.

    `others` are sections that other parts of credit keep.
    """

    async def computed(subject: str, after: str, limit: int) -> list[Placed]:
        """Not kept but made when it is asked for, hence counted through."""
        if after and not after.isdigit():
            raise PageTokenInvalid
        first = int(after or 0)
        records = (await judged(subject))[first : first + limit]
        return [(record, str(first + number)) for number, record in enumerate(records, 1)]

    async def marks(subject: str, after: str, limit: int) -> list[Placed]:
        placed = sorted((f"{mark.kind} {mark.reference}", mark) for mark in await marks_of(subject))
        return [(mark_record(mark), at) for at, mark in placed if at > after][:limit]

    async def consents(subject: str, after: str, limit: int) -> list[Placed]:
        found = await kept.consents(subject, after, limit)
        return [(consent_record(consent, now()), str(consent.consent_id)) for consent in found]

    async def appeals(subject: str, after: str, limit: int) -> list[Placed]:
        return [
            (appeal_record(item), str(item.appeal_id))
            for item in await kept.appeals(AppealFilter(subject=subject), after, limit)
        ]

    async def accesses(subject: str, after: str, limit: int) -> list[Placed]:
        return [(access_record(item), str(item.access_id)) for item in await kept.accesses(subject, after, limit)]

    async def events(subject: str, after: str, limit: int) -> list[Placed]:
        return [(event_record(row), log_place(row)) for row in await kept.logged(subject, after, limit)]

    def other(name: str) -> Section:
        async def section(subject: str, after: str, limit: int) -> list[Placed]:
            rows = await kept.others(name, subject, after, limit)
            return [(other_record(name, values), at) for at, values in rows]

        return section

    return Export(
        {
            "credit": computed,
            "marks": marks,
            **{name: other(name) for name in others},
            "consents": consents,
            "appeals": appeals,
            "accesses": accesses,
            "events": events,
        }
    )


def judged_records(judge: Judge, profile: Profile, standing: Mapping[MarkKind, int], as_of_s: int) -> list[Record]:
    """Scores with their reasons, every indicator with its unit, and every count for life."""
    records: list[Record] = []
    for kind in judge.model.scorecards:
        evaluation = judge.evaluate(profile, kind=kind, as_of_s=as_of_s, standing=standing)
        reasons = [
            {"code": reason.code, "points_lost": reason.points_lost, "text": reason.text}
            for reason in evaluation.reasons
        ]
        adjustments = [{"code": item.code, "points": item.points, "text": item.text} for item in evaluation.adjustments]
        why = "; ".join(reason.text for reason in evaluation.reasons) or "nothing costs points"
        records.append(
            Record(
                "credit",
                f"as a {kind}: {evaluation.score}, grade {evaluation.grade}; {why}",
                {
                    "kind": kind.value,
                    "score": evaluation.score,
                    "grade": evaluation.grade.value,
                    "blocked": evaluation.blocked,
                    "base_points": evaluation.base_points,
                    "sub_scores": dict(evaluation.sub_scores),
                    "adjustments": adjustments,
                    "reasons": reasons,
                    "model_version": judge.model.version,
                },
            )
        )
    facts = judge.facts(profile, as_of_s)
    for indicator in judge.catalogue.indicators:
        value = indicator.value(facts)
        if value is not None:
            records.append(
                Record(
                    "credit",
                    f"{indicator.name} is {value:g} {indicator.unit}",
                    {
                        "indicator": indicator.name,
                        "value": float(value),
                        "unit": indicator.unit,
                        "window": indicator.window.words,
                        "formula": indicator.expression.text,
                    },
                )
            )
    return records + _counts(judge.catalogue, profile, as_of_s)


def _counts(catalogue: Catalogue, profile: Profile, as_of_s: int) -> list[Record]:
    """What is counted: totals for life, first and last times, and how many peers, by number."""
    records: list[Record] = []
    totals = profile.totals(hop_s=0, tiles=0, as_of_s=as_of_s, slots=catalogue.slot_ids)
    for slot in catalogue.slots:
        if slot.keep == "sum" and totals[slot.id]:
            values = {"count": slot.name, "total": totals[slot.id], "currency": slot.currency}
            records.append(Record("credit", f"{slot.name}: {totals[slot.id]} so far", values))
        elif slot.keep in ("first", "last"):
            moment = profile.mark(Kind.FIRST if slot.keep == "first" else Kind.LAST, slot.id)
            if moment is not None:
                at = _EPOCH + timedelta(seconds=moment)
                records.append(Record("credit", f"{slot.name}: {at:%Y-%m-%d}", {"moment": slot.name, "time": at}))
    keys, counts = profile.met()
    if len(keys):
        # A number that stands for a peer or an order, and when or how often it was met; whose it is, is not kept.
        met = zip(keys.tolist(), counts.tolist(), strict=True)
        references = [f"{key >> HASH_SHIFT & _REFERENCE:08x} {count}" for key, count in met]
        text = f"{len(references)} times peers and orders, by a number that stands for each"
        records.append(Record("credit", text, {"references": references}))
    return records


def mark_record(mark: Mark) -> Record:
    begin = min((turn.at_us for turn in mark.begins), default=None)
    end = None if mark.end is None else mark.end.at_us
    if mark.is_annulled:
        until = "never stood, by an appeal"
    else:
        until = "does not stand" if mark.begin is None else "stands" if end is None else "has ended"
    values = {
        "mark": mark.kind.name,
        "about": mark.reference,
        "begin_time": _microseconds(begin),
        "end_time": _microseconds(end),
        "annulled": mark.is_annulled,
        "told_by": sorted({turn.teller or "platform" for turn in mark.begins}),
    }
    return Record("marks", f"{mark.kind.name} about {mark.reference or 'nothing named'}: {until}", values)


def consent_record(consent: Consent, now: datetime) -> Record:
    whom = f"partner {consent.partner}" if consent.partner else "all"
    state = consent.state(now)
    return Record(
        "consents",
        f"{consent.purpose} to {whom}, {state.lower()} ({consent.grant_time:%Y-%m-%d} by {consent.granted_by})",
        {
            "name": consent.name,
            "purpose": consent.purpose,
            "partner": consent.partner,
            "state": state.value,
            "grant_time": consent.grant_time,
            "expire_time": consent.expire_time,
            "revoke_time": consent.revoke_time,
            "granted_by": consent.granted_by,
            "revoked_by": consent.revoked_by,
            "evidence": consent.evidence,
        },
    )


def appeal_record(appeal: Appeal) -> Record:
    return Record(
        "appeals",
        f"against {appeal.target}: {appeal.state.lower()}",
        {
            "name": appeal.name,
            "target": str(appeal.target),
            "state": appeal.state.value,
            "statement": appeal.statement,
            "evidence": [
                {
                    "uri": item.uri,
                    "sha256": item.sha256,
                    "size_bytes": item.size_bytes,
                    "media_type": item.media_type,
                    "note": item.note,
                }
                for item in appeal.evidence
            ],
            "filed_by": appeal.filed_by,
            "decision": appeal.decision,
            "reversed_events": [str(key) for key in appeal.reversed_events],
            "create_time": appeal.create_time,
            "end_time": appeal.end_time,
        },
    )


def access_record(access: Access) -> Record:
    return Record(
        "accesses",
        f"{access.reader} read for {access.purpose} on {access.create_time:%Y-%m-%d %H:%M} UTC ({access.method})",
        {
            "reader": access.reader,
            "purpose": access.purpose,
            "method": access.method,
            "trace_id": access.trace_id,
            "time": access.create_time,
        },
    )


def event_record(row: LogRow) -> Record:
    at = _EPOCH + timedelta(microseconds=row.at_us)
    does = "takes back what it told" if row.sign < 0 else "told"
    return Record(
        "events",
        f"{at:%Y-%m-%d %H:%M} UTC {row.source}.{row.kind} as {row.role} about {row.about or 'nothing'}: {does}",
        {
            "source": row.source,
            "number": row.number,
            "kind": row.kind,
            "role": row.role,
            "time": at,
            "about": row.about,
            "currency": row.currency,
            "measures": decoded(row.measures),
            "sign": row.sign,
        },
    )


def other_record(section: str, values: Mapping[str, Any]) -> Record:
    text = ", ".join(f"{name} {value}" for name, value in values.items() if value not in (None, ""))
    return Record(section, text, values)


def log_place(row: LogRow) -> str:
    """A row's place within its subject's log, in the order of its key."""
    return f"{row.source} {row.number} {row.role}"


def _microseconds(value: int | None) -> datetime | None:
    return None if value is None else _EPOCH + timedelta(microseconds=value)

"""Reports kept in a file by whoever told them, a JSON object a line: to be counted again without credit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from danbao_credit.domain.errors import EventMalformed
from danbao_credit.domain.events import ReportedEvent
from danbao_credit.domain.reports import ReportKind, check_report


def recorded_reports(file: Path, kinds: Mapping[str, ReportKind]) -> Iterator[ReportedEvent]:
    """Each event once, however often it was told; fields as in NewEvent, the time as `occur_us`, microseconds.

    Raises OSError, EventMalformed naming the line, and FieldInvalid for what is not what its kind says.
    """
    told: set[str] = set()
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                event_id, event = _read(number, json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise EventMalformed(f"{file}, line {number}: {type(error).__name__} {error}") from error
            if event_id in told:
                continue
            told.add(event_id)
            check_report(
                event.kind,
                event.measures,
                subject=event.subject,
                peer=event.peer,
                about=event.about,
                currency=event.currency,
                kinds=kinds,
            )
            yield event


def _read(number: int, line: Mapping[str, Any]) -> tuple[str, ReportedEvent]:
    event = ReportedEvent(
        sequence=number,
        kind=line["kind"],
        at_us=int(line["occur_us"]),
        traceparent="",
        subject=line["subject"],
        peer=line.get("peer", ""),
        about=line.get("about", ""),
        currency=line.get("currency", ""),
        measures={name: int(value) for name, value in line.get("measures", {}).items()},
    )
    return line["event_id"], event

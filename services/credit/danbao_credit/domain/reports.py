"""What other teams may report, and whether a report is what its kind in the catalogue says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from danbao_credit.domain.errors import DefinitionInvalid, FieldInvalid, FieldViolation

_NEEDS = ("never", "may", "must")
_TELLERS = ("partner", "operator")
_SUBJECT = re.compile(r"subjects/[A-Za-z0-9._~-]{1,100}")
_ABOUT = re.compile(r"[a-zA-Z]{1,32}/[A-Za-z0-9._~-]{1,100}")
_CURRENCY = re.compile(r"[A-Z]{3}")
# Every event has these besides what it measures.
COMMON = ("one", "peer", "order")


@dataclass(frozen=True, slots=True)
class Bounds:
    """From and to which whole number a measure may be, both included."""

    lowest: int
    highest: int


@dataclass(frozen=True, slots=True)
class ReportKind:
    """One kind of report. `peer`, `about` and `currency` say whether it has one: never, may or must.

    `says`: what it is, in words. All its measures must be given.
    """

    name: str
    says: str
    peer: str
    about: str
    currency: str
    measures: Mapping[str, Bounds]
    # Who tells it: partners too, or operators only.
    by: str = "partner"


def reports_from(definition: Mapping[str, Any]) -> Mapping[str, ReportKind]:
    """Reads the section `reports`. Raises DefinitionInvalid."""
    kinds: dict[str, ReportKind] = {}
    for name, line in definition.items():
        needs = {field: str(line.get(field, "never")) for field in ("peer", "about", "currency")}
        for field, need in needs.items():
            if need not in _NEEDS:
                raise DefinitionInvalid(f"report {name}: {field} is one of {', '.join(_NEEDS)}")
        measures = {}
        for measure, (lowest, highest) in line.get("measures", {}).items():
            if measure in COMMON or not 0 <= lowest <= highest < 2**53:
                raise DefinitionInvalid(f"report {name}: the measure {measure} is taken or its bounds are not")
            measures[measure] = Bounds(lowest, highest)
        by = str(line.get("by", "partner"))
        if by not in _TELLERS:
            raise DefinitionInvalid(f"report {name}: by is one of {', '.join(_TELLERS)}")
        kinds[name] = ReportKind(name, str(line["says"]), measures=measures, by=by, **needs)
    return kinds


def check_report(
    kind: str,
    measures: Mapping[str, int],
    *,
    subject: str,
    peer: str,
    about: str,
    currency: str,
    kinds: Mapping[str, ReportKind],
    field: str = "",
) -> None:
    """Whether a report is what its kind says; empty strings are not given. `field`: the path of the report, with a dot.

    Raises FieldInvalid with everything that is wrong: an unknown kind, a measure that is unknown, missing or out of its
    bounds, a peer, order or currency that is missing, malformed or not of this kind.
    """
    report = kinds.get(kind)
    if report is None:
        raise FieldInvalid(FieldViolation(f"{field}kind", f"{kind!r} is not a kind of report: see the catalogue"))
    wrong = []
    if not _SUBJECT.fullmatch(subject):
        wrong.append(FieldViolation(f"{field}subject", "must be subjects/{id}"))
    for name, value, need, pattern, form in (
        ("peer", peer, report.peer, _SUBJECT, "subjects/{id}"),
        ("about", about, report.about, _ABOUT, "a name such as trades/{uuid}"),
        ("currency", currency, report.currency, _CURRENCY, "an ISO 4217 code"),
    ):
        if value and need == "never":
            wrong.append(FieldViolation(f"{field}{name}", f"{kind} has none"))
        elif not value and need == "must":
            wrong.append(FieldViolation(f"{field}{name}", f"{kind} needs one"))
        elif value and not pattern.fullmatch(value):
            wrong.append(FieldViolation(f"{field}{name}", f"must be {form}"))
    if peer and peer == subject:
        wrong.append(FieldViolation(f"{field}peer", "must be somebody else than the subject"))
    for name in sorted(set(measures) - set(report.measures)):
        wrong.append(FieldViolation(f"{field}measures[{name}]", f"{kind} has no such measure"))
    for name, bounds in report.measures.items():
        given = measures.get(name)
        if given is None:
            wrong.append(FieldViolation(f"{field}measures[{name}]", f"{kind} needs it"))
        elif type(given) is not int or not bounds.lowest <= given <= bounds.highest:
            text = f"must be a whole number from {bounds.lowest} to {bounds.highest}"
            wrong.append(FieldViolation(f"{field}measures[{name}]", text))
    if wrong:
        raise FieldInvalid(*wrong)

"""What other teams may report, and which words name what is wrong with a report."""

from __future__ import annotations

from typing import Any

import pytest

from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.errors import FieldInvalid
from danbao_credit.domain.events import ReportedEvent, Source
from danbao_credit.domain.facts import facts_of, telling_of
from danbao_credit.domain.profile import peer_hash
from danbao_credit.domain.reports import check_report

GOOD: dict[str, Any] = {
    "kind": "review_received",
    "measures": {"rating": 5},
    "subject": "subjects/shop",
    "peer": "subjects/ann",
    "about": "trades/1",
    "currency": "",
}


def violations(catalogue: Catalogue, **changes: Any) -> dict[str, str]:
    with pytest.raises(FieldInvalid) as raised:
        check_report(**{**GOOD, **changes}, kinds=catalogue.reports, field="events[3].")
    return {violation.field.removeprefix("events[3]."): violation.description for violation in raised.value.fields}


def test_a_report_that_is_what_its_kind_says_passes(catalogue: Catalogue) -> None:
    check_report(**GOOD, kinds=catalogue.reports)
    check_report(**{**GOOD, "about": ""}, kinds=catalogue.reports)


def test_every_kind_has_words_and_passes_with_its_lowest_and_highest_measures(catalogue: Catalogue) -> None:
    assert len(catalogue.reports) >= 25
    for report in catalogue.reports.values():
        assert report.says
        for pick in ("lowest", "highest"):
            check_report(
                report.name,
                {name: getattr(bounds, pick) for name, bounds in report.measures.items()},
                subject="subjects/a",
                peer="subjects/b" if report.peer != "never" else "",
                about="trades/1" if report.about != "never" else "",
                currency="CNY" if report.currency != "never" else "",
                kinds=catalogue.reports,
            )


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"kind": "horoscope"}, "kind", "not a kind"),
        ({"measures": {}}, "measures[rating]", "needs it"),
        ({"measures": {"rating": 6}}, "measures[rating]", "from 1 to 5"),
        ({"measures": {"rating": 0}}, "measures[rating]", "from 1 to 5"),
        ({"measures": {"rating": 4.5}}, "measures[rating]", "whole number"),
        ({"measures": {"rating": True}}, "measures[rating]", "whole number"),
        ({"measures": {"rating": 5, "religion": 1}}, "measures[religion]", "no such measure"),
        ({"peer": ""}, "peer", "needs one"),
        ({"peer": "ann"}, "peer", "subjects/{id}"),
        ({"peer": "subjects/shop"}, "peer", "somebody else"),
        ({"subject": "shops/1"}, "subject", "subjects/{id}"),
        ({"about": "order one"}, "about", "a name"),
        ({"currency": "CNY"}, "currency", "has none"),
        ({"kind": "policy_penalty", "measures": {"amount_minor": 5}, "peer": "", "about": ""}, "currency", "needs one"),
        ({"kind": "identity_verified", "measures": {"level": 1}, "about": ""}, "peer", "has none"),
    ],
)
def test_what_is_wrong_is_named(catalogue: Catalogue, changes: dict[str, Any], field: str, says: str) -> None:
    found = violations(catalogue, **changes)
    assert says in found[field]


def test_everything_that_is_wrong_is_named_at_once(catalogue: Catalogue) -> None:
    found = violations(catalogue, measures={"rating": 9, "extra": 1}, peer="x", subject="y", currency="CNY")
    assert set(found) == {"subject", "peer", "currency", "measures[extra]", "measures[rating]"}


def test_a_report_counts_for_its_subject_with_its_peer_and_order(catalogue: Catalogue) -> None:
    event = ReportedEvent(1, "review_received", 5, "", "subjects/shop", "subjects/ann", "trades/1", "", {"rating": 2})
    telling = telling_of(event)
    assert telling.measures == {
        "one": 1,
        "rating": 2,
        "peer": peer_hash("subjects/ann"),
        "order": peer_hash("trades/1"),
    }
    slots = {slot.id: slot.name for slot in catalogue.slots}
    facts = facts_of(event, Source.REPORTS, catalogue)
    assert {(subject, slots[change.slot], change.amount) for subject, change in facts.changes} == {
        ("subjects/shop", "reviews", 1),
        ("subjects/shop", "review_stars", 2),
        ("subjects/shop", "reviews_bad", 1),
        ("subjects/shop", "last_review", 1),
        ("subjects/shop", "reviewers", peer_hash("subjects/ann")),
    }


def test_a_failed_login_is_no_login(catalogue: Catalogue) -> None:
    event = ReportedEvent(1, "login", 5, "", "subjects/shop", "", "", "", {"new_device": 1, "failed": 1})
    slots = {slot.id: slot.name for slot in catalogue.slots}
    counted = {slots[change.slot] for _, change in facts_of(event, Source.REPORTS, catalogue).changes}
    assert counted == {"logins_failed"}

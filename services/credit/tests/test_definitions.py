"""The files that ship, and which contradictions are refused at start."""

from __future__ import annotations

import copy
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from danbao_credit.__main__ import main
from danbao_credit.app import CreditSettings, load_judge, load_terms
from danbao_credit.domain.catalogue import Catalogue, SubjectKind, catalogue_from
from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.grades import Grade
from danbao_credit.domain.reasons import texts_from
from danbao_credit.domain.scorecard import Characteristic, Measured, model_from
from danbao_credit.domain.terms import TermsTable, terms_from


@cache
def loaded(name: str) -> dict[str, Any]:
    content = yaml.safe_load((resources.files("danbao_credit.definitions") / name).read_text())
    assert isinstance(content, dict)
    return content


def definition(name: str) -> dict[str, Any]:
    """A copy to be changed."""
    return copy.deepcopy(loaded(name))


def test_the_catalogue_has_twelve_categories_with_two_indicators_or_more_each(catalogue: Catalogue) -> None:
    assert len(catalogue.categories) == 12
    for category in catalogue.categories:
        lines = {indicator.name.rpartition("_")[0] for indicator in catalogue.listed(category=category, kind=None)}
        assert len(lines) >= 2, category


def test_every_reason_of_the_model_has_words_and_every_characteristic_its_category(judge: Judge) -> None:
    for scorecard in judge.model.scorecards.values():
        assert len({c.indicator.category for c in scorecard.characteristics}) >= 7
        assert all(c.indicator.reason for c in scorecard.characteristics)


def test_the_catalogue_has_hundreds_of_indicators_for_each_kind(catalogue: Catalogue) -> None:
    assert len(catalogue.listed(category="", kind=SubjectKind.MERCHANT)) >= 400
    assert len(catalogue.listed(category="", kind=SubjectKind.INDIVIDUAL)) >= 350
    for kind in SubjectKind:
        assert {indicator.category for indicator in catalogue.listed(category="", kind=kind)} == set(
            catalogue.categories
        )


def test_every_directed_indicator_can_be_a_reason_without_a_new_text(judge: Judge) -> None:
    """Each line with a direction has words of its own, and they can be filled in for somebody."""
    texts = definition("reasons.en.yaml")["reasons"]
    lines = {line["name"]: line for line in definition("catalogue.yaml")["indicators"]}
    unnamed = {
        indicator.name
        for indicator in judge.catalogue.indicators
        if indicator.reason and indicator.name.rpartition("_")[0] not in texts
    }
    assert unnamed == set()
    known = {indicator.name.rpartition("_")[0] for indicator in judge.catalogue.indicators if indicator.reason}
    assert set(texts) - known == set(), "texts of nothing"
    assert all(line["says"] for line in lines.values())
    for indicator in judge.catalogue.indicators:
        if not indicator.reason:
            continue
        quotient = indicator.expression.denominator is not None
        characteristic = Characteristic(indicator, (1,), (0, 1), 0, 0)
        for value in (1, 2.5, None):
            sides = (3, 200) if quotient else (None, None)
            text = judge.texts.reason(Measured(characteristic, value, *sides, points=0), completed=1)
            assert text
            assert "{" not in text
            assert " no " not in f" {text} " or value is None or not quotient, text


def test_another_comment_or_order_of_lines_is_the_same_catalogue(catalogue: Catalogue) -> None:
    changed = definition("catalogue.yaml")
    changed["slots"].reverse()
    changed["indicators"].reverse()
    assert catalogue_from(changed).version == catalogue.version


def test_one_more_line_is_one_more_indicator_and_leaves_the_model_alone(catalogue: Catalogue) -> None:
    changed = definition("catalogue.yaml")
    line = "{name: delivered_orders, category: service, value: seller_orders_delivered, windows: [30d, 90d], "
    line += "for: merchant, better: none, unit: count, says: orders delivered}"
    changed["indicators"].append(yaml.safe_load(line))
    grown = catalogue_from(changed)
    assert grown.by_name["delivered_orders_90d"].description == "orders delivered in the last 90 days"
    assert set(grown.by_name) - set(catalogue.by_name) == {"delivered_orders_30d", "delivered_orders_90d"}
    assert grown.version != catalogue.version
    model_from(definition("model.yaml"), grown)


def test_a_model_is_refused_when_what_it_scores_has_changed() -> None:
    changed = definition("catalogue.yaml")
    line = next(line for line in changed["indicators"] if line["name"] == "late_shipment_rate")
    line["value"] = "seller_orders_late / seller_orders_paid"
    with pytest.raises(DefinitionInvalid, match="pins the catalogue"):
        model_from(definition("model.yaml"), catalogue_from(changed))
    changed = definition("catalogue.yaml")
    next(slot for slot in changed["slots"] if slot["name"] == "seller_orders_late")["feeds"].pop()
    with pytest.raises(DefinitionInvalid, match="pins the catalogue"):
        model_from(definition("model.yaml"), catalogue_from(changed))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["slots"].append({"id": 1, "name": "again", "feeds": []}), "taken"),
        (lambda d: d["slots"].append({"id": 0, "name": "zero", "feeds": []}), "taken or out of range"),
        (lambda d: d["slots"].append({"id": 999, "name": "buyers", "feeds": []}), "two slots"),
        (lambda d: d["slots"].append({"id": 2048, "name": "x", "keep": "peers", "feeds": []}), "out of range"),
        (lambda d: d["slots"].append({"id": 999, "name": "x", "sizes": ["huge"], "feeds": []}), "sizes are"),
        (lambda d: d["slots"].append({"id": 999, "name": "x", "feeds": ["a b c where d 1"]}), "event role"),
        (lambda d: d["slots"].append({"id": 999, "name": "x", "feeds": ["reports.gossip subject one"]}), "no report"),
        (lambda d: d["slots"].append({"id": 999, "name": "x", "feeds": ["reports.login subject luck"]}), "no report"),
        (lambda d: d["slots"].append({"id": 999, "name": "x", "feeds": ["reports.login friend one"]}), "no report"),
        (lambda d: d["reports"]["login"].update(peer="perhaps"), "peer is one of"),
        (lambda d: d["reports"]["login"].update(measures={"one": [0, 1]}), "is taken"),
        (lambda d: d["reports"]["login"]["measures"].update(failed=[1, 0]), "bounds"),
        (lambda d: d["sizes"].update(CNY=[5, 5, 9]), "three marks"),
        (lambda d: d["slots"].append({"id": 999, "name": "x", "feeds": ["escrow.trade_paid seller"]}), "event role"),
        (lambda d: d["slots"].append({"id": 999, "name": "x", "keep": "mean", "feeds": []}), "keep is one of"),
        (lambda d: d["slots"].append({"ids": {"CNY": 999}, "name": "x_{currency}", "feeds": []}), "an id for each"),
        (lambda d: d["indicators"].append(d["indicators"][0]), "two indicators"),
        (lambda d: d["indicators"][0].update(category="astrology"), "no category"),
        (lambda d: d["indicators"][0].update(better="up"), "better is one of"),
        (lambda d: d["indicators"][0].update({"for": "robots"}), "for is"),
        (lambda d: d["indicators"][0].update(windows=["2d"]), "no window"),
        (lambda d: d["indicators"][0].update(value="distinct(buyers)", windows=["7d"]), "kept by days"),
        (lambda d: d["indicators"][0].update(value="nothing_counted"), "no slot"),
        (lambda d: d["indicators"][0].pop("reason"), "a reason belongs"),
        (lambda d: d["categories"].append("empty"), "without an indicator"),
    ],
)
def test_a_catalogue_that_contradicts_itself_is_refused(change: Any, says: str) -> None:
    changed = definition("catalogue.yaml")
    change(changed)
    with pytest.raises(DefinitionInvalid, match=says):
        catalogue_from(changed)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(points=[-40, -24, -8, 6, 18]), "wrong way"),
        (lambda c: c.update(points=[18, 6]), "one bin more"),
        (lambda c: c.update(edges=[0.2, 0.1, 0.04, 0.01]), "edges must rise"),
        (lambda c: c.update(points=[18.5, 6, -8, -24, -40]), "whole numbers"),
        (lambda c: c.update(missing=19), "missing value"),
        (lambda c: c.update(indicator="luck_30d"), "no indicator luck_30d"),
        (lambda c: c.update(indicator="hours_to_confirm_90d"), "for a merchant"),
        (lambda c: c.update(indicator="sales_trend_90d"), "better none"),
        (lambda c: c.update(indicator="distinct_buyers_life", points=[0, 1, 2, 3, 4], floor=3), "only a quotient"),
    ],
)
def test_a_scorecard_with_a_wrong_sign_or_an_unknown_indicator_is_refused(
    catalogue: Catalogue, change: Any, says: str
) -> None:
    changed = definition("model.yaml")
    lines = changed["scorecards"]["merchant"]["characteristics"]
    line = lines[0]
    line.clear()
    line.update(indicator="late_shipment_rate_30d", edges=[0.01, 0.04, 0.1, 0.2], floor=20)
    line.update(points=[18, 6, -8, -24, -40])
    change(line)
    with pytest.raises(DefinitionInvalid, match=says):
        model_from(changed, catalogue)


def test_a_text_that_is_missing_or_asks_for_an_unknown_fact_is_refused(judge: Judge) -> None:
    for change in (
        lambda d: d["reasons"].pop("late_shipment_rate"),
        lambda d: d["adjustments"].pop("THIN_FILE"),
        lambda d: d["reasons"].update(late_shipment_rate="{secret} orders"),
        lambda d: d["reasons"].update(late_shipment_rate="{value:goose}"),
    ):
        changed = definition("reasons.en.yaml")
        change(changed)
        with pytest.raises(DefinitionInvalid):
            texts_from(changed, judge.catalogue, judge.model)


def test_terms_by_grade(table: TermsTable) -> None:
    rows = {grade: (t.auto_confirm_days, t.fee_percent, t.reserve_bps) for grade, t in table.grades.items()}
    assert rows == {
        Grade.AAA: (3, 80, 0),
        Grade.AA: (5, 90, 0),
        Grade.A: (7, 100, 0),
        Grade.B: (7, 100, 0),
        Grade.C: (10, 100, 500),
        Grade.D: (14, 120, 1000),
        Grade.E: (30, 150, 2000),
    }
    assert [g for g, t in table.grades.items() if t.auto_confirm_by_operator or t.payout_by_operator] == [Grade.E]
    assert table.limits_minor["CNY"] == {
        Grade.AAA: 50_000_000,
        Grade.AA: 20_000_000,
        Grade.A: 10_000_000,
        Grade.B: 5_000_000,
        Grade.C: 2_000_000,
        Grade.D: 500_000,
        Grade.E: 100_000,
    }
    for currency in ("CNY", "BRL", "USD", "EUR"):
        limits = [table.limits_minor[currency][grade] for grade in Grade]
        assert limits == sorted(limits, reverse=True)
        assert len(set(limits)) == 7


def test_up_to_what_the_buyers_of_a_member_are_compensated() -> None:
    table = terms_from(definition("terms.yaml"), ["CNY"], members=["subjects/known"])
    assert table.members == {"subjects/known"}
    assert table.compensation_limit_minor(Grade.A, "CNY") == 1_000_000
    assert table.compensation_limit_minor(Grade.C, "CNY") == 200_000
    assert table.compensation_limit_minor(Grade.D, "CNY") == 0
    assert table.compensation_limit_minor(Grade.A, "JPY") == 0, "no row"
    for currency in ("CNY", "BRL", "USD", "EUR"):
        limits = [table.compensation_limits_minor[currency][grade] for grade in Grade]
        assert limits == sorted(limits, reverse=True)


def test_a_currency_on_offer_without_a_row_is_refused_at_start(judge: Judge, tmp_path: Path) -> None:
    with pytest.raises(DefinitionInvalid, match="no row for JPY"):
        terms_from(definition("terms.yaml"), ["CNY", "JPY"])
    without_brl = definition("terms.yaml")
    del without_brl["per_trade_limits_minor"]["BRL"]
    file = tmp_path / "terms.yaml"
    file.write_text(yaml.safe_dump(without_brl))
    settings = CreditSettings(database_dsn="", payments_address="", escrow_address="", terms_file=file)
    with pytest.raises(DefinitionInvalid, match="no row for BRL"):
        load_terms(settings, load_judge(settings))
    settings = settings.model_copy(update={"currencies": "CNY,USD,EUR"})
    load_terms(settings, load_judge(settings))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["per_trade_limits_minor"]["CNY"].pop("E"),
        lambda d: d["per_trade_limits_minor"]["CNY"].update(E=0),
        lambda d: d["grades"].pop("B"),
        lambda d: d["grades"]["B"].update(reserve_bps=10_001),
        lambda d: d["grades"]["B"].update(auto_confirm_days=0),
        lambda d: d["compensation_limits_minor"]["CNY"].update(A=-1),
        lambda d: d["compensation_limits_minor"]["CNY"].update(A="1000"),
    ],
)
def test_terms_with_a_hole_are_refused(change: Any) -> None:
    changed = definition("terms.yaml")
    change(changed)
    with pytest.raises(DefinitionInvalid):
        terms_from(changed, ["CNY"])


def test_start_says_in_a_sentence_what_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["dance"]) == 2
    for name in ("DATABASE_DSN", "PAYMENTS_ADDRESS", "ESCROW_ADDRESS"):
        monkeypatch.delenv(f"DANBAO_{name}", raising=False)
    assert main(["serve"]) == 1
    said = capsys.readouterr().err
    assert "DANBAO_PAYMENTS_ADDRESS" in said
    assert "Traceback" not in said
    for name in ("DATABASE_DSN", "PAYMENTS_ADDRESS", "ESCROW_ADDRESS"):
        monkeypatch.setenv(f"DANBAO_{name}", "x")
    monkeypatch.setenv("DANBAO_TERMS_FILE", "/nowhere.yaml")
    assert main(["serve"]) == 1
    assert "/nowhere.yaml cannot be read" in capsys.readouterr().err

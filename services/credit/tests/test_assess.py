"""What an assessment says of grades and indicators: nothing of the future in a score, nothing said without proof."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from danbao_credit.__main__ import main
from danbao_credit.app import read_definition
from danbao_credit.clients.decoding import EscrowEvent
from danbao_credit.clients.recorded_reports import recorded_reports
from danbao_credit.clients.recorded_streams import file_of, keep
from danbao_credit.domain.catalogue import Catalogue, SubjectKind
from danbao_credit.domain.errors import EventMalformed, FieldInvalid
from danbao_credit.domain.events import Source
from danbao_credit.domain.grades import Grade
from danbao_credit.domain.training.assessment import Assessment, Counted, compared, wilson
from danbao_credit.domain.training.coverage import coverage_of
from danbao_credit.domain.training.histories import Histories
from danbao_credit.testing.stories import SELLER, START, TradeStory, good_trade, numbered

DAY = timedelta(days=1)


def market(days: int) -> list[TradeStory]:
    """Four sellers; the last one ships nothing of every second order."""
    stories = []
    for number in range(days * 2):
        seller, at = number % 4, START + number * DAY / 2
        parties = {"seller": f"subjects/s{seller}", "buyer": f"subjects/b{number % 25}"}
        if seller == 3 and number // 4 % 2 == 0:
            stories.append(TradeStory(str(number), at=at, **parties).paid(at).refunded(at + 2 * DAY, by=SELLER))
        else:
            stories.append(good_trade(str(number), at, **parties))
    return stories


def kept_market(folder: Path, days: int) -> Path:
    with file_of(folder, Source.ESCROW).open("wb") as file:
        for event in numbered(event for story in market(days) for event in story.events):
            keep(file, EscrowEvent(event))
    return folder


def report_line(event_id: str, **others: object) -> str:
    line = {
        "event_id": event_id,
        "kind": "tax_document_filed",
        "subject": "subjects/s1",
        "occur_us": 1_500_000_000_000_000,
    }
    return json.dumps(line | others)


def test_defects_are_counted_by_grade_out_of_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The seller who fails has the worst grade there is, and everything bad is its own."""
    folder, found = kept_market(tmp_path, 300), tmp_path / "found.json"
    assert main(["assess", "--events", str(folder), "--json", str(found)]) == 0
    merchants = json.loads(found.read_text())["grades"]["merchant"]
    by_grade = merchants["by_grade"]
    assert by_grade[0]["defects"] == 0 < by_grade[0]["outcomes"]
    # One order of eight fails, each of them lies behind two cuts but those at the ends.
    assert sum(entry["defects"] for entry in by_grade) / sum(entry["outcomes"] for entry in by_grade) == pytest.approx(
        1 / 8, abs=0.005
    )
    assert merchants["rows"] == 4 * merchants["cuts"]
    told = capsys.readouterr().out
    assert "merchants: defects out of time by grade" in told
    assert merchants["verdict"] in told


def test_what_happens_after_the_last_horizon_changes_no_score(tmp_path: Path) -> None:
    """Grades at cuts that both have are the same, whatever came later."""
    short, longer = tmp_path / "short", tmp_path / "longer"
    found = {}
    for folder, days in ((short, 120), (longer, 121)):
        folder.mkdir()
        main(["assess", "--events", str(kept_market(folder, days)), "--json", str(folder / "found.json")])
        found[folder] = json.loads((folder / "found.json").read_text())["grades"]["merchant"]
    assert found[short]["cuts"] == found[longer]["cuts"] > 0
    for entries in zip(found[short]["by_grade"], found[longer]["by_grade"], strict=True):
        assert entries[0]["grades"] == entries[1]["grades"]
        assert entries[0]["subjects"] == entries[1]["subjects"]


def test_too_little_time_is_said_and_not_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assess", "--events", str(kept_market(tmp_path, 20))]) == 0
    assert "cannot be shown: fewer than two grades have outcomes" in capsys.readouterr().out


def _counted(grade: Grade, bads: int, outcomes: int) -> Counted:
    return Counted((grade,), 3, outcomes, bads, looks=2.0)


@pytest.mark.parametrize(
    ("best", "worst", "begins", "ratio"),
    [
        ((10, 4000), (120, 1000), "shown", 48.0),
        ((1, 100), (4, 100), "cannot be shown: too few", 4.0),
        ((0, 4000), (120, 1000), "shown", None),
        ((120, 1000), (10, 4000), "contradicted", 0.0208),
        ((0, 0), (4, 100), "cannot be shown: too few", None),
    ],
)
def test_a_difference_is_claimed_only_where_the_intervals_are_apart(
    best: tuple[int, int], worst: tuple[int, int], begins: str, ratio: float | None
) -> None:
    made = Assessment(SubjectKind.MERCHANT, 3, 9, (), _counted(Grade.AAA, *best), _counted(Grade.E, *worst))
    assert made.verdict.startswith(begins)
    assert made.ratio == (None if ratio is None else pytest.approx(ratio, abs=1e-3))


AAA, AA, A, B, C, D = Grade.AAA, Grade.AA, Grade.A, Grade.B, Grade.C, Grade.D


@pytest.mark.parametrize(
    ("outcomes", "best", "worst", "aside"),
    [
        ({AAA: 25, AA: 13, A: 687, B: 1884, C: 8187, D: 573}, (A, B), (C, D), (AAA, AA)),
        ({A: 100, B: 100, C: 100}, (A, B), (C,), ()),
        ({A: 100, C: 99, D: 100}, (A,), (D,), (C,)),
        ({AAA: 3, C: 500}, (AAA,), (C,), ()),
        ({AAA: 3, A: 4, C: 5, D: 99}, (AAA, A), (C, D), ()),
        ({C: 500}, (), (), ()),
        ({}, (), (), ()),
    ],
)
def test_two_grades_of_either_end_are_compared_that_have_enough_outcomes(
    outcomes: dict[Grade, int], best: tuple[Grade, ...], worst: tuple[Grade, ...], aside: tuple[Grade, ...]
) -> None:
    assert compared([_counted(grade, 0, number) for grade, number in outcomes.items()]) == (best, worst, aside)


def test_an_order_behind_two_cuts_makes_no_interval_narrower() -> None:
    assert _counted(Grade.A, 20, 200).interval == wilson(10, 100)


def test_wilson_gives_the_published_intervals() -> None:
    """Newcombe (1998), table I, method 3."""
    for bads, outcomes, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert wilson(bads, outcomes) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert wilson(0, 0) == (0.0, 1.0)


def test_indicators_that_are_missing_constant_or_equal_for_everybody_are_told_apart(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    histories = Histories()
    assert coverage_of(histories, catalogue, step_days=30)[0][SubjectKind.MERCHANT].known == 0
    file = tmp_path / "reports.jsonl"
    lines = [report_line(f"t{n}", subject=f"subjects/s{n % 3}", occur_us=(1500 + 9 * n) * 10**12) for n in range(4)]
    file.write_text("\n".join(lines))
    from danbao_credit.domain.facts import facts_of

    for event in recorded_reports(file, catalogue.reports):
        facts = facts_of(event, Source.REPORTS, catalogue)
        histories.add(facts.at_us, facts.changes)
    histories.sort()
    merchants = coverage_of(histories, catalogue, step_days=30)[0][SubjectKind.MERCHANT]
    assert "identity_age_life" in merchants.missing
    assert "orders_paid_30d" in merchants.constant
    together = {name for group in merchants.equal for name in group}
    filed = [item.name for item in catalogue.indicators if item.name.startswith("tax_documents")]
    assert filed
    assert not set(filed) & {*merchants.missing, *merchants.constant}
    assert len(merchants.missing) + len(merchants.constant) + len(together) <= merchants.indicators


def test_a_report_counts_once_however_often_it_stands_in_the_file(catalogue: Catalogue, tmp_path: Path) -> None:
    file = tmp_path / "reports.jsonl"
    file.write_text("\n".join([report_line("a"), report_line("b"), report_line("a")]))
    assert [event.sequence for event in recorded_reports(file, catalogue.reports)] == [1, 2]


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ("{", EventMalformed, "line 2"),
        (json.dumps({"event_id": "x"}), EventMalformed, "line 2"),
        (report_line("x", kind="gossip"), FieldInvalid, "kind"),
        (report_line("x", measures={"rating": 3}), FieldInvalid, "measures"),
    ],
)
def test_a_report_that_is_not_what_its_kind_says_is_refused(
    catalogue: Catalogue, tmp_path: Path, line: str, error: type[Exception], words: str
) -> None:
    file = tmp_path / "reports.jsonl"
    file.write_text(report_line("a") + "\n" + line)
    with pytest.raises(error, match=words):
        list(recorded_reports(file, catalogue.reports))


def test_reports_that_cannot_be_read_end_the_command_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["assess", "--events", str(kept_market(tmp_path, 3)), "--reports", str(tmp_path / "none.jsonl")]
    assert main(words) == 1
    assert "the reports cannot be read" in capsys.readouterr().err


def test_the_model_that_ships_is_the_one_in_use(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    main(["assess", "--events", str(kept_market(tmp_path, 3)), "--json", str(found)])
    assert json.loads(found.read_text())["model"] == read_definition(None, "model.yaml")["version"]

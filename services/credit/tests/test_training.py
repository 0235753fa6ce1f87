"""From events to an artefact: no future in a row, nothing unfair in a scorecard, the same bytes every time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml

from danbao_credit.__main__ import main
from danbao_credit.app import read_definition
from danbao_credit.clients.decoding import EscrowEvent
from danbao_credit.clients.recorded_streams import file_of, keep, kept
from danbao_credit.domain.catalogue import Catalogue, SubjectKind
from danbao_credit.domain.errors import DefinitionInvalid, EventMalformed, TrainingImpossible
from danbao_credit.domain.events import Source
from danbao_credit.domain.facts import facts_of
from danbao_credit.domain.scorecard import model_from
from danbao_credit.domain.training.conduct import unfair
from danbao_credit.domain.training.histories import Histories
from danbao_credit.domain.training.pipeline import train_model
from danbao_credit.domain.training.plan import TrainingPlan, plan_from
from danbao_credit.domain.training.rows import Cuts, Outcome, cuts_between, rows_of
from danbao_credit.domain.windows import DAY_US
from danbao_credit.testing.stories import SELLER, START, TradeStory, good_trade, numbered
from danbao_credit.training_command import artefact_text

DAY = timedelta(days=1)


def microseconds(days: float) -> int:
    return int((START + days * DAY).timestamp()) * 1_000_000


def histories_of(catalogue: Catalogue, *stories: TradeStory) -> Histories:
    made = Histories()
    for event in numbered(event for story in stories for event in story.events):
        facts = facts_of(EscrowEvent(event).read(), Source.ESCROW, catalogue)
        made.add(facts.at_us, facts.changes)
    made.sort()
    return made


def market(days: int = 420) -> list[TradeStory]:
    """Six sellers, of whom the last two fail every third and every second order, and buyers of whom some never pay."""
    stories = []
    for number in range(days * 3):
        seller, at = number % 6, START + number * DAY / 3
        parties = {"seller": f"subjects/s{seller}", "buyer": f"subjects/b{number % 40}"}
        name = str(number)
        fails = seller >= 4 and number // 6 % (7 - seller) == 0
        if number % 40 < 4 and number % 3 == 0:
            stories.append(TradeStory(name, at=at, **parties).cancelled(at + DAY))
        elif fails:
            stories.append(TradeStory(name, at=at, **parties).paid(at).refunded(at + 2 * DAY, by=SELLER))
        else:
            stories.append(good_trade(name, at, **parties))
    return stories


@pytest.fixture(scope="module")
def plan(catalogue: Catalogue) -> TrainingPlan:
    return plan_from(read_definition(None, "training.yaml"), catalogue)


def test_a_row_knows_nothing_of_its_own_future(catalogue: Catalogue) -> None:
    """Whatever happens after a cut changes the row's outcome and none of its values."""
    past = [good_trade(str(n), START + n * DAY) for n in range(20)]
    after = START + 40 * DAY
    futures = {
        "good": good_trade("x", after),
        "bad": TradeStory("x", at=after).paid(after).refunded(after + DAY, by=SELLER),
    }
    by_name = {slot.name: slot.id for slot in catalogue.slots}
    outcome = Outcome(60, frozenset({by_name["defective_orders"]}), frozenset({by_name["seller_orders_paid"]}), 20)
    cut = microseconds(40) // DAY_US * DAY_US
    found = {}
    for name, story in futures.items():
        indicators = catalogue.listed(category="", kind=SubjectKind.MERCHANT)
        histories = histories_of(catalogue, *past, story)
        rows = rows_of(histories, catalogue, SubjectKind.MERCHANT, indicators, outcome, Cuts((cut,), ()))
        place = rows.subjects.index("subjects/seller")
        found[name] = rows, place
        assert rows.outcomes.bads[place] == (name == "bad")
        assert rows.outcomes.goods[place] == (name == "good")
    (good, here), (bad, there) = found["good"], found["bad"]
    for name, values in good.numerators.items():
        assert np.array_equal(values[here], bad.numerators[name][there], equal_nan=True), name


def test_no_outcome_of_a_training_row_reaches_into_the_time_of_a_test_row() -> None:
    cuts = cuts_between(
        microseconds(0), microseconds(400), horizon_days=60, step_days=30, warm_up_days=90, test_share=0.3
    )
    assert cuts.training_us
    assert cuts.test_us
    assert max(cuts.training_us) + 60 * DAY_US <= min(cuts.test_us)
    assert max(cuts.test_us) + 60 * DAY_US <= microseconds(400)
    assert min(cuts.training_us) >= microseconds(90)


def test_an_order_that_fails_twice_is_one_bad_outcome_and_a_large_seller_counts_bounded(catalogue: Catalogue) -> None:
    outcome = Outcome(60, frozenset(), frozenset(), 20)
    assert outcome.counted(3, 5) == (2, 3)
    assert outcome.counted(3, 0) == (0, 3), "begun before the cut"
    assert outcome.counted(40, 400) == (18, 2), "at most twenty outcomes a row"
    twice = TradeStory("x", amounts=(10, 20)).paid(START).refunded(START + DAY, "L1").refunded(START + 2 * DAY, "L2")
    history = histories_of(catalogue, twice).by_subject["subjects/seller"]
    slot = next(slot.id for slot in catalogue.slots if slot.name == "defective_orders")
    assert history.total({slot}, from_us=0, before_us=microseconds(9)) == 1


@pytest.mark.parametrize("kind", list(SubjectKind))
def test_what_a_good_trade_could_make_worse_is_not_scored(catalogue: Catalogue, kind: SubjectKind) -> None:
    found = unfair(catalogue, kind)
    expected = {
        SubjectKind.MERCHANT: {"hours_to_ship_90d", "top_buyer_share_life", "confirmation_rate_90d"},
        SubjectKind.INDIVIDUAL: {"minutes_to_pay_90d", "hours_to_confirm_90d", "top_seller_share_life"},
    }[kind]
    assert expected <= set(found), expected - set(found)
    fair = {
        SubjectKind.MERCHANT: {"late_shipment_rate_30d", "order_defect_rate_60d", "orders_completed_life"},
        SubjectKind.INDIVIDUAL: {"unpaid_trade_rate_365d", "purchase_age_life", "distinct_sellers_life"},
    }[kind]
    assert not fair & set(found)


def test_the_model_that_ships_scores_nothing_unfair(catalogue: Catalogue, plan: TrainingPlan) -> None:
    model = model_from(read_definition(None, "model.yaml"), catalogue)
    for kind, scorecard in model.scorecards.items():
        not_fair = unfair(catalogue, kind)
        names = [item.indicator.name for item in scorecard.characteristics if item.origin == "TRAINED"]
        assert not set(names) & set(not_fair)
        assert not {name.rpartition("_")[0] for name in names} & set(plan.never)
        assert scorecard.training is not None
        assert scorecard.training.out_of_time is not None


def test_the_same_events_give_the_same_bytes_and_a_model_that_may_score(
    catalogue: Catalogue, plan: TrainingPlan
) -> None:
    stories = market()
    texts = []
    for _ in range(2):
        trained = train_model(histories_of(catalogue, *stories), catalogue, plan, version="tried", source="a test")
        texts.append(artefact_text(trained.definition))
    assert texts[0] == texts[1]
    model = model_from(yaml.safe_load(texts[0]), catalogue)
    merchant = trained.kinds[SubjectKind.MERCHANT]
    scores = dict(zip(merchant.rows.subjects, merchant.scored.scores, strict=True))
    assert scores["subjects/s5"] < scores["subjects/s0"], "who fails scores less"
    assert model.scorecards[SubjectKind.MERCHANT].base == plan.newcomer_score


def test_without_bad_outcomes_there_is_nothing_to_learn(catalogue: Catalogue, plan: TrainingPlan) -> None:
    good = [good_trade(str(n), START + n * DAY) for n in range(400)]
    with pytest.raises(TrainingImpossible, match="nothing to tell apart"):
        train_model(histories_of(catalogue, *good), catalogue, plan, version="x", source="x")
    with pytest.raises(TrainingImpossible, match="ever happened"):
        train_model(Histories(), catalogue, plan, version="x", source="x")
    with pytest.raises(TrainingImpossible, match="too little time"):
        train_model(histories_of(catalogue, *good[:50]), catalogue, plan, version="x", source="x")


def test_a_plan_that_names_what_is_not_counted_is_refused(catalogue: Catalogue) -> None:
    changed = dict(read_definition(None, "training.yaml"))
    changed["kinds"] = {
        kind: {**part, "outcome": {**part["outcome"], "bad": ["luck"]}} for kind, part in changed["kinds"].items()
    }
    with pytest.raises(DefinitionInvalid, match="no slot luck"):
        plan_from(changed, catalogue)
    with pytest.raises(DefinitionInvalid, match="cannot be read"):
        plan_from({}, catalogue)


def test_events_that_were_kept_are_read_again_word_for_word(tmp_path: Path) -> None:
    events = [EscrowEvent(event) for event in numbered(good_trade("1").events)]
    with file_of(tmp_path, Source.ESCROW).open("wb") as file:
        for event in events:
            keep(file, event)
    assert [event.payload for event in kept(tmp_path, Source.ESCROW)] == [event.payload for event in events]
    whole = file_of(tmp_path, Source.ESCROW).read_bytes()
    file_of(tmp_path, Source.ESCROW).write_bytes(whole[:-1])
    with pytest.raises(EventMalformed, match="ends within an event"):
        list(kept(tmp_path, Source.ESCROW))


def test_the_command_trains_on_kept_events_and_draws_a_page(
    tmp_path: Path, catalogue: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    with file_of(tmp_path, Source.ESCROW).open("wb") as file:
        for event in numbered(event for story in market() for event in story.events):
            keep(file, EscrowEvent(event))
    out, report = tmp_path / "model.yaml", tmp_path / "report.html"
    assert main(["train", "--events", str(tmp_path), "--out", str(out), "--report", str(report)]) == 0
    assert "out of time" in capsys.readouterr().err
    model_from(yaml.safe_load(out.read_text()), catalogue)
    page = report.read_text()
    assert page.count("<h2>") == 2
    assert "://" not in page.replace("http://www.w3.org", ""), "it needs nothing else"


def test_the_command_says_in_a_sentence_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--events", str(tmp_path), "--out", str(tmp_path / "x")]) == 1
    assert "credit cannot train: there are no events" in capsys.readouterr().err
    assert main(["yardstick", "--data", str(tmp_path)]) == 1
    assert "has none of german_credit, heloc" in capsys.readouterr().err
    for words in (["train"], ["train", "--only-keep"], ["train", "--out", "x"]):
        with pytest.raises(SystemExit):
            main(words)

"""What the trainer may and may not do: ordered bins, signs that cannot flip, figures known by hand."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danbao_credit.domain.catalogue import SubjectKind
from danbao_credit.domain.errors import TrainingImpossible
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.model_check import random_profile
from danbao_credit.domain.scale import FACTOR, OFFSET, chance_bad_at, score_at
from danbao_credit.domain.training.bins import BinRules, bins_of
from danbao_credit.domain.training.columns import Column, Outcomes
from danbao_credit.domain.training.logistic import fit_not_negative
from danbao_credit.domain.training.metrics import calibration, psi, roc, strength, wilson
from danbao_credit.domain.training.trainer import TrainingRules, train

ROWS = 4000


def chance() -> np.random.Generator:
    return np.random.default_rng(3)


def outcomes(log_odds_bad: np.ndarray) -> Outcomes:
    return Outcomes.single(np.random.default_rng(5).random(len(log_odds_bad)) < 1 / (1 + np.exp(-log_odds_bad)))


def column(name: str, better: str, values: np.ndarray, floor: int = 0) -> Column:
    return Column(name, name, better, values, floor)


# --- the scale ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("bad", "score"), [(0.001, 829), (0.01, 695), (0.05, 600), (0.1, 557), (0.5, 430)])
def test_chances_stand_for_known_scores(bad: float, score: int) -> None:
    assert round(score_at(bad)) == score
    assert chance_bad_at(score_at(bad)) == pytest.approx(bad)


def test_600_is_19_to_1_and_40_points_double_the_odds() -> None:
    assert (round(FACTOR, 3), round(OFFSET, 3)) == (57.708, 430.083)
    odds = [(1 - chance_bad_at(score)) / chance_bad_at(score) for score in (600, 640)]
    assert odds == pytest.approx([19, 38])


# --- metrics ------------------------------------------------------------------------------------


def test_psi_is_what_it_is_by_hand() -> None:
    assert psi([0.2, 0.3, 0.5], [2, 3, 5]) == 0
    assert psi([0.5, 0.5], [0.4, 0.6]) == pytest.approx(0.040547, abs=1e-6)
    assert psi([0.25] * 4, [0.1, 0.2, 0.3, 0.4]) == pytest.approx(0.228217, abs=1e-6)
    assert psi([1, 0], [0, 1]) < math.inf, "an empty bin is no infinity"
    with pytest.raises(ValueError, match="2 bins cannot be compared with 3"):
        psi([1, 1], [1, 1, 1])
    with pytest.raises(ValueError, match="without anybody"):
        psi([0, 0], [1, 1])


def test_auc_ks_and_gini_are_what_they_are_by_hand() -> None:
    scores = np.array([1.0, 2.0, 3.0, 4.0])
    # The good ones score 2 and 4: of four pairs one is the wrong way round.
    found = strength(scores, Outcomes.single(np.array([True, False, True, False])))
    assert (found.auc, found.gini, found.ks) == (0.75, 0.5, 0.5)
    assert strength(-scores, Outcomes.single(np.array([True, False, True, False]))).auc == 0.25
    assert strength(np.ones(4), Outcomes.single(np.array([True, False, True, False]))).auc == 0.5, "ties count half"
    assert math.isnan(strength(scores, Outcomes.single(np.zeros(4, bool))).auc)


def test_a_row_of_many_outcomes_weighs_as_many_rows_of_one() -> None:
    counted = Outcomes(np.array([3.0, 1.0]), np.array([1.0, 2.0]))
    spread = Outcomes.single(np.array([False, False, False, True, False, True, True]))
    scores, spread_scores = np.array([700.0, 600.0]), np.array([700.0] * 4 + [600.0] * 3)
    assert strength(scores, counted) == strength(spread_scores, spread)


def test_a_roc_goes_from_nobody_to_everybody_and_encloses_the_auc() -> None:
    scores = chance().normal(size=500)
    flags = outcomes(-scores)
    goods, bads = roc(scores, flags)
    assert (goods[0], bads[0], goods[-1], bads[-1]) == (0, 0, 1, 1)
    area = float(((bads[1:] + bads[:-1]) / 2 * np.diff(goods)).sum())
    assert area == pytest.approx(strength(scores, flags).auc)


def test_a_rate_of_few_has_a_wide_interval_and_never_leaves_the_scale() -> None:
    assert wilson(0, 0) == (0, 1)
    low, high = wilson(0, 10)
    assert (low, round(high, 4)) == (0, 0.2775)
    assert [round(bound, 4) for bound in wilson(5, 100)] == [0.0215, 0.1118]


def test_expected_and_observed_agree_where_the_chances_are_true() -> None:
    chances = chance().uniform(0.01, 0.3, ROWS)
    table = calibration(chances, outcomes(np.log(chances / (1 - chances))))
    assert len(table) == 10
    assert sum(row.outcomes for row in table) == ROWS
    assert [row.expected for row in table] == sorted(row.expected for row in table)
    assert sum(row.low <= row.expected <= row.high for row in table) >= 8


# --- bins ---------------------------------------------------------------------------------------


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    better=st.sampled_from(["low", "high"]),
    missing=st.sampled_from([0.0, 0.3]),
    slope=st.floats(-2, 2),
)
def test_whatever_the_data_bins_follow_the_direction(seed: int, better: str, missing: float, slope: float) -> None:
    dice = np.random.default_rng(seed)
    values = np.round(dice.exponential(size=800), int(dice.integers(0, 4)))
    bad = dice.random(800) < 1 / (1 + np.exp(2 - slope * values))
    values[dice.random(800) < missing] = np.nan
    rules = BinRules()
    bins = bins_of(column("x", better, values), Outcomes.single(bad), rules)
    if bins is None:
        return
    assert list(bins.edges) == sorted(set(bins.edges))
    assert len(bins.woe) == len(bins.edges) + 1 <= rules.most_bins
    assert list(bins.woe) == sorted(bins.woe, reverse=better == "low")
    assert min(bins.woe) <= bins.missing_woe <= max(bins.woe), "hiding never pays"
    assert min(bins.bads) >= rules.least_bads
    assert sum(bins.goods) + bins.missing_goods == (~bad).sum()
    assert sum(bins.bads) + bins.missing_bads == bad.sum()


def test_a_column_that_goes_the_wrong_way_tells_nothing() -> None:
    values = chance().normal(size=ROWS)
    assert bins_of(column("x", "high", values), outcomes(2 * values - 2), BinRules()) is None
    assert bins_of(column("x", "low", values), outcomes(2 * values - 2), BinRules()) is not None
    assert bins_of(column("x", "low", np.full(ROWS, np.nan)), outcomes(values), BinRules()) is None
    assert bins_of(column("x", "low", np.zeros(ROWS)), outcomes(values), BinRules()) is None


def test_a_first_slip_is_never_worth_more_than_having_nothing_to_judge_by() -> None:
    """Those without a history are the worst here; still the first slip, 1 of 20, must not lift anybody."""
    dice = chance()
    values = np.maximum(dice.normal(0.0, 0.08, ROWS), 0)
    log_odds = 20 * values - 3
    values[:1000] = np.nan
    log_odds[:1000] = 1.0
    column_ = column("late", "low", values, floor=20)
    bins = bins_of(column_, outcomes(log_odds), BinRules())
    assert bins is not None
    slip = bins.woe[int(np.searchsorted(bins.edges, 1 / 20, side="left"))]
    assert slip <= bins.missing_woe <= max(bins.woe)


# --- coefficients and points --------------------------------------------------------------------


def test_a_coefficient_that_would_flip_is_zero_and_the_others_are_the_optimum() -> None:
    dice = chance()
    first, second = dice.normal(size=(2, ROWS))
    flags = outcomes(-(2 + 1.5 * first - 0.8 * second))
    fit = fit_not_negative(np.column_stack([first, second]), flags, l2=0.0)
    assert fit.coefficients[1] == 0
    alone = fit_not_negative(first[:, None], flags, l2=0.0)
    assert fit.coefficients[0] == pytest.approx(alone.coefficients[0], abs=1e-6)
    both = fit_not_negative(np.column_stack([first, -second]), flags, l2=0.0)
    assert both.intercept == pytest.approx(2, abs=0.25)
    assert both.coefficients == pytest.approx([1.5, 0.8], abs=0.15)


def population() -> tuple[list[Column], Outcomes]:
    """Two that tell something, one that says the same again, one of noise."""
    dice = chance()
    late, orders, noise = (
        dice.exponential(0.05, ROWS),
        dice.integers(0, 200, ROWS).astype(float),
        dice.normal(size=ROWS),
    )
    late[dice.random(ROWS) < 0.1] = np.nan
    flags = outcomes(-2.5 + 12 * np.nan_to_num(late, nan=0.1) - 0.01 * orders)
    return [
        column("late_30d", "low", late, floor=20),
        column("late_again_30d", "low", late * 1.01, floor=20),
        column("orders_30d", "high", orders),
        column("noise_30d", "high", noise),
    ], flags


def test_a_scorecard_has_no_twins_no_noise_and_stays_near_the_odds() -> None:
    columns, flags = population()
    fitted = train(columns, flags, TrainingRules(), reference={"orders_30d": 0.0})
    assert {item.column for item in fitted.characteristics} == {"late_again_30d", "orders_30d"} or {
        item.column for item in fitted.characteristics
    } == {"late_30d", "orders_30d"}
    assert any("says what" in why for why in fitted.left_out.values())
    assert "noise_30d" in fitted.left_out
    by_key = {column.key: column for column in columns}
    exact = OFFSET + FACTOR * fitted.log_odds(by_key)
    whole = fitted.scores(by_key)
    assert float(np.abs(whole - exact).max()) <= 0.5 + 1.0 * len(fitted.characteristics)
    assert float((whole - exact).mean()) == pytest.approx(fitted.base - fitted.exact_base, abs=0.05)
    for item in fitted.characteristics:
        points = list(item.points.points)
        assert points == sorted(points, reverse=item.better == "low")
        assert min(points) <= item.points.missing <= max(points)


def test_who_is_the_reference_has_the_base_alone() -> None:
    columns, flags = population()
    fitted = train(columns, flags, TrainingRules(), reference={"orders_30d": 0.0})
    newcomer = {
        column.key: Column(
            column.name,
            column.line,
            column.better,
            np.array([0.0 if column.name == "orders_30d" else np.nan]),
            column.floor,
        )
        for column in columns
    }
    assert fitted.scores(newcomer)[0] == fitted.base


def test_the_same_rows_give_the_same_scorecard_in_whatever_order_the_columns_come() -> None:
    columns, flags = population()
    first = train(columns, flags, TrainingRules(), reference={})
    random.Random(1).shuffle(columns)
    again = train(columns, flags, TrainingRules(), reference={})
    assert first.characteristics == again.characteristics
    assert first.exact_base == again.exact_base


def test_nothing_to_tell_apart_is_said() -> None:
    columns, _ = population()
    for flags in (np.zeros(ROWS, bool), np.ones(ROWS, bool)):
        with pytest.raises(TrainingImpossible, match="nothing to tell apart"):
            train(columns, Outcomes.single(flags), TrainingRules(), reference={})
    with pytest.raises(TrainingImpossible, match="no indicator"):
        train(columns[3:], population()[1], TrainingRules(), reference={})


def test_base_and_points_and_adjustments_are_the_score_of_10000_random_subjects(judge: Judge) -> None:
    """A thousand histories, each seen at five moments and as both kinds."""
    dice = random.Random(17)
    for number in range(1000):
        profile = random_profile(judge.catalogue, dice, as_of_s=1_800_000_000)
        for days in (0, 10, 40, 100, 200):
            for kind in SubjectKind:
                found = judge.evaluate(profile, kind=kind, as_of_s=1_800_000_000 + days * 86_400)
                parts = [points for _, points in found.sub_scores] + [item.points for item in found.adjustments]
                assert all(type(part) is int for part in parts)
                assert found.base_points + sum(parts) == found.score, number

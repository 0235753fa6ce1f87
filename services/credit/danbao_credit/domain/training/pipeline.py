"""From histories to an artefact: fair indicators, rows, a scorecard a kind, and how well each does out of time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from danbao_credit.domain.artefact import SHA, sha256_of
from danbao_credit.domain.catalogue import Catalogue, Indicator, SubjectFacts, SubjectKind
from danbao_credit.domain.errors import TrainingImpossible
from danbao_credit.domain.profile import Profile
from danbao_credit.domain.scale import ANCHOR_ODDS, ANCHOR_SCORE, POINTS_TO_DOUBLE_ODDS
from danbao_credit.domain.scorecard import Scorecard, fingerprint_of, scorecard_from
from danbao_credit.domain.training.columns import Floats
from danbao_credit.domain.training.conduct import unfair
from danbao_credit.domain.training.histories import Histories
from danbao_credit.domain.training.metrics import Strength, psi, strength
from danbao_credit.domain.training.plan import KindPlan, TrainingPlan
from danbao_credit.domain.training.rows import Rows, cuts_between, rows_of
from danbao_credit.domain.training.scoring import Scored, score_rows, shares_by_bin, shares_by_grade
from danbao_credit.domain.training.trainer import FittedCharacteristic, FittedScorecard, TrainingRules, train

Flags = npt.NDArray[np.bool_]
Told = Callable[[str], None]
_STRAGGLERS = 0.005


@dataclass(frozen=True, slots=True)
class TrainedKind:
    """A kind's scorecard with everything that a report tells of it."""

    kind: SubjectKind
    scorecard: Scorecard
    definition: Mapping[str, Any]
    fitted: FittedScorecard
    rows: Rows
    # Which rows were trained on, and which were kept for the test.
    in_time: Flags
    out_of_time: Flags
    scored: Scored
    # Points that were added to every score so that a newcomer has the plan's.
    shift: int


@dataclass(frozen=True, slots=True)
class Trained:
    """An artefact and how it came about."""

    definition: Mapping[str, Any]
    kinds: Mapping[SubjectKind, TrainedKind]


def train_model(
    histories: Histories,
    catalogue: Catalogue,
    plan: TrainingPlan,
    *,
    version: str,
    source: str,
    rules: TrainingRules | None = None,
    told: Told = lambda _line: None,
) -> Trained:
    """The same histories give the same artefact. Raises TrainingImpossible where nothing can be learnt."""
    kinds = {
        kind: _train_kind(histories, catalogue, kind, plan, source, rules or TrainingRules(), told)
        for kind in SubjectKind
    }
    definition: dict[str, Any] = {
        "version": version,
        "catalogue": fingerprint_of((trained.scorecard for trained in kinds.values()), catalogue),
        "confidence_half": plan.confidence_half,
        "scale": {"score": ANCHOR_SCORE, "odds": ANCHOR_ODDS, "points_to_double_odds": POINTS_TO_DOUBLE_ODDS},
        "scorecards": {kind.value: dict(trained.definition) for kind, trained in kinds.items()},
    }
    definition[SHA] = sha256_of(definition)
    return Trained(definition, kinds)


def _train_kind(
    histories: Histories,
    catalogue: Catalogue,
    kind: SubjectKind,
    plan: TrainingPlan,
    source: str,
    rules: TrainingRules,
    told: Told,
) -> TrainedKind:
    own = plan.kinds[kind]
    first_us, last_us = span_of_trade(histories, own)
    cuts = cuts_between(
        first_us,
        last_us,
        horizon_days=own.outcome.horizon_days,
        step_days=plan.step_days,
        warm_up_days=plan.warm_up_days,
        test_share=plan.test_share,
    )
    if not cuts.training_us:
        raise TrainingImpossible("the events span too little time for a cut with a past and an outcome")
    not_fair = unfair(catalogue, kind)
    directed = [item for item in catalogue.listed(category="", kind=kind) if item.better != "none"]
    candidates = [
        item
        for item in directed
        if item.name not in not_fair and _line_of(item) not in plan.never and not _of_a_currency(item, catalogue)
    ]
    told(f"{kind}: {len(candidates)} of {len(directed)} directed indicators may be scored")
    needed = [catalogue.by_name[name] for name in _named(own) if name in catalogue.by_name]
    indicators = list(dict.fromkeys([*candidates, *needed]))
    progress = _progress(told, kind)
    rows = rows_of(histories, catalogue, kind, indicators, own.outcome, cuts, told=progress)
    in_time = np.isin(rows.cut_us, cuts.training_us)
    out_of_time = np.isin(rows.cut_us, cuts.test_us)
    told(f"{kind}: {int(in_time.sum())} rows to train on, {int(out_of_time.sum())} later ones to test on")
    may = {item.name for item in candidates}
    columns = [column for column in rows.columns(in_time) if column.name in may]
    fitted = train(
        columns,
        rows.outcomes.of(in_time),
        rules,
        reference=_newcomer(candidates, catalogue),
        told=lambda line: told(f"{kind}: {line}"),
    )
    decided = {item.name: plan.never[_line_of(item)] for item in directed if _line_of(item) in plan.never}
    fitted = replace(fitted, left_out={**not_fair, **decided, **fitted.left_out})
    shift = plan.newcomer_score - fitted.base
    definition = _definition(own, fitted, catalogue, plan.newcomer_score)
    scorecard = scorecard_from(kind, definition, catalogue)
    scored = score_rows(scorecard, rows)
    definition = {
        **definition,
        "characteristics": [
            {**line, "baseline": shares_by_bin(item, rows, in_time)}
            for line, item in zip(definition["characteristics"], scorecard.characteristics, strict=True)
        ],
        "grades": shares_by_grade(scored.scores[in_time]),
        "training": {
            "source": source,
            "outcome": own.outcome_words,
            "anchor_shift": shift,
            "in_time": _measured(rows, in_time, scored.sums),
            "out_of_time": _measured(rows, out_of_time, scored.sums) if out_of_time.any() else None,
            "score_psi": _score_psi(scored.scores, in_time, out_of_time),
        },
    }
    return TrainedKind(
        kind, scorecard_from(kind, definition, catalogue), definition, fitted, rows, in_time, out_of_time, scored, shift
    )


def span_of_trade(histories: Histories, own: KindPlan) -> tuple[int, int]:
    """When trade began and ended, without stragglers: an outcome is only whole while everybody still trades."""
    times = sorted(
        at_us
        for history in histories.by_subject.values()
        for at_us, change in zip(history.times_us, history.changes, strict=True)
        if change.slot in own.outcome.among
    )
    if not times:
        raise TrainingImpossible("nothing of what the outcome counts among ever happened")
    return times[0], times[int(len(times) * (1 - _STRAGGLERS))]


def _definition(own: KindPlan, fitted: FittedScorecard, catalogue: Catalogue, base: int) -> dict[str, Any]:
    lines = {item.line for item in fitted.characteristics}
    expert = [
        {"origin": "EXPERT", "reason": catalogue.by_name[line["indicator"]].reason, **line}
        for line in own.expert
        if line["indicator"] in catalogue.by_name and line["indicator"].rpartition("_")[0] not in lines
    ]
    ordered = sorted(
        fitted.characteristics,
        key=lambda item: (catalogue.categories.index(catalogue.by_name[item.column].category), item.column),
    )
    return {
        "base": base,
        "completed": own.completed,
        "characteristics": [*(_line(item, catalogue) for item in ordered), *expert],
        "caps": [dict(line) for line in own.caps],
    }


def _line(item: FittedCharacteristic, catalogue: Catalogue) -> dict[str, Any]:
    points, edges = list(item.points.points), list(item.bins.edges)
    # Bins that rounding made equal are one bin.
    for place in range(len(edges) - 1, -1, -1):
        if points[place] == points[place + 1]:
            del points[place + 1], edges[place]
    return {
        "indicator": item.column,
        "origin": "TRAINED",
        "reason": catalogue.by_name[item.column].reason,
        "edges": [int(edge) if edge == int(edge) else edge for edge in edges],
        "points": points,
        "missing": item.points.missing,
        **({"floor": item.floor} if item.floor else {}),
    }


def _named(own: KindPlan) -> list[str]:
    """Indicators that the plan names."""
    names = [own.completed, *(line["indicator"] for line in own.expert)]
    for cap in own.caps:
        names += [cap[key] for key in ("indicator", "volume") if key in cap]
    return names


def _line_of(indicator: Indicator) -> str:
    return indicator.name.rpartition("_")[0]


def _of_a_currency(indicator: Indicator, catalogue: Catalogue) -> bool:
    return any(slot.currency for slot in catalogue.slots if slot.id in indicator.expression.slots)


def _newcomer(indicators: Sequence[Indicator], catalogue: Catalogue) -> dict[str, float | None]:
    facts = SubjectFacts(Profile.empty(), as_of_s=0, slots=catalogue.slot_ids)
    values = {indicator.name: indicator.value(facts) for indicator in indicators}
    return {name: None if value is None else float(value) for name, value in values.items()}


def _measured(rows: Rows, which: Flags, sums: Floats) -> dict[str, Any]:
    days = [datetime.fromtimestamp(int(us) // 1_000_000, UTC).date().isoformat() for us in rows.cut_us[which]]
    found: Strength = strength(sums[which], rows.outcomes.of(which))
    return {
        "rows": int(which.sum()),
        "outcomes": round(found.outcomes),
        "bads": round(found.bads),
        "since": min(days),
        "until": max(days),
        "auc": round(found.auc, 4),
        "ks": round(found.ks, 4),
        "gini": round(found.gini, 4),
    }


def _score_psi(scores: Floats, in_time: Flags, out_of_time: Flags) -> float:
    if not out_of_time.any():
        return 0.0
    before, after = (list(shares_by_grade(scores[which]).values()) for which in (in_time, out_of_time))
    return round(psi(before, after), 4)


def _progress(told: Told, kind: SubjectKind) -> Callable[[int, int], None]:
    """Says every tenth."""
    said = 0

    def hear(done: int, of: int) -> None:
        nonlocal said
        if done * 10 // of > said:
            said = done * 10 // of
            told(f"{kind}: {done} of {of} subjects played")

    return hear

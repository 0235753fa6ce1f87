"""What a scorecard gives to many rows at once: points, caps and bounds, as an evaluation gives them one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from danbao_credit.domain.grades import HIGHEST_SCORE, LOWEST_SCORE, Grade, grade_of
from danbao_credit.domain.scorecard import Cap, Characteristic, Scorecard
from danbao_credit.domain.training.columns import Column, Floats
from danbao_credit.domain.training.rows import Rows


@dataclass(frozen=True, slots=True)
class Scored:
    """By row: base + points, and the score after caps and bounds."""

    sums: Floats
    scores: Floats
    # By characteristic, points by row.
    points: tuple[npt.NDArray[np.int64], ...]


def score_rows(scorecard: Scorecard, rows: Rows) -> Scored:
    """The rows must hold every indicator of the scorecard."""
    points = tuple(np.array([*item.points, item.missing])[places_of(item, rows)] for item in scorecard.characteristics)
    sums = np.full(len(rows.subjects), float(scorecard.base))
    for given in points:
        sums += given
    scores = sums.copy()
    for cap in scorecard.caps:
        scores = np.where(_applies(cap, rows), np.minimum(scores, cap.at_most), scores)
    return Scored(sums, np.clip(scores, LOWEST_SCORE, HIGHEST_SCORE), points)


def places_of(item: Characteristic, rows: Rows) -> npt.NDArray[np.int64]:
    """The bin of every row; a missing value's is the last."""
    name = item.indicator.name
    values = rows.numerators[name]
    if name in rows.denominators:
        values = values / np.maximum(rows.denominators[name], item.floor)
    return Column(name, name, item.indicator.better, values, floor=item.floor).places(item.edges)


def shares_by_bin(item: Characteristic, rows: Rows, which: npt.NDArray[np.bool_]) -> list[float]:
    """Of these rows, the missing ones last."""
    counts = np.bincount(places_of(item, rows)[which], minlength=len(item.points) + 1)
    return _shares(counts)


def shares_by_grade(scores: Floats) -> dict[str, float]:
    """Best first."""
    grades = [grade_of(int(score)) for score in scores]
    return dict(zip([grade.value for grade in Grade], _shares([grades.count(grade) for grade in Grade]), strict=True))


def _shares(counts: npt.ArrayLike) -> list[float]:
    numbers = np.asarray(counts, float)
    return [round(float(share), 5) for share in numbers / numbers.sum()]


def _applies(cap: Cap, rows: Rows) -> npt.NDArray[np.bool_]:
    volume = np.nan_to_num(_values(cap.volume.name, rows))
    holds = volume >= cap.volume_from
    if cap.volume_below is not None:
        holds &= volume < cap.volume_below
    if cap.indicator is not None:
        holds &= np.nan_to_num(_values(cap.indicator.name, rows), nan=-np.inf) > cap.above
    return holds


def _values(name: str, rows: Rows) -> Floats:
    values = rows.numerators[name]
    return values / rows.denominators[name] if name in rows.denominators else values

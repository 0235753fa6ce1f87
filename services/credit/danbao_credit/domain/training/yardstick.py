"""How good the trainer is on public data sets that others have been measured on: cross-validated AUC.

The folder is the caller's; nothing of it is kept. Known: german_credit.csv (Hofmann, 1994), heloc.csv (FICO, 2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from danbao_credit.domain.training.bins import BinRules
from danbao_credit.domain.training.columns import Column, Floats, Outcomes
from danbao_credit.domain.training.metrics import Strength, strength
from danbao_credit.domain.training.trainer import TrainingRules, train

Flags = npt.NDArray[np.bool_]
FOLDS = 5


@dataclass(frozen=True, slots=True)
class PublicSet:
    """How a public file is read."""

    name: str
    outcome: str
    bad: str
    # Codes that are not values: by column, or for all under an empty name, what each stands for; None is missing.
    codes: Mapping[str, Mapping[float, float | None]]
    # Columns whose numbers are names.
    words: frozenset[str] = frozenset()


PUBLIC_SETS = (
    PublicSet("german_credit", "class", "2", {}),
    PublicSet(
        "heloc",
        "RiskPerformance",
        "Bad",
        {
            "": {-9.0: None, -8.0: None, -7.0: None},
            # "Condition not met": never delinquent is longer ago than any; an inquiry of seven days is the newest.
            "MSinceMostRecentDelq": {-9.0: None, -8.0: None, -7.0: 999.0},
            "MSinceMostRecentInqexcl7days": {-9.0: None, -8.0: 999.0, -7.0: 0.0},
        },
        frozenset({"MaxDelq2PublicRecLast12M", "MaxDelqEver"}),
    ),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """AUC of rows that a fold's scorecard has not seen."""

    name: str
    rows: int
    bads: int
    folds: tuple[Strength, ...]
    characteristics: tuple[int, ...]

    @property
    def auc(self) -> float:
        return float(np.mean([fold.auc for fold in self.folds]))


def measure(public: PublicSet, header: Sequence[str], rows: Sequence[Sequence[str]], *, seed: int = 7) -> Measured:
    """Five folds, each judged by a scorecard trained on the others."""
    place = header.index(public.outcome)
    is_bad = np.array([row[place] == public.bad for row in rows])
    raw = {name: [row[i] for row in rows] for i, name in enumerate(header) if name != public.outcome}
    order = np.random.default_rng(seed).permutation(len(rows))
    # The same share of bads in every fold.
    order = np.concatenate([order[is_bad[order]], order[~is_bad[order]]])
    rules = TrainingRules(
        bins=BinRules(least_share=0.05, least_bads=8, most_bins=7, smoothing_rows=10.0),
        least_information=0.01,
        most_correlation=0.9,
        l2=1.0,
    )
    folds, sizes = [], []
    for fold in range(FOLDS):
        held_out = np.zeros(len(rows), bool)
        held_out[order[fold::FOLDS]] = True
        columns = [_column(name, cells, public, is_bad, ~held_out) for name, cells in raw.items()]
        columns += [_codes(name, cells, public, is_bad, ~held_out) for name, cells in raw.items() if public.codes]
        seen = [_rows_of(column, ~held_out) for column in columns]
        fitted = train(seen, Outcomes.single(is_bad[~held_out]), rules, reference={})
        unseen = {column.key: _rows_of(column, held_out) for column in columns}
        folds.append(strength(fitted.log_odds(unseen), Outcomes.single(is_bad[held_out])))
        sizes.append(len(fitted.characteristics))
    return Measured(public.name, len(rows), int(is_bad.sum()), tuple(folds), tuple(sizes))


def _column(name: str, cells: Sequence[str], public: PublicSet, is_bad: Flags, seen: Flags) -> Column:
    """Numbers as they are; words ordered by their bad rate among the rows that may be seen."""
    if name in public.words:
        return Column(name, name, "low", _ordered(cells, is_bad, seen), guards_missing=False)
    try:
        values = np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        values = _ordered(cells, is_bad, seen)
    codes = public.codes.get(name, public.codes.get("", {}))
    for code, meaning in codes.items():
        values = np.where(values == code, np.nan if meaning is None else meaning, values)
    return Column(name, name, _direction(values, is_bad, seen), values, guards_missing=False)


def _codes(name: str, cells: Sequence[str], public: PublicSet, is_bad: Flags, seen: Flags) -> Column:
    """Which code stands instead of a value: "unusable" and "no record" are told apart."""
    codes = {f"{code:.0f}" for code in public.codes[""]}
    told = [cell if cell in codes else "" for cell in cells]
    return Column(f"{name} code", name, "low", _ordered(told, is_bad, seen), guards_missing=False)


def _ordered(cells: Sequence[str], is_bad: Flags, seen: Flags) -> Floats:
    words = np.array(cells)
    average = float(is_bad[seen].mean())
    rates = {}
    for word in np.unique(words):
        here = (words == word) & seen
        rates[str(word)] = (float(is_bad[here].sum()) + 5 * average) / (float(here.sum()) + 5)
    return np.array([rates[str(word)] for word in words])


def _direction(values: Floats, is_bad: Flags, seen: Flags) -> str:
    known = seen & ~np.isnan(values)
    return "low" if strength(values[known], Outcomes.single(is_bad[known])).auc < 0.5 else "high"


def _rows_of(column: Column, which: Flags) -> Column:
    return Column(column.name, column.line, column.better, column.values[which], guards_missing=False)

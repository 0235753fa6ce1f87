"""danbao-credit yardstick: how good the trainer is on public data sets in a folder that the caller has."""

from __future__ import annotations

import argparse
import csv
import gzip
from pathlib import Path

from danbao_credit.domain.errors import TrainingImpossible
from danbao_credit.domain.training.yardstick import FOLDS, PUBLIC_SETS, measure

_SEEDS = (7, 8, 9)


def yardstick_main(words: list[str]) -> None:
    """Prints a table. Raises TrainingImpossible if none of the known files is there."""
    parser = argparse.ArgumentParser(prog="danbao-credit yardstick", description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder with german_credit.csv(.gz) or heloc.csv(.gz)"
    )
    folder = parser.parse_args(words).data
    known = [(public, rows) for public in PUBLIC_SETS if (rows := _rows(folder, public.name))]
    if not known:
        raise TrainingImpossible(f"{folder} has none of {', '.join(public.name for public in PUBLIC_SETS)}")
    splits = f"{FOLDS} folds, mean of {len(_SEEDS)} splits"
    print(f"{'data set':<15}{'rows':>7}{'bad':>7}{'AUC':>8}{'KS':>7}{'Gini':>7}  {splits}")
    for public, rows in known:
        runs = [measure(public, rows[0], rows[1:], seed=seed) for seed in _SEEDS]
        folds = [fold for run in runs for fold in run.folds]
        auc, ks, gini = (sum(getattr(fold, name) for fold in folds) / len(folds) for name in ("auc", "ks", "gini"))
        spread = f"AUC by split {', '.join(f'{run.auc:.4f}' for run in runs)}"
        print(f"{public.name:<15}{runs[0].rows:>7}{runs[0].bads:>7}{auc:>8.4f}{ks:>7.3f}{gini:>7.3f}  {spread}")


def _rows(folder: Path, name: str) -> list[list[str]]:
    plain, packed = folder / f"{name}.csv", folder / f"{name}.csv.gz"
    if plain.is_file():
        text = plain.read_text()
    elif packed.is_file():
        text = gzip.decompress(packed.read_bytes()).decode()
    else:
        return []
    return [row for row in csv.reader(text.splitlines()) if row]

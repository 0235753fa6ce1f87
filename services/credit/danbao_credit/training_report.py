"""The page that people look at before a model scores anybody: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

import numpy as np

from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.drift import verdict_of
from danbao_credit.domain.grades import Grade, grade_of
from danbao_credit.domain.reasons import NO_HISTORY
from danbao_credit.domain.scale import FACTOR, OFFSET
from danbao_credit.domain.scorecard import Characteristic
from danbao_credit.domain.training.columns import Floats
from danbao_credit.domain.training.metrics import calibration, psi, strength, wilson
from danbao_credit.domain.training.pipeline import Trained, TrainedKind
from danbao_credit.domain.training.scoring import places_of, shares_by_bin, shares_by_grade
from danbao_credit.training_plots import calibration_plot, points_of_bins, roc_curves, score_distribution

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22282c; max-width: 1080px;
  margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; } h2 { margin-top: 3rem; border-bottom: 2px solid #33658a; }
h3 { margin: 2rem 0 .5rem; } .note { color: #5c666d; } .row { display: flex; flex-wrap: wrap; gap: 1.5rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem; } th { text-align: left; font-weight: 600; color: #5c666d; }
td, th { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #e6e9eb; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.card { width: 31.5rem; } .card b { display: block; } .card img { width: 100%; }
.hand { color: #a86a00; } .ACT { color: #c8553d; } .WATCH { color: #a86a00; } .STABLE { color: #2a7f62; }
details { margin: 1rem 0; } img { max-width: 100%; }
"""


def page(trained: Trained, catalogue: Catalogue) -> str:
    """The report of all kinds."""
    version = escape(str(trained.definition["version"]))
    parts = [_kind(item, catalogue) for item in trained.kinds.values()]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Model {version}</title><style>{_STYLE}</style>'
        f"<h1>Model {version}</h1>"
        f'<p class="note">Catalogue {escape(str(trained.definition["catalogue"]))}, sha256 '
        f"{escape(str(trained.definition['sha256']))}. 600 is 19 good outcomes to a bad one, 40 points double the odds."
        f"</p>"
        f"{''.join(parts)}</html>\n"
    )


def _kind(item: TrainedKind, catalogue: Catalogue) -> str:
    training = item.scorecard.training
    assert training is not None, "it was just trained"
    rows, sums = item.rows, item.scored.sums
    later = item.out_of_time if item.out_of_time.any() else item.in_time
    outcomes = rows.outcomes.of(later)
    chances = 1 / (1 + np.exp((sums[later] - item.shift - OFFSET) / FACTOR))
    curves = [
        (f"{words}, AUC {strength(sums[which], rows.outcomes.of(which)).auc:.3f}", sums[which], rows.outcomes.of(which))
        for words, which in (("in time", item.in_time), ("out of time", item.out_of_time))
        if which.any()
    ]
    cards = "".join(_card(line, catalogue) for line in item.scorecard.characteristics)
    left_out = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(why)}</td></tr>" for name, why in sorted(item.fitted.left_out.items())
    )
    return f"""
<h2>{item.kind.value.capitalize()}s</h2>
<p>Bad: {escape(training.outcome)}. Read from {escape(training.source)}. All scores were moved by
{training.anchor_shift:+d} points so that somebody nobody has seen has {item.scorecard.base}.</p>
{_strengths(item)}
<div class="row"><div>{_image(roc_curves(curves))}</div>
<div>{_image(calibration_plot(calibration(chances, outcomes)))}</div></div>
<p class="note">Right: what was expected against what came, out of time, before the move, by tenths of the outcomes with
95 % intervals.</p>
<h3>Scores out of time</h3>{_image(score_distribution(item.scored.scores[later], outcomes))}
{_grades(item, later)}
<h3>Points by bin</h3>
<p class="note">Beside each bin its share of the training rows. Set by hand, where the data shows nothing: in
<span class="hand">orange</span>.</p><div class="row">{cards}</div>
<h3>What moved from training to test</h3>{_moved(item)}
<h3>Reasons that would have been given out of time</h3>{_reasons(item, later)}
<details><summary>{len(item.fitted.left_out)} indicators that were left out, and why</summary>
<table>{left_out}</table></details>"""


def _strengths(item: TrainedKind) -> str:
    training = item.scorecard.training
    assert training is not None, "it was just trained"
    lines = []
    for words, found in (("in time", training.in_time), ("out of time", training.out_of_time)):
        if found is not None:
            share = 100 * found.bads / max(found.outcomes, 1)
            counts = (f"{found.rows:,}", f"{found.outcomes:,}", f"{found.bads:,}", f"{share:.2f} %")
            strengths = (f"{found.auc:.3f}", f"{found.ks:.3f}", f"{found.gini:.3f}")
            lines.append([words, f"{found.since} to {found.until}", *counts, *strengths])
    return _table(["", "cuts", "rows", "outcomes", "bad", "", "AUC", "KS", "Gini"], lines, numbers_from=2)


def _grades(item: TrainedKind, which: np.ndarray) -> str:
    grades = np.array([grade_of(int(score)).value for score in item.scored.scores[which]])
    subjects = np.array(item.rows.subjects)[which]
    outcomes = item.rows.outcomes.of(which)
    lines = []
    for grade in Grade:
        here = grades == grade.value
        count, bads = float(outcomes.all[here].sum()), float(outcomes.bads[here].sum())
        low, high = wilson(bads, count)
        rate = f"{100 * bads / count:.2f} %" if count else ""
        interval = f"{100 * low:.2f} to {100 * high:.2f} %" if count else ""
        lines.append([grade.value, f"{len(set(subjects[here])):,}", f"{count:,.0f}", f"{bads:,.0f}", rate, interval])
    head = ["grade", "subjects", "outcomes", "bad", "rate", "95 % interval"]
    return _table(head, lines, numbers_from=1)


def _card(line: Characteristic, catalogue: Catalogue) -> str:
    by_hand = ' <span class="hand">set by hand</span>' if line.origin == "EXPERT" else ""
    floor = f", of at least {line.floor}" if line.floor else ""
    shares = line.baseline or (0.0,) * (len(line.points) + 1)
    picture = points_of_bins([*_bins(line), "nothing known"], [*line.points, line.missing], shares)
    formula = escape(line.indicator.expression.text)
    return (
        f'<div class="card"><b>{escape(line.indicator.name)}{by_hand}</b>'
        f'<span class="note">{formula}{floor}; {escape(line.indicator.reason)}</span>{_image(picture)}</div>'
    )


def _bins(line: Characteristic) -> list[str]:
    """As people read them: up to an edge, or from an edge on."""
    edges = [f"{edge:g}" for edge in line.edges]
    if not edges:
        return ["any"]
    if line.indicator.better == "low":
        between = [f"above {a} to {b}" for a, b in pairwise(edges)]
        return [f"to {edges[0]}", *between, f"above {edges[-1]}"]
    between = [f"{a} to below {b}" for a, b in pairwise(edges)]
    return [f"below {edges[0]}", *between, f"{edges[-1]} or more"]


def _moved(item: TrainedKind) -> str:
    if not item.out_of_time.any():
        return "<p>There are no later rows.</p>"
    found = [("score", _psi_of_grades(item))]
    for line in item.scorecard.characteristics:
        before, after = (shares_by_bin(line, item.rows, which) for which in (item.in_time, item.out_of_time))
        found.append((line.indicator.name, psi(before, after)))
    lines = [
        [name, f"{index:.3f}", f'<span class="{verdict_of(index)}">{verdict_of(index).value.lower()}</span>']
        for name, index in sorted(found, key=lambda pair: -pair[1])
    ]
    return _table(["", "PSI", ""], lines, numbers_from=1, raw=True)


def _psi_of_grades(item: TrainedKind) -> float:
    scores: Floats = item.scored.scores
    before, after = (list(shares_by_grade(scores[which]).values()) for which in (item.in_time, item.out_of_time))
    return psi(before, after)


def _reasons(item: TrainedKind, which: np.ndarray) -> str:
    """Whose heaviest reason it is, and among whose four heaviest."""
    lost: dict[str, Floats] = {}
    for line, points in zip(item.scorecard.characteristics, item.scored.points, strict=True):
        missing = places_of(line, item.rows)[which] == len(line.points)
        away = np.maximum(line.best - points[which], 0).astype(float)
        for code, part in (
            (line.indicator.reason, np.where(missing, 0, away)),
            (NO_HISTORY, np.where(missing, away, 0)),
        ):
            lost[code] = lost.get(code, np.zeros(len(away))) + part
    codes = sorted(lost)
    table = np.column_stack([lost[code] for code in codes])
    order = np.argsort(-table, axis=1, kind="stable")
    said = np.take_along_axis(table, order, axis=1) > 0
    total = max(len(table), 1)
    lines = []
    for place, code in enumerate(codes):
        first = float(((order[:, 0] == place) & said[:, 0]).sum()) / total
        among = float(((order[:, :4] == place) & said[:, :4]).any(axis=1).sum()) / total
        if among:
            lines.append((among, [code, f"{100 * first:.1f} %", f"{100 * among:.1f} %"]))
    ranked = [line for _, line in sorted(lines, key=lambda pair: (-pair[0], pair[1][0]))]
    return _table(["reason", "heaviest", "among four"], ranked, numbers_from=1)


def _table(head: Sequence[str], lines: Iterable[Sequence[str]], *, numbers_from: int, raw: bool = False) -> str:
    def cells(tag: str, line: Sequence[str]) -> str:
        shown = [text if raw else escape(text) for text in line]
        return "".join(
            f"<{tag}{' class=n' if place >= numbers_from else ''}>{text}</{tag}>" for place, text in enumerate(shown)
        )

    body = "".join(f"<tr>{cells('td', line)}</tr>" for line in lines)
    return f"<table><tr>{cells('th', head)}</tr>{body}</table>"


def _image(svg: str) -> str:
    """As a picture of its own: several SVGs within one page would share their ids."""
    return f'<img alt="" src="data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}">'

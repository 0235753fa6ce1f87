"""The report's pictures, each a small SVG. The only module that needs a plotting library (danbao-credit[train])."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("svg")
from matplotlib import pyplot as plt

from danbao_credit.domain.grades import FLOORS
from danbao_credit.domain.training.columns import Floats, Outcomes
from danbao_credit.domain.training.metrics import CalibrationRow, roc

_GOOD, _BAD, _PLAIN, _GREY = "#2a7f62", "#c8553d", "#33658a", "#9aa5ad"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "danbao",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e9eb",
    "axes.axisbelow": True,
}


def roc_curves(curves: Sequence[tuple[str, Floats, Outcomes]]) -> str:
    """Share of bads found against share of goods refused, for scores of several sets of rows."""
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(4.4, 4.0))
        for (words, scores, outcomes), colour in zip(curves, (_GREY, _PLAIN), strict=False):
            goods, bads = roc(scores, outcomes)
            axes.plot(100 * goods, 100 * bads, color=colour, label=words)
        axes.plot([0, 100], [0, 100], color=_GREY, linewidth=0.8, linestyle=":")
        axes.set_xlabel("good outcomes below the score, %")
        axes.set_ylabel("bad outcomes below the score, %")
        axes.legend(loc="lower right", frameon=False)
        return _svg(figure)


def calibration_plot(rows: Sequence[CalibrationRow]) -> str:
    """Expected against observed shares, both on a log scale, with 95 % intervals."""
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(4.4, 4.0))
        expected = np.array([100 * row.expected for row in rows])
        rates = np.array([100 * row.rate for row in rows])
        low = np.array([100 * max(row.rate - row.low, 0) for row in rows])
        high = np.array([100 * max(row.high - row.rate, 0) for row in rows])
        shown = np.maximum(rates, 0.02)
        axes.errorbar(expected, shown, yerr=[np.minimum(low, shown * 0.999), high], fmt="o", color=_PLAIN, capsize=2)
        ends = [min(expected.min(), shown.min()) / 1.5, max(expected.max(), shown.max()) * 1.5]
        axes.plot(ends, ends, color=_GREY, linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("expected bad, %")
        axes.set_ylabel("bad, %")
        return _svg(figure)


def score_distribution(scores: Floats, outcomes: Outcomes) -> str:
    """Where good and bad outcomes lie on the scale, each as shares of its own."""
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(9.0, 2.8))
        edges = [float(edge) for edge in range(350, 960, 10)]
        for words, weights, colour in (("good", outcomes.goods, _GOOD), ("bad", outcomes.bads, _BAD)):
            axes.hist(scores, bins=edges, weights=100 * weights / weights.sum(), color=colour, alpha=0.55, label=words)
        for grade, floor in FLOORS:
            axes.axvline(floor, color=_GREY, linewidth=0.7)
            axes.text(floor + 2, axes.get_ylim()[1] * 0.97, grade, color="#5c666d", va="top", fontsize=8)
        axes.set_xlim(430, 920)
        axes.set_xlabel("score")
        axes.set_ylabel("share, %")
        axes.legend(frameon=False, loc="upper left")
        return _svg(figure)


def points_of_bins(labels: Sequence[str], points: Sequence[int], shares: Sequence[float]) -> str:
    """Points by bin as bars, and under each how many of the training rows it holds."""
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(4.4, 0.42 + 0.26 * len(labels)))
        places = np.arange(len(labels))[::-1]
        axes.barh(places, points, color=[_GOOD if value >= 0 else _BAD for value in points], height=0.62)
        axes.axvline(0, color="#5c666d", linewidth=0.8)
        widest = max(1, *(abs(value) for value in points))
        axes.set_xlim(-widest * 1.45, widest * 1.45)
        for place, value in zip(places, points, strict=True):
            offset = widest * 0.04 * (1 if value >= 0 else -1)
            axes.text(
                value + offset, place, f"{value:+d}", va="center", ha="left" if value >= 0 else "right", fontsize=8
            )
        names = [f"{label}   {100 * share:.0f} %" for label, share in zip(labels, shares, strict=True)]
        axes.set_yticks(places, names)
        axes.tick_params(axis="y", length=0)
        axes.set_xticks([])
        axes.grid(visible=False)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        return _svg(figure)


def _svg(figure: Any) -> str:
    """The figure as text; the same figure is the same text."""
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return out.getvalue()

"""The bookkeeping: one figure a measure, its rounds, whether it counts at all, and its ratios to its baselines."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from danbao_local.bench.orders import LoadReport


@dataclass(frozen=True, slots=True)
class Observation:
    """One round of one measure. `void`: why it does not count; empty when it does."""

    per_second: float
    seconds: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    remarks: Mapping[str, int] = field(default_factory=dict)
    void: str = ""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a measure is divided by; `note` says how to read the quotient."""

    key: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median of the rounds' own ratios: both sides were measured seconds apart."""

    to: str
    note: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Over the rounds."""
        return statistics.median(self.values)


@dataclass(slots=True)
class Figure:
    """A measure's rounds."""

    key: str
    title: str
    unit: str
    in_flight: int = 0
    baselines: Sequence[Baseline] = ()
    observations: list[Observation] = field(default_factory=list)

    @property
    def void(self) -> str:
        """Why the figure is void: one bad round voids it. Empty when it counts."""
        if not self.observations:
            return "not measured"
        return next((seen.void for seen in self.observations if seen.void), "")

    @property
    def values(self) -> list[float]:
        """By round."""
        return [seen.per_second for seen in self.observations]

    @property
    def median(self) -> float | None:
        """Over the rounds; None when void."""
        return None if self.void else statistics.median(self.values)

    def cores(self, process: str) -> float:
        """Cores that a process kept busy, median over the rounds."""
        shares = [seen.cpu_seconds.get(process, 0.0) / seen.seconds for seen in self.observations if seen.seconds]
        return statistics.median(shares) if shares else 0.0

    @property
    def remarks(self) -> dict[str, int]:
        """Over all rounds, warm-up and end counted too."""
        counts: dict[str, int] = {}
        for seen in self.observations:
            for what, times in seen.remarks.items():
                counts[what] = counts.get(what, 0) + times
        return counts

    @property
    def cpu_us(self) -> dict[str, float]:
        """Microseconds of CPU that each process spent on one item, over all rounds; the most first."""
        items = sum(seen.per_second * seen.seconds for seen in self.observations)
        seconds: dict[str, float] = {}
        for seen in self.observations:
            for name, used in seen.cpu_seconds.items():
                seconds[name] = seconds.get(name, 0.0) + used
        each = {name: used / items * 1e6 for name, used in seconds.items()} if items else {}
        return dict(sorted(each.items(), key=lambda item: -item[1]))

    def ratios(self, figures: Mapping[str, Figure]) -> list[Ratio]:
        """To each baseline that was measured and counts."""
        found = []
        for baseline in self.baselines:
            other = figures.get(baseline.key)
            if other is None or self.void or other.void or len(other.values) != len(self.values):
                continue
            values = tuple(mine / theirs for mine, theirs in zip(self.values, other.values, strict=True) if theirs)
            if values:
                found.append(Ratio(to=baseline.key, note=baseline.note, values=values))
        return found

    def to_json(self, figures: Mapping[str, Figure]) -> dict[str, Any]:
        """Everything there is to know of it."""
        baselines = {
            baseline.key: figures[baseline.key].median for baseline in self.baselines if baseline.key in figures
        }
        return {
            "key": self.key,
            "title": self.title,
            "unit": self.unit,
            "in_flight": self.in_flight,
            "void": self.void or None,
            "median": _rounded(self.median),
            "cpu_us": {name: round(used, 1) for name, used in self.cpu_us.items()},
            "repetitions": [
                {
                    "value": _rounded(seen.per_second),
                    "seconds": round(seen.seconds, 3),
                    "p50_ms": seen.p50_ms,
                    "p99_ms": seen.p99_ms,
                    "cpu_seconds": dict(seen.cpu_seconds),
                    "remarks": dict(seen.remarks),
                    "void": seen.void or None,
                }
                for seen in self.observations
            ],
            "ratios": [
                {
                    "to": ratio.to,
                    "note": ratio.note,
                    "baseline": _rounded(baselines[ratio.to]),
                    "ratio": round(ratio.median, 4),
                    "repetitions": [round(value, 4) for value in ratio.values],
                }
                for ratio in self.ratios(figures)
            ],
        }


def why_void(report: LoadReport, written: Mapping[str, int] | None) -> str:
    """Why a load's figure does not count; empty when it does. `written`: rows by method; None for what writes none."""
    if report.failures:
        what, times = max(report.failures.items(), key=lambda item: item[1])
        return f"{sum(report.failures.values())} answers were not OK, {times} of them: {what}"
    if report.replayed:
        return f"{report.replayed} answers were replayed"
    if not report.items:
        return "nothing was answered"
    if written is not None and dict(written) != dict(report.replies):
        return f"rows written {_listed(written)} differ from replies {_listed(report.replies)}"
    return ""


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)

"""How marks, scores and their changes look as rows, and back."""

from __future__ import annotations

import json
from typing import Any

from danbao_credit.domain.catalogue import SubjectKind
from danbao_credit.domain.grades import Grade
from danbao_credit.domain.marks import Mark, MarkKind, Turn
from danbao_credit.domain.scores import Score, ScoreChanged

# Columns with their types.
MARK_TYPES = {
    "subject": "text", "kind": "text", "reference": "text", "begins": "text", "ends": "text", "grade": "text",
}  # fmt: skip
MARK_COLUMNS = tuple(MARK_TYPES)
SCORE_COLUMNS = (
    "subject", "kind", "score", "grade", "blocked", "sub_scores", "reason_codes", "model_version", "as_of", "look_time",
    "profile_version",
)  # fmt: skip
CHANGE_COLUMNS = (
    "subject", "create_time", "kind", "score", "grade", "blocked", "previous_score", "previous_grade",
    "previously_blocked", "sub_scores", "reason_codes", "model_version", "as_of", "traceparent",
)  # fmt: skip


def mark_row(mark: Mark) -> tuple[Any, ...]:
    """In the order of MARK_COLUMNS."""
    return (
        mark.subject,
        mark.kind.value,
        mark.reference,
        _turns_text(mark.begins),
        _turns_text(mark.ends),
        None if mark.grade is None else mark.grade.value,
    )


def mark_of(row: Any) -> Mark:
    """The mark in a row."""
    begins, ends = _turns(row["begins"]), _turns(row["ends"])
    grade = None if row["grade"] is None else Grade(row["grade"])
    return Mark(row["subject"], MarkKind(row["kind"]), row["reference"], begins, ends, grade)


def score_row(score: Score) -> tuple[Any, ...]:
    """In the order of SCORE_COLUMNS."""
    return (
        score.subject,
        score.kind.value,
        score.score,
        score.grade.value,
        score.blocked,
        _points_text(score.sub_scores),
        " ".join(score.reason_codes),
        score.model_version,
        score.as_of,
        score.look_time,
        score.profile_version,
    )


def score_of_row(row: Any) -> Score:
    """The score in a row."""
    return Score(
        subject=row["subject"],
        kind=SubjectKind(row["kind"]),
        score=row["score"],
        grade=Grade(row["grade"]),
        blocked=row["blocked"],
        sub_scores=points_of(row["sub_scores"]),
        reason_codes=tuple(row["reason_codes"].split()),
        model_version=row["model_version"],
        as_of=row["as_of"],
        look_time=row["look_time"],
        profile_version=row["profile_version"],
    )


def change_row(change: ScoreChanged) -> tuple[Any, ...]:
    """In the order of CHANGE_COLUMNS."""
    score, previous = change.score, change.previous
    return (
        score.subject,
        change.create_time,
        score.kind.value,
        score.score,
        score.grade.value,
        score.blocked,
        None if previous is None else previous.score,
        None if previous is None else previous.grade.value,
        None if previous is None else previous.blocked,
        _points_text(score.sub_scores),
        " ".join(score.reason_codes),
        score.model_version,
        score.as_of,
        change.traceparent,
    )


def points_of(text: str) -> tuple[tuple[str, int], ...]:
    """Points by category, from `tenure 12 payment -3 …`."""
    words = text.split()
    return tuple(zip(words[::2], map(int, words[1::2]), strict=True))


def _points_text(points: tuple[tuple[str, int], ...]) -> str:
    return " ".join(f"{category} {amount}" for category, amount in points)


def _turns_text(turns: tuple[Turn, ...]) -> str:
    return json.dumps(
        [[turn.at_us, turn.by, turn.traceparent, turn.annuls, turn.teller, turn.number] for turn in turns]
    )


def _turns(text: str) -> tuple[Turn, ...]:
    return tuple(Turn(*fields) for fields in json.loads(text))

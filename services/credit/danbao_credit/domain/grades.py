"""Which grade a score is."""

from __future__ import annotations

from enum import StrEnum


class Grade(StrEnum):
    """Best first."""

    AAA = "AAA"
    AA = "AA"
    A = "A"
    B = "B"
    C = "C"
    D = "D"
    E = "E"


LOWEST_SCORE, HIGHEST_SCORE = 350, 950

# The lowest score of each grade. On this scale 600 means odds of 19 good to 1 bad, and 40 points double them.
FLOORS = ((Grade.AAA, 800), (Grade.AA, 750), (Grade.A, 700), (Grade.B, 650), (Grade.C, 600), (Grade.D, 550))


def grade_of(score: int) -> Grade:
    """The grade of a score from 350 to 950."""
    return next((grade for grade, floor in FLOORS if score >= floor), Grade.E)

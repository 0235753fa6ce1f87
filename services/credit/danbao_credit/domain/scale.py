"""How scores and chances of being bad translate: 600 at odds of 19 good to 1 bad, 40 points double the odds."""

from __future__ import annotations

import math

ANCHOR_SCORE, ANCHOR_ODDS, POINTS_TO_DOUBLE_ODDS = 600, 19, 40
# Score = OFFSET + FACTOR · ln(odds of good); Siddiqi, Credit Risk Scorecards, 2006, chapter 6.
FACTOR = POINTS_TO_DOUBLE_ODDS / math.log(2)
OFFSET = ANCHOR_SCORE - FACTOR * math.log(ANCHOR_ODDS)


def score_at(chance_bad: float) -> float:
    """The score, unrounded, of a chance of being bad between 0 and 1, both excluded."""
    return OFFSET + FACTOR * math.log((1 - chance_bad) / chance_bad)


def chance_bad_at(score: float) -> float:
    """The chance of being bad that a score stands for."""
    return 1 / (1 + math.exp((score - OFFSET) / FACTOR))

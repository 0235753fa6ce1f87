"""What a model's file is besides its points: an immutable artefact with a hash, baselines, and what it was trained on.

A baseline is how the training rows lay over the bins, or over the grades. Drift is measured against it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.grades import Grade
from danbao_credit.domain.scale import ANCHOR_ODDS, ANCHOR_SCORE, POINTS_TO_DOUBLE_ODDS

SHA = "sha256"


@dataclass(frozen=True, slots=True)
class Measured:
    """How well scores told good from bad. A row is a subject at a cut; its outcomes are what came of it afterwards.

    `since` and `until` are the days of the first and the last cut.
    """

    rows: int
    outcomes: int
    bads: int
    since: str
    until: str
    auc: float
    ks: float
    gini: float


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """What a scorecard was learnt from. `anchor_shift`: points by which all scores were moved to give a newcomer's.

    `score_psi`: how far the grades moved from the training rows to the later ones.
    """

    source: str
    outcome: str
    anchor_shift: int
    in_time: Measured
    out_of_time: Measured | None
    score_psi: float


def sha256_of(definition: Mapping[str, Any]) -> str:
    """The hash of an artefact's content: of everything in it but the hash, in one canonical form."""
    content = {key: value for key, value in definition.items() if key != SHA}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_sha256(definition: Mapping[str, Any]) -> None:
    """Raises DefinitionInvalid if the content is not what its hash was made of."""
    expected, found = definition.get(SHA), sha256_of(definition)
    if expected != found:
        raise DefinitionInvalid(
            f"model {definition.get('version')}: its {SHA} is {expected}, its content's is {found}: it was changed "
            "after it was made; an artefact is never edited, a new one gets a new version"
        )


def check_scale(definition: Mapping[str, Any]) -> None:
    """Raises DefinitionInvalid for another scale than this service's grades and terms stand on."""
    wanted = {"score": ANCHOR_SCORE, "odds": ANCHOR_ODDS, "points_to_double_odds": POINTS_TO_DOUBLE_ODDS}
    if definition.get("scale") != wanted:
        raise DefinitionInvalid(
            f"model {definition.get('version')}: its scale is {definition.get('scale')}, not {wanted}"
        )


def baseline_of(name: str, shares: Any, bins: int) -> tuple[float, ...]:
    """Shares of the training rows by bin, the missing ones last; none at all where there were no rows."""
    if shares is None:
        return ()
    if not isinstance(shares, list) or len(shares) != bins + 1:
        raise DefinitionInvalid(f"{name}: its baseline has a share for each of {bins} bins and one for missing values")
    return _checked_shares(name, shares)


def grade_baseline_of(kind: str, shares: Any) -> tuple[float, ...]:
    """Shares of the training rows by grade, best first; none at all where there were no rows."""
    if shares is None:
        return ()
    if not isinstance(shares, Mapping) or set(shares) != {grade.value for grade in Grade}:
        raise DefinitionInvalid(f"{kind}: its baseline has a share for every grade")
    return _checked_shares(kind, [shares[grade.value] for grade in Grade])


def training_of(kind: str, definition: Any) -> TrainingFacts | None:
    """None for a scorecard set by hand."""
    if definition is None:
        return None
    try:
        out_of_time = definition["out_of_time"]
        return TrainingFacts(
            source=str(definition["source"]),
            outcome=str(definition["outcome"]),
            anchor_shift=int(definition["anchor_shift"]),
            in_time=Measured(**definition["in_time"]),
            out_of_time=None if out_of_time is None else Measured(**out_of_time),
            score_psi=float(definition["score_psi"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DefinitionInvalid(f"{kind}: what it was trained on cannot be read: {error}") from error


def _checked_shares(name: str, shares: list[Any]) -> tuple[float, ...]:
    if any(type(share) not in (int, float) or not 0 <= share <= 1 for share in shares):
        raise DefinitionInvalid(f"{name}: a share of its baseline is not between 0 and 1")
    if abs(sum(shares) - 1) > 0.001:
        raise DefinitionInvalid(f"{name}: the shares of its baseline add up to {sum(shares):.4f}")
    return tuple(float(share) for share in shares)

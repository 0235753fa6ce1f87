"""What a recorded score is, and which change of it is one that people are told of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from danbao_credit.domain.catalogue import Catalogue, SubjectKind
from danbao_credit.domain.evaluation import Evaluation
from danbao_credit.domain.grades import Grade
from danbao_credit.domain.profile import Kind, Profile

# What somebody does who is looked at as an individual: slots that keep the first time of it.
_ACTS_AS_INDIVIDUAL = ("first_purchase", "first_funding")
_ACTS_AS_MERCHANT = ("first_sale",)
# By the catalogue's version: the ids of those slots.
_known_ids: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}


@dataclass(frozen=True, slots=True)
class ScoreKey:
    """Whose score, as what."""

    subject: str
    kind: SubjectKind


@dataclass(frozen=True, slots=True)
class Score:
    """A score as it was evaluated: from which version of the profile, at which moment, and when to look again.

    `look_time`: the first moment, in business time, at which it may be another without any event.
    """

    subject: str
    kind: SubjectKind
    score: int
    grade: Grade
    blocked: bool
    sub_scores: tuple[tuple[str, int], ...]
    reason_codes: tuple[str, ...]
    model_version: str
    as_of: datetime
    look_time: datetime
    profile_version: int

    @property
    def key(self) -> ScoreKey:
        return ScoreKey(self.subject, self.kind)

    def differs(self, other: Score) -> bool:
        """Whether it says something else than another: score, grade or block."""
        return (self.score, self.grade, self.blocked) != (other.score, other.grade, other.blocked)

    def is_newer(self, other: Score) -> bool:
        """Whether it was made from a newer version of the profile than another, or from the same one later."""
        return (self.profile_version, self.as_of) > (other.profile_version, other.as_of)


@dataclass(frozen=True, slots=True)
class ScoreChanged:
    """A score that was recorded as another, what it was before (None: it is the first), and the trace behind it."""

    score: Score
    previous: Score | None
    create_time: datetime
    traceparent: str


def score_of(
    subject: str,
    evaluation: Evaluation,
    *,
    model_version: str,
    as_of: datetime,
    look_time: datetime,
    profile_version: int,
) -> Score:
    """The score of an evaluation."""
    return Score(
        subject=subject,
        kind=evaluation.kind,
        score=evaluation.score,
        grade=evaluation.grade,
        blocked=evaluation.blocked,
        sub_scores=evaluation.sub_scores,
        reason_codes=tuple(reason.code for reason in evaluation.reasons),
        model_version=model_version,
        as_of=as_of,
        look_time=look_time,
        profile_version=profile_version,
    )


def kinds_of(profile: Profile, catalogue: Catalogue) -> tuple[SubjectKind, ...]:
    """As what a subject acts: merchant if it ever sold; individual if it ever bought or paid in, or did neither."""
    ids = _known_ids.get(catalogue.version)
    if ids is None:
        by_name = {slot.name: slot.id for slot in catalogue.slots}
        ids = _known_ids[catalogue.version] = (
            tuple(by_name[name] for name in _ACTS_AS_MERCHANT),
            tuple(by_name[name] for name in _ACTS_AS_INDIVIDUAL),
        )
    merchant, individual = (any(profile.mark(Kind.FIRST, slot) is not None for slot in of) for of in ids)
    if not merchant:
        return (SubjectKind.INDIVIDUAL,)
    return (SubjectKind.MERCHANT, SubjectKind.INDIVIDUAL) if individual else (SubjectKind.MERCHANT,)

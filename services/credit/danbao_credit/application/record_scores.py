"""How scores that were evaluated off the write path are recorded: only what is newer, only what has changed is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.catalogue import SubjectKind
from danbao_credit.domain.scores import Score, ScoreChanged, ScoreKey
from danbao_kit.decision import Moment


@dataclass(frozen=True, slots=True)
class Scored:
    """A score, and the trace of the request that moved it; empty: time did."""

    score: Score
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class RecordScores:
    """Scores that were evaluated a moment ago. Two replicas may bring the same: the newer one stays."""

    scores: tuple[Scored, ...]

    def subjects(self) -> set[str]:
        """Whose scores they are."""
        return {scored.score.subject for scored in self.scores}


def record_scores(command: RecordScores, working: CreditSet, moment: Moment) -> None:
    """Writes what is newer than what is known. What says something else besides goes into history and stream.

    A subject that is gone, because it was erased meanwhile, is left out.
    """
    for scored in command.scores:
        score = scored.score
        known = working.scores.get(score.key)
        # A version above the profile's own is that of a profile before its subject was erased.
        if score.profile_version > working.versions.get(score.subject, -1):
            continue
        if known is not None and not score.is_newer(known):
            continue
        working.scores.put(score.key, score)
        if known is None or score.differs(known):
            change = ScoreChanged(score, known, moment.now, scored.traceparent)
            working.score_changes.append(change)
            moment.emit(change)
    _put_off(command.scores, working)


def _put_off(scores: Iterable[Scored], working: CreditSet) -> None:
    """Whoever does not act as one kind any more keeps that score as it was. It is looked at with the others, or it
    would be due for ever, before everybody whose turn it really is."""
    brought = {scored.score.key for scored in scores}
    for scored in scores:
        for kind in SubjectKind:
            key = ScoreKey(scored.score.subject, kind)
            known = None if key in brought else working.scores.get(key)
            if known is not None and known.look_time < scored.score.look_time:
                working.scores.put(key, replace(known, look_time=scored.score.look_time))

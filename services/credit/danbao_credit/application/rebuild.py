"""How a profile is counted again from what is kept, and how old rows are folded into checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from danbao_credit.application.marking import touch
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.catalogue import Catalogue
from danbao_credit.domain.checkpoint import History, differing
from danbao_credit.domain.profile import Profile
from danbao_kit.decision import Moment
from danbao_kit.errors import DanbaoError


@dataclass(frozen=True, slots=True)
class RebuildProfile:
    """Counts one profile again. `validate_only`: compares, and its decision always raises, so that nothing is kept."""

    subject: str
    catalogue: Catalogue
    validate_only: bool = False

    not_fingerprinted: ClassVar[tuple[str, ...]] = ("catalogue", "validate_only")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What counting again gave. `entries_differing` is how many numbers were not as lived."""

    subject: str
    entries_differing: int
    entries: int
    replayed_events: int
    checkpoint_us: int | None
    catalogue_version: str

    @property
    def same(self) -> bool:
        return self.entries_differing == 0


class WouldBeRebuilt(DanbaoError):
    """What a rebuild would give; never leaves the service."""

    def __init__(self, rebuilt: Rebuilt) -> None:
        super().__init__("only compared")
        self.rebuilt = rebuilt


@dataclass(frozen=True, slots=True)
class FoldLog:
    """Folds rows of these subjects from before a moment into their checkpoints, of each at most `most`."""

    subjects: tuple[str, ...]
    before_us: int
    catalogue: Catalogue
    most: int


def rebuild_profile(command: RebuildProfile, working: CreditSet, moment: Moment) -> Rebuilt:
    """The profile of checkpoint and log, in place of the one that was lived. Raises WouldBeRebuilt to only compare."""
    subject = command.subject
    history = history_of(subject, working)
    profile = history.replay(command.catalogue)
    lived = working.subjects.get(subject)
    rebuilt = Rebuilt(
        subject=subject,
        entries_differing=differing(lived or Profile.empty(), profile),
        entries=len(profile.keys),
        replayed_events=len(history.rows),
        checkpoint_us=None if history.checkpoint is None else history.checkpoint.through_us,
        catalogue_version=command.catalogue.version,
    )
    if command.validate_only:
        raise WouldBeRebuilt(rebuilt)
    if not rebuilt.same:
        working.subjects.put(subject, profile)
        touch(working, subject, moment.traceparent)
    return rebuilt


def fold_log(command: FoldLog, working: CreditSet, moment: Moment) -> None:
    """Moves old rows into checkpoints. The profile of checkpoint and rows stays what it was."""
    for subject in command.subjects:
        known = (working.histories.get(subject) or History()).without(working.tombstones.get(subject))
        history, gone = known.folded(command.before_us, command.catalogue, most=command.most)
        if gone:
            working.histories.put(subject, history)
            for row in gone:
                working.folded.append(row)


def history_of(subject: str, working: CreditSet) -> History:
    """What is kept of a subject, with what this batch has added, and without what was erased."""
    history = working.histories.get(subject) or History()
    added = [row for row in working.log_rows.accepted if row.subject == subject]
    return history.plus(added).without(working.tombstones.get(subject))

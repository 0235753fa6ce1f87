"""The state table of appeals: who may take one back, who decides it, and what it may be filed against.

TABLE is the whole of it: what is not in it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

APPEALS = "appeals"
MOST_APPEALS = 2
"""Against one target, whatever became of them; the second only with evidence that the first did not have."""


class AppealState(StrEnum):
    """Where an appeal stands."""

    FILED = "FILED"
    UPHELD = "UPHELD"
    DISMISSED = "DISMISSED"
    WITHDRAWN = "WITHDRAWN"


class AppealCommand(StrEnum):
    """What is done to an appeal that was filed."""

    UPHOLD = "Uphold"
    DISMISS = "Dismiss"
    WITHDRAW = "Withdraw"


class AppealRole(StrEnum):
    """As whom somebody comes to an appeal."""

    SUBJECT = "SUBJECT"
    # A partner who filed it for the subject.
    FILER = "FILER"
    ARBITER = "ARBITER"
    OPERATOR = "OPERATOR"


TABLE: Mapping[tuple[AppealState, AppealCommand, AppealRole], AppealState] = MappingProxyType(
    {
        (AppealState.FILED, AppealCommand.UPHOLD, AppealRole.ARBITER): AppealState.UPHELD,
        (AppealState.FILED, AppealCommand.DISMISS, AppealRole.ARBITER): AppealState.DISMISSED,
        (AppealState.FILED, AppealCommand.WITHDRAW, AppealRole.SUBJECT): AppealState.WITHDRAWN,
        (AppealState.FILED, AppealCommand.WITHDRAW, AppealRole.FILER): AppealState.WITHDRAWN,
    }
)


def roles_for(command: AppealCommand) -> frozenset[AppealRole]:
    """Who may give a command, in some state."""
    return frozenset(role for _, name, role in TABLE if name is command)


def legal_commands(state: AppealState) -> tuple[str, ...]:
    """What somebody may do in a state, by name."""
    return tuple(sorted({command.value for known, command, _ in TABLE if known is state}))


class TargetKind(StrEnum):
    """What an appeal can be against."""

    MARK = "mark"
    REASON = "reason"
    EVENT = "event"


@dataclass(frozen=True, slots=True, order=True)
class EventKey:
    """An event in a subject's log: whose stream, and its number there."""

    source: str
    number: int

    def __str__(self) -> str:
        return f"{self.source}/{self.number}"


@dataclass(frozen=True, slots=True)
class Target:
    """Against what: a mark (`code` its kind, `reference` what it is about), a reason code, or an event."""

    kind: TargetKind
    code: str = ""
    reference: str = ""
    event: EventKey | None = None

    def __str__(self) -> str:
        if self.event is not None:
            return f"event {self.event}"
        return f"{self.kind} {self.code}{f' of {self.reference}' if self.reference else ''}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for an appeal, by reference: the thing itself is kept elsewhere, its hash here."""

    uri: str
    sha256: str
    size_bytes: int
    media_type: str
    note: str


@dataclass(frozen=True, slots=True)
class Appeal:
    """A subject's wish that something held against it be taken back. `decided_by` is the arbiter's token subject."""

    appeal_id: UUID
    subject: str
    state: AppealState
    target: Target
    statement: str
    evidence: tuple[Evidence, ...]
    filed_by: str
    create_time: datetime
    decided_by: str = ""
    decision: str = ""
    reversed_events: tuple[EventKey, ...] = ()
    end_time: datetime | None = None

    @property
    def name(self) -> str:
        return f"{APPEALS}/{self.appeal_id}"

    @property
    def is_open(self) -> bool:
        return self.state is AppealState.FILED


def brings_something_new(evidence: Iterable[Evidence], before: Iterable[Appeal]) -> bool:
    """Whether there is evidence, by its hash, that no earlier appeal had."""
    known = {item.sha256 for appeal in before for item in appeal.evidence}
    return any(item.sha256 not in known for item in evidence)

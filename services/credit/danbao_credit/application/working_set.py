"""Which rows credit's commands work on."""

from __future__ import annotations

from dataclasses import dataclass

from danbao_credit.application.ports import StreamProgress
from danbao_credit.domain.events import Source
from danbao_credit.domain.models import ModelChange, ModelVersion
from danbao_credit.domain.profile import Profile
from danbao_kit.working_set import Log, Rows, WorkingSet


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event that cannot be understood, set aside as it came, with the reason."""

    source: Source
    sequence: int
    reason: str
    payload: bytes


class CreditSet(WorkingSet):
    """The rows of one batch, a table each."""

    def __init__(self) -> None:
        super().__init__()
        self.progress: Rows[Source, StreamProgress] = self.rows()
        self.subjects: Rows[str, Profile] = self.rows()
        self.parked: Log[ParkedEvent] = self.log()
        self.models: Rows[str, ModelVersion] = self.rows()
        self.model_changes: Log[ModelChange] = self.log()

"""Which rows credit's commands work on."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from danbao_credit.application.ports import StreamProgress
from danbao_credit.domain.appeal import Appeal, EventKey
from danbao_credit.domain.checkpoint import History
from danbao_credit.domain.consent import Access, Consent
from danbao_credit.domain.erasure import OpenMatters, Removal
from danbao_credit.domain.events import Source
from danbao_credit.domain.log import LogRow
from danbao_credit.domain.marks import Mark, MarkKey
from danbao_credit.domain.membership_model import ClaimCount, Deposit, DepositStep, Membership, Movement
from danbao_credit.domain.models import ModelChange, ModelVersion
from danbao_credit.domain.profile import Profile
from danbao_credit.domain.report_record import ReportRecord
from danbao_credit.domain.scores import Score, ScoreChanged, ScoreKey
from danbao_credit.domain.tombstone import Tombstone
from danbao_kit.working_set import Log, Rows, WorkingSet


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event that cannot be understood, set aside as it came, with the reason."""

    source: Source
    sequence: int
    reason: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Touched:
    """That a subject's score may have moved, and by the request of which trace. Urgent: by a mark."""

    traceparent: str
    urgent: bool


class CreditSet(WorkingSet):
    """The rows of one batch, a table each."""

    def __init__(self) -> None:
        super().__init__()
        self.progress: Rows[Source, StreamProgress] = self.rows()
        self.subjects: Rows[str, Profile] = self.rows()
        self.parked: Log[ParkedEvent] = self.log()
        self.log_rows: Log[LogRow] = self.log()
        # Rows that are in a checkpoint from now on.
        self.folded: Log[LogRow] = self.log()
        # By subject, of those whom a command counts again or folds.
        self.histories: Rows[str, History] = self.rows()
        # By report_key.
        self.reports: Rows[bytes, ReportRecord] = self.rows()
        # By subject, of those whom a command tells of.
        self.tombstones: Rows[str, Tombstone] = self.rows()
        # Of members: keyed by membership, deposit account, (account, transaction), subject, (membership, number).
        self.memberships: Rows[UUID, Membership] = self.rows()
        self.deposits: Rows[UUID, Deposit] = self.rows()
        self.movements: Rows[tuple[UUID, UUID], Movement] = self.rows()
        self.claim_counts: Rows[str, ClaimCount] = self.rows()
        self.deposit_steps: Rows[tuple[UUID, int], DepositStep] = self.rows()
        # Steps that the process which commits this is to execute.
        self.taken: Log[DepositStep] = self.log()
        self.marks: Rows[MarkKey, Mark] = self.rows()
        # Which of them were looked for.
        self.marks_loaded: set[MarkKey] = set()
        self.scores: Rows[ScoreKey, Score] = self.rows()
        self.score_changes: Log[ScoreChanged] = self.log()
        # By subject: whose score may have moved by this batch. Of no table; for whoever scores.
        self.touched: Rows[str, Touched] = self.rows()
        # By subject: the version of its profile. Read only; missing: there is no such subject.
        self.versions: dict[str, int] = {}
        # Of rights. The sets say whose rows were looked up; a row that is missing then is not there.
        self.consents: Rows[UUID, Consent] = self.rows()
        self.consents_loaded: set[str] = set()
        self.accesses: Log[Access] = self.log()
        self.appeals: Rows[UUID, Appeal] = self.rows()
        self.appeals_loaded: set[str] = set()
        self.marks_of_loaded: set[str] = set()
        # Rows of the log by event, and by (subject, about, time) of what began a mark.
        self.events_looked_up: dict[tuple[str, EventKey], tuple[LogRow, ...]] = {}
        self.matters_looked_up: dict[tuple[str, str, int], tuple[LogRow, ...]] = {}
        # By the number of a report: its key in `reports`.
        self.report_keys: dict[int, bytes] = {}
        self.taken_back: Rows[tuple[str, EventKey], bool] = self.rows()
        self.subjects_looked_up: set[str] = set()
        self.open_matters: dict[str, OpenMatters] = {}
        self.removals: Log[Removal] = self.log()
        self.models: Rows[str, ModelVersion] = self.rows()
        self.model_changes: Log[ModelChange] = self.log()

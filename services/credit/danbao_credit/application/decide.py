"""Which function decides which command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from danbao_credit.application.appeals import (
    DecideAppeal,
    FileAppeal,
    WithdrawAppeal,
    decide_appeal,
    file_appeal,
    withdraw_appeal,
)
from danbao_credit.application.apply_events import ApplyEvents, apply_events
from danbao_credit.application.consents import (
    GrantConsent,
    ReadForPurpose,
    RevokeConsent,
    grant_consent,
    read_for_purpose,
    revoke_consent,
)
from danbao_credit.application.erasure import EraseSubject, SweepTraces, erase_subject, sweep_traces
from danbao_credit.application.record_scores import RecordScores, record_scores
from danbao_credit.application.working_set import CreditSet
from danbao_kit.decision import Moment

_BY_TYPE: Mapping[type, Callable[[Any, CreditSet, Moment], object]] = {
    ApplyEvents: apply_events,
    GrantConsent: grant_consent,
    RevokeConsent: revoke_consent,
    ReadForPurpose: read_for_purpose,
    FileAppeal: file_appeal,
    WithdrawAppeal: withdraw_appeal,
    DecideAppeal: decide_appeal,
    EraseSubject: erase_subject,
    SweepTraces: sweep_traces,
    RecordScores: record_scores,
}


def decide(command: object, working: CreditSet, moment: Moment) -> object:
    """What the write path runs."""
    return _BY_TYPE[type(command)](command, working, moment)

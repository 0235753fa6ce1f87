"""Which function decides which command about the rights of subjects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from danbao_credit.application.appeals import (
    DecideAppeal,
    FileAppeal,
    WithdrawAppeal,
    decide_appeal,
    file_appeal,
    withdraw_appeal,
)
from danbao_credit.application.consents import (
    GrantConsent,
    OfficialRead,
    ReadForPurpose,
    RevokeConsent,
    grant_consent,
    official_read,
    read_for_purpose,
    revoke_consent,
)
from danbao_credit.application.erasure import EraseSubject, SweepTraces, erase_subject, sweep_traces
from danbao_credit.application.working_set import CreditSet
from danbao_kit.decision import Moment

RIGHTS: Mapping[type, Callable[[Any, CreditSet, Moment], object]] = MappingProxyType(
    {
        GrantConsent: grant_consent,
        RevokeConsent: revoke_consent,
        ReadForPurpose: read_for_purpose,
        OfficialRead: official_read,
        FileAppeal: file_appeal,
        WithdrawAppeal: withdraw_appeal,
        DecideAppeal: decide_appeal,
        EraseSubject: erase_subject,
        SweepTraces: sweep_traces,
    }
)

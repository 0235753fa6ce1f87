"""The state table of claims: who may decide, and what becomes of the claim.

TABLE is the whole of it: what is not in it is refused. Row 14 of the design's table.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from danbao_escrow.domain.case_commands import CaseCommandName as C
from danbao_escrow.domain.case_model import Claim, Finding
from danbao_escrow.domain.case_model import ClaimState as S
from danbao_escrow.domain.machine import Machine, Way
from danbao_escrow.domain.model import Role
from danbao_escrow.domain.model import Role as R
from danbao_escrow.domain.step_model import StepKind

CLAIM_WINDOW = timedelta(days=15)
"""From the trade's end."""


def awards(claim: Claim, now: datetime) -> bool:
    """The claim is looked at as the arbiter would have it."""
    return claim.compensated_minor > 0


def awards_nothing(claim: Claim, now: datetime) -> bool:
    return claim.compensated_minor == 0


def counts_as(finding: Finding, compensation_minor: int) -> Finding:
    """The finding of a decision: an award without one is of fraud, which is what a claim is made of."""
    return Finding.FRAUD if compensation_minor and finding is Finding.UNSPECIFIED else finding


_W = Way[S, Claim]

TABLE: Machine[S, Claim] = Machine(
    {
        (S.OPEN, C.DECIDE_CLAIM, R.ARBITER): (
            _W(S.COMPENSATED, awards, StepKind.COMPENSATE),
            _W(S.REJECTED, awards_nothing),
        ),
    },
    ends=frozenset({S.COMPENSATED, S.REJECTED}),
)

OPEN_ROLES = frozenset({Role.BUYER})
"""Who may open a claim."""

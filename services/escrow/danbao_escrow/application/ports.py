"""What escrow needs from outside, as escrow sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from danbao_escrow.domain.commands import StepDone, StepRefused
from danbao_escrow.domain.model import Step
from danbao_escrow.domain.terms import GradeTerms


@dataclass(frozen=True, slots=True)
class TermsQuestion:
    """Which terms does this seller give in this currency, and may the two trade."""

    seller: str
    currency: str
    buyer: str


class Credit(Protocol):
    """Who knows how sellers are treated."""

    async def terms(self, questions: Sequence[TermsQuestion]) -> list[GradeTerms]:
        """One answer a question, in order; the default grade's, marked so, where none came in time. Never fails."""
        ...


@dataclass(frozen=True, slots=True)
class StepUnknown:
    """Nobody can say yet whether the step was executed: the same id has to be sent again."""

    reason: str


StepResult = StepDone | StepRefused | StepUnknown


class Payments(Protocol):
    """Who moves money."""

    async def execute(self, steps: Sequence[Step]) -> list[StepResult]:
        """One result a step, in order. The same version of a step moves money at most once, however often sent."""
        ...

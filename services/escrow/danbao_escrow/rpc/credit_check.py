"""What credit says about the parties of trades that are about to be made or paid; asked before the commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from danbao_escrow.application.ports import Credit, Reads, TermsQuestion
from danbao_escrow.domain.commands import CreateTrade, PayTrade
from danbao_escrow.domain.terms import GradeTerms, frozen_terms


class CreditCheck:
    """Puts credit's answers into commands."""

    def __init__(self, credit: Credit, reads: Reads) -> None:
        self._credit = credit
        self._reads = reads

    async def completed(self, commands: Sequence[Any]) -> list[Any]:
        """The commands, in order; those that need credit's word have it. All are asked for at once."""
        questions = await self._questions(commands)
        if not questions:
            return list(commands)
        answers = dict(zip(questions, await self._credit.terms(list(questions.values())), strict=True))
        return [
            _with_answer(command, questions[index], answers[index]) if index in questions else command
            for index, command in enumerate(commands)
        ]

    async def _questions(self, commands: Sequence[Any]) -> dict[int, TermsQuestion]:
        paid = [command.name for command in commands if isinstance(command, PayTrade)]
        parties = await self._reads.parties(paid) if paid else {}
        questions = {}
        for index, command in enumerate(commands):
            if isinstance(command, CreateTrade):
                questions[index] = TermsQuestion(command.seller, command.total.currency, command.buyer)
            elif isinstance(command, PayTrade) and command.name in parties:
                of = parties[command.name]
                questions[index] = TermsQuestion(of.seller, of.currency, of.buyer)
        return questions


def _with_answer(command: Any, question: TermsQuestion, answer: GradeTerms) -> Any:
    blocked = question.seller if answer.seller_blocked else question.buyer if answer.buyer_blocked else ""
    if isinstance(command, CreateTrade):
        return replace(command, terms=frozen_terms(answer, command.fees), blocked=blocked)
    return replace(command, blocked=blocked)

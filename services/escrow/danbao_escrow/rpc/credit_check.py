"""What credit says about the parties of trades that are about to be made or paid; asked before the commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from danbao_escrow.application.ports import Credit, Reads, TermsQuestion
from danbao_escrow.domain.commands import CreateTrade, PayCheckout, PayTrade
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
        answers = iter(await self._credit.terms([question for _, question in questions]))
        completed = list(commands)
        for index, question in questions:
            completed[index] = _with_answer(completed[index], question, next(answers))
        return completed

    async def _questions(self, commands: Sequence[Any]) -> list[tuple[int, TermsQuestion]]:
        """Each with the position of its command; a checkout's trades have one each."""
        paid = {index: await self._paid(command) for index, command in enumerate(commands)}
        trade_ids = [trade_id for found in paid.values() for trade_id in found]
        parties = await self._reads.parties(trade_ids) if trade_ids else {}
        questions = []
        for index, command in enumerate(commands):
            if isinstance(command, CreateTrade):
                questions.append((index, TermsQuestion(command.seller, command.total.currency, command.buyer)))
            for trade_id in paid[index]:
                if trade_id in parties:
                    of = parties[trade_id]
                    questions.append((index, TermsQuestion(of.seller, of.currency, of.buyer)))
        return questions

    async def _paid(self, command: Any) -> tuple[UUID, ...]:
        """The trades that the command pays."""
        if isinstance(command, PayTrade):
            return (command.name,)
        if isinstance(command, PayCheckout):
            checkout = await self._reads.checkout(command.checkout)
            return () if checkout is None else checkout.trade_ids
        return ()


def _with_answer(command: Any, question: TermsQuestion, answer: GradeTerms) -> Any:
    blocked = question.seller if answer.seller_blocked else question.buyer if answer.buyer_blocked else ""
    if isinstance(command, CreateTrade):
        return replace(command, terms=frozen_terms(answer, command.fees), blocked=blocked)
    return replace(command, blocked=command.blocked or blocked)

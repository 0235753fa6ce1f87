"""Credit: the terms of sellers, within a time that a buyer does not notice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc

from danbao.credit.v1 import credit_pb2, credit_pb2_grpc
from danbao_escrow.application.ports import TermsQuestion
from danbao_escrow.domain.terms import GradeTerms, default_grade_terms, without_terms
from danbao_kit.call import current_call
from danbao_kit.log import log
from danbao_kit.rpc_client import RemoteError, invoke

CAP_S = 1.0
"""Beyond it, a trade on the default grade's terms is better than a buyer who waits."""
_MOST_AT_ONCE = 1000


class CreditClient:
    """Asks credit; answers with the default grade's terms where it does not."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = credit_pb2_grpc.CreditServiceStub(channel)

    async def terms(self, questions: Sequence[TermsQuestion]) -> list[GradeTerms]:
        """One answer a question. A currency at a time, for one without terms must not spoil the others."""
        currencies = list(dict.fromkeys(question.currency for question in questions))
        groups = [[question for question in questions if question.currency == currency] for currency in currencies]
        answers = await asyncio.gather(*[self._of_currency(group) for group in groups])
        by_currency = {currency: iter(answer) for currency, answer in zip(currencies, answers, strict=True)}
        return [next(by_currency[question.currency]) for question in questions]

    async def _of_currency(self, questions: list[TermsQuestion]) -> list[GradeTerms]:
        # Buyers and sellers often meet more than once in a batch.
        distinct = list(dict.fromkeys(questions))
        currency = questions[0].currency
        try:
            found = await self._ask(distinct)
        except RemoteError as error:
            if error.reason == "CURRENCY_WITHOUT_TERMS":
                return [without_terms(currency)] * len(questions)
            log.warning("default_terms_used", trades=len(questions), code=error.code, reason=error.reason)
            return [default_grade_terms(currency)] * len(questions)
        answers = dict(zip(distinct, found, strict=True))
        return [answers[question] for question in questions]

    async def _ask(self, questions: list[TermsQuestion]) -> list[GradeTerms]:
        requests = [
            credit_pb2.GetTermsRequest(subject=item.seller, currency=item.currency, counterparty=item.buyer)
            for item in questions
        ]
        if len(requests) == 1:
            one = await invoke(
                self._stub.GetTerms, requests[0], name="credit.GetTerms", cap_s=CAP_S, call=current_call()
            )
            return [_terms(one)]
        batch = credit_pb2.BatchGetTermsRequest(requests=requests[:_MOST_AT_ONCE])
        reply = await invoke(
            self._stub.BatchGetTerms, batch, name="credit.BatchGetTerms", cap_s=CAP_S, call=current_call()
        )
        if len(reply.terms) != len(requests):
            raise RemoteError("INTERNAL", "", "credit answered another number of terms", {})
        return [_terms(terms) for terms in reply.terms]


def _terms(message: credit_pb2.TradeTerms) -> GradeTerms:
    return GradeTerms(
        grade=message.grade,
        score=message.score,
        seller_blocked=message.blocked,
        buyer_blocked=message.counterparty_blocked,
        fee_percent=message.fee_percent,
        auto_confirm_days=message.auto_confirm_days,
        auto_confirm_by_operator=message.auto_confirm_by_operator,
        per_trade_limit_minor=message.per_trade_limit_minor,
        payout_delay_hours=message.payout_delay_hours,
        payout_by_operator=message.payout_by_operator,
        reserve_bps=message.reserve_bps,
        model_version=message.model_version,
        terms_version=message.terms_version,
        member=message.member,
        compensation_limit_minor=message.compensation_limit_minor,
    )

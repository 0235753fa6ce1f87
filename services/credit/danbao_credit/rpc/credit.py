"""CreditService: reads only; what moves credit are the streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import grpc

from danbao.credit.v1 import credit_pb2, credit_pb2_grpc
from danbao_credit.application.evaluate import evaluate, list_indicator_values, list_indicators
from danbao_credit.application.get_terms import TermsWanted, get_terms
from danbao_credit.application.ports import CreditReader, StreamProgress
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.events import Source
from danbao_credit.domain.terms import TermsTable
from danbao_credit.rpc.mapping import evaluation_message, indicator_message, kind_of, stream_message, terms_message
from danbao_kit.clock import Clock


class Connection(Protocol):
    """Whether a stream is open right now."""

    @property
    def connected(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class CreditServicer(credit_pb2_grpc.CreditServiceServicer):
    """Serves credit by its judge, its terms and its store."""

    judge: Judge
    table: TermsTable
    reader: CreditReader
    clock: Clock
    streams: Mapping[Source, Connection]

    async def Evaluate(
        self, request: credit_pb2.EvaluateRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.Evaluation:
        evaluated = await evaluate(
            request.subject, kind_of(request.kind), judge=self.judge, reader=self.reader, clock=self.clock
        )
        return evaluation_message(evaluated, self.judge)

    async def GetTerms(
        self, request: credit_pb2.GetTermsRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.TradeTerms:
        return (await self._terms([TermsWanted(request.subject, request.currency, "currency")]))[0]

    async def BatchGetTerms(
        self, request: credit_pb2.BatchGetTermsRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.BatchGetTermsResponse:
        wanted = [
            TermsWanted(item.subject, item.currency, f"requests[{position}].currency")
            for position, item in enumerate(request.requests)
        ]
        return credit_pb2.BatchGetTermsResponse(terms=await self._terms(wanted))

    async def ListIndicators(
        self, request: credit_pb2.ListIndicatorsRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.ListIndicatorsResponse:
        listed = list_indicators(request.category, kind_of(request.kind), judge=self.judge)
        return credit_pb2.ListIndicatorsResponse(
            indicators=[indicator_message(indicator) for indicator in listed],
            catalogue_version=self.judge.catalogue.version,
        )

    async def ListIndicatorValues(
        self, request: credit_pb2.ListIndicatorValuesRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.ListIndicatorValuesResponse:
        values, as_of = await list_indicator_values(
            request.subject, kind_of(request.kind), judge=self.judge, reader=self.reader, clock=self.clock
        )
        message = credit_pb2.ListIndicatorValuesResponse(
            values=[credit_pb2.IndicatorValue(name=name, value=value) for name, value in values]
        )
        message.as_of.FromDatetime(as_of)
        return message

    async def GetIngestStatus(
        self, request: credit_pb2.GetIngestStatusRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.IngestStatus:
        progress = await self.reader.progress()
        return credit_pb2.IngestStatus(
            streams=[
                stream_message(source, progress.get(source, StreamProgress()), connected=stream.connected)
                for source, stream in self.streams.items()
            ]
        )

    async def _terms(self, wanted: list[TermsWanted]) -> list[credit_pb2.TradeTerms]:
        terms = await get_terms(wanted, judge=self.judge, table=self.table, reader=self.reader, clock=self.clock)
        return [terms_message(item, self.table) for item in terms]

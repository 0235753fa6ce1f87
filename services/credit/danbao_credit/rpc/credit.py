"""CreditService: what somebody's credit is, what it is made of, and what other teams tell of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import grpc

from danbao.credit.v1 import credit_pb2, credit_pb2_grpc
from danbao_credit.application.evaluate import evaluate, evaluate_many, list_indicator_values, list_indicators
from danbao_credit.application.get_profile import get_profile
from danbao_credit.application.get_terms import TermsWanted, get_terms
from danbao_credit.application.ports import CreditReader, StreamProgress
from danbao_credit.application.purpose_gate import PurposeGate
from danbao_credit.application.rebuild import WouldBeRebuilt
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.events import Source
from danbao_credit.domain.terms import TermsTable
from danbao_credit.rpc.askers import asker_of
from danbao_credit.rpc.history import as_of, profile_message, rebuild_command, rebuilt_message, record_command
from danbao_credit.rpc.mapping import evaluation_message, indicator_message, kind_of, stream_message, terms_message
from danbao_credit.rpc.scores import ScoreCalls
from danbao_kit.call import current_call
from danbao_kit.clock import Clock
from danbao_kit.commands import CommandRunner


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
    scores: ScoreCalls
    commands: CommandRunner
    gate: PurposeGate

    async def Evaluate(
        self, request: credit_pb2.EvaluateRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.Evaluation:
        await self.gate.admit(asker_of(current_call()), "Evaluate", [(request.subject, request.purpose)])
        evaluated = await evaluate(
            request.subject,
            kind_of(request.kind),
            judge=self.judge,
            reader=self.reader,
            clock=self.clock,
            as_of=as_of(request, current_call()),
        )
        return evaluation_message(evaluated, self.judge)

    async def GetTerms(
        self, request: credit_pb2.GetTermsRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.TradeTerms:
        return (await self._terms([TermsWanted(request.subject, request.currency, "currency", request.counterparty)]))[
            0
        ]

    async def BatchGetTerms(
        self, request: credit_pb2.BatchGetTermsRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.BatchGetTermsResponse:
        wanted = [
            TermsWanted(item.subject, item.currency, f"requests[{position}].currency", item.counterparty)
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
        reads = [(request.subject, request.purpose)]
        await self.gate.admit(asker_of(current_call()), "ListIndicatorValues", reads)
        values, moment = await list_indicator_values(
            request.subject,
            kind_of(request.kind),
            judge=self.judge,
            reader=self.reader,
            clock=self.clock,
            as_of=as_of(request, current_call()),
        )
        message = credit_pb2.ListIndicatorValuesResponse(
            values=[credit_pb2.IndicatorValue(name=name, value=value) for name, value in values]
        )
        message.as_of.FromDatetime(moment)
        return message

    async def BatchEvaluate(
        self, request: credit_pb2.BatchEvaluateRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.BatchEvaluateResponse:
        reads = [(item.subject, item.purpose) for item in request.requests]
        await self.gate.admit(asker_of(current_call()), "BatchEvaluate", reads)
        wanted = [(item.subject, kind_of(item.kind)) for item in request.requests]
        evaluated = await evaluate_many(wanted, judge=self.judge, reader=self.reader, clock=self.clock)
        return credit_pb2.BatchEvaluateResponse(
            evaluations=[evaluation_message(each, self.judge) for each in evaluated]
        )

    async def GetProfile(
        self, request: credit_pb2.GetProfileRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.Profile:
        reads = [(request.subject, request.purpose)]
        await self.gate.admit(asker_of(current_call()), "GetProfile", reads)
        catalogue = self.judge.catalogue
        counted = await get_profile(
            request.subject,
            as_of(request, current_call()),
            catalogue=catalogue,
            reader=self.reader,
            clock=self.clock,
        )
        return profile_message(counted, catalogue)

    async def RecordEvents(
        self, request: credit_pb2.RecordEventsRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.RecordEventsResponse:
        command = record_command(request, current_call(), self.judge.catalogue)
        answer: credit_pb2.RecordEventsResponse = await self.commands.run_unrecorded(command)
        return answer

    async def RebuildProfile(
        self, request: credit_pb2.RebuildProfileRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.RebuildProfileResponse:
        command = rebuild_command(request, self.judge.catalogue)
        if command.validate_only:
            error = (await self.commands.try_out(command)).error
            if isinstance(error, WouldBeRebuilt):
                return rebuilt_message(error.rebuilt)
            assert error is not None, "what only compares is always dropped"
            raise error
        answer: credit_pb2.RebuildProfileResponse = await self.commands.run(
            context, "RebuildProfile", request.request_id, command
        )
        return answer

    async def GetIngestStatus(
        self, request: credit_pb2.GetIngestStatusRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.IngestStatus:
        progress = await self.reader.progress()
        connected = {source: stream.connected for source, stream in self.streams.items()}
        # Reports come to us: there is no stream that could break.
        connected[Source.REPORTS] = True
        return credit_pb2.IngestStatus(
            streams=[
                stream_message(source, progress.get(source, StreamProgress()), connected=is_connected)
                for source, is_connected in connected.items()
            ]
        )

    async def ListScoreHistory(
        self, request: credit_pb2.ListScoreHistoryRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.ListScoreHistoryResponse:
        reads = [(request.subject, request.purpose)]
        await self.gate.admit(asker_of(current_call()), "ListScoreHistory", reads)
        return await self.scores.history(request)

    async def WatchScores(
        self, request: credit_pb2.WatchScoresRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[credit_pb2.WatchScoresResponse]:
        asker, purpose = asker_of(current_call()), request.purpose
        self.gate.check(asker, purpose)
        await self.gate.admit(asker, "WatchScores", [(subject, purpose) for subject in request.subjects])
        async for message in self.scores.watch(request):
            told = dict.fromkeys(change.subject for change in message.changes)
            await self.gate.admit(asker, "WatchScores", [(subject, purpose) for subject in told])
            yield message

    async def SimulateScore(
        self, request: credit_pb2.SimulateScoreRequest, context: grpc.aio.ServicerContext
    ) -> credit_pb2.SimulateScoreResponse:
        reads = [(request.subject, request.purpose)]
        await self.gate.admit(asker_of(current_call()), "SimulateScore", reads)
        return await self.scores.simulate(request)

    async def _terms(self, wanted: list[TermsWanted]) -> list[credit_pb2.TradeTerms]:
        terms = await get_terms(wanted, judge=self.judge, table=self.table, reader=self.reader, clock=self.clock)
        asker = asker_of(current_call())
        return [
            terms_message(
                item,
                self.table,
                is_public=not asker.may_know_of(item.subject),
                tells_block=asker.may_know_of(request.counterparty),
            )
            for item, request in zip(terms, wanted, strict=True)
        ]

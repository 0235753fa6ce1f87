"""Serves ModelService."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, TypeAlias

import grpc
import yaml

from danbao.credit.v1 import model_pb2, model_pb2_grpc
from danbao_credit.application.drift_report import DEFAULT_SAMPLE, ProfileSampler, drift_report
from danbao_credit.application.model_commands import (
    CreateModelVersion,
    PromoteModelVersion,
    RollbackModel,
    SetChallenger,
    ValidateModelVersion,
)
from danbao_credit.domain.artefact import sha256_of
from danbao_credit.domain.catalogue import SubjectKind
from danbao_credit.domain.drift import Drift, DriftFound, Verdict
from danbao_credit.domain.errors import FieldInvalid, FieldViolation, ModelVersionNotFound
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.models import Finding, ModelState, ModelVersion
from danbao_credit.rpc.mapping import kind_number, kind_of
from danbao_kit.call import current_call
from danbao_kit.clock import Clock
from danbao_kit.commands import CommandRunner
from danbao_kit.errors import PageTokenInvalid
from danbao_kit.paging import decode_token, encode_token, page_size

Context: TypeAlias = grpc.aio.ServicerContext

_SCOPE = "models"
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
_STATE_NUMBERS = {state: model_pb2.ModelVersion.State.Value(f"STATE_{state.value}") for state in ModelState}
_VERDICTS = {
    Verdict.NONE: model_pb2.DRIFT_VERDICT_UNSPECIFIED,
    Verdict.STABLE: model_pb2.DRIFT_VERDICT_STABLE,
    Verdict.WATCH: model_pb2.DRIFT_VERDICT_WATCH,
    Verdict.ACT: model_pb2.DRIFT_VERDICT_ACT,
}


class ModelReader(ProfileSampler, Protocol):
    """Reads of the store. Raise StoreUnavailable."""

    async def find(self, version: str) -> ModelVersion | None: ...

    async def page(self, before: datetime, version: str, limit: int) -> list[ModelVersion]: ...


class Shadow(Protocol):
    """Who is compared with the champion."""

    @property
    def challenger(self) -> Judge | None: ...


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """Commands go through the write path; reads are of the store."""

    def __init__(
        self,
        commands: CommandRunner,
        reader: ModelReader,
        check: Callable[[Mapping[str, Any]], tuple[Finding, ...]],
        judge: Judge,
        shadow: Shadow,
        clock: Clock,
    ) -> None:
        self._check = check
        self._commands = commands
        self._reader = reader
        self._judge = judge
        self._shadow = shadow
        self._clock = clock

    async def CreateModelVersion(
        self, request: model_pb2.CreateModelVersionRequest, context: Context
    ) -> model_pb2.ModelVersion:
        # A file of some hundred kB takes seconds to read: beside the loop, so that everybody else is served meanwhile.
        definition = await asyncio.to_thread(read_artefact, request.artefact)
        command = CreateModelVersion(
            version=definition["version"],
            artefact=json.dumps(definition, ensure_ascii=False),
            sha256=sha256_of(definition),
            description=request.description,
            actor=_actor(),
        )
        return await self._run(context, "CreateModelVersion", request.request_id, command)

    async def ValidateModelVersion(
        self, request: model_pb2.ValidateModelVersionRequest, context: Context
    ) -> model_pb2.ModelVersion:
        draft = await self._reader.find(_version(request.name))
        # Some hundred evaluations: beside the loop and outside of any transaction, for an artefact never changes.
        # What is no draft any more is refused or was answered before, whatever they would find.
        found: tuple[Finding, ...] = ()
        if draft is not None and draft.state is ModelState.DRAFT:
            found = await asyncio.to_thread(self._check, json.loads(draft.artefact))
        command = ValidateModelVersion(_version(request.name), found, _actor())
        return await self._run(context, "ValidateModelVersion", request.request_id, command)

    async def PromoteModelVersion(
        self, request: model_pb2.PromoteModelVersionRequest, context: Context
    ) -> model_pb2.ModelVersion:
        command = PromoteModelVersion(_version(request.name), request.reason, _actor())
        return await self._run(context, "PromoteModelVersion", request.request_id, command)

    async def RollbackModel(self, request: model_pb2.RollbackModelRequest, context: Context) -> model_pb2.ModelVersion:
        command = RollbackModel(request.reason, _actor())
        return await self._run(context, "RollbackModel", request.request_id, command)

    async def SetChallenger(self, request: model_pb2.SetChallengerRequest, context: Context) -> model_pb2.ModelVersion:
        command = SetChallenger(_version(request.name), _actor())
        return await self._run(context, "SetChallenger", request.request_id, command)

    async def GetModelVersion(
        self, request: model_pb2.GetModelVersionRequest, context: Context
    ) -> model_pb2.ModelVersion:
        found = await self._reader.find(_version(request.name))
        if found is None:
            raise ModelVersionNotFound(request.name)
        return model_message(found)

    async def ListModelVersions(
        self, request: model_pb2.ListModelVersionsRequest, context: Context
    ) -> model_pb2.ListModelVersionsResponse:
        before, version = _position(request.page_token)
        size = page_size(request.page_size)
        found = await self._reader.page(before, version, size + 1)
        answer = model_pb2.ListModelVersionsResponse(models=[model_message(item) for item in found[:size]])
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = encode_token(_SCOPE, f"{last.create_time.isoformat()} {last.version}")
        return answer

    async def GetDriftReport(self, request: model_pb2.GetDriftReportRequest, context: Context) -> model_pb2.DriftReport:
        found, as_of = await drift_report(
            kind_of(request.kind) or SubjectKind.MERCHANT,
            request.sample_size or DEFAULT_SAMPLE,
            judge=self._judge,
            challenger=self._shadow.challenger,
            reader=self._reader,
            clock=self._clock,
        )
        message = _drift_message(found)
        message.as_of.FromDatetime(as_of)
        return message

    async def _run(self, context: Context, method: str, request_id: str, command: Any) -> model_pb2.ModelVersion:
        made: model_pb2.ModelVersion = await self._commands.run(context, method, request_id, command)
        return made


class _PlainLoader(yaml.SafeLoader):
    """Without anchors: a few lines of them can stand for more than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("everything is written out: aliases are not read")
        return super().compose_node(parent, index)


def read_artefact(text: str) -> dict[str, Any]:
    """An artefact's content, YAML or JSON. Raises FieldInvalid if it is not one at all; its check says the rest."""
    try:
        definition = yaml.load(text, Loader=_PlainLoader)
        # Only what JSON can say has a hash: no dates, no NaN, no keys that are not text.
        json.loads(json.dumps(definition, allow_nan=False))
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise FieldInvalid(FieldViolation("artefact", f"cannot be read: {str(error)[:200]}")) from error
    version = definition.get("version") if isinstance(definition, dict) else None
    if not isinstance(version, str) or not version or not _is_name(version):
        raise FieldInvalid(FieldViolation("artefact", "has no version of up to 100 letters, digits or . _ ~ -"))
    return dict(definition)


def model_message(version: ModelVersion) -> model_pb2.ModelVersion:
    """A version on the wire."""
    message = model_pb2.ModelVersion(
        name=version.name,
        state=_STATE_NUMBERS[version.state],
        sha256=version.sha256,
        description=version.description,
        findings=[
            model_pb2.ModelFinding(check=item.check, passed=item.passed, detail=item.detail)
            for item in version.findings
        ],
        artefact=version.artefact,
        former=f"models/{version.former}" if version.former else "",
    )
    message.create_time.FromDatetime(version.create_time)
    message.change_time.FromDatetime(version.change_time)
    return message


def _drift_message(found: DriftFound) -> model_pb2.DriftReport:
    message = model_pb2.DriftReport(
        model=f"models/{found.version}",
        kind=kind_number(found.kind),
        subjects=found.subjects,
        score=_drift(found.score),
        characteristics=[_drift(item) for item in found.characteristics],
    )
    compared = found.comparison
    if compared is not None:
        message.challenger.CopyFrom(
            model_pb2.ChallengerComparison(
                model=f"models/{compared.version}",
                mean_difference=compared.mean_difference,
                other_grade=compared.other_grade,
                better_grade=compared.better_grade,
                psi=compared.psi,
            )
        )
    return message


def _drift(item: Drift) -> model_pb2.Drift:
    return model_pb2.Drift(
        name=item.name, psi=item.psi, verdict=_VERDICTS[item.verdict], baseline=item.baseline, now=item.now
    )


def _position(token: str) -> tuple[datetime, str]:
    if not token:
        return _END_OF_TIME, ""
    time, _, version = decode_token(_SCOPE, token).partition(" ")
    if not _is_name(version):
        raise PageTokenInvalid
    try:
        return datetime.fromisoformat(time).astimezone(UTC), version
    except (ValueError, OverflowError) as error:
        raise PageTokenInvalid from error


def _version(name: str) -> str:
    return name.removeprefix("models/")


def _is_name(version: str) -> bool:
    return len(version) <= 100 and all(
        letter.isascii() and (letter.isalnum() or letter in "._~-") for letter in version
    )


def _actor() -> str:
    """Who did it: the token's subject, else the peer."""
    call = current_call()
    return call.subject or call.peer

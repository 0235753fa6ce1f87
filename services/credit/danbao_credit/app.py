"""Credit's settings, and where every concrete class is chosen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from danbao.credit.v1 import credit_pb2, credit_pb2_grpc, model_pb2, model_pb2_grpc
from danbao_credit.application.decide import decide
from danbao_credit.application.model_commands import RegisterShipped
from danbao_credit.clients.event_streams import EventStreamClient, escrow_stream, payments_stream
from danbao_credit.domain.artefact import sha256_of
from danbao_credit.domain.catalogue import Catalogue, SubjectKind, catalogue_from
from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.model_check import ModelCheck
from danbao_credit.domain.profile import Profile
from danbao_credit.domain.reasons import texts_from
from danbao_credit.domain.scorecard import model_from
from danbao_credit.domain.terms import TermsTable, terms_from
from danbao_credit.rpc.codec import CreditCodec
from danbao_credit.rpc.credit import CreditServicer
from danbao_credit.rpc.models import ModelServicer
from danbao_credit.store.credit_store import CreditStore
from danbao_credit.store.models import ModelQueries
from danbao_credit.store.queries import CreditQueries
from danbao_credit.workers.model_watcher import ModelWatcher
from danbao_credit.workers.stream_reader import stream_reader
from danbao_kit.background import keep_running
from danbao_kit.business_clock import ClockServicer, follow_clock, open_clock
from danbao_kit.clock import SettableClock
from danbao_kit.commands import CommandRunner
from danbao_kit.database import Database
from danbao_kit.group_commit import GroupCommit
from danbao_kit.ids import TimeOrderedIds
from danbao_kit.rpc_client import service_channel
from danbao_kit.server import CLOCK_SERVICE, Server
from danbao_kit.settings import ServiceSettings

NAME = "credit"
CREDIT_SERVICE = credit_pb2.DESCRIPTOR.services_by_name["CreditService"].full_name
MODEL_SERVICE = model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name

# Which peer may call what. Users reach credit through the gateway only.
PEERS: Mapping[str, tuple[str, ...]] = {
    "gateway": (CREDIT_SERVICE, MODEL_SERVICE),
    "escrow": tuple(f"{CREDIT_SERVICE}/{method}" for method in ("GetTerms", "BatchGetTerms", "Evaluate")),
    "operator": (CREDIT_SERVICE, MODEL_SERVICE, CLOCK_SERVICE),
}


class CreditSettings(ServiceSettings):
    """What credit is told from outside."""

    payments_address: str = Field(description="host:port of payments")
    escrow_address: str = Field(description="host:port of escrow")
    model_file: Path | None = Field(default=None, description="the model; unset: the one that ships with the service")
    terms_file: Path | None = Field(default=None, description="the terms table; unset: the one that ships")
    currencies: str = Field(
        default="CNY,BRL,USD,EUR", description="currencies on offer; each needs a row in the terms table"
    )
    members: str = Field(
        default="",
        description="subjects/{id}, comma-separated: credible merchants whatever their grade, to try things out",
    )


def load_judge(settings: CreditSettings) -> Judge:
    """Catalogue, model and texts. Raises DefinitionInvalid."""
    catalogue = catalogue_from(read_definition(None, "catalogue.yaml"))
    return judge_of(read_definition(settings.model_file, "model.yaml"), catalogue=catalogue)


def judge_of(artefact: Mapping[str, Any], *, catalogue: Catalogue) -> Judge:
    """A judge by that artefact. Raises DefinitionInvalid."""
    model = model_from(artefact, catalogue)
    return Judge(catalogue, model, texts_from(read_definition(None, "reasons.en.yaml"), catalogue, model))


def shipped_model(settings: CreditSettings) -> RegisterShipped:
    """The model that this release brings. Raises DefinitionInvalid."""
    artefact = read_definition(settings.model_file, "model.yaml")
    text = json.dumps(artefact, ensure_ascii=False)
    return RegisterShipped(version=str(artefact["version"]), artefact=text, sha256=sha256_of(artefact))


def load_terms(settings: CreditSettings, judge: Judge) -> TermsTable:
    """The terms table. Raises DefinitionInvalid when a currency on offer has no row, or newcomers another grade."""
    currencies = [code.strip() for code in settings.currencies.split(",") if code.strip()]
    members = [subject.strip() for subject in settings.members.split(",") if subject.strip()]
    table = terms_from(read_definition(settings.terms_file, "terms.yaml"), currencies, members)
    newcomer = judge.evaluate(Profile.empty(), kind=SubjectKind.MERCHANT, as_of_s=0).grade
    if newcomer is not table.default_grade:
        raise DefinitionInvalid(
            f"model {judge.model.version} grades a newcomer {newcomer}, terms {table.version} say {table.default_grade}"
        )
    return table


def read_definition(file: Path | None, shipped: str) -> Mapping[str, Any]:
    """A definitions file: `file`, or the one of that name that ships. Raises DefinitionInvalid."""
    try:
        text = file.read_text() if file else (resources.files("danbao_credit.definitions") / shipped).read_text()
        # The loader in C, where there is one, reads the catalogue ten times faster.
        definition = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError) as error:
        raise DefinitionInvalid(f"{file or shipped} cannot be read: {error}") from error
    if not isinstance(definition, dict):
        raise DefinitionInvalid(f"{file or shipped} holds no definitions")
    return definition


@asynccontextmanager
async def running(settings: CreditSettings) -> AsyncIterator[Server]:
    """The service with its store, its write path and its readers; the server is not yet started."""
    judge = load_judge(settings)
    table = load_terms(settings, judge)
    async with AsyncExitStack() as stack:
        database = Database(settings.database_dsn)
        stack.push_async_callback(database.close)
        clock = await open_clock(settings.clock, database)
        queries = CreditQueries(database)
        group_commit = GroupCommit(database, CreditStore(), decide, CreditCodec(), clock, TimeOrderedIds())
        group_commit.start()
        stack.push_async_callback(group_commit.stop)

        streams: list[EventStreamClient] = []
        for service, address, make in (
            ("payments", settings.payments_address, payments_stream),
            ("escrow", settings.escrow_address, escrow_stream),
        ):
            channel = service_channel(address, service=service, settings=settings)
            stack.push_async_callback(channel.close)
            streams.append(make(channel))
        for stream in streams:
            reader = stream_reader(
                stream,
                cursor=partial(queries.cursor, stream.source),
                catalogue=judge.catalogue,
                group_commit=group_commit,
            )
            _in_background(stack, f"reader of {stream.source}", reader.run)

        models = ModelQueries(database)
        watcher = ModelWatcher(
            judge, shipped_model(settings), partial(judge_of, catalogue=judge.catalogue), models, group_commit
        )
        _in_background(stack, "models", watcher.run)

        server = Server(settings, name=NAME, peers=PEERS, ready=database.ready)
        servicer = CreditServicer(judge, table, queries, clock, {stream.source: stream for stream in streams})
        server.add(credit_pb2_grpc.add_CreditServiceServicer_to_server, servicer, CREDIT_SERVICE)
        check = ModelCheck(judge.catalogue, read_definition(None, "reasons.en.yaml"), table.default_grade)
        server.add(
            model_pb2_grpc.add_ModelServiceServicer_to_server,
            ModelServicer(CommandRunner(group_commit), models, check.findings, judge, watcher, clock),
            MODEL_SERVICE,
        )
        if isinstance(clock, SettableClock):
            server.add_clock(ClockServicer(clock, database))
            _in_background(stack, "clock", partial(follow_clock, clock, database))
        yield server


async def serve(settings: CreditSettings) -> None:
    """Serves until SIGTERM or SIGINT."""
    async with running(settings) as server:
        await server.serve_until_signal()


def _in_background(stack: AsyncExitStack, name: str, work: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.create_task(keep_running(name, work), name=name)

    async def end() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(end)

"""Credit's settings, and where every concrete class is chosen."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, SecretStr

from danbao.credit.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    credit_pb2,
    credit_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    membership_pb2,
    membership_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    rights_pb2,
    rights_pb2_grpc,
)
from danbao_credit.application.consents import OfficialRead, ReadForPurpose
from danbao_credit.application.decide import decider
from danbao_credit.application.memberships import Desk
from danbao_credit.application.model_commands import RegisterShipped
from danbao_credit.application.purpose_gate import PurposeGate
from danbao_credit.application.score_feed import ScoreFeed
from danbao_credit.application.working_set import CreditSet
from danbao_credit.clients.event_streams import EventStreamClient, escrow_stream, payments_stream
from danbao_credit.clients.payments_money import PaymentsMoney
from danbao_credit.domain.artefact import sha256_of
from danbao_credit.domain.catalogue import Catalogue, SubjectKind, catalogue_from
from danbao_credit.domain.consent import Purposes, purposes_from
from danbao_credit.domain.errors import DefinitionInvalid
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.model_check import ModelCheck
from danbao_credit.domain.profile import Profile
from danbao_credit.domain.reasons import texts_from
from danbao_credit.domain.scorecard import model_from
from danbao_credit.domain.terms import TermsTable, terms_from
from danbao_credit.rpc.audit import AuditServicer
from danbao_credit.rpc.codec import CreditCodec
from danbao_credit.rpc.credit import CreditServicer
from danbao_credit.rpc.events import EventServicer
from danbao_credit.rpc.memberships import MembershipServicer
from danbao_credit.rpc.models import ModelServicer
from danbao_credit.rpc.rights import RightsServicer
from danbao_credit.rpc.rights_codec import blank_event
from danbao_credit.rpc.scores import ScoreCalls
from danbao_credit.store.credit_store import CreditStore
from danbao_credit.store.membership_queries import MembershipQueries
from danbao_credit.store.models import ModelQueries
from danbao_credit.store.queries import CreditQueries
from danbao_credit.store.rights_queries import SECTIONS, RightsQueries
from danbao_credit.store.score_queries import ScoreQueries
from danbao_credit.store.tombstones import check_secret
from danbao_credit.workers.folding import FoldingWorker
from danbao_credit.workers.memberships import DepositSteps, MembershipLooks
from danbao_credit.workers.model_watcher import ModelWatcher
from danbao_credit.workers.sampling import SamplingAuditor
from danbao_credit.workers.scorer import Scorer, touched_by
from danbao_credit.workers.stream_reader import stream_reader
from danbao_kit.action_auditor import ActionAuditor
from danbao_kit.action_calls import ActionCalls
from danbao_kit.action_log import ActionLog
from danbao_kit.background import keep_running
from danbao_kit.business_clock import ClockServicer, follow_clock, open_clock
from danbao_kit.call import current_call
from danbao_kit.clock import SettableClock
from danbao_kit.commands import CommandRunner, acting_of
from danbao_kit.database import Database
from danbao_kit.event_stream import EventStream
from danbao_kit.group_commit import GroupCommit, Submission
from danbao_kit.rpc_client import service_channel
from danbao_kit.server import CLOCK_SERVICE, Server
from danbao_kit.settings import ServiceSettings
from danbao_kit.time_ordered_ids import TimeOrderedIds

NAME = "credit"
AUDIT_SERVICE = audit_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name
EVENT_SERVICE = event_pb2.DESCRIPTOR.services_by_name["EventService"].full_name
CREDIT_SERVICE = credit_pb2.DESCRIPTOR.services_by_name["CreditService"].full_name
MODEL_SERVICE = model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
RIGHTS_SERVICE = rights_pb2.DESCRIPTOR.services_by_name["SubjectRightsService"].full_name
MEMBERSHIP_SERVICE = membership_pb2.DESCRIPTOR.services_by_name["MembershipService"].full_name

_FOR_CALLERS = (CREDIT_SERVICE, RIGHTS_SERVICE, MEMBERSHIP_SERVICE, MODEL_SERVICE, EVENT_SERVICE, AUDIT_SERVICE)

# Which peer may call what: of the services, what their clients call and nothing else. Users come through the gateway.
PEERS: Mapping[str, tuple[str, ...]] = {
    "gateway": _FOR_CALLERS,
    "escrow": (f"{CREDIT_SERVICE}/GetTerms", f"{CREDIT_SERVICE}/BatchGetTerms"),
    "operator": (*_FOR_CALLERS, CLOCK_SERVICE),
}


class CreditSettings(ServiceSettings):
    """What credit is told from outside."""

    payments_address: str = Field(description="host:port of payments")
    escrow_address: str = Field(description="host:port of escrow")
    model_file: Path | None = Field(default=None, description="the model; unset: the one that ships with the service")
    terms_file: Path | None = Field(default=None, description="the terms table; unset: the one that ships")
    erasure_secret: SecretStr = Field(
        default=SecretStr(""),
        max_length=64,
        description="what the hashes that stand for erased subjects are made with; set once, before the first erasure",
    )
    currencies: str = Field(
        default="CNY,BRL,USD,EUR", description="currencies on offer; each needs a row in the terms table"
    )
    keep_log_days: int = Field(
        default=400, ge=1, description="how long events are kept one by one; older ones go into checkpoints"
    )
    fold_every_s: float = Field(default=3600.0, gt=0, description="seconds between looks for events to be folded")
    audit_every_s: float = Field(default=60.0, gt=0, description="seconds between audits of a few profiles")
    members: str = Field(
        default="",
        description="subjects/{id}, comma-separated: credible merchants without a membership, to try things out",
    )


def load_catalogue() -> Catalogue:
    """The catalogue that ships. Raises DefinitionInvalid."""
    return catalogue_from(read_definition(None, "catalogue.yaml"))


def load_judge(settings: CreditSettings) -> Judge:
    """Catalogue, model and texts. Raises DefinitionInvalid."""
    return judge_of(read_definition(settings.model_file, "model.yaml"), catalogue=load_catalogue())


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


def load_purposes() -> Purposes:
    """For which purposes credit may be read. Raises DefinitionInvalid."""
    return purposes_from(read_definition(None, "purposes.yaml"))


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
    purposes = load_purposes()
    async with AsyncExitStack() as stack:
        database = Database(settings.database_dsn)
        stack.push_async_callback(database.close)
        secret = settings.erasure_secret.get_secret_value().encode()
        await check_secret(database, secret)
        clock = await open_clock(settings.clock, database)
        queries = CreditQueries(database)
        score_queries = ScoreQueries(database)
        events, feed = EventStream(database), ScoreFeed(score_queries)
        memberships = MembershipQueries(database, table.membership)
        scorer: Scorer | None = None

        def committed(working: CreditSet) -> None:
            if scorer is not None:
                scorer.touch(touched_by(working))
            if working.score_changes.accepted:
                feed.wake()
            told = (working.memberships, working.appeals)
            if working.score_changes.accepted or any(rows.created() or rows.updated() for rows in told):
                events.wake()
            steps.take(working.taken.accepted)
            looks.wake()

        group_commit = GroupCommit(
            database,
            CreditStore(blank_event, erasure_secret=secret),
            decider(Desk(lambda: judge, table.membership)),
            CreditCodec(),
            clock,
            TimeOrderedIds(),
            on_commit=committed,
        )
        scorer = Scorer(lambda: judge, score_queries, group_commit, clock)
        money_channel = service_channel(settings.payments_address, service="payments", settings=settings)
        stack.push_async_callback(money_channel.close)
        money = PaymentsMoney(money_channel)
        steps = DepositSteps(money, memberships, group_commit)
        looks = MembershipLooks(memberships, group_commit, clock)
        group_commit.start()
        stack.push_async_callback(group_commit.stop)
        stack.push_async_callback(steps.stop)
        _in_background(stack, "deposit steps", steps.run)
        _in_background(stack, "membership looks", looks.run)

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
                parks_future=not isinstance(clock, SettableClock),
            )
            _in_background(stack, f"reader of {stream.source}", reader.run)
        folding = FoldingWorker(
            queries,
            group_commit,
            clock,
            judge.catalogue,
            keep=timedelta(days=settings.keep_log_days),
            every_s=settings.fold_every_s,
        )
        _in_background(stack, "folding of the log", folding.run)
        auditor = SamplingAuditor(queries, judge.catalogue, every_s=settings.audit_every_s, dice=random.Random())
        _in_background(stack, "audit of profiles", auditor.run)

        _in_background(stack, "scorer", scorer.run)
        _in_background(stack, "sweep of scores", scorer.sweep)
        _in_background(stack, "look for changes of scores", feed.look)

        models = ModelQueries(database)
        watcher = ModelWatcher(
            judge,
            shipped_model(settings),
            partial(judge_of, catalogue=judge.catalogue),
            models,
            group_commit,
            on_champion=scorer.follow_champion,
        )
        _in_background(stack, "models", watcher.run)

        server = Server(settings, name=NAME, peers=PEERS, ready=database.ready)
        scores = ScoreCalls(judge, queries, score_queries, feed, clock)
        gate = PurposeGate(purposes, partial(_commit, group_commit))
        servicer = CreditServicer(
            judge,
            table,
            queries,
            clock,
            {stream.source: stream for stream in streams},
            scores,
            CommandRunner(group_commit),
            gate,
        )
        server.add(credit_pb2_grpc.add_CreditServiceServicer_to_server, servicer, CREDIT_SERVICE)
        check = ModelCheck(judge.catalogue, read_definition(None, "reasons.en.yaml"), table.default_grade)
        server.add(
            model_pb2_grpc.add_ModelServiceServicer_to_server,
            ModelServicer(CommandRunner(group_commit), models, check.findings, judge, watcher, clock),
            MODEL_SERVICE,
        )
        members = MembershipServicer(
            CommandRunner(group_commit),
            memberships,
            judge,
            table,
            queries,
            clock,
            money,
            partial(_commit, group_commit),
        )
        server.add(membership_pb2_grpc.add_MembershipServiceServicer_to_server, members, MEMBERSHIP_SERVICE)
        server.add(event_pb2_grpc.add_EventServiceServicer_to_server, EventServicer(events), EVENT_SERVICE)
        actions = ActionLog(database, words_may_go=True)
        looks_at_actions = ActionAuditor(actions, service=NAME, every_s=settings.audit_every_s)
        _in_background(stack, "privileged actions", looks_at_actions.run)
        server.add(
            audit_pb2_grpc.add_AuditServiceServicer_to_server, AuditServicer(ActionCalls(actions)), AUDIT_SERVICE
        )
        rights = RightsServicer(
            CommandRunner(group_commit),
            purposes,
            gate,
            judge,
            queries,
            RightsQueries(database),
            clock,
            SECTIONS,
            secret,
        )
        server.add(rights_pb2_grpc.add_SubjectRightsServiceServicer_to_server, rights, RIGHTS_SERVICE)
        server.on_drain(events.close)
        server.on_drain(feed.close)
        if isinstance(clock, SettableClock):
            server.add_clock(ClockServicer(clock, database, on_advanced=looks.drain_due))
            _in_background(stack, "clock", partial(follow_clock, clock, database))
        yield server


async def serve(settings: CreditSettings) -> None:
    """Serves until SIGTERM or SIGINT."""
    async with running(settings) as server:
        await server.serve_until_signal()


async def _commit(group_commit: GroupCommit, command: object) -> None:
    """Runs a command of the service's own within a call. Raises what refused it.

    Reads of an officer are what the call is about; other commands only go before or after what it is about.
    """
    call = current_call()
    outcome = await group_commit.submit(
        Submission(
            command,
            traceparent=call.traceparent,
            deadline=call.deadline,
            acting=acting_of(call) if isinstance(command, ReadForPurpose | OfficialRead) else None,
        )
    )
    if outcome.error is not None:
        raise outcome.error


def _in_background(stack: AsyncExitStack, name: str, work: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.create_task(keep_running(name, work), name=name)

    async def end() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(end)

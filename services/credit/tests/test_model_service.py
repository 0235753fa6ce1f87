"""Model versions over the wire: taken, checked, promoted, rolled back, by every replica, and never twice."""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from importlib import resources
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.rpc import error_details_pb2, status_pb2

from danbao.credit.v1 import credit_pb2, credit_pb2_grpc, model_pb2, model_pb2_grpc
from danbao.testing.v1 import clock_pb2, clock_pb2_grpc
from danbao_credit.app import running
from danbao_credit.domain.artefact import sha256_of
from danbao_credit.testing.stories import START, good_trade
from danbao_credit.workers import model_watcher
from danbao_kit.paging import encode_token
from danbao_kit.testing.service import channel_as

State = model_pb2.ModelVersion.State
NEWCOMER = credit_pb2.EvaluateRequest(subject="subjects/nobody", kind=credit_pb2.SUBJECT_KIND_MERCHANT)
SHIPPED = yaml.safe_load((resources.files("danbao_credit.definitions") / "model.yaml").read_text())


def artefact(version: str, *, base: int = 640, cap: int = 649, seal: bool = True) -> str:
    """The shipped model with other bases: a newcomer is a C still, and everybody's score tells who gave it."""
    made: dict[str, Any] = copy.deepcopy(SHIPPED)
    made["version"] = version
    for scorecard in made["scorecards"].values():
        scorecard["base"] = base
        scorecard["caps"][0]["at_most"] = cap
    if seal:
        made["sha256"] = sha256_of(made)
    return yaml.safe_dump(made, sort_keys=False)


class Operator:
    """What an operator does with models."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.models = model_pb2_grpc.ModelServiceStub(channel)
        self.credit = credit_pb2_grpc.CreditServiceStub(channel)

    async def call(self, method: str, request_id: str = "", **fields: Any) -> Any:
        request = getattr(model_pb2, f"{method}Request")(request_id=request_id or str(uuid.uuid4()), **fields)
        return await getattr(self.models, method)(request, timeout=10)

    async def validated(self, version: str, **changes: Any) -> Any:
        await self.call("CreateModelVersion", artefact=artefact(version, **changes), description="a try")
        return await self.call("ValidateModelVersion", name=f"models/{version}")

    async def scores_by(self, version: str) -> Any:
        """A newcomer's evaluation once this process scores by that version."""
        async with asyncio.timeout(15):
            while True:
                evaluation = await self.credit.Evaluate(NEWCOMER, timeout=5)
                if evaluation.model_version == version:
                    return evaluation
                await asyncio.sleep(0.05)


@pytest.fixture
async def operator(credit) -> Operator:
    made = Operator(credit.channel_as("operator"))
    await known(made)
    return made


async def known(operator: Operator) -> None:
    """Until the model that ships stands in the store."""
    async with asyncio.timeout(15):
        while not (await operator.models.ListModelVersions(model_pb2.ListModelVersionsRequest(), timeout=5)).models:
            await asyncio.sleep(0.05)


async def reason_of(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    info = error_details_pb2.ErrorInfo()
    details = dict(raised.value.trailing_metadata() or ())["grpc-status-details-bin"]
    for detail in status_pb2.Status.FromString(details).details:
        detail.Unpack(info)
    return raised.value.code().name, info.reason


async def test_the_model_that_ships_is_champion_from_the_first_start_on(credit, operator: Operator) -> None:
    listed = (await operator.models.ListModelVersions(model_pb2.ListModelVersionsRequest(), timeout=5)).models
    assert [(model.name, model.state) for model in listed] == [(f"models/{SHIPPED['version']}", State.STATE_CHAMPION)]
    found = await operator.models.GetModelVersion(model_pb2.GetModelVersionRequest(name=listed[0].name), timeout=5)
    assert json.loads(found.artefact) == SHIPPED
    assert found.sha256 == SHIPPED["sha256"]
    assert not listed[0].artefact, "lists are without"
    await credit.stop()
    await credit.start()
    again = Operator(credit.channel_as("operator"))
    await known(again)
    assert (await again.scores_by(SHIPPED["version"])).score == 620


async def test_a_promoted_model_scores_everywhere_without_a_restart_and_a_rollback_takes_it_back(
    credit, operator: Operator
) -> None:
    """Two replicas on one store: both follow; what was scored before keeps the name of who scored it."""
    async with running(credit.settings) as server:
        await server.start()
        channel = channel_as("operator", authority=credit.authority, service="credit", port=server.port)
        second = Operator(channel)
        before = await second.scores_by(SHIPPED["version"])
        assert (before.score, before.model_version) == (620, SHIPPED["version"])

        checked = await operator.validated("second")
        assert checked.state == State.STATE_VALIDATED, checked.findings
        promoted = await operator.call("PromoteModelVersion", name="models/second", reason="better out of time")
        assert (promoted.state, promoted.former) == (State.STATE_CHAMPION, f"models/{SHIPPED['version']}")
        for replica in (operator, second):
            assert (await replica.scores_by("second")).score == 640

        back = await second.call("RollbackModel", reason="complaints")
        assert back.name == f"models/{SHIPPED['version']}"
        for replica in (operator, second):
            assert (await replica.scores_by(SHIPPED["version"])).score == 620
        find = model_pb2.GetModelVersionRequest(name="models/second")
        retired = await second.models.GetModelVersion(find, timeout=5)
        assert retired.state == State.STATE_RETIRED
        assert json.loads(retired.artefact)["scorecards"]["merchant"]["base"] == 640, "who scored so can be looked up"
        await channel.close()
        await server.stop()


async def test_a_promotion_scores_everybody_anew_though_nothing_happens_to_them(credit, operator: Operator) -> None:
    sellers = [f"subjects/seller-{number}" for number in range(5)]
    credit.streams.escrow.add(
        event for number, seller in enumerate(sellers) for event in good_trade(str(number), START, seller=seller).events
    )
    await credit.caught_up("escrow", 5 * len(sellers))

    async def all_by(version: str) -> None:
        async with asyncio.timeout(20):
            while {row["model_version"] for row in await credit.rows("SELECT DISTINCT model_version FROM scores")} != {
                version
            } or await credit.count("(SELECT DISTINCT subject FROM scores) AS scored") != len(sellers) + 1:
                await asyncio.sleep(0.05)

    await all_by(SHIPPED["version"])
    await operator.validated("second")
    await operator.call("PromoteModelVersion", name="models/second", reason="better out of time")
    await all_by("second")
    await operator.call("RollbackModel", reason="complaints")
    await all_by(SHIPPED["version"])
    # A process that died amid it goes on when it is back.
    await credit.stop()
    await credit.rows("UPDATE scores SET model_version = 'second'")
    await credit.start()
    await all_by(SHIPPED["version"])


async def test_a_shipped_model_with_the_version_of_another_content_ends_nothing(
    credit, operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said once; the champion in the store scores, and whichever is promoted after it."""
    said: list[str] = []
    monkeypatch.setattr(model_watcher.log, "error", lambda event, **_: said.append(event))
    edited = tmp_path / "model.yaml"
    edited.write_text(artefact(SHIPPED["version"], base=630))
    settings = credit.settings.model_copy(update={"model_file": edited})
    async with running(settings) as server:
        await server.start()
        channel = channel_as("operator", authority=credit.authority, service="credit", port=server.port)
        second = Operator(channel)
        async with asyncio.timeout(15):
            while (await second.credit.Evaluate(NEWCOMER, timeout=5)).score != 620:
                await asyncio.sleep(0.05)
        await operator.validated("second")
        await second.call("PromoteModelVersion", name="models/second", reason="better out of time")
        assert (await second.scores_by("second")).score == 640
        await channel.close()
        await server.stop()
    assert said == ["shipped_model_not_known"]


async def test_the_same_request_is_done_once_and_another_under_its_id_is_refused(operator: Operator) -> None:
    request_id = str(uuid.uuid4())
    made = await operator.call("CreateModelVersion", request_id, artefact=artefact("one"), description="a try")
    again = await operator.call("CreateModelVersion", request_id, artefact=artefact("one"), description="a try")
    assert made == again
    changed = operator.call("CreateModelVersion", request_id, artefact=artefact("other"), description="a try")
    assert await reason_of(changed) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    twice = operator.call("CreateModelVersion", artefact=artefact("one", base=630))
    assert await reason_of(twice) == ("ALREADY_EXISTS", "MODEL_VERSION_EXISTS")


async def test_what_the_check_refuses_can_never_score(operator: Operator) -> None:
    await operator.call("CreateModelVersion", artefact=artefact("edited", seal=False))
    promote = {"name": "models/edited", "reason": "why not"}
    refused = ("FAILED_PRECONDITION", "MODEL_STATE_INVALID")
    assert await reason_of(operator.call("PromoteModelVersion", **promote)) == refused, "a draft"
    checked = await operator.call("ValidateModelVersion", name="models/edited")
    assert checked.state == State.STATE_REJECTED
    assert [finding.check for finding in checked.findings if not finding.passed] == ["HASH"]
    assert await reason_of(operator.call("PromoteModelVersion", **promote)) == refused
    assert await reason_of(operator.call("SetChallenger", name="models/edited")) == refused
    assert await reason_of(operator.call("ValidateModelVersion", name="models/edited")) == refused


async def test_only_a_draft_is_checked(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check takes a second of a core: refusals and repeated requests do without."""
    looked_at: list[Any] = []
    beside = asyncio.to_thread

    async def noted(function: Any, *arguments: Any) -> Any:
        looked_at.append(arguments)
        return await beside(function, *arguments)

    await operator.call("CreateModelVersion", artefact=artefact("once"), description="a try")
    monkeypatch.setattr(asyncio, "to_thread", noted)
    request_id = str(uuid.uuid4())
    checked = await operator.call("ValidateModelVersion", request_id, name="models/once")
    assert (checked.state, len(looked_at)) == (State.STATE_VALIDATED, 1)
    assert await operator.call("ValidateModelVersion", request_id, name="models/once") == checked
    refused = ("FAILED_PRECONDITION", "MODEL_STATE_INVALID")
    assert await reason_of(operator.call("ValidateModelVersion", name="models/once")) == refused
    assert len(looked_at) == 1


async def test_what_is_not_there_is_not_found(operator: Operator) -> None:
    for method, fields in (
        ("ValidateModelVersion", {}),
        ("SetChallenger", {}),
        ("PromoteModelVersion", {"reason": "why not"}),
    ):
        call = operator.call(method, name="models/nobody", **fields)
        assert await reason_of(call) == ("NOT_FOUND", "MODEL_VERSION_NOT_FOUND"), method
    found = operator.models.GetModelVersion(model_pb2.GetModelVersionRequest(name="models/nobody"), timeout=5)
    assert await reason_of(found) == ("NOT_FOUND", "MODEL_VERSION_NOT_FOUND")
    assert await reason_of(operator.call("RollbackModel", reason="why not")) == (
        "FAILED_PRECONDITION",
        "NO_FORMER_MODEL",
    )


@pytest.mark.parametrize(
    "text", ["", "[1, 2", "just words", "version: 7", "version: 'a b'", "{version: x, at: 2026-01-01}"]
)
async def test_what_is_no_artefact_is_refused_as_a_field(operator: Operator, text: str) -> None:
    assert await reason_of(operator.call("CreateModelVersion", artefact=text)) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_an_artefact_that_refers_to_itself_is_refused_before_it_fills_the_memory(operator: Operator) -> None:
    lines = ["version: bomb", "a0: &a0 [1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    made = operator.call("CreateModelVersion", artefact="\n".join(lines))
    assert await reason_of(made) == ("INVALID_ARGUMENT", "FIELD_INVALID")
    assert await reason_of(operator.call("CreateModelVersion", artefact="{version: x, a: &b [*b]}")) == (
        "INVALID_ARGUMENT",
        "FIELD_INVALID",
    )


async def test_others_are_served_while_a_large_artefact_is_read(operator: Operator) -> None:
    text = f"version: large\na: [{'1,' * 60_000}1]"
    request = model_pb2.CreateModelVersionRequest(request_id=str(uuid.uuid4()), artefact=text)
    made = asyncio.ensure_future(operator.models.CreateModelVersion(request, timeout=60))
    # It has arrived by then, and takes seconds longer.
    await asyncio.sleep(0.3)
    assert (await operator.credit.Evaluate(NEWCOMER, timeout=60)).score == 620
    assert not made.done()
    await made


async def test_versions_are_listed_page_by_page_the_newest_first(operator: Operator) -> None:
    for number in range(3):
        await operator.call("CreateModelVersion", artefact=artefact(f"v{number}"))
    names, token = [], ""
    while True:
        request = model_pb2.ListModelVersionsRequest(page_size=2, page_token=token)
        page = await operator.models.ListModelVersions(request, timeout=5)
        names += [model.name for model in page.models]
        token = page.next_page_token
        if not token:
            break
    assert names == ["models/v2", "models/v1", "models/v0", f"models/{SHIPPED['version']}"]
    forged = [
        encode_token("models", position)
        for position in ("", "soon v1", "2026-01-01T00:00:00+00:00 v1\0", "0001-01-01T00:00:00+14:00 v1")
    ]
    for token in ("x", *forged):
        wrong = operator.models.ListModelVersions(model_pb2.ListModelVersionsRequest(page_token=token), timeout=5)
        assert await reason_of(wrong) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


async def test_a_drift_report_counts_who_trades_and_what_the_challenger_would_give_them(make_credit) -> None:
    credit = await make_credit(clock="test")
    operator = Operator(credit.channel_as("operator"))
    await known(operator)
    sellers = [f"subjects/seller-{number}" for number in range(8)]
    credit.streams.escrow.add(
        event for number, seller in enumerate(sellers) for event in good_trade(str(number), START, seller=seller).events
    )
    await credit.caught_up("escrow", 5 * len(sellers))
    advance = clock_pb2.AdvanceClockRequest()
    advance.to.FromDatetime(START.replace(day=20))
    await clock_pb2_grpc.ClockServiceStub(credit.channel_as("operator")).AdvanceClock(advance, timeout=5)
    await operator.validated("strict", base=601, cap=640)
    await operator.call("SetChallenger", name="models/strict")
    ask = model_pb2.GetDriftReportRequest(kind=credit_pb2.SUBJECT_KIND_MERCHANT)
    async with asyncio.timeout(15):
        while True:
            report = await operator.models.GetDriftReport(ask, timeout=10)
            if report.HasField("challenger"):
                break
            await asyncio.sleep(0.1)
    assert (report.subjects, report.model) == (len(sellers), f"models/{SHIPPED['version']}")
    assert sum(report.score.now) == pytest.approx(1)
    assert len(report.characteristics) == len(SHIPPED["scorecards"]["merchant"]["characteristics"])
    assert report.challenger.model == "models/strict"
    assert report.challenger.mean_difference < 0
    buyers = model_pb2.GetDriftReportRequest(kind=credit_pb2.SUBJECT_KIND_INDIVIDUAL)
    assert (await operator.models.GetDriftReport(buyers, timeout=10)).subjects == 1
    # Three months later nobody of them trades any more.
    advance.to.FromDatetime(START.replace(month=7))
    await clock_pb2_grpc.ClockServiceStub(credit.channel_as("operator")).AdvanceClock(advance, timeout=5)
    assert (await operator.models.GetDriftReport(ask, timeout=10)).subjects == 0


async def test_only_operators_and_the_gateway_reach_models(credit) -> None:
    for peer in ("escrow", "payments"):
        stub = model_pb2_grpc.ModelServiceStub(credit.channel_as(peer))
        call = stub.ListModelVersions(model_pb2.ListModelVersionsRequest(), timeout=5)
        assert await reason_of(call) == ("PERMISSION_DENIED", "PEER_NOT_ALLOWED")

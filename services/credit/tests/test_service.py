"""Credit as its callers see it: every RPC over mutual TLS on a real PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any

import grpc
import pytest
import yaml
from google.rpc import error_details_pb2, status_pb2

from danbao.credit.v1 import credit_pb2, credit_pb2_grpc
from danbao.testing.v1 import clock_pb2, clock_pb2_grpc
from danbao_credit.testing.stories import TradeStory, good_trade

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SELLER, BUYER = "subjects/seller", "subjects/buyer"
SHIPPED_VERSION = yaml.safe_load((resources.files("danbao_credit.definitions") / "model.yaml").read_text())["version"]


async def refusal(call: Any) -> tuple[str, str, list[str], dict[str, str]]:
    """Code, reason, fields and metadata of a call that must be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    error = raised.value
    details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    info, fields = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status_pb2.Status.FromString(details).details:
        detail.Unpack(info)
        detail.Unpack(fields)
    assert info.domain == "danbao"
    return error.code().name, info.reason, [item.field for item in fields.field_violations], dict(info.metadata)


def recent(hours: float) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


async def test_a_newcomer_is_a_c_with_the_default_terms(credit) -> None:
    stub = credit.stub()
    evaluation = await stub.Evaluate(credit_pb2.EvaluateRequest(subject="subjects/nobody"), timeout=5)
    assert (evaluation.score, evaluation.grade, evaluation.blocked) == (620, "C", False)
    assert evaluation.kind == credit_pb2.SUBJECT_KIND_INDIVIDUAL
    assert evaluation.model_version == SHIPPED_VERSION
    assert len(evaluation.catalogue_version) == 16
    assert len(evaluation.sub_scores) == 12
    assert evaluation.base_points + sum(s.points for s in evaluation.sub_scores) == evaluation.score

    terms = await stub.GetTerms(credit_pb2.GetTermsRequest(subject="subjects/nobody", currency="CNY"), timeout=5)
    assert terms == credit_pb2.TradeTerms(
        subject="subjects/nobody",
        currency="CNY",
        grade="C",
        score=620,
        fee_percent=100,
        auto_confirm_days=10,
        per_trade_limit_minor=2_000_000,
        payout_delay_hours=48,
        reserve_bps=500,
        model_version=SHIPPED_VERSION,
        terms_version="2026-12",
    )


async def test_events_move_both_parties(credit) -> None:
    stories = [good_trade(str(n), recent(500 + n), buyer=f"subjects/b{n}") for n in range(6)]
    late = TradeStory("late", at=recent(300)).paid(recent(300)).shipped(recent(200))
    credit.streams.escrow.add([event for story in [*stories, late] for event in story.events])
    status = await credit.caught_up("escrow", 33)
    assert (status.applied, status.duplicates, status.parked, status.connected) == (33, 0, 0, True)
    assert abs(status.last_event_time.ToDatetime(UTC).timestamp() - recent(200).timestamp()) < 60

    stub = credit.stub()
    seller = await stub.Evaluate(credit_pb2.EvaluateRequest(subject=SELLER, purpose="checkout"), timeout=5)
    assert seller.kind == credit_pb2.SUBJECT_KIND_MERCHANT
    assert (seller.escrow_sequence, seller.payments_sequence) == (33, 0)
    assert seller.confidence_permille == 6000 // 26
    points = sum(item.points for item in seller.sub_scores) + sum(item.points for item in seller.adjustments)
    assert seller.base_points + points == seller.score
    assert "1 of 7 orders shipped late in the last 365 days" in [reason.text for reason in seller.reasons]
    as_buyer = await stub.Evaluate(
        credit_pb2.EvaluateRequest(subject=SELLER, kind=credit_pb2.SUBJECT_KIND_INDIVIDUAL), timeout=5
    )
    assert (as_buyer.score, as_buyer.kind) == (620, credit_pb2.SUBJECT_KIND_INDIVIDUAL)
    buyer = await stub.Evaluate(credit_pb2.EvaluateRequest(subject="subjects/b0"), timeout=5)
    assert buyer.kind == credit_pb2.SUBJECT_KIND_INDIVIDUAL
    assert buyer.score > 620


async def test_indicators_and_their_values(credit) -> None:
    stub = credit.stub()
    catalogue = await stub.ListIndicators(credit_pb2.ListIndicatorsRequest(), timeout=5)
    names = [indicator.name for indicator in catalogue.indicators]
    assert len(names) == len(set(names)) > 150
    assert len({indicator.category for indicator in catalogue.indicators}) == 12
    late = next(item for item in catalogue.indicators if item.name == "late_shipment_rate_30d")
    assert late == credit_pb2.Indicator(
        name="late_shipment_rate_30d",
        category="fulfilment",
        formula="seller_orders_late / max(seller_orders_shipped, seller_orders_late)",
        window="30d",
        unit="ratio",
        better="low",
        reason_code="LATE_SHIPMENT",
        applies_to="merchant",
        description="share of orders shipped late in the last 30 days",
    )
    merchants = await stub.ListIndicators(
        credit_pb2.ListIndicatorsRequest(category="fulfilment", kind=credit_pb2.SUBJECT_KIND_MERCHANT), timeout=5
    )
    assert {item.category for item in merchants.indicators} == {"fulfilment"}
    assert {item.applies_to for item in merchants.indicators} <= {"merchant", "both"}

    story = TradeStory(at=recent(200)).paid(recent(199)).shipped(recent(100))
    credit.streams.escrow.add([*good_trade("1", recent(300)).events, *story.events])
    await credit.caught_up("escrow", 8)
    answer = await stub.ListIndicatorValues(credit_pb2.ListIndicatorValuesRequest(subject=SELLER), timeout=5)
    values = {item.name: item.value for item in answer.values}
    assert values["late_shipment_rate_30d"] == 0.5
    assert values["orders_paid_30d"] == 2
    assert values["orders_paid_24h"] == 0
    assert values["top_buyer_share_life"] == 1.0
    assert "cancellation_rate_90d" in values
    assert "late_shipment_rate_7d" in values
    assert "dispute_loss_rate_life" not in values, "a zero denominator is missing, not 0"
    nobody = await stub.ListIndicatorValues(credit_pb2.ListIndicatorValuesRequest(subject="subjects/nobody"), timeout=5)
    assert not any(item.name.endswith("rate_30d") for item in nobody.values)


async def test_terms_of_many_in_order(credit) -> None:
    wanted = [
        credit_pb2.GetTermsRequest(subject=f"subjects/{n}", currency=code, counterparty=BUYER)
        for n, code in enumerate(("CNY", "BRL", "USD", "EUR") * 250)
    ]
    answer = await credit.stub().BatchGetTerms(credit_pb2.BatchGetTermsRequest(requests=wanted), timeout=10)
    assert [(t.subject, t.currency) for t in answer.terms] == [(w.subject, w.currency) for w in wanted]
    limits = {t.currency: t.per_trade_limit_minor for t in answer.terms}
    assert limits == {"CNY": 2_000_000, "BRL": 1_600_000, "USD": 280_000, "EUR": 260_000}
    assert not any(t.blocked or t.counterparty_blocked for t in answer.terms)


Request = credit_pb2.GetTermsRequest


@pytest.mark.parametrize(
    ("method", "request_", "code", "reason", "field"),
    [
        ("Evaluate", credit_pb2.EvaluateRequest(), "INVALID_ARGUMENT", "FIELD_INVALID", "subject"),
        ("Evaluate", credit_pb2.EvaluateRequest(subject="seller"), "INVALID_ARGUMENT", "FIELD_INVALID", "subject"),
        ("Evaluate", credit_pb2.EvaluateRequest(subject=SELLER, kind=9), "INVALID_ARGUMENT", "FIELD_INVALID", "kind"),
        (
            "Evaluate",
            credit_pb2.EvaluateRequest(subject=SELLER, purpose="x" * 65),
            "INVALID_ARGUMENT",
            "FIELD_INVALID",
            "purpose",
        ),
        ("GetTerms", Request(currency="CNY"), "INVALID_ARGUMENT", "FIELD_INVALID", "subject"),
        ("GetTerms", Request(subject=SELLER), "INVALID_ARGUMENT", "FIELD_INVALID", "currency"),
        ("GetTerms", Request(subject=SELLER, currency="XXQ"), "INVALID_ARGUMENT", "CURRENCY_UNKNOWN", "currency"),
        ("GetTerms", Request(subject=SELLER, currency="cny"), "INVALID_ARGUMENT", "CURRENCY_UNKNOWN", "currency"),
        (
            "GetTerms",
            Request(subject=SELLER, currency="JPY"),
            "FAILED_PRECONDITION",
            "CURRENCY_WITHOUT_TERMS",
            "currency",
        ),
        (
            "GetTerms",
            Request(subject=SELLER, currency="CNY", counterparty="x"),
            "INVALID_ARGUMENT",
            "FIELD_INVALID",
            "counterparty",
        ),
        ("BatchGetTerms", credit_pb2.BatchGetTermsRequest(), "INVALID_ARGUMENT", "FIELD_INVALID", "requests"),
        (
            "BatchGetTerms",
            credit_pb2.BatchGetTermsRequest(requests=[Request(subject=SELLER, currency="CNY")] * 1001),
            "INVALID_ARGUMENT",
            "FIELD_INVALID",
            "requests",
        ),
        (
            "BatchGetTerms",
            credit_pb2.BatchGetTermsRequest(
                requests=[Request(subject=SELLER, currency="JPY"), Request(subject=SELLER, currency="QQQ")]
            ),
            "INVALID_ARGUMENT",
            "CURRENCY_UNKNOWN",
            "requests[1].currency",
        ),
        (
            "BatchGetTerms",
            credit_pb2.BatchGetTermsRequest(
                requests=[Request(subject=SELLER, currency="CNY"), Request(subject=SELLER, currency="JPY")]
            ),
            "FAILED_PRECONDITION",
            "CURRENCY_WITHOUT_TERMS",
            "requests[1].currency",
        ),
        (
            "BatchGetTerms",
            credit_pb2.BatchGetTermsRequest(requests=[Request(subject=SELLER, currency="CNY"), Request(subject="x")]),
            "INVALID_ARGUMENT",
            "FIELD_INVALID",
            "requests[1].subject",
        ),
        (
            "ListIndicators",
            credit_pb2.ListIndicatorsRequest(category="luck"),
            "INVALID_ARGUMENT",
            "FIELD_INVALID",
            "category",
        ),
        ("ListIndicators", credit_pb2.ListIndicatorsRequest(kind=7), "INVALID_ARGUMENT", "FIELD_INVALID", "kind"),
        (
            "ListIndicatorValues",
            credit_pb2.ListIndicatorValuesRequest(subject="subjects/"),
            "INVALID_ARGUMENT",
            "FIELD_INVALID",
            "subject",
        ),
    ],
)
async def test_bad_input_is_refused_with_its_reason_and_field(
    shared_credit, method: str, request_: Any, code: str, reason: str, field: str
) -> None:
    refused = await refusal(getattr(shared_credit.stub(), method)(request_, timeout=5))
    assert refused[:2] == (code, reason)
    assert field in refused[2]


@pytest.mark.parametrize("method", [m.name for m in credit_pb2.DESCRIPTOR.services_by_name["CreditService"].methods])
async def test_bytes_that_are_no_message_are_refused(shared_credit, method: str) -> None:
    call = shared_credit.channel.unary_unary(
        f"/danbao.credit.v1.CreditService/{method}",
        request_serializer=lambda data: data,
        response_deserializer=lambda data: data,
    )
    assert (await refusal(call(b"\xff\xff\xff\x01garbage", timeout=5)))[:2] == ("INVALID_ARGUMENT", "MESSAGE_MALFORMED")


@pytest.mark.parametrize(
    ("peer", "method", "allowed"),
    [
        ("escrow", "GetTerms", True),
        ("escrow", "GetIngestStatus", False),
        ("payments", "GetTerms", False),
        ("operator", "GetIngestStatus", True),
    ],
)
async def test_a_peer_may_call_what_the_table_says(shared_credit, peer: str, method: str, allowed: bool) -> None:
    requests = {
        "GetTerms": Request(subject=SELLER, currency="CNY"),
        "GetIngestStatus": credit_pb2.GetIngestStatusRequest(),
    }
    call = getattr(shared_credit.stub(peer), method)(requests[method], timeout=5)
    if allowed:
        await call
    else:
        assert (await refusal(call))[:2] == ("PERMISSION_DENIED", "PEER_NOT_ALLOWED")


async def test_on_the_test_clock_windows_move_with_business_time(make_credit) -> None:
    credit = await make_credit(clock="test")
    start = datetime(2026, 1, 1, 10, 15, tzinfo=UTC)
    clock = clock_pb2_grpc.ClockServiceStub(credit.channel_as("operator"))
    credit.streams.escrow.add(TradeStory(at=start).paid(start).events)
    await credit.caught_up("escrow", 2)

    async def paid_in_24h(at: datetime) -> float:
        request = clock_pb2.AdvanceClockRequest()
        request.to.FromDatetime(at)
        await clock.AdvanceClock(request, timeout=5)
        answer = await credit.stub().ListIndicatorValues(
            credit_pb2.ListIndicatorValuesRequest(subject=SELLER), timeout=5
        )
        assert answer.as_of.ToDatetime(UTC) == at
        return next(item.value for item in answer.values if item.name == "orders_paid_24h")

    assert await paid_in_24h(datetime(2026, 1, 2, 9, 59, 59, tzinfo=UTC)) == 1
    assert await paid_in_24h(datetime(2026, 1, 2, 10, 0, 0, tzinfo=UTC)) == 0


def test_the_stub_has_every_method_the_servicer_serves() -> None:
    from danbao_credit.rpc.credit import CreditServicer

    for method in credit_pb2.DESCRIPTOR.services_by_name["CreditService"].methods:
        served = getattr(CreditServicer, method.name)
        assert served is not getattr(credit_pb2_grpc.CreditServiceServicer, method.name), method.name


def test_the_command_line_migrates_twice_serves_and_ends_on_sigterm(service_database, authority) -> None:
    database = service_database("credit")
    files = authority.issue("credit")
    environment = os.environ | {
        "DANBAO_MIGRATION_DSN": database.owner_dsn,
        "DANBAO_DATABASE_ROLE": database.role,
        "DANBAO_DATABASE_DSN": database.dsn,
        "DANBAO_TLS_CERT": str(files.cert),
        "DANBAO_TLS_KEY": str(files.key),
        "DANBAO_TLS_CA": str(files.ca),
        "DANBAO_PAYMENTS_ADDRESS": "127.0.0.1:1",
        "DANBAO_ESCROW_ADDRESS": "127.0.0.1:1",
        "DANBAO_DRAIN_SECONDS": "1",
    }
    command = [sys.executable, "-m", "danbao_credit"]
    for _ in range(2):
        subprocess.run([*command, "migrate"], env=environment, check=True, timeout=60)
    with subprocess.Popen([*command, "serve"], env=environment, stderr=subprocess.PIPE) as service:
        assert service.stderr is not None
        # Without its peers it serves what it knows.
        assert any(b'"ready"' in line for line in service.stderr)
        service.send_signal(signal.SIGTERM)
        assert service.wait(20) == 0

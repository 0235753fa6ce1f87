"""A service's border: who may call, what is refused before a servicer sees it, what a caller is told."""

import asyncio
import gc
import time

import grpc
import pytest
from google.protobuf import timestamp_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from danbao.payments.v1 import payment_pb2, payment_pb2_grpc, reconciliation_pb2, reconciliation_pb2_grpc
from danbao.testing.v1 import clock_pb2, clock_pb2_grpc
from danbao_kit.business_clock import ClockMixed, ClockServicer, open_clock
from danbao_kit.call import Call, current_call
from danbao_kit.database import Database
from danbao_kit.errors import DeadlineExceeded, FieldInvalid
from danbao_kit.group_commit import Outcome
from danbao_kit.interceptors import PeerTable, ServiceInterceptor
from danbao_kit.server import Server
from danbao_kit.settings import ServiceSettings
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.service import as_caller, channel_as, settings_for
from danbao_kit.validation import check

PAYMENTS = "danbao.payments.v1.PaymentService"
RECONCILIATIONS = "danbao.payments.v1.ReconciliationService"
NAME = "payments/00000000-0000-0000-0000-000000000000"


class Probe(payment_pb2_grpc.PaymentServiceServicer):
    """Answers what the test tells it to."""

    def __init__(self):
        self.calls = []
        self.release = asyncio.Event()

    async def GetPayment(self, request, context):
        self.calls.append(current_call())
        return payment_pb2.Payment(name=request.name)

    async def VoidPayment(self, request, context):
        self.calls.append(current_call())
        if request.request_id == "wait":
            await self.release.wait()
        if request.request_id == "refused":
            outcome = Outcome(error=DeadlineExceeded())
            raise outcome.error
        if request.request_id == "bug":
            raise RuntimeError("postgresql://user:password@host")
        return payment_pb2.Payment(name=request.name)


class Listener(reconciliation_pb2_grpc.ReconciliationServiceServicer):
    """Counts what a client's stream brings it."""

    def __init__(self):
        self.heard = []

    async def ImportStatement(self, request_iterator, context):
        async for part in request_iterator:
            self.heard.append(part)
        return reconciliation_pb2.Reconciliation(lines=len(self.heard), source=current_call().peer)


@pytest.fixture
async def listener():
    return Listener()


@pytest.fixture
async def authority(tmp_path):
    return CertificateAuthority(tmp_path)


@pytest.fixture
async def probe():
    return Probe()


@pytest.fixture
async def ready():
    return {"ready": True}


@pytest.fixture
async def server(jar_database, authority, probe, listener, ready):
    settings = settings_for(
        ServiceSettings,
        name="payments",
        database=jar_database,
        authority=authority,
        max_concurrent_rpcs=2,
        clock="test",
    )

    async def is_ready():
        return ready["ready"]

    database = Database(jar_database.dsn)
    server = Server(
        settings,
        name="payments",
        peers={
            "gateway": (PAYMENTS, RECONCILIATIONS),
            "escrow": (f"{PAYMENTS}/GetPayment",),
            "operator": ("danbao.testing.v1.ClockService",),
        },
        ready=is_ready,
    )
    server.add(payment_pb2_grpc.add_PaymentServiceServicer_to_server, probe, PAYMENTS)
    server.add(reconciliation_pb2_grpc.add_ReconciliationServiceServicer_to_server, listener, RECONCILIATIONS)
    clock = await open_clock("test", database)
    server.add_clock(ClockServicer(clock, database))
    await server.start()
    yield server
    probe.release.set()
    await server.stop()
    await database.close()


@pytest.fixture
async def gateway(server, authority):
    async with channel_as("gateway", authority=authority, service="payments", port=server.port) as channel:
        yield channel


def reason(error):
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    assert info.domain == "danbao"
                    return info.reason
    return None


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, reason(caught.value), caught.value.details()


async def test_the_gateways_word_on_the_caller_is_believed(gateway, probe):
    stub = payment_pb2_grpc.PaymentServiceStub(gateway)
    await stub.GetPayment(
        payment_pb2.GetPaymentRequest(name=NAME), metadata=as_caller(subject="s", roles="user,partner", partner="p")
    )
    call = probe.calls[0]
    assert (call.peer, call.subject, call.roles, call.partner) == ("gateway", "s", {"user", "partner"}, "p")
    assert call.request_caller == "partner:p"


@pytest.mark.parametrize("further", ["operator", "arbiter", "rail", "auditor"])
def test_what_was_answered_to_more_than_a_partner_is_not_the_partner_s_to_ask_again(further):
    """By the same request id the partner would read what only the other may see."""
    shop, user, more = (
        Call("m", "gateway", subject="clerk", roles=frozenset(roles), partner="shop").request_caller
        for roles in ({"partner"}, {"user"}, {"partner", "user", further})
    )
    assert (shop, user, more) == ("partner:shop", "subject:clerk", "further:clerk")


async def test_identity_headers_of_another_peer_are_ignored(server, authority, probe):
    async with channel_as("escrow", authority=authority, service="payments", port=server.port) as channel:
        said = (*as_caller(subject="root", roles="operator", partner="p"), ("danbao-why", "because"))
        await payment_pb2_grpc.PaymentServiceStub(channel).GetPayment(
            payment_pb2.GetPaymentRequest(name=NAME), metadata=said, timeout=5
        )
    call = probe.calls[0]
    assert (call.peer, call.subject, call.roles, call.partner, call.why) == ("escrow", "", frozenset(), "", "")
    assert call.request_caller == "peer:escrow"
    assert not call.is_privileged


async def test_a_peer_may_call_its_methods_and_no_other_of_the_same_service(server, authority, probe):
    async with channel_as("escrow", authority=authority, service="payments", port=server.port) as channel:
        stub = payment_pb2_grpc.PaymentServiceStub(channel)
        request = payment_pb2.VoidPaymentRequest(request_id="1", name=NAME)
        assert (await refusal(stub.VoidPayment(request, timeout=5)))[:2] == ("PERMISSION_DENIED", "PEER_NOT_ALLOWED")
    assert probe.calls == []


async def test_a_peer_that_is_not_in_the_table_is_refused(server, authority, probe):
    async with channel_as("credit", authority=authority, service="payments", port=server.port) as channel:
        stub = payment_pb2_grpc.PaymentServiceStub(channel)
        code, why, _ = await refusal(stub.GetPayment(payment_pb2.GetPaymentRequest(name=NAME)))
    assert (code, why) == ("PERMISSION_DENIED", "PEER_NOT_ALLOWED")
    assert probe.calls == []


async def test_a_caller_without_a_certificate_never_reaches_a_handler(server, authority, probe):
    credentials = grpc.ssl_channel_credentials(root_certificates=authority.ca_path.read_bytes())
    options = [("grpc.ssl_target_name_override", "payments.danbao.internal")]
    async with grpc.aio.secure_channel(f"127.0.0.1:{server.port}", credentials, options=options) as channel:
        stub = payment_pb2_grpc.PaymentServiceStub(channel)
        code, _, _ = await refusal(stub.GetPayment(payment_pb2.GetPaymentRequest(name=NAME), timeout=3))
    assert code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert probe.calls == []


async def test_bytes_that_are_no_message_are_named_so(gateway, probe):
    call = gateway.unary_unary(f"/{PAYMENTS}/GetPayment")(b"\xff\xff\xff")
    code, why, _ = await refusal(call)
    assert (code, why) == ("INVALID_ARGUMENT", "MESSAGE_MALFORMED")
    assert probe.calls == []


async def test_a_broken_rule_of_the_contract_names_its_field(gateway, probe):
    stub = payment_pb2_grpc.PaymentServiceStub(gateway)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.VoidPayment(payment_pb2.VoidPaymentRequest(name="payments/x"), timeout=2)
    assert reason(caught.value) == "FIELD_INVALID"
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    assert {violation.field for violation in bad.field_violations} == {"request_id", "name"}
    assert probe.calls == []


async def test_a_text_that_no_store_takes_is_refused(gateway, probe):
    stub = payment_pb2_grpc.PaymentServiceStub(gateway)
    request = payment_pb2.VoidPaymentRequest(request_id="a\0b", name=NAME)
    assert (await refusal(stub.VoidPayment(request, timeout=2)))[:2] == ("INVALID_ARGUMENT", "FIELD_INVALID")
    creating = payment_pb2.CreateTopUpRequest(
        request_id="1", owner="subjects/a", amount={"currency": "CNY", "amount_minor": 1}, rail="rails/simulated"
    )
    creating.metadata["note"] = "a\0"
    with pytest.raises(FieldInvalid) as refused:
        check(creating)
    assert refused.value.fields[0].field == "metadata"
    check(payment_pb2.BatchExecuteRequest(operations=[{"void_payment": request}]))


async def test_a_mutation_needs_a_deadline_and_a_read_does_not(gateway):
    stub = payment_pb2_grpc.PaymentServiceStub(gateway)
    code, why, _ = await refusal(stub.VoidPayment(payment_pb2.VoidPaymentRequest(request_id="1", name=NAME)))
    assert (code, why) == ("INVALID_ARGUMENT", "DEADLINE_REQUIRED")
    assert (await stub.GetPayment(payment_pb2.GetPaymentRequest(name=NAME))).name == NAME


LINE = {"external_id": "1", "direction": "RAIL_DIRECTION_IN", "amount_minor": 1, "booking_date": "2026-01-01"}
PART = reconciliation_pb2.ImportStatementRequest(lines={"lines": [LINE]})


def stream_of(*parts):
    async def send():
        for part in parts:
            yield part

    return send()


async def test_a_client_s_stream_is_served_like_any_call(gateway, listener):
    stub = reconciliation_pb2_grpc.ReconciliationServiceStub(gateway)
    answer = await stub.ImportStatement(stream_of(PART, PART), timeout=5)
    assert (answer.lines, answer.source) == (2, "gateway")


async def test_each_message_of_a_client_s_stream_keeps_its_contract(gateway, listener):
    stub = reconciliation_pb2_grpc.ReconciliationServiceStub(gateway)
    empty = reconciliation_pb2.ImportStatementRequest()
    code, why, _ = await refusal(stub.ImportStatement(stream_of(PART, empty), timeout=5))
    assert (code, why, len(listener.heard)) == ("INVALID_ARGUMENT", "FIELD_INVALID", 1)
    raw = gateway.stream_unary(f"/{RECONCILIATIONS}/ImportStatement")
    code, why, _ = await refusal(raw(stream_of(PART.SerializeToString(), b"\xff\xff\xff"), timeout=5))
    assert (code, why, len(listener.heard)) == ("INVALID_ARGUMENT", "MESSAGE_MALFORMED", 2)


async def test_a_client_s_stream_needs_a_deadline_and_a_peer_that_may(server, gateway, authority, listener):
    stub = reconciliation_pb2_grpc.ReconciliationServiceStub(gateway)
    code, why, _ = await refusal(stub.ImportStatement(stream_of(PART)))
    assert (code, why) == ("INVALID_ARGUMENT", "DEADLINE_REQUIRED")
    async with channel_as("escrow", authority=authority, service="payments", port=server.port) as channel:
        stub = reconciliation_pb2_grpc.ReconciliationServiceStub(channel)
        code, why, _ = await refusal(stub.ImportStatement(stream_of(PART), timeout=5))
    assert (code, why) == ("PERMISSION_DENIED", "PEER_NOT_ALLOWED")
    assert listener.heard == []


async def test_a_stream_both_ways_is_not_served():
    """Nothing of ours would look at who calls it."""
    interceptor = ServiceInterceptor(PeerTable({}), mutations=frozenset(), max_concurrent=1, max_streams=1)

    async def chat(requests, context):
        yield b""

    async def found(details):
        return grpc.stream_stream_rpc_method_handler(chat)

    class Details:
        method = f"/{PAYMENTS}/Chat"

    with pytest.raises(TypeError, match="not served"):
        await interceptor.intercept_service(found, Details())


async def test_a_bug_is_told_without_its_text(gateway):
    stub = payment_pb2_grpc.PaymentServiceStub(gateway)
    code, why, text = await refusal(
        stub.VoidPayment(payment_pb2.VoidPaymentRequest(request_id="bug", name=NAME), timeout=2)
    )
    assert (code, why) == ("INTERNAL", "INTERNAL")
    assert "password" not in text


async def test_a_method_nobody_serves_is_unimplemented(gateway):
    code, _, _ = await refusal(gateway.unary_unary(f"/{PAYMENTS}/NoSuchMethod")(b""))
    assert code == "UNIMPLEMENTED"


async def test_calls_beyond_the_limit_are_refused_at_once(gateway, probe):
    stub = payment_pb2_grpc.PaymentServiceStub(gateway)
    waiting = [
        asyncio.ensure_future(stub.VoidPayment(payment_pb2.VoidPaymentRequest(request_id="wait", name=NAME), timeout=5))
        for _ in range(2)
    ]
    while len(probe.calls) < 2:
        await asyncio.sleep(0.01)
    code, why, _ = await refusal(stub.GetPayment(payment_pb2.GetPaymentRequest(name=NAME)))
    assert (code, why) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    probe.release.set()
    await asyncio.gather(*waiting)
    assert (await stub.GetPayment(payment_pb2.GetPaymentRequest(name=NAME))).name == NAME


async def test_health_follows_readiness(gateway, ready):
    health = health_pb2_grpc.HealthStub(gateway)

    async def becomes(status):
        async with asyncio.timeout(5):
            while (await health.Check(health_pb2.HealthCheckRequest(service=PAYMENTS))).status != status:
                await asyncio.sleep(0.05)

    await becomes(health_pb2.HealthCheckResponse.SERVING)
    ready["ready"] = False
    await becomes(health_pb2.HealthCheckResponse.NOT_SERVING)


async def test_draining_lets_calls_under_way_finish(server, gateway, probe):
    stub = payment_pb2_grpc.PaymentServiceStub(gateway)
    waiting = asyncio.ensure_future(
        stub.VoidPayment(payment_pb2.VoidPaymentRequest(request_id="wait", name=NAME), timeout=5)
    )
    while not probe.calls:
        await asyncio.sleep(0.01)
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0.2)
    probe.release.set()
    assert (await waiting).name == NAME
    await stopping


async def test_the_test_clock_moves_forward_only_and_survives_a_restart(server, authority, jar_database):
    async with channel_as("operator", authority=authority, service="payments", port=server.port) as channel:
        stub = clock_pb2_grpc.ClockServiceStub(channel)
        later = timestamp_pb2.Timestamp(seconds=1_500_000_000)
        assert (await stub.AdvanceClock(clock_pb2.AdvanceClockRequest(to=later))).now == later
        earlier = timestamp_pb2.Timestamp(seconds=1_400_000_000)
        assert (await stub.AdvanceClock(clock_pb2.AdvanceClockRequest(to=earlier))).now == later
    database = Database(jar_database.dsn)
    assert (await open_clock("test", database)).now().timestamp() == 1_500_000_000
    with pytest.raises(ClockMixed):
        await open_clock("real", database)
    await database.close()


async def test_a_deadline_is_read_from_the_call(gateway, probe):
    stub = payment_pb2_grpc.PaymentServiceStub(gateway)
    await stub.GetPayment(payment_pb2.GetPaymentRequest(name=NAME), timeout=7)
    assert 5 < probe.calls[0].deadline - time.monotonic() < 7.1


@pytest.mark.parametrize("request_id", ["refused", "bug", ""])
async def test_what_a_refused_call_has_sent_is_freed_without_the_collector(gateway, probe, request_id):
    stub = payment_pb2_grpc.PaymentServiceStub(gateway)
    gc.collect()
    # Other tests of this process may have left some.
    before = {id(call): call for call in gc.get_objects() if isinstance(call, Call)}
    gc.disable()
    try:
        await refusal(stub.VoidPayment(payment_pb2.VoidPaymentRequest(request_id=request_id, name=NAME), timeout=2))
        probe.calls.clear()
        async with asyncio.timeout(5):
            while any(
                isinstance(each, Call) and each.method.endswith("/VoidPayment") and id(each) not in before
                for each in gc.get_objects()
            ):
                await asyncio.sleep(0.01)
    finally:
        gc.enable()

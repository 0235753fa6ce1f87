"""How much a service takes: of a message, of metadata, of streams by one caller."""

import asyncio

import grpc
import pytest

from danbao.payments.v1 import event_pb2, event_pb2_grpc
from danbao_kit.rpc_status import DETAILS_KEY, reason_of, status_pb2
from danbao_kit.server import Server
from danbao_kit.settings import ServiceSettings
from danbao_kit.testing.certificates import CertificateAuthority
from danbao_kit.testing.service import as_caller, channel_as, settings_for

EVENTS = event_pb2.DESCRIPTOR.services_by_name["EventService"].full_name
MEBIBYTE = 1024 * 1024


class Stream(event_pb2_grpc.EventServiceServicer):
    """Answers once, then stays open."""

    def __init__(self):
        self.heads = 0

    async def GetStreamHead(self, request, context):
        self.heads += 1
        return event_pb2.StreamHead()

    async def WatchEvents(self, request, context):
        yield event_pb2.WatchEventsResponse()
        await asyncio.Event().wait()


@pytest.fixture
async def authority(tmp_path):
    return CertificateAuthority(tmp_path)


@pytest.fixture
async def stream():
    return Stream()


@pytest.fixture
async def server(jar_database, authority, stream):
    settings = settings_for(
        ServiceSettings, name="payments", database=jar_database, authority=authority, max_streams_per_caller=2
    )

    async def is_ready():
        return True

    server = Server(settings, name="payments", peers={"gateway": (EVENTS,), "credit": (EVENTS,)}, ready=is_ready)
    server.add(event_pb2_grpc.add_EventServiceServicer_to_server, stream, EVENTS)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def gateway(server, authority):
    async with channel_as("gateway", authority=authority, service="payments", port=server.port) as channel:
        yield channel


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    details = dict(caught.value.trailing_metadata() or ()).get(DETAILS_KEY)
    return caught.value.code().name, reason_of(status_pb2.Status.FromString(details))[0] if details else ""


async def test_a_message_above_four_mebibytes_never_reaches_a_servicer(gateway, stream):
    # The method's own serializer aside: bytes as long as we like, of a field that nobody knows.
    head = gateway.unary_unary(f"/{EVENTS}/GetStreamHead")
    assert (await refusal(head(b"\xfa\x7f\x80\x80\x80\x02" + bytes(4 * MEBIBYTE), timeout=5)))[
        0
    ] == "RESOURCE_EXHAUSTED"
    assert stream.heads == 0
    await head(b"\xfa\x7f\x80\x80\x40" + bytes(MEBIBYTE), timeout=5)
    assert stream.heads == 1


async def test_metadata_above_its_limit_never_reaches_a_servicer(gateway, stream):
    stub = event_pb2_grpc.EventServiceStub(gateway)
    request = event_pb2.GetStreamHeadRequest()
    code, _ = await refusal(stub.GetStreamHead(request, timeout=5, metadata=(("x-note", 40 * 1024 * "a"),)))
    assert (code, stream.heads) == ("RESOURCE_EXHAUSTED", 0)
    await stub.GetStreamHead(request, timeout=5, metadata=(("x-note", 8 * 1024 * "a"),))
    assert stream.heads == 1


async def test_a_caller_has_only_so_many_streams_open_and_others_have_their_own(server, gateway, authority):
    stub = event_pb2_grpc.EventServiceStub(gateway)

    def watch(**caller):
        return stub.WatchEvents(event_pb2.WatchEventsRequest(), timeout=30, metadata=as_caller(**caller))

    async def is_open(call):
        return await call.read() == event_pb2.WatchEventsResponse()

    first, second = watch(subject="a", roles="operator"), watch(subject="a", roles="operator")
    assert await is_open(first)
    assert await is_open(second)
    assert await refusal(watch(subject="a", roles="operator").read()) == ("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS")
    other = watch(subject="b", roles="operator")
    assert await is_open(other)
    async with channel_as("credit", authority=authority, service="payments", port=server.port) as channel:
        peer = event_pb2_grpc.EventServiceStub(channel).WatchEvents(event_pb2.WatchEventsRequest(), timeout=30)
        assert await is_open(peer)
        peer.cancel()
    first.cancel()
    async with asyncio.timeout(5):
        while True:
            again = watch(subject="a", roles="operator")
            try:
                assert await is_open(again)
                break
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                await asyncio.sleep(0.02)
    for call in (second, other, again):
        call.cancel()

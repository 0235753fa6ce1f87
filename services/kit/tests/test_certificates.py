"""Certificates are replaced while calls run: what is shown, whom is trusted, and what becomes of calls under way."""

import asyncio
import os
import shutil
import ssl
from contextlib import asynccontextmanager

import grpc
import pytest
from cryptography import x509

from danbao.payments.v1 import event_pb2, event_pb2_grpc, payment_pb2, payment_pb2_grpc
from danbao_kit import identity_files
from danbao_kit.event_reader import EventReader
from danbao_kit.identity_files import IdentityFiles
from danbao_kit.rpc_client import channel
from danbao_kit.server import Server
from danbao_kit.settings import ServiceSettings
from danbao_kit.testing.certificates import DOMAIN, CertificateAuthority, CertificateFiles

PAYMENTS = "danbao.payments.v1.PaymentService"
EVENTS = "danbao.payments.v1.EventService"
NAME = "payments/00000000-0000-0000-0000-000000000000"


@pytest.fixture(autouse=True)
def looked_at_by_every_call(monkeypatch):
    monkeypatch.setattr(identity_files, "_LOOK_EVERY_S", 0.0)


class Peers(payment_pb2_grpc.PaymentServiceServicer, event_pb2_grpc.EventServiceServicer):
    """Notes whose certificate each call came by."""

    def __init__(self):
        self.serials = []
        self.connections = []
        self.release = asyncio.Event()

    async def GetPayment(self, request, context):
        pem = context.auth_context()["x509_pem_cert"][0]
        self.serials.append(x509.load_pem_x509_certificate(pem).serial_number)
        if context.peer() not in self.connections:
            self.connections.append(context.peer())
        return payment_pb2.Payment(name=request.name)

    async def VoidPayment(self, request, context):
        self.serials.append(0)
        await self.release.wait()
        return payment_pb2.Payment(name=request.name)

    async def WatchEvents(self, request, context):
        yield event_pb2.WatchEventsResponse()
        await self.release.wait()
        yield event_pb2.WatchEventsResponse()


class Place:
    """A folder per peer, as certificates are mounted, and the authorities that fill it."""

    def __init__(self, root):
        self._root = root
        self.old, self.new = CertificateAuthority(root / "old"), CertificateAuthority(root / "new")
        for peer in ("payments", "escrow"):
            (root / peer).mkdir()
            self.renew(peer, self.old)
            self.trust(peer, self.old)

    def files(self, peer):
        folder = self._root / peer
        return CertificateFiles(ca=folder / "ca.pem", cert=folder / "tls.pem", key=folder / "tls.key")

    def renew(self, peer, authority, *, key_too=True):
        """By renames, as a renewal does it: the certificate first. Gives its serial."""
        work = self._root / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(authority.ca_path.parent, work)
        for made in work.glob("tls.*"):
            made.unlink()
        issued = CertificateAuthority(work).issue_for([f"{peer}.{DOMAIN}"], file_name="tls")
        serial = x509.load_pem_x509_certificate(issued.cert.read_bytes()).serial_number
        os.replace(issued.cert, self.files(peer).cert)
        if key_too:
            os.replace(issued.key, self.files(peer).key)
        return serial

    def trust(self, peer, *authorities):
        bundle = b"".join(each.ca_path.read_bytes() for each in authorities)
        new = self._root / f"{peer}.bundle"
        new.write_bytes(bundle)
        os.replace(new, self.files(peer).ca)


@pytest.fixture
async def place(tmp_path):
    return Place(tmp_path)


@asynccontextmanager
async def serving(place, peers, **more):
    files = place.files("payments")
    settings = ServiceSettings(
        listen="127.0.0.1:0", database_dsn="", tls_cert=files.cert, tls_key=files.key, tls_ca=files.ca, **more
    )

    async def ready():
        return True

    server = Server(settings, name="payments", peers={"escrow": (PAYMENTS, EVENTS)}, ready=ready)
    server.add(payment_pb2_grpc.add_PaymentServiceServicer_to_server, peers, PAYMENTS)
    server.add(event_pb2_grpc.add_EventServiceServicer_to_server, peers, EVENTS)
    await server.start()
    try:
        yield server
    finally:
        peers.release.set()
        await server.stop()


@pytest.fixture
async def peers():
    return Peers()


@pytest.fixture
async def server(place, peers):
    async with serving(place, peers) as started:
        yield started


def channel_of(place, server):
    files = place.files("escrow")
    return channel(
        f"127.0.0.1:{server.port}", service="payments", tls_cert=files.cert, tls_key=files.key, tls_ca=files.ca
    )


async def ask(opened):
    request = payment_pb2.GetPaymentRequest(name=NAME)
    return await payment_pb2_grpc.PaymentServiceStub(opened).GetPayment(request, timeout=5)


async def refused(opened):
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await ask(opened)
    return failure.value.code()


def shown(place, server):
    """The serial of the certificate that the server shows to a new connection."""
    files = place.files("escrow")
    context = ssl.create_default_context(cafile=files.ca)
    context.load_cert_chain(files.cert, files.key)
    context.set_alpn_protocols(["h2"])

    async def connect():
        _, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=context, server_hostname=f"payments.{DOMAIN}"
        )
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(der).serial_number

    return connect()


async def test_a_new_connection_is_shown_the_new_certificate_and_an_old_one_goes_on(place, server, peers):
    async with channel_of(place, server) as opened:
        await ask(opened)
        before = await shown(place, server)
        serial = place.renew("payments", place.old)
        assert serial != before
        assert await shown(place, server) == serial
        await ask(opened)
    assert len(set(peers.serials)) == 1


async def test_a_call_goes_out_with_the_certificate_there_is_now_by_the_same_stub(place, server, peers):
    async with channel_of(place, server) as opened:
        stub = payment_pb2_grpc.PaymentServiceStub(opened)
        serials = []
        for _ in range(3):
            await stub.GetPayment(payment_pb2.GetPaymentRequest(name=NAME), timeout=5)
            serials.append(place.renew("escrow", place.old))
        await stub.GetPayment(payment_pb2.GetPaymentRequest(name=NAME), timeout=5)
    assert peers.serials[1:] == serials


async def test_calls_under_way_end_on_the_connection_they_began_on(place, server, peers):
    async with channel_of(place, server) as opened:
        void = payment_pb2_grpc.PaymentServiceStub(opened).VoidPayment(
            payment_pb2.VoidPaymentRequest(request_id="1", name=NAME), timeout=10
        )
        waiting = asyncio.ensure_future(void)
        watch = event_pb2_grpc.EventServiceStub(opened).WatchEvents(event_pb2.WatchEventsRequest())
        await watch.read()
        while not peers.serials:
            await asyncio.sleep(0.01)
        serial = place.renew("escrow", place.old)
        await ask(opened)
        assert peers.serials[-1] == serial
        (earlier,) = opened._earlier
        assert not earlier.closed
        peers.release.set()
        assert (await waiting).name == NAME
        assert await watch.read() is not grpc.aio.EOF
        assert await watch.read() is grpc.aio.EOF
        async with asyncio.timeout(5):
            while not earlier.closed:
                await asyncio.sleep(0.01)


async def test_an_authority_is_replaced_in_three_steps_without_a_failed_call(place, peers):
    async with serving(place, peers, connection_age_seconds=0.2) as server, channel_of(place, server) as opened:
        ended, failures = asyncio.Event(), []

        async def load():
            while not ended.is_set():
                try:
                    await ask(opened)
                except grpc.aio.AioRpcError as failure:
                    failures.append(failure.details())

        callers = [asyncio.create_task(load()) for _ in range(4)]

        async def until_called_over_new_connections():
            """The first may have begun before."""
            end = len(peers.connections) + 2
            while len(peers.connections) < end:
                await asyncio.sleep(0.01)

        async with asyncio.timeout(60):
            await until_called_over_new_connections()
            for peer in ("payments", "escrow"):
                place.trust(peer, place.old, place.new)
            await until_called_over_new_connections()
            serials = [place.renew(peer, place.new) for peer in ("payments", "escrow")]
            await until_called_over_new_connections()
            for peer in ("payments", "escrow"):
                place.trust(peer, place.new)
            await until_called_over_new_connections()
        ended.set()
        await asyncio.gather(*callers)
        assert failures == []
        assert await shown(place, server) == serials[0]
        assert peers.serials[-1] == serials[1]
        assert len(peers.serials) > 100


async def test_who_shows_a_certificate_of_an_authority_that_was_removed_is_let_in_no_more(place, server, peers):
    async with channel_of(place, server) as before:
        await ask(before)
        place.trust("payments", place.new)
        # A connection lasts until it comes of age; see the next test.
        await ask(before)
        async with channel_of(place, server) as opened:
            assert await refused(opened) is grpc.StatusCode.UNAVAILABLE
    assert len(peers.serials) == 2


async def test_a_connection_ends_with_its_age_and_its_certificate_is_looked_at_again(place, peers):
    async with serving(place, peers, connection_age_seconds=0.2) as server, channel_of(place, server) as opened:
        await ask(opened)
        place.trust("payments", place.new)
        async with asyncio.timeout(20):
            while opened.get_state() is grpc.ChannelConnectivity.READY:
                await asyncio.sleep(0.05)
        assert await refused(opened) is grpc.StatusCode.UNAVAILABLE


async def test_a_reader_of_events_goes_on_when_its_connection_has_come_of_age(place, peers, monkeypatch):
    """And nobody is warned of it."""
    monkeypatch.setattr("danbao_kit.server._CONNECTION_GRACE_MS", 100)
    told, read = [], []
    monkeypatch.setattr("danbao_kit.event_reader.log", Told(told))
    async with serving(place, peers, connection_age_seconds=0.2) as server, channel_of(place, server) as opened:
        stub = event_pb2_grpc.EventServiceStub(opened)

        async def cursor():
            return 0

        async def apply(message, after):
            read.append(message)

        reader = EventReader(
            "payments", cursor=cursor, open=lambda _: stub.WatchEvents(event_pb2.WatchEventsRequest()), apply=apply
        )
        following = asyncio.create_task(reader.run())
        async with asyncio.timeout(30):
            while len(read) < 3:
                await asyncio.sleep(0.05)
        following.cancel()
        await asyncio.wait([following])
        assert {event for _, event in told} == {"event_stream_ended"}
        assert {level for level, _ in told} == {"info"}


class Told:
    """A log that is kept: level and event."""

    def __init__(self, told):
        self._told = told

    def __getattr__(self, level):
        return lambda event, **_: self._told.append((level, event))


async def test_a_server_of_an_authority_that_was_removed_is_called_no_more(place, server, peers):
    async with channel_of(place, server) as opened:
        await ask(opened)
        place.trust("escrow", place.new)
        assert await refused(opened) is grpc.StatusCode.UNAVAILABLE
        place.trust("escrow", place.old)
        await ask(opened)
    assert len(peers.serials) == 2


# The files


def held(place):
    files = place.files("payments")
    return IdentityFiles(cert=files.cert, key=files.key, ca=files.ca)


def test_a_certificate_whose_key_is_not_there_yet_waits_for_it(place):
    files = held(place)
    before = files.now()
    place.renew("payments", place.old, key_too=False)
    assert files.now() is before
    place.renew("payments", place.old)
    assert files.now().chain == place.files("payments").cert.read_bytes()


@pytest.mark.parametrize(
    "content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"]
)
@pytest.mark.parametrize("which", ["cert", "key", "ca"])
def test_what_cannot_be_read_is_not_taken_and_told_once(place, monkeypatch, which, content):
    told = []
    monkeypatch.setattr(identity_files.log, "warning", lambda event, **fields: told.append((event, str(fields))))
    files = held(place)
    before, path = files.now(), getattr(place.files("payments"), which)
    good = path.read_bytes()
    path.write_bytes(content)
    assert files.now() is before
    assert files.now() is before
    path.unlink()
    assert files.now() is before
    path.write_bytes(good)
    assert files.now() is before
    assert [event for event, _ in told] == ["certificate_not_taken"] * 2
    assert "PRIVATE KEY" not in str(told)


def test_a_mounted_folder_that_is_replaced_as_a_whole_is_read_again(place, tmp_path):
    """As the kubelet does it: links through `..data`."""
    mounted, source = tmp_path / "mounted", place.files("payments")
    names = {"tls.crt": source.cert, "tls.key": source.key, "ca.crt": source.ca}

    def bring(version):
        (mounted / version).mkdir(parents=True)
        for name, path in names.items():
            shutil.copy(path, mounted / version / name)
            if not (mounted / name).is_symlink():
                (mounted / name).symlink_to(f"..data/{name}")
        (mounted / "..data_tmp").symlink_to(version)
        os.replace(mounted / "..data_tmp", mounted / "..data")

    bring("..1")
    files = IdentityFiles(cert=mounted / "tls.crt", key=mounted / "tls.key", ca=mounted / "ca.crt")
    before = files.now()
    place.renew("payments", place.old)
    assert files.now() is before
    bring("..2")
    assert files.now().chain == source.cert.read_bytes() != before.chain


def test_the_fingerprint_is_the_one_that_openssl_shows(place):
    from cryptography.hazmat.primitives.hashes import SHA256

    identity = held(place).now()
    certificate = x509.load_pem_x509_certificate(identity.chain)
    assert identity.fingerprint.replace(":", "").lower() == certificate.fingerprint(SHA256()).hex()


def test_without_all_three_files_nothing_is_served(place):
    files = place.files("payments")
    with pytest.raises(ValueError, match="mutual TLS only"):
        IdentityFiles.of(files.cert, files.key, None)

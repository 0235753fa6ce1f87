"""Every certificate and the authority behind them are replaced on disk while everybody calls: no call fails.

In the order that a platform takes: trust the new authority beside the old one, renew all certificates, trust it alone.
"""

import json
import os
import secrets
import socket
import ssl
import threading
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager

import grpc
import pytest
from cryptography import x509
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from inner_calls import credentials_of, open_channel

from danbao_kit.testing.certificates import DOMAIN, LOCAL_HOSTS, CertificateAuthority, CertificateFiles
from danbao_local import demo
from danbao_local.client import GatewayClient
from danbao_local.stack import LocalStack

SERVICES = ("payments", "escrow", "credit")
HOSTS = {name: [f"{name}.{DOMAIN}"] for name in (*SERVICES, "gateway", "operator")}
HOSTS["listener"] = [f"gateway.{DOMAIN}", *LOCAL_HOSTS]
"""By file, who is named in a certificate of the stack."""
AGE_S = 2.0
"""How long a connection to a service lasts here, so that each is made anew after each step."""
LONGEST_S = 60.0
TRADES = f"{demo.ESCROW}.TradeService"


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    age = {"DANBAO_CONNECTION_AGE_SECONDS": str(AGE_S)}
    made = LocalStack(
        tmp_path_factory.mktemp("rotated"), gateway_tls=True, service_environment=dict.fromkeys(SERVICES, age)
    )
    with made:
        yield made


class Load:
    """Callers who never pause: trades by gRPC, each of them a call of escrow to credit and one to payments; reads of
    all three services by JSON, each on a new connection."""

    def __init__(self, stack, trust: bytes) -> None:
        self.codes: Counter[str] = Counter()
        self.trades: list[str] = []
        self._card, self._trust, self._ended = stack.card, trust, threading.Event()
        self._callers = [threading.Thread(target=self._trade) for _ in range(3)]
        self._callers.append(threading.Thread(target=self._read))

    def _trade(self) -> None:
        with grpc.secure_channel(
            self._card.gateway,
            grpc.ssl_channel_credentials(self._trust),
            [("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", "localhost")],
        ) as channel:
            while not self._ended.is_set():
                try:
                    made = self._call(channel, f"{TRADES}/CreateTrade", demo.new_trade_body())
                    paid = self._call(channel, f"{TRADES}/PayTrade", demo.command_body(made.name, "BUYER"))
                except grpc.RpcError as failure:
                    self.codes[f"{failure.code()} {failure.details()}"] += 1
                    continue
                self.codes["default terms" if made.terms.defaulted else demo.state_name(paid)] += 1
                self.trades.append(made.name)

    def _call(self, channel, rpc, body):
        method = descriptor_pool.Default().FindMethodByName(rpc.replace("/", "."))
        call = channel.unary_unary(
            f"/{rpc}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        request = json_format.ParseDict(body, message_factory.GetMessageClass(method.input_type)())
        return call(request, timeout=10, metadata=(("authorization", f"Bearer {self._card.token['partner']}"),))

    def _read(self) -> None:
        context = ssl.create_default_context(cadata=self._trust.decode())
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        paths = ("trades", f"accounts?owner={demo.BUYER}", f"{demo.SELLER}/terms?currency=CNY")
        while not self._ended.is_set():
            for path in paths:
                request = urllib.request.Request(
                    f"{self._card.json}/v1/{path}", headers={"authorization": f"Bearer {self._card.token['partner']}"}
                )
                try:
                    with opener.open(request, timeout=10) as reply:
                        self.codes[str(reply.status)] += 1
                except OSError as failure:
                    self.codes[f"{path}: {failure!r}"] += 1

    @contextmanager
    def running(self):
        for caller in self._callers:
            caller.start()
        try:
            self.wait()
            yield
            self.wait()
        finally:
            self._ended.set()
            for caller in self._callers:
                caller.join(30)

    def wait(self, trades: int = 20) -> None:
        """Returns when so many more trades were paid."""
        end = len(self.trades) + trades
        until(lambda: len(self.trades) >= end, "trades are paid no more")


def until(holds, otherwise):
    end = time.monotonic() + LONGEST_S
    while not holds():
        assert time.monotonic() < end, otherwise
        time.sleep(0.05)


def serial(pem: bytes) -> int:
    return x509.load_pem_x509_certificate(pem).serial_number


def shown(stack, name: str, trusted: bytes) -> int:
    """The serial of what a service, or the gateway's listener, shows to a new connection of the operator."""
    context = ssl.create_default_context(cadata=trusted.decode())
    context.load_cert_chain(stack.operator.cert, stack.operator.key)
    context.set_alpn_protocols(["h2"])
    address = stack.card.gateway if name == "listener" else stack.card.services[name]
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=HOSTS[name][0]) as connection,
    ):
        return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True)).serial_number


class Envoy:
    """What the gateway says of itself."""

    def __init__(self, stack) -> None:
        self._admin = f"http://{stack.address('gateway_admin')}"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def serials(self) -> set[int]:
        """Of the certificates and authorities that it works with."""
        with self._opener.open(f"{self._admin}/certs", timeout=5) as answer:
            held = json.load(answer)["certificates"]
        return {int(each["serial_number"], 16) for item in held for each in (*item["ca_cert"], *item["cert_chain"])}

    def count(self, name: str) -> int:
        with self._opener.open(f"{self._admin}/stats?filter=^{name}$", timeout=5) as answer:
            return int(answer.read().decode().split(":")[1])

    def connections(self) -> dict[str, int]:
        """To each service, ever."""
        return {name: self.count(f"cluster.{name}.upstream_cx_total") for name in SERVICES}


def replace(path, content: bytes) -> None:
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    new.write_bytes(content)
    os.replace(new, path)


def may_enter(stack, service: str, files: CertificateFiles) -> bool:
    credentials = credentials_of(files)
    with open_channel(stack.card.services[service], service=service, credentials=credentials) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.RpcError as failure:
            if failure.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return True


def test_certificates_and_their_authority_are_replaced_under_load(stack, tmp_path):
    folder, envoy = stack.layout.certificates, Envoy(stack)
    new = CertificateAuthority(tmp_path / "new")
    old_trust, new_trust = stack.operator.ca.read_bytes(), new.ca_path.read_bytes()
    both = old_trust + new_trust
    # A peer's as it is now, for afterwards.
    before = {}
    for kind in ("cert", "key", "ca"):
        before[kind] = tmp_path / f"before.{kind}"
    before["cert"].write_bytes((folder / "escrow.pem").read_bytes())
    before["key"].write_bytes((folder / "escrow.key").read_bytes())
    before["ca"].write_bytes(both)
    earlier = CertificateFiles(**before)
    with GatewayClient(stack.card) as client:
        client.call(f"{demo.PAYMENTS}.PaymentService/CreateTopUp", demo.top_up_body(10**12), role="partner")
    load = Load(stack, both)

    def until_connected_anew():
        """Also what a connection came of before: both of Envoy's workers have made two to each service."""
        made = envoy.connections()
        until(
            lambda: all(count >= made[name] + 4 for name, count in envoy.connections().items()),
            "connections are not made anew",
        )

    logs = {name: stack.layout.log(name).stat().st_size for name in SERVICES}
    with load.running():
        replace(stack.operator.ca, both)
        until(lambda: serial(new_trust) in envoy.serials(), "the gateway does not come to trust the new authority")
        until_connected_anew()
        issued = {}
        for name, hosts in HOSTS.items():
            files = new.issue_for(hosts, file_name=name)
            issued[name] = serial(files.cert.read_bytes())
            replace(folder / f"{name}.pem", files.cert.read_bytes())
            replace(folder / f"{name}.key", files.key.read_bytes())
        for name in (*SERVICES, "listener"):
            until(lambda name=name: shown(stack, name, both) == issued[name], f"{name} shows its old certificate")
        until(lambda: issued["gateway"] in envoy.serials(), "the gateway keeps its old certificate")
        until_connected_anew()
        assert all(may_enter(stack, name, earlier) for name in SERVICES), "the old authority is trusted still"
        replace(stack.operator.ca, new_trust)
        until(lambda: serial(old_trust) not in envoy.serials(), "the gateway trusts the old authority still")
        until_connected_anew()
        for name in SERVICES:
            assert not may_enter(stack, name, earlier), f"{name} lets in who shows a certificate of the old authority"
            assert may_enter(stack, name, stack.operator), f"{name} does not let in who shows a new one"
            assert shown(stack, name, new_trust) == issued[name]
    assert set(load.codes) == {"200", "AWAITING_SHIPMENT"}, load.codes
    assert {name: trouble(stack.layout.log(name), began) for name, began in logs.items()} == {
        name: [] for name in SERVICES
    }
    assert {name: envoy.count(f"cluster.{name}.upstream_rq_retry") for name in SERVICES} == dict.fromkeys(SERVICES, 0)


def trouble(log, began: int) -> list[str]:
    """What a service has told since that is worse than information: calls to others that failed, streams that broke."""
    lines = [json.loads(line) for line in log.read_bytes()[began:].decode().splitlines() if line.startswith("{")]
    return sorted({line["event"] for line in lines if line["level"] not in ("info", "debug")})

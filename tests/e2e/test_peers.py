"""Inside, a certificate says who calls: every name by every method of every service, as the tables of peers have it.

What is no message shows how far a call came: whom the table admits hears that it is none, whom it refuses hears so
first. Whole requests then show that those who are refused leave nothing.
"""

import ast
import asyncio
import importlib
import json
import pkgutil
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from inner_calls import (
    AS_THE_GATEWAY_WOULD,
    SERVICES,
    TESTING,
    answer,
    credentials_of,
    methods_of,
    open_channel,
    whole_requests,
)

from danbao_gateway.contracts import Contracts
from danbao_gateway.roles import INTERNAL, shipped_rules
from danbao_kit.interceptors import PeerTable
from danbao_kit.testing.certificates import DOMAIN, CertificateAuthority
from danbao_local.layout import StateLayout

TABLES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    service: importlib.import_module(f"danbao_{service}.app").PEERS for service in SERVICES
}
CLOCK = "danbao.testing.v1.ClockService"
HOSTS = {
    "gateway": [f"gateway.{DOMAIN}"],
    "payments": [f"payments.{DOMAIN}"],
    "escrow": [f"escrow.{DOMAIN}"],
    "credit": [f"credit.{DOMAIN}"],
    "operator": [f"operator.{DOMAIN}"],
    "a stranger with a name of ours": [f"stranger.{DOMAIN}"],
    "two of our names": [f"gateway.{DOMAIN}", f"operator.{DOMAIN}"],
    "none of our names": ["gateway.example.com"],
    "all of our names": [f"*.{DOMAIN}"],
    "a name below one of ours": [f"x.gateway.{DOMAIN}"],
    "one of our names elsewhere": [f"gateway.{DOMAIN}.example.com"],
    "only our domain": [DOMAIN],
}
"""By what is said of the certificate: the names in it."""

REFUSED = ("PERMISSION_DENIED", "PEER_NOT_ALLOWED")
ADMITTED = ("INVALID_ARGUMENT", "MESSAGE_MALFORMED")
NOT_SERVED = ("UNIMPLEMENTED", "")
SAID = {"nothing": (), "to be the gateway, for an operator": AS_THE_GATEWAY_WOULD}
"""What a call says of its caller: as much as nothing, whoever's certificate it comes by."""


@contextmanager
def channels(running: Any, service: str) -> Iterator[dict[str, grpc.Channel]]:
    """One to the service under each of HOSTS, all of the stack's own authority."""
    authority = CertificateAuthority(running.stack.operator.ca.parent)
    opened: dict[str, grpc.Channel] = {}
    try:
        for number, (said, hosts) in enumerate(HOSTS.items()):
            shown = credentials_of(authority.issue_for(hosts, file_name=f"peer-{number}"))
            opened[said] = open_channel(running.card.services[service], service=service, credentials=shown)
        yield opened
    finally:
        for channel in opened.values():
            channel.close()


def admits(service: str, said: str, method: Any) -> bool:
    return said in TABLES[service] and PeerTable(TABLES[service]).allows(said, f"/{method.full_name}")


@pytest.mark.parametrize("headers", SAID)
@pytest.mark.parametrize("service", SERVICES)
def test_every_name_may_call_what_the_table_says_and_nothing_else(running, service, headers):
    wrong, asked = [], 0
    with channels(running, service) as opened:
        for method in methods_of(service):
            # The real clock cannot be moved: it is not served.
            served = not method.package.startswith(TESTING)
            for said, channel in opened.items():
                expected = NOT_SERVED if not served else ADMITTED if admits(service, said, method) else REFUSED
                found = answer(channel, method, headers=SAID[headers])
                asked += 1
                if found != expected:
                    wrong.append(f"{said} calls {method.full_name} of {service}: {found}, not {expected}")
    assert not wrong, "\n".join(wrong)
    assert asked > 200


@pytest.mark.parametrize("service", SERVICES)
def test_who_is_refused_leaves_nothing_but_the_line_that_says_so(running, service):
    """Requests that would be answered: no record of their ids, no change of the service, no word of a servicer."""
    log = StateLayout.at(running.state_dir).log(service)
    began, asked, ids = log.stat().st_size, {}, []
    with channels(running, service) as opened:
        for method, request, request_ids in whole_requests(running.card.calls, service):
            ids.extend(request_ids)
            for said, channel in opened.items():
                if admits(service, said, method):
                    continue
                trace_id = secrets.token_hex(16)
                asked[trace_id] = f"{said} calls {method.full_name}"
                trace = ("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-01")
                found = answer(channel, method, request, (*AS_THE_GATEWAY_WOULD, trace))
                assert found == REFUSED, f"{asked[trace_id]}: {found}"
    assert len(asked) > 100
    assert len(ids) > 10
    assert asyncio.run(recorded(running.card.databases[service], ids)) == []
    lines = [json.loads(line) for line in log.read_bytes()[began:].decode().splitlines() if line.startswith("{")]
    told = [line for line in lines if line.get("trace_id") in asked]
    assert {line["trace_id"] for line in told} == asked.keys(), "each is told"
    assert len(told) == len(asked), "once"
    assert {(line["event"], line["code"], line["reason"]) for line in told} == {("call", *REFUSED)}


async def recorded(dsn: str, ids: list[str]) -> list[str]:
    """Those of the request ids that the service has a record of."""
    connection = await asyncpg.connect(dsn)
    try:
        found = await connection.fetch("SELECT request_id FROM request_records WHERE request_id = ANY($1)", ids)
        return [row["request_id"] for row in found]
    finally:
        await connection.close()


@pytest.mark.parametrize("service", SERVICES)
def test_the_gateway_and_operators_may_call_all_that_is_offered_to_tokens(service):
    """And only operators the test clock; a method without a rule in the table of roles is the gateway's for nobody."""
    rules = shipped_rules()
    for method in methods_of(service):
        assert admits(service, "gateway", method) == (rules[method.full_name] != INTERNAL), method.full_name
        expected = method.package == service_package(service) or method.service_name == CLOCK
        assert admits(service, "operator", method) == expected, method.full_name


def service_package(service: str) -> str:
    return f"danbao.{service}.v1"


@pytest.mark.parametrize("service", SERVICES)
def test_whoever_has_a_certificate_of_ours_learns_how_a_service_is_and_what_it_offers(running, service):
    """Health and reflection say nothing of anybody; reflection is on where a deployment asks for it, as here."""
    with channels(running, service) as opened:
        for said, channel in opened.items():
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert health.status == health_pb2.HealthCheckResponse.SERVING, said
            request = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            told = next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(request, timeout=5))
            names = {each.name for each in told.list_services_response.service}
            assert CLOCK not in names, said
            assert {name for name in names if name.startswith("danbao.")} == {
                each.service_name for each in methods_of(service) if not each.package.startswith(TESTING)
            }, said


@pytest.mark.parametrize("peer", SERVICES)
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_call_what_its_clients_call_and_nothing_else(peer, service):
    """Least privilege, read from the code: a call that goes out of use goes out of the table."""
    called = {name for name in calls_of(peer) if name.split(".")[1] == service} if peer != service else set()
    allowed = set(TABLES[service].get(peer, ()))
    assert allowed == called, f"{peer} calls {sorted(called)} of {service}, and may call {sorted(allowed)}"


def calls_of(peer: str) -> set[str]:
    """Full names of the methods that a service's own code calls by stubs of ours."""
    called = set()
    package = importlib.import_module(f"danbao_{peer}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        found = module.module_finder.find_spec(module.name, None)
        if ".testing" in module.name or found is None or not str(found.origin).endswith(".py"):
            continue
        names = [
            node.attr
            for node in ast.walk(ast.parse(Path(str(found.origin)).read_text()))
            if isinstance(node, ast.Attribute)
        ]
        for stub in {name for name in names if name.endswith("Stub")}:
            for service in _services(stub.removesuffix("Stub"), found.origin):
                called |= {f"{service.full_name}/{method.name}" for method in service.methods if method.name in names}
    return called


def _services(name: str, path: Any) -> Iterator[Any]:
    """The services of that name whose package the module imports."""
    source = Path(path).read_text()
    for method in Contracts.installed().methods():
        if method.service == name and f"from {method.package} import" in source:
            yield descriptor_pool.Default().FindServiceByName(method.service_name)

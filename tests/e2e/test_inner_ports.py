"""A service's own port is no second door: without a certificate of ours nobody reaches any method."""

import datetime
import shutil

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from inner_calls import AS_THE_GATEWAY_WOULD, SERVICES, answer, credentials_of, methods_of, open_channel

from danbao_kit.testing.certificates import DOMAIN, CertificateAuthority
from danbao_local.health import service_channel

HOUR = datetime.timedelta(hours=1)
GATEWAY = [f"gateway.{DOMAIN}"]
WRONG = (
    "plain text",
    "no certificate",
    "the gateway's name by another authority",
    "the gateway's name signed by another peer of ours",
    "the gateway's certificate, expired",
    "the gateway's certificate, before its time",
)


def credentials(running, tmp_path, wrong):
    """Of somebody whom no service may take."""
    folder = running.stack.operator.ca.parent
    ca = (folder / "ca.pem").read_bytes()
    ours, now = CertificateAuthority(folder), datetime.datetime.now(datetime.UTC)
    if wrong == "plain text":
        return None
    if wrong == "no certificate":
        return grpc.ssl_channel_credentials(root_certificates=ca)
    if wrong == "the gateway's name by another authority":
        shown = CertificateAuthority(tmp_path / "strangers").issue("gateway")
        key, chain = shown.key.read_bytes(), shown.cert.read_bytes()
    elif wrong == "the gateway's name signed by another peer of ours":
        # Credit's certificate is no authority's, whatever credit does with its key.
        (tmp_path / "credit").mkdir()
        shutil.copy(folder / "credit.pem", tmp_path / "credit" / "ca.pem")
        shutil.copy(folder / "credit.key", tmp_path / "credit" / "ca.key")
        shown = CertificateAuthority(tmp_path / "credit").issue("gateway")
        key, chain = shown.key.read_bytes(), shown.cert.read_bytes() + (folder / "credit.pem").read_bytes()
    elif wrong == "the gateway's certificate, expired":
        shown = ours.issue_for(GATEWAY, file_name="expired", valid=(now - 2 * HOUR, now - HOUR))
        return credentials_of(shown)
    else:
        shown = ours.issue_for(GATEWAY, file_name="early", valid=(now + HOUR, now + 2 * HOUR))
        return credentials_of(shown)
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=chain)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("wrong", WRONG)
def test_who_has_no_certificate_of_ours_is_answered_by_no_method(running, tmp_path, service, wrong):
    """Nor by health, which answers everybody that is let in. Each call on a connection of its own."""
    address, shown = running.card.services[service], credentials(running, tmp_path, wrong)
    answered = {}
    for method in methods_of(service):
        with open_channel(address, service=service, credentials=shown) as channel:
            code, _ = answer(channel, method, headers=AS_THE_GATEWAY_WOULD)
        if code != "UNAVAILABLE":
            answered[method.full_name] = code
    assert not answered
    with open_channel(address, service=service, credentials=shown) as channel, pytest.raises(grpc.RpcError) as refused:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    with service_channel(address, service=service, operator=running.stack.operator) as admitted:
        told = health_pb2_grpc.HealthStub(admitted).Check(
            health_pb2.HealthCheckRequest(), timeout=5, wait_for_ready=True
        )
    assert told.status == health_pb2.HealthCheckResponse.SERVING

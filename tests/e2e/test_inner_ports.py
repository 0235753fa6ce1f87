"""A service's own port is no second door: without a certificate of ours nobody reaches a handler."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from danbao.payments.v1 import audit_pb2, audit_pb2_grpc
from danbao_kit.testing.certificates import DOMAIN, CertificateAuthority, CertificateFiles
from danbao_local.health import service_channel

SERVICES = ("payments", "escrow", "credit")
SPOOFED = (
    ("x-danbao-subject", "demo-operator"),
    ("x-danbao-roles", "operator"),
    ("authorization", "Bearer x"),
)


def strangers(running, tmp_path):
    """Channels' credentials that no service may take, by what is wrong with them."""
    ca = running.stack.operator.ca.read_bytes()
    other = CertificateAuthority(tmp_path / "strangers")
    gateway = other.issue("gateway")
    return {
        "plain text": None,
        "no certificate": grpc.ssl_channel_credentials(root_certificates=ca),
        "the gateway's name by another authority": grpc.ssl_channel_credentials(
            root_certificates=ca,
            private_key=gateway.key.read_bytes(),
            certificate_chain=gateway.cert.read_bytes(),
        ),
    }


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("wrong", ["plain text", "no certificate", "the gateway's name by another authority"])
def test_who_has_no_certificate_of_ours_is_not_answered(running, tmp_path, service, wrong):
    address = running.card.services[service]
    credentials = strangers(running, tmp_path)[wrong]
    options = [("grpc.ssl_target_name_override", f"{service}.{DOMAIN}"), ("grpc.enable_http_proxy", 0)]
    channel = (
        grpc.insecure_channel(address, options=options[1:])
        if credentials is None
        else grpc.secure_channel(address, credentials, options=options)
    )
    # Health is what every service answers to everybody it lets in.
    with channel, pytest.raises(grpc.RpcError) as refused:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5, metadata=SPOOFED)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    with service_channel(address, service=service, operator=running.stack.operator) as admitted:
        answer = health_pb2_grpc.HealthStub(admitted).Check(
            health_pb2.HealthCheckRequest(), timeout=5, wait_for_ready=True
        )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_peer_that_is_not_the_gateway_gains_nothing_by_its_headers(running):
    """Credit's certificate is ours, but what it says about a caller is not believed."""
    folder = running.stack.operator.ca.parent
    credit = CertificateFiles(ca=folder / "ca.pem", cert=folder / "credit.pem", key=folder / "credit.key")
    with service_channel(running.card.services["payments"], service="payments", operator=credit) as channel:
        stub = audit_pb2_grpc.AuditServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.GetAudit(audit_pb2.GetAuditRequest(), timeout=5, metadata=SPOOFED[:2], wait_for_ready=True)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED

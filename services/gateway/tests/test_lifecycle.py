"""The gateway's connections: TLS to callers, the name a service shows, a service that goes and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from danbao_gateway import GatewaySettings, testing


def _settings(settings_for: Callable[..., dict[str, Any]], tokens: testing.Tokens) -> dict[str, Any]:
    settings = settings_for(jwks=tokens.jwks(), port=testing.free_port(), file_name="lifecycle.json")
    certificate, key = settings["upstream_tls"]["certificate"], settings["upstream_tls"]["key"]
    settings["listener"]["tls"] = {"certificate": certificate, "key": key}
    settings["access_log"] = "/dev/null"
    return settings


def _code_after(
    settings: GatewaySettings,
    messages: testing.Messages,
    token: str,
    *,
    until: grpc.StatusCode,
    seconds: float = 10,
) -> grpc.StatusCode:
    """The code that a call over TLS ends with, asked again until it is the one hoped for."""
    credentials = grpc.ssl_channel_credentials(Path(settings.upstream_tls.ca).read_bytes())
    options = (("grpc.ssl_target_name_override", "gateway.danbao.internal"),)
    end, code = time.monotonic() + seconds, None
    with grpc.secure_channel(f"127.0.0.1:{settings.listener.port}", credentials, options) as channel:
        stub = channel.unary_unary(
            "/danbao.echo.v1.EchoService/Echo",
            request_serializer=messages.request.SerializeToString,
            response_deserializer=messages.response.FromString,
        )
        while code is not until and time.monotonic() < end:
            time.sleep(0.1)
            metadata = (("authorization", f"Bearer {token}"),)
            try:
                stub(messages.request(text="x"), metadata=metadata, timeout=5, wait_for_ready=True)
                code = grpc.StatusCode.OK
            except grpc.RpcError as refusal:
                code = refusal.code()
    assert code is not None
    return code


def test_a_service_that_goes_and_comes_back_is_found_again_over_tls(
    settings_for: Callable[..., dict[str, Any]], messages: testing.Messages, run_envoy: Any
) -> None:
    tokens = testing.Tokens()
    settings = GatewaySettings.model_validate(_settings(settings_for, tokens))
    token = tokens.mint("user")
    echo = testing.start_echo(settings, testing.Echo(messages))
    with run_envoy(settings):
        assert _code_after(settings, messages, token, until=grpc.StatusCode.OK) is grpc.StatusCode.OK
        echo.stop(None).wait()
        gone = _code_after(settings, messages, token, until=grpc.StatusCode.UNAVAILABLE)
        assert gone is grpc.StatusCode.UNAVAILABLE
        echo = testing.start_echo(settings, testing.Echo(messages))
        assert _code_after(settings, messages, token, until=grpc.StatusCode.OK) is grpc.StatusCode.OK
    echo.stop(None)


def test_a_service_with_another_name_on_its_certificate_is_never_called(
    settings_for: Callable[..., dict[str, Any]], messages: testing.Messages, run_envoy: Any
) -> None:
    tokens = testing.Tokens()
    content = _settings(settings_for, tokens)
    content["upstreams"]["echo"]["san"] = "payments.danbao.internal"
    settings = GatewaySettings.model_validate(content)
    echo = testing.start_echo(settings, testing.Echo(messages))
    with run_envoy(settings):
        code = _code_after(settings, messages, tokens.mint("user"), until=grpc.StatusCode.OK, seconds=3)
        assert code is grpc.StatusCode.UNAVAILABLE
    echo.stop(None)

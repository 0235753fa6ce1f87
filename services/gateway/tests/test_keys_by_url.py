"""An issuer's keys fetched from where it publishes them, and fetched again when they have changed."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from danbao_gateway import testing


class _Published:
    """An issuer's key set on an HTTP server."""

    def __init__(self) -> None:
        self.jwks = ""
        self.fetched = 0
        published = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                published.fetched += 1
                content = published.jwks.encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def published() -> Iterator[_Published]:
    made = _Published()
    yield made
    made.server.shutdown()
    made.server.server_close()


def _code(gateway: Any, token: str) -> grpc.StatusCode:
    try:
        gateway.call("Echo", token=token)
    except grpc.RpcError as refusal:
        code: grpc.StatusCode = refusal.code()
        return code
    return grpc.StatusCode.OK


def test_keys_are_fetched_before_the_first_call_and_again_after_a_change(
    start_gateway: Any, published: _Published
) -> None:
    first, second = testing.Tokens(key_id="first"), testing.Tokens(key_id="second")
    published.jwks = first.jwks()
    url = f"http://127.0.0.1:{published.server.server_port}/keys"
    issuer = {"issuer": testing.ISSUER, "audiences": [testing.AUDIENCE], "jwks_url": url, "jwks_cache_seconds": 1}
    with start_gateway(name="by-url", issuers=[issuer]) as gateway:
        assert published.fetched
        assert _code(gateway, first.mint("user")) is grpc.StatusCode.OK
        assert _code(gateway, second.mint("user")) is grpc.StatusCode.UNAUTHENTICATED
        published.jwks = second.jwks()
        end = time.monotonic() + 20
        while _code(gateway, second.mint("user")) is not grpc.StatusCode.OK:
            assert time.monotonic() < end, "the new key was not fetched"
            time.sleep(0.1)
        assert _code(gateway, first.mint("user")) is grpc.StatusCode.UNAUTHENTICATED


def test_calls_are_answered_by_the_keys_there_are_while_their_publisher_is_away(
    start_gateway: Any, published: _Published
) -> None:
    tokens = testing.Tokens()
    published.jwks = tokens.jwks()
    url = f"http://127.0.0.1:{published.server.server_port}/keys"
    issuer = {"issuer": testing.ISSUER, "audiences": [testing.AUDIENCE], "jwks_url": url, "jwks_cache_seconds": 600}
    with start_gateway(name="away", issuers=[issuer]) as gateway:
        published.server.shutdown()
        published.server.server_close()
        assert {_code(gateway, tokens.mint("user")) for _ in range(20)} == {grpc.StatusCode.OK}

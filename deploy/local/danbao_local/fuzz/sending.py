"""How an attempt is sent: gRPC at the gateway and at the services, and HTTP byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from danbao_kit.testing.certificates import DOMAIN, CertificateAuthority
from danbao_local.card import Card
from danbao_local.fuzz.attempt import NOBODY, REFUSED, STRANGER, Answer, Attempt
from danbao_local.fuzz.http_answers import LONGEST_WAIT_S, answer_of, read_answer, read_details

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 1024 * 1024),
    ("grpc.enable_retries", 0),
)
# What grpc.aio itself says, as INTERNAL, when the call ended while it was still sending.
_CLIENT_GAVE_UP = "Internal error from Core"
# Of an endless stream: as long as this, or as many messages.
_WATCHED_S = 0.3
_REFUSAL_S = 8.0
_WATCHED = 20
_FORGED = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJkZW1vLW9wZXJhdG9yIn0."


class Sender:
    """Connections to one stack."""

    def __init__(self, card: Card, authority: CertificateAuthority, peers: tuple[str, ...]) -> None:
        self._card = card
        self._gateway = grpc.aio.insecure_channel(card.gateway, options=_OPTIONS)
        self._services = {
            (service, peer): self._channel(authority, service, peer) for service in card.services for peer in peers
        }

    def _channel(self, authority: CertificateAuthority, service: str, peer: str) -> grpc.aio.Channel:
        files = authority.issue(peer)
        credentials = grpc.ssl_channel_credentials(
            files.ca.read_bytes(), files.key.read_bytes(), files.cert.read_bytes()
        )
        options = (*_OPTIONS, ("grpc.ssl_target_name_override", f"{service}.{DOMAIN}"))
        return grpc.aio.secure_channel(self._card.services[service], credentials, options=options)

    async def close(self) -> None:
        """Closes them."""
        for channel in (self._gateway, *self._services.values()):
            await channel.close()

    async def send(self, attempt: Attempt) -> Answer:
        """Its answer. Raises nothing: what a caller sees is an answer."""
        if attempt.door == "http":
            return await self._send_http(attempt)
        channel, metadata = self._gateway, attempt.metadata
        if attempt.door == "service":
            channel = self._services[attempt.rpc.split(".")[1], attempt.role]
        elif attempt.role != NOBODY:
            metadata = (("authorization", f"Bearer {self._token(attempt.role)}"), *metadata)
        return await _send_grpc(channel, attempt, metadata)

    def _token(self, role: str) -> str:
        return _FORGED if role == STRANGER else self._card.token[role]

    async def _send_http(self, attempt: Attempt) -> Answer:
        token = "" if attempt.role == NOBODY else self._token(attempt.role)
        host, _, port = self._card.gateway.rpartition(":")
        started = time.monotonic()
        received = b""
        writer = None
        try:
            async with asyncio.timeout(LONGEST_WAIT_S):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(attempt.http.replace(b"{token}", token.encode()))
                with contextlib.suppress(OSError):
                    await writer.drain()
                received = await read_answer(reader, bodiless=attempt.http.startswith(b"HEAD "))
        except (OSError, TimeoutError) as failure:
            # Closed on whoever floods: an answer as good as any, unless it came late.
            if isinstance(failure, TimeoutError):
                return Answer("TIMEOUT", "", time.monotonic() - started, received)
        finally:
            if writer is not None:
                writer.close()
        return answer_of(received, time.monotonic() - started)


async def _send_grpc(channel: grpc.aio.Channel, attempt: Attempt, metadata: tuple[tuple[str, str], ...]) -> Answer:
    started = time.monotonic()
    path = f"/{attempt.rpc}"
    options: dict[str, Any] = {"timeout": attempt.timeout_s, "metadata": metadata, "wait_for_ready": True}
    first = attempt.messages[0] if attempt.messages else b""
    answers: list[bytes] = []
    try:
        if attempt.client_streaming:
            answers.append(await channel.stream_unary(path)(_each(attempt.messages), **options))
        elif attempt.server_streaming:
            answers += await _watch(channel.unary_stream(path)(first, **options), attempt)
        else:
            answers.append(await channel.unary_unary(path)(first, **options))
    except grpc.aio.AioRpcError as failure:
        trailing = dict(failure.trailing_metadata() or ())
        encoded = trailing.get("grpc-status-details-bin", b"")
        reason, details = read_details(encoded) if encoded else ("", b"")
        text = (failure.details() or "").encode() + details
        if failure.details() == _CLIENT_GAVE_UP:
            return Answer("NOT SENT", "", time.monotonic() - started, text)
        return Answer(failure.code().name, reason, time.monotonic() - started, text)
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
        return Answer("CANCELLED", "", time.monotonic() - started)  # by the server: grpc.aio raises it like that
    except (ValueError, TypeError, grpc.aio.UsageError) as refused:
        return Answer("NOT SENT", "", 0.0, str(refused).encode())  # the client library takes no such metadata
    return Answer("OK", "", time.monotonic() - started, b"".join(answers)[:65_536])


async def _watch(stream: Any, attempt: Attempt) -> list[bytes]:
    """What an endless stream says at first. Whom it must refuse, it is given the time to."""
    answers: list[bytes] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_REFUSAL_S if attempt.family == REFUSED else _WATCHED_S):
            while len(answers) < _WATCHED and (answer := await stream.read()) is not grpc.aio.EOF:
                answers.append(answer)
    stream.cancel()
    return answers


async def _each(messages: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message

"""Who calls, and what they were answered: tokens of every kind, and bodies about what is somebody's or nobody's."""

import copy
import re
import secrets
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2, status_pb2
from principal_rules import EMPTY, OK, OWNERS, ROLE_OF, Rule

from danbao_gateway.claims import claims
from danbao_gateway.roles import Role
from danbao_local.card import Card
from danbao_local.demo import new_id
from danbao_local.tokens import AUDIENCE, DEMO_BUYER, DEMO_PARTNER, DEMO_SELLER, HOLDERS, ISSUER, TokenIssuer

UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# An account's id is made of its owner, kind and currency: who knows these knows it.
_OF_AN_OWNER = re.compile(f"accounts/{UUID.pattern}")
_DEADLINE_S = 10.0
_OPEN_STREAM_S = 0.4
"""How long a stream is listened to before it counts as open and silent."""
_PARTIES = (DEMO_BUYER, DEMO_SELLER)
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Principal:
    """One kind of caller. `subject` and `partner` are the token's; without `roles` there is no token at all."""

    name: str
    roles: tuple[str, ...] | None
    subject: str = ""
    partner: str | None = None


def owner(name: str) -> Principal:
    """One of those to whom the fixtures belong, or who see all."""
    role = ROLE_OF[name]
    if name in ("buyer", "seller"):
        return Principal(name, (role,), DEMO_BUYER if name == "buyer" else DEMO_SELLER)
    return Principal(name, (role,), HOLDERS[role].subject, HOLDERS[role].partner)


OWNING = tuple(owner(name) for name in OWNERS)

STRANGERS = (
    Principal("another user", ("user",), "stranger"),
    Principal("another user whose token names the partner", ("user",), "stranger", DEMO_PARTNER),
    Principal("another partner", ("partner",), "other-shop", "other-shop"),
    Principal("another partner's token with the buyer as its subject", ("partner",), DEMO_BUYER, "other-shop"),
    Principal("a partner's token without a partner", ("partner",), DEMO_PARTNER),
    Principal("another rail", ("rail",), "other-rail"),
    Principal("several roles of strangers", ("partner", "rail", "user"), "stranger", "other-shop"),
)
"""Nothing of the fixtures is theirs."""

OUTSIDERS = (
    Principal("no token", None),
    Principal("no roles", (), "stranger"),
    Principal("unknown roles", ("admin", "Operator", "operator ", "user,operator", "root"), "stranger"),
    Principal("no roles, in the name of the buyer", (), DEMO_BUYER, DEMO_PARTNER),
)
"""No role of theirs may call anything."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: OK, EMPTY or CODE/REASON, and all that can be read of it."""

    what: str
    message: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    content: str = ""

    def without(self, names: Mapping[str, str]) -> "Answer":
        """As if the names that were asked about were others."""

        def put(text: str) -> str:
            for name, instead in names.items():
                text = text.replace(name, instead)
            return _OF_AN_OWNER.sub("accounts/ID", text)

        metadata = tuple((key, put(value)) for key, value in self.metadata)
        return Answer(self.what, put(self.message), metadata, put(self.content))


class Caller:
    """Calls through the gateway as anybody."""

    def __init__(self, card: Card, issuer: TokenIssuer) -> None:
        self._issuer = issuer
        self._tokens: dict[Principal, str] = {}
        self._channel = grpc.insecure_channel(card.gateway, options=(("grpc.enable_http_proxy", 0),))
        self._pool = descriptor_pool.Default()

    def close(self) -> None:
        self._channel.close()

    def token(self, principal: Principal) -> str:
        """Signed by the stack's own issuer, whatever stands in it."""
        if principal not in self._tokens:
            assert principal.roles is not None
            said = claims(principal.subject, [Role.USER], principal.partner, issuer=ISSUER, audience=AUDIENCE)
            self._tokens[principal] = self._issuer.sign(said | {"roles": list(principal.roles)})
        return self._tokens[principal]

    def ask(self, rpc: str, body: Any, principal: Principal, *, trace_id: str = "") -> Answer:
        """The answer to a body; to a list of bodies where the method takes a stream. A stream that is open and says
        nothing for a moment is EMPTY."""
        metadata: list[tuple[str, str]] = []
        if principal.roles is not None:
            metadata.append(("authorization", f"Bearer {self.token(principal)}"))
        if trace_id:
            metadata.append(("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-01"))
        try:
            return self._answer(rpc, body, tuple(metadata))
        except grpc.RpcError as failure:
            return _refusal(failure)

    def read(self, rpc: str, body: Mapping[str, Any], principal: Principal) -> Any:
        """The message itself. Raises grpc.RpcError."""
        metadata = (("authorization", f"Bearer {self.token(principal)}"),)
        method = self._method(rpc)
        return self._unary(method, rpc)(self._request(method, body), timeout=_DEADLINE_S, metadata=metadata)

    def _method(self, rpc: str) -> Any:
        return self._pool.FindMethodByName(rpc.replace("/", "."))

    def _request(self, method: Any, body: Mapping[str, Any]) -> Any:
        return json_format.ParseDict(dict(body), message_factory.GetMessageClass(method.input_type)())

    def _unary(self, method: Any, rpc: str) -> Any:
        return self._channel.unary_unary(
            f"/{rpc}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )

    def _answer(self, rpc: str, body: Any, metadata: tuple[tuple[str, str], ...]) -> Answer:
        method = self._method(rpc)
        if method.server_streaming:
            return self._listen(method, rpc, self._request(method, body), metadata)
        if method.client_streaming:
            send = self._channel.stream_unary(
                f"/{rpc}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
            )
            requests = [self._request(method, each) for each in body]
            return _told(send(iter(requests), timeout=_DEADLINE_S, metadata=metadata))
        request = self._request(method, body)
        return _told(self._unary(method, rpc)(request, timeout=_DEADLINE_S, metadata=metadata))

    def _listen(self, method: Any, rpc: str, request: Any, metadata: tuple[tuple[str, str], ...]) -> Answer:
        listen = self._channel.unary_stream(
            f"/{rpc}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        call = listen(request, timeout=_DEADLINE_S, metadata=metadata)
        silence = threading.Timer(_OPEN_STREAM_S, call.cancel)
        silence.start()
        try:
            return _told(next(call))
        except StopIteration:
            return Answer(EMPTY)
        except grpc.RpcError as failure:
            if failure.code() is grpc.StatusCode.CANCELLED:
                return Answer(EMPTY)
            raise
        finally:
            silence.cancel()
            call.cancel()


def _told(message: Any) -> Answer:
    for result in getattr(message, "results", ()):
        if result.HasField("error"):
            return _said(_CODES[result.error.code], result.error)
    return Answer(OK, content=json_format.MessageToJson(message)) if message.ByteSize() else Answer(EMPTY)


def _refusal(failure: Any) -> Answer:
    for key, value in failure.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return _said(failure.code().name, status_pb2.Status.FromString(value))
    return Answer(failure.code().name, failure.details() or "")


def _said(code: str, status: status_pb2.Status) -> Answer:
    reason, metadata = "", {}
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
    return Answer(f"{code}/{reason}", status.message, tuple(sorted(metadata.items())))


def fresh(body: Any) -> Any:
    """The same with request ids of its own, so that nobody is answered what somebody was before."""
    copied = copy.deepcopy(body)
    for place in _places(copied):
        for key in ("requestId", "eventId"):
            if key in place:
                place[key] = new_id()
    return copied


def about_nothing(body: Any, rule: Rule) -> tuple[Any, dict[str, str]]:
    """The body about what does not exist, and which names took the place of which."""
    copied = fresh(body)
    instead: dict[str, str] = {}
    for path in rule.about:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        place = copied
        for part in parents:
            place = place[part]
        name = place[last]
        place[last] = instead.setdefault(name, _unknown(name))
    return copied, instead


def itself(body: Any, rule: Rule) -> Principal:
    """The subject that the body is about, as a user."""
    return Principal("the subject itself", ("user",), body[rule.about[0]].removeprefix("subjects/"))


def _unknown(name: str) -> str:
    if UUID.search(name):
        return UUID.sub(str(uuid.uuid4()), name, count=1)
    collection, _, _ = name.partition("/")
    return f"{collection}/nobody-{uuid.uuid4()}"


def _places(body: Any) -> Iterator[dict[str, Any]]:
    if isinstance(body, dict):
        yield body
        for value in body.values():
            yield from _places(value)
    elif isinstance(body, list):
        for value in body:
            yield from _places(value)

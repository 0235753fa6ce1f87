"""How attempt number n is made: from the seed and its number alone, out of the methods and what is known to exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import EncodeError, Message

from danbao_local.fuzz import http_requests, mutations
from danbao_local.fuzz.attempt import NOBODY, REFUSED, STRANGER, Attempt
from danbao_local.fuzz.methods import FuzzedMethod
from danbao_local.fuzz.raw_bytes import spoil
from danbao_local.fuzz.values import Known

ROLES = ("user", "partner", "operator", "arbiter", "rail", NOBODY, STRANGER)
PEERS = ("gateway", "operator", "payments", "escrow", "credit")
FAMILIES: Mapping[str, float] = {
    "mutated": 0.36,
    "generated": 0.1,
    "bytes": 0.12,
    "service": 0.14,
    "json": 0.16,
    "web": 0.07,
    REFUSED: 0.05,
}
"""How often each is made."""
_ODD_METADATA: tuple[tuple[str, str], ...] = (
    ("traceparent", "nonsense"),
    ("traceparent", "00-" + "0" * 32 + "-" + "0" * 16 + "-00"),
    ("traceparent", "00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
    ("traceparent", "x" * 4_000),
    ("tracestate", "," * 200),
    ("x-danbao-subject", "demo-operator"),
    ("x-danbao-roles", "operator,operator,,"),
    ("x-huge", "y" * 12_000),
    ("x-huge", "y" * 40_000),
    ("custom-bin", "\0"),
    ("x-request-id", "%s%n"),
)
_ODD_SUBJECTS = ("", "demo-buyer", "demo-operator", "a b", "..", "x" * 3_000, "subjects/demo-buyer", "%00", "'--", "/")
_ODD_ROLES = ("user", "partner", "operator", "arbiter", "rail", "", ",", "root", "user,operator", "x" * 3_000)
_TIMEOUTS = (10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 0.001)


class Maker:
    """Makes attempts."""

    def __init__(self, methods: Sequence[FuzzedMethod], known: Known, seed: int) -> None:
        self._methods = methods
        self._known = known
        self._seed = seed
        self._makers: Mapping[str, Callable[[int, Random, FuzzedMethod], Attempt]] = {
            "mutated": self._mutated,
            "generated": self._generated,
            "bytes": self._bytes,
            "service": self._at_service,
            "json": self._json,
            "web": self._web,
            REFUSED: self._refused,
        }

    def attempt(self, number: int, family: str | None = None) -> Attempt:
        """Attempt number n; of the family, or of any."""
        rng = Random(f"{self._seed}:{number}")
        drawn = rng.choices(list(FAMILIES), list(FAMILIES.values()))[0]
        method = self._methods[number % len(self._methods)]
        return self._makers[family or drawn](number, rng, method)

    def _attempt(self, number: int, family: str, method: FuzzedMethod, role: str, **fields: Any) -> Attempt:
        return Attempt(
            number,
            family,
            fields.pop("door", "gateway"),
            method.rpc,
            role,
            client_streaming=method.client_streaming,
            server_streaming=method.server_streaming,
            **fields,
        )

    def _mutated(self, number: int, rng: Random, method: FuzzedMethod) -> Attempt:
        messages = method.working_requests() or [method.new_request()]
        for message in messages:
            mutations.renew_ids(message, rng)
        for message in rng.sample(messages, 1 if len(messages) == 1 else rng.randrange(0, 3) % len(messages)):
            mutations.mutate(message, rng, self._known)
        encoded = [_encoded(message) for message in messages]
        if method.client_streaming and rng.random() < 0.3:
            rng.shuffle(encoded)
            encoded = encoded[: rng.randrange(len(encoded) + 1)]
        metadata = (rng.choice(_ODD_METADATA),) if rng.random() < 0.05 else ()
        return self._attempt(
            number,
            "mutated",
            method,
            self._role(rng, method),
            messages=tuple(encoded),
            metadata=metadata,
            timeout_s=rng.choice(_TIMEOUTS),
        )

    def _generated(self, number: int, rng: Random, method: FuzzedMethod) -> Attempt:
        made = []
        for _ in range(rng.choice((1, 1, 2, 5)) if method.client_streaming else 1):
            message = method.new_request()
            mutations.generate(message, rng, self._known)
            made.append(_encoded(message))
        return self._attempt(number, "generated", method, self._role(rng, method), messages=tuple(made))

    def _bytes(self, number: int, rng: Random, method: FuzzedMethod) -> Attempt:
        data = [_encoded(message) for message in method.working_requests()] or [b""]
        at = rng.randrange(len(data))
        data[at] = spoil(data[at], rng)
        return self._attempt(number, "bytes", method, self._role(rng, method), messages=tuple(data))

    def _at_service(self, number: int, rng: Random, method: FuzzedMethod) -> Attempt:
        """Past the gateway: with its certificate and whatever it might say of a caller, or as another peer."""
        inner = rng.choice((self._mutated, self._generated, self._bytes, self._bytes))(number, rng, method)
        peer = PEERS[0] if rng.random() < 0.6 else rng.choice(PEERS)
        metadata: list[tuple[str, str]] = []
        if rng.random() < 0.85:
            subject = rng.choice(_ODD_SUBJECTS) if rng.random() < 0.3 else "demo-shop"
            roles = rng.choice(_ODD_ROLES) if rng.random() < 0.3 else method.roles[0]
            metadata += [("x-danbao-subject", subject), ("x-danbao-roles", roles)]
            if rng.random() < 0.5:
                metadata.append(("x-danbao-partner", rng.choice(("demo-shop", "", "x" * 2_000, "a/b", "..", "%"))))
        if rng.random() < 0.1:
            metadata.append(rng.choice(_ODD_METADATA))
        return self._attempt(
            number, "service", method, peer, door="service", messages=inner.messages, metadata=tuple(metadata)
        )

    def _json(self, number: int, rng: Random, method: FuzzedMethod) -> Attempt:
        if not method.template or not method.bodies or method.client_streaming:
            return self._web(number, rng, method)
        message = method.working_requests()[0]
        mutations.renew_ids(message, rng)
        body = json_format.MessageToDict(message)
        role = self._role(rng, method)
        request = http_requests.json_request(method, body, role, rng, self._known)
        return self._attempt(number, "json", method, role, door="http", http=request)

    def _web(self, number: int, rng: Random, method: FuzzedMethod) -> Attempt:
        messages = method.working_requests() or [method.new_request()]
        mutations.renew_ids(messages[0], rng)
        role = self._role(rng, method)
        request = http_requests.web_request(method, _encoded(messages[0]), role, rng)
        return self._attempt(number, "web", method, role, door="http", http=request)

    def _refused(self, number: int, rng: Random, method: FuzzedMethod) -> Attempt:
        if rng.random() < 0.5:  # a body that works, of somebody who may not send it
            role = rng.choice([role for role in ROLES if role not in method.roles])
            messages = method.working_requests() or [method.new_request()]
            for message in messages:
                mutations.renew_ids(message, rng)
            return self._attempt(number, REFUSED, method, role, messages=tuple(_encoded(item) for item in messages))
        # Bytes that are no message whatever the contract: a field that is numbered 0, a group that only ends.
        data = rng.choice((b"\x00", b"\x02\x01\x00", b"\x0c", b"\x07")) + rng.randbytes(rng.randrange(200))
        return self._attempt(number, REFUSED, method, method.roles[0], messages=(data,))

    def _role(self, rng: Random, method: FuzzedMethod) -> str:
        kind = rng.random()
        if kind < 0.7:
            return method.roles[0]
        return rng.choice(method.roles) if kind < 0.85 else rng.choice(ROLES)


def _encoded(message: Message) -> bytes:
    try:
        return message.SerializeToString()
    except EncodeError:
        return b""

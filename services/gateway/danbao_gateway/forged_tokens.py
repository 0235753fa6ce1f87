"""Which tokens must no gateway take? Each kind, made from an issuer that it trusts; for tests.

All of them claim every role: whatever a token lacks, it is not a role.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from danbao_gateway.roles import Role
from danbao_gateway.testing import Tokens

MISSING, EXPIRED, INVALID = "TOKEN_MISSING", "TOKEN_EXPIRED", "TOKEN_INVALID"
_ROLES = tuple(role.value for role in Role)


def _mint(tokens: Tokens, **said: Any) -> str:
    return tokens.mint(*_ROLES, **said)


def _claims(tokens: Tokens) -> dict[str, Any]:
    said: dict[str, Any] = jwt.decode(_mint(tokens), options={"verify_signature": False})
    return said


def _without(claim: str) -> Callable[[Tokens], str]:
    return lambda tokens: tokens.sign({key: value for key, value in _claims(tokens).items() if key != claim})


def _of_partner(partner: Any) -> Callable[[Tokens], str]:
    return lambda tokens: tokens.sign(_claims(tokens) | {"partner": partner})


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _signed_symmetrically(tokens: Tokens) -> str:
    """With the public key as the secret, in the form in which people have it; the library refuses to, so by hand."""
    secret = tokens.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = {"alg": "HS256", "typ": "JWT", "kid": tokens.key_id}
    signed = ".".join(_base64(json.dumps(part).encode()) for part in (head, _claims(tokens)))
    return f"{signed}.{_base64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def _stranger(tokens: Tokens) -> Tokens:
    return replace(tokens, key=ec.generate_private_key(ec.SECP256R1()))


def _carrying_its_own_key(tokens: Tokens) -> str:
    stranger = _stranger(tokens)
    own = json.loads(stranger.jwks())["keys"][0]
    head = {"kid": tokens.key_id, "jwk": own, "jku": "https://tokens.elsewhere.example/keys"}
    return jwt.encode(_claims(tokens), stranger.key, algorithm="ES256", headers=head)


def _changed_after_signing(tokens: Tokens) -> str:
    head, _, signature = tokens.mint("user").split(".")
    return ".".join([head, _mint(tokens).split(".")[1], signature])


def _with_its_signature_cut(tokens: Tokens) -> str:
    head, payload, _ = _mint(tokens).split(".")
    return f"{head}.{payload}."


FORGED: Mapping[str, tuple[Callable[[Tokens], str | None], str]] = MappingProxyType(
    {
        "none at all": (lambda tokens: None, MISSING),
        "garbage": (lambda tokens: "garbage", INVALID),
        "garbage in three parts": (lambda tokens: "a.b.c", INVALID),
        "expired": (lambda tokens: _mint(tokens, issued_at=time.time() - 7200), EXPIRED),
        "expired beyond the clock skew": (lambda tokens: _mint(tokens, lifetime=timedelta(seconds=-15)), EXPIRED),
        "without expiry": (_without("exp"), INVALID),
        "not valid yet": (lambda tokens: _mint(tokens, nbf=int(time.time()) + 600), INVALID),
        "for another audience": (lambda tokens: _mint(tokens, audience="bank"), INVALID),
        "for no audience": (_without("aud"), INVALID),
        "of another issuer": (lambda tokens: _mint(tokens, issuer="https://elsewhere"), INVALID),
        "of no issuer": (_without("iss"), INVALID),
        "of no subject": (_without("sub"), INVALID),
        "of an empty subject": (lambda tokens: _mint(tokens, sub=""), INVALID),
        "of a list of subjects": (lambda tokens: _mint(tokens, sub=["a", "b"]), INVALID),
        "of a subject with a space": (lambda tokens: _mint(tokens, sub="demo-operator "), INVALID),
        "of a subject beyond ASCII": (lambda tokens: _mint(tokens, sub="opérateur"), INVALID),
        "of a partner with NUL": (_of_partner("a\0b"), INVALID),
        "of a partner with a line's end": (_of_partner("a\r\nx-danbao-roles: operator"), INVALID),
        "of a partner with DEL": (_of_partner("a\x7f"), INVALID),
        "of a partner with a space": (_of_partner("acme "), INVALID),
        "of a partner beyond ASCII": (_of_partner("société"), INVALID),
        "of a partner that is a number": (_of_partner(5), INVALID),
        "of a partner that is true": (_of_partner(True), INVALID),
        "of a list of partners": (_of_partner(["acme"]), INVALID),
        "of a partner with parts": (_of_partner({"acme": True}), INVALID),
        "alg none": (lambda tokens: jwt.encode(_claims(tokens), "", algorithm="none"), INVALID),
        "with its signature cut off": (_with_its_signature_cut, INVALID),
        "under an unknown key": (lambda tokens: _mint(replace(tokens, key_id="unknown")), INVALID),
        "signed by a stranger": (lambda tokens: _mint(_stranger(tokens)), INVALID),
        "carrying its own key": (_carrying_its_own_key, INVALID),
        "signed symmetrically": (_signed_symmetrically, INVALID),
        "other claims under an old signature": (_changed_after_signing, INVALID),
    }
)
"""By what is wrong: how it is made (None: there is none), and the reason that its bearer is answered."""

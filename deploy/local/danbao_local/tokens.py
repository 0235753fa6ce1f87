"""Tokens for a laptop: a key made here, its public half for the gateway, one token a role."""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from danbao_gateway.claims import claims
from danbao_local.layout import write_atomically

ISSUER = "https://danbao.local"
AUDIENCE = "danbao"
LIFETIME_SECONDS = 30 * 24 * 3600
DEMO_BUYER = "demo-buyer"
DEMO_SELLER = "demo-seller"
DEMO_PARTNER = "demo-shop"


@dataclass(frozen=True, slots=True)
class TokenHolder:
    """Whom a token speaks for."""

    subject: str
    partner: str | None = None


HOLDERS = {
    "user": TokenHolder(subject=DEMO_BUYER),
    "partner": TokenHolder(subject=DEMO_PARTNER, partner=DEMO_PARTNER),
    "operator": TokenHolder(subject="demo-operator"),
    "arbiter": TokenHolder(subject="demo-arbiter"),
    "rail": TokenHolder(subject="simulated"),
}
"""By role: who holds the local stack's tokens."""


class TokenIssuer:
    """Signs tokens with a key kept in `directory` (mode 0600)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = _load_or_make(directory / "signing-key.pem")
        numbers = self._key.public_key().public_numbers()
        public = {"crv": "P-256", "kty": "EC", "x": _base64(numbers.x), "y": _base64(numbers.y)}
        thumbprint = hashlib.sha256(json.dumps(public, sort_keys=True, separators=(",", ":")).encode()).digest()
        self._key_id = base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()
        self.jwks_path = directory / "jwks.json"
        key = {**public, "kid": self._key_id, "alg": "ES256", "use": "sig"}
        self.jwks_path.write_text(json.dumps({"keys": [key]}, indent=2))

    def token(
        self, *, subject: str, roles: list[str], partner: str | None = None, lifetime_seconds: float = LIFETIME_SECONDS
    ) -> str:
        """A signed token. A negative lifetime makes an expired one, for tests."""
        payload = claims(
            subject,
            roles,
            partner,
            timedelta(seconds=lifetime_seconds),
            issuer=ISSUER,
            audience=AUDIENCE,
        )
        return self.sign(payload)

    def sign(self, payload: Mapping[str, Any]) -> str:
        """A token that says just this, be it what no issuer would say; for tests."""
        return jwt.encode(dict(payload), self._key, algorithm="ES256", headers={"kid": self._key_id})

    def token_per_role(self) -> dict[str, str]:
        """One token for each of HOLDERS, also written to ROLE.jwt for use on a command line."""
        tokens = {
            role: self.token(subject=holder.subject, roles=[role], partner=holder.partner)
            for role, holder in HOLDERS.items()
        }
        for role, token in tokens.items():
            write_atomically(self._directory / f"{role}.jwt", token)
        return tokens


def _load_or_make(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key
    except (OSError, ValueError):
        pass
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    return key


def _base64(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode()

"""What a token says: the claims the gateway reads, made in one place so that issuers and gateway agree."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from danbao_gateway.roles import Role


def claims(
    subject: str,
    roles: Iterable[Role | str],
    partner: str | None = None,
    lifetime: timedelta = timedelta(hours=1),
    *,
    issuer: str,
    audience: str,
    issued_at: float | None = None,
) -> dict[str, Any]:
    """The payload of a token, to be signed (ES256 or RS256) with a key of the issuer's JWKS, its `kid` in the header.

    `subject` becomes `sub` and reaches the services as x-danbao-subject, `roles` as x-danbao-roles, `partner` as
    x-danbao-partner. Raises ValueError for an empty subject, no role or an unknown role.
    """
    named = sorted({Role(role).value for role in roles})
    if not named:
        raise ValueError("a token needs at least one role")
    if not subject:
        raise ValueError("a token needs a subject")
    now = time.time() if issued_at is None else issued_at
    payload: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "roles": named,
        "iat": int(now),
        "exp": int(now + lifetime.total_seconds()),
        "jti": str(uuid.uuid4()),
    }
    if partner is not None:
        payload["partner"] = partner
    return payload

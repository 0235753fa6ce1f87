"""Who is calling: read from the peer's certificate and, from the gateway only, from the headers it set."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

GATEWAY = "gateway"
PARTNER = "partner"
# People who run the system, at a service's own port.
OPERATOR = "operator"
INTERNAL_DOMAIN = ".danbao.internal"

# Whoever has another role may do what concerns others: an operator, an arbiter, a rail, and what a deployment adds.
ORDINARY_ROLES = frozenset({"user", "partner"})


@dataclass(slots=True)
class Call:
    """One call as the servicer sees it."""

    method: str
    # The service name in the peer's certificate, such as "gateway" or "escrow".
    peer: str
    # From the token that the gateway checked; empty when a service calls on its own behalf.
    subject: str = ""
    roles: frozenset[str] = frozenset()
    partner: str = ""
    # The caller's trace; events carry it on.
    traceparent: str = ""
    # time.monotonic() at which the caller stops waiting; None without a deadline.
    deadline: float | None = None
    # Set by the servicer's answer; the log line carries it.
    replayed: bool = False
    facts: dict[str, str] = field(default_factory=dict)
    # The message that was sent; None for a stream of them.
    request: Any = None
    # Why, in the caller's own words; see acting.py.
    why: str = ""

    @property
    def request_caller(self) -> str:
        """Whose request ids these are: the partner's, else the token subject's, else the peer's.

        The partner of a user's token is where they come from: what was answered to the partner is not theirs. Nor is it
        a partner's what was answered to somebody of its own who may do more, such as an operator, who sees all.
        """
        if PARTNER in self.roles and not self.roles <= ORDINARY_ROLES:
            return f"further:{self.subject}"
        if self.partner and PARTNER in self.roles:
            return f"partner:{self.partner}"
        if self.subject:
            return f"subject:{self.subject}"
        return f"peer:{self.peer}"

    @property
    def is_internal(self) -> bool:
        """A service calls on its own behalf, not the gateway for somebody."""
        return self.peer != GATEWAY

    @property
    def is_privileged(self) -> bool:
        """Whether what it changes is told in the log of privileged actions."""
        if self.peer == GATEWAY:
            return not self.roles <= ORDINARY_ROLES
        return self.peer == OPERATOR

    def remaining_s(self) -> float | None:
        """Seconds until the deadline; None without one."""
        return None if self.deadline is None else self.deadline - time.monotonic()


_current: ContextVar[Call] = ContextVar("danbao_call")


def current_call() -> Call:
    """The call being served. Outside a call: LookupError."""
    return _current.get()


def set_current_call(call: Call) -> None:
    """For the interceptors, and for tests of servicers."""
    _current.set(call)

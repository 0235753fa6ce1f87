"""Who asks: read from the peer's certificate and, behind the gateway, from the token."""

from __future__ import annotations

from danbao_credit.domain.asker import Asker
from danbao_kit.call import Call

OPERATOR_PEER = "operator"


def asker_of(call: Call) -> Asker:
    """The local operator's certificate counts as an operator's token."""
    if call.is_internal:
        return Asker(peer=call.peer, is_operator=call.peer == OPERATOR_PEER)
    return Asker(
        subject=f"subjects/{call.subject}" if call.subject else "",
        # A partner's token without a partner stands for itself. A user's partner is where they come from, and no right.
        partner=(call.partner or f"subject:{call.subject}") if "partner" in call.roles else "",
        is_partner="partner" in call.roles,
        is_user="user" in call.roles,
        is_operator="operator" in call.roles,
        is_arbiter="arbiter" in call.roles,
    )

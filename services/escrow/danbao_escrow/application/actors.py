"""Who may see a trade, and on whose behalf a token may act."""

from __future__ import annotations

from danbao_escrow.domain.case_commands import CaseCommandName
from danbao_escrow.domain.commands import CommandName, Token
from danbao_escrow.domain.errors import NotAParty, RoleNotAllowed
from danbao_escrow.domain.model import Actor, Role, Trade
from danbao_escrow.domain.step_model import Asker
from danbao_escrow.domain.trade import roles_for

SYSTEM = Actor("platform", Role.SYSTEM)
"""The service itself, by a timer."""


def may_see(token: Token, *, buyer: str, seller: str, partner: str) -> bool:
    """Operators and arbiters see all, a partner its own trades, anybody else those they are a party of."""
    if token.sees_all:
        return True
    if token.is_partner and partner == token.partner:
        return True
    return token.own_subject != "" and token.own_subject in (buyer, seller)


def check_role(command: CommandName, actor: Actor, token: Token) -> None:
    """Raises RoleNotAllowed unless the command is one of the role's."""
    _check_allowed(command, actor, token, roles_for(command))


def _check_allowed(
    command: CommandName | CaseCommandName, actor: Actor, token: Token, allowed: frozenset[Role]
) -> None:
    """OPERATOR and ARBITER come from the token only; a carrier acts through a partner or an operator."""
    by_token = {
        Role.OPERATOR: token.is_operator,
        Role.ARBITER: token.is_arbiter,
        Role.CARRIER: token.is_partner or token.is_operator,
    }
    if actor.role not in allowed or not by_token.get(actor.role, True):
        raise RoleNotAllowed(actor.role, command, allowed)


def check_party(actor: Actor, token: Token, *, buyer: str, seller: str, partner: str) -> None:
    """Raises NotAParty unless the actor is the party of its role, and the token may act for it: it is that party's, or
    the partner's whose trade it is. A carrier acts in that partner's trades, or through an operator."""
    parties = {Role.BUYER: buyer, Role.SELLER: seller}
    of_its_own = token.is_partner and token.partner == partner
    if actor.role in parties:
        if actor.subject != parties[actor.role] or not (of_its_own or token.own_subject == actor.subject):
            raise NotAParty(actor.subject, actor.role)
    elif actor.role is Role.CARRIER and not (of_its_own or token.is_operator):
        raise NotAParty(actor.subject, actor.role)


def is_by_partner(actor: Actor, token: Token) -> bool:
    """Whether a partner acts in the party's name, and not the party itself. Whether it may was looked at."""
    return actor.role in (Role.BUYER, Role.SELLER) and actor.subject != token.own_subject


def officer(actor: Actor, token: Token) -> Actor:
    """The actor; of an arbiter or operator it is the token that says who it is, whatever the caller wrote."""
    if actor.role in (Role.ARBITER, Role.OPERATOR) and token.subject:
        return Actor(token.subject, actor.role)
    return actor


def asker_of(token: Token, partner: str) -> Asker:
    """For whom a payer's money is asked of payments: the partner whose trade it is acts for its parties; whoever else
    may act for the payer is the payer."""
    of_its_own = token.is_partner and token.partner == partner
    return Asker(partner, "" if of_its_own else token.subject)


def check_actor(
    command: CommandName | CaseCommandName,
    actor: Actor,
    token: Token,
    trade: Trade,
    *,
    allowed: frozenset[Role] | None = None,
) -> None:
    """Raises RoleNotAllowed, then NotAParty. `allowed`: who may give the command; of a trade's, its table says it."""
    if allowed is None:
        assert isinstance(command, CommandName), "other machines say who may"
        allowed = roles_for(command)
    _check_allowed(command, actor, token, allowed)
    if actor.role is Role.ARBITER and {actor.subject, token.subject} & {trade.buyer, trade.seller}:
        # Nobody judges their own case.
        raise RoleNotAllowed(actor.role, command, allowed)
    check_party(actor, token, buyer=trade.buyer, seller=trade.seller, partner=trade.partner)

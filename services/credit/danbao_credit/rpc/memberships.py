"""MembershipService: commands on the one write path, and reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import grpc

from danbao.credit.v1 import membership_pb2, membership_pb2_grpc
from danbao_credit.application import membership_commands as commands
from danbao_credit.application.get_terms import TermsWanted, get_terms
from danbao_credit.application.membership_commands import Token
from danbao_credit.application.ports import CreditReader, DepositMoney, MembershipReads
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.membership_errors import MembershipNotFound, StepInFlight
from danbao_credit.domain.membership_model import SALES, WALLET, Movement
from danbao_credit.domain.terms import TermsTable
from danbao_credit.rpc.membership_mapping import badge_message, membership_message, state_of
from danbao_kit.call import Call, current_call
from danbao_kit.clock import Clock
from danbao_kit.commands import CommandRunner
from danbao_kit.errors import FieldInvalid, FieldViolation, PageTokenInvalid
from danbao_kit.money import Money, check_currency, check_positive
from danbao_kit.paging import decode_token, encode_token, page_size

BADGE_LASTS_S = 60
_LOOK_AGAIN_S = 0.05
# A command that meets another's money gives up a little before its caller does.
_GIVE_UP_AHEAD_S = 0.3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SOURCES: Mapping[int, str] = {
    membership_pb2.DEPOSIT_SOURCE_UNSPECIFIED: WALLET,
    membership_pb2.DEPOSIT_SOURCE_WALLET: WALLET,
    membership_pb2.DEPOSIT_SOURCE_SALES: SALES,
}


@dataclass(frozen=True, slots=True)
class MembershipServicer(membership_pb2_grpc.MembershipServiceServicer):
    """Serves memberships."""

    runner: CommandRunner
    reads: MembershipReads
    judge: Judge
    table: TermsTable
    reader: CreditReader
    clock: Clock
    money: DepositMoney
    # Commits a command of our own within a call; raises what refused it.
    commit: Callable[[object], Awaitable[None]]

    async def ApplyMembership(
        self, request: membership_pb2.ApplyMembershipRequest, context: grpc.aio.ServicerContext
    ) -> membership_pb2.Membership:
        for position, currency in enumerate(request.currencies):
            check_currency(currency, f"currencies[{position}]")
        for position, currency in enumerate(request.currencies):
            self.table.limit_minor(self.table.default_grade, currency, field=f"currencies[{position}]")
        currencies, token = tuple(request.currencies), token_of(current_call())
        if await self._is_foreign(request.subject, token):
            command = commands.ApplyMembership(request.subject, currencies, token, is_foreign=True)
        else:
            statement = await self._statement(request.subject, currencies, token)
            command = commands.ApplyMembership(request.subject, currencies, token, statement)
        return await self._run("ApplyMembership", request, command, context)

    async def FundDeposit(
        self, request: membership_pb2.FundDepositRequest, context: grpc.aio.ServicerContext
    ) -> membership_pb2.Membership:
        check_currency(request.amount.currency, "amount.currency")
        check_positive(request.amount.amount_minor, "amount.amount_minor")
        command = commands.FundDeposit(
            id_of(request.name),
            Money(request.amount.currency, request.amount.amount_minor),
            _SOURCES[request.source],
            token_of(current_call()),
        )
        return await self._run("FundDeposit", request, command, context)

    async def SuspendMembership(
        self, request: membership_pb2.SuspendMembershipRequest, context: grpc.aio.ServicerContext
    ) -> membership_pb2.Membership:
        command = commands.SuspendMembership(id_of(request.name), request.reason, token_of(current_call()))
        return await self._run("SuspendMembership", request, command, context)

    async def ReinstateMembership(
        self, request: membership_pb2.ReinstateMembershipRequest, context: grpc.aio.ServicerContext
    ) -> membership_pb2.Membership:
        command = commands.ReinstateMembership(id_of(request.name), request.reason, token_of(current_call()))
        return await self._run("ReinstateMembership", request, command, context)

    async def LeaveMembership(
        self, request: membership_pb2.LeaveMembershipRequest, context: grpc.aio.ServicerContext
    ) -> membership_pb2.Membership:
        command = commands.LeaveMembership(id_of(request.name), token_of(current_call()))
        return await self._run("LeaveMembership", request, command, context)

    async def GetMembership(
        self, request: membership_pb2.GetMembershipRequest, context: grpc.aio.ServicerContext
    ) -> membership_pb2.Membership:
        view = await self.reads.membership(id_of(request.name))
        if view is None or not token_of(current_call()).may_see(view.membership.subject, view.membership.partner):
            raise MembershipNotFound(request.name)
        return membership_message(view)

    async def GetBadge(
        self, request: membership_pb2.GetBadgeRequest, context: grpc.aio.ServicerContext
    ) -> membership_pb2.Badge:
        view = await self.reads.membership_of(request.subject)
        await context.send_initial_metadata((("cache-control", f"max-age={BADGE_LASTS_S}"),))
        if view is None or not view.membership.is_member:
            return badge_message(request.subject, None, (), lasts_s=BADGE_LASTS_S)
        wanted = [TermsWanted(request.subject, currency, "subject") for currency in view.membership.currencies]
        terms = await get_terms(wanted, judge=self.judge, table=self.table, reader=self.reader, clock=self.clock)
        limits = [Money(item.currency, item.compensation_limit_minor) for item in terms if item.member]
        return badge_message(request.subject, view if limits else None, limits, lasts_s=BADGE_LASTS_S)

    async def ListMemberships(
        self, request: membership_pb2.ListMembershipsRequest, context: grpc.aio.ServicerContext
    ) -> membership_pb2.ListMembershipsResponse:
        token = token_of(current_call())
        scope = f"memberships {token} {request.subject} {request.state}"
        size = page_size(request.page_size)
        found = await self.reads.memberships(
            token,
            subject=request.subject,
            state=state_of(request.state),
            after=_position(scope, request.page_token),
            limit=size + 1,
        )
        last = found[size - 1].membership if len(found) > size else None
        more = (
            "" if last is None else f"{(last.create_time - _EPOCH) // timedelta(microseconds=1)} {last.membership_id}"
        )
        return membership_pb2.ListMembershipsResponse(
            memberships=[membership_message(view) for view in found[:size]],
            next_page_token=encode_token(scope, more) if more else "",
        )

    async def _is_foreign(self, subject: str, token: Token) -> bool:
        """Whether a partner applies for a subject that another has brought. Nothing is asked where the membership is
        its own. Raises OwnerUnknown."""
        if not token.is_strange_to(subject):
            return False
        view = await self.reads.membership_of(subject)
        if view is not None and token.role_for(subject, view.membership.partner) is not None:
            return False
        return await self.money.partner_of(subject) not in ("", token.partner)

    async def _statement(self, subject: str, currencies: tuple[str, ...], token: Token) -> tuple[Movement, ...]:
        """What payments knows of the deposits of who applies: first we listen, then we read, so nothing falls between.

        Nothing is asked for somebody who has a membership: the application is refused, or was answered before.
        Raises StatementUnknown.
        """
        if await self.reads.membership_of(subject) is not None:
            return ()
        await self.commit(commands.OpenDeposits(subject, currencies, token))
        moved = [await self.money.statement(subject, currency) for currency in currencies]
        return tuple(movement for each in moved for movement in each)

    async def _run(
        self, method: str, request: Any, command: object, context: grpc.aio.ServicerContext
    ) -> membership_pb2.Membership:
        """Waits for money of the membership that is under way, as long as the caller does."""
        while True:
            try:
                reply: membership_pb2.Membership = await self.runner.run(context, method, request.request_id, command)
            except StepInFlight:
                left_s = current_call().remaining_s()
                if left_s is not None and left_s <= _GIVE_UP_AHEAD_S:
                    raise
                await asyncio.sleep(_LOOK_AGAIN_S)
            else:
                return reply


def token_of(call: Call) -> Token:
    """What the call says about who is calling. The local operator's certificate counts as an operator's token."""
    is_operator = "operator" in call.roles or call.peer == "operator"
    is_partner, is_user = "partner" in call.roles, "user" in call.roles
    return Token(
        # A partner's token names an account of the partner's, which is no merchant, whatever it is called.
        subject=f"subjects/{call.subject}" if call.subject and (is_user or not is_partner) else "",
        # Without a partner it stands for itself.
        partner=call.partner or (f"subject:{call.subject}" if is_partner else ""),
        is_partner=is_partner,
        is_operator=is_operator,
        sees_all=is_operator or "arbiter" in call.roles,
    )


def id_of(name: str) -> UUID:
    """The id in memberships/{uuid}. Raises FieldInvalid for anything that is not a UUID in its usual form."""
    text = name.partition("/")[2]
    try:
        value = UUID(text)
    except ValueError:
        value = None
    if value is None or str(value) != text:
        raise FieldInvalid(FieldViolation("name", "must be memberships/{uuid}"))
    return value


def _position(scope: str, token: str) -> tuple[datetime, UUID] | None:
    if not token:
        return None
    try:
        at_us, membership_id = decode_token(scope, token).split()
        # What lies beyond a calendar is no position of ours.
        return _EPOCH + timedelta(microseconds=min(max(int(at_us), 0), 2**57)), UUID(membership_id)
    except ValueError as error:
        raise PageTokenInvalid from error

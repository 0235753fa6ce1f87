"""How cases, disputes and claims are found, written back and told."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from danbao_escrow.application import actors
from danbao_escrow.application.records import cause_of
from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain import claim, dispute, refund_case
from danbao_escrow.domain.case_commands import CaseCommand, CaseCommandName, CaseTimerName, NewEvidence
from danbao_escrow.domain.case_errors import CaseStateInvalid
from danbao_escrow.domain.case_model import Claim, Dispute, Evidence, Proceeding, RefundCase
from danbao_escrow.domain.deadlines import reminder_time
from danbao_escrow.domain.errors import StepInFlight, TradeNotFound
from danbao_escrow.domain.events import EventKind, TradeEvent
from danbao_escrow.domain.machine import Way
from danbao_escrow.domain.model import Actor, Line, Role, Trade
from danbao_escrow.domain.step_model import Cause
from danbao_kit.decision import Moment
from danbao_kit.immutable import replace

P = TypeVar("P", RefundCase, Dispute, Claim)

_TABLES: dict[type, Any] = {RefundCase: refund_case.TABLE, Dispute: dispute.TABLE, Claim: claim.TABLE}


def visible_trade(command: Any, trade_id: UUID, working: EscrowSet) -> Trade:
    """Raises TradeNotFound."""
    trade = working.trades.get(trade_id)
    if trade is None or not _sees(command, trade):
        raise TradeNotFound(f"trades/{trade_id}")
    return trade


def found(command: Any, name: str, kind: type[P], missing: Any, working: EscrowSet) -> tuple[P, Trade]:
    """The case, dispute or claim of that name with its trade. Raises `missing`, RoleNotAllowed, NotAParty,
    StepInFlight while its own money is under way."""
    thing = working.proceedings.get(name)
    trade = None if thing is None else working.trades.get(thing.trade_id)
    if not isinstance(thing, kind) or trade is None or not _sees(command, trade):
        raise missing(name)
    roles = _TABLES[kind].roles_for(command.name_of_command)
    actors.check_actor(command.name_of_command, command.actor, command.token, trade, allowed=roles)
    if thing.step_pending:
        raise StepInFlight(trade.name, trade.pending_step)
    return thing, trade


def way_of(command: CaseCommand, thing: P, moment: Moment) -> Way[Any, Any]:
    """What the command does to it. Raises CaseStateInvalid."""
    way: Way[Any, Any] | None = _TABLES[type(thing)].way(thing, command.name_of_command, command.actor.role, moment.now)
    if way is None:
        raise state_invalid(command, thing, moment)
    return way


def way_of_time(thing: RefundCase | Dispute, moment: Moment) -> Way[Any, Any] | None:
    """What time does to it now."""
    command = CaseCommandName.TIME_PASSES
    way: Way[Any, Any] | None = _TABLES[type(thing)].way(thing, command, Role.SYSTEM, moment.now)
    return way


def state_invalid(command: CaseCommand, thing: Proceeding, moment: Moment) -> CaseStateInvalid:
    legal = _TABLES[type(thing)].legal_commands(thing, moment.now)
    return CaseStateInvalid(thing.name, command.name_of_command, thing.state, legal)


def check_no_step(trade: Trade) -> None:
    """Raises StepInFlight: the money of a trade moves one step at a time."""
    if trade.is_pending:
        raise StepInFlight(trade.name, trade.pending_step)


def write(working: EscrowSet, moment: Moment, thing: P, **changes: Any) -> P:
    """Puts a new version of it."""
    written = replace(thing, update_time=moment.now, revision=thing.revision + 1, **changes)
    working.proceedings.put(written.name, written)
    return written


def waits(since: datetime, period: timedelta | None) -> dict[str, datetime | None]:
    """The fields that say until when it waits, and when it says so beforehand."""
    if period is None:
        return {"deadline_time": None, "remind_time": None}
    return {"deadline_time": since + period, "remind_time": reminder_time(since, period)}


def tell_of(
    moment: Moment,
    kind: EventKind,
    thing: Proceeding,
    trade: Trade,
    actor: Actor,
    *,
    amount_minor: int = 0,
    reason: str = "",
) -> None:
    """Puts an event on the stream that shows the case, dispute or claim."""
    line_ids = () if isinstance(thing, Claim) else (thing.line_id,)
    moment.emit(TradeEvent(kind, trade, actor, line_ids, amount_minor, reason, thing))


def evidence_of(given: tuple[NewEvidence, ...], actor: Actor, moment: Moment) -> tuple[Evidence, ...]:
    """Evidence with who gave it and when."""
    return tuple(
        Evidence(item.uri, item.sha256, item.size_bytes, item.media_type, item.note, actor, moment.now)
        for item in given
    )


def line_of(trade: Trade, thing: RefundCase | Dispute) -> Line:
    """The line it is about."""
    line = trade.line(thing.line_id)
    assert line is not None, "a case is on a line of its trade"
    return line


def with_line(trade: Trade, changed: Line) -> Trade:
    """The trade with one of its lines changed."""
    lines = tuple(changed if line.line_id == changed.line_id else line for line in trade.lines)
    return replace(trade, lines=lines)


def command_cause(command: CaseCommand, moment: Moment) -> Cause:
    """Who gave the command, and why."""
    return cause_of(
        moment,
        command=command.name_of_command,
        actor=actors.officer(command.actor, command.token),
        token_subject=command.token.subject,
        reason=getattr(command, "reason", ""),
    )


def timer_cause(timer: CaseTimerName, moment: Moment) -> Cause:
    """Time itself."""
    return cause_of(moment, command=timer, actor=actors.SYSTEM)


def _sees(command: Any, trade: Trade) -> bool:
    return actors.may_see(command.token, buyer=trade.buyer, seller=trade.seller, partner=trade.partner)

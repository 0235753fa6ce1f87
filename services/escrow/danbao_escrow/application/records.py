"""How a decision writes a trade back, and what it leaves on the timeline."""

from __future__ import annotations

from danbao_escrow.application.working_set import EscrowSet
from danbao_escrow.domain.deadlines import earliest_deadline
from danbao_escrow.domain.events import EventKind, TradeEvent
from danbao_escrow.domain.model import END_STATES, Actor, TimelineEntry, Trade
from danbao_escrow.domain.step_model import Cause
from danbao_escrow.domain.trade import derived_state
from danbao_kit.decision import Moment
from danbao_kit.immutable import replace


def changed(trade: Trade, moment: Moment) -> Trade:
    """The trade with all that follows from its lines and steps: state, end, deadline, revision."""
    state = derived_state(trade.lines)
    return replace(
        trade,
        state=state,
        end_time=trade.end_time or (moment.now if state in END_STATES else None),
        update_time=moment.now,
        revision=trade.revision + 1,
        open_cases=sum(1 for line in trade.lines if line.open_case),
        deadline_time=earliest_deadline(trade),
    )


def record(
    working: EscrowSet,
    moment: Moment,
    trade: Trade,
    cause: Cause,
    *,
    line_ids: tuple[str, ...] = (),
    reason: str | None = None,
    ledger_reference: str = "",
    amount_minor: int = 0,
    subject: str = "",
) -> Trade:
    """Puts the changed trade with one more timeline entry, and gives it back as it now stands."""
    written = changed(replace(trade, timeline_length=trade.timeline_length + 1), moment)
    working.trades.put(written.trade_id, written)
    working.timeline.append(
        TimelineEntry(
            trade_id=written.trade_id,
            position=written.timeline_length,
            command=cause.command,
            actor=cause.actor,
            token_subject=cause.token_subject,
            line_ids=line_ids,
            state=written.state,
            reason=cause.reason if reason is None else reason,
            ledger_reference=ledger_reference,
            amount_minor=amount_minor,
            trace_id=cause.trace_id,
            create_time=moment.now,
            subject=subject,
        )
    )
    return written


def tell(
    moment: Moment,
    kind: EventKind,
    trade: Trade,
    actor: Actor,
    *,
    line_ids: tuple[str, ...] = (),
    amount_minor: int = 0,
    reason: str = "",
    by_partner: bool = False,
) -> None:
    """Puts an event on the stream."""
    moment.emit(TradeEvent(kind, trade, actor, line_ids, amount_minor, reason, by_partner=by_partner))


def cause_of(moment: Moment, *, command: str, actor: Actor, token_subject: str = "", reason: str = "") -> Cause:
    """Who did this and why, in this moment's trace."""
    return Cause(
        command=command,
        actor=actor,
        token_subject=token_subject,
        reason=reason,
        trace_id=moment.trace_id,
        traceparent=moment.traceparent,
    )

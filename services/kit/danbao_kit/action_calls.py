"""Serves the log of privileged actions, for each service's AuditService."""

from __future__ import annotations

from danbao.type.v1 import privileged_action_pb2 as pb
from danbao_kit.action_log import ActionLog, Checked, Wanted
from danbao_kit.call import OPERATOR, Call, current_call
from danbao_kit.errors import FieldInvalid, FieldViolation, PageTokenInvalid, PeerNotAllowed
from danbao_kit.paging import decode_token, encode_token, page_size
from danbao_kit.privileged_actions import BEGINNING, Entry, Place, can_be_told
from danbao_kit.timestamps import moment_of

# Left of the caller's time to tell what was found.
_TO_TELL_S = 0.3
_LEAST_S = 0.05
_KINDS = {
    "TOKEN": pb.PrivilegedAction.CALLER_KIND_TOKEN,
    "CERTIFICATE": pb.PrivilegedAction.CALLER_KIND_CERTIFICATE,
}


class ActionCalls:
    """For operators only, whoever else knows the methods."""

    def __init__(self, log: ActionLog) -> None:
        self._log = log

    async def list(self, request: pb.ListPrivilegedActionsRequest) -> pb.ListPrivilegedActionsResponse:
        """A page, the newest first. Raises PeerNotAllowed, FieldInvalid, PageTokenInvalid."""
        _only_operators(current_call())
        wanted = Wanted(
            actor=request.actor,
            operation=request.operation,
            object=request.object,
            since=moment_of(request.start_time, "start_time") if request.HasField("start_time") else None,
            until=moment_of(request.end_time, "end_time") if request.HasField("end_time") else None,
        )
        if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
            raise FieldInvalid(FieldViolation("end_time", "is not after start_time"))
        scope, size = f"privileged actions {wanted}", page_size(request.page_size)
        before = _sequence_of(scope, request.page_token) if request.page_token else None
        found = await self._log.page(wanted, before=before, limit=size + 1)
        more = encode_token(scope, str(found[size - 1].sequence)) if len(found) > size else ""
        return pb.ListPrivilegedActionsResponse(
            actions=[action_message(entry) for entry in found[:size]], next_page_token=more
        )

    async def verify(self, request: pb.VerifyPrivilegedActionsRequest) -> pb.PrivilegedActionsCheck:
        """What a look along the chain found. Raises PeerNotAllowed, FieldInvalid."""
        call = current_call()
        _only_operators(call)
        if bool(request.after_sequence) != bool(request.after_hash):
            raise FieldInvalid(FieldViolation("after_hash", "is given together with after_sequence"))
        remaining_s = call.remaining_s()
        checked = await self._log.verify(
            after=Place(request.after_sequence, bytes.fromhex(request.after_hash)),
            max_entries=request.max_entries or None,
            budget_s=None if remaining_s is None else max(remaining_s - _TO_TELL_S, _LEAST_S),
        )
        return check_message(checked)


def action_message(entry: Entry) -> pb.PrivilegedAction:
    """The entry as its contract shows it; without what somebody changed into what no contract can show."""
    action, words = entry.action, entry.words
    message = pb.PrivilegedAction(
        sequence=entry.sequence,
        method=action.method,
        operation=action.operation,
        caller_kind=_KINDS.get(action.caller_kind, pb.PrivilegedAction.CALLER_KIND_UNSPECIFIED),
        actor=action.actor,
        roles=[role for role in action.roles.split(",") if role],
        partner=action.partner,
        outcome=action.outcome,
        trace_id=action.trace_id,
        erased=words is None,
        hash=entry.hash.hex(),
    )
    if can_be_told(action.create_time):
        message.create_time.FromDatetime(action.create_time)
    if words is not None:
        message.request_id = words.request_id
        message.fingerprint = words.fingerprint.hex()
        message.object = words.object
        message.why = words.why
    return message


def check_message(checked: Checked) -> pb.PrivilegedActionsCheck:
    """The look as its contract shows it."""
    wrong, head = checked.broken, checked.head or BEGINNING
    return pb.PrivilegedActionsCheck(
        intact=checked.complete and wrong is None,
        complete=checked.complete,
        verified_sequence=checked.reached.sequence,
        hash=checked.reached.hash.hex(),
        entries=checked.entries,
        erased=checked.erased,
        head_sequence=head.sequence,
        head_hash=head.hash.hex(),
        broken_sequence=0 if wrong is None else wrong.sequence,
        broken_because="" if wrong is None else wrong.what,
    )


def _only_operators(call: Call) -> None:
    """Raises PeerNotAllowed for others: the log names people who decide about others."""
    if "operator" not in call.roles and call.peer != OPERATOR:
        raise PeerNotAllowed(call.peer, call.method)


def _sequence_of(scope: str, token: str) -> int:
    position = decode_token(scope, token)
    if not position.isascii() or not position.isdigit() or len(position) > 18:
        raise PageTokenInvalid
    return int(position)

"""Nobody gets in, or sees, where they don't belong: every kind of caller × every RPC × theirs, foreign, missing.

What is expected stands in principal_rules.py; who may knock at all, in the gateway's roles.yaml.
"""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from principal_rules import OK, OWNERS, ROLE_OF, RULES, Rule
from principals import OUTSIDERS, OWNING, STRANGERS, Caller, Principal, about_nothing, fresh, itself

from danbao_gateway.contracts import Contracts
from danbao_gateway.roles import INTERNAL, shipped_rules
from danbao_local import calls, demo
from danbao_local.client import GatewayClient
from danbao_local.layout import StateLayout
from danbao_local.tokens import TokenIssuer

METHODS = [method for method in Contracts.installed().methods() if not method.package.startswith("danbao.testing.")]
UNARY = {method.full_name for method in METHODS if not method.streaming}
IMPORT = "danbao.payments.v1.ReconciliationService/ImportStatement"
STREAMS: dict[str, Any] = {
    "danbao.payments.v1.EventService/WatchEvents": {},
    "danbao.escrow.v1.EventService/WatchEvents": {},
    "danbao.credit.v1.EventService/WatchEvents": {},
    "danbao.credit.v1.CreditService/WatchScores": {"subjects": [demo.SELLER]},
    IMPORT: [],
}
"""Bodies of the methods that the card does not list."""

ROLES = shipped_rules()
OPERATOR = next(each for each in OWNING if each.name == "operator")
PARTNER = next(each for each in OWNING if each.name == "partner")
OTHER_PARTNER = next(each for each in STRANGERS if each.name == "another partner")
DENIED = "PERMISSION_DENIED/ROLE_NOT_ALLOWED"
MISSING_TOKEN = "UNAUTHENTICATED/TOKEN_MISSING"
SERVICES = ("payments", "escrow", "credit")
WORLDS = {"parties": ("buyer", "seller", "arbiter", "rail"), "partner": ("partner",), "operator": ("operator",)}
"""What a command uses up is there once for the partner, once for operators, once for all others: no command of these is
allowed to two of them."""


def may(rpc: str, principal: Principal) -> bool:
    """Whether the role table lets the principal knock."""
    allowed = ROLES[rpc]
    return allowed != INTERNAL and bool(set(allowed) & set(principal.roles or ()))


def knocking(rpc: str, principals: tuple[Principal, ...]) -> list[Principal]:
    return [principal for principal in principals if may(rpc, principal)]


@dataclass
class Worlds:
    """Fixtures of their own for each of WORLDS, made together before anything is done to the first."""

    running: Any
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    answered_to_the_partner: dict[str, Any] = field(default_factory=dict)
    """Bodies by method, with their request ids."""

    def body(self, world: str, rpc: str) -> Any:
        if rpc in STREAMS:
            return STREAMS[rpc] if rpc != IMPORT else calls.statement_messages(datetime.now(UTC))
        if not self.made:
            for each in WORLDS:
                entries = calls.prepare(self.running.card, _with_a_trade_of_its_own(self.running))
                self.made[each] = {entry["rpc"]: entry["body"] for entry in entries}
        return self.made[world][rpc]


def _with_a_trade_of_its_own(running: Any) -> demo.DemoResult:
    """The demo, with a completed trade that nobody has claimed anything of."""
    with GatewayClient(running.card) as client:
        _, trade = demo.secured_trade(client)
        name = {"name": trade["name"]}
        return replace(running.demo, trade=client.call("danbao.escrow.v1.TradeService/GetTrade", name, role="partner"))


@pytest.fixture(scope="module")
def running(own_running: Any) -> Any:
    """What is claimed of a seller needs its grade, and three times all commands are done to the demo's."""
    return own_running


@pytest.fixture(scope="module")
def worlds(running: Any) -> Worlds:
    return Worlds(running)


@pytest.fixture(scope="module")
def caller(running: Any) -> Iterator[Caller]:
    made = Caller(running.card, TokenIssuer(StateLayout.at(running.state_dir).tokens))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def books_balance() -> None:
    """Once at the end of the module is enough: see `test_in_the_end_the_books_are_whole`."""


def heads(caller: Caller) -> dict[str, int]:
    """How far each service's stream of events has come: every change of a trade, payment or membership is an event."""
    return {
        name: caller.read(f"danbao.{name}.v1.EventService/GetStreamHead", {}, OPERATOR).cursor.sequence
        for name in SERVICES
    }


def at_rest(caller: Caller) -> dict[str, int]:
    """The heads once nothing is under way any more."""
    before, since = heads(caller), time.monotonic()
    deadline = since + 20
    while time.monotonic() < deadline:
        time.sleep(0.02)
        now = heads(caller)
        if now != before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > 0.1:
            return before
    raise AssertionError("the services never come to rest")


def answered(caller: Caller, rpc: str, body: Any, principal: Principal, expected: str, cell: str) -> Any:
    answer = caller.ask(rpc, body, principal)
    said = f"{answer.what} ({answer.message})"
    assert answer.what == expected, f"{cell}: {principal.name} is answered {said}, not {expected}"
    return answer


def test_every_rpc_has_a_rule():
    names = {method.full_name for method in METHODS}
    missing, beyond = names - RULES.keys(), RULES.keys() - names
    assert not missing, (
        f"{sorted(missing)}: write a row in tests/e2e/principal_rules.py for each. Say with `about` which fields of "
        "its body name what belongs to somebody, and with reads(), lists(), commands(), officers() or a Rule what is "
        "answered to whom it belongs, to strangers and to who asks for what does not exist."
    )
    assert not beyond, f"{sorted(beyond)}: no such methods; remove their rows from tests/e2e/principal_rules.py"
    without_body = names - calls.EXAMPLES.keys() - STREAMS.keys()
    assert not without_body, f"{sorted(without_body)}: give each a body in calls.EXAMPLES, or in STREAMS"


@pytest.mark.parametrize("rpc", sorted(RULES))
def test_every_rule_answers_all_who_may_knock(rpc: str):
    """A row is whole, and says nothing of those whom the role table refuses."""
    rule, allowed = RULES[rpc], set(ROLES[rpc])
    owners = {name for name in OWNERS if ROLE_OF[name] in allowed}
    assert owners <= rule.own.keys(), f"{rpc}: `own` leaves out {sorted(owners - rule.own.keys())}"
    if not rule.about:
        return
    assert owners <= rule.missing.keys(), f"{rpc}: `missing` leaves out {sorted(owners - rule.missing.keys())}"
    strangers = allowed & {"user", "partner", "rail"}
    assert strangers <= rule.foreign.keys(), f"{rpc}: `foreign` leaves out {sorted(strangers - rule.foreign.keys())}"


@pytest.mark.parametrize("service", SERVICES)
def test_whom_the_role_table_refuses_never_reaches_a_service(running, caller, worlds, service):
    log = StateLayout.at(running.state_dir).log(service)
    asked: dict[str, str] = {}
    began = log.stat().st_size
    for method in METHODS:
        rpc = method.full_name
        if method.upstream != service:
            continue
        for principal in (*OUTSIDERS, *STRANGERS, *OWNING):
            if may(rpc, principal):
                continue
            trace_id = secrets.token_hex(16)
            asked[trace_id] = f"{rpc} by {principal.name}"
            answer = caller.ask(rpc, fresh(worlds.body("parties", rpc)), principal, trace_id=trace_id)
            expected = MISSING_TOKEN if principal.roles is None else DENIED
            assert answer.what == expected, f"{asked[trace_id]} is answered {answer.what}, not {expected}"
    last = secrets.token_hex(16)
    caller.ask(f"danbao.{service}.v1.EventService/GetStreamHead", {}, OPERATOR, trace_id=last)
    written = _log_up_to(log, began, last)
    reached = [cell for trace_id, cell in asked.items() if trace_id in written]
    assert not reached, f"refused, but not before {service}: {reached}"
    assert len(asked) > 100


def _log_up_to(log: Path, began: int, trace_id: str) -> str:
    """What a service has written since, once it has told of the call of that trace."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with log.open() as file:
            file.seek(began)
            written = file.read()
        if trace_id in written:
            return written
        time.sleep(0.05)
    raise AssertionError(f"{log.name} never tells of the trace {trace_id}: it proves nothing of others")


@pytest.mark.parametrize(
    "rpc",
    [
        rpc
        for rpc in sorted(RULES, key=lambda rpc: bool(RULES[rpc].differs))
        if knocking(rpc, STRANGERS) and RULES[rpc].foreign
    ],
)
def test_what_is_somebody_else_s_is_as_if_it_did_not_exist(caller, worlds, rpc):
    rule, body = RULES[rpc], worlds.body("parties", rpc)
    changes = [] if RULES[rpc].differs else [at_rest(caller)]
    for principal in knocking(rpc, STRANGERS):
        expected = stranger_s(rule, principal)
        foreign = answered(caller, rpc, fresh(body), principal, expected, f"{rpc}, somebody else's")
        if rule.differs:
            continue
        nothing, instead = about_nothing(body, rule)
        missing = answered(caller, rpc, nothing, principal, expected, f"{rpc}, missing")
        names = dict.fromkeys(instead, "NAME")
        others = dict.fromkeys(instead.values(), "NAME")
        assert foreign.without(names) == missing.without(others), (
            f"{rpc}: {principal.name} can tell somebody else's ({foreign}) from what does not exist ({missing})"
        )
    for before in changes:
        assert heads(caller) == before, f"{rpc}: a stranger has changed something"


def stranger_s(rule: Rule, principal: Principal) -> str:
    """What a stranger of these roles is answered: with several, the most that any of them would be."""
    roles = principal.roles or ()
    return next(rule.foreign[role] for role in ("partner", "user", "rail") if role in roles and role in rule.foreign)


@pytest.mark.parametrize("rpc", list(RULES))
@pytest.mark.parametrize("world", WORLDS)
def test_whose_it_is_is_answered(caller, worlds, world, rpc):
    rule = RULES[rpc]
    owners = [each for each in knocking(rpc, OWNING) if each.name in WORLDS[world]]
    if not owners:
        return
    body = worlds.body(world, rpc)
    for principal in owners:
        asked = fresh(body)
        answered(caller, rpc, asked, principal, rule.own[principal.name], f"{rpc}, their own")
        if principal is PARTNER and rule.own["partner"] == OK:
            worlds.answered_to_the_partner[rpc] = asked
        if rule.about:
            nothing, _ = about_nothing(body, rule)
            answered(caller, rpc, nothing, principal, rule.missing[principal.name], f"{rpc}, missing")
    if rule.itself and world == "parties":
        answered(caller, rpc, fresh(body), itself(body, rule), rule.itself, f"{rpc}, about itself")


RECORDED = [
    method.full_name
    for method in METHODS
    if method.has_request_id and RULES[method.full_name].own.get("partner") == OK and not method.streaming
]


@pytest.mark.parametrize("rpc", [rpc for rpc in RECORDED if knocking(rpc, STRANGERS) and not RULES[rpc].differs])
def test_what_was_answered_to_a_partner_is_answered_to_nobody_else(caller, worlds, rpc):
    """Also not to its own users: the request id and the whole body are known to who sends them again."""
    if rpc not in worlds.answered_to_the_partner:
        body = worlds.body("partner", rpc)
        answered(caller, rpc, body, PARTNER, OK, f"{rpc}, their own")
        worlds.answered_to_the_partner[rpc] = body
    for principal in knocking(rpc, STRANGERS):
        body = worlds.answered_to_the_partner[rpc]
        answered(caller, rpc, body, principal, stranger_s(RULES[rpc], principal), f"{rpc}, the partner's own request")


def operations() -> list[tuple[str, str, str]]:
    """(BatchExecute, the operation's field in JSON, the method that does the same), of each service with batches."""
    found = []
    for rpc in (name for name in RULES if name.endswith("/BatchExecute")):
        request = descriptor_pool.Default().FindMethodByName(rpc.replace("/", ".")).input_type
        for operation in request.fields_by_name["operations"].message_type.fields:
            name = operation.message_type.name.removesuffix("Request")
            service = rpc.split(".")[1]
            alone = next(each for each in RULES if each.endswith(f"/{name}") and each.split(".")[1] == service)
            found.append((rpc, operation.json_name, alone))
    return found


@pytest.mark.parametrize(("rpc", "operation", "alone"), operations())
def test_an_operation_of_a_batch_is_answered_as_it_is_alone(caller, worlds, rpc, operation, alone):
    """In a batch the role table sees only BatchExecute: what a role may not do alone, it may not do there."""
    rule, body = RULES[alone], worlds.body("parties", alone)
    before = at_rest(caller)
    answer = caller.ask(rpc, {"operations": [{operation: fresh(body)}]}, OTHER_PARTNER)
    if may(alone, OTHER_PARTNER):
        assert answer.what == rule.foreign["partner"], f"{alone} in a batch: another partner is answered {answer}"
    else:
        refused = ("PERMISSION_DENIED/", "NOT_FOUND/")
        assert answer.what.startswith(refused), f"{alone} in a batch: another partner is answered {answer}"
        own = caller.ask(rpc, {"operations": [{operation: fresh(body)}]}, PARTNER)
        assert own.what.startswith("PERMISSION_DENIED/"), f"{alone} in a batch: its own partner is answered {own}"
    if rule.about and not rule.differs:
        nothing, instead = about_nothing(body, rule)
        missing = caller.ask(rpc, {"operations": [{operation: nothing}]}, OTHER_PARTNER)
        names, others = dict.fromkeys(instead, "NAME"), dict.fromkeys(instead.values(), "NAME")
        assert answer.without(names) == missing.without(others), f"{alone} in a batch: {answer} is not {missing}"
    if answer.what != OK:
        assert heads(caller) == before, f"{alone} in a batch: another partner has changed something"


def test_in_the_end_the_books_are_whole(caller):
    """Whatever all of them tried, debits are credits, and the audits of both services find nothing."""
    at_rest(caller)
    for total in caller.read("danbao.payments.v1.LedgerService/GetTrialBalance", {}, OPERATOR).totals:
        assert total.debits_posted_minor == total.credits_posted_minor, total.currency
    for service in ("payments", "escrow"):
        audit = caller.read(f"danbao.{service}.v1.AuditService/GetAudit", {}, OPERATOR)
        assert audit.intact, audit.violations

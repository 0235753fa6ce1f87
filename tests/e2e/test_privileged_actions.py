"""Who froze this account, and why: what is done by privilege can be read afterwards, with its trace."""

import json
import urllib.error
import urllib.request

import pytest

from danbao.payments.v1 import audit_pb2_grpc
from danbao.type.v1 import privileged_action_pb2 as pb
from danbao_gateway.contracts import Contracts
from danbao_gateway.roles import INTERNAL, shipped_rules
from danbao_kit.call import ORDINARY_ROLES
from danbao_local import calls, demo
from danbao_local.client import CallFailed, ClientTrace, GatewayClient
from danbao_local.health import service_channel

PACKAGES = {name: f"danbao.{name}.v1" for name in ("payments", "escrow", "credit")}
ACCOUNTS = "danbao.payments.v1.AccountService"
# What moves money at payments or a rail is answered when they have answered; it is told when it is begun.
DONE = {"OK", "UNDER_WAY"}


def listed(client, service, **wanted):
    """All entries, newest first."""
    rpc, token, found = f"{PACKAGES[service]}.AuditService/ListPrivilegedActions", "", []
    while True:
        page = client.call(rpc, {**wanted, "pageSize": 100, "pageToken": token}, role="operator")
        found.extend(page.actions)
        token = page.next_page_token
        if not token:
            return found


def new_account(client):
    body = {
        "requestId": demo.new_id(),
        "account": {"owner": f"subjects/{demo.new_id()}", "kind": "user.available", "currency": "CNY"},
    }
    return client.call(f"{ACCOUNTS}/CreateAccount", body, role="partner").name


def mutations(*, by_privilege_only):
    """Methods that carry a request id or a stream, and that nobody, or somebody, without a privilege may call."""
    rules = shipped_rules()
    return {
        method.full_name
        for method in Contracts.installed().methods()
        if (method.has_request_id or method.client_streaming)
        and rules[method.full_name] != INTERNAL
        and bool(ORDINARY_ROLES.isdisjoint(rules[method.full_name])) is by_privilege_only
    }


def test_every_mutation_by_privilege_leaves_one_entry_and_every_other_none(running, client):
    """From the contracts and the table of roles: a new method is checked without anybody thinking of it."""
    sent = send_all(running, client)
    told = {}
    for service in PACKAGES:
        for action in listed(client, service):
            told.setdefault(action.request_id, []).append(action)
    streamed = {"danbao.payments.v1.ReconciliationService/ImportStatement"}
    by_privilege = {rpc for rpc, (role, _) in sent.items() if role not in ORDINARY_ROLES}
    assert mutations(by_privilege_only=True) <= by_privilege | streamed, "each has a body, sent by one who may"
    for rpc, (role, request_id) in sent.items():
        found = told.get(request_id, [])
        if role in ORDINARY_ROLES:
            assert found == [], rpc
            continue
        (action,) = found
        method = rpc.rpartition("/")[2]
        assert (action.method, action.operation) == (rpc, method)
        assert action.outcome in DONE, rpc
        assert (list(action.roles), action.actor) == ([role], calls_as(role))
        assert action.object, rpc
        assert len(action.trace_id) == 32, rpc
    imports = [action for found in told.values() for action in found if action.method in streamed]
    assert len({action.object for action in imports}) == len(imports) > 0


def send_all(running, client):
    """The card's bodies, each as it stands there: those with a request id by their method, with role and id."""
    sent = {}
    for entry in running.card.calls:
        client.call(entry["rpc"], entry["body"], role=entry["role"])
        if "requestId" in entry["body"]:
            sent[entry["rpc"]] = (entry["role"], entry["body"]["requestId"])
    return sent


def test_what_others_may_do_too_is_told_where_a_privileged_caller_does_it(running, client):
    """Each body of an ordinary caller once more, as a new request of whoever else may: done is told, once."""
    send_all(running, client)
    rules, done = shipped_rules(), set()
    for entry in running.card.calls:
        others = [role for role in rules[entry["rpc"]] if role not in ORDINARY_ROLES]
        if entry["role"] not in ORDINARY_ROLES or "requestId" not in entry["body"] or not others:
            continue
        body, service = {**entry["body"], "requestId": demo.new_id()}, entry["rpc"].split(".")[1]
        try:
            client.call(entry["rpc"], body, role=others[0])
        except CallFailed as refused:
            outcomes = {refused.reason, "UNDER_WAY"}
        else:
            outcomes = DONE
            done.add(entry["rpc"].rpartition("/")[2])
        found = [action.outcome for action in listed(client, service) if action.request_id == body["requestId"]]
        assert len(found) == 1 or (not found and outcomes is not DONE), entry["rpc"]
        assert set(found) <= outcomes, entry["rpc"]
    assert {"CreatePayment", "CreateAccount", "RefundPayment", "CreateTopUp", "CreateWithdrawal"} <= done


def calls_as(role):
    return {"operator": "demo-operator", "arbiter": "demo-arbiter", "rail": "simulated"}[role]


def test_bodies_say_why_in_their_own_field_where_the_contract_has_one(running, client):
    """Whatever the contract calls it: the words of the body stand in the log."""
    for entry in running.card.calls:
        said = {entry["body"].get(name) for name in ("reason", "decision", "description")} - {None}
        if entry["role"] in ORDINARY_ROLES or not said or "requestId" not in entry["body"]:
            continue
        client.call(entry["rpc"], entry["body"], role=entry["role"])
        service, method = entry["rpc"].split(".")[1], entry["rpc"].rpartition("/")[2]
        (action,) = [
            action
            for action in listed(client, service, operation=method)
            if action.request_id == entry["body"]["requestId"]
        ]
        assert {action.why} == said, entry["rpc"]


def test_an_operator_freezes_an_account_and_everybody_can_read_who_and_why(running, client):
    account = new_account(client)
    trace = ClientTrace("a court order")
    body = {"requestId": demo.new_id(), "name": account}
    with GatewayClient(running.card, trace) as traced:
        traced.call(f"{ACCOUNTS}/FreezeAccount", body, role="operator", why="法院 order 12/26, 100%")
    client.call(f"{ACCOUNTS}/FreezeAccount", body, role="operator", why="the same again")
    (action,) = listed(client, "payments", object=account)
    assert (action.operation, action.actor, action.outcome) == ("FreezeAccount", "demo-operator", "OK")
    assert action.why == "法院 order 12/26, 100%"
    assert action.trace_id == trace.trace_id
    assert action.caller_kind == pb.PrivilegedAction.CALLER_KIND_TOKEN
    assert not action.erased


def test_an_arbiter_decides_a_dispute_and_an_operator_promotes_a_model(running, client):
    """As the bodies of the card do; each in its own service's log, with the caller's trace."""
    wanted = {
        "danbao.escrow.v1.DisputeService/DecideDispute": ("escrow", "demo-arbiter"),
        "danbao.credit.v1.ModelService/PromoteModelVersion": ("credit", "demo-operator"),
    }
    for entry in running.card.calls:
        if entry["rpc"] not in wanted:
            continue
        service, actor = wanted.pop(entry["rpc"])
        trace = ClientTrace(entry["rpc"])
        with GatewayClient(running.card, trace) as traced:
            traced.call(entry["rpc"], entry["body"], role=entry["role"])
        method = entry["rpc"].rpartition("/")[2]
        (action,) = [
            action
            for action in listed(client, service, operation=method, object=entry["body"]["name"])
            if action.request_id == entry["body"]["requestId"]
        ]
        assert (action.actor, action.why, action.outcome) == (actor, entry["body"]["reason"], "OK")
    assert not wanted


def test_the_trace_of_a_decision_is_the_caller_s(running, client):
    """A model is made under a trace of our own: the entry names it."""
    entry = next(each for each in running.card.calls if each["rpc"].endswith("ModelService/SetChallenger"))
    body = {**entry["body"], "requestId": demo.new_id()}
    trace = ClientTrace("a challenger")
    with GatewayClient(running.card, trace) as traced:
        try:
            traced.call(entry["rpc"], body, role="operator", why="to compare")
            outcome = "OK"
        except CallFailed as refused:
            outcome = refused.reason
    newest = listed(client, "credit", operation="SetChallenger")[0]
    assert (newest.request_id, newest.trace_id) == (body["requestId"], trace.trace_id)
    assert (newest.outcome, newest.why) == (outcome, "to compare")


def test_a_refused_action_is_told_with_its_reason(client):
    account = f"accounts/{demo.new_id()}"
    with pytest.raises(CallFailed) as refused:
        client.call(f"{ACCOUNTS}/FreezeAccount", {"requestId": demo.new_id(), "name": account}, role="operator")
    (action,) = listed(client, "payments", object=account)
    assert action.outcome == refused.value.reason == "ACCOUNT_NOT_FOUND"


def test_in_a_batch_each_operation_of_an_operator_is_told_apart(client):
    accounts = [new_account(client) for _ in range(3)]
    operations = [{"freezeAccount": {"requestId": demo.new_id(), "name": name}} for name in accounts]
    client.call("danbao.payments.v1.PaymentService/BatchExecute", {"operations": operations}, role="operator")
    for account in accounts:
        (action,) = listed(client, "payments", object=account)
        assert action.method == "danbao.payments.v1.PaymentService/BatchExecute"
        assert action.operation == "FreezeAccount"


def test_an_export_by_an_operator_is_told_and_one_by_the_person_itself_is_not(client):
    subject, export = f"subjects/{demo.new_id()}", "danbao.credit.v1.SubjectRightsService/ExportSubjectData"
    client.call(export, {"subject": subject}, role="operator", why="request 9")
    (action,) = listed(client, "credit", object=subject)
    assert (action.operation, action.actor, action.why) == ("ExportSubjectData", "demo-operator", "request 9")
    before = len(listed(client, "credit", object=demo.BUYER))
    client.call(export, {"subject": demo.BUYER}, role="user")
    assert len(listed(client, "credit", object=demo.BUYER)) == before


def test_whom_an_operator_erases_stands_in_the_log_by_its_hash_only(client):
    subject = f"subjects/{demo.new_id()}"
    export, erase = (f"danbao.credit.v1.SubjectRightsService/{name}" for name in ("ExportSubjectData", "EraseSubject"))
    client.call(export, {"subject": subject}, role="operator")
    (exported,) = listed(client, "credit", object=subject)
    body = {"requestId": demo.new_id(), "subject": subject, "reason": "ERASURE_REASON_ORDERED"}
    erased = client.call(erase, body, role="operator")
    assert listed(client, "credit", object=subject) == []
    (action,) = listed(client, "credit", object=f"erased/{erased.subject_hash}")
    assert (action.operation, action.why) == ("EraseSubject", "ERASURE_REASON_ORDERED")
    (was,) = [each for each in listed(client, "credit") if each.sequence == exported.sequence]
    assert was.erased
    assert (was.hash, was.object, was.why, was.request_id) == (exported.hash, "", "", "")
    check = client.call("danbao.credit.v1.AuditService/VerifyPrivilegedActions", {}, role="operator")
    assert check.intact
    assert check.erased > 0


@pytest.mark.parametrize("service", PACKAGES)
def test_every_log_is_whole_in_pieces_too(client, service):
    rpc = f"{PACKAGES[service]}.AuditService/VerifyPrivilegedActions"
    whole = client.call(rpc, {}, role="operator")
    assert (whole.intact, whole.complete, whole.broken_sequence, whole.broken_because) == (True, True, 0, "")
    assert whole.verified_sequence == whole.entries > 0
    assert whole.hash == whole.head_hash
    first = client.call(rpc, {"maxEntries": 3}, role="operator")
    assert (first.complete, first.intact, first.verified_sequence) == (False, False, 3)
    place = {"afterSequence": first.verified_sequence, "afterHash": first.hash}
    rest = client.call(rpc, place, role="operator")
    assert (rest.intact, rest.entries) == (True, whole.entries - 3)
    other = client.call(rpc, {"afterSequence": 3, "afterHash": "00" * 32}, role="operator")
    assert (other.broken_sequence, other.broken_because) == (3, "is not the one that was seen before")


@pytest.mark.parametrize("service", PACKAGES)
@pytest.mark.parametrize("role", ["user", "partner", "arbiter", "rail"])
@pytest.mark.parametrize("method", ["ListPrivilegedActions", "VerifyPrivilegedActions"])
def test_nobody_but_an_operator_reads_the_log(client, service, role, method):
    with pytest.raises(CallFailed) as refused:
        client.call(f"{PACKAGES[service]}.AuditService/{method}", {}, role=role)
    assert refused.value.code == "PERMISSION_DENIED"


def test_the_operator_s_certificate_reads_it_at_the_inner_port_and_what_it_does_is_told(running, client):
    account = new_account(client)
    address = running.card.services["payments"]
    with service_channel(address, service="payments", operator=running.stack.operator) as channel:
        from danbao.payments.v1 import account_pb2, account_pb2_grpc

        frozen = account_pb2.FreezeAccountRequest(request_id=demo.new_id(), name=account)
        said = (("danbao-why", "by night"), ("x-danbao-roles", "arbiter"), ("x-danbao-subject", "somebody"))
        account_pb2_grpc.AccountServiceStub(channel).FreezeAccount(frozen, timeout=5, metadata=said)
        page = audit_pb2_grpc.AuditServiceStub(channel).ListPrivilegedActions(
            pb.ListPrivilegedActionsRequest(object=account), timeout=5
        )
    (action,) = page.actions
    assert action.caller_kind == pb.PrivilegedAction.CALLER_KIND_CERTIFICATE
    assert (action.actor, list(action.roles), action.why) == ("operator", [], "by night")


def test_pages_end_where_the_entries_do_and_a_token_is_of_its_list(client):
    rpc = f"{PACKAGES['payments']}.AuditService/ListPrivilegedActions"
    first = client.call(rpc, {"pageSize": 2}, role="operator")
    assert len(first.actions) == 2
    second = client.call(rpc, {"pageSize": 2, "pageToken": first.next_page_token}, role="operator")
    sequences = [action.sequence for action in (*first.actions, *second.actions)]
    assert sequences == sorted(sequences, reverse=True)
    with pytest.raises(CallFailed) as refused:
        client.call(rpc, {"actor": "x", "pageToken": first.next_page_token}, role="operator")
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


def test_a_header_that_cannot_be_kept_is_refused_for_who_needs_it_and_unread_for_others(running, client):
    account = new_account(client)

    def freeze(why, role="operator", path=f"/v1/{account}:freeze"):
        request = urllib.request.Request(
            running.card.json + path,
            data=json.dumps({"requestId": demo.new_id()}).encode(),
            headers={
                "authorization": f"Bearer {running.card.token[role]}",
                "content-type": "application/json",
                "danbao-why": why,
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers["x-danbao-reason"]

    assert freeze("order%2012") == 200
    for why in ("a" * 501, "a%0Ab", "%E6%B3"):
        assert freeze(why) == (400, "FIELD_INVALID")
    (action,) = listed(client, "payments", object=account)
    assert action.why == "order 12"
    payment = {"requestId": demo.new_id(), **{k: v for k, v in calls._payment("AUTOMATIC").items() if k != "requestId"}}
    answer = client.call("danbao.payments.v1.PaymentService/CreatePayment", payment, role="user", why="a\nb")
    assert answer.name
    assert listed(client, "payments", object=answer.name) == []

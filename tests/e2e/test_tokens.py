"""A token that was not issued for Danbao opens nothing: every kind of forgery by every method, over gRPC and JSON.

The kinds are the gateway's own tests'; here they are signed with the stack's key, where signed rightly, and ask for
what would be answered.
"""

import http.client
import json
import secrets

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from inner_calls import AS_THE_GATEWAY_WOULD, SERVICES, TESTING, answer, methods_of, whole_requests

from danbao_gateway.forged_tokens import FORGED
from danbao_gateway.roles import shipped_rules
from danbao_gateway.testing import Tokens
from danbao_local.layout import StateLayout
from danbao_local.tokens import AUDIENCE, ISSUER


@pytest.fixture(scope="module")
def tokens(running):
    """The stack's issuer."""
    folder = StateLayout.at(running.state_dir).tokens
    key = serialization.load_pem_private_key((folder / "signing-key.pem").read_bytes(), password=None)
    (known,) = json.loads((folder / "jwks.json").read_text())["keys"]
    return Tokens(key=key, key_id=known["kid"], issuer=ISSUER, audience=AUDIENCE)


def test_a_token_of_the_issuer_is_taken(running, tokens):
    """What the forgeries are made from."""
    rpc = "danbao.payments.v1.LedgerService/GetTrialBalance"
    (entry,) = [each for each in running.card.calls if each["rpc"] == rpc]
    assert json_answer(running.card, entry, tokens.mint("operator"))[0] == 200


def json_connection(card):
    return http.client.HTTPConnection(card.json.removeprefix("http://"), timeout=10)


def json_answer(card, entry, token, connection=None):
    """HTTP status, code and reason."""
    made = connection or json_connection(card)
    headers = {"content-type": "application/json", **dict(AS_THE_GATEWAY_WOULD[:3])}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    body = None if entry["method"] == "GET" else json.dumps(entry["body"])
    made.request(entry["method"], entry["path"], body, headers)
    with made.getresponse() as reply:
        content = json.loads(reply.read())
    return reply.status, content.get("code"), content.get("details", [{}])[0].get("reason")


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_token_opens_no_method(running, tokens, kind):
    make, reason = FORGED[kind]
    token = make(tokens)
    said = [] if token is None else [("authorization", f"Bearer {token}")]
    bodies = {
        method.full_name: request
        for name in SERVICES
        for method, request, _ in whole_requests(running.card.calls, name)
    }
    trace_id, wrong, asked = secrets.token_hex(16), [], 0
    headers = [*AS_THE_GATEWAY_WOULD[:4], *said, ("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-01")]
    with grpc.insecure_channel(running.card.gateway, [("grpc.enable_http_proxy", 0)]) as channel:
        for method in (each for name in SERVICES for each in methods_of(name)):
            if method.package.startswith(TESTING):
                continue
            found = answer(channel, method, bodies.get(method.full_name, b""), headers)
            asked += 1
            if found != ("UNAUTHENTICATED", reason):
                wrong.append((method.full_name, found))
    connection = json_connection(running.card)
    for entry in running.card.calls:
        found = json_answer(running.card, entry, token, connection)
        asked += 1
        if found != (401, 16, reason):
            wrong.append((entry["method"], entry["path"], found))
    connection.close()
    assert not wrong
    assert asked > 200
    for name in SERVICES:
        assert trace_id not in StateLayout.at(running.state_dir).log(name).read_text(), f"{name} has heard of it"


def test_what_a_caller_says_of_itself_beside_its_token_is_not_heard(running, tokens):
    """A stranger's own token, and headers that say it is the operator, and the buyer's partner."""
    token, rules = tokens.mint("user", subject="stranger"), shipped_rules()
    headers = [*AS_THE_GATEWAY_WOULD[:4], ("authorization", f"Bearer {token}")]
    denied, wrong = 0, []
    with grpc.insecure_channel(running.card.gateway, [("grpc.enable_http_proxy", 0)]) as channel:
        for name in SERVICES:
            for method, request, _ in whole_requests(running.card.calls, name):
                if "user" not in rules[method.full_name]:
                    found = answer(channel, method, request, headers)
                    denied += 1
                    if found != ("PERMISSION_DENIED", "ROLE_NOT_ALLOWED"):
                        wrong.append((method.full_name, found))
    assert not wrong
    assert denied > 30
    trade = running.demo.trade.name
    (entry,) = [each for each in running.card.calls if each["rpc"] == "danbao.escrow.v1.TradeService/GetTrade"]
    for path in (entry["path"], f"/v1/{trade}"):
        asked = {**entry, "path": path}
        assert json_answer(running.card, asked, token) == (404, 5, "TRADE_NOT_FOUND")
        assert json_answer(running.card, asked, running.card.token["partner"])[0] == 200

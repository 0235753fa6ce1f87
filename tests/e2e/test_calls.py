"""Every RPC has a body in local.json that works, by gRPC and by JSON."""

import json
import urllib.request

from danbao_local.client import GatewayClient
from danbao_local.contracts import unary_rules


def test_the_card_lists_every_unary_rpc(running):
    assert {entry["rpc"] for entry in running.card.calls} == {rule.rpc for rule in unary_rules()}
    written = json.loads((running.state_dir / "local.json").read_text())
    assert written["calls"] == running.card.calls
    for entry in written["calls"]:
        assert set(entry) >= {"rpc", "method", "path", "role", "body"}
        assert entry["role"] in written["token"]


def test_every_body_works_by_grpc_and_again_by_json_with_the_same_answer(running):
    """The JSON call is the second with its request id: it must find the first one's answer."""
    with GatewayClient(running.card) as client:
        for entry in running.card.calls:
            client.call(entry["rpc"], entry["body"], role=entry["role"])
    for entry in running.card.calls:
        request = urllib.request.Request(
            running.card.json + entry["path"],
            method=entry["method"],
            data=None if entry["method"] == "GET" else json.dumps(entry["body"]).encode(),
            headers={
                "authorization": f"Bearer {running.card.token[entry['role']]}",
                "content-type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200, entry["rpc"]
            content = json.loads(answer.read() or b"{}")
        if "requestId" in entry["body"]:
            assert answer.headers["x-danbao-replayed"] == "true", entry["rpc"]
            assert content, entry["rpc"]

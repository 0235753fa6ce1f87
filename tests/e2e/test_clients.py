"""A whole trade by clients that have nothing of ours: curl, gRPC-Web as a browser sends it, gRPC's client for Node."""

import base64
import http.client
import importlib.resources
import json
import re
import shutil
import struct
import subprocess
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2, status_pb2
from openapi_spec_validator import validate

from danbao_local import demo
from danbao_local.contracts import unary_rules

NODE_CLIENT = Path(__file__).parent / "node"
TRADES = f"{demo.ESCROW}.TradeService"
Body = dict[str, Any]


def steps() -> list[tuple[str, Body]]:
    """The six calls of a trade; `$trade` is its name."""
    shipping = demo.command_body("$trade", "SELLER", carrier="SF Express", tracking="SF1")
    return [
        (f"{demo.PAYMENTS}.PaymentService/CreateTopUp", demo.top_up_body(demo.total_minor())),
        (f"{TRADES}/CreateTrade", demo.new_trade_body()),
        (f"{TRADES}/PayTrade", demo.command_body("$trade", "BUYER")),
        (f"{TRADES}/ShipLines", shipping),
        (f"{TRADES}/ReportDelivery", demo.command_body("$trade", "SELLER")),
        (f"{TRADES}/ConfirmLines", demo.command_body("$trade", "BUYER")),
    ]


def last_answer(call: Callable[[str, Body], Mapping[str, Any]]) -> Mapping[str, Any]:
    trade, answer = "", {}
    for method, body in steps():
        answer = call(method, body | {"name": trade} if body.get("name") == "$trade" else body)
        if method.endswith("/CreateTrade"):
            trade = answer["name"]
    return answer


def test_a_whole_trade_by_curl(running, tmp_path):
    # Neither curl nor Node is needed to run Danbao, so neither is installed with it.
    if shutil.which("curl") is None:
        pytest.skip("this machine has no curl")
    rules = {rule.rpc: rule for rule in unary_rules()}
    config = tmp_path / "curl"
    config.write_text(f'header = "Authorization: Bearer {running.card.token["partner"]}"\n')
    config.chmod(0o600)

    def call(method: str, body: Body) -> Mapping[str, Any]:
        address = running.card.json + rules[method].path(body)
        sent = ["curl", "--http1.1", "--silent", "--show-error", "--noproxy", "*", "--config", str(config)]
        done = subprocess.run(
            [*sent, "--data", json.dumps(body), address], capture_output=True, text=True, timeout=30, check=True
        )
        answer = json.loads(done.stdout)
        assert "code" not in answer, answer
        return answer

    assert last_answer(call)["state"] == "STATE_COMPLETED"


def test_a_whole_trade_by_grpc_web(running):
    def call(method: str, body: Body) -> Mapping[str, Any]:
        messages, trailers = grpc_web(running, method, body, token=running.card.token["partner"])
        assert trailers["grpc-status"] == "0", trailers
        return json_format.MessageToDict(messages[0], preserving_proto_field_name=True)

    assert last_answer(call)["state"] == "STATE_COMPLETED"


def test_a_refusal_of_a_service_reaches_grpc_web_with_its_reason(running):
    body = demo.command_body("trades/00000000-0000-0000-0000-000000000000", "BUYER")
    messages, trailers = grpc_web(running, f"{TRADES}/PayTrade", body, token=running.card.token["partner"])
    assert (messages, trailers["grpc-status"]) == ([], "5")
    details = trailers["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    assert info.reason == trailers["x-danbao-reason"] == "TRADE_NOT_FOUND"


def described_method(method: str) -> Any:
    return descriptor_pool.Default().FindMethodByName(method.replace("/", "."))


def parsed(method: str, body: Body) -> Any:
    return json_format.ParseDict(body, message_factory.GetMessageClass(described_method(method).input_type)())


def with_the_contracts_names(method: str, body: Body) -> Body:
    """Node's loader reads field names as a descriptor set has them: `request_id`."""
    return json_format.MessageToDict(parsed(method, body), preserving_proto_field_name=True)


def grpc_web(running, method: str, body: Body, *, token: str) -> tuple[list[Any], dict[str, str]]:
    """The messages of an answer, and what came in headers or in trailers."""
    content = parsed(method, body).SerializeToString()
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", "authorization": f"Bearer {token}"}
    connection = http.client.HTTPConnection(running.card.gateway, timeout=30)
    try:
        connection.request("POST", f"/{method}", struct.pack(">BI", 0, len(content)) + content, headers)
        reply = connection.getresponse()
        assert reply.status == 200
        seen = {key.lower(): value for key, value in reply.getheaders()}
        frames = reply.read()
    finally:
        connection.close()
    answer_class, messages = message_factory.GetMessageClass(described_method(method).output_type), []
    while frames:
        flags, length = struct.unpack(">BI", frames[:5])
        frame, frames = frames[5 : 5 + length], frames[5 + length :]
        if flags & 0x80:
            seen |= dict(re.findall(r"([a-z-]+): ?(.*)\r\n", frame.decode()))
        else:
            messages.append(answer_class.FromString(frame))
    return messages, seen


def test_a_whole_trade_by_grpcs_client_for_node(running):
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("this machine has no Node, or no npm that installs the client's packages with `make install`")
    with importlib.resources.as_file(importlib.resources.files("danbao") / "descriptors.binpb") as descriptors:
        order = {
            "address": running.card.gateway,
            "token": running.card.token["partner"],
            "descriptors": str(descriptors),
            "steps": [(method, with_the_contracts_names(method, body)) for method, body in steps()],
        }
        done = subprocess.run(
            ["node", "trade.js"],
            cwd=NODE_CLIENT,
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "STATE_COMPLETED"


def test_the_node_clients_lock_names_no_address():
    lock = json.loads((NODE_CLIENT / "package-lock.json").read_text())
    for name, package in lock["packages"].items():
        assert "resolved" not in package, name
        assert not name or package["integrity"].startswith("sha512-"), name


# The page that describes it


def test_the_gateway_serves_the_document_of_every_json_call_and_its_page(running):
    with urllib.request.urlopen(f"{running.card.json}/openapi.json", timeout=10) as answer:
        api = json.load(answer)
    validate(api)
    described = {operation["operationId"] for verbs in api["paths"].values() for operation in verbs.values()}
    rpcs = {entry["rpc"] for entry in running.card.calls}
    assert described == {f"{rpc.split('.')[1]}_{rpc.split('.')[-1].replace('/', '_')}" for rpc in rpcs}
    with urllib.request.urlopen(f"{running.card.json}/docs/", timeout=10) as page:
        assert "swagger-ui-bundle.js" in page.read().decode()

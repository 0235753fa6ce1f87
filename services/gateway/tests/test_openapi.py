"""The JSON API's document: valid, complete, and saying what the gateway does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2
from openapi_spec_validator import validate

from danbao_gateway.__main__ import main
from danbao_gateway.contracts import Contracts
from danbao_gateway.openapi import document
from danbao_gateway.roles import INTERNAL, shipped_rules
from danbao_gateway.settings import GatewaySettings


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    return document()


def _operations(api: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        operation["operationId"]: operation | {"path": path, "verb": verb}
        for path, verbs in api["paths"].items()
        for verb, operation in verbs.items()
    }


def test_the_document_is_valid_openapi(api: dict[str, Any]) -> None:
    validate(api)


def test_every_method_that_callers_reach_by_json_is_in_it_and_no_other(api: dict[str, Any]) -> None:
    rules = shipped_rules()
    expected = set()
    for file in Contracts.installed().descriptors.file:
        for service in file.service:
            for method in service.method:
                name = f"{file.package}.{service.name}/{method.name}"
                if method.options.HasExtension(annotations_pb2.http) and rules.get(name, INTERNAL) != INTERNAL:
                    expected.add(f"{file.package.split('.')[1]}_{service.name}_{method.name}")
    assert set(_operations(api)) == expected


def test_an_operation_says_what_it_does_who_may_and_how_often(api: dict[str, Any]) -> None:
    for name, operation in _operations(api).items():
        assert len(operation["description"]) > 60, name
        assert "Roles: " in operation["description"], name
        assert "limit class" in operation["description"], name
    paying = _operations(api)["escrow_TradeService_PayTrade"]
    assert "TRADE_STATE_INVALID" in paying["description"]
    assert "Roles: user, partner;" in paying["description"]


def test_a_resources_name_is_a_path_with_one_parameter_for_its_id(api: dict[str, Any]) -> None:
    paying = _operations(api)["escrow_TradeService_PayTrade"]
    assert (paying["verb"], paying["path"]) == ("post", "/v1/trades/{trade}:pay")
    assert [parameter["name"] for parameter in paying["parameters"]] == ["trade"]
    body = paying["requestBody"]["content"]["application/json"]["schema"]
    assert "name" not in body["properties"], "it is in the path"
    assert {"request_id", "actor"} <= set(body["properties"])
    item = _operations(api)["payments_ReconciliationService_ResolveReconciliationItem"]
    assert item["path"] == "/v1/reconciliations/{reconciliation}/items/{item}:resolve"


def test_every_parameter_of_a_path_is_described_and_every_other_field_is_in_query_or_body(api: dict[str, Any]) -> None:
    for name, operation in _operations(api).items():
        in_path = {part.split("}")[0] for part in operation["path"].split("{")[1:]}
        described = {item["name"] for item in operation.get("parameters", []) if item["in"] == "path"}
        assert in_path == described, name
    listing = _operations(api)["escrow_TradeService_ListTrades"]
    queries = {item["name"] for item in listing["parameters"] if item["in"] == "query"}
    assert {"buyer", "states", "page_size", "page_token"} <= queries
    assert "requestBody" not in listing


def test_rules_of_the_contract_are_constraints(api: dict[str, Any]) -> None:
    body = _operations(api)["escrow_TradeService_CreateTrade"]["requestBody"]["content"]["application/json"]["schema"]
    fields = body["properties"]
    assert fields["buyer"]["pattern"].startswith("^subjects/")
    assert (fields["lines"]["minItems"], fields["lines"]["maxItems"]) == (1, 50)
    assert (fields["request_id"]["minLength"], fields["request_id"]["maxLength"]) == (1, 64)
    assert (fields["fee_bps"]["minimum"], fields["fee_bps"]["maximum"]) == (0, 10_000)
    assert {"request_id", "buyer", "lines"} <= set(body["required"])
    assert "fee_bps" not in body["required"]


def test_json_is_described_as_the_gateway_writes_it(api: dict[str, Any]) -> None:
    money = api["components"]["schemas"]["type.Money"]["properties"]
    amount = next(schema for schema in money.values() if schema.get("format") == "int64")
    assert amount["type"] == "string", "64 bits do not fit into a JSON number"
    trade = api["components"]["schemas"]["escrow.Trade"]["properties"]
    assert trade["create_time"]["format"] == "date-time"
    states = api["components"]["schemas"]["escrow.Trade.State"]
    assert "STATE_AWAITING_SHIPMENT" in states["enum"]
    assert "STATE_AWAITING_SHIPMENT" in states["description"]


def test_every_reference_leads_somewhere_and_every_schema_is_used(api: dict[str, Any]) -> None:
    text = json.dumps(api)
    for name in api["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, f"{name} is described and never used"


def test_a_deployments_own_rules_are_in_its_document(capsys: pytest.CaptureFixture[str]) -> None:
    example = Path(__file__).parents[1] / "settings.example.yaml"
    assert main(["openapi", "--settings", str(example)]) == 0
    printed = json.loads(capsys.readouterr().out)
    validate(printed)
    settings = GatewaySettings.from_yaml(example)
    method = "danbao.payments.v1.AuditService/GetAudit"
    changed = settings.model_copy(update={"roles": {method: INTERNAL}})
    assert "payments_AuditService_GetAudit" in _operations(printed)
    assert "payments_AuditService_GetAudit" not in _operations(document(changed))

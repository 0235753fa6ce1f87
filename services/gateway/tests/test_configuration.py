"""Settings, the roles table and the rendered configuration, without a running gateway."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.api import annotations_pb2
from pydantic import ValidationError

from danbao_gateway import GatewaySettings, envoy, render, roles
from danbao_gateway.__main__ import main
from danbao_gateway.claims import claims
from danbao_gateway.contracts import Contracts
from danbao_gateway.limits import class_of
from danbao_gateway.rates import MethodClass, shipped_limits
from danbao_gateway.routes import routed_methods


@pytest.fixture
def content(settings_for: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """A good settings file for the real contracts, its access log and keys elsewhere than the running gateway's."""
    settings = settings_for(port=10_000, jwks=json.dumps({"keys": [PUBLIC_KEY]}), file_name="configuration.json")
    upstream = settings["upstreams"]["echo"]
    settings["upstreams"] = {
        name: upstream | {"san": f"{name}.danbao.internal"} for name in ("payments", "escrow", "credit")
    }
    settings["roles"] = {}
    settings["access_log"] = "/dev/null"
    return settings


PUBLIC_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "kid": "k",
    "alg": "ES256",
    "x": "cZye56Z-r-0DX311dWG-0CtLvr9DI3uqSVZ9cNCRyIs",
    "y": "-lDMHwzCUkP5Ir-MuW-updsgKjX33evi573pkye4jYU",
}


GOOD = "danbao.payments.v1.AuditService/GetAudit: [operator]"


@pytest.mark.parametrize(
    ("added", "told"),
    [
        (f"roles: {{{GOOD}}}\nroles: {{{GOOD}}}\n", "line 2: roles stands twice, first in line 1"),
        ("rate_limits: {}\nretries: {}\nrate_limits: {}\n", "line 3: rate_limits stands twice, first in line 1"),
        (f"roles:\n  {GOOD}\n  {GOOD}\n", "line 3: roles.danbao.payments.v1.AuditService/GetAudit stands twice"),
        ("cors:\n  allow_origins: []\n  allow_origins: []\n", "line 3: cors.allow_origins stands twice"),
        (
            f"roles:\n  {GOOD.replace(':', 'z:')}\n",
            "line 2: roles names danbao.payments.v1.AuditService/GetAuditz, and",
        ),
        ("roles: {danbao.payments.v1.AuditsService/GetAudit: internal}\n", "no service has such a method"),
        ("roles: {GetAudit: [operator]}\n", "line 1: roles names GetAudit, and no service has such a method"),
        ("rate_limits:\n  methods: {danbao.payments.v1.AuditService/Get: bulk}\n", "line 2: rate_limits.methods names"),
        ("roles: {a: [}\n", "line 1: this is no YAML"),
        ("roles:\n\t- x\n", "line 2: this is no YAML"),
    ],
)
def test_a_settings_file_that_says_a_thing_twice_or_of_nothing_is_refused_in_one_sentence(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], added: str, told: str
) -> None:
    file = tmp_path / "settings.yaml"
    del content["roles"]
    file.write_text(added + yaml.safe_dump(content))
    assert main(["render", "--settings", str(file), "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"{file}, line ")
    assert told in said
    assert said.count("\n") == 1


def test_rules_for_methods_of_a_deployment_s_own_services_are_taken(content: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    content["roles"] = {"danbao.own.v1.OwnService/Get": ["user"], "danbao.payments.v1.AuditService/GetAudit": ["user"]}
    file.write_text(yaml.safe_dump(content))
    assert GatewaySettings.from_yaml(file).roles == content["roles"]


@pytest.mark.parametrize(
    ("keys", "told"), [(None, "cannot be read: No such file"), ("{", "no key set"), ("[]", "no key set")]
)
def test_a_key_set_that_cannot_be_read_is_told_in_one_sentence(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: str | None, told: str
) -> None:
    content["issuers"][0]["jwks_file"] = "keys.json"
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(content))
    if keys is not None:
        (tmp_path / "keys.json").write_text(keys)
    assert main(["render", "--settings", str(tmp_path / "settings.yaml"), "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert said.startswith(str(tmp_path / "keys.json"))
    assert told in said
    assert said.count("\n") == 1


# Roles × methods


def test_every_method_has_a_rule_and_every_rule_a_method() -> None:
    methods = [method.full_name for method in Contracts.installed().methods()]
    assert methods
    roles.check(roles.shipped_rules(), methods)


def test_a_method_without_a_rule_a_rule_without_a_method_and_an_empty_rule_are_named() -> None:
    rules: dict[str, roles.Rule] = {"a.A/Gone": [roles.Role.USER], "a.A/Nobody": []}
    with pytest.raises(roles.RolesIncomplete) as refusal:
        roles.check(rules, ["a.A/New", "a.A/Nobody"])
    assert (refusal.value.without_rule, refusal.value.without_method) == (["a.A/New"], ["a.A/Gone"])
    assert refusal.value.without_role == ["a.A/Nobody"]


def test_testing_is_internal_and_streams_of_events_are_the_operators() -> None:
    rules = roles.shipped_rules()
    for method, rule in rules.items():
        if method.startswith(roles.TESTING_PACKAGE_PREFIX):
            assert rule == roles.INTERNAL, method
        if ".EventService/" in method:
            assert rule in (roles.INTERNAL, [roles.Role.OPERATOR]), method


def test_every_class_has_a_limit_and_every_method_that_the_limits_name_exists() -> None:
    limits = shipped_limits()
    assert set(limits.classes) == set(MethodClass)
    assert limits.methods.keys() <= {method.full_name for method in Contracts.installed().methods()}


def test_a_methods_class_follows_from_its_contract() -> None:
    classes = {
        method.full_name.removeprefix("danbao."): class_of(method, shipped_limits().methods)
        for method in Contracts.installed().methods()
    }
    assert classes["payments.v1.PaymentService/CreatePayment"] is MethodClass.WRITE
    assert classes["payments.v1.PaymentService/BatchExecute"] is MethodClass.BULK
    assert classes["escrow.v1.TradeService/GetTrade"] is MethodClass.READ
    assert classes["credit.v1.CreditService/Evaluate"] is MethodClass.READ
    assert classes["escrow.v1.EventService/WatchEvents"] is MethodClass.STREAM
    assert classes["payments.v1.ReconciliationService/ImportStatement"] is MethodClass.STREAM


def test_a_role_of_the_deployment_may_be_named_in_its_rules(content: dict[str, Any]) -> None:
    method = "danbao.payments.v1.AuditService/GetAudit"
    content |= {"further_roles": ["auditor"], "roles": {method: ["auditor"]}}
    text = json.dumps(render(GatewaySettings.model_validate(content)))
    assert "operator,arbiter,rail,auditor" in text
    with pytest.raises(ValidationError, match="unknown roles: auditor"):
        GatewaySettings.model_validate(content | {"further_roles": []})


def test_an_unknown_role_in_the_table_is_refused(content: dict[str, Any]) -> None:
    content["roles"] = {"danbao.payments.v1.PaymentService/CreatePayment": ["root"]}
    with pytest.raises(ValidationError):
        GatewaySettings.model_validate(content)


def test_every_unary_method_that_is_routed_has_a_path_for_json() -> None:
    contracts = Contracts.installed()
    without = set()
    for file in contracts.descriptors.file:
        for service in file.service:
            for method in service.method:
                full_name = f"{file.package}.{service.name}/{method.name}"
                unary = not (method.client_streaming or method.server_streaming)
                if unary and not method.options.HasExtension(annotations_pb2.http):
                    without.add(full_name)
    routed = routed_methods(contracts.methods(), roles.shipped_rules(), ["payments", "escrow", "credit"])
    assert not {method.full_name for method in routed} & without


def test_only_methods_of_configured_upstreams_are_routed(content: dict[str, Any]) -> None:
    del content["upstreams"]["credit"]
    bootstrap = render(GatewaySettings.model_validate(content))
    paths = [route["match"].get("path", "") for route in _routes(bootstrap)]
    assert any(path.startswith("/danbao.payments.v1.") for path in paths)
    assert not any(path.startswith(("/danbao.credit.", "/danbao.testing.")) for path in paths)


def test_a_rule_in_the_settings_replaces_the_shipped_one(content: dict[str, Any]) -> None:
    method = "danbao.payments.v1.LedgerService/GetTrialBalance"
    content["roles"] = {method: "internal"}
    paths = [route["match"].get("path") for route in _routes(render(GatewaySettings.model_validate(content)))]
    assert f"/{method}" not in paths


# Settings


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"listener": {"port": 0}}, "listener.port"),
        ({"listener": {"port": 1, "colour": "red"}}, "listener.colour"),
        ({"upstreams": {}}, "upstreams"),
        ({"upstreams": {"payments": {"addresses": ["nowhere"], "san": "x"}}}, "upstreams.payments.addresses.0"),
        ({"issuers": []}, "issuers"),
        ({"deadlines": {"default_seconds": 31}}, "deadlines"),
        ({"telemetry": {"sampling_ratio": 2}}, "telemetry.sampling_ratio"),
        ({"rate_limits": {"classes": {"write": {"per_second": 0}}}}, "rate_limits.classes.write.per_second"),
        ({"rate_limits": {"classes": {"huge": {"per_second": 1}}}}, "rate_limits.classes"),
        ({"rate_limits": {"methods": {"a.B/C": "huge"}}}, "rate_limits.methods"),
        ({"retries": {"most": 9}}, "retries.most"),
        ({"cors": {"allow_origins": ["*"]}}, "cors.allow_origins"),
        ({"cors": {"allow_origins": ["https://shop.example/"]}}, "cors.allow_origins"),
        ({"further_roles": ["Auditor"]}, "further_roles"),
        ({"further_roles": ["user"]}, "further_roles"),
        ({"further_roles": ["a", "b", "c", "d"]}, "further_roles"),
        ({"issuers": [{"issuer": "i", "audiences": ["a"]}]}, "jwks_file or jwks_url"),
        ({"issuers": [{"issuer": "i", "audiences": ["a"], "jwks_url": "http://keys.example/k"}]}, "https"),
        ({"issuers": [{"issuer": "i", "audiences": ["a"], "jwks_url": "https://k", "jwks_file": "k"}]}, "either"),
        ({"upstreams": {"testing": {"addresses": ["a:1"], "san": "x"}}}, "testing"),
    ],
)
def test_a_wrong_setting_is_named(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], where: str
) -> None:
    settings = _written(content | change, tmp_path)
    assert main(["render", "--settings", str(settings), "--out", str(tmp_path / "out")]) == 1
    assert where in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_settings_survive_a_round_trip_through_yaml(content: dict[str, Any], tmp_path: Path) -> None:
    settings = GatewaySettings.model_validate(content)
    path = tmp_path / "settings.yaml"
    path.write_text(settings.to_yaml())
    assert GatewaySettings.from_yaml(path) == settings


def test_a_private_key_among_the_issuers_keys_is_refused_without_showing_it(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(content["issuers"][0]["jwks_file"]).write_text(json.dumps({"keys": [PUBLIC_KEY | {"d": "very-secret"}]}))
    assert main(["render", "--settings", str(_written(content, tmp_path)), "--out", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert "secret key" in message
    assert "very-secret" not in message


# Rendering and validating


def test_the_rendered_configuration_is_accepted_by_envoy(content: dict[str, Any], tmp_path: Path) -> None:
    certificate, key = content["upstream_tls"]["certificate"], content["upstream_tls"]["key"]
    content |= {
        "listener": {"port": 10_000, "tls": {"certificate": certificate, "key": key}},
        "admin": {"port": 10_001},
        "telemetry": {"otlp_endpoint": "collector:4317", "sampling_ratio": 0.1},
        "issuers": [
            content["issuers"][0],
            content["issuers"][0] | {"issuer": "https://second"},
            {
                "issuer": "https://third",
                "audiences": ["danbao"],
                "jwks_url": "https://tokens.example/keys",
                "jwks_ca": content["upstream_tls"]["ca"],
            },
        ],
        "cors": {"allow_origins": ["https://shop.example", "http://localhost:3000"]},
        "further_roles": ["auditor", "support"],
        "rate_limits": {"callers": {"acme": {"bulk": {"per_second": 5}}}, "remembered_callers": 5},
        "retries": {"most": 1},
        "api_page": True,
    }
    settings = _written(content, tmp_path)
    assert main(["validate", "--settings", str(settings)]) == 0
    out = tmp_path / "out"
    assert main(["render", "--settings", str(settings), "--out", str(out)]) == 0
    assert json.loads((out / "envoy.json").read_text())["static_resources"]["listeners"]
    assert {"envoy.json", "routes.json", "limits.json", "tokens.json", "secret-listener.json"} <= {
        file.name for file in out.iterdir()
    }
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in out.rglob("*.json"))


def test_the_example_settings_render(tmp_path: Path) -> None:
    example = Path(__file__).parents[1] / "settings.example.yaml"
    assert main(["render", "--settings", str(example), "--out", str(tmp_path / "out")]) == 0


def test_a_refusal_of_envoy_is_one_sentence_without_the_configuration(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content["upstream_tls"] |= {"key": str(tmp_path / "missing.key")}
    assert main(["validate", "--settings", str(_written(content, tmp_path))]) == 1
    message = capsys.readouterr().err
    assert "missing.key" in message
    assert len(message.splitlines()) == 1
    assert len(message) < 600
    assert PUBLIC_KEY["x"] not in message


def test_no_private_key_is_in_the_rendered_configuration(content: dict[str, Any]) -> None:
    text = json.dumps(render(GatewaySettings.model_validate(content)))
    assert "PRIVATE KEY" not in text
    assert content["upstream_tls"]["key"] in text


def test_upstreams_speak_tls_1_3_with_a_checked_name_and_no_panic(content: dict[str, Any]) -> None:
    clusters = render(GatewaySettings.model_validate(content))["static_resources"]["clusters"]
    assert [cluster["name"] for cluster in clusters] == ["credit", "escrow", "payments"]
    for cluster in clusters:
        tls = cluster["transport_socket"]["typed_config"]["common_tls_context"]
        assert tls["tls_params"]["tls_minimum_protocol_version"] == "TLSv1_3"
        [name] = tls["validation_context"]["match_typed_subject_alt_names"]
        assert name["matcher"]["exact"] == f"{cluster['name']}.danbao.internal"
        assert cluster["common_lb_config"]["healthy_panic_threshold"] == {"value": 0}


def test_envoy_that_is_missing_is_said_in_one_sentence(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envoy.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["validate", "--settings", str(_written(content, tmp_path))]) == 1
    assert "no envoy" in capsys.readouterr().err


# Claims


def test_claims_name_subject_roles_partner_and_an_end() -> None:
    made = claims("subjects/1", ["operator", "user"], "acme", issuer="i", audience="a", issued_at=1000)
    assert {key: made[key] for key in ("iss", "aud", "sub", "roles", "partner", "iat", "exp")} == {
        "iss": "i",
        "aud": "a",
        "sub": "subjects/1",
        "roles": ["operator", "user"],
        "partner": "acme",
        "iat": 1000,
        "exp": 4600,
    }


@pytest.mark.parametrize(("subject", "named"), [("", ["user"]), ("subjects/1", []), ("subjects/1", ["root"])])
def test_claims_without_subject_or_known_role_are_refused(subject: str, named: list[str]) -> None:
    with pytest.raises(ValueError, match=r"token|root"):
        claims(subject, named, issuer="i", audience="a")


def _written(content: dict[str, Any], directory: Path) -> Path:
    path = directory / "settings.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _routes(bootstrap: dict[str, Any]) -> list[dict[str, Any]]:
    [listener] = bootstrap["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    routes: list[dict[str, Any]] = manager["route_config"]["virtual_hosts"][0]["routes"]
    return routes

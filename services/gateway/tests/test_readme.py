"""What the README shows a platform engineer works as shown, against a running gateway."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from danbao_gateway import GatewaySettings, testing
from danbao_gateway.contracts import Contracts
from danbao_gateway.rendering import render_files, write

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## A caller, a role, a limit")[1].split("\n## ")[0]
CALLER, ROLE, LIMIT = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
AUDIT = "/danbao.payments.v1.AuditService/GetAudit"
BATCH = "/danbao.payments.v1.PaymentService/BatchExecute"


@dataclass(frozen=True)
class _Deployment:
    """A gateway for the real contracts, with nothing behind it: a call that passes is UNAVAILABLE."""

    folder: Path
    address: str
    tokens: testing.Tokens
    partner: testing.Tokens

    def run(self, script: str) -> None:
        """As a person does it in the deployment's folder."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "changed:" in done.stdout

    def code(self, token: str, path: str = AUDIT) -> grpc.StatusCode:
        with grpc.insecure_channel(self.address) as channel, pytest.raises(grpc.RpcError) as refusal:
            channel.unary_unary(path)(b"", metadata=(("authorization", f"Bearer {token}"),), timeout=10)
        code: grpc.StatusCode = refusal.value.code()
        return code


@pytest.fixture
def deployment(settings_for: Any, run_envoy: Any, tmp_path: Path) -> Iterator[_Deployment]:
    tokens, partner = testing.Tokens(), testing.Tokens(key_id="partner")
    content = settings_for(jwks=tokens.jwks(), port=testing.free_port(), file_name="readme.json")
    del content["roles"]
    content |= {"admin": {"port": testing.free_port()}, "access_log": "/dev/null", "api_page": True}
    content["upstreams"] = {
        name: {"addresses": [f"127.0.0.1:{testing.free_port()}"], "san": f"{name}.danbao.internal"}
        for name in ("payments", "escrow", "credit")
    }
    [issuer] = content.pop("issuers")
    lines = [yaml.safe_dump(content).rstrip(), "issuers:", f"  - {json.dumps(issuer)}"]
    (tmp_path / "settings.yaml").write_text("\n".join(lines) + "\n")
    (tmp_path / "partner.json").write_text(partner.jwks())
    (tmp_path / ".venv").symlink_to(sys.prefix)
    settings = GatewaySettings.from_yaml(tmp_path / "settings.yaml")
    run = tmp_path / "run"
    configuration = write(render_files(settings, str(run), Contracts.installed()), run)
    address = f"127.0.0.1:{settings.listener.port}"
    with run_envoy(settings, configuration=configuration):
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(20)
        yield _Deployment(tmp_path, address, tokens, partner)


def test_the_example_is_rendered_and_described_as_shown(tmp_path: Path) -> None:
    """In a checkout's root; `validate` and `reload` need its certificates, and Envoy."""
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "gateway").symlink_to(Path(__file__).parents[1])
    (tmp_path / ".venv").symlink_to(sys.prefix)
    block = README.split("## Running it")[1].split("```")[1]
    lines = [line for line in block.splitlines() if not re.search(" (validate|reload) ", line)]
    assert len(lines) == 6
    subprocess.run(["bash", "-euc", "\n".join(lines)], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "run" / "envoy.json").exists()


def test_each_takes_three_lines() -> None:
    for script in (CALLER, ROLE, LIMIT):
        assert len(script.strip().splitlines()) == 3


def test_a_caller_is_added_as_shown(deployment: _Deployment) -> None:
    token = deployment.partner.mint("operator", issuer="https://tokens.partner.example")
    assert deployment.code(token) is grpc.StatusCode.UNAUTHENTICATED
    deployment.run(CALLER)
    assert deployment.code(token) is grpc.StatusCode.UNAVAILABLE, "it must pass, and meet that nothing is there"
    assert deployment.code(deployment.tokens.mint("operator")) is grpc.StatusCode.UNAVAILABLE


def test_a_role_is_added_as_shown(deployment: _Deployment) -> None:
    token = deployment.tokens.mint("user", roles=["auditor"])
    assert deployment.code(token) is grpc.StatusCode.PERMISSION_DENIED
    deployment.run(ROLE)
    assert deployment.code(token) is grpc.StatusCode.UNAVAILABLE
    assert deployment.code(token, "/danbao.payments.v1.AuditService/GetAssetLoss") is grpc.StatusCode.PERMISSION_DENIED


def test_a_limit_is_added_as_shown(deployment: _Deployment) -> None:
    deployment.run(LIMIT)
    shown = json.loads((deployment.folder / "run" / "limits.json").read_text())
    buckets = {
        tuple(entry.get("value", "") for entry in descriptor["entries"]): descriptor["token_bucket"]
        for descriptor in shown["resources"][0]["typed_config"]["descriptors"]
    }
    assert buckets["write", "big-shop"]["max_tokens"] == 10_000
    assert buckets["bulk", ""]["max_tokens"] == 40
    with urllib.request.urlopen(f"http://{deployment.address}/openapi.json", timeout=10) as answer:
        described = json.load(answer)["paths"]["/v1/payments:batchExecute"]["post"]["description"]
    assert "20 a second for each caller, 40 at once" in described, "the page says what is in force"
    token = deployment.tokens.mint("partner", partner="small-shop")
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in {deployment.code(token, BATCH) for _ in range(200)}


def test_every_setting_and_reason_is_in_the_readme() -> None:
    from danbao_gateway.replies import MALFORMED, REPLIES

    for name in GatewaySettings.model_fields:
        if name not in {"allow_testing", "log_level"}:
            assert f"`{name}`" in README, name
    for reply in (*REPLIES, MALFORMED):
        assert reply.reason in README, reply.reason


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^):]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target

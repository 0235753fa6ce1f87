"""Roles, limits, keys and certificates change while calls are under way, and none of them is lost."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from cryptography import x509

from danbao_gateway import GatewaySettings, configmap, envoy, testing
from danbao_gateway.contracts import Contracts
from danbao_gateway.reload import RestartNeeded, reload
from danbao_gateway.rendering import render_files
from danbao_kit.testing.certificates import CertificateAuthority

ECHO = "danbao.echo.v1.EchoService/Echo"
CALLERS = 6


class _Running:
    """A gateway whose settings can be changed."""

    def __init__(self, started: Any, contracts: Contracts, folder: Path) -> None:
        self.gateway, self._contracts, self._folder = started, contracts, folder
        self.content: dict[str, Any] = started.settings.model_dump(mode="json")

    def change(self, **more: Any) -> list[str]:
        self.content |= more
        return reload(GatewaySettings.model_validate(self.content), self._folder, self._contracts)

    def code(self, token: str, method: str = "Echo") -> grpc.StatusCode:
        try:
            self.gateway.call(method, token=token)
        except grpc.RpcError as refusal:
            code: grpc.StatusCode = refusal.code()
            return code
        return grpc.StatusCode.OK


@pytest.fixture
def running(start_gateway: Any, contracts: Contracts, run_folders: list[Path]) -> Iterator[_Running]:
    with start_gateway(name="reload", own_certificates=True) as started:
        yield _Running(started, contracts, run_folders[-1])


class _Load:
    """Callers by gRPC, on connections of their own, and by JSON, who never pause; and what they were answered."""

    def __init__(self, gateway: Any, token: str) -> None:
        self.token = token
        self.codes: Counter[str] = Counter()
        self._gateway, self._ended = gateway, threading.Event()
        self._threads = [threading.Thread(target=self._grpc, args=(number,)) for number in range(CALLERS)]
        self._threads.append(threading.Thread(target=self._json))

    def _grpc(self, number: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("danbao.test.caller", number)]
        with testing.open_channel(self._gateway.settings, options) as channel:
            call = channel.unary_unary(f"/{ECHO}")
            while not self._ended.is_set():
                try:
                    call(b"", metadata=(("authorization", f"Bearer {self.token}"),), timeout=10)
                    self.codes["OK"] += 1
                except grpc.RpcError as failure:
                    self.codes[f"{failure.code()} {failure.details()}"] += 1

    def _json(self) -> None:
        """A new connection for each call: those meet a new certificate first."""
        while not self._ended.is_set():
            try:
                self.codes[str(self._gateway.json("/v1/echoes", {}, token=self.token).http_status)] += 1
            except OSError as failure:
                self.codes[repr(failure)] += 1

    def wait(self, calls: int = 60) -> None:
        """Returns when so many more calls were answered."""
        end = sum(self.codes.values()) + calls
        while sum(self.codes.values()) < end:
            assert any(thread.is_alive() for thread in self._threads)
            self._ended.wait(0.02)

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(30)


@contextmanager
def _under_load(running: _Running, token: str) -> Iterator[_Load]:
    load = _Load(running.gateway, token)
    for thread in load._threads:
        thread.start()
    try:
        load.wait()
        yield load
        load.wait()
    finally:
        load.end()
    assert set(load.codes) == {"OK", "200"}, load.codes


def test_a_role_and_a_limit_change_without_a_lost_call(running: _Running) -> None:
    tokens = running.gateway.tokens
    rail, hasty = tokens.mint("rail", partner="rail-1"), tokens.mint("user", partner="hasty")
    with _under_load(running, tokens.mint("user", partner="load")) as load:
        assert running.code(rail) is grpc.StatusCode.PERMISSION_DENIED
        assert running.change(roles={**running.content["roles"], ECHO: ["user", "rail"]}) == ["routes.json"]
        assert running.code(rail) is grpc.StatusCode.OK
        load.wait()
        limits = {"callers": {"hasty": {"write": {"per_second": 1}}}}
        assert running.change(rate_limits=limits) == ["limits.json"]
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in {running.code(hasty) for _ in range(20)}
        load.wait()
        assert running.change(rate_limits={}) == ["limits.json"]
        assert {running.code(hasty) for _ in range(20)} == {grpc.StatusCode.OK}


def test_an_issuers_keys_are_rotated_without_a_lost_call(running: _Running) -> None:
    old, new = running.gateway.tokens, testing.Tokens(key_id="next")
    file = Path(running.content["issuers"][0]["jwks_file"])
    both = {"keys": json.loads(old.jwks())["keys"] + json.loads(new.jwks())["keys"]}
    with _under_load(running, old.mint("user")) as load:
        assert running.code(new.mint("user")) is grpc.StatusCode.UNAUTHENTICATED
        file.write_text(json.dumps(both))
        assert running.change() == ["tokens.json"]
        load.token = new.mint("user")
        load.wait()
        file.write_text(new.jwks())
        assert running.change() == ["tokens.json"]
        assert running.code(old.mint("user")) is grpc.StatusCode.UNAUTHENTICATED


def test_certificates_are_rotated_without_a_lost_call(running: _Running, tmp_path: Path) -> None:
    """By nothing but new files: of the gateway towards services, and of the listener towards callers."""
    tls, listener = running.gateway.settings.upstream_tls, running.gateway.settings.listener
    host, _, port = running.gateway.address.partition(":")

    def shown() -> int:
        pem = ssl.get_server_certificate((host, int(port)))
        return x509.load_pem_x509_certificate(pem.encode()).serial_number

    with _under_load(running, running.gateway.tokens.mint("user")) as load:
        before = shown()
        _replace(Path(tls.certificate), Path(tls.key), tmp_path / "upstream")
        _replace(Path(listener.tls.certificate), Path(listener.tls.key), tmp_path / "listener")
        upstream = _serial(Path(tls.certificate))
        while shown() == before or upstream not in _serials(running.gateway):
            load.wait(10)
        assert shown() == _serial(Path(listener.tls.certificate))
    # The service, started anew, is called with the new certificate and takes it.
    running.gateway.replicas[0][0].stop(None).wait()
    running.gateway.replicas[0] = (testing.start_echo(running.gateway.settings, running.gateway.echo), None)
    testing.wait_until_healthy(None, running.gateway.settings.admin.port)
    codes = {running.code(running.gateway.tokens.mint("user"), "WriteEcho") for _ in range(20)}
    assert grpc.StatusCode.OK in codes


def _replace(certificate: Path, key: Path, work: Path) -> None:
    """As a certificate's renewal does it: the same authority, another key, two renames."""
    work.mkdir()
    for name in ("ca.pem", "ca.key"):
        shutil.copy(certificate.parent / name, work / name)
    new = CertificateAuthority(work).issue("gateway", file_name=certificate.stem, extra_hosts=["127.0.0.1"])
    os.replace(new.key, key)
    os.replace(new.cert, certificate)


def _serial(certificate: Path) -> int:
    return x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number


def _serials(gateway: Any) -> set[int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.settings.admin.port}/certs", timeout=5) as answer:
        dump = json.load(answer)
    return {int(item["serial_number"], 16) for held in dump["certificates"] for item in held["cert_chain"]}


def test_what_envoy_reads_only_at_its_start_is_refused_before_anything_is_written(running: _Running) -> None:
    with pytest.raises(RestartNeeded):
        running.change(roles={**running.content["roles"], ECHO: ["operator"]}, limits={"max_connections": 5})
    assert running.code(running.gateway.tokens.mint("user")) is grpc.StatusCode.OK


def test_what_envoy_would_refuse_is_not_written(running: _Running) -> None:
    broken = base64.b64encode(b"no key").decode()
    file = Path(running.content["issuers"][0]["jwks_file"])
    kept = file.read_text()
    file.write_text(json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": broken, "y": broken, "kid": "test"}]}))
    with pytest.raises(envoy.ConfigurationRefused):
        running.change()
    assert running.code(running.gateway.tokens.mint("user")) is grpc.StatusCode.OK
    file.write_text(kept)


def test_nothing_changed_is_nothing_written(running: _Running) -> None:
    assert running.change() == []


# As Kubernetes brings it


def test_a_changed_config_map_reaches_a_running_envoy_as_the_kubelet_changes_it(
    settings_for: Callable[..., dict[str, Any]],
    contracts: Contracts,
    messages: testing.Messages,
    run_envoy: Any,
    tmp_path: Path,
) -> None:
    """A volume's files are links through `..data`, which is replaced as a whole."""
    tokens = testing.Tokens()
    content = settings_for(jwks=tokens.jwks(), port=testing.free_port(), file_name="map.json")
    content |= {"admin": {"port": testing.free_port()}, "access_log": "/dev/null"}
    mounted = tmp_path / "mounted"

    def bring(version: str) -> GatewaySettings:
        settings = GatewaySettings.model_validate(content)
        resource = configmap.config_map(render_files(settings, str(mounted), contracts), name="danbao-gateway")
        _as_the_kubelet(mounted, yaml.safe_load(configmap.as_yaml(resource))["data"], version)
        return settings

    settings = bring("..1")
    echo = testing.start_echo(settings, testing.Echo(messages))
    with run_envoy(settings, configuration=mounted / "envoy.json") as process:
        testing.wait_until_healthy(process, settings.admin.port)
        address = f"127.0.0.1:{settings.listener.port}"
        rail = (("authorization", f"Bearer {tokens.mint('rail')}"),)
        with grpc.insecure_channel(address) as channel:
            call = channel.unary_unary(f"/{ECHO}")
            with pytest.raises(grpc.RpcError) as refusal:
                call(b"", metadata=rail, timeout=5)
            assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
            content["roles"] = {**content["roles"], ECHO: ["rail"]}
            bring("..2")
            assert _comes_to_be_answered(lambda: call(b"", metadata=rail, timeout=5))
    echo.stop(None)


def _as_the_kubelet(mounted: Path, files: dict[str, str], version: str) -> None:
    (mounted / version).mkdir(parents=True)
    for name, text in files.items():
        (mounted / version / name).write_text(text)
        if not (mounted / name).is_symlink():
            (mounted / name).symlink_to(Path("..data") / name)
    (mounted / "..data_tmp").symlink_to(version)
    os.replace(mounted / "..data_tmp", mounted / "..data")


def _comes_to_be_answered(call: Callable[[], object]) -> bool:
    waiting = threading.Event()
    for _ in range(200):
        try:
            call()
        except grpc.RpcError:
            waiting.wait(0.05)
        else:
            return True
    return False


def test_a_config_map_is_within_kubernetes_limits_and_holds_no_secret(
    settings_for: Callable[..., dict[str, Any]],
) -> None:
    content = settings_for(jwks=testing.Tokens().jwks(), port=10_000, file_name="limits.json")
    content |= {"roles": {}, "api_page": True}
    content["upstreams"] = {
        name: {"addresses": [f"{name}:7443"], "san": f"{name}.danbao.internal"}
        for name in ("payments", "escrow", "credit")
    }
    rendering = render_files(GatewaySettings.model_validate(content), "/etc/danbao-gateway", page_folder="/etc/page")
    text = configmap.as_yaml(configmap.config_map(rendering, name="danbao-gateway", namespace="danbao"))
    resource = yaml.safe_load(text)
    assert (resource["kind"], resource["metadata"]["namespace"]) == ("ConfigMap", "danbao")
    assert len(text) < configmap.MAX_BYTES
    assert "PRIVATE KEY" not in text
    assert "/etc/page/index.html" in resource["data"]["routes.json"]
    with pytest.raises(ValueError, match="no name"):
        configmap.config_map(rendering, name="Danbao Gateway")

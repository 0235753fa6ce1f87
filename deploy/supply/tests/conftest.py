"""A service as its image has it: wheels of ours, built here, and of the lock what its closure names, nothing else."""

import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from danbao_kit.testing.certificates import CertificateAuthority
from danbao_supply import places
from danbao_supply.__main__ import closures
from danbao_supply.closure import IMAGE, is_ours, reach
from danbao_supply.lock import pins_in, read_pins

PLACES = {"danbao-protos": "protos", "danbao-kit": "services/kit"}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def wheel_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The wheel of one of ours, built of a copy, so that nobody else's stubs are written anew.

    As in an image's build, there is nothing but what its project says that it is built with.
    """
    folder, made = tmp_path_factory.mktemp("wheels"), {}
    locked = pins_in(read_pins(places.LOCK.read_text()), IMAGE)

    def build(name: str) -> Path:
        if name not in made:
            source, out, tools = folder / name, folder / "out" / name, folder / "tools" / name
            lies = places.ROOT / PLACES.get(name, f"services/{name.removeprefix('danbao-')}")
            shutil.copytree(lies, source, ignore=shutil.ignore_patterns("gen", "tests", "__pycache__"))
            needs = tomllib.loads((source / "pyproject.toml").read_text())["build-system"]["requires"]
            for tool in reach(map(canonicalize_name, needs), locked):
                link_files(importlib.metadata.distribution(tool), tools)
            command = [sys.executable, "-S", "-P", "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
            built = subprocess.run(
                command, cwd=source, env={"PYTHONPATH": str(tools)}, capture_output=True, text=True, check=False
            )
            assert built.returncode == 0, built.stderr
            [made[name]] = out.glob("*.whl")
        return made[name]

    return build


@pytest.fixture(scope="session")
def site_of(tmp_path_factory: pytest.TempPathFactory, wheel_of: Callable[[str], Path]) -> Callable[[str], Path]:
    """A folder with a deployable's closure, as its image's site-packages."""
    made: dict[str, Path] = {}

    def lay(deployable: str) -> Path:
        if deployable not in made:
            made[deployable] = site = tmp_path_factory.mktemp(f"site-{deployable}")
            for name in closures(read_pins(places.LOCK.read_text()))[deployable]:
                if is_ours(name):
                    zipfile.ZipFile(wheel_of(name)).extractall(site)
                else:
                    link_files(importlib.metadata.distribution(name), site)
        return made[deployable]

    return lay


def link_files(distribution: importlib.metadata.Distribution, site: Path) -> None:
    """An installed distribution's files, by links: namespaces are shared by several, so each folder is made."""
    files: Iterable[importlib.metadata.PackagePath] = distribution.files or ()
    for file in files:
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(Path(str(distribution.locate_file(file))).resolve())

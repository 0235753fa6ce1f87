"""What is not what was locked is not installed: not by the installer, not by an image's build. Both are the real ones,
with archives made here in place of an index."""

import hashlib
import importlib.util
import io
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from danbao_supply import places
from danbao_supply.closure import DEPLOYABLES, is_ours
from danbao_supply.dockerfile import read_stages
from danbao_supply.lock import read_pins

INFO = "{name}-1.0.dist-info"
METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", places.ROOT / "deploy" / "local" / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel(folder: Path, name: str, code: str) -> Path:
    """A wheel of one module."""
    info, file = INFO.format(name=name), folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", code)
        archive.writestr(f"{info}/METADATA", METADATA.format(name=name))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return file


def source(folder: Path, name: str) -> Path:
    """An archive whose build needs nothing, so that it would run, and leaves a mark."""
    mark = folder / "it has run"
    backend = f"open({str(mark)!r}, 'w')\ndef build_wheel(*_): raise SystemExit\n"
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    contents = {"PKG-INFO": METADATA.format(name=name), "pyproject.toml": project, "backend.py": backend}
    file = folder / f"{name}-1.0.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for inside, text in contents.items():
            entry = tarfile.TarInfo(f"{name}-1.0/{inside}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return file


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that uv and pip take archives from, and from nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    for tool in ("UV", "PIP"):
        for variable in ("INDEX", "INDEX_URL", "DEFAULT_INDEX", "EXTRA_INDEX_URL"):
            monkeypatch.delenv(f"{tool}_{variable}", raising=False)
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(folder))
    # Of the two only pip has a variable for it.
    (tmp_path / "uv.toml").write_text("no-index = true\n")
    monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    return folder


def lock(checkout: Path, archive: Path) -> None:
    """Locks one archive as it is now."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    line = f"{archive.name.split('-')[0]}==1.0 \\\n    --hash=sha256:{digest}\n"
    (checkout / "requirements.lock").write_text(line)


@pytest.fixture
def uv(checkout: Path) -> str:
    found = Path(sys.executable).with_name("uv")
    subprocess.run([found, "venv", "-q", "--python", sys.executable, ".venv"], cwd=checkout, check=True)
    return str(found)


def is_installed(checkout: Path, name: str) -> bool:
    return any((checkout / ".venv").rglob(f"{name}.py"))


def test_the_installer_takes_what_is_locked(bootstrap, index, checkout, uv) -> None:
    lock(checkout, wheel(index, "leftpad", "x = 1"))
    bootstrap.install_locked(checkout, uv)
    assert is_installed(checkout, "leftpad")


def test_the_installer_refuses_a_wheel_that_was_changed(bootstrap, index, checkout, uv, capfd) -> None:
    lock(checkout, wheel(index, "leftpad", "x = 1"))
    wheel(index, "leftpad", "x = 2")
    with pytest.raises(bootstrap.InstallFailed, match="uv pip sync"):
        bootstrap.install_locked(checkout, uv)
    assert "Hash mismatch" in capfd.readouterr().err
    assert not is_installed(checkout, "leftpad")


def test_the_installer_refuses_what_has_no_hash(bootstrap, index, checkout, uv, capfd) -> None:
    wheel(index, "leftpad", "x = 1")
    (checkout / "requirements.lock").write_text("leftpad==1.0\n")
    with pytest.raises(bootstrap.InstallFailed):
        bootstrap.install_locked(checkout, uv)
    assert "hash" in capfd.readouterr().err
    assert not is_installed(checkout, "leftpad")


def test_the_installer_builds_nothing_from_source(bootstrap, index, checkout, uv) -> None:
    lock(checkout, source(index, "leftpad"))
    with pytest.raises(bootstrap.InstallFailed):
        bootstrap.install_locked(checkout, uv)
    assert not (index / "it has run").exists()


def test_the_installers_own_uv_is_taken_by_its_hash(bootstrap, index, checkout, capfd) -> None:
    lock(checkout, wheel(index, "uv", "x = 1"))
    bootstrap.install_uv(checkout)
    assert (checkout / ".boot" / "uv.py").exists()
    shutil.rmtree(checkout / ".boot")
    wheel(index, "uv", "x = 2")
    with pytest.raises(bootstrap.InstallFailed, match="pip"):
        bootstrap.install_uv(checkout)
    assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err
    assert not (checkout / ".boot" / "uv.py").exists()


def build_step(deployable: str, checkout: Path) -> subprocess.CompletedProcess[str]:
    """The step of an image's build that brings what is locked, with folders of ours."""
    [step] = [each for stage in read_stages(places.dockerfile(deployable)) for each in stage.all("RUN") if "-r" in each]
    words = [str(checkout / "locked") if each == "/locked" else each for each in shlex.split(step)]
    assert words[0] == "pip"
    into = ["--target", str(checkout / "locked")] if words[1] == "install" else []
    command = [sys.executable, "-P", "-m", *words, *into]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("deployable", DEPLOYABLES)
def test_an_images_build_takes_what_is_locked_and_refuses_a_wheel_that_was_changed(deployable, index, checkout) -> None:
    lock(checkout, wheel(index, "leftpad", "x = 1"))
    assert build_step(deployable, checkout).returncode == 0
    assert any((checkout / "locked").glob("leftpad*"))
    shutil.rmtree(checkout / "locked")
    wheel(index, "leftpad", "x = 2")
    done = build_step(deployable, checkout)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not any(checkout.glob("locked/leftpad*"))


@pytest.mark.parametrize("deployable", ["payments", "gateway"])
def test_an_images_build_builds_nothing_of_others_from_source(deployable, index, checkout) -> None:
    lock(checkout, source(index, "leftpad"))
    assert build_step(deployable, checkout).returncode != 0
    assert not (index / "it has run").exists()


def test_the_lock_answers_what_is_asked_for() -> None:
    pins = read_pins(places.LOCK.read_text())
    for line in places.REQUIREMENTS.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        asked = Requirement(line)
        versions = [pin.version for pin in pins if pin.name == canonicalize_name(asked.name)]
        assert versions, f"{line} is not locked: say make lock"
        assert all(map(asked.specifier.contains, versions)), f"{line} is locked as {versions}: say make lock"


def test_what_our_own_projects_need_to_run_to_build_and_to_test_is_locked(bootstrap) -> None:
    locked = {pin.name for pin in read_pins(places.LOCK.read_text())}
    for member in bootstrap.MEMBERS:
        content = tomllib.loads((places.ROOT / member / "pyproject.toml").read_text())
        project = content["project"]
        needs = [*content["build-system"]["requires"], *project.get("dependencies", ())]
        needs += [each for extra in project.get("optional-dependencies", {}).values() for each in extra]
        names = {canonicalize_name(Requirement(each).name) for each in needs}
        assert {name for name in names if not is_ours(name)} <= locked, member


def test_no_lock_names_an_address() -> None:
    for file in (places.LOCK, places.NPM_LOCK):
        assert not re.search(r'://|"resolved"', re.sub(r'"(funding|url)": .*', "", file.read_text())), file

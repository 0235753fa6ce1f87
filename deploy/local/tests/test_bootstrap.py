"""The installer says in one sentence what is wrong, and does nothing twice."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BOOTSTRAP = Path(__file__).parent.parent / "bootstrap.py"
NPM = """#!/bin/sh
echo "$@" >> calls
rm -rf node_modules
{words}
"""


@pytest.fixture
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", BOOTSTRAP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path, bootstrap: ModuleType) -> Path:
    """A checkout with nothing in it but what npm reads, below a path with a space."""
    root = tmp_path / "a checkout"
    (root / bootstrap.NODE_CLIENT).mkdir(parents=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        (root / bootstrap.NODE_CLIENT / name).write_text("{}")
    return root


@pytest.fixture
def path_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts scripts on PATH, beside the shell's own commands and nothing else."""

    def place(**scripts: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name in ("sh", "rm", "mkdir"):
            found = shutil.which(name)
            assert found is not None
            if not (folder / name).exists():
                (folder / name).symlink_to(found)
        for name, text in scripts.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return place


def test_a_too_old_python_is_told_so_in_one_sentence() -> None:
    program = (
        f"import sys, runpy; sys.version_info = (3, 9, 2); runpy.run_path({str(BOOTSTRAP)!r}, run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.strip().startswith("Danbao needs Python 3.11 or newer, and this is Python 3.9")
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_client_for_node_is_installed_once_and_again_when_its_lock_changes(bootstrap, checkout, path_with) -> None:
    path_with(node="#!/bin/sh\n", npm=NPM.format(words="mkdir node_modules"))
    folder = checkout / bootstrap.NODE_CLIENT
    for _ in range(2):
        bootstrap.install_node_client(checkout)
    assert (folder / "calls").read_text().splitlines() == ["ci --ignore-scripts"]
    (folder / "package-lock.json").write_text('{"lockfileVersion": 3}')
    bootstrap.install_node_client(checkout)
    assert len((folder / "calls").read_text().splitlines()) == 2


def test_a_broken_client_for_node_is_installed_again(bootstrap, checkout, path_with) -> None:
    path_with(node="#!/bin/sh\nexit 1\n", npm=NPM.format(words="mkdir node_modules"))
    for _ in range(2):
        bootstrap.install_node_client(checkout)
    assert len((checkout / bootstrap.NODE_CLIENT / "calls").read_text().splitlines()) == 2


def test_where_there_is_no_node_its_client_is_left_out(bootstrap, checkout, path_with) -> None:
    path_with(npm=NPM.format(words="exit 1"))
    bootstrap.install_node_client(checkout)
    assert not (checkout / bootstrap.NODE_CLIENT / "calls").exists()


def test_a_client_for_node_that_cannot_be_installed_is_not_left_out_silently(
    bootstrap, checkout, path_with, capfd
) -> None:
    path_with(node="#!/bin/sh\n", npm=NPM.format(words="echo the registry does not answer >&2; exit 1"))
    with pytest.raises(bootstrap.InstallFailed, match="npm ci"):
        bootstrap.install_node_client(checkout)
    assert "the registry does not answer" in capfd.readouterr().err
    assert not (checkout / bootstrap.NODE_CLIENT / "node_modules").exists()

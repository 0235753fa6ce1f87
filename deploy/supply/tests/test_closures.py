"""A service needs what its bill names, and no more; it runs where nothing can be written and nobody is home."""

import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from danbao_kit.testing.certificates import CertificateAuthority
from danbao_supply.closure import SERVICES

# Python's own events for whatever would change a file; what C code would write fails by the limit on a file's size.
RUN = """
import os, resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
CHANGING = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod",
            "os.utime", "tempfile.mkstemp", "tempfile.mkdtemp"}
def watch(event, arguments):
    if event in CHANGING or (event == "open" and arguments[2] is not None
            and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            and arguments[0] not in ("/dev/null",) and not isinstance(arguments[0], int)):
        os.write(2, f"WROTE {event} {arguments!r}\\n".encode())
        os._exit(97)
sys.addaudithook(watch)
sys.argv[0] = sys.argv.pop(1)
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def nobodys_home(tmp_path: Path) -> Path:
    """A working directory, home and place for temporary files, in which nothing may be left."""
    folder = tmp_path / "nobody"
    folder.mkdir()
    return folder


def environment(site: Path, home: Path, **others: str) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "PYTHONPATH": str(site),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "HOME": str(home),
        "TMPDIR": str(home),
        **others,
    }


def command(module: str, word: str) -> list[str]:
    return [sys.executable, "-S", "-P", "-c", RUN, module, word]


def settings(service: str, dsn: str, authority: CertificateAuthority) -> dict[str, str]:
    files = authority.issue(service)
    given = {
        "DANBAO_LISTEN": "127.0.0.1:0",
        "DANBAO_DATABASE_DSN": dsn,
        "DANBAO_TLS_CERT": str(files.cert),
        "DANBAO_TLS_KEY": str(files.key),
        "DANBAO_TLS_CA": str(files.ca),
        "DANBAO_DRAIN_SECONDS": "1",
    }
    # Peers that do not answer: a service starts without them.
    peers = {"payments": (), "escrow": ("PAYMENTS", "CREDIT"), "credit": ("PAYMENTS", "ESCROW")}[service]
    given |= {f"DANBAO_{peer}_ADDRESS": "127.0.0.1:9" for peer in peers}
    if service == "credit":
        given["DANBAO_ERASURE_SECRET"] = "of this test alone, and longer than sixteen characters"
    return given


def until_well(service: str, variables: dict[str, str], home: Path) -> None:
    """Ask as the image asks; a service says no until it has looked at its store."""
    until = time.monotonic() + 60
    while True:
        asked = subprocess.run(
            command("danbao_kit.health", service), env=variables, cwd=home, capture_output=True, text=True, check=False
        )
        if asked.returncode == 0:
            return
        assert "NOT_SERVING" in asked.stderr, asked.stderr
        assert time.monotonic() < until, asked.stderr
        time.sleep(0.1)


def test_a_service_migrates_and_serves_from_its_closure_and_writes_nothing(
    service, site_of, service_database, authority, nobodys_home
) -> None:
    database, site = service_database(service), site_of(service)
    migration = {"DANBAO_MIGRATION_DSN": database.owner_dsn, "DANBAO_DATABASE_ROLE": database.role}
    migrated = subprocess.run(
        command(f"danbao_{service}", "migrate"),
        env=environment(site, nobodys_home, **migration),
        cwd=nobodys_home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert migrated.returncode == 0, migrated.stderr
    variables = environment(site, nobodys_home, **settings(service, database.dsn, authority))
    running = subprocess.Popen(
        command(f"danbao_{service}", "serve"),
        env=variables,
        cwd=nobodys_home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert running.stdout is not None
        lines: list[str] = []
        while not (found := re.search(r'"port": ?(\d+)', lines[-1] if lines else "")):
            lines.append(running.stdout.readline())
            assert lines[-1], "".join(lines)
        until_well(service, variables | {"DANBAO_LISTEN": f"0.0.0.0:{found[1]}"}, nobodys_home)
    finally:
        running.terminate()
        said = running.communicate(timeout=30)[0]
    assert running.returncode == 0, "".join(lines) + said
    assert "WROTE" not in said
    assert list(nobodys_home.iterdir()) == []


def test_what_would_be_written_is_seen(site_of, nobodys_home) -> None:
    (nobodys_home / "writer.py").write_text("open('left-behind', 'w')")
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", RUN, "writer"],
        env=environment(nobodys_home, nobodys_home),
        cwd=nobodys_home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 97
    assert "left-behind" in done.stderr


def test_a_services_wheel_has_its_migrations_and_no_tests(service, wheel_of) -> None:
    names = zipfile.ZipFile(wheel_of(f"danbao-{service}")).namelist()
    assert any("/store/migrations/" in name for name in names)
    assert not [name for name in names if "/testing/" in name or "test_" in name]


def test_a_service_has_neither_another_service_nor_a_tool_within_reach(service, site_of) -> None:
    others = {f"danbao_{each}" for each in SERVICES} - {f"danbao_{service}"}
    there = {each.name for each in site_of(service).iterdir()}
    assert not there & {*others, "danbao_gateway", "pytest", "hypothesis", "grpc_tools", "pip", "cryptography"}

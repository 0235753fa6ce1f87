"""Whoever starts containers learns by an exit code whether a service is well, and nothing by mistake."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from danbao_kit.health import Unwell, dialled
from danbao_kit.server import Server
from danbao_kit.settings import ServiceSettings
from danbao_kit.testing.certificates import CertificateAuthority, CertificateFiles
from danbao_kit.testing.service import settings_for


@pytest.fixture
async def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path / "ours")


@pytest.fixture
async def ready() -> dict[str, bool]:
    return {"ready": True}


@pytest.fixture
async def server(jar_database, authority, ready):
    async def is_ready() -> bool:
        return ready["ready"]

    settings = settings_for(ServiceSettings, name="payments", database=jar_database, authority=authority)
    server = Server(settings, name="payments", peers={}, ready=is_ready)
    await server.start()
    yield server
    await server.stop()


async def ask(files: CertificateFiles, port: int, *others: str, **variables: str) -> tuple[int, str]:
    """The command's exit code and words."""
    environment = {
        "PATH": os.defpath,
        "DANBAO_LISTEN": f"0.0.0.0:{port}",
        "DANBAO_TLS_CERT": str(files.cert),
        "DANBAO_TLS_KEY": str(files.key),
        "DANBAO_TLS_CA": str(files.ca),
    } | variables
    command = [sys.executable, "-P", "-m", "danbao_kit.health", *(others or ("payments",))]
    asked = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.PIPE)
    words = (await asked.communicate())[1].decode()
    assert asked.returncode is not None
    return asked.returncode, words


async def until(code: int, files: CertificateFiles, port: int, *others: str) -> str:
    """What is said once the code is this one: a server looks at its store in its own time."""
    for _ in range(50):
        found, words = await ask(files, port, *others)
        if found == code:
            return words
        await asyncio.sleep(0.1)
    raise AssertionError(f"never {code}: {words}")


async def test_a_service_that_serves_is_well_by_its_own_certificate(server, authority) -> None:
    assert await until(0, authority.issue("payments"), server.port) == ""


async def test_a_service_whose_store_is_away_is_not_ready_and_alive_all_the_same(server, authority, ready) -> None:
    files = authority.issue("payments")
    ready["ready"] = False
    assert await until(1, files, server.port) == "payments is not well: NOT_SERVING\n"
    assert await ask(files, server.port, "payments", "--alive") == (0, "")


async def test_nobody_at_the_port_is_neither_ready_nor_alive(server, authority) -> None:
    files, port = authority.issue("payments"), server.port
    await server.stop()
    for others in (("payments",), ("payments", "--alive")):
        code, words = await ask(files, port, *others)
        assert code == 1
        assert words.startswith("payments is not well: UNAVAILABLE")


async def test_another_service_at_the_port_is_not_taken_for_this_one(server, authority) -> None:
    code, words = await ask(authority.issue("escrow"), server.port, "escrow", "--alive")
    assert (code, words.split(":")[1]) == (1, " UNAVAILABLE")


async def test_a_stranger_with_the_name_is_not_believed(server, tmp_path) -> None:
    stranger = CertificateAuthority(tmp_path / "theirs").issue("payments")
    assert (await ask(stranger, server.port, "payments", "--alive"))[0] == 1


async def test_what_is_not_set_or_not_there_is_one_sentence(authority) -> None:
    files = authority.issue("payments")
    assert await ask(files, 1, DANBAO_TLS_KEY="") == (1, "payments is not well: DANBAO_TLS_KEY is not set\n")
    code, words = await ask(files, 1, DANBAO_TLS_CA="/nowhere/ca.pem")
    assert (code, words) == (1, "payments is not well: /nowhere/ca.pem: No such file or directory\n")


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("0.0.0.0:8443", "127.0.0.1:8443"),
        ("[::]:8443", "[::1]:8443"),
        (":8443", "127.0.0.1:8443"),
        ("10.0.0.7:8443", "10.0.0.7:8443"),
        ("payments:8443", "payments:8443"),
    ],
)
def test_a_server_that_listens_everywhere_is_asked_at_home(listen: str, address: str) -> None:
    assert dialled(listen) == address


@pytest.mark.parametrize("listen", ["", "127.0.0.1:0", "127.0.0.1", "127.0.0.1:https"])
def test_a_port_that_cannot_be_known_is_not_guessed(listen: str) -> None:
    with pytest.raises(Unwell, match="names no port"):
        dialled(listen)

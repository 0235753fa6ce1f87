"""Envoy, started as the image starts it, writes no file: its root may be read-only."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from danbao_gateway import GatewaySettings, envoy, testing
from danbao_gateway.contracts import Contracts
from danbao_gateway.rendering import render_files, write

DOCKERFILE = Path(__file__).parent.parent / "Dockerfile"
# Whoever writes a byte into a file is ended by SIGXFSZ; Python ignores it, and what it starts would inherit that.
WRITES_NOTHING = """
import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
os.execv(sys.argv[1], sys.argv[1:])
"""


def image_command() -> list[str]:
    """What the image starts."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return [
        part for word in ("ENTRYPOINT", "CMD") for part in json.loads(re.findall(rf"^{word} (.*)$", text, re.M)[-1])
    ]


def test_envoy_answers_calls_and_writes_no_file(
    settings_for: Callable[..., dict[str, Any]], messages: testing.Messages, contracts: Contracts, tmp_path: Path
) -> None:
    tokens, admin = testing.Tokens(), testing.free_port()
    content = settings_for(jwks=tokens.jwks(), port=testing.free_port(), file_name="image.json", admin={"port": admin})
    content["access_log"] = "/dev/stdout"
    settings = GatewaySettings.model_validate(content)
    run, empty = tmp_path / "run", tmp_path / "empty"
    configuration = write(render_files(settings, str(run), contracts), run)
    before = sorted(run.rglob("*"))
    empty.mkdir()
    _, _, _, *others = image_command()
    command = [str(envoy.find()), "--config-path", str(configuration), *others, "--concurrency", "1"]
    echo = testing.start_echo(settings, testing.Echo(messages))
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES_NOTHING, *command],
        cwd=empty,
        env={"HOME": str(empty), "TMPDIR": str(empty)},
        stdout=subprocess.PIPE,
    )
    try:
        testing.wait_until_healthy(process, admin)
        with testing.open_channel(settings) as channel:
            stub = channel.unary_unary(
                "/danbao.echo.v1.EchoService/Echo",
                request_serializer=messages.request.SerializeToString,
                response_deserializer=messages.response.FromString,
            )
            metadata = (("authorization", f"Bearer {tokens.mint('user')}"),)
            stub(messages.request(text="x"), metadata=metadata, timeout=10, wait_for_ready=True)
    finally:
        process.terminate()
        logged = process.communicate(timeout=10)[0].decode()
        echo.stop(None).wait()
    assert process.returncode == 0
    assert "/danbao.echo.v1.EchoService/Echo" in logged
    assert sorted(run.rglob("*")) == before
    assert list(empty.iterdir()) == []


def test_the_limit_would_have_ended_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITES_NOTHING, "/bin/sh", "-c", "echo x > written; echo y"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGXFSZ, b"")
    assert (tmp_path / "written").stat().st_size == 0

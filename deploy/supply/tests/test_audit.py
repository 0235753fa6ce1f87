"""The audit fails on what is known, and never takes silence for a good answer. pip-audit is the real one; the database
that it asks answers on this machine."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from danbao_supply.__main__ import check_vulnerabilities
from danbao_supply.audit import (
    Exemption,
    NotAsked,
    PolicyUnreadable,
    Vulnerability,
    ask,
    findings,
    read_exemptions,
)
from danbao_supply.lock import Pin

TODAY = date(2026, 11, 29)
ADVISORY = {
    "id": "GHSA-0000-0000-0001",
    "aliases": ["CVE-2026-0001"],
    "summary": "It can be talked into anything.",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "left-pad"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.3"}]}],
            "versions": ["1.2"],
        }
    ],
}
KNOWN = Vulnerability("left-pad", "1.2", frozenset({"GHSA-0000-0000-0001", "CVE-2026-0001"}), ("1.3",))


def pin(name: str, version: str) -> Pin:
    return Pin(name, version, None, ("0" * 64,))


@pytest.fixture
def database() -> Iterator[list[str]]:
    """pip-audit's arguments for a database that knows one vulnerability of left-pad 1.2."""

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["content-length"])))
            known = (question["package"]["name"], question["version"]) == ("left-pad", "1.2")
            content = json.dumps({"vulns": [ADVISORY]} if known else {}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Not into the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield ["--vulnerability-service", "osv", "--osv-url", f"http://127.0.0.1:{server.server_port}/v1/query"]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_known_vulnerability_is_found_with_all_its_names_and_its_fix(database: list[str]) -> None:
    assert ask([pin("left-pad", "1.2"), pin("right-pad", "4")], service=database) == (KNOWN,)


def test_every_version_is_asked_about_also_one_for_another_python(database: list[str]) -> None:
    assert ask([pin("left-pad", "1.3"), pin("left-pad", "1.2")], service=database) == (KNOWN,)


def test_nothing_known_is_nothing_found(database: list[str]) -> None:
    assert ask([pin("left-pad", "1.3")], service=database) == ()


def test_a_database_that_is_not_reached_is_no_good_answer() -> None:
    nowhere = ["--vulnerability-service", "osv", "--osv-url", "http://127.0.0.1:9/v1/query"]
    with pytest.raises(NotAsked):
        ask([pin("left-pad", "1.3")], service=nowhere)


def test_a_distribution_that_was_left_out_is_no_good_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    # pip-audit itself calls this "No known vulnerabilities found", and ends with 0.
    left_out = [{"name": "left-pad", "skip_reason": "Dependency not found and could not be audited"}]
    monkeypatch.setattr("danbao_supply.audit._answer", lambda *_: left_out)
    with pytest.raises(NotAsked, match="no answer about 1 of 1 locked versions; left-pad: Dependency not found"):
        ask([pin("left-pad", "1.3")])
    monkeypatch.setattr("danbao_supply.audit._answer", lambda *_: [])
    with pytest.raises(NotAsked, match=r"leaves out left-pad 1\.3"):
        ask([pin("left-pad", "1.3")])


def test_what_is_known_of_the_others_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    advisory = {"id": "GHSA-0000-0000-0001", "aliases": ["CVE-2026-0001"], "fix_versions": ["1.3"]}
    answer = [
        {"name": "left-pad", "version": "1.2", "vulns": [advisory]},
        {"name": "right-pad", "skip_reason": "the connection was lost"},
    ]
    monkeypatch.setattr("danbao_supply.audit._answer", lambda *_: answer)
    with pytest.raises(NotAsked) as caught:
        ask([pin("left-pad", "1.2"), pin("right-pad", "4")])
    assert caught.value.known == (KNOWN,)


def test_the_command_has_a_code_of_its_own_for_a_database_that_is_not_reached() -> None:
    command = [sys.executable, "-P", "-m", "danbao_supply", "audit"]
    nowhere = ["--vulnerability-service", "osv", "--osv-url", "http://127.0.0.1:9/v1/query"]
    done = subprocess.run([*command, *nowhere], capture_output=True, text=True, check=False)
    assert done.returncode == 69
    assert done.stderr.startswith("NOT AUDITED: ")
    assert done.stdout == ""


def command(database: list[str], capsys: pytest.CaptureFixture[str], *versions: Pin) -> tuple[int, str]:
    """The command's code and words for some versions, by a database that answers."""
    return check_vulnerabilities(versions, database), capsys.readouterr().out


def test_the_command_fails_on_what_is_known_and_passes_on_what_is_not(database, capsys) -> None:
    assert command(database, capsys, pin("left-pad", "1.2")) == (
        1,
        "left-pad 1.2: CVE-2026-0001, GHSA-0000-0000-0001; fixed in 1.3\n",
    )
    assert command(database, capsys, pin("left-pad", "1.3")) == (
        0,
        "1 locked versions have no known vulnerability.\n",
    )


def exemption(**others) -> Exemption:
    return Exemption(**{"id": "CVE-2026-0001", "distribution": "left-pad", "until": TODAY, "reason": "unused"} | others)


def test_an_exception_counts_by_any_of_the_names_until_the_end_of_its_day() -> None:
    assert findings([KNOWN], [exemption()], TODAY) == []
    assert findings([KNOWN], [exemption(id="GHSA-0000-0000-0001")], TODAY) == []


@pytest.mark.parametrize(
    "others", [{"id": "CVE-2026-0002"}, {"distribution": "right-pad"}, {"until": date(2026, 11, 28)}]
)
def test_an_exception_for_something_else_or_that_has_run_out_does_not_count(others: dict) -> None:
    assert any(each.startswith("left-pad 1.2") for each in findings([KNOWN], [exemption(**others)], TODAY))


def test_an_exception_that_matches_nothing_any_more_is_to_be_removed() -> None:
    [finding] = findings([], [exemption()], TODAY)
    assert "is not found any more" in finding


@pytest.mark.parametrize(
    "text",
    [
        '[[exception]]\nid = "CVE-1"\ndistribution = "x"\nreason = "because"',
        '[[exception]]\nid = "CVE-1"\ndistribution = "x"\nuntil = "soon"\nreason = "because"',
        '[[exception]]\nid = "CVE-1"\ndistribution = "x"\nuntil = 2026-12-01\nreason = " "',
        '[[exception]]\nid = "CVE-1"\ndistribution = "x"\nuntil = 2027-11-29\nreason = "because"',
        '[[exeption]]\nid = "CVE-1"',
    ],
)
def test_an_exception_without_an_end_or_a_reason_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "vulnerabilities.toml").write_text(text)
    with pytest.raises(PolicyUnreadable):
        read_exemptions(tmp_path / "vulnerabilities.toml", TODAY)

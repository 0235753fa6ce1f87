"""The card is whole at every moment; ports are kept while they are free."""

import json
import socket
import threading
from pathlib import Path

import pytest

from danbao_local import ports
from danbao_local.card import Card
from danbao_local.errors import NotRunning, PortTaken, StackFailed


def make_card(number: int) -> Card:
    pids = {f"process-{index}": number for index in range(200)}
    return Card(gateway="127.0.0.1:1", json="http://127.0.0.1:1", ca=None, token={"user": "t"}, pids=pids)


def test_a_reader_never_sees_half_a_card(tmp_path: Path) -> None:
    path = tmp_path / "local.json"
    make_card(0).write(path)
    done = threading.Event()

    def write() -> None:
        for number in range(300):
            make_card(number).write(path)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set() or reads == 0:
        assert len(set(Card.read(path).pids.values())) == 1
        reads += 1
    writer.join()
    assert [item.name for item in tmp_path.iterdir()] == ["local.json"]


def test_the_card_has_the_promised_fields_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "local.json"
    make_card(1).write(path)
    assert {"gateway", "json", "ca", "token", "pids", "calls"} <= json.loads(path.read_text()).keys()
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_card_means_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="make run"):
        Card.of_running_stack(tmp_path)


def test_ports_are_the_same_again_while_they_are_free(tmp_path: Path) -> None:
    first = ports.choose(wanted={}, remembered_in=tmp_path / "ports.json")
    assert len(set(first.values())) == len(ports.VARIABLES)
    assert ports.choose(wanted={}, remembered_in=tmp_path / "ports.json") == first


def test_a_remembered_port_that_is_taken_is_replaced(tmp_path: Path) -> None:
    first = ports.choose(wanted={}, remembered_in=tmp_path / "ports.json")
    with socket.socket() as other:
        other.bind(("127.0.0.1", first["escrow"]))
        other.listen()
        second = ports.choose(wanted={}, remembered_in=tmp_path / "ports.json")
    assert second["escrow"] != first["escrow"]
    assert second["payments"] == first["payments"]


def test_a_wanted_port_that_is_taken_is_named_with_its_variable(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        wanted = {"gateway": other.getsockname()[1]}
        with pytest.raises(PortTaken, match="GATEWAY_PORT"):
            ports.choose(wanted=wanted, remembered_in=tmp_path / "ports.json")


@pytest.mark.parametrize("text", ["x", "0", "65536", "-1"])
def test_what_is_no_port_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("GATEWAY_PORT", text)
    with pytest.raises(StackFailed, match="GATEWAY_PORT"):
        ports.wanted_from_environment()

"""Orders through a whole stack: clean, cut off and gone on with, and with every process killed under it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from danbao_kit.testing.embedded_postgres import EmbeddedPostgres
from danbao_local.olist.generator import generate, write
from danbao_local.olist.orders import Order
from danbao_local.olist.reader import read
from danbao_local.replay.complaints import Course
from danbao_local.replay.journal import JOURNAL_FILE
from danbao_local.replay.odd import Odd

_ENDS = {
    Course.CANCELED_UNSHIPPED: "paid, the seller agreed",
    Course.CANCELED_RETURNED: "paid after the return, received",
    Course.CANCELED_RETURN_UNANSWERED: "paid after the return, by time",
    Course.CANCELED_KEPT: "taken back, by time",
    Course.UNSHIPPED_UNANSWERED: "paid, by time",
    Course.LOST_UNANSWERED: "paid, by time",
    Course.LOST_ACCEPTED: "paid, the seller agreed",
    Course.LATE_HALF: "paid, the seller agreed",
    Course.POOR_RETURNED: "paid after the return, received",
    Course.POOR_REJECTED: "rejected, no dispute",
    Course.POOR_WITHDRAWN: "taken back, by the buyer",
}
"""How the cases of a course end, in the report's words; all others are disputed."""
_SAME_HERE = (
    # Apart only where somebody brushes, with tiny orders or more than six of a pair in a month: nobody does.
    frozenset({"orders_completed", "credible_orders_completed"}),
    frozenset({"confirmed_orders", "credible_confirmations"}),
    frozenset({"purchases_completed", "credible_purchases_completed"}),
    frozenset({"confirmed_purchases", "credible_purchase_confirmations"}),
    # In three hundred orders, what is late within a day or a week is what was never sent.
    frozenset({"recent_cancellations", "recent_late", "recent_refunds"}),
)
"""Lines of the catalogue that so small a replay cannot tell apart."""
_KILLED = ("payments", "escrow", "credit", "gateway", "postgres")
_SAME_EVERY_TIME = (
    *("orders", "trades", "unaccounted", "by_status", "outcomes", "trades_by_state", "odd"),
    *("complaints", "cases", "disputes", "defects"),
)


class Replays:
    """Starts replays of one folder on one state directory, as `make replay` does."""

    def __init__(self, folder: Path, step_hours: float) -> None:
        self.data = folder / "orders"
        self.state_dir = folder / "state"
        self._json = folder / "report.json"
        self._log = folder / "replay.log"
        self._step_hours = step_hours
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        arguments = ["--data", str(self.data), "--json", str(self._json), "--state-dir", str(self.state_dir)]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "danbao_local.replay", *arguments, "--step", str(self._step_hours)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def report(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        """The report of a replay that ends well."""
        code = process.wait(300)
        assert code == 0, f"exit code {code}:\n{self._log.read_text(errors='replace')[-6000:]}"
        content: dict[str, Any] = json.loads(self._json.read_text())
        return content

    def wait_for_steps(self, process: subprocess.Popen[bytes], steps: int) -> None:
        """Until so many steps are in the journal."""
        journal = self.state_dir / JOURNAL_FILE
        deadline = time.monotonic() + 120
        while not journal.exists() or journal.read_bytes().count(b"\n") < steps:
            assert process.poll() is None, f"it ended early:\n{self._log.read_text(errors='replace')[-6000:]}"
            assert time.monotonic() < deadline, f"no {steps} steps:\n{self._log.read_text(errors='replace')[-6000:]}"
            time.sleep(0.05)

    def pid_of(self, name: str) -> int:
        """The pid of a process of the running stack."""
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError, ValueError, KeyError):
                return int(json.loads((self.state_dir / "local.json").read_text())["pids"][name])
            assert time.monotonic() < deadline, f"no {name}"
            time.sleep(0.05)

    def wait_for_another(self, process: subprocess.Popen[bytes], name: str, pid: int) -> None:
        """Until somebody else stands in for a killed process, while the replay goes on."""
        deadline = time.monotonic() + 120
        while self.pid_of(name) == pid:
            assert process.poll() is None, f"it ended early:\n{self._log.read_text(errors='replace')[-6000:]}"
            assert time.monotonic() < deadline, f"no other {name}"
            time.sleep(0.05)

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
                process.wait(60)
        subprocess.run(
            [sys.executable, "-P", "-m", "danbao_local", "--state-dir", str(self.state_dir), "stop"],
            check=False,
            capture_output=True,
        )
        EmbeddedPostgres(self.state_dir / "postgres").destroy()


@pytest.fixture
def replays(tmp_path: Path) -> Iterator[Replays]:
    found = Replays(tmp_path, step_hours=24)
    yield found
    found.end()


@pytest.mark.timeout(400)
def test_three_hundred_orders_end_with_everything_accounted_for(
    replays: Replays, complaints_by_files: Callable[[Path], Counter[str]]
) -> None:
    write(generate(300, 7, days=40), replays.data)
    orders = read(replays.data).orders
    report = replays.report(replays.start())
    assert (report["orders"], report["unaccounted"], report["audit"]["violations"]) == (300, 0, 0)
    assert sum(report["by_status"].values()) == 300
    paid_minor = sum(order.paid_minor for order in orders)
    money = report["money"]["BRL"]
    assert money["in"] == paid_minor == money["out"] + money["held"]
    assert money["held"] == sum(money["held_by_kind"].values())
    assert report["trades"] == sum(report["trades_by_state"].values()) == report["events"]["escrow"]["trade_created"]
    odd = {entry["kind"]: entry["count"] for entry in report["odd"]}
    assert set(odd) == set(Odd)
    _assert_complaints(report, complaints_by_files(replays.data), refused=odd[Odd.TRADE_REFUSED])
    for merchant in (*report["merchants"]["best"], *report["merchants"]["worst"]):
        assert merchant["grade"] in ("AAA", "AA", "A", "B", "C", "D", "E")
    scores = [merchant["score"] for merchant in report["merchants"]["best"]]
    assert scores == sorted(scores, reverse=True)
    _assert_reports(report, orders)
    _assert_assessment(report["assessment"])


def _assert_reports(report: dict[str, Any], orders: Sequence[Order]) -> None:
    """The audit compares what was told with what credit has applied; here, that it was told at all."""
    reports, checks = report["reports"], report["audit"]["checks"]
    assert reports["told"] == sum(reports["by_kind"].values()) > sum(len(order.reviews) for order in orders)
    assert reports["by_kind"]["delivery_defect"] == report["defects"]["reported"]
    assert checks["credit took every report, once"] == 0
    assert checks["every merchant has a score"] == checks["no merchant has more than four reasons"] == 0
    assert checks["every reason is a text with a figure"] == 0


def _assert_assessment(assessment: dict[str, Any]) -> None:
    """Forty days of orders hold no outcome of sixty; but every indicator can be looked at."""
    for kind in ("merchant", "individual"):
        grades, indicators = assessment["grades"][kind], assessment["indicators"][kind]
        assert "impossible" in grades or "cannot be shown" in grades["verdict"]
        print(kind, indicators["known"], indicators["indicators"], indicators["constant"], indicators["equal"])
        assert indicators["share"] >= 0.8
        for group in indicators["equal"]:
            lines = {name.rpartition("_")[0] for name in group}
            assert any(lines <= same for same in _SAME_HERE), f"{group} are equal for everybody"
            assert len({name.rpartition("_")[2] for name in group}) == 1, "only within one window"


def _assert_complaints(report: dict[str, Any], by_files: Counter[str], *, refused: int) -> None:
    """Every course was taken as often as the files say, and whatever counts them agrees."""
    complaints, cases, disputes = report["complaints"], report["cases"], report["disputes"]
    taken = Counter({course: entry["trades"] for course, entry in complaints.items()})
    assert set(taken) == set(Course)
    assert not taken - by_files
    assert (by_files - taken).total() <= refused, "only a trade that was refused is not complained of"
    events = report["events"]["escrow"]
    opened = sum(entry["cases"] for entry in complaints.values())
    assert opened == sum(entry["count"] for entry in cases.values()) == events["refund_case_opened"]
    wanted: Counter[str] = Counter()
    for course, entry in complaints.items():
        wanted[_ENDS.get(Course(course), "disputed")] += entry["cases"]
    assert {outcome: entry["count"] for outcome, entry in cases.items()} == wanted
    assert set(disputes) == {"the parties agreed", "decided, no appeal", "decided again after an appeal"}
    assert sum(entry["count"] for entry in disputes.values()) == cases["disputed"]["count"] == events["dispute_closed"]
    assert sum(entry["to_buyers_minor"] for entry in disputes.values()) == cases["disputed"]["to_buyers_minor"]
    to_buyers = sum(entry["to_buyers_minor"] for entry in complaints.values())
    assert to_buyers == sum(entry["to_buyers_minor"] for entry in cases.values()) > 0
    defects = report["defects"]
    # Handed over so late that the system had cancelled, and delivered late: such a trade is both. The audit is exact.
    assert defects["paid_and_never_shipped"] < defects["by_credit"]
    assert defects["by_credit"] <= defects["paid_and_never_shipped"] + defects["reported"]
    assert min(defects.values()) > 0
    assert {name: found["intact"] for name, found in report["own_audits"].items()} == {"payments": True, "escrow": True}


@pytest.mark.timeout(500)
def test_killed_again_and_again_nothing_is_lost_or_done_twice(replays: Replays) -> None:
    """The replay itself first, then, while it goes on, each process of its stack; a third run finds all of it done."""
    write(generate(130, 11, days=30), replays.data)
    cut_off = replays.start()
    replays.wait_for_steps(cut_off, 6)
    cut_off.kill()
    cut_off.wait()
    going_on = replays.start()
    for number, name in enumerate(_KILLED):
        replays.wait_for_steps(going_on, 14 + 8 * number)
        # A step begins with the clocks; a little later the orders' own calls are under way.
        time.sleep(0.05 * (number + 1))
        killed = replays.pid_of(name)
        os.kill(killed, signal.SIGKILL)
        replays.wait_for_another(going_on, name, killed)
    report = replays.report(going_on)
    assert (report["orders"], report["unaccounted"], report["audit"]["violations"]) == (130, 0, 0)
    (replays.state_dir / JOURNAL_FILE).unlink()
    again = replays.report(replays.start())
    assert {name: again[name] for name in _SAME_EVERY_TIME} == {name: report[name] for name in _SAME_EVERY_TIME}
    assert again["money"] == report["money"]
    assert again["events"] == report["events"]
    assert again["calls"]["answered_from_records"] > report["trades"]

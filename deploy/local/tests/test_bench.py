"""The bench's bookkeeping, with made-up answers; what it measures is never tested."""

import io
import json

import pytest
from rich.console import Console

from danbao.escrow.v1 import trade_pb2
from danbao.payments.v1 import payment_pb2
from danbao_kit.validation import check
from danbao_local.bench import report
from danbao_local.bench.bodies import (
    RequestIds,
    TradeBodies,
    payment_bytes,
    payment_tails,
    top_up_tail,
    wrap,
    wrap_operation,
)
from danbao_local.bench.credit_watch import CreditWatch, Lag
from danbao_local.bench.databases import Reading
from danbao_local.bench.figures import Baseline, Figure, Observation, why_void
from danbao_local.bench.measures import Way, measures
from danbao_local.bench.orders import REQUEST_ID_LENGTH, LoadReport, Order, Target, Tls
from danbao_local.bench.pgbench import PgbenchFailed, parse
from danbao_local.bench.processes import used_between
from danbao_local.bench.run import QUICK, BenchResult

MACHINE = {
    "cores": 2,
    "cpu": "a processor",
    "memory_gib": 8.0,
    "load_average": [0.5, 0.4, 0.3],
    "python": "3.11",
    "postgresql": "18",
    "revision": None,
}


def load_report(**changes):
    given = {
        "seconds": 2.0,
        "items": 200.0,
        "replies": {"CreatePayment": 220},
        "replayed": 0,
        "failures": {},
        "remarks": {},
    }
    return LoadReport(**{**given, "p50_ms": 1.0, "p99_ms": 2.0, **changes})


def figure(key, values, *, void="", baselines=()):
    observations = [Observation(value, 2.0, 1.0, 2.0, {"payments": 1.0, "client": 0.5}) for value in values]
    if void:
        observations[-1] = Observation(0.0, void=void)
    return Figure(key, f"title of {key}", "calls/s", 64, baselines, observations)


# --- what counts ------------------------------------------------------------


def test_a_load_counts_when_every_reply_wrote_its_row():
    assert why_void(load_report(), {"CreatePayment": 220}) == ""


def test_a_load_that_writes_nothing_is_judged_by_its_answers_alone():
    assert why_void(load_report(replies={}), None) == ""


@pytest.mark.parametrize(
    ("changes", "written", "said"),
    [
        ({}, {"CreatePayment": 219}, "rows written CreatePayment 219 differ from replies CreatePayment 220"),
        ({}, {}, "rows written none differ"),
        ({}, {"CreatePayment": 220, "PayTrade": 1}, "PayTrade 1"),
        ({"replayed": 3}, {"CreatePayment": 220}, "3 answers were replayed"),
        ({"failures": {"UNAVAILABLE: gone": 2, "ABORTED": 5}}, {"CreatePayment": 220}, "7 answers were not OK, 5 of"),
        ({"items": 0.0}, {"CreatePayment": 220}, "nothing was answered"),
    ],
)
def test_a_load_is_void_with_the_reason(changes, written, said):
    assert said in why_void(load_report(**changes), written)


def test_one_void_round_voids_the_figure_and_every_ratio_to_it():
    baseline = figure("base", [100.0, 110.0, 0.0], void="3 answers were replayed")
    subject = figure("subject", [50.0, 55.0, 60.0], baselines=[Baseline("base")])
    figures = {"base": baseline, "subject": subject}
    assert baseline.void == "3 answers were replayed"
    assert baseline.median is None
    assert subject.median == 55.0
    assert subject.ratios(figures) == []


def test_a_figure_without_rounds_is_void():
    assert figure("none", []).void == "not measured"


def test_a_ratio_is_the_median_of_the_rounds_own_ratios():
    baseline = figure("base", [100.0, 200.0, 400.0])
    subject = figure("subject", [90.0, 100.0, 100.0], baselines=[Baseline("base"), Baseline("never measured")])
    (ratio,) = subject.ratios({"base": baseline, "subject": subject})
    assert ratio.values == (0.9, 0.5, 0.25)
    assert ratio.median == 0.5


def test_cpu_is_told_by_item_and_by_core():
    measured = figure("one", [100.0, 100.0, 100.0])
    assert measured.cpu_us == {"payments": 5000.0, "client": 2500.0}
    assert measured.cores("payments") == 0.5
    assert measured.cores("nobody") == 0.0
    assert used_between({"a": 1.0, "gone": 3.0}, {"a": 1.5, "new": 9.0}) == {"a": 0.5}


# --- what is written and shown ------------------------------------------------------------


def a_result():
    baseline = figure("echo_gateway", [1000.0, 1100.0, 900.0])
    subject = figure("create_payment", [500.0, 550.0, 450.0], baselines=[Baseline("echo_gateway")])
    bad = figure("batch", [1.0, 2.0, 3.0], void="2 answers were replayed")
    figures = {item.key: item for item in (baseline, subject, bad)}
    return BenchResult(figures, [Lag("batch", behind=7, seconds=0.4, left=0)], "18.4")


def test_the_json_holds_each_figure_with_its_ratio_baseline_and_repetitions():
    content = report.to_json(a_result(), QUICK, MACHINE, began="2026-11-23T10:00:00+00:00", seconds=12.34)
    content = json.loads(json.dumps(content))
    assert content["machine"]["revision"] is None
    assert content["pace"]["rounds"] >= 3
    by_key = {item["key"]: item for item in content["figures"]}
    (ratio,) = by_key["create_payment"]["ratios"]
    assert ratio == {
        "to": "echo_gateway",
        "note": "",
        "baseline": 1000.0,
        "ratio": 0.5,
        "repetitions": [0.5, 0.5, 0.5],
    }
    assert [seen["value"] for seen in by_key["create_payment"]["repetitions"]] == [500.0, 550.0, 450.0]
    assert by_key["create_payment"]["repetitions"][0]["cpu_seconds"] == {"payments": 1.0, "client": 0.5}
    assert by_key["batch"]["void"] == "2 answers were replayed"
    assert by_key["batch"]["median"] is None
    assert content["credit_lags"] == [{"after": "batch", "events_behind": 7, "seconds": 0.4, "events_left": 0}]


def test_the_table_shows_void_figures_as_void_with_the_reason():
    console = Console(record=True, width=140, file=io.StringIO())
    report.show(a_result(), MACHINE, console)
    shown = console.export_text()
    assert "void title of batch: 2 answers were replayed" in shown
    assert "0.50 echo" in shown


def test_what_is_worth_knowing_is_counted_over_the_rounds_and_voids_nothing():
    seen = [Observation(10.0, 2.0, remarks={"trades on default terms": times}) for times in (1, 2, 0)]
    trades = Figure("trades", "trades", "trades/s", observations=seen)
    assert trades.void == ""
    assert trades.remarks == {"trades on default terms": 3}


def test_every_measure_has_its_own_key_and_known_baselines():
    known = measures()
    keys = [measure.key for measure in known]
    assert len(set(keys)) == len(keys)
    allowed = {*keys, "pgbench_s100", "pgbench_s1"}
    assert {baseline.key for measure in known for baseline in measure.baselines} <= allowed
    assert all(measure.wrote for measure in known if measure.service in ("payments", "escrow"))


# --- what is sent ------------------------------------------------------------


def test_an_order_and_its_report_survive_the_pipe():
    tls = Tls("ca", "cert", "key", "payments.danbao.internal")
    order = Order("payments", Target("127.0.0.1:1", tls, (("a", "b"),)), 64, 1.0, 0.5, "prefix-", {"accounts": 5})
    assert Order.from_json(order.to_json()) == order
    assert LoadReport.of(json.loads(load_report().to_json())) == load_report()


def test_request_ids_are_as_long_as_uuids_and_differ():
    ids = RequestIds("b0123456789-0001-")
    taken = [ids.take()[1] for _ in range(100)]
    assert {len(item) for item in taken} == {REQUEST_ID_LENGTH}
    assert len(set(taken)) == 100


def test_requests_put_together_by_hand_are_what_the_contract_reads():
    request_id = RequestIds("b0-").take()[1]
    tail = payment_tails(accounts=10)[3]
    request = payment_pb2.CreatePaymentRequest.FromString(wrap(1, request_id) + tail)
    check(request)
    assert request.request_id == request_id.decode()
    assert len(request.SerializeToString()) == payment_bytes()
    batch = payment_pb2.BatchExecuteRequest.FromString(
        wrap_operation(1, wrap(1, request_id) + tail) + wrap_operation(6, wrap(1, request_id) + top_up_tail(0))
    )
    assert batch.operations[0].create_payment == request
    assert batch.operations[1].create_top_up.rail == "rails/simulated"
    for operation in batch.operations:
        check(operation)


def test_a_long_request_has_a_length_of_several_bytes():
    wrapped = wrap(9, b"x" * 300)
    assert payment_pb2.CreatePaymentRequest.FromString(wrapped).description == "x" * 300


@pytest.mark.parametrize("hot", ["payee", "payer"])
def test_hot_payments_share_one_wallet_and_never_pay_themselves(hot):
    requests = [payment_pb2.CreatePaymentRequest.FromString(tail) for tail in payment_tails(accounts=50, hot=hot)]
    payers, payees = {item.payer for item in requests}, {item.payee.owner for item in requests}
    assert len(payees if hot == "payee" else payers) == 1
    assert len(payers if hot == "payee" else payees) > 40
    assert all(item.payer != item.payee.owner for item in requests)


def test_the_commands_of_a_trade_keep_the_contract():
    bodies = TradeBodies(RequestIds("b0-"), accounts=10)
    trade = None
    for command in TradeBodies.COMMANDS:
        check(bodies.operation(command, trade))
        name = "trades/01938c2e-0000-7000-8000-000000000000"
        trade = trade_pb2.Trade(name=name, buyer=bodies.buyer(0), seller=bodies.seller(0))


def test_the_unsampled_way_is_the_same_call_but_for_its_header():
    ways = {measure.key: measure.way for measure in measures()}
    assert ways["create_payment_untraced"] is Way.UNTRACED
    assert ways["create_payment"] is Way.GATEWAY


# --- what others say ------------------------------------------------------------


def test_pgbench_output_is_read():
    output = "number of failed transactions: 2 (0.1%)\nlatency average = 6.4 ms\ntps = 2511.5 (without initial ...)\n"
    read = parse(output)
    assert (read.per_second, read.average_ms, read.failed) == (2511.5, 6.4, 2)


def test_pgbench_without_a_rate_has_failed():
    with pytest.raises(PgbenchFailed, match="could not connect"):
        parse("pgbench: error: could not connect")


class FakeDatabases:
    def __init__(self, *readings):
        self._readings = list(readings)

    async def reading(self):
        return self._readings.pop(0)

    async def until_read(self, limit_s):
        return 0.5, self._readings.pop(0)


async def test_credit_is_watched_during_a_load_and_until_it_has_read_everything():
    readings = (Reading(100, 90), Reading(300, 190), Reading(320, 220), Reading(320, 320))
    watch = CreditWatch(FakeDatabases(*readings), 3.0)
    await watch.mark("begins")
    await watch.mark("ends")
    watch.during("trades", "whole trades", load_report(seconds=2.0))
    await watch.let_it_read("trades")
    assert watch.figures["credit_during_trades"].median == 50.0
    assert watch.figures["credit_catching_up"].median == 200.0
    assert watch.lags == [Lag("trades", behind=100, seconds=0.5, left=0)]

"""The fuzzer finds what it must find, calls nothing a fault that is none, and makes the same of the same seed."""

import asyncio
import json
import os
import sys
from pathlib import Path
from random import Random

import pytest

from danbao.payments.v1 import payment_pb2
from danbao_local.calls import EXAMPLES
from danbao_local.fuzz import http_answers, judging, mutations, report, watching
from danbao_local.fuzz.attempt import REFUSED, Answer, Attempt
from danbao_local.fuzz.making import FAMILIES, Maker
from danbao_local.fuzz.methods import fuzzed_methods
from danbao_local.fuzz.raw_bytes import spoil
from danbao_local.fuzz.run import Fuzzer
from danbao_local.fuzz.shrinking import shrunk
from danbao_local.fuzz.values import Known
from danbao_local.fuzz.watching import Standing

RPC = "danbao.payments.v1.PaymentService/CreatePayment"
NAME = "payments/01a206af-b5a5-7c9f-aa29-c082bc40fd78"
OTHER = "payments/01a206b0-0000-7c9f-aa29-c082bc40fd78"
BODY = {
    "requestId": "8ac9b493-5691-4e24-ae64-1a96ff2f92bb",
    "payer": "subjects/buyer",
    "payee": {"owner": "subjects/seller", "kind": "user.available"},
    "amount": {"currency": "CNY", "amountMinor": 500},
    "captureMode": "CAPTURE_MODE_AUTOMATIC",
}


def known():
    found = Known()
    found.learn({"name": NAME, "payer": "subjects/buyer", "nextPageToken": "abc", "id": "text"}, "a")
    return found


def methods():
    return fuzzed_methods([{"rpc": RPC, "role": "partner", "body": BODY}], {})


def attempt(**fields):
    return Attempt(**{"number": 1, "family": "mutated", "door": "gateway", "rpc": RPC, "role": "partner", **fields})


def answer(code, reason="SOME_REASON", text=b"", seconds=0.1):
    return Answer(code, reason, seconds, text)


# What is a fault


@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN", "DATA_LOSS", "UNAVAILABLE", "500", "502", "503", "GARBLED"])
def test_whatever_is_a_fault_of_ours_is_found_with_a_reason_or_without(code):
    assert list(judging.faults(attempt(), answer(code)))
    assert list(judging.faults(attempt(), answer(code, reason="")))


@pytest.mark.parametrize(
    "code", ["INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "UNAUTHENTICATED", "403", "409"]
)
def test_a_refusal_needs_a_reason(code):
    assert list(judging.faults(attempt(), answer(code))) == []
    assert list(judging.faults(attempt(), answer(code, reason=""))) == [f"{code} without a reason"]


@pytest.mark.parametrize(
    "text",
    [
        b"Traceback (most recent call last)",
        b'File "/x/y.py", line 3',
        b'relation "accounts" does not exist',
        b"INSERT INTO payments VALUES",
        b"SELECT name FROM accounts",
        b"postgresql://payments:secret@127.0.0.1:5432/payments",
        *(os.fsencode(place / "services") for place in (Path.cwd(), Path(sys.prefix))),
        b"danbao_payments.store.tables",
        b"asyncpg.exceptions.UniqueViolation",
        b"<object object at 0x7f00>",
        b"KeyError('x')",
        b"ValueError(1)",
    ],
)
def test_what_tells_of_our_insides_is_found_in_any_answer(text):
    for code in ("OK", "INVALID_ARGUMENT"):
        found = list(judging.faults(attempt(), answer(code, text=b"before " + text + b" after")))
        assert len(found) == 1
        assert found[0].startswith("tells of our insides")


def test_what_the_caller_sent_is_no_leak():
    echoed = answer("INVALID_ARGUMENT", text=b"SELECT name is no name")
    assert list(judging.faults(attempt(messages=(b"\x0aSELECT name",)), echoed)) == []
    assert list(judging.faults(attempt(door="http", http=b'{"a": "SELECT name"}'), echoed)) == []


def test_what_nobody_may_send_must_not_be_accepted():
    assert list(judging.faults(attempt(family=REFUSED), answer("OK"))) == ["accepted what nobody may"]
    assert list(judging.faults(attempt(family="mutated"), answer("OK"))) == []


def test_late_answers_are_found_unless_the_caller_gave_no_time():
    assert list(judging.faults(attempt(), answer("OK", seconds=20)))
    assert list(judging.faults(attempt(), answer("DEADLINE_EXCEEDED")))
    assert list(judging.faults(attempt(timeout_s=0.001), answer("DEADLINE_EXCEEDED", reason=""))) == []
    assert list(judging.faults(attempt(door="http"), answer("TIMEOUT", reason="", seconds=15)))
    assert list(judging.faults(attempt(door="http", server_streaming=True), answer("TIMEOUT", "", seconds=15))) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"level": "error", "event": "call_failed"}', True),
        ('{"level": "warning", "event": "something_odd"}', True),
        ('{"level": "info", "event": "x", "exception": "Traceback"}', True),
        ('{"level": "warning", "event": "step_refused", "reason": "INSUFFICIENT_FUNDS"}', False),
        ('{"level": "warning", "event": "step_refused", "reason": "ACCOUNT_NOT_FOUND"}', True),
        ('{"level": "warning", "event": "default_terms_used", "code": "DEADLINE_EXCEEDED", "reason": ""}', False),
        ('{"level": "warning", "event": "default_terms_used", "code": "UNAVAILABLE", "reason": ""}', True),
        ('{"level": "info", "event": "call"}', False),
        ('{"level": "info", ', True),
        ("2026-11-29 ERROR:  deadlock detected", True),
        ("Traceback (most recent call last):", True),
        ("[critical] assert failure", True),
        ("LOG:  checkpoint complete", False),
        ("2026-11-29 ERROR:  canceling statement due to user request", False),
        ("2026-11-29 ERROR:  canceling statement due to statement timeout", False),
        ("2026-11-29 ERROR:  canceling statement due to lock timeout", True),
    ],
)
def test_a_log_complains(line, expected):
    assert watching.complains(line) is expected


def test_books_that_are_not_as_they_were_are_told():
    before = Standing((1, 2, 3), ("a 5", "b 5"))
    assert before.differences(before) == ""
    assert "(1, 2, 4)" in before.differences(Standing((1, 2, 4), before.balances))
    assert "b 6" in before.differences(Standing(before.heads, ("a 5", "b 6")))


class Door:
    """Answers everything alike, and may move the books by it."""

    def __init__(self, code, *, moves=0):
        self.code, self.moves, self.head = code, moves, 7

    async def send(self, _attempt):
        await asyncio.sleep(0)
        self.head += self.moves
        return answer(self.code)

    async def standing(self):
        await asyncio.sleep(0)
        return Standing((self.head,), ())


@pytest.mark.parametrize(
    ("code", "moves", "still", "failed"),
    [("NOT_FOUND", 0, 5, 0), ("NOT_FOUND", 1, 0, 1), ("OK", 1, 0, 0), ("OK", 0, 0, 0)],
)
async def test_only_refusals_that_move_the_books_are_a_failure(code, moves, still, failed):
    door, result = Door(code, moves=moves), report.FuzzResult()
    await Fuzzer(None, 1).send_still([attempt(number=number) for number in range(5)], door, door, result)
    assert (result.sent, result.still_requests, result.failed.total()) == (5, still, failed)
    assert ["from (7,) to (12,)" in failure.what for failure in result.failures] == [True] * failed


async def test_a_failure_is_kept_and_counted_but_not_every_one_of_an_rpc():
    door, result = Door("INTERNAL"), report.FuzzResult()
    fuzzer = Fuzzer(None, 1, methods=methods())
    await fuzzer.send_still([attempt(number=number) for number in range(9)], door, door, result)
    assert (result.failed[RPC], len(result.failures)) == (9, 3)
    assert {failure.what for failure in result.failures} == {"INTERNAL is a fault of ours"}


# How requests are made


def test_the_same_seed_makes_the_same_requests_and_another_makes_others():
    def made(seed):
        maker = Maker(methods(), known(), seed)
        return [maker.attempt(number) for number in range(300)]

    assert made(1) == made(1)
    assert made(1) != made(2)
    assert {item.family for item in made(1)} == set(FAMILIES)


def test_an_rpc_is_fuzzed_because_it_is_in_the_contracts():
    """No list names them: those of the card are all among them, and so are the streams."""
    found = {method.rpc for method in methods()}
    assert found > set(EXAMPLES)
    assert "danbao.credit.v1.CreditService/WatchScores" in found
    assert not {rpc for rpc in found if rpc.startswith("danbao.testing.")}


def test_every_request_survives_its_file(tmp_path):
    maker = Maker(methods(), known(), 3)
    for number in range(200):
        made = maker.attempt(number)
        failed = report.FuzzResult(failures=[report.Failure("what", made)])
        (path,) = report.write_failures(failed, {"a.name": NAME}, tmp_path / "failures")
        assert report.read_failure(path) == (made, {"a.name": NAME})


def test_names_of_another_stack_become_those_of_this_one():
    here = Known()
    here.learn({"name": OTHER}, "a")
    message = payment_pb2.GetPaymentRequest(name=NAME).SerializeToString()
    translated = payment_pb2.GetPaymentRequest.FromString(here.translated(message, {"a.name": NAME, "gone": "x"}))
    assert translated.name == OTHER


def test_mutated_messages_differ_and_can_be_sent():
    (method,) = (one for one in methods() if one.rpc == RPC)
    different = 0
    for seed in range(300):
        (message,) = method.working_requests()
        mutations.mutate(message, Random(seed), known())
        different += message.SerializeToString() != method.working_requests()[0].SerializeToString()
    assert different > 250


def test_spoilt_bytes_differ():
    data = payment_pb2.GetPaymentRequest(name=NAME).SerializeToString()
    assert sum(spoil(data, Random(seed)) != data for seed in range(200)) > 190


# How failures are made small


async def test_a_message_shrinks_to_the_field_that_fails():
    (method,) = (one for one in methods() if one.rpc == RPC)
    (message,) = method.working_requests()

    async def fails(tried):
        await asyncio.sleep(0)
        return payment_pb2.CreatePaymentRequest.FromString(tried.messages[0]).amount.amount_minor == 500

    metadata = (("traceparent", "nonsense"),)
    small, shown = await shrunk(attempt(messages=(message.SerializeToString(),), metadata=metadata), method, fails)
    assert small.metadata == ()
    assert shown == payment_pb2.CreatePaymentRequest(amount={"amount_minor": 500})


async def test_an_http_request_shrinks_to_the_header_and_value_that_fail():
    (method,) = (one for one in methods() if one.rpc == RPC)
    body = json.dumps(BODY)
    head = f"POST /v1/payments HTTP/1.1\r\nhost: x\r\nbad: y\r\nfine: z\r\ncontent-length: {len(body)}\r\n\r\n"

    async def fails(tried):
        await asyncio.sleep(0)
        return b"bad: y" in tried.http and b'"CNY"' in tried.http

    small, _ = await shrunk(attempt(door="http", http=(head + body).encode()), method, fails)
    rest = '{"amount": {"currency": "CNY"}}'
    expected = f"POST /v1/payments HTTP/1.1\r\nhost: x\r\nbad: y\r\ncontent-length: {len(rest)}\r\n\r\n{rest}"
    assert small.http == expected.encode()


async def test_what_cannot_be_made_smaller_stays_as_it_is():
    (method,) = (one for one in methods() if one.rpc == RPC)

    async def never(_tried):
        await asyncio.sleep(0)
        return False

    broken = attempt(messages=(b"\xff\xff",))
    assert await shrunk(broken, method, never) == (broken, None)
    whole = attempt(messages=(method.working_requests()[0].SerializeToString(),))
    assert (await shrunk(whole, method, never))[0] == whole


# How HTTP answers are read


@pytest.mark.parametrize(
    ("received", "code", "reason"),
    [
        (b"", "CLOSED", ""),
        (b"nonsense", "GARBLED", ""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "200", ""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Oh\r\n\r\n", "500", ""),
        (b"HTTP/1.1 403 Forbidden\r\nx-danbao-reason: ROLE_NOT_ALLOWED\r\n\r\n", "403", "ROLE_NOT_ALLOWED"),
        (b'HTTP/1.1 400 Bad\r\n\r\n{"details": [{"reason": "FIELD_INVALID"}]}', "400", "FIELD_INVALID"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 13\r\n\r\n", "INTERNAL", ""),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc-web+proto\r\ntransfer-encoding: chunked\r\n\r\n"
            b"15\r\n\x80\0\0\0\x10grpc-status:5\r\n\r\n\r\n0\r\n\r\n",
            "NOT_FOUND",
            "",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc-web-text+proto\r\n\r\ngAAAABBncnBjLXN0YXR1czozDQo=",
            "INVALID_ARGUMENT",
            "",
        ),
    ],
)
def test_an_http_answer_says_its_code_and_reason(received, code, reason):
    read = http_answers.answer_of(received, 0.1)
    assert (read.code, read.reason) == (code, reason)


async def test_an_answer_is_read_to_its_end_and_no_further():
    reader = asyncio.StreamReader()
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    reader.feed_data(whole)
    assert await http_answers.read_answer(reader, bodiless=False) == whole
    reader.feed_data(both := b"HTTP/1.1 100 Continue\r\n\r\n" + whole)
    assert await http_answers.read_answer(reader, bodiless=False) == both
    reader.feed_data(head := b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n")
    assert await http_answers.read_answer(reader, bodiless=True) == head


def test_failures_come_first_in_the_table(capsys):
    from rich.console import Console

    result = report.FuzzResult(sent=3)
    result.codes.update({("danbao.a.v1.AService/Get", "OK"): 2, ("danbao.z.v1.ZService/Get", "INTERNAL"): 1})
    result.failed["danbao.z.v1.ZService/Get"] = 1
    report.show(result, Console(width=100))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("z.Z/Get")
    assert "3 requests" in lines[-1]
    assert "1 failures" in lines[-1]


def test_a_failure_is_told_with_its_seed_and_its_bytes():
    told = report.told(
        report.Failure("INTERNAL is a fault", attempt(messages=(b"\x0a\x01",)), answer("INTERNAL")), seed=7
    )
    assert "request 1 of seed 7" in told
    assert "0a01" in told
    assert report.told(report.Failure("books"), seed=7) == "books (seed 7)"

"""What callers write in their own words, and what lets them in, is found nowhere that others look.

Every call of the stack is sent with a text of its own (a canary) in each field that its contract redacts, and in
tokens, headers and metadata; then whatever was written of the calls is searched for them.
"""

import asyncio
import itertools
import json
import re
import secrets
import time
import urllib.error
import urllib.request

import asyncpg
import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict

from danbao_local import calls, demo
from danbao_local.client import ClientTrace, GatewayClient
from danbao_local.contracts import unary_rules
from danbao_local.otlp_receiver import TraceReader
from danbao_local.stack import SERVICES, LocalStack

CARD = "4242 4242 4242 4242"
CANARY = re.compile(rb"kanarie-[0-9]{6}")
# How a token begins; its first three bytes alone stand in a megabyte of spans' ids every few runs.
_TOKEN = re.compile(rb"eyJ[A-Za-z0-9_-]{10}")
POOL = descriptor_pool.Default()
# Where another field decides whether there may be a text at all.
ONLY_WITH = {"instrument": "rail"}
# A text of these names something that must exist.
NAMING = {("danbao.credit.v1.AppealedMark", "reference")}
IMPORT = "danbao.payments.v1.ReconciliationService/ImportStatement"


class Canaries:
    """Texts that nobody else writes, and where each was put."""

    def __init__(self):
        self.places = {}
        self._numbers = itertools.count(1)

    def text(self, place):
        made = f"kanarie-{next(self._numbers):06d}"
        self.places[made] = place
        return made

    def found_in(self, content):
        return sorted({self.places.get(each.decode(), "?") for each in CANARY.findall(content)})


def is_map(field):
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def fill(message, canaries, *, whole=False, form="{}"):
    """Puts a canary into every redacted field, as `form` says; with `whole`, into parts too that were not there."""
    present = {field.name for field, _ in message.ListFields()}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.GetOptions().debug_redact:
            if not whole:
                if field.name in ONLY_WITH and ONLY_WITH[field.name] not in present:
                    continue
                if (message.DESCRIPTOR.full_name, field.name) in NAMING:
                    continue
            text = form.format(canaries.text(field.full_name))
            if is_map(field):
                value[form.format(canaries.text(f"{field.full_name}'s key"))[:40]] = text
            else:
                is_uri = field.name in ("uri", "evidence")
                setattr(message, field.name, f"https://{text.replace(' ', '-')}/" if is_uri else text)
        elif field.message_type is None or is_map(field):
            continue
        elif field.is_repeated:
            if whole and not value and field.message_type.full_name.startswith("danbao."):
                value.add()
            for item in value:
                fill(item, canaries, whole=whole, form=form)
        elif field.message_type.full_name.startswith("danbao.") and (
            field.name in present or (whole and field.containing_oneof is None)
        ):
            fill(value, canaries, whole=whole, form=form)
    return message


def without_redacted(message):
    """What is left of a message when every redacted field is cleared."""
    left = type(message)()
    left.CopyFrom(message)
    clear(left)
    return left.SerializeToString()


def clear(message):
    for field, value in message.ListFields():
        if field.GetOptions().debug_redact:
            message.ClearField(field.name)
        elif is_map(field):
            if field.message_type.fields_by_name["value"].type == FieldDescriptor.TYPE_MESSAGE:
                for key in value:
                    clear(value[key])
        elif field.message_type is not None:
            for item in value if field.is_repeated else (value,):
                clear(item)


def with_new_ids(body):
    if isinstance(body, dict):
        return {key: demo.new_id() if key == "requestId" else with_new_ids(value) for key, value in body.items()}
    return [with_new_ids(item) for item in body] if isinstance(body, list) else body


class Caller:
    """Calls with canaries in what stands around the message; keeps every answer that was not OK, whole."""

    def __init__(self, card, canaries):
        self.card, self.canaries = card, canaries
        self.refusals, self.answers = [], []
        self._channel = grpc.insecure_channel(card.gateway, options=(("grpc.enable_http_proxy", 0),))

    def around(self, traceparent=None):
        """Headers of a caller's own."""
        text = self.canaries.text
        return {
            "x-note": text("x-note"),
            "note-bin": text("note-bin").encode(),
            "x-danbao-subject": text("x-danbao-subject"),
            "x-danbao-roles": f"operator,{text('x-danbao-roles')}",
            "x-danbao-partner": text("x-danbao-partner"),
            "x-danbao-reason": text("x-danbao-reason"),
            "x-request-id": text("x-request-id"),
            "x-forwarded-for": text("x-forwarded-for"),
            "baggage": f"note={text('baggage')}",
            "tracestate": f"note={text('tracestate')}",
            "traceparent": traceparent or f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01",
        }

    def send(self, rpc, wire, *, token, traceparent=None):
        """The reason of a refusal, or OK."""
        method = POOL.FindMethodByName(rpc.replace("/", "."))
        metadata = (*self.around(traceparent).items(), ("authorization", token))
        make = self._channel.stream_unary if method.client_streaming else self._channel.unary_unary
        invoke = make(f"/{rpc}", response_deserializer=message_factory.GetMessageClass(method.output_type).FromString)
        try:
            answer = invoke(iter(wire) if method.client_streaming else wire, timeout=10, metadata=metadata)
        except grpc.RpcError as failure:
            told = [
                failure.details() or "",
                *map(str, failure.initial_metadata()),
                *map(str, failure.trailing_metadata()),
            ]
            self.refusals.append((rpc, "\n".join(told).encode()))
            return failure.code().name
        self.answers.append((rpc, answer))
        return "OK"

    def send_json(self, method, path, content, headers):
        request = urllib.request.Request(self.card.json + path, method=method, data=content, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as refused:
            with refused:
                self.refusals.append((path, f"{refused.headers}\n".encode() + refused.read()))
            return refused.code


def message_of(rpc, body):
    method = POOL.FindMethodByName(rpc.replace("/", "."))
    return ParseDict(body, message_factory.GetMessageClass(method.input_type)())


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """One of its own: its examples are used up here."""
    stack = LocalStack(tmp_path_factory.mktemp("canaries"))
    stack.start(publish=False)
    try:
        played = demo.play(stack.card)
        stack.publish(calls.prepare(stack.card, played))
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def sent(stack):
    """Every call, taken and refused in many ways; and by what came of it."""
    card, canaries = stack.card, Canaries()
    caller = Caller(card, canaries)
    outcomes = {}

    def note(way, rpc, outcome):
        outcomes.setdefault(way, {})[rpc] = outcome

    bearer = {role: f"Bearer {token}" for role, token in card.token.items()}
    for entry in card.calls:
        rpc, body, token = entry["rpc"], entry["body"], bearer[entry["role"]]

        def send(way, message, rpc=rpc, token=token):
            wire = message.SerializeToString()
            outcome = caller.send(rpc, wire, token=token)
            if CANARY.search(wire) or way == "taken":
                note(way, rpc, outcome)

        send("taken", fill(message_of(rpc, body), canaries))
        if "requestId" in body:
            send("another text", fill(message_of(rpc, body), canaries))
        send("again", fill(message_of(rpc, with_new_ids(body)), canaries))
        send("all parts", fill(message_of(rpc, with_new_ids(body)), canaries, whole=True))
        send("too long", fill(message_of(rpc, with_new_ids(body)), canaries, whole=True, form="{0} " * 400))
        send("a card", fill(message_of(rpc, with_new_ids(body)), canaries, form="{} " + CARD))
        send("nul", fill(message_of(rpc, with_new_ids(body)), canaries, whole=True, form="{}\0"))
        malformed = canaries.text("malformed").encode() + b"\xff\xff"
        note("malformed", rpc, caller.send(rpc, malformed, token=token))
        for scheme in ("Bearer {}", "Bearer {}.{}.{}", "Basic {}", "{}"):
            spoilt = scheme.replace("{}", canaries.text(f"token {scheme}"))
            note(scheme, rpc, caller.send(rpc, message_of(rpc, body).SerializeToString(), token=spoilt))
    send_statement(caller, canaries, note, bearer["operator"])
    send_json(caller, canaries, note, bearer)
    wait_until_all_is_written(stack, caller, bearer)
    return caller, canaries, outcomes


def statement():
    """A rail's statement with one line."""
    header = {"requestId": demo.new_id(), "rail": "rails/simulated", "currency": demo.CURRENCY}
    times = {"startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-02T00:00:00Z"}
    line = {"direction": "RAIL_DIRECTION_IN", "amountMinor": 100, "bookingDate": "2026-01-01"}
    return [{"header": header | times}, {"lines": {"lines": [line]}}]


def send_statement(caller, canaries, note, token):
    for way, form in (("taken", "{}"), ("a card", "{} " + CARD), ("too long", "{0} " * 400), ("nul", "{}\0")):
        parts = [message_of(IMPORT, body) for body in statement()]
        wires = [fill(part, canaries, form=form).SerializeToString() for part in parts]
        note(way, IMPORT, caller.send(IMPORT, wires, token=token))


def send_json(caller, canaries, note, bearer):
    text = canaries.text
    for entry in caller.card.calls:
        rpc, method = entry["rpc"], entry["method"]
        headers = {
            key: value if isinstance(value, str) else value.decode()
            for key, value in caller.around().items()
            if key != "traceparent"
        } | {
            "authorization": bearer[entry["role"]],
            "content-type": "application/json",
            "user-agent": text("user-agent"),
            "referer": f"https://{text('referer')}/",
            "cookie": f"session={text('cookie')}",
            "origin": f"https://{text('origin')}",
        }
        message = fill(message_of(rpc, with_new_ids(entry["body"])), canaries, whole=True)
        body = MessageToDict(message) | {text("an unknown field"): text("an unknown field's value")}
        content = None if method == "GET" else json.dumps(body).encode()
        path = entry["path"] + ("&" if "?" in entry["path"] else "?") + f"note={text('query')}"
        note("json", rpc, caller.send_json(method, path, content, headers))
        if content is not None:
            broken = f'{{"{text("malformed JSON")}": {text("malformed JSON")}'.encode()
            note("broken json", rpc, caller.send_json(method, entry["path"], broken, headers))


def wait_until_all_is_written(stack, caller, bearer):
    """Behind all of it a call to each service: when its spans are there, so are those before it."""
    with GatewayClient(stack.card) as client:
        demo.wait_for_credit(stack.card, client)
    for service, rpc in (
        ("payments", "danbao.payments.v1.EventService/GetStreamHead"),
        ("escrow", "danbao.escrow.v1.EventService/GetStreamHead"),
        ("credit", "danbao.credit.v1.CreditService/ListIndicators"),
    ):
        trace_id = secrets.token_hex(16)
        traceparent = f"00-{trace_id}-{secrets.token_hex(8)}-01"
        assert caller.send(rpc, b"", token=bearer["operator"], traceparent=traceparent) == "OK"
        deadline = time.monotonic() + 20
        while not (
            all(trace_id in stack.layout.log(name).read_text() for name in (service, "gateway-access"))
            and spans_of(stack).count(bytes.fromhex(trace_id)) >= 2
        ):
            assert time.monotonic() < deadline, f"{service}'s and the gateway's line and span of a call"
            time.sleep(0.1)


def logs_of(stack):
    folder = stack.layout.log("gateway").parent
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def spans_of(stack):
    return b"".join(path.read_bytes() for path in sorted(stack.layout.traces.iterdir()))


def events_of(stack):
    async def read(service):
        connection = await asyncpg.connect(stack.card.databases[service])
        try:
            return [row["payload"] for row in await connection.fetch("SELECT payload FROM events")]
        finally:
            await connection.close()

    for service in SERVICES:
        event = message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"danbao.{service}.v1.Event"))
        for payload in asyncio.run(read(service)):
            yield service, event.FromString(payload)


def test_texts_are_taken_wherever_a_contract_has_room_for_them(sent):
    """Else nothing would be shown: where a call was refused there was little to leak."""
    _, canaries, outcomes = sent
    refused = {rpc: outcome for rpc, outcome in outcomes["taken"].items() if outcome != "OK"}
    assert refused == {}
    placed = set(canaries.places.values())
    for rule in unary_rules():
        requests = [POOL.FindMethodByName(rule.rpc.replace("/", ".")).input_type]
        for message in requests:
            for field in message.fields:
                if field.GetOptions().debug_redact:
                    assert field.full_name in placed


def test_texts_with_a_card_s_number_are_refused_and_so_is_what_is_too_long(sent):
    caller, _, outcomes = sent
    for way in ("a card", "too long", "nul"):
        assert len(outcomes[way]) > 20
        # A batch is answered, and each of its operations refused in its place.
        refused = {rpc: outcome for rpc, outcome in outcomes[way].items() if not rpc.endswith("/BatchExecute")}
        assert set(refused.values()) == {"INVALID_ARGUMENT"}, way
    by_card = {rpc for rpc, told in caller.refusals if b"CARD_NUMBER" in told}
    assert {rpc for rpc in outcomes["a card"] if not rpc.endswith("/BatchExecute")} <= by_card
    assert set(outcomes["malformed"].values()) <= {"INVALID_ARGUMENT"}
    for scheme in ("Bearer {}", "Bearer {}.{}.{}", "Basic {}", "{}"):
        assert set(outcomes[scheme].values()) == {"UNAUTHENTICATED"}, scheme


def test_no_log_line_holds_what_a_caller_wrote_or_who_lets_it_in(stack, sent):
    _, canaries, _ = sent
    logs = logs_of(stack)
    assert {"gateway-access.log", "gateway.log", "payments.log", "escrow.log", "credit.log", "postgres.log"} <= set(
        logs
    )
    for name, content in logs.items():
        assert canaries.found_in(content) == [], name
        assert not _TOKEN.search(content), name
        assert CARD.encode() not in content, name


def test_no_span_holds_what_a_caller_wrote_or_who_lets_it_in(stack, sent):
    _, canaries, _ = sent
    content = spans_of(stack)
    assert canaries.found_in(content) == []
    assert not _TOKEN.search(content)


def test_no_refusal_holds_what_a_caller_wrote(sent):
    caller, canaries, _ = sent
    assert len(caller.refusals) > 500
    for rpc, told in caller.refusals:
        assert canaries.found_in(told) == [], rpc
        assert not re.search(rb"Traceback|postgres(ql)?:|SELECT |INSERT ", told), rpc


def test_an_answer_and_an_event_hold_it_in_redacted_fields_only(stack, sent):
    caller, canaries, _ = sent
    for rpc, answer in caller.answers:
        assert canaries.found_in(without_redacted(answer)) == [], rpc
    held = set()
    for service, event in events_of(stack):
        assert canaries.found_in(without_redacted(event)) == [], (service, event.WhichOneof("payload"))
        held |= set(canaries.found_in(event.SerializeToString()))
    assert held, "no event holds a text at all: nothing was shown"


def test_a_leak_would_be_found(stack, sent):
    """The same searches, of places where there is one."""
    _, canaries, _ = sent
    leaked = canaries.text("planted")
    trace = ClientTrace(f"refused: {leaked}")
    reader = TraceReader(stack.card.otlp)
    reader.export(trace.finish())
    reader.close()
    assert canaries.found_in(spans_of(stack)) == ["planted"]
    with stack.layout.log("credit").open("ab") as log:
        log.write(json.dumps({"event": "call", "about": leaked}).encode() + b"\n")
    assert [name for name, content in logs_of(stack).items() if canaries.found_in(content)] == ["credit.log"]
    event = next(event for _, event in events_of(stack))
    event.traceparent = leaked
    assert canaries.found_in(without_redacted(event)) == ["planted"]

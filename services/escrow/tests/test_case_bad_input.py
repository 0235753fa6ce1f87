"""Every RPC of refund cases, disputes and claims refuses what is malformed, by reason and field; nothing changes."""

import grpc
import pytest

from danbao.escrow.v1 import claim_pb2, dispute_pb2, refund_pb2, trade_pb2
from danbao.type.v1 import money_pb2

ID = "00000000-0000-4000-8000-000000000000"
OPENING = {"OpenRefundCase": "BUYER", "OpenDispute": "BUYER", "OpenClaim": "BUYER"}
ROLE = {
    **OPENING,
    "AcceptRefundCase": "SELLER",
    "RejectRefundCase": "SELLER",
    "SubmitReturn": "BUYER",
    "ConfirmReturn": "SELLER",
    "CancelRefundCase": "BUYER",
    "AddEvidence": "SELLER",
    "MakeOffer": "SELLER",
    "AcceptOffer": "BUYER",
    "DecideDispute": "ARBITER",
    "AppealDispute": "BUYER",
    "DecideClaim": "ARBITER",
}
PACKAGES = (refund_pb2, dispute_pb2, claim_pb2)
READS = {
    "GetRefundCase": ("refundCases", "CASE_NOT_FOUND"),
    "GetDispute": ("disputes", "DISPUTE_NOT_FOUND"),
    "GetClaim": ("claims", "CLAIM_NOT_FOUND"),
}


def request_type(method):
    return next(getattr(each, f"{method}Request") for each in PACKAGES if hasattr(each, f"{method}Request"))


def amount(minor, currency="CNY"):
    return money_pb2.Money(currency=currency, amount_minor=minor)


def evidence_cases(evidence):
    """What can be wrong with a piece of evidence, and the field that says so."""
    return {
        "no uri": (evidence(uri=""), "uri"),
        "data instead of a reference": (evidence(uri="data:image/png;base64,AAAA"), "uri"),
        "uri without a scheme": (evidence(uri="photo.jpg"), "uri"),
        "uri with a space": (evidence(uri="https://a/b c"), "uri"),
        "uri too long": (evidence(uri="https://" + "a" * 1020), "uri"),
        "no hash": (evidence(sha256=""), "sha256"),
        "hash too short": (evidence(sha256="0" * 63), "sha256"),
        "hash in capitals": (evidence(sha256="A" * 64), "sha256"),
        "of no size": (evidence(size_bytes=0), "size_bytes"),
        "of negative size": (evidence(size_bytes=-1), "size_bytes"),
        "of endless size": (evidence(size_bytes=2**62), "size_bytes"),
        "no media type": (evidence(media_type=""), "media_type"),
        "odd media type": (evidence(media_type="photo"), "media_type"),
        "note too long": (evidence(note="n" * 257), "note"),
        "note with NUL": (evidence(note="\0"), "note"),
    }


def wrong_fields(method, helpers):
    """Changes to a good request, each with the field that is refused."""
    fields = request_type(method).DESCRIPTOR.fields_by_name
    cases = {
        "request id missing": ({"request_id": ""}, "request_id"),
        "request id too long": ({"request_id": "x" * 65}, "request_id"),
        "request id with NUL": ({"request_id": "a\0"}, "request_id"),
        "actor missing": ({"actor": None}, "actor"),
        "actor without role": ({"actor": trade_pb2.Actor(subject="subjects/a")}, "actor.role"),
        "actor malformed": ({"actor": trade_pb2.Actor(subject="x", role=1)}, "actor.subject"),
    }
    for field, collection in (("name", ""), ("trade", "trades"), ("refund_case", "refundCases")):
        if field in fields:
            own = collection or next(key for key in ("refundCases", "disputes", "claims") if _is_of(method, key))
            for what, value in (
                ("missing", ""),
                ("malformed", f"{own}/1"),
                ("of another kind", f"payments/{ID}"),
                ("no uuid", f"{own}/" + "-" * 36),
                ("oddly written", f"{own}/00000000000040008000000000000000----"),
            ):
                cases[f"{field} {what}"] = ({field: value}, field)
    if "line_id" in fields:
        cases["line missing"] = ({"line_id": ""}, "line_id")
        cases["line malformed"] = ({"line_id": "a b"}, "line_id")
        cases["reason code missing"] = ({"reason_code": 0}, "reason_code")
        cases["reason code unknown"] = ({"reason_code": 99}, "reason_code")
    if "amount" in fields:
        cases["amount missing"] = ({"amount": None}, "amount")
        cases["currency missing"] = ({"amount": amount(10, "")}, "amount.currency")
    for field in ("buyer_minor", "seller_minor", "compensation_minor"):
        if field in fields:
            cases[f"{field} negative"] = ({field: -1}, field)
    if "reason" in fields:
        short = method in ("CancelRefundCase", "MakeOffer")
        cases["reason too long"] = ({"reason": "r" * (257 if short else 1025)}, "reason")
        cases["reason with NUL"] = ({"reason": "\0"}, "reason")
        if method in ("RejectRefundCase", "DecideDispute", "OpenClaim", "DecideClaim"):
            cases["reason missing"] = ({"reason": ""}, "reason")
    if "finding" in fields:
        cases["finding unknown"] = ({"finding": 99}, "finding")
        cases["fraud without an award"] = ({"finding": 1, "compensation_minor": 0}, "finding")
    if "etag" in fields:
        cases["etag too long"] = ({"etag": "1" * 21}, "etag")
    for field in ("carrier", "tracking"):
        if field in fields:
            cases[f"{field} missing"] = ({field: ""}, field)
            cases[f"{field} too long"] = ({field: "c" * 65}, field)
    if "evidence" in fields:
        cases["too much evidence"] = ({"evidence": [helpers.evidence()] * 21}, "evidence")
        if method == "AddEvidence":
            cases["no evidence"] = ({"evidence": []}, "evidence")
        for what, (item, field) in evidence_cases(helpers.evidence).items():
            cases[f"evidence {what}"] = ({"evidence": [item]}, f"evidence[0].{field}")
    return cases


def _is_of(method, collection):
    package = {"refundCases": refund_pb2, "disputes": dispute_pb2, "claims": claim_pb2}[collection]
    return hasattr(package, f"{method}Request")


async def held(stack):
    tables = (
        "trades", "steps", "timeline_entries", "events", "request_records", "refund_cases", "disputes", "claims",
    )  # fmt: skip
    counts = [f"(SELECT count(*) FROM {table}) AS {table}" for table in tables]
    (row,) = await stack.rows(
        f"SELECT {', '.join(counts)}, (SELECT event_sequence FROM stream_heads),"
        " (SELECT sum(revision) FROM trades) AS trades_at, (SELECT sum(revision) FROM refund_cases) AS cases_at,"
        " (SELECT sum(revision) FROM disputes) AS disputes_at, (SELECT sum(revision) FROM claims) AS claims_at"
    )
    return row


async def prepared(stack, client, method):
    """What a good request of this method is about."""
    stack.credit.terms |= {"member": True, "compensation_limit_minor": 10**6}
    trade = await client.shipped(5000)
    if method == "OpenRefundCase":
        return trade
    if method in ("OpenClaim", "DecideClaim"):
        await client.give("ConfirmLines", trade, "BUYER")
        return trade if method == "OpenClaim" else await client.ask("OpenClaim", trade, "BUYER")
    if _is_of(method, "disputes") and method != "OpenDispute":
        return await client.disputed(trade)
    case = await client.ask("OpenRefundCase", trade, "BUYER")
    return await client.ask("RejectRefundCase", case, "SELLER") if method == "OpenDispute" else case


@pytest.mark.parametrize("method", ROLE)
async def test_mutations(stack, client, refusal, helpers, method):
    thing = await prepared(stack, client, method)
    parts = {"buyer_minor": 500, "seller_minor": 500} if method in ("MakeOffer", "DecideDispute") else {}
    before = await held(stack)
    for case, (changes, field) in wrong_fields(method, helpers).items():
        with pytest.raises(refusal) as refused:
            await client.ask(method, thing, ROLE[method], **{**parts, **changes})
        assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID"), case
        assert field in refused.value.fields, f"{case}: {refused.value.fields}"
    if "amount" in request_type(method).DESCRIPTOR.fields_by_name:
        for minor, currency, reason, field in (
            (0, "CNY", "AMOUNT_NOT_POSITIVE", "amount.amount_minor"),
            (-5, "CNY", "AMOUNT_NOT_POSITIVE", "amount.amount_minor"),
            (5, "XXZ", "CURRENCY_UNKNOWN", "amount.currency"),
            (5, "cny", "CURRENCY_UNKNOWN", "amount.currency"),
        ):
            with pytest.raises(refusal) as refused:
                await client.ask(method, thing, ROLE[method], amount=amount(minor, currency))
            assert (refused.value.reason, refused.value.fields) == (reason, [field])
    request = client.case_request(method, thing, ROLE[method], **parts)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await client.method(method)(request, metadata=client._caller)
    assert refusal(failed.value).reason == "DEADLINE_REQUIRED"
    assert await held(stack) == before


@pytest.mark.parametrize("method", ROLE)
async def test_who_and_what_is_looked_up_in_the_documented_order(stack, client, refusal, method):
    thing = await prepared(stack, client, method)
    parts = {"buyer_minor": 500, "seller_minor": 500} if method in ("MakeOffer", "DecideDispute") else {}
    before = {**await held(stack), "request_records": 0}
    missing, reason = {
        "OpenRefundCase": ({"trade": f"trades/{ID}"}, "TRADE_NOT_FOUND"),
        "OpenClaim": ({"trade": f"trades/{ID}"}, "TRADE_NOT_FOUND"),
        "OpenDispute": ({"refund_case": f"refundCases/{ID}"}, "CASE_NOT_FOUND"),
    }.get(method, (None, None))
    if missing is None:
        collection, reason = next(
            (key, f"{noun}_NOT_FOUND")
            for key, noun in (("refundCases", "CASE"), ("disputes", "DISPUTE"), ("claims", "CLAIM"))
            if _is_of(method, key)
        )
        missing = {"name": f"{collection}/{ID}"}
    for role in (ROLE[method], "SYSTEM"):
        with pytest.raises(refusal) as refused:
            await client.ask(method, thing, role, **{**parts, **missing})
        assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", reason), "before the role"
    if method == "OpenRefundCase":
        with pytest.raises(refusal) as refused:
            await client.ask(method, thing, "CARRIER", line_id="nine")
        assert (refused.value.reason, refused.value.metadata["line_id"]) == ("LINE_NOT_FOUND", "nine")
    for role in ("SYSTEM", "CARRIER", "OPERATOR"):
        with pytest.raises(refusal) as refused:
            await client.ask(method, thing, role, **parts)
        assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", "ROLE_NOT_ALLOWED")
        assert ROLE[method] in refused.value.metadata["allowed_roles"]
    if ROLE[method] != "ARBITER":
        stranger = trade_pb2.Actor(subject="subjects/other", role=trade_pb2.Role.Value(f"ROLE_{ROLE[method]}"))
        with pytest.raises(refusal) as refused:
            await client.ask(method, thing, ROLE[method], actor=stranger, **parts)
        assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", "NOT_A_PARTY")
    assert {**await held(stack), "request_records": 0} == before, "refusals are recorded, nothing else"


async def test_reads(client, refusal):
    for method, (collection, reason) in READS.items():
        for name in ("", f"{collection}/1", f"accounts/{ID}", f"{collection}/" + "-" * 36):
            with pytest.raises(refusal) as refused:
                await client.call(method, request_type(method)(name=name))
            assert (refused.value.reason, refused.value.fields) == ("FIELD_INVALID", ["name"])
        with pytest.raises(refusal) as refused:
            await client.call(method, request_type(method)(name=f"{collection}/{ID}"))
        assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", reason)


@pytest.mark.parametrize("method", ["ListRefundCases", "ListDisputes", "ListClaims"])
async def test_lists(client, refusal, method):
    for changes, reason in (
        ({"page_size": -1}, "FIELD_INVALID"),
        ({"page_size": 1001}, "FIELD_INVALID"),
        ({"page_token": "?"}, "PAGE_TOKEN_INVALID"),
        ({"page_token": "AAAA"}, "PAGE_TOKEN_INVALID"),
        ({"page_token": "x" * 513}, "FIELD_INVALID"),
        ({"trade": "trades/1"}, "FIELD_INVALID"),
        ({"trade": "trades/" + "-" * 36}, "FIELD_INVALID"),
        ({"party": "nobody"}, "FIELD_INVALID"),
        ({"state": 99}, "FIELD_INVALID"),
    ):
        with pytest.raises(refusal) as refused:
            await client.call(method, request_type(method)(**changes))
        assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", reason)


async def test_a_page_token_is_one_lists_own(client, refusal):
    trade = await client.shipped(3000, 5000)
    for line_id in "12":
        await client.ask("OpenRefundCase", trade, "BUYER", line_id=line_id)
    page = await client.call("ListRefundCases", refund_pb2.ListRefundCasesRequest(page_size=1))
    assert page.next_page_token
    for method, fields in (("ListDisputes", {}), ("ListClaims", {}), ("ListRefundCases", {"open_only": True})):
        with pytest.raises(refusal) as refused:
            await client.call(method, request_type(method)(page_token=page.next_page_token, **fields))
        assert refused.value.reason == "PAGE_TOKEN_INVALID"


async def test_bytes_that_are_not_the_message(stack, client, refusal):
    for service, methods in (
        (
            "RefundService",
            [*[each for each in ROLE if _is_of(each, "refundCases")], "GetRefundCase", "ListRefundCases"],
        ),
        ("DisputeService", [*[each for each in ROLE if _is_of(each, "disputes")], "GetDispute", "ListDisputes"]),
        ("CompensationService", [*[each for each in ROLE if _is_of(each, "claims")], "GetClaim", "ListClaims"]),
    ):
        for method in methods:
            path = f"/danbao.escrow.v1.{service}/{method}"
            call = client.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call(b"\xff\xff\xff", timeout=5, metadata=client._caller)
            error = refusal(failed.value)
            assert (error.code, error.reason) == ("INVALID_ARGUMENT", "MESSAGE_MALFORMED"), method


async def test_a_peer_calls_only_what_it_may(stack, refusal):
    credit = stack.client_of(stack.replicas[0], peer="credit", caller=())
    for method in READS:
        with pytest.raises(refusal) as refused:
            await credit.call(method, request_type(method)())
        assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", "PEER_NOT_ALLOWED")

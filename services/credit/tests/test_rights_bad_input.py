"""Every RPC of the rights of subjects refuses what is malformed, with its reason and the field, and changes nothing."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from danbao.credit.v1 import rights_pb2, rights_pb2_grpc
from danbao_kit.testing.service import as_caller

SUBJECT = "subjects/seller"
HIMSELF = {"subject": "seller", "roles": "user"}
ARBITER = {"subject": "judge", "roles": "arbiter"}
UNKNOWN = "00000000-0000-4000-8000-000000000000"
SHA = "ab" * 32
EVIDENCE = {"uri": "s3://proof/1", "sha256": SHA, "size_bytes": 1, "media_type": "image/png"}
LATE = {"reason_code": "LATE_SHIPMENT"}

VALID: dict[str, dict[str, Any]] = {
    "GrantConsent": {"subject": SUBJECT, "purpose": "lending"},
    "RevokeConsent": {"name": f"consents/{UNKNOWN}"},
    "ListConsents": {"subject": SUBJECT},
    "FileAppeal": {"subject": SUBJECT, "target": LATE, "statement": "no"},
    "WithdrawAppeal": {"name": f"appeals/{UNKNOWN}"},
    "DecideAppeal": {"name": f"appeals/{UNKNOWN}", "outcome": 1, "decision": "so be it"},
    "GetAppeal": {"name": f"appeals/{UNKNOWN}"},
    "ListAppeals": {},
    "ExportSubjectData": {"subject": SUBJECT},
    "EraseSubject": {"subject": SUBJECT},
}
MUTATIONS = ["GrantConsent", "RevokeConsent", "FileAppeal", "WithdrawAppeal", "DecideAppeal", "EraseSubject"]
_SUBJECTS = [("subject", wrong) for wrong in ("", "seller", "subjects/", "subjects/a b", "subjects/" + "x" * 101)]
_PAGES = [("page_size", -1), ("page_size", 1001), ("page_token", "x" * 513)]


def names(collection: str) -> list[tuple[str, Any]]:
    wrong = ("", UNKNOWN, f"trades/{UNKNOWN}", f"{collection}/1", f"{collection}/{'-' * 36}")
    return [("name", name) for name in (*wrong, f"{collection}/{UNKNOWN.replace('-', '')}----")]


WRONG: dict[str, list[tuple[str, Any]]] = {
    "GrantConsent": [
        *_SUBJECTS,
        *[("purpose", wrong) for wrong in ("", "checkout", "curiosity", "x" * 65)],
        *[("partner", wrong) for wrong in ("a b", "x" * 101)],
        *[("evidence", wrong) for wrong in ("nowhere", "data:x", "s3://" + "x" * 600)],
        ("expire_time", {"seconds": -1}),
        ("expire_time", {"seconds": 1}),
        ("expire_time", {"seconds": 2**62}),
        ("expire_time", {"seconds": 2_000_000_000, "nanos": -1}),
    ],
    "RevokeConsent": names("consents"),
    "ListConsents": [*_SUBJECTS, *_PAGES],
    "FileAppeal": [
        *_SUBJECTS,
        ("target", None),
        ("target.target", {}),
        ("target.mark.kind", {"mark": {"kind": "BOREDOM"}}),
        ("target.mark.kind", {"mark": {}}),
        ("target.mark.reference", {"mark": {"kind": "FRAUD", "reference": "x" * 257}}),
        ("target.reason_code", {"reason_code": "late shipment"}),
        ("target.event.source", {"event": {"source": "weather", "number": 1}}),
        ("target.event.number", {"event": {"source": "escrow", "number": 0}}),
        ("target.event.number", {"event": {"source": "escrow", "number": -7}}),
        ("statement", ""),
        ("statement", "x" * 4097),
        ("statement", "a\0b"),
        ("evidence", [EVIDENCE] * 21),
        ("evidence[0].uri", [{**EVIDENCE, "uri": "data:text/plain,x"}]),
        ("evidence[0].sha256", [{**EVIDENCE, "sha256": SHA.upper()}]),
        ("evidence[0].size_bytes", [{**EVIDENCE, "size_bytes": 0}]),
        ("evidence[0].media_type", [{**EVIDENCE, "media_type": "picture"}]),
        ("evidence[0].note", [{**EVIDENCE, "note": "x" * 257}]),
    ],
    "WithdrawAppeal": names("appeals"),
    "DecideAppeal": [
        *names("appeals"),
        ("outcome", 0),
        ("outcome", 9),
        ("decision", ""),
        ("decision", "x" * 4097),
        ("reverse_events", [{"source": "escrow", "number": 1}] * 101),
        ("reverse_events[0].number", [{"source": "escrow", "number": -1}]),
    ],
    "GetAppeal": names("appeals"),
    "ListAppeals": [*[("subject", wrong) for wrong in ("seller", "subjects/a b")], ("state", 9), *_PAGES],
    "ExportSubjectData": [*_SUBJECTS, *_PAGES],
    "EraseSubject": [*_SUBJECTS, ("reason", 9)],
}


async def kept(credit: Any) -> list[int]:
    tables = ("consents", "appeals", "score_accesses", "tombstones", "events", "request_records")
    return [await credit.count(table) for table in tables]


@pytest.mark.parametrize("method", WRONG)
async def test_what_is_malformed_is_refused_by_its_field(shared_credit: Any, ask: Any, method: str) -> None:
    caller = ask(shared_credit, ARBITER if method == "DecideAppeal" else HIMSELF)
    before = await kept(shared_credit)
    for field, value in WRONG[method]:
        top = field.split(".")[0].split("[")[0]
        code, reason, fields, _ = await caller.refused(method, **{**VALID[method], top: value})
        assert (code, reason) == ("INVALID_ARGUMENT", "FIELD_INVALID"), (field, value)
        assert field in fields, f"{field} {value!r}: {fields}"
    if method in MUTATIONS:
        for wrong in ("", "x" * 65, "a\0b"):
            refused = await caller.refused(method, **{**VALID[method], "request_id": wrong})
            assert refused[1:3] == ("FIELD_INVALID", ["request_id"])
    assert await kept(shared_credit) == before


async def test_what_is_dismissed_takes_nothing_back(shared_credit: Any, ask: Any) -> None:
    events = [{"source": "escrow", "number": 1}]
    fields = {**VALID["DecideAppeal"], "outcome": "OUTCOME_DISMISSED", "reverse_events": events}
    refused = await ask(shared_credit, ARBITER).refused("DecideAppeal", **fields)
    assert refused[1:3] == ("FIELD_INVALID", ["reverse_events"])


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("RevokeConsent", "CONSENT_NOT_FOUND"),
        ("WithdrawAppeal", "APPEAL_NOT_FOUND"),
        ("DecideAppeal", "APPEAL_NOT_FOUND"),
        ("GetAppeal", "APPEAL_NOT_FOUND"),
    ],
)
async def test_what_is_not_there_is_not_found(shared_credit: Any, ask: Any, method: str, reason: str) -> None:
    for caller in (HIMSELF, ARBITER):
        assert (await ask(shared_credit, caller).refused(method, **VALID[method]))[:2] == ("NOT_FOUND", reason)


@pytest.mark.parametrize("method", VALID)
async def test_bytes_deadlines_and_peers(shared_credit: Any, ask: Any, method: str) -> None:
    path = f"/danbao.credit.v1.SubjectRightsService/{method}"
    raw = shared_credit.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
    with pytest.raises(grpc.aio.AioRpcError) as malformed:
        await raw(b"\xff\xff\xff", timeout=5, metadata=as_caller(**HIMSELF))
    assert malformed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    if method in MUTATIONS:
        request = getattr(rights_pb2, f"{method}Request")(request_id="r", **VALID[method])
        stub = rights_pb2_grpc.SubjectRightsServiceStub(shared_credit.channel)
        with pytest.raises(grpc.aio.AioRpcError) as without_deadline:
            await getattr(stub, method)(request, metadata=as_caller(**HIMSELF))
        assert without_deadline.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    escrow = rights_pb2_grpc.SubjectRightsServiceStub(shared_credit.channel_as("escrow"))
    message = getattr(rights_pb2, f"{method}Request")(**VALID[method])
    with pytest.raises(grpc.aio.AioRpcError) as pretender:
        await getattr(escrow, method)(message, timeout=5, metadata=as_caller(**HIMSELF))
    assert pretender.value.code() is grpc.StatusCode.PERMISSION_DENIED

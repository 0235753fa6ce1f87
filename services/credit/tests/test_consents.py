"""For which purposes credit is read, and what is recorded of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from danbao.credit.v1 import credit_pb2, rights_pb2
from danbao_credit.testing.stories import good_trade

SELLER = "subjects/seller"
HIMSELF = {"subject": "seller", "roles": "user"}
BANK = {"subject": "bank-bot", "roles": "partner", "partner": "bank"}
SHOP = {"subject": "shop-bot", "roles": "partner", "partner": "shop"}
OPERATOR = {"subject": "ops", "roles": "operator"}
ARBITER = {"subject": "judge", "roles": "arbiter"}


def lending(**fields: str) -> credit_pb2.EvaluateRequest:
    return credit_pb2.EvaluateRequest(subject=SELLER, purpose="lending", **fields)


async def test_a_purpose_by_contract_needs_nobodys_word_and_writes_nothing(credit, ask) -> None:
    for caller in (BANK, OPERATOR, ARBITER):
        for purpose in ("", "checkout", "terms", "fraud_prevention", "membership", "support"):
            request = credit_pb2.EvaluateRequest(subject=SELLER, purpose=purpose)
            assert (await ask(credit, caller).credit("Evaluate", request)).score == 620
            request = credit_pb2.ListIndicatorValuesRequest(subject=SELLER, purpose=purpose)
            await ask(credit, caller).credit("ListIndicatorValues", request)
    assert await credit.count("score_accesses") == 0


async def test_a_purpose_by_consent_is_refused_until_it_is_granted_and_at_once_after_it_is_revoked(credit, ask) -> None:
    bank, himself = ask(credit, BANK), ask(credit, HIMSELF)
    refused = await bank.refused("Evaluate", lending())
    assert refused[:2] == ("PERMISSION_DENIED", "CONSENT_MISSING")
    assert refused[3] == {"subject": SELLER, "purpose": "lending", "partner": "bank"}

    granted = await himself.rights("GrantConsent", subject=SELLER, purpose="lending", partner="bank")
    assert (granted.state, granted.granted_by) == (rights_pb2.Consent.STATE_GRANTED, "subject")
    assert (await bank.credit("Evaluate", lending())).score == 620
    assert (await ask(credit, SHOP).refused("Evaluate", lending()))[1] == "CONSENT_MISSING"
    assert (await ask(credit, OPERATOR).refused("Evaluate", lending()))[1] == "CONSENT_MISSING", "it was for the bank"
    rental = credit_pb2.EvaluateRequest(subject=SELLER, purpose="rental")
    assert (await bank.refused("Evaluate", rental))[1] == "CONSENT_MISSING", "it was for lending"

    revoked = await himself.rights("RevokeConsent", name=granted.name)
    assert (revoked.state, revoked.revoked_by) == (rights_pb2.Consent.STATE_REVOKED, "subject")
    assert (await bank.refused("Evaluate", lending()))[1] == "CONSENT_MISSING"
    assert (await himself.refused("RevokeConsent", name=granted.name))[1] == "CONSENT_ENDED"
    assert await credit.count("score_accesses") == 1, "refusals read nothing"


async def test_a_consent_to_all_is_for_everybody_and_indicator_values_ask_for_it_too(credit, ask) -> None:
    values = credit_pb2.ListIndicatorValuesRequest(subject=SELLER, purpose="research")
    assert (await ask(credit, SHOP).refused("ListIndicatorValues", values))[1] == "CONSENT_MISSING"
    await ask(credit, HIMSELF).rights("GrantConsent", subject=SELLER, purpose="research")
    for caller in (BANK, SHOP, OPERATOR):
        await ask(credit, caller).credit("ListIndicatorValues", values)
    rows = await credit.rows("SELECT reader, method, purpose FROM score_accesses ORDER BY access_id")
    assert [tuple(row) for row in rows] == [
        ("partner:bank", "ListIndicatorValues", "research"),
        ("partner:shop", "ListIndicatorValues", "research"),
        ("operator", "ListIndicatorValues", "research"),
    ]


async def test_a_consent_ends_by_itself(make_credit, ask) -> None:
    credit = await make_credit(clock="test")
    now = await credit.now()
    expire = rights_pb2.GrantConsentRequest()
    expire.expire_time.FromDatetime(now + timedelta(days=30))
    granted = await ask(credit, HIMSELF).rights(
        "GrantConsent", subject=SELLER, purpose="lending", partner="bank", expire_time=expire.expire_time
    )
    assert granted.state == rights_pb2.Consent.STATE_GRANTED
    await credit.advance(timedelta(days=29, hours=23))
    await ask(credit, BANK).credit("Evaluate", lending())
    await credit.advance(timedelta(hours=2))
    assert (await ask(credit, BANK).refused("Evaluate", lending()))[1] == "CONSENT_MISSING"
    listed = await ask(credit, HIMSELF).rights("ListConsents", subject=SELLER)
    assert [consent.state for consent in listed.consents] == [rights_pb2.Consent.STATE_EXPIRED]
    past = await ask(credit, HIMSELF).refused(
        "GrantConsent", subject=SELLER, purpose="lending", expire_time=expire.expire_time
    )
    assert past[1:3] == ("FIELD_INVALID", ["expire_time"])


async def test_a_newer_consent_takes_the_place_of_the_one_before_and_history_stays(credit, ask) -> None:
    himself = ask(credit, HIMSELF)
    first = await himself.rights("GrantConsent", subject=SELLER, purpose="lending", partner="bank")
    second = await himself.rights("GrantConsent", subject=SELLER, purpose="lending", partner="bank")
    listed = (await himself.rights("ListConsents", subject=SELLER)).consents
    assert [(consent.name, consent.revoked_by) for consent in listed] == [(first.name, "replaced"), (second.name, "")]
    await himself.rights("RevokeConsent", name=second.name)
    assert (await ask(credit, BANK).refused("Evaluate", lending()))[1] == "CONSENT_MISSING"


async def test_a_partner_grants_for_itself_only_and_says_where_the_word_is(credit, ask) -> None:
    bank = ask(credit, BANK)
    refused = await bank.refused("GrantConsent", subject=SELLER, purpose="lending")
    assert refused[1:3] == ("FIELD_INVALID", ["evidence"])
    evidence = "s3://bank/forms/17"
    refused = await bank.refused("GrantConsent", subject=SELLER, purpose="lending", partner="shop", evidence=evidence)
    assert refused[:2] == ("PERMISSION_DENIED", "ROLE_NOT_ALLOWED")
    granted = await bank.rights("GrantConsent", subject=SELLER, purpose="lending", evidence=evidence)
    assert (granted.partner, granted.granted_by, granted.evidence) == ("bank", "partner:bank", evidence)
    await bank.credit("Evaluate", lending())
    for other in (SHOP, {"subject": "buyer", "roles": "user"}, ARBITER):
        assert (await ask(credit, other).refused("RevokeConsent", name=granted.name))[1] == "CONSENT_NOT_FOUND"
    assert (await ask(credit, HIMSELF).rights("RevokeConsent", name=granted.name)).revoked_by == "subject"


async def test_what_is_foreign_is_like_what_is_missing(credit, ask) -> None:
    await ask(credit, HIMSELF).rights("GrantConsent", subject=SELLER, purpose="lending", partner="bank")
    stranger = ask(credit, {"subject": "buyer", "roles": "user"})
    for subject in (SELLER, "subjects/nobody"):
        for method in ("ListConsents", "ExportSubjectData"):
            refused = await stranger.refused(method, subject=subject)
            assert refused[:2] == ("NOT_FOUND", "SUBJECT_NOT_FOUND")
        refused = await stranger.refused("GrantConsent", subject=subject, purpose="lending")
        assert refused[:2] == ("NOT_FOUND", "SUBJECT_NOT_FOUND")
        refused = await stranger.refused("EraseSubject", subject=subject)
        assert refused[:2] == ("NOT_FOUND", "SUBJECT_NOT_FOUND")
    assert len((await ask(credit, BANK).rights("ListConsents", subject=SELLER)).consents) == 1
    assert len((await ask(credit, SHOP).rights("ListConsents", subject=SELLER)).consents) == 0
    assert (await ask(credit, OPERATOR).refused("GrantConsent", subject=SELLER, purpose="lending"))[1] == (
        "ROLE_NOT_ALLOWED"
    )


@pytest.mark.parametrize("method", ["Evaluate", "ListIndicatorValues"])
async def test_an_unknown_purpose_is_refused_with_those_there_are(shared_credit, ask, method) -> None:
    request = getattr(credit_pb2, f"{method}Request")(subject=SELLER, purpose="curiosity")
    code, reason, fields, _ = await ask(shared_credit, BANK).refused(method, request)
    assert (code, reason, fields) == ("INVALID_ARGUMENT", "FIELD_INVALID", ["purpose"])


async def test_the_purposes_are_listed_with_their_bases(shared_credit, ask) -> None:
    listed = await ask(shared_credit, HIMSELF).rights("ListPurposes")
    bases = {purpose.name: purpose.basis for purpose in listed.purposes}
    by_contract = {name for name, basis in bases.items() if basis == rights_pb2.PURPOSE_BASIS_CONTRACT}
    assert by_contract == {"checkout", "terms", "fraud_prevention", "membership", "support"}
    assert {"partner_offer", "lending", "rental", "insurance", "marketing_segment", "research"} <= bases.keys()
    assert all(purpose.text for purpose in listed.purposes)


async def test_the_same_request_gets_the_same_answer(credit, ask) -> None:
    himself = ask(credit, HIMSELF)
    first = await himself.rights("GrantConsent", request_id="once", subject=SELLER, purpose="lending")
    again = await himself.rights("GrantConsent", request_id="once", subject=SELLER, purpose="lending")
    assert again == first
    assert await credit.count("consents") == 1
    refused = await himself.refused("GrantConsent", request_id="once", subject=SELLER, purpose="rental")
    assert refused[:2] == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert refused[3]["field"] == "purpose"


async def test_an_export_shows_everything_and_nobody_else(credit, ask) -> None:
    hours = timedelta(hours=1)
    stories = [good_trade(str(n), datetime.now(UTC) - (500 + n) * hours, buyer=f"subjects/b{n}") for n in range(3)]
    credit.streams.escrow.add([event for story in stories for event in story.events])
    await credit.caught_up("escrow", 15)
    himself, bank = ask(credit, HIMSELF), ask(credit, BANK)
    await himself.rights("GrantConsent", subject=SELLER, purpose="lending", partner="bank")
    await bank.credit("Evaluate", lending())
    records, token = [], ""
    while True:
        page = await himself.rights("ExportSubjectData", subject=SELLER, page_size=7, page_token=token)
        assert len(page.records) <= 7
        records += page.records
        token = page.next_page_token
        if not token:
            break
    sections = {section: [r for r in records if r.section == section] for section in page.sections}
    assert {"credit", "marks", "score_history", "consents", "appeals", "accesses", "events"} <= sections.keys()
    assert len(sections["events"]) == 15
    assert [dict(r.values)["reader"] for r in sections["accesses"]] == ["partner:bank"]
    assert [dict(r.values)["purpose"] for r in sections["consents"]] == ["lending"]
    named = {dict(r.values).get("indicator"): dict(r.values) for r in sections["credit"]}
    assert named["orders_completed_life"]["value"] == 3
    assert named["orders_completed_life"]["unit"] == "count"
    scores = [dict(r.values) for r in sections["credit"] if "score" in dict(r.values)]
    evaluated = await bank.credit("Evaluate", credit_pb2.EvaluateRequest(subject=SELLER))
    assert evaluated.score in [score["score"] for score in scores]
    whole = b"".join(record.SerializeToString() for record in records)
    assert b"subjects/b" not in whole, "the others are numbers"
    all_at_once = await himself.rights("ExportSubjectData", subject=SELLER, page_size=1000)
    assert [record.text for record in all_at_once.records] == [record.text for record in records]
    assert len({(record.section, record.text, str(record.values)) for record in records}) == len(records)


async def test_an_export_for_a_partner_needs_the_word_and_is_recorded(credit, ask) -> None:
    bank = ask(credit, BANK)
    assert (await bank.refused("ExportSubjectData", subject=SELLER))[1] == "CONSENT_MISSING"
    await ask(credit, HIMSELF).rights("GrantConsent", subject=SELLER, purpose="data_portability", partner="bank")
    await bank.rights("ExportSubjectData", subject=SELLER)
    await ask(credit, OPERATOR).rights("ExportSubjectData", subject=SELLER)
    page = await ask(credit, HIMSELF).rights("ExportSubjectData", subject=SELLER, page_size=1000)
    accesses = [record.text for record in page.records if record.section == "accesses"]
    assert len(accesses) == 1
    assert accesses[0].startswith("partner:bank read for data_portability")
    token = (await ask(credit, HIMSELF).rights("ExportSubjectData", subject=SELLER, page_size=1)).next_page_token
    for wrong in ("x", "%", token[4:]):
        refused = await ask(credit, HIMSELF).refused("ExportSubjectData", subject=SELLER, page_token=wrong)
        assert refused[1] == "PAGE_TOKEN_INVALID"
    refused = await ask(credit, {"subject": "other", "roles": "user"}).refused(
        "ExportSubjectData", subject="subjects/other", page_token=token
    )
    assert refused[1] == "PAGE_TOKEN_INVALID"


READS = {
    "Evaluate": lambda subject: credit_pb2.EvaluateRequest(subject=subject, purpose="insurance"),
    "BatchEvaluate": lambda subject: credit_pb2.BatchEvaluateRequest(
        requests=[
            credit_pb2.EvaluateRequest(subject="subjects/anybody"),
            credit_pb2.EvaluateRequest(subject=subject, purpose="insurance"),
        ]
    ),
    "GetProfile": lambda subject: credit_pb2.GetProfileRequest(subject=subject, purpose="insurance"),
    "ListIndicatorValues": lambda subject: credit_pb2.ListIndicatorValuesRequest(subject=subject, purpose="insurance"),
    "ListScoreHistory": lambda subject: credit_pb2.ListScoreHistoryRequest(subject=subject, purpose="insurance"),
    "SimulateScore": lambda subject: credit_pb2.SimulateScoreRequest(subject=subject, purpose="insurance"),
}


async def test_every_read_of_a_score_asks_for_consent_and_is_recorded_once(credit, ask) -> None:
    bank = ask(credit, BANK)
    for method, request in READS.items():
        assert (await bank.refused(method, request(SELLER)))[1] == "CONSENT_MISSING", method
    await ask(credit, HIMSELF).rights("GrantConsent", subject=SELLER, purpose="insurance", partner="bank")
    for method, request in READS.items():
        await bank.credit(method, request(SELLER))
    rows = await credit.rows("SELECT method, subject FROM score_accesses ORDER BY access_id")
    assert [tuple(row) for row in rows] == [(method, SELLER) for method in READS]

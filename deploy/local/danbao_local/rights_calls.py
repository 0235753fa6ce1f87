"""Bodies that work for the rights of those who are scored, with the consents and appeals they need."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from danbao_local.client import GatewayClient
from danbao_local.demo import BUYER, CREDIT, new_id

_RIGHTS = f"{CREDIT}.SubjectRightsService"
_ON_RECORD = "https://example.com/forms/consent.pdf"


@dataclass(frozen=True, slots=True)
class RightsFixtures:
    """A consent, and somebody whom a partner speaks for with two appeals."""

    consent: str
    appellant: str
    reason_code: str
    to_withdraw: str
    to_decide: str


Example = tuple[str, Callable[[RightsFixtures], dict[str, Any]]]

EXAMPLES: Mapping[str, Example] = {
    f"{_RIGHTS}/ListPurposes": ("user", lambda _: {}),
    f"{_RIGHTS}/GrantConsent": ("user", lambda _: _consent(BUYER, "lending")),
    f"{_RIGHTS}/RevokeConsent": ("user", lambda made: {"requestId": new_id(), "name": made.consent}),
    f"{_RIGHTS}/ListConsents": ("user", lambda _: {"subject": BUYER, "pageSize": 10}),
    f"{_RIGHTS}/FileAppeal": ("partner", lambda made: _appeal(made.appellant, made.reason_code)),
    f"{_RIGHTS}/WithdrawAppeal": ("partner", lambda made: {"requestId": new_id(), "name": made.to_withdraw}),
    f"{_RIGHTS}/DecideAppeal": (
        "arbiter",
        lambda made: {
            "requestId": new_id(),
            "name": made.to_decide,
            "outcome": "OUTCOME_DISMISSED",
            "decision": "there is no history to judge by yet",
        },
    ),
    f"{_RIGHTS}/GetAppeal": ("partner", lambda made: {"name": made.to_decide}),
    f"{_RIGHTS}/ListAppeals": ("partner", lambda made: {"subject": made.appellant, "pageSize": 10}),
    f"{_RIGHTS}/ExportSubjectData": ("user", lambda _: {"subject": BUYER, "pageSize": 20}),
    f"{_RIGHTS}/EraseSubject": (
        "operator",
        lambda _: {
            "requestId": new_id(),
            "subject": f"subjects/leaver-{new_id()}",
            "reason": "ERASURE_REASON_ACCOUNT_CLOSED",
        },
    ),
}
"""By RPC: the role to call it with, and the body."""


def make(client: GatewayClient) -> RightsFixtures:
    """A consent of the buyer, and newcomers for whom the partner may appeal. Raises CallFailed."""
    client.call(f"{_RIGHTS}/GrantConsent", _consent(BUYER, "research"), role="user")
    # To one partner, so that no later consent takes its place.
    to_one = {**_consent(BUYER, "research"), "partner": f"lab-{new_id()}"}
    consent = client.call(f"{_RIGHTS}/GrantConsent", to_one, role="user")
    appellants = [f"subjects/appellant-{new_id()}" for _ in range(3)]
    for appellant in appellants:
        word = {**_consent(appellant, "representation"), "evidence": _ON_RECORD}
        client.call(f"{_RIGHTS}/GrantConsent", word, role="partner")
    evaluation = client.call(f"{CREDIT}.CreditService/Evaluate", {"subject": appellants[0]}, role="partner")
    code = evaluation.reasons[0].code
    to_withdraw, to_decide = (
        client.call(f"{_RIGHTS}/FileAppeal", _appeal(appellant, code), role="partner").name
        for appellant in appellants[1:]
    )
    return RightsFixtures(consent.name, appellants[0], code, to_withdraw, to_decide)


def _consent(subject: str, purpose: str) -> dict[str, Any]:
    return {"requestId": new_id(), "subject": subject, "purpose": purpose}


def _appeal(subject: str, reason_code: str) -> dict[str, Any]:
    return {
        "requestId": new_id(),
        "subject": subject,
        "target": {"reasonCode": reason_code},
        "statement": "I have traded elsewhere for years",
        "evidence": [
            {
                "uri": "https://example.com/reviews.pdf",
                "sha256": "ab" * 32,
                "sizeBytes": "20480",
                "mediaType": "application/pdf",
                "note": "reviews elsewhere",
            }
        ],
    }

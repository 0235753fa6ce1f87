"""The sellers with the best and the worst credit, and why."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from danbao.credit.v1 import credit_pb2
from danbao_local.replay.calls import Gateway, in_turns
from danbao_local.replay.parties import seller_subject

SHOWN = 10
_MOST_REASONS = 4
_LOWEST, _HIGHEST = 350, 950


async def rank(gateway: Gateway, sellers: Iterable[str]) -> list[dict[str, Any]]:
    """Every seller's credit now, best first, ready for the report. `sellers` names one once for each trade."""
    trades: dict[str, int] = {}
    for seller_id in sellers:
        trades[seller_id] = trades.get(seller_id, 0) + 1
    found: list[dict[str, Any]] = []

    async def evaluate(seller_id: str) -> None:
        request = credit_pb2.EvaluateRequest(
            subject=seller_subject(seller_id), kind=credit_pb2.SUBJECT_KIND_MERCHANT, purpose="support"
        )
        answer = await gateway.call(gateway.credit.Evaluate, request, "operator")
        reasons = [f"{reason.code} −{reason.points_lost}: {reason.text}" for reason in answer.reasons]
        reasons += [f"{rule.code} {rule.points:+}: {rule.text}" for rule in answer.adjustments]
        found.append(
            {
                "subject": answer.subject,
                "trades": trades[seller_id],
                "score": answer.score,
                "grade": answer.grade,
                "reasons": reasons,
                "texts": [reason.text for reason in answer.reasons],
                "as_of": answer.as_of.ToJsonString(),
            }
        )

    await in_turns(list(trades), evaluate)
    return sorted(found, key=lambda merchant: (-merchant["score"], -merchant["trades"], merchant["subject"]))


def without_score(ranking: Iterable[Mapping[str, Any]], sellers: Collection[str]) -> Iterator[str]:
    """Sellers that have none, or one out of its bounds."""
    scores = {merchant["subject"]: merchant["score"] for merchant in ranking}
    for seller in sorted(sellers):
        if not _LOWEST <= scores.get(seller, 0) <= _HIGHEST:
            yield f"{seller}: {scores.get(seller, 'no score')}"


def with_too_many_reasons(ranking: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Merchants with more than four."""
    for merchant in ranking:
        if len(merchant["texts"]) > _MOST_REASONS:
            yield f"{merchant['subject']}: {len(merchant['texts'])} reasons"


def with_wordless_reasons(ranking: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Reasons that say nothing, or name no figure."""
    for merchant in ranking:
        for text in merchant["texts"]:
            if not text.strip() or not any(letter.isdigit() for letter in text):
                yield f"{merchant['subject']}: {text!r}"

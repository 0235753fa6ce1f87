"""The sellers with the best and the worst credit, and why."""

from collections.abc import Iterable
from typing import Any

from danbao.credit.v1 import credit_pb2
from danbao_local.replay.calls import Gateway, in_turns
from danbao_local.replay.parties import seller_subject

SHOWN = 10


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
                "as_of": answer.as_of.ToJsonString(),
            }
        )

    await in_turns(list(trades), evaluate)
    return sorted(found, key=lambda merchant: (-merchant["score"], -merchant["trades"], merchant["subject"]))

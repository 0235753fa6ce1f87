"""The sellers with the best and the worst credit, and why."""

from dataclasses import dataclass
from typing import Any

from danbao.credit.v1 import credit_pb2
from danbao_local.replay.calls import Gateway
from danbao_local.replay.conduct import seller_subject
from danbao_local.replay.run import Replay, in_turns

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Merchant:
    """One seller's credit now."""

    subject: str
    trades: int
    score: int
    grade: str
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "subject": self.subject,
            "trades": self.trades,
            "score": self.score,
            "grade": self.grade,
            "reasons": list(self.reasons),
        }


async def merchants(gateway: Gateway, replay: Replay) -> list[Merchant]:
    """Everyone who had a trade, best first."""
    trades: dict[str, int] = {}
    for _, trade, _ in replay.made():
        trades[trade.seller_id] = trades.get(trade.seller_id, 0) + 1
    found: list[Merchant] = []

    async def evaluate(seller_id: str) -> None:
        request = credit_pb2.EvaluateRequest(
            subject=seller_subject(seller_id), kind=credit_pb2.SUBJECT_KIND_MERCHANT, purpose="replay"
        )
        answer = await gateway.call(gateway.credit.Evaluate, request, "operator")
        reasons = [f"{reason.code} −{reason.points_lost}: {reason.text}" for reason in answer.reasons]
        reasons += [f"{rule.code} {rule.points:+}: {rule.text}" for rule in answer.adjustments]
        found.append(Merchant(answer.subject, trades[seller_id], answer.score, answer.grade, tuple(reasons)))

    await in_turns(list(trades), evaluate)
    return sorted(found, key=lambda merchant: (-merchant.score, -merchant.trades, merchant.subject))

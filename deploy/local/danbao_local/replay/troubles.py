"""Refund cases and disputes as the services tell of them: all of them, and what became of them."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from danbao.escrow.v1 import dispute_pb2, refund_pb2
from danbao_local.replay.calls import Gateway

_PAGE = 1000


async def read_cases(gateway: Gateway) -> dict[str, Any]:
    """By name."""
    found: dict[str, Any] = {}
    request = refund_pb2.ListRefundCasesRequest(page_size=_PAGE)
    while True:
        page = await gateway.call(gateway.refunds.ListRefundCases, request, "operator")
        found |= {case.name: case for case in page.refund_cases}
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def read_disputes(gateway: Gateway) -> dict[str, Any]:
    """By name."""
    found: dict[str, Any] = {}
    request = dispute_pb2.ListDisputesRequest(page_size=_PAGE)
    while True:
        page = await gateway.call(gateway.disputes.ListDisputes, request, "operator")
        found |= {dispute.name: dispute for dispute in page.disputes}
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def case_state(case: refund_pb2.RefundCase) -> str:
    """The name of a case's state."""
    return refund_pb2.RefundCase.State.Name(case.state).removeprefix("STATE_")


def case_outcome(case: refund_pb2.RefundCase, by_time: Collection[str]) -> str:
    """How a case ended, in words; `by_time` names those that nobody but time ended."""
    if not case.HasField("end_time"):
        return f"still {case_state(case)}"
    timely = case.name not in by_time
    match case.state:
        case refund_pb2.RefundCase.STATE_SUCCEEDED:
            if case.with_return:
                return f"paid after the return, {'received' if timely else 'by time'}"
            return f"paid, {'the seller agreed' if timely else 'by time'}"
        case refund_pb2.RefundCase.STATE_WITHDRAWN:
            return f"taken back, {'by the buyer' if timely else 'by time'}"
        case refund_pb2.RefundCase.STATE_REJECTED:
            return "rejected, no dispute"
        case _:
            return "disputed"


def dispute_outcome(dispute: dispute_pb2.Dispute) -> str:
    """How a dispute ended, in words."""
    if dispute.state != dispute_pb2.Dispute.STATE_CLOSED:
        return f"still {dispute_pb2.Dispute.State.Name(dispute.state).removeprefix('STATE_')}"
    if not dispute.HasField("decision"):
        return "the parties agreed"
    return "decided again after an appeal" if dispute.decision.final else "decided, no appeal"


def cases_by_outcome(cases: Mapping[str, refund_pb2.RefundCase], by_time: Collection[str]) -> dict[str, dict[str, int]]:
    """By outcome: how many, and the minor units that buyers got back by the cases themselves."""
    return _counted((case_outcome(case, by_time), case.refunded_minor) for case in cases.values())


def disputes_by_outcome(disputes: Mapping[str, dispute_pb2.Dispute]) -> dict[str, dict[str, int]]:
    """By outcome: how many, and the minor units that buyers got of them."""
    return _counted((dispute_outcome(dispute), _to_buyer(dispute)) for dispute in disputes.values())


def _to_buyer(dispute: dispute_pb2.Dispute) -> int:
    """What was agreed or decided for the buyer."""
    chosen = dispute.decision if dispute.HasField("decision") else dispute.offer
    return int(chosen.buyer_minor)


def _counted(found: Iterable[tuple[str, int]]) -> dict[str, dict[str, int]]:
    counts: Counter[str] = Counter()
    to_buyers: Counter[str] = Counter()
    for outcome, minor in found:
        counts[outcome] += 1
        to_buyers[outcome] += minor
    return {outcome: {"count": count, "to_buyers_minor": to_buyers[outcome]} for outcome, count in counts.most_common()}

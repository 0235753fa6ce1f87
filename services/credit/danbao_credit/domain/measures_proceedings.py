"""What events of refund cases, disputes and claims say about buyer and seller."""

from __future__ import annotations

from danbao_credit.domain.events import CaseEvent, ClaimEvent, DisputeEvent, Role
from danbao_credit.domain.profile import peer_hash
from danbao_credit.domain.telling import HOUR_US, Measures, Telling, amount, between


def of_case(event: CaseEvent) -> Telling:
    """one; amount_minor: claimed; moved_minor; hours: since it was opened; by_…: who did it; for_…: why it was opened.

    replied: the seller's first answer, after reply_hours; unanswered: accepted by time in the seller's place;
    returned: the goods were sent back; with_return: they have to be.
    """
    hours = between(event.create_us, event.at_us) // HOUR_US
    first = event.kind == "refund_case_accepted" or (
        event.kind in ("refund_case_rejected", "refund_case_succeeded") and not event.is_returned
    )
    replied = first and event.actor is Role.SELLER
    measures = {
        "one": 1,
        "order": peer_hash(event.trade),
        "amount_minor": amount(event.amount_minor),
        "moved_minor": amount(event.moved_minor),
        "hours": hours,
        f"by_{event.actor}": 1,
        f"for_{event.reason}": 1,
        "replied": int(replied),
        "reply_hours": hours if replied else 0,
        "unanswered": int(first and event.actor is Role.SYSTEM and event.kind != "refund_case_rejected"),
        "with_return": int(event.with_return),
        "returned": int(event.is_returned),
    }
    return _told(event, event.case, measures)


def of_dispute(event: DisputeEvent) -> Telling:
    """one; by_…: who did it; hours: since it was opened; frozen_minor: what is divided.

    At the end (dispute_closed) besides: decided or settled; buyer_minor and seller_minor: to whom what went;
    buyer_permille: the buyer's share; lost_by_buyer, lost_by_seller: an arbiter gave more than half to the other side;
    lost_order: the order's hash if its seller lost. A dispute that a chargeback ended has no winner.
    """
    measures = {
        "one": 1,
        "order": peer_hash(event.trade),
        "hours": between(event.create_us, event.at_us) // HOUR_US,
        "frozen_minor": amount(event.frozen_minor),
        f"by_{event.actor}": 1,
    }
    if event.kind == "dispute_closed" and event.moved_minor:
        seller_lost = event.is_decided and event.buyer_minor > event.seller_minor
        measures |= {
            "decided": int(event.is_decided),
            "settled": int(not event.is_decided),
            "buyer_minor": amount(event.buyer_minor),
            "seller_minor": amount(event.seller_minor),
            "buyer_permille": 1000 * event.buyer_minor // max(event.buyer_minor + event.seller_minor, 1),
            "lost_by_seller": int(seller_lost),
            "lost_by_buyer": int(event.is_decided and event.seller_minor > event.buyer_minor),
            "lost_order": peer_hash(event.trade) if seller_lost else 0,
        }
    return _told(event, event.dispute, measures)


def of_claim(event: ClaimEvent) -> Telling:
    """one; order: the order's hash; amount_minor: asked for; compensated_minor: paid; hours: since it was opened.

    Of one that is compensated: fraud, or goodwill where the arbiter found none.
    """
    measures = {
        "one": 1,
        "order": peer_hash(event.trade),
        "amount_minor": amount(event.amount_minor),
        "compensated_minor": amount(event.compensated_minor),
        "hours": between(event.create_us, event.at_us) // HOUR_US,
        "fraud": int(event.kind == "claim_compensated" and not event.is_goodwill),
        "goodwill": int(event.kind == "claim_compensated" and event.is_goodwill),
    }
    return _told(event, event.claim, measures)


def _told(event: CaseEvent | DisputeEvent | ClaimEvent, about: str, measures: Measures) -> Telling:
    parties = {"buyer": peer_hash(event.buyer), "seller": peer_hash(event.seller)}
    return Telling(about, event.currency, (("buyer", event.buyer), ("seller", event.seller)), measures | parties)

"""Every kind of odd order or row that the report can show, and by which rule the replay treats it."""

from enum import StrEnum
from types import MappingProxyType

from danbao_local.olist import orders as olist


class Odd(StrEnum):
    """Kinds, as they stand in the report."""

    APPROVED_LATE = "APPROVED_LATE"
    APPROVED_TOO_LATE = "APPROVED_TOO_LATE"
    APPROVED_BEFORE_PURCHASE = "APPROVED_BEFORE_PURCHASE"
    NEVER_APPROVED = "NEVER_APPROVED"
    NEVER_APPROVED_BUT_SENT = "NEVER_APPROVED_BUT_SENT"
    SHIPPED_BEFORE_PAID = "SHIPPED_BEFORE_PAID"
    SHIPPED_TOO_LATE = "SHIPPED_TOO_LATE"
    SHIPPED_WITHOUT_DATE = "SHIPPED_WITHOUT_DATE"
    NEVER_SHIPPED = "NEVER_SHIPPED"
    STATUS_BEHIND_DATES = "STATUS_BEHIND_DATES"
    STATUS_UNKNOWN = "STATUS_UNKNOWN"
    DELIVERED_BEFORE_SHIPPED = "DELIVERED_BEFORE_SHIPPED"
    DELIVERED_SLOWLY = "DELIVERED_SLOWLY"
    DELIVERED_TOO_LATE = "DELIVERED_TOO_LATE"
    DELIVERED_WITHOUT_DATE = "DELIVERED_WITHOUT_DATE"
    NEVER_DELIVERED = "NEVER_DELIVERED"
    CANCELED_WITH_CARRIER_DATE = "CANCELED_WITH_CARRIER_DATE"
    CANCELED_WITH_DELIVERY_DATE = "CANCELED_WITH_DELIVERY_DATE"
    NO_ITEMS = "NO_ITEMS"
    NO_ITEMS_WITH_DATES = "NO_ITEMS_WITH_DATES"
    SEVERAL_SELLERS = "SEVERAL_SELLERS"
    SEVERAL_PAYMENTS = "SEVERAL_PAYMENTS"
    OVERPAID = "OVERPAID"
    UNDERPAID = "UNDERPAID"
    PAYMENT_ZERO = "PAYMENT_ZERO"
    PAYMENTS_MISSING = "PAYMENTS_MISSING"
    PRICE_ZERO = "PRICE_ZERO"
    NOTHING_TO_SELL = "NOTHING_TO_SELL"
    LINES_FOLDED = "LINES_FOLDED"
    CUSTOMER_UNKNOWN = "CUSTOMER_UNKNOWN"
    SELLER_UNKNOWN = "SELLER_UNKNOWN"
    TRADE_REFUSED = "TRADE_REFUSED"
    LOW_REVIEW_AFTER_LATE_DELIVERY = "LOW_REVIEW_AFTER_LATE_DELIVERY"
    REVIEW = "REVIEW"
    ROW_UNREADABLE = olist.UNREADABLE
    VALUE_UNREADABLE = olist.VALUE_UNREADABLE
    ROW_WITHOUT_ORDER = olist.ORPHAN
    ROW_TWICE = olist.DUPLICATE


RULES = MappingProxyType(
    {
        Odd.APPROVED_LATE: "approved more than 24 h after the purchase: every trade gets the longest pay-by there is, "
        "15 d from the purchase",
        Odd.APPROVED_TOO_LATE: "approved 15 d or more after the purchase: pay-by was first, payment was refused, the "
        "top-ups went back over their rails",
        Odd.APPROVED_BEFORE_PURCHASE: "taken as approved at the purchase",
        Odd.NEVER_APPROVED: "topped up at the purchase, for there is no other time; nothing was ever approved, so the "
        "money went straight back over its rails; a trade, if there was one, ended unpaid (canceled and unavailable "
        "ones by the buyer, others by pay-by)",
        Odd.NEVER_APPROVED_BUT_SENT: "shipped or delivered all the same: taken as approved at the first of those times",
        Odd.SHIPPED_BEFORE_PAID: "handed to the carrier before approval: shipped right after the payment, nothing can "
        "be shipped earlier",
        Odd.SHIPPED_TOO_LATE: "handed to the carrier 7 d or more after the last shipping limit: the system had given "
        "the money back by then, shipping was refused, later dates are ignored",
        Odd.SHIPPED_WITHOUT_DATE: "shipped or delivered without a carrier date: shipped right before the delivery, or "
        "at the last shipping limit if that has no date either",
        Odd.NEVER_SHIPPED: "paid and never shipped: the system gave the money back 7 d after the last shipping limit, "
        "unless its buyer complained before",
        Odd.STATUS_BEHIND_DATES: "the dates tell of more than the status does: the dates are believed",
        Odd.STATUS_UNKNOWN: "a status nobody knows: treated by its dates",
        Odd.DELIVERED_BEFORE_SHIPPED: "delivered before it was shipped: delivered right after the shipping, if it was "
        "shipped at all",
        Odd.DELIVERED_SLOWLY: "delivered more than 20 d after shipping: sent as post, which waits for 60 d",
        Odd.DELIVERED_TOO_LATE: "delivered 60 d or more after shipping: the trade was confirmed by time before, the "
        "report of delivery was refused, unless its terms leave confirming to an operator",
        Odd.DELIVERED_WITHOUT_DATE: "delivered, nobody knows when: not reported, confirmed by time 60 d after shipping",
        Odd.NEVER_DELIVERED: "shipped and never delivered: confirmed by time 60 d after shipping, unless its "
        "buyer complained",
        Odd.CANCELED_WITH_CARRIER_DATE: "canceled, with a carrier date: shipped, then asked back; unavailable: the "
        "date is ignored, cancelled by the seller at the last shipping limit",
        Odd.CANCELED_WITH_DELIVERY_DATE: "canceled, with a carrier and a delivery date: delivered, then asked back; "
        "else the date is ignored",
        Odd.NO_ITEMS: "no items, hence no seller and no trade: the money went back over its rails",
        Odd.NO_ITEMS_WITH_DATES: "no items, yet a carrier or delivery date: the date is ignored",
        Odd.SEVERAL_SELLERS: "items of several sellers: a trade for each",
        Odd.SEVERAL_PAYMENTS: "several payments: a top-up for each",
        Odd.OVERPAID: "paid more than items and freight: what is over went back over the rail",
        Odd.UNDERPAID: "paid less than items and freight: what lacks came from suspense",
        Odd.PAYMENT_ZERO: "a payment of zero: no top-up",
        Odd.PAYMENTS_MISSING: "items and no payment above zero: all of it came from suspense",
        Odd.PRICE_ZERO: "an item for nothing: no line of a trade; its freight is in the postage",
        Odd.NOTHING_TO_SELL: "a seller with items for nothing only: no trade; what was paid for freight went back",
        Odd.LINES_FOLDED: "more than 50 items of one seller: the last line holds the rest",
        Odd.CUSTOMER_UNKNOWN: "the customer is in no file: the order's own customer id is the buyer",
        Odd.SELLER_UNKNOWN: "the seller is in no file: traded all the same",
        Odd.TRADE_REFUSED: "the trade was refused when it was made: its money went back over its rails",
        Odd.LOW_REVIEW_AFTER_LATE_DELIVERY: "a review of 1 or 2 after a delivery later than estimated: a refund case, "
        "and after a 1 a dispute, by the rule of complaints; told to credit as a review and as a defect",
        Odd.REVIEW: "other reviews: told to credit; those of 1 or 2 become refund cases by the rule of complaints",
        Odd.ROW_UNREADABLE: "a line that cannot be used: left out, the rest of its order goes on",
        Odd.VALUE_UNREADABLE: "a value that cannot be read and may be missing: taken as missing",
        Odd.ROW_WITHOUT_ORDER: "a line of an order that is not in the file of orders: left out",
        Odd.ROW_TWICE: "a line that stands there twice: the second one is left out",
    }
)
"""What was done, in words."""

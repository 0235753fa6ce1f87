"""Which terms a trade is made on: those of the seller's grade, or the default grade's when credit cannot answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

from danbao_escrow.domain.fees import AskedFees, fees_of, scaled_fee_bps
from danbao_escrow.domain.model import FeePayer, Terms

DEFAULT_MODEL_VERSION = "default"
DEFAULT_GRADE = "C"

DEFAULT_LIMITS_MINOR = MappingProxyType({"CNY": 2_000_000, "BRL": 1_600_000, "USD": 280_000, "EUR": 260_000})
"""The default grade's largest trade; a currency that is not here is not traded while credit is away."""


@dataclass(frozen=True, slots=True)
class GradeTerms:
    """Credit's answer about a seller and a buyer."""

    grade: str
    score: int
    seller_blocked: bool
    buyer_blocked: bool
    fee_percent: int
    auto_confirm_days: int
    auto_confirm_by_operator: bool
    per_trade_limit_minor: int
    payout_delay_hours: int
    payout_by_operator: bool
    reserve_bps: int
    model_version: str
    terms_version: str
    defaulted: bool = False
    member: bool = False
    compensation_limit_minor: int = 0


def default_grade_terms(currency: str) -> GradeTerms:
    """What holds while credit cannot answer."""
    return GradeTerms(
        grade=DEFAULT_GRADE,
        score=0,
        seller_blocked=False,
        buyer_blocked=False,
        fee_percent=100,
        auto_confirm_days=10,
        auto_confirm_by_operator=False,
        per_trade_limit_minor=DEFAULT_LIMITS_MINOR.get(currency, 0),
        payout_delay_hours=48,
        payout_by_operator=False,
        reserve_bps=500,
        model_version=DEFAULT_MODEL_VERSION,
        terms_version=DEFAULT_MODEL_VERSION,
        defaulted=True,
    )


def without_terms(currency: str) -> GradeTerms:
    """Credit knows no terms in this currency: nothing can be traded in it."""
    return replace(default_grade_terms(currency), per_trade_limit_minor=0, defaulted=False)


def frozen_terms(credit: GradeTerms, asked: AskedFees) -> Terms:
    """The terms that stand on the trade; a fee that the caller names is taken as it is."""
    seller, buyer = fees_of(asked, standard_bps=scaled_fee_bps(credit.fee_percent))
    return Terms(
        grade=credit.grade,
        score=credit.score,
        model_version=credit.model_version,
        terms_version=credit.terms_version,
        fee_bps=seller.bps,
        auto_confirm_days=credit.auto_confirm_days,
        auto_confirm_by_operator=credit.auto_confirm_by_operator,
        per_trade_limit_minor=credit.per_trade_limit_minor,
        payout_delay_hours=credit.payout_delay_hours,
        payout_by_operator=credit.payout_by_operator,
        reserve_bps=credit.reserve_bps,
        defaulted=credit.defaulted,
        member=credit.member,
        compensation_limit_minor=credit.compensation_limit_minor,
        fee_fixed_minor=seller.fixed_minor,
        fee_cap_minor=seller.cap_minor,
        fee_payer=asked.payer or FeePayer.SELLER,
        buyer_fee_bps=buyer.bps,
        buyer_fee_fixed_minor=buyer.fixed_minor,
        buyer_fee_cap_minor=buyer.cap_minor,
    )

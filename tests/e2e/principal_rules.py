"""What is each principal answered, for every RPC of the three services? One row an RPC; test_principals.py asks.

The role half stands in the gateway's roles.yaml and is read from there. Here stands the object half: a row says which
fields of the body say whose it is (`about`), what those to whom it belongs are answered (`own`), what strangers are
(`foreign`), and what everybody is who asks for what does not exist (`missing`).

An answer is OK (something is there), EMPTY (OK, and nothing is), or CODE/REASON. Of a batch it is that of the first
operation that was refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from danbao_local.demo import CREDIT, ESCROW, PAYMENTS

OK = "OK"
EMPTY = "EMPTY"

OWNERS = ("buyer", "seller", "partner", "operator", "arbiter", "rail")
"""Those to whom the fixtures belong, or who see all; `rail` is the one that the fixtures' money went over."""

ROLE_OF = MappingProxyType(
    {
        "buyer": "user",
        "seller": "user",
        "partner": "partner",
        "operator": "operator",
        "arbiter": "arbiter",
        "rail": "rail",
    }
)
"""The role in the token of each owner."""

STRANGERS = ("user", "partner", "rail")
"""By role: those to whom nothing of the fixtures belongs."""

NOT_A_PARTY = "PERMISSION_DENIED/NOT_A_PARTY"
KIND_NOT_ALLOWED = "PERMISSION_DENIED/KIND_NOT_ALLOWED"
CONSENT_MISSING = "PERMISSION_DENIED/CONSENT_MISSING"
NOT_FOR_USERS = "PERMISSION_DENIED/ROLE_NOT_ALLOWED"
NOT_ELIGIBLE = "FAILED_PRECONDITION/NOT_ELIGIBLE"
NO_MONEY = "FAILED_PRECONDITION/INSUFFICIENT_FUNDS"


@dataclass(frozen=True, slots=True)
class Rule:
    """One RPC's row. Without `about` nothing in the body is anybody's: there is neither foreign nor missing."""

    about: tuple[str, ...] = ()
    own: Mapping[str, str] = field(default_factory=dict)
    foreign: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    # Foreign and missing differ, for this reason.
    differs: str = ""
    # The body names its own subject, whose token may do this: it is called as that subject too.
    itself: str = ""


def _not_found(noun: str) -> str:
    return f"NOT_FOUND/{noun}_NOT_FOUND"


def _all(answer: str, who: tuple[str, ...]) -> dict[str, str]:
    return dict.fromkeys(who, answer)


def reads(about: str, noun: str, *, buyer: bool = True, seller: bool = True) -> Rule:
    """A read by name: theirs, or as if it did not exist. `buyer`, `seller`: whether it is theirs as well."""
    own = _all(OK, OWNERS)
    if not buyer:
        own["buyer"] = _not_found(noun)
    if not seller:
        own["seller"] = _not_found(noun)
    nothing = _not_found(noun)
    return Rule((about,), own, _all(nothing, STRANGERS), _all(nothing, OWNERS))


def lists(*about: str, **own: str) -> Rule:
    """A list with a filter, or without one that is somebody's: strangers find nothing, not even a page token. `own`: of
    whom nothing is in it either."""
    own = _all(OK, OWNERS) | own
    return Rule(about, own, _all(EMPTY, STRANGERS), _all(EMPTY, OWNERS) if about else {})


def commands(about: str, noun: str, **own: str) -> Rule:
    """A command on something by name; strangers hear what they hear of what does not exist."""
    nothing = _not_found(noun)
    return Rule((about,), own, _all(nothing, STRANGERS), _all(nothing, OWNERS))


def shown_to_all(*about: str, missing: str = OK) -> Rule:
    """Whoever has the role is answered about everybody."""
    return Rule(about, _all(OK, OWNERS), _all(OK, STRANGERS), _all(missing, OWNERS), differs="it is shown to all")


def about_nobody(*who: str) -> Rule:
    """Nothing in it is anybody's; the role says it all. `who`: others than operators whom the role table may let in, so
    that opening a method to them is not done in that table alone."""
    return Rule(own=_all(OK, ("operator", *who)))


def officers(about: str, noun: str) -> Rule:
    """Only officers have the role; there are no strangers."""
    return Rule((about,), _all(OK, ("operator", "arbiter")), missing=_all(_not_found(noun), ("operator", "arbiter")))


_BUYERS = {"buyer": OK, "seller": NOT_A_PARTY, "partner": OK}
_SELLERS = {"buyer": NOT_A_PARTY, "seller": OK, "partner": OK}
_PAYEES = {"buyer": KIND_NOT_ALLOWED, "seller": OK, "partner": OK, "operator": OK}

_ACCOUNTS = f"{PAYMENTS}.AccountService"
_LEDGER = f"{PAYMENTS}.LedgerService"
_PAYMENTS = f"{PAYMENTS}.PaymentService"
_RECONCILIATIONS = f"{PAYMENTS}.ReconciliationService"
_TRADES = f"{ESCROW}.TradeService"
_REFUNDS = f"{ESCROW}.RefundService"
_DISPUTES = f"{ESCROW}.DisputeService"
_CLAIMS = f"{ESCROW}.CompensationService"
_CREDIT = f"{CREDIT}.CreditService"
_MEMBERSHIPS = f"{CREDIT}.MembershipService"
_RIGHTS = f"{CREDIT}.SubjectRightsService"
_MODELS = f"{CREDIT}.ModelService"

# A wallet's owner belongs to the partner that brought it; one that nobody has brought yet is whoever's brings it first.
_FIRST_COME = "who does not exist yet is brought by whoever asks first"
_WALLETS = {"buyer": OK, "seller": KIND_NOT_ALLOWED, "partner": OK, "operator": OK}
_NEWCOMERS = _WALLETS | {"buyer": KIND_NOT_ALLOWED}


def _from_wallets(about: str) -> Rule:
    """Money out of a wallet. Another partner's is as empty as one that nobody has."""
    empty = _NEWCOMERS | {"partner": NO_MONEY, "operator": NO_MONEY}
    return Rule((about,), _WALLETS, {"user": KIND_NOT_ALLOWED, "partner": NO_MONEY}, empty)


PAYMENTS_RULES: dict[str, Rule] = {
    f"{_ACCOUNTS}/GetAccount": reads("name", "ACCOUNT", seller=False),
    f"{_ACCOUNTS}/GetBalance": reads("account", "ACCOUNT", seller=False),
    f"{_ACCOUNTS}/ListEntries": reads("account", "ACCOUNT", seller=False),
    # Of one that is another's a partner is told what it is told of one that nobody has brought.
    f"{_ACCOUNTS}/GetOwner": Rule(("owner",), _all(OK, OWNERS), {"partner": OK}, _all(OK, OWNERS)),
    f"{_ACCOUNTS}/ListAccounts": lists("owner", seller=EMPTY),
    f"{_ACCOUNTS}/CreateAccount": Rule(
        ("account.owner",),
        {"partner": OK, "operator": OK},
        {"partner": _not_found("ACCOUNT")},
        {"partner": OK, "operator": OK},
        differs=_FIRST_COME,
    ),
    f"{_ACCOUNTS}/BatchCreateAccounts": about_nobody(),
    f"{_ACCOUNTS}/FreezeAccount": officers("name", "ACCOUNT"),
    f"{_ACCOUNTS}/UnfreezeAccount": officers("name", "ACCOUNT"),
    f"{_ACCOUNTS}/CloseAccount": officers("name", "ACCOUNT"),
    f"{_LEDGER}/PostTransaction": about_nobody(),
    f"{_LEDGER}/ReverseTransaction": officers("name", "TRANSACTION"),
    f"{_LEDGER}/GetTransaction": reads("name", "TRANSACTION"),
    f"{_LEDGER}/ListTransactions": reads("account", "ACCOUNT", seller=False),
    f"{_LEDGER}/VerifyChain": about_nobody(),
    f"{_LEDGER}/GetTrialBalance": about_nobody(),
    f"{PAYMENTS}.AuditService/GetAudit": about_nobody(),
    f"{PAYMENTS}.AuditService/GetAssetLoss": about_nobody(),
    f"{PAYMENTS}.AuditService/ListPrivilegedActions": about_nobody(),
    f"{PAYMENTS}.AuditService/VerifyPrivilegedActions": about_nobody(),
    f"{_PAYMENTS}/CreatePayment": _from_wallets("payer"),
    f"{_PAYMENTS}/CapturePayment": commands("name", "PAYMENT", **_PAYEES),
    f"{_PAYMENTS}/VoidPayment": commands("name", "PAYMENT", **_PAYEES),
    f"{_PAYMENTS}/RefundPayment": commands("name", "PAYMENT", **_PAYEES),
    f"{_PAYMENTS}/GetPayment": reads("name", "PAYMENT"),
    f"{_PAYMENTS}/ListPayments": lists("payer"),
    f"{_PAYMENTS}/CreateTopUp": Rule(
        ("owner",),
        _WALLETS,
        {"user": KIND_NOT_ALLOWED, "partner": _not_found("ACCOUNT")},
        _NEWCOMERS,
        differs=_FIRST_COME,
    ),
    f"{_PAYMENTS}/GetTopUp": reads("name", "TOP_UP", seller=False),
    f"{_PAYMENTS}/RefundTopUp": commands(
        "name", "TOP_UP", buyer=OK, seller=_not_found("TOP_UP"), partner=OK, operator=OK
    ),
    f"{_PAYMENTS}/CreateWithdrawal": _from_wallets("owner"),
    f"{_PAYMENTS}/GetWithdrawal": reads("name", "WITHDRAWAL", seller=False),
    f"{_PAYMENTS}/GetRailRefund": reads("name", "MOVEMENT", seller=False),
    f"{_PAYMENTS}/ReportRailResult": commands("movement", "MOVEMENT", rail=OK, operator=OK),
    f"{_PAYMENTS}/SetLimits": about_nobody(),
    f"{_PAYMENTS}/GetLimits": about_nobody("buyer", "seller", "partner"),
    f"{_PAYMENTS}/BatchExecute": Rule(
        ("operations.0.createPayment.payer", "operations.1.createTopUp.owner"),
        {"partner": OK, "operator": OK},
        {"partner": NO_MONEY},
        {"partner": NO_MONEY, "operator": NO_MONEY},
        differs=_FIRST_COME,
    ),
    f"{_RECONCILIATIONS}/ImportStatement": about_nobody(),
    f"{_RECONCILIATIONS}/GetReconciliation": officers("name", "RECONCILIATION"),
    f"{_RECONCILIATIONS}/ListReconciliationItems": officers("name", "RECONCILIATION"),
    f"{_RECONCILIATIONS}/ResolveReconciliationItem": officers("name", "RECONCILIATION_ITEM"),
    f"{PAYMENTS}.EventService/WatchEvents": about_nobody(),
    f"{PAYMENTS}.EventService/GetStreamHead": about_nobody(),
}

ESCROW_RULES: dict[str, Rule] = {
    f"{_TRADES}/CreateTrade": Rule(
        ("buyer", "actor.subject"),
        {"buyer": OK, "seller": NOT_A_PARTY, "partner": OK, "operator": NOT_A_PARTY},
        {"user": NOT_A_PARTY, "partner": OK},
        {"buyer": NOT_A_PARTY, "seller": NOT_A_PARTY, "partner": OK, "operator": NOT_A_PARTY},
        differs="a trade between two is a new one, whoever else knows them; what it moves, payments decides",
    ),
    f"{_TRADES}/AdjustPrice": commands("name", "TRADE", **_SELLERS),
    f"{_TRADES}/PayTrade": commands("name", "TRADE", **_BUYERS),
    f"{_TRADES}/ShipLines": commands("name", "TRADE", **_SELLERS),
    f"{_TRADES}/ReportDelivery": commands("name", "TRADE", **_SELLERS, operator=NOT_A_PARTY),
    f"{_TRADES}/ExtendConfirmation": commands("name", "TRADE", **_BUYERS),
    f"{_TRADES}/ConfirmLines": commands("name", "TRADE", **_BUYERS, operator=NOT_A_PARTY),
    f"{_TRADES}/CancelLines": commands("name", "TRADE", **_SELLERS),
    f"{_TRADES}/CancelTrade": commands("name", "TRADE", **_BUYERS, operator=NOT_A_PARTY),
    f"{_TRADES}/ReleaseHeld": officers("name", "TRADE"),
    f"{_TRADES}/CreateCheckout": commands("trades.0", "TRADE", **_BUYERS),
    f"{_TRADES}/PayCheckout": commands("name", "CHECKOUT", buyer=OK, seller=_not_found("CHECKOUT"), partner=OK),
    f"{_TRADES}/GetCheckout": reads("name", "CHECKOUT", seller=False),
    f"{_TRADES}/GetTrade": reads("name", "TRADE"),
    f"{_TRADES}/ListTrades": lists("buyer"),
    f"{_TRADES}/ListTradeTimeline": reads("trade", "TRADE"),
    f"{_TRADES}/BatchExecute": Rule(
        ("operations.0.createTrade.buyer", "operations.0.createTrade.actor.subject"),
        {"partner": OK, "operator": NOT_A_PARTY},
        {"partner": OK},
        {"partner": OK, "operator": NOT_A_PARTY},
        differs="a trade between two is a new one, whoever else knows them; what it moves, payments decides",
    ),
    f"{ESCROW}.AuditService/GetAudit": about_nobody(),
    f"{ESCROW}.AuditService/ListPrivilegedActions": about_nobody(),
    f"{ESCROW}.AuditService/VerifyPrivilegedActions": about_nobody(),
    f"{_REFUNDS}/OpenRefundCase": commands("trade", "TRADE", **_BUYERS),
    f"{_REFUNDS}/AcceptRefundCase": commands("name", "CASE", **_SELLERS),
    f"{_REFUNDS}/RejectRefundCase": commands("name", "CASE", **_SELLERS),
    f"{_REFUNDS}/SubmitReturn": commands("name", "CASE", **_BUYERS),
    f"{_REFUNDS}/ConfirmReturn": commands("name", "CASE", **_SELLERS),
    f"{_REFUNDS}/CancelRefundCase": commands("name", "CASE", **_BUYERS),
    f"{_REFUNDS}/GetRefundCase": reads("name", "CASE"),
    f"{_REFUNDS}/ListRefundCases": lists(),
    f"{_DISPUTES}/OpenDispute": commands("refundCase", "CASE", **_BUYERS),
    f"{_DISPUTES}/AddEvidence": commands("name", "DISPUTE", **_BUYERS, arbiter=NOT_A_PARTY),
    f"{_DISPUTES}/MakeOffer": commands("name", "DISPUTE", **_SELLERS),
    f"{_DISPUTES}/AcceptOffer": commands("name", "DISPUTE", **_BUYERS),
    f"{_DISPUTES}/DecideDispute": officers("name", "DISPUTE"),
    f"{_DISPUTES}/AppealDispute": commands("name", "DISPUTE", **_BUYERS),
    f"{_DISPUTES}/GetDispute": reads("name", "DISPUTE"),
    f"{_DISPUTES}/ListDisputes": lists(),
    f"{_CLAIMS}/OpenClaim": commands("trade", "TRADE", **_BUYERS),
    f"{_CLAIMS}/DecideClaim": officers("name", "CLAIM"),
    f"{_CLAIMS}/GetClaim": reads("name", "CLAIM"),
    f"{_CLAIMS}/ListClaims": lists("party"),
    f"{ESCROW}.EventService/WatchEvents": about_nobody(),
    f"{ESCROW}.EventService/GetStreamHead": about_nobody(),
}

# Scores are read by partners for purposes that the contract of trade allows, whoever's customer it is; others need the
# subject's consent, which is what SubjectRightsService's rows are about.
_SCORES = shown_to_all("subject")
_MEMBERS = {"buyer": _not_found("MEMBERSHIP"), "seller": _not_found("MEMBERSHIP"), "partner": OK, "operator": OK}
_NO_SUBJECT = _not_found("SUBJECT")

CREDIT_RULES: dict[str, Rule] = {
    f"{_CREDIT}/Evaluate": _SCORES,
    f"{_CREDIT}/BatchEvaluate": shown_to_all("requests.0.subject"),
    f"{_CREDIT}/GetProfile": _SCORES,
    f"{_CREDIT}/ListIndicatorValues": _SCORES,
    f"{_CREDIT}/ListScoreHistory": shown_to_all("subject", missing=EMPTY),
    f"{_CREDIT}/SimulateScore": _SCORES,
    f"{_CREDIT}/WatchScores": shown_to_all("subjects.0", missing=EMPTY),
    f"{_CREDIT}/GetTerms": _SCORES,
    f"{_CREDIT}/BatchGetTerms": shown_to_all("requests.0.subject"),
    f"{_CREDIT}/RecordEvents": shown_to_all("events.0.subject"),
    f"{_CREDIT}/ListIndicators": about_nobody("buyer", "seller", "partner", "arbiter"),
    f"{_CREDIT}/RebuildProfile": about_nobody(),
    f"{_CREDIT}/GetIngestStatus": about_nobody(),
    f"{_MEMBERSHIPS}/ApplyMembership": Rule(
        ("subject",),
        {"buyer": NOT_FOR_USERS, "seller": NOT_FOR_USERS, "partner": OK, "operator": OK},
        {"user": NOT_FOR_USERS, "partner": NOT_ELIGIBLE},
        {"buyer": NOT_FOR_USERS, "seller": NOT_FOR_USERS, "partner": NOT_ELIGIBLE, "operator": NOT_ELIGIBLE},
        itself=OK,
    ),
    f"{_MEMBERSHIPS}/GetMembership": reads("name", "MEMBERSHIP", buyer=False, seller=False),
    f"{_MEMBERSHIPS}/GetBadge": shown_to_all("subject"),
    f"{_MEMBERSHIPS}/ListMemberships": lists(buyer=EMPTY, seller=EMPTY),
    f"{_MEMBERSHIPS}/FundDeposit": commands("name", "MEMBERSHIP", **_MEMBERS),
    f"{_MEMBERSHIPS}/LeaveMembership": commands("name", "MEMBERSHIP", **_MEMBERS),
    f"{_MEMBERSHIPS}/SuspendMembership": officers("name", "MEMBERSHIP"),
    f"{_MEMBERSHIPS}/ReinstateMembership": officers("name", "MEMBERSHIP"),
    f"{_RIGHTS}/ListPurposes": about_nobody("buyer", "seller", "partner", "arbiter"),
    f"{_RIGHTS}/GrantConsent": Rule(
        ("subject",),
        {"buyer": OK, "seller": _NO_SUBJECT, "partner": "INVALID_ARGUMENT/FIELD_INVALID"},
        # A partner's grant is to itself, and says where it has the subject's word on record; this body does not.
        {"user": _NO_SUBJECT, "partner": "INVALID_ARGUMENT/FIELD_INVALID"},
        {"buyer": _NO_SUBJECT, "seller": _NO_SUBJECT, "partner": "INVALID_ARGUMENT/FIELD_INVALID"},
    ),
    f"{_RIGHTS}/RevokeConsent": commands(
        "name",
        "CONSENT",
        buyer=OK,
        seller=_not_found("CONSENT"),
        partner=_not_found("CONSENT"),
        operator=OK,
    ),
    f"{_RIGHTS}/ListConsents": Rule(
        ("subject",),
        {"buyer": OK, "seller": _NO_SUBJECT, "partner": OK, "operator": OK, "arbiter": OK},
        {"user": _NO_SUBJECT, "partner": OK},
        {"buyer": _NO_SUBJECT, "seller": _NO_SUBJECT, "partner": EMPTY, "operator": EMPTY, "arbiter": EMPTY},
        differs="a consent that was granted to all partners is shown to each of them",
    ),
    f"{_RIGHTS}/FileAppeal": Rule(
        ("subject",),
        {"buyer": _NO_SUBJECT, "seller": _NO_SUBJECT, "partner": OK},
        {"user": _NO_SUBJECT, "partner": CONSENT_MISSING},
        {"buyer": _NO_SUBJECT, "seller": _NO_SUBJECT, "partner": CONSENT_MISSING},
    ),
    f"{_RIGHTS}/WithdrawAppeal": commands(
        "name", "APPEAL", buyer=_not_found("APPEAL"), seller=_not_found("APPEAL"), partner=OK
    ),
    f"{_RIGHTS}/DecideAppeal": officers("name", "APPEAL"),
    f"{_RIGHTS}/GetAppeal": reads("name", "APPEAL", buyer=False, seller=False),
    # In a world of officers nobody has appealed.
    f"{_RIGHTS}/ListAppeals": lists("subject", buyer=EMPTY, seller=EMPTY, operator=EMPTY, arbiter=EMPTY),
    f"{_RIGHTS}/ExportSubjectData": Rule(
        ("subject",),
        {"buyer": OK, "seller": _NO_SUBJECT, "partner": CONSENT_MISSING, "operator": OK},
        {"user": _NO_SUBJECT, "partner": CONSENT_MISSING},
        {"buyer": _NO_SUBJECT, "seller": _NO_SUBJECT, "partner": CONSENT_MISSING, "operator": OK},
    ),
    f"{_RIGHTS}/EraseSubject": Rule(
        ("subject",),
        {"buyer": _NO_SUBJECT, "seller": _NO_SUBJECT, "operator": OK},
        {"user": _NO_SUBJECT},
        {"buyer": _NO_SUBJECT, "seller": _NO_SUBJECT, "operator": OK},
        itself=OK,
    ),
    f"{_MODELS}/CreateModelVersion": about_nobody(),
    f"{_MODELS}/ValidateModelVersion": officers("name", "MODEL_VERSION"),
    f"{_MODELS}/PromoteModelVersion": officers("name", "MODEL_VERSION"),
    f"{_MODELS}/RollbackModel": about_nobody(),
    f"{_MODELS}/SetChallenger": officers("name", "MODEL_VERSION"),
    f"{_MODELS}/GetModelVersion": officers("name", "MODEL_VERSION"),
    f"{_MODELS}/ListModelVersions": about_nobody(),
    f"{_MODELS}/GetDriftReport": about_nobody(),
    f"{CREDIT}.AuditService/ListPrivilegedActions": about_nobody(),
    f"{CREDIT}.AuditService/VerifyPrivilegedActions": about_nobody(),
    f"{CREDIT}.EventService/WatchEvents": about_nobody(),
    f"{CREDIT}.EventService/GetStreamHead": about_nobody(),
}

RULES: Mapping[str, Rule] = MappingProxyType(PAYMENTS_RULES | ESCROW_RULES | CREDIT_RULES)
"""By full method name."""

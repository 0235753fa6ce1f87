"""Every RPC has a body, and the paths are those of the contracts."""

import datetime

import jwt
import pytest

from danbao_gateway.roles import shipped_rules
from danbao_local import business_clock
from danbao_local.calls import EXAMPLES
from danbao_local.contracts import unary_rules
from danbao_local.errors import StackFailed
from danbao_local.tokens import AUDIENCE, ISSUER, TokenIssuer


def test_every_unary_rpc_has_an_example_and_no_example_is_too_much() -> None:
    assert sorted(rule.rpc for rule in unary_rules()) == sorted(EXAMPLES)


def test_every_example_uses_a_role_that_may_call() -> None:
    rules = shipped_rules()
    assert {rpc for rpc, (role, _) in EXAMPLES.items() if role not in rules[rpc]} == set()


@pytest.mark.parametrize(
    ("rpc", "body", "path"),
    [
        ("danbao.payments.v1.PaymentService/GetPayment", {"name": "payments/7"}, "/v1/payments/7"),
        ("danbao.payments.v1.PaymentService/VoidPayment", {"name": "payments/7"}, "/v1/payments/7:void"),
        ("danbao.payments.v1.AccountService/ListAccounts", {"owner": "subjects/a"}, "/v1/accounts?owner=subjects%2Fa"),
        (
            "danbao.credit.v1.CreditService/GetTerms",
            {"subject": "subjects/a", "currency": "CNY"},
            "/v1/subjects/a/terms?currency=CNY",
        ),
        ("danbao.escrow.v1.TradeService/CreateTrade", {}, "/v1/trades"),
        ("danbao.escrow.v1.RefundService/ListRefundCases", {"openOnly": True}, "/v1/refundCases?openOnly=true"),
    ],
)
def test_a_path_is_filled_from_the_body(rpc: str, body: dict[str, str], path: str) -> None:
    rule = next(rule for rule in unary_rules() if rule.rpc == rpc)
    assert rule.path(body) == path


def test_tokens_are_good_for_the_published_key(tmp_path) -> None:  # type: ignore[no-untyped-def]
    issuer = TokenIssuer(tmp_path)
    key = jwt.PyJWKSet.from_json(issuer.jwks_path.read_text()).keys[0]
    for role, token in issuer.token_per_role().items():
        claims = jwt.decode(token, key.key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)
        assert claims["roles"] == [role]
    assert '"d"' not in issuer.jwks_path.read_text()
    assert TokenIssuer(tmp_path).jwks_path.read_text() == issuer.jwks_path.read_text()


def test_durations_are_read_and_nonsense_is_refused() -> None:
    assert business_clock.parse_duration("1d12h30m") == datetime.timedelta(days=1, hours=12, minutes=30)
    for text in ("", "10", "d", "1d x"):
        with pytest.raises(StackFailed):
            business_clock.parse_duration(text)

"""Which texts are taken for a payment card's number, and that none gets in by any field."""

import random
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danbao.credit.v1 import credit_pb2
from danbao.escrow.v1 import dispute_pb2, evidence_pb2, trade_pb2
from danbao.payments.v1 import payment_pb2, reconciliation_pb2
from danbao_kit.card_numbers import holds_card_number, may_hold_card_number
from danbao_kit.errors import CardNumber, FieldInvalid
from danbao_kit.validation import check

# What networks and their processors publish for tests.
PUBLISHED = (
    "378282246310005",  # American Express
    "371449635398431",
    "30569309025904",  # Diners Club
    "36227206271667",
    "6011111111111117",  # Discover
    "3530111333300000",  # JCB
    "3566002020360505",
    "5555555555554444",  # Mastercard
    "5105105105105100",
    "2223003122003222",
    "4111111111111111",  # Visa
    "4242424242424242",
    "4222222222222",
    "6759649826438453",  # Maestro
    "6200000000000005",  # UnionPay
    "6205500000000000004",
    "2201382000000013",  # Mir
    "6362970000457013",  # Elo
)
NAME = "payments/00000000-0000-0000-0000-000000000000"


def found(text):
    """What a message with this text is told, by way of its bytes and by the text itself: one may only be the surer."""
    surely = holds_card_number(text)
    assert may_hold_card_number(text.encode()) or not surely
    return surely


def off_by_one(number):
    return number[:-1] + str((int(number[-1]) + 1) % 10)


@pytest.mark.parametrize("number", PUBLISHED)
@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "card {}, thanks",
        "card:{}",
        "pan{}",
        "{}x",
        "1. {}",
        "卡号{}。",
        "=?{}&",
        "{} 12 27",
        "12 {}",
        "2026-11-29 {}",
        "a\n{}\nb",
    ],
)
def test_a_card_s_number_is_found_wherever_it_stands(number, form):
    assert found(form.format(number))


@pytest.mark.parametrize(
    "between",
    [
        *(" ", "-", "  ", " - ", "\u00a0", "\u2009", "\u2011", "\u2013", "\u200b", "\u3000"),
        *("\u202f", "\u205f", "\ufe63", "\u2212", "\u2060", "\u00ad", "\ufeff", "\u2060 \u2060", "\uff0d"),
    ],
)
@pytest.mark.parametrize("number", ["4242424242424242", "5555555555554444"])
def test_groups_of_a_card_s_number_are_one_number(number, between):
    groups = [number[at : at + 4] for at in range(0, 16, 4)]
    assert found(between.join(groups))
    assert found(between.join(number))
    assert not found(between.join(off_by_one(number)))


@pytest.mark.parametrize(
    "between", ["\t", "\n", "\r\n", ".", "/", "_", " / ", " . ", "--_", "\uff0e", "\u00b7", "\u2044", "\u2028"]
)
@pytest.mark.parametrize("number", ["4242424242424242", "5555555555554444", "378282246310005", "30569309025904"])
def test_the_groups_that_a_card_is_printed_in_may_have_other_signs_between(number, between):
    cuts = (4, 8, 12, 16) if len(number) == 16 else (4, 10, 15)
    groups = [number[start:end] for start, end in zip((0, *cuts), cuts, strict=False)]
    assert found(between.join(groups))
    assert found(f"1234 {between.join(groups)}, thanks")
    assert not found(between.join([*groups[:-1], off_by_one(groups[-1])]))
    assert not found(between.join([*groups[:-1], groups[-1] + "0000"]))


def test_groups_that_belong_to_no_card_may_stand_before():
    assert found("1234/4242/4242/4242/4242")
    assert found("12_1234_3782_822463_10005")


def test_a_long_number_may_have_other_signs_between_too():
    assert found("6205.5000.0000.0000.004")
    assert not found("6205.5000.0000.0000.005")


@pytest.mark.parametrize(
    "zero",
    [0xFF10, 0x0660, 0x06F0, 0x0966, 0x0E50, 0x1D7CE, 0x1D7F6],
    ids=["wide", "Arabic", "Persian", "Devanagari", "Thai", "bold", "monospace"],
)
def test_digits_of_every_form_are_digits(zero):
    digits = "".join(chr(ord(digit) - ord("0") + zero) for digit in "4242424242424242")
    assert found(f"卡 {digits}")
    assert found(digits)
    assert not found(off_by_one("4242424242424242").translate({ord("0") + n: chr(zero + n) for n in range(10)}))


def test_raised_circled_and_key_digits_are_digits():
    for two, four in (("²", "⁴"), ("②", "④"), ("2\ufe0f\u20e3", "4\ufe0f\u20e3"), ("٢", "4")):
        assert found((four + two) * 8)
        assert found(" ".join([(four + two) * 2] * 4))


@pytest.mark.parametrize("number", PUBLISHED)
def test_one_digit_off_is_no_card(number):
    assert not found(off_by_one(number))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "422222222222",  # 12 digits
        "42424242424242424242",  # 20
        "00004242424242424242000042424242",
        "1764405253000",  # a time in milliseconds
        "1764405253000000",  # in microseconds
        "20261129083413000",  # as a date
        "2026-11-29T08:34:13.424242424242424Z",
        "+86 138 0013 8000",
        "8613800138000",
        "0.4242424242424242",
        "12.4242424242424242",
        "4.242.424.242.424.242",
        "4,242,424,242,424,242",
        "4242/4242/42424242",
        "42/42/4242/4242/4242",
        "1234.5678",
        "4242.4242 4242.4242",
        "4242.4242, 4242.4242",
        "4242_4242 4242/4242",
        "42_4242424242424_2",
        "4242.424.242.424.242",
        "42\n42\n42\n42\n42\n42\n42\n42",
        "2026/1129/083413/4242",
        "1111111111111117",  # nobody's range, though Luhn holds
        "0000000000000000",
        "9999999999999995",
        "7000000000000005",
        "e481f51cbdc54678b7cc49136f2d6af7",  # an order of the replay
        "42424242424242424242424242424242",
        "2c4242424242424242aaaaaaaaaaaaaa",
        "41111111-1111-4111-8111-111111111111",
        "42424242-4242-4242-4242-424242424242",
        "trades/42424242-4242-4242-4242-424242424242",
        "RR123456785CN",
        "SF1234567890123",
    ],
)
def test_other_numbers_are_let_through(text):
    assert not found(text)


def test_a_uuid_beside_a_card_s_number_does_not_hide_it():
    assert found("42424242-4242-4242-4242-424242424242 4242424242424242")
    assert found("4242424242424242 42424242-4242-4242-4242-424242424242")


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111111-1111-1111-1111-111111111111",
        "11111111-1111-1111-1111-1111111111114111111111111111",
        "４11111111-1111-1111-1111-111111111111",
        "４\u200b11111111-1111-1111-1111-111111111111",
        "中11111111-1111-1111-1111-111111111111",
    ],
)
def test_what_only_looks_like_a_uuid_hides_nothing(text):
    found(text)


def test_a_longer_first_group_makes_no_uuid():
    assert found("4111111111111111-1111-1111-1111-111111111111")


def test_no_uuid_and_no_hash_is_taken_for_a_card_s_number():
    dice = random.Random(44)
    for _ in range(20_000):
        name = str(uuid.UUID(int=dice.getrandbits(128), version=4))
        assert not holds_card_number(name)
        assert not holds_card_number(f"{dice.getrandbits(256):064x}")
        digits = str(uuid.UUID(f"{dice.randrange(10**31, 10**32)}"))
        assert not holds_card_number(digits)
        assert not may_hold_card_number(digits.encode())


SIGNS = (
    "0123456789 -\t\n\r./_,aAé$x中，。４２٤۴४๔²⁴④㉑⑽½𝟒\u00a0\u00ad\u2009\u200b\u2011\u2013\u202f\u205f\u2060\u2212"
    "\u3000\ufe0f\u20e3\ufe63\ufeff\u0338\uff0d\uff0f\uff3f\u00b7"
)
GROUPS_OF = st.sampled_from(
    ["4", "42", "4242", "42424242", "424242424242", "４２４２", "٤٢٤٢", "⁴²⁴²", "11111111-1111-1111"]
)


@settings(max_examples=600, derandomize=True, database=None, deadline=None)
@given(
    st.one_of(
        st.text(alphabet=SIGNS, max_size=60),
        st.lists(st.one_of(GROUPS_OF, st.text(alphabet=SIGNS, max_size=3)), max_size=14).map("".join),
        st.tuples(st.sampled_from(PUBLISHED), st.lists(st.text(alphabet=SIGNS[10:], max_size=3), min_size=19)).map(
            lambda made: "".join(digit + sign for digit, sign in zip(*made, strict=False))
        ),
    )
)
def test_what_the_bytes_cannot_hold_no_text_does(text):
    found(text)
    found(f"{text} 4242-4242-4242-4242")
    found(f"{text}-4242-4242-4242-424242424242")
    assert found(f"{text}; 4242424242424242")
    wire = payment(description=text, metadata={"note": text}).SerializeToString()
    assert may_hold_card_number(wire) or not holds_card_number(text)


def payment(**changed):
    return payment_pb2.CreatePaymentRequest(
        request_id="1",
        payer="subjects/a",
        payee={"owner": "trades/1", "kind": "escrow.held"},
        amount={"currency": "CNY", "amount_minor": 1},
        capture_mode="CAPTURE_MODE_AUTOMATIC",
        **changed,
    )


CARD = "4242 4242 4242 4242"
LINE = {"line_id": "1", "title": "book", "amount": {"currency": "CNY", "amount_minor": 4242424242424242}}


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (payment(description=f"from {CARD}"), "description"),
        (payment(instrument="4242424242424242"), "instrument"),
        (payment(metadata={"note": CARD}), "metadata"),
        (payment(metadata={CARD: "1", "note": CARD}), "metadata"),
        (
            dispute_pb2.OpenDisputeRequest(
                request_id="1",
                actor={"role": "ROLE_BUYER", "subject": "subjects/a"},
                refund_case="refundCases/00000000-0000-0000-0000-000000000000",
                evidence=[
                    evidence_pb2.NewEvidence(
                        uri=uri, sha256=32 * "42", size_bytes=1, media_type="image/png", note="receipt"
                    )
                    for uri in ("s3://a", "https://shop.example/4242-4242-4242-4242")
                ],
            ),
            "evidence[1].uri",
        ),
        (payment_pb2.VoidPaymentRequest(request_id="4242424242424242", name=NAME), "request_id"),
        (credit_pb2.GetProfileRequest(subject="subjects/4242424242424242"), "subject"),
    ],
)
def test_a_message_that_holds_one_is_refused_by_its_field_and_the_text_is_not_told(message, field):
    with pytest.raises(CardNumber) as refused:
        check(message)
    assert [each.field for each in refused.value.fields] == [field]
    assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", "CARD_NUMBER")
    assert "4242" not in repr((refused.value, refused.value.message, refused.value.fields, refused.value.metadata))


def test_numbers_that_are_no_texts_are_let_through():
    check(payment(description="order 17"))
    check(
        trade_pb2.CreateTradeRequest(
            request_id=str(uuid.uuid4()),
            actor={"role": "ROLE_BUYER", "subject": "subjects/a"},
            buyer="subjects/a",
            seller="subjects/b",
            lines=[LINE],
            total=LINE["amount"],
            reference="e481f51cbdc54678b7cc49136f2d6af7",
        )
    )


def test_each_operation_of_a_batch_is_refused_in_its_own_place():
    check(payment_pb2.BatchExecuteRequest(operations=[{"create_payment": payment(description=CARD)}]))
    with pytest.raises(CardNumber) as refused:
        check(payment_pb2.Operation(create_payment=payment(description=CARD)))
    assert [each.field for each in refused.value.fields] == ["create_payment.description"]


def test_the_contract_s_rules_come_first_and_name_no_key_of_a_map():
    with pytest.raises(FieldInvalid) as refused:
        check(payment(metadata={"4242424242424242": "a" * 257}, description=CARD))
    assert (refused.value.reason, [each.field for each in refused.value.fields]) == ("FIELD_INVALID", ["metadata"])
    lines = reconciliation_pb2.StatementLines(
        lines=[
            {"external_id": "1", "direction": "RAIL_DIRECTION_IN", "amount_minor": 1, "booking_date": "2026-01-01"},
            {"external_id": "2", "direction": "RAIL_DIRECTION_IN", "amount_minor": 1, "booking_date": CARD},
        ]
    )
    with pytest.raises(FieldInvalid) as refused:
        check(lines)
    assert [each.field for each in refused.value.fields] == ["lines[1].booking_date"]

"""The kit's pure parts: money, fingerprints, working sets, versions of values, page tokens, ids, trace contexts."""

import dataclasses
from dataclasses import dataclass, make_dataclass
from datetime import UTC, datetime
from typing import ClassVar

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Link

from danbao_kit.errors import DanbaoError, FieldInvalid, FieldViolation, PageTokenInvalid
from danbao_kit.fingerprint import differing_field, fingerprint
from danbao_kit.immutable import made_of, replace
from danbao_kit.money import CurrencyUnknown, Money, check_currency, decimal_text, exponent, text
from danbao_kit.paging import decode_token, encode_token
from danbao_kit.rpc_status import status_of
from danbao_kit.telemetry import FollowLinks, SettledResource, format_traceparent, parse_traceparent
from danbao_kit.time_ordered_ids import TimeOrderedIds
from danbao_kit.timestamps import moment_of
from danbao_kit.working_set import WorkingSet


@pytest.mark.parametrize(
    ("currency", "digits", "shown"),
    [("CNY", 2, "12.34"), ("JPY", 0, "1234"), ("KWD", 3, "1.234"), ("UYW", 4, "0.1234")],
)
def test_minor_units_follow_iso_4217(currency, digits, shown):
    assert exponent(currency) == digits
    assert decimal_text(currency, 1234) == shown
    assert text(Money(currency, -1234)) == f"-{shown} {currency}"


@pytest.mark.parametrize("currency", ["", "ZZZ", "cny", "XAU", "CNY ", "¥"])
def test_what_is_no_currency_is_refused(currency):
    with pytest.raises(CurrencyUnknown):
        check_currency(currency, "amount.currency")


@pytest.mark.parametrize(
    ("seconds", "nanos", "moment"),
    [
        (0, 0, datetime(1970, 1, 1, tzinfo=UTC)),
        (32_503_679_999, 999_999_999, datetime(2999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_a_time_that_a_caller_may_name_is_taken_to_the_microsecond(seconds, nanos, moment):
    assert moment_of(Timestamp(seconds=seconds, nanos=nanos), "at") == moment


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(-1, 999_999_999), (-62_135_596_800, 0), (32_503_680_000, 0), (10**15, 0), (-(10**15), 0), (0, -1), (0, 10**9)],
)
def test_a_time_that_stores_and_sums_cannot_tell_is_refused(seconds, nanos):
    with pytest.raises(FieldInvalid) as caught:
        moment_of(Timestamp(seconds=seconds, nanos=nanos), "at")
    assert [each.field for each in caught.value.fields] == ["at"]


@dataclass(frozen=True)
class Order:
    goods: object
    pieces: int
    origin: str = ""
    not_fingerprinted: ClassVar[tuple[str, ...]] = ("origin",)


def test_a_fingerprint_names_the_differing_field():
    recorded = fingerprint(Order("tea", 1, "here"))
    assert differing_field(Order("tea", 1, "there"), recorded) is None
    assert differing_field(Order("tea", 2), recorded) == "pieces"
    assert differing_field(Order("silk", 1), recorded) == "goods"


def test_money_is_fingerprinted_as_any_value_is():
    other = make_dataclass("Money", ["currency", "minor"])
    assert repr(Money("C'NY", -1)) == repr(other("C'NY", -1))
    bought = Order("tea", Money("CNY", 7))
    assert fingerprint(bought) == fingerprint(Order("tea", other("CNY", 7)))
    assert fingerprint(bought).hex() == "bddefdf9b61d00963c47e85fa115e2210563c66ed584b92d70263b51"


@dataclass(frozen=True)
class LaterOrder:
    """Order, as a later version of a service has it."""

    goods: str
    gift: bool = False
    pieces: int = 1


def test_a_field_added_later_does_not_change_the_requests_recorded_before():
    recorded = fingerprint(Order("tea", 5))
    assert differing_field(LaterOrder("tea", pieces=5), recorded) is None
    assert differing_field(LaterOrder("tea", gift=True, pieces=5), recorded) == "gift"
    assert differing_field(LaterOrder("tea", pieces=6), recorded) == "pieces"


def test_a_refusal_stays_small_whatever_the_caller_sent():
    fields = tuple(FieldViolation("lines[0]" * 1000, "wrong " * 1000) for _ in range(1000))
    status = status_of(FieldInvalid(*fields))
    assert status.ByteSize() < 8192
    assert status_of(DanbaoError("x" * 10_000, note="y" * 10_000)).ByteSize() < 1024


@given(st.text(), st.integers(), st.text(), st.integers())
def test_equal_fingerprints_mean_equal_commands(goods, pieces, other_goods, other_pieces):
    same = (goods, pieces) == (other_goods, other_pieces)
    assert (differing_field(Order(goods, pieces), fingerprint(Order(other_goods, other_pieces))) is None) == same


class Shelf(WorkingSet):
    def __init__(self):
        super().__init__()
        self.books = self.rows()
        self.notes = self.log()


def test_a_discarded_draft_leaves_no_trace():
    shelf = Shelf()
    shelf.books.load("a", 1)
    shelf.books.put("a", 2)
    shelf.books.put("b", 1)
    shelf.notes.append("x")
    shelf.discard()
    assert shelf.books.get("a") == 1
    assert "b" not in shelf.books
    assert shelf.notes.accepted == []
    shelf.books.put("a", 3)
    shelf.accept()
    shelf.books.put("a", 4)
    assert shelf.books.get("a") == 4
    shelf.discard()
    assert shelf.books.get("a") == 3
    assert shelf.books.updated() == [("a", 3)]
    assert shelf.books.created() == []


def test_a_page_token_belongs_to_its_list():
    token = encode_token("entries/1", "42")
    assert decode_token("entries/1", token) == "42"
    for scope, forged in (("entries/2", token), ("entries/1", "!"), ("entries/1", ""), ("entries/1", token[:-3])):
        if scope == "entries/1" and forged == token[:-3]:
            continue
        with pytest.raises(PageTokenInvalid):
            decode_token(scope, forged)


def test_ids_are_versioned_and_ordered_by_time():
    ids = TimeOrderedIds()
    made = [ids.new() for _ in range(100)]
    assert len(set(made)) == 100
    assert {one.version for one in made} == {7}
    assert made[0].int >> 80 <= made[-1].int >> 80


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        "00-0-0-0",
        f"00-{'0' * 32}-{'1' * 16}-01",
        f"00-{'g' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
    ],
)
def test_what_is_no_trace_context_is_ignored(header):
    assert parse_traceparent(header) is None


def test_a_trace_context_survives_the_way_there_and_back():
    header = f"00-{'1a' * 16}-{'2b' * 8}-01"
    assert format_traceparent(parse_traceparent(header)) == header


@pytest.mark.parametrize("flags", [0, 1])
def test_linked_work_is_sampled_as_what_caused_it(flags):
    cause = parse_traceparent(f"00-{'1a' * 16}-{'2b' * 8}-0{flags}")
    sampler = FollowLinks(ALWAYS_OFF)
    decision = sampler.should_sample(None, 1, "credit.apply_event", links=[Link(cause)]).decision
    assert decision.is_sampled() == bool(flags)


def test_a_settled_resource_is_the_resource_it_was_made_of():
    resource = Resource.create({"service.name": "payments"})
    settled = SettledResource(resource)
    assert (settled, hash(settled)) == (resource, hash(resource))
    assert {resource: "spans"}[settled] == "spans"


@dataclass(frozen=True)
class Parcel:
    number: int
    weight_g: int = 0
    notes: tuple[str, ...] = ()


def test_another_version_of_a_value_is_what_dataclasses_would_make():
    parcel = Parcel(1, notes=("fragile",))
    assert replace(parcel, weight_g=2) == dataclasses.replace(parcel, weight_g=2) == Parcel(1, 2, ("fragile",))
    assert parcel == Parcel(1, 0, ("fragile",)), "the version before stays"
    assert made_of(Parcel, {"number": 1, "weight_g": 2, "notes": ()}) == Parcel(1, 2)
    assert hash(replace(parcel)) == hash(parcel)
    with pytest.raises(dataclasses.FrozenInstanceError):
        replace(parcel).number = 9


def test_a_field_that_there_is_not_is_refused():
    with pytest.raises(TypeError, match="Parcel has no field wieght_g"):
        replace(Parcel(1), wieght_g=2)

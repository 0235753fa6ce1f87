"""The chain of privileged actions, without a store: what every change to it is found to be."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danbao.payments.v1 import account_pb2, payment_pb2, rail_pb2
from danbao.type.v1 import money_pb2
from danbao_kit.acting import Acting, object_of, subject_of, why_of, why_of_header
from danbao_kit.call import Call
from danbao_kit.errors import CardNumber, FieldInvalid
from danbao_kit.privileged_actions import (
    BEGINNING,
    Break,
    Entry,
    Place,
    PrivilegedAction,
    Words,
    broken,
    broken_at_end,
    chained,
    entry_hash,
)

AT = datetime(2026, 11, 29, tzinfo=UTC)


def told(number: int) -> tuple[PrivilegedAction, Words]:
    words = Words(bytes([number] * 16), f"request-{number}", b"\1", "", f"accounts/{number}", "because")
    action = PrivilegedAction(
        create_time=AT + timedelta(seconds=number),
        method="danbao.payments.v1.AccountService/FreezeAccount",
        operation="FreezeAccount",
        caller_kind="TOKEN",
        actor="op-1",
        roles="operator",
        partner="",
        outcome="OK",
        trace_id="ab" * 16,
        words_digest=words.digest(),
    )
    return action, words


def log_of(count: int) -> list[Entry]:
    return chained(BEGINNING, [told(number) for number in range(1, count + 1)])


def first_break(entries: list[Entry], head: Place, *, words_may_go: bool = False) -> Break | None:
    reached = BEGINNING
    for entry in sorted(entries, key=lambda each: each.sequence):
        found = broken(entry, reached, words_may_go=words_may_go)
        if found is not None:
            return found
        reached = Place(entry.sequence, entry.hash)
    return broken_at_end(reached, head, max((entry.sequence for entry in entries), default=0))


def head_of(entries: list[Entry]) -> Place:
    return Place(entries[-1].sequence, entries[-1].hash) if entries else BEGINNING


@pytest.mark.parametrize("count", [0, 1, 5])
def test_what_was_chained_is_whole(count):
    entries = log_of(count)
    assert first_break(entries, head_of(entries)) is None


def test_a_chain_goes_on_where_it_was_left():
    first = chained(BEGINNING, [told(1), told(2)])
    second = chained(head_of(first), [told(3)])
    assert [*first, *second] == log_of(3)


CHANGES = {
    "create_time": AT,
    "method": "x/Y",
    "operation": "UnfreezeAccount",
    "caller_kind": "CERTIFICATE",
    "actor": "op-2",
    "roles": "arbiter",
    "partner": "acme",
    "outcome": "ACCOUNT_CLOSED",
    "trace_id": "",
    "words_digest": bytes(32),
}


def test_every_field_of_an_action_is_among_those_changed_below():
    assert set(CHANGES) == {field.name for field in dataclasses.fields(PrivilegedAction)}


@pytest.mark.parametrize("field", CHANGES)
def test_a_changed_field_is_found_at_its_entry(field):
    entries = log_of(5)
    changed = dataclasses.replace(entries[2].action, **{field: CHANGES[field]})
    entries[2] = dataclasses.replace(entries[2], action=changed)
    assert first_break(entries, head_of(entries)) == Break(3, "was changed")


@pytest.mark.parametrize("field", ["salt", "request_id", "fingerprint", "subject", "object", "why"])
def test_a_changed_word_is_found_at_its_entry(field):
    entries = log_of(5)
    words = entries[2].words
    other = b"other" if isinstance(getattr(words, field), bytes) else "other"
    entries[2] = dataclasses.replace(entries[2], words=dataclasses.replace(words, **{field: other}))
    assert first_break(entries, head_of(entries)) == Break(3, "says other words than were written")


def test_words_that_are_gone_are_a_break_only_where_nobody_is_erased():
    entries = log_of(5)
    entries[2] = dataclasses.replace(entries[2], words=None)
    assert first_break(entries, head_of(entries)) == Break(3, "lacks its words")
    assert first_break(entries, head_of(entries), words_may_go=True) is None


def test_letters_moved_from_one_field_to_the_next_are_another_entry():
    entries = log_of(1)
    action = dataclasses.replace(entries[0].action, operation="FreezeAccountT", caller_kind="OKEN")
    assert entry_hash(1, action, b"") != entries[0].hash


def test_what_is_taken_away_is_missing_at_its_place():
    entries = log_of(5)
    head = head_of(entries)
    for number in range(1, 6):
        found = first_break([entry for entry in entries if entry.sequence != number], head)
        assert found is not None
        assert found.sequence == number
        assert found.what.startswith("is missing")
    assert first_break([], head) == Break(1, "is missing: the head is 5")


def test_two_that_changed_places_are_found_at_the_first():
    entries = log_of(5)
    second, fourth = entries[1], entries[3]
    entries[1] = dataclasses.replace(fourth, sequence=2)
    entries[3] = dataclasses.replace(second, sequence=4)
    assert first_break(entries, head_of(entries)) == Break(2, "does not follow from the entry before it")


def test_one_put_in_is_found_where_it_stands():
    entries = log_of(5)
    head = head_of(entries)
    follows = chained(head, [told(6)])
    assert first_break([*entries, *follows], head) == Break(6, "stands behind the head")
    first = dataclasses.replace(entries[0], sequence=0)
    assert first_break([first, *entries], head) == Break(0, "stands where no entry belongs")
    shifted = [dataclasses.replace(entry, sequence=entry.sequence + (entry.sequence > 2)) for entry in entries]
    put_in = dataclasses.replace(chained(Place(2, entries[1].hash), [told(9)])[0], sequence=3)
    found = first_break([*shifted, put_in], head)
    assert found == Break(4, "does not follow from the entry before it")


def test_a_log_written_anew_from_some_entry_on_is_whole_and_only_its_head_is_another():
    """What the chain alone cannot show: why the head is to be noted elsewhere."""
    entries = log_of(5)
    anew = chained(Place(2, entries[1].hash), [told(number) for number in (7, 8, 9)])
    written = [*entries[:2], *anew]
    assert first_break(written, head_of(written)) is None
    assert head_of(written) != head_of(entries)


@settings(max_examples=60, derandomize=True)
@given(st.integers(0, 9), st.integers(0, 9), st.sampled_from(["drop", "copy", "swap", "alter", "relink"]))
def test_whatever_is_done_to_one_entry_the_chain_is_not_whole(one, other, how):
    entries = log_of(10)
    head = head_of(entries)
    if how == "drop":
        del entries[one]
    elif how == "copy":
        if entries[one].sequence == entries[other].sequence:
            return
        entries[one] = dataclasses.replace(entries[other], sequence=entries[one].sequence)
    elif how == "swap":
        if one == other:
            return
        entries[one], entries[other] = (
            dataclasses.replace(entries[other], sequence=entries[one].sequence),
            dataclasses.replace(entries[one], sequence=entries[other].sequence),
        )
    elif how == "alter":
        entries[one] = dataclasses.replace(entries[one], hash=bytes(32))
    else:
        # A cleverer hand: the entry is changed and its own hash made right again.
        action = dataclasses.replace(entries[one].action, actor="somebody else")
        made = entry_hash(entries[one].sequence, action, entries[one].previous_hash)
        entries[one] = dataclasses.replace(entries[one], action=action, hash=made)
    found = first_break(entries, head)
    assert found is not None
    assert found.sequence <= max(one, other) + 2


# Who acts, upon what and why, is read from any contract by its fields' names.


def test_the_roles_and_the_certificate_that_make_a_call_privileged():
    def privileged(peer="gateway", *roles):
        return Call(method="x/Y", peer=peer, roles=frozenset(roles)).is_privileged

    for roles in (("operator",), ("arbiter",), ("rail",), ("user", "operator"), ("auditor",)):
        assert privileged("gateway", *roles), roles
    for roles in ((), ("user",), ("partner",), ("user", "partner")):
        assert not privileged("gateway", *roles), roles
    assert privileged("operator")
    for peer in ("escrow", "credit", "payments", ""):
        assert not privileged(peer), peer


def test_the_object_is_the_request_s_name_else_the_reply_s_else_the_first_resource_named():
    frozen = account_pb2.FreezeAccountRequest(request_id="1", name="accounts/1")
    assert object_of(frozen, None) == "accounts/1"
    asked = payment_pb2.CreatePaymentRequest(request_id="topUps/not-me", payer="subjects/b")
    assert object_of(asked, payment_pb2.Payment(name="payments/1")) == "payments/1"
    assert object_of(asked, None) == "subjects/b"
    report = rail_pb2.ReportRailResultRequest(movement="topUps/1")
    assert object_of(report, payment_pb2.RailReport(changed=True)) == "topUps/1"
    made = account_pb2.BatchCreateAccountsResponse(
        accounts=[account_pb2.Account(name="accounts/1"), account_pb2.Account(name="accounts/2")]
    )
    assert object_of(account_pb2.BatchCreateAccountsRequest(request_id="1"), made) == "accounts/1"
    assert object_of(None, None) == ""
    assert object_of(money_pb2.Money(currency="CNY"), None) == ""


def test_the_subject_is_the_person_whom_a_request_names():
    from danbao.credit.v1 import credit_pb2, rights_pb2

    assert subject_of(rights_pb2.EraseSubjectRequest(subject="subjects/a"), None) == "subjects/a"
    decided = rights_pb2.DecideAppealRequest(name="appeals/1")
    assert subject_of(decided, rights_pb2.Appeal(name="appeals/1", subject="subjects/a")) == "subjects/a"
    events = credit_pb2.RecordEventsRequest(events=[{"subject": "subjects/a"}, {"subject": "subjects/b"}])
    assert subject_of(events, None) == object_of(events, None) == "subjects/a"
    assert subject_of(account_pb2.FreezeAccountRequest(name="accounts/1"), None) == ""


def test_why_is_the_request_s_own_word_for_it():
    from danbao.credit.v1 import rights_pb2

    assert why_of(payment_pb2.RefundPaymentRequest(description="broken")) == "broken"
    assert why_of(rail_pb2.Withdrawal()) == ""
    assert why_of(rights_pb2.EraseSubjectRequest(reason="ERASURE_REASON_ORDERED")) == "ERASURE_REASON_ORDERED"
    assert why_of(rights_pb2.EraseSubjectRequest()) == ""
    assert why_of(rights_pb2.DecideAppealRequest(decision="it was late")) == "it was late"


def test_the_header_is_text_of_any_script_and_bounded():
    assert why_of_header("court order 12/26, 10% of it") == "court order 12/26, 10% of it"
    assert why_of_header("%E6%B3%95%E9%99%A2") == "法院"
    assert why_of_header("a" * 500) == "a" * 500
    for refused in ("a" * 501, "a%0Ab", "%00", "%E6%B3", "a%E2%80%AEb"):
        with pytest.raises(FieldInvalid, match="danbao-why"):
            why_of_header(refused)
    for card in ("paid with 4111 1111 1111 1111", "%34111111111111111"):
        with pytest.raises(CardNumber, match="danbao-why") as refusal:
            why_of_header(card)
        assert "1111" not in str(refusal.value)


def test_within_a_batch_each_operation_tells_its_own_even_if_another_has_its_kind_and_id():
    request = payment_pb2.BatchExecuteRequest(
        operations=[
            {"refund_payment": {"request_id": "1", "name": "payments/1", "description": "late"}},
            {"freeze_account": {"request_id": "1", "name": "accounts/1"}},
            {"refund_payment": {"request_id": "1", "name": "payments/2", "description": "for myself"}},
        ]
    )
    call = Call("danbao.payments.v1.PaymentService/BatchExecute", "gateway", "op", frozenset({"operator"}))
    call.request, call.why = request, "see case 7"
    words = [Acting(call).upon(operation).words(salt=b"", request_id="1") for operation in request.operations]
    assert [(each.object, each.why) for each in words] == [
        ("payments/1", "late"),
        ("accounts/1", "see case 7"),
        ("payments/2", "for myself"),
    ]


def test_what_is_not_to_be_named_is_not():
    from danbao.credit.v1 import rights_pb2

    call = Call("danbao.credit.v1.SubjectRightsService/EraseSubject", "gateway", "op", frozenset({"operator"}))
    call.request = rights_pb2.EraseSubjectRequest(subject="subjects/a")
    words = Acting(call).words(salt=b"", about="erased/12")
    assert (words.subject, words.object) == ("", "erased/12")

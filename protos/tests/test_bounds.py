"""What every contract states of every field: how much a caller may send, and what must never be shown."""

import re._parser as regular
from importlib import resources

import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = descriptor_pb2.FieldDescriptorProto

# Texts that are only as long as a name is, and name a thing, not a person's words.
PLAIN = {
    "request_id",
    "page_token",
    "cursor",
    "etag",
    "currency",
    "currencies",
    "kind",
    "kinds",
    "category",
    "purpose",
    "line_ids",
    "slot",
    "indicator",
    "artefact",
}
# What a field's name says elsewhere and not here: a thing's name or a word of ours.
NAMES_OF_THINGS = {
    "danbao.credit.v1.LoggedEvent.source",
    "danbao.credit.v1.StreamStatus.source",
    "danbao.payments.v1.RailRefund.source",
}


def messages(pool, files, direction):
    """Every message of the danbao services' requests (or answers), with what they are made of."""
    found = {}

    def visit(message):
        if message.full_name not in found:
            found[message.full_name] = message
            for field in message.fields:
                if field.message_type is not None:
                    visit(field.message_type)

    for name in files:
        for service in pool.FindFileByName(name).services_by_name.values():
            for method in service.methods:
                visit(getattr(method, direction))
    return {
        name: message
        for name, message in found.items()
        if name.startswith("danbao.") and not message.GetOptions().map_entry
    }


def load(serialized):
    files = descriptor_pb2.FileDescriptorSet.FromString(serialized)
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool, [file.name for file in files.file if file.package.startswith("danbao.")]


@pytest.fixture(scope="module")
def contracts():
    return load((resources.files("danbao") / "descriptors.binpb").read_bytes())


def rules_of(field):
    """Its rules, as the stubs know them: a pool of its own has options as bytes of extensions unknown to it."""
    options = descriptor_pb2.FieldOptions.FromString(field.GetOptions().SerializeToString())
    return options.Extensions[validate_pb2.field]


def is_redacted(field):
    return field.GetOptions().debug_redact


def longest(pattern):
    """The most characters that a pattern lets through; None: no bound."""
    if not (pattern.startswith("^") and pattern.endswith("$")):
        return None
    most = regular.parse(pattern).getwidth()[1]
    return most if most < regular.MAXREPEAT else None


def text_is_bounded(rules):
    return bool(
        rules.HasField("max_len")
        or rules.HasField("max_bytes")
        or rules.HasField("len")
        or rules.uuid
        or getattr(rules, "in")
        or (rules.pattern and longest(rules.pattern) is not None)
    )


def is_name(rules):
    """Whether a text is of a form of its own, which words of people have not."""
    return bool(rules.uuid or getattr(rules, "in") or rules.pattern or rules.HasField("len"))


def item_faults(field, rules):
    if field.type == Field.TYPE_STRING and not text_is_bounded(rules.string):
        yield "a text without a bound"
    if field.type == Field.TYPE_BYTES and not (rules.bytes.HasField("max_len") or rules.bytes.HasField("len")):
        yield "bytes without a bound"
    if field.name == "page_size" and not (rules.int32.HasField("lte") or rules.int32.HasField("lt")):
        yield "a page without a largest"


def faults(field):
    """What a request's field leaves open."""
    rules = rules_of(field)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if not rules.map.HasField("max_pairs"):
            yield "a map without a bound"
        yield from item_faults(field.message_type.fields_by_name["key"], rules.map.keys)
        yield from item_faults(field.message_type.fields_by_name["value"], rules.map.values)
    elif field.is_repeated:
        if not rules.repeated.HasField("max_items"):
            yield "a list without a bound"
        yield from item_faults(field, rules.repeated.items)
    else:
        yield from item_faults(field, rules)


def open_fields(requests):
    return [
        f"{field.full_name}: {fault}" for each in requests.values() for field in each.fields for fault in faults(field)
    ]


def is_free_text(field):
    """Whether people may write what they like into a request's field."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return field.message_type.fields_by_name["value"].type == Field.TYPE_STRING
    if field.type != Field.TYPE_STRING:
        return False
    rules = rules_of(field)
    return not is_name((rules.repeated.items if field.is_repeated else rules).string)


def test_every_field_of_every_request_is_bounded(contracts):
    requests = messages(*contracts, "input_type")
    assert len(requests) > 100
    assert open_fields(requests) == []


def test_no_request_takes_a_message_of_any_shape(contracts):
    """Any and Struct have no bounds to state."""
    for message in messages(*contracts, "input_type").values():
        for field in message.fields:
            if field.message_type is not None and not field.message_type.GetOptions().map_entry:
                assert field.message_type.full_name.startswith("danbao.") or field.message_type.full_name in (
                    "google.protobuf.Timestamp",
                    "google.protobuf.Duration",
                ), field.full_name


def test_free_text_is_redacted(contracts):
    shown = [
        field.full_name
        for message in messages(*contracts, "input_type").values()
        for field in message.fields
        if is_free_text(field) and not is_redacted(field) and field.name not in PLAIN
    ]
    assert shown == []


def test_what_is_redacted_when_it_comes_is_redacted_when_it_goes(contracts):
    every = {**messages(*contracts, "input_type"), **messages(*contracts, "output_type")}
    fields = [field for message in every.values() for field in message.fields]
    names = {field.name for field in fields if is_redacted(field) and field.type == Field.TYPE_STRING}
    assert {"reason", "description", "statement", "instrument", "tracking"} <= names
    shown = {
        field.full_name
        for field in fields
        if field.name in names and field.type == Field.TYPE_STRING and not is_redacted(field)
    }
    assert shown - OUR_WORDS == NAMES_OF_THINGS


# Fields of answers only, by names that are redacted elsewhere, which hold words of ours: no caller wrote them.
OUR_WORDS = {
    "danbao.credit.v1.Adjustment.text",
    "danbao.credit.v1.Indicator.description",
    "danbao.credit.v1.Purpose.text",
    "danbao.credit.v1.Reason.text",
    "danbao.escrow.v1.AuditCheck.title",
    "danbao.escrow.v1.AuditViolation.title",
    "danbao.payments.v1.AuditCheck.title",
    "danbao.payments.v1.AuditViolation.title",
}


def test_nothing_is_redacted_that_is_one_of_a_few_words(contracts):
    for direction in ("input_type", "output_type"):
        for message in messages(*contracts, direction).values():
            for field in message.fields:
                if is_redacted(field):
                    assert field.type in (Field.TYPE_STRING, Field.TYPE_MESSAGE), field.full_name
                    assert not getattr(rules_of(field).string, "in"), field.full_name


UNBOUNDED = """
name: "planted.proto" package: "danbao.planted" syntax: "proto3"
message_type {
  name: "Request"
  field { name: "reason" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "notes" number: 2 type: TYPE_STRING label: LABEL_REPEATED }
  field { name: "payload" number: 3 type: TYPE_BYTES label: LABEL_OPTIONAL }
  field { name: "page_size" number: 4 type: TYPE_INT32 label: LABEL_OPTIONAL }
}
service { name: "S" method { name: "M" input_type: ".danbao.planted.Request" output_type: ".danbao.planted.Request" } }
"""


def test_a_field_without_a_bound_would_be_found():
    from google.protobuf import text_format

    planted = descriptor_pb2.FileDescriptorSet(
        file=[text_format.Parse(UNBOUNDED, descriptor_pb2.FileDescriptorProto())]
    )
    pool, files = load(planted.SerializeToString())
    requests = messages(pool, files, "input_type")
    assert open_fields(requests) == [
        "danbao.planted.Request.reason: a text without a bound",
        "danbao.planted.Request.notes: a list without a bound",
        "danbao.planted.Request.notes: a text without a bound",
        "danbao.planted.Request.payload: bytes without a bound",
        "danbao.planted.Request.page_size: a page without a largest",
    ]
    (message,) = requests.values()
    assert is_free_text(message.fields_by_name["reason"])
    assert message_factory.GetMessageClass(message)(reason="x").reason == "x"


@pytest.mark.parametrize(
    ("pattern", "most"),
    [
        ("^a{3}$", 3),
        ("^(rails/[a-z]{1,100})?$", 106),
        ("^a*$", None),
        ("^a+$", None),
        ("a{3}", None),
        ("^a{2,}$", None),
    ],
)
def test_a_pattern_bounds_a_text_when_it_has_two_ends_and_no_open_repetition(pattern, most):
    assert longest(pattern) == most

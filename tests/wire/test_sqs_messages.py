"""What a message may be, and what comes back of it: sizes, characters, attributes and their digests, batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import md5
from typing import Any

import pytest
from botocore.exceptions import ClientError

MIB = 1_048_576


@pytest.fixture
def url(sqs: Any) -> str:
    return str(sqs.create_queue(QueueName="q")["QueueUrl"])


def refusal(call: Any, **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def digest(attributes: Mapping[str, Mapping[str, Any]]) -> str:
    """As the developer guide has it, "Calculating the MD5 message digest for message attributes"."""
    parts = []
    for name in sorted(attributes):
        data_type, value = attributes[name]["DataType"], attributes[name].get("BinaryValue")
        kind = b"\x01" if value is None else b"\x02"
        value = attributes[name]["StringValue"].encode() if value is None else value
        for part in (name.encode(), data_type.encode()):
            parts += [len(part).to_bytes(4, "big"), part]
        parts += [kind, len(value).to_bytes(4, "big"), value]
    return md5(b"".join(parts)).hexdigest()


# bodies


@pytest.mark.parametrize("body", ["x" * MIB, "🚌" * (MIB // 4), '"\\' * (MIB // 2), "\t\r\n " * (MIB // 4)])
def test_a_body_of_a_mebibyte(sqs: Any, url: str, body: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody=body)
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert message["Body"] == body
    assert message["MD5OfBody"] == md5(body.encode()).hexdigest()
    too_long = "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes."
    assert refusal(sqs.send_message, QueueUrl=url, MessageBody=body + "x") == ("InvalidParameterValue", too_long)


def test_a_batch_of_a_mebibyte(sqs: Any, url: str) -> None:
    attributes = {"n": {"DataType": "String", "StringValue": "v"}}  # eight bytes
    share = MIB // 4
    batch = [{"Id": str(n), "MessageBody": "x" * share} for n in range(3)]
    batch.append({"Id": "3", "MessageBody": "x" * (share - 8), "MessageAttributes": attributes})  # type: ignore[dict-item]
    assert len(sqs.send_message_batch(QueueUrl=url, Entries=batch)["Successful"]) == 4
    batch[0]["MessageBody"] += "x"
    assert refusal(sqs.send_message_batch, QueueUrl=url, Entries=batch) == (
        "AWS.SimpleQueueService.BatchRequestTooLong",
        "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes.",
    )


@pytest.mark.parametrize("character", "\t\n\r \x7f\x85\u2028\ud7ff\ue000\ufffd\U00010000\U0010ffff")
def test_characters_that_are_allowed(sqs: Any, url: str, character: str) -> None:
    attributes = {"a": {"DataType": "String", "StringValue": character}}
    sqs.send_message(QueueUrl=url, MessageBody=character, MessageAttributes=attributes)
    (message,) = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"])["Messages"]
    assert message["Body"] == character
    assert message["MessageAttributes"] == attributes


@pytest.mark.parametrize("character", "\x00\x0b\x1f\ufffe\uffff")
def test_characters_that_are_not_even_in_attributes(sqs: Any, url: str, character: str) -> None:
    attributes = {"a": {"DataType": "String", "StringValue": character}}
    code, _ = refusal(sqs.send_message, QueueUrl=url, MessageBody="x", MessageAttributes=attributes)
    assert code == "InvalidMessageContents"


# attributes

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "text": {"DataType": "String", "StringValue": "Grüße 🚌"},
    "text.json": {"DataType": "String.application/json", "StringValue": "{}"},
    "number": {"DataType": "Number", "StringValue": "-12.50e3"},
    "number.int": {"DataType": "Number.int", "StringValue": "42"},
    "binary": {"DataType": "Binary", "BinaryValue": b"\x00\xff\x10"},
    "binary.png": {"DataType": "Binary.png", "BinaryValue": b"\x89PNG"},
}


def test_attributes_come_back_as_they_were_sent(sqs: Any, url: str) -> None:
    sent = sqs.send_message(QueueUrl=url, MessageBody="x", MessageAttributes=ATTRIBUTES)
    assert sent["MD5OfMessageAttributes"] == digest(ATTRIBUTES)
    (message,) = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"])["Messages"]
    assert message["MessageAttributes"] == ATTRIBUTES
    assert message["MD5OfMessageAttributes"] == digest(ATTRIBUTES)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([], []),
        (["All"], list(ATTRIBUTES)),
        ([".*"], list(ATTRIBUTES)),
        (["text"], ["text"]),
        (["text.*"], ["text", "text.json"]),
        (["number.*", "binary"], ["number", "number.int", "binary"]),
        (["nothing"], []),
        (["nothing.*", "nothing", "binary.png"], ["binary.png"]),
    ],
)
def test_which_attributes_are_asked_for(sqs: Any, url: str, asked: list[str], expected: list[str]) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="x", MessageAttributes=ATTRIBUTES)
    (message,) = sqs.receive_message(QueueUrl=url, MessageAttributeNames=asked)["Messages"]
    selected = {name: ATTRIBUTES[name] for name in expected}
    assert message.get("MessageAttributes", {}) == selected
    assert message.get("MD5OfMessageAttributes") == (digest(selected) if selected else None)


A_TEXT = {"DataType": "String", "StringValue": "x"}
BAD_NAME = "Invalid attribute name: {name}. Attribute names can contain A-Z, a-z, 0-9, underscore (_), hyphen (-) and "
NO_TYPE = "The message attribute 'a' must contain non-empty message attribute type."
BAD_TYPE = (
    "The type of message (user) attribute 'a' is invalid. You must use only the following supported type prefixes: "
    "Binary, Number, String."
)
NO_VALUE = (
    "The message attribute 'a' must contain non-empty message attribute value for message attribute type '{type}'."
)
NO_NUMBER = "Can't cast the value of message (user) attribute 'a' to a number."


@pytest.mark.parametrize(
    ("name", "attribute", "text"),
    [
        ("", A_TEXT, "Message (user) attribute name can not be empty."),
        ("a b", A_TEXT, BAD_NAME),
        (".a", A_TEXT, BAD_NAME),
        ("a.", A_TEXT, BAD_NAME),
        ("a..b", A_TEXT, BAD_NAME),
        ("ä", A_TEXT, BAD_NAME),
        ("a" * 257, A_TEXT, BAD_NAME),
        ("AWS.x", A_TEXT, "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'"),
        ("amazon.x", A_TEXT, "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'"),
        ("a", {"StringValue": "x"}, NO_TYPE),
        ("a", {"DataType": "", "StringValue": "x"}, NO_TYPE),
        ("a", {"DataType": "Boolean", "StringValue": "x"}, BAD_TYPE),
        ("a", {"DataType": "string", "StringValue": "x"}, BAD_TYPE),
        ("a", {"DataType": "String.", "StringValue": "x"}, BAD_TYPE),
        ("a", {"DataType": "String." + "x" * 250, "StringValue": "x"}, BAD_TYPE),
        ("a", {"DataType": "String"}, NO_VALUE),
        ("a", {"DataType": "Number.x", "StringValue": ""}, NO_VALUE),
        ("a", {"DataType": "Binary", "BinaryValue": b""}, NO_VALUE),
        ("a", {"DataType": "Binary", "StringValue": "x"}, NO_VALUE),
        ("a", {"DataType": "String", "BinaryValue": b"x"}, NO_VALUE),
        ("a", {**A_TEXT, "BinaryValue": b"x"}, "Message attribute 'a' has multiple values"),
        ("a", {"DataType": "Number", "StringValue": "ten"}, NO_NUMBER),
        ("a", {"DataType": "Number", "StringValue": "0x10"}, NO_NUMBER),
        ("a", {"DataType": "Number", "StringValue": "NaN"}, NO_NUMBER),
        ("a", {"DataType": "Number", "StringValue": "٤٢"}, NO_NUMBER),
        (
            "a",
            {"DataType": "String", "StringListValues": ["x"]},
            "Message attribute list values in SendMessage operation are not supported.",
        ),
    ],
)
def test_attributes_that_cannot_be(
    sidebus: Any, connect: Callable[..., Any], url: str, name: str, attribute: dict[str, Any], text: str
) -> None:
    sqs = connect(sidebus, parameter_validation=False)
    given = {"MessageBody": "x", "MessageAttributes": {name: attribute}}
    text = text.format(name=name, type=attribute.get("DataType", "").partition(".")[0])
    code, message = refusal(sqs.send_message, QueueUrl=url, **given)
    assert (code, message[: len(text)]) == ("InvalidParameterValue", text)
    (failed,) = sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": "a", **given}])["Failed"]
    assert (failed["Code"], failed["Message"]) == (code, message)


def test_ten_attributes_and_no_more(sqs: Any, url: str) -> None:
    attributes = {f"a{n}": {"DataType": "String", "StringValue": "x"} for n in range(11)}
    assert refusal(sqs.send_message, QueueUrl=url, MessageBody="x", MessageAttributes=attributes) == (
        "InvalidParameterValue",
        "Number of message attributes [11] exceeds the allowed maximum [10].",
    )
    del attributes["a0"]
    sqs.send_message(QueueUrl=url, MessageBody="x", MessageAttributes=attributes)


# system attributes

TRACE = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}}


def test_the_trace_header_travels_with_the_message(sqs: Any, url: str) -> None:
    sent = sqs.send_message(QueueUrl=url, MessageBody="x", MessageSystemAttributes=TRACE)
    assert sent["MD5OfMessageSystemAttributes"] == digest(TRACE)
    assert "MD5OfMessageAttributes" not in sent
    (message,) = sqs.receive_message(QueueUrl=url, MessageSystemAttributeNames=["AWSTraceHeader"])["Messages"]
    assert message["Attributes"] == {"AWSTraceHeader": TRACE["AWSTraceHeader"]["StringValue"]}
    batch = sqs.send_message_batch(
        QueueUrl=url, Entries=[{"Id": "a", "MessageBody": "x", "MessageSystemAttributes": TRACE}]
    )
    assert batch["Successful"][0]["MD5OfMessageSystemAttributes"] == digest(TRACE)


def test_the_trace_header_does_not_count_as_size(sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="x" * MIB, MessageSystemAttributes=TRACE)


@pytest.mark.parametrize(
    "attributes",
    [
        {"Other": {"DataType": "String", "StringValue": "x"}},
        {"AWSTraceHeader": {"DataType": "Number", "StringValue": "1"}},
        {"AWSTraceHeader": {"DataType": "String", "StringValue": ""}},
    ],
)
def test_system_attributes_that_cannot_be(sqs: Any, url: str, attributes: dict[str, Any]) -> None:
    code, _ = refusal(sqs.send_message, QueueUrl=url, MessageBody="x", MessageSystemAttributes=attributes)
    assert code == "InvalidParameterValue"


ALWAYS = {"SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"}


@pytest.mark.parametrize("parameter", ["AttributeNames", "MessageSystemAttributeNames"])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([], set()),
        (["All"], ALWAYS),
        (["SenderId"], {"SenderId"}),
        (["SentTimestamp", "ApproximateReceiveCount"], {"SentTimestamp", "ApproximateReceiveCount"}),
        (["MessageGroupId", "SequenceNumber"], set()),
    ],
)
def test_which_system_attributes_are_asked_for(
    sqs: Any, url: str, parameter: str, asked: list[str], expected: set[str]
) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="x")
    (message,) = sqs.receive_message(QueueUrl=url, **{parameter: asked})["Messages"]
    assert set(message.get("Attributes", {})) == expected


def test_the_old_parameter_and_the_new_one_add_up(sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="x")
    (message,) = sqs.receive_message(
        QueueUrl=url, AttributeNames=["SenderId"], MessageSystemAttributeNames=["SentTimestamp"]
    )["Messages"]
    assert set(message["Attributes"]) == {"SenderId", "SentTimestamp"}


def test_names_of_queue_attributes_were_always_let_pass(sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="x")
    (message,) = sqs.receive_message(QueueUrl=url, AttributeNames=["VisibilityTimeout", "SenderId"])["Messages"]
    assert set(message["Attributes"]) == {"SenderId"}
    expected = ("InvalidAttributeName", "Unknown Attribute Nonsense.")
    assert refusal(sqs.receive_message, QueueUrl=url, AttributeNames=["Nonsense"]) == expected


def test_the_group_of_a_fair_queue(sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="ungrouped")
    for n in range(20):
        sqs.send_message(QueueUrl=url, MessageBody=f"busy {n}", MessageGroupId="busy")
    sqs.send_message(QueueUrl=url, MessageBody="quiet", MessageGroupId="quiet")
    first = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"])["Messages"]
    groups = [message["Attributes"].get("MessageGroupId") for message in first]
    assert {None, "busy", "quiet"} == set(groups)
    assert "SequenceNumber" not in first[0]["Attributes"]


def test_a_receive_is_repeated_by_its_attempt_id(sqs: Any) -> None:
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    url = sqs.create_queue(QueueName="q.fifo", Attributes=attributes)["QueueUrl"]
    for n in range(3):
        sqs.send_message(QueueUrl=url, MessageBody=str(n), MessageGroupId="g")
    wanted = {"QueueUrl": url, "MaxNumberOfMessages": 2, "ReceiveRequestAttemptId": "once"}
    first = sqs.receive_message(**wanted)["Messages"]
    assert sqs.receive_message(**wanted)["Messages"] == first
    assert "Messages" not in sqs.receive_message(**{**wanted, "ReceiveRequestAttemptId": "twice"})
    sqs.delete_message(QueueUrl=url, ReceiptHandle=first[0]["ReceiptHandle"])
    assert "Messages" not in sqs.receive_message(**wanted)

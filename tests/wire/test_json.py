"""AWS's JSON protocols against golden bytes, against botocore's own serializer and parser, and against anything."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest
from botocore import parsers, serialize
from hypothesis import given, settings
from hypothesis import strategies as st
from test_shapes_values import SERVICES, botocore_service, few, operation, operations, to_botocore, values

from protocols.shapes.constraints import violations
from protocols.shapes.model import load
from protocols.wire import aws_json
from protocols.wire.errors import WireError, unknown_operation

QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/orders"
NOT_JSON_SAFE = st.text(st.characters(exclude_categories=["Cs"]))


def decode(name: str, document: Any, service: str = "sqs") -> dict[str, Any]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return aws_json.decode(operation(service, name), body)


# -- golden bytes: the bodies are botocore 1.44's, word for word

GOLDEN_REQUESTS = [
    (
        "SendMessage",
        b'{"QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/orders", "MessageBody": "h\\u00e9 \\"\\n", '
        b'"DelaySeconds": 5, "MessageAttributes": {"City": {"DataType": "String", "StringValue": "Any City"}, '
        b'"Raw": {"BinaryValue": "AP8=", "DataType": "Binary"}}, "MessageSystemAttributes": '
        b'{"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5"}}}',
        {
            "QueueUrl": QUEUE_URL,
            "MessageBody": 'hé "\n',
            "DelaySeconds": 5,
            "MessageAttributes": {
                "City": {"DataType": "String", "StringValue": "Any City"},
                "Raw": {"BinaryValue": b"\x00\xff", "DataType": "Binary"},
            },
            "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5"}},
        },
    ),
    (
        "ReceiveMessage",
        b'{"QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/orders", '
        b'"MessageSystemAttributeNames": ["All"], "MessageAttributeNames": ["a", "b.*"], '
        b'"MaxNumberOfMessages": 10, "WaitTimeSeconds": 20}',
        {
            "QueueUrl": QUEUE_URL,
            "MessageSystemAttributeNames": ["All"],
            "MessageAttributeNames": ["a", "b.*"],
            "MaxNumberOfMessages": 10,
            "WaitTimeSeconds": 20,
        },
    ),
    (
        "DeleteMessageBatch",
        b'{"QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/orders", '
        b'"Entries": [{"Id": "1", "ReceiptHandle": "r1"}, {"Id": "2", "ReceiptHandle": "r2"}]}',
        {
            "QueueUrl": QUEUE_URL,
            "Entries": [{"Id": "1", "ReceiptHandle": "r1"}, {"Id": "2", "ReceiptHandle": "r2"}],
        },
    ),
    (
        "CreateQueue",
        b'{"QueueName": "orders", "Attributes": {"DelaySeconds": "5"}, "tags": {"team": "blue"}}',
        {"QueueName": "orders", "Attributes": {"DelaySeconds": "5"}, "tags": {"team": "blue"}},
    ),
    ("ListQueues", b"{}", {}),
]


@pytest.mark.parametrize(("name", "body", "value"), GOLDEN_REQUESTS, ids=[name for name, *_ in GOLDEN_REQUESTS])
def test_golden_requests(name: str, body: bytes, value: dict[str, Any]) -> None:
    serializer = serialize.create_serializer("json", include_validation=False)
    model = botocore_service("sqs").operation_model(name)
    assert serializer.serialize_to_request(value, model)["body"] == body
    assert decode(name, body) == value


def test_golden_responses() -> None:
    def encode(name: str, result: dict[str, Any]) -> bytes:
        return aws_json.encode(operation("sqs", name), result)

    assert encode("SendMessage", {"MD5OfMessageBody": "fafb00f5732ab283681e124bf8747ed1", "MessageId": "219f8380"}) == (
        b'{"MD5OfMessageBody":"fafb00f5732ab283681e124bf8747ed1","MessageId":"219f8380"}'
    )
    message = {"Body": "é\r\n", "MessageAttributes": {"r": {"BinaryValue": b"\x00\xff", "DataType": "Binary"}}}
    assert encode("ReceiveMessage", {"Messages": [message]}) == (
        '{"Messages":[{"Body":"é\\r\\n","MessageAttributes":{"r":{"BinaryValue":"AP8=","DataType":"Binary"}}}]}'.encode()
    )
    assert encode("ReceiveMessage", {}) == b"{}"
    assert encode("DeleteMessage", {}) == b""
    failed = {"Id": "1", "SenderFault": True, "Code": "InternalError"}
    assert encode("DeleteMessageBatch", {"Successful": [], "Failed": [failed]}) == (
        b'{"Successful":[],"Failed":[{"Id":"1","SenderFault":true,"Code":"InternalError"}]}'
    )


def test_golden_errors() -> None:
    sqs = load("sqs")
    assert aws_json.encode_error(sqs, "QueueDoesNotExist", "The specified queue does not exist.") == (
        [
            (b"content-type", b"application/x-amz-json-1.0"),
            (b"x-amzn-query-error", b"AWS.SimpleQueueService.NonExistentQueue;Sender"),
        ],
        b'{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}',
    )
    headers, body = aws_json.encode_error(sqs, "InvalidParameterValue", "no")
    assert headers[1] == (b"x-amzn-query-error", b"InvalidParameterValue;Sender")
    assert body == b'{"__type":"com.amazon.coral.service#InvalidParameterValueException","message":"no"}'
    headers, body = aws_json.encode_error(sqs, "AccessDenied", "no")
    assert headers[1] == (b"x-amzn-query-error", b"AccessDenied;Sender")
    assert body == b'{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"no"}'
    headers, body = aws_json.encode_error(sqs, "InternalFailure", "oh")
    assert headers[1] == (b"x-amzn-query-error", b"InternalFailure;Receiver")
    headers, body = aws_json.encode_error(sqs, "X", "m", namespace="com.example", query_code="Y.Z", sender_fault=False)
    assert headers[1] == (b"x-amzn-query-error", b"Y.Z;Receiver")
    assert body == b'{"__type":"com.example#X","message":"m"}'
    error = unknown_operation(sqs, "Foo", query=False)
    assert aws_json.encode_error(sqs, error.code, error.message)[1] == (
        b'{"__type":"com.amazon.coral.service#UnknownOperationException"}'
    )


def test_golden_errors_of_json_1_1() -> None:
    # https://github.com/aws/aws-sdk-php/issues/650
    with pytest.raises(WireError) as caught:
        decode("PutRecord", {"Data": "string", "PartitionKey": "k"}, "kinesis")
    assert aws_json.encode_error(load("kinesis"), caught.value.code, caught.value.message) == (
        [(b"content-type", b"application/x-amz-json-1.1")],
        b'{"__type":"SerializationException","Message":"\'string\' can not be converted to a Blob: '
        b'Base64 encoded length is expected a multiple of 4 bytes but found: 6"}',
    )


def test_botocore_reads_our_errors() -> None:
    def parsed(code: str, message: str) -> dict[str, Any]:
        headers, body = aws_json.encode_error(load("sqs"), code, message)
        text = {name.decode(): value.decode() for name, value in headers}
        answer = {"body": body, "headers": text, "status_code": 400}
        shape = botocore_service("sqs").operation_model("SendMessage").output_shape
        return dict(parsers.create_parser("json").parse(answer, shape)["Error"])

    assert parsed("QueueDoesNotExist", "gone")["Code"] == "AWS.SimpleQueueService.NonExistentQueue"
    assert parsed("QueueDoesNotExist", "gone")["Message"] == "gone"
    assert parsed("AccessDenied", "no")["Code"] == "AccessDenied"
    assert parsed("AccessDenied", "no")["Message"] == "no"
    assert parsed("SerializationException", "")["Code"] == "SerializationException"


# -- botocore on the other end


@operations("sqs", "events", "kinesis")
@few
@given(data=st.data())
def test_what_botocore_writes_is_read(service: str, name: str, data: st.DataObject) -> None:
    op = operation(service, name)
    value = data.draw(values(op.input, text=NOT_JSON_SAFE))
    serializer = serialize.create_serializer("json", include_validation=False)
    model = botocore_service(service).operation_model(name)
    body = serializer.serialize_to_request(to_botocore(op.input, value), model)["body"]
    wrong = violations(op, value)
    if wrong:
        with pytest.raises(WireError) as caught:
            aws_json.decode(op, body)
        assert caught.value.code == ("MissingParameter" if service == "sqs" else "ValidationException")
        assert service == "sqs" or caught.value.message.startswith(f"{len(wrong)} validation error")
    else:
        assert aws_json.decode(op, body) == value


@operations("sqs", "events", "kinesis")
@few
@given(data=st.data())
def test_botocore_reads_what_is_written(service: str, name: str, data: st.DataObject) -> None:
    op = operation(service, name)
    if op.output is None:
        assert aws_json.encode(op, {}) == b""
        return
    if any(getattr(member.shape, "event_stream", False) for member in op.output.members.values()):
        return  # SubscribeToShard answers with a stream of events, which is another codec
    value = data.draw(values(op.output, text=NOT_JSON_SAFE))
    answer = {"body": aws_json.encode(op, value), "headers": {}, "status_code": 200}
    shape = botocore_service(service).operation_model(name).output_shape
    parsed = parsers.create_parser("json").parse(answer, shape)
    del parsed["ResponseMetadata"]
    assert parsed == to_botocore(op.output, value)


# -- what is refused, and in which words


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"QueueUrl":"q",}',
        b"\xef\xbb\xbf{}",
        b'{"QueueUrl":"\xff"}',
        b'{"QueueUrl":"\\ud800"}',
        b'{"QueueUrl":NaN}',
        b'{"MaxNumberOfMessages":1e999}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"null",
        b"1",
        b'"text"',
        b"true",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_not_an_object_is_refused_without_a_word(body: bytes) -> None:
    with pytest.raises(WireError) as caught:
        decode("ReceiveMessage", body)
    assert (caught.value.code, caught.value.message, caught.value.status) == ("SerializationException", "", 400)


LIST = "Start of list found where not expected"
STRUCTURE = "Start of structure or map found where not expected."


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        (None, [], LIST),
        ("MessageBody", 1, "NUMBER_VALUE can not be converted to a String"),
        ("MessageBody", 1.5, "NUMBER_VALUE can not be converted to a String"),
        ("MessageBody", True, "TRUE_VALUE can not be converted to a String"),
        ("MessageBody", False, "FALSE_VALUE can not be converted to a String"),
        ("MessageBody", [], LIST),
        ("MessageBody", {}, STRUCTURE),
        # https://github.com/async-aws/aws/issues/1667: a numeric string is no integer
        ("DelaySeconds", "5", "STRING_VALUE can not be converted to an Integer"),
        ("DelaySeconds", True, "TRUE_VALUE can not be converted to an Integer"),
        ("DelaySeconds", [1], LIST),
        ("DelaySeconds", {}, STRUCTURE),
        ("DelaySeconds", 2**31, "Numeric value (2147483648) out of range of int (-2147483648 - 2147483647)"),
        ("MessageAttributes", [], LIST),
        ("MessageAttributes", "a", "Unexpected field type"),
        ("MessageAttributes", {"a": "b"}, "Expected null"),
        ("MessageAttributes", {"a": []}, LIST),
        ("MessageAttributes", {"a": {"StringValue": 1}}, "NUMBER_VALUE can not be converted to a String"),
        ("MessageAttributes", {"a": {"BinaryValue": 1}}, "NUMBER_VALUE can not be converted to a Blob"),
        ("MessageAttributes", {"a": {"StringListValues": "b"}}, "Expected list or null"),
        ("MessageAttributes", {"a": {"StringListValues": {}}}, STRUCTURE),
        ("MessageAttributes", {"a": {"StringListValues": [1]}}, "NUMBER_VALUE can not be converted to a String"),
        (
            "MessageAttributes",
            {"a": {"BinaryValue": "a"}},
            "'a' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 1",
        ),
        (
            "MessageAttributes",
            {"a": {"BinaryValue": "é==="}},
            "'é===' can not be converted to a Blob: Invalid Base64 content",
        ),
    ],
)
def test_wrong_types(member: str | None, value: Any, message: str) -> None:
    document = value if member is None else {"QueueUrl": "q", "MessageBody": "b", member: value}
    with pytest.raises(WireError) as caught:
        decode("SendMessage", document)
    assert (caught.value.code, caught.value.message) == ("SerializationException", message)


def test_types_come_before_what_is_missing_and_in_the_order_of_the_document() -> None:
    entries = [{}, {"Id": 1, "MessageBody": 2.5}, {"Id": []}]
    with pytest.raises(WireError, match="NUMBER_VALUE"):
        decode("SendMessageBatch", {"QueueUrl": "q", "Entries": entries})


def test_timestamps_are_seconds() -> None:
    value = {"ShardId": "s", "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": 1459799926.48}
    assert decode("GetShardIterator", value, "kinesis") == value
    with pytest.raises(WireError, match="STRING_VALUE can not be converted to milliseconds since epoch"):
        decode("GetShardIterator", {**value, "Timestamp": "2016-04-04T19:58:46.480Z"}, "kinesis")


def test_what_is_let_pass() -> None:
    document = {
        "QueueUrl": "q",
        "MessageBody": "b",
        "DelaySeconds": None,
        "Surprise": {"deep": [1, None]},
        "MessageAttributes": {
            "a": {"DataType": "String", "StringValue": "v", "Extra": 1, "BinaryValue": None},
            "b": None,
        },
    }
    assert decode("SendMessage", document) == {
        "QueueUrl": "q",
        "MessageBody": "b",
        "MessageAttributes": {"a": {"DataType": "String", "StringValue": "v"}},
    }
    assert decode("ReceiveMessage", {"QueueUrl": "q", "MaxNumberOfMessages": 9.0})["MaxNumberOfMessages"] == 9
    assert type(decode("ReceiveMessage", {"QueueUrl": "q", "WaitTimeSeconds": 1.5})["WaitTimeSeconds"]) is int
    assert decode("ListQueues", b' \n{"MaxResults":1,"MaxResults":2} ') == {"MaxResults": 2}


def test_an_integer_beyond_64_bits_is_out_of_range() -> None:
    with pytest.raises(WireError, match=r"Numeric value \(100000000000000000000\) out of range of int"):
        decode("ReceiveMessage", b'{"QueueUrl":"q","MaxNumberOfMessages":100000000000000000000}')


# -- anything at all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None)
@given(body=st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_wire_error(body: bytes) -> None:
    try:
        assert isinstance(decode("SendMessage", body), dict)
    except WireError as error:
        aws_json.encode_error(load("sqs"), error.code, error.message)


@pytest.mark.parametrize("service", [s for s in SERVICES if "json" in load(s).protocols])
@settings(deadline=None)
@given(data=st.data())
def test_no_json_raises_anything_but_a_wire_error(service: str, data: st.DataObject) -> None:
    """Documents of the right members with anything in them, and right ones with something replaced."""
    op = operation(service, data.draw(st.sampled_from(sorted(load(service).operation_names))))
    value = data.draw(values(op.input))
    names = sorted(op.input.members) or ["x"]
    value.update(data.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=3)))
    body = json.dumps(value, default=lambda blob: base64.b64encode(blob).decode()).encode()
    try:
        assert isinstance(aws_json.decode(op, body), dict)
    except WireError as error:
        said = orjson.loads(aws_json.encode_error(load(service), error.code, error.message)[1])
    else:
        return
    assert said["__type"].rpartition("#")[2] in (
        "SerializationException",
        "ValidationException",
        "MissingRequiredParameterException",
    )

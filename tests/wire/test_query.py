"""AWS's query protocol against golden bytes, against botocore's own serializer and parser, and against anything.

Today's botocore speaks query to SNS and STS; to SQS only botocore 1.29 does, so that one runs in a process of its own.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus, urlencode

import orjson
import pytest
from botocore import parsers, serialize
from hypothesis import given, settings
from hypothesis import strategies as st
from test_shapes_values import botocore_service, few, operation, operations, to_botocore, values

from protocols.shapes import generate
from protocols.shapes.constraints import violations
from protocols.shapes.model import load
from protocols.wire import query
from protocols.wire.errors import WireError

QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/orders"


def decode(name: str, form: str | bytes, service: str = "sqs") -> dict[str, Any]:
    raw = form.encode() if isinstance(form, str) else form
    return query.decode(operation(service, name), query.parse_form(raw))


def refused(name: str, form: str | bytes) -> tuple[str, str]:
    with pytest.raises(WireError) as caught:
        decode(name, form)
    assert caught.value.status == 400
    return caught.value.code, caught.value.message


# -- forms


def test_forms() -> None:
    assert query.parse_form(b"") == {}
    assert query.parse_form(b"a=1&b=&c&&d=%26%3D%2B+x&e=%C3%A9\xc3\xa9") == {
        "a": "1",
        "b": "",
        "c": "",
        "d": "&=+ x",
        "e": "éé",
    }
    assert query.parse_form(b"a=1&a=2") == {"a": "1"}
    assert query.parse_form(b"a=%zz%4") == {"a": "%zz%4"}


@pytest.mark.parametrize("form", [b"a=%ff", b"a=\xff", b"%ed%a0%80=1", b"&".join([b"a=1"] * 10_001)])
def test_bad_forms(form: bytes) -> None:
    assert refused("ListQueues", form)[0] == "MalformedInput"


# -- golden requests: as botocore 1.29 and other SDKs send them


def test_a_message_with_attributes() -> None:
    form = (
        "Action=SendMessage&Version=2012-11-05&QueueUrl=https%3A%2F%2Fsqs.us-east-1.amazonaws.com%2F123456789012%2Forders"
        "&MessageBody=h%C3%A9+%22%0A&DelaySeconds=5"
        "&MessageAttribute.1.Name=City&MessageAttribute.1.Value.StringValue=Any+City&MessageAttribute.1.Value.DataType=String"
        "&MessageAttribute.2.Name=Raw&MessageAttribute.2.Value.BinaryValue=AP8%3D&MessageAttribute.2.Value.DataType=Binary"
        "&MessageSystemAttribute.1.Name=AWSTraceHeader&MessageSystemAttribute.1.Value.StringValue=Root%3D1-5"
        "&MessageSystemAttribute.1.Value.DataType=String"
    )
    assert decode("SendMessage", form) == {
        "QueueUrl": QUEUE_URL,
        "MessageBody": 'hé "\n',
        "DelaySeconds": 5,
        "MessageAttributes": {
            "City": {"StringValue": "Any City", "DataType": "String"},
            "Raw": {"BinaryValue": b"\x00\xff", "DataType": "Binary"},
        },
        "MessageSystemAttributes": {"AWSTraceHeader": {"StringValue": "Root=1-5", "DataType": "String"}},
    }


def test_a_batch_in_any_order_and_with_gaps() -> None:
    form = (
        "QueueUrl=q&SendMessageBatchRequestEntry.10.Id=c&SendMessageBatchRequestEntry.10.MessageBody=3"
        "&SendMessageBatchRequestEntry.2.Id=b&SendMessageBatchRequestEntry.1.Id=a"
        "&SendMessageBatchRequestEntry.1.MessageBody=1&SendMessageBatchRequestEntry.2.MessageBody="
        "&SendMessageBatchRequestEntry.2.MessageAttribute.7.Name=n"
        "&SendMessageBatchRequestEntry.2.MessageAttribute.7.Value.StringListValue.1=x"
    )
    attributes = {"n": {"StringListValues": ["x"]}}
    assert decode("SendMessageBatch", form)["Entries"] == [
        {"Id": "a", "MessageBody": "1"},
        {"Id": "b", "MessageBody": "", "MessageAttributes": attributes},
        {"Id": "c", "MessageBody": "3"},
    ]


@pytest.mark.parametrize(
    "form",
    [
        "AttributeName.1=All",
        "AttributeName.member.1=All",
        "AttributeName=All",
        "AttributeName.007=All",
        "AttributeName.0=All",
    ],
)
def test_lists_however_they_are_written(form: str) -> None:
    assert decode("GetQueueAttributes", f"QueueUrl=q&{form}") == {"QueueUrl": "q", "AttributeNames": ["All"]}


@pytest.mark.parametrize(
    "form",
    [
        "Attribute.1.Name=DelaySeconds&Attribute.1.Value=5",
        "Attribute.Name=DelaySeconds&Attribute.Value=5",
        "Attribute.entry.3.Name=DelaySeconds&Attribute.entry.3.Value=5",
    ],
)
def test_maps_however_they_are_written(form: str) -> None:
    expected = {"QueueUrl": "q", "Attributes": {"DelaySeconds": "5"}}
    assert decode("SetQueueAttributes", f"QueueUrl=q&{form}") == expected


def test_other_habits_of_clients() -> None:
    # The SDK for Java v1 (TagQueueRequestMarshaller) says Tags where others say Tag; a value left out is empty.
    expected = {"QueueUrl": "q", "Tags": {"a": "b", "c": ""}}
    assert decode("TagQueue", "QueueUrl=q&Tags.1.Key=a&Tags.1.Value=b&Tags.2.Key=c") == expected
    assert decode("TagQueue", "QueueUrl=q&Tag.1.Key=a&Tag.1.Value=b&Tag.2.Key=c") == expected
    # An empty list, as the SDKs for Python and JavaScript send it.
    assert decode("ReceiveMessage", "QueueUrl=q&AttributeNames=&MessageAttributeName=") == {
        "QueueUrl": "q",
        "MessageAttributeNames": [],
    }
    assert decode("SendMessageBatch", "QueueUrl=q&Entries=") == {"QueueUrl": "q"}
    assert decode("ReceiveMessage", "QueueUrl=q&WaitTimeSeconds=") == {"QueueUrl": "q"}
    # Without its name it is for SQS to say "The request must contain non-empty message attribute name."
    value = decode("SendMessage", "QueueUrl=q&MessageBody=b&MessageAttribute.1.Value.DataType=String")
    assert value["MessageAttributes"] == {"": {"DataType": "String"}}


def test_sns_and_its_nested_names() -> None:
    form = (
        "Action=Publish&Version=2010-03-31&TopicArn=arn&Message=m&MessageAttributes.entry.1.Name=a"
        "&MessageAttributes.entry.1.Value.DataType=String&MessageAttributes.entry.1.Value.StringValue=v"
    )
    assert decode("Publish", form, "sns") == {
        "TopicArn": "arn",
        "Message": "m",
        "MessageAttributes": {"a": {"DataType": "String", "StringValue": "v"}},
    }
    form = "ResourceArn=arn&Tags.member.1.Key=k&Tags.member.1.Value=v&Tags.2.Key=no"
    assert decode("TagResource", form, "sns") == {"ResourceArn": "arn", "Tags": [{"Key": "k", "Value": "v"}]}
    assert decode("CreateTopic", "Name=n&Attributes.entry.1.key=k&Attributes.entry.1.value=v", "sns") == {
        "Name": "n",
        "Attributes": {"k": "v"},
    }
    assert decode("GetCallerIdentity", "Action=GetCallerIdentity&Version=2011-06-15", "sts") == {}


@pytest.mark.parametrize(
    ("name", "form", "code", "message"),
    [
        ("ReceiveMessage", "", "MissingParameter", "The request must contain the parameter QueueUrl."),
        (
            "SendMessage",
            "QueueUrl=q&MessageBody=",
            "MissingParameter",
            "The request must contain the parameter MessageBody.",
        ),
        (
            "SendMessageBatch",
            "QueueUrl=q&SendMessageBatchRequestEntry=",
            "MissingParameter",
            "The request must contain the parameter SendMessageBatchRequestEntry.1.Id.",
        ),
        (
            "ReceiveMessage",
            "QueueUrl=q&WaitTimeSeconds=x",
            "MalformedInput",
            "STRING_VALUE can not be converted to an Integer",
        ),
        (
            "ReceiveMessage",
            "QueueUrl=q&WaitTimeSeconds=1.0",
            "MalformedInput",
            "STRING_VALUE can not be converted to an Integer",
        ),
        (
            "ReceiveMessage",
            "QueueUrl=q&WaitTimeSeconds=2147483648",
            "MalformedInput",
            "STRING_VALUE can not be converted to an Integer",
        ),
        (
            "ReceiveMessage",
            "QueueUrl=q&WaitTimeSeconds=" + "9" * 5000,
            "MalformedInput",
            "STRING_VALUE can not be converted to an Integer",
        ),
        ("ReceiveMessage", "QueueUrl=q&AttributeName.1000000=All", "MalformedInput", "1000000 is not a valid index"),
        (
            "ReceiveMessage",
            "QueueUrl=q&AttributeName." + "9" * 5000 + "=All",
            "MalformedInput",
            "9" * 5000 + " is not a valid index",
        ),
        (
            "SendMessage",
            "QueueUrl=q&MessageBody=b&MessageAttribute.1.Name=a&MessageAttribute.1.Value.BinaryValue=abc",
            "MalformedInput",
            "'abc' can not be converted to a Blob: "
            "Base64 encoded length is expected a multiple of 4 bytes but found: 3",
        ),
    ],
)
def test_what_is_refused(name: str, form: str, code: str, message: str) -> None:
    assert refused(name, form) == (code, message)


# -- golden responses


RID = "b6633655-283d-45b4-aee4-4e84e0ae6afa"
HEAD = '<?xml version="1.0"?>'
SQS_NS = 'xmlns="http://queue.amazonaws.com/doc/2012-11-05/"'
META = f"<ResponseMetadata><RequestId>{RID}</RequestId></ResponseMetadata>"


def encode(name: str, result: dict[str, Any], service: str = "sqs") -> str:
    return query.encode(operation(service, name), result, RID).decode()


def test_golden_responses() -> None:
    assert encode("SendMessage", {"MessageId": "5fea7756", "MD5OfMessageBody": "fafb00f5"}) == (
        f"{HEAD}<SendMessageResponse {SQS_NS}><SendMessageResult><MD5OfMessageBody>fafb00f5</MD5OfMessageBody>"
        f"<MessageId>5fea7756</MessageId></SendMessageResult>{META}</SendMessageResponse>"
    )
    assert encode("DeleteMessage", {}) == f"{HEAD}<DeleteMessageResponse {SQS_NS}>{META}</DeleteMessageResponse>"
    assert encode("ReceiveMessage", {}) == (
        f"{HEAD}<ReceiveMessageResponse {SQS_NS}><ReceiveMessageResult/>{META}</ReceiveMessageResponse>"
    )
    assert encode("ListQueues", {"QueueUrls": ["u1", "u2"], "NextToken": "t"}) == (
        f"{HEAD}<ListQueuesResponse {SQS_NS}><ListQueuesResult><QueueUrl>u1</QueueUrl><QueueUrl>u2</QueueUrl>"
        f"<NextToken>t</NextToken></ListQueuesResult>{META}</ListQueuesResponse>"
    )
    assert encode("GetQueueAttributes", {"Attributes": {"DelaySeconds": "0", "Policy": ""}}) == (
        f"{HEAD}<GetQueueAttributesResponse {SQS_NS}><GetQueueAttributesResult>"
        "<Attribute><Name>DelaySeconds</Name><Value>0</Value></Attribute>"
        "<Attribute><Name>Policy</Name><Value/></Attribute>"
        f"</GetQueueAttributesResult>{META}</GetQueueAttributesResponse>"
    )
    message = {
        "MessageId": "m",
        "ReceiptHandle": "r",
        "MD5OfBody": "d",
        "Body": '<a b="c">&\r\n\t\x00é</a>',
        "Attributes": {"SenderId": "s"},
        "MessageAttributes": {"raw": {"BinaryValue": b"\x00\xff", "DataType": "Binary"}},
    }
    assert encode("ReceiveMessage", {"Messages": [message, {"Body": "2"}]}) == (
        f"{HEAD}<ReceiveMessageResponse {SQS_NS}><ReceiveMessageResult><Message><MessageId>m</MessageId>"
        "<ReceiptHandle>r</ReceiptHandle><MD5OfBody>d</MD5OfBody>"
        "<Body>&lt;a b=&quot;c&quot;&gt;&amp;&#xD;\n\t\ufffdé&lt;/a&gt;</Body>"
        "<Attribute><Name>SenderId</Name><Value>s</Value></Attribute>"
        "<MessageAttribute><Name>raw</Name><Value><BinaryValue>AP8=</BinaryValue><DataType>Binary</DataType></Value>"
        "</MessageAttribute></Message><Message><Body>2</Body></Message></ReceiveMessageResult>"
        f"{META}</ReceiveMessageResponse>"
    )
    failed = [{"Id": "2", "SenderFault": True, "Code": "InvalidParameterValue", "Message": "no"}]
    assert encode("DeleteMessageBatch", {"Successful": [{"Id": "1"}], "Failed": failed}) == (
        f"{HEAD}<DeleteMessageBatchResponse {SQS_NS}><DeleteMessageBatchResult>"
        "<DeleteMessageBatchResultEntry><Id>1</Id></DeleteMessageBatchResultEntry>"
        "<BatchResultErrorEntry><Id>2</Id><SenderFault>true</SenderFault><Code>InvalidParameterValue</Code>"
        f"<Message>no</Message></BatchResultErrorEntry></DeleteMessageBatchResult>{META}</DeleteMessageBatchResponse>"
    )


def test_golden_responses_of_others() -> None:
    assert encode("ListTopics", {"Topics": [{"TopicArn": "a"}], "NextToken": "t"}, "sns") == (
        '<ListTopicsResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><ListTopicsResult>'
        "<Topics><member><TopicArn>a</TopicArn></member></Topics><NextToken>t</NextToken></ListTopicsResult>"
        f"{META}</ListTopicsResponse>"
    )
    assert "<Attributes><entry><key>k</key><value>v</value></entry></Attributes>" in (
        encode("GetTopicAttributes", {"Attributes": {"k": "v"}}, "sns")
    )
    identity = {"UserId": "u", "Account": "1", "Arn": "arn"}
    assert encode("GetCallerIdentity", identity, "sts") == (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
        "<UserId>u</UserId><Account>1</Account><Arn>arn</Arn></GetCallerIdentityResult>"
        f"{META}</GetCallerIdentityResponse>"
    )


def test_timestamps() -> None:
    numbers = [{"CreatedAt": 0}, {"CreatedAt": 1459799926.48}]
    shown = encode("ListOriginationNumbers", {"PhoneNumbers": numbers}, "sns")
    assert "<CreatedAt>1970-01-01T00:00:00Z</CreatedAt>" in shown
    assert "<CreatedAt>2016-04-04T19:58:46.480Z</CreatedAt>" in shown


def test_golden_errors() -> None:
    assert (
        query.encode_error(load("sqs"), "QueueDoesNotExist", "The specified queue <q> does not exist.", RID)
        == (
            f"{HEAD}<ErrorResponse {SQS_NS}><Error><Type>Sender</Type>"
            "<Code>AWS.SimpleQueueService.NonExistentQueue</Code>"
            "<Message>The specified queue &lt;q&gt; does not exist.</Message><Detail/></Error>"
            f"<RequestId>{RID}</RequestId></ErrorResponse>"
        ).encode()
    )
    assert query.encode_error(load("sns"), "NotFoundException", "Topic does not exist", RID) == (
        b'<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type>'
        b"<Code>NotFound</Code><Message>Topic does not exist</Message></Error>"
        b"<RequestId>" + RID.encode() + b"</RequestId></ErrorResponse>"
    )
    assert b"<Type>Receiver</Type><Code>InternalFailure</Code>" in (
        query.encode_error(load("sts"), "InternalFailure", "", RID)
    )
    assert b"<Type>Receiver</Type>" in query.encode_error(load("sqs"), "OverLimit", "", RID, sender_fault=False)


def test_the_json_form() -> None:
    """The first two and the errors are AWS's answers through API Gateway, as its samples print them."""

    def shown(name: str, result: dict[str, Any], service: str = "sqs") -> str:
        return query.encode_as_json(operation(service, name), result, RID).decode()

    meta = f'"ResponseMetadata":{{"RequestId":"{RID}"}}'
    assert shown("SendMessage", {"MD5OfMessageBody": "0d7a", "MessageId": "9d72"}) == (
        f'{{"SendMessageResponse":{{{meta},"SendMessageResult":{{"MD5OfMessageAttributes":null,"MD5OfMessageBody":"0d7a",'
        '"MD5OfMessageSystemAttributes":null,"MessageId":"9d72","SequenceNumber":null}}}'
    )
    assert shown("ReceiveMessage", {}) == (
        f'{{"ReceiveMessageResponse":{{"ReceiveMessageResult":{{"messages":null}},{meta}}}}}'
    )
    value = {
        "Attributes": {"SenderId": "s"},
        "MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": b"\x00"}},
    }
    message = orjson.loads(shown("ReceiveMessage", {"Messages": [{"Body": "b", **value}]}))["ReceiveMessageResponse"]
    assert message["ReceiveMessageResult"]["messages"] == [
        {
            "Attributes": [{"Name": "SenderId", "Value": "s"}],
            "Body": "b",
            "MD5OfBody": None,
            "MD5OfMessageAttributes": None,
            "MessageAttributes": [
                {
                    "Name": "a",
                    "Value": {
                        "BinaryListValues": None,
                        "BinaryValue": "AA==",
                        "DataType": "Binary",
                        "StringListValues": None,
                        "StringValue": None,
                    },
                }
            ],
            "MessageId": None,
            "ReceiptHandle": None,
        }
    ]
    assert shown("DeleteMessage", {}) == f'{{"DeleteMessageResponse":{{{meta}}}}}'
    assert shown("GetCallerIdentity", {"UserId": "u", "Account": "1", "Arn": "a"}, "sts") == (
        '{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"1","Arn":"a","UserId":"u"},' + meta + "}}"
    )
    assert orjson.loads(shown("GetTopicAttributes", {"Attributes": {"k": "v"}}, "sns"))["GetTopicAttributesResponse"][
        "GetTopicAttributesResult"
    ] == {"Attributes": {"k": "v"}}
    assert query.encode_error_as_json(load("sqs"), "AccessDenied", "denied", "aba6b507") == (
        b'{"Error":{"Code":"AccessDenied","Message":"denied","Type":"Sender"},"RequestId":"aba6b507"}'
    )


# -- botocore on the other end: SNS and STS


def read_back(service: str, name: str, value: dict[str, Any], form: dict[str, Any]) -> None:
    op = operation(service, name)
    body = urlencode(form).encode()
    wrong = violations(op, value)
    if wrong:
        with pytest.raises(WireError):
            query.decode(op, query.parse_form(body))
    else:
        assert query.decode(op, query.parse_form(body)) == value


@operations("sns", "sts")
@few
@given(data=st.data())
def test_what_botocore_writes_is_read(service: str, name: str, data: st.DataObject) -> None:
    shape = operation(service, name).input
    assert shape is not None
    value = data.draw(values(shape, filled=True) if shape.members else st.just({}))
    serializer = serialize.create_serializer("query", include_validation=False)
    request = serializer.serialize_to_request(value, botocore_service(service).operation_model(name))
    read_back(service, name, value, request["body"])


@operations("sns", "sts")
@few
@given(data=st.data())
def test_botocore_reads_what_is_written(service: str, name: str, data: st.DataObject) -> None:
    op = operation(service, name)
    value = {} if op.output is None else data.draw(values(op.output))
    answer = {"body": query.encode(op, value, RID), "headers": {}, "status_code": 200}
    model = botocore_service(service).operation_model(name)
    parsed = parsers.create_parser("query").parse(answer, model.output_shape)
    assert parsed.pop("ResponseMetadata")["RequestId"] == RID
    assert parsed == ({} if op.output is None else to_botocore(op.output, value))


@given(text=st.text())
@settings(deadline=None)
def test_any_text_is_well_formed_xml_and_what_xml_can_say_comes_back(text: str) -> None:
    url = ET.fromstring(encode("GetQueueUrl", {"QueueUrl": text}))[0][0]
    replaced = {*map(chr, range(32)), "\ufffe", "\uffff"} - {"\t", "\n", "\r"}
    assert (url.text or "") == "".join("\ufffd" if c in replaced else c for c in text)


# -- botocore 1.29 on the other end: SQS


_OLD_BOTOCORE = """
import base64, json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from botocore import parsers, serialize
from botocore.model import ServiceModel
model = ServiceModel(json.loads(Path(sys.argv[1], "botocore/data/sqs/2012-11-05/service-2.json").read_text()), "sqs")
assert model.metadata["protocol"] == "query"
def unpack(value):
    if isinstance(value, dict):
        if set(value) == {"base64"}:
            return base64.b64decode(value["base64"])
        return {k: unpack(v) for k, v in value.items()}
    return [unpack(v) for v in value] if isinstance(value, list) else value
pack = lambda blob: {"base64": base64.b64encode(blob).decode()}
for line in sys.stdin:
    name, what, value = json.loads(line)
    operation = model.operation_model(name)
    if what == "write":
        serializer = serialize.create_serializer("query", include_validation=False)
        answer = serializer.serialize_to_request(unpack(value), operation)["body"]
    else:
        response = {"body": value.encode(), "headers": {}, "status_code": 400 if what == "error" else 200}
        answer = parsers.create_parser("query").parse(response, operation.output_shape)
    print(json.dumps(answer, default=pack), flush=True)
"""


class OldBotocore:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, name: str, what: str, value: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        packed = json.dumps([name, what, value], default=lambda b: {"base64": base64.b64encode(b).decode()})
        self.process.stdin.write(packed + "\n")
        self.process.stdin.flush()
        return unpacked(json.loads(self.process.stdout.readline()))


def unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"base64"}:
            return base64.b64decode(value["base64"])
        return {k: unpacked(v) for k, v in value.items()}
    return [unpacked(v) for v in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def old_botocore() -> Iterator[OldBotocore]:
    with tempfile.TemporaryDirectory() as directory:
        zipfile.ZipFile(generate.download_query_wheel(directory)).extractall(directory)
        command = [sys.executable, "-W", "ignore", "-c", _OLD_BOTOCORE, directory]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            yield OldBotocore(process)


@pytest.mark.slow
@operations("sqs")
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_what_the_old_botocore_writes_is_read(
    old_botocore: OldBotocore, service: str, name: str, data: st.DataObject
) -> None:
    value = data.draw(values(operation(service, name).input, filled=True))
    value.pop("MessageSystemAttributeNames", None)  # has come since
    read_back(service, name, value, old_botocore.ask(name, "write", value))


def without_empty(value: Any) -> Any:
    """Flattened lists and maps leave no trace in XML when they are empty."""
    if isinstance(value, dict):
        return {k: without_empty(v) for k, v in value.items() if v not in ([], {})}
    return [without_empty(v) for v in value] if isinstance(value, list) else value


@pytest.mark.slow
@operations("sqs")
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_the_old_botocore_reads_what_is_written(
    old_botocore: OldBotocore, service: str, name: str, data: st.DataObject
) -> None:
    op = operation(service, name)
    value = {} if op.output is None else data.draw(values(op.output))
    parsed = old_botocore.ask(name, "read", encode(name, value))
    assert parsed.pop("ResponseMetadata")["RequestId"] == RID
    assert parsed == without_empty(value)


@pytest.mark.slow
def test_the_old_botocore_reads_our_errors(old_botocore: OldBotocore) -> None:
    body = query.encode_error(load("sqs"), "QueueDoesNotExist", 'gone & "lost"', RID).decode()
    assert old_botocore.ask("SendMessage", "error", body)["Error"] == {
        "Type": "Sender",
        "Code": "AWS.SimpleQueueService.NonExistentQueue",
        "Message": 'gone & "lost"',
        "Detail": None,
    }


# -- anything at all

STEPS = st.sampled_from(
    [
        "",
        "1",
        "2",
        "0",
        "member",
        "entry",
        "Name",
        "Value",
        "Key",
        "key",
        "value",
        "StringValue",
        "BinaryValue",
        "x",
        "DataType",
        "AttributeName",
        "Attribute",
        "Id",
        "QueueUrl",
        "MessageAttribute",
        "SendMessageBatchRequestEntry",
        "MessageAttributes",
        "Attributes",
        "Tags",
        "Tag",
        "99999999999",
        "-1",
        "StringListValue",
        "MaxNumberOfMessages",
        "TagKeys",
    ]
)
NAMES = st.lists(STEPS, min_size=1, max_size=5).map(".".join)
PAIRS = st.lists(
    st.tuples(NAMES | st.text(max_size=5), st.text(max_size=5) | st.sampled_from(["1", "true"])), max_size=12
)


@pytest.mark.parametrize("service", ["sqs", "sns"])
@settings(deadline=None)
@given(pairs=PAIRS, data=st.data())
def test_no_form_raises_anything_but_a_wire_error(
    service: str, pairs: list[tuple[str, str]], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(load(service).operation_names)))
    form = "&".join(f"{quote_plus(k)}={quote_plus(v)}" for k, v in pairs).encode()
    try:
        assert isinstance(decode(name, form, service), dict)
    except WireError as error:
        ET.fromstring(query.encode_error(load(service), error.code, error.message, RID))


@settings(deadline=None)
@given(form=st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_wire_error(form: bytes) -> None:
    with contextlib.suppress(WireError):
        decode("SendMessage", form)


def test_a_deep_name_and_many_names_cost_little() -> None:
    form = (
        "QueueUrl=q&"
        + ".".join(["1"] * 100_000)
        + "=x&AttributeName"
        + ".1" * 15
        + "=x&"
        + "&".join(f"AttributeName.{i}=a" for i in range(1, 9000))
    )
    assert len(decode("ReceiveMessage", form)["AttributeNames"]) == 8999

"""Kinesis in CBOR, as the SDKs for Java speak it: golden bytes both ways, and the same answers as in JSON."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.parsers import RpcV2CBORParser
from virtual_kinesis import ACCOUNT, CBOR, REGION, SHARD, START_MS, VirtualKinesis, encoded

from protocols.shapes.model import load
from protocols.wire import cbor, eventstream

ARN = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s"
HEADERS = {":content-type": "application/x-amz-cbor-1.1", ":message-type": "event"}


@pytest.fixture
def kinesis() -> Iterator[VirtualKinesis]:
    virtual = VirtualKinesis()
    yield virtual
    virtual.close()


def text(value: str) -> bytes:
    """A text of less than 256 bytes, written as short as it can be."""
    raw = value.encode()
    return (bytes([0x60 + len(raw)]) if len(raw) < 24 else bytes([0x78, len(raw)])) + raw


def loads(body: bytes) -> Any:
    parser = RpcV2CBORParser(timestamp_parser=lambda ms: ms / 1000)
    return parser.parse_data_item(parser.get_peekable_stream_from_bytes(body)) if body else {}


# golden bytes


def test_a_record_there_and_back(kinesis: VirtualKinesis) -> None:
    create = b"\xa2" + text("StreamName") + text("s") + text("ShardCount") + b"\x01"
    answer = kinesis.raw("CreateStream", create, media_type=CBOR)
    assert (answer.status, answer.body) == (200, b"")
    put = b"\xa3" + text("StreamName") + text("s") + text("Data") + b"\x42\x00\xff" + text("PartitionKey") + text("k")
    answer = kinesis.raw("PutRecord", put, media_type=CBOR)
    number = kinesis("GetRecords", ShardIterator=kinesis.iterator())["Records"][0]["SequenceNumber"]
    assert answer.status == 200
    assert dict(answer.headers)[b"content-type"] == b"application/x-amz-cbor-1.1"
    assert answer.body == b"\xa2" + text("ShardId") + text(SHARD) + text("SequenceNumber") + text(number)
    ask = b"\xa4" + text("StreamName") + text("s") + text("ShardId") + text(SHARD)
    ask += text("ShardIteratorType") + text("AT_TIMESTAMP")
    ask += text("Timestamp") + b"\xc1\x1b" + START_MS.to_bytes(8, "big")  # tag 1, and milliseconds
    iterator = loads(kinesis.raw("GetShardIterator", ask, media_type=CBOR).body)["ShardIterator"]
    get = b"\xa2" + text("ShardIterator") + text(iterator) + text("Limit") + b"\x19\x27\x10"
    answer = kinesis.raw("GetRecords", get, media_type=CBOR)
    following = loads(answer.body)["NextShardIterator"]
    record = b"\xa4" + text("SequenceNumber") + text(number)
    record += text("ApproximateArrivalTimestamp") + b"\xc1\x1b" + START_MS.to_bytes(8, "big")
    record += text("Data") + b"\x42\x00\xff" + text("PartitionKey") + text("k")
    behind = text("MillisBehindLatest") + b"\x00"
    assert answer.body == (
        b"\xa3" + text("Records") + b"\x81" + record + behind + text("NextShardIterator") + text(following)
    )


def test_as_the_sdk_for_java_writes_it(kinesis: VirtualKinesis) -> None:
    """Maps and lists without a length, as Jackson's generator makes them."""
    kinesis.stream()
    entry = b"\xbf" + text("Data") + b"\x43abc" + text("PartitionKey") + text("k") + b"\xff"
    body = b"\xbf" + text("Records") + b"\x9f" + entry * 3 + b"\xff" + text("StreamARN") + text(ARN) + b"\xff"
    answer = loads(kinesis.raw("PutRecords", body, media_type=CBOR).body)
    assert answer["FailedRecordCount"] == 0
    assert [entry["ShardId"] for entry in answer["Records"]] == [SHARD] * 3
    records = kinesis("GetRecords", ShardIterator=kinesis.iterator())["Records"]
    assert [b64decode(record["Data"]) for record in records] == [b"abc"] * 3


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (
            b"\xa1" + text("StreamName") + text("s"),
            b"\xa2"
            + text("__type")
            + text("ResourceNotFoundException")
            + text("message")
            + text(f"Stream s under account {ACCOUNT} not found."),
        ),
        (b"\xa1", b"\xa1" + text("__type") + text("SerializationException")),
        (b"", b"\xa1" + text("__type") + text("SerializationException")),
        (
            b"\xa1" + text("Limit") + b"\x00",
            b"\xa2"
            + text("__type")
            + text("ValidationException")
            + text("message")
            + text(
                "1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: "
                "Member must have value greater than or equal to 1"
            ),
        ),
    ],
)
def test_errors(kinesis: VirtualKinesis, body: bytes, answer: bytes) -> None:
    response = kinesis.raw("DescribeStream", body, media_type=CBOR)
    assert (response.status, response.body) == (400, answer)
    assert dict(response.headers)[b"content-type"] == b"application/x-amz-cbor-1.1"


def test_a_subscription(kinesis: VirtualKinesis) -> None:
    kinesis.stream()
    (number,) = kinesis.put("a")
    consumer = kinesis.consumer()
    body = b"\xbf" + text("ConsumerARN") + text(consumer) + text("ShardId") + text(SHARD)
    body += text("StartingPosition") + b"\xbf" + text("Type") + text("TRIM_HORIZON") + b"\xff\xff"
    reader = kinesis.subscribe(media_type=CBOR, body=body)
    first, second = eventstream.decode(reader.raw)
    assert (first.headers, first.payload) == ({":event-type": "initial-response", **HEADERS}, b"\xa0")
    assert second.headers == {":event-type": "SubscribeToShardEvent", **HEADERS}
    following = loads(second.payload)["ContinuationSequenceNumber"]
    record = b"\xa4" + text("SequenceNumber") + text(number)
    record += text("ApproximateArrivalTimestamp") + b"\xc1\x1b" + START_MS.to_bytes(8, "big")
    record += text("Data") + b"\x41a" + text("PartitionKey") + text("k")
    assert second.payload == (
        b"\xa3"
        + text("Records")
        + b"\x81"
        + record
        + text("MillisBehindLatest")
        + b"\x00"
        + text("ContinuationSequenceNumber")
        + text(following)
    )
    in_json = kinesis.subscribe(
        ConsumerARN=kinesis.consumer("j"), ShardId=SHARD, StartingPosition={"Type": "TRIM_HORIZON"}
    )
    kinesis.put("b")
    *_, last = eventstream.decode(reader.raw)
    assert loads(last.payload)["Records"][0]["Data"] == b"b"
    assert in_json.events[-1]["Records"][0]["Data"] == "Yg=="  # each has the commit's event in its own form
    kinesis("DeregisterStreamConsumer", ConsumerARN=consumer)
    *_, last = eventstream.decode(reader.raw)
    assert last.headers[":exception-type"] == "ResourceNotFoundException"
    assert loads(last.payload) == {"message": f"Consumer {consumer}, account {ACCOUNT} not found."}


# the same as in JSON

SCRIPT: list[tuple[str, dict[str, Any]]] = [
    ("CreateStream", {"StreamName": "s", "ShardCount": 2, "Tags": {"tag": "ä"}}),
    ("CreateStream", {"StreamName": "s", "ShardCount": 2}),
    ("ListStreams", {"Limit": 1}),
    ("DescribeStream", {"StreamName": "s"}),
    ("DescribeStreamSummary", {"StreamARN": ARN}),
    ("AddTagsToStream", {"StreamName": "s", "Tags": {"a": "b"}}),
    ("ListTagsForStream", {"StreamName": "s"}),
    ("ListTagsForResource", {"ResourceARN": ARN}),
    ("EnableEnhancedMonitoring", {"StreamName": "s", "ShardLevelMetrics": ["ALL"]}),
    ("PutRecord", {"StreamName": "s", "Data": bytes(range(256)), "PartitionKey": "schlüssel"}),
    ("PutRecords", {"StreamName": "s", "Records": [{"Data": b"x" * n, "PartitionKey": str(n)} for n in range(300)]}),
    ("GetShardIterator", {"StreamName": "s", "ShardId": SHARD, "ShardIteratorType": "TRIM_HORIZON"}),
    ("GetRecords", {"ShardIterator": "ShardIterator", "Limit": 10_000}),
    (
        "GetShardIterator",
        {"StreamName": "s", "ShardId": SHARD, "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": 1_699_999_999.999},
    ),
    ("SplitShard", {"StreamName": "s", "ShardToSplit": SHARD, "NewStartingHashKey": "10"}),
    ("GetRecords", {"ShardIterator": "ShardIterator", "Limit": 1}),
    ("ListShards", {"StreamName": "s", "ShardFilter": {"Type": "AT_TIMESTAMP", "Timestamp": START_MS / 1000}}),
    ("RegisterStreamConsumer", {"StreamARN": ARN, "ConsumerName": "c"}),
    ("ListStreamConsumers", {"StreamARN": ARN, "StreamCreationTimestamp": START_MS / 1000}),
    ("UpdateShardCount", {"StreamName": "s", "TargetShardCount": 1, "ScalingType": "UNIFORM_SCALING"}),
    ("UpdateAccountSettings", {"MinimumThroughputBillingCommitment": {"Status": "ENABLED"}}),
    ("DescribeLimits", {}),
    ("PutRecords", {"StreamName": "s", "Records": []}),
    ("PutRecord", {"StreamName": "s", "Data": b"", "PartitionKey": "", "ExplicitHashKey": "x"}),
    ("DeleteStream", {"StreamName": "s", "EnforceConsumerDeletion": True}),
]


def test_the_same_answers_as_in_json() -> None:
    """Two brokers of one seed, asked the same in either protocol."""
    in_json, in_cbor = VirtualKinesis(), VirtualKinesis()
    iterator = ""
    for name, given in SCRIPT:
        asked = {**given, "ShardIterator": iterator} if "ShardIterator" in given else given
        shape = load("kinesis").operation(name)
        assert shape is not None
        body = b"\xa0" if shape.input is None else cbor.encode_shape(shape.input, asked)
        one = in_json.raw(name, encoded(asked))
        other = in_cbor.raw(name, body, media_type=CBOR)
        document = json.loads(one.body or b"{}")
        for record in document.get("Records", ()):
            if "Data" in record:
                record["Data"] = b64decode(record["Data"])
        assert one.status == other.status, (name, one.body)
        assert document == loads(other.body), name
        iterator = document.get("ShardIterator", document.get("NextShardIterator", iterator))
    in_json.close()
    in_cbor.close()

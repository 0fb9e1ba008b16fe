"""What rules of requests see and say: resources as ARNs, messages as documents, errors in AWS's words, ledger notes."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.loaders
import pytest
from test_faults_requests_properties import ACCOUNT, LUCKY, URL, Virtual

from broker.errors import BrokerFailure
from broker.names import World
from broker.store.sqlite import SqliteStore
from protocols.application import SERVICES
from protocols.faults import occasions, refusals
from protocols.faults.documented import SENTENCES
from protocols.http.message import Request
from protocols.routing import Route
from protocols.shapes.model import load

REGION = "us-east-1"
ARN = f"arn:aws:%s:{REGION}:{ACCOUNT}:"


@pytest.fixture
def virtual() -> Iterator[Virtual]:
    made = Virtual()
    made.ask("sqs", "CreateQueue", QueueName="a")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("service", "operation", "given", "arn"),
    [
        ("sqs", "SendMessage", {"QueueUrl": f"{URL}a"}, ARN % "sqs" + "a"),
        ("sqs", "SendMessage", {"QueueUrl": "https://sqs.eu-west-1.amazonaws.com/222222222222/a"},
         "arn:aws:sqs:eu-west-1:222222222222:a"),
        ("sqs", "SendMessage", {"QueueUrl": "what"}, ""),
        ("sqs", "CreateQueue", {"QueueName": "new"}, ARN % "sqs" + "new"),
        ("sqs", "StartMessageMoveTask", {"SourceArn": ARN % "sqs" + "a"}, ARN % "sqs" + "a"),
        ("sqs", "ListQueues", {}, ""),
        ("sns", "Publish", {"TopicArn": ARN % "sns" + "t"}, ARN % "sns" + "t"),
        ("sns", "Publish", {"PhoneNumber": "+1"}, ""),
        ("sns", "CreateTopic", {"Name": "t"}, ARN % "sns" + "t"),
        ("sns", "CreatePlatformApplication", {"Name": "t", "Platform": "GCM"}, ""),
        ("sns", "Unsubscribe", {"SubscriptionArn": ARN % "sns" + "t:0-1"}, ARN % "sns" + "t"),
        ("kinesis", "PutRecord", {"StreamName": "s"}, ARN % "kinesis" + "stream/s"),
        ("kinesis", "PutRecord", {"StreamARN": ARN % "kinesis" + "stream/s"}, ARN % "kinesis" + "stream/s"),
        ("kinesis", "SubscribeToShard", {"ConsumerARN": ARN % "kinesis" + "stream/s/consumer/c:1"},
         ARN % "kinesis" + "stream/s"),
        ("kinesis", "GetRecords", {"ShardIterator": "bad"}, ""),
        ("events", "PutEvents", {"Entries": [{"EventBusName": "b"}]}, ARN % "events" + "event-bus/b"),
        ("events", "PutEvents", {"Entries": [{}]}, ARN % "events" + "event-bus/default"),
        ("events", "PutTargets", {"Rule": "r"}, ARN % "events" + "event-bus/default"),
        ("events", "ListArchives", {}, ""),
        ("dynamodb", "PutItem", {"TableName": "t"}, ARN % "dynamodb" + "table/t"),
        ("dynamodb", "BatchWriteItem", {"RequestItems": {"t": []}}, ARN % "dynamodb" + "table/t"),
        ("sts", "GetCallerIdentity", {}, ""),
    ],
)  # fmt: skip
def test_the_resource(virtual: Virtual, service: str, operation: str, given: dict[str, Any], arn: str) -> None:
    assert occasion(virtual, service, operation, given).resource == arn


def occasion(virtual: Virtual, service: str, operation: str, given: dict[str, Any]) -> Any:
    request = Request("POST", b"/", [(b"user-agent", b"Boto3/1")])
    route = Route(service, REGION, ACCOUNT, operation, "json1.0", "AKID")
    return occasions.occasion(virtual.broker, World(ACCOUNT, REGION), given, request, route)


def test_a_shard_iterator_is_its_streams(virtual: Virtual) -> None:
    virtual.ask("kinesis", "CreateStream", StreamName="s", ShardCount=1)
    virtual.clock.advance(60_000)
    asked = {"StreamName": "s", "ShardId": "shardId-000000000000", "ShardIteratorType": "LATEST"}
    iterator = virtual.ask("kinesis", "GetShardIterator", **asked)
    assert occasion(virtual, "kinesis", "GetRecords", iterator).resource == ARN % "kinesis" + "stream/s"


@pytest.mark.parametrize(
    ("service", "operation", "given", "content"),
    [
        (
            "sqs",
            "SendMessage",
            {
                "MessageBody": '{"kind": "order"}',
                "MessageAttributes": {
                    "n": {"DataType": "Number", "StringValue": "7"},
                    "s": {"DataType": "String", "StringValue": "7"},
                },
            },
            [{"body": {"kind": "order"}, "attributes": {"n": 7, "s": "7"}}],
        ),
        (
            "sqs",
            "SendMessageBatch",
            {"Entries": [{"MessageBody": "{no"}, {"MessageBody": "[1]"}]},
            [{"body": "{no", "attributes": {}}, {"body": [1], "attributes": {}}],
        ),
        ("sns", "Publish", {"Message": "text"}, [{"body": "text", "attributes": {}}]),
        (
            "events",
            "PutEvents",
            {"Entries": [{"Source": "a", "DetailType": "d", "Detail": '{"n": 1}'}]},
            [{"body": {"n": 1}, "attributes": {"Source": "a", "DetailType": "d"}}],
        ),
        (
            "kinesis",
            "PutRecords",
            {"Records": [{"Data": b'{"n": 1}', "PartitionKey": "k"}, {"Data": b"\xff", "PartitionKey": "l"}]},
            [
                {"body": {"n": 1}, "attributes": {"PartitionKey": "k"}},
                {"body": "�", "attributes": {"PartitionKey": "l"}},
            ],
        ),
    ],
)  # fmt: skip
def test_the_content(virtual: Virtual, service: str, operation: str, given: dict[str, Any], content: Any) -> None:
    asked = occasion(virtual, service, operation, {"QueueUrl": f"{URL}a", **given})
    assert asked.content() == content
    assert asked.client == "AKID Boto3/1"


def test_only_what_has_a_message_has_content(virtual: Virtual) -> None:
    assert occasion(virtual, "sqs", "ReceiveMessage", {"QueueUrl": f"{URL}a"}).content is None


def test_a_rule_by_message_strikes_only_that(virtual: Virtual) -> None:
    virtual.broker.faults.add(
        {"fault": "throttle", "operation": "SendMessageBatch", "message": {"body": {"kind": ["order"]}}}
    )
    entry = {"Id": "1", "MessageBody": '{"kind": "note"}'}
    virtual.ask("sqs", "SendMessageBatch", QueueUrl=f"{URL}a", Entries=[entry])
    entries = [entry, {"Id": "2", "MessageBody": '{"kind": "order"}'}]
    answers = virtual.start(LUCKY, "sqs", "SendMessageBatch", {"QueueUrl": f"{URL}a", "Entries": entries})
    virtual.clock.settle()
    assert answers[0][0] == 400


# words


def test_the_sentences_are_those_of_the_models() -> None:
    loader = botocore.loaders.Loader()
    for service, sentences in SENTENCES.items():
        shapes = loader.load_service_model(service, "service-2")["shapes"]
        assert sentences == {
            name: sentence(shape.get("documentation", "")) for name, shape in shapes.items() if shape.get("exception")
        }


def sentence(documentation: str) -> str:
    paragraph = html.unescape(re.sub(r"<[^>]+>", "", re.split(r"</p>|<ul>", documentation)[0])).replace("’", "'")
    text = re.sub(r"\s+", " ", paragraph).strip().removeprefix("Error code 400. ")
    found = re.match(r".*?[.:](?= |$)|.*", text)
    assert found is not None
    return found[0]


def test_every_error_of_every_service_has_words() -> None:
    for service in SERVICES:
        for name in load(service).errors:
            refusal = refusals.error(load(service), name, None, None)
            assert refusal.code == name
            assert refusal.message
        assert refusals.failure(load(service)).status == 500


def test_every_operation_can_be_throttled() -> None:
    for service, operations in SERVICES.items():
        for name in operations:
            shape = load(service).operation(name)
            assert shape is not None
            refusal = refusals.throttled(shape, "")
            assert re.search("[Tt]hrottl|LimitExceeded|Throughput", refusal.code)
            if service in ("kinesis", "dynamodb") and shape.errors:
                assert refusal.code in (*shape.errors, "ThrottlingException")


# the ledger


def told(virtual: Virtual) -> list[dict[str, Any]]:
    virtual.clock.settle()
    virtual.broker.ledger.look()
    found = [entry for entry in virtual.store.ledger.after(0, 1000) if entry.event == "fault"]
    virtual.clock.settle()
    return [{**json.loads(entry.detail), "message_id": entry.message_id} for entry in found]


def test_the_ledger_knows_what_struck(virtual: Virtual) -> None:
    virtual.broker.ledger.enable()
    add = virtual.broker.faults.add
    add({"fault": "answered-not-done", "operation": "SendMessage", "count": 1, "name": "gone"})
    lost = virtual.ask("sqs", "SendMessage", QueueUrl=f"{URL}a", MessageBody="x")
    assert told(virtual) == [
        {
            "kind": "answered-not-done",
            "rule": "gone",
            "operation": "SendMessage",
            "md5": lost["MD5OfMessageBody"],
            "message_id": "",
        }
    ]
    add({"fault": "done-not-answered", "how": "error", "operation": "SendMessage", "count": 1})
    answers = virtual.start(LUCKY, "sqs", "SendMessage", {"QueueUrl": f"{URL}a", "MessageBody": "x"})
    virtual.clock.settle()
    assert answers[0][0] == 500
    message = virtual.ask("sqs", "ReceiveMessage", QueueUrl=f"{URL}a")["Messages"][0]
    assert told(virtual)[1]["message_id"] == message["MessageId"]
    add({"fault": "partial-batch", "operation": "DeleteMessageBatch", "count": 1})
    entries = [{"Id": "e", "ReceiptHandle": message["ReceiptHandle"]}]
    answer = virtual.ask("sqs", "DeleteMessageBatch", QueueUrl=f"{URL}a", Entries=entries)
    assert answer["Failed"][0]["Code"] == "InternalError"
    noted = told(virtual)[2]
    assert (noted["message_id"], noted["entry"]) == (message["MessageId"], "e")


def test_the_ledger_knows_the_message_of_a_long_poll(virtual: Virtual) -> None:
    virtual.broker.ledger.enable()
    virtual.broker.faults.add({"fault": "done-not-answered", "how": "error", "operation": "ReceiveMessage"})
    poll = virtual.start(LUCKY, "sqs", "ReceiveMessage", {"QueueUrl": f"{URL}a", "WaitTimeSeconds": 20})
    virtual.clock.settle()
    sent = virtual.ask("sqs", "SendMessage", QueueUrl=f"{URL}a", MessageBody="x")
    assert poll[0][0] == 500
    assert [note["message_id"] for note in told(virtual)] == [sent["MessageId"]]


# a full disk, on a disk


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_store_that_plays_a_full_disk(tmp_path: Path, in_memory: bool) -> None:
    store = SqliteStore(None if in_memory else tmp_path)
    store.begin()
    store.put_meta("a", "1")
    store.commit()
    store.play_full(True)
    for _ in range(2):
        store.begin()
        assert store.get_meta("a") == "1"
        store.commit()
        store.begin()
        store.put_meta("a", "2")
        with pytest.raises(Exception, match="database or disk is full") as caught:
            store.commit()
        failure = store.failure(caught.value)  # type: ignore[arg-type]
        assert isinstance(failure, BrokerFailure)
        assert "is full: free some space" in str(failure)
        store.rollback()
    store.play_full(False)
    store.begin()
    store.put_meta("a", base64.b64encode(b"3").decode())
    store.commit()
    store.close()

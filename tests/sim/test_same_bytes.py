"""The same seed, clock and requests: the same bytes. Two processes whose hashes differ get one long script of requests
over all services and protocols, errors among them, with the clock standing or advanced; every byte of every answer
and of every delivery to a remote end must be the same. With a plan of faults, the faults too.
"""

from __future__ import annotations

import http.client
import json
import re
import struct
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

ACCOUNT, REGION = "111122223333", "eu-west-1"
HOST = "sidebus.test:4566"  # so that no port gets into an answer
START = "2026-12-01T00:00:00Z"

JSON_TARGETS = {
    "sqs": ("AmazonSQS", "1.0"),
    "events": ("AWSEvents", "1.1"),
    "kinesis": ("Kinesis_20131202", "1.1"),
    "dynamodb": ("DynamoDB_20120810", "1.0"),
}
VERSIONS = {"sqs": "2012-11-05", "sns": "2010-03-31", "sts": "2011-06-15"}

PLAN = {
    "seed": 7,
    "rule": [
        {"fault": "throttle", "service": "kinesis", "operation": "PutRecord", "probability": 0.2},
        {"fault": "error", "operation": "ListQueues", "code": "InternalFailure", "probability": 0.5},
        {"fault": "partial-batch", "operation": "SendMessageBatch", "fraction": 0.5},
        {"fault": "answered-not-done", "operation": "SendMessage", "resource": "plain", "probability": 0.3},
        {"fault": "done-not-answered", "how": "error", "operation": "DeleteMessage", "probability": 0.3},
        {"fault": "empty-receive", "resource": "plain", "probability": 0.2},
        {"fault": "duplicate", "resource": "plain", "probability": 0.3},
        {"fault": "late", "delay": "4s", "resource": "plain", "probability": 0.3},
        {"fault": "reorder", "window": "10s", "resource": "one", "probability": 0.5},
        {"fault": "early-visibility", "fraction": 0.5, "resource": "plain", "probability": 0.3},
        {"fault": "stale-handle", "resource": "plain", "probability": 0.2},
        {"fault": "shard-throttle", "operation": "PutRecords", "probability": 0.3},
        {"fault": "repeat-record", "resource": "s", "probability": 0.3},
        {"fault": "lag", "growth_per_s": 10, "resource": "s"},
    ],
}


class Endpoint:
    """A remote end: a subscriber of SNS's and what an API destination calls. It takes everything and keeps it."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self._arrived = threading.Condition()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = "".join(f"{name.lower()}: {value}\n" for name, value in self.headers.items())
                with endpoint._arrived:
                    endpoint.taken.append(f"{self.path}\n{headers}\n".encode() + body)
                    endpoint._arrived.notify_all()
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait_for(self, count: int) -> bytes:
        """The last of so many."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.taken) >= count, 10)
            return self.taken[count - 1]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with closing(Endpoint()) as endpoint:
        yield endpoint


class Run:
    """One process, and all that it has answered."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        self.said: list[tuple[str, bytes]] = []

    def close(self) -> None:
        self._connection.close()

    def control(self, method: str, page: str, document: object = None) -> Any:
        body = json.dumps(document)
        self._connection.request(method, f"/_sidebus/{page}", body, {"Host": HOST, "Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer
        return json.loads(answer)

    def json(self, service: str, operation: str, **given: Any) -> dict[str, Any]:
        target, version = JSON_TARGETS[service]
        answer = self._ask(
            f"{service} {operation}",
            service,
            {"Content-Type": f"application/x-amz-json-{version}", "X-Amz-Target": f"{target}.{operation}"},
            json.dumps(given).encode(),
        )
        document: dict[str, Any] = json.loads(answer) if answer else {}
        return document

    def query(self, service: str, operation: str, **given: str) -> str:
        form = urlencode({"Action": operation, "Version": VERSIONS[service], **given}).encode()
        head = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._ask(f"{service} {operation} (query)", service, head, form).decode()

    def cbor(self, operation: str, **given: Any) -> bytes:
        head = {"Content-Type": "application/x-amz-cbor-1.1", "X-Amz-Target": f"Kinesis_20131202.{operation}"}
        return self._ask(f"kinesis {operation} (cbor)", "kinesis", head, cbor_map(given))

    def _ask(self, what: str, service: str, headers: dict[str, str], body: bytes) -> bytes:
        signed = f"AWS4-HMAC-SHA256 Credential={ACCOUNT}/20261201/{REGION}/{service}/aws4_request, SignedHeaders=host"
        headers = {"Host": HOST, "Authorization": f"{signed}, Signature=0", **headers}
        self._connection.request("POST", "/", body, headers)
        response = self._connection.getresponse()
        answer = response.read()
        head = "".join(f"{name}: {value}\r\n" for name, value in response.getheaders())
        self.said.append((f"{len(self.said)} {what}", f"{response.status}\r\n{head}\r\n".encode() + answer))
        return answer


def cbor_map(members: dict[str, str | bytes]) -> bytes:
    """RFC 8949: a map of short texts and byte strings."""
    parts = [bytes([0xA0 | len(members)])]
    for name, value in members.items():
        for item in (name, value):
            kind, content = (0x60, item.encode()) if isinstance(item, str) else (0x40, item)
            parts += (struct.pack(">BH", kind | 25, len(content)), content)
    return b"".join(parts)


def arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def queues(run: Run) -> None:
    url = run.json("sqs", "CreateQueue", QueueName="plain", tags={"b": "2", "a": "1"})["QueueUrl"]
    run.query("sqs", "CreateQueue", QueueName="dead")
    redrive = json.dumps({"deadLetterTargetArn": arn("sqs", "dead"), "maxReceiveCount": "2"})
    run.json("sqs", "SetQueueAttributes", QueueUrl=url, Attributes={"RedrivePolicy": redrive, "VisibilityTimeout": "5"})
    for n in range(12):
        run.json("sqs", "SendMessage", QueueUrl=url, MessageBody=f"m{n}", DelaySeconds=n % 3)
    entries = [{"Id": f"i{n}", "MessageBody": f"b{n}"} for n in range(10)]
    run.json("sqs", "SendMessageBatch", QueueUrl=url, Entries=entries)
    run.json("sqs", "SendMessageBatch", QueueUrl=url, Entries=[*entries[:1], *entries[:1]])  # the same id twice
    run.query("sqs", "SendMessage", QueueUrl=url, MessageBody="<&>", **{"MessageAttribute.1.Name": "a",
              "MessageAttribute.1.Value.DataType": "String", "MessageAttribute.1.Value.StringValue": "v"})  # fmt: skip
    handles = []
    for _ in range(4):
        run.control("POST", "clock", {"advance": 6})
        received = run.json("sqs", "ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=10,
                            AttributeNames=["All"], MessageAttributeNames=["All"])  # fmt: skip
        handles += [message["ReceiptHandle"] for message in received.get("Messages", [])]
        text = run.query("sqs", "ReceiveMessage", QueueUrl=url, MaxNumberOfMessages="3")
        handles += re.findall("<ReceiptHandle>(.*?)</ReceiptHandle>", text)
        run.json("sqs", "ListQueues", MaxResults=1)
        run.query("sqs", "ListQueues")
    for handle in handles[::2]:
        run.json("sqs", "DeleteMessage", QueueUrl=url, ReceiptHandle=handle)
    changes = [{"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": n} for n, handle in enumerate(handles[:5])]
    run.json("sqs", "ChangeMessageVisibilityBatch", QueueUrl=url, Entries=changes)
    run.json("sqs", "DeleteMessage", QueueUrl=url, ReceiptHandle="nonsense")
    run.query("sqs", "DeleteMessage", QueueUrl=url, ReceiptHandle="nonsense")
    run.json("sqs", "GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])
    run.query("sqs", "GetQueueAttributes", QueueUrl=url, **{"AttributeName.1": "All"})
    run.json("sqs", "AddPermission", QueueUrl=url, Label="l", AWSAccountIds=[ACCOUNT], Actions=["SendMessage"])
    run.json("sqs", "ListQueueTags", QueueUrl=url)
    run.json("sqs", "StartMessageMoveTask", SourceArn=arn("sqs", "dead"))
    run.control("POST", "clock", {"advance": 10})
    run.json("sqs", "ListMessageMoveTasks", SourceArn=arn("sqs", "dead"))
    run.json("sqs", "GetQueueUrl", QueueName="none")
    run.query("sqs", "GetQueueUrl", QueueName="none")
    run.json("sqs", "NoSuchOperation")
    run.query("sqs", "NoSuchOperation")

    fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    ordered = run.json("sqs", "CreateQueue", QueueName="ordered.fifo", Attributes=fifo)["QueueUrl"]
    for n in range(9):
        run.json("sqs", "SendMessage", QueueUrl=ordered, MessageBody=f"f{n % 5}", MessageGroupId=f"g{n % 3}")
    for _ in range(3):
        received = run.json("sqs", "ReceiveMessage", QueueUrl=ordered, MaxNumberOfMessages=2, AttributeNames=["All"])
        for message in received.get("Messages", []):
            run.json("sqs", "DeleteMessage", QueueUrl=ordered, ReceiptHandle=message["ReceiptHandle"])


def topics(run: Run, endpoint: Endpoint) -> None:
    topic = arn("sns", "news")
    run.query("sns", "CreateTopic", Name="news")
    for name in ("one", "two"):
        url = run.json("sqs", "CreateQueue", QueueName=name)["QueueUrl"]
        filtered = {"Attributes.entry.1.key": "FilterPolicy", "Attributes.entry.1.value": '{"kind": ["a", "b"]}'}
        run.query("sns", "Subscribe", TopicArn=topic, Protocol="sqs", Endpoint=arn("sqs", name),
                  ReturnSubscriptionArn="true", **(filtered if name == "two" else {}))  # fmt: skip
    before = len(endpoint.taken)
    run.query("sns", "Subscribe", TopicArn=topic, Protocol="http", Endpoint=f"{endpoint.url}/news")
    asked = json.loads(endpoint.wait_for(before + 1).partition(b"\n\n")[2])
    run.query("sns", "ConfirmSubscription", TopicArn=topic, Token=asked["Token"])
    run.query("sns", "ConfirmSubscription", TopicArn=topic, Token="0" * 64)
    for n in range(5):
        run.query("sns", "Publish", TopicArn=topic, Message=f"n{n}", Subject="s", **{
            "MessageAttributes.entry.1.Name": "kind",
            "MessageAttributes.entry.1.Value.DataType": "String",
            "MessageAttributes.entry.1.Value.StringValue": "abc"[n % 3],
        })  # fmt: skip
        endpoint.wait_for(before + 2 + n)
    for name in ("one", "two"):
        url = f"http://{HOST}/{ACCOUNT}/{name}"
        run.json("sqs", "ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=10)
    run.query("sns", "ListSubscriptions")
    run.query("sns", "GetTopicAttributes", TopicArn=topic)
    run.query("sns", "Publish", TopicArn=arn("sns", "none"), Message="x")
    run.query("sns", "Publish", PhoneNumber="+15550100", Message="x")
    run.query("sns", "CreateTopic", Name="not a name")


def buses(run: Run, endpoint: Endpoint) -> None:
    run.json("events", "CreateEventBus", Name="orders", Tags=[{"Key": "k", "Value": "v"}])
    caught = run.json("sqs", "CreateQueue", QueueName="caught")["QueueUrl"]
    pattern = json.dumps({"source": ["shop"], "detail": {"n": [{"numeric": [">", 1]}], "kind": [{"prefix": "a"}, "b"]}})
    run.json("events", "PutRule", Name="big", EventBusName="orders", EventPattern=pattern)
    run.json("events", "PutTargets", Rule="big", EventBusName="orders", Targets=[
        {"Id": "q", "Arn": arn("sqs", "caught")},
        {"Id": "t", "Arn": arn("sqs", "caught"), "InputTransformer": {
            "InputPathsMap": {"n": "$.detail.n", "id": "$.id"}, "InputTemplate": '"<n> of <id>"'}},
    ])  # fmt: skip
    run.json("events", "PutRule", Name="hourly", ScheduleExpression="rate(1 hour)")
    run.json("events", "PutTargets", Rule="hourly", Targets=[{"Id": "q", "Arn": arn("sqs", "caught")}])
    run.json("events", "CreateConnection", Name="c", AuthorizationType="API_KEY",
             AuthParameters={"ApiKeyAuthParameters": {"ApiKeyName": "x-key", "ApiKeyValue": "v"}})  # fmt: skip
    run.json("events", "CreateArchive", ArchiveName="all", EventSourceArn=arn("events", "event-bus/orders"))
    for n in range(6):
        details = [json.dumps({"n": n, "kind": kind}) for kind in ("apple", "b", "c")] + ["no"]
        common = {"Source": "shop", "DetailType": "d", "EventBusName": "orders"}
        run.json("events", "PutEvents", Entries=[{**common, "Detail": detail} for detail in details])
    run.control("POST", "clock", {"advance": "3h"})
    for _ in range(5):
        run.json("sqs", "ReceiveMessage", QueueUrl=caught, MaxNumberOfMessages=10)
    run.json("events", "ListRules", EventBusName="orders")
    run.json("events", "ListTargetsByRule", Rule="big", EventBusName="orders")
    run.json("events", "DescribeConnection", Name="c")
    run.json("events", "DescribeArchive", ArchiveName="all")
    run.json("events", "PutRule", Name="bad", EventPattern='{"source": [{"numbers": 1}]}')
    run.json("events", "DescribeRule", Name="none")
    run.json("events", "TestEventPattern", EventPattern=pattern, Event="{}")


def streams(run: Run) -> None:
    run.json("kinesis", "CreateStream", StreamName="s", ShardCount=3)
    stream = arn("kinesis", "stream/s")
    for n in range(20):
        run.json("kinesis", "PutRecord", StreamName="s", PartitionKey=f"k{n}", Data=b64encode(b"r%d" % n).decode())
        run.cbor("PutRecord", StreamName="s", PartitionKey=f"k{n}", Data=b"c%d" % n)
    records = [{"PartitionKey": f"p{n}", "Data": "eA=="} for n in range(10)]
    run.json("kinesis", "PutRecords", StreamName="s", Records=records)
    listed = run.json("kinesis", "ListShards", StreamName="s", MaxResults=2)
    run.json("kinesis", "ListShards", NextToken=listed["NextToken"])
    for shard in range(3):
        iterator = run.json("kinesis", "GetShardIterator", StreamName="s", ShardIteratorType="TRIM_HORIZON",
                            ShardId=f"shardId-{shard:012}")["ShardIterator"]  # fmt: skip
        for _ in range(2):
            iterator = run.json("kinesis", "GetRecords", ShardIterator=iterator, Limit=6)["NextShardIterator"]
        run.cbor("GetRecords", ShardIterator=iterator)
    run.json("kinesis", "RegisterStreamConsumer", StreamARN=stream, ConsumerName="c")
    run.json("kinesis", "SplitShard", StreamName="s", ShardToSplit="shardId-000000000000", NewStartingHashKey="1000")
    run.json("kinesis", "UpdateShardCount", StreamName="s", TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    run.control("POST", "clock", {"advance": "1h"})
    run.json("kinesis", "DescribeStream", StreamName="s")
    run.cbor("DescribeStreamSummary", StreamName="s")
    run.json("kinesis", "GetRecords", ShardIterator="nonsense")
    run.json("kinesis", "PutRecord", StreamName="none", PartitionKey="k", Data="eA==")
    run.cbor("PutRecord", StreamName="none", PartitionKey="k", Data=b"")


def tables(run: Run) -> None:
    run.json("dynamodb", "CreateTable", TableName="leases", BillingMode="PAY_PER_REQUEST",
             KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
             AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}])  # fmt: skip
    for n in range(5):
        item = {"k": {"S": f"k{n}"}, "set": {"SS": [f"s{m}" for m in range(n + 2)]}, "n": {"N": str(n)}}
        run.json("dynamodb", "PutItem", TableName="leases", Item=item)
    run.json("dynamodb", "Scan", TableName="leases")
    run.json("dynamodb", "GetItem", TableName="leases", Key={"k": {"S": "k3"}})
    run.json("dynamodb", "DescribeTable", TableName="leases")
    run.json("dynamodb", "PutItem", TableName="leases", Item={})


def script(run: Run, endpoint: Endpoint) -> None:
    queues(run)
    topics(run, endpoint)
    buses(run, endpoint)
    streams(run)
    tables(run)
    run.query("sts", "GetCallerIdentity")
    run.control("POST", "clock", {"advance": "14d"})
    for name in ("plain", "dead", "one", "caught"):
        run.json("sqs", "ReceiveMessage", QueueUrl=f"http://{HOST}/{ACCOUNT}/{name}", MaxNumberOfMessages=10)
        run.json("sqs", "GetQueueAttributes", QueueUrl=f"http://{HOST}/{ACCOUNT}/{name}", AttributeNames=["All"])


@pytest.fixture
def play(start_sidebus: Callable[..., Any], endpoint: Endpoint, tmp_path: Path) -> Callable[..., Any]:
    """Plays the script against a new process. Returns its answers, and what was delivered to the endpoint."""

    def play(hash_seed: int, seed: int, plan: Any = None) -> tuple[list[tuple[str, bytes]], list[bytes]]:
        start = tmp_path / "start.json"
        start.write_text(json.dumps({"clock": {"at": START, "frozen": True}, **(plan or {})}))
        sidebus = start_sidebus("--seed", seed, "--plan", start, PYTHONHASHSEED=str(hash_seed))
        endpoint.taken.clear()
        with closing(Run(sidebus.url)) as run:
            script(run, endpoint)
            rules = run.control("GET", "faults").get("rules", [])
        assert [rule["name"] for rule in rules if not rule["struck"]] == []
        assert len(rules) == (len(plan["rule"]) if plan else 0)
        sidebus.stop()
        return run.said, list(endpoint.taken)

    return play


def differences(one: list[tuple[str, bytes]], other: list[tuple[str, bytes]]) -> list[tuple[str, bytes, bytes]]:
    pairs = zip(one, other, strict=True)
    return [(what, said, also) for (what, said), (_, also) in pairs if said != also]


@pytest.mark.parametrize("plan", [None, PLAN], ids=["no plan", "a plan"])
def test_the_same_seed_clock_and_requests_give_the_same_bytes(play: Callable[..., Any], plan: object) -> None:
    one, taken = play(1, 42, plan)
    other, also_taken = play(2, 42, plan)
    assert differences(one, other) == []
    assert taken == also_taken
    assert len(one) > 150, "the script has been played"
    assert len(taken) == 6, "and there was a delivery for each message"


def test_another_seed_gives_other_bytes(play: Callable[..., Any]) -> None:
    one, _ = play(1, 42)
    other, _ = play(1, 43)
    assert len(differences(one, other)) > 100

"""`/_sidebus/ledger…`, asked in process with a clock that stands still: every page, and what the ledger knows of
streams, queues on streams, topics and buses."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import pytest

from broker.clock import ManualClock
from broker.core import Broker
from broker.delivery import Outcome
from broker.delivery_policy import REFUSED, THROTTLED
from broker.entropy import Entropy
from broker.store.sqlite import SqliteStore
from protocols.application import Application
from protocols.http.message import Request, Response

ACCOUNT, REGION = "111111111111", "us-east-1"
TARGETS = {"sqs": "AmazonSQS", "kinesis": "Kinesis_20131202", "events": "AWSEvents"}
SHARD = "shardId-000000000000"


class World:
    """An application, its ledger on, and who asks it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.broker = Broker(SqliteStore(None), self.clock, Entropy(1))
        self._application = Application(self.broker)
        self.agent = "worker/1.0 more"

    def _send(self, method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes) -> Response:
        answers: list[Any] = []
        self._application(Request(method, target.encode(), headers, body), answers.append)
        self.clock.settle()
        (answer,) = answers
        assert isinstance(answer, Response)
        return answer

    def aws(self, service: str, operation: str, **given: Any) -> Any:
        credential = f"{ACCOUNT}/20261121/{REGION}/{service}/aws4_request"
        headers = [
            (b"content-type", b"application/x-amz-json-1.0" if service == "sqs" else b"application/x-amz-json-1.1"),
            (b"authorization", f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0".encode()),
            (b"user-agent", self.agent.encode()),
        ]
        headers.append((b"x-amz-target", f"{TARGETS[service]}.{operation}".encode()))
        body = json.dumps(given, default=lambda value: b64encode(value).decode()).encode()
        answer = self._send("POST", "/", headers, body)
        assert answer.status == 200, answer.body
        return json.loads(answer.body) if answer.body else {}

    def sns(self, action: str, **given: str) -> ElementTree.Element:
        credential = f"{ACCOUNT}/20261121/{REGION}/sns/aws4_request"
        headers = [
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"authorization", f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0".encode()),
        ]
        body = "&".join(f"{k}={quote(v)}" for k, v in {"Action": action, "Version": "2010-03-31", **given}.items())
        answer = self._send("POST", "/", headers, body.encode())
        assert answer.status == 200, answer.body
        return ElementTree.fromstring(answer.body)

    def page(self, method: str, target: str, document: object = None, *, status: int = 200) -> Any:
        answer = self._send(
            method, f"/_sidebus/ledger{target}", [], b"" if document is None else json.dumps(document).encode()
        )
        assert answer.status == status, answer.body
        (content_type,) = [value for name, value in answer.headers if name == b"content-type"]
        return json.loads(answer.body) if content_type == b"application/json" else answer.body.decode()

    def life(self, message_id: str) -> list[str]:
        return [moment["event"] for moment in self.page("GET", f"/messages/{message_id}")["timeline"]]

    def queue(self, name: str = "orders", **attributes: str) -> str:
        url: str = self.aws("sqs", "CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"]
        return url

    def arn(self, name: str, service: str = "sqs") -> str:
        return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{name}"

    def work(self, url: str) -> str:
        """One message, sent, received and deleted: its id."""
        id: str = self.aws("sqs", "SendMessage", QueueUrl=url, MessageBody="x")["MessageId"]
        (message,) = self.aws("sqs", "ReceiveMessage", QueueUrl=url)["Messages"]
        self.aws("sqs", "DeleteMessage", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return id


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.page("POST", "", {"enabled": True})
    yield world
    world.broker.close()


# the pages


def test_on_off_capacity_and_clear(world: World) -> None:
    assert world.page("GET", "") == {"enabled": True, "entries": 0, "capacity": 1_000_000, "dropped": 0}
    assert world.page("POST", "", {"capacity": 5000})["capacity"] == 5000
    id = world.work(world.queue())
    assert world.page("GET", "")["entries"] == 3
    assert world.page("POST", "", {"enabled": False}) == {
        "enabled": False,
        "entries": 3,
        "capacity": 5000,
        "dropped": 0,
    }
    world.work(world.queue())
    assert world.page("DELETE", "?account=222222222222")["entries"] == 3
    assert world.page("DELETE", f"?account={ACCOUNT}")["entries"] == 0
    assert "it is off" in world.page("GET", f"/messages/{id}", status=404)["error"]


@pytest.mark.parametrize(
    "given", [None, {}, [], {"enabled": "yes"}, {"capacity": 0}, {"capacity": True}, {"capacity": 1.5}, {"on": True}]
)
def test_switches_that_are_none(world: World, given: object) -> None:
    assert world.page("POST", "", given, status=400)["error"]


def test_entries(world: World) -> None:
    url, other = world.queue(), world.queue("other")
    ids = [world.work(url), world.work(other), world.work(url)]
    everything = world.page("GET", "/entries")
    assert [(entry["event"], entry["message_id"]) for entry in everything["entries"]] == [
        (event, id) for id in ids for event in ("sent", "delivered", "acknowledged")
    ]
    first = everything["entries"][1]
    assert first["resource"] == world.arn("orders")
    assert first["by"] == f"{ACCOUNT} worker/1.0 more"
    assert (first["number"], first["time"]) == (1, "2023-11-14T22:13:20.000Z")
    page = world.page("GET", f"/entries?queue=orders&account={ACCOUNT}&limit=4")
    assert (len(page["entries"]), page["next"]) == (4, 7)
    rest = world.page("GET", f"/entries?queue=orders&account={ACCOUNT}&limit=4&after={page['next']}")
    assert ([entry["id"] for entry in rest["entries"]], rest["next"]) == ([8, 9], None)
    of_one = world.page("GET", f"/entries?message={ids[2]}&event=acknowledged")["entries"]
    assert [entry["id"] for entry in of_one] == [9]
    assert world.page("GET", "/entries?resource=arn:aws:sqs:us-east-1:111111111111:none")["entries"] == []
    for whose, many in ((f"account={ACCOUNT}", 9), (f"region={REGION}", 9), ("account=222222222222", 0)):
        assert len(world.page("GET", f"/entries?{whose}")["entries"]) == many
    assert "no event" in world.page("GET", "/entries?event=eaten", status=400)["error"]
    assert world.page("GET", "/entries?limit=0", status=400)["error"]
    assert world.page("GET", "/entries?queue=a&topic=b", status=400)["error"]


def test_a_life_as_text_and_as_a_document(world: World) -> None:
    id = world.work(world.queue())
    document = world.page("GET", f"/messages/{id}")
    assert [moment["event"] for moment in document["timeline"]] == ["sent", "delivered", "acknowledged"]
    assert world.page("GET", f"/messages/{id}?format=text") == document["text"]
    assert "Is it of another account" in world.page("GET", "/messages/nobody", status=404)["error"]


def test_a_verdict_in_each_form(world: World) -> None:
    url = world.queue()
    world.work(url)
    asked = f"queue=orders&account={ACCOUNT}"
    document = world.page("GET", f"/verdict?{asked}")
    assert document["passed"]
    assert document["counts"]["processed_once"] == 1
    assert document["checks"][0]["name"] == "processed-more-than-once"
    assert world.page("GET", f"/verdict?{asked}&format=text") == document["text"]
    suites = ElementTree.fromstring(world.page("GET", f"/verdict?{asked}&format=junit"))
    assert suites.get("failures") == "0"
    assert world.page("GET", f"/verdict?resource={world.arn('orders')}")["passed"]
    assert world.page("GET", f"/verdict?queue={quote(url)}")["passed"], "a queue's URL says whose it is"
    assert "nothing of arn:aws:sqs" in world.page("GET", "/verdict?queue=orders", status=404)["error"]
    world.queue("silent")
    silent = world.page("GET", f"/verdict?queue=silent&account={ACCOUNT}", status=404)["error"]
    assert silent.endswith(":silent: nothing has happened there since it was switched on.")
    for wrong in (
        *("", "queue=orders&format=pdf", "resource=orders", "queue=orders&account=12"),
        "resource=arn:aws:events:us-east-1:111111111111:event-bus/default",
    ):
        assert world.page("GET", f"/verdict?{wrong}", status=400)["error"]


def test_effects(world: World) -> None:
    url = world.queue()
    id = world.work(url)
    assert world.page("POST", "/effects", {"message_id": id}) == {
        "message_id": id,
        "resource": world.arn("orders"),
        "known": True,
    }
    told = [{"message_id": id, "queue": "orders", "account": ACCOUNT, "key": "a"}, {"message_id": "nobody's"}]
    noted = world.page("POST", "/effects", told)["effects"]
    assert [effect["known"] for effect in noted] == [True, False]
    assert world.page("POST", "/effects", {"message_id": id, "queue": "other"})["known"] is False
    assert world.page("GET", f"/verdict?queue=orders&account={ACCOUNT}")["judged_by"] == "effects"
    for wrong in (None, {}, {"message_id": 1}, {"message_id": "x", "other": "y"}, "x"):
        assert world.page("POST", "/effects", wrong, status=400)["error"]
    world.page("POST", "", {"enabled": False})
    assert "it is off" in world.page("POST", "/effects", {"message_id": id}, status=409)["error"]


# topics and buses


def test_a_message_of_a_topic(world: World) -> None:
    world.queue()
    topic = world.sns("CreateTopic", Name="news").findtext(".//{*}TopicArn") or ""
    subscription = world.sns(
        "Subscribe", TopicArn=topic, Protocol="sqs", Endpoint=world.arn("orders"), ReturnSubscriptionArn="true"
    ).findtext(".//{*}SubscriptionArn")
    world.sns("Subscribe", TopicArn=topic, Protocol="sms", Endpoint="+15550100")
    id = world.sns("Publish", TopicArn=topic, Message="hello").findtext(".//{*}MessageId") or ""
    document = world.page("GET", f"/messages/{id}")
    assert [moment["event"] for moment in document["timeline"]] == ["published", "attempted"]
    ((copy),) = document["copies"]
    assert copy["resource"] == world.arn("orders")
    of_copy = world.page("GET", f"/messages/{copy['message_id']}")
    assert of_copy["origins"] == [id]
    assert of_copy["timeline"][0]["via"] == subscription
    assert f"came by subscription {(subscription or '').rpartition(':')[2]} of topic news (" in of_copy["text"]
    verdict = world.page("GET", f"/verdict?topic=news&account={ACCOUNT}")
    assert verdict["passed"]
    assert (verdict["counts"]["published"], verdict["counts"]["copies_in_queues"]) == (1, 1)


def test_deliveries_and_their_attempts(world: World) -> None:
    world.queue("dead")
    topic = world.sns("CreateTopic", Name="news").findtext(".//{*}TopicArn") or ""
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
    subscription = world.sns(
        "Subscribe", TopicArn=topic, Protocol="lambda", Endpoint=function, ReturnSubscriptionArn="true"
    ).findtext(".//{*}SubscriptionArn")
    ids = []
    for dead_letters in (False, True):
        if dead_letters:
            policy = json.dumps({"deadLetterTargetArn": world.arn("dead")})
            world.sns(
                "SetSubscriptionAttributes",
                SubscriptionArn=subscription or "",
                AttributeName="RedrivePolicy",
                AttributeValue=policy,
            )
        ids.append(world.sns("Publish", TopicArn=topic, Message="hello").findtext(".//{*}MessageId") or "")
        for outcome in (Outcome(THROTTLED, "too many"), Outcome(REFUSED, "there is no function")):
            (attempt,) = world.broker.outbox.due(10)
            assert attempt.message_id == ids[-1]
            world.broker.outbox.report(attempt, outcome)
            world.clock.advance(300_000)
    lost, buried = (world.life(id) for id in ids)
    assert lost == ["published", "attempted", "attempted", "given-up"]
    assert buried == ["published", "attempted", "attempted", "dead-lettered"]
    assert world.page("GET", f"/messages/{ids[1]}")["copies"][0]["resource"] == world.arn("dead")
    verdict = world.page("GET", f"/verdict?topic=news&account={ACCOUNT}")
    assert [defect["message_ids"] for defect in verdict["defects"]] == [[ids[0]]]
    assert (verdict["counts"]["lost"], verdict["counts"]["dead_lettered"]) == (1, 1)
    assert verdict["dead_lettered"] == [{"why": "there is no function", "count": 2}]


def test_an_event_of_a_bus(world: World) -> None:
    world.queue()
    world.aws("events", "PutRule", Name="r", EventPattern='{"source": ["shop"]}')
    world.aws("events", "PutTargets", Rule="r", Targets=[{"Id": "q", "Arn": world.arn("orders")}])
    entry = {"Source": "shop", "DetailType": "sold", "Detail": "{}"}
    (put,) = world.aws("events", "PutEvents", Entries=[entry])["Entries"]
    document = world.page("GET", f"/messages/{put['EventId']}")
    assert [moment["event"] for moment in document["timeline"]] == ["published"]
    assert [copy["resource"] for copy in document["copies"]] == [world.arn("orders")]


# streams


def test_records_are_ranges(world: World) -> None:
    world.aws("kinesis", "CreateStream", StreamName="s", ShardCount=1)
    put = world.aws(
        "kinesis", "PutRecords", StreamName="s", Records=[{"Data": b"x", "PartitionKey": str(n)} for n in range(50)]
    )["Records"]
    one = world.aws("kinesis", "PutRecord", StreamName="s", Data=b"y", PartitionKey="k")["SequenceNumber"]
    iterator = read(world, limit=30)
    assert world.page("GET", "")["entries"] == 3
    number = put[10]["SequenceNumber"]
    assert world.life(number) == ["put", "read"]
    assert world.life(put[40]["SequenceNumber"]) == world.life(one) == ["put"]
    verdict = world.page("GET", f"/verdict?stream=s&account={ACCOUNT}")
    assert verdict["passed"]
    assert (verdict["counts"]["put"], verdict["counts"]["read"], verdict["counts"]["never_read"]) == (51, 30, 21)
    read(world, iterator=iterator)
    read(world, limit=10)
    verdict = world.page("GET", f"/verdict?stream=s&account={ACCOUNT}")
    assert verdict["readers"] == [
        {"reader": f"{ACCOUNT} worker/1.0 more", "read": 51, "read_again": 10, "skipped": 0, "behind": 0}
    ]


def read(world: World, *, iterator: str | None = None, limit: int = 100, kind: str = "TRIM_HORIZON") -> str:
    if iterator is None:
        asked = {"StreamName": "s", "ShardId": SHARD, "ShardIteratorType": kind}
        iterator = world.aws("kinesis", "GetShardIterator", **asked)["ShardIterator"]
    following: str = world.aws("kinesis", "GetRecords", ShardIterator=iterator, Limit=limit)["NextShardIterator"]
    return following


def test_records_that_were_skipped_and_effects_of_records(world: World) -> None:
    world.aws("kinesis", "CreateStream", StreamName="s", ShardCount=1)
    records = [{"Data": b"x", "PartitionKey": "k"}] * 4
    numbers = [
        r["SequenceNumber"] for r in world.aws("kinesis", "PutRecords", StreamName="s", Records=records)["Records"]
    ]
    read(world, limit=2)
    latest = {"StreamName": "s", "ShardId": SHARD, "ShardIteratorType": "LATEST"}
    iterator = world.aws("kinesis", "GetShardIterator", **latest)["ShardIterator"]
    numbers.append(world.aws("kinesis", "PutRecord", StreamName="s", Data=b"y", PartitionKey="k")["SequenceNumber"])
    read(world, iterator=iterator)
    verdict = world.page("GET", f"/verdict?stream=s&account={ACCOUNT}")
    assert {defect["name"]: defect["count"] for defect in verdict["defects"]} == {"records-skipped": 2}
    assert f"3  read by {ACCOUNT} (worker/1.0): 0 of them again, 2 skipped" in verdict["text"]
    assert f"{SHARD}, places 3 to 4, by {ACCOUNT} (worker/1.0)\n" in verdict["text"]
    assert " more\n" not in verdict["text"]
    for number in (numbers[1], numbers[0], numbers[0]):
        assert world.page("POST", "/effects", {"message_id": number})["resource"] == world.arn("stream/s", "kinesis")
    verdict = world.page("GET", f"/verdict?stream=s&account={ACCOUNT}")
    assert {defect["name"]: defect["message_ids"] for defect in verdict["defects"]} == {
        "records-skipped": [f"{SHARD}, places 3 to 4, by {ACCOUNT} (worker/1.0)"],
        "done-more-than-once": [numbers[0]],
        "read-never-done": [f"{SHARD}, place 5"],
        "done-out-of-order": [numbers[1]],
    }
    assert world.life(numbers[0]) == ["put", "read", "effect", "effect"]


def test_a_subscription_is_a_reader(world: World) -> None:
    world.aws("kinesis", "CreateStream", StreamName="s", ShardCount=1)
    streams = world.broker.streams
    stream = next(iter(streams.registry.by_arn.values()))
    made = world.aws("kinesis", "RegisterStreamConsumer", StreamARN=stream.arn, ConsumerName="c")["Consumer"]
    consumer = streams.registry.consumers[made["ConsumerARN"]]
    subscription = streams.subscriptions.subscribe(
        consumer, SHARD, "TRIM_HORIZON", push=lambda event: True, end=lambda error: None
    )
    world.clock.settle()
    subscription.resume()
    number = world.aws("kinesis", "PutRecord", StreamName="s", Data=b"x", PartitionKey="k")["SequenceNumber"]
    assert world.life(number) == ["put", "read"]
    assert world.page("GET", f"/messages/{number}")["timeline"][1]["reader"] == consumer.arn


def test_a_queue_on_a_stream(world: World) -> None:
    world.aws("kinesis", "CreateStream", StreamName="s", StreamModeDetails={"StreamMode": "ON_DEMAND"})
    streams = world.broker.streams
    stream = next(iter(streams.registry.by_arn.values()))
    queue = streams.queues.create(stream.world, "q", stream, starts="TRIM_HORIZON")
    world.clock.settle()
    number = world.aws("kinesis", "PutRecord", StreamName="s", Data=b"x", PartitionKey="k")["SequenceNumber"]
    first = streams.queue_records.receive(queue, wait_s=0, visibility_timeout_s=5)
    assert isinstance(first, list)
    world.clock.advance(6000)
    (second,) = streams.queue_records.receive(queue, wait_s=0)  # type: ignore[misc]
    streams.queue_records.change_visibility(queue, [(second.receipt_handle, 20)])
    streams.queue_records.acknowledge(queue, [second.receipt_handle])
    world.clock.settle()
    assert world.life(number) == ["put", "delivered", "returned", "delivered", "changed", "acknowledged"]
    verdict = world.page("GET", f"/verdict?resource={quote(queue.arn)}")
    assert verdict["passed"]
    assert (verdict["counts"]["sent"], verdict["counts"]["deliveries"], verdict["counts"]["acknowledged"]) == (1, 2, 1)

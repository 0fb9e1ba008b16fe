"""Faults at requests as their users see them: through boto3, retries off and on, and through raw requests.

The broker runs in a thread of this process, so that a test may also look behind the counter.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from protocols.testing.thread import BrokerThread

Connect = Callable[..., Any]
Rule = dict[str, Any]
DOWN = (ConnectionClosedError, EndpointConnectionError)


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerThread]:
    with BrokerThread() as running:
        yield running


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda delay: None))


class Faults:
    """Rules of this test's account, which are gone when it is over."""

    def __init__(self, broker: BrokerThread, account: str) -> None:
        self._broker = broker
        self._account = account

    def add(self, fault: str, **rule: Any) -> str:
        given = {"fault": fault, "account": self._account, **rule}
        return self._broker.call(lambda broker: broker.faults.add(given))

    def struck(self) -> dict[str, int]:
        shown = self._broker.call(lambda broker: broker.faults.show())
        return {rule["name"]: rule["struck"] for rule in shown.get("rules", ())}


@pytest.fixture
def faults(broker: BrokerThread, account: str) -> Iterator[Faults]:
    yield Faults(broker, account)
    broker.call(lambda running: running.faults.clear())


@pytest.fixture
def client(broker: BrokerThread, boto_session: boto3.Session, account: str) -> Iterator[Connect]:
    """`client("sqs")`: without retries unless told, and impatient."""
    with contextlib.ExitStack() as clients:

        def make(
            service: str = "sqs", attempts: int = 1, mode: str = "legacy", read_timeout: float = 5, **config: Any
        ) -> Any:
            made = boto_session.client(
                service,
                endpoint_url=broker.url,
                region_name="us-east-1",
                aws_access_key_id=account,
                aws_secret_access_key="any",
                config=Config(
                    retries={"total_max_attempts": attempts, "mode": mode}, read_timeout=read_timeout, **config
                ),
            )
            clients.callback(made.close)
            return made

        yield make


@pytest.fixture
def sqs(client: Connect) -> Any:
    return client()


@pytest.fixture
def queue(sqs: Any) -> str:
    return str(sqs.create_queue(QueueName="orders")["QueueUrl"])


def counts(sqs: Any, queue: str) -> tuple[int, int]:
    """Messages that are visible, and in flight."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return int(attributes[names[0]]), int(attributes[names[1]])


def refusal(caught: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


# refused


def test_an_error_is_the_services_own(faults: Faults, client: Connect, sqs: Any, queue: str) -> None:
    faults.add("error", code="AWS.SimpleQueueService.NonExistentQueue", operation="SendMessage", count=1)
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as caught:
        sqs.send_message(QueueUrl=queue, MessageBody="a")
    assert caught.value.response["Error"]["Message"] == "The specified queue does not exist."
    assert caught.value.response["Error"]["QueryErrorCode"] == "QueueDoesNotExist"
    assert refusal(caught) == ("AWS.SimpleQueueService.NonExistentQueue", 400)
    sqs.send_message(QueueUrl=queue, MessageBody="a")
    assert counts(sqs, queue) == (1, 0)


@pytest.mark.parametrize(
    ("service", "call", "code", "seen", "status"),
    [
        ("sqs", lambda c: c.list_queues(), "InternalError", "InternalError", 500),
        ("sqs", lambda c: c.list_queues(), "OverLimit", "OverLimit", 400),
        ("sns", lambda c: c.list_topics(), "InternalErrorException", "InternalError", 500),
        ("sns", lambda c: c.list_topics(), "AuthorizationError", "AuthorizationError", 403),
        ("events", lambda c: c.list_rules(), "InternalException", "InternalException", 500),
        ("kinesis", lambda c: c.list_streams(), "ExpiredNextTokenException", "ExpiredNextTokenException", 400),
        ("dynamodb", lambda c: c.list_tables(), "InternalServerError", "InternalServerError", 500),
        ("sts", lambda c: c.get_caller_identity(), "ExpiredToken", "ExpiredToken", 403),
        ("kinesis", lambda c: c.list_streams(), "ServiceUnavailable", "ServiceUnavailableException", 503),
    ],
)
def test_an_errors_code_and_status(
    faults: Faults, client: Connect, service: str, call: Callable[[Any], Any], code: str, seen: str, status: int
) -> None:
    faults.add("error", code=code, service=service, count=1)
    with pytest.raises(ClientError) as caught:
        call(client(service))
    assert refusal(caught) == (seen, status)
    assert caught.value.response["Error"]["Message"]
    call(client(service))


def test_an_errors_own_words_and_status(faults: Faults, sqs: Any) -> None:
    faults.add("error", code="Odd", message="Not today.", status=418)
    with pytest.raises(ClientError, match="Not today") as caught:
        sqs.list_queues()
    assert refusal(caught) == ("Odd", 418)


def test_retries_outlive_two_errors(faults: Faults, client: Connect) -> None:
    faults.add("error", code="ServiceUnavailable", burst=2, count=2)
    answer = client(attempts=3).list_queues()
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2


@pytest.mark.parametrize(
    ("service", "call", "code", "status"),
    [
        ("sqs", lambda c: c.list_queues(), "RequestThrottled", 400),
        ("sns", lambda c: c.list_topics(), "Throttled", 429),
        ("events", lambda c: c.put_events(Entries=[{"Source": "a"}]), "ThrottlingException", 400),
        (
            "kinesis",
            lambda c: c.put_record(StreamName="s", Data=b"", PartitionKey="k"),
            "ProvisionedThroughputExceededException",
            400,
        ),
        ("kinesis", lambda c: c.describe_stream(StreamName="s"), "LimitExceededException", 400),
        (
            "kinesis",
            lambda c: c.receive_queue_records(QueueARN="arn:aws:kinesis:us-east-1:123456789012:queue/q:1700000000"),
            "ThrottlingException",
            400,
        ),
        (
            "dynamodb",
            lambda c: c.get_item(TableName="leases", Key={"k": {"S": "1"}}),
            "ProvisionedThroughputExceededException",
            400,
        ),
        ("dynamodb", lambda c: c.list_tables(), "ThrottlingException", 400),
        ("sts", lambda c: c.get_caller_identity(), "Throttling", 400),
    ],
)
def test_each_service_throttles_in_its_own_words(
    faults: Faults, client: Connect, service: str, call: Callable[[Any], Any], code: str, status: int
) -> None:
    faults.add("throttle", service=service)
    with pytest.raises(ClientError) as caught:
        call(client(service))
    assert refusal(caught) == (code, status)
    message = caught.value.response["Error"]["Message"]
    assert "xceed" in message or message == "Request is throttled."


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("sqs", "list_queues"),
        ("sns", "list_topics"),
        ("events", "list_rules"),
        ("kinesis", "list_streams"),
        ("dynamodb", "list_tables"),
        ("sts", "get_caller_identity"),
    ],
)
def test_sdks_take_it_for_throttling(faults: Faults, client: Connect, service: str, operation: str) -> None:
    faults.add("throttle", count=1)
    answer = getattr(client(service, attempts=2, mode="standard"), operation)()
    assert answer["ResponseMetadata"]["RetryAttempts"] == 1


# the query protocol, as old SDKs speak it


def query(broker: BrokerThread, account: str, action: str, **parameters: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(broker.url.removeprefix("http://"), timeout=5)
    with contextlib.closing(connection):
        form = "&".join(
            f"{name}={value}" for name, value in {"Action": action, "Version": "2012-11-05", **parameters}.items()
        )
        scope = f"Credential={account}/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0"
        headers = {"content-type": "application/x-www-form-urlencoded", "authorization": f"AWS4-HMAC-SHA256 {scope}"}
        connection.request("POST", "/", form, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_an_error_in_the_query_protocol(broker: BrokerThread, faults: Faults, account: str) -> None:
    faults.add("throttle", count=1)
    status, body = query(broker, account, "ListQueues")
    assert status == 403
    assert "<Type>Sender</Type><Code>RequestThrottled</Code><Message>Request is throttled.</Message>" in body
    faults.add("error", code="InternalError", count=1)
    status, body = query(broker, account, "ListQueues")
    assert status == 500
    assert "<Type>Receiver</Type><Code>InternalError</Code>" in body


def test_a_partial_batch_in_the_query_protocol(
    broker: BrokerThread, faults: Faults, account: str, sqs: Any, queue: str
) -> None:
    faults.add("partial-batch", count=1)
    entries = {
        f"SendMessageBatchRequestEntry.{number}.{name}": value
        for number in (1, 2)
        for name, value in (("Id", f"e{number}"), ("MessageBody", "b"))
    }
    status, body = query(broker, account, "SendMessageBatch", QueueUrl=queue, **entries)
    assert status == 200
    assert re.search(r"<BatchResultErrorEntry><Id>e[12]</Id><SenderFault>false</SenderFault>", body)
    assert body.count("<SendMessageBatchResultEntry>") == 1
    assert counts(sqs, queue) == (1, 0)


# lost on the way


@pytest.mark.parametrize(
    ("fault", "done"),
    [
        ({"fault": "reset"}, False),
        ({"fault": "reset", "when": "after"}, True),
        ({"fault": "done-not-answered"}, True),
    ],
)
def test_a_reset_connection(faults: Faults, client: Connect, sqs: Any, queue: str, fault: Rule, done: bool) -> None:
    faults.add(**fault, operation="SendMessage", count=1)
    with pytest.raises(ConnectionClosedError) as caught:
        sqs.send_message(QueueUrl=queue, MessageBody="a")
    assert "Connection reset by peer" in str(caught.value.__cause__ or caught.value.__context__)
    assert counts(sqs, queue) == (int(done), 0)


def test_a_retry_after_a_lost_acknowledgement_makes_two(faults: Faults, client: Connect, sqs: Any, queue: str) -> None:
    faults.add("done-not-answered", operation="SendMessage", count=1)
    answer = client(attempts=2).send_message(QueueUrl=queue, MessageBody="a")
    assert answer["ResponseMetadata"]["RetryAttempts"] == 1
    assert counts(sqs, queue) == (2, 0)


def test_silence(faults: Faults, client: Connect, sqs: Any, queue: str) -> None:
    faults.add("done-not-answered", how="silence", operation="SendMessage", count=1)
    with pytest.raises(ReadTimeoutError):
        client(read_timeout=0.1).send_message(QueueUrl=queue, MessageBody="a")
    assert counts(sqs, queue) == (1, 0)


def test_a_500_after_the_work(faults: Faults, sqs: Any, queue: str) -> None:
    faults.add("done-not-answered", how="error", operation="SendMessage", count=1)
    with pytest.raises(ClientError) as caught:
        sqs.send_message(QueueUrl=queue, MessageBody="a")
    assert refusal(caught) == ("InternalFailure", 500)
    assert counts(sqs, queue) == (1, 0)


def test_a_received_message_that_never_arrives_is_in_flight(faults: Faults, sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="a")
    faults.add("done-not-answered", operation="ReceiveMessage", count=1)
    with pytest.raises(ConnectionClosedError):
        sqs.receive_message(QueueUrl=queue)
    assert counts(sqs, queue) == (0, 1)


def test_a_long_poll_loses_its_answer_when_it_has_one(faults: Faults, client: Connect, sqs: Any, queue: str) -> None:
    faults.add("done-not-answered", operation="ReceiveMessage", count=1)
    lost = []

    def poll() -> None:
        with pytest.raises(ConnectionClosedError):
            client().receive_message(QueueUrl=queue, WaitTimeSeconds=5)
        lost.append(counts(sqs, queue))

    thread = threading.Thread(target=poll)
    thread.start()
    wait_for(lambda: faults.struck() == {"done-not-answered": 1} or not faults.struck())
    assert lost == []
    client().send_message(QueueUrl=queue, MessageBody="a")
    thread.join()
    assert lost == [(0, 1)]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# broken bodies


def test_a_truncated_body(
    broker: BrokerThread, faults: Faults, client: Connect, sqs: Any, queue: str, account: str
) -> None:
    """botocore does not compare lengths (`enforce_content_length=False`), and takes JSON that breaks off for nothing
    at all: a consumer sees an empty queue, while the message is in flight."""
    faults.add("truncate", after_bytes=5, operation="ReceiveMessage", count=1)
    sqs.send_message(QueueUrl=queue, MessageBody="a")
    assert sqs.receive_message(QueueUrl=queue).keys() == {"ResponseMetadata"}
    assert counts(sqs, queue) == (0, 1)
    faults.add("truncate", after_bytes=5, count=1)
    with pytest.raises(http.client.IncompleteRead) as caught:
        query(broker, account, "ListQueues")
    assert caught.value.partial == b"<?xml"


def test_a_truncated_body_of_xml_lacks_its_end(faults: Faults, client: Connect) -> None:
    faults.add("truncate", after_bytes=1 << 20, service="sns", count=1)
    with pytest.raises(ResponseParserError, match="</ListTopicsResponse'"):
        client("sns").list_topics()


def test_where_there_is_no_body_the_answer_is_missing(faults: Faults, sqs: Any, queue: str) -> None:
    faults.add("truncate", operation="PurgeQueue", count=1)
    with pytest.raises(ConnectionClosedError):
        sqs.purge_queue(QueueUrl=queue)


def test_a_stalled_body(faults: Faults, client: Connect, sqs: Any, queue: str) -> None:
    faults.add("stall", after_bytes=5, operation="SendMessage", **{"for": "50ms"}, count=1)
    begun = time.monotonic()
    assert sqs.send_message(QueueUrl=queue, MessageBody="a")["MessageId"]
    assert time.monotonic() - begun >= 0.05
    faults.add("stall", operation="SendMessage", **{"for": "60s"}, count=1)
    with pytest.raises(ReadTimeoutError):
        client(read_timeout=0.1).send_message(QueueUrl=queue, MessageBody="a")
    assert counts(sqs, queue) == (2, 0)


def test_slow_bytes(faults: Faults, sqs: Any, queue: str) -> None:
    faults.add("slow-bytes", bytes_per_s=1000, operation="SendMessage", count=1)
    begun = time.monotonic()
    answer = sqs.send_message(QueueUrl=queue, MessageBody="a")
    assert time.monotonic() - begun >= 0.1
    assert answer["MessageId"]


@pytest.mark.parametrize("fault", ["truncate", "stall", "slow-bytes"])
def test_a_subscription_breaks_as_it_streams(faults: Faults, client: Connect, fault: str) -> None:
    kinesis = client("kinesis")
    arn = stream(kinesis)
    consumer = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="c")["Consumer"]["ConsumerARN"]
    kinesis.put_record(StreamARN=arn, Data=b"x" * 100, PartitionKey="k")
    more = {
        "truncate": {"after_bytes": 120},
        "stall": {"after_bytes": 120, "for": "60s"},
        "slow-bytes": {"bytes_per_s": 20000},
    }
    faults.add(fault, operation="SubscribeToShard", resource="events", count=1, **more[fault])
    impatient = client("kinesis", **({"read_timeout": 0.2} if fault == "stall" else {}))
    begin = {"Type": "TRIM_HORIZON"}
    events = impatient.subscribe_to_shard(ConsumerARN=consumer, ShardId="shardId-000000000000", StartingPosition=begin)
    if fault == "slow-bytes":
        event = next(iter(events["EventStream"]))
        assert event["SubscribeToShardEvent"]["Records"][0]["Data"] == b"x" * 100
        events["EventStream"].close()
    else:
        with pytest.raises(Exception, match=r"IncompleteRead|ended prematurely|timed out"):
            list(events["EventStream"])


def stream(kinesis: Any, name: str = "events", shards: int = 1) -> str:
    kinesis.create_stream(StreamName=name, ShardCount=shards)
    kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 0.01})
    return str(kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"])


# late


def test_latency(faults: Faults, sqs: Any, queue: str) -> None:
    faults.add("latency", delay="60ms", operation="SendMessage", count=1)
    begun = time.monotonic()
    sqs.send_message(QueueUrl=queue, MessageBody="a")
    assert time.monotonic() - begun >= 0.06


def test_who_leaves_during_a_latency_is_forgotten(
    broker: BrokerThread, faults: Faults, client: Connect, sqs: Any, queue: str
) -> None:
    faults.add("latency", delay="300ms", operation="SendMessage", count=1)
    with pytest.raises(ReadTimeoutError):
        client(read_timeout=0.05).send_message(QueueUrl=queue, MessageBody="a")
    broker.call(lambda running: running.clock.jump(running.clock.now_ms() + 1000))
    sqs.send_message(QueueUrl=queue, MessageBody="b")
    received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    assert [message["Body"] for message in received] == ["b"]


def test_a_long_poll_after_a_latency_can_be_left(
    broker: BrokerThread, faults: Faults, client: Connect, sqs: Any, queue: str
) -> None:
    faults.add("latency", delay="10ms", operation="ReceiveMessage", count=1)
    with pytest.raises(ReadTimeoutError):
        client(read_timeout=0.1).receive_message(QueueUrl=queue, WaitTimeSeconds=5)
    wait_for(lambda: broker.call(lambda running: not any(q.waiters for q in running.queues.flow.by_arn.values())))
    sqs.send_message(QueueUrl=queue, MessageBody="a")
    assert counts(sqs, queue) == (1, 0)


# answered, not done


def test_answered_not_done(faults: Faults, sqs: Any, queue: str) -> None:
    faults.add("answered-not-done", operation="SendMessage", count=1)
    assert sqs.send_message(QueueUrl=queue, MessageBody="lost")["MessageId"]
    assert counts(sqs, queue) == (0, 0)
    sqs.send_message(QueueUrl=queue, MessageBody="a")
    faults.add("answered-not-done", operation="ReceiveMessage", count=1)
    lost = sqs.receive_message(QueueUrl=queue)["Messages"][0]
    assert lost["Body"] == "a"
    assert counts(sqs, queue) == (1, 0)
    got = sqs.receive_message(QueueUrl=queue, AttributeNames=["All"])["Messages"][0]
    assert got["Attributes"]["ApproximateReceiveCount"] == "1"
    faults.add("answered-not-done", operation="DeleteMessage", count=1)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=got["ReceiptHandle"])
    assert counts(sqs, queue) == (0, 1)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=got["ReceiptHandle"])
    assert counts(sqs, queue) == (0, 0)


def test_a_queue_that_was_not_deleted_keeps_its_messages(faults: Faults, client: Connect, sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="a")
    faults.add("answered-not-done", operation="DeleteQueue", count=1)
    sqs.delete_queue(QueueUrl=queue)
    assert counts(sqs, queue) == (1, 0)
    faults.add("answered-not-done", operation="CreateQueue", count=1)
    sqs.create_queue(QueueName="other")
    assert sqs.list_queues()["QueueUrls"] == [queue]


def test_who_waits_at_a_queue_that_was_not_deleted_is_answered(
    broker: BrokerThread, faults: Faults, client: Connect, sqs: Any, queue: str
) -> None:
    answers = []
    poll = threading.Thread(target=lambda: answers.append(client().receive_message(QueueUrl=queue, WaitTimeSeconds=5)))
    poll.start()
    wait_for(lambda: broker.call(lambda running: any(q.waiters for q in running.queues.flow.by_arn.values())))
    faults.add("answered-not-done", operation="DeleteQueue", count=1)
    sqs.delete_queue(QueueUrl=queue)
    poll.join()
    assert "Messages" not in answers[0]
    assert counts(sqs, queue) == (0, 0)


def test_a_long_poll_is_not_served_by_what_was_not_sent(
    broker: BrokerThread, faults: Faults, client: Connect, sqs: Any, queue: str
) -> None:
    answers = []
    poll = threading.Thread(target=lambda: answers.append(client().receive_message(QueueUrl=queue, WaitTimeSeconds=5)))
    poll.start()
    wait_for(lambda: broker.call(lambda running: any(q.waiters for q in running.queues.flow.by_arn.values())))
    faults.add("answered-not-done", operation="SendMessage", count=1)
    sqs.send_message(QueueUrl=queue, MessageBody="never")
    sqs.send_message(QueueUrl=queue, MessageBody="sent")
    poll.join()
    assert [message["Body"] for message in answers[0]["Messages"]] == ["sent"]


def test_the_outbox_is_not_woken_by_what_was_not_published(
    broker: BrokerThread, faults: Faults, client: Connect
) -> None:
    sns, woken = client("sns"), []
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        arn = sns.create_topic(Name="news")["TopicArn"]
        faults.add("answered-not-done", operation="Subscribe", count=1)
        was = broker.call(lambda running: running.outbox.wake)
        broker.call(lambda running: setattr(running.outbox, "wake", lambda: woken.append(1)))
        try:
            endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            assert sns.subscribe(TopicArn=arn, Protocol="http", Endpoint=endpoint)["SubscriptionArn"]
        finally:
            broker.call(lambda running: setattr(running.outbox, "wake", was))
    assert woken == []
    assert sns.list_subscriptions()["Subscriptions"] == []


@pytest.mark.parametrize("service", ["sns", "events", "kinesis", "dynamodb"])
def test_answered_not_done_elsewhere(faults: Faults, client: Connect, sqs: Any, queue: str, service: str) -> None:
    made = client(service)
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    if service == "sns":
        topic = made.create_topic(Name="t")["TopicArn"]
        made.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        faults.add("answered-not-done", operation="Publish", count=1)
        assert made.publish(TopicArn=topic, Message="lost")["MessageId"]
        assert counts(sqs, queue) == (0, 0)
        made.publish(TopicArn=topic, Message="sent")
        assert counts(sqs, queue) == (1, 0)
    elif service == "events":
        made.put_rule(Name="r", EventPattern=json.dumps({"source": ["a"]}))
        made.put_targets(Rule="r", Targets=[{"Id": "q", "Arn": arn}])
        faults.add("answered-not-done", operation="PutEvents", resource="default", count=1)
        for _ in range(2):
            answer = made.put_events(Entries=[{"Source": "a", "DetailType": "d", "Detail": "{}"}])
            assert answer["FailedEntryCount"] == 0
        assert counts(sqs, queue) == (1, 0)
    elif service == "kinesis":
        stream_arn = stream(made)
        faults.add("answered-not-done", operation="PutRecord", count=1)
        lost = made.put_record(StreamARN=stream_arn, Data=b"lost", PartitionKey="k")
        kept = made.put_record(StreamARN=stream_arn, Data=b"kept", PartitionKey="k")
        assert lost["SequenceNumber"]
        iterator = made.get_shard_iterator(
            StreamARN=stream_arn, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records = made.get_records(ShardIterator=iterator)["Records"]
        assert [(r["Data"], r["SequenceNumber"]) for r in records] == [(b"kept", kept["SequenceNumber"])]
    else:
        made.create_table(
            TableName="leases",
            KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        faults.add("answered-not-done", operation="PutItem", resource="leases", count=1)
        made.put_item(TableName="leases", Item={"k": {"S": "lost"}})
        made.put_item(TableName="leases", Item={"k": {"S": "kept"}})
        assert [item["k"]["S"] for item in made.scan(TableName="leases")["Items"]] == ["kept"]


def test_what_is_refused_is_refused_though_it_is_not_done(faults: Faults, sqs: Any, queue: str) -> None:
    faults.add("answered-not-done", operation="SendMessage", count=1)
    with pytest.raises(ClientError) as caught:
        sqs.send_message(QueueUrl=queue, MessageBody="a", DelaySeconds=901)
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValue"


# half of a batch


def test_half_of_a_send(faults: Faults, sqs: Any, queue: str) -> None:
    faults.add("partial-batch", operation="SendMessageBatch", count=1)
    entries = [{"Id": f"e{n}", "MessageBody": f"{n}"} for n in range(4)]
    answer = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    failed, done = answer["Failed"], answer["Successful"]
    assert len(failed) == len(done) == 2
    assert {"Code": "InternalError", "SenderFault": False}.items() <= failed[0].items()
    assert [entry["Id"] for entry in failed] == sorted(entry["Id"] for entry in failed)
    received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    assert sorted(f"e{m['Body']}" for m in received) == [entry["Id"] for entry in done]


def test_the_whole_of_a_batch_and_an_entry_that_is_wrong(faults: Faults, sqs: Any, queue: str) -> None:
    faults.add("partial-batch", fraction=1, operation="SendMessageBatch", count=1)
    entries = [{"Id": "a", "MessageBody": "a"}, {"Id": "b", "MessageBody": "b"}]
    answer = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    assert "Successful" not in answer
    assert len(answer["Failed"]) == 2
    faults.add("partial-batch", fraction=0.01, operation="SendMessageBatch", message={"body": ["a"]}, count=1)
    entries.append({"Id": "c", "MessageBody": "c", "DelaySeconds": 901})
    answer = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    assert [(entry["Id"], entry["Code"]) for entry in answer["Failed"]] == [
        ("a", "InternalError"),
        ("c", "InvalidParameterValue"),
    ]
    assert counts(sqs, queue) == (1, 0)


def test_a_batch_that_is_wrong_as_a_whole_is_refused(faults: Faults, sqs: Any, queue: str) -> None:
    faults.add("partial-batch", operation="SendMessageBatch")
    with pytest.raises(sqs.exceptions.BatchEntryIdsNotDistinct):
        sqs.send_message_batch(QueueUrl=queue, Entries=[{"Id": "a", "MessageBody": "a"}] * 2)
    half = "x" * 600_000
    with pytest.raises(sqs.exceptions.BatchRequestTooLong):
        sqs.send_message_batch(QueueUrl=queue, Entries=[{"Id": i, "MessageBody": half} for i in "ab"])
    with pytest.raises(sqs.exceptions.TooManyEntriesInBatchRequest):
        sqs.send_message_batch(QueueUrl=queue, Entries=[{"Id": str(i), "MessageBody": "a"} for i in range(11)])
    with pytest.raises(sqs.exceptions.EmptyBatchRequest):
        sqs.send_message_batch(QueueUrl=queue, Entries=[])


def test_half_of_a_delete_and_of_a_change(faults: Faults, sqs: Any, queue: str) -> None:
    sqs.send_message_batch(QueueUrl=queue, Entries=[{"Id": f"e{n}", "MessageBody": f"{n}"} for n in range(4)])
    received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    handles = [{"Id": m["Body"], "ReceiptHandle": m["ReceiptHandle"]} for m in received]
    faults.add("partial-batch", operation="ChangeMessageVisibilityBatch", count=1)
    changed = sqs.change_message_visibility_batch(
        QueueUrl=queue, Entries=[{**handle, "VisibilityTimeout": 0} for handle in handles]
    )
    assert (len(changed["Failed"]), len(changed["Successful"])) == (2, 2)
    assert counts(sqs, queue) == (2, 2)
    faults.add("partial-batch", operation="DeleteMessageBatch", count=1)
    deleted = sqs.delete_message_batch(QueueUrl=queue, Entries=handles)
    assert {entry["Code"] for entry in deleted["Failed"]} == {"InternalError"}
    assert sum(counts(sqs, queue)) == 2


def test_half_of_a_publish(faults: Faults, client: Connect, sqs: Any, queue: str) -> None:
    sns = client("sns")
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name="t")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    faults.add("partial-batch", operation="PublishBatch", resource="t", count=1)
    entries = [{"Id": f"e{n}", "Message": f"{n}"} for n in range(4)]
    answer = sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)
    assert (len(answer["Failed"]), len(answer["Successful"])) == (2, 2)
    assert {"Code": "InternalError", "SenderFault": False}.items() <= answer["Failed"][0].items()
    assert counts(sqs, queue) == (2, 0)


def test_half_of_the_records(faults: Faults, client: Connect) -> None:
    kinesis = client("kinesis")
    arn = stream(kinesis)
    faults.add(
        "partial-batch", operation="PutRecords", resource="events", message={"body": {"n": [1]}}, count=1, fraction=0.3
    )
    records = [{"Data": json.dumps({"n": n}), "PartitionKey": "k"} for n in range(3)]
    answer = kinesis.put_records(StreamARN=arn, Records=records)
    assert answer["FailedRecordCount"] == 1
    failed = {"ErrorCode": "InternalFailure", "ErrorMessage": "Internal Service Failure"}
    assert answer["Records"][1] == failed
    iterator = kinesis.get_shard_iterator(
        StreamARN=arn, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    got = kinesis.get_records(ShardIterator=iterator)["Records"]
    assert [record["SequenceNumber"] for record in got] == [answer["Records"][n]["SequenceNumber"] for n in (0, 2)]
    faults.add("partial-batch", operation="PutRecords", fraction=1, count=1)
    answer = kinesis.put_records(StreamARN=arn, Records=records)
    assert answer["Records"] == [failed] * 3
    faults.add("partial-batch", operation="PutRecords")
    beyond = {"Data": b"x", "PartitionKey": "k", "ExplicitHashKey": str(1 << 128)}
    with pytest.raises(kinesis.exceptions.InvalidArgumentException):
        kinesis.put_records(StreamARN=arn, Records=[beyond] * 2)


def test_half_of_the_events(faults: Faults, client: Connect, sqs: Any, queue: str) -> None:
    events = client("events")
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="r", EventPattern=json.dumps({"source": ["a"]}))
    events.put_targets(Rule="r", Targets=[{"Id": "q", "Arn": arn, "InputPath": "$.detail.n"}])
    faults.add("partial-batch", operation="PutEvents", count=1)
    entries = [{"Source": "a", "DetailType": "d", "Detail": json.dumps({"n": n})} for n in range(4)]
    answer = events.put_events(Entries=entries)
    assert answer["FailedEntryCount"] == 2
    assert {entry["ErrorCode"] for entry in answer["Entries"] if "ErrorCode" in entry} == {"InternalFailure"}
    received = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    done = [n for n, entry in enumerate(answer["Entries"]) if "EventId" in entry]
    assert sorted(int(message["Body"]) for message in received) == done


# time and the broker


def test_a_jump_and_a_drift(broker: BrokerThread, faults: Faults, sqs: Any, queue: str) -> None:
    before_ms = broker.call(lambda running: running.clock.now_ms())
    faults.add("jump", by="1h", operation="SendMessage", count=1)
    sqs.send_message(QueueUrl=queue, MessageBody="a")
    sent_ms = int(
        sqs.receive_message(QueueUrl=queue, AttributeNames=["All"])["Messages"][0]["Attributes"]["SentTimestamp"]
    )
    assert 3_600_000 <= sent_ms - before_ms < 3_660_000
    faults.add("drift", ppm=500_000, operation="ListQueues", count=1)
    sqs.list_queues()
    state = broker.call(lambda running: running.clock.state())
    assert state["speed"] == 1.5
    broker.call(lambda running: running.clock.restore())


def test_a_pause_is_everybodys(broker: BrokerThread, faults: Faults, sqs: Any) -> None:
    beats: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            beats.append(broker.call(lambda _: time.monotonic()))

    watching = threading.Thread(target=watch)
    watching.start()
    faults.add("pause", operation="ListQueues", **{"for": "80ms"}, count=1)
    sqs.list_queues()
    over.set()
    watching.join()
    assert max(after - before for before, after in pairwise(beats)) >= 0.08


def test_at_its_moment_without_a_request(broker: BrokerThread, sqs: Any) -> None:
    broker.call(lambda running: running.faults.add({"fault": "drift", "ppm": 500_000, "at": "10ms"}))
    wait_for(lambda: broker.call(lambda running: running.clock.state()["speed"]) == 1.5)
    broker.call(lambda running: running.clock.restore())
    broker.call(lambda running: running.faults.clear())


def test_a_restart_in_place(broker: BrokerThread, faults: Faults, client: Connect, sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="a")
    polls: list[BaseException] = []

    def poll() -> None:
        try:
            client().receive_message(QueueUrl=queue + "-empty", WaitTimeSeconds=5)
        except Exception as error:
            polls.append(error)

    sqs.create_queue(QueueName="orders-empty")
    waiting = threading.Thread(target=poll)
    waiting.start()
    wait_for(lambda: broker.call(lambda running: any(q.waiters for q in running.queues.flow.by_arn.values())))
    faults.add("restart", operation="SendMessage", down="100ms", count=1)
    begun = time.monotonic()
    with pytest.raises(ConnectionClosedError):
        sqs.send_message(QueueUrl=queue, MessageBody="lost")
    waiting.join()
    assert isinstance(polls[0], ConnectionClosedError)
    with pytest.raises(DOWN):
        client().list_queues()
    assert not broker.call(lambda running: any(q.waiters for q in running.queues.flow.by_arn.values()))
    while True:
        with contextlib.suppress(*DOWN):
            assert counts(sqs, queue) == (1, 0)
            break
    assert time.monotonic() - begun >= 0.1


def test_a_full_disk_refuses_what_writes_and_lets_read(
    broker: BrokerThread, faults: Faults, sqs: Any, queue: str
) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="before")
    faults.add("full-disk", operation="SendMessage", **{"for": "10s"}, count=1)
    for _ in range(2):
        with pytest.raises(ClientError, match="is full: free some space") as caught:
            sqs.send_message(QueueUrl=queue, MessageBody="a")
        assert refusal(caught) == ("ServiceUnavailable", 503)
    assert counts(sqs, queue) == (1, 0)
    with pytest.raises(ClientError):
        sqs.receive_message(QueueUrl=queue)
    broker.call(lambda running: running.clock.jump(running.clock.now_ms() + 11_000))
    wait_for(lambda: not broker.call(lambda running: running.store._is_full))  # type: ignore[attr-defined]
    sqs.send_message(QueueUrl=queue, MessageBody="after")
    assert counts(sqs, queue) == (2, 0)
    broker.call(lambda running: running.clock.restore())


# a botocore that speaks the query protocol

OLD_BOTOCORE = Path(__file__).parents[2] / ".venvs/sdk-botocore-query/bin/python"  # made by tests/sdk

OLD_PROGRAM = """
import botocore.session, json, sys
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from botocore.parsers import ResponseParserError

def client(attempts):
    config = Config(retries={"total_max_attempts": attempts}, read_timeout=5)
    return botocore.session.get_session().create_client("sqs", endpoint_url=sys.argv[1], config=config)

def refused(call, **parameters):
    try:
        call(**parameters)
    except ClientError as error:
        found = error.response
        return [found["Error"]["Code"], found["Error"]["Type"], found["ResponseMetadata"]["HTTPStatusCode"]]
    except Exception as error:
        return type(error).__name__

once, twice = client(1), client(2)
url = once.create_queue(QueueName="q")["QueueUrl"]
seen = [once.meta.service_model.protocol]
seen.append(refused(once.list_queues))
seen.append(refused(once.list_queues))
seen.append(twice.list_queues()["ResponseMetadata"]["RetryAttempts"])
seen.append(refused(once.send_message, QueueUrl=url, MessageBody="a"))
seen.append(refused(once.receive_message, QueueUrl=url))
entries = [{"Id": str(n), "MessageBody": "b"} for n in range(4)]
batch = once.send_message_batch(QueueUrl=url, Entries=entries)
seen.append([len(batch["Successful"]), [[entry["Code"], entry["SenderFault"]] for entry in batch["Failed"]]])
print(json.dumps(seen))
"""


@pytest.mark.slow
@pytest.mark.skipif(not OLD_BOTOCORE.exists(), reason="tests/sdk has not made its environment with botocore 1.29")
def test_an_old_botocore(broker: BrokerThread, faults: Faults, account: str) -> None:
    faults.add("error", code="InternalError", operation="ListQueues", count=1)
    faults.add("throttle", operation="ListQueues", count=2)
    faults.add("done-not-answered", operation="SendMessage", count=1)
    faults.add("truncate", operation="ReceiveMessage", after_bytes=40, count=1)
    faults.add("partial-batch", operation="SendMessageBatch", count=1)
    environment = {
        "AWS_ACCESS_KEY_ID": account,
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
    }
    command = [OLD_BOTOCORE, "-W", "ignore", "-c", OLD_PROGRAM, broker.url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        "query",
        ["InternalError", "Receiver", 500],
        ["RequestThrottled", "Sender", 403],
        1,
        "ConnectionClosedError",
        "ResponseParserError",
        [2, [["InternalError", False]] * 2],
    ]


# a process of its own, on a disk


def test_a_process_restarts_in_place_and_its_disk_fills(
    start_sidebus: Any, connect: Connect, tmp_path: Path, account: str
) -> None:
    process = start_sidebus("--data", tmp_path)
    sqs = connect(process)
    queue = sqs.create_queue(QueueName="orders")["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="kept")

    def add(**rule: Any) -> None:
        answer = process.request("POST", "/_sidebus/faults/rules", body=json.dumps({"account": account, **rule}))
        assert answer.status == 200, answer.body

    add(fault="restart", operation="SendMessage", down="50ms", count=1)
    with pytest.raises(ConnectionClosedError):
        sqs.send_message(QueueUrl=queue, MessageBody="lost")
    wait_for(lambda: is_up(sqs))
    assert counts(sqs, queue) == (1, 0)
    add(fault="full-disk", operation="SendMessage", count=1, **{"for": "1h"})
    with pytest.raises(ClientError, match=r"The disk that holds .* is full"):
        sqs.send_message(QueueUrl=queue, MessageBody="lost")
    assert counts(sqs, queue) == (1, 0)
    assert process.request("POST", "/_sidebus/clock", body='{"advance": "1h"}').status == 200
    sqs.send_message(QueueUrl=queue, MessageBody="kept")
    assert counts(sqs, queue) == (2, 0)
    assert "Traceback" not in process.log.read_text()


def is_up(sqs: Any) -> bool:
    try:
        sqs.list_queues()
    except DOWN:
        return False
    return True

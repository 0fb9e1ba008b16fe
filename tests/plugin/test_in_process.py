"""The broker without sockets: answers at once, a clock that jumps where somebody waits."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from protocols.testing.in_process import ENDPOINT, SidebusInProcess, in_process

START_MS = 1_800_000_000_000
ONCE = Config(retries={"total_max_attempts": 1})


@pytest.fixture
def sidebus() -> Iterator[SidebusInProcess]:
    with in_process("a test", seed=1, now_ms=START_MS) as sidebus:
        yield sidebus


@pytest.fixture
def sqs(sidebus: SidebusInProcess) -> Any:
    return sidebus.client("sqs")


@pytest.fixture
def url(sqs: Any) -> str:
    return str(sqs.create_queue(QueueName="q")["QueueUrl"])


def passed_s(sidebus: SidebusInProcess) -> float:
    return (sidebus.broker.clock.now_ms() - START_MS) / 1000


def test_a_long_poll_ends_at_once_and_later(sidebus: SidebusInProcess, sqs: Any, url: str) -> None:
    began = time.monotonic()
    assert "Messages" not in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)
    assert time.monotonic() - began < 1
    assert passed_s(sidebus) == 20


def test_the_clock_jumps_no_farther_than_to_what_is_waited_for(sidebus: SidebusInProcess, sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=7)
    assert sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"][0]["Body"] == "later"
    assert passed_s(sidebus) == 7


def test_the_clock_stands_where_nobody_waits(sidebus: SidebusInProcess, sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="m", DelaySeconds=7)
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    assert passed_s(sidebus) == 0


def test_the_clock_is_moved(sidebus: SidebusInProcess, sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="old")
    sidebus.clock.advance("3d")
    assert passed_s(sidebus) == 3 * 86_400
    assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "old"
    sidebus.clock.advance("1d")
    assert (
        sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"][
            "ApproximateNumberOfMessagesNotVisible"
        ]
        == "0"
    ), "its retention has ended"
    sidebus.clock.set("2030-01-01T00:00:00Z")
    assert sidebus.broker.clock.now_ms() == datetime(2030, 1, 1, tzinfo=UTC).timestamp() * 1000


def test_sessions_and_clients_of_code_under_test(sidebus: SidebusInProcess, url: str) -> None:
    for client in (boto3.client("sqs"), boto3.Session().client("sqs"), sidebus.session().client("sqs")):
        assert client.list_queues()["QueueUrls"] == [url] == [f"{ENDPOINT}/{sidebus.account}/q"]
        client.close()
    assert sidebus.resource("sqs").get_queue_by_name(QueueName="q").url == url


def test_every_protocol(sidebus: SidebusInProcess, url: str) -> None:
    sns, events = sidebus.client("sns"), sidebus.client("events")
    topic = sns.create_topic(Name="t")["TopicArn"]
    queue = topic.replace(":sns:", ":sqs:").replace(":t", ":q")
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})
    sns.publish(TopicArn=topic, Message="published")
    events.put_rule(Name="r", EventPattern='{"source": ["s"]}')
    events.put_targets(Rule="r", Targets=[{"Id": "1", "Arn": queue, "Input": '"an event"'}])
    events.put_events(Entries=[{"Source": "s", "DetailType": "d", "Detail": "{}"}])
    messages = sidebus.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert {message["Body"] for message in messages} == {"published", '"an event"'}


def test_a_refusal_is_raised_as_ever(sqs: Any) -> None:
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.get_queue_url(QueueName="none")


@pytest.fixture
def kinesis(sidebus: SidebusInProcess) -> Any:
    kinesis = sidebus.client("kinesis")
    kinesis.create_stream(StreamName="s", ShardCount=1)
    return kinesis


@pytest.fixture
def subscription(kinesis: Any) -> Any:
    stream = kinesis.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
    consumer = kinesis.register_stream_consumer(StreamARN=stream, ConsumerName="c")["Consumer"]["ConsumerARN"]
    start = {"Type": "TRIM_HORIZON"}
    shard = "shardId-000000000000"
    return kinesis.subscribe_to_shard(ConsumerARN=consumer, ShardId=shard, StartingPosition=start)["EventStream"]


def test_a_stream_is_read_as_it_comes(kinesis: Any, subscription: Any) -> None:
    kinesis.put_record(StreamName="s", PartitionKey="k", Data=b"one")
    read = []
    for event in subscription:
        read += [record["Data"] for record in event["SubscribeToShardEvent"]["Records"]]
        if read == [b"one"]:
            kinesis.put_record(StreamName="s", PartitionKey="k", Data=b"two")
        if len(read) == 2:
            break
    subscription.close()
    assert read == [b"one", b"two"]


def test_a_stream_ends_when_its_time_is_up(sidebus: SidebusInProcess, subscription: Any) -> None:
    assert [event for event in subscription if event["SubscribeToShardEvent"]["Records"]] == []
    assert passed_s(sidebus) == 300


def test_threads_take_turns(sqs: Any, url: str) -> None:
    def send(name: str) -> None:
        for n in range(20):
            sqs.send_message(QueueUrl=url, MessageBody=f"{name}{n}")

    threads = [threading.Thread(target=send, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken: set[str] = set()
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        taken |= {message["Body"] for message in messages}
    assert len(taken) == 60


def test_the_same_seed_and_clock_give_the_same_answers() -> None:
    def answers(seed: int) -> str:
        with in_process("a test", seed=seed, now_ms=START_MS) as sidebus:
            sqs = sidebus.client("sqs")
            url = sqs.create_queue(QueueName="q")["QueueUrl"]
            sent = [sqs.send_message(QueueUrl=url, MessageBody=str(n)) for n in range(3)]
            received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
            return json.dumps([sent, received])

    assert answers(1) == answers(1) != answers(2)


def test_it_is_gone_afterwards() -> None:
    with in_process("a test", seed=1) as sidebus:
        client = boto3.client("sqs", config=Config(retries={"total_max_attempts": 1}, connect_timeout=1))
        arguments = sidebus.client_arguments
    assert boto3.DEFAULT_SESSION is None
    with pytest.raises(EndpointConnectionError):
        client.list_queues()
    client.close()
    later = boto3.Session().client("sqs", config=ONCE, **arguments)
    with pytest.raises(EndpointConnectionError):
        later.list_queues()
    later.close()


# faults -------------------------------------------------------------------------------------------


def test_the_faults_of_requests_are_seen_as_over_a_socket(sidebus: SidebusInProcess, url: str) -> None:
    sqs = sidebus.client("sqs", config=ONCE)
    faults = sidebus.faults
    with faults.add(fault="error", service="sqs", code="InternalFailure"), pytest.raises(ClientError):
        sqs.list_queues()
    with faults.add(fault="reset", service="sqs", when="before"), pytest.raises(ConnectionClosedError):
        sqs.list_queues()
    with faults.add(fault="done-not-answered", service="sqs", how="silence"), pytest.raises(ReadTimeoutError):
        sqs.send_message(QueueUrl=url, MessageBody="done")
    with faults.add(fault="truncate", service="sqs", after_bytes=5):
        assert sqs.list_queues().keys() == {"ResponseMetadata"}, "JSON that breaks off is no error to botocore"
    with faults.add(fault="truncate", service="sns", after_bytes=5), pytest.raises(ResponseParserError):
        sidebus.client("sns", config=ONCE).list_topics()
    assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "done"


def test_a_latency_passes_by_the_brokers_clock(sidebus: SidebusInProcess, sqs: Any) -> None:
    with sidebus.faults.add(fault="latency", service="sqs", delay="40s"):
        sqs.list_queues()
    assert passed_s(sidebus) == 40


def test_the_ledger(sidebus: SidebusInProcess, sqs: Any, url: str) -> None:
    sqs.send_message(QueueUrl=url, MessageBody="m")
    handle = sqs.receive_message(QueueUrl=url)["Messages"][0]["ReceiptHandle"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
    assert sidebus.ledger.verdict(queue="q").passed

"""Fourteen days in one call: whatever falls due on the way has happened, each thing once and in order.

A real process on a frozen clock, everything through HTTP:

- messages over ten queues whose retention goes from one minute to fourteen days, with delays from 0 to 15 minutes; of
  every twenty, one is in flight, for half a minute to twelve hours;
- schedules, each with a queue as its target: of twenty, one fires every 15 minutes (1344 times in fourteen days), seven
  every hour (336 times), six every six hours, six once a day; half of them are cron, half are rates. For a hundred that
  are 20,580 events;
- deliveries to a webhook that always answers 500: of ten, eight are SNS's with its default policy (one attempt and
  three retries, 20 s apart), one is SNS's with a hundred retries of its own policy within an hour, and one is an
  EventBridge API destination's, tried for 24 hours as EventBridge does. All end as dead letters.

How long it takes is printed, and not asserted: a machine may be busy.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from calendar import timegm
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle, islice, pairwise
from threading import Thread
from typing import Any, NamedTuple

import pytest

ACCOUNT = "111122223333"
START = "2030-01-01T00:00:00Z"
DAY_S = 86_400
RETENTIONS_S = (60, 3600, DAY_S, 2 * DAY_S, 4 * DAY_S, 6 * DAY_S, 8 * DAY_S, 10 * DAY_S, 12 * DAY_S, 14 * DAY_S)
BATCH = 10

# What a rule is put with, and how many seconds are between its moments.
SCHEDULES = (
    ("rate(15 minutes)", 900),
    *[("rate(1 hour)", 3600)] * 3,
    *[("cron(0 * * * ? *)", 3600)] * 4,
    *[("rate(6 hours)", 21_600)] * 3,
    *[("cron(0 0/6 * * ? *)", 21_600)] * 3,
    *[("rate(1 day)", DAY_S)] * 3,
    *[("cron(0 12 * * ? *)", DAY_S)] * 3,
)
A_HUNDRED_RETRIES = {
    "healthyRetryPolicy": {
        "numRetries": 100,
        "numNoDelayRetries": 0,
        "numMinDelayRetries": 10,
        "minDelayTarget": 1,
        "maxDelayTarget": 60,
        "numMaxDelayRetries": 10,
        "backoffFunction": "exponential",
    }
}


class Size(NamedTuple):
    messages: int
    schedules: int
    deliveries: int


class Endpoint(NamedTuple):
    url: str
    asked: Counter[str]  # attempts by message or event id
    tokens: list[str]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Confirmations are welcome, all else gets a 500."""
    asked, tokens = Counter[str](), list[str]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = 500
            if message.get("Type") == "SubscriptionConfirmation":
                tokens.append(message["Token"])
                status = 200
            else:
                asked[message.get("MessageId") or message["id"]] += 1
            self.send_response_only(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Endpoint(f"http://127.0.0.1:{server.server_port}/", asked, tokens)
    server.shutdown()
    thread.join()
    server.server_close()


class Broker:
    """A process, asked over one connection that is kept."""

    def __init__(self, sidebus: Any, connection: http.client.HTTPConnection, connect: Callable[..., Any]) -> None:
        self.sidebus = sidebus
        self._connection = connection
        self.sns = connect(sidebus, "sns", account=ACCOUNT)
        self.events = connect(sidebus, "events", account=ACCOUNT)

    def ask(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Any:
        self._connection.request("POST", path, json.dumps(body), headers)
        response = self._connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer
        return json.loads(answer) if answer else {}

    def sqs(self, operation: str, **given: Any) -> Any:
        scope = f"AWS4-HMAC-SHA256 Credential={ACCOUNT}/20300101/us-east-1/sqs/aws4_request"
        headers = {
            "X-Amz-Target": f"AmazonSQS.{operation}",
            "Content-Type": "application/x-amz-json-1.0",
            "Authorization": f"{scope}, SignedHeaders=host, Signature=0",
        }
        return self.ask("/", given, headers)

    def clock(self, **command: Any) -> dict[str, Any]:
        told: dict[str, Any] = self.ask("/_sidebus/clock", command, {})
        return told

    def create(self, name: str, **attributes: str) -> str:
        url: str = self.sqs("CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"]
        return url

    def counts(self, url: str) -> tuple[int, int, int]:
        """Visible, in flight, delayed."""
        told = self.sqs("GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])["Attributes"]
        names = ("", "NotVisible", "Delayed")
        visible, in_flight, delayed = (int(told[f"ApproximateNumberOfMessages{name}"]) for name in names)
        return visible, in_flight, delayed

    def take_all(self, url: str) -> list[str]:
        """The bodies in order of arrival."""
        bodies: list[str] = []
        while messages := self.sqs("ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=BATCH).get("Messages"):
            bodies += [message["Body"] for message in messages]
        return bodies


def arn(name: str) -> str:
    return f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"


def send_messages(broker: Broker, count: int) -> list[str]:
    urls = [broker.create(f"kept-{seconds}", MessageRetentionPeriod=str(seconds)) for seconds in RETENTIONS_S]
    for index in range(count // BATCH):
        entries = [
            {"Id": str(n), "MessageBody": f"{index}/{n}", "DelaySeconds": 0 if n < 5 else (index * 7 + n) % 901}
            for n in range(BATCH)
        ]
        broker.sqs("SendMessageBatch", QueueUrl=urls[index % len(urls)], Entries=entries)
    for index in range(count // BATCH // 20):
        hidden_s = (30, 600, 7200, 43_200)[index % 4]
        url = urls[index % len(urls)]
        broker.sqs("ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=BATCH, VisibilityTimeout=hidden_s)
    return urls


def put_schedules(broker: Broker, count: int) -> tuple[str, dict[str, int]]:
    """The queue of their events, and each rule's period."""
    url, periods_s = broker.create("moments", MessageRetentionPeriod=str(14 * DAY_S)), {}
    for index, (expression, period_s) in enumerate(islice(cycle(SCHEDULES), count)):
        rule = broker.events.put_rule(Name=f"rule-{index}", ScheduleExpression=expression)["RuleArn"]
        broker.events.put_targets(Rule=f"rule-{index}", Targets=[{"Id": "queue", "Arn": arn("moments")}])
        periods_s[rule] = period_s
    return url, periods_s


def begin_deliveries(broker: Broker, endpoint: Endpoint, count: int) -> tuple[str, int]:
    """The dead-letter queue, and how many of them are EventBridge's."""
    url = broker.create("dead", MessageRetentionPeriod=str(14 * DAY_S))
    dead = json.dumps({"deadLetterTargetArn": arn("dead")})
    topics = []
    for name, policy in (("default", None), ("eager", A_HUNDRED_RETRIES)):
        topic = broker.sns.create_topic(Name=name)["TopicArn"]
        attributes = {"RedrivePolicy": dead} | ({"DeliveryPolicy": json.dumps(policy)} if policy else {})
        broker.sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=endpoint.url, Attributes=attributes)
        broker.clock(advance=0)  # it has been delivered
        broker.sns.confirm_subscription(TopicArn=topic, Token=endpoint.tokens.pop())
        topics.append(topic)
    connection = broker.events.create_connection(
        Name="c",
        AuthorizationType="API_KEY",
        AuthParameters={"ApiKeyAuthParameters": {"ApiKeyName": "x-key", "ApiKeyValue": "secret"}},
    )["ConnectionArn"]
    destination = broker.events.create_api_destination(
        Name="d", ConnectionArn=connection, InvocationEndpoint=endpoint.url, HttpMethod="POST"
    )["ApiDestinationArn"]
    broker.events.put_rule(Name="orders", EventPattern='{"source": ["shop"]}')
    target = {"Id": "api", "Arn": destination, "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/r"}
    broker.events.put_targets(Rule="orders", Targets=[{**target, "DeadLetterConfig": {"Arn": arn("dead")}}])
    events = 0
    for index in range(count):
        kind = index % 10
        if kind < 9:
            broker.sns.publish(TopicArn=topics[kind == 8], Message=f"hello {index}")
        else:
            events += 1
            broker.events.put_events(Entries=[{"Source": "shop", "DetailType": "Order", "Detail": f'{{"n": {index}}}'}])
    return url, events


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(Size(1_000, 20, 10), id="quick"),
        pytest.param(Size(100_000, 100, 50), id="whole", marks=pytest.mark.slow),
    ],
)
def test_fourteen_days(
    start_sidebus: Callable[..., Any], connect: Callable[..., Any], endpoint: Endpoint, size: Size
) -> None:
    sidebus = start_sidebus()
    with contextlib.closing(http.client.HTTPConnection(sidebus.host, timeout=120)) as connection:
        broker = Broker(sidebus, connection, connect)
        broker.clock(freeze=True)
        broker.clock(set=START)
        kept = send_messages(broker, size.messages)
        dead, events = begin_deliveries(broker, endpoint, size.deliveries)
        moments, periods_s = put_schedules(broker, size.schedules)
        messages_each = size.messages // len(RETENTIONS_S)
        assert all(sum(broker.counts(url)) == messages_each for url in kept)

        began_s = time.perf_counter()
        told = broker.clock(advance="7d")
        took_s = time.perf_counter() - began_s
        assert told["now"] == "2030-01-08T00:00:00.000Z"
        # Whatever is left is visible; the rest is past its retention.
        for url, retention_s in zip(kept, RETENTIONS_S, strict=True):
            assert broker.counts(url) == (messages_each if retention_s > 7 * DAY_S else 0, 0, 0)

        began_s = time.perf_counter()
        told = broker.clock(advance="7d")
        took_s += time.perf_counter() - began_s
        assert told["now"] == "2030-01-15T00:00:00.000Z"
        assert [sum(broker.counts(url)) for url in kept] == [0] * len(kept)

        check_schedules(broker.take_all(moments), periods_s)
        check_deliveries(broker, endpoint, dead, size.deliveries, events)
        fired, attempts = sum(14 * DAY_S // period_s for period_s in periods_s.values()), endpoint.asked.total()
        print(
            f"\n14 days, {size.messages} messages, {size.schedules} schedules that fired {fired} times, "
            f"{size.deliveries} deliveries of {attempts} attempts: {took_s:.2f} s"
        )
    assert sidebus.stop() == 0
    assert "Traceback" not in sidebus.log.read_text()


def check_schedules(bodies: list[str], periods_s: dict[str, int]) -> None:
    """All of them came, in order, each at each of its moments."""
    events = [json.loads(body) for body in bodies]
    times = [event["time"] for event in events]
    assert times == sorted(times)
    fired: dict[str, list[float]] = {rule: [] for rule in periods_s}
    for event in events:
        fired[event["resources"][0]].append(time_s(event["time"]))
    for rule, period_s in periods_s.items():
        assert len(fired[rule]) == 14 * DAY_S // period_s, rule
        assert {later - earlier for earlier, later in pairwise(fired[rule])} == {period_s}


def check_deliveries(broker: Broker, endpoint: Endpoint, dead: str, count: int, events: int) -> None:
    """Each was tried as often as its policy says, and then became one dead letter."""
    assert len(broker.take_all(dead)) == count == len(endpoint.asked)
    attempts = Counter(endpoint.asked.values())
    eager = count // 10
    assert attempts.pop(4) == count - eager - events
    assert attempts.pop(101) == eager
    assert sum(attempts.values()) == events
    assert all(number <= 186 for number in attempts)


def time_s(text: str) -> float:
    return timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))

"""`/_sidebus/clock` as a client sees it: the page itself, and through boto3 that all goes by the broker's time."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError

Connect = Callable[..., Any]

PAGE = "/_sidebus/clock"
DAY_S = 86_400


class Clock:
    """The page of a running process."""

    def __init__(self, sidebus: Any) -> None:
        self.sidebus = sidebus

    def show(self) -> dict[str, Any]:
        return self._told(self.sidebus.request("GET", PAGE))

    def post(self, **command: Any) -> dict[str, Any]:
        return self._told(self.sidebus.request("POST", PAGE, body=json.dumps(command)))

    def advance(self, duration: str | float) -> dict[str, Any]:
        return self.post(advance=duration)

    def refusal(self, body: str) -> tuple[int, str]:
        answer = self.sidebus.request("POST", PAGE, body=body)
        return answer.status, json.loads(answer.body)["error"]

    def _told(self, answer: Any) -> dict[str, Any]:
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == "application/json"
        told: dict[str, Any] = json.loads(answer.body)
        return told


@pytest.fixture(scope="module")
def served(start_sidebus: Callable[..., Any]) -> Iterator[Any]:
    """A process whose time is ours alone."""
    sidebus = start_sidebus()
    yield sidebus
    assert sidebus.stop() == 0
    assert "Traceback" not in sidebus.log.read_text()


@pytest.fixture
def clock(served: Any) -> Iterator[Clock]:
    clock = Clock(served)
    clock.post(freeze=True)
    yield clock
    served.request("POST", "/_sidebus/reset")
    clock.post(restore=True)


@pytest.fixture
def sqs(served: Any, connect: Connect) -> Any:
    return connect(served)


# the page


def test_it_shows_the_machines_time_and_what_it_was_bent_to(clock: Clock) -> None:
    shown = clock.post(restore=True)
    assert abs(shown["now_ms"] - time.time() * 1000) < 5000
    assert {key: shown[key] for key in shown if not key.startswith("now")} == {
        "frozen": False,
        "speed": 1.0,
        "offset_ms": 0,
        "dates": "broker",
        "travelling_to": None,
    }
    assert clock.post(freeze=True)["frozen"] is True
    shown = clock.post(set="2030-01-01T00:00:00Z")
    assert (shown["now"], shown["frozen"]) == ("2030-01-01T00:00:00.000Z", True)
    assert clock.show()["now"] == shown["now"]
    assert clock.post(set=1_900_000_000_000)["now_ms"] == 1_900_000_000_000
    assert clock.advance("1h30m")["now_ms"] == 1_900_005_400_000
    assert clock.advance(0.25)["now_ms"] == 1_900_005_400_250
    assert clock.post(set="2020-02-29")["now"] == "2020-02-29T00:00:00.000Z"
    shown = clock.post(speed=60)
    assert (shown["speed"], shown["frozen"]) == (60.0, False)
    assert clock.post(dates="machine")["dates"] == "machine"
    shown = clock.post(resume=True)
    assert (shown["speed"], shown["dates"], shown["now"][:10]) == (1.0, "machine", "2020-02-29")
    assert clock.post(restore=True)["offset_ms"] == 0


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("", "The body is a JSON object with one of freeze, resume, set, "),
        ("[]", "The body is a JSON object with one of freeze, "),
        ("{}", "The body is a JSON object with one of freeze, "),
        ('{"freeze": true, "speed": 2}', "The body is a JSON object with one of freeze, "),
        ('{"stop": true}', "The body is a JSON object with one of freeze, "),
        ('{"freeze": false}', 'freeze takes true: {"freeze": true}.'),
        ('{"resume": 1}', 'resume takes true: {"resume": true}.'),
        ('{"speed": 0}', "The speed must be more than 0 and at most 1000000, and 0 is not."),
        ('{"speed": -60}', "The speed must be more than 0 and at most 1000000, and -60 is not."),
        ('{"speed": 1e999}', "The body is a JSON object"),
        ('{"speed": "60"}', "speed is a number: 60 makes a minute of every second."),
        ('{"speed": true}', "speed is a number: 60 makes a minute of every second."),
        ('{"advance": "a while"}', "'a while' is not a length of time: write 500ms, 90s, 1h30m, 14d"),
        ('{"advance": "-5m"}', "'-5m' is not a length of time"),
        ('{"advance": -5}', "'-5' is not a length of time"),
        ('{"advance": "40000d"}', "'40000d' is longer than a century."),
        ('{"advance": null}', "advance takes a length of time: 90s, 1h30m, 14d, or a number of seconds."),
        ('{"set": "tomorrow"}', "set takes a moment: 2026-12-01T00:00:00Z, or a whole number of milliseconds"),
        ('{"set": 1.5}', "set takes a moment: "),
        ('{"set": -1}', "The broker's time must lie between the years 1970 and 9999."),
        ('{"set": "0001-01-01"}', "The broker's time must lie between the years 1970 and 9999."),
        ('{"set": "2999-01-01"}', "2999-01-01T00:00:00.000Z is more than a century ahead."),
        ('{"dates": "sundial"}', 'dates are "broker" or "machine", not \'sundial\'.'),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(clock: Clock, body: str, sentence: str) -> None:
    before = clock.show()
    status, error = clock.refusal(body)
    assert (status, error[: len(sentence)]) == (400, sentence)
    after = clock.show()
    assert {**after, "offset_ms": 0} == {**before, "offset_ms": 0}


def test_other_sites_may_not_bend_it(served: Any) -> None:
    answer = served.request("POST", PAGE, {"Origin": "https://elsewhere.example"}, '{"freeze": true}')
    assert answer.status == 403


def test_the_date_header(clock: Clock, served: Any) -> None:
    clock.post(set="2031-07-04T12:34:56Z")
    assert served.request("GET", PAGE).headers["date"] == "Fri, 04 Jul 2031 12:34:56 GMT"
    clock.advance(61)
    assert served.request("GET", "/_sidebus/health").headers["date"] == "Fri, 04 Jul 2031 12:35:57 GMT"
    clock.post(dates="machine")
    date = parsedate_to_datetime(served.request("GET", PAGE).headers["date"])
    assert abs(date - datetime.now(UTC)) < timedelta(seconds=5)


# one journey at a time, and an end of the process on the way


def busy_rule(served: Any, connect: Connect) -> None:
    """A rule that fires a million times in two years: a journey of seconds, at the least."""
    connect(served, "events").put_rule(Name="busy", ScheduleExpression="rate(1 minute)")


@contextlib.contextmanager
def on_its_way(served: Any, duration: str) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(served.host, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", PAGE, json.dumps({"advance": duration}))
        yield connection


def test_while_it_travels_it_serves_others_and_refuses_a_second_journey(
    clock: Clock, served: Any, connect: Connect
) -> None:
    clock.post(set="2030-01-01T00:00:00Z")
    busy_rule(served, connect)
    with on_its_way(served, "730d") as connection:
        shown = clock.show()
        assert shown["travelling_to"] == "2032-01-01T00:00:00.000Z"
        assert shown["now"] < "2032"
        assert clock.refusal('{"advance": "1s"}') == (
            409,
            "The clock is on its way to 2032-01-01T00:00:00.000Z: ask again when it has arrived.",
        )
        assert clock.post(restore=True)["offset_ms"] == 0
        response = connection.getresponse()
        told = json.loads(response.read())
        assert response.status == 503
        assert told["error"].startswith("The journey to 2032-01-01T00:00:00.000Z was ended before")
    assert clock.show()["travelling_to"] is None


def test_a_stop_on_the_way(start_sidebus: Callable[..., Any], connect: Connect) -> None:
    sidebus = start_sidebus()
    busy_rule(sidebus, connect)
    with on_its_way(sidebus, "730d") as connection:
        assert Clock(sidebus).show()["travelling_to"] is not None
        began_s = time.monotonic()
        assert sidebus.stop() == 0
        assert time.monotonic() - began_s < 5
        assert connection.getresponse().status == 503
    assert "Traceback" not in sidebus.log.read_text()


# queues


def bodies(answer: dict[str, Any]) -> list[str]:
    return [message["Body"] for message in answer.get("Messages", [])]


def test_a_message_that_is_hidden_comes_back(clock: Clock, sqs: Any) -> None:
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="a")
    assert bodies(sqs.receive_message(QueueUrl=url, VisibilityTimeout=30)) == ["a"]
    clock.advance("29999ms")
    assert bodies(sqs.receive_message(QueueUrl=url)) == []
    clock.advance("1ms")
    (again,) = sqs.receive_message(QueueUrl=url, AttributeNames=["All"])["Messages"]
    assert (again["Body"], again["Attributes"]["ApproximateReceiveCount"]) == ("a", "2")


def test_a_delay_and_a_retention(clock: Clock, sqs: Any) -> None:
    url = sqs.create_queue(QueueName="q", Attributes={"MessageRetentionPeriod": "3600"})["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=900)
    clock.advance("14m59s")
    assert bodies(sqs.receive_message(QueueUrl=url)) == []
    clock.advance("1s")
    assert bodies(sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)) == ["later"]
    clock.advance("45m")
    assert bodies(sqs.receive_message(QueueUrl=url)) == []
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessages"] == counts["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_a_deduplication_window(clock: Clock, sqs: Any) -> None:
    url = sqs.create_queue(QueueName="q.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]

    def send() -> str:
        sent = sqs.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="g", MessageDeduplicationId="d")
        return str(sent["MessageId"])

    first = send()
    clock.advance("4m59s")
    assert send() == first
    clock.advance("1s")
    assert send() != first


def test_a_long_poll_is_answered_by_an_advance(clock: Clock, sqs: Any, served: Any, account: str) -> None:
    """By the message that becomes visible on the way, or at its end by nothing."""
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=10)
    sqs.receive_message(QueueUrl=url)
    headers = {
        "X-Amz-Target": "AmazonSQS.ReceiveMessage",
        "Content-Type": "application/x-amz-json-1.0",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={account}/20260101/us-east-1/sqs/aws4_request, "
        "SignedHeaders=host, Signature=0",
    }
    for found in (["later"], []):
        poll = http.client.HTTPConnection(served.host, timeout=15)
        with contextlib.closing(poll):
            poll.request("POST", "/", json.dumps({"QueueUrl": url, "WaitTimeSeconds": 20}), headers)
            clock.advance("20s")
            assert bodies(json.loads(poll.getresponse().read())) == found


def test_a_long_poll_of_boto3_that_waits_for_nothing(clock: Clock, sqs: Any) -> None:
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    began_s = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(sqs.receive_message, QueueUrl=url, WaitTimeSeconds=20)
        while not poll.done():
            clock.advance("1s")
        assert bodies(poll.result()) == []
    assert time.monotonic() - began_s < 15


def test_a_long_poll_ends_when_time_goes_backwards(clock: Clock, sqs: Any) -> None:
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(sqs.receive_message, QueueUrl=url, WaitTimeSeconds=20)
        while not poll.done():
            clock.post(set=clock.show()["now_ms"] - 1000)
        assert bodies(poll.result()) == []


def test_dead_letters_and_the_way_back(clock: Clock, sqs: Any) -> None:
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    url = sqs.create_queue(QueueName="q", Attributes={"RedrivePolicy": redrive})["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="poison")
    for _ in range(2):
        assert bodies(sqs.receive_message(QueueUrl=url)) == ["poison"]
        clock.advance(30)
    assert bodies(sqs.receive_message(QueueUrl=url)) == []
    sqs.start_message_move_task(SourceArn=arn, MaxNumberOfMessagesPerSecond=1)
    clock.advance(2)
    (task,) = sqs.list_message_move_tasks(SourceArn=arn)["Results"]
    assert task["Status"] == "COMPLETED"
    assert bodies(sqs.receive_message(QueueUrl=url)) == ["poison"]


# streams, rules, deliveries


def test_an_iterator_expires(clock: Clock, served: Any, connect: Connect) -> None:
    kinesis = connect(served, "kinesis")
    kinesis.create_stream(StreamName="s", ShardCount=1)
    clock.advance(1)
    (shard,) = kinesis.list_shards(StreamName="s")["Shards"]
    kinesis.put_record(StreamName="s", Data=b"x", PartitionKey="k")

    def iterator() -> str:
        asked = {"StreamName": "s", "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        return str(kinesis.get_shard_iterator(**asked)["ShardIterator"])

    given = iterator()
    clock.advance("5m")
    assert [r["Data"] for r in kinesis.get_records(ShardIterator=given)["Records"]] == [b"x"]
    clock.advance("1s")
    with pytest.raises(ClientError) as refused:
        kinesis.get_records(ShardIterator=given)
    assert refused.value.response["Error"]["Code"] == "ExpiredIteratorException"
    clock.advance("1d")
    assert kinesis.get_records(ShardIterator=iterator())["Records"] == []


def test_a_schedule_fires_at_each_of_its_moments(clock: Clock, served: Any, connect: Connect, sqs: Any) -> None:
    events = connect(served, "events")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    clock.post(set="2030-03-31T08:59:00Z")
    events.put_rule(Name="noon", ScheduleExpression="cron(0 9,12 * * ? *)")
    events.put_targets(Rule="noon", Targets=[{"Id": "q", "Arn": arn}])
    clock.advance("2d")
    received = [json.loads(body) for body in bodies(sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10))]
    moments = [event["time"] for event in received]
    assert moments == [f"2030-{day}T{hour}:00:00Z" for day in ("03-31", "04-01") for hour in ("09", "12")]


def test_a_schedule_goes_on_after_time_went_backwards(clock: Clock, served: Any, connect: Connect, sqs: Any) -> None:
    events = connect(served, "events")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="hourly", ScheduleExpression="rate(1 hour)")
    events.put_targets(Rule="hourly", Targets=[{"Id": "q", "Arn": arn}])
    clock.advance("1d")
    clock.post(set=clock.show()["now_ms"] - 30 * DAY_S * 1000)
    sqs.purge_queue(QueueUrl=url)
    clock.advance("3h")
    assert len(bodies(sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10))) == 3


class Endpoint(NamedTuple):
    url: str
    statuses: list[int]  # that it gave
    tokens: list[str]  # of confirmations


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A webhook that answers 500 to all but confirmations."""
    given, tokens = list[int](), list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = 500
            if message["Type"] == "SubscriptionConfirmation":
                tokens.append(message["Token"])
                status = 200
            given.append(status)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Endpoint(f"http://127.0.0.1:{server.server_port}/", given, tokens)
    server.shutdown()
    thread.join()
    server.server_close()


def test_retries_go_out_and_are_over_when_the_advance_returns(
    clock: Clock, served: Any, connect: Connect, sqs: Any, endpoint: Endpoint
) -> None:
    """SNS's default: the first attempt, three retries 20 s apart, then the dead letter."""
    url, statuses, tokens = endpoint
    sns = connect(served, "sns")
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    dead_arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name="t")["TopicArn"]
    sns.subscribe(
        TopicArn=topic,
        Protocol="http",
        Endpoint=url,
        Attributes={"RedrivePolicy": json.dumps({"deadLetterTargetArn": dead_arn})},
    )
    clock.advance(0)  # waits for what is under way
    assert statuses == [200]
    token = tokens.pop()
    sns.confirm_subscription(TopicArn=topic, Token=token)
    sns.publish(TopicArn=topic, Message="hello")
    clock.advance(0)
    assert statuses == [200, 500]
    clock.advance("1h")
    assert statuses == [200, 500, 500, 500, 500]
    (letter,) = bodies(sqs.receive_message(QueueUrl=dead))
    assert json.loads(letter)["Message"] == "hello"


# signatures


def test_signatures_expire_by_the_brokers_time(start_sidebus: Callable[..., Any], connect: Connect) -> None:
    strict = start_sidebus("--auth", "strict", "--key", "KEY=secret@111122223333")
    sqs, clock = connect(strict, account="KEY", secret="secret"), Clock(strict)
    sqs.create_queue(QueueName="q")
    clock.advance("14d")
    with pytest.raises(ClientError) as refused:
        sqs.list_queues()
    error = refused.value.response["Error"]
    assert (error["Code"], refused.value.response["ResponseMetadata"]["HTTPStatusCode"]) == (
        "SignatureDoesNotMatch",
        403,
    )
    assert error["Message"].startswith("Signature expired: ")
    clock.post(dates="machine")
    assert len(sqs.list_queues()["QueueUrls"]) == 1
    (created,) = sqs.get_queue_attributes(
        QueueUrl=sqs.create_queue(QueueName="later")["QueueUrl"], AttributeNames=["CreatedTimestamp"]
    )["Attributes"].values()
    assert int(created) > time.time() + 13 * DAY_S  # the switch is for dates and signatures alone
    clock.post(dates="broker")
    with pytest.raises(ClientError):
        sqs.list_queues()
    clock.post(restore=True)
    sqs.list_queues()

"""Answers that are event streams, and answers in CBOR: from an operation's function to bytes, and when they go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from botocore.parsers import RpcV2CBORParser

from broker.clock import ManualClock
from broker.core import Broker
from broker.errors import BrokerFailure, DomainError, InvalidArgumentException, ResourceInUseException
from broker.store.sqlite import SqliteStore
from protocols import application
from protocols.application import Application
from protocols.aws.call import Call, EventSink, Operation, Result, Streaming
from protocols.http.message import Answer, Cancel, Request, Response, StreamingResponse
from protocols.wire.eventstream import Message, decode

JSON, CBOR = "application/x-amz-json-1.1", "application/x-amz-cbor-1.1"
both_types = pytest.mark.parametrize("content_type", [JSON, CBOR])
INPUT = {"ConsumerARN": "arn:aws:kinesis:us-east-1:000000000000:stream/s/consumer/c:1", "ShardId": "0"}
EVENT = {
    "Records": [{"SequenceNumber": "1", "ApproximateArrivalTimestamp": 1.5, "Data": b"\0\xff", "PartitionKey": "k"}],
    "ContinuationSequenceNumber": "1",
    "MillisBehindLatest": 0,
}


class Client:
    """Stands where the listener does: takes the answer, and its body if it is a stream."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.body = b""
        self.ended = 0
        self.is_slow = False
        self.ready: Callable[[], None] = lambda: None
        self.cancel: Cancel | None = None
        self.leave: Cancel | None = None
        self.is_late = False  # the stream waits for its turn

    def reply(self, answer: Answer) -> None:
        self.answers.append(answer)
        if isinstance(answer, StreamingResponse) and not self.is_late:
            self.begin()

    def begin(self) -> None:
        (answer,) = self.answers
        assert isinstance(answer, StreamingResponse)
        self.leave = answer.start(self)

    def write(self, data: bytes) -> bool:
        assert not self.ended
        self.body += data
        return not self.is_slow

    def on_ready(self, ready: Callable[[], None]) -> None:
        self.ready = ready

    def end(self) -> None:
        self.ended += 1

    def abort(self) -> None:
        raise AssertionError("nothing breaks off here")

    @property
    def messages(self) -> list[Message]:
        return list(decode(self.body))

    @property
    def names(self) -> list[Any]:
        return [m.headers.get(":event-type") or m.headers.get(":exception-type") for m in self.messages]

    @property
    def response(self) -> Response:
        (answer,) = self.answers
        assert isinstance(answer, Response)
        return answer


class Subscription:
    """The engine's side of a stream."""

    def __init__(self) -> None:
        self.sink: EventSink = None  # type: ignore[assignment]
        self.cancelled = 0
        self.readied = 0
        self.at_start: Callable[[EventSink], None] = lambda sink: None

    def __call__(self, call: Call) -> Streaming:
        call.broker.commit.enter()
        return Streaming(self.start)

    def start(self, sink: EventSink) -> Cancel:
        self.sink = sink
        sink.on_ready(self.ready)
        self.at_start(sink)
        return self.cancel

    def ready(self) -> None:
        self.readied += 1

    def cancel(self) -> None:
        self.cancelled += 1


class House:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.broker = Broker(SqliteStore(None), self.clock)
        self.clock.settle()
        self.application = Application(self.broker)

    def ask(self, name: str, body: bytes, content_type: str = JSON) -> Client:
        client = Client()
        headers = [(b"x-amz-target", b"Kinesis_20131202." + name.encode()), (b"content-type", content_type.encode())]
        client.cancel = self.application(Request("POST", b"/", headers, body), client.reply)
        return client

    def subscribe(self, content_type: str = JSON, settle: bool = True) -> Client:
        if content_type == JSON:
            body = orjson.dumps(INPUT | {"StartingPosition": {"Type": "LATEST"}})
        else:
            body = b"\xa3\x6bConsumerARN\x78\x3c%s\x67ShardId\x610\x70StartingPosition\xa1\x64Type\x66LATEST" % (
                INPUT["ConsumerARN"].encode()
            )
        client = self.ask("SubscribeToShard", body, content_type)
        if settle:
            self.clock.settle()
        return client


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.broker.close()


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> dict[str, Operation]:
    functions: dict[str, Operation] = {}
    monkeypatch.setitem(application.SERVICES, "kinesis", functions)
    return functions


@pytest.fixture
def subscription(operations: dict[str, Operation]) -> Subscription:
    subscription = Subscription()
    operations["SubscribeToShard"] = subscription
    return subscription


def read(content_type: str, payload: bytes) -> Any:
    if content_type == JSON:
        return json.loads(payload)
    parser = RpcV2CBORParser(timestamp_parser=lambda ms: ms)
    return parser.parse_data_item(parser.get_peekable_stream_from_bytes(payload))


# -- whole answers


@both_types
def test_answers_and_errors_in_the_form_of_the_request(
    house: House, operations: dict[str, Operation], content_type: str
) -> None:
    def put_record(call: Call) -> Result:
        assert call.parameters == {"StreamName": "s", "Data": b"\0\xff", "PartitionKey": "k"}
        return {"ShardId": "shardId-0", "SequenceNumber": "1"}

    def delete_stream(call: Call) -> Result:
        return {}

    def describe_stream(call: Call) -> Result:
        raise InvalidArgumentException("Not so.")

    operations |= {"PutRecord": put_record, "DeleteStream": delete_stream, "DescribeStream": describe_stream}
    body, empty = b'{"StreamName":"s","Data":"AP8=","PartitionKey":"k"}', b"{}"
    if content_type == CBOR:
        body, empty = b"\xbf\x6aStreamName\x61s\x64Data\x42\0\xff\x6cPartitionKey\x61k\xff", b"\xbf\xff"

    def ask(name: str, body: bytes) -> tuple[int, Any]:
        client = house.ask(name, body, content_type)
        house.clock.settle()
        headers = dict(client.response.headers)
        assert headers[b"content-type"] == content_type.encode()
        assert len(headers[b"x-amzn-requestid"]) == 36
        return client.response.status, read(content_type, client.response.body) if client.response.body else None

    assert ask("PutRecord", body) == (200, {"ShardId": "shardId-0", "SequenceNumber": "1"})
    assert ask("DeleteStream", empty) == (200, None)
    assert ask("DescribeStream", empty) == (400, {"__type": "InvalidArgumentException", "message": "Not so."})
    assert ask("PutRecord", b"\xa1") == (400, {"__type": "SerializationException"})
    status, error = ask("PutRecord", empty)
    assert (status, error["__type"]) == (400, "ValidationException")
    assert error["message"] == (
        "1 validation error detected: Value null at 'data' failed to satisfy constraint: Member must not be null"
    )
    assert ask("MergeShards", empty) == (400, {"__type": "UnknownOperationException"})


# -- streams


@both_types
def test_events_each_with_its_headers(house: House, subscription: Subscription, content_type: str) -> None:
    client = house.subscribe(content_type)
    (answer,) = client.answers
    assert answer.status == 200
    assert dict(answer.headers)[b"content-type"] == b"application/vnd.amazon.eventstream"
    assert len(dict(answer.headers)[b"x-amzn-requestid"]) == 36
    assert subscription.sink.send("SubscribeToShardEvent", EVENT)
    subscription.sink.end()
    first, second = client.messages
    assert first.headers == {
        ":event-type": "initial-response",
        ":content-type": content_type,
        ":message-type": "event",
    }
    assert read(content_type, first.payload) == {}
    assert second.headers == {
        ":event-type": "SubscribeToShardEvent",
        ":content-type": content_type,
        ":message-type": "event",
    }
    blob, time = ("AP8=", 1.5) if content_type == JSON else (b"\0\xff", 1500)
    record = {"SequenceNumber": "1", "ApproximateArrivalTimestamp": time, "Data": blob, "PartitionKey": "k"}
    assert read(content_type, second.payload) == EVENT | {"Records": [record]}
    assert (client.ended, subscription.cancelled) == (1, 0)


@both_types
@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (ResourceInUseException("Taken over."), {":exception-type": "ResourceInUseException"}),
        (InvalidArgumentException("Taken over."), {":error-code": "InvalidArgumentException"}),
    ],
)
def test_a_stream_that_fails(
    house: House, subscription: Subscription, content_type: str, error: DomainError, headers: dict[str, str]
) -> None:
    client = house.subscribe(content_type)
    subscription.sink.fail(error)
    message = client.messages[-1]
    if ":exception-type" in headers:
        assert message.headers == headers | {":content-type": content_type, ":message-type": "exception"}
        assert read(content_type, message.payload) == {"message": "Taken over."}
    else:
        assert message == (headers | {":error-message": "Taken over.", ":message-type": "error"}, b"")
    assert (client.ended, subscription.cancelled) == (1, 0)
    subscription.sink.fail(error)
    subscription.sink.end()
    assert not subscription.sink.send("SubscribeToShardEvent", EVENT)
    assert len(client.messages) == 2


def test_a_refusal_is_a_whole_answer(house: House, operations: dict[str, Operation]) -> None:
    def subscribe(call: Call) -> Streaming:
        raise ResourceInUseException("Somebody else has it.")

    operations["SubscribeToShard"] = subscribe
    client = house.subscribe()
    assert client.response.status == 400
    assert json.loads(client.response.body) == {"__type": "ResourceInUseException", "message": "Somebody else has it."}


def test_the_start_may_refuse_too(house: House, subscription: Subscription) -> None:
    def refuse(sink: EventSink) -> None:
        raise ResourceInUseException("Too late.")

    subscription.at_start = refuse
    client = house.subscribe()
    assert (client.response.status, subscription.cancelled) == (400, 0)


def test_nothing_goes_before_its_commit(house: House, subscription: Subscription) -> None:
    subscription.at_start = lambda sink: [sink.send("SubscribeToShardEvent", EVENT), None][1]
    client = house.subscribe(settle=False)
    assert not client.answers
    house.clock.settle()
    assert client.names == ["initial-response", "SubscribeToShardEvent"]

    house.broker.commit.enter()
    assert subscription.sink.send("SubscribeToShardEvent", EVENT)
    subscription.sink.end()
    assert (len(client.messages), client.ended) == (2, 0)
    house.clock.settle()
    assert (len(client.messages), client.ended) == (3, 1)


def test_a_stream_that_ends_at_once(house: House, subscription: Subscription) -> None:
    subscription.at_start = lambda sink: sink.end()
    client = house.subscribe()
    assert (client.names, client.ended, subscription.cancelled) == (["initial-response"], 1, 0)


def test_a_commit_that_fails_at_the_beginning(house: House, subscription: Subscription) -> None:
    client = house.subscribe(settle=False)
    house.broker.commit.abort(BrokerFailure("The disk is full."))
    assert client.response.status == 503
    assert subscription.cancelled == 1
    assert not subscription.sink.send("SubscribeToShardEvent", EVENT)


def test_a_commit_that_fails_in_the_middle_ends_the_stream(house: House, subscription: Subscription) -> None:
    client = house.subscribe()
    house.broker.commit.enter()
    for _ in range(3):
        subscription.sink.send("SubscribeToShardEvent", EVENT)
    house.broker.commit.abort(BrokerFailure("The disk is full."))
    assert client.names == ["initial-response", "InternalFailureException"]
    assert json.loads(client.messages[-1].payload) == {"message": "The disk is full."}
    assert (client.ended, subscription.cancelled) == (1, 1)
    assert not subscription.sink.send("SubscribeToShardEvent", EVENT)


def test_a_client_that_leaves_before_and_after_the_beginning(house: House, subscription: Subscription) -> None:
    client = house.subscribe(settle=False)
    assert client.cancel is not None
    client.cancel()
    house.clock.settle()
    assert subscription.cancelled == 1

    client = house.subscribe()
    assert client.leave is not None
    client.leave()
    assert subscription.cancelled == 2
    client.leave()
    client.cancel()
    assert subscription.cancelled == 2
    assert not subscription.sink.send("SubscribeToShardEvent", EVENT)
    assert client.names == ["initial-response"]


def test_a_client_that_is_slow(house: House, subscription: Subscription) -> None:
    client = house.subscribe()
    client.is_slow = True
    assert not subscription.sink.send("SubscribeToShardEvent", EVENT)
    assert subscription.readied == 0
    client.is_slow = False
    client.ready()
    assert subscription.readied == 1
    assert subscription.sink.send("SubscribeToShardEvent", EVENT)
    client.ready()
    assert subscription.readied == 1, "nobody waited for it"


def test_a_stream_that_waits_for_its_turn(house: House, subscription: Subscription) -> None:
    client = Client()
    client.is_late = True
    headers = [(b"x-amz-target", b"Kinesis_20131202.SubscribeToShard"), (b"content-type", JSON.encode())]
    body = orjson.dumps(INPUT | {"StartingPosition": {"Type": "LATEST"}})
    house.application(Request("POST", b"/", headers, body), client.reply)
    house.clock.settle()
    assert not subscription.sink.send("SubscribeToShardEvent", EVENT), "nobody takes it yet"
    assert client.body == b""
    client.begin()
    assert client.names == ["initial-response", "SubscribeToShardEvent"]
    assert subscription.readied == 1
    assert subscription.sink.send("SubscribeToShardEvent", EVENT)


def test_what_waits_for_a_commit_is_held_back_too(house: House, subscription: Subscription) -> None:
    client = house.subscribe()
    house.broker.commit.enter()
    large = EVENT | {"Records": [{"SequenceNumber": "1", "Data": bytes(20_000), "PartitionKey": "k"}]}
    assert [subscription.sink.send("SubscribeToShardEvent", large) for _ in range(3)] == [True, True, False]
    assert subscription.readied == 0
    house.clock.settle()
    assert subscription.readied == 1
    assert len(client.messages) == 4

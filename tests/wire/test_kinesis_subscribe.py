"""SubscribeToShard: what a subscriber is given, from where, for how long, and how it ends; boto3 over HTTP/1.1.

Where time matters, the broker runs in a thread of its own with a clock that moves only when told to. What no client
shows (bytes, slow readers, events of the same commit) is asked of the application without a socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
from botocore.exceptions import EventStreamError
from virtual_kinesis import ACCOUNT, REGION, SHARD, START_MS, VirtualKinesis

from broker.clock import ManualClock
from broker.core import Broker
from broker.limits import AWS
from broker.store.sqlite import SqliteStore
from broker.streams import Putting
from protocols.application import Application
from protocols.http.listener import Listener
from protocols.wire import eventstream

ARN = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s"


class ClockedSidebus:
    """A broker on a real socket, and on time that stands still."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._run(self._start())

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self) -> None:
        self.clock = ManualClock(START_MS, self._loop.call_soon)
        self._store = SqliteStore(None)
        self.broker = Broker(self._store, self.clock)
        self._listener = await Listener.start(Application(self.broker), now_ms=self.clock.now_ms)
        host, port = self._listener.address
        self.url = f"http://{host}:{port}"

    def advance(self, by_ms: int) -> None:
        """Keeps each appointment at its own moment, and lets what follows from it happen."""

        async def jump() -> None:
            end_ms = self.clock.now_ms() + by_ms
            while (due_ms := self.clock.next_ms()) is not None and due_ms <= end_ms:
                self.clock.set(due_ms)
                for _ in range(5):
                    await asyncio.sleep(0)
            self.clock.set(end_ms)

        self._run(jump())

    def subscriptions(self) -> int:
        return self.broker.streams.subscriptions.count()

    def stop(self) -> None:
        async def end() -> None:
            self.broker.end_waiting()
            await self._listener.drain(5)
            self.broker.close()

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def clocked() -> Iterator[ClockedSidebus]:
    sidebus = ClockedSidebus()
    yield sidebus
    sidebus.stop()


@pytest.fixture
def kinesis(connect: Any, clocked: ClockedSidebus) -> Any:
    client = connect(clocked, "kinesis", account=ACCOUNT)
    client.create_stream(StreamName="s", ShardCount=1)
    return client


@pytest.fixture
def consumer(kinesis: Any) -> str:
    return str(kinesis.register_stream_consumer(StreamARN=ARN, ConsumerName="c")["Consumer"]["ConsumerARN"])


@pytest.fixture
def virtual() -> Iterator[VirtualKinesis]:
    kinesis = VirtualKinesis()
    kinesis.stream()
    yield kinesis
    kinesis.close()


@pytest.fixture
def subscribe() -> Iterator[Callable[..., Any]]:
    """`subscribe(kinesis, consumer, kind, **position)`: a stream of events, which is closed in the end."""
    with contextlib.ExitStack() as opened:

        def begin(kinesis: Any, consumer: str, kind: str = "TRIM_HORIZON", **position: Any) -> Any:
            answer = kinesis.subscribe_to_shard(
                ConsumerARN=consumer, ShardId=SHARD, StartingPosition={"Type": kind, **position}
            )
            assert answer["ResponseMetadata"]["HTTPHeaders"]["content-type"] == "application/vnd.amazon.eventstream"
            return opened.enter_context(contextlib.closing(answer["EventStream"]))

        yield begin


def put(kinesis: Any, *texts: str) -> list[str]:
    return [kinesis.put_record(StreamName="s", Data=text, PartitionKey="k")["SequenceNumber"] for text in texts]


def texts(event: dict[str, Any]) -> list[str]:
    return [record["Data"].decode() for record in event["SubscribeToShardEvent"]["Records"]]


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


# where it begins


def test_every_starting_position(kinesis: Any, clocked: ClockedSidebus, consumer: str, subscribe: Any) -> None:
    numbers = []
    for text in "abc":
        numbers += put(kinesis, text)
        clocked.advance(1000)
    for kind, position, expected in (
        ("TRIM_HORIZON", {}, ["a", "b", "c"]),
        ("AT_SEQUENCE_NUMBER", {"SequenceNumber": numbers[1]}, ["b", "c"]),
        ("AFTER_SEQUENCE_NUMBER", {"SequenceNumber": numbers[1]}, ["c"]),
        ("AT_TIMESTAMP", {"Timestamp": (START_MS + 1000) / 1000}, ["b", "c"]),
        ("AT_TIMESTAMP", {"Timestamp": (START_MS + 1001) / 1000}, ["c"]),
        ("LATEST", {}, []),
    ):
        with contextlib.closing(subscribe(kinesis, consumer, kind, **position)) as events:
            assert texts(next(iter(events))) == expected
        until(lambda: clocked.subscriptions() == 0)


def test_latest_is_what_comes_after_the_answer(kinesis: Any, consumer: str, subscribe: Any) -> None:
    put(kinesis, "before")
    events = iter(subscribe(kinesis, consumer, "LATEST"))
    assert texts(next(events)) == []
    for text in ("after", "and after"):
        put(kinesis, text)
        assert texts(next(events)) == [text]


def test_an_events_numbers(kinesis: Any, clocked: ClockedSidebus, consumer: str, subscribe: Any) -> None:
    numbers = put(kinesis, "a", "b")
    event = next(iter(subscribe(kinesis, consumer)))["SubscribeToShardEvent"]
    assert [record["SequenceNumber"] for record in event["Records"]] == numbers
    assert event["MillisBehindLatest"] == 0
    assert "ChildShards" not in event
    assert int(event["ContinuationSequenceNumber"]) > int(numbers[-1])
    numbers += put(kinesis, "c")
    assert int(event["ContinuationSequenceNumber"]) < int(numbers[-1])


def test_going_on_from_the_continuation_number(
    kinesis: Any, clocked: ClockedSidebus, consumer: str, subscribe: Any
) -> None:
    """Whichever way a client resumes, it misses nothing and is told nothing twice."""
    seen: list[str] = []
    position: dict[str, Any] = {"kind": "TRIM_HORIZON"}
    for number in range(6):
        put(kinesis, str(number))
        with contextlib.closing(subscribe(kinesis, consumer, **position)) as events:
            event = next(iter(events))
            seen += texts(event)
        until(lambda: clocked.subscriptions() == 0)
        kind = "AT_SEQUENCE_NUMBER" if number % 2 else "AFTER_SEQUENCE_NUMBER"
        following = event["SubscribeToShardEvent"]["ContinuationSequenceNumber"]
        position = {"kind": kind, "SequenceNumber": following}
    assert seen == [str(number) for number in range(6)]


def test_a_quiet_shard_still_tells_where_it_is(
    kinesis: Any, clocked: ClockedSidebus, consumer: str, subscribe: Any
) -> None:
    events = iter(subscribe(kinesis, consumer, "LATEST"))
    first = next(events)["SubscribeToShardEvent"]
    clocked.advance(5_000)
    second = next(events)["SubscribeToShardEvent"]
    assert (first["Records"], second["Records"]) == ([], [])
    other = kinesis.register_stream_consumer(StreamARN=ARN, ConsumerName="d")["Consumer"]["ConsumerARN"]
    following = second["ContinuationSequenceNumber"]
    again = iter(subscribe(kinesis, other, "AFTER_SEQUENCE_NUMBER", SequenceNumber=following))
    assert texts(next(again)) == []
    put(kinesis, "a")
    assert texts(next(again)) == ["a"]


# how it ends


def test_it_ends_after_five_minutes(kinesis: Any, clocked: ClockedSidebus, consumer: str, subscribe: Any) -> None:
    stream = subscribe(kinesis, consumer)
    put(kinesis, "a")
    clocked.advance(299_999)
    put(kinesis, "b")
    assert clocked.subscriptions() == 1
    clocked.advance(1)
    assert [text for event in stream for text in texts(event)] == ["a", "b"]
    assert clocked.subscriptions() == 0
    put(kinesis, "c")
    assert texts(next(iter(subscribe(kinesis, consumer)))) == ["a", "b", "c"]


def test_the_end_of_a_shard(kinesis: Any, consumer: str, subscribe: Any) -> None:
    put(kinesis, "a")
    stream = subscribe(kinesis, consumer)
    events = iter(stream)
    assert texts(next(events)) == ["a"]
    kinesis.split_shard(StreamName="s", ShardToSplit=SHARD, NewStartingHashKey="10")
    last = next(events)["SubscribeToShardEvent"]
    assert last["Records"] == []
    assert "ContinuationSequenceNumber" not in last
    assert last["ChildShards"] == [
        {
            "ShardId": "shardId-000000000001",
            "ParentShards": [SHARD],
            "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "9"},
        },
        {
            "ShardId": "shardId-000000000002",
            "ParentShards": [SHARD],
            "HashKeyRange": {"StartingHashKey": "10", "EndingHashKey": str(2**128 - 1)},
        },
    ]
    assert list(events) == []
    closed = next(iter(subscribe(kinesis, consumer)))
    assert texts(closed) == ["a"]
    assert len(closed["SubscribeToShardEvent"]["ChildShards"]) == 2


def test_a_second_call_within_five_seconds_is_refused(
    kinesis: Any, clocked: ClockedSidebus, consumer: str, subscribe: Any
) -> None:
    first = subscribe(kinesis, consumer)
    clocked.advance(4_999)
    with pytest.raises(kinesis.exceptions.ResourceInUseException) as caught:
        subscribe(kinesis, consumer)
    assert caught.value.response["Error"]["Message"] == (
        f"Another active subscription exists for this consumer: {ACCOUNT}:s:{SHARD}:c"
    )
    put(kinesis, "a")
    assert "a" in [text for event in islice(first, 2) for text in texts(event)]


def test_a_second_call_after_five_seconds_takes_over(
    kinesis: Any, clocked: ClockedSidebus, consumer: str, subscribe: Any
) -> None:
    first = subscribe(kinesis, consumer)
    clocked.advance(5_000)
    second = subscribe(kinesis, consumer)
    put(kinesis, "a")
    with pytest.raises(EventStreamError) as caught:
        list(first)
    assert caught.value.response["Error"] == {
        "Code": "ResourceInUseException",
        "Message": f"Another active subscription exists for this consumer: {ACCOUNT}:s:{SHARD}:c",
    }
    assert "a" in [text for event in islice(second, 2) for text in texts(event)]


@pytest.mark.parametrize("what", ["stream", "consumer"])
def test_what_it_reads_from_goes(kinesis: Any, consumer: str, subscribe: Any, what: str) -> None:
    put(kinesis, "a")
    events = iter(subscribe(kinesis, consumer))
    assert texts(next(events)) == ["a"]
    if what == "stream":
        kinesis.delete_stream(StreamName="s", EnforceConsumerDeletion=True)
    else:
        kinesis.deregister_stream_consumer(ConsumerARN=consumer)
    with pytest.raises(EventStreamError) as caught:
        next(events)
    assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_a_client_that_leaves_frees_its_place(
    kinesis: Any, clocked: ClockedSidebus, consumer: str, subscribe: Any
) -> None:
    for _ in range(3):
        stream = subscribe(kinesis, consumer)
        put(kinesis, "a")
        next(iter(stream))
        stream.close()
        until(lambda: clocked.subscriptions() == 0)


def test_a_broker_that_stops_ends_it(connect: Any, subscribe: Any) -> None:
    sidebus = ClockedSidebus()
    kinesis = connect(sidebus, "kinesis", account=ACCOUNT)
    kinesis.create_stream(StreamName="s", ShardCount=1)
    consumer = kinesis.register_stream_consumer(StreamARN=ARN, ConsumerName="c")["Consumer"]["ConsumerARN"]
    put(kinesis, "a")
    stream = subscribe(kinesis, consumer)
    sidebus.stop()
    assert [text for event in stream for text in texts(event)] in ([], ["a"])


def test_many_consumers_are_told_the_same_at_once(kinesis: Any, clocked: ClockedSidebus, subscribe: Any) -> None:
    streams = []
    for number in range(10):
        arn = kinesis.register_stream_consumer(StreamARN=ARN, ConsumerName=f"c{number}")["Consumer"]["ConsumerARN"]
        streams.append(iter(subscribe(kinesis, arn, "LATEST")))
    for stream in streams:
        assert texts(next(stream)) == []
    for number in range(3):
        put(kinesis, str(number))
        assert [texts(next(stream)) for stream in streams] == [[str(number)]] * 10


# without a socket


def test_bytes(virtual: VirtualKinesis) -> None:
    consumer = virtual.consumer()
    (number,) = virtual.put("a")
    reader = virtual.subscribe(ConsumerARN=consumer, ShardId=SHARD, StartingPosition={"Type": "TRIM_HORIZON"})
    assert reader.headers[b"content-type"] == b"application/vnd.amazon.eventstream"
    assert reader.headers[b"x-amzn-requestid"]
    first, second = eventstream.decode(reader.raw)
    kind = "application/x-amz-json-1.1"
    assert first.headers == {":event-type": "initial-response", ":content-type": kind, ":message-type": "event"}
    assert first.payload == b"{}"
    assert second.headers == {":event-type": "SubscribeToShardEvent", ":content-type": kind, ":message-type": "event"}
    following = json.loads(second.payload)["ContinuationSequenceNumber"]
    assert (
        second.payload
        == (
            f'{{"Records":[{{"SequenceNumber":"{number}","ApproximateArrivalTimestamp":1700000000.0,"Data":"YQ==",'
            f'"PartitionKey":"k"}}],"MillisBehindLatest":0,"ContinuationSequenceNumber":"{following}"}}'
        ).encode()
    )
    virtual("DeregisterStreamConsumer", ConsumerARN=consumer)
    *_, last = eventstream.decode(reader.raw)
    assert last.headers == {
        ":exception-type": "ResourceNotFoundException",
        ":content-type": kind,
        ":message-type": "exception",
    }
    assert last.payload == f'{{"message":"Consumer {consumer}, account {ACCOUNT} not found."}}'.encode()
    assert reader.ended


def test_nothing_is_pushed_before_it_is_committed(virtual: VirtualKinesis) -> None:
    reader = virtual.subscribe(ConsumerARN=virtual.consumer(), ShardId=SHARD, StartingPosition={"Type": "TRIM_HORIZON"})
    virtual.broker.commit.enter()
    records, stream = virtual.broker.streams.records, virtual.broker.streams.registry.by_arn[ARN]
    records.put_record(stream, Putting(b"lost", "k"))
    virtual.broker.failed(RuntimeError("on purpose"))
    virtual.put("kept")
    assert [b64decode(r["Data"]) for event in reader.events for r in event["Records"]] == [b"kept"]


def test_a_slow_reader_is_waited_for_and_misses_nothing(virtual: VirtualKinesis) -> None:
    reader = virtual.subscribe(ConsumerARN=virtual.consumer(), ShardId=SHARD, StartingPosition={"Type": "LATEST"})
    reader.takes = False
    for number in range(100):
        virtual.put(str(number))
    stopped = len(reader.events)
    assert stopped <= 3
    reader.catch_up()
    virtual.clock.settle()
    found = [b64decode(record["Data"]).decode() for event in reader.events for record in event["Records"]]
    assert found == [str(number) for number in range(100)]
    assert len(reader.events) < 10  # what waited came together


def test_two_mebibytes_a_second_under_awss_limits() -> None:
    kinesis = VirtualKinesis(AWS)
    kinesis.stream()
    kinesis.clock.advance(60_000)
    consumer = kinesis.consumer()
    kinesis.clock.advance(60_000)
    for _ in range(8):
        kinesis("PutRecord", StreamName="s", Data=bytes(1024 * 1024 - 1), PartitionKey="k")
        kinesis.clock.advance(1000)
    reader = kinesis.subscribe(ConsumerARN=consumer, ShardId=SHARD, StartingPosition={"Type": "TRIM_HORIZON"})
    counts = []
    for _ in range(5):
        counts.append(sum(len(event["Records"]) for event in reader.events))
        kinesis.clock.advance(1000)
    assert counts == [1, 3, 5, 7, 8]
    kinesis.close()

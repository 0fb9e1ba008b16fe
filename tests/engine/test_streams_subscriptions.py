"""Consumers and their subscriptions: what is pushed when, at whose pace, and how a subscription ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from broker.errors import ResourceInUseException, ResourceNotFoundException
from broker.limits import AWS
from broker.streams import Consumer, Putting, Shard
from broker.streams.subscriptions import EVENT_BYTES, HEARTBEAT_MS
from engine.stream_support import START_MS, WORLD, Client, StreamEngine, outcome_of

TOP = 1 << 128
ID = "shardId-{:012d}".format


@pytest.fixture
def engine() -> Iterator[StreamEngine]:
    engine = StreamEngine()
    engine.create()
    engine.settle()
    yield engine
    engine.close()


def shard_of(engine: StreamEngine, index: int = 0) -> Shard:
    return engine.find().shards[index]


def consumer_of(engine: StreamEngine, name: str = "c") -> Consumer:
    return engine.consumers.register(engine.find(), name)


def subscribed(engine: StreamEngine, kind: str = "TRIM_HORIZON", name: str = "c", **given: object) -> Client:
    client = engine.subscribe(consumer_of(engine, name), shard_of(engine), kind, **given)
    engine.settle()
    return client


def test_what_is_there_comes_first_and_then_what_is_put(engine: StreamEngine) -> None:
    engine.put(engine.find(), *"ab")
    client = subscribed(engine)
    assert client.texts == [*"ab"]
    engine.put(engine.find(), *"cd")
    assert client.texts == [*"ab"], "not before the commit"
    engine.settle()
    assert client.texts == [*"abcd"]
    assert [len(event.records) for event in client.events] == [2, 2]
    assert all(event.behind_ms == 0 for event in client.events)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("TRIM_HORIZON", "abcdx"),
        ("LATEST", "x"),
        ("AT_SEQUENCE_NUMBER", "bcdx"),
        ("AFTER_SEQUENCE_NUMBER", "cdx"),
        ("AT_TIMESTAMP", "cdx"),
    ],
)
def test_every_starting_position(engine: StreamEngine, kind: str, expected: str) -> None:
    stream = engine.find()
    number = engine.put(stream, *"ab")[1].sequence_number
    engine.advance(10)
    engine.put(stream, *"cd")
    given = {"sequence_number": number} if kind.endswith("NUMBER") else {"timestamp_ms": START_MS + 1}
    client = subscribed(engine, kind, **given)
    engine.put(stream, "x")
    engine.settle()
    assert client.texts == [*expected]


def test_an_event_that_says_there_is_nothing(engine: StreamEngine) -> None:
    client = subscribed(engine, "LATEST")
    assert [(event.records, event.child_shards) for event in client.events] == [([], [])]
    engine.advance(3 * HEARTBEAT_MS)
    assert len(client.events) == 4
    engine.put(engine.find(), "a")
    engine.advance(HEARTBEAT_MS - 1)
    assert len(client.events) == 5, "a record puts the next empty event off"


@pytest.mark.parametrize("kind", ["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"])
@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_a_continuation_number_neither_skips_nor_doubles(engine: StreamEngine, kind: str, before: str) -> None:
    stream = engine.find()
    engine.put(stream, *before)
    client = subscribed(engine)
    number = client.events[-1].continuation_sequence_number
    assert number is not None
    engine.advance(5000)
    engine.put(stream, *"yz")
    later = subscribed(engine, kind, "other", sequence_number=number)
    assert later.texts == [*"yz"]
    assert engine.read(shard_of(engine), kind, number) == [*"yz"]


def test_the_end_of_a_shard_tells_its_children(engine: StreamEngine) -> None:
    stream = engine.find()
    client = subscribed(engine, "LATEST")
    engine.put(stream, "a")
    engine.shards.split(stream, ID(0), str(TOP // 2))
    assert client.ended == []
    engine.settle()
    assert client.texts == ["a"]
    last = client.events[-1]
    assert last.continuation_sequence_number is None
    assert [(child.shard_id, child.parent_ids) for child in last.child_shards] == [(ID(1), [ID(0)]), (ID(2), [ID(0)])]
    assert client.ended == [None]
    late = subscribed(engine, "LATEST", "late")
    assert (len(late.events), late.ended) == (1, [None])


def test_consumers_at_one_place_are_given_one_event(engine: StreamEngine) -> None:
    clients = [subscribed(engine, "LATEST", f"c{number}") for number in range(10)]
    engine.put(engine.find(), *"abc")
    engine.settle()
    assert len({id(client.events[-1]) for client in clients}) == 1
    assert all(client.texts == [*"abc"] for client in clients)


def test_a_slow_client_is_waited_for(engine: StreamEngine) -> None:
    stream = engine.find()
    client = subscribed(engine, "LATEST")
    client.takes = False
    for text in "abc":
        engine.put(stream, text)
        engine.settle()
    assert client.texts == ["a"]
    engine.advance(4 * HEARTBEAT_MS)
    assert client.texts == ["a"]
    client.takes = True
    client.subscription.resume()
    engine.settle()
    assert client.texts == [*"abc"]
    engine.put(stream, "d")
    engine.settle()
    assert client.texts == [*"abcd"]


def test_a_backlog_comes_in_events_of_bounded_size(engine: StreamEngine) -> None:
    stream = engine.find()
    for _ in range(4):
        engine.records.put_records(stream, [Putting(bytes(4096), "k")] * 500)
        engine.settle()
    engine.records.put_record(stream, Putting(bytes((1 << 20) - 1), "k"))
    client = subscribed(engine)
    sizes = [sum(len(record.data) for record in event.records) for event in client.events]
    assert max(sizes) <= EVENT_BYTES
    assert sum(len(event.records) for event in client.events) == 2001
    assert len(sizes) > 7


def test_after_five_minutes_it_is_over(engine: StreamEngine) -> None:
    client = subscribed(engine)
    engine.advance(299_999)
    assert client.ended == []
    engine.advance(1)
    assert client.ended == [None]
    engine.put(engine.find(), "a")
    engine.advance(100_000)
    assert client.texts == []
    assert engine.subscriptions.count() == 0


def test_a_second_call_within_five_seconds_is_refused_and_then_takes_over(engine: StreamEngine) -> None:
    consumer, shard = consumer_of(engine), shard_of(engine)
    first = engine.subscribe(consumer, shard)
    engine.advance(4_999)
    text = f"Another active subscription exists for this consumer: 111122223333:s:{ID(0)}:c"
    assert outcome_of(engine.subscribe, consumer, shard) == f"ResourceInUseException: {text}"
    engine.advance(1)
    second = engine.subscribe(consumer, shard)
    engine.settle()
    [error] = first.ended
    assert isinstance(error, ResourceInUseException)
    assert error.message == text
    engine.put(engine.find(), "a")
    engine.settle()
    assert (first.texts, second.texts) == ([], ["a"])
    assert engine.subscriptions.count() == 1


def test_a_client_that_left_makes_room_at_once(engine: StreamEngine) -> None:
    consumer, shard = consumer_of(engine), shard_of(engine)
    engine.subscribe(consumer, shard).subscription.cancel()
    client = engine.subscribe(consumer, shard)
    engine.put(engine.find(), "a")
    engine.settle()
    assert client.texts == ["a"]


def test_who_leaves_between_read_and_commit_is_given_nothing(engine: StreamEngine) -> None:
    client = subscribed(engine, "LATEST")
    engine.commit.before_commit.append(client.subscription.cancel)
    engine.put(engine.find(), "a")
    engine.settle()
    assert client.texts == []


def test_a_consumer_or_stream_that_goes_ends_its_subscriptions(engine: StreamEngine) -> None:
    consumer = consumer_of(engine)
    client = engine.subscribe(consumer, shard_of(engine))
    other = subscribed(engine, name="other")
    engine.consumers.deregister(consumer)
    assert client.ended == []
    engine.settle()
    assert isinstance(client.ended[0], ResourceNotFoundException)
    assert other.ended == []
    engine.definitions.delete(engine.find(), enforce_consumer_deletion=True)
    engine.settle()
    assert isinstance(other.ended[0], ResourceNotFoundException)


@pytest.mark.parametrize("how", ["fail", "fail_commit"])
def test_what_a_lost_group_would_have_pushed_is_not(engine: StreamEngine, how: str) -> None:
    client = subscribed(engine, "LATEST")
    engine.put(engine.find(), "lost")
    getattr(engine, how)()
    assert client.texts == []
    engine.put(engine.find(), "kept")
    engine.settle()
    assert client.texts == ["kept"]
    assert client.ended == []


def test_a_subscription_of_a_lost_group_never_was(engine: StreamEngine) -> None:
    consumer = consumer_of(engine)
    engine.settle()
    client = engine.subscribe(consumer, shard_of(engine))
    engine.fail()
    assert engine.subscriptions.count() == 0
    engine.put(engine.find(), "a")
    engine.settle()
    assert client.events == []


def test_the_broker_ends_them(engine: StreamEngine) -> None:
    client = subscribed(engine)
    engine.streams.close()
    assert client.ended == [None]


def test_what_cannot_be_subscribed_to(engine: StreamEngine) -> None:
    consumer = consumer_of(engine)
    given = {"push": bool, "end": bool}
    subscribe = engine.subscriptions.subscribe
    assert outcome_of(subscribe, consumer, ID(5), "LATEST", **given) == (
        f"ResourceNotFoundException: Shard {ID(5)} in stream s under account 111122223333 does not exist"
    )
    assert outcome_of(subscribe, consumer, ID(0), "AT_SEQUENCE_NUMBER", "123", **given).startswith("InvalidArgument")
    assert outcome_of(subscribe, consumer, ID(0), "LATEST", dry_run=True, **given).startswith("DryRunOperation")
    assert engine.subscriptions.count() == 0


# consumers


def test_a_consumer_is_found_by_what_is_known_of_it(engine: StreamEngine) -> None:
    stream = engine.find()
    consumer = consumer_of(engine)
    assert consumer.arn == f"{stream.arn}/consumer/c:{START_MS // 1000}"
    find = engine.consumers.find
    assert find(WORLD, arn=consumer.arn) is find(WORLD, stream=stream, name="c") is consumer
    assert find(WORLD, arn=consumer.arn, stream=stream, name="c") is consumer
    assert outcome_of(find, WORLD, arn=consumer.arn, name="d").startswith("InvalidArgumentException: ")
    assert outcome_of(find, WORLD, stream=stream).startswith("InvalidArgumentException: ")
    assert outcome_of(find, WORLD, arn=f"{consumer.arn}9") == (
        f"ResourceNotFoundException: Consumer {consumer.arn}9, account 111122223333 not found."
    )
    assert outcome_of(find, WORLD, stream=stream, name="d").startswith("ResourceNotFoundException: ")


def test_consumers_of_a_name_are_one_and_their_arns_differ_in_time(engine: StreamEngine) -> None:
    consumer = consumer_of(engine)
    assert outcome_of(consumer_of, engine).startswith("ResourceInUseException: ")
    engine.consumers.deregister(consumer)
    engine.advance(2000)
    again = consumer_of(engine)
    assert again.arn != consumer.arn
    assert again.tags == {}


def test_consumers_are_listed_in_pages(engine: StreamEngine) -> None:
    stream = engine.find()
    for number in range(5):
        consumer_of(engine, f"c{number}")
        engine.advance(1)
    page, token = engine.consumers.list_consumers(WORLD, stream, limit=2)
    names = [consumer.name for consumer in page]
    while token is not None:
        page, token = engine.consumers.list_consumers(WORLD, stream, token=token, limit=2)
        names += [consumer.name for consumer in page]
    assert names == [f"c{number}" for number in range(5)]
    refused = outcome_of(engine.consumers.list_consumers, WORLD, stream, token="x")
    assert refused.startswith("InvalidArgumentException: ")


def test_a_consumer_takes_its_time_under_awss_limits() -> None:
    engine = StreamEngine(limits=replace(AWS, stream_create_ms=0, stream_api_rates=False))
    stream = engine.create()
    consumer = consumer_of(engine)
    assert consumer.status == "CREATING"
    assert outcome_of(engine.subscribe, consumer, shard_of(engine)) == (
        f"ResourceInUseException: Consumer c with creation timestamp {START_MS // 1000} under stream s and account "
        "111122223333 is not in ACTIVE status."
    )
    for number in range(4):
        consumer_of(engine, f"c{number}")
    assert outcome_of(consumer_of, engine, "sixth").startswith("LimitExceededException: ")
    engine.advance(5000)
    assert consumer.status == "ACTIVE"
    for number in range(15):
        consumer_of(engine, f"d{number}")
        engine.advance(5000)
    assert outcome_of(consumer_of, engine, "one too many").startswith("InvalidArgumentException: ")
    assert outcome_of(consumer_of, engine, "one-too-many").startswith("LimitExceededException: ")
    engine.consumers.deregister(consumer)
    assert consumer.status == "DELETING"
    engine.advance(5000)
    assert consumer.arn not in stream.consumers
    engine.close()


def test_a_subscription_is_given_two_mebibytes_a_second_under_awss_limits() -> None:
    engine = StreamEngine(limits=replace(AWS, stream_create_ms=0, consumer_create_ms=0))
    stream = engine.create(max_record_kib=10_240)
    engine.records.put_record(stream, Putting(bytes(6 << 20), "k"))
    engine.advance(20_000)
    engine.put(stream, *"ab")
    client = subscribed(engine)
    assert [len(record.data) for event in client.events for record in event.records] == [6 << 20]
    engine.advance(2_999)
    assert len(client.events) == 1
    engine.advance(1)
    assert [record.data for record in client.events[1].records] == [b"a", b"b"]
    engine.close()


def test_one_call_a_second_under_awss_limits() -> None:
    engine = StreamEngine(limits=replace(AWS, stream_create_ms=0, consumer_create_ms=0))
    engine.create()
    consumer, shard = consumer_of(engine), shard_of(engine)
    engine.subscribe(consumer, shard).subscription.cancel()
    assert outcome_of(engine.subscribe, consumer, shard).startswith("LimitExceededException: ")
    engine.advance(1000)
    engine.subscribe(consumer, shard)
    engine.close()

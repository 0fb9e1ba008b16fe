"""Queues on streams, as the documentation of Kinesis's model has them: life, delivery, dead letters, long polls."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.errors import (
    ExpiredNextTokenException,
    InvalidArgumentException,
    LimitExceededException,
    ResourceInUseException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.limits import AWS
from broker.names import World
from broker.streams import DeadLetters, Putting, Stream, StreamQueue
from broker.streams.stream import MAX_HASH_KEY
from engine.stream_queue_support import QueueEngine, texts
from engine.stream_support import HOUR_MS, START_MS, WORLD

STALE, FOREIGN = "ResourceNotFoundException", "InvalidArgumentException"
NewEngine = Callable[..., QueueEngine]


@pytest.fixture
def new_engine() -> Iterator[NewEngine]:
    opened = []

    def new(*arguments: Path, **options: Any) -> QueueEngine:
        opened.append(QueueEngine(*arguments, **options))
        return opened[-1]

    yield new
    for engine in opened:
        engine.close()


@pytest.fixture
def engine(new_engine: NewEngine) -> QueueEngine:
    return new_engine()


@pytest.fixture
def stream(engine: QueueEngine) -> Stream:
    return engine.create()


@pytest.fixture
def queue(engine: QueueEngine, stream: Stream) -> StreamQueue:
    return engine.queue(stream)


# life


def test_a_queue_is_active_with_its_defaults(queue: StreamQueue, stream: Stream) -> None:
    assert queue.status == "ACTIVE"
    assert queue.attributes == (30, DeadLetters("BUILT_IN", 6))
    assert queue.arn.startswith("arn:aws:kinesis:us-east-1:111122223333:queue/")
    assert "q" not in queue.arn.rpartition("/")[2], "the identifier is not derived from the name"
    assert queue.stream is stream


def test_creation_update_and_deletion_take_their_time(new_engine: NewEngine) -> None:
    engine = new_engine(limits=AWS)
    stream = engine.create()
    engine.advance(AWS.stream_create_ms)
    engine.put_in(0, "a")
    queue = engine.queue(stream)
    assert (queue.status, queue.starting_ms) == ("CREATING", None)
    assert engine.receive(queue) == [], "it does not deliver yet"
    with pytest.raises(ResourceInUseException):
        engine.streams.queues.update(queue, 60)
    engine.advance(AWS.queue_change_ms)
    assert (queue.status, queue.starting_ms) == ("ACTIVE", stream.created_ms)
    [a] = engine.receive(queue)

    engine.streams.queues.update(queue, 60, DeadLetters("NONE", None))
    assert queue.status == "UPDATING"
    assert queue.attributes == (60, DeadLetters("NONE", None)), "a description has the updated attributes"
    engine.put_in(1, "b")
    [b] = engine.receive(queue)
    engine.advance(AWS.queue_change_ms)
    assert (queue.status, queue.visibility_timeout_s) == ("ACTIVE", 60)
    engine.advance(30_000 - AWS.queue_change_ms)
    assert texts(engine.receive(queue)) == ["a", "b"], "b was received before the update was complete"
    assert engine.acknowledge(queue, a, b) == [STALE, STALE]

    engine.put_in(2, "c")
    [c] = engine.receive(queue)
    engine.streams.queues.delete(queue)
    engine.streams.queues.delete(queue)
    assert queue.status == "DELETING"
    engine.put_in(0, "d")
    assert engine.receive(queue) == []
    assert engine.acknowledge(queue, c) == [STALE], "its receipt handles stop being valid"
    with pytest.raises(ResourceInUseException):
        engine.definitions.delete(stream)
    engine.advance(AWS.queue_change_ms)
    with pytest.raises(ResourceNotFoundException):
        engine.streams.queues.find(queue.arn)
    assert engine.rows("queued_record") == engine.rows("stream_cursor") == engine.rows("discarded_stream_queue") == []
    assert engine.read(stream.shards[0]) == ["a", "d"], "the stream's records stay"


def test_names_are_taken_once_in_an_account_and_region(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    with pytest.raises(ResourceInUseException):
        engine.queue(engine.create("other"))
    create = engine.streams.queues.create
    assert create(World("222222222222", "us-east-1"), "q", stream).name == "q"
    assert create(World(WORLD.account, "eu-west-1"), "q", stream).arn.startswith("arn:aws:kinesis:eu-west-1:")
    engine.streams.queues.delete(queue)
    assert engine.queue(stream).arn != queue.arn


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"name": "no spaces"}, ValidationException),
        ({"starts": "AT_TIMESTAMP"}, ValidationException),
        ({"starts": "LATEST", "timestamp_ms": START_MS}, ValidationException),
        ({"starts": "AT_SEQUENCE_NUMBER"}, ValidationException),
        ({"starts": "AT_TIMESTAMP", "timestamp_ms": START_MS + 1}, InvalidArgumentException),
        ({"dead_letters": DeadLetters("BUILT_IN", None)}, ValidationException),
        ({"dead_letters": DeadLetters("NONE", 3)}, ValidationException),
        ({"tags": {"aws:x": "y"}}, InvalidArgumentException),
    ],
)
def test_what_create_queue_refuses(
    engine: QueueEngine, stream: Stream, given: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        engine.queue(stream, **given)
    assert engine.streams.queues.count(stream) == 0


def test_queues_need_the_on_demand_mode_and_keep_the_stream_in_it(engine: QueueEngine) -> None:
    provisioned = engine.create("p", 1, mode="PROVISIONED")
    with pytest.raises(ValidationException):
        engine.queue(provisioned)
    stream = engine.create()
    queue = engine.queue(stream)
    with pytest.raises(ResourceInUseException):
        engine.definitions.update_mode(stream, "PROVISIONED")
    with pytest.raises(ResourceInUseException):
        engine.definitions.delete(stream, enforce_consumer_deletion=True)
    engine.streams.queues.delete(queue)
    engine.definitions.update_mode(stream, "PROVISIONED")
    engine.definitions.delete(stream)


def test_queues_share_the_consumers_limit(new_engine: NewEngine) -> None:
    engine = new_engine(limits=AWS)
    stream = engine.create()
    engine.advance(AWS.stream_create_ms)
    for number in range(19):
        engine.queue(stream, f"q{number}")
    engine.consumers.register(stream, "c")
    with pytest.raises(LimitExceededException):
        engine.queue(stream, "one-more")
    with pytest.raises(LimitExceededException):
        engine.consumers.register(stream, "d")
    engine.streams.accounts.update(WORLD, "ENABLED")
    engine.queue(stream, "one-more")
    assert engine.consumers.count(stream) == 21


def test_listing(engine: QueueEngine, stream: Stream) -> None:
    other = engine.create("other")
    for name in ("c", "a", "b"):
        engine.queue(stream, name)
    engine.queue(other, "d")
    listed = engine.streams.queues.list_queues

    def names(*args: Any, **given: Any) -> list[str]:
        return [queue.name for queue in listed(WORLD, *args, **given)[0]]

    assert names() == ["a", "b", "c", "d"]
    assert names(streams=[(stream.arn, None)]) == ["a", "b", "c"]
    assert names(streams=[(stream.arn, stream.created_ms), (other.arn, None)]) == ["a", "b", "c", "d"]
    assert names(streams=[(stream.arn, stream.created_ms + 1_000)]) == [], "an earlier stream of that name"
    page, token = listed(WORLD, streams=[(stream.arn, None)], limit=2)
    assert [queue.name for queue in page] == ["a", "b"]
    assert names(token=token, limit=2) == ["c"], "the token brings its filter"
    assert listed(World("222222222222", "us-east-1")) == ([], None)
    with pytest.raises(InvalidArgumentException):
        listed(World("222222222222", "us-east-1"), token=token)
    with pytest.raises(InvalidArgumentException):
        listed(WORLD, token="x")
    engine.advance(5 * 60_000 + 1)
    with pytest.raises(ExpiredNextTokenException):
        listed(WORLD, token=token)


def test_queues_have_tags_and_policies(engine: QueueEngine, queue: StreamQueue) -> None:
    definitions = engine.definitions
    definitions.add_tags(definitions.find_resource(queue.arn), {"team": "a"})
    definitions.put_policy(definitions.find_resource(queue.arn), '{"Statement": [{}]}')
    assert (queue.tags, queue.policy) == ({"team": "a"}, '{"Statement": [{}]}')


def test_reset_takes_queues_with_their_account(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    elsewhere = engine.streams.queues.create(World("222222222222", "us-east-1"), "q", stream)
    waiting = engine.poll(elsewhere)
    engine.streams.reset("222222222222")
    assert list(engine.streams.queues.by_arn) == [queue.arn]
    assert waiting.texts == []
    engine.streams.reset(WORLD.account)
    engine.settle()
    assert not engine.streams.queues.by_arn
    assert engine.rows("stream_item") == []


# where a queue begins


def test_starting_positions(engine: QueueEngine, stream: Stream) -> None:
    engine.put(stream, "old")
    engine.advance(1_000)
    moment_ms = engine.clock.now_ms()
    engine.put(stream, "middle")
    engine.advance(1_000)
    queues = {
        "LATEST": engine.queue(stream, "latest", "LATEST"),
        "TRIM_HORIZON": engine.queue(stream, "trim"),
        "AT_TIMESTAMP": engine.queue(stream, "at", "AT_TIMESTAMP", timestamp_ms=moment_ms),
        "early": engine.queue(stream, "early", "AT_TIMESTAMP", timestamp_ms=5),
    }
    engine.put(stream, "new")
    assert {name: sorted(texts(engine.receive(queue))) for name, queue in queues.items()} == {
        "LATEST": ["new"],
        "TRIM_HORIZON": ["middle", "new", "old"],
        "AT_TIMESTAMP": ["middle", "new"],
        "early": ["middle", "new", "old"],
    }
    assert {name: queue.starting_ms for name, queue in queues.items()} == {
        "LATEST": engine.clock.now_ms(),
        "TRIM_HORIZON": stream.created_ms,
        "AT_TIMESTAMP": moment_ms,
        "early": stream.created_ms,
    }


def test_what_comes_while_a_queue_is_creating_is_not_missed(new_engine: NewEngine) -> None:
    engine = new_engine(limits=AWS)
    stream = engine.create()
    engine.advance(AWS.stream_create_ms)
    engine.put_in(0, "before")
    queue = engine.queue(stream, starts="LATEST")
    engine.put_in(0, "while")
    waiting = engine.poll(queue)
    engine.settle()
    assert waiting.received is None
    engine.advance(AWS.queue_change_ms)
    assert waiting.texts == ["while"]


# delivery


def test_a_delivery(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    [put] = engine.put(stream, "a", key="k")
    engine.advance(1_000)
    [first] = engine.receive(queue, timeout_s=5)
    assert first.record.sequence_number == put.sequence_number
    assert (first.record.partition_key, first.record.arrival_ms) == ("k", START_MS)
    assert (first.first_received_ms, first.receive_count) == (START_MS + 1_000, 1)
    assert first.record_id == f"{int(put.sequence_number):x}"
    assert len(first.record_id) <= 64
    assert engine.receive(queue) == [], "it is in flight"
    engine.advance(5_000)
    [second] = engine.receive(queue)
    assert second.record_id == first.record_id
    assert second.receipt_handle != first.receipt_handle
    assert (second.first_received_ms, second.receive_count) == (START_MS + 1_000, 2)
    assert engine.acknowledge(queue, first) == [STALE], "it was received again"
    assert engine.acknowledge(queue, second, second) == ["", ""]
    assert engine.acknowledge(queue, second) == [STALE]
    engine.advance(HOUR_MS)
    assert engine.receive(queue) == []
    assert engine.rows("queued_record") == []


def test_each_queue_reads_in_its_own_right(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    other = engine.queue(stream, "other")
    engine.put(stream, "a", "b")
    received, elsewhere = engine.receive(queue), engine.receive(other)
    assert [one.record_id for one in received] == [one.record_id for one in elsewhere]
    assert engine.acknowledge(other, *received) == [FOREIGN, FOREIGN]
    assert engine.acknowledge(queue, *received) == ["", ""]
    engine.advance(30_000)
    assert texts(engine.receive(other)) == ["a", "b"]
    shard = next(shard for shard in stream.shards.values() if shard.last_sequence)
    assert engine.read(shard) == ["a", "b"]


def test_a_late_acknowledgement_holds_until_the_record_is_received_again(
    engine: QueueEngine, stream: Stream, queue: StreamQueue
) -> None:
    engine.put(stream, "a")
    [a] = engine.receive(queue)
    engine.advance(60_000)
    assert engine.change_visibility(queue, 10, a) == [STALE], "it is not in flight"
    assert engine.acknowledge(queue, a) == [""]
    assert engine.receive(queue) == []


def test_visibility_is_changed_from_now_on(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    engine.put(stream, "a", "b")
    a, b = engine.receive(queue)
    engine.advance(29_000)
    assert engine.change_visibility(queue, 43_200, a) == [""]
    assert engine.change_visibility(queue, 0, b) == [""]
    [again] = engine.receive(queue)
    assert (texts([again]), again.receive_count) == (["b"], 2)
    engine.advance(43_200_000 - 1)
    assert texts(engine.receive(queue)) == ["b"]
    engine.advance(1)
    assert texts(engine.receive(queue)) == ["a"]


def test_a_receive_takes_no_more_than_its_limit(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    for index in range(4):
        engine.put_in(index, *(f"{index}{number}" for number in range(30)))
    engine.settle()
    seen: list[str] = []
    while received := engine.receive(queue, 7):
        assert len(received) <= 7
        seen += texts(received)
    assert len(seen) == 120
    assert sorted(seen) == sorted({f"{index}{number}" for index in range(4) for number in range(30)})


def test_shards_take_turns(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    for index in range(4):
        engine.put_in(index, *(f"{index}" for _ in range(50)))
    for limit in (10, 1):
        assert {texts(engine.receive(queue, limit))[0] for _ in range(8)} == {"0", "1", "2", "3"}
    for received in (engine.receive(queue, 1) for _ in range(3)):  # some that come back again and again
        engine.change_visibility(queue, 0, *received)
    new = [one for _ in range(16) for one in engine.receive(queue, 1, timeout_s=0) if one.receive_count == 1]
    assert set(texts(new)) == {"0", "1", "2", "3"}


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_neither_new_records_nor_failing_ones_keep_back_the_others(
    engine: QueueEngine, stream: Stream, limit: int
) -> None:
    queue = engine.queue(stream, dead_letters=DeadLetters("NONE", None))
    engine.put(stream, *(f"failing{number}" for number in range(10)))
    assert len(engine.receive(queue, timeout_s=0)) == 10
    engine.put(stream, *(f"new{number}" for number in range(100)))
    got = [text[:3] for _ in range(20) for text in texts(engine.receive(queue, limit, timeout_s=0))]
    assert len(got) == 20 * limit
    assert got.count("new") >= min(100, 8 * limit)
    assert got.count("fai") + (got.count("new") - 100 if limit == 10 else 0) >= 8 * limit


def test_a_receive_carries_no_more_than_a_read_of_the_stream(engine: QueueEngine) -> None:
    stream = engine.create(max_record_kib=10_240)
    queue = engine.queue(stream)
    for _ in range(3):
        engine.records.put_record(stream, Putting(b"x" * 4_000_000, "k"))
        engine.settle()
    assert [len(engine.receive(queue)) for _ in range(3)] == [2, 1, 0]
    engine.advance(30_000)
    counts = [len(engine.receive(queue)) for _ in range(3)]
    assert sum(counts) == 3
    assert max(counts) < 3


def test_records_without_a_key(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    engine.definitions.update_distribution(stream, "AUTO")
    engine.put(stream, "a", "b", key=None)
    assert {one.record.partition_key for one in engine.receive(queue)} == {None}


def test_a_backlog_costs_no_rows(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    for _ in range(20):
        engine.put(stream, *("x" for _ in range(100)))
        engine.settle()
    assert engine.rows("queued_record") == []
    for _ in range(150):
        engine.acknowledge(queue, *engine.receive(queue))
    engine.settle()
    assert engine.rows("queued_record") == []
    assert [position for _, _, position in engine.rows("stream_cursor")] == [1_501]


# dead letters


def test_after_its_last_receive_a_record_is_a_dead_letter(engine: QueueEngine, stream: Stream) -> None:
    queue = engine.queue(stream, dead_letters=DeadLetters("BUILT_IN", 3))
    engine.put(stream, "a")
    for count in (1, 2, 3):
        assert engine.receive_dead(queue) == []
        [a] = engine.receive(queue)
        assert a.receive_count == count
        assert engine.receive_dead(queue) == []
        engine.advance(30_000)
    assert engine.receive(queue) == []
    [dead] = engine.receive_dead(queue, timeout_s=60)
    assert (texts([dead]), dead.receive_count, dead.first_received_ms) == (["a"], 4, START_MS)
    assert dead.record_id == a.record_id
    assert engine.receive_dead(queue) == []
    assert engine.acknowledge(queue, a) == [STALE]
    assert engine.acknowledge(queue, dead) == [FOREIGN], "there are operations for dead letters"
    assert engine.change_dead_visibility(queue, 0, dead) == [""]
    [dead] = engine.receive_dead(queue)
    engine.advance(29_999)
    assert engine.receive_dead(queue) == [], "the queue's own timeout holds where none is given"
    assert engine.acknowledge_dead(queue, dead) == [""]
    engine.advance(HOUR_MS)
    assert engine.receive_dead(queue) == engine.receive(queue) == []


def test_a_last_receive_can_be_acknowledged(engine: QueueEngine, stream: Stream) -> None:
    queue = engine.queue(stream, dead_letters=DeadLetters("BUILT_IN", 1))
    engine.put(stream, "a", "b", "c")
    a, b, c = engine.receive(queue)
    assert engine.acknowledge(queue, a) == [""]
    assert engine.change_visibility(queue, 60, b) == [""]
    engine.advance(30_000)
    assert engine.acknowledge(queue, c) == [""], "late, but nobody has taken it up"
    assert engine.receive_dead(queue) == []
    engine.advance(30_000)
    assert texts(engine.receive_dead(queue)) == ["b"]


def test_a_restored_record_begins_anew(engine: QueueEngine, stream: Stream) -> None:
    queue = engine.queue(stream, dead_letters=DeadLetters("BUILT_IN", 2))
    engine.put(stream, "a")
    old = engine.receive(queue, timeout_s=0) + engine.receive(queue, timeout_s=0)
    [dead] = engine.receive_dead(queue)
    assert engine.restore(queue, *old) == [FOREIGN, FOREIGN]
    assert engine.restore(queue, dead) == [""]
    assert engine.restore(queue, dead) == engine.acknowledge_dead(queue, dead) == [STALE]
    assert engine.receive_dead(queue) == []
    [again] = engine.receive(queue, timeout_s=0)
    assert (again.receive_count, again.first_received_ms) == (1, START_MS)
    assert engine.acknowledge(queue, *old) == [STALE, STALE], "handles of its earlier life"
    [again] = engine.receive(queue, timeout_s=0)
    assert again.receive_count == 2
    assert texts(engine.receive_dead(queue)) == ["a"]


def test_a_dead_letter_can_be_restored_after_its_timeout(engine: QueueEngine, stream: Stream) -> None:
    queue = engine.queue(stream, dead_letters=DeadLetters("BUILT_IN", 1))
    engine.put(stream, "a")
    engine.receive(queue, timeout_s=0)
    [dead] = engine.receive_dead(queue, timeout_s=1)
    engine.advance(5_000)
    assert engine.change_dead_visibility(queue, 5, dead) == [STALE]
    assert engine.restore(queue, dead) == [""]
    assert texts(engine.receive(queue)) == ["a"]


def test_without_dead_letters_a_record_comes_until_its_retention_ends(engine: QueueEngine, stream: Stream) -> None:
    queue = engine.queue(stream, dead_letters=DeadLetters("NONE", None))
    engine.put(stream, "a")
    counts = []
    while received := engine.receive(queue, timeout_s=3_600):
        counts.append(received[0].receive_count)
        engine.advance(HOUR_MS)
    assert counts == list(range(1, 25))
    assert engine.receive_dead(queue) == []


def test_another_maximum(engine: QueueEngine, stream: Stream) -> None:
    queue = engine.queue(stream, dead_letters=DeadLetters("BUILT_IN", 2))
    engine.put(stream, "dead", "last", "first")
    dead, last, first = engine.receive(queue)
    engine.change_visibility(queue, 0, dead, last)
    engine.receive(queue, 1, timeout_s=0)
    engine.receive(queue, 1, timeout_s=100)
    engine.settle()
    update = engine.streams.queues.update
    update(queue, dead_letters=DeadLetters("BUILT_IN", 5))
    assert texts(engine.receive_dead(queue)) == ["dead"], "what was dead stays so"
    engine.advance(100_000)
    received = engine.receive(queue)
    assert sorted((text, one.receive_count) for text, one in zip(texts(received), received, strict=True)) == [
        ("first", 2),
        ("last", 3),
    ], "whose last receive was under way has more"
    update(queue, dead_letters=DeadLetters("BUILT_IN", 3))
    engine.advance(30_000)
    assert texts(engine.receive(queue)) == ["first"]
    assert sorted(texts(engine.receive_dead(queue))) == ["dead", "last"]
    update(queue, visibility_timeout_s=1)
    assert queue.attributes == (1, DeadLetters("BUILT_IN", 3)), "what is not given stays"
    engine.change_visibility(queue, 0, first)
    update(queue, dead_letters=DeadLetters("NONE", None))
    engine.advance(30_000)
    assert texts(engine.receive(queue)) == ["first"]
    assert sorted(texts(engine.receive_dead(queue))) == ["dead", "last"]


# retention


def test_what_the_stream_has_dropped_the_queue_has_not(engine: QueueEngine, stream: Stream) -> None:
    queue = engine.queue(stream, dead_letters=DeadLetters("BUILT_IN", 1))
    engine.put(stream, "flying", "dead", "unseen")
    flying, dead = engine.receive(queue, 2, timeout_s=43_200)
    engine.change_visibility(queue, 0, dead)
    [dead] = engine.receive_dead(queue, timeout_s=43_200)
    engine.advance(12 * HOUR_MS)
    engine.put(stream, "young")
    engine.advance(12 * HOUR_MS)
    assert engine.acknowledge(queue, flying) == engine.acknowledge_dead(queue, dead) == [STALE]
    assert engine.receive_dead(queue) == []
    assert texts(engine.receive(queue)) == ["young"]
    assert len(engine.rows("queued_record")) == 1, "the rows of the others are gone"


def test_many_expired_rows_go_in_steps(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    for index in (0, 1):
        engine.put_in(index, *("x" for _ in range(600)))
    engine.advance(1)
    while engine.receive(queue):
        pass
    engine.settle()
    assert len(engine.rows("queued_record")) == 1_200
    engine.advance(24 * HOUR_MS - 2)
    assert len(engine.rows("queued_record")) == 1_200
    engine.advance(1)
    assert engine.rows("queued_record") == []


def test_a_shorter_retention_holds_at_once(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    engine.definitions.increase_retention(stream, 48)
    engine.put(stream, "old", "older")
    engine.receive(queue, 1, timeout_s=43_200)
    engine.advance(30 * HOUR_MS)
    received = engine.receive(queue, 1, timeout_s=0)
    engine.definitions.decrease_retention(stream, 24)
    assert engine.receive(queue) == []
    assert engine.acknowledge(queue, *received) == [STALE]


# resharding


def test_a_queue_follows_its_stream_through_reshards(engine: QueueEngine, stream: Stream) -> None:
    engine.put_in(0, "before")
    queue = engine.queue(stream, starts="LATEST")
    engine.put_in(0, "parent")
    engine.streams.accounts.update(WORLD, "ENABLED")
    engine.definitions.update_warm_throughput(stream, 8)
    engine.settle()
    assert len(stream.open_shards) == 8
    engine.put(stream, "child", explicit_hash_key="0")
    engine.put(stream, "other", explicit_hash_key=str(MAX_HASH_KEY))
    assert sorted(texts(engine.receive(queue))) == ["child", "other", "parent"]


def test_cursors_of_expired_shards_go(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    engine.streams.accounts.update(WORLD, "ENABLED")
    target = 8
    for _ in range(4):
        engine.put_in(max(stream.shards), "x")
        engine.acknowledge(queue, *engine.receive(queue))
        target = 12 - target
        engine.definitions.update_warm_throughput(stream, target + 4)
        engine.advance(25 * HOUR_MS)
    engine.put_in(max(stream.shards), "x")
    engine.receive(queue)
    engine.settle()
    assert len(engine.rows("stream_cursor")) <= 2


# long polls


def test_a_waiting_receive_gets_what_arrives(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    first, second, third = (engine.poll(queue, limit=1) for _ in range(3))
    engine.put(stream, "a", "b")
    assert first.received is None, "the group is open"
    engine.settle()
    assert (first.texts, second.texts, third.texts) == (["a"], ["b"], None), "in the order they came"
    engine.advance(20_000)
    assert third.texts == []
    assert third.answered_ms == START_MS + 20_000


def test_a_waiting_receive_gets_what_becomes_visible(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    engine.put(stream, "a", "b")
    _, b = engine.receive(queue, timeout_s=5)
    first, second = engine.poll(queue), engine.poll(queue)
    engine.advance(1_000)
    engine.change_visibility(queue, 0, b)
    engine.settle()
    assert first.texts == ["b"]
    engine.advance(10_000)
    assert (second.texts, second.answered_ms) == (["a"], START_MS + 5_000)


def test_who_waits_before_a_receive_took_all_gets_it_when_it_comes_back(
    engine: QueueEngine, stream: Stream, queue: StreamQueue
) -> None:
    waiting = engine.poll(queue)
    engine.put(stream, "a")
    assert texts(engine.receive(queue, timeout_s=3)) == ["a"]
    engine.advance(20_000)
    assert (waiting.texts, waiting.answered_ms) == (["a"], START_MS + 3_000)


def test_who_waits_for_dead_letters(engine: QueueEngine, stream: Stream) -> None:
    queue = engine.queue(stream, dead_letters=DeadLetters("BUILT_IN", 1))
    waiting, other = engine.poll(queue, dead=True), engine.poll(queue, dead=True)
    engine.put(stream, "a", "b")
    _, b = engine.receive(queue, timeout_s=7)
    engine.settle()
    assert not waiting.texts
    engine.change_visibility(queue, 0, b)
    engine.settle()
    assert waiting.texts == ["b"]
    engine.advance(20_000)
    assert (other.texts, other.answered_ms) == (["a"], START_MS + 7_000)
    live = engine.poll(queue)
    assert waiting.received is not None
    engine.restore(queue, *waiting.received)
    engine.settle()
    assert live.texts == ["b"]


def test_a_client_that_left_is_handed_nothing(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    gone, waiting = engine.poll(queue), engine.poll(queue)
    gone.cancel()
    engine.put(stream, "a")
    engine.settle()
    assert (gone.received, waiting.texts) == (None, ["a"])


def test_the_end_answers_who_waits(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    waiting, other = engine.poll(queue), engine.poll(queue, dead=True)
    engine.streams.close()
    assert waiting.texts == other.texts == []
    assert engine.streams.queue_records.receive(queue, 10, 20) == []


def test_the_queues_end_answers_who_waits(engine: QueueEngine, stream: Stream, queue: StreamQueue) -> None:
    waiting, other = engine.poll(queue), engine.poll(queue, dead=True)
    engine.streams.queues.delete(queue)
    engine.settle()
    assert waiting.texts == other.texts == []


# what a lost group, a restart and a crash leave


@pytest.fixture
def on_disk(new_engine: NewEngine, tmp_path: Path) -> QueueEngine:
    return new_engine(tmp_path / "data")


def test_all_is_there_after_a_restart(on_disk: QueueEngine) -> None:
    engine = on_disk
    stream = engine.create()
    queue = engine.queue(stream, dead_letters=DeadLetters("BUILT_IN", 2), tags={"team": "a"})
    engine.put(stream, "done", "flying", "dead")
    done, flying, dead = engine.receive(queue)
    engine.acknowledge(queue, done)
    engine.change_visibility(queue, 0, dead)
    engine.receive(queue, timeout_s=0)
    engine.put(stream, "new")
    engine.restart()
    queue = engine.found(queue.arn)
    assert (queue.tags, queue.attributes) == ({"team": "a"}, (30, DeadLetters("BUILT_IN", 2)))
    assert texts(engine.receive_dead(queue)) == ["dead"]
    assert texts(engine.receive(queue)) == ["new"]
    assert engine.acknowledge(queue, flying) == [""]
    engine.advance(30_000)
    [new] = engine.receive(queue)
    assert (texts([new]), new.receive_count) == (["new"], 2)


def test_changes_under_way_go_on_after_a_restart(new_engine: NewEngine, tmp_path: Path) -> None:
    engine = new_engine(tmp_path / "data", limits=AWS)
    stream = engine.create()
    engine.advance(AWS.stream_create_ms)
    arns = [engine.queue(stream, name).arn for name in "abc"]
    engine.advance(AWS.queue_change_ms)
    queues = engine.streams.queues
    queues.update(engine.found(arns[0]), 7)
    queues.delete(engine.found(arns[1]))
    created = engine.queue(stream, "d").arn
    engine.settle()
    engine.restart()
    assert engine.found(arns[0]).attributes[0] == 7
    assert [engine.found(arn).status for arn in (*arns, created)] == ["UPDATING", "DELETING", "ACTIVE", "CREATING"]
    engine.advance(AWS.queue_change_ms)
    assert [queue.status for queue in engine.streams.queues.by_arn.values()] == ["ACTIVE"] * 3
    assert engine.found(arns[0]).visibility_timeout_s == 7
    assert arns[1] not in engine.streams.queues.by_arn


def test_a_receive_that_was_not_committed_did_not_happen(engine: QueueEngine, caplog: Any) -> None:
    caplog.set_level(logging.CRITICAL)
    stream = engine.create()
    queue = engine.queue(stream)
    engine.put(stream, *"abcdefghijkl")
    engine.settle()
    waiting = engine.poll(engine.queue(stream, "other", "LATEST"))
    assert len(engine.receive(queue)) == 10
    engine.fail()
    queue, stream = engine.found(queue.arn), engine.find()
    received = engine.receive(queue)
    assert texts(received) == list("abcdefghij")
    assert {one.receive_count for one in received} == {1}
    assert engine.rows("queued_record") != []
    engine.put(stream, "m")
    engine.settle()
    assert waiting.texts == [], "its queue did not come to be"


def test_who_waits_survives_a_lost_group(engine: QueueEngine, stream: Stream, caplog: Any) -> None:
    caplog.set_level(logging.CRITICAL)
    queue = engine.queue(stream)
    engine.put(stream, "a")
    engine.receive(queue, timeout_s=5)
    engine.settle()
    waiting = engine.poll(queue)
    engine.settle()
    engine.fail()
    engine.advance(10_000)
    assert (waiting.texts, waiting.answered_ms) == (["a"], START_MS + 5_000)


def test_a_crash_loses_nothing_that_was_committed(on_disk: QueueEngine) -> None:
    engine = on_disk
    stream = engine.create()
    queue = engine.queue(stream)
    engine.put(stream, "a", "b", "c")
    a, b = engine.receive(queue, 2)
    engine.acknowledge(queue, a)
    engine.settle()
    engine.acknowledge(queue, b)
    engine.restart(crash=True)
    queue = engine.found(queue.arn)
    assert texts(engine.receive(queue)) == ["c"]
    engine.advance(30_000)
    assert sorted(texts(engine.receive(queue))) == ["b", "c"]

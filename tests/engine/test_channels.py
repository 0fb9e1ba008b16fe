"""Channels: their life, what they refuse, when which batch is due, and that none is passed over."""

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
from broker.streams import Channel, Putting, Stream, channels
from engine.stream_queue_support import QueueEngine
from engine.stream_support import HOUR_MS, WORLD

ROLE = "arn:aws:iam::111122223333:role/channels"
BUCKET = {"BucketARN": "arn:aws:s3:::b", "ExpectedBucketOwner": "111122223333"}
STORAGE = {**BUCKET, "CompressionType": "NONE"}
S3: dict[str, Any] = {"StorageConfiguration": STORAGE}
TABLE = {
    "TableBucketARN": "arn:aws:s3tables:us-east-1:111122223333:bucket/tables",
    "Namespace": "n",
    "TableName": "t",
    "CompressionType": "ZSTD",
}
TABLES: dict[str, Any] = {"DeadLetterQueueS3Configuration": BUCKET, "S3TablesConfigurationList": [TABLE]}
SCHEMA = "arn:aws:glue:us-east-1:111122223333:schema/r/s"
FRESH_MS = 300_000
Engine = QueueEngine
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
def engine(new_engine: NewEngine) -> Engine:
    return new_engine()


@pytest.fixture
def stream(engine: Engine) -> Stream:
    return engine.create()


def create(engine: Engine, stream: Stream, name: str = "c", world: World = WORLD, **given: Any) -> Channel:
    if "s3_tables" not in given:
        given = {"s3": S3, **given}
    return engine.streams.channels.create(
        world, name, stream, **{"role_arn": ROLE, "record": {"RecordFormatType": "JSON"}, **given}
    )


def deliver(engine: Engine) -> list[list[str]]:
    """All that is due, as a driver does it."""
    engine.settle()
    delivered = []
    while (batch := engine.streams.channels.next_batch()) is not None:
        engine.settle()
        assert engine.streams.channels.next_batch() == batch, "the same until it is reported"
        delivered.append([record.data.decode() for record in batch.records])
        engine.streams.channels.delivered(batch)
        engine.settle()
    return delivered


# life


def test_a_channel_is_active_with_its_defaults(engine: Engine, stream: Stream) -> None:
    channel = create(engine, stream, logging={"CloudWatchLogs": {"Enabled": True}})
    assert channel.status == "ACTIVE"
    assert channel.arn.startswith("arn:aws:kinesis:us-east-1:111122223333:channel/")
    destination, logs = channel.configuration
    assert destination == {
        "DataFreshnessInSeconds": 300,
        "DeadLetterQueueS3Configuration": {**BUCKET, "ErrorOutputPrefix": "errors/"},
        "StorageConfiguration": {**STORAGE, "StorageClass": "STANDARD"},
    }
    group = f"/aws/kinesis/c/{channel.channel_id}"
    assert logs == {"CloudWatchLogs": {"Enabled": True, "LogGroupName": group, "LogStreamName": "DestinationDelivery"}}
    assert create(engine, stream, "d").logging == {"CloudWatchLogs": {"Enabled": False}}
    tables = create(engine, stream, "e", s3_tables=TABLES, record={"RecordFormatType": "JSON", "GSRSchemaARN": SCHEMA})
    assert (tables.destination_type, tables.destination) == ("S3_TABLES", {**TABLES, "DataFreshnessInSeconds": 300})


def test_creation_update_and_deletion_take_their_time(new_engine: NewEngine) -> None:
    engine = new_engine(limits=AWS)
    stream = engine.create()
    engine.advance(AWS.stream_create_ms)
    channel = create(engine, stream)
    assert channel.status == "CREATING"
    all_channels = engine.streams.channels
    with pytest.raises(ResourceInUseException):
        all_channels.update(channel, logging={"CloudWatchLogs": {"Enabled": True}})
    engine.advance(AWS.channel_change_ms)
    assert channel.status == "ACTIVE"
    all_channels.update(channel, s3={"DataFreshnessInSeconds": 60})
    assert channel.status == "UPDATING"
    assert (channel.configuration[0]["DataFreshnessInSeconds"], channel.freshness_ms) == (60, 300_000)
    engine.advance(AWS.channel_change_ms)
    assert (channel.status, channel.freshness_ms) == ("ACTIVE", 60_000)
    assert channel.destination["StorageConfiguration"]["BucketARN"] == "arn:aws:s3:::b"
    all_channels.delete(channel)
    all_channels.delete(channel)
    assert channel.status == "DELETING"
    engine.advance(AWS.channel_change_ms)
    with pytest.raises(ResourceNotFoundException):
        all_channels.find(channel.arn)
    assert engine.rows("stream_cursor") == []


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"name": "no spaces"}, ValidationException),
        ({"s3": None}, ValidationException),
        ({"s3": S3, "s3_tables": TABLES}, ValidationException),
        ({"s3": {**S3, "DataFreshnessInSeconds": 0}}, ValidationException),
        ({"record": {"RecordFormatType": "GSR_JSON", "GSRSchemaARN": SCHEMA}}, ValidationException),
        ({"s3_tables": TABLES, "record": {"RecordFormatType": "STRING", "GSRSchemaARN": SCHEMA}}, ValidationException),
        ({"s3_tables": TABLES, "record": {"RecordFormatType": "JSON"}}, ValidationException),
        (
            {
                "s3_tables": {**TABLES, "S3TablesConfigurationList": [TABLE, TABLE]},
                "record": {"RecordFormatType": "JSON", "GSRSchemaARN": SCHEMA},
            },
            ValidationException,
        ),
        ({"tags": {"aws:x": "y"}}, InvalidArgumentException),
    ],
)
def test_what_create_channel_refuses(
    engine: Engine, stream: Stream, given: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        create(engine, stream, **given)
    assert engine.streams.channels.count(stream) == 0


def test_what_update_channel_refuses(engine: Engine, stream: Stream) -> None:
    channel = create(engine, stream)
    update = engine.streams.channels.update
    for given in ({}, {"s3_tables": {"DataFreshnessInSeconds": 60}}, {"s3": {"DataFreshnessInSeconds": -1}}):
        with pytest.raises(ValidationException):
            update(channel, **given)
    assert channel.status == "ACTIVE"


def test_names_are_taken_once_in_an_account_and_region(engine: Engine, stream: Stream) -> None:
    create(engine, stream)
    with pytest.raises(ResourceInUseException):
        create(engine, engine.create("other"))
    assert create(engine, stream, world=World(WORLD.account, "eu-west-1")).name == "c"


def test_channels_need_the_on_demand_mode_and_keep_the_stream_in_it(engine: Engine) -> None:
    with pytest.raises(ValidationException):
        create(engine, engine.create("p", 1, mode="PROVISIONED"))
    stream = engine.create()
    channel = create(engine, stream)
    with pytest.raises(ResourceInUseException):
        engine.definitions.update_mode(stream, "PROVISIONED")
    with pytest.raises(ResourceInUseException):
        engine.definitions.delete(stream)
    engine.streams.channels.delete(channel)
    engine.definitions.delete(stream)


def test_quota_and_rate(new_engine: NewEngine) -> None:
    engine = new_engine(limits=AWS)
    stream = engine.create()
    engine.advance(AWS.stream_create_ms)
    for number in range(100):
        create(engine, stream, f"c{number}")
        engine.advance(200)
    assert engine.streams.channels.limits(WORLD) == {"ChannelCount": 100, "ChannelCountLimit": 100}
    engine.advance(1_000)
    with pytest.raises(LimitExceededException):
        create(engine, stream, "one-more")
    for _ in range(5):
        engine.streams.channels.list_channels(WORLD)
    with pytest.raises(LimitExceededException):
        engine.streams.channels.list_channels(WORLD)


def test_listing(engine: Engine, stream: Stream) -> None:
    for name in ("c", "a", "b"):
        create(engine, stream, name)
    listed = engine.streams.channels.list_channels
    page, token = listed(WORLD, limit=2)
    assert [channel.name for channel in page] == ["a", "b"]
    assert [channel.name for channel in listed(WORLD, token=token)[0]] == ["c"]
    assert listed(WORLD, streams=[("arn:aws:kinesis:us-east-1:111122223333:stream/other", None)]) == ([], None)
    engine.advance(5 * 60_000 + 1)
    with pytest.raises(ExpiredNextTokenException):
        listed(WORLD, token=token)


def test_without_a_destination_a_channel_fails_and_says_why(engine: Engine, stream: Stream) -> None:
    engine.streams.channels.no_destination = "there is no folder"
    channel = create(engine, stream)
    assert (channel.status, channel.status_reason) == ("FAILED", "there is no folder")
    with pytest.raises(ResourceInUseException):
        engine.streams.channels.update(channel, s3={"DataFreshnessInSeconds": 60})
    engine.put(stream, "a")
    engine.advance(FRESH_MS)
    assert deliver(engine) == []
    engine.streams.channels.delete(channel)
    assert not engine.streams.channels.by_arn


def test_reset_takes_channels_with_their_account(engine: Engine, stream: Stream) -> None:
    create(engine, stream)
    create(engine, stream, world=World("222222222222", "us-east-1"))
    engine.streams.reset("222222222222")
    assert len(engine.streams.channels.by_arn) == 1
    engine.streams.reset(WORLD.account)
    engine.settle()
    assert engine.rows("stream_item") == []


# batches


def test_what_comes_after_the_creation_is_due_when_the_oldest_is_old_enough(engine: Engine, stream: Stream) -> None:
    engine.put_in(0, "before")
    woken = []
    engine.streams.channels.wake = lambda: woken.append(engine.clock.now_ms())
    create(engine, stream)
    engine.advance(1_000)
    began_ms = engine.clock.now_ms()
    engine.put_in(0, "a", "b")
    engine.advance(FRESH_MS - 1)
    engine.put_in(1, "young")
    assert deliver(engine) == []
    engine.advance(1)
    assert woken == [began_ms + FRESH_MS]
    engine.put_in(0, "later")
    assert deliver(engine) == [["a", "b"], ["young"]], "all that was there when it fell due"
    engine.advance(FRESH_MS)
    assert deliver(engine) == [["later"]]
    engine.advance(10 * FRESH_MS)
    assert deliver(engine) == []
    assert len(woken) == 2


def test_a_whole_batch_is_due_at_once(engine: Engine, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "BATCH_RECORDS", 3)
    create(engine, stream)
    engine.put_in(0, "a", "b")
    assert deliver(engine) == []
    engine.put_in(0, "c", "d", "e", "f", "g")
    assert deliver(engine) == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


def test_a_batch_has_an_end(engine: Engine) -> None:
    stream = engine.create(max_record_kib=10_240)
    create(engine, stream)
    for letter in b"abc":
        engine.records.put_record(stream, Putting(bytes([letter]) * 5_000_000, "k"))
        engine.settle()
    engine.advance(FRESH_MS)
    assert [[text[0] for text in batch] for batch in deliver(engine)] == [["a"], ["b"], ["c"]]


def test_a_channel_follows_its_stream_through_reshards(engine: Engine, stream: Stream) -> None:
    create(engine, stream)
    engine.put(stream, "parent", explicit_hash_key="0")
    engine.streams.accounts.update(WORLD, "ENABLED")
    engine.definitions.update_warm_throughput(stream, 8)
    engine.put(stream, "child", explicit_hash_key="0")
    engine.advance(FRESH_MS)
    assert deliver(engine) == [["parent"], ["child"]], "a parent's records first"


def test_each_channel_delivers_in_its_own_right(engine: Engine, stream: Stream) -> None:
    create(engine, stream)
    create(engine, stream, "d", s3={**S3, "DataFreshnessInSeconds": 60})
    engine.put_in(0, "a")
    engine.advance(60_000)
    assert deliver(engine) == [["a"]]
    engine.advance(FRESH_MS)
    assert deliver(engine) == [["a"]]


def test_another_freshness_holds_for_what_waits(engine: Engine, stream: Stream) -> None:
    channel = create(engine, stream)
    engine.put_in(0, "a")
    engine.advance(10_000)
    engine.streams.channels.update(channel, s3={"DataFreshnessInSeconds": 11})
    engine.advance(999)
    assert deliver(engine) == []
    engine.advance(1)
    assert deliver(engine) == [["a"]]


def test_what_expired_meanwhile_is_passed_over(engine: Engine, stream: Stream) -> None:
    create(engine, stream, s3={**S3, "DataFreshnessInSeconds": 30 * 3_600})
    engine.put_in(0, "old")
    engine.advance(25 * HOUR_MS)
    engine.put_in(0, "young")
    engine.advance(29 * HOUR_MS)
    assert deliver(engine) == []
    engine.put_in(0, "younger")
    engine.advance(30 * HOUR_MS)
    assert deliver(engine) == []
    engine.put_in(1, "last")
    engine.advance(23 * HOUR_MS)
    assert deliver(engine) == [], "it is not old enough"


def test_a_deleted_channel_delivers_no_more(engine: Engine, stream: Stream) -> None:
    channel = create(engine, stream)
    engine.put_in(0, "a")
    engine.advance(FRESH_MS)
    batch = engine.streams.channels.next_batch()
    assert batch is not None
    engine.streams.channels.delete(channel)
    engine.streams.channels.delivered(batch)
    assert deliver(engine) == []
    assert engine.rows("stream_cursor") == []


def test_a_report_that_was_lost_is_made_again(engine: Engine, stream: Stream, caplog: Any) -> None:
    caplog.set_level(logging.CRITICAL)
    create(engine, stream)
    engine.put_in(0, "a")
    engine.advance(FRESH_MS)
    batch = engine.streams.channels.next_batch()
    assert batch is not None
    engine.settle()
    engine.streams.channels.delivered(batch)
    engine.fail()
    engine.advance(1_000)
    assert deliver(engine) == [["a"]]
    engine.streams.channels.delivered(batch)
    engine.settle()
    assert deliver(engine) == [], "a report that comes twice changes nothing"


def test_a_restart_goes_on_where_the_last_report_was(new_engine: NewEngine, tmp_path: Path) -> None:
    engine = new_engine(tmp_path / "data")
    stream = engine.create()
    channel = create(engine, stream, tags={"team": "a"})
    engine.put_in(0, "a")
    engine.advance(FRESH_MS)
    assert deliver(engine) == [["a"]]
    engine.put_in(0, "b")
    engine.advance(FRESH_MS)
    assert engine.streams.channels.next_batch() is not None
    engine.restart(crash=True)
    found = engine.streams.channels.find(channel.arn)
    assert (found.tags, found.destination, found.status) == ({"team": "a"}, channel.destination, "ACTIVE")
    assert deliver(engine) == [["b"]]
    engine.put_in(0, "c")
    engine.settle()
    engine.restart()
    engine.advance(FRESH_MS - 1)
    assert deliver(engine) == []
    engine.advance(1)
    assert deliver(engine) == [["c"]]

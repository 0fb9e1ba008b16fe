"""The life of streams: making, changing and deleting them, in the time that it takes; tags, policies, quotas, lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.limits import AWS
from broker.names import World
from engine.stream_support import HOUR_MS, START_MS, WORLD, StreamEngine, outcome_of

ID = "shardId-{:012d}".format


@pytest.fixture
def engine() -> Iterator[StreamEngine]:
    engine = StreamEngine()
    yield engine
    engine.close()


@pytest.fixture
def slow() -> Iterator[StreamEngine]:
    """With AWS's waiting times and quotas, but for those of calls."""
    engine = StreamEngine(limits=replace(AWS, stream_api_rates=False))
    yield engine
    engine.close()


def test_a_stream_is_found_by_name_arn_and_id(engine: StreamEngine) -> None:
    stream = engine.create("orders", 2, tags={"team": "a"})
    assert stream.arn == "arn:aws:kinesis:us-east-1:111122223333:stream/orders"
    find = engine.streams.find
    assert find(WORLD, "orders") is find(WORLD, arn=stream.arn) is find(WORLD, id=stream.stream_id) is stream
    assert find(World("444455556666", "eu-west-1"), arn=stream.arn) is stream
    assert len(stream.stream_id) == 24
    assert outcome_of(find, WORLD, "x", stream.arn).startswith("InvalidArgumentException: ")
    assert outcome_of(find, WORLD).startswith("InvalidArgumentException: ")
    assert outcome_of(find, WORLD, id="x" * 20 + "-abc").startswith("ResourceNotFoundException: ")
    assert outcome_of(engine.create, "orders").startswith(
        "ResourceInUseException: Stream orders under account 111122223333 already exists."
    )


def test_worlds_are_apart(engine: StreamEngine) -> None:
    engine.create("s")
    other = World("444455556666", "eu-west-1")
    engine.definitions.create(other, "s", 1)
    assert [stream.world for stream in engine.definitions.list_streams(other)[0]] == [other]
    engine.streams.reset("444455556666")
    assert outcome_of(engine.streams.find, other, "s") != ""
    assert engine.streams.find(WORLD, "s").world == WORLD


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"shards": None, "mode": "PROVISIONED"}, "ValidationException"),
        ({"shards": 0}, "InvalidArgumentException"),
        ({"shards": 10_001}, "LimitExceededException"),
        ({"name": "a b"}, "ValidationException"),
        ({"name": "x" * 129}, "ValidationException"),
        ({"mode": "ON_DEMAND"}, "ValidationException"),
        ({"warm_mibps": 5}, "ValidationException"),
        ({"distribution": "AUTO"}, "ValidationException"),
        ({"max_record_kib": 1023}, "ValidationException"),
        ({"max_record_kib": 10_241}, "ValidationException"),
        ({"shards": None, "mode": "ON_DEMAND", "warm_mibps": 5}, "ValidationException"),
        ({"tags": {"a?": ""}}, "InvalidArgumentException"),
        ({"tags": {"aws:a": ""}}, "InvalidArgumentException"),
        ({"tags": {f"k{number}": "" for number in range(51)}}, "InvalidArgumentException"),
    ],
)
def test_what_cannot_be_created(engine: StreamEngine, given: dict[str, object], error: str) -> None:
    assert outcome_of(engine.create, **given).startswith(f"{error}: ")
    assert engine.definitions.list_streams(WORLD) == ([], None)


def test_creation_and_deletion_take_their_time(slow: StreamEngine) -> None:
    stream = slow.create()
    slow.advance(9_999)
    assert (stream.status, len(stream.open_shards)) == ("CREATING", 0)
    assert outcome_of(slow.definitions.delete, stream).startswith("ResourceInUseException: ")
    slow.advance(1)
    assert (stream.status, len(stream.open_shards)) == ("ACTIVE", 1)
    slow.put(stream, "a")
    slow.definitions.delete(stream)
    assert stream.status == "DELETING"
    slow.put(stream, "b")
    assert slow.read(stream.shards[0]) == ["a", "b"]
    assert outcome_of(slow.create).startswith("ResourceInUseException: ")
    slow.advance(10_000)
    assert outcome_of(slow.find).startswith("ResourceNotFoundException: ")
    slow.create()


def test_what_was_begun_is_done_after_a_restart(tmp_path: Path) -> None:
    engine = StreamEngine(tmp_path, limits=replace(AWS, stream_api_rates=False))
    stream = engine.create(shards=2)
    consumer_arn = ""
    for by_ms, status in ((4_000, "CREATING"), (6_000, "ACTIVE")):
        engine.advance(by_ms)
        engine.restart()
        stream = engine.find()
        assert stream.status == status
    consumer_arn = engine.consumers.register(stream, "c", {"a": "b"}).arn
    engine.shards.update_count(stream, 4)
    engine.advance(4_000)
    engine.restart()
    assert engine.streams.registry.consumers[consumer_arn].status == "CREATING"
    engine.advance(26_000)
    stream = engine.find()
    consumer = engine.streams.registry.consumers[consumer_arn]
    assert (consumer.status, consumer.tags, consumer.stream) == ("ACTIVE", {"a": "b"}, stream)
    assert (stream.status, len(stream.open_shards), len(stream.shards)) == ("ACTIVE", 4, 6)
    assert [child.index for child in stream.shards[0].children] == [2, 3]
    engine.definitions.delete(stream, enforce_consumer_deletion=True)
    engine.advance(1)
    engine.restart()
    engine.advance(9_999)
    assert outcome_of(engine.find) != ""
    assert engine.store._connection.execute("SELECT count(*) FROM shard").fetchone() == (0,)
    engine.close()


def test_everything_of_a_definition_survives_a_restart(tmp_path: Path) -> None:
    engine = StreamEngine(tmp_path)
    engine.accounts = engine.streams.accounts  # type: ignore[attr-defined]
    engine.streams.accounts.update(WORLD, "ENABLED")
    stream = engine.create(
        shards=None, mode="ON_DEMAND", warm_mibps=6, max_record_kib=2048, distribution="AUTO", tags={"a": "b"}
    )
    engine.definitions.increase_retention(stream, 48)
    engine.definitions.start_encryption(stream, "KMS", "key")
    engine.definitions.enable_monitoring(stream, ["IncomingBytes"])
    engine.definitions.put_policy(stream, '{"Statement": [{}]}')
    before = {name: getattr(stream, name) for name in stream.__slots__ if name not in ("timer", "writes")}
    engine.restart()
    stream = engine.find()
    after = {name: getattr(stream, name) for name in stream.__slots__ if name not in ("timer", "writes")}
    for name, value in before.items():
        if name not in ("shards", "open_shards", "consumers"):
            assert after[name] == value, name
    assert len(stream.open_shards) == 6
    assert engine.streams.accounts.is_committed(WORLD)
    engine.close()


def test_a_deleted_streams_records_are_swept(engine: StreamEngine) -> None:
    stream = engine.create(shards=2)
    for number in range(100):
        engine.put(stream, "x" * 1000, key=str(number))
        engine.settle()
    engine.definitions.delete(stream)
    engine.put(engine.create(), "new")
    engine.settle()
    assert engine.store._connection.execute("SELECT count(*) FROM segment").fetchone() == (1,)
    assert engine.store._connection.execute("SELECT count(*) FROM discarded_shard").fetchone() == (0,)
    assert engine.read(engine.find().shards[0]) == ["new"]


def test_consumers_hold_a_stream(engine: StreamEngine) -> None:
    stream = engine.create()
    engine.consumers.register(stream, "c")
    assert outcome_of(engine.definitions.delete, stream).startswith("ResourceInUseException: ")
    engine.definitions.delete(stream, enforce_consumer_deletion=True)
    assert engine.streams.registry.consumers == {}


def test_streams_are_listed_by_name(engine: StreamEngine) -> None:
    for name in ("c", "a", "d", "b"):
        engine.create(name)

    def names(**given: object) -> tuple[list[str], str | None]:
        page, token = engine.definitions.list_streams(WORLD, **given)  # type: ignore[arg-type]
        return [stream.name for stream in page], token

    assert names() == (["a", "b", "c", "d"], None)
    assert names(after="b")[0] == ["c", "d"]
    page, token = names(limit=3)
    assert page == ["a", "b", "c"]
    assert names(token=token) == (["d"], None)
    engine.advance(300_001)
    assert outcome_of(names, token=token).startswith("ExpiredNextTokenException: ")
    assert outcome_of(names, token="x").startswith("InvalidArgumentException: ")


# settings


def test_retention(slow: StreamEngine) -> None:
    stream = slow.create()
    slow.advance(10_000)
    increase, decrease = slow.definitions.increase_retention, slow.definitions.decrease_retention
    assert outcome_of(increase, stream, 23) == (
        "InvalidArgumentException: Minimum allowed retention period is 24 hours. Requested retention period (23 hours) "
        "is too short."
    )
    assert outcome_of(increase, stream, 8761).startswith(
        "InvalidArgumentException: Maximum allowed retention period is 8760 hours."
    )
    assert outcome_of(decrease, stream, 25).startswith("InvalidArgumentException: Requested retention period (25 hours")
    increase(stream, 24)
    assert stream.status == "ACTIVE"
    increase(stream, 48)
    assert (stream.status, stream.retention_h) == ("UPDATING", 24)
    slow.advance(30_000)
    assert (stream.status, stream.retention_h) == ("ACTIVE", 48)
    assert outcome_of(increase, stream, 24).startswith("InvalidArgumentException: Requested retention period (24 hours")


def test_encryption_can_be_changed_so_often(slow: StreamEngine) -> None:
    stream = slow.create()
    slow.advance(10_000)
    assert outcome_of(slow.definitions.start_encryption, stream, "NONE", "k").startswith("InvalidArgumentException: ")
    for _ in range(25):
        slow.definitions.start_encryption(stream, "KMS", "k")
        slow.advance(30_000)
    assert outcome_of(slow.definitions.start_encryption, stream, "KMS", "k").startswith("LimitExceededException: ")
    slow.definitions.stop_encryption(stream, "KMS", "k")
    slow.advance(24 * HOUR_MS)
    slow.definitions.start_encryption(stream, "KMS", "k")


def test_monitoring(engine: StreamEngine) -> None:
    stream = engine.create()
    enable, disable = engine.definitions.enable_monitoring, engine.definitions.disable_monitoring
    assert enable(stream, ["OutgoingBytes"]) == ([], ["OutgoingBytes"])
    assert enable(stream, ["IncomingBytes", "OutgoingBytes"]) == (["OutgoingBytes"], ["IncomingBytes", "OutgoingBytes"])
    assert len(enable(stream, ["ALL"])[1]) == 7
    assert len(disable(stream, ["IncomingBytes"])[1]) == 6
    assert disable(stream, ["ALL"])[1] == []
    assert outcome_of(enable, stream, ["x"]).startswith("InvalidArgumentException: ")


def test_modes(slow: StreamEngine) -> None:
    stream = slow.create(shards=3)
    slow.advance(10_000)
    update = slow.definitions.update_mode
    assert outcome_of(update, stream, "PROVISIONED").startswith("ValidationException: ")
    assert outcome_of(slow.definitions.update_distribution, stream, "AUTO").startswith("InvalidArgumentException: ")
    update(stream, "ON_DEMAND")
    slow.advance(30_000)
    assert (stream.mode, len(stream.open_shards)) == ("ON_DEMAND", 3)
    slow.definitions.update_distribution(stream, "AUTO")
    assert stream.distribution == "AUTO"
    update(stream, "PROVISIONED")
    slow.advance(30_000)
    assert (stream.mode, stream.distribution) == ("PROVISIONED", "USER_PARTITION_KEY")
    assert outcome_of(update, stream, "ON_DEMAND").startswith("LimitExceededException: ")
    slow.advance(24 * HOUR_MS)
    update(stream, "ON_DEMAND")


def test_warm_throughput_needs_the_commitment(engine: StreamEngine) -> None:
    stream = engine.create(shards=None, mode="ON_DEMAND")
    update = engine.definitions.update_warm_throughput
    assert outcome_of(update, stream, 10).startswith("ValidationException: ")
    engine.streams.accounts.update(WORLD, "ENABLED")
    assert update(stream, 10) == (10, 4)
    assert engine.definitions.warm_throughput(stream) == (10, 10)
    assert update(stream, 2) == (2, 10)
    assert len(stream.open_shards) == 4
    assert outcome_of(update, stream, 20_000).startswith("LimitExceededException: ")
    assert outcome_of(update, engine.create("p"), 10).startswith("ValidationException: ")


def test_the_commitment_lasts_a_day(engine: StreamEngine) -> None:
    update, describe = engine.streams.accounts.update, engine.streams.accounts.describe
    assert describe(WORLD) == ((None, None), "DISABLED")
    assert update(WORLD, "DISABLED")[1] == "DISABLED"
    assert update(WORLD, "ENABLED") == ((START_MS, None), "ENABLED")
    engine.advance(HOUR_MS)
    commitment, status = update(WORLD, "DISABLED")
    assert (commitment, status) == ((START_MS, START_MS + 24 * HOUR_MS), "ENABLED_UNTIL_EARLIEST_ALLOWED_END")
    assert update(WORLD, "ENABLED") == ((START_MS, None), "ENABLED")
    update(WORLD, "DISABLED")
    engine.advance(23 * HOUR_MS)
    assert describe(WORLD)[1] == "DISABLED"
    assert update(WORLD, "ENABLED") == ((START_MS + 24 * HOUR_MS, None), "ENABLED")
    engine.advance(25 * HOUR_MS)
    assert update(WORLD, "DISABLED")[1] == "DISABLED"


# tags and policies


def test_tags_of_streams_and_consumers(engine: StreamEngine) -> None:
    stream = engine.create(tags={"b": "1"})
    consumer = engine.consumers.register(stream, "c", {"x": "y"})
    definitions = engine.definitions
    assert definitions.find_resource(stream.arn) is stream
    assert definitions.find_resource(consumer.arn) is consumer
    definitions.add_tags(stream, {"a": "2", "b": "3", "c": ""})
    assert definitions.list_tags(stream) == ([("a", "2"), ("b", "3"), ("c", "")], False)
    assert definitions.list_tags(stream, limit=1) == ([("a", "2")], True)
    assert definitions.list_tags(stream, after="a", limit=2) == ([("b", "3"), ("c", "")], False)
    definitions.remove_tags(stream, ["a", "none"])
    assert stream.tags == {"b": "3", "c": ""}
    definitions.add_tags(consumer, {"x": "z"})
    assert consumer.tags == {"x": "z"}
    too_many = {f"k{number}": "" for number in range(49)}
    assert outcome_of(definitions.add_tags, stream, too_many).startswith("InvalidArgumentException: ")
    for arn in (f"{stream.arn}x", f"{consumer.arn}1"):
        assert outcome_of(definitions.find_resource, arn).startswith("ResourceNotFoundException: ")
    assert outcome_of(definitions.find_resource, "arn:aws:sqs:us-east-1:1:q").startswith("InvalidArgumentException: ")


def test_policies(engine: StreamEngine) -> None:
    stream = engine.create()
    definitions = engine.definitions
    assert definitions.get_policy(stream) == "{}"
    assert outcome_of(definitions.delete_policy, stream).startswith("ResourceNotFoundException: ")
    for wrong in ("", "x", "[]", "{}", '{"Statement": []}', '{"Statement": 1}'):
        assert outcome_of(definitions.put_policy, stream, wrong).startswith("InvalidArgumentException: ")
    definitions.put_policy(stream, '{"Statement": [{"Effect": "Allow"}]}')
    assert definitions.get_policy(stream) == '{"Statement": [{"Effect": "Allow"}]}'
    definitions.delete_policy(stream)
    assert definitions.get_policy(stream) == "{}"


# quotas


def test_five_streams_are_made_at_once(slow: StreamEngine) -> None:
    for number in range(5):
        slow.create(f"s{number}")
    assert outcome_of(slow.create, "s5").startswith("LimitExceededException: ")
    slow.advance(10_000)
    slow.create("s5")


def test_figures_of_an_account(engine: StreamEngine) -> None:
    engine.create("a", 3)
    engine.create("b", None, mode="ON_DEMAND")
    assert engine.definitions.limits(WORLD) == {
        "ShardLimit": 20_000,
        "OpenShardCount": 3,
        "OnDemandStreamCount": 1,
        "OnDemandStreamCountLimit": 50,
    }


def test_calls_are_counted_in_each_second() -> None:
    engine = StreamEngine(limits=replace(AWS, stream_create_ms=0, streams_creating=None))
    for number in range(5):
        engine.create(f"s{number}")
    assert outcome_of(engine.create, "s5") == "LimitExceededException: Rate exceeded for account 111122223333."
    engine.definitions.create(World("444455556666", "us-east-1"), "s", 1)
    stream = engine.find("s0")
    for _ in range(5):
        engine.definitions.enable_monitoring(stream, ["ALL"])
    assert outcome_of(engine.definitions.enable_monitoring, stream, ["ALL"]).startswith("LimitExceededException: ")
    engine.definitions.enable_monitoring(engine.find("s1"), ["ALL"])
    for _ in range(5):
        engine.iterator(stream.shards[0])
    assert outcome_of(engine.iterator, stream.shards[0]) == (
        f"ProvisionedThroughputExceededException: Rate exceeded for shard {ID(0)} in stream s0 under account "
        "111122223333."
    )
    engine.advance(1000)
    engine.create("s5")
    engine.iterator(stream.shards[0])
    engine.close()


def test_a_lost_group_takes_definitions_back(engine: StreamEngine) -> None:
    stream = engine.create("kept", 2)
    engine.settle()
    engine.create("lost")
    engine.definitions.add_tags(stream, {"a": "b"})
    engine.shards.merge(stream, ID(0), ID(1))
    engine.consumers.register(stream, "c")
    engine.streams.accounts.update(WORLD, "ENABLED")
    engine.fail()
    stream = engine.find("kept")
    assert (stream.tags, len(stream.open_shards), stream.consumers) == ({}, 2, {})
    assert outcome_of(engine.find, "lost") != ""
    assert not engine.streams.accounts.is_committed(WORLD)


def test_reset(engine: StreamEngine) -> None:
    engine.consumers.register(engine.create(), "c")
    engine.streams.accounts.update(WORLD, "ENABLED")
    engine.streams.reset()
    engine.settle()
    assert engine.definitions.list_streams(WORLD) == ([], None)
    assert not engine.streams.accounts.is_committed(WORLD)
    assert engine.store._connection.execute("SELECT * FROM stream_item").fetchall() == []

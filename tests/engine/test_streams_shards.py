"""Shards: what splits, merges and uniform scaling make of them, who reads on where, and how they are listed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from broker.limits import AWS
from broker.streams import Stream
from engine.stream_support import ANY_SCALE, HOUR_MS, START_MS, WORLD, StreamEngine, outcome_of, texts

TOP = 1 << 128
ID = "shardId-{:012d}".format


@pytest.fixture
def engine() -> Iterator[StreamEngine]:
    engine = StreamEngine(limits=ANY_SCALE)
    yield engine
    engine.close()


@pytest.fixture
def slow() -> Iterator[StreamEngine]:
    """With AWS's waiting times."""
    engine = StreamEngine(limits=replace(AWS, stream_api_rates=False))
    yield engine
    engine.close()


def lineage(stream: Stream) -> dict[int, tuple[str | None, str | None, bool]]:
    return {s.index: (s.parent_id, s.adjacent_parent_id, s.is_open) for s in stream.shards.values()}


def test_first_shards_share_the_hash_keys(engine: StreamEngine) -> None:
    stream = engine.create(shards=3)
    ranges = [shard.hash_keys for shard in stream.open_shards]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == TOP - 1
    assert [last + 1 for _, last in ranges[:-1]] == [first for first, _ in ranges[1:]]
    assert engine.ids(stream) == [ID(0), ID(1), ID(2)]


def test_a_split_and_a_merge(engine: StreamEngine) -> None:
    stream = engine.create()
    engine.shards.split(stream, ID(0), str(TOP // 4))
    assert lineage(stream) == {0: (None, None, False), 1: (ID(0), None, True), 2: (ID(0), None, True)}
    assert [shard.hash_keys for shard in stream.open_shards] == [(0, TOP // 4 - 1), (TOP // 4, TOP - 1)]
    engine.shards.merge(stream, ID(2), ID(1))
    assert lineage(stream)[3] == (ID(2), ID(1), True)
    assert stream.shards[3].hash_keys == (0, TOP - 1)


def test_a_reader_goes_on_with_the_children(engine: StreamEngine) -> None:
    stream = engine.create()
    engine.put(stream, *"ab")
    iterator = engine.iterator(stream.shards[0])
    page = engine.records.get_records(iterator, 1)
    engine.shards.split(stream, ID(0), str(TOP // 2))
    engine.put(stream, *"cd")
    assert page.next_iterator is not None
    page = engine.records.get_records(page.next_iterator, 1)
    assert texts(page) == ["b"]
    assert page.next_iterator is None
    assert [(child.shard_id, child.parent_ids) for child in page.child_shards] == [(ID(1), [ID(0)]), (ID(2), [ID(0)])]
    assert [text for child in page.child_shards for text in engine.read(child)] == [*"cd"]
    again = engine.records.get_records(engine.iterator(stream.shards[0], "LATEST"))
    assert (again.records, again.next_iterator, len(again.child_shards)) == ([], None, 2)


def test_the_end_of_a_closed_shard_is_above_all_its_records(engine: StreamEngine) -> None:
    stream = engine.create()
    number = engine.put(stream, "a")[0].sequence_number
    assert not stream.shards[0].ending_sequence_number
    engine.shards.split(stream, ID(0), str(TOP // 2))
    ending = stream.shards[0].ending_sequence_number or ""
    assert int(number) < int(ending) < int(stream.shards[1].starting_sequence_number)
    page = engine.records.get_records(engine.iterator(stream.shards[0], "AT_SEQUENCE_NUMBER", ending))
    assert page.next_iterator is None


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 4), (4, 2), (2, 3), (3, 2), (5, 7), (7, 5), (3, 1), (6, 6)])
def test_uniform_scaling(engine: StreamEngine, before: int, after: int) -> None:
    stream = engine.create(shards=before)
    assert engine.shards.update_count(stream, after) == (before, after)
    bounds = [number * TOP // after for number in range(after + 1)]
    assert [shard.hash_keys for shard in stream.open_shards] == [(first, end - 1) for first, end in pairwise(bounds)]
    for shard in stream.shards.values():
        assert shard.is_open == (not shard.children)
        if not shard.is_open:
            covered = sorted(child.hash_keys for child in shard.children)
            assert covered[0][0] <= shard.starting_hash_key
            assert covered[-1][1] >= shard.ending_hash_key


def test_scaling_many_shards_is_quick_and_shallow(engine: StreamEngine) -> None:
    stream = engine.create(shards=1000)
    engine.shards.update_count(stream, 1)
    assert max(shard.born_s for shard in stream.shards.values()) <= START_MS // 1000 + 10


def test_indexes_are_never_used_again(engine: StreamEngine) -> None:
    stream = engine.create(shards=2)
    engine.shards.merge(stream, ID(0), ID(1))
    engine.advance(25 * HOUR_MS)
    assert engine.ids(stream) == [ID(2)]
    engine.shards.split(stream, ID(2), str(TOP // 2))
    assert engine.ids(stream) == [ID(2), ID(3), ID(4)]


def test_a_closed_shard_goes_with_its_last_record(engine: StreamEngine) -> None:
    stream = engine.create()
    engine.put(stream, "a")
    engine.advance(1000)
    shard = stream.shards[0]
    iterator = engine.iterator(shard)
    engine.shards.split(stream, ID(0), str(TOP // 2))
    engine.advance(24 * HOUR_MS - 1)
    assert engine.ids(stream) == [ID(0), ID(1), ID(2)]
    engine.advance(1)
    assert engine.ids(stream) == [ID(1), ID(2)]
    assert stream.shards[1].parent_id == ID(0)
    assert "does not exist" in outcome_of(engine.records.get_shard_iterator, stream, ID(0), "LATEST")
    assert outcome_of(engine.records.get_records, iterator) != ""


def test_reshards_take_effect_when_their_time_is_over(slow: StreamEngine) -> None:
    stream = slow.create(shards=2)
    assert (stream.status, stream.shards) == ("CREATING", {})
    slow.advance(9_999)
    assert stream.status == "CREATING"
    slow.advance(1)
    assert stream.status == "ACTIVE"
    slow.shards.split(stream, ID(0), str(TOP // 4))
    assert stream.status == "UPDATING"
    slow.advance(29_999)
    slow.put(stream, "to the parent", explicit_hash_key="0")
    assert outcome_of(slow.shards.merge, stream, ID(0), ID(1)) == (
        "ResourceInUseException: Stream s under account 111122223333 not ACTIVE, instead in state UPDATING"
    )
    slow.advance(1)
    assert stream.status == "ACTIVE"
    slow.put(stream, "to the child", explicit_hash_key="0")
    assert stream.shards[0].closed_ms == stream.shards[2].created_ms == START_MS + 40_000
    assert (slow.read(stream.shards[0]), slow.read(stream.shards[2])) == (["to the parent"], ["to the child"])


def test_what_cannot_be_split_or_merged(engine: StreamEngine) -> None:
    stream = engine.create(shards=4)
    half = TOP // 8
    where = "in stream s under account 111122223333"
    assert outcome_of(engine.shards.split, stream, ID(9), str(half)) == (
        f"ResourceNotFoundException: Could not find shard {ID(9)} {where}."
    )
    for key in (0, TOP // 4, TOP):
        assert outcome_of(engine.shards.split, stream, ID(0), str(key)) == (
            f"InvalidArgumentException: NewStartingHashKey {key} used in SplitShard() on shard {ID(0)} {where} is not "
            "both greater than one plus the shard's StartingHashKey 0 and less than the shard's EndingHashKey "
            f"{TOP // 4 - 1}."
        )
    assert outcome_of(engine.shards.merge, stream, ID(0), ID(2)) == (
        f"InvalidArgumentException: Shards {ID(0)} and {ID(2)} {where} are not an adjacent pair of shards eligible "
        "for merging"
    )
    assert outcome_of(engine.shards.merge, stream, ID(0), ID(0)).startswith("InvalidArgumentException: ")
    engine.shards.split(stream, ID(0), str(half))
    assert outcome_of(engine.shards.split, stream, ID(0), str(half)).startswith("InvalidArgumentException: ")
    on_demand = engine.create("d", shards=None, mode="ON_DEMAND")
    for operation, *arguments in (
        (engine.shards.split, ID(0), str(half)),
        (engine.shards.merge, ID(0), ID(1)),
        (engine.shards.update_count, 8),
    ):
        assert outcome_of(operation, on_demand, *arguments).startswith("ValidationException: ")


def test_quotas_of_scaling(slow: StreamEngine) -> None:
    stream = slow.create(shards=4)
    slow.advance(10_000)
    asked = "Current open shard count: 4 Target shard count: "
    assert outcome_of(slow.shards.update_count, stream, 9) == (
        "InvalidArgumentException: UpdateShardCount cannot scale up over double your current open shard count. "
        f"{asked}9"
    )
    assert outcome_of(slow.shards.update_count, stream, 1) == (
        "InvalidArgumentException: UpdateShardCount cannot scale down below half your current open shard count. "
        f"{asked}1"
    )
    for number in range(10):
        slow.shards.update_count(stream, 4 + number % 2)
        slow.advance(30_000)
    assert outcome_of(slow.shards.update_count, stream, 4).startswith("LimitExceededException: ")
    slow.advance(24 * HOUR_MS - 300_000)
    slow.shards.update_count(stream, 4)


def test_the_quota_of_shards() -> None:
    engine = StreamEngine(limits=replace(AWS, shards=5, stream_create_ms=1000, stream_api_rates=False))
    engine.create("a", 3)
    assert outcome_of(engine.create, "b", 3) == (
        "LimitExceededException: This request would exceed the shard limit for the account 111122223333 in us-east-1. "
        "Current shard count for the account: 3. Limit: 5. Number of additional shards that would have resulted from "
        "this request: 3. Refer to the AWS Service Limits page "
        "(http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and how to request "
        "higher limits."
    )
    stream = engine.create("b", 2)
    engine.advance(1000)
    assert outcome_of(engine.shards.split, stream, ID(0), str(TOP // 4)).startswith("LimitExceededException: ")
    engine.close()


# lists


def test_every_filter(engine: StreamEngine) -> None:
    stream = engine.create(shards=2)
    engine.advance(HOUR_MS)
    engine.shards.merge(stream, ID(0), ID(1))  # 2
    engine.advance(HOUR_MS)
    engine.shards.split(stream, ID(2), str(TOP // 2))  # 3, 4
    engine.advance(HOUR_MS)

    def listed(*given: object, **more: object) -> list[int]:
        return engine.listed(stream, *given, **more)  # type: ignore[arg-type]

    assert listed() == listed("FROM_TRIM_HORIZON") == [0, 1, 2, 3, 4]
    assert listed("AT_TRIM_HORIZON") == [0, 1]
    assert listed("AT_LATEST") == [3, 4]
    assert listed("AFTER_SHARD_ID", filter_shard_id=ID(2)) == listed(after=ID(2)) == [3, 4]
    for moment_ms, at, since in (
        (0, [0, 1], [0, 1, 2, 3, 4]),
        (HOUR_MS - 1, [0, 1], [0, 1, 2, 3, 4]),
        (HOUR_MS, [0, 1, 2], [0, 1, 2, 3, 4]),
        (HOUR_MS + 1, [2], [2, 3, 4]),
        (2 * HOUR_MS, [2, 3, 4], [2, 3, 4]),
        (2 * HOUR_MS + 1, [3, 4], [3, 4]),
    ):
        assert listed("AT_TIMESTAMP", filter_timestamp_ms=START_MS + moment_ms) == at
        assert listed("FROM_TIMESTAMP", filter_timestamp_ms=START_MS + moment_ms) == since
    assert listed("FROM_TIMESTAMP", filter_timestamp_ms=0) == [0, 1, 2, 3, 4]
    engine.advance(22 * HOUR_MS + 1)
    assert listed() == [2, 3, 4]
    assert listed("AT_TRIM_HORIZON") == [2]
    for kind in ("AT_TIMESTAMP", "FROM_TIMESTAMP", "AFTER_SHARD_ID"):
        assert outcome_of(listed, kind).startswith("InvalidArgumentException: ")


def test_pages_and_their_tokens(engine: StreamEngine) -> None:
    stream = engine.create(shards=5)
    _, page, token = engine.shards.list_shards(WORLD, stream, limit=2, filter_type="AT_LATEST")
    assert [shard.index for shard in page] == [0, 1]
    engine.shards.split(stream, ID(4), str(TOP - 10))
    owner, page, token = engine.shards.list_shards(WORLD, None, token=token, limit=3)
    assert owner is stream
    assert [shard.index for shard in page] == [2, 3, 5]
    assert token is not None
    engine.advance(300_000)
    assert [shard.index for shard in engine.shards.list_shards(WORLD, None, token=token)[1]] == [6]
    engine.advance(1)
    refused = outcome_of(engine.shards.list_shards, WORLD, None, token=token)
    assert refused == "ExpiredNextTokenException: The provided NextToken has expired."
    for wrong in ("x", token[:-8], "AAAA"):
        assert outcome_of(engine.shards.list_shards, WORLD, None, token=wrong).startswith("InvalidArgumentException: ")
    assert outcome_of(engine.shards.list_shards, WORLD, None).startswith("InvalidArgumentException: ")
    assert outcome_of(engine.shards.list_shards, WORLD, None, token=token, after=ID(0)).startswith("InvalidArg")


def test_describe_pages(engine: StreamEngine) -> None:
    stream = engine.create(shards=150)
    page, more = engine.shards.page(stream, None, None)
    assert (len(page), more) == (100, True)
    page, more = engine.shards.page(stream, page[-1].shard_id, 1000)
    assert (len(page), more) == (50, False)


def test_a_stream_that_is_being_made_has_no_list(slow: StreamEngine) -> None:
    stream = slow.create()
    assert outcome_of(slow.listed, stream) == (
        "ResourceInUseException: Stream s under account 111122223333 not ACTIVE or UPDATING, instead in state CREATING"
    )
    assert slow.shards.page(stream, None, None) == ([], False)
    assert outcome_of(slow.put, stream, "x") == (
        "ResourceNotFoundException: Stream s under account 111122223333 not found."
    )


def test_an_earlier_stream_of_the_name(engine: StreamEngine) -> None:
    stream = engine.create()
    assert engine.listed(stream, created_ms=START_MS) == [0]
    assert outcome_of(engine.listed, stream, created_ms=START_MS - 1000).startswith("ResourceNotFoundException: ")

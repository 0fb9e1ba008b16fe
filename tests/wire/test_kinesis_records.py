"""Records as a client sees them: places in a shard, pages, reshards, quotas, retention. Time moves when told to."""

from __future__ import annotations

import random
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from virtual_kinesis import ACCOUNT, REGION, SHARD, START_MS, VirtualKinesis

from broker.limits import AWS, RELAXED

MIB = 1024 * 1024
HOUR_MS = 3_600_000
THROTTLED = "ProvisionedThroughputExceededException"


@pytest.fixture
def kinesis() -> Iterator[VirtualKinesis]:
    virtual = VirtualKinesis(replace(RELAXED, shard_count_factor=None))
    yield virtual
    virtual.close()


@pytest.fixture
def limited() -> Iterator[VirtualKinesis]:
    virtual = VirtualKinesis(AWS)
    virtual.stream()
    virtual.clock.advance(60_000)
    yield virtual
    virtual.close()


def texts(page: dict[str, Any]) -> list[str]:
    return [b64decode(record["Data"]).decode() for record in page["Records"]]


def read(kinesis: VirtualKinesis, kind: str = "TRIM_HORIZON", shard: str = SHARD, **given: Any) -> list[str]:
    return texts(kinesis("GetRecords", ShardIterator=kinesis.iterator(kind, shard, **given)))


def read_all(kinesis: VirtualKinesis, shard: str = SHARD, limit: int = 10_000) -> tuple[list[str], list[str]]:
    """A closed or quiet shard's records from the oldest on, and its children."""
    found: list[str] = []
    iterator = kinesis.iterator("TRIM_HORIZON", shard)
    while True:
        page = kinesis("GetRecords", ShardIterator=iterator, Limit=limit)
        found += texts(page)
        if "NextShardIterator" not in page:
            return found, [child["ShardId"] for child in page["ChildShards"]]
        if page["MillisBehindLatest"] == 0:
            return found, []
        iterator = page["NextShardIterator"]


# places


def test_every_kind_of_iterator(kinesis: VirtualKinesis) -> None:
    kinesis.stream()
    numbers = []
    for text in "abc":
        numbers += kinesis.put(text)
        kinesis.clock.advance(1000)
    assert read(kinesis, "TRIM_HORIZON") == ["a", "b", "c"]
    assert read(kinesis, "LATEST") == []
    assert read(kinesis, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[1]) == ["b", "c"]
    assert read(kinesis, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[1]) == ["c"]
    assert read(kinesis, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[2]) == []
    assert read(kinesis, "AT_SEQUENCE_NUMBER", StartingSequenceNumber="0") == ["a", "b", "c"]
    shard = kinesis("ListShards", StreamName="s")["Shards"][0]
    first = shard["SequenceNumberRange"]["StartingSequenceNumber"]
    assert read(kinesis, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=first) == ["a", "b", "c"]
    assert read(kinesis, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=first) == ["a", "b", "c"]


def test_at_timestamp_is_exact_to_the_millisecond(kinesis: VirtualKinesis) -> None:
    kinesis.stream()
    for number in range(50):
        kinesis.put(str(number))
        kinesis.clock.advance(7)
    for later_ms in (-1_000_000_000, -1, 0, 1, 6, 7, 8, 342, 343, 344, 349):
        expected = [str(number) for number in range(50) if number * 7 >= later_ms]
        assert read(kinesis, "AT_TIMESTAMP", Timestamp=(START_MS + later_ms) / 1000) == expected
    assert read(kinesis, "AT_TIMESTAMP", Timestamp=-1e300) == [str(number) for number in range(50)]


def test_an_iterator_stays_where_it_is(kinesis: VirtualKinesis) -> None:
    kinesis.stream()
    latest = kinesis.iterator("LATEST")
    kinesis.put("a", "b")
    assert texts(kinesis("GetRecords", ShardIterator=latest)) == ["a", "b"]
    page = kinesis("GetRecords", ShardIterator=latest, Limit=1)
    assert texts(page) == ["a"]
    assert texts(kinesis("GetRecords", ShardIterator=latest)) == ["a", "b"]
    assert texts(kinesis("GetRecords", ShardIterator=page["NextShardIterator"])) == ["b"]


def test_an_iterator_is_good_for_five_minutes(kinesis: VirtualKinesis) -> None:
    kinesis.stream()
    kinesis.put("a")
    iterator = kinesis.iterator()
    kinesis.clock.advance(300_000)
    following = kinesis("GetRecords", ShardIterator=iterator)["NextShardIterator"]
    kinesis.clock.advance(1)
    assert kinesis.refusal("GetRecords", ShardIterator=iterator).code == "ExpiredIteratorException"
    assert texts(kinesis("GetRecords", ShardIterator=following)) == []


def test_an_iterator_of_somebody_elses_making(kinesis: VirtualKinesis) -> None:
    kinesis.stream()
    iterator = kinesis.iterator()
    chance = random.Random(1)
    for _ in range(200):
        at = chance.randrange(len(iterator))
        changed = iterator[:at] + chance.choice("ABCabc019+/=é\0") + iterator[at + 1 :]
        if changed != iterator:
            assert kinesis.refusal("GetRecords", ShardIterator=changed).code in (
                "InvalidArgumentException",
                "ResourceNotFoundException",
            )


def test_a_stream_of_the_same_name_is_another(kinesis: VirtualKinesis) -> None:
    kinesis.stream()
    (number,) = kinesis.put("a")
    kinesis("DeleteStream", StreamName="s")
    kinesis.clock.advance(1000)
    kinesis.stream()
    refusal = kinesis.refusal(
        "GetShardIterator",
        StreamName="s",
        ShardId=SHARD,
        ShardIteratorType="AT_SEQUENCE_NUMBER",
        StartingSequenceNumber=number,
    )
    assert refusal.code == "InvalidArgumentException"
    assert read(kinesis) == []


def test_a_stream_by_its_id(kinesis: VirtualKinesis) -> None:
    kinesis.stream()
    id = kinesis("DescribeStreamSummary", StreamName="s")["StreamDescriptionSummary"]["StreamId"]
    kinesis("PutRecord", StreamId=id, Data=b"a", PartitionKey="k")
    iterator = kinesis("GetShardIterator", StreamId=id, ShardId=SHARD, ShardIteratorType="TRIM_HORIZON")
    assert texts(kinesis("GetRecords", StreamId=id, **iterator)) == ["a"]


# pages


def test_pages_go_on_without_gaps(kinesis: VirtualKinesis) -> None:
    kinesis.stream()
    chance = random.Random(2)
    expected = []
    for _ in range(30):
        entries = [f"{len(expected) + at}" for at in range(chance.randrange(1, 40))]
        records = [{"Data": text.encode(), "PartitionKey": text} for text in entries]
        kinesis("PutRecords", StreamName="s", Records=records)
        expected += entries
        kinesis.clock.advance(chance.randrange(3))
    for limit in (1, 7, 100, 10_000):
        assert read_all(kinesis, limit=limit) == (expected, [])


def test_a_page_has_at_most_ten_mebibytes_and_always_a_record(kinesis: VirtualKinesis) -> None:
    kinesis.stream(MaxRecordSizeInKiB=10_240)
    for size in (4 * MIB, 4 * MIB, 4 * MIB, 10 * MIB - 1, 1):
        kinesis("PutRecord", StreamName="s", Data=bytes(size), PartitionKey="k")
    iterator, sizes = kinesis.iterator(), []
    for _ in range(4):
        page = kinesis("GetRecords", ShardIterator=iterator)
        sizes.append([len(b64decode(record["Data"])) for record in page["Records"]])
        iterator = page["NextShardIterator"]
    assert sizes == [[4 * MIB, 4 * MIB], [4 * MIB], [10 * MIB - 1], [1]]


def test_ten_thousand_records_in_a_page(kinesis: VirtualKinesis) -> None:
    kinesis.stream()
    for _ in range(21):
        kinesis("PutRecords", StreamName="s", Records=[{"Data": b"x", "PartitionKey": "k"}] * 500)
    page = kinesis("GetRecords", ShardIterator=kinesis.iterator())
    assert len(page["Records"]) == 10_000
    assert len(kinesis("GetRecords", ShardIterator=page["NextShardIterator"])["Records"]) == 500


def test_how_far_behind_a_reader_is(kinesis: VirtualKinesis) -> None:
    kinesis.stream()
    kinesis.put("a")
    kinesis.clock.advance(2000)
    kinesis.put("b")
    kinesis.clock.advance(500)
    page = kinesis("GetRecords", ShardIterator=kinesis.iterator(), Limit=1)
    assert page["MillisBehindLatest"] == 2500
    page = kinesis("GetRecords", ShardIterator=page["NextShardIterator"], Limit=1)
    assert (texts(page), page["MillisBehindLatest"]) == (["b"], 0)
    page = kinesis("GetRecords", ShardIterator=page["NextShardIterator"])
    assert (texts(page), page["MillisBehindLatest"]) == ([], 0)


def test_bytes_pass_through_untouched(kinesis: VirtualKinesis) -> None:
    """A record that the Kinesis Producer Library aggregated is one record here, as on AWS."""
    kinesis.stream()
    aggregated = b"\xf3\x89\x9a\xc2" + bytes(range(256)) * 3
    for data, key in ((aggregated, "k"), (b"", "ключ \U0001f511"), (b"\0" * 100, "x" * 256)):
        kinesis("PutRecord", StreamName="s", Data=data, PartitionKey=key)
    records = kinesis("GetRecords", ShardIterator=kinesis.iterator())["Records"]
    assert [b64decode(record["Data"]) for record in records] == [aggregated, b"", b"\0" * 100]
    assert [record["PartitionKey"] for record in records] == ["k", "ключ \U0001f511", "x" * 256]
    assert {record["ApproximateArrivalTimestamp"] for record in records} == {START_MS / 1000}


# retention


def test_records_expire(kinesis: VirtualKinesis) -> None:
    kinesis.stream()
    (number,) = kinesis.put("a")
    kinesis.clock.advance(HOUR_MS)
    kinesis.put("b")
    kinesis.clock.advance(23 * HOUR_MS - 1)
    assert read(kinesis) == ["a", "b"]
    kinesis.clock.advance(1)
    assert read(kinesis) == ["b"]
    assert read(kinesis, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=number) == ["b"]
    kinesis("IncreaseStreamRetentionPeriod", StreamName="s", RetentionPeriodHours=8760)
    assert read(kinesis) == ["b"]
    kinesis.clock.advance(8759 * HOUR_MS - 24 * HOUR_MS + HOUR_MS)
    assert read(kinesis) == ["b"]
    kinesis.clock.advance(24 * HOUR_MS)
    assert read(kinesis) == []


# reshards


def test_a_closed_shard_is_read_to_its_end_and_tells_its_children(kinesis: VirtualKinesis) -> None:
    kinesis.stream()
    kinesis.put("a", "b")
    iterator = kinesis.iterator()
    kinesis("SplitShard", StreamName="s", ShardToSplit=SHARD, NewStartingHashKey=str(2**127))
    kinesis.put("c")
    page = kinesis("GetRecords", ShardIterator=iterator, Limit=1)
    assert (texts(page), "ChildShards" in page) == (["a"], False)
    page = kinesis("GetRecords", ShardIterator=page["NextShardIterator"], Limit=1)
    assert texts(page) == ["b"]
    while "NextShardIterator" in page:
        page = kinesis("GetRecords", ShardIterator=page["NextShardIterator"])
        assert texts(page) == []
    assert page["ChildShards"] == [
        {
            "ShardId": "shardId-000000000001",
            "ParentShards": [SHARD],
            "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": str(2**127 - 1)},
        },
        {
            "ShardId": "shardId-000000000002",
            "ParentShards": [SHARD],
            "HashKeyRange": {"StartingHashKey": str(2**127), "EndingHashKey": str(2**128 - 1)},
        },
    ]
    assert read(kinesis, shard="shardId-000000000001") + read(kinesis, shard="shardId-000000000002") == ["c"]
    latest = kinesis("GetRecords", ShardIterator=kinesis.iterator("LATEST"))
    assert (latest["Records"], "NextShardIterator" in latest) == ([], False)


def test_a_merged_shard_has_two_parents(kinesis: VirtualKinesis) -> None:
    kinesis.stream(shards=2)
    other = "shardId-000000000001"
    kinesis("MergeShards", StreamName="s", ShardToMerge=SHARD, AdjacentShardToMerge=other)
    for shard in (SHARD, other):
        (child,) = kinesis("GetRecords", ShardIterator=kinesis.iterator(shard=shard))["ChildShards"]
        assert (child["ShardId"], child["ParentShards"]) == ("shardId-000000000002", [SHARD, other])


def test_a_keys_order_holds_across_reshards(kinesis: VirtualKinesis) -> None:
    """A reader that reads parents before their children sees each key's records in the order of the puts."""
    chance = random.Random(3)
    kinesis.stream(shards=2)
    expected: dict[str, list[str]] = {}
    for step in range(12):
        for number in range(20):
            key = f"k{chance.randrange(8)}"
            kinesis.put(f"{key} {step}.{number}", key=key)
            expected.setdefault(key, []).append(f"{key} {step}.{number}")
        target = chance.choice([1, 2, 3, 4, 5])
        kinesis("UpdateShardCount", StreamName="s", TargetShardCount=target, ScalingType="UNIFORM_SCALING")
        kinesis.clock.advance(chance.randrange(2000))
    seen: dict[str, list[str]] = {}
    waiting = {shard["ShardId"]: shard for shard in kinesis("ListShards", StreamName="s")["Shards"]}
    while waiting:
        for id, shard in list(waiting.items()):
            parents = {shard.get("ParentShardId"), shard.get("AdjacentParentShardId")}
            if not parents & waiting.keys():
                del waiting[id]
                for text in read_all(kinesis, id, limit=chance.choice((1, 3, 1000)))[0]:
                    seen.setdefault(text.split()[0], []).append(text)
    assert seen == expected


def test_a_reader_that_follows_the_children_finds_every_record_once(kinesis: VirtualKinesis) -> None:
    chance = random.Random(4)
    kinesis.stream()
    put: list[str] = []
    for _ in range(8):
        texts_ = [f"{len(put) + at}" for at in range(10)]
        for text in texts_:
            kinesis.put(text, key=text)
        put += texts_
        target = chance.choice([1, 2, 3, 4])
        kinesis("UpdateShardCount", StreamName="s", TargetShardCount=target, ScalingType="UNIFORM_SCALING")
    found, asked, waiting = [], set(), [SHARD]
    while waiting:
        shard = waiting.pop()
        if shard not in asked:
            asked.add(shard)
            records, children = read_all(kinesis, shard)
            found += records
            waiting += children
    assert sorted(found, key=int) == put


def test_numbers_grow_across_reshards(kinesis: VirtualKinesis) -> None:
    kinesis.stream()
    numbers = kinesis.put("a", "b")
    for _ in range(3):
        kinesis("UpdateShardCount", StreamName="s", TargetShardCount=2, ScalingType="UNIFORM_SCALING")
        numbers += kinesis.put("c")
        kinesis("UpdateShardCount", StreamName="s", TargetShardCount=1, ScalingType="UNIFORM_SCALING")
        numbers += kinesis.put("d")
    assert numbers == sorted(set(numbers), key=int)
    (opened,) = kinesis("ListShards", StreamName="s", ShardFilter={"Type": "AT_LATEST"})["Shards"]
    assert int(opened["SequenceNumberRange"]["StartingSequenceNumber"]) < int(numbers[-1])


# quotas, under AWS's limits


def test_a_shard_takes_one_mebibyte_a_second(limited: VirtualKinesis) -> None:
    half = {"Data": bytes(MIB // 2 - 1), "PartitionKey": "k"}
    answer = limited("PutRecords", StreamName="s", Records=[half] * 3)
    assert answer["FailedRecordCount"] == 1
    assert [sorted(entry) for entry in answer["Records"]] == [
        ["SequenceNumber", "ShardId"],
        ["SequenceNumber", "ShardId"],
        ["ErrorCode", "ErrorMessage"],
    ]
    assert answer["Records"][2]["ErrorCode"] == THROTTLED
    assert limited.refusal("PutRecord", StreamName="s", **half).code == THROTTLED
    limited.clock.advance(1000)
    assert limited("PutRecords", StreamName="s", Records=[half] * 2)["FailedRecordCount"] == 0


def test_a_shard_takes_a_thousand_records_a_second(limited: VirtualKinesis) -> None:
    small = [{"Data": b"x", "PartitionKey": "k"}] * 500
    failed = [limited("PutRecords", StreamName="s", Records=small)["FailedRecordCount"] for _ in range(3)]
    assert failed == [0, 0, 500]
    limited.clock.advance(1000)
    assert limited("PutRecords", StreamName="s", Records=small)["FailedRecordCount"] == 0


def test_a_shard_is_read_five_times_a_second(limited: VirtualKinesis) -> None:
    iterator = limited.iterator()
    for _ in range(5):
        limited("GetRecords", ShardIterator=iterator)
    assert limited.refusal("GetRecords", ShardIterator=iterator).code == THROTTLED
    limited.clock.advance(1000)
    limited("GetRecords", ShardIterator=iterator)


def test_a_large_read_takes_up_the_next_seconds(limited: VirtualKinesis) -> None:
    for _ in range(10):
        limited("PutRecord", StreamName="s", Data=bytes(MIB - 1), PartitionKey="k")
        limited.clock.advance(1000)
    iterator = limited.iterator()
    assert len(limited("GetRecords", ShardIterator=iterator)["Records"]) == 10
    limited.clock.advance(4990)
    assert limited.refusal("GetRecords", ShardIterator=iterator).code == THROTTLED
    limited.clock.advance(10)
    limited("GetRecords", ShardIterator=iterator)


def test_one_throttled_shard_does_not_stop_the_others(limited: VirtualKinesis) -> None:
    limited("UpdateShardCount", StreamName="s", TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    limited.clock.advance(60_000)
    large = {"Data": bytes(MIB - 1), "PartitionKey": "k"}
    entries = [{**large, "ExplicitHashKey": key} for key in ("0", "0", str(2**128 - 1))]
    answer = limited("PutRecords", StreamName="s", Records=entries)
    assert [entry.get("ErrorCode") for entry in answer["Records"]] == [None, THROTTLED, None]


def test_an_on_demand_stream_grows_with_its_load(limited: VirtualKinesis) -> None:
    limited("CreateStream", StreamName="d", StreamModeDetails={"StreamMode": "ON_DEMAND"})
    limited.clock.advance(60_000)
    small = [{"Data": b"x", "PartitionKey": str(number)} for number in range(500)]
    for _ in range(5):
        limited("PutRecords", StreamName="d", Records=small)
    summary = limited("DescribeStreamSummary", StreamName="d")["StreamDescriptionSummary"]
    assert (summary["StreamStatus"], summary["OpenShardCount"]) == ("UPDATING", 4)
    limited.clock.advance(60_000)
    summary = limited("DescribeStreamSummary", StreamName="d")["StreamDescriptionSummary"]
    assert (summary["StreamStatus"], summary["OpenShardCount"]) == ("ACTIVE", 8)


def test_by_arn_a_stream_of_another_account_while_nobody_signs(kinesis: VirtualKinesis) -> None:
    arn = kinesis.stream()
    kinesis.put("a")
    body = f'{{"StreamARN":"{arn}"}}'.encode()
    assert kinesis.raw("DescribeStream", body, account="222222222222").status == 200
    assert kinesis.raw("DescribeStream", b'{"StreamName":"s"}', account="222222222222").status == 400
    other = kinesis.raw("DescribeStream", body, region="eu-west-1")
    assert (other.status, b"ResourceNotFoundException" in other.body) == (400, True)
    assert arn == f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s"

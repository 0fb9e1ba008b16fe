"""Each of Kinesis's operations through boto3, as a program uses it; queues and channels are in test_kinesis_queues.py.

Errors are in test_kinesis_errors.py, SubscribeToShard has more in test_kinesis_subscribe.py.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

REGION = "us-east-1"
MAX_HASH_KEY = 2**128 - 1
KEY = "alias/aws/kinesis"
METRICS = [
    "IncomingBytes",
    "IncomingRecords",
    "OutgoingBytes",
    "OutgoingRecords",
    "WriteProvisionedThroughputExceeded",
    "ReadProvisionedThroughputExceeded",
    "IteratorAgeMilliseconds",
]


@pytest.fixture
def kinesis(connect: Any, sidebus: Any) -> Any:
    return connect(sidebus, "kinesis")


@pytest.fixture
def stream(kinesis: Any) -> str:
    """The ARN of the stream `s`, which has one shard."""
    kinesis.create_stream(StreamName="s", ShardCount=1)
    return str(kinesis.describe_stream(StreamName="s")["StreamDescription"]["StreamARN"])


@pytest.fixture
def consumer(kinesis: Any, stream: str) -> str:
    return str(kinesis.register_stream_consumer(StreamARN=stream, ConsumerName="c")["Consumer"]["ConsumerARN"])


def summary(kinesis: Any, name: str = "s") -> dict[str, Any]:
    return kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]  # type: ignore[no-any-return]


def shards(kinesis: Any, **given: Any) -> list[dict[str, Any]]:
    return kinesis.list_shards(**{"StreamName": "s", **given})["Shards"]  # type: ignore[no-any-return]


def shard_ids(kinesis: Any, **given: Any) -> list[int]:
    return [int(shard["ShardId"].removeprefix("shardId-")) for shard in shards(kinesis, **given)]


def read(kinesis: Any, shard: str = "shardId-000000000000", kind: str = "TRIM_HORIZON", **given: Any) -> dict[str, Any]:
    iterator = kinesis.get_shard_iterator(StreamName="s", ShardId=shard, ShardIteratorType=kind, **given)
    return kinesis.get_records(ShardIterator=iterator["ShardIterator"])  # type: ignore[no-any-return]


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def test_every_operation_of_the_model_is_here(kinesis: Any) -> None:
    tested = {name.removeprefix("test_") for name in globals()}
    elsewhere = {name for name in kinesis.meta.method_to_api_mapping if "queue" in name or "channel" in name}
    assert {name for name in kinesis.meta.method_to_api_mapping if name not in tested | elsewhere} == set()


# streams


def test_create_stream(kinesis: Any, account: str) -> None:
    assert plain(kinesis.create_stream(StreamName="s", ShardCount=2, Tags={"team": "a"})) == {}
    shown = summary(kinesis)
    assert shown["StreamARN"] == f"arn:aws:kinesis:{REGION}:{account}:stream/s"
    assert (shown["StreamStatus"], shown["OpenShardCount"]) == ("ACTIVE", 2)
    assert shown["StreamModeDetails"] == {"StreamMode": "PROVISIONED"}
    assert kinesis.list_tags_for_stream(StreamName="s")["Tags"] == [{"Key": "team", "Value": "a"}]
    kinesis.create_stream(StreamName="bare")
    shown = summary(kinesis, "bare")
    assert (shown["StreamModeDetails"], shown["OpenShardCount"]) == ({"StreamMode": "ON_DEMAND"}, 4)
    kinesis.create_stream(
        StreamName="d",
        StreamModeDetails={"StreamMode": "ON_DEMAND"},
        MaxRecordSizeInKiB=2048,
        RecordDistributionStrategy="AUTO",
    )
    shown = summary(kinesis, "d")
    assert (shown["OpenShardCount"], shown["MaxRecordSizeInKiB"]) == (4, 2048)
    assert shown["StreamModeDetails"] == {"StreamMode": "ON_DEMAND"}
    assert shown["RecordDistributionStrategy"] == "AUTO"


def test_delete_stream(kinesis: Any, stream: str, consumer: str) -> None:
    with pytest.raises(kinesis.exceptions.ResourceInUseException):
        kinesis.delete_stream(StreamName="s")
    assert plain(kinesis.delete_stream(StreamName="s", EnforceConsumerDeletion=True)) == {}
    assert kinesis.list_streams()["StreamNames"] == []
    kinesis.create_stream(StreamName="s", ShardCount=1)
    kinesis.delete_stream(StreamARN=stream)


def test_describe_stream(kinesis: Any, account: str) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    kinesis.create_stream(StreamName="s", ShardCount=2)
    shown = kinesis.describe_stream(StreamName="s")["StreamDescription"]
    created = shown.pop("StreamCreationTimestamp")
    assert before <= created <= before + timedelta(minutes=1)
    first, second = shown.pop("Shards")
    assert shown == {
        "StreamName": "s",
        "StreamARN": f"arn:aws:kinesis:{REGION}:{account}:stream/s",
        "StreamStatus": "ACTIVE",
        "StreamModeDetails": {"StreamMode": "PROVISIONED"},
        "HasMoreShards": False,
        "RetentionPeriodHours": 24,
        "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
        "EncryptionType": "NONE",
    }
    assert first["ShardId"] == "shardId-000000000000"
    assert first["HashKeyRange"] == {"StartingHashKey": "0", "EndingHashKey": str(2**127 - 1)}
    assert second["HashKeyRange"] == {"StartingHashKey": str(2**127), "EndingHashKey": str(MAX_HASH_KEY)}
    assert list(first["SequenceNumberRange"]) == ["StartingSequenceNumber"]
    assert re.fullmatch("[0-9]{56}", first["SequenceNumberRange"]["StartingSequenceNumber"])
    page = kinesis.describe_stream(StreamARN=shown["StreamARN"], Limit=1)["StreamDescription"]
    assert (page["Shards"], page["HasMoreShards"]) == ([first], True)
    page = kinesis.describe_stream(StreamName="s", ExclusiveStartShardId=first["ShardId"])["StreamDescription"]
    assert (page["Shards"], page["HasMoreShards"]) == ([second], False)
    kinesis.get_waiter("stream_exists").wait(StreamName="s")


def test_describe_stream_summary(kinesis: Any, stream: str, consumer: str) -> None:
    shown = summary(kinesis)
    assert isinstance(shown.pop("StreamCreationTimestamp"), datetime)
    assert re.fullmatch("[a-z0-9]{20}-[a-z0-9]{3}", shown["StreamId"])  # by which boto3 would go to AWS's own hosts
    assert (
        shown.items()
        >= {
            "StreamName": "s",
            "StreamARN": stream,
            "StreamStatus": "ACTIVE",
            "RetentionPeriodHours": 24,
            "EncryptionType": "NONE",
            "OpenShardCount": 1,
            "ConsumerCount": 1,
            "MaxRecordSizeInKiB": 1024,
        }.items()
    )
    assert shown["EnhancedMonitoring"] == [{"ShardLevelMetrics": []}]


def test_list_streams(kinesis: Any, account: str) -> None:
    assert plain(kinesis.list_streams()) == {"StreamNames": [], "HasMoreStreams": False, "StreamSummaries": []}
    names = [f"s{number:02}" for number in range(5)]
    for name in reversed(names):
        kinesis.create_stream(StreamName=name, ShardCount=1)
    page = kinesis.list_streams(Limit=2)
    assert (page["StreamNames"], page["HasMoreStreams"]) == (names[:2], True)
    first = page["StreamSummaries"][0]
    assert isinstance(first.pop("StreamCreationTimestamp"), datetime)
    assert first == {
        "StreamName": "s00",
        "StreamARN": f"arn:aws:kinesis:{REGION}:{account}:stream/s00",
        "StreamStatus": "ACTIVE",
        "StreamModeDetails": {"StreamMode": "PROVISIONED"},
    }
    page = kinesis.list_streams(NextToken=page["NextToken"])
    assert (page["StreamNames"], page["HasMoreStreams"], "NextToken" in page) == (names[2:], False, False)
    assert kinesis.list_streams(ExclusiveStartStreamName="s03")["StreamNames"] == ["s04"]
    pages = kinesis.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 2})
    assert [name for page in pages for name in page["StreamNames"]] == names


# shards


def test_list_shards(kinesis: Any, stream: str) -> None:
    kinesis.split_shard(StreamName="s", ShardToSplit="shardId-000000000000", NewStartingHashKey="10")
    assert shard_ids(kinesis) == [0, 1, 2]
    assert shard_ids(kinesis, ExclusiveStartShardId="shardId-000000000001") == [2]
    assert shard_ids(kinesis, ShardFilter={"Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000000"}) == [1, 2]
    assert shard_ids(kinesis, ShardFilter={"Type": "AT_LATEST"}) == [1, 2]
    assert shard_ids(kinesis, ShardFilter={"Type": "FROM_TRIM_HORIZON"}) == [0, 1, 2]
    assert shard_ids(kinesis, ShardFilter={"Type": "AT_TRIM_HORIZON"})[0] == 0
    long_ago = {"Type": "FROM_TIMESTAMP", "Timestamp": datetime(2020, 1, 1, tzinfo=UTC)}
    assert shard_ids(kinesis, ShardFilter=long_ago) == [0, 1, 2]
    later = {"Type": "AT_TIMESTAMP", "Timestamp": datetime.now(UTC) + timedelta(days=1)}
    assert shard_ids(kinesis, ShardFilter=later) == [1, 2]
    created = summary(kinesis)["StreamCreationTimestamp"]
    page = kinesis.list_shards(StreamARN=stream, MaxResults=2, StreamCreationTimestamp=created)
    assert [shard["ShardId"][-1] for shard in page["Shards"]] == ["0", "1"]
    rest = kinesis.list_shards(NextToken=page["NextToken"])
    assert [shard["ShardId"][-1] for shard in rest["Shards"]] == ["2"]
    assert "NextToken" not in rest
    parent, lower, upper = shards(kinesis)
    assert list(parent["SequenceNumberRange"]) == ["StartingSequenceNumber", "EndingSequenceNumber"]
    assert lower["ParentShardId"] == upper["ParentShardId"] == parent["ShardId"]
    assert "AdjacentParentShardId" not in lower


def test_split_shard(kinesis: Any, stream: str) -> None:
    answer = kinesis.split_shard(
        StreamName="s", ShardToSplit="shardId-000000000000", NewStartingHashKey=str(MAX_HASH_KEY - 1)
    )
    assert plain(answer) == {}
    _, lower, upper = shards(kinesis)
    assert lower["HashKeyRange"] == {"StartingHashKey": "0", "EndingHashKey": str(MAX_HASH_KEY - 2)}
    assert upper["HashKeyRange"] == {"StartingHashKey": str(MAX_HASH_KEY - 1), "EndingHashKey": str(MAX_HASH_KEY)}


def test_merge_shards(kinesis: Any) -> None:
    kinesis.create_stream(StreamName="s", ShardCount=2)
    first, second = (shard["ShardId"] for shard in shards(kinesis))
    assert plain(kinesis.merge_shards(StreamName="s", ShardToMerge=second, AdjacentShardToMerge=first)) == {}
    merged = shards(kinesis)[2]
    assert (merged["ParentShardId"], merged["AdjacentParentShardId"]) == (second, first)
    assert merged["HashKeyRange"] == {"StartingHashKey": "0", "EndingHashKey": str(MAX_HASH_KEY)}


def test_update_shard_count(kinesis: Any, stream: str) -> None:
    answer = kinesis.update_shard_count(StreamName="s", TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    assert plain(answer) == {"StreamName": "s", "StreamARN": stream, "CurrentShardCount": 1, "TargetShardCount": 2}
    assert summary(kinesis)["OpenShardCount"] == 2


# settings


def test_increase_stream_retention_period(kinesis: Any, stream: str) -> None:
    assert plain(kinesis.increase_stream_retention_period(StreamName="s", RetentionPeriodHours=8760)) == {}
    assert summary(kinesis)["RetentionPeriodHours"] == 8760


def test_decrease_stream_retention_period(kinesis: Any, stream: str) -> None:
    kinesis.increase_stream_retention_period(StreamName="s", RetentionPeriodHours=48)
    assert plain(kinesis.decrease_stream_retention_period(StreamARN=stream, RetentionPeriodHours=24)) == {}
    assert summary(kinesis)["RetentionPeriodHours"] == 24


def test_start_stream_encryption(kinesis: Any, stream: str) -> None:
    assert "EncryptionType" not in kinesis.put_record(StreamName="s", Data=b"plain", PartitionKey="k")
    assert plain(kinesis.start_stream_encryption(StreamName="s", EncryptionType="KMS", KeyId=KEY)) == {}
    shown = summary(kinesis)
    assert (shown["EncryptionType"], shown["KeyId"]) == ("KMS", KEY)
    assert kinesis.put_record(StreamName="s", Data=b"locked", PartitionKey="k")["EncryptionType"] == "KMS"
    batch = kinesis.put_records(StreamName="s", Records=[{"Data": b"too", "PartitionKey": "k"}])
    assert batch["EncryptionType"] == "KMS"
    types = [record.get("EncryptionType") for record in read(kinesis)["Records"]]
    assert types == [None, "KMS", "KMS"]


def test_stop_stream_encryption(kinesis: Any, stream: str) -> None:
    kinesis.start_stream_encryption(StreamName="s", EncryptionType="KMS", KeyId=KEY)
    assert plain(kinesis.stop_stream_encryption(StreamARN=stream, EncryptionType="KMS", KeyId=KEY)) == {}
    shown = kinesis.describe_stream(StreamName="s")["StreamDescription"]
    assert (shown["EncryptionType"], "KeyId" in shown) == ("NONE", False)


def test_enable_enhanced_monitoring(kinesis: Any, stream: str) -> None:
    answer = kinesis.enable_enhanced_monitoring(StreamName="s", ShardLevelMetrics=["OutgoingBytes"])
    assert plain(answer) == {
        "StreamName": "s",
        "StreamARN": stream,
        "CurrentShardLevelMetrics": [],
        "DesiredShardLevelMetrics": ["OutgoingBytes"],
    }
    answer = kinesis.enable_enhanced_monitoring(StreamARN=stream, ShardLevelMetrics=["ALL"])
    assert answer["CurrentShardLevelMetrics"] == ["OutgoingBytes"]
    assert answer["DesiredShardLevelMetrics"] == METRICS
    assert summary(kinesis)["EnhancedMonitoring"] == [{"ShardLevelMetrics": METRICS}]


def test_disable_enhanced_monitoring(kinesis: Any, stream: str) -> None:
    kinesis.enable_enhanced_monitoring(StreamName="s", ShardLevelMetrics=["ALL"])
    answer = kinesis.disable_enhanced_monitoring(StreamName="s", ShardLevelMetrics=METRICS[1:])
    assert answer["CurrentShardLevelMetrics"] == METRICS
    assert answer["DesiredShardLevelMetrics"] == METRICS[:1]


def test_update_stream_mode(kinesis: Any, stream: str) -> None:
    assert plain(kinesis.update_stream_mode(StreamARN=stream, StreamModeDetails={"StreamMode": "ON_DEMAND"})) == {}
    assert summary(kinesis)["StreamModeDetails"] == {"StreamMode": "ON_DEMAND"}
    kinesis.update_stream_mode(StreamARN=stream, StreamModeDetails={"StreamMode": "PROVISIONED"})
    assert summary(kinesis)["StreamModeDetails"] == {"StreamMode": "PROVISIONED"}


def test_update_max_record_size(kinesis: Any, stream: str) -> None:
    large = b"x" * (10 * 1024 * 1024 - 1)
    with pytest.raises(kinesis.exceptions.ValidationException):
        kinesis.put_record(StreamName="s", Data=large, PartitionKey="k")
    assert plain(kinesis.update_max_record_size(StreamARN=stream, MaxRecordSizeInKiB=10240)) == {}
    assert summary(kinesis)["MaxRecordSizeInKiB"] == 10240
    kinesis.put_record(StreamName="s", Data=large, PartitionKey="k")
    assert read(kinesis)["Records"][0]["Data"] == large


def test_update_stream_warm_throughput(kinesis: Any, account: str) -> None:
    kinesis.create_stream(StreamName="s", StreamModeDetails={"StreamMode": "ON_DEMAND"})
    assert "WarmThroughput" not in summary(kinesis)
    kinesis.update_account_settings(MinimumThroughputBillingCommitment={"Status": "ENABLED"})
    assert summary(kinesis)["WarmThroughput"] == {"TargetMiBps": 4, "CurrentMiBps": 4}
    answer = kinesis.update_stream_warm_throughput(StreamName="s", WarmThroughputMiBps=10)
    assert plain(answer) == {
        "StreamName": "s",
        "StreamARN": f"arn:aws:kinesis:{REGION}:{account}:stream/s",
        "WarmThroughput": {"TargetMiBps": 10, "CurrentMiBps": 4},
    }
    shown = summary(kinesis)
    assert shown["WarmThroughput"] == {"TargetMiBps": 10, "CurrentMiBps": 10}
    assert shown["OpenShardCount"] == 10


def test_update_stream_record_distribution_strategy(kinesis: Any, account: str) -> None:
    kinesis.create_stream(StreamName="s", StreamModeDetails={"StreamMode": "ON_DEMAND"})
    assert summary(kinesis)["RecordDistributionStrategy"] == "USER_PARTITION_KEY"
    arn = f"arn:aws:kinesis:{REGION}:{account}:stream/s"
    kinesis.update_stream_record_distribution_strategy(StreamARN=arn, RecordDistributionStrategy="AUTO")
    assert summary(kinesis)["RecordDistributionStrategy"] == "AUTO"
    same = [{"Data": b"x", "PartitionKey": "k"}, {"Data": b"y", "PartitionKey": "k"}] * 2
    assert len({put["ShardId"] for put in kinesis.put_records(StreamName="s", Records=same)["Records"]}) == 4
    put = kinesis.put_record(StreamName="s", Data=b"no key")
    records = read(kinesis, put["ShardId"])["Records"]
    assert [record.get("PartitionKey") for record in records] == ["k", None]


# records


def test_put_record(kinesis: Any) -> None:
    kinesis.create_stream(StreamName="s", ShardCount=2)
    hashed = int(hashlib.md5("schlüssel".encode()).hexdigest(), 16)
    put = kinesis.put_record(StreamName="s", Data=b"a", PartitionKey="schlüssel")
    assert put["ShardId"] == f"shardId-{hashed >> 127:012d}"
    assert re.fullmatch("[0-9]{56}", put["SequenceNumber"])
    assert plain(put) == {"ShardId": put["ShardId"], "SequenceNumber": put["SequenceNumber"]}
    numbers = [put["SequenceNumber"]]
    for _ in range(3):
        put = kinesis.put_record(
            StreamName="s", Data=b"", PartitionKey="schlüssel", SequenceNumberForOrdering=put["SequenceNumber"]
        )
        numbers.append(put["SequenceNumber"])
    assert numbers == sorted(numbers, key=int)
    for hash_key, shard in ((0, 0), (2**127 - 1, 0), (2**127, 1), (MAX_HASH_KEY, 1)):
        put = kinesis.put_record(StreamName="s", Data=b"a", PartitionKey="k", ExplicitHashKey=str(hash_key))
        assert put["ShardId"] == f"shardId-{shard:012d}"


def test_put_records(kinesis: Any, stream: str) -> None:
    entries = [{"Data": b"%03d" % number, "PartitionKey": f"k{number}"} for number in range(500)]
    answer = kinesis.put_records(StreamARN=stream, Records=entries)
    assert answer["FailedRecordCount"] == 0
    assert {tuple(sorted(entry)) for entry in answer["Records"]} == {("SequenceNumber", "ShardId")}
    numbers = [entry["SequenceNumber"] for entry in answer["Records"]]
    assert numbers == sorted(set(numbers), key=int)
    records = read(kinesis)["Records"]
    assert [(r["Data"], r["PartitionKey"]) for r in records] == [(e["Data"], e["PartitionKey"]) for e in entries]
    assert [record["SequenceNumber"] for record in records] == numbers


def test_get_shard_iterator(kinesis: Any, stream: str) -> None:
    first, second = (kinesis.put_record(StreamName="s", Data=data, PartitionKey="k") for data in (b"1", b"2"))

    def data(kind: str, **given: Any) -> list[bytes]:
        return [record["Data"] for record in read(kinesis, kind=kind, **given)["Records"]]

    assert data("TRIM_HORIZON") == [b"1", b"2"]
    assert data("LATEST") == []
    assert data("AT_SEQUENCE_NUMBER", StartingSequenceNumber=second["SequenceNumber"]) == [b"2"]
    assert data("AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=first["SequenceNumber"]) == [b"2"]
    assert data("AT_TIMESTAMP", Timestamp=0) == [b"1", b"2"]
    arrived = [record["ApproximateArrivalTimestamp"] for record in read(kinesis)["Records"]]
    assert data("AT_TIMESTAMP", Timestamp=arrived[0]) == [b"1", b"2"]
    if arrived[0] < arrived[1]:
        assert data("AT_TIMESTAMP", Timestamp=arrived[1]) == [b"2"]
    iterator = kinesis.get_shard_iterator(
        StreamARN=stream, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    assert 1 <= len(iterator) <= 512


def test_get_records(kinesis: Any, stream: str) -> None:
    before = datetime.now(UTC)
    put = kinesis.put_record(StreamName="s", Data=bytes(range(256)), PartitionKey="k")
    answer = read(kinesis)
    (record,) = answer["Records"]
    arrived = record.pop("ApproximateArrivalTimestamp")
    assert before - timedelta(seconds=1) < arrived < before + timedelta(minutes=1)
    assert record == {"SequenceNumber": put["SequenceNumber"], "Data": bytes(range(256)), "PartitionKey": "k"}
    assert plain(answer) == {
        "Records": answer["Records"],
        "NextShardIterator": answer["NextShardIterator"],
        "MillisBehindLatest": 0,
    }
    again = kinesis.get_records(ShardIterator=answer["NextShardIterator"], Limit=1, StreamARN=stream)
    assert again["Records"] == []
    kinesis.split_shard(StreamName="s", ShardToSplit="shardId-000000000000", NewStartingHashKey="10")
    last = kinesis.get_records(ShardIterator=again["NextShardIterator"])
    assert "NextShardIterator" not in last
    assert last["ChildShards"] == [
        {
            "ShardId": "shardId-000000000001",
            "ParentShards": ["shardId-000000000000"],
            "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "9"},
        },
        {
            "ShardId": "shardId-000000000002",
            "ParentShards": ["shardId-000000000000"],
            "HashKeyRange": {"StartingHashKey": "10", "EndingHashKey": str(MAX_HASH_KEY)},
        },
    ]


# consumers


def test_register_stream_consumer(kinesis: Any, stream: str) -> None:
    answer = kinesis.register_stream_consumer(StreamARN=stream, ConsumerName="c", Tags={"team": "a"})["Consumer"]
    created = int(answer.pop("ConsumerCreationTimestamp").timestamp())
    arn = f"{stream}/consumer/c:{created}"
    assert answer == {"ConsumerName": "c", "ConsumerARN": arn, "ConsumerStatus": "CREATING"}  # as AWS always says
    shown = kinesis.describe_stream_consumer(ConsumerARN=arn)["ConsumerDescription"]
    assert shown["ConsumerStatus"] == "ACTIVE"
    assert kinesis.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "team", "Value": "a"}]


def test_deregister_stream_consumer(kinesis: Any, stream: str, consumer: str) -> None:
    assert plain(kinesis.deregister_stream_consumer(ConsumerARN=consumer)) == {}
    kinesis.register_stream_consumer(StreamARN=stream, ConsumerName="d")
    kinesis.deregister_stream_consumer(StreamARN=stream, ConsumerName="d")
    assert kinesis.list_stream_consumers(StreamARN=stream)["Consumers"] == []


def test_describe_stream_consumer(kinesis: Any, stream: str, consumer: str) -> None:
    shown = kinesis.describe_stream_consumer(ConsumerARN=consumer)["ConsumerDescription"]
    assert shown == {
        "ConsumerName": "c",
        "ConsumerARN": consumer,
        "ConsumerStatus": "ACTIVE",
        "ConsumerCreationTimestamp": shown["ConsumerCreationTimestamp"],
        "StreamARN": stream,
    }
    by_name = kinesis.describe_stream_consumer(StreamARN=stream, ConsumerName="c")
    assert by_name["ConsumerDescription"] == shown
    by_all = kinesis.describe_stream_consumer(StreamARN=stream, ConsumerName="c", ConsumerARN=consumer)
    assert by_all["ConsumerDescription"] == shown


def test_list_stream_consumers(kinesis: Any, stream: str) -> None:
    made = [
        kinesis.register_stream_consumer(StreamARN=stream, ConsumerName=f"c{number}")["Consumer"]["ConsumerARN"]
        for number in range(5)
    ]
    page = kinesis.list_stream_consumers(StreamARN=stream, MaxResults=2)
    listed = page["Consumers"]
    assert sorted(listed[0]) == ["ConsumerARN", "ConsumerCreationTimestamp", "ConsumerName", "ConsumerStatus"]
    while "NextToken" in page:
        page = kinesis.list_stream_consumers(StreamARN=stream, NextToken=page["NextToken"], MaxResults=2)
        listed += page["Consumers"]
    assert sorted(consumer["ConsumerARN"] for consumer in listed) == sorted(made)
    created = summary(kinesis)["StreamCreationTimestamp"]
    assert len(kinesis.list_stream_consumers(StreamARN=stream, StreamCreationTimestamp=created)["Consumers"]) == 5
    pages = kinesis.get_paginator("list_stream_consumers").paginate(StreamARN=stream, PaginationConfig={"PageSize": 2})
    assert [consumer for page in pages for consumer in page["Consumers"]] == listed


def test_subscribe_to_shard(kinesis: Any, stream: str, consumer: str) -> None:
    put = kinesis.put_record(StreamName="s", Data=b"1", PartitionKey="k")
    events = kinesis.subscribe_to_shard(
        ConsumerARN=consumer, ShardId="shardId-000000000000", StartingPosition={"Type": "TRIM_HORIZON"}
    )["EventStream"]
    event = next(iter(events))["SubscribeToShardEvent"]
    events.close()
    (record,) = event["Records"]
    assert isinstance(record.pop("ApproximateArrivalTimestamp"), datetime)
    assert record == {"SequenceNumber": put["SequenceNumber"], "Data": b"1", "PartitionKey": "k"}
    assert sorted(event) == ["ContinuationSequenceNumber", "MillisBehindLatest", "Records"]


# tags


def test_add_tags_to_stream(kinesis: Any, stream: str) -> None:
    assert plain(kinesis.add_tags_to_stream(StreamName="s", Tags={"a": "1", "b": ""})) == {}
    kinesis.add_tags_to_stream(StreamARN=stream, Tags={"b": "2"})
    tags = kinesis.list_tags_for_stream(StreamName="s")["Tags"]
    assert tags == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]


def test_remove_tags_from_stream(kinesis: Any, stream: str) -> None:
    kinesis.add_tags_to_stream(StreamName="s", Tags={"a": "1", "b": "2"})
    assert plain(kinesis.remove_tags_from_stream(StreamName="s", TagKeys=["a", "none"])) == {}
    assert kinesis.list_tags_for_stream(StreamName="s")["Tags"] == [{"Key": "b", "Value": "2"}]


def test_list_tags_for_stream(kinesis: Any, stream: str) -> None:
    kinesis.add_tags_to_stream(StreamName="s", Tags={f"k{number}": "v" for number in range(5)})
    page = kinesis.list_tags_for_stream(StreamName="s", Limit=3)
    assert ([tag["Key"] for tag in page["Tags"]], page["HasMoreTags"]) == (["k0", "k1", "k2"], True)
    page = kinesis.list_tags_for_stream(StreamARN=stream, ExclusiveStartTagKey="k2")
    assert ([tag["Key"] for tag in page["Tags"]], page["HasMoreTags"]) == (["k3", "k4"], False)


def test_tag_resource(kinesis: Any, stream: str, consumer: str) -> None:
    for arn in (stream, consumer):
        assert plain(kinesis.tag_resource(ResourceARN=arn, Tags={"a": "ä", "b": "2"})) == {}
        tags = kinesis.list_tags_for_resource(ResourceARN=arn)["Tags"]
        assert tags == [{"Key": "a", "Value": "ä"}, {"Key": "b", "Value": "2"}]


def test_untag_resource(kinesis: Any, stream: str, consumer: str) -> None:
    for arn in (stream, consumer):
        kinesis.tag_resource(ResourceARN=arn, Tags={"a": "1", "b": "2"})
        assert plain(kinesis.untag_resource(ResourceARN=arn, TagKeys=["b"])) == {}
        assert kinesis.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "a", "Value": "1"}]


def test_list_tags_for_resource(kinesis: Any, stream: str) -> None:
    assert plain(kinesis.list_tags_for_resource(ResourceARN=stream)) == {"Tags": []}
    kinesis.add_tags_to_stream(StreamName="s", Tags={"a": "1"})
    assert kinesis.list_tags_for_resource(ResourceARN=stream)["Tags"] == [{"Key": "a", "Value": "1"}]


# policies


def policy(arn: str, account: str, *actions: str) -> str:
    statement = {
        "Sid": "share",
        "Effect": "Allow",
        "Principal": {"AWS": account},
        "Action": [f"kinesis:{action}" for action in actions],
        "Resource": arn,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_put_resource_policy(kinesis: Any, stream: str, consumer: str) -> None:
    for arn in (stream, consumer):
        text = policy(arn, "111122223333", "DescribeStreamSummary")
        assert plain(kinesis.put_resource_policy(ResourceARN=arn, Policy=text)) == {}
        assert kinesis.get_resource_policy(ResourceARN=arn)["Policy"] == text


def test_get_resource_policy(kinesis: Any, stream: str) -> None:
    assert plain(kinesis.get_resource_policy(ResourceARN=stream)) == {"Policy": "{}"}


def test_delete_resource_policy(kinesis: Any, stream: str) -> None:
    kinesis.put_resource_policy(ResourceARN=stream, Policy=policy(stream, "111122223333", "PutRecord"))
    assert plain(kinesis.delete_resource_policy(ResourceARN=stream)) == {}
    assert kinesis.get_resource_policy(ResourceARN=stream)["Policy"] == "{}"


def test_a_policy_lets_another_account_in(start_sidebus: Any, connect: Any) -> None:
    owner, guest = "111111111111", "222222222222"
    keys = ("--key", f"{owner}=o", "--key", f"{guest}=g")
    server = start_sidebus("--auth", "strict", *keys)
    own = connect(server, "kinesis", account=owner, secret="o")
    other = connect(server, "kinesis", account=guest, secret="g")
    own.create_stream(StreamName="s", ShardCount=2)
    arn = f"arn:aws:kinesis:{REGION}:{owner}:stream/s"
    consumer = own.register_stream_consumer(StreamARN=arn, ConsumerName="c")["Consumer"]["ConsumerARN"]
    shard = "shardId-000000000000"
    start = {"Type": "TRIM_HORIZON"}

    def refusal(call: Any, **given: Any) -> str:
        with pytest.raises(other.exceptions.AccessDeniedException) as caught:
            call(**given)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        return str(caught.value.response["Error"]["Message"])

    assert refusal(other.put_record, StreamARN=arn, Data=b"x", PartitionKey="k") == (
        f"User: arn:aws:iam::{guest}:user/sidebus is not authorized to perform: kinesis:PutRecord on resource: {arn} "
        "because no resource-based policy allows the kinesis:PutRecord action"
    )
    iterator = own.get_shard_iterator(StreamName="s", ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    assert "kinesis:GetRecords" in refusal(other.get_records, ShardIterator=iterator)
    assert consumer in refusal(other.subscribe_to_shard, ConsumerARN=consumer, ShardId=shard, StartingPosition=start)
    own.put_resource_policy(ResourceARN=arn, Policy=policy(arn, guest, "PutRecord", "GetRecords", "PutResourcePolicy"))
    own.put_resource_policy(ResourceARN=consumer, Policy=policy(consumer, guest, "SubscribeToShard"))
    other.put_record(StreamARN=arn, Data=b"x", PartitionKey="k", ExplicitHashKey="0")
    assert [record["Data"] for record in other.get_records(ShardIterator=iterator)["Records"]] == [b"x"]
    events = other.subscribe_to_shard(ConsumerARN=consumer, ShardId=shard, StartingPosition=start)["EventStream"]
    assert next(iter(events))["SubscribeToShardEvent"]["Records"][0]["Data"] == b"x"
    events.close()
    assert "kinesis:DescribeStreamConsumer" in refusal(other.describe_stream_consumer, ConsumerARN=consumer)
    assert "kinesis:DeleteStream" in refusal(other.delete_stream, StreamARN=arn)
    token = own.list_shards(StreamName="s", MaxResults=1)["NextToken"]
    assert "kinesis:ListShards" in refusal(other.list_shards, NextToken=token)
    refusal(other.put_resource_policy, ResourceARN=arn, Policy=policy(arn, guest, "DeleteStream"))  # its owner's alone
    with pytest.raises(other.exceptions.ResourceNotFoundException):  # a name is of one's own account
        other.describe_stream(StreamName="s")


# the account


def test_describe_limits(kinesis: Any, stream: str) -> None:
    kinesis.create_stream(StreamName="d", StreamModeDetails={"StreamMode": "ON_DEMAND"})
    assert (
        plain(kinesis.describe_limits()).items()
        >= {
            "ShardLimit": 20_000,
            "OpenShardCount": 1,
            "OnDemandStreamCount": 1,
            "OnDemandStreamCountLimit": 50,
        }.items()
    )


def test_describe_account_settings(kinesis: Any) -> None:
    answer = plain(kinesis.describe_account_settings())
    assert answer == {"MinimumThroughputBillingCommitment": {"Status": "DISABLED"}}


def test_update_account_settings(kinesis: Any) -> None:
    def update(status: str) -> dict[str, Any]:
        answer = kinesis.update_account_settings(MinimumThroughputBillingCommitment={"Status": status})
        assert plain(kinesis.describe_account_settings()) == plain(answer)
        return answer["MinimumThroughputBillingCommitment"]  # type: ignore[no-any-return]

    enabled = update("ENABLED")
    started = enabled["StartedAt"]
    assert enabled == {
        "Status": "ENABLED",
        "StartedAt": started,
        "EarliestAllowedEndAt": started + timedelta(days=1),
    }
    ending = update("DISABLED")
    assert ending == {
        "Status": "ENABLED_UNTIL_EARLIEST_ALLOWED_END",
        "StartedAt": started,
        "EndedAt": started + timedelta(days=1),
        "EarliestAllowedEndAt": started + timedelta(days=1),
    }


def test_events_become_records(kinesis: Any, connect: Any, sidebus: Any, stream: str, account: str) -> None:
    events = connect(sidebus, "events")
    events.put_rule(Name="r", EventPattern=json.dumps({"source": ["shop"]}))
    target = {
        "Id": "t",
        "Arn": stream,
        "RoleArn": f"arn:aws:iam::{account}:role/r",
        "KinesisParameters": {"PartitionKeyPath": "$.detail.order"},
    }
    assert events.put_targets(Rule="r", Targets=[target])["FailedEntryCount"] == 0
    sent = events.put_events(Entries=[{"Source": "shop", "DetailType": "d", "Detail": '{"order":"o-1"}'}])
    (record,) = read(kinesis)["Records"]
    assert record["PartitionKey"] == "o-1"
    assert json.loads(record["Data"])["id"] == sent["Entries"][0]["EventId"]


def test_regions_are_worlds_of_their_own(kinesis: Any, connect: Any, sidebus: Any, stream: str) -> None:
    elsewhere = connect(sidebus, "kinesis", region="eu-west-1")
    assert elsewhere.list_streams()["StreamNames"] == []
    with pytest.raises(elsewhere.exceptions.ResourceNotFoundException):
        elsewhere.describe_stream(StreamARN=stream)
    with pytest.raises(elsewhere.exceptions.ResourceNotFoundException):
        elsewhere.tag_resource(ResourceARN=stream, Tags={"a": "b"})


def test_the_wait_for_a_stream_can_be_chosen(start_sidebus: Any, connect: Any) -> None:
    server = start_sidebus("--stream-wait", "0.3")
    kinesis = connect(server, "kinesis")
    kinesis.create_stream(StreamName="s", ShardCount=1)
    assert summary(kinesis)["StreamStatus"] == "CREATING"
    kinesis.get_waiter("stream_exists").wait(StreamName="s", WaiterConfig={"Delay": 1})
    kinesis.delete_stream(StreamName="s")
    assert summary(kinesis)["StreamStatus"] == "DELETING"
    server.stop()

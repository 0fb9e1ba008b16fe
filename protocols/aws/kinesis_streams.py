"""Kinesis's streams and their shards: made, described, changed, resharded, deleted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker.errors import InvalidArgumentException
from broker.streams import Shard, Stream
from broker.streams.stream import KMS, ON_DEMAND
from protocols.aws.call import Call, Operation, Result
from protocols.aws.kinesis_access import check_access, find_stream, moment_ms
from protocols.aws.kinesis_records import shown_range


def create_stream(call: Call) -> Result:
    given = call.parameters
    call.broker.streams.definitions.create(
        call.world,
        given["StreamName"],
        given.get("ShardCount"),
        mode=given.get("StreamModeDetails", {}).get("StreamMode"),
        tags=given.get("Tags"),
        max_record_kib=given.get("MaxRecordSizeInKiB"),
        warm_mibps=given.get("WarmThroughputMiBps"),
        distribution=given.get("RecordDistributionStrategy"),
    )
    return {}


def delete_stream(call: Call) -> Result:
    call.broker.streams.definitions.delete(
        find_stream(call), enforce_consumer_deletion=call.parameters.get("EnforceConsumerDeletion", False)
    )
    return {}


def describe_stream(call: Call) -> Result:
    given, streams = call.parameters, call.broker.streams
    stream = find_stream(call)
    streams.count_call("DescribeStream", stream.world, stream)
    shards, more = streams.shards.page(stream, given.get("ExclusiveStartShardId"), given.get("Limit"))
    return {"StreamDescription": {**_described(stream), "Shards": _shown_shards(shards), "HasMoreShards": more}}


def describe_stream_summary(call: Call) -> Result:
    streams = call.broker.streams
    stream = find_stream(call)
    streams.count_call("DescribeStreamSummary", stream.world, stream)
    summary = {
        **_described(stream),
        "StreamId": stream.stream_id,
        "OpenShardCount": len(stream.open_shards),
        "ConsumerCount": len(stream.consumers),
        "QueueCount": streams.queues.count(stream),
        "ChannelCount": streams.channels.count(stream),
        "MaxRecordSizeInKiB": stream.max_record_kib,
    }
    if stream.mode == ON_DEMAND:
        summary["RecordDistributionStrategy"] = stream.distribution
        if streams.accounts.is_committed(stream.world):
            summary["WarmThroughput"] = _shown_warm(streams.definitions.warm_throughput(stream))
    return {"StreamDescriptionSummary": summary}


def _described(stream: Stream) -> Result:
    """What both ways to describe a stream have in common."""
    described = {
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "StreamStatus": stream.status,
        "StreamModeDetails": {"StreamMode": stream.mode},
        "RetentionPeriodHours": stream.retention_h,
        "StreamCreationTimestamp": stream.created_ms // 1000,
        "EnhancedMonitoring": [{"ShardLevelMetrics": stream.metrics}],
        "EncryptionType": stream.encryption,
    }
    if stream.encryption == KMS:
        described["KeyId"] = stream.key_id
    return described


def _shown_shards(shards: Iterable[Shard]) -> list[dict[str, Any]]:
    shown = []
    for shard in shards:
        numbers = {"StartingSequenceNumber": shard.starting_sequence_number}
        if (last := shard.ending_sequence_number) is not None:
            numbers["EndingSequenceNumber"] = last
        entry: dict[str, Any] = {
            "ShardId": shard.shard_id,
            "HashKeyRange": shown_range(shard),
            "SequenceNumberRange": numbers,
        }
        if shard.parent_id is not None:
            entry["ParentShardId"] = shard.parent_id
        if shard.adjacent_parent_id is not None:
            entry["AdjacentParentShardId"] = shard.adjacent_parent_id
        shown.append(entry)
    return shown


def list_streams(call: Call) -> Result:
    given = call.parameters
    streams, token = call.broker.streams.definitions.list_streams(
        call.world,
        after=given.get("ExclusiveStartStreamName"),
        limit=given.get("Limit"),
        token=given.get("NextToken"),
    )
    result: Result = {
        "StreamNames": [stream.name for stream in streams],
        "HasMoreStreams": token is not None,
        "StreamSummaries": [
            {
                "StreamName": stream.name,
                "StreamARN": stream.arn,
                "StreamStatus": stream.status,
                "StreamModeDetails": {"StreamMode": stream.mode},
                "StreamCreationTimestamp": stream.created_ms // 1000,
            }
            for stream in streams
        ],
    }
    if token is not None:
        result["NextToken"] = token
    return result


# shards -------------------------------------------------------------------------------------------


def list_shards(call: Call) -> Result:
    given = call.parameters
    token, stream = given.get("NextToken"), None
    if token is None:
        stream = find_stream(call)
    else:
        for name in ("StreamName", "StreamARN", "ExclusiveStartShardId", "StreamCreationTimestamp"):
            if name in given:  # AWS's words: aws/aws-cli#9635, awslabs/amazon-kinesis-scaling-utils#82
                raise InvalidArgumentException(f"NextToken and {name} cannot be provided together.")
    created, asked = given.get("StreamCreationTimestamp"), given.get("ShardFilter", {})
    moment = asked.get("Timestamp")
    listed, shards, more = call.broker.streams.shards.list_shards(
        call.world,
        stream,
        token=token,
        after=given.get("ExclusiveStartShardId"),
        limit=given.get("MaxResults"),
        created_ms=None if created is None else moment_ms(created),
        filter_type=asked.get("Type"),
        filter_shard_id=asked.get("ShardId"),
        filter_timestamp_ms=None if moment is None else moment_ms(moment),
    )
    if token is not None:
        check_access(call, listed, listed.world)
    result: Result = {"Shards": _shown_shards(shards)}
    if more is not None:
        result["NextToken"] = more
    return result


def split_shard(call: Call) -> Result:
    given = call.parameters
    call.broker.streams.shards.split(find_stream(call), given["ShardToSplit"], given["NewStartingHashKey"])
    return {}


def merge_shards(call: Call) -> Result:
    given = call.parameters
    call.broker.streams.shards.merge(find_stream(call), given["ShardToMerge"], given["AdjacentShardToMerge"])
    return {}


def update_shard_count(call: Call) -> Result:
    given = call.parameters
    stream = find_stream(call)
    current, target = call.broker.streams.shards.update_count(stream, given["TargetShardCount"], given["ScalingType"])
    return {
        "StreamName": stream.name,
        "CurrentShardCount": current,
        "TargetShardCount": target,
        "StreamARN": stream.arn,
    }


# settings -----------------------------------------------------------------------------------------


def increase_stream_retention_period(call: Call) -> Result:
    call.broker.streams.definitions.increase_retention(find_stream(call), call.parameters["RetentionPeriodHours"])
    return {}


def decrease_stream_retention_period(call: Call) -> Result:
    call.broker.streams.definitions.decrease_retention(find_stream(call), call.parameters["RetentionPeriodHours"])
    return {}


def start_stream_encryption(call: Call) -> Result:
    given = call.parameters
    call.broker.streams.definitions.start_encryption(find_stream(call), given["EncryptionType"], given["KeyId"])
    return {}


def stop_stream_encryption(call: Call) -> Result:
    given = call.parameters
    call.broker.streams.definitions.stop_encryption(find_stream(call), given["EncryptionType"], given["KeyId"])
    return {}


def enable_enhanced_monitoring(call: Call) -> Result:
    stream = find_stream(call)
    changed = call.broker.streams.definitions.enable_monitoring(stream, call.parameters["ShardLevelMetrics"])
    return _monitoring(stream, *changed)


def disable_enhanced_monitoring(call: Call) -> Result:
    stream = find_stream(call)
    changed = call.broker.streams.definitions.disable_monitoring(stream, call.parameters["ShardLevelMetrics"])
    return _monitoring(stream, *changed)


def _monitoring(stream: Stream, before: list[str], after: list[str]) -> Result:
    return {
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "CurrentShardLevelMetrics": before,
        "DesiredShardLevelMetrics": after,
    }


def update_stream_mode(call: Call) -> Result:
    given = call.parameters
    call.broker.streams.definitions.update_mode(
        find_stream(call), given["StreamModeDetails"]["StreamMode"], given.get("WarmThroughputMiBps")
    )
    return {}


def update_max_record_size(call: Call) -> Result:
    call.broker.streams.definitions.update_max_record_size(find_stream(call), call.parameters["MaxRecordSizeInKiB"])
    return {}


def update_stream_warm_throughput(call: Call) -> Result:
    stream = find_stream(call)
    warm = call.broker.streams.definitions.update_warm_throughput(stream, call.parameters["WarmThroughputMiBps"])
    return {"StreamARN": stream.arn, "StreamName": stream.name, "WarmThroughput": _shown_warm(warm)}


def _shown_warm(target_and_current: tuple[int, int]) -> Result:
    target, current = target_and_current
    return {"TargetMiBps": target, "CurrentMiBps": current}


def update_stream_record_distribution_strategy(call: Call) -> Result:
    strategy = call.parameters["RecordDistributionStrategy"]
    call.broker.streams.definitions.update_distribution(find_stream(call), strategy)
    return {}


OPERATIONS: dict[str, Operation] = {
    "CreateStream": create_stream,
    "DecreaseStreamRetentionPeriod": decrease_stream_retention_period,
    "DeleteStream": delete_stream,
    "DescribeStream": describe_stream,
    "DescribeStreamSummary": describe_stream_summary,
    "DisableEnhancedMonitoring": disable_enhanced_monitoring,
    "EnableEnhancedMonitoring": enable_enhanced_monitoring,
    "IncreaseStreamRetentionPeriod": increase_stream_retention_period,
    "ListShards": list_shards,
    "ListStreams": list_streams,
    "MergeShards": merge_shards,
    "SplitShard": split_shard,
    "StartStreamEncryption": start_stream_encryption,
    "StopStreamEncryption": stop_stream_encryption,
    "UpdateMaxRecordSize": update_max_record_size,
    "UpdateShardCount": update_shard_count,
    "UpdateStreamMode": update_stream_mode,
    "UpdateStreamRecordDistributionStrategy": update_stream_record_distribution_strategy,
    "UpdateStreamWarmThroughput": update_stream_warm_throughput,
}

"""Kinesis's records: PutRecord, PutRecords, GetShardIterator, GetRecords, and how a record is shown.

This is the hot path: what is done for each record is one comprehension in, one out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker.streams import Put, Putting, Record, Shard, Stream
from protocols.aws.call import Call, Operation, Result
from protocols.aws.kinesis_access import check_access, find_stream, moment_ms


def put_record(call: Call) -> Result:
    given = call.parameters
    stream = find_stream(call)
    put = call.broker.streams.records.put_record(
        stream,
        Putting(given["Data"], given.get("PartitionKey"), given.get("ExplicitHashKey")),
        given.get("SequenceNumberForOrdering"),
        dry_run=given.get("DryRun", False),
    )
    return {"ShardId": put.shard_id, "SequenceNumber": put.sequence_number, **_encryption(stream)}


def put_records(call: Call) -> Result:
    given = call.parameters
    stream = find_stream(call)
    outcomes = call.broker.streams.records.put_records(
        stream,
        [Putting(e["Data"], e.get("PartitionKey"), e.get("ExplicitHashKey")) for e in given["Records"]],
        dry_run=given.get("DryRun", False),
    )
    entries: list[dict[str, str]] = []
    failed = 0
    for outcome in outcomes:
        if type(outcome) is Put:
            shard_id, sequence_number = outcome
            entries.append({"SequenceNumber": sequence_number, "ShardId": shard_id})
        else:
            failed += 1
            code, message = outcome
            entries.append({"ErrorCode": code, "ErrorMessage": message})
    return {"FailedRecordCount": failed, "Records": entries, **_encryption(stream)}


def get_shard_iterator(call: Call) -> Result:
    given = call.parameters
    moment = given.get("Timestamp")
    iterator = call.broker.streams.records.get_shard_iterator(
        find_stream(call),
        given["ShardId"],
        given["ShardIteratorType"],
        given.get("StartingSequenceNumber"),
        None if moment is None else moment_ms(moment),
        dry_run=given.get("DryRun", False),
    )
    return {"ShardIterator": iterator}


def get_records(call: Call) -> Result:
    given = call.parameters
    iterator, records = given["ShardIterator"], call.broker.streams.records
    stream = None
    if "StreamARN" in given or "StreamId" in given:
        stream = find_stream(call)
    elif call.enforce_policies:
        stream = records.stream_of(iterator)
        check_access(call, stream, stream.world)
    page = records.get_records(iterator, given.get("Limit"), stream, dry_run=given.get("DryRun", False))
    result: Result = {"Records": shown_records(page.records), "MillisBehindLatest": page.behind_ms}
    if page.next_iterator is not None:
        result["NextShardIterator"] = page.next_iterator
    else:
        result["ChildShards"] = shown_children(page.child_shards)
    return result


def shown_records(records: Iterable[Record]) -> list[dict[str, Any]]:
    shown = []
    for number, arrival_ms, data, key, is_encrypted in records:
        entry = {
            "SequenceNumber": number,
            "ApproximateArrivalTimestamp": arrival_ms / 1000,
            "Data": data,
            "PartitionKey": key,
        }
        if key is None:
            del entry["PartitionKey"]
        if is_encrypted:
            entry["EncryptionType"] = "KMS"
        shown.append(entry)
    return shown


def shown_children(shards: Iterable[Shard]) -> list[dict[str, Any]]:
    return [
        {"ShardId": shard.shard_id, "ParentShards": shard.parent_ids, "HashKeyRange": shown_range(shard)}
        for shard in shards
    ]


def shown_range(shard: Shard) -> dict[str, str]:
    return {"StartingHashKey": str(shard.starting_hash_key), "EndingHashKey": str(shard.ending_hash_key)}


def _encryption(stream: Stream) -> Result:
    """AWS leaves it out where there is none."""
    return {"EncryptionType": "KMS"} if stream.encryption == "KMS" else {}


OPERATIONS: dict[str, Operation] = {
    "GetRecords": get_records,
    "GetShardIterator": get_shard_iterator,
    "PutRecord": put_record,
    "PutRecords": put_records,
}

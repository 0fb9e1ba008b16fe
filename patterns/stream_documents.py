"""What Lambda writes of a stream: a record and a tumbling window in an event, and what it tells a destination.

The key order is that of AWS's guide. `invocation_record` has no data: it says where in the stream the records are, and
whoever wants them must fetch them before they expire.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from patterns.stream_batches import Batch, Window


def kinesis_event_record(
    record: Mapping[str, Any], stream_arn: str, shard_id: str, role_arn: str | None = None
) -> dict[str, Any]:
    """A record of GetRecords as Lambda gives it: https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html"""
    _, partition, _, region, account, _ = stream_arn.split(":", 5)
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": record["PartitionKey"],
            "sequenceNumber": record["SequenceNumber"],
            "data": base64.b64encode(record["Data"]).decode(),
            "approximateArrivalTimestamp": arrival_ms(record) / 1000,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard_id}:{record['SequenceNumber']}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": role_arn or f"arn:{partition}:iam::{account}:role/lambda-role",
        "awsRegion": region,
        "eventSourceARN": stream_arn,
    }


def arrival_ms(record: Mapping[str, Any]) -> int:
    arrival = record["ApproximateArrivalTimestamp"]
    return round((arrival.timestamp() if isinstance(arrival, datetime) else arrival) * 1000)


def window_members(window: Window, shard_id: str, stream_arn: str, *, is_final: bool, is_early: bool) -> dict[str, Any]:
    """What an event of a tumbling window has besides its records.

    https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-windows.html
    """
    return {
        "window": {"start": _moment(window.start_ms, "seconds"), "end": _moment(window.end_ms, "seconds")},
        "state": window.state,
        "shardId": shard_id,
        "eventSourceARN": stream_arn,
        "isFinalInvokeForWindow": is_final,
        "isWindowTerminatedEarly": is_early,
    }


class Discard(Enum):
    """requestContext.condition of what a destination is told."""

    RETRIES = "RetryAttemptsExhausted"
    AGE = "RecordAgeExceeded"


def invocation_record(
    batch: Batch, why: Discard, *, request_id: str, function_arn: str, stream_arn: str, shard_id: str, now_ms: int
) -> dict[str, Any]:
    """What Lambda writes to an on-failure destination: where the records are, not the records.

    https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    """
    first, last = batch.records[0], batch.records[-1]
    document: dict[str, Any] = {
        "requestContext": {
            "requestId": request_id,
            "functionArn": function_arn,
            "condition": why.value,
            "approximateInvokeCount": batch.invokes,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": _moment(now_ms),
        "KinesisBatchInfo": {
            "shardId": shard_id,
            "startSequenceNumber": first.sequence_number,
            "endSequenceNumber": last.sequence_number,
            "approximateArrivalOfFirstRecord": _moment(first.arrival_ms),
            "approximateArrivalOfLastRecord": _moment(last.arrival_ms),
            "batchSize": len(batch.records),
            "streamArn": stream_arn,
        },
    }
    if not batch.invokes:
        del document["responseContext"]
    elif not batch.is_error:
        del document["responseContext"]["functionError"]
    return document


def _moment(at_ms: int, precision: str = "milliseconds") -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec=precision)
    return moment.replace("+00:00", "Z")


# Destinations -------------------------------------------------------------------------------------

OnFailure = Callable[[Mapping[str, Any]], Awaitable[None]]


class SqsDestination:
    """An `OnFailure`. `client` is one of aiobotocore or aioboto3, or boto3's through patterns.threads.InThreads."""

    def __init__(self, client: Any, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    async def __call__(self, document: Mapping[str, Any]) -> None:
        await self._client.send_message(QueueUrl=self._queue_url, MessageBody=json.dumps(document))


class SnsDestination:
    """An `OnFailure`, with a client as `SqsDestination` has one."""

    def __init__(self, client: Any, topic_arn: str) -> None:
        self._client = client
        self._topic_arn = topic_arn

    async def __call__(self, document: Mapping[str, Any]) -> None:
        await self._client.publish(TopicArn=self._topic_arn, Message=json.dumps(document))

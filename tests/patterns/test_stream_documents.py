"""What Lambda writes of a stream, as its guide shows it; and destinations that are told by boto3."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from patterns.stream_batches import Batch, StreamRecord, Window
from patterns.stream_documents import (
    Discard,
    invocation_record,
    kinesis_event_record,
    window_members,
)

ARN = "arn:aws:kinesis:us-east-2:123456789012:stream/lambda-stream"
FUNCTION_ARN = "arn:aws:lambda:us-east-2:123456789012:function:myfunction"


def test_a_record_as_the_guide_shows_it() -> None:
    record = {
        "PartitionKey": "1",
        "SequenceNumber": "49590338271490256608559692538361571095921575989136588898",
        "Data": b"Hello, this is a test.",
        "ApproximateArrivalTimestamp": datetime.fromtimestamp(1545084650.987, UTC),
    }
    role = "arn:aws:iam::123456789012:role/lambda-role"
    # https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
    expected = {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "1",
            "sequenceNumber": "49590338271490256608559692538361571095921575989136588898",
            "data": "SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==",
            "approximateArrivalTimestamp": 1545084650.987,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": "shardId-000000000006:49590338271490256608559692538361571095921575989136588898",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": role,
        "awsRegion": "us-east-2",
        "eventSourceARN": ARN,
    }
    assert kinesis_event_record(record, ARN, "shardId-000000000006") == expected
    other = {**record, "ApproximateArrivalTimestamp": 1545084650.987}
    assert kinesis_event_record(other, ARN, "shardId-000000000006", role) == expected


def test_what_a_destination_is_told_is_what_the_guide_shows() -> None:
    first = StreamRecord("49601189658422359378836298521827638475320189012309704722", "k", 1573691884835, "")
    last = StreamRecord("49601189658422359378836298522902373528957594348623495186", "k", 1573691885580, "")
    batch = Batch((first, last), failures=1, invokes=1, is_error=True)

    def told(batch: Batch, why: Discard) -> dict[str, Any]:
        return invocation_record(
            batch,
            why,
            request_id="c9b8fa9f-5a7f-xmpl-af9c-0c604cde93a5",
            function_arn=FUNCTION_ARN,
            stream_arn="arn:aws:kinesis:us-east-2:123456789012:stream/mystream",
            shard_id="shardId-000000000001",
            now_ms=1573691886021,
        )

    # https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    document = {
        "requestContext": {
            "requestId": "c9b8fa9f-5a7f-xmpl-af9c-0c604cde93a5",
            "functionArn": FUNCTION_ARN,
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 1,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2019-11-14T00:38:06.021Z",
        "KinesisBatchInfo": {
            "shardId": "shardId-000000000001",
            "startSequenceNumber": "49601189658422359378836298521827638475320189012309704722",
            "endSequenceNumber": "49601189658422359378836298522902373528957594348623495186",
            "approximateArrivalOfFirstRecord": "2019-11-14T00:38:04.835Z",
            "approximateArrivalOfLastRecord": "2019-11-14T00:38:05.580Z",
            "batchSize": 2,
            "streamArn": "arn:aws:kinesis:us-east-2:123456789012:stream/mystream",
        },
    }
    assert told(batch, Discard.RETRIES) == document
    assert list(told(batch, Discard.RETRIES)) == list(document)
    reported = told(Batch((first,), 1, 2), Discard.RETRIES)
    assert reported["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    never = told(Batch((first,)), Discard.AGE)
    assert "responseContext" not in never
    assert never["requestContext"]["condition"] == "RecordAgeExceeded"
    assert never["requestContext"]["approximateInvokeCount"] == 0


def test_the_members_of_a_window_as_the_guide_shows_them() -> None:
    window = Window.of(1607497475000, 120)
    # https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-windows.html
    assert window_members(window, "shardId-000000000006", ARN, is_final=False, is_early=False) == {
        "window": {"start": "2020-12-09T07:04:00Z", "end": "2020-12-09T07:06:00Z"},
        "state": {},
        "shardId": "shardId-000000000006",
        "eventSourceARN": ARN,
        "isFinalInvokeForWindow": False,
        "isWindowTerminatedEarly": False,
    }

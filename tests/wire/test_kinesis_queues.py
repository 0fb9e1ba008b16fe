"""Each operation of queues on streams and of channels through boto3, as a program uses it, and their errors.

What takes time, and what is refused before the engine sees it, runs without a socket on a clock that stands still.
"""

from __future__ import annotations

import json
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from virtual_kinesis import ACCOUNT, JSON, REGION, VirtualKinesis, encoded

from broker.limits import AWS
from protocols.http.message import Request

ROLE = "arn:aws:iam::111111111111:role/channels"
S3 = {
    "StorageConfiguration": {
        "BucketARN": "arn:aws:s3:::lake",
        "ExpectedBucketOwner": "111111111111",
        "CompressionType": "NONE",
    }
}
TABLES = {
    "DeadLetterQueueS3Configuration": {"BucketARN": "arn:aws:s3:::lake", "ExpectedBucketOwner": "111111111111"},
    "S3TablesConfigurationList": [
        {
            "TableBucketARN": "arn:aws:s3tables:us-east-1:111111111111:bucket/tables",
            "Namespace": "shop",
            "TableName": "orders",
            "CompressionType": "SNAPPY",
            "PartitionSpec": {"PartitionFields": [{"Transform": "TIME_HOUR", "SourceName": "at"}]},
        }
    ],
}
JSON_RECORDS = {"RecordFormatType": "JSON"}
NOBODY = "arn:aws:kinesis:us-east-1:111111111111:queue/none"


@pytest.fixture
def kinesis(connect: Any, sidebus: Any) -> Any:
    return connect(sidebus, "kinesis")


@pytest.fixture
def stream(kinesis: Any) -> str:
    """The ARN of the on-demand stream `s`."""
    return new_stream(kinesis)


@pytest.fixture
def queue(kinesis: Any, stream: str) -> str:
    """The ARN of a queue on it, whose records die after one receive."""
    return new_queue(kinesis, stream, QueueAttributes=dead_after(1))


def new_stream(kinesis: Any, name: str = "s") -> str:
    kinesis.create_stream(StreamName=name, StreamModeDetails={"StreamMode": "ON_DEMAND"})
    return str(kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"])


def new_queue(kinesis: Any, stream: str, name: str = "q", **given: Any) -> str:
    configuration = {"StreamARN": stream, "StartingPosition": {"Type": "TRIM_HORIZON"}}
    made = kinesis.create_queue(QueueName=name, StreamConfigurationList=[configuration], **given)
    return str(made["QueueDescription"]["QueueARN"])


def dead_after(count: int) -> dict[str, Any]:
    return {"DeadLetterConfiguration": {"TargetType": "BUILT_IN", "MaxReceiveCount": count}}


def put(kinesis: Any, *texts: str) -> None:
    for text in texts:
        kinesis.put_record(StreamName="s", Data=text, PartitionKey="k")


def received(operation: Callable[..., Any], queue: str, **given: Any) -> list[dict[str, Any]]:
    return operation(QueueARN=queue, **given)["QueueRecords"]  # type: ignore[no-any-return]


def handles(records: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    return [{"ReceiptHandle": record["ReceiptHandle"], **more} for record in records]


def outcome(answer: dict[str, Any]) -> tuple[int, list[str]]:
    """How many succeeded, and the codes of those that failed."""
    return len(answer["Successful"]), [entry["ErrorCode"] for entry in answer["Failed"]]


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def test_every_operation_of_the_model_is_here(kinesis: Any) -> None:
    tested = {name.removeprefix("test_") for name in globals()}
    mine = {name for name in kinesis.meta.method_to_api_mapping if "queue" in name or "channel" in name}
    assert len(mine) == 17
    assert mine - tested == set()


# queues


def test_create_queue(kinesis: Any, stream: str, account: str) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    made = kinesis.create_queue(QueueName="q", StreamConfigurationList=[{"StreamARN": stream}], Tags={"team": "a"})[
        "QueueDescription"
    ]
    assert made["QueueARN"].startswith(f"arn:aws:kinesis:us-east-1:{account}:queue/")
    assert before <= made["QueueCreationTimestamp"] <= datetime.now(UTC)
    [configuration] = made["StreamConfigurationList"]
    assert before <= configuration["StartingPosition"].pop("Timestamp") <= datetime.now(UTC)
    assert configuration == {"StreamARN": stream, "StartingPosition": {"Type": "LATEST"}}
    assert made["QueueStatus"] == "ACTIVE"
    assert made["QueueAttributes"] == {
        "VisibilityTimeoutSeconds": 30,
        "DeadLetterConfiguration": {"TargetType": "BUILT_IN", "MaxReceiveCount": 6},
    }
    tags = kinesis.list_tags_for_resource(ResourceARN=made["QueueARN"])["Tags"]
    assert tags == [{"Key": "team", "Value": "a"}]
    summary = kinesis.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]
    assert (summary["QueueCount"], summary["ConsumerCount"]) == (1, 0)


def test_describe_queue(kinesis: Any, stream: str) -> None:
    moment = datetime.now(UTC) + timedelta(days=-300)
    position = {"Type": "AT_TIMESTAMP", "Timestamp": moment}
    made = kinesis.create_queue(
        QueueName="q", StreamConfigurationList=[{"StreamARN": stream, "StartingPosition": position}]
    )
    found = kinesis.describe_queue(QueueARN=made["QueueDescription"]["QueueARN"])
    assert plain(found) == plain(made)
    shown = found["QueueDescription"]["StreamConfigurationList"][0]["StartingPosition"]
    assert shown["Timestamp"] > moment + timedelta(days=299), "no earlier than the stream can be read from"


def test_update_queue(kinesis: Any, queue: str) -> None:
    given = {"VisibilityTimeoutSeconds": 0, "DeadLetterConfiguration": {"TargetType": "NONE"}}
    updated = kinesis.update_queue(QueueARN=queue, QueueAttributes=given)["QueueDescription"]
    assert updated["QueueAttributes"] == given
    kinesis.update_queue(QueueARN=queue, QueueAttributes={"VisibilityTimeoutSeconds": 43_200})
    found = kinesis.describe_queue(QueueARN=queue)["QueueDescription"]
    assert found["QueueAttributes"] == {**given, "VisibilityTimeoutSeconds": 43_200}
    assert found["QueueStatus"] == "ACTIVE"


def test_delete_queue(kinesis: Any, queue: str) -> None:
    with pytest.raises(kinesis.exceptions.ResourceInUseException):
        kinesis.delete_stream(StreamName="s", EnforceConsumerDeletion=True)
    with pytest.raises(kinesis.exceptions.ResourceInUseException):
        kinesis.update_stream_mode(
            StreamARN=kinesis.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamARN"],
            StreamModeDetails={"StreamMode": "PROVISIONED"},
        )
    assert plain(kinesis.delete_queue(QueueARN=queue)) == {}
    with pytest.raises(kinesis.exceptions.ResourceNotFoundException):
        kinesis.describe_queue(QueueARN=queue)
    kinesis.delete_stream(StreamName="s")


def test_list_queues(kinesis: Any, stream: str) -> None:
    arns = [new_queue(kinesis, stream, name) for name in "abc"]
    new_queue(kinesis, new_stream(kinesis, "other"), "d")
    created = kinesis.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamCreationTimestamp"]
    pages = kinesis.get_paginator("list_queues").paginate(
        StreamFilter=[{"StreamARN": stream, "StreamCreationTimestamp": created}], PaginationConfig={"PageSize": 2}
    )
    found = [[queue["QueueARN"] for queue in page["QueueSummaries"]] for page in pages]
    assert found == [arns[:2], arns[2:]]
    everything = kinesis.list_queues()
    assert "NextToken" not in everything
    assert len(everything["QueueSummaries"]) == 4
    first = everything["QueueSummaries"][0]
    first.pop("QueueCreationTimestamp")
    assert first == {
        "QueueName": "a",
        "QueueARN": arns[0],
        "QueueStatus": "ACTIVE",
        "Streams": [{"StreamARN": stream, "StreamCreationTimestamp": created}],
    }


# records


def test_receive_queue_records(kinesis: Any, stream: str) -> None:
    queue = new_queue(kinesis, stream)
    before = datetime.now(UTC) - timedelta(seconds=1)
    put(kinesis, "a", "b", "c")
    records = received(kinesis.receive_queue_records, queue, Limit=2)
    records += received(kinesis.receive_queue_records, queue, VisibilityTimeoutSeconds=0)
    assert [record["Data"] for record in records] == [b"a", b"b", b"c"]
    assert {record["PartitionKey"] for record in records} == {"k"}
    [c] = received(kinesis.receive_queue_records, queue, WaitTimeSeconds=1)
    assert (c["Data"], c["ReceiveCount"], c["RecordId"]) == (b"c", 2, records[2]["RecordId"])
    assert len({record["ReceiptHandle"] for record in [*records, c]}) == 4
    for moment in ("ApproximateArrivalTimestamp", "FirstReceiveTimestamp"):
        assert before < c[moment] <= datetime.now(UTC)
        assert c[moment] == records[2][moment]


def test_acknowledge_queue_records(kinesis: Any, stream: str) -> None:
    queue = new_queue(kinesis, stream)
    put(kinesis, "a", "b")
    entries = handles(received(kinesis.receive_queue_records, queue))
    answer = kinesis.acknowledge_queue_records(QueueARN=queue, Entries=[*entries, {"ReceiptHandle": "x"}])
    assert answer["Successful"] == entries
    [failed] = answer["Failed"]
    assert failed.pop("ErrorMessage")
    assert failed == {"ReceiptHandle": "x", "ErrorCode": "InvalidArgumentException"}
    again = kinesis.acknowledge_queue_records(QueueARN=queue, Entries=entries[:1])
    assert outcome(again) == (0, ["ResourceNotFoundException"])
    assert received(kinesis.receive_queue_records, queue, WaitTimeSeconds=1) == []


def test_update_queue_records_visibility(kinesis: Any, stream: str) -> None:
    queue = new_queue(kinesis, stream)
    put(kinesis, "a")
    records = received(kinesis.receive_queue_records, queue)
    entries = handles(records, VisibilityTimeoutSeconds=0)
    assert outcome(kinesis.update_queue_records_visibility(QueueARN=queue, Entries=entries)) == (1, [])
    assert received(kinesis.receive_queue_records, queue)[0]["RecordId"] == records[0]["RecordId"]
    answer = kinesis.update_queue_records_visibility(QueueARN=queue, Entries=entries)
    assert outcome(answer) == (0, ["ResourceNotFoundException"])


def dead_letters(kinesis: Any, queue: str, *texts: str) -> list[dict[str, Any]]:
    put(kinesis, *texts)
    received(kinesis.receive_queue_records, queue, VisibilityTimeoutSeconds=0)
    return received(kinesis.receive_dead_letter_queue_records, queue)


def test_receive_dead_letter_queue_records(kinesis: Any, queue: str) -> None:
    put(kinesis, "a")
    [alive] = received(kinesis.receive_queue_records, queue, VisibilityTimeoutSeconds=0)
    given = {"Limit": 1, "WaitTimeSeconds": 1, "VisibilityTimeoutSeconds": 0}
    [dead] = received(kinesis.receive_dead_letter_queue_records, queue, **given)
    [again] = received(kinesis.receive_dead_letter_queue_records, queue)
    for record in (dead, again):
        for name in ("Data", "PartitionKey", "RecordId", "ApproximateArrivalTimestamp", "FirstReceiveTimestamp"):
            assert record[name] == alive[name]
    assert [record["ReceiveCount"] for record in (alive, dead, again)] == [1, 2, 3]


def test_acknowledge_dead_letter_queue_records(kinesis: Any, queue: str) -> None:
    entries = handles(dead_letters(kinesis, queue, "a", "b"))
    assert outcome(kinesis.acknowledge_queue_records(QueueARN=queue, Entries=entries))[0] == 0
    assert outcome(kinesis.acknowledge_dead_letter_queue_records(QueueARN=queue, Entries=entries)) == (2, [])
    answer = kinesis.acknowledge_dead_letter_queue_records(QueueARN=queue, Entries=entries[:1])
    assert outcome(answer) == (0, ["ResourceNotFoundException"])


def test_restore_dead_letter_queue_records(kinesis: Any, queue: str) -> None:
    entries = handles(dead_letters(kinesis, queue, "a"))
    assert outcome(kinesis.restore_dead_letter_queue_records(QueueARN=queue, Entries=entries)) == (1, [])
    [restored] = received(kinesis.receive_queue_records, queue)
    assert (restored["Data"], restored["ReceiveCount"]) == (b"a", 1)
    answer = kinesis.restore_dead_letter_queue_records(QueueARN=queue, Entries=entries)
    assert outcome(answer) == (0, ["ResourceNotFoundException"])


def test_update_dead_letter_queue_records_visibility(kinesis: Any, queue: str) -> None:
    entries = handles(dead_letters(kinesis, queue, "a"), VisibilityTimeoutSeconds=0)
    assert outcome(kinesis.update_dead_letter_queue_records_visibility(QueueARN=queue, Entries=entries)) == (1, [])
    assert len(received(kinesis.receive_dead_letter_queue_records, queue)) == 1
    answer = kinesis.update_dead_letter_queue_records_visibility(QueueARN=queue, Entries=entries)
    assert outcome(answer) == (0, ["ResourceNotFoundException"])


# channels


def channel(kinesis: Any, stream: str, name: str = "c", record: Any = JSON_RECORDS, **given: Any) -> dict[str, Any]:
    if "S3TablesDestinationConfiguration" not in given:
        given = {"S3DestinationConfiguration": S3, **given}
    return kinesis.create_channel(  # type: ignore[no-any-return]
        ChannelName=name,
        ServiceExecutionRoleARN=ROLE,
        StreamConfigurationList=[{"StreamARN": stream, "RecordConfiguration": record}],
        **given,
    )["ChannelDescription"]


@pytest.fixture(scope="module")
def kept(start_sidebus: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A process with a data directory, and where its channels deliver."""
    directory = tmp_path_factory.mktemp("kept")
    return start_sidebus("--data", directory), directory / "channels"


@pytest.fixture
def on_disk(connect: Any, kept: tuple[Any, Path]) -> Any:
    return connect(kept[0], "kinesis")


def test_create_channel(on_disk: Any, kept: tuple[Any, Path]) -> None:
    stream = new_stream(on_disk)
    made = channel(on_disk, stream, S3DestinationConfiguration={**S3, "DataFreshnessInSeconds": 1}, Tags={"team": "a"})
    created = on_disk.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]
    assert created["ChannelCount"] == 1
    assert made["ChannelStatus"] == "ACTIVE"
    assert made["StreamConfigurationList"] == [
        {
            "StreamARN": stream,
            "StreamCreationTimestamp": created["StreamCreationTimestamp"],
            "RecordConfiguration": JSON_RECORDS,
        }
    ]
    assert made["S3DestinationConfiguration"]["DataFreshnessInSeconds"] == 1
    assert made["S3DestinationConfiguration"]["DeadLetterQueueS3Configuration"]["ErrorOutputPrefix"] == "errors/"
    assert made["LoggingConfiguration"] == {"CloudWatchLogs": {"Enabled": False}}
    arn = made["ChannelARN"]
    assert on_disk.list_tags_for_resource(ResourceARN=arn)["Tags"] == [{"Key": "team", "Value": "a"}]
    put(on_disk, '{"order": 1}', '{"order": 2}')
    until = time.monotonic() + 10
    files: list[Path] = []
    while not files and time.monotonic() < until:  # a real process on real time
        time.sleep(0.05)
        files = [path for path in kept[1].rglob("c-*.jsonl") if path.is_file()]
    assert [json.loads(line) for line in files[0].read_bytes().splitlines()] == [{"order": 1}, {"order": 2}]
    assert files[0].relative_to(kept[1]).parts[0] == "lake"


def test_in_memory_a_channel_fails_and_says_why(kinesis: Any, stream: str) -> None:
    made = channel(kinesis, stream)
    assert made["ChannelStatus"] == "FAILED"
    assert "--data" in made["ChannelStatusReason"]


def test_describe_channel(on_disk: Any) -> None:
    schema = "arn:aws:glue:us-east-1:111111111111:schema/r/s"
    key = {"EncryptionType": "KMS", "KeyId": "alias/k"}
    made = channel(
        on_disk,
        new_stream(on_disk),
        record={"RecordFormatType": "GSR_JSON", "GSRSchemaARN": schema},
        S3TablesDestinationConfiguration=TABLES,
        EncryptionConfiguration=key,
        LoggingConfiguration={"CloudWatchLogs": {"Enabled": True, "LogStreamName": "mine"}},
    )
    found = on_disk.describe_channel(ChannelARN=made["ChannelARN"])["ChannelDescription"]
    assert found == made
    assert found["S3TablesDestinationConfiguration"] == {**TABLES, "DataFreshnessInSeconds": 300}
    assert found["EncryptionConfiguration"] == key
    assert found["LoggingConfiguration"]["CloudWatchLogs"] == {
        "Enabled": True,
        "LogGroupName": f"/aws/kinesis/c/{found['ChannelId']}",
        "LogStreamName": "mine",
    }
    assert "S3DestinationConfiguration" not in found


def test_update_channel(on_disk: Any) -> None:
    arn = channel(on_disk, new_stream(on_disk))["ChannelARN"]
    logs = {"CloudWatchLogs": {"Enabled": True, "LogGroupName": "g", "LogStreamName": "s"}}
    updated = on_disk.update_channel(
        ChannelARN=arn, S3DestinationConfiguration={"DataFreshnessInSeconds": 60}, LoggingConfiguration=logs
    )["ChannelDescription"]
    assert updated["S3DestinationConfiguration"]["DataFreshnessInSeconds"] == 60
    assert updated["LoggingConfiguration"] == logs
    with pytest.raises(on_disk.exceptions.ValidationException):
        on_disk.update_channel(ChannelARN=arn, S3TablesDestinationConfiguration={"DataFreshnessInSeconds": 60})
    with pytest.raises(on_disk.exceptions.ValidationException):
        on_disk.update_channel(ChannelARN=arn)


def test_delete_channel(on_disk: Any) -> None:
    arn = channel(on_disk, new_stream(on_disk))["ChannelARN"]
    with pytest.raises(on_disk.exceptions.ResourceInUseException):
        on_disk.delete_stream(StreamName="s")
    assert plain(on_disk.delete_channel(ChannelARN=arn)) == {}
    with pytest.raises(on_disk.exceptions.ResourceNotFoundException):
        on_disk.describe_channel(ChannelARN=arn)
    on_disk.delete_stream(StreamName="s")


def test_list_channels(on_disk: Any) -> None:
    stream = new_stream(on_disk)
    arns = [channel(on_disk, stream, name)["ChannelARN"] for name in "abc"]
    channel(on_disk, new_stream(on_disk, "other"), "d")
    pages = on_disk.get_paginator("list_channels").paginate(
        StreamFilter=[{"StreamARN": stream}], PaginationConfig={"PageSize": 2}
    )
    assert [[one["ChannelARN"] for one in page["ChannelSummaries"]] for page in pages] == [arns[:2], arns[2:]]
    [*_, last] = on_disk.list_channels()["ChannelSummaries"]
    assert (last["ChannelName"], last["ChannelDestinationType"], last["ChannelStatus"]) == ("d", "S3", "ACTIVE")
    assert on_disk.describe_limits()["ChannelCount"] == 4


# without a socket: time, and what is refused


class Virtual(VirtualKinesis):
    def begin(self, operation: str, **given: Any) -> list[Any]:
        """Where the answer will be."""
        answers: list[Any] = []
        headers = [(b"x-amz-target", f"Kinesis_20131202.{operation}".encode()), (b"content-type", JSON)]
        self._application(Request("POST", b"/", headers, encoded(given)), answers.append)
        self.clock.settle()
        return answers


@pytest.fixture
def virtual() -> Iterator[Virtual]:
    kinesis = Virtual()
    yield kinesis
    kinesis.close()


def make_stream(kinesis: VirtualKinesis, name: str = "s") -> str:
    kinesis("CreateStream", StreamName=name, StreamModeDetails={"StreamMode": "ON_DEMAND"})
    kinesis.clock.advance(AWS.stream_create_ms)
    return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}"


def make_queue(kinesis: VirtualKinesis, stream: str, name: str = "q", **given: Any) -> str:
    made = kinesis("CreateQueue", QueueName=name, StreamConfigurationList=[{"StreamARN": stream}], **given)
    return str(made["QueueDescription"]["QueueARN"])


def test_a_receive_waits_for_nine_seconds_unless_told_otherwise(virtual: Virtual) -> None:
    queue = make_queue(virtual, make_stream(virtual))
    for given, wait_ms in (({}, 9_000), ({"WaitTimeSeconds": 20}, 20_000)):
        for operation in ("ReceiveQueueRecords", "ReceiveDeadLetterQueueRecords"):
            answers = virtual.begin(operation, QueueARN=queue, **given)
            virtual.clock.advance(wait_ms - 1)
            assert answers == []
            virtual.clock.advance(1)
            assert [json.loads(answer.body) for answer in answers] == [{"QueueRecords": []}]


def test_a_waiting_receive_is_answered_when_a_record_comes(virtual: Virtual) -> None:
    queue = make_queue(virtual, make_stream(virtual))
    answers = virtual.begin("ReceiveQueueRecords", QueueARN=queue)
    virtual.put("a")
    [answer] = answers
    [record] = json.loads(answer.body)["QueueRecords"]
    assert b64decode(record["Data"]) == b"a"
    assert record["ApproximateArrivalTimestamp"] == record["FirstReceiveTimestamp"] == virtual.clock.now_ms() / 1000
    assert record["ReceiveCount"] == 1
    assert set(record["RecordId"]) <= set("0123456789abcdefghijklmnopqrstuvwxyz")


def test_queues_change_in_time() -> None:
    kinesis = VirtualKinesis(AWS)
    stream = make_stream(kinesis)
    queue = make_queue(kinesis, stream)
    shown = kinesis("DescribeQueue", QueueARN=queue)["QueueDescription"]
    assert shown["QueueStatus"] == "CREATING"
    assert shown["StreamConfigurationList"][0]["StartingPosition"] == {"Type": "LATEST"}
    attributes = {"VisibilityTimeoutSeconds": 5}
    refused = kinesis.refusal("UpdateQueue", QueueARN=queue, QueueAttributes=attributes)
    assert (refused.code, refused.status) == ("ResourceInUseException", 400)
    kinesis.clock.advance(AWS.queue_change_ms)
    shown = kinesis("UpdateQueue", QueueARN=queue, QueueAttributes=attributes)["QueueDescription"]
    assert (shown["QueueStatus"], shown["QueueAttributes"]["VisibilityTimeoutSeconds"]) == ("UPDATING", 5)
    kinesis.clock.advance(AWS.queue_change_ms)
    kinesis("DeleteQueue", QueueARN=queue)
    assert kinesis("DescribeQueue", QueueARN=queue)["QueueDescription"]["QueueStatus"] == "DELETING"
    kinesis.clock.advance(AWS.queue_change_ms)
    assert kinesis.refusal("DescribeQueue", QueueARN=queue).code == "ResourceNotFoundException"
    kinesis.close()


CONFIGURATION = {"StreamARN": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s"}
BAD_POSITION = {"Type": "LATEST", "Timestamp": 1.5}
MANY = [{"ReceiptHandle": f"{number}"} for number in range(11)]
CHANNEL = {
    "ChannelName": "c",
    "ServiceExecutionRoleARN": ROLE,
    "StreamConfigurationList": [{**CONFIGURATION, "RecordConfiguration": JSON_RECORDS}],
}
ELSEWHERE = {"StreamARN": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/none"}


@pytest.mark.parametrize(
    ("operation", "given", "code"),
    [
        ("CreateQueue", {"QueueName": "a b", "StreamConfigurationList": [CONFIGURATION]}, "ValidationException"),
        ("CreateQueue", {"QueueName": "a", "StreamConfigurationList": []}, "ValidationException"),
        ("CreateQueue", {"QueueName": "a", "StreamConfigurationList": [CONFIGURATION] * 2}, "ValidationException"),
        ("CreateQueue", {"QueueName": "a", "StreamConfigurationList": [ELSEWHERE]}, "ResourceNotFoundException"),
        (
            "CreateQueue",
            {"QueueName": "a", "StreamConfigurationList": [{**CONFIGURATION, "StartingPosition": BAD_POSITION}]},
            "ValidationException",
        ),
        (
            "CreateQueue",
            {
                "QueueName": "a",
                "StreamConfigurationList": [CONFIGURATION],
                "QueueAttributes": {"DeadLetterConfiguration": {"TargetType": "BUILT_IN"}},
            },
            "ValidationException",
        ),
        ("CreateQueue", {"QueueName": "q", "StreamConfigurationList": [CONFIGURATION]}, "ResourceInUseException"),
        ("DescribeQueue", {"QueueARN": "x"}, "ValidationException"),
        ("DescribeQueue", {"QueueARN": NOBODY}, "ResourceNotFoundException"),
        ("UpdateQueue", {"QueueARN": NOBODY, "QueueAttributes": {}}, "ResourceNotFoundException"),
        ("DeleteQueue", {"QueueARN": NOBODY}, "ResourceNotFoundException"),
        ("ListQueues", {"NextToken": "x"}, "InvalidArgumentException"),
        ("ReceiveQueueRecords", {"QueueARN": NOBODY}, "ResourceNotFoundException"),
        ("ReceiveQueueRecords", {"QueueARN": NOBODY, "Limit": 11}, "ValidationException"),
        ("ReceiveQueueRecords", {"QueueARN": NOBODY, "WaitTimeSeconds": 0}, "ValidationException"),
        ("ReceiveDeadLetterQueueRecords", {"QueueARN": NOBODY}, "ResourceNotFoundException"),
        ("AcknowledgeQueueRecords", {"QueueARN": NOBODY, "Entries": MANY}, "ValidationException"),
        ("AcknowledgeQueueRecords", {"QueueARN": NOBODY, "Entries": []}, "ValidationException"),
        ("AcknowledgeQueueRecords", {"QueueARN": NOBODY, "Entries": MANY[:1]}, "ResourceNotFoundException"),
        ("AcknowledgeDeadLetterQueueRecords", {"QueueARN": NOBODY, "Entries": MANY[:1]}, "ResourceNotFoundException"),
        ("RestoreDeadLetterQueueRecords", {"QueueARN": NOBODY, "Entries": MANY[:1]}, "ResourceNotFoundException"),
        ("CreateChannel", {**CHANNEL}, "ValidationException"),
        (
            "CreateChannel",
            {**CHANNEL, "S3DestinationConfiguration": S3, "S3TablesDestinationConfiguration": TABLES},
            "ValidationException",
        ),
        ("CreateChannel", {**CHANNEL, "S3TablesDestinationConfiguration": TABLES}, "ValidationException"),
        ("DescribeChannel", {"ChannelARN": NOBODY.replace("queue", "channel")}, "ResourceNotFoundException"),
        ("DeleteChannel", {"ChannelARN": NOBODY}, "ValidationException"),
        ("ListChannels", {"NextToken": "x"}, "InvalidArgumentException"),
    ],
)
def test_what_is_refused(virtual: VirtualKinesis, operation: str, given: dict[str, Any], code: str) -> None:
    make_queue(virtual, make_stream(virtual))
    refused = virtual.refusal(operation, **given)
    assert (refused.code, refused.status) == (code, 400)
    assert refused.message
    assert len(virtual("ListQueues")["QueueSummaries"]) == 1


def test_another_account_needs_the_queues_policy(start_sidebus: Any, connect: Any, account: str) -> None:
    guest_account = "222222222222"
    server = start_sidebus("--auth", "strict", "--key", f"{account}=o", "--key", f"{guest_account}=g")
    owner = connect(server, "kinesis", secret="o")
    guest = connect(server, "kinesis", account=guest_account, secret="g")
    queue = new_queue(owner, new_stream(owner))
    put(owner, "a")
    with pytest.raises(guest.exceptions.AccessDeniedException) as refused:
        guest.receive_queue_records(QueueARN=queue)
    assert refused.value.response["Error"]["Message"] == (
        f"User: arn:aws:iam::{guest_account}:user/sidebus is not authorized to perform: kinesis:ReceiveQueueRecords on "
        f"resource: {queue} because no resource-based policy allows the kinesis:ReceiveQueueRecords action"
    )
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": guest_account},
        "Action": "kinesis:ReceiveQueueRecords",
        "Resource": queue,
    }
    owner.put_resource_policy(ResourceARN=queue, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    assert [record["Data"] for record in received(guest.receive_queue_records, queue)] == [b"a"]
    with pytest.raises(guest.exceptions.AccessDeniedException):
        guest.delete_queue(QueueARN=queue)


def test_quotas_hold_under_awss_limits() -> None:
    kinesis = VirtualKinesis(AWS)
    stream = make_stream(kinesis)
    for number in range(20):
        make_queue(kinesis, stream, f"q{number}")
    refused = kinesis.refusal("CreateQueue", QueueName="q", StreamConfigurationList=[{"StreamARN": stream}])
    assert refused.code == "LimitExceededException"
    refused = kinesis.refusal("RegisterStreamConsumer", StreamARN=stream, ConsumerName="c")
    assert refused.code == "LimitExceededException"
    kinesis.close()

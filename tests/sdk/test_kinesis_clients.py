"""Kinesis through other clients than boto3: the command line, the SDK for JavaScript, and the SDK for Java.

The SDK for JavaScript speaks HTTP/2 here, the SDK for Java CBOR, and HTTP/2 where it subscribes: without TLS both take
for granted that the other side speaks it, too.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

HERE = Path(__file__).parent
PACKAGES = {"@aws-sdk/client-kinesis": "^3.1018.0"}
ARTIFACTS = ("software.amazon.awssdk:kinesis:2.52.0", "org.slf4j:slf4j-nop:1.7.36")
SHARD = "shardId-000000000000"
NUMBER = "[0-9]{56}"


@pytest.mark.parametrize("part", ["records", "errors", "subscribe"])
def test_sdk_for_javascript(part: str, node_with: Callable[..., Path], run_client: Callable[..., str]) -> None:
    directory = node_with("kinesis-node", 20, PACKAGES)
    program = HERE / "kinesis_client.mjs"
    shutil.copy(program, directory)  # beside its node_modules
    run_client("node", program.name, part, where=directory)


@pytest.mark.parametrize("part", ["records", "errors", "subscribe"])
def test_sdk_for_java(part: str, java_with: Callable[..., str], run_client: Callable[..., str]) -> None:
    class_path = java_with("kinesis-java", 17, *ARTIFACTS)
    run_client("java", "-cp", class_path, HERE / "KinesisClientProgram.java", part)


def test_sdk_for_java_in_json(java_with: Callable[..., str], run_client: Callable[..., str]) -> None:
    class_path = java_with("kinesis-java", 17, *ARTIFACTS)
    program = HERE / "KinesisClientProgram.java"
    run_client("java", "-Daws.cborEnabled=false", "-cp", class_path, program, "json")


class CommandLine:
    """`aws kinesis …` against a broker; knows which operations were used."""

    def __init__(self, aws: Path, run_client: Callable[..., str], url: str) -> None:
        self._aws = aws
        self._run_client = run_client
        self._url = url
        self.used: set[str] = set()

    def __call__(self, line: str) -> Any:
        """What it printed, read as JSON; None where it printed nothing."""
        operation, *words = shlex.split(line)
        self.used.add(operation)
        options = ("--endpoint-url", self._url, "--output", "json")
        printed = self._run_client(self._aws, *options, "kinesis", operation, *words)
        return json.loads(printed) if printed.strip() else None


def test_each_operation_on_the_command_line(
    python_with: Callable[..., Path], run_client: Callable[..., str], sidebus: Any, account: str
) -> None:
    kinesis = CommandLine(python_with("awscli", "awscli~=1.46") / "aws", run_client, sidebus.url)
    arn = f"arn:aws:kinesis:us-east-1:{account}:stream/s"

    def summary() -> dict[str, Any]:
        shown = kinesis("describe-stream-summary --stream-name s")
        return shown["StreamDescriptionSummary"]  # type: ignore[no-any-return]

    # streams
    assert kinesis("create-stream --stream-name s --shard-count 1 --tags team=a") is None
    assert kinesis("list-streams")["StreamNames"] == ["s"]
    described = kinesis(f"describe-stream --stream-arn {arn}")["StreamDescription"]
    assert (described["StreamARN"], described["StreamStatus"]) == (arn, "ACTIVE")
    assert [shard["ShardId"] for shard in described["Shards"]] == [SHARD]

    # records
    put = kinesis("put-record --stream-name s --partition-key k --data one")
    assert put["ShardId"] == SHARD
    assert re.fullmatch(NUMBER, put["SequenceNumber"])
    batch = kinesis("put-records --stream-name s --records Data=two,PartitionKey=k Data=three,PartitionKey=k")
    assert (batch["FailedRecordCount"], len(batch["Records"])) == (0, 2)
    where = "--shard-iterator-type AFTER_SEQUENCE_NUMBER --starting-sequence-number " + put["SequenceNumber"]
    iterator = kinesis(f"get-shard-iterator --stream-name s --shard-id {SHARD} {where}")["ShardIterator"]
    page = kinesis(f"get-records --shard-iterator {iterator} --limit 10")
    assert [b64decode(record["Data"]) for record in page["Records"]] == [b"two", b"three"]
    assert page["MillisBehindLatest"] == 0

    # settings
    kinesis("increase-stream-retention-period --stream-name s --retention-period-hours 48")
    assert summary()["RetentionPeriodHours"] == 48
    kinesis("decrease-stream-retention-period --stream-name s --retention-period-hours 24")
    kinesis("start-stream-encryption --stream-name s --encryption-type KMS --key-id alias/aws/kinesis")
    assert (summary()["EncryptionType"], summary()["KeyId"]) == ("KMS", "alias/aws/kinesis")
    kinesis("stop-stream-encryption --stream-name s --encryption-type KMS --key-id alias/aws/kinesis")
    enabled = kinesis("enable-enhanced-monitoring --stream-name s --shard-level-metrics IncomingBytes")
    assert enabled["DesiredShardLevelMetrics"] == ["IncomingBytes"]
    assert kinesis("disable-enhanced-monitoring --stream-name s --shard-level-metrics ALL")["StreamARN"] == arn
    kinesis(f"update-max-record-size --stream-arn {arn} --max-record-size-in-ki-b 10240")
    assert summary()["MaxRecordSizeInKiB"] == 10240

    # tags and policies
    kinesis("add-tags-to-stream --stream-name s --tags cost=42")
    kinesis("remove-tags-from-stream --stream-name s --tag-keys team")
    assert kinesis("list-tags-for-stream --stream-name s")["Tags"] == [{"Key": "cost", "Value": "42"}]
    kinesis(f"tag-resource --resource-arn {arn} --tags who=ann")
    kinesis(f"untag-resource --resource-arn {arn} --tag-keys cost")
    assert kinesis(f"list-tags-for-resource --resource-arn {arn}")["Tags"] == [{"Key": "who", "Value": "ann"}]
    statement = {"Effect": "Allow", "Principal": {"AWS": account}, "Action": "kinesis:*", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    kinesis(f"put-resource-policy --resource-arn {arn} --policy {shlex.quote(policy)}")
    assert kinesis(f"get-resource-policy --resource-arn {arn}") == {"Policy": policy}
    kinesis(f"delete-resource-policy --resource-arn {arn}")

    # consumers; no command subscribes
    consumer = kinesis(f"register-stream-consumer --stream-arn {arn} --consumer-name c")["Consumer"]["ConsumerARN"]
    assert [one["ConsumerARN"] for one in kinesis(f"list-stream-consumers --stream-arn {arn}")["Consumers"]] == [
        consumer
    ]
    shown = kinesis(f"describe-stream-consumer --consumer-arn {consumer}")["ConsumerDescription"]
    assert (shown["StreamARN"], shown["ConsumerStatus"]) == (arn, "ACTIVE")
    kinesis(f"deregister-stream-consumer --stream-arn {arn} --consumer-name c")

    # shards
    kinesis(f"split-shard --stream-name s --shard-to-split {SHARD} --new-starting-hash-key 10")
    shards = [shard["ShardId"] for shard in kinesis("list-shards --stream-name s")["Shards"]]
    assert shards == [SHARD, "shardId-000000000001", "shardId-000000000002"]
    kinesis(f"merge-shards --stream-name s --shard-to-merge {shards[1]} --adjacent-shard-to-merge {shards[2]}")
    counted = kinesis("update-shard-count --stream-name s --target-shard-count 2 --scaling-type UNIFORM_SCALING")
    assert (counted["CurrentShardCount"], counted["TargetShardCount"]) == (1, 2)

    # on demand, and the account
    limits = kinesis("describe-limits")
    assert (limits["OpenShardCount"], limits["OnDemandStreamCount"]) == (2, 0)
    committed = kinesis("update-account-settings --minimum-throughput-billing-commitment Status=ENABLED")
    assert kinesis("describe-account-settings") == committed
    kinesis(f"update-stream-mode --stream-arn {arn} --stream-mode-details StreamMode=ON_DEMAND")
    kinesis("update-stream-warm-throughput --stream-name s --warm-throughput-mi-bps 5")
    assert summary()["WarmThroughput"] == {"TargetMiBps": 5, "CurrentMiBps": 5}
    assert kinesis("delete-stream --stream-name s") is None
    assert kinesis("list-streams")["StreamNames"] == []

    model = botocore.session.Session().get_service_model("kinesis")
    elsewhere = {name for name in model.operation_names if "Queue" in name or "Channel" in name}
    expected = {xform_name(name, "-") for name in model.operation_names if name not in elsewhere}
    # The first is no command, the second is younger than this awscli.
    assert kinesis.used == expected - {"subscribe-to-shard", "update-stream-record-distribution-strategy"}

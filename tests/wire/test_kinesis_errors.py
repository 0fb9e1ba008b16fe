"""Every documented error of every operation of Kinesis, but for queues and channels: its code, text and status.

The model says which operation has which errors. Each pair is either provoked here or stands in `cannot_occur` with the
reason. Time stands still, so quotas a second are exact.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from virtual_kinesis import ACCOUNT, CBOR, REGION, SHARD, START_MS, Refusal, VirtualKinesis, encoded

from broker.limits import AWS
from broker.streams.throughput import API_RATES

MODEL = botocore.session.Session().get_service_model("kinesis")
OPERATIONS = [name for name in MODEL.operation_names if "Queue" not in name and "Channel" not in name]
ARN = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s"
NOWHERE = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/nowhere"
GONE = f"{ARN}/consumer/gone:1"
NOT_KINESIS = f"arn:aws:x:kinesis:{REGION}:{ACCOUNT}:stream/s"  # which the model's pattern lets through
OTHER_ID = "0" * 20 + "-000"

MINIMAL: dict[str, dict[str, Any]] = {
    "AddTagsToStream": {"Tags": {"a": "b"}},
    "CreateStream": {"StreamName": "other", "ShardCount": 1},
    "DecreaseStreamRetentionPeriod": {"RetentionPeriodHours": 24},
    "DisableEnhancedMonitoring": {"ShardLevelMetrics": ["ALL"]},
    "EnableEnhancedMonitoring": {"ShardLevelMetrics": ["ALL"]},
    "GetShardIterator": {"ShardId": SHARD, "ShardIteratorType": "LATEST"},
    "IncreaseStreamRetentionPeriod": {"RetentionPeriodHours": 48},
    "MergeShards": {"ShardToMerge": SHARD, "AdjacentShardToMerge": "shardId-000000000001"},
    "PutRecord": {"Data": b"x", "PartitionKey": "k"},
    "PutRecords": {"Records": [{"Data": b"x", "PartitionKey": "k"}]},
    "PutResourcePolicy": {"Policy": '{"Version":"2012-10-17","Statement":[{"Effect":"Allow"}]}'},
    "RegisterStreamConsumer": {"ConsumerName": "c"},
    "RemoveTagsFromStream": {"TagKeys": ["a"]},
    "SplitShard": {"ShardToSplit": SHARD, "NewStartingHashKey": "10"},
    "StartStreamEncryption": {"EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"},
    "StopStreamEncryption": {"EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"},
    "SubscribeToShard": {"ShardId": SHARD, "StartingPosition": {"Type": "LATEST"}},
    "TagResource": {"Tags": {"a": "b"}},
    "UntagResource": {"TagKeys": ["a"]},
    "UpdateAccountSettings": {"MinimumThroughputBillingCommitment": {"Status": "ENABLED"}},
    "UpdateMaxRecordSize": {"MaxRecordSizeInKiB": 2048},
    "UpdateShardCount": {"TargetShardCount": 2, "ScalingType": "UNIFORM_SCALING"},
    "UpdateStreamMode": {"StreamModeDetails": {"StreamMode": "ON_DEMAND"}},
    "UpdateStreamRecordDistributionStrategy": {"RecordDistributionStrategy": "AUTO"},
    "UpdateStreamWarmThroughput": {"WarmThroughputMiBps": 8},
}


def about(operation: str, arn: str = ARN, consumer: str = GONE) -> dict[str, Any]:
    """Parameters that are right but for the resource."""
    members = MODEL.operation_model(operation).input_shape.members
    given = dict(MINIMAL.get(operation, {}))
    if "ResourceARN" in members:
        given["ResourceARN"] = arn
    elif "ConsumerARN" in members:
        given["ConsumerARN"] = consumer
    elif "StreamARN" in members:
        given["StreamARN"] = arn
    return given


ON_STREAMS = [name for name in OPERATIONS if "StreamARN" in about(name) and name != "GetRecords"]
ON_CONSUMERS = [name for name in OPERATIONS if "ConsumerARN" in about(name)]
ON_RESOURCES = [name for name in OPERATIONS if "ResourceARN" in about(name)]
ON_ACCOUNTS = ["DescribeAccountSettings", "UpdateAccountSettings", "DescribeLimits", "CreateStream", "ListStreams"]
IN_ANY_STATE = {  # the model gives some of them the error all the same
    "GetResourcePolicy",
    "ListTagsForResource",
}


def cannot_occur(operation: str, error: str) -> str | None:
    """Why this documented error is never answered."""
    if error == "InternalFailureException":
        return "what goes wrong here is a 503 that says what to do"
    if error.startswith("KMS"):
        return "there is no KMS here: KeyId is kept and shown, nothing is encrypted by it"
    if error == "ResourceInUseException" and operation in IN_ANY_STATE:
        return "tags and policies are shown in any state"
    if (operation, error) == ("UpdateAccountSettings", "InvalidArgumentException"):
        return "the model forbids it first"
    return None


Given = Callable[[VirtualKinesis], dict[str, Any]]
CASES: list[tuple[str, str, str | None, Given]] = []
NOT_FOUND, INVALID, IN_USE = "ResourceNotFoundException", "InvalidArgumentException", "ResourceInUseException"
LIMIT, VALIDATION, DRY_RUN = "LimitExceededException", "ValidationException", "DryRunOperationException"
THROTTLED = "ProvisionedThroughputExceededException"


def case(operation: str, error: str, message: str | None, given: Given | None = None, **plain: Any) -> None:
    """`given` prepares, and returns the parameters; without it there is the stream `s` of one shard."""

    def on_stream(kinesis: VirtualKinesis) -> dict[str, Any]:
        kinesis.stream()
        return {**about(operation), **plain}

    CASES.append((operation, error, message, given or on_stream))


def on(*, shards: int = 1, mode: str = "PROVISIONED", **plain: Any) -> Given:
    """With the stream `s`."""

    def prepare(kinesis: VirtualKinesis) -> dict[str, Any]:
        if mode == "ON_DEMAND":
            kinesis("CreateStream", StreamName="s", StreamModeDetails={"StreamMode": mode})
        else:
            kinesis.stream(shards=shards)
        return {"StreamName": "s", **plain}

    return prepare


def with_consumer(kinesis: VirtualKinesis) -> dict[str, Any]:
    arn = kinesis.stream()
    kinesis.consumer()
    return {"StreamARN": arn}


# What is not there.
for name in ON_STREAMS:
    given = about(name, NOWHERE)
    case(name, NOT_FOUND, f"Stream nowhere under account {ACCOUNT} not found.", lambda kinesis, given=given: given)
    if "StreamName" in MODEL.operation_model(name).input_shape.members:
        by_name = {**given, "StreamName": "nowhere"}
        del by_name["StreamARN"]
        text = f"Stream nowhere under account {ACCOUNT} not found."
        case(name, NOT_FOUND, text, lambda kinesis, given=by_name: given)
        none = {key: value for key, value in by_name.items() if key != "StreamName"}
        text = "Either StreamName or StreamARN must be specified."
        case(name, INVALID, text, lambda kinesis, given=none: given)
    case(name, INVALID, f"StreamId {OTHER_ID} does not match stream s.", StreamId=OTHER_ID)
for name in ON_CONSUMERS:
    case(name, NOT_FOUND, f"Consumer {GONE}, account {ACCOUNT} not found.")
for name in ON_RESOURCES:
    given = about(name, NOWHERE)
    case(name, NOT_FOUND, f"Stream nowhere under account {ACCOUNT} not found.", lambda kinesis, given=given: given)
    case(name, NOT_FOUND, f"Consumer {GONE}, account {ACCOUNT} not found.", ResourceARN=GONE)
    text = f"ResourceARN {NOT_KINESIS} is not the ARN of a Kinesis resource."
    case(name, INVALID, text, ResourceARN=NOT_KINESIS)
for name in ("DescribeStreamConsumer", "DeregisterStreamConsumer"):
    case(
        name,
        NOT_FOUND,
        f"Consumer c under stream s, account {ACCOUNT} not found.",
        lambda kinesis: {"StreamARN": kinesis.stream(), "ConsumerName": "c"},
    )
    case(
        name,
        INVALID,
        "Either ConsumerARN or both StreamARN and ConsumerName must be specified.",
        lambda kinesis: {"ConsumerName": "c"},
    )
    case(
        name,
        INVALID,
        "ConsumerARN does not match StreamARN and ConsumerName.",
        lambda kinesis: {"StreamARN": kinesis.stream(), "ConsumerName": "d", "ConsumerARN": kinesis.consumer()},
    )
case("DescribeStream", INVALID, f"StreamName t does not match StreamARN {ARN}.", StreamName="t")
case("DeleteResourcePolicy", NOT_FOUND, f"No resource policy found for {ARN}.")

# Streams.
EXISTS = f"Stream s under account {ACCOUNT} already exists."
case("CreateStream", IN_USE, EXISTS, on(ShardCount=1))
case(
    "CreateStream",
    VALIDATION,
    "ShardCount must be specified for a stream in provisioned mode.",
    lambda kinesis: {"StreamName": "s", "StreamModeDetails": {"StreamMode": "PROVISIONED"}},
)
case(
    "CreateStream",
    VALIDATION,
    "ShardCount is not expected when StreamMode=ON_DEMAND",
    lambda kinesis: {"StreamName": "s", "ShardCount": 1, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}},
)
case(
    "CreateStream",
    VALIDATION,
    "1 validation error detected: Value 'a b' at 'streamName' failed to satisfy constraint: "
    "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+",
    lambda kinesis: {"StreamName": "a b", "ShardCount": 1},
)
case(
    "CreateStream",
    LIMIT,
    "ShardCount 10001 is above the limit of 10000 of a stream.",
    lambda kinesis: {"StreamName": "s", "ShardCount": 10_001},
)
case(
    "CreateStream",
    INVALID,
    "Tag keys that begin with aws: are reserved.",
    lambda kinesis: {"StreamName": "s", "ShardCount": 1, "Tags": {"aws:a": "b"}},
)
CONSUMERS = (
    f"DeleteStream can't delete {ARN} because there are consumers associated with this data stream. To delete s "
    "anyway, set the EnforceConsumerDeletion parameter to true to force the deletion of all the consumers that are "
    "associated with it."
)
case("DeleteStream", IN_USE, CONSUMERS, with_consumer)
case("ListStreams", INVALID, "The provided NextToken is invalid.", lambda kinesis: {"NextToken": "%"})
SHORT = "Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is too short."
LONG = "Maximum allowed retention period is 8760 hours. Requested retention period (8761 hours) is too long."
for name in ("IncreaseStreamRetentionPeriod", "DecreaseStreamRetentionPeriod"):
    case(name, INVALID, SHORT, RetentionPeriodHours=23)
    case(name, INVALID, LONG, RetentionPeriodHours=8761)
case(
    "DecreaseStreamRetentionPeriod",
    INVALID,
    "Requested retention period (25 hours) for stream s can not be longer than existing retention period (24 hours). "
    "Use IncreaseRetentionPeriod API.",
    RetentionPeriodHours=25,
)
for name in ("StartStreamEncryption", "StopStreamEncryption"):
    text = "EncryptionType NONE is not valid: the only valid value is KMS."
    case(name, INVALID, text, EncryptionType="NONE")
for name in ("AddTagsToStream", "TagResource"):
    case(name, INVALID, "Tag keys that begin with aws: are reserved.", Tags={"aws:a": "b"})
    text = "Failed to add tags: a resource cannot have more than 50 tags."
    case(name, INVALID, text, Tags={str(number): "" for number in range(51)})
case("PutResourcePolicy", INVALID, "The resource policy is not valid: it must be JSON with a Statement.", Policy="{}")
case(
    "UpdateStreamMode",
    VALIDATION,
    f"Stream s under account {ACCOUNT} is in PROVISIONED mode already.",
    StreamModeDetails={"StreamMode": "PROVISIONED"},
)
case("UpdateStreamWarmThroughput", VALIDATION, "Warm throughput is only supported for streams in on-demand mode.")
case(
    "UpdateStreamRecordDistributionStrategy",
    INVALID,
    "The record distribution strategy is only supported for streams in on-demand mode.",
)

# Shards.
for shards, target, direction in (
    (1, 3, "cannot scale up over double your current open shard count. Current open shard count: 1"),
    (3, 1, "cannot scale down below half your current open shard count. Current open shard count: 3"),
):
    text = f"UpdateShardCount {direction} Target shard count: {target}"
    given = {**MINIMAL["UpdateShardCount"], "TargetShardCount": target}
    case("UpdateShardCount", INVALID, text, on(shards=shards, **given))
for name in ("SplitShard", "MergeShards", "UpdateShardCount"):
    text = (
        f"Request is invalid. Stream s under account {ACCOUNT} is in On-Demand mode: "
        f"{name} is only supported for the provisioned mode."
    )
    case(name, VALIDATION, text, on(mode="ON_DEMAND", **MINIMAL[name]))
for key in ("0", "1", str(2**127 - 1), str(2**127)):
    text = (
        f"NewStartingHashKey {key} used in SplitShard() on shard {SHARD} in stream s under account {ACCOUNT} is not "
        "both greater than one plus the shard's StartingHashKey 0 and less than the shard's EndingHashKey "
        f"{2**127 - 1}."
    )
    case("SplitShard", INVALID, text, on(shards=2, ShardToSplit=SHARD, NewStartingHashKey=key))
text = f"Could not find shard shardId-000000000009 in stream s under account {ACCOUNT}."
case("SplitShard", NOT_FOUND, text, ShardToSplit="shardId-000000000009")
case("MergeShards", NOT_FOUND, text, ShardToMerge="shardId-000000000009")
text = (
    f"Shards {SHARD} and shardId-000000000002 in stream s under account {ACCOUNT} are not an adjacent pair of shards "
    "eligible for merging"
)
case("MergeShards", INVALID, text, on(shards=3, ShardToMerge=SHARD, AdjacentShardToMerge="shardId-000000000002"))


def split(kinesis: VirtualKinesis) -> dict[str, Any]:
    kinesis.stream()
    kinesis("SplitShard", StreamName="s", **MINIMAL["SplitShard"])
    return {"StreamName": "s"}


text = (
    f"Shard {SHARD} in stream s under account {ACCOUNT} has already been merged or split, "
    "and thus is not eligible for being split."
)
case("SplitShard", INVALID, text, lambda kinesis: split(kinesis) | MINIMAL["SplitShard"])
for parameter in ("StreamName", "StreamARN", "ExclusiveStartShardId", "StreamCreationTimestamp"):
    value: Any = {"StreamName": "s", "StreamARN": ARN, "ExclusiveStartShardId": SHARD}.get(parameter, 1)
    text = f"NextToken and {parameter} cannot be provided together."
    case("ListShards", INVALID, text, lambda kinesis, given={parameter: value}: {"NextToken": "x", **given})
case("ListShards", INVALID, "The provided NextToken is invalid.", lambda kinesis: {"NextToken": "x"})
case(
    "ListShards",
    NOT_FOUND,
    f"Stream s under account {ACCOUNT} with that creation timestamp not found.",
    StreamCreationTimestamp=1,
)
for filter_type, text in (
    ("AFTER_SHARD_ID", "ShardId must be provided when ShardFilter type is AFTER_SHARD_ID."),
    ("AT_TIMESTAMP", "Timestamp must be provided when ShardFilter type is AT_TIMESTAMP."),
    ("FROM_TIMESTAMP", "Timestamp must be provided when ShardFilter type is FROM_TIMESTAMP."),
):
    case("ListShards", INVALID, text, ShardFilter={"Type": filter_type})

# Consumers.
text = f"Consumer c under stream s already exists for account {ACCOUNT}."
case(
    "RegisterStreamConsumer",
    IN_USE,
    text,
    lambda kinesis: with_consumer(kinesis) | {"ConsumerName": "c"},
)
text = "Tag keys that begin with aws: are reserved."
case("RegisterStreamConsumer", INVALID, text, Tags={"aws:a": "b"})
case("ListStreamConsumers", INVALID, "The provided NextToken is invalid.", NextToken="%")
text = "NextToken and StreamCreationTimestamp cannot be provided together."
case("ListStreamConsumers", INVALID, text, NextToken="x", StreamCreationTimestamp=1)


def to_shard(shard: str, **position: Any) -> Given:
    def prepare(kinesis: VirtualKinesis) -> dict[str, Any]:
        kinesis.stream()
        return {"ConsumerARN": kinesis.consumer(), "ShardId": shard, "StartingPosition": position}

    return prepare


text = f"Shard shardId-000000000009 in stream s under account {ACCOUNT} does not exist"
case("SubscribeToShard", NOT_FOUND, text, to_shard("shardId-000000000009", Type="LATEST"))
NUMBERS = (
    "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) "
    "TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified {} StartingSequenceNumber."
)
text = NUMBERS.format("AT_SEQUENCE_NUMBER and no")
case("SubscribeToShard", INVALID, text, to_shard(SHARD, Type="AT_SEQUENCE_NUMBER"))
case("SubscribeToShard", DRY_RUN, None, lambda kinesis: to_shard(SHARD, Type="LATEST")(kinesis) | {"DryRun": True})


def subscribed(kinesis: VirtualKinesis) -> dict[str, Any]:
    given = to_shard(SHARD, Type="LATEST")(kinesis)
    kinesis.subscribe(**given)
    return given


text = f"Another active subscription exists for this consumer: {ACCOUNT}:s:{SHARD}:c"
case("SubscribeToShard", IN_USE, text, subscribed)

# Records.
for name in ("PutRecord", "PutRecords", "GetShardIterator"):
    text = "The request would have succeeded, but the DryRun parameter was set."
    case(name, DRY_RUN, text, DryRun=True)
case(
    "GetRecords", DRY_RUN, text, lambda kinesis: on()(kinesis) and {"ShardIterator": kinesis.iterator(), "DryRun": True}
)
HASH = "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was"
case("PutRecord", INVALID, f"{HASH} {2**128}", ExplicitHashKey=str(2**128))
NULL = "failed to satisfy constraint: Member must not be null"
text = f"1 validation error detected: Value null at 'partitionKey' {NULL}"
case("PutRecord", VALIDATION, text, on(Data=b"x"))
text = f"1 validation error detected: Value null at 'records.2.member.partitionKey' {NULL}"
case("PutRecords", VALIDATION, text, on(Records=[{"Data": b"x", "PartitionKey": "k"}, {"Data": b"x"}]))
text = (
    f"A record of {2**20 + 1} bytes, with its partition key, is larger than the maximum record size of {2**20} bytes "
    f"of stream s under account {ACCOUNT}."
)
case("PutRecord", INVALID, text, Data=bytes(2**20))
TOO_LONG = f"failed to satisfy constraint: Member must have length less than or equal to {2**20}"
case("PutRecord", VALIDATION, f"1 validation error detected: Value at 'data' {TOO_LONG}", Data=bytes(2**20 + 1))
text = (
    f"2 validation errors detected: Value at 'records.1.member.data' {TOO_LONG}; "
    f"Value at 'records.3.member.data' {TOO_LONG}"
)
long, short = ({"Data": bytes(size), "PartitionKey": "k"} for size in (2**20 + 1, 1))
case("PutRecords", VALIDATION, text, Records=[long, short, long])
whole = [{"Data": bytes(2**20 - 1), "PartitionKey": "k"}] * 10
case("PutRecords", INVALID, "Records size exceeds 10 MB limit", Records=[*whole, {"Data": b"", "PartitionKey": "k"}])
text = f"ExclusiveMinimumSequenceNumber 17 used in PutRecord on stream s under account {ACCOUNT} is invalid."
case("PutRecord", INVALID, text, SequenceNumberForOrdering="17")
text = f"Shard shardId-000000000009 in stream s under account {ACCOUNT} does not exist"
case("GetShardIterator", NOT_FOUND, text, ShardId="shardId-000000000009")
for kind, text in (
    ("AT_TIMESTAMP", "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP."),
    ("AFTER_SEQUENCE_NUMBER", NUMBERS.format("AFTER_SEQUENCE_NUMBER and no")),
):
    case("GetShardIterator", INVALID, text, ShardIteratorType=kind)
text = NUMBERS.format("LATEST and also a")
case("GetShardIterator", INVALID, text, ShardIteratorType="LATEST", StartingSequenceNumber="1")
case(
    "GetShardIterator",
    INVALID,
    f"The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: "
    f"{START_MS + 1}, currentTimestampInMillis: {START_MS}",
    ShardIteratorType="AT_TIMESTAMP",
    Timestamp=(START_MS + 1) / 1000,
)
case(
    "GetShardIterator",
    INVALID,
    f"StartingSequenceNumber 17 used in GetShardIterator on shard {SHARD} in stream s under account {ACCOUNT} is "
    "invalid because it did not come from this stream.",
    ShardIteratorType="AT_SEQUENCE_NUMBER",
    StartingSequenceNumber="17",
)
case("GetRecords", INVALID, "Invalid ShardIterator.", lambda kinesis: {"ShardIterator": "x"})


def deleted(kinesis: VirtualKinesis) -> dict[str, Any]:
    iterator = on()(kinesis) and kinesis.iterator()
    kinesis("DeleteStream", StreamName="s")
    return {"ShardIterator": iterator}


case("GetRecords", NOT_FOUND, "The stream of this ShardIterator does not exist.", deleted)


def other_stream(kinesis: VirtualKinesis) -> dict[str, Any]:
    kinesis.stream()
    return {"StreamARN": kinesis.stream("t"), "ShardIterator": kinesis.iterator()}


case("GetRecords", INVALID, "ShardIterator does not belong to the stream.", other_stream)


def expired_iterator(kinesis: VirtualKinesis) -> dict[str, Any]:
    iterator = on()(kinesis) and kinesis.iterator()
    kinesis.clock.advance(300_001)
    return {"ShardIterator": iterator}


case(
    "GetRecords",
    "ExpiredIteratorException",
    "Iterator expired. The iterator was created at time Tue Nov 14 22:13:20 UTC 2023 while right now it is "
    "Tue Nov 14 22:18:20 UTC 2023 which is further in the future than the tolerated delay of 300000 milliseconds.",
    expired_iterator,
)


def expired_token(operation: str, **given: Any) -> Given:
    def prepare(kinesis: VirtualKinesis) -> dict[str, Any]:
        for name in ("s", "t"):
            kinesis.stream(name, shards=2)
        for name in ("c", "d"):
            kinesis.consumer(name)
        token = kinesis(operation, **given)["NextToken"]
        kinesis.clock.advance(300_001)
        if operation == "ListShards":
            return {"NextToken": token}
        return {**given, "NextToken": token}

    return prepare


text = "The provided NextToken has expired."
for name, given in (
    ("ListShards", {"StreamName": "s", "MaxResults": 1}),
    ("ListStreams", {"Limit": 1}),
    ("ListStreamConsumers", {"StreamARN": ARN, "MaxResults": 1}),
):
    case(name, "ExpiredNextTokenException", text, expired_token(name, **given))

# What the model forbids.
for name in OPERATIONS:
    if VALIDATION in [shape.name for shape in MODEL.operation_model(name).error_shapes]:
        required = MODEL.operation_model(name).input_shape.required_members[0]
        case(
            name,
            VALIDATION,
            f"1 validation error detected: Value null at '{required[0].lower()}{required[1:]}' failed to satisfy "
            "constraint: Member must not be null",
            lambda kinesis, name=name, required=required: {
                key: value for key, value in about(name).items() if key != required
            },
        )


@pytest.fixture
def kinesis() -> Iterator[VirtualKinesis]:
    virtual = VirtualKinesis()
    yield virtual
    virtual.close()


@pytest.fixture
def limited() -> Iterator[VirtualKinesis]:
    virtual = VirtualKinesis(AWS)
    yield virtual
    virtual.close()


@pytest.mark.parametrize(
    ("operation", "error", "message", "given"),
    [pytest.param(*one, id=f"{one[0]}-{one[1]}-{number}") for number, one in enumerate(CASES)],
)
def test_refused(kinesis: VirtualKinesis, operation: str, error: str, message: str | None, given: Given) -> None:
    prepared = given(kinesis)
    if message is None:
        assert kinesis.refusal(operation, **prepared)[::2] == (error, 400)
    else:
        assert kinesis.refusal(operation, **prepared) == Refusal(error, message, 400)


# quotas and states, which hold under AWS's limits


def active(kinesis: VirtualKinesis) -> str:
    """The stream `s`, ready, on AWS's time; its consumer's ARN."""
    kinesis.stream()
    kinesis.clock.advance(60_000)
    consumer = kinesis.consumer()
    kinesis.clock.advance(60_000)
    return consumer


RATED = [name for name in OPERATIONS if LIMIT in [e.name for e in MODEL.operation_model(name).error_shapes]]


@pytest.mark.parametrize("operation", [name for name in RATED if name != "SubscribeToShard"])
def test_rates(limited: VirtualKinesis, operation: str) -> None:
    given = about(operation, consumer=active(limited))
    body = encoded(given)
    rate, scope = API_RATES[operation]
    for _ in range(rate):
        assert json.loads(limited.raw(operation, body).body or b"{}").get("__type") != LIMIT
    text = f"Rate exceeded for stream {ARN} under account {ACCOUNT}."
    if scope == "account":
        text = f"Rate exceeded for account {ACCOUNT}."
    assert limited.refusal(operation, **given) == Refusal(LIMIT, text, 400)
    limited.clock.advance(1000)
    assert json.loads(limited.raw(operation, body).body or b"{}").get("__type") != LIMIT


def test_rate_of_subscribing(limited: VirtualKinesis) -> None:
    given = about("SubscribeToShard", consumer=active(limited))
    limited.subscribe(**given).leave()
    text = f"Rate exceeded for consumer {given['ConsumerARN']} and shard {SHARD}."
    assert limited.refusal("SubscribeToShard", **given) == Refusal(LIMIT, text, 400)
    limited.clock.advance(1000)
    limited.subscribe(**given)


IN_STATES = [name for name in OPERATIONS if IN_USE in [e.name for e in MODEL.operation_model(name).error_shapes]]


@pytest.mark.parametrize(
    "operation",
    [n for n in IN_STATES if n not in {"CreateStream", "DeleteResourcePolicy", "SubscribeToShard"} | IN_ANY_STATE],
)
def test_not_before_it_is_active(limited: VirtualKinesis, operation: str) -> None:
    limited("UpdateAccountSettings", **MINIMAL["UpdateAccountSettings"])
    mode = "ON_DEMAND" if operation == "UpdateStreamWarmThroughput" else "PROVISIONED"
    count = {"ShardCount": 1} if mode == "PROVISIONED" else {}
    limited("CreateStream", StreamName="s", StreamModeDetails={"StreamMode": mode}, **count)
    assert limited("DescribeStreamSummary", StreamName="s")["StreamDescriptionSummary"]["StreamStatus"] == "CREATING"
    code, message, status = limited.refusal(operation, **about(operation))
    assert (code, status) == (IN_USE, 400)
    assert message.startswith(f"Stream s under account {ACCOUNT} not ACTIVE")
    assert message.endswith("instead in state CREATING")


def test_not_once_it_is_deleted(limited: VirtualKinesis) -> None:
    active(limited)
    limited("PutResourcePolicy", **about("PutResourcePolicy"))
    limited("DeleteStream", StreamName="s", EnforceConsumerDeletion=True)
    text = f"Stream s under account {ACCOUNT} not ACTIVE or UPDATING, instead in state DELETING"
    for operation in ("DeleteResourcePolicy", "DeleteStream", "ListShards", "RegisterStreamConsumer"):
        assert limited.refusal(operation, **about(operation)) == Refusal(IN_USE, text, 400)


@pytest.mark.parametrize("operation", ["PutRecord", "PutRecords", "GetShardIterator"])
def test_a_stream_that_is_not_there_yet(limited: VirtualKinesis, operation: str) -> None:
    limited.stream()
    text = f"Stream s under account {ACCOUNT} not found."
    assert limited.refusal(operation, **about(operation)) == Refusal(NOT_FOUND, text, 400)


def test_a_consumer_that_is_not_there_yet(limited: VirtualKinesis) -> None:
    active(limited)
    given = about("SubscribeToShard", consumer=limited.consumer("d"))
    code, message, status = limited.refusal("SubscribeToShard", **given)
    created_s = limited.clock.now_ms() // 1000
    assert (code, status) == (IN_USE, 400)
    assert message == (
        f"Consumer d with creation timestamp {created_s} under stream s and account {ACCOUNT} is not in ACTIVE status."
    )


def test_shards_throttle(limited: VirtualKinesis) -> None:
    active(limited)
    text = f"Rate exceeded for shard {SHARD} in stream s under account {ACCOUNT}."
    iterators = [limited.iterator() for _ in range(5)]
    given = about("GetShardIterator")
    assert limited.refusal("GetShardIterator", **given) == Refusal(THROTTLED, text, 400)
    for iterator in iterators:
        limited("GetRecords", ShardIterator=iterator)
    assert limited.refusal("GetRecords", ShardIterator=iterators[0]) == Refusal(THROTTLED, text, 400)
    limited("PutRecord", StreamName="s", Data=bytes(2**20 - 1), PartitionKey="k")
    assert limited.refusal("PutRecord", **about("PutRecord")) == Refusal(THROTTLED, text, 400)
    entries = limited("PutRecords", **about("PutRecords"))
    assert entries == {"FailedRecordCount": 1, "Records": [{"ErrorCode": THROTTLED, "ErrorMessage": text}]}


def test_every_documented_error_is_provoked() -> None:
    provoked = {(operation, error) for operation, error, _, _ in CASES}
    provoked |= {(operation, LIMIT) for operation in RATED} | {(operation, IN_USE) for operation in IN_STATES}
    provoked |= {(name, THROTTLED) for name in ("PutRecord", "PutRecords", "GetRecords", "GetShardIterator")}
    provoked |= {(name, "AccessDeniedException") for name in GUARDED}
    documented = {
        (name, error.name)
        for name in OPERATIONS
        for error in MODEL.operation_model(name).error_shapes
        if cannot_occur(name, error.name) is None
    }
    # A single record's throttling is its entry's own, never the whole answer's.
    assert documented - provoked == set()


# another account

GUARDED = [
    name for name in OPERATIONS if "AccessDeniedException" in [e.name for e in MODEL.operation_model(name).error_shapes]
]


def test_another_account_needs_a_policy(start_sidebus: Any, connect: Any) -> None:
    owner, guest = "111111111111", "222222222222"
    server = start_sidebus("--auth", "strict", "--key", f"{owner}=o", "--key", f"{guest}=g")
    own = connect(server, "kinesis", account=owner, secret="o")
    other = connect(server, "kinesis", account=guest, secret="g")
    own.create_stream(StreamName="s", ShardCount=2)
    consumer = own.register_stream_consumer(StreamARN=ARN, ConsumerName="c")["Consumer"]["ConsumerARN"]
    iterator = own.get_shard_iterator(StreamName="s", ShardId=SHARD, ShardIteratorType="LATEST")["ShardIterator"]
    for name in GUARDED:
        given = about(name, consumer=consumer)
        if name == "GetRecords":
            given["ShardIterator"] = iterator
        with pytest.raises(ClientError) as caught:
            getattr(other, xform_name(name))(**given)
        resource = consumer if "ConsumerARN" in given else ARN
        assert caught.value.response["Error"] == {
            "Code": "AccessDeniedException",
            "Message": f"User: arn:aws:iam::{guest}:user/sidebus is not authorized to perform: kinesis:{name} on "
            f"resource: {resource} because no resource-based policy allows the kinesis:{name} action",
        }
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


# what somebody made up

DEEP = b"[" * 100_000


@pytest.mark.parametrize("operation", ["ListStreams", "ListShards", "ListStreamConsumers"])
@pytest.mark.parametrize(
    "inside", [DEEP, b"[]", b"{}", b'["%s",[],1]', b'["%s",7,"x"]', b'["%s",{"mark":[]},1]', b'["%s",{"mark":1},{}]']
)
def test_a_token_of_somebody_elses_making(kinesis: VirtualKinesis, operation: str, inside: bytes) -> None:
    kinesis.stream()
    token = b64encode(b"8 bytes!" + inside.replace(b"%s", operation.encode())).decode()
    given = {"StreamARN": ARN} if operation == "ListStreamConsumers" else {}
    text = "The provided NextToken is invalid."
    assert kinesis.refusal(operation, NextToken=token, **given) == Refusal(INVALID, text, 400)


@pytest.mark.parametrize("policy", [DEEP.decode(), '{"Statement":' + DEEP.decode(), "7", "[]", '{"Statement":7}'])
def test_a_policy_that_is_none(kinesis: VirtualKinesis, policy: str) -> None:
    text = "The resource policy is not valid: it must be JSON with a Statement."
    given = {"ResourceARN": kinesis.stream(), "Policy": policy}
    assert kinesis.refusal("PutResourcePolicy", **given) == Refusal(INVALID, text, 400)


# golden bytes


@pytest.mark.parametrize(
    ("operation", "body", "answer"),
    [
        (
            "DescribeStream",
            b'{"StreamName":"s"}',
            b'{"__type":"ResourceNotFoundException","message":"Stream s under account 111111111111 not found."}',
        ),
        (
            "CreateStream",
            b'{"ShardCount":0}',
            b'{"__type":"ValidationException","message":"2 validation errors detected: Value null at \'streamName\' '
            b"failed to satisfy constraint: Member must not be null; Value '0' at 'shardCount' failed to satisfy "
            b'constraint: Member must have value greater than or equal to 1"}',
        ),
        ("CreateStream", b"{", b'{"__type":"SerializationException"}'),
        (
            "CreateStream",
            b'{"StreamName":"s","ShardCount":"1"}',
            b'{"__type":"SerializationException","Message":"STRING_VALUE can not be converted to an Integer"}',
        ),
        ("MakeStream", b"{}", b'{"__type":"UnknownOperationException"}'),
        (
            "GetRecords",
            b'{"ShardIterator":"x"}',
            b'{"__type":"InvalidArgumentException","message":"Invalid ShardIterator."}',
        ),
    ],
)
def test_bytes(kinesis: VirtualKinesis, operation: str, body: bytes, answer: bytes) -> None:
    response = kinesis.raw(operation, body)
    assert (response.status, response.body) == (400, answer)
    headers = dict(response.headers)
    assert headers.pop(b"x-amzn-requestid")
    assert headers == {b"content-type": b"application/x-amz-json-1.1"}


def test_bytes_of_an_operation_without_an_output(kinesis: VirtualKinesis) -> None:
    response = kinesis.raw("CreateStream", b'{"StreamName":"s","ShardCount":1}')
    assert (response.status, response.body) == (200, b"")
    assert kinesis.raw("DeleteStream", b"\xa1\x6aStreamName\x61s", media_type=CBOR).body == b""

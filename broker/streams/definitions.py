"""The life of streams: creation, settings, tags, policies, deletion; an account's settings and limits.

Each operation is one transaction, and refuses before it changes anything. What changes a stream makes it UPDATING for
a while (`lifecycle.py`). Names and errors are the API reference's; where it does not give a sentence, ours says what
is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from broker.errors import (
    ExpiredNextTokenException,
    InvalidArgumentException,
    LimitExceededException,
    ResourceInUseException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.limits import (
    DEFAULT_RECORD_KIB,
    MAX_RECORD_KIB,
    MAX_STREAM_RETENTION_H,
    MAX_STREAMS_LISTED,
    MAX_TAGS,
    MIN_STREAM_RETENTION_H,
    ON_DEMAND_SHARDS,
    ON_DEMAND_STREAM_QUOTA,
    STREAM_TOKEN_MS,
)
from broker.names import World
from broker.streams import tokens
from broker.streams.account import Accounts
from broker.streams.lifecycle import Lifecycle
from broker.streams.registry import Registry, Resource, check_active, check_usable, not_found
from broker.streams.scaling import Scaling
from broker.streams.shards import MAX_SHARDS, Shards
from broker.streams.stream import (
    ACTIVE,
    AUTO,
    CREATING,
    DELETING,
    KMS,
    NONE,
    ON_DEMAND,
    PROVISIONED,
    USER_PARTITION_KEY,
    Consumer,
    Stream,
)

METRICS = (
    "IncomingBytes",
    "IncomingRecords",
    "OutgoingBytes",
    "OutgoingRecords",
    "WriteProvisionedThroughputExceeded",
    "ReadProvisionedThroughputExceeded",
    "IteratorAgeMilliseconds",
)
MAX_WARM_MIBPS = 10_240  # UpdateStreamWarmThroughput: 10 GiB/s
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
_TAG = re.compile(r"[\w\s.:/=+\-@%]*")
_TOKEN = "ListStreams"
_BASE_36 = "0123456789abcdefghijklmnopqrstuvwxyz"


class Definitions:
    """All streams of a broker, of every account and region."""

    def __init__(
        self, registry: Registry, lifecycle: Lifecycle, shards: Shards, scaling: Scaling, accounts: Accounts
    ) -> None:
        self._registry = registry
        self._lifecycle = lifecycle
        self._shards = shards
        self._scaling = scaling
        self._accounts = accounts
        self._clock = registry.clock
        self._limits = registry.limits
        self.guards: list[Callable[[Stream], None]] = []  # refuse to let a stream go: queues on it
        lifecycle.on_update |= {
            "CreateStream": self._apply_create,
            "Retention": self._apply_retention,
            "Encryption": self._apply_encryption,
            "UpdateStreamMode": self._apply_mode,
            "UpdateMaxRecordSize": self._apply_max_record_size,
            "UpdateStreamWarmThroughput": self._apply_warm_throughput,
        }

    # creation and deletion

    def create(
        self,
        world: World,
        name: str,
        shard_count: int | None = None,
        *,
        mode: str | None = None,
        tags: Mapping[str, str] | None = None,
        max_record_kib: int | None = None,
        warm_mibps: int | None = None,
        distribution: str | None = None,
    ) -> Stream:
        """Raises InvalidArgument…, Validation…, ResourceInUse…, LimitExceededException."""
        self._registry.rate("CreateStream", world)
        if not _NAME.fullmatch(name):
            raise ValidationException(f"Stream name {name} does not match [a-zA-Z0-9_.-]+ or is too long.")
        if mode is None:
            # A bare name is enough (guide, "Perform basic Kinesis Data Streams operations using the AWS CLI"), and a
            # provisioned stream needs a count.
            mode = ON_DEMAND if shard_count is None else PROVISIONED
        if mode == PROVISIONED:
            if shard_count is None:
                raise ValidationException("ShardCount must be specified for a stream in provisioned mode.")
            if warm_mibps is not None:
                raise ValidationException("WarmThroughputMiBps is only supported for the on-demand mode.")
            if distribution is not None:
                raise ValidationException("RecordDistributionStrategy is only supported for the on-demand mode.")
        elif shard_count is not None:
            raise ValidationException("ShardCount is not expected when StreamMode=ON_DEMAND")  # aws/aws-cdk#18139
        count = shard_count if shard_count is not None else max(ON_DEMAND_SHARDS, warm_mibps or 0)
        if count < 1:
            raise InvalidArgumentException("ShardCount must be at least 1.")
        if count > MAX_SHARDS:
            raise LimitExceededException(f"ShardCount {count} is above the limit of {MAX_SHARDS} of a stream.")
        if max_record_kib is not None:
            _check_record_kib(max_record_kib)
        if warm_mibps is not None:
            self._check_warm(world, warm_mibps)
        check_tags({}, tags or {})
        self._registry.commit.enter()
        if (world, name) in self._registry.streams:
            raise ResourceInUseException(f"Stream {name} under account {world.account} already exists.")
        self._check_quotas(world, mode, count)
        entropy = self._registry.entropy
        stream = Stream(
            self._registry.next_no(),
            world,
            name,
            _stream_id(entropy.bits(128)),
            f"{entropy.bits(128):032x}",
            self._clock.now_ms(),
        )
        stream.mode = mode
        stream.tags = dict(tags or {})
        stream.max_record_kib = max_record_kib or DEFAULT_RECORD_KIB
        stream.warm_mibps = warm_mibps
        stream.distribution = distribution or USER_PARTITION_KEY
        self._registry.add_stream(stream)
        self._lifecycle.create(stream, {"shards": count})
        return stream

    def _check_quotas(self, world: World, mode: str, count: int) -> None:
        streams = self._registry.of_world(world)
        creating = self._limits.streams_creating
        if creating is not None and sum(stream.status == CREATING for stream in streams) >= creating:
            raise LimitExceededException(f"Limit of {creating} streams in CREATING state exceeded.")
        if mode == PROVISIONED:
            self._shards.check_quota(world, count)
        else:
            self._check_on_demand_quota(world)

    def _check_on_demand_quota(self, world: World) -> None:
        limit = self._limits.on_demand_streams
        if limit is not None and self.on_demand_count(world) >= limit:
            raise LimitExceededException(
                f"This request would exceed the limit of {limit} on-demand streams of account {world.account} "
                f"in {world.region}."
            )

    def _apply_create(self, stream: Stream, asked: dict[str, Any], now_ms: int) -> None:
        self._shards.make_first(stream, asked["shards"])

    def delete(self, stream: Stream, *, enforce_consumer_deletion: bool = False) -> None:
        """Raises ResourceInUseException, LimitExceededException."""
        self._registry.rate("DeleteStream", stream.world)
        self._registry.commit.enter()
        check_usable(stream)
        for refuse in self.guards:
            refuse(stream)
        if stream.consumers and not enforce_consumer_deletion:
            raise ResourceInUseException(
                # AWS's words: cloud-custodian/cloud-custodian#7260
                f"DeleteStream can't delete {stream.arn} because there are consumers associated with this data stream. "
                f"To delete {stream.name} anyway, set the EnforceConsumerDeletion parameter to true to force the "
                "deletion of all the consumers that are associated with it."
            )
        for consumer in stream.consumers.values():
            consumer.status = DELETING
            self._registry.put(consumer)
        self._lifecycle.delete(stream)

    def list_streams(
        self, world: World, *, after: str | None = None, limit: int | None = None, token: str | None = None
    ) -> tuple[list[Stream], str | None]:
        """A page of streams by name, and the next token. Raises InvalidArgument…, ExpiredNextToken…, LimitExceeded…."""
        self._registry.rate("ListStreams", world)
        now_ms = self._clock.now_ms()
        if token is not None:
            read = tokens.read_list_token(_TOKEN, token)
            if read is None or not tokens.is_signed_list(read[2], world.account):
                raise InvalidArgumentException("The provided NextToken is invalid.")
            if now_ms > read[1] + STREAM_TOKEN_MS:
                raise ExpiredNextTokenException("The provided NextToken has expired.")
            after = read[0]["after"]
        found = sorted(
            (stream for stream in self._registry.of_world(world) if stream.name > (after or "")),
            key=lambda stream: stream.name,
        )
        count = min(limit or MAX_STREAMS_LISTED, MAX_STREAMS_LISTED)
        if len(found) <= count:
            return found, None
        return found[:count], tokens.make_list_token(_TOKEN, {"after": found[count - 1].name}, world.account, now_ms)

    # settings

    def increase_retention(self, stream: Stream, hours: int) -> None:
        """Raises InvalidArgumentException, ResourceInUseException, LimitExceededException."""
        self._registry.rate("IncreaseStreamRetentionPeriod", stream.world, stream.arn)
        _check_retention(hours)
        if hours < stream.retention_h:
            raise InvalidArgumentException(
                f"Requested retention period ({hours} hours) for stream {stream.name} can not be shorter than existing "
                f"retention period ({stream.retention_h} hours). Use DecreaseRetentionPeriod API."
            )
        self._set_retention(stream, hours)

    def decrease_retention(self, stream: Stream, hours: int) -> None:
        """Raises InvalidArgumentException, ResourceInUseException, LimitExceededException."""
        self._registry.rate("DecreaseStreamRetentionPeriod", stream.world, stream.arn)
        _check_retention(hours)
        if hours > stream.retention_h:
            raise InvalidArgumentException(
                f"Requested retention period ({hours} hours) for stream {stream.name} can not be longer than existing "
                f"retention period ({stream.retention_h} hours). Use IncreaseRetentionPeriod API."
            )
        self._set_retention(stream, hours)

    def _set_retention(self, stream: Stream, hours: int) -> None:
        self._registry.commit.enter()
        check_active(stream)
        if hours != stream.retention_h:
            self._lifecycle.update(stream, "Retention", hours=hours)

    def _apply_retention(self, stream: Stream, asked: dict[str, Any], now_ms: int) -> None:
        stream.floor_ms = stream.horizon_ms(now_ms)  # what is expired does not come back
        stream.retention_h = asked["hours"]
        for shard in stream.shards.values():
            self._registry.appoint_expiry(shard)

    def start_encryption(self, stream: Stream, encryption_type: str, key_id: str) -> None:
        """Raises InvalidArgumentException, ResourceInUseException, LimitExceededException."""
        self._encrypt(stream, "StartStreamEncryption", encryption_type, KMS, key_id)

    def stop_encryption(self, stream: Stream, encryption_type: str, key_id: str) -> None:
        """Raises InvalidArgumentException, ResourceInUseException, LimitExceededException."""
        self._encrypt(stream, "StopStreamEncryption", encryption_type, NONE, None)

    def _encrypt(self, stream: Stream, operation: str, given: str, becomes: str, key_id: str | None) -> None:
        self._registry.rate(operation, stream.world, stream.arn)
        if given != KMS:
            raise InvalidArgumentException(f"EncryptionType {given} is not valid: the only valid value is KMS.")
        self._registry.commit.enter()
        check_active(stream)
        self._lifecycle.count(stream, operation, self._limits.encryption_updates)
        self._lifecycle.update(stream, "Encryption", type=becomes, key_id=key_id)

    def _apply_encryption(self, stream: Stream, asked: dict[str, Any], now_ms: int) -> None:
        for shard in stream.open_shards:
            self._registry.end_segment(shard)
        stream.encryption, stream.key_id = asked["type"], asked["key_id"]

    def enable_monitoring(self, stream: Stream, metrics: Iterable[str]) -> tuple[list[str], list[str]]:
        """The metrics before and after. Raises InvalidArgumentException, LimitExceededException, ResourceInUse…."""
        self._registry.rate("EnableEnhancedMonitoring", stream.world, stream.arn)
        asked = _metrics(metrics)
        return self._monitor(stream, [name for name in METRICS if name in asked or name in stream.metrics])

    def disable_monitoring(self, stream: Stream, metrics: Iterable[str]) -> tuple[list[str], list[str]]:
        """The metrics before and after. Raises InvalidArgumentException, LimitExceededException, ResourceInUse…."""
        self._registry.rate("DisableEnhancedMonitoring", stream.world, stream.arn)
        asked = _metrics(metrics)
        return self._monitor(stream, [name for name in stream.metrics if name not in asked])

    def _monitor(self, stream: Stream, metrics: list[str]) -> tuple[list[str], list[str]]:
        self._registry.commit.enter()
        check_usable(stream)
        before, stream.metrics = stream.metrics, metrics
        self._registry.put(stream)
        return before, metrics

    def update_mode(self, stream: Stream, mode: str, warm_mibps: int | None = None) -> None:
        """Raises InvalidArgument…, Validation…, ResourceInUse…, LimitExceededException."""
        self._registry.rate("UpdateStreamMode", stream.world, stream.arn)
        if warm_mibps is not None:
            if mode != ON_DEMAND:
                raise ValidationException("WarmThroughputMiBps is only supported for the on-demand mode.")
            self._check_warm(stream.world, warm_mibps)
        self._registry.commit.enter()
        check_active(stream)
        if mode == stream.mode:
            raise ValidationException(
                f"Stream {stream.name} under account {stream.world.account} is in {mode} mode already."
            )
        if mode == PROVISIONED:
            for refuse in self.guards:
                refuse(stream)
            self._shards.check_quota(stream.world, len(stream.open_shards))
        else:
            self._check_on_demand_quota(stream.world)
        self._lifecycle.count(stream, "UpdateStreamMode", self._limits.stream_mode_updates)
        self._lifecycle.update(stream, "UpdateStreamMode", mode=mode, warm_mibps=warm_mibps)

    def _apply_mode(self, stream: Stream, asked: dict[str, Any], now_ms: int) -> None:
        stream.mode, stream.warm_mibps = asked["mode"], asked["warm_mibps"]
        if stream.mode == PROVISIONED:
            stream.distribution = USER_PARTITION_KEY
        elif stream.warm_mibps is not None:
            self._scaling.warm(stream, stream.warm_mibps, now_ms)

    def update_max_record_size(self, stream: Stream, kib: int) -> None:
        """Raises ValidationException, ResourceInUseException, LimitExceededException."""
        self._registry.rate("UpdateMaxRecordSize", stream.world, stream.arn)
        _check_record_kib(kib)
        self._registry.commit.enter()
        self._lifecycle.update(stream, "UpdateMaxRecordSize", kib=kib)

    def _apply_max_record_size(self, stream: Stream, asked: dict[str, Any], now_ms: int) -> None:
        stream.max_record_kib = asked["kib"]

    def update_warm_throughput(self, stream: Stream, mibps: int) -> tuple[int, int]:
        """The target and the current figure, MiB/s. Raises Validation…, ResourceInUse…, LimitExceededException."""
        self._registry.rate("UpdateStreamWarmThroughput", stream.world)
        if stream.mode != ON_DEMAND:
            raise ValidationException("Warm throughput is only supported for streams in on-demand mode.")
        self._check_warm(stream.world, mibps)
        self._registry.commit.enter()
        current = self.warm_throughput(stream)[1]
        self._lifecycle.update(stream, "UpdateStreamWarmThroughput", mibps=mibps)
        return mibps, current

    def _apply_warm_throughput(self, stream: Stream, asked: dict[str, Any], now_ms: int) -> None:
        stream.warm_mibps = asked["mibps"]
        self._scaling.warm(stream, asked["mibps"], now_ms)

    def warm_throughput(self, stream: Stream) -> tuple[int, int]:
        """An on-demand stream's target and current figure, MiB/s: each shard takes one."""
        asked = (stream.update or {}).get("mibps", stream.warm_mibps)
        return asked if asked is not None else len(stream.open_shards), len(stream.open_shards)

    def _check_warm(self, world: World, mibps: int) -> None:
        if not self._accounts.is_committed(world):
            raise ValidationException(
                "Warm throughput is only supported for accounts with MinimumThroughputBillingCommitment enabled."
            )
        if mibps > MAX_WARM_MIBPS:
            raise LimitExceededException(f"WarmThroughputMiBps {mibps} is above the limit of {MAX_WARM_MIBPS}.")

    def update_distribution(self, stream: Stream, strategy: str) -> None:
        """Raises InvalidArgumentException, ResourceInUseException, LimitExceededException."""
        self._registry.rate("UpdateStreamRecordDistributionStrategy", stream.world)
        self._registry.commit.enter()
        check_usable(stream)
        if stream.mode != ON_DEMAND:
            raise InvalidArgumentException(
                "The record distribution strategy is only supported for streams in on-demand mode."
            )
        stream.distribution = AUTO if strategy == AUTO else USER_PARTITION_KEY
        self._registry.put(stream)

    # tags and policies, of streams and consumers and whatever else has an ARN

    def find_resource(self, arn: str) -> Resource:
        """Raises ResourceNotFoundException, InvalidArgumentException."""
        found: Resource | None = self._registry.by_arn.get(arn) or self._registry.consumers.get(arn)
        for find in self._registry.find_other:
            found = found or find(arn)
        if found is not None:
            return found
        parts = arn.split(":", 5)
        if len(parts) != 6 or parts[2] != "kinesis":
            raise InvalidArgumentException(f"ResourceARN {arn} is not the ARN of a Kinesis resource.")
        if "/consumer/" in parts[5]:
            raise ResourceNotFoundException(f"Consumer {arn}, account {parts[4]} not found.")
        raise not_found(parts[5].partition("/")[2], parts[4])

    def add_tags(self, resource: Resource, tags: Mapping[str, str], operation: str = "TagResource") -> None:
        """Raises InvalidArgumentException, ResourceInUseException, LimitExceededException."""
        self._registry.rate(operation, _world_of(resource))
        check_tags(resource.tags, tags)
        self._registry.commit.enter()
        _check_active(resource)
        resource.tags = {**resource.tags, **tags}
        self._registry.put(resource)

    def remove_tags(self, resource: Resource, keys: Sequence[str], operation: str = "UntagResource") -> None:
        """Raises InvalidArgumentException, ResourceInUseException, LimitExceededException."""
        self._registry.rate(operation, _world_of(resource))
        self._registry.commit.enter()
        _check_active(resource)
        resource.tags = {key: value for key, value in resource.tags.items() if key not in keys}
        self._registry.put(resource)

    def list_tags(
        self, stream: Stream, after: str | None = None, limit: int | None = None
    ) -> tuple[list[tuple[str, str]], bool]:
        """ListTagsForStream: a page by key, and whether there are more."""
        self._registry.rate("ListTagsForStream", stream.world)
        found = sorted((key, value) for key, value in stream.tags.items() if key > (after or ""))
        count = limit or MAX_TAGS
        return found[:count], len(found) > count

    def put_policy(self, resource: Resource, policy: str) -> None:
        """Raises InvalidArgumentException, ResourceInUseException, LimitExceededException."""
        self._registry.rate("PutResourcePolicy", _world_of(resource))
        try:
            statements = json.loads(policy)["Statement"]
        except (ValueError, TypeError, KeyError, RecursionError):
            statements = None
        if not isinstance(statements, list | dict) or not statements:
            raise InvalidArgumentException("The resource policy is not valid: it must be JSON with a Statement.")
        self._registry.commit.enter()
        _check_active(resource)
        resource.policy = policy
        self._registry.put(resource)

    def get_policy(self, resource: Resource) -> str:
        """An empty document where there is none."""
        self._registry.rate("GetResourcePolicy", _world_of(resource))
        return resource.policy or "{}"

    def delete_policy(self, resource: Resource) -> None:
        """Raises ResourceNotFoundException, ResourceInUseException, LimitExceededException."""
        self._registry.rate("DeleteResourcePolicy", _world_of(resource))
        if resource.policy is None:
            raise ResourceNotFoundException(f"No resource policy found for {resource.arn}.")
        self._registry.commit.enter()
        _check_active(resource)
        resource.policy = None
        self._registry.put(resource)

    # figures

    def on_demand_count(self, world: World) -> int:
        return sum(stream.mode == ON_DEMAND for stream in self._registry.of_world(world))

    def limits(self, world: World) -> dict[str, int]:
        """DescribeLimits, but for channels. Raises LimitExceededException."""
        self._registry.rate("DescribeLimits", world)
        return {
            "ShardLimit": self._shards.quota,
            "OpenShardCount": self._shards.open_count(world),
            "OnDemandStreamCount": self.on_demand_count(world),
            "OnDemandStreamCountLimit": self._limits.on_demand_streams or ON_DEMAND_STREAM_QUOTA,
        }


def _stream_id(bits: int) -> str:
    """Of the form the model has: 20 and 3 letters or digits."""
    digits = ""
    for _ in range(23):
        bits, digit = divmod(bits, 36)
        digits += _BASE_36[digit]
    return f"{digits[:20]}-{digits[20:]}"


def _check_retention(hours: int) -> None:
    if hours < MIN_STREAM_RETENTION_H:
        raise InvalidArgumentException(
            f"Minimum allowed retention period is {MIN_STREAM_RETENTION_H} hours. "
            f"Requested retention period ({hours} hours) is too short."
        )
    if hours > MAX_STREAM_RETENTION_H:
        raise InvalidArgumentException(
            f"Maximum allowed retention period is {MAX_STREAM_RETENTION_H} hours. "
            f"Requested retention period ({hours} hours) is too long."
        )


def _check_record_kib(kib: int) -> None:
    if not DEFAULT_RECORD_KIB <= kib <= MAX_RECORD_KIB:
        raise ValidationException(
            f"MaxRecordSizeInKiB {kib} is not valid: it must be between {DEFAULT_RECORD_KIB} and {MAX_RECORD_KIB}."
        )


def check_tags(has: Mapping[str, str], given: Mapping[str, str]) -> None:
    for key, value in given.items():
        if not 1 <= len(key) <= 128 or len(value) > 256 or not _TAG.fullmatch(key) or not _TAG.fullmatch(value):
            raise InvalidArgumentException(
                "Some tags contain invalid characters or are too long. Valid characters: Unicode letters, digits, "
                "white space, _ . : / = + - @ %"
            )
        if key.lower().startswith("aws:"):
            raise InvalidArgumentException("Tag keys that begin with aws: are reserved.")
    if len({**has, **given}) > MAX_TAGS:
        raise InvalidArgumentException(f"Failed to add tags: a resource cannot have more than {MAX_TAGS} tags.")


def _check_active(resource: Resource) -> None:
    if isinstance(resource, Stream):
        check_usable(resource)
    elif isinstance(resource, Consumer):
        check_consumer_active(resource)


def check_consumer_active(consumer: Consumer) -> None:
    """Raises ResourceInUseException."""
    if consumer.status != ACTIVE:
        raise ResourceInUseException(
            f"Consumer {consumer.name} with creation timestamp {consumer.created_ms // 1000} under stream "
            f"{consumer.stream.name} and account {consumer.stream.world.account} is not in ACTIVE status."
        )


def _world_of(resource: Resource) -> World:
    _, _, _, region, account, _ = resource.arn.split(":", 5)
    return World(account, region)


def _metrics(names: Iterable[str]) -> Sequence[str]:
    asked = list(names)
    for name in asked:
        if name not in METRICS and name != "ALL":
            raise InvalidArgumentException(f"ShardLevelMetrics {name} is not valid.")
    return METRICS if "ALL" in asked else asked

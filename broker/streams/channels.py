"""Channels: their life, and what each is to deliver next. The delivery itself, to files, is `protocols/delivery`'s.

A channel begins with what comes after CreateChannel. What waits for it is due when the oldest of it is as old as
DataFreshnessInSeconds, or when a shard has a whole batch for it: then all shards' records are handed out, batch by
batch, and a shard's cursor moves when its batch was reported as delivered. So each record is delivered at least once,
and a batch that is tried again begins with the same record.

https://docs.aws.amazon.com/kinesis/latest/APIReference/API_CreateChannel.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from broker.clock import Timer
from broker.errors import (
    LimitExceededException,
    ResourceInUseException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.limits import CHANNEL_QUOTA, DEFAULT_FRESHNESS_S, MAX_CHANNELS_LISTED
from broker.names import World, partition_of
from broker.store.port import StreamItem
from broker.streams.changes import Changes, StreamFilter, page
from broker.streams.cursors import Cursors
from broker.streams.definitions import Definitions, check_tags
from broker.streams.records import Records
from broker.streams.registry import Registry, Resource, check_usable
from broker.streams.segments import Record
from broker.streams.stream import ACTIVE, CREATING, DELETING, ON_DEMAND, UPDATING, Shard, Stream

FAILED = "FAILED"
S3, S3_TABLES = "S3", "S3_TABLES"
BATCH_RECORDS, BATCH_BYTES = 10_000, 8 * 1024 * 1024
ERROR_PREFIX = "errors/"
_FORMATS = {S3: ("JSON", "STRING", "BYTE_ARRAY"), S3_TABLES: ("GSR_JSON", "JSON")}
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")

Document = dict[str, Any]
"""A configuration as AWS's model has it, its defaults filled in."""


class Channel:
    """A definition. `update` is what it is UPDATING to, until `until_ms`."""

    __slots__ = (
        "arn",
        "channel_id",
        "channel_no",
        "created_ms",
        "destination",
        "destination_type",
        "due",
        "encryption",
        "ends",
        "logging",
        "name",
        "policy",
        "record",
        "role_arn",
        "status",
        "status_reason",
        "stream",
        "tags",
        "timer",
        "until_ms",
        "update",
        "world",
    )

    def __init__(self, channel_no: int, world: World, name: str, channel_id: str, stream: Stream, now_ms: int) -> None:
        self.channel_no = channel_no
        self.world = world
        self.name = name
        self.channel_id = channel_id
        self.arn = f"arn:{partition_of(world.region)}:kinesis:{world.region}:{world.account}:channel/{channel_id}"
        self.stream = stream
        self.created_ms = now_ms
        self.status = CREATING
        self.status_reason: str | None = None
        self.until_ms: int | None = None
        self.update: Document | None = None
        self.role_arn = ""
        self.record: Document = {}
        self.destination_type = S3
        self.destination: Document = {}
        self.encryption: Document | None = None
        self.logging: Document = {}
        self.tags: dict[str, str] = {}
        self.policy: str | None = None
        self.timer: Timer | None = None
        self.due: Timer | None = None  # the next delivery
        self.ends: dict[int, int] = {}  # while it is delivered: the last sequence, by shard's number

    @property
    def is_delivering(self) -> bool:
        return self.status in (ACTIVE, UPDATING)

    @property
    def configuration(self) -> tuple[Document, Document]:
        """The destination and the logging, as they are or are becoming."""
        update = self.update or {}
        return update.get("destination", self.destination), update.get("logging", self.logging)

    @property
    def freshness_ms(self) -> int:
        return int(self.destination["DataFreshnessInSeconds"]) * 1000

    def item(self) -> StreamItem:
        document = {
            "channel_no": self.channel_no,
            "channel_id": self.channel_id,
            "stream": self.stream.arn,
            "created_ms": self.created_ms,
            "status": self.status,
            "status_reason": self.status_reason,
            "until_ms": self.until_ms,
            "update": self.update,
            "role_arn": self.role_arn,
            "record": self.record,
            "destination_type": self.destination_type,
            "destination": self.destination,
            "encryption": self.encryption,
            "logging": self.logging,
            "tags": self.tags,
            "policy": self.policy,
        }
        return StreamItem("channel", *self.world, self.name, json.dumps(document, separators=(",", ":")))

    @classmethod
    def from_item(cls, item: StreamItem, by_arn: Mapping[str, Stream]) -> Channel:
        document = json.loads(item.document)
        channel = cls(
            document.pop("channel_no"),
            World(item.account, item.region),
            item.name,
            document.pop("channel_id"),
            by_arn[document.pop("stream")],
            document.pop("created_ms"),
        )
        for name, value in document.items():
            setattr(channel, name, value)
        return channel


class Batch(NamedTuple):
    """What goes to a destination together: consecutive records of a shard."""

    channel: Channel
    shard: Shard
    position: int  # of the cursor that it moves, and where to
    following: int
    records: list[Record]


class Channels:
    """All of them. `wake` is called when something is due, `no_destination` says why none can be delivered to."""

    def __init__(self, registry: Registry, records: Records, definitions: Definitions, cursors: Cursors) -> None:
        self._registry = registry
        self._records = records
        self._cursors = cursors
        self._clock = registry.clock
        self.by_arn: dict[str, Channel] = {}
        self._of_stream: dict[str, dict[str, Channel]] = {}
        self._changes = Changes(registry, registry.limits.channel_change_ms, self.by_arn.get, self._finish)
        self._due: dict[str, None] = {}
        self.wake: Callable[[], None] = lambda: None
        self.no_destination: str | None = None
        registry.on_load.append(self._load)
        registry.on_arrival.append(self._on_arrival)
        registry.on_remove.append(self._on_remove_stream)
        registry.find_other.append(self._find_resource)
        definitions.guards.append(self._refuse)

    def _load(self) -> None:
        for channel in self.by_arn.values():
            _cancel(channel)
        self.by_arn.clear()
        self._of_stream.clear()
        self._due.clear()
        for item in self._registry.store.load_items("channel"):
            self._keep(Channel.from_item(item, self._registry.by_arn))
        self._changes.resume(self.by_arn.values())
        for channel in self.by_arn.values():
            channel.due = self._registry.call_at(0, self._look, channel)

    def _keep(self, channel: Channel) -> None:
        self.by_arn[channel.arn] = channel
        self._of_stream.setdefault(channel.stream.arn, {})[channel.arn] = channel

    # finding

    def find(self, arn: str) -> Channel:
        """Raises ResourceNotFoundException."""
        channel = self.by_arn.get(arn)
        if channel is None:
            raise ResourceNotFoundException(f"Channel {arn} not found.")
        return channel

    def describe(self, channel: Channel) -> Channel:
        """Raises LimitExceededException."""
        self._registry.rate("DescribeChannel", channel.world)
        return channel

    def _find_resource(self, arn: str) -> Resource | None:
        return self.by_arn.get(arn)

    def count(self, stream: Stream) -> int:
        return len(self._of_stream.get(stream.arn, ()))

    def limits(self, world: World) -> dict[str, int]:
        """DescribeLimits, its part of channels."""
        return {
            "ChannelCount": len(self._of_world(world)),
            "ChannelCountLimit": self._registry.limits.channels or CHANNEL_QUOTA,
        }

    def _of_world(self, world: World) -> dict[str, Channel]:
        return {channel.name: channel for channel in self.by_arn.values() if channel.world == world}

    def list_channels(
        self, world: World, *, streams: StreamFilter | None = None, token: str | None = None, limit: int | None = None
    ) -> tuple[list[Channel], str | None]:
        """A page by name, and the next token. Raises InvalidArgument…, ExpiredNextToken…, LimitExceededException."""
        self._registry.rate("ListChannels", world)
        count = min(limit or MAX_CHANNELS_LISTED, MAX_CHANNELS_LISTED)
        return page(self._registry, world, "ListChannels", self._of_world(world), streams, token, count)

    # creation, change, deletion

    def create(
        self,
        world: World,
        name: str,
        stream: Stream,
        *,
        role_arn: str,
        record: Document,
        s3: Document | None = None,
        s3_tables: Document | None = None,
        encryption: Document | None = None,
        logging: Document | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Channel:
        """Raises Validation…, InvalidArgument…, ResourceInUse…, LimitExceededException."""
        self._registry.rate("CreateChannel", world)
        if not _NAME.fullmatch(name):
            raise ValidationException(f"ChannelName {name} does not match [a-zA-Z0-9_.-]+ or is too long.")
        if (s3 is None) == (s3_tables is None):
            raise ValidationException(
                "Specify either S3DestinationConfiguration or S3TablesDestinationConfiguration, but not both."
            )
        kind = S3_TABLES if s3 is None else S3
        _check_record(record, kind)
        if s3_tables is not None and len(s3_tables["S3TablesConfigurationList"]) != 1:
            raise ValidationException("S3TablesConfigurationList must have one entry: a channel has one table.")
        destination = _s3(s3) if s3 is not None else _with_freshness(s3_tables or {})
        check_tags({}, tags or {})
        self._registry.commit.enter()
        check_usable(stream)
        if stream.mode != ON_DEMAND:
            raise ValidationException(
                f"Channels are only supported for streams in on-demand mode: stream {stream.name} under account "
                f"{stream.world.account} is in {stream.mode} mode."
            )
        others = self._of_world(world)
        if name in others:
            raise ResourceInUseException(f"Channel {name} under account {world.account} already exists.")
        quota = self._registry.limits.channels
        if quota is not None and len(others) >= quota:
            raise LimitExceededException(f"Limit of {quota} channels exceeded for account {world.account}.")
        channel = Channel(
            self._registry.next_no(), world, name, self._registry.entropy.uuid(), stream, self._clock.now_ms()
        )
        channel.role_arn, channel.record, channel.encryption = role_arn, record, encryption
        channel.destination_type, channel.destination = kind, destination
        channel.logging = _logging(channel, logging)
        channel.tags = dict(tags or {})
        for shard in stream.shards.values():
            if shard.last_sequence:
                self._cursors.move(self._cursors.of(channel.channel_no, shard), shard.last_sequence + 1)
        self._keep(channel)
        self._changes.begin(channel, CREATING)
        return channel

    def update(
        self,
        channel: Channel,
        *,
        s3: Document | None = None,
        s3_tables: Document | None = None,
        logging: Document | None = None,
    ) -> None:
        """Raises ValidationException, ResourceInUseException, LimitExceededException."""
        self._registry.rate("UpdateChannel", channel.world)
        if s3 is None and s3_tables is None and logging is None:
            raise ValidationException("Specify the destination's DataFreshnessInSeconds or LoggingConfiguration.")
        if (s3 if channel.destination_type == S3_TABLES else s3_tables) is not None:
            raise ValidationException(
                f"The destination of channel {channel.name} is of type {channel.destination_type}."
            )
        update: Document = {}
        if (given := s3 or s3_tables) is not None:
            update["destination"] = _with_freshness({**channel.destination, **given})
        if logging is not None:
            update["logging"] = _logging(channel, logging)
        self._registry.commit.enter()
        if channel.status != ACTIVE:
            raise ResourceInUseException(f"Channel {channel.name} is not ACTIVE, instead in state {channel.status}.")
        channel.update = update
        self._changes.begin(channel, UPDATING)

    def delete(self, channel: Channel) -> None:
        """What is not delivered yet is not delivered. Raises LimitExceededException."""
        self._registry.rate("DeleteChannel", channel.world)
        self._registry.commit.enter()
        if channel.status != DELETING:
            channel.update = None
            self._changes.begin(channel, DELETING)

    def _finish(self, channel: Channel) -> None:
        if channel.status == DELETING:
            self._remove(channel)
            return
        for name, value in (channel.update or {}).items():
            setattr(channel, name, value)
        channel.status, channel.update, channel.until_ms = ACTIVE, None, None
        if self.no_destination is not None:
            channel.status, channel.status_reason = FAILED, self.no_destination
        self._registry.put(channel)
        self._look(channel)

    def _remove(self, channel: Channel) -> None:
        _cancel(channel)
        self._due.pop(channel.arn, None)
        del self.by_arn[channel.arn]
        of_stream = self._of_stream[channel.stream.arn]
        del of_stream[channel.arn]
        if not of_stream:
            del self._of_stream[channel.stream.arn]
        self._cursors.forget(channel.channel_no)
        self._registry.store.delete_item("channel", *channel.world, channel.name)

    # streams

    def _refuse(self, stream: Stream) -> None:
        """A stream that is to go, or to leave the on-demand mode."""
        if self.count(stream):
            raise ResourceInUseException(
                f"Stream {stream.name} under account {stream.world.account} has {self.count(stream)} channels: delete "
                "them with DeleteChannel first."
            )

    def _on_remove_stream(self, stream: Stream) -> None:
        for channel in list(self._of_stream.get(stream.arn, {}).values()):
            self._remove(channel)

    def reset(self, account: str | None) -> None:
        for channel in list(self.by_arn.values()):
            if account in (None, channel.world.account):
                self._registry.commit.enter()
                self._remove(channel)

    # deliveries

    def _on_arrival(self, shard: Shard) -> None:
        for channel in self._of_stream.get(shard.stream.arn, {}).values():
            if not channel.is_delivering or channel.arn in self._due:
                continue
            cursor = self._cursors.of(channel.channel_no, shard)
            if shard.last_sequence - cursor.position >= BATCH_RECORDS - 1:
                self._fall_due(channel)
            elif channel.due is None and shard.last_sequence >= cursor.position:
                self._appoint(channel, shard.last_arrival_ms + channel.freshness_ms)

    def _look(self, channel: Channel) -> None:
        """Makes the appointment for what waits for a channel now."""
        if channel.due is not None:
            channel.due.cancel()
            channel.due = None
        if not channel.is_delivering:
            return
        oldest_ms: int | None = None
        for shard in channel.stream.shards.values():
            if self._cursors.has_more(channel.channel_no, shard):
                position = self._cursors.of(channel.channel_no, shard).position
                for record in self._records.read(shard, position, 1, 1)[0]:
                    oldest_ms = record.arrival_ms if oldest_ms is None else min(oldest_ms, record.arrival_ms)
        if oldest_ms is not None:
            self._appoint(channel, oldest_ms + channel.freshness_ms)

    def _appoint(self, channel: Channel, when_ms: int) -> None:
        if channel.due is not None:
            channel.due.cancel()
        channel.due = self._registry.call_at(when_ms, self._fall_due, channel)

    def _fall_due(self, channel: Channel) -> None:
        if channel.due is not None:
            channel.due.cancel()
            channel.due = None
        channel.ends = {shard.shard_no: shard.last_sequence for shard in channel.stream.shards.values()}
        self._due[channel.arn] = None
        self.wake()

    def next_batch(self) -> Batch | None:
        """What is to be delivered next, the same until it is reported. Nothing may be done with it before its commit,
        for its records may have come in the same group."""
        self._registry.commit.enter()
        while self._due:
            arn = next(iter(self._due))
            channel = self.by_arn[arn]
            if channel.is_delivering and (batch := self._next_of(channel)) is not None:
                return batch
            del self._due[arn]
            self._look(channel)
        return None

    def _next_of(self, channel: Channel) -> Batch | None:
        for _, shard in sorted(channel.stream.shards.items()):
            cursor = self._cursors.of(channel.channel_no, shard)
            count = channel.ends.get(shard.shard_no, 0) - cursor.position + 1
            if count > 0:
                records, following = self._records.read(shard, cursor.position, min(count, BATCH_RECORDS), BATCH_BYTES)
                if records:
                    return Batch(channel, shard, cursor.position, following, records)
                self._cursors.move(cursor, following)  # past what expired
        return None

    def delivered(self, batch: Batch) -> None:
        """The destination has it for good."""
        self._registry.commit.enter()
        channel = self.by_arn.get(batch.channel.arn)
        shard = None if channel is None else channel.stream.shards.get(batch.shard.index)
        if channel is not None and shard is not None:
            cursor = self._cursors.of(channel.channel_no, shard)
            if cursor.position == batch.position:
                self._cursors.move(cursor, batch.following)


def _check_record(record: Document, kind: str) -> None:
    format_type = record["RecordFormatType"]
    if format_type not in _FORMATS[kind]:
        raise ValidationException(f"RecordFormatType {format_type} is not supported for {kind} destinations.")
    if kind == S3_TABLES and "GSRSchemaARN" not in record:
        raise ValidationException("GSRSchemaARN is required when the destination is a streaming table.")


def _s3(given: Document) -> Document:
    """With the model's defaults: what cannot be delivered goes to the same bucket, "with an error prefix"."""
    storage = {"StorageClass": "STANDARD", **given["StorageConfiguration"]}
    dead_letters = {
        "BucketARN": storage["BucketARN"],
        "ExpectedBucketOwner": storage["ExpectedBucketOwner"],
        "ErrorOutputPrefix": ERROR_PREFIX,
    }
    return _with_freshness({"DeadLetterQueueS3Configuration": dead_letters, **given, "StorageConfiguration": storage})


def _with_freshness(given: Document) -> Document:
    destination = {"DataFreshnessInSeconds": DEFAULT_FRESHNESS_S, **given}
    if destination["DataFreshnessInSeconds"] < 1:
        raise ValidationException("DataFreshnessInSeconds must be at least 1.")
    return destination


def _logging(channel: Channel, given: Document | None) -> Document:
    """With the model's defaults."""
    logs = {"Enabled": False, **(given or {}).get("CloudWatchLogs", {})}
    if logs["Enabled"]:
        logs.setdefault("LogGroupName", f"/aws/kinesis/{channel.name}/{channel.channel_id}")
        logs.setdefault("LogStreamName", "DestinationDelivery")
    return {"CloudWatchLogs": logs}


def _cancel(channel: Channel) -> None:
    for timer in (channel.timer, channel.due):
        if timer is not None:
            timer.cancel()

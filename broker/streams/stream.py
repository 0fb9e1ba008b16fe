"""Streams, shards and consumers in RAM. Their records are in the store, but for those of the group that is open.

What a restart must know is in the `document`s; the rest (timers, throttles, subscribers) begins anew.
"""

from __future__ import annotations

import json
from typing import Any

from broker.clock import Timer
from broker.names import World, partition_of
from broker.store.port import ShardRecord, StreamItem
from broker.streams import sequence
from broker.streams.throughput import ReadWindow, WriteWindow

CREATING, ACTIVE, UPDATING, DELETING = "CREATING", "ACTIVE", "UPDATING", "DELETING"
PROVISIONED, ON_DEMAND = "PROVISIONED", "ON_DEMAND"
NONE, KMS = "NONE", "KMS"
AUTO, USER_PARTITION_KEY = "AUTO", "USER_PARTITION_KEY"
MAX_HASH_KEY = (1 << 128) - 1
HOUR_MS = 3_600_000


def stream_arn(world: World, name: str) -> str:
    return f"arn:{partition_of(world.region)}:kinesis:{world.region}:{world.account}:stream/{name}"


def shard_id(index: int) -> str:
    return f"shardId-{index:012d}"


def index_of(id: str) -> int | None:
    """What the shard's id counts, or None where it is none."""
    digits = id.removeprefix("shardId-")
    return int(digits) if digits != id and digits.isascii() and digits.isdigit() else None


class Shard:
    """A range of hash keys, and its records' numbers. `segment_…` are the records that are not in the store yet."""

    __slots__ = (
        "adjacent_parent_id",
        "born_s",
        "children",
        "closed_ms",
        "created_ms",
        "ending_hash_key",
        "expiry",
        "index",
        "last_arrival_ms",
        "last_sequence",
        "number_base",
        "parent_id",
        "reads",
        "segment_bytes",
        "segment_data",
        "segment_keys",
        "segment_ms",
        "shard_id",
        "shard_no",
        "starting_hash_key",
        "stream",
        "writes",
    )

    def __init__(
        self,
        stream: Stream,
        shard_no: int,
        index: int,
        hash_keys: tuple[int, int],
        created_ms: int,
        born_s: int,
        parent_id: str | None = None,
        adjacent_parent_id: str | None = None,
    ) -> None:
        self.stream = stream
        self.shard_no = shard_no
        self.index = index
        self.shard_id = shard_id(index)
        self.starting_hash_key, self.ending_hash_key = hash_keys
        self.created_ms = created_ms
        self.born_s = born_s  # in its sequence numbers: never before `created_ms`, and later than its parents'
        self.parent_id = parent_id
        self.adjacent_parent_id = adjacent_parent_id
        self.closed_ms: int | None = None
        self.children: list[Shard] = []
        self.last_sequence = 0  # how many records it ever had
        self.last_arrival_ms = created_ms
        self.segment_keys: list[str | None] = []
        self.segment_data: list[bytes] = []
        self.segment_bytes = 0
        self.segment_ms = -1  # when the open segment was begun
        self.number_base = 0  # the number of a record of the open segment, but for its count
        self.expiry: Timer | None = None
        self.reads = ReadWindow()
        self.writes = WriteWindow()

    def sequence_number(self, count: int, moment_ms: int) -> int:
        return sequence.number(self.born_s, self.index, count, moment_ms // 1000)

    @property
    def starting_sequence_number(self) -> str:
        return str(sequence.number(self.born_s, self.index, 0, self.born_s))

    @property
    def ending_sequence_number(self) -> str | None:
        if self.closed_ms is None:
            return None
        return str(sequence.number(self.born_s, self.index, sequence.LAST, self.closed_ms // 1000))

    @property
    def is_open(self) -> bool:
        return self.closed_ms is None

    @property
    def hash_keys(self) -> tuple[int, int]:
        return self.starting_hash_key, self.ending_hash_key

    @property
    def parent_ids(self) -> list[str]:
        return [id for id in (self.parent_id, self.adjacent_parent_id) if id is not None]

    def record(self) -> ShardRecord:
        document = {
            "hash_keys": [str(self.starting_hash_key), str(self.ending_hash_key)],
            "created_ms": self.created_ms,
            "born_s": self.born_s,
            "closed_ms": self.closed_ms,
            "parent_id": self.parent_id,
            "adjacent_parent_id": self.adjacent_parent_id,
        }
        return ShardRecord(
            self.shard_no,
            self.stream.stream_no,
            self.index,
            json.dumps(document, separators=(",", ":")),
            self.last_sequence,
            self.last_arrival_ms,
        )

    @classmethod
    def from_record(cls, stream: Stream, record: ShardRecord) -> Shard:
        document = json.loads(record.document)
        first, last = document["hash_keys"]
        shard = cls(
            stream,
            record.shard_no,
            record.shard_index,
            (int(first), int(last)),
            document["created_ms"],
            document["born_s"],
            document["parent_id"],
            document["adjacent_parent_id"],
        )
        shard.closed_ms = document["closed_ms"]
        shard.last_sequence, shard.last_arrival_ms = record.last_sequence, record.last_arrival_ms
        return shard


class Stream:
    """A definition with its shards. `update` is what the stream is UPDATING to, until `until_ms`."""

    __slots__ = (
        "arn",
        "consumers",
        "created_ms",
        "distribution",
        "encryption",
        "floor_ms",
        "history",
        "key_id",
        "max_record_kib",
        "metrics",
        "mode",
        "name",
        "next_index",
        "open_shards",
        "policy",
        "retention_h",
        "secret",
        "shards",
        "starts",
        "status",
        "stream_id",
        "stream_no",
        "tags",
        "timer",
        "turn",
        "until_ms",
        "update",
        "warm_mibps",
        "world",
        "writes",
    )

    def __init__(self, stream_no: int, world: World, name: str, stream_id: str, secret: str, now_ms: int) -> None:
        self.stream_no = stream_no
        self.world = world
        self.name = name
        self.arn = stream_arn(world, name)
        self.stream_id = stream_id
        self.secret = secret  # signs its tokens: 32 hexadecimal digits, of which the first half is told
        self.created_ms = now_ms
        self.status = CREATING
        self.until_ms: int | None = None
        self.update: dict[str, Any] | None = None
        self.mode = PROVISIONED
        self.retention_h = 24
        self.floor_ms = 0  # what came before this is gone, however long the retention is now
        self.encryption = NONE
        self.key_id: str | None = None
        self.metrics: list[str] = []
        self.tags: dict[str, str] = {}
        self.policy: str | None = None
        self.max_record_kib = 1_024
        self.warm_mibps: int | None = None
        self.distribution = USER_PARTITION_KEY
        self.history: dict[str, list[int]] = {}  # operation -> when it was done in the last 24 hours
        self.next_index = 0
        self.shards: dict[int, Shard] = {}  # by index: those that are not expired
        self.open_shards: list[Shard] = []  # in the order of their hash keys
        self.starts: list[bytes] = []  # their starting hash keys, as an MD5 digest is written
        self.consumers: dict[str, Consumer] = {}  # by ARN
        self.turn = 0  # whose turn it is to get a record where keys do not matter
        self.timer: Timer | None = None
        self.writes = WriteWindow()  # of an on-demand stream, to follow its load

    @property
    def retention_ms(self) -> int:
        return self.retention_h * HOUR_MS

    @property
    def max_record_bytes(self) -> int:
        return self.max_record_kib * 1024

    def horizon_ms(self, now_ms: int) -> int:
        """What arrived before this is expired."""
        return max(self.floor_ms, now_ms - self.retention_ms + 1)

    def shard(self, id: str) -> Shard | None:
        index = index_of(id)
        return None if index is None else self.shards.get(index)

    def index_shards(self) -> None:
        """After shards have come, closed or gone."""
        self.open_shards = sorted(
            (shard for shard in self.shards.values() if shard.closed_ms is None), key=lambda s: s.starting_hash_key
        )
        self.starts = [shard.starting_hash_key.to_bytes(16, "big") for shard in self.open_shards]
        for shard in self.shards.values():
            shard.children = []
        for shard in self.shards.values():
            for id in shard.parent_ids:
                if (parent := self.shard(id)) is not None:
                    parent.children.append(shard)

    def item(self) -> StreamItem:
        document = {
            "stream_no": self.stream_no,
            "stream_id": self.stream_id,
            "secret": self.secret,
            "created_ms": self.created_ms,
            "status": self.status,
            "until_ms": self.until_ms,
            "update": self.update,
            "mode": self.mode,
            "retention_h": self.retention_h,
            "floor_ms": self.floor_ms,
            "encryption": self.encryption,
            "key_id": self.key_id,
            "metrics": self.metrics,
            "tags": self.tags,
            "policy": self.policy,
            "max_record_kib": self.max_record_kib,
            "warm_mibps": self.warm_mibps,
            "distribution": self.distribution,
            "history": self.history,
            "next_index": self.next_index,
        }
        return StreamItem("stream", *self.world, self.name, json.dumps(document, separators=(",", ":")))

    @classmethod
    def from_item(cls, item: StreamItem) -> Stream:
        document = json.loads(item.document)
        stream = cls(
            document.pop("stream_no"),
            World(item.account, item.region),
            item.name,
            document.pop("stream_id"),
            document.pop("secret"),
            document.pop("created_ms"),
        )
        for name, value in document.items():
            setattr(stream, name, value)
        return stream


class Consumer:
    """A registered consumer of enhanced fan-out."""

    __slots__ = ("arn", "created_ms", "name", "policy", "status", "stream", "tags", "timer", "until_ms")

    def __init__(self, stream: Stream, name: str, now_ms: int) -> None:
        self.stream = stream
        self.name = name
        self.created_ms = now_ms
        self.arn = f"{stream.arn}/consumer/{name}:{now_ms // 1000}"
        self.status = CREATING
        self.until_ms: int | None = None
        self.tags: dict[str, str] = {}
        self.policy: str | None = None
        self.timer: Timer | None = None

    @property
    def item_name(self) -> str:
        return f"{self.stream.name}/{self.name}:{self.created_ms // 1000}"

    def item(self) -> StreamItem:
        document = {
            "name": self.name,
            "created_ms": self.created_ms,
            "status": self.status,
            "until_ms": self.until_ms,
            "tags": self.tags,
            "policy": self.policy,
        }
        return StreamItem("consumer", *self.stream.world, self.item_name, json.dumps(document, separators=(",", ":")))

    @classmethod
    def from_item(cls, stream: Stream, item: StreamItem) -> Consumer:
        document = json.loads(item.document)
        consumer = cls(stream, document["name"], document["created_ms"])
        consumer.status, consumer.until_ms = document["status"], document["until_ms"]
        consumer.tags, consumer.policy = document["tags"], document["policy"]
        return consumer

"""Queues on streams: their life. What comes out of them is in `queue_records.py`.

A queue reads an on-demand stream in its own right and counts as one of its consumers; the stream cannot go, nor leave
the on-demand mode, while it has one. Where a queue begins is settled when CreateQueue is called, so that nothing put
while it is CREATING is missed.

https://docs.aws.amazon.com/kinesis/latest/APIReference/API_CreateQueue.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from zlib import crc32

from broker.clock import Timer
from broker.errors import (
    LimitExceededException,
    ResourceInUseException,
    ResourceNotFoundException,
    ValidationException,
)
from broker.limits import DEFAULT_QUEUE_MAX_RECEIVES, DEFAULT_QUEUE_VISIBILITY_S, MAX_QUEUES_LISTED
from broker.names import World, partition_of
from broker.store.port import StreamItem, StreamQueueStore
from broker.streams.changes import Changes, StreamFilter, page
from broker.streams.consumers import Consumers
from broker.streams.cursors import FIRST, Cursors
from broker.streams.definitions import Definitions, check_tags
from broker.streams.records import Records
from broker.streams.registry import Registry, Resource, check_usable
from broker.streams.stream import ACTIVE, CREATING, DELETING, ON_DEMAND, UPDATING, Stream

LATEST, TRIM_HORIZON, AT_TIMESTAMP = "LATEST", "TRIM_HORIZON", "AT_TIMESTAMP"
BUILT_IN, NONE = "BUILT_IN", "NONE"
UNLIMITED_RECEIVES = 1 << 62
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")


class DeadLetters(NamedTuple):
    """DeadLetterConfiguration."""

    target_type: str = BUILT_IN
    max_receive_count: int | None = DEFAULT_QUEUE_MAX_RECEIVES


class StreamQueue:
    """A definition. `update` is what it is UPDATING to, until `until_ms`."""

    __slots__ = (
        "arn",
        "asked_ms",
        "created_ms",
        "dead_letters",
        "dead_tag",
        "effective_ms",
        "expiry",
        "name",
        "policy",
        "queue_no",
        "resource_id",
        "starts",
        "status",
        "stream",
        "tag",
        "tags",
        "timer",
        "turn",
        "until_ms",
        "update",
        "visibility_timeout_s",
        "world",
    )

    def __init__(self, queue_no: int, world: World, name: str, resource_id: str, stream: Stream, now_ms: int) -> None:
        self.queue_no = queue_no
        self.world = world
        self.name = name
        self.resource_id = resource_id
        self.arn = f"arn:{partition_of(world.region)}:kinesis:{world.region}:{world.account}:queue/{resource_id}"
        self.tag = crc32(self.arn.encode())  # in the receipt handles of its records
        self.dead_tag = crc32(b"dead letters", self.tag)  # and in those of its dead letters
        self.stream = stream
        self.created_ms = now_ms
        self.status = CREATING
        self.until_ms: int | None = None
        self.update: dict[str, Any] | None = None
        self.starts = LATEST
        self.asked_ms: int | None = None  # of AT_TIMESTAMP
        self.effective_ms = now_ms  # where it really began
        self.visibility_timeout_s = DEFAULT_QUEUE_VISIBILITY_S
        self.dead_letters = DeadLetters()
        self.tags: dict[str, str] = {}
        self.policy: str | None = None
        self.timer: Timer | None = None
        self.expiry: Timer | None = None  # what it has in hand goes with the stream's retention
        self.turn = 0  # how often it was received from: who comes first takes turns

    @property
    def max_receives(self) -> int:
        return self.dead_letters.max_receive_count or UNLIMITED_RECEIVES

    @property
    def is_delivering(self) -> bool:
        return self.status in (ACTIVE, UPDATING)

    @property
    def attributes(self) -> tuple[int, DeadLetters]:
        """The visibility timeout and the dead letters' handling, as they are or are becoming."""
        update = self.update or {}
        return (
            update.get("visibility_timeout_s", self.visibility_timeout_s),
            DeadLetters(*update.get("dead_letters", self.dead_letters)),
        )

    @property
    def starting_ms(self) -> int | None:
        """What StartingPosition shows as its Timestamp."""
        return self.asked_ms if self.status == CREATING else self.effective_ms

    def item(self) -> StreamItem:
        document = {
            "queue_no": self.queue_no,
            "resource_id": self.resource_id,
            "stream": self.stream.arn,
            "created_ms": self.created_ms,
            "status": self.status,
            "until_ms": self.until_ms,
            "update": self.update,
            "starts": self.starts,
            "asked_ms": self.asked_ms,
            "effective_ms": self.effective_ms,
            "visibility_timeout_s": self.visibility_timeout_s,
            "dead_letters": self.dead_letters,
            "tags": self.tags,
            "policy": self.policy,
        }
        return StreamItem("queue", *self.world, self.name, json.dumps(document, separators=(",", ":")))

    @classmethod
    def from_item(cls, item: StreamItem, by_arn: Mapping[str, Stream]) -> StreamQueue:
        document = json.loads(item.document)
        queue = cls(
            document.pop("queue_no"),
            World(item.account, item.region),
            item.name,
            document.pop("resource_id"),
            by_arn[document.pop("stream")],
            document.pop("created_ms"),
        )
        queue.dead_letters = DeadLetters(*document.pop("dead_letters"))
        for name, value in document.items():
            setattr(queue, name, value)
        return queue


class StreamQueues:
    """The queues on all streams. `on_change` is told of a queue that begins to deliver, or delivers differently."""

    def __init__(
        self,
        registry: Registry,
        records: Records,
        consumers: Consumers,
        definitions: Definitions,
        cursors: Cursors,
        store: StreamQueueStore,
    ) -> None:
        self._registry = registry
        self._records = records
        self._consumers = consumers
        self._cursors = cursors
        self._store = store
        self._clock = registry.clock
        self.by_arn: dict[str, StreamQueue] = {}
        self._of_stream: dict[str, dict[str, StreamQueue]] = {}
        self._changes = Changes(registry, registry.limits.queue_change_ms, self.by_arn.get, self._finish)
        self.on_load: list[Callable[[], None]] = []
        self.on_change: list[Callable[[StreamQueue], None]] = []
        self.on_remove: list[Callable[[StreamQueue], None]] = []
        registry.on_load.append(self._load)
        registry.on_remove.append(self._on_remove_stream)
        registry.find_other.append(self._find_resource)
        consumers.count_others.append(self.count)
        definitions.guards.append(self._refuse)

    def _load(self) -> None:
        for queue in self.by_arn.values():
            _cancel(queue)
        self.by_arn.clear()
        self._of_stream.clear()
        for item in self._registry.store.load_items("queue"):
            self._keep(StreamQueue.from_item(item, self._registry.by_arn))
        self._changes.resume(self.by_arn.values())
        for resume in self.on_load:
            resume()

    def _keep(self, queue: StreamQueue) -> None:
        self.by_arn[queue.arn] = queue
        self._of_stream.setdefault(queue.stream.arn, {})[queue.arn] = queue

    # finding

    def find(self, arn: str) -> StreamQueue:
        """Raises ResourceNotFoundException."""
        queue = self.by_arn.get(arn)
        if queue is None:
            raise ResourceNotFoundException(f"Queue {arn} not found.")
        return queue

    def _find_resource(self, arn: str) -> Resource | None:
        return self.by_arn.get(arn)

    def of_stream(self, stream: Stream) -> Mapping[str, StreamQueue]:
        """By ARN."""
        return self._of_stream.get(stream.arn, {})

    def count(self, stream: Stream) -> int:
        return len(self._of_stream.get(stream.arn, ()))

    def _of_world(self, world: World) -> dict[str, StreamQueue]:
        return {queue.name: queue for queue in self.by_arn.values() if queue.world == world}

    def list_queues(
        self, world: World, *, streams: StreamFilter | None = None, token: str | None = None, limit: int | None = None
    ) -> tuple[list[StreamQueue], str | None]:
        """A page by name, and the next token. Raises InvalidArgumentException, ExpiredNextTokenException."""
        count = min(limit or MAX_QUEUES_LISTED, MAX_QUEUES_LISTED)
        return page(self._registry, world, "ListQueues", self._of_world(world), streams, token, count)

    # creation, change, deletion

    def create(
        self,
        world: World,
        name: str,
        stream: Stream,
        *,
        starts: str = LATEST,
        timestamp_ms: int | None = None,
        visibility_timeout_s: int | None = None,
        dead_letters: DeadLetters | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> StreamQueue:
        """Raises Validation…, InvalidArgument…, ResourceInUse…, LimitExceededException."""
        if not _NAME.fullmatch(name):
            raise ValidationException(f"QueueName {name} does not match [a-zA-Z0-9_.-]+ or is too long.")
        if starts not in (LATEST, TRIM_HORIZON, AT_TIMESTAMP):
            raise ValidationException(f"StartingPosition Type {starts} is not supported.")
        if (timestamp_ms is not None) != (starts == AT_TIMESTAMP):
            raise ValidationException("StartingPosition has a Timestamp if, and only if, its Type is AT_TIMESTAMP.")
        _check_dead_letters(dead_letters)
        check_tags({}, tags or {})
        self._registry.commit.enter()
        check_usable(stream)
        if stream.mode != ON_DEMAND:
            raise ValidationException(
                f"Queues are only supported for streams in on-demand mode: stream {stream.name} under account "
                f"{stream.world.account} is in {stream.mode} mode."
            )
        if name in self._of_world(world):
            raise ResourceInUseException(f"Queue {name} under account {world.account} already exists.")
        quota = self._consumers.quota(stream)
        if quota is not None and self._consumers.count(stream) >= quota:
            raise LimitExceededException(
                f"Limit of {quota} registered consumers, with queues, exceeded for stream {stream.name} "
                f"under account {stream.world.account}."
            )
        # A moment ahead is refused, as GetShardIterator does.
        positions = [
            (shard, self._records.position(shard, starts, None, timestamp_ms, "CreateQueue"))
            for shard in stream.shards.values()
        ]
        now_ms = self._clock.now_ms()
        queue = StreamQueue(self._registry.next_no(), world, name, self._registry.entropy.uuid(), stream, now_ms)
        queue.starts, queue.asked_ms = starts, timestamp_ms
        if starts != LATEST:
            queue.effective_ms = max(timestamp_ms or 0, stream.created_ms, stream.horizon_ms(now_ms))
        if visibility_timeout_s is not None:
            queue.visibility_timeout_s = visibility_timeout_s
        if dead_letters is not None:
            queue.dead_letters = dead_letters
        queue.tags = dict(tags or {})
        for shard, position in positions:
            if position > FIRST:
                self._cursors.move(self._cursors.of(queue.queue_no, shard), position)
        self._keep(queue)
        self._changes.begin(queue, CREATING)
        return queue

    def update(
        self, queue: StreamQueue, visibility_timeout_s: int | None = None, dead_letters: DeadLetters | None = None
    ) -> None:
        """What is None stays as it is. Raises ValidationException, ResourceInUseException."""
        _check_dead_letters(dead_letters)
        self._registry.commit.enter()
        if queue.status != ACTIVE:
            raise ResourceInUseException(f"Queue {queue.name} is not ACTIVE, instead in state {queue.status}.")
        given = {"visibility_timeout_s": visibility_timeout_s, "dead_letters": dead_letters}
        queue.update = {name: value for name, value in given.items() if value is not None}
        self._changes.begin(queue, UPDATING)

    def delete(self, queue: StreamQueue) -> None:
        """Of one that is being deleted already AWS names no error."""
        self._registry.commit.enter()
        if queue.status != DELETING:
            queue.update = None
            self._changes.begin(queue, DELETING)

    def _finish(self, queue: StreamQueue) -> None:
        if queue.status == DELETING:
            self._remove(queue)
            return
        dead_letters = queue.dead_letters
        queue.visibility_timeout_s, queue.dead_letters = queue.attributes
        queue.status, queue.update, queue.until_ms = ACTIVE, None, None
        if queue.dead_letters != dead_letters:
            self._store.set_max_receives(queue.queue_no, queue.max_receives, self._clock.now_ms())
        self._registry.put(queue)
        for tell in self.on_change:
            tell(queue)

    def _remove(self, queue: StreamQueue) -> None:
        _cancel(queue)
        del self.by_arn[queue.arn]
        of_stream = self._of_stream[queue.stream.arn]
        del of_stream[queue.arn]
        if not of_stream:
            del self._of_stream[queue.stream.arn]
        self._cursors.forget(queue.queue_no)
        self._store.discard(queue.queue_no)
        self._registry.store.delete_item("queue", *queue.world, queue.name)
        for tell in self.on_remove:
            tell(queue)

    # streams

    def _refuse(self, stream: Stream) -> None:
        """A stream that is to go, or to leave the on-demand mode."""
        if self.count(stream):
            raise ResourceInUseException(
                f"Stream {stream.name} under account {stream.world.account} has {self.count(stream)} queues: delete "
                "them with DeleteQueue first."
            )

    def _on_remove_stream(self, stream: Stream) -> None:
        for queue in list(self.of_stream(stream).values()):
            self._remove(queue)

    def reset(self, account: str | None) -> None:
        """Those on the account's own streams go with these."""
        for queue in list(self.by_arn.values()):
            if account in (None, queue.world.account):
                self._registry.commit.enter()
                self._remove(queue)


def _check_dead_letters(given: DeadLetters | None) -> None:
    if given is None:
        return
    if given.target_type == BUILT_IN and given.max_receive_count is None:
        raise ValidationException("MaxReceiveCount is required when TargetType is BUILT_IN.")
    if given.target_type == NONE and given.max_receive_count is not None:
        raise ValidationException("MaxReceiveCount can only be specified when TargetType is BUILT_IN.")


def _cancel(queue: StreamQueue) -> None:
    for timer in (queue.timer, queue.expiry):
        if timer is not None:
            timer.cancel()

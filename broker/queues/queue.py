"""One queue in RAM: its definition, counters and waiting receivers. Its messages are in the store.

What a restart must know is in `record()`; the rest (waiters, timers, throttles) begins anew.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from broker.clock import Timer
from broker.names import World, queue_arn
from broker.queues.attributes import Settings, read_settings
from broker.store.port import QueueRecord, StoredMessage
from broker.waiters import Waiter


class PendingChange(NamedTuple):
    """Attributes that were set and do not hold yet, as AWS takes its time to propagate them."""

    effective_ms: int
    attributes: dict[str, str]


class Queue:
    """A definition and its counters. `attributes` is what was set, `effective` what holds, `settings` that, read."""

    __slots__ = (
        "arn",
        "attributes",
        "created_s",
        "deleted_ms",
        "effective",
        "expiry",
        "fair",
        "fair_cursor",
        "fifo",
        "in_flight_bound",
        "last_sequence",
        "message_count",
        "modified_s",
        "name",
        "pending",
        "purge_sequence",
        "purged_ms",
        "queue_no",
        "settings",
        "shelf_no",
        "tag",
        "tags",
        "throttle",
        "waiters",
        "wake",
        "world",
    )

    def __init__(self, queue_no: int, shelf_no: int, world: World, name: str, tag: int, now_ms: int) -> None:
        self.queue_no = queue_no
        self.shelf_no = shelf_no  # where its messages lie, see store/port.py
        self.world = world
        self.name = name
        self.arn = queue_arn(world, name)
        self.fifo = name.endswith(".fifo")
        self.tag = tag  # in its receipt handles
        self.attributes: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.created_s = self.modified_s = now_ms // 1000
        self.effective: dict[str, str] = {}
        self.settings: Settings = read_settings(self.effective)
        self.pending: list[PendingChange] = []
        self.fair = False  # a standard queue that has seen a message group
        self.fair_cursor = ""  # the group served last
        self.purged_ms: int | None = None
        self.purge_sequence: int | None = None  # messages up to this one are being purged
        self.deleted_ms: int | None = None  # when it will be gone, once DeleteQueue was called
        self.message_count = 0
        self.last_sequence = 0
        self.in_flight_bound = 0  # never below the number in flight
        self.waiters: dict[Waiter[StoredMessage], None] = {}  # in order of arrival
        self.wake: Timer | None = None  # for the waiters: the next message becomes visible
        self.expiry: Timer | None = None  # the oldest message's retention ends
        self.throttle: dict[tuple[str, str], tuple[int, int]] = {}  # (call, group) -> (second, calls in it)

    def record(self) -> QueueRecord:
        document = {
            "tag": self.tag,
            "attributes": self.attributes,
            "tags": self.tags,
            "created_s": self.created_s,
            "modified_s": self.modified_s,
            "fair": self.fair,
            "purged_ms": self.purged_ms,
            "purge_sequence": self.purge_sequence,
            "deleted_ms": self.deleted_ms,
            "pending": self.pending,
            "effective": self.effective if self.pending else None,
        }
        return QueueRecord(
            self.queue_no,
            self.shelf_no,
            *self.world,
            self.name,
            json.dumps(document, separators=(",", ":")),
            self.message_count,
            self.last_sequence,
        )

    def restore(self, record: QueueRecord) -> None:
        """Takes over what the store knows."""
        document = json.loads(record.document)
        self.shelf_no = record.shelf_no
        self.tag = document["tag"]
        self.attributes = document["attributes"]
        self.tags = document["tags"]
        self.created_s = document["created_s"]
        self.modified_s = document["modified_s"]
        self.fair = document["fair"]
        self.purged_ms = document["purged_ms"]
        self.purge_sequence = document["purge_sequence"]
        self.deleted_ms = document["deleted_ms"]
        self.pending = [PendingChange(*entry) for entry in document["pending"]]
        self.effective = self.attributes if document["effective"] is None else document["effective"]
        self.settings = read_settings(self.effective)
        self.message_count = record.message_count
        self.last_sequence = record.last_sequence
        self.in_flight_bound = record.message_count

    @classmethod
    def from_record(cls, record: QueueRecord) -> Queue:
        queue = cls(record.queue_no, record.shelf_no, World(record.account, record.region), record.name, 0, 0)
        queue.restore(record)
        return queue

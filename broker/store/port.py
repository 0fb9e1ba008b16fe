"""What a store must do. Each call is part of the transaction that `begin` opened and `commit` ends.

The rule: `now` and identifiers come in as arguments, calls take batches, and what a call returns is all it tells:
no cursor outlives it. Moments are milliseconds since 1970.

A queue's messages lie on a shelf: one range of row ids in order of arrival. Purging or deleting a queue of a million
messages takes its shelf away at once, and the rows go later in small steps (`sweep_shelves`). What outlives a purge
(deduplication, receive attempts) hangs on the queue's own number, which never changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from broker.errors import BrokerFailure

UNGROUPED = " "
"""The group of a message without one on a fair queue. No client can name it, and it sorts before all others."""

_SHELF_BITS = 40
_MOVED = 1 << 39


def row_id(shelf_no: int, sequence: int, *, moved: bool = False) -> int:
    """Where the `sequence`-th message that ever entered a queue is kept.

    Messages that a standard queue was moved as dead letters keep their age, so they lie apart: all others of a shelf
    are in order of sending, and the oldest is found without looking at the rest.
    """
    return shelf_no << _SHELF_BITS | (_MOVED if moved else 0) | sequence


def sequence_of(id: int) -> int:
    return id & (_MOVED - 1)


def shelf_of(id: int) -> int:
    return id >> _SHELF_BITS


def own_ids(shelf_no: int) -> tuple[int, int]:
    """The range, end excluded, of the ids of messages that were sent to a queue."""
    return row_id(shelf_no, 0), row_id(shelf_no, 0, moved=True)


def moved_ids(shelf_no: int) -> tuple[int, int]:
    """The range, end excluded, of those that were moved to it and kept their age."""
    return row_id(shelf_no, 0, moved=True), row_id(shelf_no + 1, 0)


class QueueRecord(NamedTuple):
    """A queue as it is kept. `document` is everything about it that is not a counter, as JSON."""

    queue_no: int
    shelf_no: int
    account: str
    region: str
    name: str
    document: str
    message_count: int
    last_sequence: int


class NewMessage(NamedTuple):
    """A message on its way in."""

    id: int
    shelf_no: int
    visible_ms: int
    sent_ms: int
    message_id: str
    body: str
    md5: str
    attributes: str | None  # JSON, binary values in base64
    attributes_md5: str | None
    trace_header: str | None
    sender_id: str
    group_id: str | None
    deduplication_id: str | None  # None on standard queues only
    dead_letter_source: str | None  # the ARN of the queue it was moved here from
    earlier_receives: int = 0  # in the queues it was moved from
    first_received_ms: int = 0


class StoredMessage(NamedTuple):
    """A message on its way out. The fields from `message_id` on are those of NewMessage."""

    id: int
    visible_ms: int
    sent_ms: int
    receive_count: int  # in this queue
    message_id: str
    body: str
    md5: str
    attributes: str | None
    attributes_md5: str | None
    trace_header: str | None
    sender_id: str
    group_id: str | None
    deduplication_id: str | None
    dead_letter_source: str | None
    earlier_receives: int
    first_received_ms: int


class MessageState(NamedTuple):
    """The part of a message that changes."""

    visible_ms: int
    receive_count: int
    received_ms: int  # of the last receive
    group_id: str | None


class MoveTaskRecord(NamedTuple):
    """A message move task as it is kept. `document` is JSON."""

    task_id: str
    source_arn: str
    started_ms: int
    document: str


class QueueStore(Protocol):
    """Queues and their messages."""

    def load_queues(self) -> list[QueueRecord]: ...

    def put_queue(self, record: QueueRecord) -> None: ...

    def delete_queue(self, queue_no: int) -> None: ...

    def next_no(self) -> int:
        """A number that no queue and no shelf ever had."""
        ...

    def discard_shelf(self, shelf_no: int) -> None:
        """Gives a shelf's rows to the sweeper."""
        ...

    def sweep_shelves(self, limit: int) -> int:
        """Deletes up to `limit` rows of discarded shelves; 0 when there is nothing left to do."""
        ...

    def save_counters(self, rows: Iterable[tuple[int, int, int]]) -> None:
        """Rows of (message_count, last_sequence, queue_no)."""
        ...

    def put_tombstone(self, account: str, region: str, name: str, free_ms: int) -> None: ...

    def load_tombstones(self) -> list[tuple[str, str, str, int]]: ...

    def delete_tombstones(self, until_ms: int) -> None: ...

    # messages

    def insert(self, messages: Sequence[NewMessage]) -> None: ...

    def take(self, shelf_no: int, now_ms: int, visible_ms: int, limit: int) -> list[StoredMessage]:
        """Receives the messages that have been visible longest: counts the receive, hides them until visible_ms."""
        ...

    def take_ids(self, ids: Sequence[int], now_ms: int, visible_ms: int) -> list[StoredMessage]:
        """Receives these, whatever their state."""
        ...

    def visible_head(self, shelf_no: int, now_ms: int, limit: int) -> list[tuple[int, str | None]]:
        """The first in the order of `take`, untouched: id and group."""
        ...

    def next_visible_group(self, shelf_no: int, after: str, now_ms: int) -> tuple[str, bool] | None:
        """The next group name after this one on a standard queue, and whether it has a visible message."""
        ...

    def visible_in_group(self, shelf_no: int, group_id: str, now_ms: int, limit: int) -> list[int]: ...

    def states(self, ids: Sequence[int]) -> dict[int, MessageState]: ...

    def get(self, ids: Sequence[int]) -> list[StoredMessage]: ...

    def identify(self, ids: Sequence[int]) -> dict[int, tuple[str, int]]:
        """The message id and the receive count of those that are there."""
        ...

    def delete(self, receives: Sequence[tuple[int, int]]) -> int:
        """Deletes those of (id, receive count) whose last receive that was; how many there were."""
        ...

    def delete_ids(self, ids: Sequence[int]) -> list[str | None]:
        """Deletes these whatever their state; the group of each that was there."""
        ...

    def give_group(self, ids: Sequence[int], group_id: str) -> None: ...

    def set_visible(self, ids: Sequence[int], visible_ms: int) -> None: ...

    def unavailable_counts(self, shelf_no: int, now_ms: int) -> tuple[int, int]:
        """How many messages are in flight and how many are delayed."""
        ...

    def count_messages(self, shelf_no: int) -> int: ...

    def next_visible_ms(self, shelf_no: int, after_ms: int) -> int | None: ...

    def ids_through(self, shelf_no: int, sequence: int, limit: int) -> list[int]:
        """Some ids of messages that came no later than this one."""
        ...

    def ids_sent_before(self, shelf_no: int, sent_ms: int, limit: int) -> list[int]: ...

    def oldest_sent_ms(self, shelf_no: int) -> int | None: ...

    # FIFO

    def ready_groups(self, shelf_no: int, now_ms: int, limit: int) -> list[str]:
        """Groups with a message to give, the one that has been ready longest first."""
        ...

    def group_front(self, shelf_no: int, group_id: str, limit: int) -> list[tuple[int, MessageState]]:
        """The first messages of a group, in order."""
        ...

    def set_group(self, shelf_no: int, group_id: str, available_ms: int, head_id: int) -> None: ...

    def add_groups(self, rows: Iterable[tuple[int, str, int, int]]) -> None:
        """Rows of (shelf_no, group_id, available_ms, head_id); a group that is there already stays as it is."""
        ...

    def drop_group(self, shelf_no: int, group_id: str) -> None: ...

    def next_group_ms(self, shelf_no: int, after_ms: int) -> int | None: ...

    def find_duplicate(self, queue_no: int, scope: str, deduplication_id: str, now_ms: int) -> tuple[str, int] | None:
        """The message id and sequence of the copy that came first, while it is remembered."""
        ...

    def remember_duplicate(
        self, queue_no: int, scope: str, deduplication_id: str, until_ms: int, message_id: str, sequence: int
    ) -> None: ...

    def find_attempt(self, queue_no: int, attempt_id: str, now_ms: int) -> str | None: ...

    def remember_attempt(self, queue_no: int, attempt_id: str, until_ms: int, document: str) -> None: ...

    def forget_expired(self, now_ms: int, limit: int) -> int:
        """Drops remembered duplicates and attempts whose time is up; how many there were."""
        ...

    def next_forget_ms(self) -> int | None: ...

    # move tasks

    def load_move_tasks(self) -> list[MoveTaskRecord]: ...

    def put_move_task(self, record: MoveTaskRecord) -> None: ...

    def delete_move_task(self, task_id: str) -> None: ...

    def take_for_move(self, shelf_no: int, now_ms: int, limit: int) -> list[StoredMessage]:
        """The first in the order of `take`, untouched."""
        ...


class TopicRecord(NamedTuple):
    """A topic as it is kept. `document` is everything about it that is not a counter, as JSON."""

    topic_no: int
    account: str
    region: str
    name: str
    document: str
    last_sequence: int


class SubscriptionRecord(NamedTuple):
    """A subscription as it is kept. `document` is JSON."""

    subscription_no: int
    topic_no: int
    arn: str
    document: str


class ArchivedMessage(NamedTuple):
    """A message in a FIFO topic's archive. `document` is JSON."""

    archive_no: int
    sequence: int
    published_ms: int
    document: str


class MobileRecord(NamedTuple):
    """One item of what SNS keeps for telephones: an application, an endpoint, a number. `document` is JSON."""

    kind: str
    account: str
    region: str
    name: str
    document: str


class TopicStore(Protocol):
    """Topics, subscriptions, archives. A topic's number is one that QueueStore.next_no gave."""

    def load_topics(self) -> list[TopicRecord]: ...

    def put_topic(self, record: TopicRecord) -> None: ...

    def delete_topic(self, topic_no: int) -> None:
        """Deletes it with its subscriptions and what is remembered of duplicates."""
        ...

    def save_sequences(self, rows: Iterable[tuple[int, int]]) -> None:
        """Rows of (last_sequence, topic_no)."""
        ...

    def load_subscriptions(self) -> list[SubscriptionRecord]: ...

    def put_subscription(self, record: SubscriptionRecord) -> None: ...

    def delete_subscription(self, subscription_no: int) -> None: ...

    # archives

    def archive(self, messages: Sequence[ArchivedMessage]) -> None: ...

    def archived(self, archive_no: int, after: int, limit: int) -> list[ArchivedMessage]:
        """What comes after a sequence number, in order."""
        ...

    def first_archived_since(self, archive_no: int, published_ms: int) -> int | None:
        """The lowest sequence number of what was published then or later."""
        ...

    def oldest_archived_ms(self, archive_no: int) -> int | None: ...

    def delete_archived(self, archive_no: int, before_ms: int, limit: int) -> int: ...

    def discard_archive(self, archive_no: int) -> None:
        """Gives an archive's rows to the sweeper."""
        ...

    def sweep_archives(self, limit: int) -> int:
        """Deletes up to `limit` rows of discarded archives; 0 when there is nothing left to do."""
        ...

    # telephones

    def load_mobile_items(self) -> list[MobileRecord]: ...

    def put_mobile_item(self, record: MobileRecord) -> None: ...

    def delete_mobile_item(self, kind: str, account: str, region: str, name: str) -> None: ...


class BusItem(NamedTuple):
    """One definition of EventBridge's: a bus, a rule, an archive, a connection … `document` is JSON.

    A rule's name is `bus/rule`; what else belongs to a bus is named without it.
    """

    kind: str
    account: str
    region: str
    name: str
    document: str


class ArchivedEvent(NamedTuple):
    """An event in an archive. `event` is its JSON as targets get it."""

    id: int  # row_id of the archive's number and a sequence, in order of arrival
    archive_no: int
    event_ms: int  # the event's own time, by which replays choose
    archived_ms: int
    size_bytes: int
    event: str


class ArchiveTotals(NamedTuple):
    """What an archive holds, so that nobody need count."""

    archive_no: int
    event_count: int
    size_bytes: int
    last_sequence: int


class BusStore(Protocol):
    """What EventBridge keeps: small definitions, and archives. An archive's number is one of QueueStore.next_no."""

    def load_items(self) -> list[BusItem]:
        """All, by kind, account, region and name."""
        ...

    def put_item(self, item: BusItem) -> None: ...

    def delete_item(self, kind: str, account: str, region: str, name: str) -> None: ...

    # archives

    def load_archive_totals(self) -> list[ArchiveTotals]: ...

    def save_archive_totals(self, totals: Iterable[ArchiveTotals]) -> None: ...

    def archive(self, events: Sequence[ArchivedEvent]) -> None: ...

    def archived(
        self, archive_no: int, after: tuple[int, int], until_ms: int, last_id: int, limit: int, max_bytes: int
    ) -> list[ArchivedEvent]:
        """What comes after (event_ms, id) and before `until_ms`, in order of time, of those with no higher id.

        Ends with the event that fills `max_bytes`.
        """
        ...

    def newest_event_ms(self, archive_no: int) -> int | None: ...

    def oldest_archived_ms(self, archive_no: int) -> int | None:
        """When the event came that was there first."""
        ...

    def delete_archived(self, archive_no: int, until_ms: int, limit: int, max_bytes: int) -> tuple[int, int]:
        """Deletes those that came no later than that, in order of arrival: how many, and of how many bytes.

        Ends with the event that fills `max_bytes`.
        """
        ...

    def discard_archive(self, archive_no: int) -> None:
        """Gives an archive's rows to the sweeper, and forgets its totals."""
        ...

    def sweep_archives(self, limit: int, max_bytes: int) -> int:
        """Deletes up to `limit` rows of discarded archives; 0 when there is nothing left to do."""
        ...


class StreamItem(NamedTuple):
    """One definition of Kinesis's: a stream, a consumer, an account's settings. `document` is JSON.

    What belongs to a stream is named `stream/name`.
    """

    kind: str
    account: str
    region: str
    name: str
    document: str


class ShardRecord(NamedTuple):
    """A shard as it is kept. `document` is everything about it that does not change with each record, as JSON."""

    shard_no: int
    stream_no: int
    shard_index: int
    document: str
    last_sequence: int
    last_arrival_ms: int


class Segment(NamedTuple):
    """Records that came to a shard together. Its id is the `row_id` of the first; they have consecutive sequences.

    No segment of a shard is older than the one before it.
    """

    id: int
    shard_no: int
    arrival_ms: int
    record_count: int
    encrypted: int
    partition_keys: str  # JSON, a list of strings and nulls
    sizes: bytes  # of each record's data, unsigned 32 bits, the lowest byte first
    data: bytes  # of all records, one after the other


class StreamStore(Protocol):
    """What Kinesis keeps: small definitions, shards and their records. Numbers are those of QueueStore.next_no."""

    def load_items(self, kind: str) -> list[StreamItem]:
        """All of a kind, by account, region and name."""
        ...

    def put_item(self, item: StreamItem) -> None: ...

    def delete_item(self, kind: str, account: str, region: str, name: str) -> None: ...

    # shards

    def load_shards(self) -> list[ShardRecord]:
        """All, by number."""
        ...

    def put_shard(self, record: ShardRecord) -> None: ...

    def save_arrivals(self, rows: Iterable[tuple[int, int, int]]) -> None:
        """Rows of (last_sequence, last_arrival_ms, shard_no)."""
        ...

    def discard_shard(self, shard_no: int) -> None:
        """Deletes a shard, and gives its records to the sweeper."""
        ...

    def sweep_shards(self, limit_bytes: int) -> bool:
        """Deletes some records of discarded shards; False when there is nothing left to do."""
        ...

    # records

    def add_segment(self, segment: Segment) -> None: ...

    def segments(
        self, shard_no: int, sequence: int, since_ms: int, limit_records: int, limit_bytes: int
    ) -> list[Segment]:
        """In order, from the one with this sequence on, or the first that arrived at `since_ms` if that is later.

        At least one, if there is one; then until those from `sequence` on reach one of the limits or more.
        """
        ...

    def first_sequence_since(self, shard_no: int, arrival_ms: int) -> int | None: ...

    def oldest_arrival_ms(self, shard_no: int) -> int | None: ...

    def expire_segments(self, shard_no: int, before_ms: int, limit_bytes: int) -> bool:
        """Deletes some that arrived before that; False when there is nothing left to do."""
        ...


class QueuedRecord(NamedTuple):
    """A stream's record that a queue on the stream has delivered, and that is not acknowledged.

    Its id is the `row_id` of its shard's number and its sequence. Of the record itself there is no copy.
    """

    queue_no: int
    id: int
    visible_ms: int
    dead: int  # a dead letter, or one once its last receive is over
    delivery_no: int  # grows with each delivery, also across a restore
    receive_count: int  # since it was new or restored
    dead_receive_count: int  # as a dead letter
    first_received_ms: int
    arrival_ms: int


class StreamQueueStore(Protocol):
    """Where queues and channels are in the shards of their streams, and what queues have in hand.

    An owner is a queue or a channel; its number is one of QueueStore.next_no.
    """

    # cursors

    def load_cursors(self) -> list[tuple[int, int, int]]:
        """Rows of (owner_no, shard_no, position): the sequence of the first record it has not seen."""
        ...

    def save_cursors(self, rows: Iterable[tuple[int, int, int]]) -> None: ...

    def delete_cursor(self, owner_no: int, shard_no: int) -> None: ...

    def delete_cursors_of(self, owner_no: int) -> None: ...

    # records

    def put(self, records: Iterable[QueuedRecord]) -> None:
        """New ones, and new states of those that are there."""
        ...

    def get(self, queue_no: int, ids: Sequence[int]) -> list[QueuedRecord]: ...

    def delete(self, queue_no: int, ids: Sequence[int]) -> None: ...

    def visible(self, queue_no: int, dead: int, now_ms: int, since_ms: int, limit: int) -> list[QueuedRecord]:
        """Those that have been visible longest, of those that arrived since a moment."""
        ...

    def next_visible_ms(self, queue_no: int, dead: int, after_ms: int) -> int | None: ...

    def set_max_receives(self, queue_no: int, max_receives: int, now_ms: int) -> None:
        """Decides anew who is dead: but for those that became dead letters before now."""
        ...

    def first_from(self, queue_no: int, shard_no: int) -> tuple[int, int] | None:
        """The first record of this shard, or of the next that has one: id and arrival."""
        ...

    def expire(self, queue_no: int, shard_no: int, before_ms: int, limit: int) -> int:
        """Deletes some that arrived before that; how many there were."""
        ...

    def discard(self, queue_no: int) -> None:
        """Gives a queue's rows to the sweeper."""
        ...

    def sweep(self, limit: int) -> int:
        """Deletes up to `limit` rows of discarded queues; 0 when there is nothing left to do."""
        ...


class TableRecord(NamedTuple):
    """A table as it is kept. `document` is everything about it that is not a total, as JSON."""

    table_no: int
    account: str
    region: str
    name: str
    document: str
    item_count: int
    size_bytes: int


class ItemRecord(NamedTuple):
    """An item of a table. Its keys sort as bytes; `document` is its JSON."""

    hash_key: bytes
    range_key: bytes  # empty where the table's key has one part
    document: str


class TableStore(Protocol):
    """The lease tables of stream consumers. A table's number is one that QueueStore.next_no gave."""

    def load_tables(self) -> list[TableRecord]:
        """All, by number."""
        ...

    def put_table(self, record: TableRecord) -> None: ...

    def save_totals(self, rows: Iterable[tuple[int, int, int]]) -> None:
        """Rows of (item_count, size_bytes, table_no)."""
        ...

    def discard_table(self, table_no: int) -> None:
        """Deletes a table, and gives its items to the sweeper."""
        ...

    def sweep_tables(self, limit: int) -> int:
        """Deletes up to `limit` items of discarded tables; 0 when there is nothing left to do."""
        ...

    # items

    def get_item(self, table_no: int, hash_key: bytes, range_key: bytes) -> str | None: ...

    def put_item(self, table_no: int, hash_key: bytes, range_key: bytes, document: str) -> None: ...

    def delete_item(self, table_no: int, hash_key: bytes, range_key: bytes) -> None: ...

    def items_after(self, table_no: int, hash_key: bytes, range_key: bytes, limit: int) -> list[ItemRecord]:
        """In order of their keys."""
        ...

    def items_between(
        self, table_no: int, hash_key: bytes, low: bytes, high: bytes | None, forward: bool, limit: int
    ) -> list[ItemRecord]:
        """Those of one hash key with a range key from `low` on, and below `high` if there is one, in either order."""
        ...


class NewDeliveryRecord(NamedTuple):
    """A remote delivery on its way in. `headers`, `policy` and `dead_letter` are JSON."""

    due_ms: int
    created_ms: int
    account: str
    owner: str
    channel: str
    target: str
    headers: str
    body: str
    policy: str
    dead_letter: str | None
    message_id: str = ""


class DeliveryRecord(NamedTuple):
    """A remote delivery as it is kept. The fields up to `failures` change."""

    id: int  # never given twice
    due_ms: int
    claimed_ms: int | None  # when somebody took it to try; `due_ms` is then the end of the lease
    has_slot: int  # `due_ms` is what its owner's rate allowed
    attempts: int  # begun so far
    failures: str  # JSON: how many, by kind
    created_ms: int
    account: str
    owner: str
    channel: str
    target: str
    headers: str
    body: str
    policy: str
    dead_letter: str | None
    message_id: str = ""  # of the message or the event that it is


class ReadableRecord(NamedTuple):
    """Something that would have been sent. `document` is JSON."""

    id: int
    channel: str
    account: str
    region: str
    recorded_ms: int
    document: str


class DeliveryStore(Protocol):
    """The outbox: remote deliveries, and what is kept for people to read."""

    def insert_deliveries(self, records: Sequence[NewDeliveryRecord]) -> None: ...

    def get_delivery(self, id: int) -> DeliveryRecord | None: ...

    def due_deliveries(self, now_ms: int, limit: int) -> list[DeliveryRecord]:
        """The longest due first; also those whose lease has ended."""
        ...

    def next_delivery_ms(self) -> int | None:
        """When the next is due, or a lease ends."""
        ...

    def claim_delivery(self, id: int, now_ms: int, lease_until_ms: int) -> None:
        """Counts an attempt, and keeps others off until the lease ends."""
        ...

    def release_claims(self) -> None:
        """Ends all leases: what was claimed is due when it was."""
        ...

    def move_delivery(self, id: int, slot_ms: int) -> None:
        """Makes it due when its owner's rate allows."""
        ...

    def retry_delivery(self, id: int, due_ms: int, failures: str) -> None: ...

    def last_slot_ms(self, owner: str) -> int | None:
        """The last moment that an owner's rate was given away for."""
        ...

    def delete_delivery(self, id: int) -> None: ...

    def delete_deliveries_of(self, owner: str) -> None: ...

    def clear_deliveries(self, account: str | None) -> None:
        """Deletes those of an account, or all."""
        ...

    def insert_readable(self, channel: str, account: str, region: str, recorded_ms: int, document: str) -> None: ...

    def readable(
        self, channel: str | None, account: str | None, region: str | None, after: int, limit: int
    ) -> list[ReadableRecord]:
        """By id, from the one after `after` on; None means all."""
        ...

    def delete_readable(self, channel: str | None, account: str | None, region: str | None) -> int: ...


class LedgerEntry(NamedTuple):
    """One thing that happened to a message. What `number`, `until_ms` and `origin` are depends on the event, see
    broker/ledger/events.py; 0 and "" where there is nothing to say. Names are in the table of names, 0 is nobody."""

    id: int  # grows with each
    message_key: int  # the row id of a queue's message; 0 where it is of none, or of one that nobody knows
    message_id: str  # "" where it is about the whole resource
    at_ms: int
    event: str
    resource_no: int
    by_no: int
    number: int
    until_ms: int
    origin: str
    detail: str  # JSON, or ""


class LedgerStore(Protocol):
    """What happened to messages. Reads see the entries up to `through` only, so that pages of a read agree.

    Entries of queues' messages are found by their keys, which grow as messages come: what is written together lies
    together in the index. By its id, which is random, only the first entry of such a message is found, and all others
    by it.
    """

    def load_names(self) -> list[tuple[int, str]]: ...

    def put_names(self, rows: Iterable[tuple[int, str]]) -> None: ...

    def drop_names(self, name_nos: Sequence[int]) -> None: ...

    def append(self, entries: Sequence[LedgerEntry]) -> None: ...

    def bounds(self) -> tuple[int, int]:
        """How many there are, and the id of the last, or 0."""
        ...

    def drop_oldest(self, limit: int) -> int: ...

    def drop_of(self, resource_nos: Sequence[int]) -> int: ...

    def clear(self) -> None:
        """Entries and names."""
        ...

    def of_message(
        self, message_id: str, limit: int, event: str | None = None, *, anyhow: bool = False
    ) -> list[LedgerEntry]:
        """By id. So with the next three. `anyhow`: also one whose first entry is gone, by looking at all there are."""
        ...

    def of_origin(self, origin: str, limit: int) -> list[LedgerEntry]: ...

    def of_range(self, resource_nos: Sequence[int], shard_id: str, place: int, limit: int) -> list[LedgerEntry]:
        """Of the entries that are about ranges of places, `number` to `until_ms`, those that this one lies in."""
        ...

    def after(
        self,
        id: int,
        limit: int,
        *,
        resource_nos: Sequence[int] | None = None,
        events: Sequence[str] | None = None,
        through: int | None = None,
        keyless: bool = False,
    ) -> list[LedgerEntry]:
        """Those with a higher id; None means all resources, all events. `keyless`: only those without a key."""
        ...

    def key_of(self, message_id: str, resource_no: int) -> int:
        """Of a message in a queue; 0 where that is not known."""
        ...

    def by_key(
        self, resource_nos: Sequence[int], after: tuple[int, int], through: int, limit: int
    ) -> list[LedgerEntry]:
        """Those with a key, by key and id, from the one after this place on."""
        ...

    def by_message(
        self, resource_nos: Sequence[int], after: tuple[str, int], through: int, limit: int
    ) -> list[LedgerEntry]:
        """Those without a key, by message and id, from the one after this place on."""
        ...

    def repeated_origins(self, event: str, resource_nos: Sequence[int], through: int) -> list[tuple[str, int]]:
        """The origins that more than one entry of an event has, and how many."""
        ...


class Store(Protocol):
    """A store: one transaction at a time, and the tables of each service."""

    @property
    def queues(self) -> QueueStore: ...

    @property
    def topics(self) -> TopicStore: ...

    @property
    def buses(self) -> BusStore: ...

    @property
    def streams(self) -> StreamStore: ...

    @property
    def tables(self) -> TableStore: ...

    @property
    def stream_queues(self) -> StreamQueueStore: ...

    @property
    def deliveries(self) -> DeliveryStore: ...

    @property
    def ledger(self) -> LedgerStore: ...

    def begin(self) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...

    def describe(self) -> dict[str, object]:
        """What it is and where, for the health page."""
        ...

    def failure(self, error: Exception) -> BrokerFailure | None:
        """What to tell people of an exception that a call raised, or None where it is not the store's."""
        ...

    def play_full(self, is_full: bool) -> None:
        """Between transactions. As long as it plays, a commit that changed something fails as on a full disk."""
        ...

    def get_meta(self, key: str) -> str | None: ...

    def put_meta(self, key: str, value: str) -> None: ...

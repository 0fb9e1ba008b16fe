"""The tables, and how they change.

To change them: raise VERSION by one, add the statements that lead from the version before to UPGRADES, change CREATE
to the result, and let `tests/store` open a file of the version before. A file of a newer version is refused; there is
no way down. Never change an entry of UPGRADES that has been released.

`message` has one row a message. Its columns up to `visible_ms` and the two that count receives change, the rest never
does. `message_ready` is the order in which a standard queue gives; the two partial indexes exist only for messages
with a group.

`segment` has one row for all records that came to a shard in one transaction (or one millisecond of it): see port.py.
"""

from __future__ import annotations

VERSION = 1
APPLICATION_ID = 0x51DEB005

CREATE = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE queue (
    queue_no INTEGER PRIMARY KEY,
    shelf_no INTEGER NOT NULL,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    message_count INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    UNIQUE (account, region, name)
);

CREATE TABLE queue_tombstone (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    free_ms INTEGER NOT NULL,
    PRIMARY KEY (account, region, name)
) WITHOUT ROWID;

CREATE TABLE discarded_shelf (shelf_no INTEGER PRIMARY KEY);

CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    shelf_no INTEGER NOT NULL,
    visible_ms INTEGER NOT NULL,
    sent_ms INTEGER NOT NULL,
    receive_count INTEGER NOT NULL DEFAULT 0,
    received_ms INTEGER NOT NULL DEFAULT 0,
    first_received_ms INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    body TEXT NOT NULL,
    md5 TEXT NOT NULL,
    attributes TEXT,
    attributes_md5 TEXT,
    trace_header TEXT,
    sender_id TEXT NOT NULL,
    group_id TEXT,
    deduplication_id TEXT,
    dead_letter_source TEXT,
    earlier_receives INTEGER NOT NULL
);
CREATE INDEX message_ready ON message (shelf_no, visible_ms, receive_count);
CREATE INDEX message_fifo ON message (shelf_no, group_id) WHERE deduplication_id IS NOT NULL;
CREATE INDEX message_fair ON message (shelf_no, group_id, visible_ms)
    WHERE deduplication_id IS NULL AND group_id IS NOT NULL;
CREATE INDEX message_moved ON message (shelf_no, sent_ms) WHERE id & 549755813888;  -- 1 << 39, see port.py

CREATE TABLE fifo_group (
    shelf_no INTEGER NOT NULL,
    group_id TEXT NOT NULL,
    available_ms INTEGER NOT NULL,
    head_id INTEGER NOT NULL,
    PRIMARY KEY (shelf_no, group_id)
) WITHOUT ROWID;
CREATE INDEX fifo_group_ready ON fifo_group (shelf_no, available_ms, head_id);

CREATE TABLE duplicate (
    queue_no INTEGER NOT NULL,
    scope TEXT NOT NULL,
    deduplication_id TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (queue_no, scope, deduplication_id)
) WITHOUT ROWID;
CREATE INDEX duplicate_until ON duplicate (until_ms);

CREATE TABLE receive_attempt (
    queue_no INTEGER NOT NULL,
    attempt_id TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (queue_no, attempt_id)
) WITHOUT ROWID;
CREATE INDEX receive_attempt_until ON receive_attempt (until_ms);

CREATE TABLE move_task (
    task_id TEXT PRIMARY KEY,
    source_arn TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    document TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE topic (
    topic_no INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    last_sequence INTEGER NOT NULL,
    UNIQUE (account, region, name)
);

CREATE TABLE subscription (
    subscription_no INTEGER PRIMARY KEY,
    topic_no INTEGER NOT NULL,
    arn TEXT NOT NULL,
    document TEXT NOT NULL
);

CREATE TABLE archived_message (
    archive_no INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    published_ms INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (archive_no, sequence)
) WITHOUT ROWID;
CREATE INDEX archived_message_published ON archived_message (archive_no, published_ms);
CREATE TABLE discarded_archive (archive_no INTEGER PRIMARY KEY);

CREATE TABLE mobile_item (
    kind TEXT NOT NULL,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (kind, account, region, name)
) WITHOUT ROWID;

CREATE TABLE bus_item (
    kind TEXT NOT NULL,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (kind, account, region, name)
) WITHOUT ROWID;

CREATE TABLE event_archive (
    archive_no INTEGER PRIMARY KEY,
    event_count INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL
);

CREATE TABLE archived_event (
    id INTEGER PRIMARY KEY,
    archive_no INTEGER NOT NULL,
    event_ms INTEGER NOT NULL,
    archived_ms INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    event TEXT NOT NULL
);
CREATE INDEX archived_event_time ON archived_event (archive_no, event_ms);
CREATE TABLE discarded_event_archive (archive_no INTEGER PRIMARY KEY);

CREATE TABLE stream_item (
    kind TEXT NOT NULL,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (kind, account, region, name)
) WITHOUT ROWID;

CREATE TABLE shard (
    shard_no INTEGER PRIMARY KEY,
    stream_no INTEGER NOT NULL,
    shard_index INTEGER NOT NULL,
    document TEXT NOT NULL,
    last_sequence INTEGER NOT NULL,
    last_arrival_ms INTEGER NOT NULL
);

CREATE TABLE segment (
    id INTEGER PRIMARY KEY,
    shard_no INTEGER NOT NULL,
    arrival_ms INTEGER NOT NULL,
    record_count INTEGER NOT NULL,
    encrypted INTEGER NOT NULL,
    partition_keys TEXT NOT NULL,
    sizes BLOB NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX segment_arrival ON segment (shard_no, arrival_ms);

CREATE TABLE discarded_shard (shard_no INTEGER PRIMARY KEY);

CREATE TABLE stream_cursor (
    owner_no INTEGER NOT NULL,
    shard_no INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (owner_no, shard_no)
) WITHOUT ROWID;

CREATE TABLE queued_record (
    queue_no INTEGER NOT NULL,
    id INTEGER NOT NULL,
    visible_ms INTEGER NOT NULL,
    dead INTEGER NOT NULL,
    delivery_no INTEGER NOT NULL,
    receive_count INTEGER NOT NULL,
    dead_receive_count INTEGER NOT NULL,
    first_received_ms INTEGER NOT NULL,
    arrival_ms INTEGER NOT NULL,
    PRIMARY KEY (queue_no, id)
) WITHOUT ROWID;
CREATE INDEX queued_record_visible ON queued_record (queue_no, dead, visible_ms);

CREATE TABLE discarded_stream_queue (queue_no INTEGER PRIMARY KEY);

CREATE TABLE item_table (
    table_no INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    item_count INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL
);

CREATE TABLE item (
    table_no INTEGER NOT NULL,
    hash_key BLOB NOT NULL,
    range_key BLOB NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (table_no, hash_key, range_key)
) WITHOUT ROWID;

CREATE TABLE discarded_item_table (table_no INTEGER PRIMARY KEY);

CREATE TABLE delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    due_ms INTEGER NOT NULL,
    claimed_ms INTEGER,
    has_slot INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    failures TEXT NOT NULL DEFAULT '{}',
    created_ms INTEGER NOT NULL,
    account TEXT NOT NULL,
    owner TEXT NOT NULL,
    channel TEXT NOT NULL,
    target TEXT NOT NULL,
    headers TEXT NOT NULL,
    body TEXT NOT NULL,
    policy TEXT NOT NULL,
    dead_letter TEXT,
    message_id TEXT NOT NULL
);
CREATE INDEX delivery_due ON delivery (due_ms);
CREATE INDEX delivery_owner ON delivery (owner, has_slot, due_ms);

CREATE TABLE readable (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT NOT NULL,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    recorded_ms INTEGER NOT NULL,
    document TEXT NOT NULL
);

CREATE TABLE ledger_name (name_no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE ledger_entry (
    id INTEGER PRIMARY KEY,
    message_key INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    event TEXT NOT NULL,
    resource_no INTEGER NOT NULL,
    by_no INTEGER NOT NULL,
    number INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    origin TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX ledger_key ON ledger_entry (message_key) WHERE message_key <> 0;
CREATE INDEX ledger_message ON ledger_entry (message_id) WHERE message_key = 0 OR event = 'sent';
CREATE INDEX ledger_origin ON ledger_entry (origin) WHERE origin <> '';
"""

UPGRADES: dict[int, str] = {}
"""From the version that is the key to the next."""

"""The tables of queues in SQLite. Each method is one to three statements; what they mean stands in `port.py`.

Ugly: SQLite plans by statistics we do not keep, so the statements on hot paths name their index.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from broker.store.port import (
    MessageState,
    MoveTaskRecord,
    NewMessage,
    QueueRecord,
    StoredMessage,
    moved_ids,
    own_ids,
)

_STORED = (
    "id, visible_ms, sent_ms, receive_count, message_id, body, md5, attributes, attributes_md5, trace_header, "
    "sender_id, group_id, deduplication_id, dead_letter_source, earlier_receives, first_received_ms"
)
_RECEIVED = (
    "id, ?, sent_ms, receive_count + 1, message_id, body, md5, attributes, attributes_md5, trace_header, sender_id, "
    "group_id, deduplication_id, dead_letter_source, earlier_receives, "
    "CASE first_received_ms WHEN 0 THEN ? ELSE first_received_ms END"
)
"""_STORED as it will be after a receive: until when it is hidden, and now."""

_TAKE = (
    f"SELECT {_RECEIVED} FROM message INDEXED BY message_ready WHERE shelf_no = ? AND visible_ms <= ? "
    "ORDER BY visible_ms, receive_count, id LIMIT ?"
)
_IS_MOVED = "id & 549755813888"  # as the index message_moved has it
_INSERT = (
    "INSERT INTO message (id, shelf_no, visible_ms, sent_ms, message_id, body, md5, attributes, attributes_md5, "
    "trace_header, sender_id, group_id, deduplication_id, dead_letter_source, earlier_receives, first_received_ms) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_PLAIN = (
    "INSERT INTO message (id, shelf_no, visible_ms, sent_ms, message_id, body, md5, sender_id, earlier_receives, "
    "first_received_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_plain = itemgetter(*map(NewMessage._fields.index, _INSERT_PLAIN.partition("(")[2].partition(")")[0].split(", ")))


def _marks(count: int) -> str:
    return ",".join("?" * count)


class SqliteQueueStore:
    """`QueueStore` on a connection that somebody else opens, commits and closes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute
        self.body_bytes = 0  # written since the store last asked

    # queues

    def load_queues(self) -> list[QueueRecord]:
        return [QueueRecord._make(row) for row in self._execute("SELECT * FROM queue ORDER BY queue_no")]

    def put_queue(self, record: QueueRecord) -> None:
        self._execute("INSERT OR REPLACE INTO queue VALUES (?, ?, ?, ?, ?, ?, ?, ?)", record)

    def delete_queue(self, queue_no: int) -> None:
        self._execute("DELETE FROM queue WHERE queue_no = ?", (queue_no,))
        self._execute("DELETE FROM duplicate WHERE queue_no = ?", (queue_no,))
        self._execute("DELETE FROM receive_attempt WHERE queue_no = ?", (queue_no,))

    def next_no(self) -> int:
        row = self._execute(
            "INSERT INTO meta VALUES ('last_no', '1') "
            "ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING value"
        ).fetchone()
        return int(row[0])

    def discard_shelf(self, shelf_no: int) -> None:
        self._execute("INSERT INTO discarded_shelf VALUES (?)", (shelf_no,))

    def sweep_shelves(self, limit: int) -> int:
        row = self._execute("SELECT shelf_no FROM discarded_shelf LIMIT 1").fetchone()
        if row is None:
            return 0
        first, end = own_ids(row[0])[0], moved_ids(row[0])[1]
        swept = self._execute(
            "DELETE FROM message WHERE id IN (SELECT id FROM message WHERE id >= ? AND id < ? LIMIT ?)",
            (first, end, limit),
        ).rowcount
        if swept < limit:
            swept += self._execute(
                "DELETE FROM fifo_group WHERE (shelf_no, group_id) IN "
                "(SELECT shelf_no, group_id FROM fifo_group WHERE shelf_no = ? LIMIT ?)",
                (row[0], limit - swept),
            ).rowcount
        if swept < limit:
            self._execute("DELETE FROM discarded_shelf WHERE shelf_no = ?", (row[0],))
        return max(swept, 1)

    def save_counters(self, rows: Iterable[tuple[int, int, int]]) -> None:
        self._connection.executemany("UPDATE queue SET message_count = ?, last_sequence = ? WHERE queue_no = ?", rows)

    def put_tombstone(self, account: str, region: str, name: str, free_ms: int) -> None:
        self._execute("INSERT OR REPLACE INTO queue_tombstone VALUES (?, ?, ?, ?)", (account, region, name, free_ms))

    def load_tombstones(self) -> list[tuple[str, str, str, int]]:
        return self._execute("SELECT account, region, name, free_ms FROM queue_tombstone").fetchall()

    def delete_tombstones(self, until_ms: int) -> None:
        self._execute("DELETE FROM queue_tombstone WHERE free_ms <= ?", (until_ms,))

    # messages

    def insert(self, messages: Sequence[NewMessage]) -> None:
        # For each None that it binds, and each tuple of a class of its own, Python's sqlite3 looks for an adapter:
        # most messages are spared both.
        plain, full = [], []
        for message in messages:
            self.body_bytes += len(message.body)
            if (
                message.attributes is None
                and message.group_id is None
                and message.trace_header is None
                and message.deduplication_id is None
                and message.dead_letter_source is None
            ):
                plain.append(_plain(message))
            else:
                full.append(tuple(message))
        for statement, rows in ((_INSERT_PLAIN, plain), (_INSERT, full)):
            if len(rows) == 1:
                self._execute(statement, rows[0])
            elif rows:
                self._connection.executemany(statement, rows)

    def take(self, shelf_no: int, now_ms: int, visible_ms: int, limit: int) -> list[StoredMessage]:
        rows = self._execute(_TAKE, (visible_ms, now_ms, shelf_no, now_ms, limit)).fetchall()
        return self._receive(rows, now_ms, visible_ms)

    def take_ids(self, ids: Sequence[int], now_ms: int, visible_ms: int) -> list[StoredMessage]:
        rows = self._execute(
            f"SELECT {_RECEIVED} FROM message WHERE id IN ({_marks(len(ids))})", (visible_ms, now_ms, *ids)
        ).fetchall()
        return self._receive(rows, now_ms, visible_ms)

    def _receive(self, rows: list[tuple[Any, ...]], now_ms: int, visible_ms: int) -> list[StoredMessage]:
        # Read, then update: a fifth quicker than UPDATE … RETURNING, which keeps a copy of every row.
        if rows:
            self._execute(
                "UPDATE message SET visible_ms = ?, receive_count = receive_count + 1, received_ms = ?, "
                "first_received_ms = CASE first_received_ms WHEN 0 THEN ? ELSE first_received_ms END "
                f"WHERE id IN ({_marks(len(rows))})",
                (visible_ms, now_ms, now_ms, *(row[0] for row in rows)),
            )
        return [StoredMessage._make(row) for row in rows]

    def visible_head(self, shelf_no: int, now_ms: int, limit: int) -> list[tuple[int, str | None]]:
        return self._execute(
            "SELECT id, group_id FROM message INDEXED BY message_ready WHERE shelf_no = ? AND visible_ms <= ? "
            "ORDER BY visible_ms, receive_count, id LIMIT ?",
            (shelf_no, now_ms, limit),
        ).fetchall()

    def next_visible_group(self, shelf_no: int, after: str, now_ms: int) -> tuple[str, bool] | None:
        row = self._execute(
            "SELECT group_id, visible_ms FROM message INDEXED BY message_fair WHERE shelf_no = ? AND group_id > ? "
            "AND deduplication_id IS NULL AND group_id IS NOT NULL ORDER BY group_id, visible_ms LIMIT 1",
            (shelf_no, after),
        ).fetchone()
        return None if row is None else (row[0], row[1] <= now_ms)

    def visible_in_group(self, shelf_no: int, group_id: str, now_ms: int, limit: int) -> list[int]:
        return [
            row[0]
            for row in self._execute(
                "SELECT id FROM message INDEXED BY message_fair WHERE shelf_no = ? AND group_id = ? "
                "AND visible_ms <= ? AND deduplication_id IS NULL ORDER BY visible_ms, id LIMIT ?",
                (shelf_no, group_id, now_ms, limit),
            )
        ]

    def states(self, ids: Sequence[int]) -> dict[int, MessageState]:
        rows = self._execute(
            f"SELECT id, visible_ms, receive_count, received_ms, group_id FROM message "
            f"WHERE id IN ({_marks(len(ids))})",
            tuple(ids),
        )
        return {row[0]: MessageState._make(row[1:]) for row in rows}

    def get(self, ids: Sequence[int]) -> list[StoredMessage]:
        rows = self._execute(f"SELECT {_STORED} FROM message WHERE id IN ({_marks(len(ids))})", tuple(ids))
        return [StoredMessage._make(row) for row in rows]

    def identify(self, ids: Sequence[int]) -> dict[int, tuple[str, int]]:
        rows = self._execute(
            f"SELECT id, message_id, receive_count FROM message WHERE id IN ({_marks(len(ids))})", tuple(ids)
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    def delete(self, receives: Sequence[tuple[int, int]]) -> int:
        statement = "DELETE FROM message WHERE id = ? AND receive_count = ?"
        if len(receives) == 1:
            return self._execute(statement, receives[0]).rowcount
        return self._connection.executemany(statement, receives).rowcount

    def delete_ids(self, ids: Sequence[int]) -> list[str | None]:
        rows = self._execute(f"DELETE FROM message WHERE id IN ({_marks(len(ids))}) RETURNING group_id", tuple(ids))
        return [row[0] for row in rows]

    def give_group(self, ids: Sequence[int], group_id: str) -> None:
        self._execute(f"UPDATE message SET group_id = ? WHERE id IN ({_marks(len(ids))})", (group_id, *ids))

    def set_visible(self, ids: Sequence[int], visible_ms: int) -> None:
        self._execute(f"UPDATE message SET visible_ms = ? WHERE id IN ({_marks(len(ids))})", (visible_ms, *ids))

    def unavailable_counts(self, shelf_no: int, now_ms: int) -> tuple[int, int]:
        row = self._execute(
            "SELECT count(*), coalesce(sum(receive_count = 0), 0) FROM message INDEXED BY message_ready "
            "WHERE shelf_no = ? AND visible_ms > ?",
            (shelf_no, now_ms),
        ).fetchone()
        return row[0] - row[1], row[1]

    def count_messages(self, shelf_no: int) -> int:
        count: int = self._execute("SELECT count(*) FROM message WHERE shelf_no = ?", (shelf_no,)).fetchone()[0]
        return count

    def next_visible_ms(self, shelf_no: int, after_ms: int) -> int | None:
        row = self._execute(
            "SELECT visible_ms FROM message INDEXED BY message_ready WHERE shelf_no = ? AND visible_ms > ? "
            "ORDER BY visible_ms LIMIT 1",
            (shelf_no, after_ms),
        ).fetchone()
        return None if row is None else int(row[0])

    def ids_through(self, shelf_no: int, sequence: int, limit: int) -> list[int]:
        ids: list[int] = []
        for first, _end in (own_ids(shelf_no), moved_ids(shelf_no)):
            ids += (
                row[0]
                for row in self._execute(
                    "SELECT id FROM message WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?",
                    (first, first + sequence, limit - len(ids)),
                )
            )
        return ids

    def ids_sent_before(self, shelf_no: int, sent_ms: int, limit: int) -> list[int]:
        ids = []
        for id, sent in self._execute(
            "SELECT id, sent_ms FROM message WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", (*own_ids(shelf_no), limit)
        ):
            if sent >= sent_ms:
                break
            ids.append(id)
        moved = self._execute(
            "SELECT id FROM message INDEXED BY message_moved "
            f"WHERE shelf_no = ? AND sent_ms < ? AND {_IS_MOVED} LIMIT ?",
            (shelf_no, sent_ms, limit - len(ids)),
        )
        return ids + [row[0] for row in moved]

    def oldest_sent_ms(self, shelf_no: int) -> int | None:
        row = self._execute(
            "SELECT min(sent_ms) FROM ("
            "SELECT sent_ms FROM (SELECT sent_ms FROM message WHERE id >= ? AND id < ? ORDER BY id LIMIT 1) "
            "UNION ALL SELECT sent_ms FROM (SELECT sent_ms FROM message INDEXED BY message_moved WHERE shelf_no = ? "
            f"AND {_IS_MOVED} ORDER BY sent_ms LIMIT 1))",
            (*own_ids(shelf_no), shelf_no),
        ).fetchone()
        return None if row[0] is None else int(row[0])

    # FIFO

    def ready_groups(self, shelf_no: int, now_ms: int, limit: int) -> list[str]:
        return [
            row[0]
            for row in self._execute(
                "SELECT group_id FROM fifo_group INDEXED BY fifo_group_ready WHERE shelf_no = ? "
                "AND available_ms <= ? ORDER BY available_ms, head_id LIMIT ?",
                (shelf_no, now_ms, limit),
            )
        ]

    def group_front(self, shelf_no: int, group_id: str, limit: int) -> list[tuple[int, MessageState]]:
        return [
            (row[0], MessageState._make(row[1:]))
            for row in self._execute(
                "SELECT id, visible_ms, receive_count, received_ms, group_id FROM message INDEXED BY message_fifo "
                "WHERE shelf_no = ? AND group_id = ? AND deduplication_id IS NOT NULL ORDER BY id LIMIT ?",
                (shelf_no, group_id, limit),
            )
        ]

    def set_group(self, shelf_no: int, group_id: str, available_ms: int, head_id: int) -> None:
        self._execute(
            "INSERT OR REPLACE INTO fifo_group VALUES (?, ?, ?, ?)",
            (shelf_no, group_id, available_ms, head_id),
        )

    def add_groups(self, rows: Iterable[tuple[int, str, int, int]]) -> None:
        self._connection.executemany("INSERT OR IGNORE INTO fifo_group VALUES (?, ?, ?, ?)", rows)

    def drop_group(self, shelf_no: int, group_id: str) -> None:
        self._execute("DELETE FROM fifo_group WHERE shelf_no = ? AND group_id = ?", (shelf_no, group_id))

    def next_group_ms(self, shelf_no: int, after_ms: int) -> int | None:
        row = self._execute(
            "SELECT available_ms FROM fifo_group INDEXED BY fifo_group_ready WHERE shelf_no = ? "
            "AND available_ms > ? ORDER BY available_ms LIMIT 1",
            (shelf_no, after_ms),
        ).fetchone()
        return None if row is None else int(row[0])

    def find_duplicate(self, queue_no: int, scope: str, deduplication_id: str, now_ms: int) -> tuple[str, int] | None:
        row: tuple[str, int] | None = self._execute(
            "SELECT message_id, sequence FROM duplicate WHERE queue_no = ? AND scope = ? AND deduplication_id = ? "
            "AND until_ms > ?",
            (queue_no, scope, deduplication_id, now_ms),
        ).fetchone()
        return row

    def remember_duplicate(
        self, queue_no: int, scope: str, deduplication_id: str, until_ms: int, message_id: str, sequence: int
    ) -> None:
        self._execute(
            "INSERT OR REPLACE INTO duplicate VALUES (?, ?, ?, ?, ?, ?)",
            (queue_no, scope, deduplication_id, until_ms, message_id, sequence),
        )

    def find_attempt(self, queue_no: int, attempt_id: str, now_ms: int) -> str | None:
        row = self._execute(
            "SELECT document FROM receive_attempt WHERE queue_no = ? AND attempt_id = ? AND until_ms > ?",
            (queue_no, attempt_id, now_ms),
        ).fetchone()
        return None if row is None else str(row[0])

    def remember_attempt(self, queue_no: int, attempt_id: str, until_ms: int, document: str) -> None:
        self._execute(
            "INSERT OR REPLACE INTO receive_attempt VALUES (?, ?, ?, ?)",
            (queue_no, attempt_id, until_ms, document),
        )

    def forget_expired(self, now_ms: int, limit: int) -> int:
        forgotten = 0
        for table in ("duplicate", "receive_attempt"):
            key = "scope, deduplication_id" if table == "duplicate" else "attempt_id"
            forgotten += self._execute(
                f"DELETE FROM {table} WHERE (queue_no, {key}) IN "
                f"(SELECT queue_no, {key} FROM {table} INDEXED BY {table}_until WHERE until_ms <= ? LIMIT ?)",
                (now_ms, limit),
            ).rowcount
        return forgotten

    def next_forget_ms(self) -> int | None:
        row = self._execute(
            "SELECT min(until_ms) FROM (SELECT min(until_ms) AS until_ms FROM duplicate "
            "UNION ALL SELECT min(until_ms) FROM receive_attempt)"
        ).fetchone()
        return None if row[0] is None else int(row[0])

    # move tasks

    def load_move_tasks(self) -> list[MoveTaskRecord]:
        return [MoveTaskRecord._make(row) for row in self._execute("SELECT * FROM move_task ORDER BY started_ms")]

    def put_move_task(self, record: MoveTaskRecord) -> None:
        self._execute("INSERT OR REPLACE INTO move_task VALUES (?, ?, ?, ?)", record)

    def delete_move_task(self, task_id: str) -> None:
        self._execute("DELETE FROM move_task WHERE task_id = ?", (task_id,))

    def take_for_move(self, shelf_no: int, now_ms: int, limit: int) -> list[StoredMessage]:
        rows = self._execute(
            f"SELECT {_STORED} FROM message INDEXED BY message_ready WHERE shelf_no = ? AND visible_ms <= ? "
            "ORDER BY visible_ms, receive_count, id LIMIT ?",
            (shelf_no, now_ms, limit),
        )
        return [StoredMessage._make(row) for row in rows]

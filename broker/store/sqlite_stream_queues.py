"""The tables of queues on streams, and of all who read streams by a cursor. What the calls mean stands in `port.py`.

Ugly: SQLite plans by statistics we do not keep, so the statements on hot paths name their index.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from broker.store.port import QueuedRecord, row_id


class SqliteStreamQueueStore:
    """`StreamQueueStore` on a connection that somebody else opens, commits and closes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute

    # cursors

    def load_cursors(self) -> list[tuple[int, int, int]]:
        return self._execute("SELECT owner_no, shard_no, position FROM stream_cursor").fetchall()

    def save_cursors(self, rows: Iterable[tuple[int, int, int]]) -> None:
        self._connection.executemany("INSERT OR REPLACE INTO stream_cursor VALUES (?, ?, ?)", rows)

    def delete_cursor(self, owner_no: int, shard_no: int) -> None:
        self._execute("DELETE FROM stream_cursor WHERE owner_no = ? AND shard_no = ?", (owner_no, shard_no))

    def delete_cursors_of(self, owner_no: int) -> None:
        self._execute("DELETE FROM stream_cursor WHERE owner_no = ?", (owner_no,))

    # records

    def put(self, records: Iterable[QueuedRecord]) -> None:
        # Tuples of a class of its own cost sqlite3 a search for an adapter each.
        rows = [tuple(record) for record in records]
        self._connection.executemany("INSERT OR REPLACE INTO queued_record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def get(self, queue_no: int, ids: Sequence[int]) -> list[QueuedRecord]:
        marks = ",".join("?" * len(ids))
        rows = self._execute(f"SELECT * FROM queued_record WHERE queue_no = ? AND id IN ({marks})", (queue_no, *ids))
        return [QueuedRecord._make(row) for row in rows]

    def delete(self, queue_no: int, ids: Sequence[int]) -> None:
        marks = ",".join("?" * len(ids))
        self._execute(f"DELETE FROM queued_record WHERE queue_no = ? AND id IN ({marks})", (queue_no, *ids))

    def visible(self, queue_no: int, dead: int, now_ms: int, since_ms: int, limit: int) -> list[QueuedRecord]:
        rows = self._execute(
            "SELECT * FROM queued_record INDEXED BY queued_record_visible "
            "WHERE queue_no = ? AND dead = ? AND visible_ms <= ? AND arrival_ms >= ? ORDER BY visible_ms LIMIT ?",
            (queue_no, dead, now_ms, since_ms, limit),
        )
        return [QueuedRecord._make(row) for row in rows]

    def next_visible_ms(self, queue_no: int, dead: int, after_ms: int) -> int | None:
        row = self._execute(
            "SELECT visible_ms FROM queued_record INDEXED BY queued_record_visible "
            "WHERE queue_no = ? AND dead = ? AND visible_ms > ? ORDER BY visible_ms LIMIT 1",
            (queue_no, dead, after_ms),
        ).fetchone()
        return None if row is None else int(row[0])

    def set_max_receives(self, queue_no: int, max_receives: int, now_ms: int) -> None:
        self._execute(
            "UPDATE queued_record SET dead = receive_count >= ? WHERE queue_no = ? AND dead <> (receive_count >= ?) "
            "AND (dead = 0 OR (dead_receive_count = 0 AND visible_ms > ?))",
            (max_receives, queue_no, max_receives, now_ms),
        )

    def first_from(self, queue_no: int, shard_no: int) -> tuple[int, int] | None:
        row: tuple[int, int] | None = self._execute(
            "SELECT id, arrival_ms FROM queued_record WHERE queue_no = ? AND id >= ? ORDER BY id LIMIT 1",
            (queue_no, row_id(shard_no, 0)),
        ).fetchone()
        return row

    def expire(self, queue_no: int, shard_no: int, before_ms: int, limit: int) -> int:
        ids = []
        for id, arrival_ms in self._execute(
            "SELECT id, arrival_ms FROM queued_record WHERE queue_no = ? AND id >= ? AND id < ? ORDER BY id LIMIT ?",
            (queue_no, row_id(shard_no, 0), row_id(shard_no + 1, 0), limit),
        ):
            if arrival_ms >= before_ms:
                break
            ids.append(id)
        if ids:
            self._execute(
                "DELETE FROM queued_record WHERE queue_no = ? AND id >= ? AND id <= ?", (queue_no, ids[0], ids[-1])
            )
        return len(ids)

    def discard(self, queue_no: int) -> None:
        self._execute("INSERT INTO discarded_stream_queue VALUES (?)", (queue_no,))

    def sweep(self, limit: int) -> int:
        row = self._execute("SELECT queue_no FROM discarded_stream_queue LIMIT 1").fetchone()
        if row is None:
            return 0
        swept = self._execute(
            "DELETE FROM queued_record WHERE queue_no = ? AND id IN "
            "(SELECT id FROM queued_record WHERE queue_no = ? ORDER BY id LIMIT ?)",
            (row[0], row[0], limit),
        ).rowcount
        if swept < limit:
            self._execute("DELETE FROM discarded_stream_queue WHERE queue_no = ?", row)
        return max(swept, 1)

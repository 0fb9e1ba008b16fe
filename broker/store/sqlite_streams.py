"""The tables of Kinesis in SQLite. Each method is one to three statements; what they mean stands in `port.py`.

Deleting a segment walks the chain of pages that its data fills, so sweeps count bytes and not rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from broker.store.port import Segment, ShardRecord, StreamItem, row_id, sequence_of

_AT_MOST_ROWS = 500  # of one step of a sweep
_COLUMNS = "id, shard_no, arrival_ms, record_count, encrypted, partition_keys, sizes, data"


class SqliteStreamStore:
    """`StreamStore` on a connection that somebody else opens, commits and closes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute
        self.body_bytes = 0  # written since the store last asked

    def load_items(self, kind: str) -> list[StreamItem]:
        rows = self._execute("SELECT * FROM stream_item WHERE kind = ? ORDER BY account, region, name", (kind,))
        return [StreamItem._make(row) for row in rows]

    def put_item(self, item: StreamItem) -> None:
        self._execute("INSERT OR REPLACE INTO stream_item VALUES (?, ?, ?, ?, ?)", item)

    def delete_item(self, kind: str, account: str, region: str, name: str) -> None:
        self._execute(
            "DELETE FROM stream_item WHERE kind = ? AND account = ? AND region = ? AND name = ?",
            (kind, account, region, name),
        )

    # shards

    def load_shards(self) -> list[ShardRecord]:
        return [ShardRecord._make(row) for row in self._execute("SELECT * FROM shard ORDER BY shard_no")]

    def put_shard(self, record: ShardRecord) -> None:
        self._execute("INSERT OR REPLACE INTO shard VALUES (?, ?, ?, ?, ?, ?)", record)

    def save_arrivals(self, rows: Iterable[tuple[int, int, int]]) -> None:
        self._connection.executemany("UPDATE shard SET last_sequence = ?, last_arrival_ms = ? WHERE shard_no = ?", rows)

    def discard_shard(self, shard_no: int) -> None:
        self._execute("DELETE FROM shard WHERE shard_no = ?", (shard_no,))
        self._execute("INSERT INTO discarded_shard VALUES (?)", (shard_no,))

    def sweep_shards(self, limit_bytes: int) -> bool:
        row = self._execute("SELECT shard_no FROM discarded_shard LIMIT 1").fetchone()
        if row is None:
            return False
        if not self._delete_some(row[0], row_id(row[0] + 1, 0), limit_bytes):
            self._execute("DELETE FROM discarded_shard WHERE shard_no = ?", row)
        return True

    # records

    def add_segment(self, segment: Segment) -> None:
        self._execute(f"INSERT INTO segment ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", segment)
        self.body_bytes += len(segment.data)

    def segments(
        self, shard_no: int, sequence: int, since_ms: int, limit_records: int, limit_bytes: int
    ) -> list[Segment]:
        end = row_id(shard_no + 1, 0)
        # The one that holds this sequence, or, where that is gone, the next.
        row = self._execute(
            "SELECT id, arrival_ms FROM segment WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT 1",
            (row_id(shard_no, 0), row_id(shard_no, sequence)),
        ).fetchone()
        first = row_id(shard_no, sequence) if row is None else int(row[0])
        if row is None or row[1] < since_ms:
            later = self.first_sequence_since(shard_no, since_ms)
            if later is None:
                return []
            first = max(first, row_id(shard_no, later))
        found: list[Segment] = []
        cursor = self._execute(f"SELECT {_COLUMNS} FROM segment WHERE id >= ? AND id < ? ORDER BY id", (first, end))
        records, bytes_ = min(0, first - row_id(shard_no, sequence)), 0
        for columns in cursor:
            segment = Segment._make(columns)
            found.append(segment)
            records += segment.record_count
            bytes_ += len(segment.data) if records > 0 else 0
            if records >= limit_records or bytes_ >= limit_bytes:
                break
        cursor.close()
        return found

    def first_sequence_since(self, shard_no: int, arrival_ms: int) -> int | None:
        row = self._execute(
            "SELECT id FROM segment INDEXED BY segment_arrival WHERE shard_no = ? AND arrival_ms >= ? "
            "ORDER BY arrival_ms, id LIMIT 1",
            (shard_no, arrival_ms),
        ).fetchone()
        return None if row is None else sequence_of(row[0])

    def oldest_arrival_ms(self, shard_no: int) -> int | None:
        row = self._execute(
            "SELECT arrival_ms FROM segment INDEXED BY segment_arrival WHERE shard_no = ? ORDER BY arrival_ms LIMIT 1",
            (shard_no,),
        ).fetchone()
        return None if row is None else int(row[0])

    def expire_segments(self, shard_no: int, before_ms: int, limit_bytes: int) -> bool:
        first = self.first_sequence_since(shard_no, before_ms)
        end = row_id(shard_no + 1, 0) if first is None else row_id(shard_no, first)
        return self._delete_some(shard_no, end, limit_bytes)

    def _delete_some(self, shard_no: int, end: int, limit_bytes: int) -> bool:
        """Deletes segments of a shard from the first on, up to `end`; whether there were any."""
        last = None
        for id, size_bytes in self._execute(
            "SELECT id, length(data) FROM segment WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (row_id(shard_no, 0), end, _AT_MOST_ROWS),
        ):
            last = id
            limit_bytes -= size_bytes
            if limit_bytes <= 0:
                break
        if last is None:
            return False
        self._execute("DELETE FROM segment WHERE id >= ? AND id <= ?", (row_id(shard_no, 0), last))
        return True

"""The tables of EventBridge in SQLite. Each method is one or two statements; what they mean stands in `port.py`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from broker.store.port import ArchivedEvent, BusItem


class SqliteBusStore:
    """`BusStore` on a connection that somebody else opens, commits and closes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute

    def load_items(self) -> list[BusItem]:
        rows = self._execute("SELECT * FROM bus_item ORDER BY kind, account, region, name")
        return [BusItem._make(row) for row in rows]

    def put_item(self, item: BusItem) -> None:
        self._execute("INSERT OR REPLACE INTO bus_item VALUES (?, ?, ?, ?, ?)", item)

    def delete_item(self, kind: str, account: str, region: str, name: str) -> None:
        self._execute(
            "DELETE FROM bus_item WHERE kind = ? AND account = ? AND region = ? AND name = ?",
            (kind, account, region, name),
        )

    # archives

    def archive(self, events: Sequence[ArchivedEvent]) -> None:
        self._connection.executemany("INSERT INTO archived_event VALUES (?, ?, ?, ?, ?)", events)

    def archived(
        self, archive_no: int, after: tuple[int, int], until_ms: int, max_sequence: int, limit: int
    ) -> list[ArchivedEvent]:
        rows = self._execute(
            "SELECT * FROM archived_event WHERE archive_no = ? AND (event_ms, sequence) > (?, ?) AND event_ms < ? "
            "AND sequence <= ? ORDER BY event_ms, sequence LIMIT ?",
            (archive_no, *after, until_ms, max_sequence, limit),
        )
        return [ArchivedEvent._make(row) for row in rows]

    def archive_totals(self, archive_no: int) -> tuple[int, int, int]:
        row = self._execute(
            "SELECT count(*), ifnull(sum(size_bytes), 0), ifnull(max(sequence), 0) FROM archived_event "
            "WHERE archive_no = ?",
            (archive_no,),
        ).fetchone()
        return int(row[0]), int(row[1]), int(row[2])

    def oldest_archived_ms(self, archive_no: int) -> int | None:
        row = self._execute("SELECT min(event_ms) FROM archived_event WHERE archive_no = ?", (archive_no,)).fetchone()
        return None if row[0] is None else int(row[0])

    def delete_archived(self, archive_no: int, before_ms: int, limit: int) -> tuple[int, int]:
        rows = self._execute(
            "DELETE FROM archived_event WHERE (archive_no, event_ms, sequence) IN "
            "(SELECT archive_no, event_ms, sequence FROM archived_event WHERE archive_no = ? AND event_ms < ? LIMIT ?) "
            "RETURNING size_bytes",
            (archive_no, before_ms, limit),
        ).fetchall()
        return len(rows), sum(row[0] for row in rows)

    def discard_archive(self, archive_no: int) -> None:
        self._execute("INSERT INTO discarded_event_archive VALUES (?)", (archive_no,))

    def sweep_archives(self, limit: int) -> int:
        row = self._execute("SELECT archive_no FROM discarded_event_archive LIMIT 1").fetchone()
        if row is None:
            return 0
        swept = self._execute(
            "DELETE FROM archived_event WHERE (archive_no, event_ms, sequence) IN "
            "(SELECT archive_no, event_ms, sequence FROM archived_event WHERE archive_no = ? LIMIT ?)",
            (row[0], limit),
        ).rowcount
        if swept < limit:
            self._execute("DELETE FROM discarded_event_archive WHERE archive_no = ?", row)
        return max(swept, 1)

"""The tables of EventBridge in SQLite. Each method is a few statements; what they mean stands in `port.py`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from broker.store.port import ArchivedEvent, ArchiveTotals, BusItem, row_id

_FOREVER_MS = 1 << 62
_IN_TIME = "SELECT * FROM archived_event INDEXED BY archived_event_time WHERE archive_no = ? AND id > ? AND id <= ?"


class SqliteBusStore:
    """`BusStore` on a connection that somebody else opens, commits and closes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute
        self.body_bytes = 0  # written since the store last asked

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

    def load_archive_totals(self) -> list[ArchiveTotals]:
        return [ArchiveTotals._make(row) for row in self._execute("SELECT * FROM event_archive ORDER BY archive_no")]

    def save_archive_totals(self, totals: Iterable[ArchiveTotals]) -> None:
        self._connection.executemany("INSERT OR REPLACE INTO event_archive VALUES (?, ?, ?, ?)", totals)

    def archive(self, events: Sequence[ArchivedEvent]) -> None:
        # For each tuple of a class of its own Python's sqlite3 looks for an adapter.
        rows = [tuple(event) for event in events]
        self.body_bytes += sum(event.size_bytes for event in events)
        self._connection.executemany("INSERT INTO archived_event VALUES (?, ?, ?, ?, ?, ?)", rows)

    def archived(
        self, archive_no: int, after: tuple[int, int], until_ms: int, last_id: int, limit: int, max_bytes: int
    ) -> list[ArchivedEvent]:
        event_ms, id = after

        def rows() -> Iterator[tuple[Any, ...]]:
            # One condition on the pair would read again all of a moment that has been read: SQLite 3.40 seeks by its
            # first half only.
            yield from self._execute(f"{_IN_TIME} AND event_ms = ? ORDER BY id", (archive_no, id, last_id, event_ms))
            yield from self._execute(
                f"{_IN_TIME} AND event_ms > ? AND event_ms < ? ORDER BY event_ms, id",
                (archive_no, 0, last_id, event_ms, until_ms),
            )

        found = []
        for row in islice(rows(), limit):
            found.append(ArchivedEvent._make(row))
            max_bytes -= found[-1].size_bytes
            if max_bytes <= 0:
                break
        return found

    def newest_event_ms(self, archive_no: int) -> int | None:
        row = self._execute("SELECT max(event_ms) FROM archived_event WHERE archive_no = ?", (archive_no,)).fetchone()
        return None if row[0] is None else int(row[0])

    def oldest_archived_ms(self, archive_no: int) -> int | None:
        row = self._execute(
            "SELECT archived_ms FROM archived_event WHERE id >= ? AND id < ? ORDER BY id LIMIT 1", _ids(archive_no)
        ).fetchone()
        return None if row is None else int(row[0])

    def delete_archived(self, archive_no: int, until_ms: int, limit: int, max_bytes: int) -> tuple[int, int]:
        first, end = _ids(archive_no)
        rows = self._execute(
            "SELECT id, archived_ms, size_bytes FROM archived_event WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (first, end, limit),
        )
        count = size_bytes = 0
        end = first
        for id, archived_ms, event_bytes in rows:
            if archived_ms > until_ms:
                break
            count += 1
            size_bytes += event_bytes
            end = id + 1
            if size_bytes >= max_bytes:
                break
        rows.close()
        self._execute("DELETE FROM archived_event WHERE id >= ? AND id < ?", (first, end))
        return count, size_bytes

    def discard_archive(self, archive_no: int) -> None:
        self._execute("DELETE FROM event_archive WHERE archive_no = ?", (archive_no,))
        self._execute("INSERT INTO discarded_event_archive VALUES (?)", (archive_no,))

    def sweep_archives(self, limit: int, max_bytes: int) -> int:
        row = self._execute("SELECT archive_no FROM discarded_event_archive LIMIT 1").fetchone()
        if row is None:
            return 0
        swept, _ = self.delete_archived(row[0], _FOREVER_MS, limit, max_bytes)
        if not swept:
            self._execute("DELETE FROM discarded_event_archive WHERE archive_no = ?", row)
        return max(swept, 1)


def _ids(archive_no: int) -> tuple[int, int]:
    """The range, end excluded, of the ids of an archive's events."""
    return row_id(archive_no, 0), row_id(archive_no + 1, 0)

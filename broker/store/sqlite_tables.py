"""The tables of DynamoDB's clients in SQLite: one row an item, its key as bytes in order, its attributes as JSON.

Each method is a statement or two; what they mean stands in `port.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from broker.store.port import ItemRecord, TableRecord

_ITEMS = "SELECT hash_key, range_key, document FROM item WHERE table_no = ?"
_DELETE = "DELETE FROM item WHERE table_no = ? AND hash_key = ? AND range_key = ?"


class SqliteTableStore:
    """`TableStore` on a connection that somebody else opens, commits and closes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute

    def load_tables(self) -> list[TableRecord]:
        return [TableRecord._make(row) for row in self._execute("SELECT * FROM item_table ORDER BY table_no")]

    def put_table(self, record: TableRecord) -> None:
        self._execute("INSERT OR REPLACE INTO item_table VALUES (?, ?, ?, ?, ?, ?, ?)", record)

    def save_totals(self, rows: Iterable[tuple[int, int, int]]) -> None:
        self._connection.executemany("UPDATE item_table SET item_count = ?, size_bytes = ? WHERE table_no = ?", rows)

    def discard_table(self, table_no: int) -> None:
        self._execute("DELETE FROM item_table WHERE table_no = ?", (table_no,))
        self._execute("INSERT INTO discarded_item_table VALUES (?)", (table_no,))

    def sweep_tables(self, limit: int) -> int:
        row = self._execute("SELECT table_no FROM discarded_item_table LIMIT 1").fetchone()
        if row is None:
            return 0
        keys = self._execute(
            "SELECT table_no, hash_key, range_key FROM item WHERE table_no = ? LIMIT ?", (row[0], limit)
        ).fetchall()
        self._connection.executemany(_DELETE, keys)
        if len(keys) < limit:
            self._execute("DELETE FROM discarded_item_table WHERE table_no = ?", row)
        return max(len(keys), 1)

    # items

    def get_item(self, table_no: int, hash_key: bytes, range_key: bytes) -> str | None:
        row = self._execute(
            "SELECT document FROM item WHERE table_no = ? AND hash_key = ? AND range_key = ?",
            (table_no, hash_key, range_key),
        ).fetchone()
        return None if row is None else str(row[0])

    def put_item(self, table_no: int, hash_key: bytes, range_key: bytes, document: str) -> None:
        self._execute("INSERT OR REPLACE INTO item VALUES (?, ?, ?, ?)", (table_no, hash_key, range_key, document))

    def delete_item(self, table_no: int, hash_key: bytes, range_key: bytes) -> None:
        self._execute(_DELETE, (table_no, hash_key, range_key))

    def items_after(self, table_no: int, hash_key: bytes, range_key: bytes, limit: int) -> list[ItemRecord]:
        # One condition on the pair would read the whole partition again: SQLite 3.40 seeks by its first half only.
        rows = self._execute(
            f"{_ITEMS} AND hash_key = ? AND range_key > ? ORDER BY range_key LIMIT ?",
            (table_no, hash_key, range_key, limit),
        ).fetchall()
        if len(rows) < limit:
            rows += self._execute(
                f"{_ITEMS} AND hash_key > ? ORDER BY hash_key, range_key LIMIT ?",
                (table_no, hash_key, limit - len(rows)),
            )
        return [ItemRecord._make(row) for row in rows]

    def items_between(
        self, table_no: int, hash_key: bytes, low: bytes, high: bytes | None, forward: bool, limit: int
    ) -> list[ItemRecord]:
        below, bound = ("", ()) if high is None else (" AND range_key < ?", (high,))
        order = "" if forward else " DESC"
        rows = self._execute(
            f"{_ITEMS} AND hash_key = ? AND range_key >= ?{below} ORDER BY range_key{order} LIMIT ?",
            (table_no, hash_key, low, *bound, limit),
        )
        return [ItemRecord._make(row) for row in rows]

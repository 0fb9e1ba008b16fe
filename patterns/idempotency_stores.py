"""Records of `patterns.idempotent_consumer`: in memory, or in SQLite through aiosqlite.

The rule is the protocol's: `write` is one compare-and-set by the record's version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from patterns.idempotent_consumer import Record, State

if TYPE_CHECKING:
    import aiosqlite


class MemoryRecords:
    """An `IdempotencyStore` for one process, which forgets with it."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    async def read(self, key: str) -> Record | None:
        await anyio.lowlevel.checkpoint()
        return self._records.get(key)

    async def write(self, key: str, record: Record, replaces: Record | None) -> bool:
        await anyio.lowlevel.checkpoint()
        there = self._records.get(key)
        if (there and there.version) != (replaces and replaces.version):
            return False
        self._records[key] = record
        return True

    async def overdue(self, now_s: float, limit: int) -> Sequence[str]:
        await anyio.lowlevel.checkpoint()
        pending = ((record.lease_end_s, key) for key, record in self._records.items() if record.state is State.PENDING)
        return [key for lease_end_s, key in sorted(pending) if lease_end_s <= now_s][:limit]

    async def purge(self, now_s: float) -> int:
        await anyio.lowlevel.checkpoint()
        old = [key for key, record in self._records.items() if record.forget_s <= now_s]
        for key in old:
            del self._records[key]
        return len(old)


_COLUMNS = "version, state, lease_end_s, forget_s, fingerprint, result"


class SqliteRecords:
    """An `IdempotencyStore` in a table of the user's database. `connection` is aiosqlite's (which runs under asyncio).

    Each call commits: do not share the connection with a transaction of yours. Processes may share the file.
    """

    def __init__(self, connection: aiosqlite.Connection, table: str = "idempotency") -> None:
        if not table.isidentifier():
            raise ValueError(f"{table} cannot be a table's name")
        self._connection = connection
        self._table = table

    async def create_table(self) -> None:
        """Makes it if it is not there."""
        columns = "version TEXT, state TEXT, lease_end_s REAL, forget_s REAL, fingerprint TEXT, result TEXT"
        table = self._table
        await self._changes(f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, {columns}) WITHOUT ROWID")
        await self._changes(f"CREATE INDEX IF NOT EXISTS {table}_forget ON {table} (forget_s)")
        await self._changes(
            f"CREATE INDEX IF NOT EXISTS {table}_pending ON {table} (lease_end_s) WHERE state = 'PENDING'"
        )

    async def read(self, key: str) -> Record | None:
        rows = await self._connection.execute_fetchall(f"SELECT {_COLUMNS} FROM {self._table} WHERE key = ?", (key,))
        for version, state, *rest in rows:
            return Record(version, State(state), *rest)
        return None

    async def write(self, key: str, record: Record, replaces: Record | None) -> bool:
        row = (
            record.version,
            record.state.value,
            record.lease_end_s,
            record.forget_s,
            record.fingerprint,
            record.result,
        )
        if replaces is None:
            insert = f"INSERT INTO {self._table} ({_COLUMNS}, key) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
            return await self._changes(insert, *row, key) == 1
        update = f"UPDATE {self._table} SET ({_COLUMNS}) = (?, ?, ?, ?, ?, ?) WHERE key = ? AND version = ?"
        return await self._changes(update, *row, key, replaces.version) == 1

    async def overdue(self, now_s: float, limit: int) -> Sequence[str]:
        rows = await self._connection.execute_fetchall(
            f"SELECT key FROM {self._table} WHERE state = 'PENDING' AND lease_end_s <= ? ORDER BY lease_end_s LIMIT ?",
            (now_s, limit),
        )
        return [key for (key,) in rows]

    async def purge(self, now_s: float) -> int:
        return await self._changes(f"DELETE FROM {self._table} WHERE forget_s <= ?", now_s)

    async def _changes(self, statement: str, *parameters: Any) -> int:
        try:
            cursor = await self._connection.execute(statement, parameters)
            rows = cursor.rowcount
            await cursor.close()
        finally:
            await self._connection.commit()  # also when cancelled: the statement is on its way to the thread
        return rows

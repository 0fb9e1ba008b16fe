"""The ledger's tables in SQLite. Each method is one or two statements; what they mean stands in `port.py`.

Entries lie in the order they were made, so that writing is appending and dropping the oldest is one range. The indexes
bring each message's entries together for who reads them; SQLite adds the id to each, so they come in order.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from broker.store.port import LedgerEntry

_INSERT = "INSERT INTO ledger_entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_COLUMNS = "id, message_key, message_id, at_ms, event, resource_no, by_no, number, until_ms, origin, detail"
_NAMED = "(message_key = 0 OR event = 'sent')"  # as the index ledger_message has it


def _among(column: str, values: Sequence[object] | None) -> str:
    return "TRUE" if values is None else f"{column} IN ({','.join('?' * len(values))})"


class SqliteLedgerStore:
    """`LedgerStore` on a connection that somebody else opens, commits and closes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute

    # names

    def load_names(self) -> list[tuple[int, str]]:
        return self._execute("SELECT name_no, name FROM ledger_name ORDER BY name_no").fetchall()

    def put_names(self, rows: Iterable[tuple[int, str]]) -> None:
        self._connection.executemany("INSERT INTO ledger_name VALUES (?, ?)", rows)

    def drop_names(self, name_nos: Sequence[int]) -> None:
        self._connection.executemany("DELETE FROM ledger_name WHERE name_no = ?", [(no,) for no in name_nos])

    # entries in and out

    def append(self, entries: Sequence[LedgerEntry]) -> None:
        self._connection.executemany(_INSERT, entries)

    def bounds(self) -> tuple[int, int]:
        row = self._execute("SELECT count(*), coalesce(max(id), 0) FROM ledger_entry").fetchone()
        return row[0], row[1]

    def drop_oldest(self, limit: int) -> int:
        return self._execute(
            "DELETE FROM ledger_entry WHERE id <= "
            "(SELECT max(id) FROM (SELECT id FROM ledger_entry ORDER BY id LIMIT ?))",
            (limit,),
        ).rowcount

    def drop_of(self, resource_nos: Sequence[int]) -> int:
        return self._execute(
            f"DELETE FROM ledger_entry WHERE {_among('resource_no', resource_nos)}", tuple(resource_nos)
        ).rowcount

    def clear(self) -> None:
        self._execute("DELETE FROM ledger_entry")
        self._execute("DELETE FROM ledger_name")

    # reading

    def of_message(
        self, message_id: str, limit: int, event: str | None = None, *, anyhow: bool = False
    ) -> list[LedgerEntry]:
        wanted = (event,) if event else ()
        of_event = _among("event", wanted or None)
        rows = self._execute(
            f"WITH named AS MATERIALIZED (SELECT {_COLUMNS} FROM ledger_entry INDEXED BY ledger_message "
            f"WHERE message_id = ? AND {_NAMED}) "
            f"SELECT * FROM named WHERE {of_event} UNION "
            f"SELECT {_COLUMNS} FROM ledger_entry INDEXED BY ledger_key WHERE message_key <> 0 "
            f"AND message_key IN (SELECT message_key FROM named) AND {of_event} ORDER BY id LIMIT ?",
            (message_id, *wanted, *wanted, limit),
        ).fetchall()
        if anyhow and message_id and not rows:
            return self._read(
                f"ledger_entry WHERE message_id = ? AND {of_event} ORDER BY id", (message_id, *wanted), limit
            )
        return list(map(LedgerEntry._make, rows))

    def key_of(self, message_id: str, resource_no: int) -> int:
        row = self._execute(
            "SELECT message_key FROM ledger_entry INDEXED BY ledger_message WHERE message_id = ? AND resource_no = ? "
            f"AND event = 'sent' AND {_NAMED} ORDER BY id DESC LIMIT 1",
            (message_id, resource_no),
        ).fetchone()
        return 0 if row is None else int(row[0])

    def of_origin(self, origin: str, limit: int) -> list[LedgerEntry]:
        return self._read(
            "ledger_entry INDEXED BY ledger_origin WHERE origin = ? AND origin <> '' ORDER BY id", (origin,), limit
        )

    def of_range(self, resource_nos: Sequence[int], shard_id: str, place: int, limit: int) -> list[LedgerEntry]:
        return self._read(
            "ledger_entry INDEXED BY ledger_message WHERE message_id = ? AND ? BETWEEN number AND until_ms "
            f"AND {_NAMED} AND {_among('resource_no', resource_nos)} ORDER BY id",
            (shard_id, place, *resource_nos),
            limit,
        )

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
        return self._read(
            f"ledger_entry WHERE id > ? AND {'TRUE' if through is None else 'id <= ?'} "
            f"AND {_among('resource_no', resource_nos)} AND {_among('event', events)} "
            f"{'AND message_key = 0' if keyless else ''} ORDER BY id",
            (id, *(() if through is None else (through,)), *(resource_nos or ()), *(events or ())),
            limit,
        )

    def by_key(
        self, resource_nos: Sequence[int], after: tuple[int, int], through: int, limit: int
    ) -> list[LedgerEntry]:
        return self._read(
            "ledger_entry INDEXED BY ledger_key WHERE message_key <> 0 AND (message_key, id) > (?, ?) AND id <= ? "
            f"AND {_among('resource_no', resource_nos)} ORDER BY message_key, id",
            (*after, through, *resource_nos),
            limit,
        )

    def by_message(
        self, resource_nos: Sequence[int], after: tuple[str, int], through: int, limit: int
    ) -> list[LedgerEntry]:
        return self._read(
            "ledger_entry INDEXED BY ledger_message WHERE (message_id, id) > (?, ?) AND id <= ? "
            f"AND {_NAMED} AND {_among('resource_no', resource_nos)} ORDER BY message_id, id",
            (*after, through, *resource_nos),
            limit,
        )

    def repeated_origins(self, event: str, resource_nos: Sequence[int], through: int) -> list[tuple[str, int]]:
        return self._execute(
            "SELECT origin, count(*) FROM ledger_entry INDEXED BY ledger_origin WHERE origin <> '' AND event = ? "
            f"AND id <= ? AND {_among('resource_no', resource_nos)} GROUP BY origin HAVING count(*) > 1",
            (event, through, *resource_nos),
        ).fetchall()

    def _read(self, from_where: str, parameters: Sequence[object], limit: int) -> list[LedgerEntry]:
        rows = self._execute(f"SELECT {_COLUMNS} FROM {from_where} LIMIT ?", (*parameters, limit)).fetchall()
        return list(map(LedgerEntry._make, rows))

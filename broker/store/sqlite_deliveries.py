"""The outbox's tables in SQLite. Each method is one statement; what they mean stands in `port.py`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from broker.store.port import DeliveryRecord, NewDeliveryRecord, ReadableRecord

_WHICH = "channel = coalesce(?, channel) AND account = coalesce(?, account) AND region = coalesce(?, region)"


class SqliteDeliveryStore:
    """`DeliveryStore` on a connection that somebody else opens, commits and closes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute

    def insert_deliveries(self, records: Sequence[NewDeliveryRecord]) -> None:
        self._connection.executemany(
            "INSERT INTO delivery (due_ms, created_ms, account, owner, channel, target, headers, body, policy, "
            "dead_letter, message_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            records,
        )

    def get_delivery(self, id: int) -> DeliveryRecord | None:
        row = self._execute("SELECT * FROM delivery WHERE id = ?", (id,)).fetchone()
        return None if row is None else DeliveryRecord._make(row)

    def due_deliveries(self, now_ms: int, limit: int) -> list[DeliveryRecord]:
        rows = self._execute(
            "SELECT * FROM delivery INDEXED BY delivery_due WHERE due_ms <= ? ORDER BY due_ms, id LIMIT ?",
            (now_ms, limit),
        ).fetchall()
        return [DeliveryRecord._make(row) for row in rows]

    def next_delivery_ms(self) -> int | None:
        row = self._execute("SELECT min(due_ms) FROM delivery").fetchone()
        return None if row[0] is None else int(row[0])

    def claim_delivery(self, id: int, now_ms: int, lease_until_ms: int) -> None:
        self._execute(
            "UPDATE delivery SET claimed_ms = ?, due_ms = ?, attempts = attempts + 1 WHERE id = ?",
            (now_ms, lease_until_ms, id),
        )

    def release_claims(self) -> None:
        self._execute("UPDATE delivery SET due_ms = claimed_ms, claimed_ms = NULL WHERE claimed_ms IS NOT NULL")

    def move_delivery(self, id: int, slot_ms: int) -> None:
        self._execute("UPDATE delivery SET due_ms = ?, has_slot = 1, claimed_ms = NULL WHERE id = ?", (slot_ms, id))

    def retry_delivery(self, id: int, due_ms: int, failures: str) -> None:
        self._execute(
            "UPDATE delivery SET due_ms = ?, claimed_ms = NULL, has_slot = 0, failures = ? WHERE id = ?",
            (due_ms, failures, id),
        )

    def last_slot_ms(self, owner: str) -> int | None:
        row = self._execute(
            "SELECT max(coalesce(claimed_ms, due_ms)) FROM delivery INDEXED BY delivery_owner "
            "WHERE owner = ? AND has_slot = 1",
            (owner,),
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def delete_delivery(self, id: int) -> None:
        self._execute("DELETE FROM delivery WHERE id = ?", (id,))

    def delete_deliveries_of(self, owner: str) -> None:
        self._execute("DELETE FROM delivery WHERE owner = ?", (owner,))

    def clear_deliveries(self, account: str | None) -> None:
        self._execute("DELETE FROM delivery WHERE account = coalesce(?, account)", (account,))

    # what people read

    def insert_readable(self, channel: str, account: str, region: str, recorded_ms: int, document: str) -> None:
        self._execute(
            "INSERT INTO readable (channel, account, region, recorded_ms, document) VALUES (?, ?, ?, ?, ?)",
            (channel, account, region, recorded_ms, document),
        )

    def readable(
        self, channel: str | None, account: str | None, region: str | None, after: int, limit: int
    ) -> list[ReadableRecord]:
        rows = self._execute(
            f"SELECT * FROM readable WHERE id > ? AND {_WHICH} ORDER BY id LIMIT ?",
            (after, channel, account, region, limit),
        ).fetchall()
        return [ReadableRecord._make(row) for row in rows]

    def delete_readable(self, channel: str | None, account: str | None, region: str | None) -> int:
        return self._execute(
            f"DELETE FROM readable WHERE {_WHICH}",
            (channel, account, region),
        ).rowcount

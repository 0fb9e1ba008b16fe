"""The tables of topics in SQLite. Each method is one or two statements; what they mean stands in `port.py`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from broker.store.port import ArchivedMessage, MobileRecord, SubscriptionRecord, TopicRecord


class SqliteTopicStore:
    """`TopicStore` on a connection that somebody else opens, commits and closes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute

    # topics and subscriptions

    def load_topics(self) -> list[TopicRecord]:
        return [TopicRecord._make(row) for row in self._execute("SELECT * FROM topic ORDER BY topic_no")]

    def put_topic(self, record: TopicRecord) -> None:
        self._execute("INSERT OR REPLACE INTO topic VALUES (?, ?, ?, ?, ?, ?)", record)

    def delete_topic(self, topic_no: int) -> None:
        self._execute("DELETE FROM topic WHERE topic_no = ?", (topic_no,))
        self._execute("DELETE FROM subscription WHERE topic_no = ?", (topic_no,))
        self._execute("DELETE FROM duplicate WHERE queue_no = ?", (topic_no,))

    def save_sequences(self, rows: Iterable[tuple[int, int]]) -> None:
        self._connection.executemany("UPDATE topic SET last_sequence = ? WHERE topic_no = ?", rows)

    def load_subscriptions(self) -> list[SubscriptionRecord]:
        rows = self._execute("SELECT * FROM subscription ORDER BY subscription_no")
        return [SubscriptionRecord._make(row) for row in rows]

    def put_subscription(self, record: SubscriptionRecord) -> None:
        self._execute("INSERT OR REPLACE INTO subscription VALUES (?, ?, ?, ?)", record)

    def delete_subscription(self, subscription_no: int) -> None:
        self._execute("DELETE FROM subscription WHERE subscription_no = ?", (subscription_no,))

    # archives

    def archive(self, messages: Sequence[ArchivedMessage]) -> None:
        self._connection.executemany("INSERT INTO archived_message VALUES (?, ?, ?, ?)", messages)

    def archived(self, archive_no: int, after: int, limit: int) -> list[ArchivedMessage]:
        rows = self._execute(
            "SELECT * FROM archived_message WHERE archive_no = ? AND sequence > ? ORDER BY sequence LIMIT ?",
            (archive_no, after, limit),
        )
        return [ArchivedMessage._make(row) for row in rows]

    def first_archived_since(self, archive_no: int, published_ms: int) -> int | None:
        row = self._execute(
            "SELECT min(sequence) FROM archived_message INDEXED BY archived_message_published "
            "WHERE archive_no = ? AND published_ms >= ?",
            (archive_no, published_ms),
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def oldest_archived_ms(self, archive_no: int) -> int | None:
        row = self._execute(
            "SELECT min(published_ms) FROM archived_message INDEXED BY archived_message_published WHERE archive_no = ?",
            (archive_no,),
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def delete_archived(self, archive_no: int, before_ms: int, limit: int) -> int:
        return self._execute(
            "DELETE FROM archived_message WHERE (archive_no, sequence) IN (SELECT archive_no, sequence "
            "FROM archived_message INDEXED BY archived_message_published "
            "WHERE archive_no = ? AND published_ms < ? LIMIT ?)",
            (archive_no, before_ms, limit),
        ).rowcount

    def discard_archive(self, archive_no: int) -> None:
        self._execute("INSERT INTO discarded_archive VALUES (?)", (archive_no,))

    def sweep_archives(self, limit: int) -> int:
        row = self._execute("SELECT archive_no FROM discarded_archive LIMIT 1").fetchone()
        if row is None:
            return 0
        swept = self._execute(
            "DELETE FROM archived_message WHERE (archive_no, sequence) IN "
            "(SELECT archive_no, sequence FROM archived_message WHERE archive_no = ? LIMIT ?)",
            (row[0], limit),
        ).rowcount
        if swept < limit:
            self._execute("DELETE FROM discarded_archive WHERE archive_no = ?", (row[0],))
        return max(swept, 1)

    # telephones

    def load_mobile_items(self) -> list[MobileRecord]:
        rows = self._execute("SELECT * FROM mobile_item ORDER BY kind, account, region, name")
        return [MobileRecord._make(row) for row in rows]

    def put_mobile_item(self, record: MobileRecord) -> None:
        self._execute("INSERT OR REPLACE INTO mobile_item VALUES (?, ?, ?, ?, ?)", record)

    def delete_mobile_item(self, kind: str, account: str, region: str, name: str) -> None:
        self._execute(
            "DELETE FROM mobile_item WHERE kind = ? AND account = ? AND region = ? AND name = ?",
            (kind, account, region, name),
        )

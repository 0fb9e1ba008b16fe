"""SQLite, in memory or in a directory: connection, transactions, durability.

The rule: with sync="full" the write-ahead log is on disk when `commit` returns; with "normal" it is in the kernel's
hands (a killed process loses nothing, a power cut may lose the last moments). Checkpoints copy the log into the
database on a thread of their own; only the last few pages are copied on the loop, so that the log can start again.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
import threading
from pathlib import Path

from broker.errors import BrokerFailure
from broker.store import schema
from broker.store.sqlite_buses import SqliteBusStore
from broker.store.sqlite_deliveries import SqliteDeliveryStore
from broker.store.sqlite_ledger import SqliteLedgerStore
from broker.store.sqlite_queues import SqliteQueueStore
from broker.store.sqlite_stream_queues import SqliteStreamQueueStore
from broker.store.sqlite_streams import SqliteStreamStore
from broker.store.sqlite_tables import SqliteTableStore
from broker.store.sqlite_topics import SqliteTopicStore

log = logging.getLogger("sidebus.store")

CHECKPOINT_BYTES = 32 * 1024 * 1024
# What goes to the log beside the bodies, about: whole pages, of the tables and of their indexes.
BYTES_PER_COMMIT = 12 * 1024
BYTES_PER_CHANGE = 2 * 1024
CACHE_KIB = 16 * 1024
MAX_PASSES = 6  # of one checkpoint
FEW_PAGES = 100  # that the loop may copy


def _full() -> sqlite3.Error:
    """As SQLite raises it."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
    return error


class SqliteStore:
    """The store of one process. `path` None keeps everything in memory."""

    def __init__(self, directory: Path | None = None, *, sync: str = "full") -> None:
        self._directory = directory
        self._sync = sync
        self._lock_file: int | None = None
        self._path = ":memory:"
        if directory is not None:
            self._lock_directory(directory)
            self._path = str(directory / "sidebus.db")
        try:
            self._connection = sqlite3.connect(
                self._path, isolation_level=None, cached_statements=512, check_same_thread=False
            )
            try:
                self._configure()
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            self._unlock_directory()
            raise self._failure(error) from error
        except BrokerFailure:
            self._unlock_directory()
            raise
        self.queues = SqliteQueueStore(self._connection)
        self.topics = SqliteTopicStore(self._connection)
        self.buses = SqliteBusStore(self._connection)
        self.streams = SqliteStreamStore(self._connection)
        self.tables = SqliteTableStore(self._connection)
        self.stream_queues = SqliteStreamQueueStore(self._connection)
        self.deliveries = SqliteDeliveryStore(self._connection)
        self.ledger = SqliteLedgerStore(self._connection)
        self._checkpoint: threading.Thread | None = None
        self._is_full = False
        self._changes = self._connection.total_changes  # those committed or rolled back
        self._log_bytes = self._left_log_bytes()  # written since the last checkpoint

    # opening and closing

    def _lock_directory(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock_file = os.open(directory / "sidebus.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise BrokerFailure(
                f"Cannot write to the data directory {directory} ({error.strerror}): "
                "make it writable or give another one with --data."
            ) from error
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._unlock_directory()
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise BrokerFailure(f"Cannot lock {directory} ({error.strerror}): give another --data.") from error
            raise BrokerFailure(
                f"The data directory {directory} is in use by another sidebus: stop that one or give another --data."
            ) from None

    def _unlock_directory(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def _configure(self) -> None:
        connection = self._connection
        if self._directory is None:
            connection.execute("PRAGMA journal_mode = MEMORY")
        else:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._sync == 'full' else 'NORMAL'}")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA secure_delete = OFF")  # Debian's SQLite is built to zero what is deleted

    def _prepare(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            script = schema.CREATE
        elif version <= schema.VERSION:
            script = "".join(schema.UPGRADES[step] for step in range(version, schema.VERSION))
        else:
            raise BrokerFailure(
                f"{self._path} was written by a newer sidebus (store version {version}, this one knows "
                f"{schema.VERSION}): upgrade sidebus or give another --data."
            )
        if script:
            self._connection.executescript(
                f"BEGIN; {script} PRAGMA application_id = {schema.APPLICATION_ID};"
                f"PRAGMA user_version = {schema.VERSION}; COMMIT;"
            )

    def _left_log_bytes(self) -> int:
        """What a process that was killed has left in the log: it counts, or many kills would make it grow."""
        if self._directory is None:
            return 0
        try:
            return os.stat(f"{self._path}-wal").st_size
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.join()
        self._connection.close()
        self._unlock_directory()

    def describe(self) -> dict[str, object]:
        if self._directory is None:
            return {"kind": "sqlite", "path": ":memory:"}
        return {"kind": "sqlite", "path": self._path, "sync": self._sync}

    # transactions

    def begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        changes = self._connection.total_changes - self._changes
        if changes and self._is_full:
            raise _full()
        self._connection.execute("COMMIT")
        if changes and self._directory is not None:
            self._changes += changes
            bodies = self.queues.body_bytes + self.buses.body_bytes + self.streams.body_bytes
            self._log_bytes += BYTES_PER_COMMIT + BYTES_PER_CHANGE * changes + bodies
            self.queues.body_bytes = self.buses.body_bytes = self.streams.body_bytes = 0
            self._keep_log_short()

    def rollback(self) -> None:
        if self._connection.in_transaction:  # SQLite has rolled back by itself where the disk was full
            self._connection.execute("ROLLBACK")
        self._changes = self._connection.total_changes

    def play_full(self, is_full: bool) -> None:
        self._changes = self._connection.total_changes  # in memory nobody has counted
        self._is_full = is_full

    def failure(self, error: Exception) -> BrokerFailure | None:
        """What to tell people of an error of SQLite's; None for any other."""
        return self._failure(error) if isinstance(error, sqlite3.Error) else None

    def _failure(self, error: sqlite3.Error) -> BrokerFailure:
        text = str(error)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            advice = f"The disk that holds {self._path} is full: free some space and send again."
        elif code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            advice = f"{self._path} is damaged ({text}): restore it from a copy or start with another --data."
        elif code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            advice = f"{self._path} cannot be written ({text}): check its permissions or give another --data."
        else:
            advice = f"The store at {self._path} failed ({text}): check the disk and send again."
        return BrokerFailure(advice)

    # checkpoints

    def _keep_log_short(self) -> None:
        if self._checkpoint is not None:
            if self._checkpoint.is_alive():
                return
            self._checkpoint = None
            # The thread has copied all but what was committed meanwhile; the log starts again once nothing is left.
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            return
        if self._log_bytes < CHECKPOINT_BYTES:
            return
        self._log_bytes = 0
        self._checkpoint = threading.Thread(target=self._copy_log, name="sidebus-checkpoint", daemon=True)
        self._checkpoint.start()

    def _copy_log(self) -> None:
        try:
            connection = sqlite3.connect(self._path, isolation_level=None)
            try:
                copied = 0
                for _ in range(MAX_PASSES):  # each leaves what was written during it, and only the next one tells
                    before = copied
                    _busy, _pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                    if copied - before < FEW_PAGES:
                        break
            finally:
                connection.close()
        except sqlite3.Error as error:
            log.error("%s", self._failure(error))

    # small values

    def get_meta(self, key: str) -> str | None:
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put_meta(self, key: str, value: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

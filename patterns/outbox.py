"""Messages written in the user's own transaction and sent after it, and an inbox that does the same at the other end.

`Outbox.row` and `Inbox.row` are one SQL statement each, for whatever driver the transaction belongs to. The `Relay`
sends what is committed. The rule: of a key, a row goes out only after the one before it is marked as sent. `heads` and
`Held` say what may go (pure: they are told the time). Of several relays one works, by a lease in the same database and
clocks that agree within half of it.
Ugly: a request cannot be fenced. One that hangs beyond the lease may arrive after its successor's: a FIFO queue drops
it by its deduplication identifier, anything else gets it twice.
"""

from __future__ import annotations

import json
import logging
import random as chance_source
import sqlite3
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import anyio
import anyio.to_thread

from patterns.batch_producer import BatchTarget, Entry, Limits, Rejected
from patterns.retry import Backoff, FullJitter

log = logging.getLogger("patterns.outbox")

_STORE_BACKOFF = FullJitter(0.1, 5.0)


class Statement(NamedTuple):
    sql: str
    parameters: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between databases. `texts` is a JSON array of texts as rows, `numbers` one of integers."""

    position: str
    texts: str
    numbers: str
    placeholder: str  # {} is its number, from 1

    def sql(self, text: str) -> str:
        pieces = text.split("?")
        marks = (self.placeholder.format(number) for number in range(1, len(pieces)))
        return "".join(part for pair in zip(pieces, [*marks, ""], strict=True) for part in pair)


SQLITE = Dialect(
    "INTEGER PRIMARY KEY AUTOINCREMENT", "SELECT value FROM json_each(?)", "SELECT value FROM json_each(?)", "?"
)
_POSTGRESQL = (
    "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "SELECT json_array_elements_text(?::json)",
    "SELECT json_array_elements_text(?::json)::bigint",
)
ASYNCPG = Dialect(*_POSTGRESQL, placeholder="${}")
PSYCOPG = Dialect(*_POSTGRESQL, placeholder="%s")


class Database(Protocol):
    """One statement, one committed transaction; the rows it answers with. A connection of its own, not the user's."""

    async def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]: ...


class AioSqlite:
    """A connection of aiosqlite, opened with `isolation_level=None`. asyncio only."""

    def __init__(self, connection: Any) -> None:
        if connection.isolation_level is not None:
            raise ValueError("open it with isolation_level=None: a cancelled call must not leave a transaction open")
        self._connection = connection

    async def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        rows: Sequence[Sequence[Any]] = await self._connection.execute_fetchall(*statement)
        return rows


class SqliteInThread:
    """A connection of sqlite3, opened with `isolation_level=None, check_same_thread=False`. asyncio and trio."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        if connection.isolation_level is not None:
            raise ValueError("open it with isolation_level=None: a cancelled call must not leave a transaction open")
        self._connection = connection
        self._thread = anyio.CapacityLimiter(1)

    async def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        return await anyio.to_thread.run_sync(self._fetch, statement, limiter=self._thread)

    def _fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        return self._connection.execute(*statement).fetchall()


class Asyncpg:
    """A pool or connection of asyncpg, outside any transaction; the outbox has `dialect=ASYNCPG`. asyncio only."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        rows: Sequence[Sequence[Any]] = await self._pool.fetch(statement.sql, *statement.parameters)
        return rows


class Psycopg:
    """An AsyncConnection of psycopg with `autocommit=True`; the outbox has `dialect=PSYCOPG`. asyncio only."""

    def __init__(self, connection: Any) -> None:
        if not connection.autocommit:
            raise ValueError("open it with autocommit=True: a cancelled call must not leave a transaction open")
        self._connection = connection

    async def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        with anyio.CancelScope(shield=True):  # cancelled the way anyio does it, the connection hangs
            cursor = await self._connection.execute(*statement)
            rows: Sequence[Sequence[Any]] = await cursor.fetchall() if cursor.description else ()
        return rows


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """`position` grows in the order of writing, which matters within a `key`. Times are milliseconds of 1970."""

    position: int
    message_id: str
    key: str
    body: str
    written_ms: int


@dataclass(frozen=True, slots=True)
class Lag:
    """What is committed and not sent: how many, and for how long the oldest of them has been (0 if none)."""

    waiting: int
    oldest_ms: int


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def plain_name(table: str) -> str:
    if not (table.isascii() and table.isidentifier()):
        raise ValueError(f"not a plain name of a table: {table!r}")
    return table


class Outbox:
    """The statements of one outbox: a table, and a lease for its relays. Any number may be in a database, by name.

    On PostgreSQL two transactions that write rows of one key at the same time have no order; those that first change
    the same row of yours, as for an order and its events, do.
    """

    def __init__(self, table: str = "outbox", dialect: Dialect = SQLITE) -> None:
        self._table = plain_name(table)
        self._dialect = dialect

    def _statement(self, text: str, *parameters: Any) -> Statement:
        return Statement(self._dialect.sql(text.replace("outbox", self._table)), parameters)

    def tables(self) -> list[Statement]:
        """Creates what is not there."""
        return [
            self._statement(text)
            for text in (
                f"CREATE TABLE IF NOT EXISTS outbox (position {self._dialect.position},"
                " message_id TEXT NOT NULL UNIQUE, ordering_key TEXT NOT NULL, body TEXT NOT NULL,"
                " written_ms BIGINT NOT NULL, sent_ms BIGINT, error TEXT)",
                "CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox (position) WHERE sent_ms IS NULL",
                "CREATE INDEX IF NOT EXISTS outbox_sent ON outbox (sent_ms) WHERE sent_ms IS NOT NULL",
                "CREATE TABLE IF NOT EXISTS outbox_relay"
                " (one INTEGER PRIMARY KEY, owner TEXT NOT NULL, until_ms BIGINT NOT NULL)",
            )
        ]

    def row(
        self, body: str, *, key: str | None = None, message_id: str | None = None, now_ms: int | None = None
    ) -> Statement:
        """Execute it in the transaction that changes your data. Without a key a row has no order with any other.

        The message's identifier is random unless given; the database refuses one that is there.
        """
        message_id = message_id or str(uuid.uuid4())
        return self._statement(
            "INSERT INTO outbox (message_id, ordering_key, body, written_ms) VALUES (?, ?, ?, ?)",
            message_id,
            message_id if key is None else key,
            body,
            wall_ms() if now_ms is None else now_ms,
        )

    def give_up(self, message_id: str, error: str, now_ms: int) -> Statement:
        """For a row that the target will never take: it counts as sent, with an error, and those behind it go on."""
        return self._statement(
            "UPDATE outbox SET sent_ms = ?, error = ? WHERE message_id = ? AND sent_ms IS NULL",
            now_ms,
            error,
            message_id,
        )

    def claim(self, owner: str, now_ms: int, lease_ms: int) -> Statement:
        """A row in the answer: the lease is the owner's."""
        return self._statement(
            "INSERT INTO outbox_relay (one, owner, until_ms) VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE"
            " SET owner = excluded.owner, until_ms = excluded.until_ms"
            " WHERE outbox_relay.owner = excluded.owner OR outbox_relay.until_ms <= ? RETURNING owner",
            owner,
            now_ms + lease_ms,
            now_ms,
        )

    def release(self, owner: str) -> Statement:
        return self._statement("UPDATE outbox_relay SET until_ms = 0 WHERE owner = ?", owner)

    def waiting(self, except_keys: Collection[str], limit: int) -> Statement:
        return self._statement(
            "SELECT position, message_id, ordering_key, body, written_ms FROM outbox WHERE sent_ms IS NULL"
            f" AND ordering_key NOT IN ({self._dialect.texts}) ORDER BY position LIMIT ?",
            json.dumps(list(except_keys)),
            limit,
        )

    def sent(self, positions: Iterable[int], now_ms: int) -> Statement:
        return self._statement(
            f"UPDATE outbox SET sent_ms = ? WHERE sent_ms IS NULL AND position IN ({self._dialect.numbers})",
            now_ms,
            json.dumps(list(positions)),
        )

    def lag(self) -> Statement:
        return self._statement("SELECT count(*), min(written_ms) FROM outbox WHERE sent_ms IS NULL")

    def clean_up(self, before_ms: int, limit: int) -> Statement:
        return self._statement(
            "DELETE FROM outbox WHERE position IN (SELECT position FROM outbox WHERE sent_ms < ? LIMIT ?)"
            " RETURNING position",
            before_ms,
            limit,
        )


class Inbox:
    """Remembers in the user's transaction what has been handled, so that what comes again changes nothing."""

    def __init__(self, table: str = "inbox", dialect: Dialect = SQLITE) -> None:
        self._table = plain_name(table)
        self._dialect = dialect

    def _statement(self, text: str, *parameters: Any) -> Statement:
        return Statement(self._dialect.sql(text.replace("inbox", self._table)), parameters)

    def tables(self) -> list[Statement]:
        return [
            self._statement("CREATE TABLE IF NOT EXISTS inbox (message_id TEXT PRIMARY KEY, seen_ms BIGINT NOT NULL)"),
            self._statement("CREATE INDEX IF NOT EXISTS inbox_seen ON inbox (seen_ms)"),
        ]

    def row(self, message_id: str, now_ms: int | None = None) -> Statement:
        """Execute it first in the transaction of the effect. It changed no row: the message has been handled before."""
        return self._statement(
            "INSERT INTO inbox (message_id, seen_ms) VALUES (?, ?) ON CONFLICT (message_id) DO NOTHING",
            message_id,
            wall_ms() if now_ms is None else now_ms,
        )

    def clean_up(self, before_ms: int, limit: int) -> Statement:
        """Keep longer than a message can come again: the queue's retention."""
        return self._statement(
            "DELETE FROM inbox WHERE message_id IN (SELECT message_id FROM inbox WHERE seen_ms < ? LIMIT ?)"
            " RETURNING message_id",
            before_ms,
            limit,
        )


async def create_tables(database: Database, *boxes: Outbox | Inbox) -> None:
    for box in boxes:
        for statement in box.tables():
            await database.fetch(statement)


# What may go


def heads(rows: Sequence[OutboxRow], limits: Limits, size_bytes: Callable[[OutboxRow], int]) -> list[OutboxRow]:
    """The next request: the first row of each key, while there is room. What no request has room for goes alone."""
    taken: dict[str, OutboxRow] = {}
    left = limits.bytes
    for row in rows:
        if row.key in taken:
            continue
        left -= size_bytes(row)
        if taken and (left < 0 or len(taken) == limits.entries):
            break
        taken[row.key] = row
    return list(taken.values())


class Held:
    """The keys that wait because the target refused a row of theirs."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._failures: dict[str, int] = {}
        self._until_s: dict[str, float] = {}

    def failed(self, key: str, now_s: float, chance: float) -> None:
        failures = self._failures.get(key, 0) + 1
        self._failures[key] = failures
        self._until_s[key] = now_s + self._backoff.delay_s(failures, 0.0, chance)

    def succeeded(self, key: str) -> None:
        self._failures.pop(key, None)
        self._until_s.pop(key, None)

    def keys(self, now_s: float) -> list[str]:
        return [key for key, until_s in self._until_s.items() if until_s > now_s]

    def next_s(self, now_s: float) -> float:
        """When the next of them is free, as a span."""
        return min((until_s - now_s for until_s in self._until_s.values() if until_s > now_s), default=float("inf"))


# The relay


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPolicy:
    """`poll_s` is how late a row may be that nobody called `wake` for. Sent rows are deleted after `keep_s`."""

    poll_s: float = 1.0
    lease_s: float = 30.0
    window: int = 500  # rows in memory
    keep_s: float = 86_400.0
    clean_up_s: float = 60.0
    backoff: Backoff = field(default_factory=lambda: FullJitter(1.0, 60.0))
    store_attempts: int = 8

    def __post_init__(self) -> None:
        if min(self.poll_s, self.lease_s, self.clean_up_s) <= 0 or min(self.window, self.store_attempts) < 1:
            raise ValueError("spans are more than 0, window and store_attempts at least 1")


ToEntry = Callable[[OutboxRow], Entry]


def fifo_entry(row: OutboxRow) -> Entry:
    """For a FIFO queue: the key is the group, and the identifier is what it deduplicates by."""
    return {"MessageBody": row.body, "MessageGroupId": row.key, "MessageDeduplicationId": row.message_id}


def queue_entry(row: OutboxRow) -> Entry:
    """For a standard queue: the identifier, for the consumer's inbox, is the attribute `message_id`."""
    attribute = {"DataType": "String", "StringValue": row.message_id}
    return {"MessageBody": row.body, "MessageAttributes": {"message_id": attribute}}


class _TargetFailed(Exception):
    pass


class Relay:
    """Sends an outbox's rows to a target, at least once and in order per key. Run as many as you like: one works.

    What the target refuses holds its key for the policy's backoff, for ever if need be, while others go on: `failing`
    has the last refusal by key, and `Outbox.give_up` lets go of a row. A target out of reach is tried for ever.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        target: BatchTarget,
        entry: ToEntry,
        policy: RelayPolicy | None = None,
        *,
        owner: str | None = None,
        now_ms: Callable[[], int] = wall_ms,
        random: Callable[[], float] = chance_source.random,
    ) -> None:
        self.policy = policy or RelayPolicy()
        self.failing: dict[str, Rejected] = {}
        self._database = database
        self._outbox = outbox
        self._target = target
        self._entry = entry
        self._owner = owner or str(uuid.uuid4())
        self._now_ms = now_ms
        self._random = random
        self._held = Held(self.policy.backoff)
        self._lease_end_s = self._clean_up_s = float("-inf")
        self._stopping = False
        self._wanted = anyio.Event()

    def wake(self) -> None:
        """Rows have been committed: look now."""
        self._wanted.set()

    def stop(self) -> None:
        """Ends `run` after the request under way, and gives the lease to whoever waits for it."""
        self._stopping = True
        self.wake()

    async def lag(self) -> Lag:
        ((waiting, oldest_ms),) = await self._database.fetch(self._outbox.lag())
        return Lag(waiting, max(0, self._now_ms() - oldest_ms) if waiting else 0)

    async def run(self) -> None:
        """Until `stop`. Raises the database's error after `store_attempts` in a row."""
        failures = target_failures = 0
        while not self._stopping:
            self._wanted = anyio.Event()
            try:
                pause_s = await self._round()
                failures = target_failures = 0
            except _TargetFailed as failed:
                target_failures, failures = target_failures + 1, 0
                log.warning("nothing sent: %r", failed.__cause__)
                pause_s = self.policy.backoff.delay_s(target_failures, 0.0, self._random())
            except Exception as error:
                failures += 1
                if failures >= self.policy.store_attempts:
                    raise
                log.warning("the outbox's database failed: %r", error)
                pause_s = _STORE_BACKOFF.delay_s(failures, 0.0, self._random())
            with anyio.move_on_after(pause_s):
                await self._wanted.wait()
        await self._database.fetch(self._outbox.release(self._owner))

    async def _round(self) -> float:
        """Sends what may be sent; how long there is nothing to do."""
        policy = self.policy
        if not await self._is_ours():
            return policy.poll_s
        await self._clean_up()
        held = self._held.keys(anyio.current_time())
        rows = [OutboxRow(*row) for row in await self._database.fetch(self._outbox.waiting(held, policy.window))]
        is_all = len(rows) < policy.window
        while rows and not self._stopping:
            if not await self._is_ours():
                return policy.poll_s
            batch = heads(rows, self._target.limits, lambda row: self._target.size_bytes(self._entry(row)))
            refused = await self._send(batch)
            gone = set(batch)
            rows = [row for row in rows if row not in gone and row.key not in refused]
        return min(policy.poll_s, self._held.next_s(anyio.current_time())) if is_all else 0.0

    async def _is_ours(self) -> bool:
        """Half of the lease is there at least."""
        now_s, lease_s = anyio.current_time(), self.policy.lease_s
        if self._lease_end_s - now_s >= lease_s / 2:
            return True
        claim = self._outbox.claim(self._owner, self._now_ms(), round(lease_s * 1000))
        if not await self._database.fetch(claim):
            return False
        self._lease_end_s = now_s + lease_s
        return True

    async def _send(self, batch: Sequence[OutboxRow]) -> set[str]:
        """The keys that were refused. What was sent is marked before anything else is."""
        entries = [self._entry(row) for row in batch]
        try:
            with anyio.fail_after(self._lease_end_s - anyio.current_time()):
                outcomes = await self._target.send(entries)
        except Exception as error:
            raise _TargetFailed from error
        refused, sent = set(), []
        for row, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Rejected):
                log.warning("%s of %s refused: %s", row.message_id, row.key, outcome)
                self._held.failed(row.key, anyio.current_time(), self._random())
                self.failing[row.key] = outcome
                refused.add(row.key)
            else:
                self._held.succeeded(row.key)
                self.failing.pop(row.key, None)
                sent.append(row.position)
        if sent:
            await self._database.fetch(self._outbox.sent(sent, self._now_ms()))
        return refused

    async def _clean_up(self) -> None:
        now_s = anyio.current_time()
        if now_s < self._clean_up_s:
            return
        before_ms = self._now_ms() - round(self.policy.keep_s * 1000)
        deleted = await self._database.fetch(self._outbox.clean_up(before_ms, self.policy.window))
        if len(deleted) < self.policy.window:
            self._clean_up_s = now_s + self.policy.clean_up_s

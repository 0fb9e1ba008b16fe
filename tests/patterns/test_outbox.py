"""The outbox's relay under crashes at any await, lost answers, refusals and rivals; the inbox under repetition."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual import broker, crash, run_virtually

from patterns import (
    Accepted,
    BatchTarget,
    Entry,
    Fixed,
    Inbox,
    InThreads,
    Limits,
    Outbox,
    Rejected,
    Relay,
    RelayPolicy,
    SqsTarget,
    create_tables,
    fifo_entry,
    queue_entry,
)
from patterns.outbox import AioSqlite, Held, OutboxRow, SqliteInThread, Statement, heads

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
BODIES = ["a0", "b0", "a1", "a2", "b1", "c0"]
IN_ORDER = {"a": ["a0", "a1", "a2"], "b": ["b0", "b1"], "c": ["c0"]}
POLICY = RelayPolicy(poll_s=1, lease_s=10, backoff=Fixed(1))


def opened(path: Path | str = ":memory:") -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


class Here:
    """The database without a thread: an answer can be lost, an effect cannot be half."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    async def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        await anyio.lowlevel.checkpoint()
        rows = self.connection.execute(*statement).fetchall()
        await anyio.lowlevel.checkpoint()
        return rows


class Recorder:
    """A target that takes everything and may lose its answer."""

    limits = Limits(3, 100)

    def __init__(self) -> None:
        self.bodies: list[str] = []

    def size_bytes(self, entry: Entry) -> int:
        return len(entry["MessageBody"])

    def lane(self, entry: Entry) -> str | None:
        return None

    async def send(self, entries: Sequence[Entry]) -> Sequence[Accepted | Rejected]:
        await anyio.lowlevel.checkpoint()
        self.bodies += [entry["MessageBody"] for entry in entries]
        await anyio.lowlevel.checkpoint()
        return [Accepted({})] * len(entries)


class Moody(Recorder):
    """Fails before or after the effect, and refuses entries at times."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance

    async def send(self, entries: Sequence[Entry]) -> Sequence[Accepted | Rejected]:
        mood = self.chance.random()
        if mood < 0.2:
            raise ConnectionError("before")
        taken = [self.chance.random() < 0.7 for _ in entries]
        await super().send([entry for entry, is_taken in zip(entries, taken, strict=True) if is_taken])
        if mood < 0.4:
            raise ConnectionError("after")
        return [Accepted({}) if is_taken else Rejected("InternalError", "", False) for is_taken in taken]


def groups(bodies: Sequence[str]) -> dict[str, list[str]]:
    """By key, what came again at once counted once."""
    found: dict[str, list[str]] = {}
    for body in bodies:
        found.setdefault(body[0], []).append(body)
    return {key: [body for body, _ in itertools.groupby(those)] for key, those in sorted(found.items())}


def virtual_ms() -> int:
    return round(anyio.current_time() * 1000)


def relay_of(database: Here, target: BatchTarget, policy: RelayPolicy = POLICY) -> Relay:
    return Relay(database, Outbox(), target, fifo_entry, policy, now_ms=virtual_ms)


async def filled(*bodies: str) -> Here:
    """An outbox with rows; a body's first letter is its key."""
    database = Here(opened())
    await create_tables(database, Outbox(), Inbox())
    for body in bodies:
        database.connection.execute(*Outbox().row(body, key=body[0], message_id=body, now_ms=virtual_ms()))
    return database


async def run_until_sent(relay: Relay) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(relay.run)
        while (await relay.lag()).waiting:  # noqa: ASYNC110 the time is virtual
            await anyio.sleep(0.5)
        relay.stop()


def played(backend: str, program: Callable[[], Awaitable[None]]) -> None:
    run_virtually(backend, program)


@BACKENDS
def test_a_crash_at_any_await_loses_nothing_and_keeps_keys_in_order(backend: str) -> None:
    crashes = 0

    async def program() -> None:
        nonlocal crashes
        for after in itertools.count(1):
            database, target = await filled(*BODIES), Recorder()
            first = relay_of(database, target)

            async def until_sent(first: Relay = first) -> None:
                await run_until_sent(first)

            crashed = await crash(after, until_sent)
            await run_until_sent(relay_of(database, target))
            assert groups(target.bodies) == IN_ORDER, after
            database.connection.close()
            if not crashed:
                assert len(target.bodies) == len(BODIES)
                return
            crashes += 1

    played(backend, program)
    assert crashes > 20


@BACKENDS
def test_lost_requests_lost_answers_and_refusals_cost_duplicates_only(backend: str) -> None:
    async def program() -> None:
        for seed in range(40):
            database, target = await filled(*BODIES), Moody(random.Random(seed))
            await run_until_sent(relay_of(database, target))
            assert groups(target.bodies) == IN_ORDER, seed
            database.connection.close()

    played(backend, program)


@BACKENDS
def test_a_fifo_queue_gets_each_row_once_whatever_the_crashes(backend: str) -> None:
    async def program() -> None:
        async with broker() as sqs:
            url = await sqs.create("q.fifo")
            database = await filled(*BODIES)
            for after in range(1, 200, 7):
                relay = relay_of(database, SqsTarget(sqs, url), RelayPolicy(poll_s=1, lease_s=0.5, backoff=Fixed(1)))

                async def until_sent(relay: Relay = relay) -> None:
                    await run_until_sent(relay)

                if not await crash(after, until_sent):
                    break
            bodies = await sqs.take_all(url)
            assert sorted(bodies) == sorted(BODIES)
            assert groups(bodies) == IN_ORDER
            database.connection.close()

    played(backend, program)


@BACKENDS
def test_of_two_relays_one_works_and_the_other_takes_over_when_its_lease_has_ended(backend: str) -> None:
    async def program() -> None:
        database = await filled("a0")
        one, two = Recorder(), Recorder()
        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as first:
                first.start_soon(relay_of(database, one).run)
                await anyio.sleep(0.1)
                standby = relay_of(database, two)
                tasks.start_soon(standby.run)
                await anyio.sleep(30)
                first.cancel_scope.cancel()
            assert (one.bodies, two.bodies) == (["a0"], [])
            database.connection.execute(*Outbox().row("a1", key="a"))
            crashed_s = anyio.current_time()
            while (await standby.lag()).waiting:  # noqa: ASYNC110 the time is virtual
                await anyio.sleep(0.5)
            assert 3 <= anyio.current_time() - crashed_s <= 12
            standby.stop()
        assert two.bodies == ["a1"]
        database.connection.close()

    played(backend, program)


@BACKENDS
def test_a_relay_that_stops_hands_its_lease_over_at_once(backend: str) -> None:
    async def program() -> None:
        database = await filled("a0")
        await run_until_sent(relay_of(database, Recorder()))
        database.connection.execute(*Outbox().row("a1", key="a"))
        start_s = anyio.current_time()
        await run_until_sent(relay_of(database, Recorder()))
        assert anyio.current_time() - start_s <= 1
        database.connection.close()

    played(backend, program)


class Picky(Recorder):
    async def send(self, entries: Sequence[Entry]) -> Sequence[Accepted | Rejected]:
        good = [entry for entry in entries if entry["MessageBody"] != "a1"]
        await super().send(good)
        return [Accepted({}) if entry in good else Rejected("InvalidMessageContents", "", True) for entry in entries]


@BACKENDS
def test_what_is_refused_holds_its_key_alone_until_it_is_given_up(backend: str) -> None:
    async def program() -> None:
        database, target = await filled(*BODIES), Picky()
        relay = relay_of(database, target)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(relay.run)
            await anyio.sleep(20)
            assert groups(target.bodies) == {**IN_ORDER, "a": ["a0"]}
            assert {key: refused.code for key, refused in relay.failing.items()} == {"a": "InvalidMessageContents"}
            lag = await relay.lag()
            assert lag.waiting == 2
            assert lag.oldest_ms == pytest.approx(20_000, abs=100)
            await database.fetch(Outbox().give_up("a1", "never", virtual_ms()))
            await anyio.sleep(3)
            relay.stop()
        assert groups(target.bodies) == {**IN_ORDER, "a": ["a0", "a2"]}
        assert relay.failing == {}
        database.connection.close()

    played(backend, program)


@BACKENDS
def test_a_hot_or_held_key_does_not_hide_others_behind_the_window(backend: str) -> None:
    async def program() -> None:
        database, target = await filled(*(f"a{n}" for n in range(1, 30)), "b0"), Picky()
        relay = relay_of(database, target, RelayPolicy(poll_s=1, window=4, backoff=Fixed(100)))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(relay.run)
            await anyio.sleep(5)
            relay.stop()
        assert target.bodies == ["b0"]
        database.connection.close()

    played(backend, program)


@BACKENDS
def test_wake_is_quicker_than_the_poll_and_sent_rows_are_deleted_in_time(backend: str) -> None:
    async def program() -> None:
        database, target = await filled(), Recorder()
        relay = relay_of(database, target, RelayPolicy(poll_s=50, keep_s=100, clean_up_s=10))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(relay.run)
            await anyio.sleep(1)
            database.connection.execute(*Outbox().row("a0", key="a"))
            relay.wake()
            await anyio.sleep(1)
            assert target.bodies == ["a0"]
            assert database.connection.execute("SELECT count(*) FROM outbox").fetchone() == (1,)
            await anyio.sleep(200)
            assert database.connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
            relay.stop()
        database.connection.close()

    played(backend, program)


class Broken(Here):
    async def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        raise sqlite3.OperationalError("disk I/O error")


@BACKENDS
def test_a_database_that_stays_broken_ends_the_relay_with_its_error(backend: str) -> None:
    async def program() -> None:
        with closing(opened()) as connection, pytest.raises(sqlite3.OperationalError, match="disk"):
            await relay_of(Broken(connection), Recorder()).run()

    played(backend, program)


# With the drivers, in the user's transaction, against a sidecar


def queue_of(sqs: Any, name: str) -> str:
    attributes = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    url: str = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return url


def test_aiosqlite_what_is_rolled_back_is_not_sent_and_what_comes_again_changes_nothing(
    tmp_path: Path, sqs: Any
) -> None:
    outbox, inbox, url = Outbox("orders_outbox"), Inbox(), queue_of(sqs, "orders")

    async def program() -> list[tuple[str, bool]]:
        path = tmp_path / "orders.db"
        async with aiosqlite.connect(path) as db, aiosqlite.connect(path, isolation_level=None) as own:
            with pytest.raises(ValueError, match="isolation_level"):
                AioSqlite(db)
            relay = Relay(AioSqlite(own), outbox, SqsTarget(InThreads(sqs), url), queue_entry)
            await create_tables(AioSqlite(own), outbox, inbox)
            await db.execute("CREATE TABLE orders (name TEXT)")
            for name, end in (("tea", db.commit), ("nothing", db.rollback), ("cake", db.commit)):
                await db.execute("INSERT INTO orders VALUES (?)", (name,))
                await db.execute(*outbox.row(name, key="orders"))
                await end()
            with anyio.fail_after(20):
                await run_until_sent(relay)
            handled = []
            messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
            for message in messages["Messages"] * 2:
                message_id = message["MessageAttributes"]["message_id"]["StringValue"]
                cursor = await db.execute(*inbox.row(message_id))
                handled.append((message["Body"], cursor.rowcount == 1))
                await db.commit()
            return handled

    handled = anyio.run(program)
    assert sorted(handled) == [("cake", False), ("cake", True), ("tea", False), ("tea", True)]


@BACKENDS
def test_sqlite_in_a_thread(backend: str, tmp_path: Path, sqs: Any) -> None:
    url = queue_of(sqs, "threads.fifo")

    async def program() -> None:
        path = tmp_path / "orders.db"
        with closing(opened(path)) as own, closing(opened(path)) as db:
            relay = Relay(SqliteInThread(own), Outbox(), SqsTarget(InThreads(sqs), url), fifo_entry)
            await create_tables(SqliteInThread(own), Outbox())
            for body in BODIES:
                db.execute(*Outbox().row(body, key=body[0]))
            with anyio.fail_after(20):
                await run_until_sent(relay)

    anyio.run(program, backend=backend)
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert groups([message["Body"] for message in messages]) == IN_ORDER


def test_an_inbox_forgets_after_its_time() -> None:
    with closing(opened()) as connection:
        for statement in Inbox("seen").tables() * 2:
            connection.execute(*statement)
        for number in range(5):
            connection.execute(*Inbox("seen").row(str(number), now_ms=number))
        assert len(connection.execute(*Inbox("seen").clean_up(3, limit=2)).fetchall()) == 2
        assert len(connection.execute(*Inbox("seen").clean_up(3, limit=2)).fetchall()) == 1
        assert connection.execute(*Inbox("seen").row("4", now_ms=9)).rowcount == 0
        assert connection.execute(*Inbox("seen").row("2", now_ms=9)).rowcount == 1


def test_a_table_is_a_plain_name() -> None:
    with pytest.raises(ValueError, match="plain"):
        Outbox("outbox; DROP TABLE orders")


# The pure parts

ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 60)), max_size=30).map(
    lambda pairs: [OutboxRow(number, str(number), key, "x" * size, 0) for number, (key, size) in enumerate(pairs)]
)


@given(ROWS, st.integers(1, 5), st.integers(1, 120))
def test_a_request_has_one_row_of_a_key_its_first_within_the_limits(
    rows: list[OutboxRow], entries: int, size_bytes: int
) -> None:
    taken = heads(rows, Limits(entries, size_bytes), lambda row: len(row.body))
    assert bool(taken) == bool(rows)
    assert taken == sorted(taken, key=lambda row: row.position)
    for row in taken:
        assert row is next(other for other in rows if other.key == row.key)
    assert len({row.key for row in taken}) == len(taken) <= entries
    assert len(taken) == 1 or sum(len(row.body) for row in taken) <= size_bytes


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0, 5)), max_size=40))
def test_a_key_is_held_from_its_failure_for_its_backoff_or_its_success(events: list[tuple[str, bool, float]]) -> None:
    held, now_s, until_s = Held(Fixed(3)), 0.0, dict[str, float]()
    for key, is_failure, later_s in events:
        now_s += later_s
        if is_failure:
            held.failed(key, now_s, 0.5)
            until_s[key] = now_s + 3
        else:
            held.succeeded(key)
            until_s.pop(key, None)
        alive = {other: end_s for other, end_s in until_s.items() if end_s > now_s}
        assert sorted(held.keys(now_s)) == sorted(alive)
        assert held.next_s(now_s) == min((end_s - now_s for end_s in alive.values()), default=float("inf"))

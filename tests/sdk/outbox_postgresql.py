"""The outbox in PostgreSQL, by asyncpg and psycopg, crashes and a rival; prints what it did."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio
import asyncpg
import psycopg

from patterns import Accepted, Entry, Fixed, Inbox, Limits, Outbox, Rejected, Relay, RelayPolicy, create_tables
from patterns.outbox import ASYNCPG, PSYCOPG, Asyncpg, Database, Psycopg, fifo_entry

KEYS, ROWS = "abcdef", 40


class Target:
    """Loses requests and answers, and refuses entries."""

    limits = Limits(10, 100_000)

    def __init__(self) -> None:
        self.chance = random.Random(7)
        self.bodies: list[str] = []

    def size_bytes(self, entry: Entry) -> int:
        return len(entry["MessageBody"])

    def lane(self, entry: Entry) -> str | None:
        return None

    async def send(self, entries: Sequence[Entry]) -> Sequence[Accepted | Rejected]:
        mood = self.chance.random()
        if mood < 0.1:
            raise ConnectionError("before")
        outcomes: list[Accepted | Rejected] = []
        for entry in entries:
            is_taken = self.chance.random() < 0.9
            outcomes.append(Accepted({}) if is_taken else Rejected("InternalError", "", False))
            self.bodies += [entry["MessageBody"]] if is_taken else []
        if mood < 0.2:
            raise ConnectionError("after")
        return outcomes


async def play(name: str, database: Database, rival: Database, outbox: Outbox, write: Any) -> None:
    await create_tables(database, outbox)
    await create_tables(database, outbox)
    target, policy = Target(), RelayPolicy(poll_s=0.05, lease_s=0.5, backoff=Fixed(0.01), keep_s=0, clean_up_s=0.1)
    chance = random.Random(3)

    async def writer(key: str) -> None:
        for number in range(ROWS):
            await write(outbox, f"{key}{number:02}", key, number % 5 == 4)

    async def crashing(which: Database) -> None:
        while True:
            with anyio.move_on_after(chance.random() * 0.3):
                await Relay(which, outbox, target, fifo_entry, policy).run()

    relay = Relay(database, outbox, target, fifo_entry, policy)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as writers:
                tasks.start_soon(crashing, rival)
                for key in KEYS:
                    writers.start_soon(writer, key)
            while (await relay.lag()).waiting:  # noqa: ASYNC110 nobody tells
                await anyio.sleep(0.05)
            tasks.cancel_scope.cancel()
    committed = [number for number in range(ROWS) if number % 5 != 4]
    for key in KEYS:
        bodies = [body for body in target.bodies if body[0] == key]
        once = [body for before, body in zip(["", *bodies], bodies, strict=False) if body != before]
        assert once == [f"{key}{number:02}" for number in committed], (name, once)
    sent = len(set(target.bodies))
    print(f"{name}: {sent} rows sent in order per key, {len(target.bodies) - sent} of them again")

    await database.fetch(outbox.row("never", key="a", message_id="poison"))
    await database.fetch(outbox.give_up("poison", "no use", 1))
    assert not (await relay.lag()).waiting
    assert await database.fetch(outbox.clean_up(2**50, 1000))
    assert not await database.fetch(outbox.clean_up(2**50, 1000))


async def main(dsn: str) -> None:
    pool = await asyncpg.create_pool(dsn)
    own = await asyncpg.create_pool(dsn)
    boxes = Outbox("one", ASYNCPG), Inbox("seen_one", ASYNCPG)

    async def write_asyncpg(outbox: Outbox, body: str, key: str, is_undone: bool) -> None:
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            statement = outbox.row(body, key=key)
            await connection.execute(statement.sql, *statement.parameters)
            await (transaction.rollback() if is_undone else transaction.commit())

    await play("asyncpg", Asyncpg(own), Asyncpg(pool), boxes[0], write_asyncpg)
    await create_tables(Asyncpg(own), boxes[1])
    claim = boxes[1].row("m")
    assert [await own.execute(claim.sql, *claim.parameters) for _ in range(2)] == ["INSERT 0 1", "INSERT 0 0"]
    assert len(await Asyncpg(own).fetch(boxes[1].clean_up(2**50, 10))) == 1
    await pool.close()
    await own.close()

    connect = partial(psycopg.AsyncConnection.connect, dsn)
    async with await connect() as db, await connect(autocommit=True) as first, await connect(autocommit=True) as other:
        turn = anyio.Lock()

        async def write_psycopg(outbox: Outbox, body: str, key: str, is_undone: bool) -> None:
            async with turn:
                await db.execute(*outbox.row(body, key=key))
                await (db.rollback() if is_undone else db.commit())

        outbox, inbox = Outbox("two", PSYCOPG), Inbox("seen_two", PSYCOPG)
        await play("psycopg", Psycopg(first), Psycopg(other), outbox, write_psycopg)
        await create_tables(Psycopg(first), inbox)
        assert [(await db.execute(*inbox.row("m"))).rowcount for _ in range(2)] == [1, 0]
        await db.commit()
        assert len(await Psycopg(first).fetch(inbox.clean_up(2**50, 10))) == 1


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])

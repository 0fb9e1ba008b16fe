"""Orders and their messages in one transaction; one is rolled back, the relay crashes, another one goes on."""

from __future__ import annotations

import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio

from patterns.batch_producer import Accepted, Entry, Rejected, SqsTarget
from patterns.demos import say
from patterns.outbox import Outbox, Relay, RelayPolicy, SqliteInThread, create_tables, fifo_entry
from patterns.threads import InThreads

ORDERS = [("tea", "paid"), ("cake", "paid"), ("soup", "paid"), ("tea", "packed"), ("cake", "packed"), ("tea", "sent")]


class Told(SqsTarget):
    """Says what it sends; the first time it crashes between the answer and the mark."""

    crashes = False

    async def send(self, entries: Sequence[Entry]) -> Sequence[Accepted | Rejected]:
        outcomes = await super().send(entries)
        say(f"sent in one request: {', '.join(entry['MessageBody'] for entry in entries)}")
        if self.crashes:
            say("… and the relay crashes before it could mark them as sent")
            raise SystemExit
        return outcomes


async def run(client: Callable[[str], Any]) -> None:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=f"demo-{uuid.uuid4()}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "orders.db")
        try:
            own = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            with closing(own), closing(sqlite3.connect(path)) as db:
                await _play(sqs, url, own, db)
        finally:
            sqs.delete_queue(QueueUrl=url)


async def _play(sqs: Any, url: str, own: sqlite3.Connection, db: sqlite3.Connection) -> None:
    outbox, database, policy = Outbox(), SqliteInThread(own), RelayPolicy(poll_s=0.5, lease_s=2)
    await create_tables(database, outbox)
    db.execute("CREATE TABLE orders (name TEXT, step TEXT)")
    for name, step in ORDERS:
        db.execute("INSERT INTO orders VALUES (?, ?)", (name, step))
        db.execute(*outbox.row(f"{name} {step}", key=name))
        if name == "soup":
            db.rollback()
            say(f"{name} {step}: rolled back, with its message")
        else:
            db.commit()
            say(f"{name} {step}: committed, with its message")

    target = Told(InThreads(sqs), url)
    target.crashes = True
    try:
        await Relay(database, outbox, target, fifo_entry, policy).run()
    except SystemExit:
        target.crashes = False
    relay = Relay(database, outbox, target, fifo_entry, policy)
    lag = await relay.lag()
    say(f"{lag.waiting} wait, the oldest for {lag.oldest_ms} ms; the next relay waits for the lease of the first")
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(relay.run)
            while (await relay.lag()).waiting:  # noqa: ASYNC110 nobody tells
                await anyio.sleep(0.2)
            relay.stop()
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            say(f"received {message['Body']}")
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

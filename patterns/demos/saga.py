"""A trip of three steps: one saga crashes and goes on, another is refused and turns back; and a choreographed end."""

from __future__ import annotations

import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio

from patterns.batch_consumer import BatchConsumer, Boto3Sqs, ConsumerPolicy, Message
from patterns.demos import say
from patterns.outbox import SqliteInThread
from patterns.retry import Fixed, RetryPolicy
from patterns.saga import (
    Choreography,
    Orchestrator,
    Reaction,
    Refused,
    Saga,
    SqlSagas,
    Step,
    StepCall,
    show,
)
from patterns.threads import InThreads

LIMIT_S = 60


class Trip:
    def __init__(self, sqs: Any, url: str) -> None:
        self._sqs, self._url = InThreads(sqs), url
        self.crashes = True

    async def book(self, call: StepCall) -> str:
        say(f"{call.data}: a room is booked")
        return "room 7"

    async def cancel(self, call: StepCall) -> None:
        say(f"{call.data}: {call.results.get('book', 'whatever was booked')} is cancelled")

    async def charge(self, call: StepCall) -> str:
        if call.data == "bob":
            say("bob: has no money, which is for good")
            raise Refused("no money")
        say(f"{call.data}: is charged, by the key {call.key}")
        if self.crashes:
            self.crashes = False
            say("… and the orchestrator crashes before it could write that down")
            raise SystemExit
        return "receipt 12"

    async def refund(self, call: StepCall) -> None:
        say(f"{call.data}: is refunded")

    async def tickets(self, call: StepCall) -> None:
        for kind in ("there", "back"):
            await self._sqs.send_message(QueueUrl=self._url, MessageBody=f"{kind} {call.data}")
        say(f"{call.data}: two tickets are on their way")

    def saga(self) -> Saga:
        again = RetryPolicy(Fixed(0.5), attempts=3)
        steps = [
            Step("book", self.book, self.cancel, retry=again),
            Step("charge", self.charge, self.refund, retry=again),
            Step("tickets", self.tickets, retry=again),
        ]
        return Saga("trip", steps, deadline_s=30)


async def run(client: Callable[[str], Any]) -> None:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=f"demo-{uuid.uuid4()}")["QueueUrl"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = Path(folder, "sagas.db")
            with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
                with anyio.fail_after(LIMIT_S):
                    await _orchestrated(sqs, url, SqliteInThread(connection))
                    await _choreographed(sqs, url, SqliteInThread(connection))
        finally:
            sqs.delete_queue(QueueUrl=url)


async def _orchestrated(sqs: Any, url: str, database: SqliteInThread) -> None:
    store, trip = SqlSagas(database), Trip(sqs, url)
    await store.create_table()
    first = Orchestrator(store, [trip.saga()])
    ann = await first.start("trip", "ann", here=True)
    try:
        await first.run(ann)
    except SystemExit:
        say("another orchestrator reads the log and goes on")
    second = Orchestrator(store, [trip.saga()])
    await second.run(ann)
    bob = await second.start("trip", "bob", here=True)
    await second.run(bob)
    for name, saga_id in (("ann", ann), ("bob", bob)):
        say(f"the log of {name}'s saga:\n{show(await second.log(saga_id))}")


async def _choreographed(sqs: Any, url: str, database: SqliteInThread) -> None:
    """Nobody conducts: who packs waits for both tickets of a person."""
    store = SqlSagas(database, "dances")
    await store.create_table()

    async def pack(person: str, tickets: Mapping[str, Any]) -> None:
        say(f"{person}: has {' and '.join(sorted(tickets))}, and packs")
        consumer.stop()

    choreography = Choreography(store, [Reaction("pack", frozenset({"there", "back"}), pack)])

    async def handle(message: Message) -> None:
        kind, person = message.body.split()
        for waiting in await choreography.handle(kind, person, message.message_id):
            say(f"{person}: {waiting.reaction} has {kind} and waits for {', '.join(waiting.misses)}")

    consumer = BatchConsumer(Boto3Sqs(sqs, url), handle, ConsumerPolicy(concurrency=1, wait_s=1))
    await consumer.run()

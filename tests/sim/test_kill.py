"""kill -9 at random moments, under load, again and again on one directory: every answer ever given must stay true.

Each round starts the sidecar, lets all clients loose on it and kills it some tenths of a second later, now and then
while it is still starting. Before each round the queues' counts must fit the ledger; at the end everything is
received once more, and what does not come is lost.

    SIM_SEED=… repeats a run's choices and moments. Not its races: those are the machine's.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import orjson
import pytest
from ledger import MAX_RECEIVE_COUNT, Ledger, Message, Violation
from sidecar import COUNTS, TIMEOUT_S, Refused, Sidecar, json_request, seed_of_this_run

DEAD_LETTERS = {"work": "work-dead", "tries.fifo": "tries-dead.fifo"}
QUEUES = ["work-dead", "work", "plain", "tries-dead.fifo", "tries.fifo", "order.fifo"]
SOURCES = ["work", "plain", "tries.fifo", "order.fifo"]
URL = "http://localhost/000000000000/"

WORK_S = 1  # the visibility timeout of who means to delete
DRAIN_S = 600
WAITING_MESSAGES = 40  # in a group, after which its producer pauses
DEDUPLICATION_S = 240.0  # it lasts five minutes
NAMES = {"MessageSystemAttributeNames": ["All"]}


class Broken(Exception):
    """The connection has ended: what was sent and not answered may have happened or not."""


class Connection:
    """A client's way to the sidecar of this round."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, sidecar: Sidecar) -> AsyncIterator[Self]:
        try:
            reader, writer = await asyncio.open_connection(sidecar.host, sidecar.port)
        except OSError as error:
            raise Broken from error
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def pause(self) -> None:
        await asyncio.sleep(0.01)
        if self._reader.at_eof() or self._reader.exception() is not None:
            raise Broken

    async def call(self, operation: str, **members: Any) -> dict[str, Any]:
        """Raises Broken, or Refused for an answer of 400."""
        try:
            self._writer.write(json_request(operation, members))
            async with asyncio.timeout(TIMEOUT_S):
                head = await self._reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = await self._reader.readexactly(length)
        except (OSError, EOFError) as error:
            if isinstance(error, TimeoutError):
                raise Violation(f"{operation} was not answered in {TIMEOUT_S:g} s") from None
            raise Broken from error
        document: dict[str, Any] = orjson.loads(body) if body else {}
        status = int(head[9:12])
        if status == 200:
            return document
        if status != 400:
            raise Violation(f"{operation} was answered {status}: {document}")
        raise Refused(status, document["__type"].rpartition("#")[2], document.get("message", ""))


class Worker:
    """A client that goes on from round to round. `run` ends when the connection does."""

    def __init__(self, ledger: Ledger, seed: str) -> None:
        self.ledger = ledger
        self.chance = random.Random(seed)
        self.heavy = False  # a round of large messages, in which the log is copied into the database

    async def run(self, connection: Connection) -> None:
        raise NotImplementedError

    def filler_chars(self) -> int:
        return self.chance.randrange(100_000, 250_000) if self.heavy else self.chance.randrange(1500)


class Producer(Worker):
    """Sends to a standard queue; what was not answered is not sent again."""

    def __init__(self, ledger: Ledger, seed: str, queue: str) -> None:
        super().__init__(ledger, seed)
        self._queue = queue

    async def run(self, connection: Connection) -> None:
        while True:
            if self.ledger.waiting(self._queue) > WAITING_MESSAGES * 5:
                await connection.pause()
                continue
            delay = {"DelaySeconds": 1} if self.chance.random() < 0.1 else {}
            size = self.chance.choice((1, 4) if self.heavy else (1, 1, 4, 10))
            new = [self.ledger.new(self._queue, None, self.filler_chars()) for _ in range(size)]
            await send(connection, self.ledger, self._queue, new, [{"MessageBody": m.body, **delay} for m in new])


async def send(
    connection: Connection, ledger: Ledger, queue: str, messages: Sequence[Message], entries: Sequence[dict[str, Any]]
) -> None:
    if len(messages) == 1:
        answer = await connection.call("SendMessage", QueueUrl=URL + queue, **entries[0])
        ledger.acknowledged(messages[0], answer, time.monotonic())
        return
    named = [{"Id": str(n), **entry} for n, entry in enumerate(entries)]
    answer = await connection.call("SendMessageBatch", QueueUrl=URL + queue, Entries=named)
    for entry in answer["Successful"]:
        ledger.acknowledged(messages[int(entry["Id"])], entry, time.monotonic())


class FifoProducer(Worker):
    """Sends to a few groups, in order; what was not answered is sent again under the same deduplication id."""

    def __init__(self, ledger: Ledger, seed: str, queue: str, groups: Sequence[str]) -> None:
        super().__init__(ledger, seed)
        self._queue = queue
        self._groups = groups
        self._sending: list[Message] = []
        self._sent: list[Message] = []

    async def run(self, connection: Connection) -> None:
        while True:
            if not self._sending:
                self._sending = self._new()
            if not self._sending:
                await connection.pause()
                continue
            await self._send(connection, self._sending)
            self._sent = (self._sent + self._sending)[-100:]
            self._sending = []
            recent = [m for m in self._sent if time.monotonic() - m.sent_s < DEDUPLICATION_S]
            if recent and self.chance.random() < 0.2:
                await self._send(connection, [self.chance.choice(recent)])

    def _new(self) -> list[Message]:
        groups = [g for g in self._groups if self.ledger.waiting(self._queue, g) < WAITING_MESSAGES]
        chosen = self.chance.choices(groups, k=self.chance.choice((1, 1, 3, 10))) if groups else []
        return [self.ledger.new(self._queue, group, self.filler_chars() // 10) for group in chosen]

    async def _send(self, connection: Connection, messages: Sequence[Message]) -> None:
        entries = [
            {"MessageBody": m.body, "MessageGroupId": m.group, "MessageDeduplicationId": m.token} for m in messages
        ]
        await send(connection, self.ledger, self._queue, messages, entries)


class Consumer(Worker):
    """Receives and deletes, or gives back, or lets the time run out."""

    def __init__(self, ledger: Ledger, seed: str, queue: str) -> None:
        super().__init__(ledger, seed)
        self._queue = queue
        self._is_fifo = queue.endswith(".fifo")
        # A FIFO queue refuses a handle that was overtaken, but cannot once the message is a dead letter.
        self._is_strict = self._is_fifo and queue not in DEAD_LETTERS
        self._attempt: dict[str, Any] | None = None  # a receive that was not answered

    async def run(self, connection: Connection) -> None:
        while True:
            fate = self.chance.choices(("delete", "some", "peek", "leave"), (60, 15, 10, 15))[0]
            asked_s = time.monotonic()
            found, visibility_s = await self._receive(connection, {"peek": 0, "leave": 1}.get(fate, WORK_S))
            until_s = asked_s + visibility_s
            messages = self.ledger.received(self._queue, found, visibility_s, asked_s, time.monotonic())
            handles = [message["ReceiptHandle"] for message in found]
            if not messages:
                await connection.pause()
            elif fate == "delete":
                await self._delete_all(connection, messages, handles, until_s)
            elif fate == "some":
                place = self.chance.randrange(len(messages) + 1)
                for message, handle in zip(messages[:place], handles[:place], strict=True):
                    await self._delete(connection, message, handle, until_s)
                for message, handle in zip(messages[place:], handles[place:], strict=True):
                    self.ledger.given_back(message)
                    await self._give_back(connection, handle)

    async def _receive(self, connection: Connection, visibility_s: int) -> tuple[list[dict[str, Any]], int]:
        """What came, and the visibility timeout with which it was asked for."""
        asked = self._attempt or {
            "MaxNumberOfMessages": self.chance.randint(1, 10),
            "VisibilityTimeout": visibility_s,
            "WaitTimeSeconds": self.chance.choice((0, 0, 1)),
        }
        if self._is_fifo and self._attempt is None:
            asked["ReceiveRequestAttemptId"] = f"{self.chance.getrandbits(64):x}"
            self._attempt = asked
        answer = await connection.call("ReceiveMessage", QueueUrl=URL + self._queue, **NAMES, **asked)
        self._attempt = None
        return answer.get("Messages", []), asked["VisibilityTimeout"]

    async def _delete_all(
        self, connection: Connection, messages: Sequence[Message], handles: Sequence[str], until_s: float
    ) -> None:
        entries = [{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(handles)]
        self.ledger.delete_asked(messages)
        try:
            answer = await connection.call("DeleteMessageBatch", QueueUrl=URL + self._queue, Entries=entries)
        except Broken:
            self.ledger.unanswered(messages, time.monotonic())
            raise
        now_s = time.monotonic()
        for entry in answer.get("Successful", ()):
            self.ledger.deleted(messages[int(entry["Id"])], now_s, certain=self._is_strict or now_s < until_s)
        for entry in answer.get("Failed", ()):
            self._refused(messages[int(entry["Id"])], entry["Message"])

    async def _delete(self, connection: Connection, message: Message, handle: str, until_s: float) -> None:
        self.ledger.delete_asked([message])
        try:
            await connection.call("DeleteMessage", QueueUrl=URL + self._queue, ReceiptHandle=handle)
        except Broken:
            self.ledger.unanswered([message], time.monotonic())
            raise
        except Refused as refusal:
            self._refused(message, refusal.message)
        else:
            now_s = time.monotonic()
            self.ledger.deleted(message, now_s, certain=self._is_strict or now_s < until_s)

    def _refused(self, message: Message, reason: str) -> None:
        if not self._is_fifo or "expired" not in reason:
            raise Violation(f"the delete of {message.token} was refused: {reason}")
        self.ledger.kept(message)

    async def _give_back(self, connection: Connection, handle: str) -> None:
        with contextlib.suppress(Refused):  # its time had run out
            await connection.call(
                "ChangeMessageVisibility", QueueUrl=URL + self._queue, ReceiptHandle=handle, VisibilityTimeout=0
            )

    async def drain(self, connection: Connection) -> None:
        """Receives and deletes until nothing is left, not even in flight."""
        while await count(connection, self._queue):
            asked_s = time.monotonic()
            answer = await connection.call(
                "ReceiveMessage",
                QueueUrl=URL + self._queue,
                MaxNumberOfMessages=10,
                VisibilityTimeout=DRAIN_S,
                WaitTimeSeconds=1,
                **NAMES,
            )
            found = answer.get("Messages", [])
            messages = self.ledger.received(self._queue, found, DRAIN_S, asked_s, time.monotonic())
            if messages:
                handles = [message["ReceiptHandle"] for message in found]
                await self._delete_all(connection, messages, handles, asked_s + DRAIN_S)


class Owner(Worker):
    """Makes, changes, purges and deletes queues, one thing after the other."""

    def __init__(self, ledger: Ledger, seed: str) -> None:
        super().__init__(ledger, seed)
        self._number = 0
        self._may: dict[str, set[Any]] = {"VisibilityTimeout": {None}, "tag": {None}, "purged": {0}}
        self._queues: dict[str, set[bool]] = {}  # is it there?

    async def run(self, connection: Connection) -> None:
        await connection.call("CreateQueue", QueueName="owned")
        while True:
            self._number += 1
            number = str(self._number % 43_200)
            await self._change(
                connection, "VisibilityTimeout", number, "SetQueueAttributes", Attributes={"VisibilityTimeout": number}
            )
            await self._change(connection, "tag", number, "TagQueue", Tags={"number": number})
            entries = [{"Id": str(n), "MessageBody": "to be purged"} for n in range(5)]
            await self._change(connection, "purged", 5, "SendMessageBatch", Entries=entries)
            await self._change(connection, "purged", 0, "PurgeQueue")
            name = f"made-{self._number}"
            self._queues[name] = {False, True}
            await connection.call("CreateQueue", QueueName=name, tags={"of": name})
            self._queues[name] = {True}
            if self.chance.random() < 0.8:
                self._queues[name] = {False, True}
                await connection.call("DeleteQueue", QueueUrl=URL + name)
                self._queues[name] = {False}

    async def _change(self, connection: Connection, what: str, to: Any, operation: str, **members: Any) -> None:
        self._may[what].add(to)
        await connection.call(operation, QueueUrl=URL + "owned", **members)
        self._may[what] = {to}

    async def check(self, connection: Connection) -> None:
        """After a restart: what was acknowledged holds, and nothing is half done."""
        try:
            shown = await connection.call("GetQueueAttributes", QueueUrl=URL + "owned", AttributeNames=["All"])
        except Refused:
            if self._number == 0:
                return
            raise
        tags = (await connection.call("ListQueueTags", QueueUrl=URL + "owned")).get("Tags", {})
        is_ = {
            "VisibilityTimeout": shown["Attributes"]["VisibilityTimeout"],
            "tag": tags.get("number"),
            "purged": sum(int(shown["Attributes"][name]) for name in COUNTS),
        }
        for what, value in is_.items():
            if value not in self._may[what] and None not in self._may[what]:
                raise Violation(f"{what} is {value} and should be one of {self._may[what]}")
            self._may[what] = {value}
        if is_["purged"]:
            await connection.call("PurgeQueue", QueueUrl=URL + "owned")
            self._may["purged"] = {0}
        listed = await connection.call("ListQueues", QueueNamePrefix="made-")
        names = {url.rpartition("/")[2] for url in listed.get("QueueUrls", ())}
        for name, may in list(self._queues.items()):
            if (name in names) not in may:
                raise Violation(f"{name} is {'there' if name in names else 'not there'} and should not be")
            if name in names:
                tags = (await connection.call("ListQueueTags", QueueUrl=URL + name)).get("Tags", {})
                if tags != {"of": name}:
                    raise Violation(f"{name} was made without its tags")
                await connection.call("DeleteQueue", QueueUrl=URL + name)
            del self._queues[name]


async def count(connection: Connection, queue: str) -> int:
    shown = await connection.call("GetQueueAttributes", QueueUrl=URL + queue, AttributeNames=COUNTS)
    return sum(map(int, shown["Attributes"].values()))


class Run:
    """A directory, its clients, and what they were told."""

    def __init__(self, directory: Path, log: Path, sync: str, seed: int) -> None:
        self._options = ("--data", str(directory), "--sync", sync)
        self._log = log
        self.ledger = ledger = Ledger(DEAD_LETTERS)
        self._chance = random.Random(seed)
        self._owner = Owner(ledger, f"{seed} owner")
        self._consumers = [
            Consumer(ledger, f"{seed} consumer {queue} {n}", queue)
            for queue in QUEUES
            for n in range(1 if "dead" in queue else 2)
        ]
        self._workers = [
            self._owner,
            *self._consumers,
            Producer(ledger, f"{seed} producer", "work"),
            Producer(ledger, f"{seed} another", "plain"),
            FifoProducer(ledger, f"{seed} in order", "order.fifo", ["a", "b"]),
            FifoProducer(ledger, f"{seed} in order, too", "order.fifo", ["c", "d"]),
            FifoProducer(ledger, f"{seed} tries", "tries.fifo", ["e", "f", "g"]),
        ]

    async def kill_while_starting(self) -> None:
        with Sidecar(*self._options, log=self._log):
            await asyncio.sleep(self._chance.uniform(0, 0.25))

    async def kill_under_load(self, *, heavy: bool) -> None:
        after_s = self._chance.uniform(1.0, 3.0) if heavy else self._chance.uniform(0.01, 0.4)
        with self._sidecar() as sidecar:
            await self._check(sidecar)
            tasks = [asyncio.create_task(self._work(worker, sidecar, heavy)) for worker in self._workers]
            asyncio.get_running_loop().call_later(after_s, sidecar.process.kill)
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, worker: Worker, sidecar: Sidecar, heavy: bool) -> None:
        worker.heavy = heavy
        with contextlib.suppress(Broken):
            async with Connection.to(sidecar) as connection:
                await worker.run(connection)

    @contextlib.contextmanager
    def _sidecar(self) -> Iterator[Sidecar]:
        with Sidecar(*self._options, log=self._log) as sidecar:
            yield sidecar.ready()

    async def prepare(self) -> None:
        with self._sidecar() as sidecar:
            async with Connection.to(sidecar) as connection:
                for name in QUEUES:
                    attributes = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
                    if dead := DEAD_LETTERS.get(name):
                        arn = f"arn:aws:sqs:us-east-1:000000000000:{dead}"
                        policy = {"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVE_COUNT}
                        attributes["RedrivePolicy"] = orjson.dumps(policy).decode()
                    await connection.call("CreateQueue", QueueName=name, Attributes=attributes)

    async def _check(self, sidecar: Sidecar) -> None:
        async with Connection.to(sidecar) as connection:
            await self._owner.check(connection)
            for queue in SOURCES:
                there = await count(connection, queue)
                if queue in DEAD_LETTERS:
                    there += await count(connection, DEAD_LETTERS[queue])
                least, most = self.ledger.bounds(queue)
                if not least <= there <= most:
                    raise Violation(f"{queue} holds {there} messages, by the ledger {least} to {most}")

    async def last_look(self) -> None:
        """Receives and deletes everything; then there is nothing, also after an orderly end."""
        with self._sidecar() as sidecar:
            await self._check(sidecar)

            async def drain(consumer: Consumer) -> None:
                async with Connection.to(sidecar) as connection:
                    await consumer.drain(connection)

            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.gather(*map(drain, self._consumers))
                # The last look at a source may have moved something to its dead-letter queue.
                await asyncio.gather(*map(drain, self._consumers))
            if missing := self.ledger.missing():
                raise Violation(f"{len(missing)} messages are lost: {missing[:20]}")
            assert sidecar.stop() == 0
        with self._sidecar() as sidecar:
            async with Connection.to(sidecar) as connection:
                for queue in QUEUES:
                    assert await count(connection, queue) == 0
        assert "Traceback" not in sidecar.log()


@pytest.mark.parametrize(
    ("sync", "kills"),
    [
        ("full", 3),
        pytest.param("full", 100, marks=pytest.mark.slow),
        pytest.param("normal", 40, marks=pytest.mark.slow),
    ],
)
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, sync: str, kills: int) -> None:
    seed = seed_of_this_run()

    async def main() -> Run:
        run = Run(tmp_path / "data", tmp_path / "log", sync, seed)
        chance = random.Random(f"{seed} rounds")
        await run.prepare()
        for number in range(1, kills + 1):
            if chance.random() < 0.1:
                await run.kill_while_starting()
            else:
                await run.kill_under_load(heavy=number % 10 == 0)
        await run.last_look()
        return run

    seen = asyncio.run(main()).ledger.seen
    print(dict(seen))
    assert seen["sends"] > 10 * kills
    assert seen["deletes"] > 10 * kills


def test_a_move_task_goes_on_after_kill_9(tmp_path: Path) -> None:
    chance = random.Random(seed_of_this_run())
    options = ("--data", tmp_path / "data")
    bodies = [f"{number:04}" for number in range(2000)]
    arn = "arn:aws:sqs:us-east-1:000000000000:"
    with Sidecar(*options, log=tmp_path / "log").ready() as sidecar, sidecar.client() as client:
        dead, target = client.queue("dead"), client.queue("target")
        client.queue(
            "source", RedrivePolicy=orjson.dumps({"deadLetterTargetArn": arn + "dead", "maxReceiveCount": 1}).decode()
        )
        for at in range(0, len(bodies), 10):
            entries = [{"Id": body, "MessageBody": body} for body in bodies[at : at + 10]]
            client.call("SendMessageBatch", QueueUrl=dead, Entries=entries)
        client.call("StartMessageMoveTask", SourceArn=arn + "dead", DestinationArn=arn + "target")
        time.sleep(chance.uniform(0, 0.1))
        sidecar.kill()
    for _ in range(2):
        with Sidecar(*options, log=tmp_path / "log").ready() as sidecar:
            time.sleep(chance.uniform(0, 0.05))
            sidecar.kill()
    with Sidecar(*options, log=tmp_path / "log").ready() as sidecar, sidecar.client() as client:
        deadline_s = time.monotonic() + TIMEOUT_S
        while (task := client.call("ListMessageMoveTasks", SourceArn=arn + "dead")["Results"][0])[
            "Status"
        ] == "RUNNING":
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        assert (task["Status"], task["ApproximateNumberOfMessagesMoved"]) == ("COMPLETED", len(bodies))
        assert sorted(client.take_all(target)) == bodies
        assert client.count(dead) == 0
    assert "Traceback" not in sidecar.log()

"""Long runs of the idempotent consumer, the outbox and the saga: processes that are killed with -9 again and again, on
the sidecar's `bad-day`. Each effect must have happened exactly once.

The rule: what counts is written by who has the effect (a table of its own, or a FIFO queue), never by the pattern.
A run has workers of its own; one of them is killed whenever so much more is done, and another one takes its place.
They are forked from a process that has read its imports, or a quick run would do little else. In a quick run the
sidecar's time goes faster. The seed is printed; SIM_SEED runs it again, as far as processes can be.
RUN_TOTAL makes the whole runs smaller.
Ugly: workers share two SQLite files. They are not synced, because a killed process does not lose what it has written.
"""

from __future__ import annotations

import itertools
import json
import logging
import multiprocessing
import os
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, closing
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Self

import aiosqlite
import anyio
import boto3
import pytest
from botocore.config import Config
from sidecar import Sidecar, Wire, http_request, json_request, seed_of_this_run

from patterns import (
    BatchConsumer,
    BatchProducer,
    Boto3Sqs,
    ConsumerPolicy,
    Fixed,
    IdempotencyPolicy,
    Idempotent,
    Inbox,
    InThreads,
    Message,
    Orchestrator,
    Outbox,
    ProducerPolicy,
    Recovered,
    Refused,
    Relay,
    RelayPolicy,
    RetryPolicy,
    Saga,
    SqliteRecords,
    SqlSagas,
    SqsTarget,
    Step,
    StepCall,
    by_body,
    create_tables,
    fifo_entry,
)
from patterns.outbox import AioSqlite, SqliteInThread

WORKERS = 2
KEYS = 200
LIMIT_S = 3600
QUIET_S = 3.0  # duplicates of `bad-day` come two seconds late, by the sidecar's time
QUICK_SPEED = 10
SHOWN_EVERY_S = 5.0
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["aiosqlite", "boto3", "patterns", "pytest"])
PRAGMAS = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = OFF", "PRAGMA busy_timeout = 60000")

EFFECTS = "CREATE TABLE IF NOT EXISTS effects (at INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, number INTEGER)"
NOTES = "CREATE TABLE IF NOT EXISTS notes (what TEXT)"


def consumer_policy(run: Mapping[str, Any]) -> ConsumerPolicy:
    return ConsumerPolicy(
        concurrency=20,
        prefetch=20,
        handler_timeout_s=2 * run["patience_s"],
        visibility_s=max(4, 2 * round(run["patience_s"])),  # by the sidecar's time
        wait_s=1,
        backoff=Fixed(1),
        max_receives=10_000,
        call_attempts=10_000,
    )


RETRY = RetryPolicy(Fixed(0.05), attempts=1000)

# What a worker does -------------------------------------------------------------------------------


def client(url: str, **options: Any) -> Any:
    """Nothing of the machine's configuration, and no retries but the pattern's."""
    config = Config(
        retries={"total_max_attempts": 1},
        read_timeout=10,
        max_pool_connections=50,
        parameter_validation=False,
        **options,
    )
    keys = {"aws_access_key_id": "worker", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    return boto3.client("sqs", endpoint_url=url, config=config, **keys)


async def opened(path: str) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(path, isolation_level=None, timeout=60)
    for pragma in PRAGMAS:
        await connection.execute(pragma)
    return connection


def in_thread(path: str) -> SqliteInThread:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60)
    for pragma in PRAGMAS:
        connection.execute(pragma)
    return SqliteInThread(connection)


async def produce(run: Mapping[str, Any]) -> None:
    target = SqsTarget(InThreads(client(run["url"])), run["queue"])
    async with BatchProducer(target, ProducerPolicy(retry=RETRY, unanswered=500)) as producer:
        for number in range(run["total"]):
            await producer.put({"MessageBody": f"payment {number}"})


async def pay(run: Mapping[str, Any]) -> None:
    """The idempotent consumer. The bank has one table; it does not refuse to be paid twice."""
    bank, records = await opened(run["world"]), SqliteRecords(await opened(run["state"]))

    async def pay_now(message: Message) -> str:
        number = int(message.body.split()[1])
        await bank.execute("INSERT INTO effects (key, number) VALUES (?, ?)", (by_body(message), number))
        await anyio.sleep(0.02)  # where a crash leaves it in doubt
        return f"receipt {number}"

    async def was_it_paid(key: str) -> Recovered | None:
        for (number,) in await bank.execute_fetchall("SELECT number FROM effects WHERE key = ?", (key,)):
            await bank.execute("INSERT INTO notes VALUES ('had happened before a crash')")
            return Recovered(f"receipt {number}")
        await bank.execute("INSERT INTO notes VALUES ('had not happened before a crash')")
        return None

    policy = IdempotencyPolicy(handler_timeout_s=run["patience_s"], lease_s=2 * run["patience_s"])
    idempotent = Idempotent(records, pay_now, by_body, policy, recover=was_it_paid)
    await BatchConsumer(
        Boto3Sqs(client(run["url"]), run["queue"]), idempotent, consumer_policy(run), on_event=no_news
    ).run()


def no_news(*_: object) -> None:
    """A bad day is told in too many warnings."""


async def relay(run: Mapping[str, Any]) -> None:
    target = SqsTarget(InThreads(client(run["url"])), run["queue"])
    policy = RelayPolicy(poll_s=0.2, lease_s=run["patience_s"], backoff=Fixed(0.2), window=2000)
    await Relay(in_thread(run["state"]), Outbox(), target, fifo_entry, policy).run()


async def receive(run: Mapping[str, Any]) -> None:
    """The inbox's row and the effect are one transaction."""
    world, inbox, writing = await opened(run["world"]), Inbox(), anyio.Lock()

    async def handle(message: Message) -> None:
        key, number = message.body.split()
        async with writing:
            with anyio.CancelScope(shield=True):
                await world.execute("BEGIN IMMEDIATE")
                cursor = await world.execute(*inbox.row(message.body))
                if cursor.rowcount:
                    await world.execute("INSERT INTO effects (key, number) VALUES (?, ?)", (key, int(number)))
                else:
                    await world.execute("INSERT INTO notes VALUES ('came again')")
                await world.execute("COMMIT")

    consumer = BatchConsumer(Boto3Sqs(client(run["url"]), run["queue"]), handle, consumer_policy(run), on_event=no_news)
    await consumer.run()


def trip(run: Mapping[str, Any]) -> Saga:
    """Each step's effect is a message in a FIFO queue, which knows a step by its key."""
    sqs = InThreads(client(run["url"]), calls=20)

    def tell(what: str) -> Callable[[StepCall], Awaitable[str]]:
        async def told(call: StepCall) -> str:
            if what == "charge" and call.data % 10 == 3:
                raise Refused("no money")
            ids = {"MessageGroupId": f"group {call.data % KEYS}".replace(" ", "-")}
            ids["MessageDeduplicationId"] = call.key.replace("/", "-")
            await sqs.send_message(QueueUrl=run["queue"], MessageBody=f"{call.saga_id} {what}", **ids)
            return what

        return told

    steps = [
        Step("book", tell("book"), tell("cancel"), timeout_s=run["patience_s"], retry=RETRY),
        Step("charge", tell("charge"), tell("refund"), timeout_s=run["patience_s"], retry=RETRY),
        Step("tickets", tell("tickets"), timeout_s=run["patience_s"], retry=RETRY),
    ]
    return Saga("trip", steps)


async def orchestrate(run: Mapping[str, Any]) -> None:
    store = SqlSagas(AioSqlite(await opened(run["state"])))
    now_ms = saga_clock(run["speed"])
    await Orchestrator(store, [trip(run)], concurrency=40, poll_s=0.05, now_ms=now_ms).work()


def saga_clock(speed: int) -> Callable[[], int]:
    """Sagas of a worker that was killed rest for seconds of it."""
    return lambda: int(time.time() * 1000 * speed)


ROLES = {role.__name__: role for role in (produce, pay, relay, receive, orchestrate)}


def work(role: str, run: Mapping[str, Any], log: str) -> None:
    """A worker's main."""
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update({"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull})
    logging.getLogger("patterns").setLevel(logging.ERROR)
    anyio.run(ROLES[role], run)


# The run ------------------------------------------------------------------------------------------


class Run:
    """A sidecar on a bad day, workers that are killed, and what they have done."""

    def __init__(self, directory: Path, total: int, crashes: int, name: str) -> None:
        self.total, self.crashes, self.name = total, crashes, name
        is_quick = total < 1000
        self.speed = QUICK_SPEED if is_quick else 1
        self.patience_s = 0.3 if is_quick else 5  # of leases and timeouts: a crash costs twice of it
        self.seed = seed_of_this_run()
        self.chance = random.Random(self.seed)
        self.directory = directory
        self.world = str(directory / "world.db")
        self.state = str(directory / "state.db")
        self.queue = ""
        self.url = ""
        self._workers: list[tuple[str, ForkServerProcess]] = []
        self._killed = 0
        self._began_s = self._shown_s = time.monotonic()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            options = ("--data", self.directory / "data", "--sync", "normal")
            self.sidecar = stack.enter_context(Sidecar(*options, log=self.directory / "log")).ready()
            stack.callback(self._end)
            self._stack = stack.pop_all()
        self.url = self.sidecar.url
        self.control("POST", "clock", {"speed": self.speed})
        with closing(sqlite3.connect(self.world)) as connection:
            for statement in (*PRAGMAS, EFFECTS, NOTES):
                connection.execute(statement)
        return self

    def __exit__(self, *failure: Any) -> None:
        self._stack.__exit__(*failure)

    def _end(self) -> None:
        for _, worker in self._workers:
            worker.kill()
            worker.join()

    def call(self, operation: str, **members: Any) -> Any:
        """Past the plan: it strikes at what moves messages."""
        with self.sidecar.client() as admin:
            admin.write(json_request(operation, members))
            return admin.answer()

    def create_queue(self, name: str) -> None:
        fifo = {"FifoQueue": "true", "FifoThroughputLimit": "perMessageGroupId", "DeduplicationScope": "messageGroup"}
        attributes = fifo if name.endswith(".fifo") else {}
        self.queue = self.call("CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"]

    def plan(self, method: str) -> Any:
        return self.control(method, "faults", {"profile": "bad-day", "seed": self.seed} if method == "PUT" else None)

    def control(self, method: str, page: str, given: Any) -> Any:
        body = b"" if given is None else json.dumps(given).encode()
        with Wire(self.sidecar.host, self.sidecar.port) as wire:
            wire.write(http_request(method, f"/_sidebus/{page}", {}, body))
            answer = wire.read()
        assert answer is not None
        assert answer.status == 200, answer.body
        return json.loads(answer.body) if answer.body else {}

    def start(self, role: str) -> None:
        given = {
            "url": self.url,
            "queue": self.queue,
            "world": self.world,
            "state": self.state,
            "total": self.total,
            "patience_s": self.patience_s,
            "speed": self.speed,
        }
        worker = FORKS.Process(target=work, args=(role, given, str(self.directory / f"{role}.log")), daemon=True)
        worker.start()
        self._workers.append((role, worker))

    def count(self, table: str = "effects") -> int:
        with closing(sqlite3.connect(self.world, timeout=60)) as connection:
            found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found

    def is_drained(self) -> bool:
        names = [f"ApproximateNumberOfMessages{end}" for end in ("", "NotVisible", "Delayed")]
        shown = self.call("GetQueueAttributes", QueueUrl=self.queue, AttributeNames=names)
        return not any(int(value) for value in shown["Attributes"].values())

    def go(self, killed: tuple[str, ...], done: Callable[[], int], of: int, is_over: Callable[[], bool]) -> None:
        """Kills one of these roles whenever another part is done, until it is over and stays so."""
        over_since_s, quiet_s = None, QUIET_S / self.speed
        while over_since_s is None or time.monotonic() - over_since_s < quiet_s:
            now_s = time.monotonic()
            assert now_s - self._began_s < LIMIT_S / self.speed, "it does not come to an end"
            self._look_after(killed)
            count = done()
            if now_s - self._shown_s >= SHOWN_EVERY_S:
                self._shown_s = now_s
                print(
                    f"{self.name}: {now_s - self._began_s:4.0f} s, {count} of {of}, {self._killed} killed", flush=True
                )
            if self._killed < self.crashes and count >= of * (self._killed + 1) / (self.crashes + 1):
                time.sleep(self.chance.uniform(0, 0.05))
                self._kill(killed)
            over_since_s = (over_since_s or now_s) if count >= of and is_over() else None
            time.sleep(0.02)
        assert self._killed == self.crashes
        took_s = time.monotonic() - self._began_s - quiet_s
        struck = {rule["name"]: rule["struck"] for rule in self.plan("GET")["rules"] if rule["struck"]}
        with closing(sqlite3.connect(self.world, timeout=60)) as connection:
            notes = dict(connection.execute("SELECT what, count(*) FROM notes GROUP BY what"))
        print(f"{self.name}: {of} in {took_s:.0f} s, {self._killed} killed; struck: {struck}; {notes}", flush=True)
        self.struck = Counter(struck)
        self.plan("DELETE")

    def _kill(self, roles: tuple[str, ...]) -> None:
        role, worker = self.chance.choice([one for one in self._workers if one[0] in roles])
        worker.kill()
        worker.join()
        self._workers.remove((role, worker))
        self._killed += 1
        self.start(role)

    def _look_after(self, roles: tuple[str, ...]) -> None:
        for role, worker in self._workers:
            code = worker.exitcode
            if code is not None:
                log = (self.directory / f"{role}.log").read_text(errors="replace")[-3000:]
                assert code == 0, f"{role} ended with {code}: {log}"
                assert role not in roles, f"{role} has ended: {log}"

    def effects(self) -> list[tuple[str, int]]:
        with closing(sqlite3.connect(self.world)) as connection:
            return connection.execute("SELECT key, number FROM effects ORDER BY at").fetchall()


SIZES = pytest.mark.parametrize(
    ("total", "crashes"),
    [(100, 2), pytest.param(int(os.environ.get("RUN_TOTAL", 100_000)), 20, marks=pytest.mark.slow)],
    ids=["quick", "whole"],
)


@SIZES
def test_the_idempotent_consumer_pays_each_payment_once(tmp_path: Path, total: int, crashes: int) -> None:
    with Run(tmp_path, total, crashes, "idempotent consumer") as run:
        run.create_queue("payments")

        async def prepare() -> None:
            connection = await opened(run.state)
            await SqliteRecords(connection).create_table()
            await connection.close()

        anyio.run(prepare)
        run.plan("PUT")
        for role in ("produce", *("pay",) * WORKERS):
            run.start(role)
        run.go(("pay",), run.count, total, run.is_drained)
        assert Counter(number for _, number in run.effects()) == dict.fromkeys(range(total), 1)


@SIZES
def test_the_outbox_and_the_inbox_bring_each_row_once_and_in_order(tmp_path: Path, total: int, crashes: int) -> None:
    keys = min(KEYS, total // 5)
    rows = [(f"key-{number % keys}", number // keys) for number in range(total)]
    with Run(tmp_path, total, crashes, "outbox") as run:
        run.create_queue("outbox.fifo")
        outbox = Outbox()
        anyio.run(create_tables, in_thread(run.state), outbox)
        anyio.run(create_tables, in_thread(run.world), Inbox())
        with closing(sqlite3.connect(run.state)) as connection:
            for start in range(0, total, 500):
                for key, number in rows[start : start + 500]:
                    connection.execute(*outbox.row(f"{key} {number}", key=key))
                connection.commit()
                connection.execute(*outbox.row("key-0 rolled-back", key="key-0"))
                connection.rollback()
        run.plan("PUT")
        for role in ("relay", "receive") * WORKERS:
            run.start(role)
        run.go(("relay", "receive"), run.count, total, run.is_drained)
        effects = run.effects()
        assert Counter(effects) == dict.fromkeys(rows, 1)
        for key, of_key in itertools.groupby(sorted(effects, key=lambda effect: effect[0]), lambda effect: effect[0]):
            numbers = [number for _, number in of_key]
            assert numbers == sorted(numbers), key


@SIZES
def test_sagas_come_to_their_end_and_tell_each_step_once(tmp_path: Path, total: int, crashes: int) -> None:
    sagas = max(1, total * 10 // 29)  # nine of ten tell three things, the tenth two
    with Run(tmp_path, total, crashes, "saga") as run:
        run.create_queue("sagas.fifo")

        async def prepare() -> None:
            store = SqlSagas(in_thread(run.state))
            await store.create_table()
            known = trip({"url": run.url, "queue": run.queue, "patience_s": 1})
            orchestrator = Orchestrator(store, [known], now_ms=saga_clock(run.speed))
            for number in range(sagas):
                await orchestrator.start("trip", number, f"trip-{number}")

        anyio.run(prepare)
        run.plan("PUT")
        for _ in range(WORKERS):
            run.start("orchestrate")

        def ended() -> int:
            with closing(sqlite3.connect(run.state, timeout=60)) as connection:
                return int(connection.execute("SELECT count(*) FROM sagas WHERE due_ms IS NULL").fetchone()[0])

        run.go(("orchestrate",), ended, sagas, lambda: True)
        told: dict[str, list[str]] = {}
        for body in taken(run):
            saga_id, what = body.split()
            told.setdefault(saga_id, []).append(what)
        for number in range(sagas):
            refused, refused_after_a_crash = ["book", "cancel"], ["book", "refund", "cancel"]  # in doubt is undone
            expected = (refused, refused_after_a_crash) if number % 10 == 3 else (["book", "charge", "tickets"],)
            assert told[f"trip-{number}"] in expected, number
        assert len(told) == sagas


def taken(run: Run) -> list[str]:
    """All that is in the queue, without faults."""
    bodies: list[str] = []
    with run.sidecar.client() as admin:
        while found := admin.call("ReceiveMessage", QueueUrl=run.queue, MaxNumberOfMessages=10).get("Messages"):
            bodies += [message["Body"] for message in found]
            entries = [{"Id": str(at), "ReceiptHandle": one["ReceiptHandle"]} for at, one in enumerate(found)]
            assert "Failed" not in admin.call("DeleteMessageBatch", QueueUrl=run.queue, Entries=entries)
    return bodies

"""Each pattern against a real `sidebus serve` that misbehaves by plan, through boto3: duplicates, disorder, lost
acknowledgements, batches that fail in part, throttling, resets, resharding, expired iterators, a clock that jumps.

Every rule of a test's plan must have struck by its end, or the test shows nothing. A rule strikes at each n-th chance;
what is left to chance comes from a seed that is printed, and given with SIM_SEED. All share a server, each test has an
account of its own; the server's time goes faster than ours, so that visibility timeouts and long polls take no time.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import random
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from patterns import (
    BatchConsumer,
    BatchProducer,
    Boto3Sqs,
    Bulkhead,
    Choreography,
    CircuitBreaker,
    CircuitOpen,
    CircuitPolicy,
    ClaimCheck,
    ClaimCheckPolicy,
    ClaimCheckSqs,
    ConsumerPolicy,
    Contract,
    DeadLetters,
    DynamoDbLeases,
    Fixed,
    FolderBlobs,
    HeldLease,
    HotKeyPolicy,
    IdempotencyPolicy,
    Idempotent,
    Inbox,
    InThreads,
    Keep,
    KeyReader,
    KeyWriter,
    KinesisTarget,
    LeaseKeeper,
    LeasePolicy,
    MemoryRecords,
    MemorySagas,
    Message,
    Orchestrator,
    Outbox,
    ProducerPolicy,
    Quarantine,
    RateLimiter,
    Reaction,
    Relay,
    RelayPolicy,
    Requester,
    Responder,
    RetryPolicy,
    Saga,
    Send,
    ShardReader,
    Shards,
    SqsTarget,
    Step,
    StepCall,
    by_body,
    create_tables,
    entry_of,
    error_of,
    fifo_entry,
    kinesis_record,
    queue_entry,
    retry,
)
from patterns.contracts import Document
from patterns.event_source import Function, record_by_record
from patterns.fair_scheduling import FairConsumer, FairPolicy
from patterns.outbox import SqliteInThread
from patterns.queue_event_source import SqsEventSource, SqsSourcePolicy
from patterns.saga import What
from patterns.stream_batches import KinesisSourcePolicy, StartingPosition
from patterns.stream_event_source import KinesisEventSource
from patterns.topologies import Subscription, fan_out
from patterns.topology_parts import Report, Site

LIMIT_S = 30
SPEED = 20
Rule = dict[str, Any]
RETRY = RetryPolicy(Fixed(0.005), attempts=50)
CONSUMER = ConsumerPolicy(
    concurrency=4,
    prefetch=2,
    handler_timeout_s=5,
    visibility_s=2,
    wait_s=0,
    backoff=Fixed(0),
    max_receives=1000,
    call_attempts=50,
)


def impatient() -> float:
    """The chance that backoffs are drawn from."""
    return 0.05


def batched(operation: str) -> list[str]:
    return [operation, f"{operation}Batch"]


# What is in hand when it strikes is there again. More often, and it would be before any deletion.
JUMPS: Rule = {"fault": "jump", "by": "3s", "operation": "ReceiveMessage", "every": 2, "count": 3}
RECEIVING: list[Rule] = [
    {"fault": "duplicate", "name": "twice", "every": 4},
    {"fault": "duplicate", "name": "back", "when": "after-delete", "delay": "100ms", "every": 5},
    {"fault": "early-visibility", "after": "200ms", "every": 7},
]
# As soon as two batches have been received and deleted, all of these have struck.
ASKING: list[Rule] = [
    {"fault": "done-not-answered", "operation": ["ReceiveMessage", "DeleteMessageBatch"], "every": 3, "count": 4},
    {"fault": "throttle", "operation": ["ReceiveMessage", "DeleteMessageBatch"], "every": 4, "count": 4},
    {"fault": "partial-batch", "operation": "DeleteMessageBatch", "count": 2},
    JUMPS,
]
SENDING: list[Rule] = [
    {"fault": "done-not-answered", "name": "sent", "operation": batched("SendMessage"), "every": 2, "count": 5},
    {"fault": "reset", "operation": batched("SendMessage"), "every": 3, "count": 5},
]
DISORDER: list[Rule] = [
    {"fault": "reorder", "window": "2s", "every": 2},
    {"fault": "late", "delay": "150ms", "every": 5},
]
STREAM: list[Rule] = [
    {"fault": "shard-throttle", "operation": "GetRecords", "every": 3},
    {"fault": "expired-iterator", "every": 3},
    {"fault": "repeat-record", "every": 5},
    {"fault": "done-not-answered", "operation": "GetRecords", "every": 4},
]


class Faulty:
    """A sidecar of our own, whose plan is ours and whose clock may jump; and boto3 clients of it."""

    def __init__(self, sidebus: Any, connect: Any) -> None:
        self._sidebus = sidebus
        self._connect = connect
        self.sqs = self.client("sqs")

    def client(self, service: str) -> Any:
        return self._connect(self._sidebus, service, max_pool_connections=30, read_timeout=10)

    def queue(self, name: str, **attributes: str) -> str:
        fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
        url: str = self.sqs.create_queue(QueueName=name, Attributes={**fifo, **attributes})["QueueUrl"]
        return url

    def fill(self, url: str, bodies: Sequence[str]) -> None:
        """In a FIFO queue a body's first letter is its group."""
        for start in range(0, len(bodies), 10):
            entries = []
            for number, body in enumerate(bodies[start : start + 10]):
                fifo = {"MessageGroupId": body[0], "MessageDeduplicationId": body} if url.endswith(".fifo") else {}
                entries.append({"Id": str(number), "MessageBody": body, **fifo})
            assert "Failed" not in self.sqs.send_message_batch(QueueUrl=url, Entries=entries)

    def is_empty(self, url: str) -> bool:
        names = [f"ApproximateNumberOfMessages{end}" for end in ("", "NotVisible", "Delayed")]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return all(count == "0" for count in found.values())

    def visible(self, url: str) -> int:
        name = "ApproximateNumberOfMessages"
        return int(self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])

    def take(self, url: str) -> list[str]:
        bodies: list[str] = []
        while messages := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            bodies += [message["Body"] for message in messages]
            for message in messages:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    @contextmanager
    def plan(self, *rules: Rule) -> Iterator[None]:
        seed = int(os.environ.get("SIM_SEED") or random.randrange(1 << 32))
        print(f"SIM_SEED={seed}")
        plan = {"seed": seed, "rule": list(rules)}
        answer = self._sidebus.request("PUT", "/_sidebus/faults", body=json.dumps(plan))
        assert answer.status == 200, answer.body
        try:
            yield
            shown = json.loads(self._sidebus.request("GET", "/_sidebus/faults").body)
        finally:
            self._sidebus.request("DELETE", "/_sidebus/faults")
        idle = [rule["name"] for rule in shown["rules"] if not rule["struck"]]
        assert not idle, f"these did not strike: {idle}"


@pytest.fixture(scope="module")
def faulty_sidebus(start_sidebus: Any) -> Any:
    sidebus = start_sidebus()
    assert sidebus.request("POST", "/_sidebus/clock", body=json.dumps({"speed": SPEED})).status == 200
    return sidebus


@pytest.fixture
def faulty(faulty_sidebus: Any, connect: Any) -> Faulty:
    return Faulty(faulty_sidebus, connect)


def played(play: Callable[[], Awaitable[None]], backend: str = "asyncio") -> None:
    async def program() -> None:
        with anyio.fail_after(LIMIT_S):
            await play()

    anyio.run(program, backend=backend)


async def until(is_over: Callable[[], bool]) -> None:
    while not await anyio.to_thread.run_sync(is_over):  # noqa: ASYNC110 nobody tells
        await anyio.sleep(0.01)


async def run_until(runs: Any, is_over: Callable[[], bool]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runs.run)
        await until(is_over)
        tasks.cancel_scope.cancel()  # `stop` would wait for the long poll to end


def first_in_order(done: Sequence[str]) -> dict[str, list[str]]:
    """By the first letter, each when it was first seen."""
    groups: dict[str, list[str]] = {}
    for body in dict.fromkeys(done):
        groups.setdefault(body[0], []).append(body)
    return groups


BODIES = [f"{group}{number:02}" for number in range(6) for group in "abc"]
IN_ORDER = first_in_order(BODIES)

# Consumers


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_batch_consumer_handles_all_of_a_standard_queue(faulty: Faulty, backend: str) -> None:
    url, done = faulty.queue(f"standard-{backend}"), Counter[str]()

    async def play() -> None:
        async def handle(message: Message) -> None:
            done[message.body] += 1

        consumer = BatchConsumer(Boto3Sqs(faulty.sqs, url), handle, CONSUMER, random=impatient)
        await run_until(consumer, lambda: len(done) == len(BODIES) and faulty.is_empty(url))

    with faulty.plan(*RECEIVING, *ASKING, *DISORDER):
        faulty.fill(url, BODIES)
        played(play, backend)
    assert set(done) == set(BODIES)
    assert done.total() > len(BODIES), "and some of it more than once"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_batch_consumer_keeps_the_order_of_groups(faulty: Faulty, backend: str) -> None:
    url, done = faulty.queue(f"ordered-{backend}.fifo"), list[str]()
    faulty.fill(url, BODIES)

    async def play() -> None:
        async def handle(message: Message) -> None:
            done.append(message.body)

        consumer = BatchConsumer(Boto3Sqs(faulty.sqs, url), handle, CONSUMER, random=impatient)
        await run_until(consumer, lambda: faulty.is_empty(url))

    early = {"fault": "early-visibility", "after": "200ms", "every": 6}
    with faulty.plan(*ASKING, early, {"fault": "stale-handle", "every": 9, "operation": "DeleteMessageBatch"}):
        played(play, backend)
    assert first_in_order(done) == IN_ORDER


def test_the_idempotent_consumer_has_each_effect_once(faulty: Faulty) -> None:
    url, effects = faulty.queue("payments"), Counter[str]()

    async def play() -> None:
        async def pay(message: Message) -> None:
            effects[message.body] += 1
            await anyio.sleep(0.01)

        pay_once = Idempotent(MemoryRecords(), pay, by_body, IdempotencyPolicy(handler_timeout_s=2))
        consumer = BatchConsumer(Boto3Sqs(faulty.sqs, url), pay_once, CONSUMER, random=impatient)
        await run_until(consumer, lambda: len(effects) == len(BODIES) and faulty.is_empty(url))

    with faulty.plan(*RECEIVING, *ASKING, *DISORDER):
        faulty.fill(url, [*BODIES, *BODIES])
        played(play)
    assert effects == dict.fromkeys(BODIES, 1)


def test_the_fair_consumer_handles_all_of_its_tenants(faulty: Faulty) -> None:
    urls, done = {group: faulty.queue(f"tenant-{group}.fifo") for group in "abc"}, list[str]()
    for group, url in urls.items():
        faulty.fill(url, [body for body in BODIES if body[0] == group])

    async def play() -> None:
        async def handle(tenant: str, message: Message) -> None:
            assert message.body[0] == tenant
            done.append(message.body)

        clients = {group: Boto3Sqs(faulty.sqs, url) for group, url in urls.items()}
        policy = FairPolicy(
            concurrency=4, prefetch=2, handler_timeout_s=5, visibility_s=2, wait_s=0, backoff=Fixed(0), call_attempts=50
        )
        consumer = FairConsumer(clients, handle, policy, random=impatient)
        await run_until(consumer, lambda: all(faulty.is_empty(url) for url in urls.values()))

    with faulty.plan(*ASKING):
        played(play)
    assert first_in_order(done) == IN_ORDER


def test_the_event_source_of_a_queue(faulty: Faulty) -> None:
    url, done = faulty.queue("events.fifo"), list[str]()
    faulty.fill(url, BODIES)

    async def play() -> None:
        failed = set[str]()

        async def handle(record: Any) -> None:
            if record["body"].endswith("5") and record["body"] not in failed:
                failed.add(record["body"])
                raise RuntimeError("not at the first time")
            done.append(record["body"])

        policy = SqsSourcePolicy(report_batch_item_failures=True, visibility_s=1, wait_s=0, call_attempts=50)
        function = Function(record_by_record(handle), timeout_s=0.5)
        source = SqsEventSource(Boto3Sqs(faulty.sqs, url), "arn:aws:sqs:us-east-1:0:events.fifo", function, policy)
        await run_until(source, lambda: faulty.is_empty(url))

    with faulty.plan(*ASKING, {"fault": "early-visibility", "after": "200ms", "every": 9}):
        played(play)
    assert first_in_order(done) == IN_ORDER


# Streams


class Stream:
    """Records of some keys, and in which order they were first seen."""

    def __init__(self, faulty: Faulty, name: str, shards: int = 1) -> None:
        self.kinesis = faulty.client("kinesis")
        self.name = name
        self.kinesis.create_stream(StreamName=name, ShardCount=shards)
        self.kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
        summary = self.kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        self.arn = summary["StreamARN"]
        self.seen: list[str] = []

    def put(self) -> None:
        for body in BODIES:
            record = {"PartitionKey": body[0], "Data": body.encode()}
            retried(partial(self.kinesis.put_record, StreamName=self.name, **record))

    @property
    def is_all_seen(self) -> bool:
        return set(self.seen) >= set(BODIES)


def retried(call: Callable[[], Any]) -> Any:
    for _ in range(50):
        try:
            return call()
        except Exception as error:
            last = error
    raise last


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_lease_consumer_sees_all_in_order(faulty: Faulty, backend: str) -> None:
    stream = Stream(faulty, f"leased-{backend}", 2)

    async def play() -> None:
        async def handle(held: HeldLease, records: Sequence[Mapping[str, Any]]) -> None:
            stream.seen.extend(record["Data"].decode() for record in records)

        store = DynamoDbLeases(InThreads(faulty.client("dynamodb")), f"leases-{backend}")
        await store.create_table()
        kinesis = InThreads(stream.kinesis)
        keepers = []
        for name in ("a", "b"):
            reader = ShardReader(kinesis, stream.name, handle, limit=3, poll_s=0.02, attempts=20, backoff=Fixed(0.01))
            policy = LeasePolicy(lease_s=0.6, handover_s=0.2, sync_s=0.1, backoff=Fixed(0.02))
            keepers.append(LeaseKeeper(store, name, Shards(kinesis, stream.name), reader, policy))
        async with anyio.create_task_group() as tasks:
            for keeper in keepers:
                tasks.start_soon(keeper.run)
            await until(lambda: stream.is_all_seen)
            for keeper in keepers:
                keeper.stop()

    rules = [
        {"fault": "error", "code": "InternalServerError", "operation": ["UpdateItem", "PutItem", "Scan"], "every": 6},
        {"fault": "reshard", "operation": "GetRecords", "count": 1},
    ]
    with faulty.plan(*STREAM, *rules):
        stream.put()
        played(play, backend)
    assert first_in_order(stream.seen) == IN_ORDER


@pytest.mark.parametrize("factor", [1, 4])
def test_the_event_source_of_a_stream(faulty: Faulty, factor: int) -> None:
    stream = Stream(faulty, f"events-{factor}")

    async def play() -> None:
        async def handler(event: Any, context: Any) -> None:
            stream.seen.extend(base64.b64decode(record["kinesis"]["data"]).decode() for record in event["Records"])

        policy = KinesisSourcePolicy(
            starting_position=StartingPosition.TRIM_HORIZON,
            batch_size=max(1, 3 // factor),
            parallelization_factor=factor,
            poll_s=0.02,
            call_attempts=50,
        )
        leases = LeasePolicy(lease_s=0.6, sync_s=0.1, backoff=Fixed(0.02))
        source = KinesisEventSource(
            InThreads(stream.kinesis), stream.arn, Function(handler), policy, leases=leases, random=impatient
        )
        await run_until(source, lambda: stream.is_all_seen)

    with faulty.plan(*STREAM, {"fault": "reshard", "operation": "GetRecords", "count": 1}):
        stream.put()
        played(play)
    assert first_in_order(stream.seen) == IN_ORDER


def test_write_sharding_puts_a_hot_key_together_again(faulty: Faulty) -> None:
    stream = Stream(faulty, "hot", 4)
    got: list[int] = []

    async def play() -> None:
        policy = ProducerPolicy(retry=RETRY)
        async with BatchProducer(KinesisTarget(InThreads(stream.kinesis), stream.name), policy) as producer:
            writer = KeyWriter(producer, HotKeyPolicy(records_per_s=5, over_s=1))
            sent = [await writer.put("hot", str(number).encode()) for number in range(100)]
        for one in sent:
            await one.outcome()

        async def handle(key: str, data: bytes) -> None:
            got.append(int(data))

        async def late(key: str, data: bytes) -> None:
            raise AssertionError

        def no_gap(gap: Any) -> None:
            raise AssertionError(gap)

        reader = KeyReader(handle, gap_s=20, on_gap=no_gap, late=late)
        for shard in stream.kinesis.list_shards(StreamName=stream.name)["Shards"]:
            position = {"ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
            iterator = stream.kinesis.get_shard_iterator(StreamName=stream.name, **position)["ShardIterator"]
            for record in stream.kinesis.get_records(ShardIterator=iterator)["Records"]:
                await reader.give(*kinesis_record(record))

    rules: list[Rule] = [
        {"fault": "shard-throttle", "operation": "PutRecords", "every": 7},
        {"fault": "repeat-record", "every": 6},
        {"fault": "done-not-answered", "operation": "PutRecords", "every": 3},
        {"fault": "partial-batch", "operation": "PutRecords", "every": 2},
    ]
    with faulty.plan(*rules):
        played(play)
    assert got == list(range(100))


# Producers


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_batch_producer_keeps_the_order_of_groups(faulty: Faulty, backend: str) -> None:
    url = faulty.queue(f"produced-{backend}.fifo")

    async def play() -> None:
        target = SqsTarget(InThreads(faulty.sqs), url)
        async with BatchProducer(target, ProducerPolicy(retry=RETRY)) as producer:
            sent = []
            for body in BODIES:
                entry = {"MessageBody": body, "MessageGroupId": body[0], "MessageDeduplicationId": body}
                sent.append(await producer.put(entry))
        for one in sent:
            assert (await one.outcome())["MessageId"]

    partial = {"fault": "partial-batch", "operation": "SendMessageBatch", "every": 2}
    with faulty.plan(*SENDING, partial, {"fault": "throttle", "operation": "SendMessageBatch", "every": 5}):
        played(play, backend)
    taken = faulty.take(url)
    assert sorted(taken) == sorted(BODIES), "each once"
    assert first_in_order(taken) == IN_ORDER


def test_the_outbox_sends_all_in_order_and_the_inbox_counts_each_once(faulty: Faulty, tmp_path: Path) -> None:
    ordered, standard = faulty.queue("outbox.fifo"), faulty.queue("outbox")
    effects = Counter[str]()
    outboxes, inbox = (Outbox("ordered"), Outbox("standard")), Inbox()

    async def play(database: SqliteInThread, connection: sqlite3.Connection) -> None:
        await create_tables(database, *outboxes, inbox)
        for body, outbox in itertools.product(BODIES, outboxes):
            connection.execute(*outbox.row(body, key=body[0]))
        policy = RelayPolicy(poll_s=0.02, backoff=Fixed(0.005))
        targets = [SqsTarget(InThreads(faulty.sqs), url) for url in (ordered, standard)]
        relays = [
            Relay(database, outbox, target, entry, policy)
            for outbox, target, entry in zip(outboxes, targets, (fifo_entry, queue_entry), strict=True)
        ]

        async def handle(message: Message) -> None:
            identifier = message.message_attributes["message_id"]["StringValue"]
            if connection.execute(*inbox.row(identifier)).rowcount:
                effects[message.body] += 1

        consumer = BatchConsumer(Boto3Sqs(faulty.sqs, standard), handle, CONSUMER, random=impatient)
        async with anyio.create_task_group() as tasks:
            for relay in relays:
                tasks.start_soon(relay.run)
            tasks.start_soon(consumer.run)
            for relay in relays:
                while (await relay.lag()).waiting:  # noqa: ASYNC110 nobody tells
                    await anyio.sleep(0.01)
                relay.stop()
            await until(lambda: len(effects) == len(BODIES) and faulty.is_empty(standard))
            tasks.cancel_scope.cancel()

    partial = {"fault": "partial-batch", "name": "part", "operation": "SendMessageBatch", "every": 2}
    with (
        closing(sqlite3.connect(tmp_path / "db", isolation_level=None, check_same_thread=False)) as connection,
        faulty.plan(*SENDING, *RECEIVING, *ASKING, *DISORDER, partial),
    ):
        played(lambda: play(SqliteInThread(connection), connection))
    taken = faulty.take(ordered)
    assert sorted(taken) == sorted(BODIES)
    assert first_in_order(taken) == IN_ORDER
    assert effects == dict.fromkeys(BODIES, 1)


def test_a_saga_goes_to_its_end_and_each_step_is_seen_once(faulty: Faulty) -> None:
    url = faulty.queue("saga.fifo")
    sagas = [f"order{number}" for number in range(6)]

    async def play() -> None:
        sqs = InThreads(faulty.sqs)

        def tells(what: str) -> Callable[[StepCall], Awaitable[None]]:
            async def tell(call: StepCall) -> None:
                ids = {"MessageGroupId": call.saga_id, "MessageDeduplicationId": call.key.replace("/", "-")}
                await sqs.send_message(QueueUrl=url, MessageBody=f"{call.saga_id} {what}", **ids)
                if what == "charge" and call.data == 3:
                    raise ValueError("no money")

            return tell

        again = RetryPolicy(Fixed(0.01), attempts=9)
        names = ("book", "charge", "pack")
        steps = [Step(name, tells(name), tells(f"undo {name}"), retry=again) for name in names]
        orchestrator = Orchestrator(MemorySagas(), [Saga("order", steps)])
        ends = []
        for number, saga_id in enumerate(sagas):
            await orchestrator.start("order", number, saga_id, here=True)
            ends.append(await orchestrator.run(saga_id))
        assert ends == [What.COMPENSATED if number == 3 else What.COMPLETED for number in range(6)]

    with faulty.plan(*SENDING, {"fault": "throttle", "operation": "SendMessage", "every": 5}):
        played(play)
    told: dict[str, list[str]] = {}
    for body in faulty.take(url):
        saga_id, _, what = body.partition(" ")
        told.setdefault(saga_id, []).append(what)
    forward = ["book", "charge", "pack"]
    backward = ["book", "charge", "undo charge", "undo book"]
    assert told == {saga_id: backward if number == 3 else forward for number, saga_id in enumerate(sagas)}


def test_a_choreography_reacts_once_to_events_in_any_order(faulty: Faulty) -> None:
    url, reacted = faulty.queue("choreography"), Counter[str]()
    orders = [f"order{number}" for number in range(10)]

    async def play() -> None:
        async def pack(correlation: str, events: Mapping[str, Any]) -> None:
            assert set(events) == {"paid", "there"}
            reacted[correlation] += 1

        choreography = Choreography(MemorySagas(), [Reaction("pack", frozenset({"paid", "there"}), pack)])

        async def handle(message: Message) -> None:
            correlation, kind = message.body.split()
            await choreography.handle(kind, correlation, {})

        consumer = BatchConsumer(Boto3Sqs(faulty.sqs, url), handle, CONSUMER, random=impatient)
        await run_until(consumer, lambda: len(reacted) == len(orders) and faulty.is_empty(url))

    with faulty.plan(*RECEIVING, *ASKING, *DISORDER):
        faulty.fill(url, [f"{order} {kind}" for kind in ("paid", "there") for order in orders])
        played(play)
    assert set(reacted) == set(orders)


# What goes through queues


def test_a_claim_check_brings_each_body_and_leaves_none_behind(faulty: Faulty, tmp_path: Path) -> None:
    url, done = faulty.queue("claims"), set[str]()

    async def play() -> None:
        check = ClaimCheck(FolderBlobs(tmp_path), ClaimCheckPolicy(bucket="bodies", always=True))
        target = SqsTarget(InThreads(faulty.sqs), url)
        async with BatchProducer(target, ProducerPolicy(retry=RETRY)) as producer:
            for body in BODIES:
                await producer.put(await check.leave({"MessageBody": body * 10}))

        async def handle(message: Message) -> None:
            assert len(message.body) == 30
            done.add(message.body[:3])

        consumer = BatchConsumer(ClaimCheckSqs(Boto3Sqs(faulty.sqs, url), check), handle, CONSUMER, random=impatient)
        await run_until(consumer, lambda: len(done) == len(BODIES))

    with faulty.plan(*SENDING, *ASKING, *DISORDER, {"fault": "duplicate", "every": 4}):
        played(play)
    assert done == set(BODIES)


def test_contracts_are_read_in_their_latest_version(faulty: Faulty) -> None:
    url, read, quarantined = faulty.queue("contracts"), set[int](), set[str]()
    schema = {"type": "object", "properties": {"cents": {"type": "integer"}}, "required": ["cents"]}
    old = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    orders = Contract("order", {1: old, 2: schema}, {1: lambda order: {"cents": order["sum"] * 100}})
    bodies = [json.dumps({"sum": number}) for number in range(10)] + [orders.write({"cents": 7}), '{"cents": "x"}']

    async def play() -> None:
        async def handle(order: Document, message: Message) -> None:
            read.add(order["cents"])

        async def quarantine(message: Message, error: Exception) -> None:
            quarantined.add(message.body)

        client = Boto3Sqs(faulty.sqs, url)
        consumer = BatchConsumer(client, orders.handler(handle), CONSUMER, quarantine=quarantine, random=impatient)
        await run_until(consumer, lambda: len(read) == 11 and bool(quarantined) and faulty.is_empty(url))

    with faulty.plan(*RECEIVING, *ASKING):
        faulty.fill(url, bodies)
        played(play)
    assert read == {7, *range(0, 1000, 100)}
    assert quarantined == {'{"cents": "x"}'}


class Patient:
    """For what leaves retries to its client: boto3's own wait for seconds."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        async def call(**parameters: Any) -> Any:
            return await retry(lambda: getattr(self._client, operation)(**parameters), RETRY)

        return call


def test_dead_letters_are_redriven_and_none_is_lost(faulty: Faulty) -> None:
    bodies = BODIES[:9]
    wanted = {body for body in bodies if body[0] != "c"}
    live, dead, mended = faulty.queue("live"), faulty.queue("dead"), faulty.queue("mended.fifo")

    async def play() -> None:
        sqs = InThreads(faulty.sqs)
        put_aside = Counter[str]()

        async def handle(message: Message) -> None:
            raise KeyError(message.body) if message.body[0] != "c" else ValueError(message.body)

        keep_away = Quarantine(sqs, dead)

        async def quarantine(message: Message, error: Exception) -> None:
            await keep_away(message, error)
            put_aside[message.body] += 1

        policy = ConsumerPolicy(
            handler_timeout_s=5, visibility_s=2, wait_s=0, backoff=Fixed(0), max_receives=1, call_attempts=50
        )
        consumer = BatchConsumer(Boto3Sqs(faulty.sqs, live), handle, policy, quarantine=quarantine, random=impatient)
        await run_until(consumer, lambda: len(put_aside) == len(bodies) and faulty.is_empty(live))
        tool = DeadLetters(Patient(sqs), dead, hold_s=1)

        def decide(message: Message) -> Send | Keep:
            # A receive whose answer was lost counts: what comes again is quarantined unhandled.
            assert error_of(message) in ("KeyError", "ValueError", "TooManyReceives")
            if message.body[0] == "c":
                return Keep()
            entry = {**entry_of(message, mended, attributes={}), "MessageGroupId": "all"}
            return Send(mended, {**entry, "MessageDeduplicationId": message.body})

        while await anyio.to_thread.run_sync(lambda: faulty.visible(mended)) < len(wanted):
            await tool.redrive(decide, rate_per_s=100)

    with faulty.plan(*SENDING, *ASKING[:-1]):
        for body in bodies:
            retried(partial(faulty.sqs.send_message, QueueUrl=live, MessageBody=body))
        played(play)
    assert sorted(faulty.take(mended)) == sorted(wanted)


def test_requests_are_answered_by_the_right_answer(faulty: Faulty) -> None:
    url = faulty.queue("questions")
    answers: dict[str, str] = {}

    async def play() -> None:
        sqs = InThreads(faulty.sqs)

        async def shout(message: Message) -> str:
            return message.body.upper()

        consumer = BatchConsumer(
            Boto3Sqs(faulty.sqs, url), Responder(sqs, shout, name="shop"), CONSUMER, random=impatient
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consumer.run)
            async with Requester(sqs, wait_s=1) as requester:

                async def ask(body: str) -> None:
                    async def once() -> str:
                        return await requester.request(url, body, timeout_s=3)

                    answers[body] = await retry(once, RETRY)

                async with anyio.create_task_group() as asking:
                    for body in BODIES[:8]:
                        asking.start_soon(ask, body)
            tasks.cancel_scope.cancel()

    with faulty.plan(*SENDING, {"fault": "duplicate", "every": 3}, {"fault": "reorder", "every": 2}, ASKING[1]):
        played(play)
    assert answers == {body: body.upper() for body in BODIES[:8]}


def test_a_topology_is_there_after_some_attempts(faulty: Faulty) -> None:
    async def play() -> None:
        site = Site("shop", sqs=InThreads(faulty.sqs), sns=InThreads(faulty.client("sns")))

        async def build() -> Report:
            report = await fan_out(site, "orders", {"all": Subscription(), "tea": Subscription()})
            assert report.is_complete
            return report

        report = await retry(build, RETRY)
        assert (await fan_out(site.looking(), "orders", {"all": Subscription(), "tea": Subscription()})).is_complete
        assert len(report.queue_urls) >= 2

    making = ["CreateQueue", "CreateTopic", "Subscribe", "SetQueueAttributes"]
    rules: list[Rule] = [
        {"fault": "done-not-answered", "operation": making, "every": 2, "count": 6},
        {"fault": "throttle", "operation": making, "every": 3, "count": 4},
    ]
    with faulty.plan(*rules):
        played(play)


# Calls


def test_calls_are_retried_broken_off_and_bounded(faulty: Faulty) -> None:
    url, sqs = faulty.queue("calls"), InThreads(faulty.sqs)

    async def send(body: str) -> None:
        await sqs.send_message(QueueUrl=url, MessageBody=body)

    async def tried_again() -> None:
        limiter = RateLimiter(rate_per_s=500, burst=5)
        for body in BODIES:
            await limiter.acquire()
            await retry(partial(send, body), RETRY)

    with faulty.plan(*SENDING, {"fault": "throttle", "operation": "SendMessage", "every": 2}):
        played(tried_again)
    assert set(faulty.take(url)) == set(BODIES)

    breaker = CircuitBreaker(CircuitPolicy(failures=3, window=5, open_s=0.05))
    ends = Counter[str]()

    async def broken_off() -> None:
        for _ in range(20):
            try:
                await breaker.call(lambda: send("x"))
            except CircuitOpen:
                ends["not called"] += 1
            except Exception:
                ends["failed"] += 1
        await anyio.sleep(0.06)

    with faulty.plan({"fault": "error", "code": "InternalFailure", "operation": "SendMessage"}):
        played(broken_off)
    assert ends == {"failed": 3, "not called": 17}

    bulkhead = Bulkhead(limit=3, max_waiting=100)
    inside = most = 0

    async def bounded() -> None:
        nonlocal inside, most

        async def one() -> None:
            nonlocal inside, most
            async with bulkhead.place():
                inside += 1
                most = max(most, inside)
                await send("y")
                inside -= 1

        await breaker.call(lambda: send("well again"))
        async with anyio.create_task_group() as tasks:
            for _ in range(12):
                tasks.start_soon(one)

    with faulty.plan({"fault": "latency", "delay": "100ms", "operation": "SendMessage"}):
        played(bounded)
    assert most == 3

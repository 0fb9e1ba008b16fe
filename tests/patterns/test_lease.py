"""Leases against a naive referee and the real application: balance, crashes anywhere, reshards, hand-overs, fences;
shards read in order and per key, polled and pushed.

Time jumps. Work writes down what it did; the tests look afterwards.
"""

from __future__ import annotations

import base64
import random
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual import Sqs, broker, crash, run_virtually

from patterns import (
    DynamoDbLeases,
    Fenced,
    Fixed,
    HeldLease,
    Lease,
    LeaseHappening,
    LeaseKeeper,
    LeasePolicy,
    LeaseStore,
    MemoryLeases,
    ShardReader,
    Shards,
    SqliteLeases,
)
from patterns.lease import Watch, plan, startable
from patterns.lease_readers import FanOutReader
from patterns.lease_records import KeyedRecords, PerKey, Records
from patterns.threads import InThreads
from protocols.http.message import Answer, Request, Response, StreamingResponse
from protocols.wire import eventstream

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
POLICY = LeasePolicy(lease_s=9.0, handover_s=2.0, sync_s=30.0, backoff=Fixed(1.0))
SOON = replace(POLICY, lease_s=3.0)
PREFIXES = {"kinesis": "Kinesis_20131202", "dynamodb": "DynamoDB_20120810"}


class ServiceError(Exception):
    """As botocore's ClientError."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document)
        self.response = {"Error": {"Code": document["__type"]}}


class EventStream:
    """As aiobotocore's: iterated by an asynchronous generator, and closed by a plain function."""

    def __init__(self, answer: StreamingResponse, loses: Callable[[], bool]) -> None:
        self._events: deque[dict[str, Any] | Exception | None] = deque()
        self._arrived = anyio.Event()
        self._loses = loses
        self._leave = answer.start(self)

    def write(self, data: bytes) -> bool:
        for message in eventstream.decode(data):
            document = orjson.loads(message.payload)
            if message.headers[":message-type"] == "exception":
                self._put(ServiceError({"__type": message.headers[":exception-type"], **document}))
            elif message.headers[":event-type"] == "SubscribeToShardEvent":
                for record in document["Records"]:
                    record["Data"] = base64.b64decode(record["Data"])
                self._put({"SubscribeToShardEvent": document})
        return True

    def on_ready(self, ready: Callable[[], None]) -> None:
        pass

    def end(self) -> None:
        self._put(None)

    abort = end

    def _put(self, event: dict[str, Any] | Exception | None) -> None:
        self._events.append(event)
        self._arrived.set()
        self._arrived = anyio.Event()

    async def __aiter__(self) -> AsyncGenerator[dict[str, Any], None]:
        while True:
            while not self._events:
                await self._arrived.wait()
            event = self._events.popleft()
            if event is None:
                return
            if isinstance(event, Exception):
                raise event
            if self._loses():
                raise ConnectionError("the connection broke")
            yield event

    def close(self) -> None:
        self._leave()


class Client:
    """The methods of an aiobotocore client of a service. With `loses` an answer may be lost."""

    def __init__(self, sqs: Sqs, service: str, loses: Callable[[], bool] = lambda: False) -> None:
        self._sqs = sqs
        self._target = PREFIXES[service]
        self._loses = loses

    async def subscribe_to_shard(self, **parameters: Any) -> dict[str, Any]:
        headers = [
            (b"host", b"bus.test"),
            (b"x-amz-target", f"{self._target}.SubscribeToShard".encode()),
            (b"content-type", b"application/x-amz-json-1.1"),
        ]
        answered, answers = anyio.Event(), list[Answer]()

        def reply(answer: Answer) -> None:
            answers.append(answer)
            answered.set()

        self._sqs._application(Request("POST", b"/", headers, orjson.dumps(parameters)), reply)
        await answered.wait()
        (answer,) = answers
        if isinstance(answer, Response):
            raise ServiceError(orjson.loads(answer.body))
        if self._loses():
            raise ConnectionError("the answer was lost")
        return {"EventStream": EventStream(answer, self._loses)}

    def __getattr__(self, method: str) -> Callable[..., Awaitable[dict[str, Any]]]:
        operation = "".join(word.capitalize() for word in method.split("_"))

        async def call(**parameters: Any) -> dict[str, Any]:
            try:
                answer = await self._sqs.call(operation, parameters, self._target)
            except RuntimeError as error:
                raise ServiceError(error.args[0]) from None
            if self._loses():
                raise ConnectionError("the answer was lost")
            for record in answer.get("Records", []):
                if "Data" in record:
                    record["Data"] = base64.b64decode(record["Data"])
            return answer

        return call


# the policy


leases_of_many = st.lists(
    st.builds(
        Lease,
        st.uuids().map(str),
        owner=st.sampled_from([None, "a", "b", "c", "d"]),
        is_done=st.booleans(),
    ),
    max_size=20,
)


@given(leases_of_many, st.sampled_from(["a", "b", "e"]), st.none() | st.integers(1, 5), st.integers(0, 5))
def test_nobody_takes_more_than_a_share(leases: list[Lease], worker: str, most: int | None, silent: int) -> None:
    free = {lease.key for lease in leases[:silent]} | {lease.key for lease in leases if lease.owner is None}
    wanted = plan(leases, worker, lambda lease: lease.key in free, most)
    live = Counter(lease.owner for lease in leases if not lease.is_done and lease.key not in free)
    mine = live.pop(worker, 0)
    share = -(-sum(not lease.is_done for lease in leases) // (len(live) + 1))
    assert len(wanted.take) + len(wanted.ask) <= max(0, min(share, most or share) - mine)
    assert all(lease.key in free and not lease.is_done and lease.owner != worker for lease in wanted.take)
    assert all(lease.key not in free and lease.owner not in (None, worker) for lease in wanted.ask)
    assert len({lease.key for lease in wanted.take + wanted.ask}) == len(wanted.take) + len(wanted.ask)
    for donor, count in Counter(lease.owner for lease in wanted.ask).items():
        assert live[donor] - count >= mine + len(wanted.ask) - count, "nobody is left with less than who asks"


def test_children_wait_for_their_parents() -> None:
    leases = [Lease("a"), Lease("b", is_done=True), Lease("c", ("a", "b")), Lease("d", ("b", "expired"))]
    assert [lease.key for lease in startable(leases)] == ["a", "d"]


def test_silence_is_what_a_worker_sees_by_its_own_clock() -> None:
    watch = Watch(10.0)
    lease = Lease("a", owner="x", version=3)
    watch.see([lease], 1000.0)
    watch.see([lease], 1009.9)
    assert not watch.is_free(lease, 1009.9)
    assert watch.is_free(lease, 1010.0)
    watch.see([lease.changed()], 1010.0)
    assert not watch.is_free(lease.changed(), 1019.0)
    assert watch.is_free(Lease("b"), 0.0)


@pytest.mark.parametrize("wrong", [{"lease_s": 0.0}, {"sync_s": -1.0}, {"handover_s": -1.0}, {"max_leases": 0}])
def test_a_policy_that_makes_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at least|more than"):
        LeasePolicy(**wrong)


# the stores' contract


@asynccontextmanager
async def opened(kind: str, directory: Path) -> AsyncIterator[LeaseStore]:
    if kind == "memory":
        yield MemoryLeases()
    elif kind == "sqlite":
        async with aiosqlite.connect(directory / "leases.db") as connection:
            found = SqliteLeases(connection)
            await found.create_table()
            await found.create_table()
            yield found
    else:
        async with broker() as sqs:
            store = DynamoDbLeases(Client(sqs, "dynamodb"), "leases")
            await store.create_table()
            await store.create_table()
            yield store


@pytest.mark.parametrize(
    ("kind", "backend"),
    [("memory", "asyncio"), ("memory", "trio"), ("sqlite", "asyncio"), ("dynamodb", "asyncio"), ("dynamodb", "trio")],
)
def test_what_a_store_must_do(kind: str, backend: str, tmp_path: Path) -> None:
    async def program() -> None:
        async with opened(kind, tmp_path) as store:
            assert list(await store.all()) == []
            assert await store.get("a") is None
            first = Lease("a", ("p", "q"))
            assert await store.create(first)
            assert not await store.create(Lease("a", checkpoint="else"))
            assert await store.get("a") == first
            taken = first.taken("me")
            assert await store.replace(first, taken)
            assert not await store.replace(first, first.taken("you")), "the version is not that any more"
            full = taken.changed(checkpoint="7", wanted_by="you")
            assert await store.replace(taken, full)
            assert await store.get("a") == full
            given = full.released()
            assert (given.owner, given.fence, given.wanted_by) == ("you", 2, None)
            assert await store.replace(full, given)
            done = given.finished()
            assert await store.replace(given, done)
            for number in range(30):
                assert await store.create(Lease(f"b{number}"))
            assert {lease.key: lease for lease in await store.all()}["a"] == done
            assert len(await store.all()) == 31
            assert not await store.delete(given)
            assert await store.delete(done)
            assert not await store.delete(done)
            assert not await store.replace(done, done.changed())
            assert await store.get("a") is None

    anyio.run(program, backend=backend)


# keepers


class Referee:
    """Nobody may begin while somebody else is at it, and fences only grow."""

    def __init__(self) -> None:
        self.at_work: dict[str, str] = {}
        self.fences: dict[str, int] = {}
        self.began: list[tuple[str, str]] = []

    def work(self, worker: str) -> Callable[[HeldLease], Awaitable[None]]:
        async def work(held: HeldLease) -> None:
            assert held.key not in self.at_work, f"{worker} and {self.at_work[held.key]} are both at {held.key}"
            assert held.fence > self.fences.get(held.key, 0)
            self.at_work[held.key] = worker
            self.fences[held.key] = held.fence
            self.began.append((held.key, worker))
            try:
                await held.stopping.wait()
            finally:
                del self.at_work[held.key]

        return work

    def counts(self) -> list[int]:
        return sorted(Counter(self.at_work.values()).values())


def listing(*keys: str) -> Callable[[], Awaitable[Sequence[Lease]]]:
    async def source() -> Sequence[Lease]:
        return [Lease(key) for key in keys]

    return source


@BACKENDS
def test_workers_come_and_go_and_share_equally(backend: str) -> None:
    async def program() -> None:
        referee, store = Referee(), MemoryLeases()
        source = listing(*(f"shard-{number}" for number in range(10)))
        keepers: dict[str, LeaseKeeper] = {}
        scopes: dict[str, anyio.CancelScope] = {}
        failures: list[BaseException] = []

        async def live(name: str) -> None:
            with anyio.CancelScope() as scopes[name]:
                await keepers[name].run()

        def tell(happening: LeaseHappening, key: str, error: Exception | None) -> None:
            if happening in (LeaseHappening.FAILED, LeaseHappening.LOST):
                failures.append(error or RuntimeError(f"{key} {happening}"))

        async with anyio.create_task_group() as tasks:

            def start(name: str) -> None:
                work = referee.work(name)
                keepers[name] = LeaseKeeper(
                    store, name, source, work, POLICY, on_event=tell, random=random.Random(name).random
                )
                tasks.start_soon(live, name)

            start("a")
            await anyio.sleep(1)
            assert referee.counts() == [10]
            start("b")
            start("c")
            await anyio.sleep(60)
            assert referee.counts() == [3, 3, 4]
            start("d")
            await anyio.sleep(60)
            assert referee.counts() == [2, 2, 3, 3]
            before = len(referee.began)
            await anyio.sleep(300)
            assert len(referee.began) == before, "what is balanced stays where it is"
            scopes["a"].cancel()  # a crash: nothing is given back
            await anyio.sleep(60)
            assert referee.counts() == [3, 3, 4]
            keepers["b"].stop()
            await anyio.sleep(3 * POLICY.renew_s)
            assert referee.counts() == [5, 5], "what is released is taken after a look or two"
            assert failures == []
            for keeper in keepers.values():
                keeper.stop()
        assert referee.at_work == {}

    run_virtually(backend, program)


@BACKENDS
def test_work_that_will_not_end_is_cancelled_and_handed_over(backend: str) -> None:
    async def program() -> None:
        store, events = MemoryLeases(), list[tuple[str, str]]()

        async def stubborn(held: HeldLease) -> None:
            await held.save("5")
            await anyio.sleep_forever()

        def keeper(name: str) -> LeaseKeeper:
            return LeaseKeeper(
                store,
                name,
                listing("x", "y"),
                stubborn,
                POLICY,
                on_event=lambda happening, key, error: events.append((name, happening.value)),
            )

        async with anyio.create_task_group() as tasks:
            first, second = keeper("a"), keeper("b")
            tasks.start_soon(first.run)
            await anyio.sleep(1)
            tasks.start_soon(second.run)
            await anyio.sleep(20)
            assert (len(first.held), len(second.held)) == (1, 1)
            assert ("b", "asked for") in events
            assert [lease.checkpoint for lease in await store.all()] == ["5", "5"]
            first.stop()
            second.stop()

    run_virtually(backend, program)


@BACKENDS
def test_who_has_lost_a_lease_cannot_save(backend: str) -> None:
    async def program() -> None:
        store, outcome = MemoryLeases(), list[str]()

        async def work(held: HeldLease) -> None:
            mine = await store.get(held.key)
            assert mine is not None
            await store.replace(mine, mine.taken("somebody else"))
            try:
                await held.save("5")
            except Fenced:
                outcome.append("fenced")
            await anyio.sleep_forever()

        events: list[LeaseHappening] = []
        keeper = LeaseKeeper(
            store, "a", listing("x"), work, POLICY, on_event=lambda happening, key, error: events.append(happening)
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keeper.run)
            await anyio.sleep(1)
            keeper.stop()
        assert outcome == ["fenced"]
        assert events == [LeaseHappening.TAKEN, LeaseHappening.LOST]
        lease = await store.get("x")
        assert lease is not None
        assert (lease.owner, lease.checkpoint) == ("somebody else", None)

    run_virtually(backend, program)


class Unreachable(MemoryLeases):
    """A store that answers nothing for a while."""

    is_down = False

    async def all(self) -> Sequence[Lease]:
        return await self._through(super().all())

    async def get(self, key: str) -> Lease | None:
        return await self._through(super().get(key))

    async def replace(self, old: Lease, new: Lease) -> bool:
        return await self._through(super().replace(old, new))

    async def _through(self, call: Any) -> Any:
        if self.is_down:
            call.close()
            raise ConnectionError("the store is down")
        return await call


@BACKENDS
def test_who_cannot_renew_stops_before_others_begin(backend: str) -> None:
    async def program() -> None:
        store, ends = Unreachable(), list[float]()

        async def work(held: HeldLease) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ends.append(anyio.current_time())

        keeper = LeaseKeeper(store, "a", listing("x"), work, POLICY)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keeper.run)
            await anyio.sleep(10)
            store.is_down = True
            began_s = anyio.current_time()
            await anyio.sleep(20)
            assert len(ends) == 1
            assert ends[0] - began_s <= POLICY.lease_s
            store.is_down = False
            await anyio.sleep(POLICY.lease_s + POLICY.renew_s)
            assert list(keeper.held) == ["x"], "it goes on when the store is there again"
            keeper.stop()
            await anyio.sleep(POLICY.handover_s)

    run_virtually(backend, program)


@BACKENDS
def test_work_that_fails_rests(backend: str) -> None:
    async def program() -> None:
        starts: list[float] = []

        async def work(held: HeldLease) -> None:
            starts.append(anyio.current_time())
            raise RuntimeError("no")

        keeper = LeaseKeeper(MemoryLeases(), "a", listing("x"), work, POLICY)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keeper.run)
            await anyio.sleep(30)
            keeper.stop()
        assert 5 <= len(starts) <= 11

    run_virtually(backend, program)


# Kinesis


KEYS = [f"key-{number}" for number in range(12)]
STREAM = "stream"


class Application:
    """Workers that read a stream, with leases in DynamoDB or in memory, and what they have seen."""

    def __init__(self, sqs: Sqs, store: LeaseStore, loses: Callable[[], bool] = lambda: False) -> None:
        self.sqs = sqs
        self.store = store
        self.kinesis = Client(sqs, "kinesis")
        self.seen: list[tuple[str, int]] = []
        self.rounds = 0
        self._loses = loses

    async def put(self, rounds: int) -> None:
        for number in range(self.rounds, self.rounds + rounds):
            data = base64.b64encode(str(number).encode()).decode()
            records = [{"PartitionKey": key, "Data": data} for key in KEYS]
            await self.kinesis.put_records(StreamName=STREAM, Records=records)
        self.rounds += rounds

    def keeper(
        self, name: str, policy: LeasePolicy = POLICY, poll_s: float = 1.0, reading: str = "polled"
    ) -> LeaseKeeper:
        async def handle(held: HeldLease, records: Sequence[Any]) -> None:
            for record in records:
                self.seen.append((record["PartitionKey"], int(record["Data"])))
                await anyio.lowlevel.checkpoint()

        chance = random.Random(name).random
        client = Client(self.sqs, "kinesis", self._loses)
        how = PerKey(handle, concurrency=3, in_hand=20, of_a_key=2) if "per key" in reading else handle
        if "pushed" in reading:
            reader: ShardReader = FanOutReader(client, STREAM, "fan", how, limit=7, poll_s=poll_s, random=chance)
        else:
            reader = ShardReader(client, STREAM, how, limit=7, poll_s=poll_s, random=chance)
        return LeaseKeeper(self.store, name, Shards(client, STREAM), reader, policy, random=chance)

    async def until_all_seen(self) -> None:
        with anyio.fail_after(1200):
            while len(set(self.seen)) < self.rounds * len(KEYS):  # noqa: ASYNC110 the time is virtual
                await anyio.sleep(0.5)

    def check(self) -> None:
        """Each record at least once, and each key's in order: the first time that they were seen."""
        first: dict[str, list[int]] = {key: [] for key in KEYS}
        for key, number in self.seen:
            if number not in first[key]:
                first[key].append(number)
        assert first == {key: list(range(self.rounds)) for key in KEYS}


async def reshard(kinesis: Client, to: int) -> None:
    await kinesis.update_shard_count(StreamName=STREAM, TargetShardCount=to, ScalingType="UNIFORM_SCALING")


READINGS = ["polled", "pushed", "polled per key", "pushed per key"]


@BACKENDS
@pytest.mark.parametrize(("kind", "reading"), [("memory", "polled"), *(("dynamodb", reading) for reading in READINGS)])
def test_each_record_at_least_once_in_order_through_reshards_and_workers(kind: str, reading: str, backend: str) -> None:
    async def program() -> None:
        async with broker() as sqs:
            chance = random.Random(1)
            store: LeaseStore = MemoryLeases()
            true_store = store
            if kind == "dynamodb":
                true_store = table = DynamoDbLeases(Client(sqs, "dynamodb"), "leases")
                await table.create_table()
                store = DynamoDbLeases(Client(sqs, "dynamodb", lambda: chance.random() < 0.05), "leases")
            application = Application(sqs, store, lambda: chance.random() < 0.05)
            await application.kinesis.create_stream(StreamName=STREAM, ShardCount=2)
            running: dict[str, tuple[LeaseKeeper, anyio.CancelScope]] = {}
            async with anyio.create_task_group() as tasks:

                async def live(name: str) -> None:
                    keeper = application.keeper(name, reading=reading)
                    with anyio.CancelScope() as scope:
                        running[name] = keeper, scope
                        await keeper.run()

                for step, shards in enumerate([2, 4, 3, 6, 3]):
                    tasks.start_soon(live, f"{step}-a")
                    tasks.start_soon(live, f"{step}-b")
                    await application.put(3)
                    await anyio.sleep(chance.uniform(0, 10))
                    if shards != 2 or step:
                        await reshard(application.kinesis, shards)
                    await application.put(3)
                    await anyio.sleep(chance.uniform(0, 10))
                    for number, name in enumerate(list(running)):
                        keeper, scope = running.pop(name)
                        if number % 2:
                            keeper.stop()
                        else:
                            scope.cancel()
                tasks.start_soon(live, "last")
                await application.until_all_seen()
                await anyio.sleep(4 * POLICY.lease_s)
                leases = await true_store.all()
                assert all(lease.is_done or lease.owner == "last" for lease in leases)
                running["last"][0].stop()
            application.check()

    run_virtually(backend, program)


@BACKENDS
@pytest.mark.parametrize("reading", READINGS)
def test_a_crash_at_any_moment(reading: str, backend: str) -> None:
    async def program() -> None:
        for after in range(1 if backend == "asyncio" else 8, 240, 14):  # together, at every seventh await
            async with broker() as sqs:
                store: LeaseStore = MemoryLeases()
                if reading == "polled":  # where leases are is nothing that a reader sees
                    store = table = DynamoDbLeases(Client(sqs, "dynamodb"), "leases")
                    await table.create_table()
                application = Application(sqs, store)
                await application.kinesis.create_stream(StreamName=STREAM, ShardCount=1)
                await application.put(3)
                await reshard(application.kinesis, 2)
                await application.put(2)
                doomed, heir = (application.keeper(name, SOON, reading=reading) for name in ("doomed", "heir"))

                async def doomed_program(keeper: LeaseKeeper = doomed) -> None:
                    await keeper.run()

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(crash, after, doomed_program)
                    await anyio.sleep(0.1)
                    tasks.start_soon(heir.run)
                    await application.until_all_seen()
                    doomed.stop()
                    heir.stop()
                application.check()

    run_virtually(backend, program)


@BACKENDS
def test_leases_of_shards_that_are_gone_go_too(backend: str) -> None:
    async def program() -> None:
        async with broker() as sqs:
            application = Application(sqs, MemoryLeases())
            await application.kinesis.create_stream(StreamName=STREAM, ShardCount=1)
            await application.put(1)
            keeper = application.keeper("a", LeasePolicy(lease_s=3600.0, sync_s=3600.0), poll_s=900.0)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keeper.run)
                await application.until_all_seen()
                await reshard(application.kinesis, 2)
                await anyio.sleep(1800)
                assert [lease.is_done for lease in await application.store.all()].count(True) == 1
                await anyio.sleep(26 * 3600)
                leases = await application.store.all()
                assert [lease.is_done for lease in leases] == [False, False]
                keeper.stop()

    run_virtually(backend, program)


# Keys beside each other


@given(
    st.lists(st.tuples(st.sampled_from(["add", "take", "take", "done", "fail"]), st.integers(0, 9)), max_size=120),
    st.integers(1, 3),
)
def test_keys_are_in_order_and_a_checkpoint_passes_only_what_is_done(steps: list[tuple[str, int]], lot: int) -> None:
    records = KeyedRecords(lot)
    added: list[str] = []  # keys, by sequence number
    is_done: list[bool] = []
    given: dict[str, int] = Counter()
    under_way: dict[str, list[int]] = {}
    dead: set[str] = set()
    for action, number in steps:
        if action == "add":
            new = ["abc"[(number + one) % 3] for one in range(number)]
            records.add([{"PartitionKey": key, "SequenceNumber": str(len(added) + n)} for n, key in enumerate(new)])
            added += new
            is_done += [False] * len(new)
        elif action == "take":
            taken = records.take()
            if taken is None:
                for key in set(added) - set(under_way) - dead:
                    assert given[key] == added.count(key), "it rests only where nothing may begin"
                continue
            key, those = taken
            assert key not in under_way
            assert key not in dead
            mine = [place for place, its in enumerate(added) if its == key]
            numbers = [int(record["SequenceNumber"]) for record in those]
            assert numbers == mine[given[key] : given[key] + len(numbers)]
            assert 1 <= len(numbers) <= lot
            given[key] += len(numbers)
            under_way[key] = numbers
        elif under_way:
            key = sorted(under_way)[number % len(under_way)]
            numbers = under_way.pop(key)
            if action == "fail":
                records.failed(key)
                dead.add(key)
            else:
                records.done(key)
                for one in numbers:
                    is_done[one] = True
        passed = [*is_done, False].index(False)
        assert records.checkpoint == (str(passed - 1) if passed else None)
        assert records.in_hand == len(added) - passed
        assert records.under_way == len(under_way)


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"in_hand": 0}, {"of_a_key": 0}])
def test_keys_that_make_no_sense(wrong: dict[str, int]) -> None:
    async def handle(held: HeldLease, records: Records) -> None: ...

    with pytest.raises(ValueError, match="at least 1"):
        PerKey(handle, **wrong)


async def stream_of(sqs: Sqs, rounds: int, shards: int = 1) -> Application:
    application = Application(sqs, MemoryLeases())
    await application.kinesis.create_stream(StreamName=STREAM, ShardCount=shards)
    await application.put(rounds)
    return application


@BACKENDS
def test_a_slow_key_holds_up_itself_and_the_checkpoint_and_nothing_else(backend: str) -> None:
    """Reading rests when as much as `in_hand` is ahead of the checkpoint."""

    async def program() -> None:
        async with broker() as sqs:
            application = await stream_of(sqs, 10)
            seen: list[str] = []
            running: Counter[str] = Counter()
            most: Counter[str] = Counter()
            go_on = anyio.Event()

            async def handle(held: HeldLease, records: Records) -> None:
                key = records[0]["PartitionKey"]
                assert {record["PartitionKey"] for record in records} == {key}
                running[key] += 1
                for name, count in (("all", running.total()), (key, running[key])):
                    most[name] = max(most[name], count)
                await anyio.sleep(0.1)
                if key == "key-0":
                    await go_on.wait()
                running[key] -= 1
                seen.extend([key] * len(records))

            how = PerKey(handle, concurrency=4, in_hand=60)
            reader = ShardReader(application.kinesis, STREAM, how, limit=12)
            keeper = LeaseKeeper(application.store, "a", Shards(application.kinesis, STREAM), reader, POLICY)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keeper.run)
                await anyio.sleep(60)
                assert Counter(seen) == {key: 5 for key in KEYS if key != "key-0"}
                (lease,) = await application.store.all()
                assert lease.checkpoint is None, "the first record of all is not done"
                go_on.set()
                await anyio.sleep(60)
                assert Counter(seen) == dict.fromkeys(KEYS, 10)
                (lease,) = await application.store.all()
                (shard,) = (await application.kinesis.list_shards(StreamName=STREAM))["Shards"]
                where = {"ShardId": shard["ShardId"], "ShardIteratorType": "AFTER_SEQUENCE_NUMBER"}
                iterator = (
                    await application.kinesis.get_shard_iterator(
                        StreamName=STREAM, StartingSequenceNumber=lease.checkpoint, **where
                    )
                )["ShardIterator"]
                assert (await application.kinesis.get_records(ShardIterator=iterator))["Records"] == []
                keeper.stop()
            assert most["all"] == 4
            assert most["key-0"] == 1

    run_virtually(backend, program)


@BACKENDS
def test_a_key_that_fails_lets_the_others_end_and_is_tried_again(backend: str) -> None:
    async def program() -> None:
        async with broker() as sqs:
            application = await stream_of(sqs, 3)
            seen: list[tuple[str, int]] = []
            errors: list[Exception] = []

            async def handle(held: HeldLease, records: Records) -> None:
                key = records[0]["PartitionKey"]
                if key == "key-5" and len(errors) < 2:
                    raise RuntimeError("not now")
                await anyio.sleep(1)
                seen.extend((key, int(record["Data"])) for record in records)

            def tell(happening: LeaseHappening, key: str, error: Exception | None) -> None:
                if error is not None:
                    errors.append(error)

            reader = ShardReader(application.kinesis, STREAM, PerKey(handle, concurrency=12), limit=5)
            keeper = LeaseKeeper(
                application.store, "a", Shards(application.kinesis, STREAM), reader, POLICY, on_event=tell
            )
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keeper.run)
                await anyio.sleep(60)
                keeper.stop()
            assert [str(error) for error in errors] == ["not now", "not now"]
            application.seen = seen
            application.check()
            assert len(seen) <= 3 * 36, "what was before the one that failed does not come again and again"

    run_virtually(backend, program)


@BACKENDS
def test_stopping_ends_what_is_under_way_saves_and_leaves_the_rest_to_others(backend: str) -> None:
    async def program() -> None:
        async with broker() as sqs:
            application = await stream_of(sqs, 5)
            lots: list[tuple[str, int]] = []

            async def handle(held: HeldLease, records: Records) -> None:
                await anyio.sleep(1.5)
                lots.append((records[0]["PartitionKey"], len(records)))

            reader = ShardReader(application.kinesis, STREAM, PerKey(handle, concurrency=2, of_a_key=1))
            keeper = LeaseKeeper(application.store, "a", Shards(application.kinesis, STREAM), reader, POLICY)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keeper.run)
                await anyio.sleep(2)
                keeper.stop()
            assert sorted(lots) == [(key, 1) for key in KEYS[:4]]
            (lease,) = await application.store.all()
            assert (lease.owner, lease.checkpoint is None, lease.is_done) == (None, False, False)

    run_virtually(backend, program)


# Pushed to


class Watched(Client):
    """Tells of the calls, and can have a subscription in use, or fall silent."""

    def __init__(self, sqs: Sqs) -> None:
        super().__init__(sqs, "kinesis")
        self.calls: Counter[str] = Counter()
        self.positions: list[dict[str, str]] = []
        self.refuses: str | None = None
        self.silent = 0

    def __getattr__(self, method: str) -> Callable[..., Awaitable[dict[str, Any]]]:
        self.calls[method] += 1
        return super().__getattr__(method)

    async def subscribe_to_shard(self, **parameters: Any) -> dict[str, Any]:
        self.calls["subscribe_to_shard"] += 1
        if self.refuses is not None:
            raise ServiceError({"__type": self.refuses})
        self.positions.append(parameters["StartingPosition"])
        answer = await super().subscribe_to_shard(**parameters)
        if self.silent:
            self.silent -= 1
            answer["EventStream"].write = lambda data: True
        return answer


@asynccontextmanager
async def pushed_to(sqs: Sqs, rounds: int) -> AsyncIterator[tuple[Application, Watched, LeaseKeeper]]:
    application = await stream_of(sqs, rounds)
    client = Watched(sqs)

    async def handle(held: HeldLease, records: Records) -> None:
        application.seen.extend((record["PartitionKey"], int(record["Data"])) for record in records)

    reader = FanOutReader(client, STREAM, "fan", handle, poll_s=0.5, backoff=Fixed(1.0))
    keeper = LeaseKeeper(application.store, "a", Shards(client, STREAM), reader, POLICY)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keeper.run)
        await application.until_all_seen()
        yield application, client, keeper
        keeper.stop()
    await reader.deregister()
    await reader.deregister()
    consumers = await application.kinesis.list_stream_consumers(StreamARN=await reader._stream_arn())
    assert consumers["Consumers"] == []


@BACKENDS
def test_a_subscription_is_renewed_where_it_was_for_as_long_as_it_takes(backend: str) -> None:
    async def program() -> None:
        async with broker() as sqs, pushed_to(sqs, 2) as (application, client, keeper):
            await anyio.sleep(1500)  # idle: five subscriptions of 300 s
            began_s = anyio.current_time()
            await application.put(2)
            await application.until_all_seen()
            assert anyio.current_time() - began_s < 1
            assert 5 <= client.calls["subscribe_to_shard"] <= 7
            assert [position["Type"] for position in client.positions] == [
                "TRIM_HORIZON",
                *["AFTER_SEQUENCE_NUMBER"] * (len(client.positions) - 1),
            ]
            assert client.calls["get_records"] == 0
            assert client.calls["register_stream_consumer"] == 1
            application.check()
            assert len(application.seen) == 4 * len(KEYS), "and nothing came twice"
            began_s = anyio.current_time()
            keeper.stop()
            while keeper.held:  # noqa: ASYNC110 the time is virtual
                await anyio.sleep(0.1)
            assert anyio.current_time() - began_s < 1, "nobody waits for the next event"

    run_virtually(backend, program)


@BACKENDS
@pytest.mark.parametrize("code", ["ResourceInUseException", "LimitExceededException"])
def test_where_it_is_in_use_it_polls_and_comes_back(backend: str, code: str) -> None:
    async def program() -> None:
        async with broker() as sqs, pushed_to(sqs, 1) as (application, client, _):
            client.refuses = code
            await anyio.sleep(330)  # till the subscription has ended
            await application.put(3)
            began_s = anyio.current_time()
            await application.until_all_seen()
            assert anyio.current_time() - began_s < 1.5
            polled = client.calls["get_records"]
            assert polled > 0
            client.refuses = None
            await anyio.sleep(10)
            polled = client.calls["get_records"]
            await anyio.sleep(200)
            assert client.calls["get_records"] == polled
            await application.put(1)
            await application.until_all_seen()
            application.check()
            assert len(application.seen) == 5 * len(KEYS)

    run_virtually(backend, program)


@BACKENDS
def test_another_subscriber_takes_over_and_we_poll_until_it_is_gone(backend: str) -> None:
    async def program() -> None:
        async with broker() as sqs, pushed_to(sqs, 1) as (application, client, _):
            await anyio.sleep(10)
            lease = (await application.store.all())[0]
            arn = await FanOutReader(client, STREAM, "fan", PerKey(nothing))._registered()
            position = {"Type": "LATEST"}
            await application.kinesis.subscribe_to_shard(ConsumerARN=arn, ShardId=lease.key, StartingPosition=position)
            await application.put(3)
            await application.until_all_seen()
            application.check()

    async def nothing(held: HeldLease, records: Records) -> None: ...

    run_virtually(backend, program)


@BACKENDS
def test_a_consumer_that_was_deleted_and_one_that_is_silent(backend: str) -> None:
    async def program() -> None:
        async with broker() as sqs, pushed_to(sqs, 1) as (application, client, _):
            reader = FanOutReader(client, STREAM, "fan", PerKey(nothing))
            await reader.deregister()
            await application.put(1)
            await application.until_all_seen()
            assert client.calls["register_stream_consumer"] == 2
            client.silent = 1
            await anyio.sleep(300)
            await application.put(2)
            began_s = anyio.current_time()
            await application.until_all_seen()
            assert anyio.current_time() - began_s < 45
            assert client.silent == 0
            application.check()

    async def nothing(held: HeldLease, records: Records) -> None: ...

    run_virtually(backend, program)


@BACKENDS
@pytest.mark.parametrize("reading", ["in order", "per key"])
def test_boto3_in_threads_is_pushed_to(backend: str, reading: str, sidebus: Any, connect: Callable[..., Any]) -> None:
    kinesis = connect(sidebus, "kinesis")
    kinesis.create_stream(StreamName=STREAM, ShardCount=2)
    seen: list[tuple[str, int]] = []

    async def program() -> None:
        async def handle(held: HeldLease, records: Records) -> None:
            seen.extend((record["PartitionKey"], int(record["Data"])) for record in records)

        client = InThreads(kinesis)
        how = PerKey(handle) if reading == "per key" else handle
        reader = FanOutReader(client, STREAM, "fan", how)
        keeper = LeaseKeeper(MemoryLeases(), "a", Shards(client, STREAM), reader, LeasePolicy(lease_s=3.0))
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keeper.run)
                for number in range(5):
                    records = [{"PartitionKey": key, "Data": str(number).encode()} for key in KEYS]
                    await client.put_records(StreamName=STREAM, Records=records)
                    if number == 2:
                        await reshard_with(client)
                while len(set(seen)) < 5 * len(KEYS):  # noqa: ASYNC110 a thread fills it
                    await anyio.sleep(0.02)
                keeper.stop()

    async def reshard_with(client: Any) -> None:
        await client.update_shard_count(StreamName=STREAM, TargetShardCount=4, ScalingType="UNIFORM_SCALING")

    anyio.run(program, backend=backend)
    for key in KEYS:
        assert [number for its, number in seen if its == key] == list(range(5))

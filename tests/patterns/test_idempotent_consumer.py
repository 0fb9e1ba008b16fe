"""Each effect once: crashes at every await, lost answers of the store, duplicates at the same time and late ones."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual import broker, crash, run_counted, run_virtually

from patterns import (
    AioSqs,
    BatchConsumer,
    ClaimLost,
    ConsumerPolicy,
    Fixed,
    IdempotencyPolicy,
    IdempotencyStore,
    Idempotent,
    InProgress,
    KeyReused,
    MemoryRecords,
    Message,
    NoKey,
    Poison,
    Recovered,
    RetryPolicy,
    SqliteRecords,
    by_body,
    by_message_id,
    by_path,
)
from patterns.idempotent_consumer import Decision, Record, State

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
BODIES = ["a", "b", "a", "c", "b", "a"]
Store = Callable[[], Any]


def message(body: str) -> Message:
    return Message("id", "handle", body)


class World:
    """Where effects happen, and can be seen. Its clock is moved by hand."""

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()
        self.now_s = 1e9

    async def handle(self, message: Message) -> dict[str, str]:
        await anyio.lowlevel.checkpoint()
        self.effects[by_body(message)] += 1
        await anyio.lowlevel.checkpoint()
        return {"done": message.body}

    async def look(self, key: str) -> Recovered | None:
        await anyio.lowlevel.checkpoint()
        return Recovered({"done": "recovered"}) if self.effects[key] else None

    def idempotent(self, store: IdempotencyStore, **options: Any) -> Idempotent[Message]:
        options = {"recover": self.look, "clock": lambda: self.now_s, **options}
        return Idempotent(store, self.handle, by_body, **options)


@asynccontextmanager
async def memory() -> AsyncIterator[MemoryRecords]:
    yield MemoryRecords()


@asynccontextmanager
async def sqlite(path: str | Path = ":memory:") -> AsyncIterator[SqliteRecords]:
    async with aiosqlite.connect(path) as connection:
        store = SqliteRecords(connection)
        await store.create_table()
        yield store


STORES = pytest.mark.parametrize(
    ("backend", "store"),
    [("asyncio", memory), ("trio", memory), ("asyncio", sqlite)],
    ids=["asyncio", "trio", "sqlite"],
)


@STORES
@pytest.mark.parametrize("reconciled", [False, True])
def test_a_crash_at_any_await_and_each_effect_once(backend: str, store: Store, reconciled: bool) -> None:
    crashes = 0

    async def program() -> None:
        nonlocal crashes
        for after in itertools.count(1):
            world = World()
            async with store() as records:
                idempotent = world.idempotent(records)

                async def consume(idempotent: Idempotent[Message] = idempotent) -> None:
                    for body in BODIES:
                        assert set(await idempotent(message(body))) == {"done"}

                crashed = await crash(after, consume)
                world.now_s += 61
                if reconciled:
                    await idempotent.reconcile()
                    world.now_s += 61
                    assert (await idempotent.reconcile()).completed == []
                await consume()
            assert set(world.effects.values()) == {1}, after
            assert len(world.effects) == 3
            if not crashed:
                break
            crashes += 1

    run_counted(backend, program)
    assert crashes > 15


class Lossy:
    """A store that fails before or after it has written."""

    def __init__(self, store: IdempotencyStore, chance: random.Random) -> None:
        self._store, self._chance = store, chance
        self.overdue, self.purge = store.overdue, store.purge

    async def _perhaps(self) -> None:
        if self._chance.random() < 0.25:
            raise ConnectionError("lost")

    async def read(self, key: str) -> Record | None:
        await self._perhaps()
        return await self._store.read(key)

    async def write(self, key: str, record: Record, replaces: Record | None) -> bool:
        await self._perhaps()
        written = await self._store.write(key, record, replaces)
        await self._perhaps()
        return written


@BACKENDS
def test_lost_answers_and_duplicates_at_the_same_time_and_each_effect_once(backend: str) -> None:
    async def program() -> None:
        for seed in range(30):
            chance, world = random.Random(seed), World()
            policy = IdempotencyPolicy(handler_timeout_s=5, store_retry=RetryPolicy(Fixed(0.1), attempts=3))
            idempotent = world.idempotent(
                Lossy(MemoryRecords(), chance), policy=policy, clock=lambda: 1e9 + anyio.current_time()
            )

            async def insist(body: str, idempotent: Idempotent[Message] = idempotent) -> None:
                while True:
                    try:
                        await idempotent(message(body))
                        return
                    except (InProgress, ConnectionError):
                        await anyio.sleep(1)

            async with anyio.create_task_group() as tasks:
                for body in BODIES:
                    tasks.start_soon(insist, body)
            assert set(world.effects.values()) == {1}, seed

    run_virtually(backend, program)


@BACKENDS
def test_duplicates_out_of_a_queue_that_loses_acknowledgements(backend: str) -> None:
    async def program() -> None:
        world = World()
        async with broker() as sqs:
            url = await sqs.create("q")
            await sqs.send(url, *BODIES, *BODIES)

            class Forgetful(AioSqs):
                deletions = 0

                async def delete_batch(self, receipt_handles: Sequence[str]) -> Any:
                    self.deletions += 1
                    if self.deletions % 3:
                        raise ConnectionError("lost")
                    return await super().delete_batch(receipt_handles)

            policy = ConsumerPolicy(handler_timeout_s=2, wait_s=1, backoff=Fixed(1), call_attempts=1, max_receives=99)
            idempotent = world.idempotent(MemoryRecords(), clock=lambda: 1e9 + anyio.current_time())
            consumer = BatchConsumer(Forgetful(sqs, url), idempotent, policy)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(consumer.run)
                await sqs.until_empty(url)
                consumer.stop()
        assert world.effects == {by_body(message(body)): 1 for body in "abc"}

    run_virtually(backend, program)


@STORES
def test_the_first_result_is_replayed_until_it_is_forgotten(backend: str, store: Store) -> None:
    async def program() -> None:
        world = World()
        async with store() as records:
            idempotent = world.idempotent(records, policy=IdempotencyPolicy(keep_s=100))
            for passes_s, effects in ((0, 1), (99, 1), (1, 2), (0, 2)):
                world.now_s += passes_s
                assert await idempotent(message("a")) == {"done": "a"}
                assert world.effects.total() == effects
            assert await idempotent.purge() == 0
            world.now_s += 100
            assert await idempotent.purge() == 1
            assert await records.read(by_body(message("a"))) is None

    anyio.run(program, backend=backend)


@STORES
def test_a_store_writes_only_over_what_it_was_told(backend: str, store: Store) -> None:
    def pending(version: str, lease_end_s: float) -> Record:
        return Record(version, State.PENDING, lease_end_s, 100.0)

    async def program() -> None:
        async with store() as records:
            first, second = pending("1", 5.0), pending("2", 3.0)
            assert await records.read("k") is None
            assert not await records.write("k", second, first)
            assert await records.write("k", first, None)
            assert not await records.write("k", second, None)
            assert await records.write("k", second, first)
            assert not await records.write("k", first, first)
            assert await records.read("k") == second
            assert await records.write("l", first, None)
            assert list(await records.overdue(5.0, 9)) == ["k", "l"]
            assert list(await records.overdue(5.0, 1)) == ["k"]
            assert list(await records.overdue(3.0, 9)) == ["k"]
            done = Record("3", State.COMPLETED, 0.0, 100.0, "print", '{"a": 1}')
            assert await records.write("k", done, second)
            assert await records.read("k") == done
            assert list(await records.overdue(5.0, 9)) == ["l"]
            assert await records.purge(99.0) == 0
            assert await records.purge(100.0) == 2

    anyio.run(program, backend=backend)


def test_two_processes_one_file_one_claim(tmp_path: Path) -> None:
    async def program() -> None:
        async with sqlite(tmp_path / "db") as one, sqlite(tmp_path / "db") as two:
            world, answers = World(), Counter[str]()
            consumers = [world.idempotent(store) for store in (one, two)]

            async def ask(idempotent: Idempotent[Message], body: str) -> None:
                try:
                    answers[(await idempotent(message(body)))["done"]] += 1
                except InProgress:
                    answers["later"] += 1

            async with anyio.create_task_group() as tasks:
                for number, idempotent in itertools.product(range(10), consumers):
                    tasks.start_soon(ask, idempotent, str(number))
            assert len(world.effects) == 10
            assert set(world.effects.values()) == {1}
            assert answers.total() == 20

    anyio.run(program)


@BACKENDS
def test_what_fails_may_begin_again_at_once_and_what_takes_too_long_fails(backend: str) -> None:
    async def program() -> None:
        records, tries = MemoryRecords(), itertools.count(1)

        async def handle(message: Message) -> int:
            number = next(tries)
            if number == 1:
                raise RuntimeError("not yet")
            if number == 2:
                await anyio.sleep(100)
            return number

        idempotent = Idempotent(records, handle, by_message_id, IdempotencyPolicy(handler_timeout_s=5))
        with pytest.raises(RuntimeError, match="not yet"):
            await idempotent(message("a"))
        with pytest.raises(TimeoutError):
            await idempotent(message("a"))
        assert await idempotent(message("a")) == await idempotent(message("b")) == 3

    run_virtually(backend, program)


@BACKENDS
def test_work_that_outlives_its_claim_is_told_so(backend: str) -> None:
    async def program() -> None:
        world, records = World(), MemoryRecords()

        async def handle(_: Message) -> str:
            if len(begun) == 1:
                return "theirs"
            begun.append(True)
            world.now_s += 1000  # somebody set the clock
            return f"after {await idempotent(message('a'))}"

        begun: list[bool] = []
        idempotent = Idempotent(records, handle, by_body, clock=lambda: world.now_s)
        with pytest.raises(ClaimLost):
            await idempotent(message("a"))
        assert await idempotent(message("a")) == "theirs"

    run_virtually(backend, program)


@BACKENDS
def test_a_key_with_another_content_is_poison(backend: str) -> None:
    async def program() -> None:
        world = World()
        idempotent = Idempotent(
            MemoryRecords(), world.handle, by_path("order"), fingerprint=by_body, clock=lambda: world.now_s
        )
        await idempotent(message('{"order": 1, "sum": 5}'))
        with pytest.raises(KeyReused):
            await idempotent(message('{"order": 1, "sum": 6}'))
        assert world.effects.total() == 1

    anyio.run(program, backend=backend)


def test_keys() -> None:
    assert by_message_id(message("a")) == "id"
    assert by_body(message("a")) != by_body(message("b"))
    key = by_path("[customer.id, order]")
    assert key(message('{"order": 7, "customer": {"id": "x"}, "at": 1}')) == '["x", 7]'
    assert key(message('{"at": 2, "customer": {"id": "x"}, "order": 7}')) == '["x", 7]'
    for body in ("{}", '{"order": 7}', "no JSON", '{"order": null, "customer": {"id": "x"}}'):
        with pytest.raises(NoKey):
            key(message(body))
    assert issubclass(NoKey, Poison)
    with pytest.raises(ValueError, match="must hold"):
        IdempotencyPolicy(handler_timeout_s=5, lease_s=5)


RECORDS = st.builds(
    Record, st.just("1"), st.sampled_from(State), st.floats(0, 100), st.floats(0, 100), st.sampled_from([None, "x"])
)


@given(st.none() | RECORDS, st.sampled_from([None, "x", "y"]), st.floats(0, 100))
def test_a_claim_is_never_taken_from_who_has_it(record: Record | None, fingerprint: str | None, now_s: float) -> None:
    policy = IdempotencyPolicy()
    decision = policy.decide(record, fingerprint, now_s)
    known = record is not None and now_s < record.forget_s
    assert (decision is Decision.RUN) == (not known)
    if record is not None and known:
        if decision is Decision.REUSED:
            assert {record.fingerprint, fingerprint} == {"x", "y"}
        else:
            assert (decision is Decision.REPLAY) == (record.state is State.COMPLETED)
            assert (decision is Decision.RECOVER) == (record.state is State.PENDING and record.lease_end_s <= now_s)
    claim = policy.claim("2", fingerprint, now_s)
    assert policy.decide(claim, fingerprint, now_s + policy.claim_s - 1) is Decision.WAIT
    assert policy.decide(claim, fingerprint, now_s + policy.claim_s) is Decision.RECOVER
    done = policy.completed(claim, "3", "1", now_s + 1)
    assert policy.decide(done, fingerprint, now_s + policy.keep_s) is Decision.REPLAY

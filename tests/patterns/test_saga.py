"""Sagas that crash at any await, hang or are taken over; reactions whose events come twice, late or in any order."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual import crash, run_virtually

from patterns import (
    BatchConsumer,
    Boto3Sqs,
    Choreography,
    ConsumerPolicy,
    Fixed,
    LogEntry,
    MemorySagas,
    Message,
    Orchestrator,
    Reaction,
    Refused,
    RetryPolicy,
    Saga,
    SagaStore,
    SqlSagas,
    Step,
    StepCall,
    TakenOver,
    show,
)
from patterns.outbox import AioSqlite, SqliteInThread
from patterns.saga import State, What

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
TRIES = RetryPolicy(Fixed(1), attempts=3)
NAMES = ["book", "charge", "ship"]


def virtual_ms() -> int:
    return 1_000_000 + round(anyio.current_time() * 1000)


class Slow(MemorySagas):
    """Answers that can be lost."""

    async def append(self, saga_id: str, before: Sequence[LogEntry], entry: LogEntry, due_ms: int | None) -> bool:
        await anyio.lowlevel.checkpoint()
        answer = await super().append(saga_id, before, entry, due_ms)
        await anyio.lowlevel.checkpoint()
        return answer


class World:
    """What the services hold. An action does something once a key; `mood` says what else happens in it."""

    def __init__(self, mood: Callable[[str, int], Awaitable[None]] | None = None) -> None:
        self.effects: set[str] = set()
        self.history: list[str] = []
        self.calls: Counter[str] = Counter()
        self._mood = mood

    def step(self, name: str, *, timeout_s: float = 5.0, pivot: bool = False, undoable: bool = True) -> Step:
        async def action(call: StepCall) -> Any:
            self.calls[name] += 1
            await anyio.lowlevel.checkpoint()
            if self._mood is not None:
                await self._mood(name, self.calls[name])
            self.effects.add(name)
            self.history.append(name)
            await anyio.lowlevel.checkpoint()
            if self._mood is not None:
                await self._mood(f"{name} after", self.calls[name])
            return f"{name} for {call.data}"

        async def compensation(call: StepCall) -> None:
            self.calls[f"-{name}"] += 1
            await anyio.lowlevel.checkpoint()
            if self._mood is not None:
                await self._mood(f"-{name}", self.calls[f"-{name}"])
            self.effects.discard(name)
            self.history.append(f"-{name}")
            await anyio.lowlevel.checkpoint()

        return Step(name, action, compensation if undoable else None, timeout_s, TRIES, pivot)

    def orchestrator(self, store: SagaStore, *steps: Step, deadline_s: float | None = None) -> Orchestrator:
        saga = Saga("trip", steps or [self.step(name) for name in NAMES], deadline_s)
        return Orchestrator(store, [saga], now_ms=virtual_ms)


async def worked_off(orchestrator: Orchestrator, saga_id: str) -> What:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orchestrator.work)
        while State.of(await orchestrator.log(saga_id)).outcome is None:  # noqa: ASYNC110 the time is virtual
            await anyio.sleep(1)
        orchestrator.stop()
    return await orchestrator.run(saga_id)


@BACKENDS
@pytest.mark.parametrize("fails", [None, "ship", "ship after", "charge"])
def test_a_crash_at_any_await_ends_in_all_or_nothing(backend: str, fails: str | None) -> None:
    crashes = 0

    async def mood(name: str, calls: int) -> None:
        if name == fails:
            raise ConnectionError("down")

    async def program() -> None:
        nonlocal crashes
        for after in itertools.count(1):
            store, world = Slow(), World(mood)

            async def whole(store: Slow = store, world: World = world) -> None:
                orchestrator = world.orchestrator(store)
                await orchestrator.run(await orchestrator.start("trip", "ann", "1", here=True))

            crashed = await crash(after, whole)
            orchestrator = world.orchestrator(store)
            await orchestrator.start("trip", "ann", "1")
            outcome = await worked_off(orchestrator, "1")
            assert outcome is (What.COMPLETED if fails is None else What.COMPENSATED), after
            assert world.effects == (set(NAMES) if fails is None else set()), after
            if not crashed:
                return
            crashes += 1

    run_virtually(backend, program)
    assert crashes > 15


@BACKENDS
def test_random_failures_hangs_crashes_and_rivals_end_in_all_or_nothing(backend: str) -> None:
    async def program() -> None:
        outcomes = Counter[What]()
        for seed in range(60):
            chance = random.Random(seed)

            async def mood(name: str, calls: int, chance: random.Random = chance) -> None:
                dice = chance.random()
                if dice < 0.15:
                    raise ConnectionError(name)
                if dice < 0.25:
                    await anyio.sleep(7)
                if dice < 0.3 and name in NAMES and calls == 1:
                    raise Refused(name)

            store, world = Slow(), World(mood)

            async def unsteady(store: Slow = store, world: World = world, chance: random.Random = chance) -> None:
                while True:
                    with anyio.move_on_after(chance.random() * 15):
                        await world.orchestrator(store, deadline_s=20).work()

            await world.orchestrator(store).start("trip", "ann", "1")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(unsteady)
                tasks.start_soon(unsteady)
                outcome = await worked_off(world.orchestrator(store, deadline_s=20), "1")
                tasks.cancel_scope.cancel()
            outcomes[outcome] += 1
            assert world.effects == (set(NAMES) if outcome is What.COMPLETED else set()), seed
        assert min(outcomes[What.COMPLETED], outcomes[What.COMPENSATED]) >= 5

    run_virtually(backend, program)


@BACKENDS
def test_what_is_done_is_undone_backwards_and_what_refused_is_not(backend: str) -> None:
    async def program() -> None:
        async def mood(name: str, calls: int) -> None:
            if name == "ship":
                raise Refused("no ships")
            if name == "-charge" and calls < 3:
                raise ConnectionError("down")

        world, store = World(mood), MemorySagas()
        orchestrator = world.orchestrator(store)
        saga_id = await orchestrator.start("trip", "ann", here=True)
        assert await orchestrator.run(saga_id) is What.COMPENSATED
        assert world.history == ["book", "charge", "-charge", "-book"]
        assert world.calls == {"book": 1, "charge": 1, "ship": 1, "-charge": 3, "-book": 1}
        said = show(await orchestrator.log(saga_id))
        assert 'failed      ship  "Refused: no ships"' in said
        assert 'not undone  charge  "ConnectionError: down"  again in 1.0 s' in said
        assert len(said.splitlines()) == 16
        assert await store.due(10**15, 10) == []

    run_virtually(backend, program)


@BACKENDS
def test_a_refusal_after_an_attempt_in_doubt_is_compensated_all_the_same(backend: str) -> None:
    async def program() -> None:
        async def mood(name: str, calls: int) -> None:
            if (name, calls) == ("ship after", 1):
                await anyio.sleep(100)
            if (name, calls) == ("ship", 2):
                raise Refused("no ships")

        world = World(mood)
        orchestrator = world.orchestrator(MemorySagas())
        assert await orchestrator.run(await orchestrator.start("trip", "ann", here=True)) is What.COMPENSATED
        assert world.history == ["book", "charge", "ship", "-ship", "-charge", "-book"]

    run_virtually(backend, program)


@BACKENDS
def test_behind_a_pivot_there_is_no_way_back(backend: str) -> None:
    async def program() -> None:
        async def mood(name: str, calls: int) -> None:
            if name == "ship" and calls < 20:
                raise Refused("no ships yet") if calls % 2 else ConnectionError("down")

        world = World(mood)
        steps = [world.step("book"), world.step("charge", pivot=True, undoable=False), world.step("ship")]
        orchestrator = world.orchestrator(MemorySagas(), *steps, deadline_s=5)
        assert await orchestrator.run(await orchestrator.start("trip", "ann", here=True)) is What.COMPLETED
        assert world.history == NAMES
        assert world.calls["ship"] == 20

    run_virtually(backend, program)


@BACKENDS
def test_a_deadline_turns_a_saga_back(backend: str) -> None:
    async def program() -> None:
        async def mood(name: str, calls: int) -> None:
            if name == "charge":
                await anyio.sleep(4)
                raise ConnectionError("slow and down")

        world = World(mood)
        orchestrator = world.orchestrator(MemorySagas(), deadline_s=6)
        start_s = anyio.current_time()
        saga_id = await orchestrator.start("trip", "ann", here=True)
        assert await orchestrator.run(saga_id) is What.COMPENSATED
        assert anyio.current_time() - start_s < 12
        assert [entry.what for entry in await orchestrator.log(saga_id)].count(What.EXPIRED) == 1
        assert world.history == ["book", "-charge", "-book"]

    run_virtually(backend, program)


@BACKENDS
def test_an_orchestrator_that_was_thought_dead_is_stopped(backend: str) -> None:
    async def program() -> None:
        async def mood(name: str, calls: int) -> None:
            if name == "charge" and calls == 1:
                await anyio.sleep(50)

        world, store = World(mood), MemorySagas()
        steps = [world.step(name, timeout_s=100) for name in NAMES]
        first, second = world.orchestrator(store, *steps), world.orchestrator(store, *steps)
        saga_id = await first.start("trip", "ann", here=True)

        async def take_over() -> None:
            await anyio.sleep(10)
            assert await second.run(saga_id) is What.COMPLETED

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take_over)
            with pytest.raises(TakenOver):
                await first.run(saga_id)
        assert world.history == ["book", "charge", "ship", "charge"]

    run_virtually(backend, program)


@BACKENDS
def test_sagas_that_nobody_can_run_do_not_hinder_others(backend: str) -> None:
    async def program() -> None:
        world, store = World(), MemorySagas()
        other = Orchestrator(store, [Saga("of another version", [])], now_ms=virtual_ms)
        for number in range(20):
            await other.start("of another version", None, f"0-{number}")
        orchestrator = world.orchestrator(store)
        await orchestrator.start("trip", "ann", "1")
        assert await worked_off(orchestrator, "1") is What.COMPLETED
        with pytest.raises(KeyError):
            await orchestrator.start("unknown", None)

    run_virtually(backend, program)


# Choreographed


def reaction_of(done: list[Any], needs: str = "abc", within_s: float | None = None, errors: int = 0) -> Reaction:
    left = errors

    async def react(correlation: str, events: Mapping[str, Any]) -> None:
        nonlocal left
        await anyio.lowlevel.checkpoint()
        if left:
            left -= 1
            raise ConnectionError("down")
        done.append((correlation, dict(events)))
        await anyio.lowlevel.checkpoint()

    async def overdue(correlation: str, events: Mapping[str, Any]) -> None:
        await react(f"{correlation} overdue", events)

    return Reaction("ship", frozenset(needs), react, within_s, None if within_s is None else overdue)


@BACKENDS
def test_a_reaction_waits_for_all_its_events_and_says_for_which(backend: str) -> None:
    async def program() -> None:
        done: list[Any] = []
        dance = Choreography(MemorySagas(), [reaction_of(done)], now_ms=virtual_ms)
        (waiting,) = await dance.handle("b", "1", 2)
        assert (waiting.reaction, waiting.correlation, waiting.misses) == ("ship", "1", frozenset("ac"))
        await dance.handle("b", "1", "again: the first counts")
        await dance.handle("c", "2", 0)
        await dance.handle("other", "1", 0)
        await dance.handle("a", "1", 1)
        found = await dance.waiting("ship", "1")
        assert found is not None
        assert (found.has, found.misses) == (frozenset("ab"), frozenset("c"))
        assert await dance.handle("c", "1", 3) == []
        await dance.handle("c", "1", 3)
        assert done == [("1", {"a": 1, "b": 2, "c": 3})]
        assert await dance.waiting("ship", "1") is None

    run_virtually(backend, program)


@BACKENDS
def test_events_at_once_twice_and_crashing_consumers_react_at_least_once(backend: str) -> None:
    async def program() -> None:
        for seed in range(40):
            chance, store = random.Random(seed), Slow()
            done: list[Any] = []
            dance = Choreography(store, [reaction_of(done, errors=seed % 3)], now_ms=virtual_ms)

            async def deliver(kind: str, chance: random.Random = chance, dance: Choreography = dance) -> None:
                """Comes again until it was handled, as a queue does it, and once more."""
                handled = 0
                while handled < 2:
                    try:
                        if not await crash(chance.randint(1, 12), lambda: dance.handle(kind, "1", kind)):  # type: ignore[arg-type, return-value]
                            handled += 1
                    except* ConnectionError:
                        pass

            async with anyio.create_task_group() as tasks:
                for kind in "abc":
                    tasks.start_soon(deliver, kind)
            assert done, seed
            assert all(one == ("1", {"a": "a", "b": "b", "c": "c"}) for one in done), seed

    run_virtually(backend, program)


@BACKENDS
def test_what_does_not_come_in_time_is_overdue_and_too_late_then(backend: str) -> None:
    async def program() -> None:
        done: list[Any] = []
        dance = Choreography(MemorySagas(), [reaction_of(done, "ab", 10, errors=2)], now_ms=virtual_ms)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dance.watch)
            await dance.handle("a", "1", 1)
            await anyio.sleep(9)
            assert done == []
            await anyio.sleep(600)
            tasks.cancel_scope.cancel()
        await dance.handle("b", "1", 2)
        assert done == [("1 overdue", {"a": 1})]

    run_virtually(backend, program)


# Stores and a sidecar


def test_logs_survive_in_sqlite(tmp_path: Path) -> None:
    async def program() -> None:
        async with aiosqlite.connect(tmp_path / "sagas.db", isolation_level=None) as connection:
            store = SqlSagas(AioSqlite(connection), "trips")
            await store.create_table()
            await store.create_table()
            assert await store.load("1") == []
            first, second = LogEntry(1, What.STARTED, "trip", {"a": [1]}), LogEntry(2, What.FAILED, "x", None, 5, True)
            assert await store.append("1", [], first, 10)
            assert not await store.append("1", [], first, 10)
            assert await store.append("1", [first], second, 20)
            assert not await store.append("1", [first], second, 20)
            assert await store.load("1") == [first, second]
            assert await store.append("2", [], first, 5)
            assert await store.due(20, 9) == ["2", "1"]
            assert await store.due(20, 1) == ["2"]
            assert await store.append("2", [first], second, None)
            assert await store.due(20, 9) == ["1"]

    anyio.run(program)


@BACKENDS
def test_a_saga_through_queues(backend: str, tmp_path: Path, sqs: Any) -> None:
    """Its steps are messages to a queue, whose consumer is choreographed."""
    url = sqs.create_queue(QueueName="steps")["QueueUrl"]
    done: list[Any] = []

    async def program() -> None:
        def step(name: str) -> Step:
            async def action(call: StepCall) -> str:
                def send() -> str:
                    return str(sqs.send_message(QueueUrl=url, MessageBody=f"{name} {call.saga_id}")["MessageId"])

                return await anyio.to_thread.run_sync(send)

            return Step(name, action)

        with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None, check_same_thread=False)) as connection:
            database = SqliteInThread(connection)
            logs, dances = SqlSagas(database), SqlSagas(database, "dances")
            await logs.create_table()
            await dances.create_table()
            dance = Choreography(dances, [reaction_of(done, "ab")])
            orchestrator = Orchestrator(logs, [Saga("send", [step("a"), step("b")])])

            async def handle(message: Message) -> None:
                kind, correlation = message.body.split()
                await dance.handle(kind, correlation, message.body)
                if done:
                    consumer.stop()

            consumer = BatchConsumer(Boto3Sqs(sqs, url), handle, ConsumerPolicy(wait_s=1))
            with anyio.fail_after(20):
                assert await orchestrator.run(await orchestrator.start("send", None, "7", here=True)) is What.COMPLETED
                await consumer.run()

    anyio.run(program, backend=backend)
    assert done == [("7", {"a": "a 7", "b": "b 7"})]


# The pure parts


@given(st.data(), st.integers(1, 5), st.sets(st.integers(0, 4)), st.booleans())
def test_a_log_ends_with_everything_done_or_everything_touched_undone(
    data: st.DataObject, count: int, pivots: set[int], has_deadline: bool
) -> None:
    """What happens to each attempt is drawn; the model is a set of effects."""

    async def nothing(call: StepCall) -> None: ...

    steps = [Step(str(n), nothing, nothing, retry=RetryPolicy(Fixed(1), 2), pivot=n in pivots) for n in range(count)]
    saga = Saga("s", steps, 5.0 if has_deadline else None)
    entries, now_ms, effects, order = [LogEntry(0, What.STARTED, "s")], 0, set[str](), list[str]()
    for _ in range(200):
        state = State.of(entries)
        if state.outcome is not None:
            break
        task = saga.next(state, now_ms)
        now_ms = max(now_ms + 100, task.at_ms)
        if task.step is None:
            entries.append(LogEntry(now_ms, task.what))
            continue
        name, undoing = task.step.name, task.what is What.UNDOING
        entries.append(LogEntry(now_ms, task.what, name))
        happening = data.draw(st.sampled_from(["ok", "ok", "ok", "before", "after", "refused", "crash"]))
        if happening in ("ok", "after"):
            order += [name] if undoing else []
            (effects.discard if undoing else effects.add)(name)
        if happening == "crash":
            continue
        state = State.of(entries)
        if happening == "ok":
            entries.append(LogEntry(now_ms, What.UNDONE if undoing else What.DONE, name))
            continue
        is_known = happening == "refused" and not undoing
        again_ms = saga.again_ms(state, task.step, now_ms, 0.5, is_known=is_known)
        what = What.NOT_UNDONE if undoing else What.FAILED
        entries.append(LogEntry(now_ms, what, name, None, again_ms, is_known and again_ms is None))
    else:
        return  # so many failures behind a pivot
    outcome = State.of(entries).outcome
    assert effects == ({step.name for step in steps} if outcome is What.COMPLETED else set())
    assert order == sorted(order, reverse=True)
    pivots_done = [e for e in entries if e.what is What.DONE and int(e.step) in pivots]
    assert not pivots_done or outcome is What.COMPLETED

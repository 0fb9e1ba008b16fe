"""Clocks: the manual one to the millisecond, the machine's under trio and asyncio with the shortest of real waits."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from broker.clock import ManualClock, Soon, SystemClock
from broker.core import Broker
from broker.queues import Sending, Waiter
from broker.store.port import StoredMessage
from broker.store.sqlite import SqliteStore
from engine.support import WORLD

BACKENDS = ["asyncio", "trio"]

# manual


@given(st.lists(st.tuples(st.integers(-5, 50), st.booleans()), max_size=30), st.lists(st.integers(0, 20), max_size=8))
def test_appointments_are_kept_in_order_each_at_its_moment(
    appointments: list[tuple[int, bool]], steps_ms: list[int]
) -> None:
    clock = ManualClock(1000)
    kept: list[tuple[int, int, int]] = []
    expected = []
    for number, (in_ms, is_cancelled) in enumerate(appointments):
        timer = clock.call_at(
            1000 + in_ms,
            lambda due=1000 + in_ms, n=number: kept.append((due, n, clock.now_ms())),  # type: ignore[misc]
        )
        if is_cancelled:
            timer.cancel()
        else:
            expected.append((1000 + in_ms, number))
    for step_ms in steps_ms:
        clock.advance(step_ms)
    assert [(due, number) for due, number, _ in kept] == sorted(
        e for e in expected if steps_ms and e[0] <= clock.now_ms()
    )
    assert all(now == max(due, 1000) for due, _, now in kept)


def test_what_an_appointment_makes_is_kept_in_the_same_jump() -> None:
    clock = ManualClock(0)
    kept: list[int] = []

    def tick() -> None:
        kept.append(clock.now_ms())
        clock.call_at(clock.now_ms() + 10, tick)

    clock.call_at(10, tick)
    clock.advance(45)
    assert (kept, clock.now_ms()) == ([10, 20, 30, 40], 45)


def test_soon_comes_before_what_is_due_and_in_order() -> None:
    clock = ManualClock(0)
    kept: list[str] = []
    clock.call_at(0, lambda: (kept.append("due"), clock.soon(lambda: kept.append("after")))[0])
    clock.call_at(0, lambda: kept.append("next"))
    clock.soon(lambda: kept.append("first"))
    clock.soon(lambda: kept.append("second"))
    clock.settle()
    assert kept == ["first", "second"]
    clock.advance(0)
    assert kept == ["first", "second", "due", "after", "next"]


def test_set_backwards_nothing_falls_due() -> None:
    clock = ManualClock(1000)
    kept: list[int] = []
    clock.call_at(2000, lambda: kept.append(clock.now_ms()))
    clock.set(500)
    assert (clock.now_ms(), kept) == (500, [])
    clock.advance(1499)
    assert kept == []
    clock.advance(1)
    assert kept == [2000]


def test_cancelled_appointments_do_not_pile_up() -> None:
    clock = ManualClock(0)
    clock.call_at(1_000_000, lambda: None)
    for number in range(100_000):
        clock.call_at(20_000 + number, lambda: None).cancel()
    assert len(clock._appointments._heap) < 5000

    class Waiting:
        def give_up(self) -> None: ...

    waiting = Waiting()
    timer = clock.call_at(20_000, waiting.give_up)
    gone = weakref.ref(waiting)
    timer.cancel()
    del waiting
    gc.collect()
    assert gone() is None


# the machine's


def run_on(backend: str, main: Callable[[SystemClock], Awaitable[None]]) -> None:
    """Runs `main` beside a clock that keeps appointments."""

    async def beside() -> None:
        soon: Soon
        if backend == "trio":
            soon = trio.lowlevel.current_trio_token().run_sync_soon
        else:
            soon = asyncio.get_running_loop().call_soon
        clock = SystemClock(soon)
        async with anyio.create_task_group() as group:
            group.start_soon(clock.run)
            with anyio.fail_after(5):
                await main(clock)
            group.cancel_scope.cancel()

    anyio.run(beside, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_machines_clock_keeps_appointments(backend: str) -> None:
    async def main(clock: SystemClock) -> None:
        assert abs(clock.now_ms() - time.time() * 1000) < 1000
        kept: list[tuple[str, int]] = []
        done = anyio.Event()
        begun_ms = clock.now_ms()
        for name, in_ms in (("late", 30), ("early", 10), ("past", -5), ("never", 20)):
            timer = clock.call_at(begun_ms + in_ms, lambda name=name: kept.append((name, clock.now_ms())))  # type: ignore[misc]
            if name == "never":
                timer.cancel()
        clock.call_at(begun_ms + 40, done.set)
        await done.wait()
        assert [name for name, _ in kept] == ["past", "early", "late"]
        due_ms = {"late": 30, "early": 10, "past": -5}
        assert all(when_ms >= begun_ms + due_ms[name] for name, when_ms in kept)

    run_on(backend, main)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_earlier_appointment_wakes_the_clock(backend: str) -> None:
    async def main(clock: SystemClock) -> None:
        for far_ms in (None, 3_600_000):
            if far_ms is not None:
                clock.call_at(clock.now_ms() + far_ms, lambda: None)
            await anyio.sleep(0.005)  # the clock is asleep now, for a minute at least
            done = anyio.Event()
            clock.call_at(clock.now_ms() + 5, done.set)
            await done.wait()

    run_on(backend, main)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_broken_appointment_does_not_stop_time(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main(clock: SystemClock) -> None:
        done = anyio.Event()
        clock.call_at(0, lambda: 1 / 0)  # type: ignore[arg-type,return-value]
        clock.call_at(clock.now_ms() + 5, done.set)
        await done.wait()

    run_on(backend, main)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_broker_on_the_machines_clock(backend: str) -> None:
    """What the event loop calls soon commits the groups and lets the answers go."""

    async def main(clock: SystemClock) -> None:
        broker = Broker(SqliteStore(), clock)
        queue = broker.queues.create(WORLD, "q", {})
        waiter = broker.messaging.receive(queue, wait_time_s=20)
        assert isinstance(waiter, Waiter)
        told: list[list[StoredMessage]] = []
        done = anyio.Event()

        def take(messages: list[StoredMessage]) -> None:
            told.append(messages)
            broker.commit.then(lambda _failure: done.set())

        waiter.done = take
        await anyio.lowlevel.checkpoint()
        broker.messaging.send(queue, Sending("a"), "me")
        await done.wait()
        assert [message.body for message in told[0]] == ["a"]
        broker.close()

    run_on(backend, main)

"""Deliveries while the clock travels: each attempt at its own moment, and none left behind."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio
import pytest
from engine.clock_support import BACKENDS, START_MS, Machine, advance, run_on

import broker.clock
from broker.clock import SystemClock
from broker.core import Broker
from broker.delivery import DELIVERED, FAILED, HTTP, Attempt, Ended, NewDelivery, Outcome
from broker.delivery_policy import DEFAULT_HTTP_POLICY, UNAVAILABLE
from broker.entropy import Entropy
from broker.store.sqlite import SqliteStore
from protocols.delivery.driver import Driver, pause

HOUR_MS = 3_600_000

on_both = pytest.mark.parametrize("backend", BACKENDS)


class Served:
    """A broker and its driver, whose only transport is the test's."""

    def __init__(self, clock: SystemClock, transport: Callable[[Attempt], Awaitable[Outcome]]) -> None:
        self.clock = clock
        self.broker = Broker(SqliteStore(), clock, Entropy(1))
        self.driver = Driver(self.broker, {HTTP: transport}, concurrency=8)
        self.ended: list[tuple[int, Ended]] = []
        self.broker.outbox.ended.append(lambda ended: self.ended.append((clock.now_ms() - START_MS, ended)))

    def put(self, count: int = 1) -> None:
        owner = "arn:aws:sns:us-east-1:000000000000:t:1"
        delivery = NewDelivery(HTTP, owner, "http://x/", {}, "hello", DEFAULT_HTTP_POLICY)
        self.broker.outbox.put([delivery] * count)

    async def advance(self, by_ms: int) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self.driver.run)
            await advance(self.clock, by_ms)
            group.cancel_scope.cancel()
        assert self.clock._holds == 0
        self.broker.close()


@on_both
def test_each_attempt_at_its_moment(backend: str) -> None:
    async def main(clock: SystemClock, _: Machine) -> None:
        clock.freeze()
        attempts: list[tuple[int, int]] = []

        async def fails(attempt: Attempt) -> Outcome:
            began_ms = clock.now_ms()
            await anyio.sleep(0.002)
            assert clock.now_ms() == began_ms  # time stands while it is under way
            attempts.append((began_ms - START_MS, attempt.number))
            return Outcome(UNAVAILABLE, "HTTP 503")

        served = Served(clock, fails)
        served.put(20)  # more than may be under way at once
        moments: list[int] = []
        for by_ms in (19_999, 20_001, 60_001):
            clock.call_at(START_MS + by_ms, lambda: moments.append(len(attempts)))
        await served.advance(HOUR_MS)
        assert attempts == [(20_000 * number, number + 1) for number in range(4) for _ in range(20)]
        assert moments == [20, 40, 80]
        assert [(when_ms, ended.result) for when_ms, ended in served.ended] == [(60_000, FAILED)] * 20

    run_on(backend, main)


@on_both
def test_who_does_not_answer_has_his_time_up_by_the_clock(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker.clock, "GRACE_S", 0.05)

    async def main(clock: SystemClock, _: Machine) -> None:
        clock.freeze()
        attempts: list[int] = []

        async def hangs(_: Attempt) -> Outcome:
            attempts.append(clock.now_ms() - START_MS)
            await anyio.sleep_forever()
            raise AssertionError

        served = Served(clock, hangs)
        served.put()
        await served.advance(HOUR_MS)
        timeout_ms = DEFAULT_HTTP_POLICY.timeout_ms
        assert attempts == [number * (timeout_ms + 20_000) for number in range(4)]
        ((when_ms, ended),) = served.ended
        assert (when_ms, ended.result) == (attempts[-1] + timeout_ms, FAILED)

    run_on(backend, main)


@on_both
def test_what_takes_its_time_by_the_clock_keeps_nobody_waiting(backend: str) -> None:
    async def main(clock: SystemClock, _: Machine) -> None:
        clock.freeze()

        async def slow(_: Attempt) -> Outcome:
            await pause(clock, 5_000)
            await anyio.sleep(0.002)
            return Outcome(None)

        served = Served(clock, slow)
        served.put(3)
        began_s = time.monotonic()
        await served.advance(HOUR_MS)
        assert time.monotonic() - began_s < broker.clock.GRACE_S
        assert [(when_ms, ended.result) for when_ms, ended in served.ended] == [(5_000, DELIVERED)] * 3

    run_on(backend, main)

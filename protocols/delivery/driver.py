"""Takes what is due out of the outbox, delivers it, and reports what came of it.

The rule: an attempt begins after the commit of its claim, and its outcome is an operation like any other. An attempt's
time is up by the broker's clock, so a clock that jumps ends it too. At most `concurrency` are under way. A clock that
travels waits for whatever is under way: it is held from when there is news of the outbox until the outcome's commit.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import NamedTuple

import anyio

from broker import delivery_policy
from broker.clock import Clock
from broker.core import Broker
from broker.delivery import DELIVERED, REDRIVEN, Attempt, Ended, Outcome
from broker.errors import BrokerFailure
from broker.event_dead_letters import TIMEOUT, UNKNOWN

log = logging.getLogger("sidebus.delivery")

CONCURRENCY = 64

Transport = Callable[[Attempt], Awaitable[Outcome]]
"""Makes one attempt. What it raises counts as no answer."""


class Delivering(NamedTuple):
    broker: Broker
    attempt: Attempt


under_way: ContextVar[Delivering | None] = ContextVar("under_way", default=None)
"""In an attempt's task, where a fault may strike it: what it is (see faults.py)."""


class Driver:
    """Delivers for a broker. `transports` is by channel. Nothing happens unless `run` is running."""

    def __init__(self, broker: Broker, transports: Mapping[str, Transport], concurrency: int = CONCURRENCY) -> None:
        self._broker = broker
        self._transports = transports
        self._concurrency = concurrency
        self._claimed: deque[Attempt] = deque()  # committed, not begun
        self._news = anyio.Event()
        self._asked = True
        self._is_held = False  # the clock, until the news is heard
        self.under_way = 0  # claimed, and the outcome not reported
        broker.outbox.ended.append(_tell)

    async def run(self) -> None:
        """Delivers until cancelled. What is under way then is tried again by whoever opens the store next."""
        self._news = anyio.Event()
        self._broker.outbox.wake = self._ask
        self._ask()
        try:
            async with anyio.create_task_group() as attempts:
                while True:
                    await self._news.wait()
                    self._news = anyio.Event()
                    while self._claimed:
                        attempts.start_soon(self._make, self._claimed.popleft())
                    if self._asked:
                        self._claim()
                    self._release_news()
        finally:
            self._broker.outbox.wake = lambda: None
            self._release_news()

    def _ask(self) -> None:
        self._asked = True
        if not self._is_held:
            self._is_held = True
            self._broker.clock.hold()
        self._news.set()

    def _release_news(self) -> None:
        if self._is_held:
            self._is_held = False
            self._broker.clock.release()

    def _claim(self) -> None:
        commit, clock = self._broker.commit, self._broker.clock
        wanted = self._concurrency - self.under_way
        if wanted <= 0:
            return
        claimed: list[Attempt] = []
        commit.run(lambda: claimed.extend(self._broker.outbox.due(wanted)))
        self.under_way += len(claimed)
        for _ in claimed:
            clock.hold()
        self._asked = len(claimed) == wanted  # then there may be more

        def committed(failure: BrokerFailure | None) -> None:
            if failure is None:
                self._claimed.extend(claimed)
            else:  # the outbox asks again
                self.under_way -= len(claimed)
                for _ in claimed:
                    clock.release()
            self._news.set()

        if claimed:
            commit.then(committed)

    async def _make(self, attempt: Attempt) -> None:
        commit, clock = self._broker.commit, self._broker.clock
        try:
            outcome = await self._deliver(attempt)
            self.under_way -= 1
            commit.run(self._broker.outbox.report, attempt, outcome)
            if outcome.kind is not None:
                log.info("%s, attempt %d: %s", attempt.owner, attempt.number, outcome.reason)
            if self._asked:
                self._claim()  # in the same transaction
        finally:
            commit.then(lambda _failure: clock.release())

    async def _deliver(self, attempt: Attempt) -> Outcome:
        clock, policy = self._broker.clock, attempt.policy
        if "delivery" in self._broker.faults.points:
            under_way.set(Delivering(self._broker, attempt))
        outcome = Outcome(policy.timeout_kind, f"no answer within {policy.timeout_ms / 1000:g} s", TIMEOUT)
        is_up = False
        with anyio.CancelScope() as scope:

            def time_is_up() -> None:
                nonlocal is_up
                is_up = True
                clock.hold()  # an attempt that pauses holds nothing itself
                scope.cancel()

            timer = clock.call_at(clock.now_ms() + policy.timeout_ms, time_is_up)
            try:
                outcome = await self._transports[attempt.channel](attempt)
            except Exception as error:
                log.exception("an attempt failed in an unforeseen way")
                outcome = Outcome(delivery_policy.UNAVAILABLE, f"{type(error).__name__}: {error}", UNKNOWN)
            finally:
                timer.cancel()
        if is_up:
            clock.release()
        return outcome


async def pause(clock: Clock, for_ms: int) -> None:
    """A part of an attempt that lasts by the broker's clock: one that travels goes on meanwhile."""
    over = anyio.Event()

    def due() -> None:
        clock.hold()
        over.set()

    timer = clock.call_at(clock.now_ms() + for_ms, due)
    clock.release()
    try:
        await over.wait()
    finally:
        timer.cancel()
        if not over.is_set():
            clock.hold()


def _tell(ended: Ended) -> None:
    if ended.result != DELIVERED:
        where = "it is in the dead-letter queue" if ended.result == REDRIVEN else "it is lost"
        log.warning("%s: given up after %d attempts (%s): %s", ended.owner, ended.attempts, ended.reason, where)

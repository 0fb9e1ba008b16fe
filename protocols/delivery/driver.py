"""Takes what is due out of the outbox, delivers it, and reports what came of it.

The rule: an attempt begins after the commit of its claim, and its outcome is an operation like any other. An attempt's
time is up by the broker's clock, so a clock that jumps ends it too. At most `concurrency` are under way.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

import anyio

from broker import delivery_policy
from broker.core import Broker
from broker.delivery import DELIVERED, REDRIVEN, Attempt, Ended, Outcome
from broker.errors import BrokerFailure
from broker.event_dead_letters import TIMEOUT, UNKNOWN

log = logging.getLogger("sidebus.delivery")

CONCURRENCY = 64

Transport = Callable[[Attempt], Awaitable[Outcome]]
"""Makes one attempt. What it raises counts as no answer."""


class Driver:
    """Delivers for a broker. `transports` is by channel. Nothing happens unless `run` is running."""

    def __init__(self, broker: Broker, transports: Mapping[str, Transport], concurrency: int = CONCURRENCY) -> None:
        self._broker = broker
        self._transports = transports
        self._concurrency = concurrency
        self._claimed: deque[Attempt] = deque()  # committed, not begun
        self._news = anyio.Event()
        self._asked = True
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
        finally:
            self._broker.outbox.wake = lambda: None

    def _ask(self) -> None:
        self._asked = True
        self._news.set()

    def _claim(self) -> None:
        commit = self._broker.commit
        wanted = self._concurrency - self.under_way
        if wanted <= 0:
            return
        claimed: list[Attempt] = []
        commit.run(lambda: claimed.extend(self._broker.outbox.due(wanted)))
        self.under_way += len(claimed)
        self._asked = len(claimed) == wanted  # then there may be more

        def committed(failure: BrokerFailure | None) -> None:
            if failure is None:
                self._claimed.extend(claimed)
            else:  # the outbox asks again
                self.under_way -= len(claimed)
            self._news.set()

        if claimed:
            commit.then(committed)

    async def _make(self, attempt: Attempt) -> None:
        outcome = await self._deliver(attempt)
        self.under_way -= 1
        commit = self._broker.commit
        commit.run(self._broker.outbox.report, attempt, outcome)
        if outcome.kind is not None:
            log.info("%s, attempt %d: %s", attempt.owner, attempt.number, outcome.reason)
        if self._asked:
            self._claim()  # in the same transaction

    async def _deliver(self, attempt: Attempt) -> Outcome:
        clock, policy = self._broker.clock, attempt.policy
        outcome = Outcome(policy.timeout_kind, f"no answer within {policy.timeout_ms / 1000:g} s", TIMEOUT)
        with anyio.CancelScope() as scope:
            timer = clock.call_at(clock.now_ms() + policy.timeout_ms, scope.cancel)
            try:
                outcome = await self._transports[attempt.channel](attempt)
            except Exception as error:
                log.exception("an attempt failed in an unforeseen way")
                outcome = Outcome(delivery_policy.UNAVAILABLE, f"{type(error).__name__}: {error}", UNKNOWN)
            finally:
                timer.cancel()
        return outcome


def _tell(ended: Ended) -> None:
    if ended.result != DELIVERED:
        where = "it is in the dead-letter queue" if ended.result == REDRIVEN else "it is lost"
        log.warning("%s: given up after %d attempts (%s): %s", ended.owner, ended.attempts, ended.reason, where)

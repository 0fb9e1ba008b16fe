"""Try again, but not for ever and not all at once.

The rule: a policy is told how often it failed, how long it has been and a random number; it says how long to wait, or
that it is over. Only `retry` knows a clock. Ugly: the deadline can interrupt an attempt whose effect has happened.
"""

from __future__ import annotations

import random as chance_source
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import anyio

T = TypeVar("T")

_DOUBLINGS = 1000  # of a float that then is beyond every cap, and still a float


class Backoff(Protocol):
    def delay_s(self, failures: int, previous_s: float, chance: float) -> float:
        """The wait after so many failures (from 1), the wait before it (0 if none) and a random number in [0, 1)."""
        ...


def _doubled(base_s: float, cap_s: float, failures: int) -> float:
    return min(cap_s, base_s * 2.0 ** min(failures - 1, _DOUBLINGS))


@dataclass(frozen=True, slots=True)
class Fixed:
    wait_s: float

    def delay_s(self, failures: int, previous_s: float, chance: float) -> float:
        return self.wait_s


@dataclass(frozen=True, slots=True)
class Exponential:
    """base, 2 base, 4 base … up to the cap. Callers that failed together try together again: prefer a jitter."""

    base_s: float = 0.1
    cap_s: float = 20.0

    def delay_s(self, failures: int, previous_s: float, chance: float) -> float:
        return _doubled(self.base_s, self.cap_s, failures)


@dataclass(frozen=True, slots=True)
class FullJitter:
    """Anything between nothing and what `Exponential` would wait: the least load on what is failing."""

    base_s: float = 0.1
    cap_s: float = 20.0

    def delay_s(self, failures: int, previous_s: float, chance: float) -> float:
        return chance * _doubled(self.base_s, self.cap_s, failures)


@dataclass(frozen=True, slots=True)
class DecorrelatedJitter:
    """Anything between base and three times the wait before, up to the cap: never at once."""

    base_s: float = 0.1
    cap_s: float = 20.0

    def delay_s(self, failures: int, previous_s: float, chance: float) -> float:
        upper_s = max(self.base_s, previous_s) * 3
        return min(self.cap_s, self.base_s + chance * (upper_s - self.base_s))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` counts the first one too. `deadline_s` is for all attempts and waits together."""

    backoff: Backoff = field(default_factory=FullJitter)
    attempts: int = 3
    deadline_s: float | None = None

    def next_delay_s(self, failures: int, previous_s: float, elapsed_s: float, chance: float) -> float | None:
        """How long to wait before the next attempt; None when there is none."""
        if failures >= self.attempts:
            return None
        delay_s = self.backoff.delay_s(failures, previous_s, chance)
        if self.deadline_s is not None and elapsed_s + delay_s >= self.deadline_s:
            return None
        return delay_s


class RetryBudget:
    """Bounds the retries of many calls together, so that an outage is not multiplied by the number of attempts.

    A retry costs `cost`; the success it leads to gives that back, and one at the first attempt gives one. With nothing
    left calls still have their first attempt. The figures are those of the AWS SDKs' standard mode.
    """

    def __init__(self, capacity: int = 500, cost: int = 5) -> None:
        self.capacity = capacity
        self.cost = cost
        self.left = capacity

    def spend(self) -> bool:
        if self.left < self.cost:
            return False
        self.left -= self.cost
        return True

    def succeeded(self, *, after_retry: bool) -> None:
        self.left = min(self.capacity, self.left + (self.cost if after_retry else 1))


def any_error(error: Exception) -> bool:
    return True


async def retry(
    function: Callable[[], Awaitable[T]],
    policy: RetryPolicy | None = None,
    *,
    is_transient: Callable[[Exception], bool] = any_error,
    budget: RetryBudget | None = None,
    random: Callable[[], float] = chance_source.random,
) -> T:
    """What `function` returns, tried as the policy says.

    Raises the last attempt's error when it is not transient or there is no further attempt; TimeoutError (caused by the
    error before it, if any) when the deadline interrupts an attempt. Cancellation is never retried.
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
    """
    policy = policy or RetryPolicy()
    start_s = anyio.current_time()
    failures, delay_s = 0, 0.0
    last: Exception | None = None
    deadline_s = float("inf") if policy.deadline_s is None else start_s + policy.deadline_s
    while True:
        with anyio.CancelScope(deadline=deadline_s):
            try:
                result = await function()
            except Exception as error:
                last = error
                failures += 1
                if not is_transient(error):
                    raise
                wait_s = policy.next_delay_s(failures, delay_s, anyio.current_time() - start_s, random())
                if wait_s is None or (budget is not None and not budget.spend()):
                    raise
                delay_s = wait_s
            else:
                if budget is not None:
                    budget.succeeded(after_retry=failures > 0)
                return result
            await anyio.sleep(delay_s)
            continue
        raise TimeoutError(f"no success within {policy.deadline_s} s") from last

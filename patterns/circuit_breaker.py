"""Stop calling what keeps failing, and find out gently when it is well again.

The rule: `CircuitPolicy` is told the time. A call's verdict counts only in the state in which it was let through, so
what was sent before the circuit opened cannot close it. Ugly: the permit is a bare number for that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TypeVar

import anyio

T = TypeVar("T")


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitOpen(Exception):
    """Not called. `retry_after_s` is when a probe may be let through; 0 while one is under way."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the circuit is open for another {retry_after_s:.3f} s")
        self.retry_after_s = retry_after_s


class CircuitPolicy:
    """Opens when `failures` of the last `window` calls failed; after `open_s` lets `probes` calls through.

    All probes must succeed for it to close; one that fails opens it for another `open_s`.
    """

    def __init__(self, *, failures: int = 5, window: int = 20, open_s: float = 30.0, probes: int = 1) -> None:
        if not 1 <= failures <= window or probes < 1:
            raise ValueError("1 <= failures <= window and 1 <= probes must hold")
        self.failures, self.open_s, self.probes = failures, open_s, probes
        self.state = State.CLOSED
        self._recent: deque[bool] = deque(maxlen=window)  # True is a failure
        self._opened_s = 0.0
        self._probing = self._healed = 0
        self._epoch = 0  # grows with each change of state

    def retry_after_s(self, now_s: float) -> float:
        return max(0.0, self._opened_s + self.open_s - now_s) if self.state is State.OPEN else 0.0

    def admit(self, now_s: float) -> int | None:
        """A permit to give back through `record` or `release`, or None: do not call."""
        if self.state is State.OPEN:
            self._opened_s = min(self._opened_s, now_s)  # a clock set back does not keep it open
            if now_s - self._opened_s < self.open_s:
                return None
            self._change(State.HALF_OPEN)
        if self.state is State.HALF_OPEN:
            if self._probing + self._healed >= self.probes:
                return None
            self._probing += 1
        return self._epoch

    def record(self, permit: int, *, failed: bool, now_s: float) -> None:
        if permit != self._epoch:
            return
        if self.state is State.HALF_OPEN:
            self._probing -= 1
            self._healed += not failed
            if failed:
                self._open(now_s)
            elif self._healed == self.probes:
                self._change(State.CLOSED)
            return
        self._recent.append(failed)
        if sum(self._recent) >= self.failures:
            self._open(now_s)

    def release(self, permit: int) -> None:
        """The call ended without a verdict: it was cancelled."""
        if permit == self._epoch and self.state is State.HALF_OPEN:
            self._probing -= 1

    def _open(self, now_s: float) -> None:
        self._opened_s = now_s
        self._change(State.OPEN)

    def _change(self, state: State) -> None:
        self.state = state
        self._epoch += 1
        self._probing = self._healed = 0
        self._recent.clear()


def any_error(error: Exception) -> bool:
    return True


class CircuitBreaker:
    """One for each thing that fails on its own: a host, not a program. For one event loop."""

    def __init__(
        self, policy: CircuitPolicy | None = None, *, is_failure: Callable[[Exception], bool] = any_error
    ) -> None:
        self.policy = policy or CircuitPolicy()
        self._is_failure = is_failure

    async def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Raises CircuitOpen without calling, or what `function` raises; what is no failure counts as health."""
        now_s = anyio.current_time()
        permit = self.policy.admit(now_s)
        if permit is None:
            raise CircuitOpen(self.policy.retry_after_s(now_s))
        try:
            result = await function()
        except Exception as error:
            self.policy.record(permit, failed=self._is_failure(error), now_s=anyio.current_time())
            raise
        except BaseException:
            self.policy.release(permit)
            raise
        self.policy.record(permit, failed=False, now_s=anyio.current_time())
        return result
